// SPDX-License-Identifier: Apache-2.0
#include "smartio/msix_capability.h"

#include "pci/config_space.h"

namespace lanepool::smartio {

namespace {

constexpr size_t table_register = 4;
constexpr size_t pending_register = 8;
constexpr uint32_t bar_mask = 7; // of both; the rest is the offset

BarPart part(std::span<const std::byte> config, size_t offset, uint64_t size_bytes) {
    const uint32_t place = pci::get32(config, offset);
    return {place & bar_mask, place & ~bar_mask, size_bytes};
}

Result<MsixCapability> msix_at(std::span<const std::byte> config, size_t offset) {
    if (offset + MsixCapability::length > pci::conventional_config_bytes || offset >= config.size())
        return fail(Errc::protocol, "the MSI-X capability at {:#x} does not fit into config space", offset);
    MsixCapability msix;
    msix.offset = offset;
    msix.vectors = (pci::get16(config, offset + MsixCapability::control) & MsixCapability::last_vector) + 1u;
    msix.table = part(config, offset + table_register, msix.vectors * MsixCapability::entry_bytes);
    msix.pending = part(config, offset + pending_register, (uint64_t{msix.vectors} + 63) / 64 * 8);
    return msix;
}

} // namespace

Result<std::optional<MsixCapability>> find_msix(std::span<const std::byte> config) {
    std::optional<MsixCapability> found;
    for (const auto& entry : TRY(pci::capabilities(config))) {
        if (static_cast<pci::Capability>(entry.id) != pci::Capability::msix) continue;
        if (found)
            return fail(Errc::protocol, "there are two MSI-X capabilities, at {:#x} and {:#x}", found->offset,
                        entry.offset);
        found = TRY(msix_at(config, entry.offset));
    }
    return found;
}

} // namespace lanepool::smartio
