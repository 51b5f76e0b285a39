// SPDX-License-Identifier: Apache-2.0
//
// For tests: what the tests of field complaints share.
#pragma once

#include "pool/test_bench.h"

namespace lanepool::pool::testing {

class FieldComplaint : public Bench {
  protected:
    FieldComplaint() { connect_all(); }

    void force_away(const std::string& device = "80000") {
        ASSERT_TRUE(pool->reclaim({device, "forced", owner()}, now));
        keep();
    }
    static BorrowRequest waiting(BorrowRequest request, int64_t wait_s = 3600) {
        request.wait_s = wait_s;
        return request;
    }
    size_t free_devices() const {
        size_t count = 0;
        for (const auto& [fdid, device] : pool->ledger().devices.all())
            count += device.state == DeviceState::available ? 1 : 0;
        return count;
    }
};

} // namespace lanepool::pool::testing
