// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "device_model/guest_memory.h"
#include "nvme/model/file_queue.h"
#include "nvme/model/prp.h"
#include "nvme/spec.h"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <sys/uio.h>
#include <vector>

namespace lanepool::nvme::model {

struct SubmissionQueue;

// A command that has been fetched and not completed.
struct Request {
    Command command;
    SubmissionQueue* sq = nullptr; // null when its queue has gone: nobody will hear how it ended
    bool active = false;
    bool abort_requested = false;
    bool parked = false; // waits for nothing but the controller itself: may be dropped at any time

    // Where its data lies, and the same as addresses of ours once it is known to be all in mapped memory.
    PieceList data;
    std::array<iovec, max_pieces> pieces;
    unsigned piece_count = 0;
    unsigned first_piece = 0; // those before it have been transferred
    // Held while the kernel may be using the memory.
    std::vector<std::shared_ptr<device_model::DmaRegion>> pins;
    // For data that is reached by messages.
    std::vector<std::byte> bounce;
    // PRP lists that were fetched by messages.
    struct PrpPage {
        Iova address;
        std::vector<std::byte> bytes;
    };
    std::vector<PrpPage> prp_pages;

    uint64_t offset_bytes = 0; // in the file
    uint64_t left_bytes = 0;
    std::optional<FileTicket> ticket; // with the file queue

    bool orphaned() const { return sq == nullptr; }
    std::span<const iovec> left_pieces() const {
        return {pieces.data() + first_piece, piece_count - first_piece};
    }
};

} // namespace lanepool::nvme::model
