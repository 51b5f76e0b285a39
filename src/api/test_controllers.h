// SPDX-License-Identifier: Apache-2.0
//
// For tests: controllers that only say who leads, on Unix sockets, with the sockets beside them that hand out
// tokens; and one that takes connections and says nothing, as a process that was stopped.
#pragma once

#include "api/client.h"
#include "api/identity.h"
#include "base/temporary_folder.h"
#include "io/unix_socket.h"

#include <atomic>
#include <condition_variable>
#include <grpcpp/grpcpp.h>
#include <mutex>
#include <poll.h>
#include <stdlib.h>
#include <thread>

namespace lanepool::api::test {

class TestController : public v1::Pool::Service {
  public:
    explicit TestController(std::filesystem::path path) : path_(std::move(path)) {
        identity_ = std::move(*io::listen_unix(identity_socket(path_)));
        doorkeeper_ = std::thread([this] { hand_out_tokens(); });
        grpc::ServerBuilder builder;
        builder.AddListeningPort("unix:" + path_.string(), grpc::InsecureServerCredentials());
        builder.RegisterService(this);
        builder.RegisterService(&agents_);
        server_ = builder.BuildAndStart();
    }
    ~TestController() override { end(); }
    // No call comes any more: for the destructors of those that add calls.
    void end() {
        if (!server_) return;
        stopping_ = true;
        server_->Shutdown(std::chrono::system_clock::now());
        doorkeeper_.join();
        server_.reset();
    }

    std::string endpoint() const { return "unix:" + path_.string(); }
    void lead() { say(true, "me", endpoint()); }
    // LEADER, at ENDPOINT, leads; empty: nobody.
    void stand_by(const std::string& leader = {}, const std::string& endpoint = {}) {
        say(false, leader, endpoint);
    }
    int asked() const { return asked_; }
    // As on a machine that is very busy.
    void answer_after(std::chrono::milliseconds delay) { delay_ = delay; }
    // Agents' streams: how many have come, and the end of those that are there.
    int streams() const { return agents_.streams; }
    void end_streams(const grpc::Status& status) { agents_.end(status); }

  private:
    struct Agents final : v1::Agents::Service {
        std::atomic<int> streams{0};

        void end(const grpc::Status& status) {
            {
                const std::lock_guard lock(mutex);
                ending = status;
                ++ends;
            }
            ended.notify_all();
        }
        grpc::Status Connect(grpc::ServerContext* context,
                             grpc::ServerReaderWriter<v1::ControllerMessage, v1::AgentMessage>*) override {
            std::unique_lock lock(mutex);
            const int before = ends;
            ++streams;
            while (ends == before && !context->IsCancelled())
                ended.wait_for(lock, std::chrono::milliseconds(10));
            return ends == before ? grpc::Status::CANCELLED : ending;
        }

        std::mutex mutex;
        std::condition_variable ended;
        int ends = 0;
        grpc::Status ending;
    };

    void say(bool here, const std::string& name, const std::string& endpoint) {
        const std::lock_guard lock(mutex_);
        reply_.set_here(here);
        reply_.set_name(name);
        reply_.set_endpoint(endpoint);
    }
    grpc::Status Leader(grpc::ServerContext* context, const v1::ListRequest*,
                        v1::LeaderReply* reply) override {
        ++asked_;
        std::this_thread::sleep_for(delay_.load());
        const auto token = context->client_metadata().find(token_key);
        if (token == context->client_metadata().end() || token->second.size() != 2 * token_bytes)
            return {grpc::StatusCode::PERMISSION_DENIED, "no token"};
        const std::lock_guard lock(mutex_);
        *reply = reply_;
        return grpc::Status::OK;
    }
    void hand_out_tokens() {
        std::vector<UniqueFd> clients;
        while (!stopping_) {
            pollfd waiting{identity_.get(), POLLIN, 0};
            if (::poll(&waiting, 1, 5) <= 0) continue;
            if (auto client = io::accept_unix(identity_)) {
                const std::string token(2 * token_bytes, 'a');
                static_cast<void>(io::send(client->get(), std::as_bytes(std::span(token))));
                clients.push_back(std::move(*client));
            }
        }
    }

    const std::filesystem::path path_;
    Agents agents_;
    std::mutex mutex_;
    v1::LeaderReply reply_;
    std::atomic<int> asked_{0};
    std::atomic<std::chrono::milliseconds> delay_{std::chrono::milliseconds(0)};
    std::atomic<bool> stopping_{false};
    UniqueFd identity_;
    std::thread doorkeeper_;
    std::unique_ptr<grpc::Server> server_;
};

// Its sockets are listened on by the kernel alone.
class HangingController {
  public:
    explicit HangingController(std::filesystem::path path)
        : path_(std::move(path)), identity_(std::move(*io::listen_unix(identity_socket(path_)))),
          socket_(std::move(*io::listen_unix(path_))) {}
    std::string endpoint() const { return "unix:" + path_.string(); }

  private:
    const std::filesystem::path path_;
    UniqueFd identity_, socket_;
};

} // namespace lanepool::api::test
