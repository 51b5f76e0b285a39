// SPDX-License-Identifier: Apache-2.0
#include "dma_model/crc32c.h"

#include <array>
#include <cstring>

namespace lanepool::dma_model {

namespace {

constexpr uint32_t reversed_polynomial = 0x82f63b78;

// Table n: the effect of a byte that has n bytes behind it, so that eight bytes are done at a time.
constexpr auto make_tables() {
    std::array<std::array<uint32_t, 256>, 8> tables{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit)
            crc = crc >> 1 ^ (crc & 1 ? reversed_polynomial : 0);
        tables[0][byte] = crc;
    }
    for (size_t n = 1; n < tables.size(); ++n)
        for (size_t byte = 0; byte < 256; ++byte)
            tables[n][byte] = tables[n - 1][byte] >> 8 ^ tables[0][tables[n - 1][byte] & 0xff];
    return tables;
}
constexpr auto tables = make_tables();

} // namespace

uint32_t crc32c(uint32_t crc, std::span<const std::byte> data) {
    crc = ~crc;
    size_t i = 0;
    for (; data.size() - i >= 8; i += 8) {
        uint64_t word;
        std::memcpy(&word, data.data() + i, 8);
        word ^= crc;
        crc = 0;
        for (size_t n = 0; n < 8; ++n)
            crc ^= tables[7 - n][word >> (8 * n) & 0xff];
    }
    for (; i < data.size(); ++i)
        crc = crc >> 8 ^ tables[0][(crc ^ std::to_integer<uint32_t>(data[i])) & 0xff];
    return ~crc;
}

} // namespace lanepool::dma_model
