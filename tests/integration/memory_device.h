// SPDX-License-Identifier: Apache-2.0
//
// For tests: a device as the kernel's VFIO shows one. All its registers are memory that can be mapped, whole
// pages of its DMA too, and it sleeps. What it does with DMA and interrupts, the test asks of it.
#pragma once

#include "pci/config_space.h"
#include "pci/function.h"
#include "smartio/config_image_for_test.h"
#include "smartio/device_class.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

namespace lanepool::test {

namespace memory_device {
inline constexpr uint64_t bar0_bytes = 0x4000; // registers without effect
inline constexpr uint64_t bar3_bytes = 0x100;  // smaller than a page
inline constexpr uint64_t bar4_bytes = 0x2000;
inline constexpr uint32_t vectors = 4;
inline constexpr size_t power_control = smartio::test::at::power_management + 4;
inline constexpr size_t device_control = smartio::test::at::pci_express + 8;
// Where the MSI-X table and its pending bits are, a page each.
enum class Msix { none, in_bar4, in_bar0 };
} // namespace memory_device

class MemoryDevice final : public pci::Function {
  public:
    struct Kind {
        memory_device::Msix msix = memory_device::Msix::in_bar4;
        bool has_flr = true;
        bool has_power_management = true;
    };
    explicit MemoryDevice(Kind kind) : kind_(kind) {
        using namespace memory_device;
        irqs_[1] = {1, false, false};
        irqs_[2] = {kind.msix == Msix::none ? 0 : vectors, false, false};
        regions_[7] = {pci::extended_config_bytes, true, true, {}};
        add_bar(0, bar0_bytes);
        add_bar(3, bar3_bytes);
        if (kind.msix == Msix::in_bar4) add_bar(4, bar4_bytes);
        lose_state();
    }

    // ---- What the test sees and asks

    // Its own memory of a BAR, whoever has a way to it; not while the lender's thread resets it.
    class Register {
      public:
        Register(std::mutex& mutex, std::byte& byte) : mutex_(mutex), byte_(byte) {}
        Register& operator=(std::byte value) {
            const std::lock_guard lock(mutex_);
            byte_ = value;
            return *this;
        }
        bool operator==(std::byte value) const {
            const std::lock_guard lock(mutex_);
            return byte_ == value;
        }

      private:
        std::mutex& mutex_;
        std::byte& byte_;
    };
    struct Registers {
        std::mutex& mutex;
        std::span<std::byte> bytes;
        Register operator[](size_t at) const { return {mutex, bytes[at]}; }
    };
    Registers registers(unsigned bar) { return {mutex_, bars_.at(bar).bytes.bytes()}; }
    uint16_t config16(size_t offset) {
        const std::lock_guard lock(mutex_);
        return pci::get16(config_, offset);
    }
    bool asleep() {
        const std::lock_guard lock(mutex_);
        return sleeps();
    }
    bool copy(Iova from, Iova to, size_t size) {
        const std::lock_guard lock(mutex_);
        if (sleeps() || !(pci::get16(config_, pci::config::command) & pci::command::bus_master)) return false;
        std::byte* source = reach(from, size, Access::read_only);
        std::byte* destination = reach(to, size, Access::read_write);
        if (source && destination) std::memcpy(destination, source, size);
        return source && destination;
    }
    bool raise(uint32_t vector) {
        const std::lock_guard lock(mutex_);
        const auto found = eventfds_.find({pci::Irq::msix, vector});
        if (sleeps() || found == eventfds_.end()) return false;
        signal(found->second);
        return true;
    }
    size_t dma_maps() {
        const std::lock_guard lock(mutex_);
        return dma_.size();
    }
    size_t interrupts() {
        const std::lock_guard lock(mutex_);
        return eventfds_.size();
    }
    // Calls that found it asleep and would have done harm.
    int rude_awakenings() {
        const std::lock_guard lock(mutex_);
        return rude_awakenings_;
    }
    void refuse_to_wake(bool refuse) {
        const std::lock_guard lock(mutex_);
        refuses_to_wake_ = refuse;
    }
    int resets() {
        const std::lock_guard lock(mutex_);
        return resets_;
    }

    // ---- pci::Function

    const pci::RegionInfo& region(pci::Region index) const override {
        return regions_.at(static_cast<size_t>(index));
    }
    const pci::IrqInfo& irq(pci::Irq index) const override { return irqs_.at(static_cast<size_t>(index)); }
    bool can_reset() const override { return true; }
    Result<> read(pci::Region region, uint64_t offset, std::span<std::byte> data) override {
        const std::lock_guard lock(mutex_);
        std::memcpy(data.data(), TRY(at(region, offset, data.size())), data.size());
        return {};
    }
    Result<> write(pci::Region region, uint64_t offset, std::span<const std::byte> data) override {
        const std::lock_guard lock(mutex_);
        if (region == pci::Region::config) return write_config(offset, data);
        std::memcpy(TRY(at(region, offset, data.size())), data.data(), data.size());
        return {};
    }
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset, uint64_t size) override {
        const auto found = bars_.find(static_cast<unsigned>(region));
        if (found == bars_.end()) return std::vector<pci::Extent>{};
        return std::vector<pci::Extent>{{offset, {found->second.memory.fd, offset, size}}};
    }
    Result<UniqueFd> event(pci::Region, uint64_t) override { return no("eventfds"); }
    Result<pci::DmaMapping> map_dma(Range<Iova> range, const MemoryRef& memory, Access access) override {
        const std::lock_guard lock(mutex_);
        if ((range.start().value | range.size_bytes()) % 4096 != 0)
            return fail(Errc::invalid_argument, "an IOMMU maps whole pages");
        dma_.emplace(range.start().value, Dma{range, access, TRY(Mapping::create(memory, access))});
        return pci::DmaMapping(*this, range);
    }
    Result<pci::DmaMapping> map_dma(Range<Iova>, std::shared_ptr<pci::DmaTarget>, Access) override {
        return no("DMA by calls");
    }
    Result<pci::DmaMapping> map_dma_event(Iova, const UniqueFd&) override { return no("eventfds"); }
    Result<> unmap_dma(Range<Iova> range) override {
        const std::lock_guard lock(mutex_);
        dma_.erase(range.start().value);
        return {};
    }
    Result<> set_irqs(pci::Irq index, uint32_t first, std::span<const int> eventfds) override {
        const std::lock_guard lock(mutex_);
        if (sleeps()) {
            ++rude_awakenings_;
            return fail(Errc::io, "the MSI-X table does not answer");
        }
        if (eventfds.empty() && first == 0)
            std::erase_if(eventfds_, [&](const auto& entry) { return entry.first.first == index; });
        for (const int fd : eventfds) {
            eventfds_.erase({index, first});
            UniqueFd borrowed(fd);
            if (fd >= 0) eventfds_.emplace(std::pair{index, first}, TRY(borrowed.duplicate()));
            borrowed.release();
            ++first;
        }
        return {};
    }
    Result<> mask_irq(pci::Irq, uint32_t, bool) override { return no("masks"); }
    Result<> reset() override {
        const std::lock_guard lock(mutex_);
        if (sleeps()) ++rude_awakenings_;
        ++resets_;
        lose_state();
        return {};
    }
    bool fresh_memory_on_reset() const override { return false; }
    bool hands_out_memory() const override { return false; }
    void on_disconnect(std::function<void()>) override {}

  private:
    struct Bar {
        MemoryRef memory;
        Mapping bytes;
    };
    struct Dma {
        Range<Iova> range;
        Access access;
        Mapping memory;
    };

    static tl::unexpected<Error> no(const char* what) {
        return fail(Errc::not_supported, "the kernel's VFIO has no {}", what);
    }
    void add_bar(unsigned bar, uint64_t size) {
        const MemoryRef memory{share(create_memory("registers", std::max<uint64_t>(size, 4096)).value()), 0,
                               std::max<uint64_t>(size, 4096)};
        bars_[bar] = {memory, Mapping::create(memory).value()};
        regions_.at(bar) = {size, true, true, {{0, size}}};
    }
    // As a reset leaves it.
    void lose_state() {
        using namespace smartio::test;
        for (auto& [number, bar] : bars_)
            std::memset(bar.bytes.data(), 0, bar.bytes.size_bytes());
        eventfds_.clear();
        const bool sleeps_on = refuses_to_wake_ && sleeps();
        config_ = sample_config();
        if (sleeps_on) pci::set16(config_, memory_device::power_control, 3);
        pci::set16(config_, pci::config::command, 0);
        for (size_t bar = 0; bar < pci::bar_count; ++bar)
            pci::set32(config_, pci::config::bar0 + 4 * bar, bar == 0 ? 0xfe00000c : 0);
        const size_t table_bar = kind_.msix == memory_device::Msix::in_bar0 ? 0 : 4;
        const uint32_t table_at = table_bar == 0 ? 0x2000 : 0;
        pci::set16(config_, at::msix + 2, memory_device::vectors - 1);
        pci::set32(config_, at::msix + 4, static_cast<uint32_t>(table_at | table_bar));
        pci::set32(config_, at::msix + 8, static_cast<uint32_t>((table_at + 0x1000) | table_bar));
        if (kind_.msix == memory_device::Msix::none) config_[at::power_management + 1] = std::byte{at::msi};
        if (!kind_.has_power_management)
            config_[pci::config::capabilities] = config_[at::power_management + 1];
        if (!kind_.has_flr) pci::set32(config_, at::pci_express + 4, 0x8002);
    }
    bool sleeps() const { return (pci::get16(config_, memory_device::power_control) & 3) == 3; }
    Result<std::byte*> at(pci::Region region, uint64_t offset, size_t size) {
        if (offset + size > regions_.at(static_cast<size_t>(region)).size_bytes)
            return fail(Errc::out_of_range, "outside");
        if (region == pci::Region::config) return config_.data() + offset;
        if (sleeps()) {
            ++rude_awakenings_;
            return fail(Errc::failed_precondition, "the function sleeps");
        }
        return bars_.at(static_cast<unsigned>(region)).bytes.data() + offset;
    }
    // On the way back from D3hot it has lost what was set up: No_Soft_Reset is clear.
    Result<> write_config(uint64_t offset, std::span<const std::byte> data) {
        if (data.size() != 2) return no("writes but of 2 bytes");
        const uint16_t value = pci::get16(data, 0);
        if (offset == memory_device::power_control) {
            if (refuses_to_wake_ && (value & 3) == 0) return {};
            const bool wakes = sleeps() && (value & 3) == 0;
            if (wakes) eventfds_.clear();
            if (wakes) pci::set16(config_, pci::config::command, 0);
            pci::set16(config_, offset, value & 3);
        } else if (offset == pci::config::command) {
            pci::set16(config_, offset, value);
        } else if (offset == memory_device::device_control && kind_.has_flr && (value & 0x8000)) {
            // The kernel saves the command register and brings it back.
            const uint16_t command = pci::get16(config_, pci::config::command);
            if (sleeps()) ++rude_awakenings_;
            ++resets_;
            lose_state();
            pci::set16(config_, pci::config::command, command);
        }
        return {};
    }
    std::byte* reach(Iova address, size_t size, Access access) {
        const auto wanted = Range<Iova>::create(address, size);
        for (auto& [start, dma] : dma_)
            if (wanted && dma.range.contains(*wanted) &&
                (access == Access::read_only || dma.access == Access::read_write))
                return dma.memory.data() + (address.value - start);
        return nullptr;
    }

    const Kind kind_;
    std::mutex mutex_; // the lender's thread and the test's
    std::array<pci::RegionInfo, pci::region_count> regions_{};
    std::array<pci::IrqInfo, pci::irq_count> irqs_{};
    std::map<unsigned, Bar> bars_;
    std::vector<std::byte> config_;
    std::map<uint64_t, Dma> dma_;
    std::map<std::pair<pci::Irq, uint32_t>, UniqueFd> eventfds_;
    bool refuses_to_wake_ = false;
    int rude_awakenings_ = 0;
    int resets_ = 0;
};

class MemoryDeviceClass final : public smartio::DeviceClass {
  public:
    Result<smartio::DeviceIdentity> identify(pci::Function&) override {
        return smartio::DeviceIdentity{"memory", "1", "1", 0};
    }
    Result<> verify_reset(pci::Function& device) override {
        if (TRY(pci::read64(device, pci::Region::bar0, 0)) != 0)
            return fail(Errc::io, "a register kept its value over a reset");
        return {};
    }
    Result<> wipe(pci::Function&, io::Duration) override { return {}; }
};

} // namespace lanepool::test
