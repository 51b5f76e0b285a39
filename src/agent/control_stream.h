// SPDX-License-Identifier: Apache-2.0
//
// The agent's connection to the controller that leads: one stream, opened again, to whoever leads then,
// whenever it ends. A controller that has fallen silent ends it, too (api/keepalive.h).
#pragma once

#include "api/client.h"
#include "api/leader_search.h"
#include "io/event_loop.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace lanepool::agent {

struct ControlEvents {
    // The stream is open: now is the time to say Hello. On the loop's thread, as the others.
    std::function<void()> connected;
    std::function<void()> disconnected;
    std::function<void(const v1::ControllerMessage&)> message;
};

// Messages go out in order while the stream is open. What is sent while it is not, is dropped: after it has
// opened again the Hello says everything that is true then.
class ControlStream {
  public:
    ControlStream(io::EventLoop& loop, api::ClientOptions controllers, ControlEvents events);
    ~ControlStream(); // ends the stream and the threads; no event comes afterwards

    void send(v1::AgentMessage message);
    bool connected() const { return connected_; }

  private:
    void run();
    // Until the stream ends. How long to wait before the next one.
    std::chrono::milliseconds run_stream();
    Result<std::unique_ptr<api::Client>> find_leader();
    Result<std::unique_ptr<api::Client>> search(const api::ClientOptions& options);
    void write_all(grpc::ClientReaderWriter<v1::AgentMessage, v1::ControllerMessage>& stream);
    // Runs WORK on the loop's thread unless this object is gone by then.
    void post(std::function<void()> work);

    io::EventLoop& loop_;
    const api::ClientOptions controllers_;
    std::string hint_; // of the controller that ended the last stream: where the leading one is
    std::string said_; // what was last logged about there being none
    std::chrono::milliseconds patience_; // of the next search
    const ControlEvents events_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true); // read and written on the loop's thread
    std::atomic<bool> connected_{false};

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<v1::AgentMessage> queue_;
    bool stopping_ = false;
    bool stream_open_ = false;
    grpc::ClientContext* context_ = nullptr; // of the stream that is open, to cancel it
    api::LeaderSearch* search_ = nullptr;    // the one that is under way, to stop it
    std::thread thread_;
};

} // namespace lanepool::agent
