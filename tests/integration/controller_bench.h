// SPDX-License-Identifier: Apache-2.0
//
// For tests: the real controller with its database, as a process of its own, and agents that are not real.
#pragma once

#include "base/eventually.h"
#include "base/temporary_folder.h"
#include "integration/fake_agent.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <spawn.h>
#include <sys/wait.h>

extern char** environ;

namespace lanepool::integration {

using namespace std::chrono_literals;

class ControllerProcess {
  public:
    ControllerProcess() { start(); }
    ~ControllerProcess() {
        if (pid_) kill();
    }

    void start() { pid_ = spawn(); }
    // Another one on the same socket and records.
    pid_t spawn() const {
        const std::string program = LANEPOOL_TEST_PROGRAMS "/controller_process";
        const std::string state = (folder_ / "state").string();
        const std::string log = (folder_ / "log").string();
        std::string admin = admin_socket().string();
        std::vector<std::string> words{program, endpoint(), state, admin};
        std::vector<char*> arguments;
        for (auto& word : words)
            arguments.push_back(word.data());
        arguments.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
        pid_t pid = 0;
        EXPECT_EQ(::posix_spawn(&pid, program.c_str(), &actions, nullptr, arguments.data(), environ), 0);
        ::posix_spawn_file_actions_destroy(&actions);
        return pid;
    }
    static int wait(pid_t pid) {
        int status = 0;
        EXPECT_EQ(::waitpid(pid, &status, 0), pid);
        return status;
    }
    void kill() {
        ::kill(pid_, SIGKILL);
        wait(std::exchange(pid_, 0));
    }
    void restart() {
        kill();
        start();
    }
    int stop() {
        ::kill(pid_, SIGTERM);
        return wait(std::exchange(pid_, 0));
    }

    std::string endpoint() const { return "unix:" + (folder_ / "c.sock").string(); }
    std::filesystem::path socket() const { return folder_ / "c.sock"; }
    std::filesystem::path admin_socket() const { return folder_ / "admin.sock"; }
    std::string log() const {
        std::ifstream file(folder_ / "log");
        return {std::istreambuf_iterator<char>(file), {}};
    }
    pid_t pid() const { return pid_; }

  private:
    TemporaryFolder folder_;
    pid_t pid_ = 0;
};

class ControllerTest : public ::testing::Test {
  protected:
    ControllerTest() {
        EXPECT_TRUE(eventually([&] { return up() == 4; })) << process.log();
    }
    ~ControllerTest() override {
        EXPECT_EQ(store.unclean_prepares(), 0);
        if (HasFailure()) std::fputs(process.log().c_str(), stderr);
    }

    // Waits for a controller that is being restarted.
    std::unique_ptr<api::Client> client() {
        auto made = api::Client::connect({.endpoints = process.endpoint(), .timeout = 10s});
        EXPECT_TRUE(made);
        return made ? std::move(*made) : nullptr;
    }

    int up() {
        v1::HostList hosts;
        grpc::ClientContext context;
        const auto connected = client();
        if (connected) connected->prepare(context);
        if (!connected || !connected->pool().ListHosts(&context, {}, &hosts).ok()) return -1;
        int count = 0;
        for (const auto& host : hosts.hosts())
            count += host.state() == "up" ? 1 : 0;
        return count;
    }

    v1::Device device(const std::string& id = "80000") {
        v1::ShowReply reply;
        v1::ShowRequest request;
        request.set_id(id);
        grpc::ClientContext context;
        const auto connected = client();
        if (connected) connected->prepare(context);
        if (connected) static_cast<void>(connected->pool().Show(&context, request, &reply));
        return reply.device();
    }
    std::vector<v1::Loan> loans(bool all = false) {
        v1::LoanList list;
        v1::ListRequest request;
        request.set_all(all);
        grpc::ClientContext context;
        const auto connected = client();
        if (connected) connected->prepare(context);
        if (!connected || !connected->pool().ListLoans(&context, request, &list).ok()) return {};
        return {list.loans().begin(), list.loans().end()};
    }
    std::vector<v1::AuditEntry> audit(const std::string& subject, uint32_t last = 0) {
        v1::AuditRequest request;
        request.set_subject(subject);
        request.set_last(last);
        grpc::ClientContext context;
        const auto connected = client();
        connected->prepare(context);
        const auto reader = connected->pool().Audit(&context, request);
        std::vector<v1::AuditEntry> entries;
        v1::AuditEntry entry;
        while (reader->Read(&entry))
            entries.push_back(entry);
        EXPECT_TRUE(reader->Finish().ok());
        return entries;
    }

    struct Ended {
        grpc::Status status;
        std::vector<v1::Progress> progress;
    };
    template <class Start>
    Ended follow(Start&& start) {
        const auto connected = client();
        const auto context = std::make_unique<grpc::ClientContext>();
        context->set_deadline(std::chrono::system_clock::now() + 20s);
        connected->prepare(*context);
        const auto reader = start(connected->pool(), context.get());
        Ended ended;
        v1::Progress progress;
        while (reader->Read(&progress))
            ended.progress.push_back(progress);
        ended.status = reader->Finish();
        return ended;
    }
    Ended borrow(const std::string& host, const std::string& id = "80000") {
        v1::BorrowRequest request;
        request.add_devices()->set_device(id);
        request.set_host(host);
        return follow([&](auto& pool, auto* context) { return pool.Borrow(context, request); });
    }
    Ended give_back(const std::string& id = "80000") {
        v1::ReturnRequest request;
        request.set_loan_or_device(id);
        return follow([&](auto& pool, auto* context) { return pool.Return(context, request); });
    }
    Ended reclaim(const std::string& id = "80000") {
        v1::ReclaimRequest request;
        request.set_loan_or_device(id);
        request.set_reason("wanted");
        return follow([&](auto& pool, auto* context) { return pool.Reclaim(context, request); });
    }
    Ended reassign(const std::string& host, const std::string& id = "80000") {
        v1::ReassignRequest request;
        request.set_loan_or_device(id);
        request.set_host(host);
        return follow([&](auto& pool, auto* context) { return pool.Reassign(context, request); });
    }

    void expect_settled() {
        EXPECT_TRUE(eventually([&] { return device().state() == "available" && loans().empty(); }))
            << device().DebugString();
        EXPECT_TRUE(eventually([&] { return a.attached() == 0; }));
        EXPECT_EQ(store.device("nvme0").loan, 0u);
        EXPECT_TRUE(store.device("nvme0").clean);
    }

    ControllerProcess process;
    FakeAgent store{process.endpoint(), "store", 0, {"nvme0", "nvme1"}};
    FakeAgent a{process.endpoint(), "a", 1, {}};
    FakeAgent b{process.endpoint(), "b", 2, {}};
    FakeAgent c{process.endpoint(), "c", 3, {}};
};

} // namespace lanepool::integration
