// SPDX-License-Identifier: Apache-2.0
//
// Memory as the agent hands it out: in pieces, each a part of a descriptor. What it says is checked before
// anything is mapped.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "lanepool/segment.h"
#include "session/message.h"

#include <cstdint>
#include <vector>

namespace lanepool::client {

struct Piece {
    uint64_t offset_bytes = 0; // in the whole
    uint64_t size_bytes = 0;
    UniqueFd fd;
    uint64_t fd_offset_bytes = 0;
};

// Whether memory may lose its end while it is mapped, which would kill who touches it there.
enum class Shrinkable {
    no, // memory that somebody made for this: it is sealed
    yes // registers of a device: as its server made them
};

// Errors: protocol, where SIZE_BYTES of FD at FD_OFFSET_BYTES are not memory that is there and stays.
Result<> check_memory(const UniqueFd& fd, uint64_t fd_offset_bytes, uint64_t size_bytes,
                      Shrinkable shrinkable);

class Extents {
  public:
    Extents() = default;
    // `size` and `extents` of an answer, with its descriptors. Errors: protocol.
    static Result<Extents> take(session::Message& answer, Shrinkable shrinkable);
    // One that is FD.
    static Extents whole(UniqueFd fd, uint64_t size_bytes);

    uint64_t size_bytes() const { return size_bytes_; }
    const std::vector<Piece>& pieces() const { return pieces_; }
    // Whether there is memory behind all of it.
    bool complete() const;
    // As RemoteMemory::map().
    Result<MappedRange> map(const MapOptions& options) const;

  private:
    uint64_t size_bytes_ = 0;
    std::vector<Piece> pieces_; // ascending, without overlap
};

// The size that OPTIONS ask for, of something of SIZE_BYTES. Errors: out_of_range.
Result<uint64_t> size_of_part(uint64_t offset_bytes, uint64_t part_bytes, uint64_t size_bytes);

uint64_t page_bytes();

} // namespace lanepool::client
