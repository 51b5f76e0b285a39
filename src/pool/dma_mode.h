// SPDX-License-Identifier: Apache-2.0
//
// How a function that a host borrows with its own kernel reaches the host's memory.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace lanepool::pool {

enum class DmaMode {
    none,   // it is not borrowed by a host's own kernel; or nobody has said yet
    bounce, // a pool that everything is copied through, and nothing else, ever
    iommu,  // the pages that drivers have mapped at that moment
    direct, // all of the host's memory
};

// Those that there are to choose from.
inline constexpr std::array dma_modes{DmaMode::bounce, DmaMode::iommu, DmaMode::direct};

// Empty for none.
inline std::string_view name(DmaMode mode) {
    switch (mode) {
    case DmaMode::none:
        return "";
    case DmaMode::bounce:
        return "bounce";
    case DmaMode::iommu:
        return "iommu";
    case DmaMode::direct:
        return "direct";
    }
    return "unknown";
}

// The one of that name, if there is one; of an empty name it is none.
inline std::optional<DmaMode> dma_mode(std::string_view text) {
    if (text.empty()) return DmaMode::none;
    for (const DmaMode mode : dma_modes)
        if (name(mode) == text) return mode;
    return std::nullopt;
}

} // namespace lanepool::pool
