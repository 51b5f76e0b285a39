// SPDX-License-Identifier: Apache-2.0
#include "bridge/function.h"

namespace lanepool::bridge {

std::string_view name(DmaMode mode) {
    switch (mode) {
    case DmaMode::bounce:
        return "bounce";
    case DmaMode::iommu:
        return "iommu";
    case DmaMode::direct:
        return "direct";
    }
    return "unknown";
}

std::optional<DmaMode> dma_mode(std::string_view text) {
    for (const auto mode : {DmaMode::bounce, DmaMode::iommu, DmaMode::direct})
        if (name(mode) == text) return mode;
    return std::nullopt;
}

} // namespace lanepool::bridge
