// SPDX-License-Identifier: Apache-2.0
//
// Where the records of the pool live while nobody runs. A store belongs to one thread. docs/store.md tells
// what is stored, and how.
#pragma once

#include "base/result.h"
#include "pool/records.h"
#include "store/chain.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::store {

// Which entries of the audit trail: those for which everything that is given holds.
struct AuditFilter {
    std::optional<pool::Fdid> fdid; // also those of its loans
    std::optional<pool::LoanId> loan;
    std::string host; // what happened to it and what its agent said; empty: not asked for
    std::string subject;
    std::string actor;
    std::string action;
    int64_t from_us = 0;  // Unix time
    int64_t until_us = 0; // before this; 0: to the end
};

// Whether FILTER lets ENTRY through.
bool lets_through(const AuditFilter& filter, const pool::AuditEntry& entry);

// internal: the entries of OUTCOME do not go on where a trail that ends at HEAD does, or its counters say
// otherwise. For stores.
Result<> follows(const ChainEnd& head, const pool::Outcome& outcome);

class Store {
  public:
    virtual ~Store() = default;

    // Everything but the audit trail; an empty snapshot of a new store. The records are ordered by their
    // keys.
    virtual Result<pool::Snapshot> load() = 0;

    // All of OUTCOME, or nothing of it; on disk when it returns. Its orders are not stored. Entries of the
    // audit trail must go on where the trail ends. Errors: no_space (disk full), permission_denied
    // (read-only), io; of a store that several controllers share also unavailable (it cannot be reached: it
    // may be found that OUTCOME has been stored, later), cancelled (another controller leads now, or an
    // earlier outcome was stored of which that was not known) and busy (somebody else has changed a record).
    virtual Result<> apply(const pool::Outcome& outcome) = 0;

    // Whether what load() gave and apply() stored since is still what is there. False: apply() refuses
    // everything, until load() has been called and everything has been built anew from it.
    virtual bool usable() const { return true; }

    // At most LIMIT entries that FILTER lets through, after AFTER_SEQUENCE, oldest first.
    virtual Result<std::vector<pool::AuditEntry>> audit(const AuditFilter& filter, uint64_t after_sequence,
                                                        uint32_t limit) = 0;
    // After which sequence exactly the last COUNT entries that FILTER lets through follow; 0 where there are
    // not so many.
    virtual Result<uint64_t> audit_before_last(const AuditFilter& filter, uint32_t count) = 0;

    // At most LIMIT entries after AFTER_SEQUENCE with their hashes, as they are stored. io: one of them
    // cannot be read, or says different things in different places; the message names its sequence.
    virtual Result<std::vector<ChainedEntry>> audit_chain(uint64_t after_sequence, uint32_t limit) = 0;
    virtual Result<ChainEnds> audit_ends() = 0;
    // Between these two an empty store becomes a copy of another one, whose trail begins after START: it
    // takes outcomes, but cannot be loaded; so half a copy is never mistaken for a whole one. Use copy()
    // (copy.h). failed_precondition: it is not empty.
    virtual Result<> begin_copy(const ChainEnd& start) = 0;
    virtual Result<> end_copy() = 0;

    // Reads the whole trail and follows its hashes; a controller that cannot wait uses ChainCheck, piece by
    // piece. io: the message names the first sequence that does not fit.
    Result<AuditCheck> verify_audit();
};

} // namespace lanepool::store
