// SPDX-License-Identifier: Apache-2.0
//
// Where the records of the pool live while nobody runs. A store belongs to one thread.
#pragma once

#include "base/result.h"
#include "pool/records.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::store {

// Which entries of the audit trail; those of a loan are its device's too.
struct AuditFilter {
    std::optional<pool::Fdid> fdid;
    std::optional<pool::LoanId> loan;
    std::string host; // what happened to it and what its agent said; empty: not asked for
};

class Store {
  public:
    virtual ~Store() = default;

    // Everything but the audit trail; an empty snapshot of a new store.
    virtual Result<pool::Snapshot> load() = 0;

    // All of OUTCOME, or nothing of it; on disk when it returns. Its orders are not stored. Errors: no_space
    // (disk full), permission_denied (read-only), io.
    virtual Result<> apply(const pool::Outcome& outcome) = 0;

    // At most LIMIT entries that FILTER lets through, after AFTER_SEQUENCE, oldest first.
    virtual Result<std::vector<pool::AuditEntry>> audit(const AuditFilter& filter, uint64_t after_sequence,
                                                        uint32_t limit) = 0;
    // After which sequence exactly the last COUNT entries that FILTER lets through follow; 0 where there are
    // not so many.
    virtual Result<uint64_t> audit_before_last(const AuditFilter& filter, uint32_t count) = 0;
};

} // namespace lanepool::store
