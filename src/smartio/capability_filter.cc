// SPDX-License-Identifier: Apache-2.0
#include "smartio/capability_filter.h"

#include "pci/config_space.h"
#include "smartio/msix_capability.h"

#include <algorithm>

namespace lanepool::smartio {

namespace {

using pci::Capability;
using pci::CapabilityEntry;
using pci::ExtendedCapability;

namespace vendor_specific { // PCI Local Bus Specification 3.0, appendix H
constexpr size_t length = 2;
constexpr size_t shortest = 3;
} // namespace vendor_specific
namespace virtio { // Virtual I/O Device Specification 1.2, 4.1.4
constexpr uint16_t vendor_id = 0x1af4;
constexpr size_t kind = 3;
constexpr size_t shortest = 16;
constexpr std::byte config_access{5};
} // namespace virtio

size_t byte_at(std::span<const std::byte> config, size_t offset) {
    return std::to_integer<size_t>(config[offset]);
}

size_t kept_vendor_bytes(std::span<const std::byte> config, size_t offset) {
    const size_t left = pci::conventional_config_bytes - offset;
    if (left < vendor_specific::shortest) return 0;
    const size_t size = byte_at(config, offset + vendor_specific::length);
    if (size < vendor_specific::shortest || size > left) return 0;
    if (pci::get16(config, pci::config::vendor_id) == virtio::vendor_id &&
        (size < virtio::shortest || config[offset + virtio::kind] == virtio::config_access))
        return 0;
    return size;
}

// How many bytes of a capability the borrower gets; 0: it is not kept.
size_t kept_bytes(std::span<const std::byte> config, const CapabilityEntry& entry, KeptMessages messages) {
    switch (static_cast<Capability>(entry.id)) {
    case Capability::power_management:
        return 8;
    case Capability::msi: {
        // Without the mask and pending registers of per-vector masking: the message address is 4 or 8 bytes
        // (PCI Local Bus Specification 3.0, 6.8.1).
        constexpr uint16_t address_64 = 1 << 7;
        if (messages != KeptMessages::msi) return 0;
        return (pci::get16(config, entry.offset + 2) & address_64) ? 14 : 10;
    }
    case Capability::msix:
        return messages == KeptMessages::msix ? MsixCapability::length : 0;
    case Capability::pci_express: {
        // Version 1 ends after the link registers of an endpoint, version 2 after its second link registers
        // (PCI Express Base Specification, 7.5.3).
        return (pci::get16(config, entry.offset + 2) & 0xf) >= 2 ? 0x34 : 0x14;
    }
    case Capability::vendor:
        return kept_vendor_bytes(config, entry.offset);
    default:
        return 0;
    }
}

// Where the one of its kind is noted; null for those of which there may be several.
size_t* place_of(KeptCapabilities& kept, Capability id) {
    switch (id) {
    case Capability::power_management:
        return &kept.power_management;
    case Capability::msi:
        return &kept.msi;
    case Capability::msix:
        return &kept.msix;
    case Capability::pci_express:
        return &kept.pci_express;
    default:
        return nullptr;
    }
}

size_t kept_extended_bytes(const CapabilityEntry& entry) {
    return static_cast<ExtendedCapability>(entry.id) == ExtendedCapability::serial_number ? 12 : 0;
}

// Copies [OFFSET, OFFSET + SIZE) unless it leaves the space that ends at END or meets what was copied before.
Result<> copy(std::span<const std::byte> from, std::span<std::byte> to, std::vector<bool>& taken,
              size_t offset, size_t size, size_t end) {
    if (offset > end || size > end - offset)
        return fail(Errc::protocol,
                    "the capability at {:#x} needs {} bytes and would end outside of its space", offset,
                    size);
    const auto first = taken.begin() + static_cast<std::ptrdiff_t>(offset);
    const auto last = first + static_cast<std::ptrdiff_t>(size);
    if (std::find(first, last, true) != last)
        return fail(Errc::protocol, "the capability at {:#x} overlaps another one", offset);
    std::fill(first, last, true);
    std::ranges::copy(from.subspan(offset, size), to.begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
}

Result<KeptCapabilities> copy_conventional(std::span<const std::byte> from, std::span<std::byte> to,
                                           std::vector<bool>& taken, KeptMessages messages) {
    constexpr size_t end = pci::conventional_config_bytes;
    KeptCapabilities kept;
    std::vector<CapabilityEntry> chain;
    for (const auto& entry : TRY(pci::capabilities(from))) {
        const size_t size = kept_bytes(from, entry, messages);
        if (size == 0) continue;
        chain.push_back(entry);
        size_t* place = place_of(kept, static_cast<Capability>(entry.id));
        if (!place) continue;
        if (*place != 0)
            return fail(Errc::protocol, "capability {:#x} is there twice, at {:#x} and {:#x}", entry.id,
                        *place, entry.offset);
        *place = entry.offset;
        TRY(copy(from, to, taken, entry.offset, size, end));
    }
    size_t link = pci::config::capabilities; // where the next kept one's offset goes
    for (const auto& entry : chain) {
        // A vendor's own that says that it is longer than it can be is not worth a device.
        if (!place_of(kept, static_cast<Capability>(entry.id)) &&
            !copy(from, to, taken, entry.offset, kept_bytes(from, entry, messages), end))
            continue;
        to[link] = static_cast<std::byte>(entry.offset);
        link = entry.offset + 1u;
        to[link] = std::byte{0};
    }
    return kept;
}

// The first extended capability must stand at 0x100. Where that one is hidden, its place is kept by a header
// with id 0 and version 0, which nobody takes for a capability, and which leads on to the next.
Result<> copy_extended(std::span<const std::byte> from, std::span<std::byte> to, std::vector<bool>& taken) {
    constexpr size_t first = pci::conventional_config_bytes;
    constexpr uint32_t id_and_version = 0x000fffff;
    size_t link = first;
    for (const auto& entry : TRY(pci::extended_capabilities(from))) {
        const size_t size = kept_extended_bytes(entry);
        if (size == 0) continue;
        TRY(copy(from, to, taken, entry.offset, size, pci::extended_config_bytes));
        pci::set32(to, entry.offset, pci::get32(from, entry.offset) & id_and_version);
        if (entry.offset != first) {
            const uint32_t header = pci::get32(to, link) & id_and_version;
            pci::set32(to, link, header | static_cast<uint32_t>(entry.offset) << 20);
        }
        link = entry.offset;
    }
    return {};
}

} // namespace

Result<KeptCapabilities> copy_kept_capabilities(std::span<const std::byte> from, std::span<std::byte> to,
                                                KeptMessages messages) {
    std::vector<bool> taken(to.size());
    const auto kept = TRY(copy_conventional(from, to, taken, messages));
    TRY(copy_extended(from, to, taken));
    return kept;
}

} // namespace lanepool::smartio
