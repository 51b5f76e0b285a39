// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lanepool::dma_model {

// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of what gave CRC, followed by DATA. It begins with 0.
uint32_t crc32c(uint32_t crc, std::span<const std::byte> data);

} // namespace lanepool::dma_model
