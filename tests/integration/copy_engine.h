// SPDX-License-Identifier: Apache-2.0
//
// A device that is not a drive: it copies memory when its doorbell is written, and has a little storage that
// outlives a reset. For tests of lending; nothing in it knows that it is lent.
#pragma once

#include "pci/config_space.h"
#include "smartio/config_image_for_test.h"
#include "smartio/device_class.h"
#include "vfio_user/test_function.h"

#include <array>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

namespace lanepool::test {

// Registers in BAR 0, little-endian.
namespace copy_engine {
inline constexpr uint64_t source = 0x00;      // 8 bytes: where to read
inline constexpr uint64_t destination = 0x08; // 8 bytes: where to write
inline constexpr uint64_t size = 0x10;        // 4 bytes
inline constexpr uint64_t copies = 0x18;      // 4 bytes, read-only: copies done since reset
inline constexpr uint64_t failures = 0x1c;    // 4 bytes, read-only: copies that had nothing to read or write
inline constexpr uint64_t scratch = 0x20;     // 8 bytes without effect
inline constexpr uint64_t doorbell = 0x1000;  // in memory: each new value asks for a copy
inline constexpr uint64_t control_bytes = 0x1000;
inline constexpr uint64_t doorbell_bytes = 0x1000;
inline constexpr uint64_t bar0_bytes = 0x4000;
inline constexpr uint64_t storage_bytes = 0x1000; // BAR 3
inline constexpr uint32_t msi_vectors = 4;
inline constexpr uint32_t msix_vectors = 4; // where asked for; then this is in BAR 0, too:
inline constexpr uint64_t msix_table = 0x2000;
inline constexpr uint64_t msix_pending = 0x3000;
} // namespace copy_engine

// All on its loop's thread.
class CopyEngine final : public vfio_user::Handler {
  public:
    explicit CopyEngine(io::EventLoop& loop)
        : poll_(loop.every(std::chrono::microseconds(200), [this] { poll(); })) {
        using namespace copy_engine;
        regions_[0] = {bar0_bytes, true, true, {{doorbell, doorbell_bytes}}};
        regions_[2] = {256, true, true, {}};
        regions_[3] = {storage_bytes, true, true, {}};
        regions_[7] = {pci::extended_config_bytes, true, true, {}};
        irqs_[0] = {1, true, true};
        irqs_[1] = {msi_vectors, false, false};
        put_doorbell_page();
        reset_registers();
    }

    void hang(bool hanging) { hanging_ = hanging; }
    void hide_flr() {
        constexpr size_t device_capabilities = smartio::test::at::pci_express + 4;
        pci::set32(config_, device_capabilities, 0);
        flr_ = false;
    }
    // As functions that have no MSI, by the kernel's VFIO.
    void have_msix_for_msi() {
        irqs_[1] = {};
        irqs_[2] = {copy_engine::msix_vectors, false, false};
        put_msix_table();
    }
    bool has_intx() const { return eventfds_.contains({pci::Irq::intx, 0}); }
    // Whether VECTOR of MSI-X is set up, and signals it.
    bool raise(uint32_t vector) {
        const auto found = eventfds_.find({pci::Irq::msix, vector});
        if (found == eventfds_.end()) return false;
        signal(found->second);
        return true;
    }
    std::array<std::byte, copy_engine::storage_bytes> storage{};
    size_t dma_maps() const { return dma_.size(); }
    bool has_interrupts() const { return !eventfds_.empty(); }
    uint16_t command() const { return pci::get16(config_, pci::config::command); }

    const pci::RegionInfo& region(pci::Region index) const override {
        return regions_.at(static_cast<size_t>(index));
    }
    const pci::IrqInfo& irq(pci::Irq index) const override { return irqs_.at(static_cast<size_t>(index)); }
    void connected(vfio_user::Client&) override {}
    void disconnected() override {
        dma_.clear();
        eventfds_.clear();
        held_.clear();
    }
    void read(pci::Region region, uint64_t offset, size_t size,
              vfio_user::Reply<std::vector<std::byte>> reply) override {
        if (hanging_) {
            held_.push_back([kept = std::make_shared<decltype(reply)>(std::move(reply))] {});
            return;
        }
        std::vector<std::byte> data(size);
        if (const auto* from = bytes(region, offset, size)) std::memcpy(data.data(), from, size);
        reply(std::move(data));
    }
    void write(pci::Region region, uint64_t offset, std::span<const std::byte> data,
               vfio_user::Reply<void> reply) override {
        if (region == pci::Region::config)
            write_config(offset, data);
        else if (auto* to = bytes(region, offset, data.size()); to && !read_only(region, offset))
            std::memcpy(to, data.data(), data.size());
        done(std::move(reply));
    }
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset, uint64_t size) override {
        using namespace copy_engine;
        const uint64_t from = std::max(offset, doorbell);
        const uint64_t to = std::min(offset + size, doorbell + doorbell_bytes);
        if (region != pci::Region::bar0 || from >= to) return std::vector<pci::Extent>{};
        return std::vector<pci::Extent>{{from, {page_fd_, from - doorbell, to - from}}};
    }
    void map_dma(vfio_user::DmaMap map, vfio_user::Reply<void> reply) override {
        if (map.memory)
            dma_.emplace(map.range.start().value,
                         Dma{map.range, map.access, *Mapping::create(*map.memory, map.access)});
        done(std::move(reply));
    }
    void unmap_dma(Range<Iova> range, vfio_user::Reply<void> reply) override {
        dma_.erase(range.start().value);
        done(std::move(reply));
    }
    void set_irqs(pci::Irq index, uint32_t first, std::vector<UniqueFd> fds,
                  vfio_user::Reply<void> reply) override {
        // A card signals in one way at a time.
        std::erase_if(eventfds_,
                      [&](const auto& entry) { return fds.empty() == (entry.first.first == index); });
        for (auto& fd : fds) {
            eventfds_.erase({index, first});
            if (fd) eventfds_.emplace(std::pair{index, first}, std::move(fd));
            ++first;
        }
        done(std::move(reply));
    }
    void mask_irq(pci::Irq, uint32_t, bool, vfio_user::Reply<void> reply) override { done(std::move(reply)); }
    void reset(vfio_user::Reply<void> reply) override {
        put_doorbell_page(); // as lanepool clients are promised
        reset_registers();
        done(std::move(reply));
    }

  private:
    struct Dma {
        Range<Iova> range;
        Access access;
        Mapping memory;
    };

    void done(vfio_user::Reply<void> reply) {
        if (hanging_)
            held_.push_back([kept = std::make_shared<decltype(reply)>(std::move(reply))] {});
        else
            reply({});
    }
    void put_doorbell_page() {
        page_fd_ = share(*create_memory("copy-engine", copy_engine::doorbell_bytes));
        page_ = *Mapping::create(page_fd_->get(), 0, copy_engine::doorbell_bytes);
        rung_ = 0;
    }
    void reset_registers() {
        control_.fill(std::byte{0});
        std::memset(page_.data(), 0, page_.size_bytes());
        rung_ = 0;
        eventfds_.clear();
        const bool keep_hidden = !flr_;
        config_ = smartio::test::sample_config();
        pci::set16(config_, pci::config::command, 0);
        if (keep_hidden) hide_flr();
        if (irqs_[2].count > 0) put_msix_table();
    }
    void put_msix_table() {
        constexpr size_t capability = smartio::test::at::msix;
        pci::set16(config_, capability + 2, copy_engine::msix_vectors - 1);
        pci::set32(config_, capability + 4, copy_engine::msix_table);
        pci::set32(config_, capability + 8, copy_engine::msix_pending);
    }
    void write_config(uint64_t offset, std::span<const std::byte> data) {
        constexpr uint64_t flr_byte = smartio::test::at::pci_express + 9;
        for (size_t i = 0; i < data.size(); ++i) {
            if (offset + i == flr_byte && flr_ && (data[i] & std::byte{0x80}) != std::byte{0})
                return reset_registers();
            if (offset + i == 4 || offset + i == 5) config_[offset + i] = data[i];
        }
    }
    static bool read_only(pci::Region region, uint64_t offset) {
        return region == pci::Region::bar0 && offset >= copy_engine::copies && offset < copy_engine::scratch;
    }
    std::byte* bytes(pci::Region region, uint64_t offset, size_t size) {
        using namespace copy_engine;
        if (region == pci::Region::config) return config_.data() + offset;
        if (region == pci::Region::bar3) return storage.data() + offset;
        if (region != pci::Region::bar0) return nullptr;
        if (offset + size <= control_bytes) return control_.data() + offset;
        if (offset >= doorbell && offset + size <= doorbell + doorbell_bytes)
            return page_.data() + (offset - doorbell);
        return nullptr;
    }

    void poll() {
        uint32_t now;
        std::memcpy(&now, page_.data(), sizeof now);
        if (hanging_ || now == rung_ || !(command() & pci::command::bus_master)) return;
        rung_ = now;
        const auto reg = copy() ? copy_engine::copies : copy_engine::failures;
        set_register(reg, get_register<uint32_t>(reg) + 1);
        if (const auto found = eventfds_.find({pci::Irq::msi, 0}); found != eventfds_.end())
            signal(found->second);
    }
    bool copy() {
        using namespace copy_engine;
        const auto bytes = get_register<uint32_t>(size);
        std::byte* from = reach(get_register<uint64_t>(source), bytes, Access::read_only);
        std::byte* to = reach(get_register<uint64_t>(destination), bytes, Access::read_write);
        if (!from || !to) return false;
        std::memcpy(to, from, bytes);
        return true;
    }
    std::byte* reach(uint64_t address, uint64_t size, Access access) {
        const auto wanted = Range<Iova>::create({address}, size);
        for (auto& [start, dma] : dma_)
            if (wanted && dma.range.contains(*wanted) &&
                (access == Access::read_only || dma.access == Access::read_write))
                return dma.memory.data() + (address - start);
        return nullptr;
    }
    template <class T>
    T get_register(uint64_t offset) const {
        T value;
        std::memcpy(&value, control_.data() + offset, sizeof value);
        return value;
    }
    void set_register(uint64_t offset, uint32_t value) {
        std::memcpy(control_.data() + offset, &value, sizeof value);
    }

    std::array<pci::RegionInfo, pci::region_count> regions_{};
    std::array<pci::IrqInfo, pci::irq_count> irqs_{};
    std::array<std::byte, copy_engine::control_bytes> control_{};
    std::vector<std::byte> config_;
    SharedFd page_fd_;
    Mapping page_;
    uint32_t rung_ = 0;
    bool hanging_ = false;
    bool flr_ = true;
    std::map<uint64_t, Dma> dma_;
    std::map<std::pair<pci::Irq, uint32_t>, UniqueFd> eventfds_;
    std::vector<std::function<void()>> held_; // replies that never come, until the client has gone
    io::EventLoop::Registration poll_;
};

class CopyEngineClass final : public smartio::DeviceClass {
  public:
    Result<smartio::DeviceIdentity> identify(pci::Function&) override {
        return smartio::DeviceIdentity{"copy engine", "1", "1", copy_engine::storage_bytes};
    }
    Result<> verify_reset(pci::Function& device) override {
        if (TRY(pci::read64(device, pci::Region::bar0, copy_engine::scratch)) != 0)
            return fail(Errc::io, "a register kept its value over a reset");
        return {};
    }
    Result<> wipe(pci::Function& device, io::Duration) override {
        const std::vector<std::byte> zeroes(copy_engine::storage_bytes);
        return device.write(pci::Region::bar3, 0, zeroes);
    }
};

} // namespace lanepool::test
