// SPDX-License-Identifier: Apache-2.0
#include "pci/config_space.h"

#include "base/endian.h"

#include <cstring>

namespace lanepool::pci {

namespace {
template <class T>
T get(std::span<const std::byte> config, size_t offset) {
    LittleEndian<T> value;
    std::memcpy(&value, config.subspan(offset, sizeof value).data(), sizeof value);
    return value;
}
template <class T>
void set(std::span<std::byte> config, size_t offset, T value) {
    const LittleEndian<T> bytes = value;
    std::memcpy(config.subspan(offset, sizeof bytes).data(), &bytes, sizeof bytes);
}
} // namespace

uint16_t get16(std::span<const std::byte> config, size_t offset) { return get<uint16_t>(config, offset); }
uint32_t get32(std::span<const std::byte> config, size_t offset) { return get<uint32_t>(config, offset); }
void set16(std::span<std::byte> config, size_t offset, uint16_t value) { set(config, offset, value); }
void set32(std::span<std::byte> config, size_t offset, uint32_t value) { set(config, offset, value); }

Result<> walk_capabilities(std::span<const std::byte> config, std::vector<CapabilityEntry>& entries) {
    if (config.size() < conventional_config_bytes)
        return fail(Errc::protocol, "config space of {} bytes is too short", config.size());
    if (!(get16(config, config::status) & status::capabilities_list)) return {};
    uint16_t previous = config::capabilities;
    // The two low bits of a pointer are reserved and must be masked (PCI 3.0, 6.7).
    auto offset = static_cast<uint16_t>(std::to_integer<uint8_t>(config[config::capabilities]) & 0xfc);
    while (offset != 0) {
        if (offset < 0x40)
            return fail(Errc::protocol, "capability pointer at {:#x} leads to {:#x}, inside of the header",
                        previous, offset);
        if (entries.size() >= (conventional_config_bytes - 0x40) / 4)
            return fail(Errc::protocol, "the capability chain loops at {:#x}", previous);
        const auto next = static_cast<uint16_t>(std::to_integer<uint8_t>(config[offset + 1u]) & 0xfc);
        entries.push_back({std::to_integer<uint8_t>(config[offset]), offset, previous, next});
        previous = static_cast<uint16_t>(offset + 1);
        offset = next;
    }
    return {};
}

Result<> walk_extended_capabilities(std::span<const std::byte> config,
                                    std::vector<CapabilityEntry>& entries) {
    if (config.size() < extended_config_bytes) return {};
    uint16_t previous = 0;
    uint16_t offset = 0x100;
    while (offset != 0) {
        if (offset < 0x100 || (offset & 3))
            return fail(Errc::protocol,
                        "extended capability at {:#x} leads to {:#x}, which is no place for one", previous,
                        offset);
        if (entries.size() >= (extended_config_bytes - 0x100) / 4)
            return fail(Errc::protocol, "the extended capability chain loops at {:#x}", previous);
        const uint32_t header = get32(config, offset);
        // No capabilities at all: a header of zeroes, or all-ones from a function without extended space.
        if (header == 0 || header == 0xffffffff) break;
        const auto next = static_cast<uint16_t>(header >> 20);
        entries.push_back({static_cast<uint16_t>(header & 0xffff), offset, previous, next});
        previous = offset;
        offset = next;
    }
    return {};
}

Result<std::vector<CapabilityEntry>> capabilities(std::span<const std::byte> config) {
    std::vector<CapabilityEntry> entries;
    TRY(walk_capabilities(config, entries));
    return entries;
}

Result<std::vector<CapabilityEntry>> extended_capabilities(std::span<const std::byte> config) {
    std::vector<CapabilityEntry> entries;
    TRY(walk_extended_capabilities(config, entries));
    return entries;
}

} // namespace lanepool::pci
