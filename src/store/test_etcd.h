// SPDX-License-Identifier: Apache-2.0
//
// For tests: real etcd servers on loopback, on ports that are free, in a temporary folder.
#pragma once

#include "base/unique_fd.h"
#include "store/election.h"
#include "store/etcd_client.h"
#include "store/test_backend.h"

#include <arpa/inet.h>
#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace lanepool::store::test {

// A program that is killed, at the latest when this goes, or when the test itself is killed.
class Process {
  public:
    Process(const std::vector<std::string>& words, const std::filesystem::path& log) {
        std::vector<char*> arguments;
        for (const char* word : {"setpriv", "--pdeathsig", "KILL", "--"})
            arguments.push_back(const_cast<char*>(word));
        for (const auto& word : words)
            arguments.push_back(const_cast<char*>(word.c_str()));
        arguments.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
        EXPECT_EQ(::posix_spawnp(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ), 0);
        posix_spawn_file_actions_destroy(&actions);
    }
    ~Process() { end(SIGKILL); }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    void signal(int number) const { ::kill(pid_, number); }
    void end(int number) {
        if (pid_ <= 0) return;
        ::kill(pid_, number);
        ::waitpid(std::exchange(pid_, -1), nullptr, 0);
    }

  private:
    pid_t pid_ = -1;
};

class EtcdCluster {
  public:
    explicit EtcdCluster(size_t members) {
        for (size_t i = 0; i < members; ++i)
            ports_.push_back({free_port(), free_port()});
        members_.resize(members);
        for (size_t i = 0; i < members; ++i)
            start(i);
        wait();
    }

    void start(size_t member) {
        const auto [client, peer] = ports_[member];
        members_[member] = std::make_unique<Process>(
            std::vector<std::string>{"etcd", "--name", fmt::format("m{}", member), "--data-dir",
                                     (folder_.path() / fmt::format("m{}", member)).string(),
                                     "--listen-client-urls", url(client), "--advertise-client-urls",
                                     url(client), "--listen-peer-urls", url(peer),
                                     "--initial-advertise-peer-urls", url(peer), "--initial-cluster", peers(),
                                     "--heartbeat-interval", "50", "--election-timeout", "500"},
            folder_.path() / fmt::format("m{}.log", member));
    }
    void kill(size_t member) { members_[member].reset(); }
    Process& member(size_t member) { return *members_[member]; }

    std::vector<std::string> endpoints() const {
        std::vector<std::string> endpoints;
        for (const auto& [client, peer] : ports_)
            endpoints.push_back(fmt::format("127.0.0.1:{}", client));
        return endpoints;
    }
    std::shared_ptr<EtcdClient> client() const {
        EtcdOptions options;
        options.endpoints = endpoints();
        auto client = EtcdClient::create(options);
        EXPECT_TRUE(client) << client.error().message();
        return *client;
    }
    // Until there is a leader of the members.
    void wait() const {
        EtcdOptions options;
        options.endpoints = endpoints();
        options.call_timeout = std::chrono::seconds(30);
        const auto answer = (*EtcdClient::create(options))->range(read_one());
        ASSERT_TRUE(answer) << answer.error().message()
                            << " (is etcd-server installed? script/bootstrap does it)";
    }

    // One for all tests of the program that leave it as it is.
    static EtcdCluster& shared() {
        static EtcdCluster cluster(1);
        return cluster;
    }

  private:
    static std::string url(uint16_t port) { return fmt::format("http://127.0.0.1:{}", port); }
    static etcdserverpb::RangeRequest read_one() {
        etcdserverpb::RangeRequest request;
        request.set_key("there?");
        return request;
    }
    std::string peers() const {
        std::vector<std::string> all;
        for (size_t i = 0; i < ports_.size(); ++i)
            all.push_back(fmt::format("m{}={}", i, url(ports_[i].second)));
        return fmt::format("{}", fmt::join(all, ","));
    }
    static uint16_t free_port() {
        const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
        EXPECT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
        return ntohs(address.sin_port);
    }

    TemporaryFolder folder_;
    std::vector<std::pair<uint16_t, uint16_t>> ports_; // for clients, and for each other
    std::vector<std::unique_ptr<Process>> members_;
};

inline std::string fresh_prefix() {
    static int next = 0;
    return fmt::format("/test-{}-{}/", ::getpid(), ++next);
}

inline std::unique_ptr<Election> campaign(const std::string& prefix, const std::string& name = "controller",
                                          const EtcdCluster& cluster = EtcdCluster::shared(),
                                          std::function<void()> changed = {}) {
    ElectionOptions options;
    options.prefix = prefix;
    options.name = name;
    options.endpoint = name + ":1";
    auto election = Election::start(cluster.endpoints(), options, std::move(changed));
    EXPECT_TRUE(election) << election.error().message();
    return std::move(*election);
}

// Leads all the time, and keeps the store under a prefix of its own.
class EtcdBackend final : public Backend {
  public:
    std::unique_ptr<Store> open(uint64_t audit_kept) override {
        options.prefix = prefix;
        options.audit_kept = audit_kept;
        const auto leadership = election->wait_until_leading(std::chrono::seconds(20));
        EXPECT_TRUE(leadership);
        auto store = EtcdStore::open(client, leadership, options);
        EXPECT_TRUE(store) << store.error().message();
        return store ? std::move(*store) : nullptr;
    }

    std::string prefix = fresh_prefix();
    std::shared_ptr<EtcdClient> client = EtcdCluster::shared().client();
    std::unique_ptr<Election> election = campaign(prefix);
    EtcdStoreOptions options;
};

} // namespace lanepool::store::test
