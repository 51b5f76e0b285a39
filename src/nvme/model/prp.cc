// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/prp.h"

#include <algorithm>

namespace lanepool::nvme::model {

namespace {

constexpr uint32_t page_offset(Iova address) { return address.value & (page_bytes - 1); }
constexpr uint32_t entries_per_page = page_bytes / sizeof(le64);

PrpOutcome walk_list(Iova list, uint32_t left, PrpListReader& reader, PieceList& pieces) {
    std::array<le64, entries_per_page> entries;
    // A list pointer is aligned to a quadword; only the first one may lie inside of a page.
    if (list.value & 7) return {Status(StatusCode::prp_offset_invalid, true)};
    while (true) {
        const uint32_t room = entries_per_page - page_offset(list) / sizeof(le64);
        const uint32_t pages = (left + page_bytes - 1) / page_bytes;
        const uint32_t count = std::min(room, pages);
        switch (reader.read(list, {entries.data(), count})) {
        case PrpListReader::Answer::ok:
            break;
        case PrpListReader::Answer::unreachable:
            return {Status(StatusCode::data_transfer_error)};
        case PrpListReader::Answer::later:
            return {Status(), true};
        }
        // The last entry of a page that does not hold them all leads to the next list.
        const bool chained = pages > room;
        for (uint32_t i = 0; i < (chained ? room - 1 : count); ++i) {
            const Iova address{entries[i]};
            if (page_offset(address) != 0) return {Status(StatusCode::prp_offset_invalid, true)};
            const uint32_t size = std::min(left, page_bytes);
            pieces.add(address, size);
            left -= size;
        }
        if (!chained) return {};
        list = Iova{entries[room - 1]};
        // Page aligned from here on, so each list brings at least 511 pages nearer to the end: no loop is
        // endless.
        if (page_offset(list) != 0) return {Status(StatusCode::prp_offset_invalid, true)};
    }
}

} // namespace

PrpOutcome walk_prps(Iova prp1, Iova prp2, uint32_t size_bytes, PrpListReader& reader, PieceList& pieces) {
    pieces.clear();
    if (prp1.value & 3) return {Status(StatusCode::prp_offset_invalid, true)};
    const uint32_t first = std::min(size_bytes, page_bytes - page_offset(prp1));
    pieces.add(prp1, first);
    const uint32_t left = size_bytes - first;
    if (left == 0) return {};
    if (left > page_bytes) return walk_list(prp2, left, reader, pieces);
    if (page_offset(prp2) != 0) return {Status(StatusCode::prp_offset_invalid, true)};
    pieces.add(prp2, left);
    return {};
}

} // namespace lanepool::nvme::model
