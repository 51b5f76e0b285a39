// SPDX-License-Identifier: Apache-2.0
//
// What happens to a segment: told to its callback, or kept for who waits for it.
#pragma once

#include "sisci/outcome.h"

#include <chrono>
#include <functional>
#include <memory>
#include <sisci_types.h>

namespace lanepool::sisci {

struct SegmentEvent {
    sci_segment_cb_reason_t reason;
    unsigned node = 0;
};

// Copies are the same events: one kept by who tells them outlives a segment that its own callback removes.
class SegmentEvents {
  public:
    using Callback = std::function<sci_callback_action_t(const SegmentEvent&)>;

    SegmentEvents();
    // Before the first put(). Without one, who wants to know waits.
    void set_callback(Callback callback);

    void put(const SegmentEvent& event) const;
    // Errors: TIMEOUT, CANCELLED, ILLEGAL_OPERATION (there is a callback).
    Outcome<SegmentEvent> wait(std::chrono::milliseconds timeout) const;
    // Ends waits. No callback comes any more, and none runs, except one that called this.
    void cancel() const;

  private:
    struct State;
    std::shared_ptr<State> state_;
};

} // namespace lanepool::sisci
