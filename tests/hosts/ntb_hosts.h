// SPDX-License-Identifier: Apache-2.0
//
// For tests that run in two hosts at once, a server and a tester: a host's agent, as far as it matters there,
// with its adapter and a channel to the other one. The environment says where the devices are:
//
//   ADAPTER  this host's adapter: an address such as 0000:03:00.0, or a port's socket
//   PEER     the partition of the other one
//   EDU      QEMU's teaching device there
//   DRIVE    an NVMe drive (the server's)
//   MEMORY   a device whose BAR2 is memory (the server's)
#pragma once

#include "base/endian.h"
#include "base/mapping.h"
#include "io/event_loop.h"
#include "ntb/adapter.h"
#include "ntb/channel.h"
#include "pci/address.h"
#include "vfio/open.h"
#include "vfio_user/client.h"

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <future>
#include <mutex>
#include <poll.h>
#include <thread>

namespace lanepool::hosts {

using namespace std::chrono_literals;
using ntb::Partition;
using pci::Region;

inline constexpr uint64_t page = 4096;

inline std::string environment(const char* name) {
    const char* text = std::getenv(name);
    return text ? text : "";
}

inline std::unique_ptr<pci::Function> card(const char* name) {
    return vfio::open(pci::parse_address(environment(name)).value()).value();
}

inline std::unique_ptr<pci::Function> adapter_function() {
    const auto where = environment("ADAPTER");
    return where.starts_with('/') ? vfio_user::connect(where).value() : card("ADAPTER");
}

inline bool arrives(const UniqueFd& eventfd) {
    pollfd ready{eventfd.get(), POLLIN, 0};
    return ::poll(&ready, 1, 5000) == 1 && drain(eventfd) > 0;
}

struct Said { // between the two
    le64 address{};
    le64 size_bytes{};
    le64 value{};
};
inline std::vector<std::byte> bytes_of(const Said& said) {
    const auto bytes = std::as_bytes(std::span(&said, 1));
    return {bytes.begin(), bytes.end()};
}
inline Said said(std::span<const std::byte> body) {
    Said result;
    if (body.size() == sizeof result) std::memcpy(&result, body.data(), sizeof result);
    return result;
}

// A host's agent, as far as it matters here.
class Host {
  public:
    using Serve = std::function<void(Partition from, uint16_t kind, std::vector<std::byte> body,
                                     ntb::ChannelReply reply)>;
    // SERVE is called on the loop's thread.
    explicit Host(Serve serve) : loop_(io::EventLoop::create().value()) {
        ntb::AdapterEvents events;
        events.message = [this](Partition from, uint32_t message) {
            const std::lock_guard lock(mutex_);
            if (channel_) channel_->adapter_message(from, message);
        };
        events.link_changed = [this] {
            const std::lock_guard lock(mutex_);
            if (channel_) channel_->link_changed();
        };
        adapter = ntb::Adapter::create(adapter_function(), std::move(events)).value();
        ntb::ChannelEvents channel_events;
        channel_events.request = std::move(serve);
        channel_events.peer_changed = [this](Partition changed, bool alive) {
            if (changed != peer()) return;
            const std::lock_guard lock(mutex_);
            alive_ = alive;
            changed_.notify_all();
        };
        // A machine that has to emulate several others may let one of them stand still for a second.
        ntb::ChannelOptions options;
        options.peer_timeout = 5s;
        auto channel = ntb::Channel::create(*loop_, *adapter, std::move(channel_events), options).value();
        {
            const std::lock_guard lock(mutex_);
            channel_ = std::move(channel);
        }
        thread_ = std::thread([this] { loop_->run(); });
    }
    ~Host() {
        loop_->stop();
        thread_.join();
        {
            const std::lock_guard lock(mutex_);
            channel_.reset();
        }
        adapter.reset();
    }
    static Partition peer() { return Partition{static_cast<uint8_t>(std::stoi(environment("PEER")))}; }

    bool wait_for_peer(bool alive = true) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, 20s, [&] { return alive_ == alive; });
    }
    std::vector<std::byte> ask(uint16_t kind, std::span<const std::byte> body) {
        return try_to_ask(kind, body).value();
    }
    Result<std::vector<std::byte>> try_to_ask(uint16_t kind, std::span<const std::byte> body) {
        const auto answer = std::make_shared<std::promise<Result<std::vector<std::byte>>>>();
        channel_->request(peer(), kind, body, 10s,
                          [answer](Result<std::vector<std::byte>> result) { answer->set_value(result); });
        return answer->get_future().get();
    }
    Said ask(uint16_t kind, const Said& what = {}) { return said(ask(kind, bytes_of(what))); }
    io::EventLoop& loop() { return *loop_; }
    ntb::Channel& channel() { return *channel_; } // on the loop's thread
    // Calls WORK on the loop's thread when what was answered before is on its way. Once; on that thread.
    void soon(std::function<void()> work) { soon_ = loop_->after(100ms, std::move(work)); }
    // Runs WORK on the loop's thread.
    template <class Work>
    auto run(Work work) {
        std::packaged_task<decltype(work())()> task(std::move(work));
        auto result = task.get_future();
        loop_->post([&task] { task(); });
        return result.get();
    }
    ntb::Target target(const Said& what) { return {peer(), {what.address}, what.size_bytes}; }

    std::unique_ptr<ntb::Adapter> adapter;

  private:
    std::unique_ptr<io::EventLoop> loop_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool alive_ = false;
    std::unique_ptr<ntb::Channel> channel_;
    io::EventLoop::Registration soon_;
    std::thread thread_;
};

} // namespace lanepool::hosts
