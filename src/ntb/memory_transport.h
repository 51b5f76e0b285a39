// SPDX-License-Identifier: Apache-2.0
//
// For tests and the fuzzer: hosts whose memory is plain memory of this process, on one loop, with time that
// the test owns and links that it can break.
#pragma once

#include "ntb/channel_core.h"

#include <cstring>
#include <map>
#include <memory>
#include <set>

namespace lanepool::ntb::testing {

class ManualClock final : public io::Clock {
  public:
    io::TimePoint now() const override { return now_; }
    int64_t unix_time_us() const override { return 0; }
    void advance(io::Duration by) { now_ += by; }

  private:
    io::TimePoint now_{std::chrono::hours(1)};
};

// One host's memory. A restart makes another.
struct HostMemory {
    struct alignas(4096) Area {
        std::byte bytes[mailbox::area_bytes];
    };
    std::vector<Area> areas = std::vector<Area>(8);
    UniqueFd wake = create_eventfd().value();
    uint64_t wakes = 0;
};

class MemoryFabric {
  public:
    explicit MemoryFabric(uint8_t hosts) : hosts_(hosts) {}

    ManualClock clock;
    std::unique_ptr<io::EventLoop> loop = io::EventLoop::create(clock).value();
    std::map<uint8_t, std::shared_ptr<HostMemory>> memory; // of hosts that export theirs
    std::set<uint8_t> down;                                // links
    std::set<uint8_t> losing;                              // what these hosts write gets lost
    uint64_t connects = 0;

    uint8_t hosts() const { return hosts_; }
    std::unique_ptr<Transport> transport(uint8_t own);

    // Lets DURATION pass in small steps.
    void run(io::Duration duration) {
        for (io::Duration passed{}; passed < duration; passed += std::chrono::milliseconds(5)) {
            clock.advance(std::chrono::milliseconds(5));
            for (int i = 0; i < 50 && loop->run_once(io::Duration(0)); ++i) {
            }
        }
    }
    // Without time passing, as far as things go by themselves.
    void settle() {
        for (int i = 0; i < 2000 && loop->run_once(io::Duration(0)); ++i) {
        }
    }

  private:
    const uint8_t hosts_;
};

class MemoryLink final : public PeerLink {
  public:
    MemoryLink(MemoryFabric& fabric, uint8_t own, std::shared_ptr<HostMemory> memory)
        : fabric_(fabric), own_(own), memory_(std::move(memory)) {}
    Result<> write(uint64_t offset_bytes, std::span<const std::byte> data) override {
        if (offset_bytes + data.size() > mailbox::area_bytes) return fail(Errc::out_of_range, "outside");
        if (!fabric_.losing.contains(own_) && !data.empty())
            std::memcpy(memory_->areas[own_].bytes + offset_bytes, data.data(), data.size());
        return {};
    }
    Result<> store32(uint64_t offset_bytes, uint32_t value) override {
        return write(offset_bytes, std::as_bytes(std::span(&value, 1)));
    }
    void wake() override {
        ++memory_->wakes;
        signal(memory_->wake);
    }

  private:
    MemoryFabric& fabric_;
    const uint8_t own_;
    const std::shared_ptr<HostMemory> memory_;
};

class MemoryTransport final : public Transport {
  public:
    MemoryTransport(MemoryFabric& fabric, uint8_t own)
        : fabric_(fabric), own_(own), memory_(std::make_shared<HostMemory>()),
          gate_(std::make_shared<LoopGate>(*fabric.loop)) {
        fabric_.memory[own] = memory_;
    }
    ~MemoryTransport() override { gate_->close(); }

    Partition own() const override { return Partition{own_}; }
    std::vector<Partition> peers() const override {
        std::vector<Partition> peers;
        for (uint8_t i = 0; i < fabric_.hosts(); ++i)
            if (i != own_) peers.push_back(Partition{i});
        return peers;
    }
    std::span<std::byte> area(Partition peer) override { return memory_->areas[peer.value].bytes; }
    const UniqueFd& wake_eventfd() const override { return memory_->wake; }
    uint64_t wake_address() const override { return 4096; }
    void connect(Partition peer, uint64_t, Connected connected) override {
        ++fabric_.connects;
        gate_->post([this, peer, connected = std::move(connected)] {
            const auto found = fabric_.memory.find(peer.value);
            if (found == fabric_.memory.end() || fabric_.down.contains(peer.value) ||
                fabric_.down.contains(own_))
                return connected(fail(Errc::unavailable, "nobody there"));
            connected(std::make_unique<MemoryLink>(fabric_, own_, found->second));
        });
    }
    void check_links(std::function<void(Partition peer, bool up)> found) override {
        gate_->post([this, found = std::move(found)] {
            for (const Partition peer : peers())
                found(peer, !fabric_.down.contains(peer.value) && !fabric_.down.contains(own_));
        });
    }

  private:
    MemoryFabric& fabric_;
    const uint8_t own_;
    const std::shared_ptr<HostMemory> memory_;
    const std::shared_ptr<LoopGate> gate_;
};

inline std::unique_ptr<Transport> MemoryFabric::transport(uint8_t own) {
    return std::make_unique<MemoryTransport>(*this, own);
}

} // namespace lanepool::ntb::testing
