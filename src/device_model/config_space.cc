// SPDX-License-Identifier: Apache-2.0
#include "device_model/config_space.h"

namespace lanepool::device_model {

namespace {
// Where the capabilities lie.
constexpr uint16_t pm = 0x40;
constexpr uint16_t msi = 0x50;
constexpr uint16_t pcie = 0x70;
constexpr uint16_t msix = 0xb0;
constexpr uint16_t serial = 0x100;

constexpr uint16_t pmcsr = pm + 4;
constexpr uint16_t pmcsr_state = 3;
constexpr uint16_t pmcsr_no_soft_reset = 1 << 3;
constexpr uint16_t device_control = pcie + 8;
constexpr uint16_t initiate_flr = 1 << 15;

constexpr uint16_t header(pci::Capability id, uint16_t next) {
    return static_cast<uint16_t>(static_cast<uint16_t>(id) | next << 8);
}
} // namespace

ConfigSpace::ConfigSpace(const ConfigOptions& options) : options_(options) { reset(); }

void ConfigSpace::put16(uint16_t offset, uint16_t value, uint16_t writable) {
    pci::set16(bytes_, offset, value);
    pci::set16(writable_, offset, writable);
}
void ConfigSpace::put32(uint16_t offset, uint32_t value, uint32_t writable) {
    pci::set32(bytes_, offset, value);
    pci::set32(writable_, offset, writable);
}

void ConfigSpace::reset() {
    bytes_.fill(std::byte{0});
    writable_.fill(std::byte{0});
    put16(pci::config::vendor_id, vendor_id);
    put16(pci::config::device_id, options_.device_id);
    put16(pci::config::command, 0,
          pci::command::memory_space | pci::command::bus_master | pci::command::interrupt_disable | 0x140);
    put16(pci::config::status, pci::status::capabilities_list);
    put32(pci::config::revision, options_.class_code << 8 | 1);
    put16(pci::config::subsystem_vendor_id, vendor_id);
    put16(pci::config::subsystem_id, options_.device_id);
    bytes_[pci::config::capabilities] = std::byte{pm};
    // A 64-bit memory BAR, not prefetchable: registers have side effects.
    put32(pci::config::bar0, 0x4, static_cast<uint32_t>(~(options_.bar0_bytes - 1)));
    put32(pci::config::bar0 + 4, 0, 0xffffffff);
    put16(pci::config::interrupt_line, options_.intx ? 1 << 8 : 0, 0xff); // and the pin: INTA

    // Power management: D0 and D3hot; registers keep their values (No_Soft_Reset).
    put16(pm, header(pci::Capability::power_management, msi));
    put16(pm + 2, 3);
    put16(pmcsr, pmcsr_no_soft_reset, pmcsr_state);
    // MSI: 64-bit addresses; Multiple Message Enable and the enable bit are writable.
    put16(msi, header(pci::Capability::msi, pcie));
    put16(msi + 2, static_cast<uint16_t>(1 << 7 | options_.msi_vectors_log2 << 1), 7 << 4 | 1);
    put32(msi + 4, 0, 0xfffffffc);
    put32(msi + 8, 0, 0xffffffff);
    put16(msi + 12, 0, 0xffff);
    // PCI Express, version 2, endpoint: function-level reset, role-based error reporting, 8 GT/s x4.
    put16(pcie, header(pci::Capability::pci_express, options_.msix ? msix : 0));
    put16(pcie + 2, 2);
    put32(pcie + 4, 1u << 28 | 1u << 15);
    put16(device_control, 0x2810, 0x78ff);
    put32(pcie + 0x0c, 4u << 4 | 3);
    put16(pcie + 0x10, 0, 0x0040 | 0x0003);
    put16(pcie + 0x12, 4u << 4 | 3);
    put32(pcie + 0x24, 1u << 4); // completion time-out can be disabled
    put16(pcie + 0x28, 0, 0x001f);
    put32(pcie + 0x2c, 7u << 1); // 2.5, 5 and 8 GT/s
    put16(pcie + 0x30, 3, 0x000f);
    if (options_.msix) {
        put16(msix, header(pci::Capability::msix, 0));
        put16(msix + 2, static_cast<uint16_t>(options_.msix->vectors - 1), 1 << 15 | 1 << 14);
        put32(msix + 4, static_cast<uint32_t>(options_.msix->table_offset));
        put32(msix + 8, static_cast<uint32_t>(options_.msix->pba_offset));
    }
    put32(serial, 1u << 16 | static_cast<uint32_t>(pci::ExtendedCapability::serial_number));
    put32(serial + 4, static_cast<uint32_t>(options_.serial_number));
    put32(serial + 8, static_cast<uint32_t>(options_.serial_number >> 32));
    derive();
}

void ConfigSpace::derive() {
    const uint16_t command = pci::get16(bytes_, pci::config::command);
    powered_ = (pci::get16(bytes_, pmcsr) & pmcsr_state) == 0;
    may_master_ = powered_ && (command & pci::command::bus_master);
    intx_disabled_ = (command & pci::command::interrupt_disable) != 0;
}

std::vector<std::byte> ConfigSpace::read(uint64_t offset_bytes, size_t size_bytes) const {
    const auto part = std::span(bytes_).subspan(offset_bytes, size_bytes);
    return {part.begin(), part.end()};
}

bool ConfigSpace::write(uint64_t offset_bytes, std::span<const std::byte> data) {
    for (size_t i = 0; i < data.size(); ++i) {
        auto& byte = bytes_[offset_bytes + i];
        const auto mask = writable_[offset_bytes + i];
        byte = (byte & ~mask) | (data[i] & mask);
    }
    derive();
    // The bit reads as zero always, so it is looked for in what was written.
    constexpr uint64_t flr_byte = device_control + 1;
    return offset_bytes <= flr_byte && flr_byte - offset_bytes < data.size() &&
           (data[flr_byte - offset_bytes] & std::byte{initiate_flr >> 8}) != std::byte{0};
}

void ConfigSpace::set_interrupt_status(bool asserted) {
    uint16_t value = pci::get16(bytes_, pci::config::status);
    value =
        static_cast<uint16_t>(asserted ? value | pci::status::interrupt : value & ~pci::status::interrupt);
    pci::set16(bytes_, pci::config::status, value);
}

} // namespace lanepool::device_model
