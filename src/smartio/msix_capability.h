// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace lanepool::smartio {

// A range of a BAR.
struct BarPart {
    unsigned bar = 0; // 0 to 7; there are six
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;

    bool overlaps(unsigned other_bar, uint64_t offset, uint64_t size) const {
        return bar == other_bar && offset < offset_bytes + size_bytes && offset_bytes < offset + size;
    }
};

// The MSI-X capability (PCI Express Base Specification 7.7.2).
struct MsixCapability {
    static constexpr size_t length = 12;
    static constexpr size_t control = 2; // offsets of registers
    static constexpr uint16_t last_vector = 0x07ff;
    static constexpr uint16_t function_mask = 1 << 14;
    static constexpr uint16_t enable = 1 << 15;
    static constexpr uint64_t entry_bytes = 16;

    size_t offset = 0; // in config space
    uint32_t vectors = 0;
    BarPart table;
    BarPart pending; // the pending bit array
};

// The function's, if it has one. Errors: protocol for chains that are broken, when it does not fit, or is
// there twice.
Result<std::optional<MsixCapability>> find_msix(std::span<const std::byte> config);

} // namespace lanepool::smartio
