// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>

namespace lanepool::smartio {

// What every step of a loan names: which device, for which loan, and how recent the decision is. A device's
// epoch only grows; whoever comes with an older one has been superseded.
struct LoanKey {
    uint64_t fdid = 0; // the fabric device id
    uint64_t loan = 0;
    uint64_t epoch = 0;
    auto operator<=>(const LoanKey&) const = default;
};

} // namespace lanepool::smartio
