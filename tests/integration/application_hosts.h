// SPDX-License-Identifier: Apache-2.0
//
// Hosts of a fabric in this process, each with what its applications connect to.
#pragma once

#include "application/segment_protocol.h"
#include "application/server.h"
#include "integration/lending_hosts.h"
#include "integration/raw_session.h"

namespace lanepool::test {

class ApplicationHost {
  public:
    ApplicationHost(Fabric& fabric, const TemporaryFolder& folder, unsigned port)
        : fabric_(fabric), port_(port),
          options_{folder / ("application" + std::to_string(port)), "", "host" + std::to_string(port)} {
        thread.run([&] { server_ = must(application::Server::create(thread.loop(), options_)); });
        start();
    }
    ~ApplicationHost() {
        die();
        thread.run([&] { server_.reset(); });
    }

    // The agent takes its place on the fabric.
    void start() {
        ntb::AdapterEvents events;
        events.message = [this](ntb::Partition from, uint32_t message) {
            const std::lock_guard lock(mutex_);
            if (channel_) channel_->adapter_message(from, message);
        };
        events.link_changed = [this] {
            const std::lock_guard lock(mutex_);
            if (channel_) channel_->link_changed();
        };
        adapter_ =
            must(ntb::Adapter::create(must(vfio_user::connect(fabric_.socket(port_))), std::move(events)));
        thread.run([&] {
            ntb::ChannelEvents channel_events;
            channel_events.request = [this](auto from, auto kind, auto body, auto reply) {
                server_->serve(from, kind, std::move(body), std::move(reply));
            };
            channel_events.peer_changed = [this](auto peer, bool alive) {
                server_->peer_changed(peer, alive);
            };
            auto channel = must(ntb::Channel::create(thread.loop(), *adapter_, std::move(channel_events)));
            const std::lock_guard lock(mutex_);
            channel_ = std::move(channel);
            server_->fabric_up(*adapter_, *channel_);
        });
    }
    // ... and leaves it without a word to anybody.
    void die() {
        thread.run([&] {
            server_->fabric_down();
            std::unique_ptr<ntb::Channel> channel;
            const std::lock_guard lock(mutex_);
            channel.swap(channel_);
        });
        adapter_.reset(); // its threads call here
    }

    RawSession session() {
        RawSession session(options_.socket);
        EXPECT_TRUE(session.hello().ok());
        return session;
    }
    const std::filesystem::path& socket() const { return options_.socket; }
    uint64_t node() const { return port_; }
    bool sees(const ApplicationHost& other) {
        return thread.run([&] { return channel_->alive({static_cast<uint8_t>(other.port_)}); });
    }
    Json counts() {
        return thread.run([&] { return server_->counts(); });
    }

    LoopThread thread;

  private:
    Fabric& fabric_;
    const unsigned port_;
    const application::ServerOptions options_;
    std::mutex mutex_; // the adapter calls from its own thread
    std::unique_ptr<ntb::Adapter> adapter_;
    std::unique_ptr<ntb::Channel> channel_;
    std::unique_ptr<application::Server> server_;
};

} // namespace lanepool::test
