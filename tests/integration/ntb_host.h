// SPDX-License-Identifier: Apache-2.0
//
// For tests: a host of the virtual switch with a channel to the others.
#pragma once

#include "integration/card_function.h"
#include "integration/virtual_switch.h"
#include "ntb/channel.h"

#include <atomic>
#include <mutex>

namespace lanepool::integration {

using namespace std::chrono_literals;

inline ntb::Partition host(unsigned index) { return ntb::Partition{static_cast<uint8_t>(index)}; }

// A host's agent, as far as it matters here: an adapter, and a channel on a loop of its own that echoes.
class Host {
  public:
    Host(VirtualSwitch& fabric, unsigned port, bool is_card = false)
        : loop_(io::EventLoop::create().value()) {
        ntb::AdapterEvents events;
        events.message = [this](ntb::Partition from, uint32_t message) {
            const std::lock_guard lock(mutex_);
            if (owned_) owned_->adapter_message(from, message);
        };
        events.link_changed = [this] {
            const std::lock_guard lock(mutex_);
            if (owned_) owned_->link_changed();
        };
        auto function = fabric.function(port).value();
        if (is_card) function = std::make_unique<CardFunction>(std::move(function));
        adapter = ntb::Adapter::create(std::move(function), std::move(events)).value();
        ntb::ChannelEvents channel_events;
        channel_events.request = [this](ntb::Partition, uint16_t, std::vector<std::byte> body,
                                        ntb::ChannelReply reply) {
            ++served;
            reply(std::move(body));
        };
        channel_events.peer_changed = [this](ntb::Partition peer, bool is_alive) {
            const uint64_t bit = uint64_t{1} << peer.value;
            if (is_alive)
                alive_ |= bit;
            else
                alive_ &= ~bit;
            if (!is_alive) ++deaths;
        };
        ntb::ChannelOptions options;
        options.heartbeat_interval = 50ms;
        options.peer_timeout = 500ms;
        auto created = ntb::Channel::create(*loop_, *adapter, std::move(channel_events), options).value();
        {
            const std::lock_guard lock(mutex_);
            owned_ = std::move(created);
        }
        thread_ = std::thread([this] { loop_->run(); });
    }
    // Orderly, or as well as one can be killed in a process that goes on: call unplug() before.
    ~Host() {
        loop_->stop();
        thread_.join();
        {
            const std::lock_guard lock(mutex_);
            owned_.reset();
        }
        adapter.reset();
    }

    bool alive(unsigned peer) const { return (alive_ >> peer & 1) != 0; }
    Result<std::vector<std::byte>> ask(unsigned peer, std::span<const std::byte> body,
                                       io::Duration timeout = 5s) {
        auto promise = std::make_shared<std::promise<Result<std::vector<std::byte>>>>();
        owned_->request(host(peer), 1, body, timeout,
                        [promise](auto result) { promise->set_value(std::move(result)); });
        return promise->get_future().get();
    }
    bool echoes(unsigned peer, size_t size = 100) {
        std::vector<std::byte> body(size, std::byte{9});
        const auto answer = ask(peer, body);
        return answer && *answer == body;
    }

    std::unique_ptr<ntb::Adapter> adapter;
    std::atomic<int> served{0};
    std::atomic<int> deaths{0};

  private:
    std::unique_ptr<io::EventLoop> loop_;
    std::mutex mutex_; // the adapter's events come on its own thread
    std::unique_ptr<ntb::Channel> owned_;
    std::atomic<uint64_t> alive_{0};
    std::thread thread_;
};

} // namespace lanepool::integration
