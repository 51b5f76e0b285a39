// SPDX-License-Identifier: Apache-2.0
#include "fabric/endpoint_config.h"

#include "ntb/switchtec.h"

#include <bit>
#include <cstring>

namespace lanepool::fabric {
namespace {

namespace switchtec = ntb::switchtec;

// Where the capabilities lie; the order of the chain.
constexpr size_t power_management = 0x40;
constexpr size_t msi = 0x50;
constexpr size_t express = 0x60;
constexpr size_t msix = 0xa0;
constexpr size_t device_control = express + 0x08;
constexpr uint16_t initiate_flr = 1 << 15;

constexpr uint32_t memory_64_bit = 0x4; // type in a BAR (PCI Local Bus Specification 3.0, 6.2.5.1)
constexpr uint32_t prefetchable = 0x8;

constexpr uint32_t capability_header(pci::Capability id, size_t next) {
    return static_cast<uint32_t>(id) | static_cast<uint32_t>(next) << 8;
}

} // namespace

EndpointConfig::EndpointConfig(unsigned partition, const WindowBars& window_bars) {
    add_header(window_bars);
    add_capabilities(partition);
    reset();
}

void EndpointConfig::put(size_t offset, size_t size_bytes, uint32_t value, uint32_t writable) {
    const le32 value_bytes = value;
    const le32 writable_bytes = writable;
    std::memcpy(initial_.data() + offset, &value_bytes, size_bytes);
    std::memcpy(writable_.data() + offset, &writable_bytes, size_bytes);
}

void EndpointConfig::add_header(const WindowBars& window_bars) {
    put(pci::config::vendor_id, 2, switchtec::vendor_id, 0);
    put(pci::config::device_id, 2, endpoint_device_id, 0);
    // Memory space, bus master, parity, SERR, interrupt disable.
    put(pci::config::command, 2, 0, 0x0546);
    put(pci::config::status, 2, pci::status::capabilities_list, 0);
    put(pci::config::class_code, 3, switchtec::class_code, 0);
    put(0x0c, 1, 0, 0xff); // cache line size
    put(pci::config::subsystem_vendor_id, 2, switchtec::vendor_id, 0);
    put(pci::config::subsystem_id, 2, endpoint_device_id, 0);
    put(pci::config::capabilities, 1, power_management, 0);
    put(pci::config::interrupt_line, 1, 0, 0xff);

    WindowBars bars = window_bars;
    bars[0] = switchtec::gas::size_bytes;
    for (unsigned slot = 0; slot < bars.size(); ++slot) {
        if (!bars[slot]) continue;
        // Low bits that the size covers read zero: that is how the size is found out.
        const uint64_t writable = ~(bars[slot] - 1);
        const size_t offset = pci::config::bar0 + 4 * slot;
        put(offset, 4, memory_64_bit | prefetchable, static_cast<uint32_t>(writable));
        put(offset + 4, 4, 0, static_cast<uint32_t>(writable >> 32));
    }
}

void EndpointConfig::add_capabilities(unsigned partition) {
    using pci::Capability;
    // PCI Bus Power Management Interface Specification 1.2, 3.2: version 3; no soft reset; D0 and D3hot.
    put(power_management, 2, capability_header(Capability::power_management, msi), 0);
    put(power_management + 2, 2, 0x0003, 0);
    put(power_management + 4, 2, 0x0008, 0x0003);

    // PCI Local Bus Specification 3.0, 6.8.1: 64-bit, without masks.
    constexpr uint32_t vectors_log2 = std::bit_width(endpoint_vectors) - 1;
    put(msi, 2, capability_header(Capability::msi, express), 0);
    put(msi + 2, 2, 0x0080 | vectors_log2 << 1, 0x0071);
    put(msi + 4, 4, 0, 0xffff'fffc);
    put(msi + 8, 4, 0, 0xffff'ffff);
    put(msi + 12, 2, 0, 0xffff);

    // PCI Express Base Specification 7.5.3: version 2, endpoint; FLR; 16 GT/s, 16 lanes.
    put(express, 2, capability_header(Capability::pci_express, msix), 0);
    put(express + 0x02, 2, 0x0002, 0);
    put(express + 0x04, 4, 1u << 28 | 1u << 15 | 1u << 5 | 1, 0);
    put(device_control, 2, 0x2810, 0x7fff);
    put(express + 0x0c, 4, 4 | 16 << 4, 0);
    put(express + 0x10, 2, 0, 0x00fb);
    put(express + 0x12, 2, 4 | 16 << 4, 0);
    put(express + 0x24, 4, 0x1f, 0);
    put(express + 0x28, 2, 0, 0x001f);
    put(express + 0x2c, 4, 0x1e, 0);
    put(express + 0x30, 2, 4, 0x000f);

    // PCI Local Bus Specification 3.0, 6.8.2: table and pending bits in BAR 0, in the partition's own block.
    const auto block = static_cast<uint32_t>(switchtec::gas::messages(partition));
    put(msix, 2, capability_header(Capability::msix, 0), 0);
    put(msix + 2, 2, endpoint_vectors - 1, 0xc000);
    put(msix + 4, 4, block + offsetof(switchtec::MessageBlock, msix_table), 0);
    put(msix + 8, 4, block + offsetof(switchtec::MessageBlock, msix_pba), 0);
}

void EndpointConfig::reset() { bytes_ = initial_; }

void EndpointConfig::read(uint64_t offset_bytes, std::span<std::byte> data) const {
    std::memcpy(data.data(), bytes_.data() + offset_bytes, data.size());
}

bool EndpointConfig::write(uint64_t offset_bytes, std::span<const std::byte> data) {
    bool flr = false;
    for (size_t i = 0; i < data.size(); ++i) {
        const size_t at = offset_bytes + i;
        bytes_[at] = (bytes_[at] & ~writable_[at]) | (data[i] & writable_[at]);
        if (at == device_control + 1) flr = (data[i] & std::byte{initiate_flr >> 8}) != std::byte{0};
    }
    return flr;
}

bool EndpointConfig::bus_master() const {
    return (pci::get16(bytes_, pci::config::command) & pci::command::bus_master) != 0;
}

} // namespace lanepool::fabric
