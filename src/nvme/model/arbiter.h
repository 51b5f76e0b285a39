// SPDX-License-Identifier: Apache-2.0
//
// Whose command is next (NVM Express Base Specification 2.0, section 3.4.4): round robin over the I/O
// submission queues, or weighted round robin with an urgent class, a burst at a time. It goes on where it
// stopped, so that a queue that is never empty takes nothing from the others.
#pragma once

#include "nvme/model/queues.h"

#include <algorithm>
#include <array>
#include <vector>

namespace lanepool::nvme::model {

class Arbiter {
  public:
    // What became of asking a queue for commands.
    struct Taken {
        uint32_t count = 0;   // fewer than asked for: it has no more
        bool blocked = false; // no command of any queue can be executed now
    };
    static constexpr uint32_t max_burst = 64;

    // Empty. WEIGHTED: by the queues' priorities (CC.AMS 001b); else all are alike.
    void start(bool weighted);
    void add(SubmissionQueue& queue);
    void remove(SubmissionQueue& queue);

    // Has commands executed, at most LIMIT: TAKE(queue, limit) executes up to LIMIT of QUEUE's. ARBITRATION
    // is dword 11 of the feature. Returns how many there were.
    template <class Take>
    uint32_t serve(uint32_t arbitration, uint32_t limit, Take take) {
        return weighted_ ? serve_classes(arbitration, limit, take)
                         : serve_ring(rings_[0], burst(arbitration), limit, take).count;
    }

  private:
    struct Ring {
        std::vector<SubmissionQueue*> queues;
        size_t at = 0;
        uint32_t left = 0; // of the burst of the one at AT; 0: not begun
    };
    static constexpr size_t first_weighted = 1; // class 0 is the urgent one
    static constexpr size_t classes = 4;

    static uint32_t burst(uint32_t arbitration_dw11);
    static uint32_t weight(size_t priority, uint32_t arbitration_dw11);
    Ring& ring_of(const SubmissionQueue& queue);

    template <class Take>
    static Taken serve_ring(Ring& ring, uint32_t burst, uint32_t limit, Take& take) {
        Taken total;
        for (size_t idle = 0; idle < ring.queues.size() && total.count < limit && !total.blocked;) {
            if (ring.left == 0) ring.left = burst;
            const uint32_t wanted = std::min(ring.left, limit - total.count);
            const Taken taken = take(*ring.queues[ring.at], wanted);
            total.count += taken.count;
            total.blocked = taken.blocked;
            ring.left -= taken.count;
            if (taken.blocked) break; // its burst goes on later
            const bool empty = taken.count < wanted;
            idle = empty ? idle + 1 : 0;
            if (!empty && ring.left > 0) break; // the limit
            ring.left = 0;
            ring.at = (ring.at + 1) % ring.queues.size();
        }
        return total;
    }

    // Urgent ones before each turn of the others; each class as many commands a turn as it weighs.
    template <class Take>
    uint32_t serve_classes(uint32_t arbitration, uint32_t limit, Take& take) {
        const uint32_t per_queue = burst(arbitration);
        uint32_t total = 0;
        for (size_t idle = 0; idle < classes - first_weighted && total < limit;) {
            const Taken urgent = serve_ring(rings_[0], per_queue, limit - total, take);
            total += urgent.count;
            if (urgent.blocked || total == limit) break;
            if (credit_ == 0) credit_ = weight(class_, arbitration);
            const uint32_t wanted = std::min(credit_, limit - total);
            const Taken taken = serve_ring(rings_[class_], per_queue, wanted, take);
            total += taken.count;
            credit_ -= taken.count;
            if (taken.blocked) break;
            if (taken.count < wanted) credit_ = 0;
            idle = taken.count > 0 ? 0 : idle + 1;
            if (credit_ == 0 && ++class_ == classes) class_ = first_weighted;
        }
        return total;
    }

    bool weighted_ = false;
    std::array<Ring, classes> rings_; // by QPRIO: urgent, high, medium, low
    size_t class_ = first_weighted;
    uint32_t credit_ = 0;
};

} // namespace lanepool::nvme::model
