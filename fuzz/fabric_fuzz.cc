// SPDX-License-Identifier: Apache-2.0
//
// Three hosts on one switch do to their ports whatever the input says. Nothing may crash, and no host's
// memory may change unless it let its port reach those bytes, is bus master, and the writer's registers had a
// window onto them the last time they were configured.
#include "fabric/test_ports.h"

#include <cstdlib>
#include <fuzzer/FuzzedDataProvider.h>
#include <optional>

using namespace lanepool;
using namespace lanepool::fabric;
using namespace lanepool::ntb::switchtec;
using pci::Region;

namespace {

constexpr unsigned hosts = 3;
constexpr uint64_t memory_bytes = 0x8000;
constexpr uint64_t page_bytes = 0x1000;

void require(bool condition) {
    if (!condition) std::abort();
}

struct Host {
    struct Mapped {
        uint64_t iova;
        uint64_t size_bytes;
        uint64_t memory_offset_bytes;
        Access access;
    };
    SharedFd fd = share(create_memory("fuzz", memory_bytes).value());
    Mapping memory = Mapping::create(MemoryRef{fd, 0, memory_bytes}).value();
    std::vector<std::byte> before;
    std::vector<Mapped> mapped;
    ntb::switchtec::ControlBlock configured{}; // the registers when they were last in force
    bool connected = false;
};

// Whether REGISTERS have a window of any kind onto ADDRESS of PARTITION.
bool has_window(const ntb::switchtec::ControlBlock& registers, unsigned partition, uint64_t address) {
    for (const unsigned slot : {2u, 4u}) {
        const auto& bar = registers.bar_entry[slot];
        if (bar_ctl::Lut::get(bar.ctl)) {
            const uint64_t size = uint64_t{1} << bar_ctl::LutSizeLog2::get(bar.ctl);
            for (const uint64_t entry : registers.lut_entry) {
                if (!lut::Enable::get(entry) || lut::TargetPartition::get(entry) != partition) continue;
                if (address - (entry & lut::address_mask) < size) return true;
            }
        }
        const uint64_t size =
            uint64_t{registers.bar_ext_entry[slot].win_size} << 32 | (bar.win_size & bar_win::size_mask);
        if (bar_ctl::Direct::get(bar.ctl) && bar_xlate::TargetPartition::get(bar.xlate) == partition &&
            address - (bar.xlate & bar_xlate::address_mask) < size)
            return true;
    }
    return false;
}

class Fuzz {
  public:
    explicit Fuzz(FuzzedDataProvider& input)
        : input_(input),
          f_({.ports = hosts,
              .bar2_bytes = 1 << 20,
              .bar4_bytes = 16 << 20,
              .policies = input.ConsumeBool() ? paired_policies(hosts) : open_policies(hosts)}) {}

    void run() {
        for (unsigned p = 0; p < hosts; ++p) {
            connect(p);
            f_[p].bring_up(32, 12, 8, 16);
            current_ = p;
            map({0, 4 * page_bytes, 0, Access::read_write});
            // Every other window of a host leads to what its neighbour has just mapped.
            for (unsigned i = 0; i < 16; i += 2)
                f_[p].open(i, p ^ 1u, (i / 2 % 4) * page_bytes);
        }
        look();
        while (input_.remaining_bytes() > 0) {
            step();
            look();
        }
    }

  private:
    TestPort& port() { return f_[current_]; }
    Host& host() { return hosts_[current_]; }

    void connect(unsigned p) {
        f_[p].connect();
        hosts_[p].connected = true;
    }

    void step() {
        current_ = input_.ConsumeIntegralInRange<unsigned>(0, hosts - 1);
        switch (input_.ConsumeIntegralInRange<unsigned>(0, 11)) {
        case 0:
            return toggle_connection();
        case 1:
            return window_write();
        case 2:
            return window_look();
        case 3:
            return dma();
        case 4:
            return lut_entry();
        case 5:
            return raw_write(Region::bar0, gas::control(input_.ConsumeIntegralInRange<unsigned>(0, hosts)),
                             0x2000);
        case 6:
            return raw_write(Region::bar0, gas::messages(current_), 0x4000);
        case 7:
            return raw_write(Region::bar0, 0, gas::size_bytes);
        case 8:
            return raw_write(Region::config, 0, 256);
        case 9:
            return port().operate(static_cast<ControlOp>(input_.ConsumeIntegralInRange<unsigned>(0, 4)));
        case 10:
            return answer();
        case 11:
            return port().put<uint16_t>(pci::config::command,
                                        input_.ConsumeBool() ? pci::command::bus_master : 0, Region::config);
        }
    }

    void toggle_connection() {
        if (input_.ConsumeBool()) return port().port().enable_link(input_.ConsumeBool());
        if (!host().connected) return connect(current_);
        port().disconnect();
        port().client.reads.clear();
        port().client.writes.clear();
        host().mapped.clear();
        host().connected = false;
    }

    void raw_write(Region region, uint64_t start, uint64_t size) {
        const uint64_t offset = input_.ConsumeIntegralInRange<uint64_t>(0, size - 1);
        const auto data = input_.ConsumeBytes<uint8_t>(input_.ConsumeIntegralInRange<size_t>(1, 64));
        if (data.empty()) return;
        // Outside of the region it is refused; that is all.
        [[maybe_unused]] const auto ignored =
            port().write(region, start + offset, std::as_bytes(std::span(data)));
    }

    void lut_entry() {
        const auto index = input_.ConsumeIntegralInRange<unsigned>(0, 47);
        const auto partition = input_.ConsumeIntegralInRange<unsigned>(0, hosts);
        const uint64_t address = input_.ConsumeIntegralInRange<uint64_t>(0, 63) * page_bytes;
        if (input_.ConsumeBool())
            port().open(index, partition, address);
        else
            port().put_lut(index, partition, address);
    }

    // Mostly where there are windows at the start; anywhere else at times.
    std::pair<Region, uint64_t> window_place() {
        const auto region = input_.ConsumeBool() ? Region::bar2 : Region::bar4;
        const uint64_t bar_bytes = port().port().region(region).size_bytes;
        if (input_.ConsumeIntegral<uint8_t>() == 0)
            return {region, input_.ConsumeIntegralInRange<uint64_t>(0, bar_bytes)};
        return {region, input_.ConsumeIntegralInRange<uint64_t>(0, 40) * page_bytes +
                            input_.ConsumeIntegralInRange<uint64_t>(0, page_bytes)};
    }

    void window_write() {
        const auto [region, offset] = window_place();
        const std::vector<std::byte> data(input_.ConsumeIntegralInRange<size_t>(1, 0x2000),
                                          static_cast<std::byte>(input_.ConsumeIntegral<uint8_t>()));
        for (auto& any : hosts_)
            any.before.assign(any.memory.bytes().begin(), any.memory.bytes().end());
        [[maybe_unused]] const auto ignored = port().write(region, offset, data);
        for (unsigned p = 0; p < hosts; ++p)
            for (uint64_t i = 0; i < memory_bytes; ++i)
                if (hosts_[p].memory.data()[i] != hosts_[p].before[i]) require(may_change(p, i));
    }

    // Whether a write of the current host's may have changed byte OFFSET of host P's memory.
    bool may_change(unsigned p, uint64_t offset) {
        if (p == current_ || !f_[p].port().bus_master()) return false;
        for (const auto& mapped : hosts_[p].mapped)
            if (mapped.access == Access::read_write &&
                offset - mapped.memory_offset_bytes < mapped.size_bytes &&
                has_window(host().configured, p, mapped.iova + (offset - mapped.memory_offset_bytes)))
                return true;
        return false;
    }

    void window_look() {
        const auto [region, offset] = window_place();
        const auto size = input_.ConsumeIntegralInRange<size_t>(1, 0x2000);
        port().start_read(region, offset, size);
        if (const auto extents = port().port().memory(region, offset, size))
            for (const auto& extent : *extents) {
                require(extent.offset_bytes >= offset && extent.memory.size_bytes > 0);
                require(extent.offset_bytes + extent.memory.size_bytes <= offset + size);
            }
        [[maybe_unused]] const auto ignored = port().port().event(region, offset);
    }

    void dma() {
        if (!host().connected) return;
        if (!host().mapped.empty() && input_.ConsumeBool()) {
            const auto mapped = host().mapped.back();
            host().mapped.pop_back();
            return must(port().unmap_dma(mapped.iova, mapped.size_bytes));
        }
        const uint64_t size = input_.ConsumeIntegralInRange<uint64_t>(1, 4) * page_bytes;
        const Host::Mapped wanted{input_.ConsumeIntegralInRange<uint64_t>(0, 63) * page_bytes, size,
                                  input_.ConsumeIntegralInRange<uint64_t>(0, 4) * page_bytes,
                                  input_.ConsumeBool() ? Access::read_write : Access::read_only};
        for (const auto& other : host().mapped) // the server refuses what overlaps
            if (wanted.iova < other.iova + other.size_bytes && other.iova < wanted.iova + size) return;
        map(wanted);
    }

    void map(const Host::Mapped& wanted) {
        const uint64_t size = wanted.size_bytes;
        switch (input_.ConsumeIntegralInRange<unsigned>(0, 5)) {
        case 1:
            must(port().map_dma(wanted.iova, size, {}, wanted.access));
            break;
        case 2:
            must(port().map_dma(wanted.iova, size, {}, wanted.access, create_eventfd().value()));
            break;
        default:
            must(port().map_dma(wanted.iova, size, MemoryRef{host().fd, wanted.memory_offset_bytes, size},
                                wanted.access));
        }
        host().mapped.push_back(wanted);
    }

    void answer() {
        auto& client = port().client;
        if (!client.reads.empty()) {
            auto read = std::move(client.reads.front());
            client.reads.pop_front();
            if (input_.ConsumeBool())
                read.answer(std::vector<std::byte>(input_.ConsumeBool() ? read.size_bytes : 1));
            else
                read.answer(fail(Errc::io, "no"));
        }
        if (!client.writes.empty()) {
            client.writes.front().answer({});
            client.writes.pop_front();
        }
    }

    // Takes note of every control block that is not being changed.
    void look() {
        for (unsigned p = 0; p < hosts; ++p) {
            if (f_[p].status() != ControlStatus::normal) continue;
            const auto bytes =
                f_[p].read(Region::bar0, gas::control(p), sizeof(ntb::switchtec::ControlBlock));
            std::memcpy(&hosts_[p].configured, bytes->data(), bytes->size());
        }
    }

    FuzzedDataProvider& input_;
    std::array<Host, hosts> hosts_;
    TestFabric f_;
    unsigned current_ = 0;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FuzzedDataProvider input(data, size);
    Fuzz(input).run();
    return 0;
}
