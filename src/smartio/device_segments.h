// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ntb/adapter.h"
#include "smartio/loan_protocol.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

namespace lanepool::smartio {

// Memory that the loans of one device have made beside it, on the lender's host. One of SegmentScope::loan is
// seen by the loan that made it and goes with that; one of SegmentScope::device is seen by all and goes with
// the last. Blocking, one thread at a time.
class DeviceSegments {
  public:
    // Of one loan; what a loan that has gone left behind for the others counts for the device only, which may
    // have as much as four loans.
    struct Limits {
        size_t segments;
        uint64_t bytes;
    };
    DeviceSegments(ntb::Adapter& adapter, Limits limits) : adapter_(adapter), limits_(limits) {}

    // LOAN is a loan of the device, and that of the request's key.
    Result<> create(uint64_t loan, const CreateSegmentRequest& request);
    Result<ConnectedSegment> connect(uint64_t loan, const SegmentRequest& request) const;
    // One whose maker has gone may be removed by any loan.
    Result<> remove(uint64_t loan, const SegmentRequest& request);

    // LOAN has gone: what only it saw is withdrawn, what others see has no maker any more.
    Result<> release(uint64_t loan);
    // Withdraws everything. An error: the adapter did not confirm.
    Result<> clear();

  private:
    // Scope's owner (0: the device) and id. No loan has the number 0: its segments would be the device's.
    using Name = std::pair<uint64_t, uint32_t>;
    struct Segment {
        uint64_t maker; // 0: has gone
        ntb::Export exported;
    };
    struct Use {
        size_t segments = 0;
        uint64_t bytes = 0;
    };
    static Result<Name> name_of(uint64_t loan, SegmentScope scope, uint32_t id);
    Result<> check_limits(uint64_t loan, uint64_t size_bytes) const;

    ntb::Adapter& adapter_;
    const Limits limits_;
    std::map<Name, Segment> segments_;
};

} // namespace lanepool::smartio
