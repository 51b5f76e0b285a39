// SPDX-License-Identifier: Apache-2.0
//
// What the module takes for a configuration space, by docs/kernel-bridge.md, for tests without a kernel. It
// shares nothing with what makes configuration spaces.
#pragma once

#include "bridge/function.h"
#include "pci/config_space.h"

#include <algorithm>
#include <array>
#include <bit>
#include <bitset>

namespace lanepool::bridge::test {

using BarBytes = std::array<uint64_t, pci::bar_count>; // upper halves and BARs that are not there: 0

inline Result<> refuse(std::string_view why, size_t at) {
    return fail(Errc::invalid_argument, "the module would refuse {} at {:#x}", why, at);
}

inline Result<> module_takes_msi(const ShownConfig& config, size_t at) {
    const unsigned control = pci::get16(config.values, at + 2);
    const bool address_64 = control & 0x80;
    const bool masks = control & 0x100;
    if (at + (address_64 ? 14 : 10) + (masks ? 10 : 0) > 256) return refuse("MSI without room", at);
    if (config.vectors != ShownConfig::Vectors::msi || config.vector_count != 1u << (control >> 1 & 7))
        return refuse("MSI with another number of vectors", at);
    if (control & 0x71) return refuse("MSI that is on", at);
    return {};
}

inline bool lies_in_bar(uint32_t where, uint64_t bytes, const BarBytes& bars) {
    const uint32_t bar = where & 7;
    const uint64_t offset = where & ~7u;
    return bar < bars.size() && bytes <= bars[bar] && offset <= bars[bar] - bytes;
}

inline Result<> module_takes_msix(const ShownConfig& config, size_t at, const BarBytes& bars) {
    if (at + 12 > 256) return refuse("MSI-X without room", at);
    const unsigned control = pci::get16(config.values, at + 2);
    const uint32_t vectors = (control & 0x7ff) + 1;
    if (config.vectors != ShownConfig::Vectors::msix || config.vector_count != vectors)
        return refuse("MSI-X with another number of vectors", at);
    if (control & 0xc000) return refuse("MSI-X that is on", at);
    if (!lies_in_bar(pci::get32(config.values, at + 4), uint64_t{vectors} * 16, bars) ||
        !lies_in_bar(pci::get32(config.values, at + 8), (vectors + 63) / 64 * 8, bars))
        return refuse("MSI-X tables outside of BARs", at);
    return {};
}

inline Result<> module_takes_express(const ShownConfig& config, size_t at) {
    if (at + 0x14 > 256) return refuse("PCI Express without room", at);
    const unsigned flags = pci::get16(config.values, at + 2);
    if ((flags & 0xf) > 1 && at + 0x34 > 256) return refuse("PCI Express 2 without room", at);
    const unsigned type = flags >> 4 & 0xf;
    if (type != 0 && type != 1 && type != 9) return refuse("PCI Express of no endpoint", at);
    return {};
}

inline Result<> module_takes_capabilities(const ShownConfig& config, const BarBytes& bars) {
    const auto byte = [&](size_t at) { return std::to_integer<size_t>(config.values[at]); };
    const bool any = pci::get16(config.values, pci::config::status) & pci::status::capabilities_list;
    std::bitset<256> seen;
    unsigned signalling = 0, express = 0, advanced = 0;
    for (size_t at = any ? byte(pci::config::capabilities) : 0; at != 0; at = byte(at + 1)) {
        if (at & 3 || at < 0x40 || seen[at]) return refuse("a chain that goes wrong", at);
        seen.set(at);
        switch (byte(at)) {
        case 0x01: // power management
        case 0x03: // vital product data
        case 0x09: // vendor-specific
        case 0x0d: // subsystem id
            break;
        case 0x05:
            ++signalling;
            TRY(module_takes_msi(config, at));
            break;
        case 0x11:
            ++signalling;
            TRY(module_takes_msix(config, at, bars));
            break;
        case 0x10:
            ++express;
            TRY(module_takes_express(config, at));
            break;
        case 0x13: // advanced features
            if (++advanced > 1 || at + 6 > 256) return refuse("advanced features", at);
            break;
        default:
            return fail(Errc::not_supported, "the module does not serve capability {:#x} at {:#x}", byte(at),
                        at);
        }
    }
    if (signalling != (config.vector_count != 0 ? 1u : 0u)) return refuse("MSI and MSI-X", 0);
    if (express > 1) return refuse("PCI Express twice", 0);
    return {};
}

inline Result<> module_takes_extended(const ShownConfig& config) {
    constexpr std::array served{0x01u, 0x03u, 0x04u, 0x0bu, 0x18u, 0x19u, 0x23u, 0x25u, 0x26u};
    std::bitset<pci::extended_config_bytes> seen;
    size_t at = 0x100;
    const uint32_t first = pci::get32(config.values, at);
    if (first == 0 || first == UINT32_MAX) return {};
    while (at != 0) {
        if (at & 3 || at < 0x100 || seen[at]) return refuse("an extended chain that goes wrong", at);
        seen.set(at);
        const uint32_t header = pci::get32(config.values, at);
        const uint32_t id = header & 0xffff;
        if (id != 0 && std::ranges::find(served, id) == served.end())
            return fail(Errc::not_supported, "the module does not serve extended capability {:#x} at {:#x}",
                        id, at);
        at = header >> 20;
    }
    return {};
}

inline Result<> module_takes_bars(const std::array<Bar, pci::bar_count>& bars) {
    for (size_t i = 0; i < bars.size(); ++i) {
        const auto& [memory, is_64bit, prefetchable] = bars[i];
        if (memory.size_bytes == 0) {
            if (is_64bit || prefetchable) return refuse("flags of a BAR that is not there", i);
            continue;
        }
        if (!memory.fd) return refuse("a BAR without a descriptor", i);
        if (memory.size_bytes < 16 || !std::has_single_bit(memory.size_bytes))
            return refuse("a BAR's size", i);
        if (is_64bit && (i + 1 == bars.size() || bars[i + 1].memory.size_bytes != 0))
            return refuse("64 bits without an upper half", i);
        if (!is_64bit && memory.size_bytes > uint64_t{1} << 31) return refuse("32 bits too large", i);
        for (size_t k = 0; k < i; ++k) {
            const auto& other = bars[k].memory;
            if (other.size_bytes != 0 && other.fd->get() == memory.fd->get() &&
                other.offset_bytes < memory.offset_bytes + memory.size_bytes &&
                memory.offset_bytes < other.offset_bytes + other.size_bytes)
                return refuse("BARs that overlap", i);
        }
    }
    return {};
}

inline Result<> module_takes(const ShownConfig& config, const BarBytes& bars) {
    for (const auto* bytes : {&config.values, &config.writable, &config.cleared, &config.noticed})
        if (bytes->size() != pci::extended_config_bytes)
            return refuse("a space of another size", bytes->size());
    const uint16_t vendor = pci::get16(config.values, pci::config::vendor_id);
    if (vendor == 0 || vendor == 0xffff) return refuse("a function without a vendor", 0);
    if (config.values[pci::config::header_type] != std::byte{0}) return refuse("a header", 0x0e);
    if (config.values[pci::config::class_code + 2] == std::byte{6}) return refuse("a bridge", 0x0b);
    if (config.values[pci::config::interrupt_pin] != std::byte{0}) return refuse("a line", 0x3d);
    if (config.vectors == ShownConfig::Vectors::msi && config.vector_count > 32) return refuse("vectors", 0);
    if (config.vector_count > 2048) return refuse("vectors", 0);
    if ((config.vectors == ShownConfig::Vectors::none) != (config.vector_count == 0))
        return refuse("vectors", 0);
    TRY(module_takes_capabilities(config, bars));
    return module_takes_extended(config);
}

} // namespace lanepool::bridge::test
