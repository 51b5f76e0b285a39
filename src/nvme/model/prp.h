// SPDX-License-Identifier: Apache-2.0
//
// Physical region pages: where a command's data lies (NVM Express Base Specification 2.0, section 4.1.1).
#pragma once

#include "base/address.h"
#include "base/endian.h"
#include "nvme/spec.h"

#include <array>
#include <cstdint>
#include <span>

namespace lanepool::nvme::model {

inline constexpr uint32_t page_bytes = min_page_bytes; // CC.MPS is 0, CAP allows nothing else
// Identify Controller, MDTS: 2^7 pages.
inline constexpr uint8_t max_transfer_shift = 7;
inline constexpr uint32_t max_transfer_bytes = page_bytes << max_transfer_shift;
// A transfer that starts in the middle of a page touches one more.
inline constexpr size_t max_pieces = (1 << max_transfer_shift) + 1;

struct Piece {
    Iova address;
    uint32_t size_bytes = 0;
};

// Pieces of memory that a command transfers, neighbours joined.
class PieceList {
  public:
    std::span<const Piece> pieces() const { return {pieces_.data(), count_}; }
    void clear() { count_ = 0; }
    void add(Iova address, uint32_t size_bytes) {
        if (count_ > 0 && pieces_[count_ - 1].address.value + pieces_[count_ - 1].size_bytes == address.value)
            pieces_[count_ - 1].size_bytes += size_bytes;
        else
            pieces_[count_++] = {address, size_bytes};
    }

  private:
    std::array<Piece, max_pieces> pieces_;
    size_t count_ = 0;
};

// How the walk reads the PRP lists.
class PrpListReader {
  public:
    enum class Answer { ok, unreachable, later };
    virtual ~PrpListReader() = default;
    // ENTRIES from ADDRESS on, all in one page.
    virtual Answer read(Iova address, std::span<le64> entries) = 0;
};

struct PrpOutcome {
    Status status;
    bool later = false; // the reader said so: walk again when it has the list
};

// The pieces of SIZE_BYTES (1 to max_transfer_bytes) that PRP1 and PRP2 name. Whether they can be reached is
// not looked at. Fails with prp_offset_invalid, or data_transfer_error for a list that cannot be read.
PrpOutcome walk_prps(Iova prp1, Iova prp2, uint32_t size_bytes, PrpListReader& reader, PieceList& pieces);

} // namespace lanepool::nvme::model
