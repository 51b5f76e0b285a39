// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/arbiter.h"

namespace lanepool::nvme::model {

uint32_t Arbiter::burst(uint32_t dw11) {
    // 2^AB commands; 111b is no limit (section 5.27.1.1).
    return std::min(max_burst, 1u << arbitration::burst.get(dw11));
}

uint32_t Arbiter::weight(size_t priority, uint32_t dw11) {
    using namespace arbitration;
    return 1 + (priority == 1   ? high_weight.get(dw11)
                : priority == 2 ? medium_weight.get(dw11)
                                : low_weight.get(dw11));
}

void Arbiter::start(bool weighted) {
    weighted_ = weighted;
    rings_ = {};
    class_ = first_weighted;
    credit_ = 0;
}

Arbiter::Ring& Arbiter::ring_of(const SubmissionQueue& queue) {
    return rings_[weighted_ ? static_cast<size_t>(queue.priority) : 0];
}

void Arbiter::add(SubmissionQueue& queue) { ring_of(queue).queues.push_back(&queue); }

void Arbiter::remove(SubmissionQueue& queue) {
    auto& ring = ring_of(queue);
    const auto found = std::ranges::find(ring.queues, &queue);
    if (found == ring.queues.end()) return;
    const auto index = static_cast<size_t>(found - ring.queues.begin());
    ring.queues.erase(found);
    if (index == ring.at) ring.left = 0;
    if (index < ring.at) --ring.at;
    if (ring.at >= ring.queues.size()) ring.at = 0;
}

} // namespace lanepool::nvme::model
