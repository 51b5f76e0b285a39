// SPDX-License-Identifier: Apache-2.0
//
// For tests: a switch whose ports are driven register by register, without sockets.
#pragma once

#include "base/endian.h"
#include "fabric/switch.h"
#include "io/event_loop.h"

#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

namespace lanepool::fabric {

// Ends the test where nothing may go wrong.
inline void must(const Result<>& result) {
    if (!result) throw std::runtime_error(result.error().message());
}

// A client that answers messages when the test says so.
class FakeClient final : public vfio_user::Client {
  public:
    struct Read {
        Iova address;
        size_t size_bytes;
        std::function<void(Result<std::vector<std::byte>>)> answer;
    };
    struct Write {
        Iova address;
        std::vector<std::byte> data;
        std::function<void(Result<>)> answer;
    };
    bool lanepool = true; // or QEMU
    std::deque<Read> reads;
    std::deque<Write> writes;

    void dma_read(Iova address, size_t size_bytes,
                  std::function<void(Result<std::vector<std::byte>>)> answer) override {
        reads.push_back({address, size_bytes, std::move(answer)});
    }
    void dma_write(Iova address, std::span<const std::byte> data,
                   std::function<void(Result<>)> answer) override {
        writes.push_back({address, {data.begin(), data.end()}, std::move(answer)});
    }
    bool speaks_lanepool() const override { return lanepool; }
};

// One host: its port, driven as its driver would.
class TestPort {
  public:
    explicit TestPort(Port& port) : port_(port) {}

    Port& port() { return port_; }
    FakeClient client;

    void connect() { port_.connected(client); }
    void disconnect() { port_.disconnected(); }

    // Empty while no reply came.
    using Bytes = std::vector<std::byte>;
    std::shared_ptr<std::optional<Result<Bytes>>> start_read(pci::Region region, uint64_t offset,
                                                             size_t size) {
        auto result = std::make_shared<std::optional<Result<Bytes>>>();
        port_.read(region, offset, size, {[result](Result<Bytes> answer) { *result = std::move(answer); }});
        return result;
    }
    Result<Bytes> read(pci::Region region, uint64_t offset, size_t size) {
        const auto result = start_read(region, offset, size);
        if (!*result) return fail(Errc::timeout, "no reply yet");
        return std::move(**result);
    }
    Result<> write(pci::Region region, uint64_t offset, std::span<const std::byte> data) {
        Result<> result = fail(Errc::timeout, "no reply yet");
        port_.write(region, offset, data, {[&](Result<> answer) { result = std::move(answer); }});
        return result;
    }
    template <class T>
    T get(uint64_t offset, pci::Region region = pci::Region::bar0) {
        LittleEndian<T> value;
        const auto bytes = read(region, offset, sizeof(T)).value();
        std::memcpy(&value, bytes.data(), sizeof(T));
        return value;
    }
    template <class T>
    void put(uint64_t offset, T value, pci::Region region = pci::Region::bar0) {
        const LittleEndian<T> bytes = value;
        must(write(region, offset, std::as_bytes(std::span(&bytes, 1))));
    }

    Result<> map_dma(uint64_t iova, uint64_t size, std::optional<MemoryRef> memory,
                     Access access = Access::read_write, UniqueFd event = {}) {
        Result<> result;
        port_.map_dma({*Range<Iova>::create({iova}, size), access, std::move(memory), std::move(event)},
                      {[&](Result<> answer) { result = std::move(answer); }});
        return result;
    }
    Result<> unmap_dma(uint64_t iova, uint64_t size) {
        Result<> result;
        port_.unmap_dma(*Range<Iova>::create({iova}, size),
                        {[&](Result<> answer) { result = std::move(answer); }});
        return result;
    }
    // SIZE bytes of fresh memory at IOVA, also mapped here.
    Mapping map_memory(uint64_t iova, uint64_t size, Access access = Access::read_write) {
        auto fd = share(create_memory("test", size).value());
        const MemoryRef memory{fd, 0, size};
        must(map_dma(iova, size, memory, access));
        return Mapping::create(memory).value();
    }

    void enable() {
        put<uint16_t>(pci::config::command, pci::command::memory_space | pci::command::bus_master,
                      pci::Region::config);
    }

    // Vectors as eventfds, all of them set up for MSI-X.
    std::vector<UniqueFd> take_vectors() {
        std::vector<UniqueFd> mine;
        std::vector<UniqueFd> theirs;
        for (unsigned i = 0; i < endpoint_vectors; ++i) {
            mine.push_back(create_eventfd().value());
            theirs.push_back(mine.back().duplicate().value());
        }
        port_.set_irqs(pci::Irq::msix, 0, std::move(theirs), {[](Result<>) {}});
        return mine;
    }

    // Registers of a control block, this port's own by default.
    uint64_t control(uint64_t offset, std::optional<unsigned> of = {}) {
        return ntb::switchtec::gas::control(of.value_or(port_.partition())) + offset;
    }
    uint64_t messages(uint64_t offset) { return ntb::switchtec::gas::messages(port_.partition()) + offset; }
    ntb::switchtec::ControlStatus status(std::optional<unsigned> of = {}) {
        return ntb::switchtec::ControlStatusField::get(
            get<uint32_t>(control(offsetof(ntb::switchtec::ControlBlock, status), of)));
    }
    void operate(ntb::switchtec::ControlOp op, std::optional<unsigned> of = {}) {
        put(control(offsetof(ntb::switchtec::ControlBlock, op), of), static_cast<uint32_t>(op));
    }

    // The steps of a driver that sets up: bus mastering, requester, LUT windows in both BARs.
    void bring_up(unsigned bar2_count = 256, unsigned bar2_log2 = 14, unsigned bar4_count = 64,
                  unsigned bar4_log2 = 30) {
        enable();
        operate(ntb::switchtec::ControlOp::lock);
        put_requester(0, host_requester.value);
        put_lut_bar(2, bar2_count, bar2_log2);
        put_lut_bar(4, bar4_count, bar4_log2);
        operate(ntb::switchtec::ControlOp::config);
    }
    void put_requester(unsigned index, uint16_t id) {
        using namespace ntb::switchtec;
        put(control(offsetof(ControlBlock, requester_entry) + 4 * index),
            requester::Enable::of(true) | requester::Id::of(id));
    }
    void put_lut_bar(unsigned slot, unsigned count, unsigned log2) {
        using namespace ntb::switchtec;
        put(control(offsetof(ControlBlock, bar_entry) + sizeof(BarEntry) * slot),
            bar_ctl::Lut::of(true) | bar_ctl::LutSizeLog2::of(log2) | bar_ctl::LutCountMinus1::of(count - 1));
    }
    void put_direct(unsigned slot, uint64_t size, unsigned log2, unsigned partition, uint64_t address) {
        using namespace ntb::switchtec;
        const uint64_t entry = control(offsetof(ControlBlock, bar_entry) + sizeof(BarEntry) * slot);
        put(entry, get<uint32_t>(entry) | bar_ctl::Direct::of(true));
        put(entry + offsetof(BarEntry, win_size), static_cast<uint32_t>(size & bar_win::size_mask) | log2);
        put(entry + offsetof(BarEntry, xlate), address | partition);
        put(control(offsetof(ControlBlock, bar_ext_entry) + sizeof(BarExtEntry) * slot),
            static_cast<uint32_t>(size >> 32));
    }
    void put_lut(unsigned index, unsigned partition, uint64_t address) {
        using namespace ntb::switchtec;
        put(control(offsetof(ControlBlock, lut_entry) + 8 * index),
            lut::entry(static_cast<uint8_t>(partition), address));
    }
    // One LUT window under a lock of its own.
    void open(unsigned index, unsigned partition, uint64_t address) {
        operate(ntb::switchtec::ControlOp::lock);
        put_lut(index, partition, address);
        operate(ntb::switchtec::ControlOp::config);
    }
    uint64_t dropped(Obstacle obstacle) { return port_.counters().dropped_for(obstacle); }

  private:
    Port& port_;
};

// A switch and its hosts.
struct TestFabric {
    explicit TestFabric(SwitchOptions options = {.ports = 4})
        : loop(io::EventLoop::create().value()), fabric(Switch::create(*loop, std::move(options)).value()) {
        for (unsigned i = 0; i < fabric->options().ports; ++i)
            ports.push_back(std::make_unique<TestPort>(fabric->port(i)));
    }
    TestPort& operator[](unsigned index) { return *ports[index]; }
    // Connects hosts 0 to COUNT-1 and brings them up.
    void bring_up(unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            ports[i]->connect();
            ports[i]->bring_up();
        }
    }

    std::unique_ptr<io::EventLoop> loop;
    std::vector<std::unique_ptr<TestPort>> ports; // outlive the switch: their clients are in use until then
    std::unique_ptr<Switch> fabric;
};

} // namespace lanepool::fabric
