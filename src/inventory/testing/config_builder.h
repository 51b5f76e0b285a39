// SPDX-License-Identifier: Apache-2.0
//
// For tests: configuration spaces as devices have them, and broken ones.
#pragma once

#include "inventory/machine.h"
#include "pci/config_space.h"

#include <array>
#include <span>
#include <string>
#include <vector>

namespace lanepool::inventory::testing {

class ConfigBuilder {
  public:
    ConfigBuilder(uint16_t vendor, uint16_t device, uint32_t class_code) {
        set16(pci::config::vendor_id, vendor);
        set16(pci::config::device_id, device);
        set32(pci::config::revision, class_code << 8 | 1);
    }

    ConfigBuilder& set8(size_t at, uint8_t value) {
        bytes_[at] = std::byte{value};
        return *this;
    }
    ConfigBuilder& set16(size_t at, uint16_t value) {
        pci::set16(bytes_, at, value);
        return *this;
    }
    ConfigBuilder& set32(size_t at, uint32_t value) {
        pci::set32(bytes_, at, value);
        return *this;
    }
    ConfigBuilder& multi_function() {
        bytes_[pci::config::header_type] |= std::byte{0x80};
        return *this;
    }
    ConfigBuilder& bridge(uint8_t primary, uint8_t secondary, uint8_t subordinate) {
        bytes_[pci::config::header_type] |= std::byte{1};
        return set8(0x18, primary).set8(0x19, secondary).set8(0x1a, subordinate);
    }
    ConfigBuilder& interrupt_pin() { return set8(pci::config::interrupt_pin, 1); }

    // Each is put behind the one before, and the chain goes on to it. The offset of its first byte.
    size_t capability(pci::Capability id, size_t bytes) {
        const size_t at = next_;
        set16(pci::config::status, pci::status::capabilities_list);
        set8(link_, static_cast<uint8_t>(at)).set8(at, static_cast<uint8_t>(id));
        link_ = at + 1;
        next_ = (at + bytes + 3) / 4 * 4;
        return at;
    }
    size_t extended(pci::ExtendedCapability id, size_t bytes) {
        const size_t at = next_extended_;
        set32(at, static_cast<uint32_t>(id) | 1u << 16);
        if (at != pci::conventional_config_bytes)
            set32(link_extended_, pci::get32(bytes_, link_extended_) | static_cast<uint32_t>(at) << 20);
        link_extended_ = at;
        next_extended_ = (at + bytes + 3) / 4 * 4;
        return at;
    }

    ConfigBuilder& express(unsigned port_type, bool flr, Link now, Link best, unsigned slot = 0) {
        const size_t at = capability(pci::Capability::pci_express, 0x3c);
        set16(at + 2, static_cast<uint16_t>(2 | port_type << 4 | (slot != 0 ? 1u << 8 : 0)));
        set32(at + 4, (flr ? 1u << 28 : 0) | 1u << 15);
        set32(at + 0x0c, link_bits(best));
        set16(at + 0x12, static_cast<uint16_t>(link_bits(now)));
        return set32(at + 0x14, slot << 19);
    }
    ConfigBuilder& msi(unsigned log2_vectors) {
        return set16(capability(pci::Capability::msi, 0x18) + 2,
                     static_cast<uint16_t>(log2_vectors << 1 | 1u << 7));
    }
    ConfigBuilder& msix(unsigned vectors) {
        return set16(capability(pci::Capability::msix, 12) + 2, static_cast<uint16_t>(vectors - 1));
    }
    ConfigBuilder& advanced_features_flr() {
        const size_t at = capability(pci::Capability::advanced_features, 6);
        return set8(at + 2, 6).set8(at + 3, 3);
    }
    ConfigBuilder& acs(Acs acs) {
        const size_t at = extended(pci::ExtendedCapability::acs, 8);
        return set16(at + 4, acs.capabilities).set16(at + 6, acs.control);
    }
    ConfigBuilder& sriov(unsigned total, unsigned enabled) {
        const size_t at = extended(pci::ExtendedCapability::sriov, 0x40);
        return set16(at + 0x0e, static_cast<uint16_t>(total))
            .set16(at + 0x10, static_cast<uint16_t>(enabled));
    }
    ConfigBuilder& serial_number(uint64_t number) {
        const size_t at = extended(pci::ExtendedCapability::serial_number, 12);
        return set32(at + 4, static_cast<uint32_t>(number))
            .set32(at + 8, static_cast<uint32_t>(number >> 32));
    }

    std::span<const std::byte> bytes() const { return bytes_; }
    // The first SIZE bytes, as a file has them.
    std::string text(size_t size = pci::extended_config_bytes) const {
        return {reinterpret_cast<const char*>(bytes_.data()), size};
    }

  private:
    static uint32_t link_bits(Link link) {
        constexpr std::array speeds{0.0, 2.5, 5.0, 8.0, 16.0, 32.0, 64.0};
        uint32_t code = 0;
        for (uint32_t i = 0; i < speeds.size(); ++i)
            if (speeds[i] == link.speed_gt_per_s) code = i;
        return code | link.width << 4;
    }

    std::array<std::byte, pci::extended_config_bytes> bytes_{};
    size_t link_ = pci::config::capabilities, next_ = 0x40;
    size_t link_extended_ = 0, next_extended_ = pci::conventional_config_bytes;
};

} // namespace lanepool::inventory::testing
