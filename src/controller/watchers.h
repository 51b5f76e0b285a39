// SPDX-License-Identifier: Apache-2.0
//
// Who waits for which loan or device.
#pragma once

#include "controller/progress.h"

#include <map>
#include <set>

namespace lanepool::controller {

class WatchStream;

class Watchers {
  public:
    // STREAM hears changed() whenever something about its goal has.
    void add(const Goal& goal, WatchStream& stream);
    void remove(const Goal& goal, WatchStream& stream);
    // Tells everybody whom OUTCOME concerns.
    void tell(const pool::Outcome& outcome);

  private:
    std::map<pool::Fdid, std::set<WatchStream*>> of_devices_;
    std::map<pool::LoanId, std::set<WatchStream*>> of_loans_;
};

} // namespace lanepool::controller
