// SPDX-License-Identifier: Apache-2.0
#include "store/store.h"

namespace lanepool::store {

namespace {
constexpr uint32_t piece = 1024;
}

bool lets_through(const AuditFilter& filter, const pool::AuditEntry& entry) {
    if (filter.fdid && entry.fdid != *filter.fdid) return false;
    if (filter.loan && entry.loan != *filter.loan) return false;
    if (!filter.host.empty() && entry.subject != "host:" + filter.host &&
        entry.actor != "agent:" + filter.host)
        return false;
    if (!filter.subject.empty() && entry.subject != filter.subject) return false;
    if (!filter.actor.empty() && entry.actor != filter.actor) return false;
    if (!filter.action.empty() && entry.action != filter.action) return false;
    if (filter.from_us != 0 && entry.time_us < filter.from_us) return false;
    return filter.until_us == 0 || entry.time_us < filter.until_us;
}

Result<> follows(const ChainEnd& head, const pool::Outcome& outcome) {
    uint64_t last = head.sequence;
    for (const auto& entry : outcome.audit)
        if (entry.sequence != ++last)
            return fail(Errc::internal,
                        "after entry {} of the audit trail entry {} was to be stored; nothing was", last - 1,
                        entry.sequence);
    if (outcome.counters.next_audit != last + 1)
        return fail(Errc::internal,
                    "the audit trail ends at {} and the counters say that {} comes next; nothing was stored",
                    last, outcome.counters.next_audit);
    return {};
}

Result<AuditCheck> Store::verify_audit() {
    ChainCheck check(TRY(audit_ends()).start);
    for (bool again = false;;) {
        // From the very first that is there, also if it is one that should have been forgotten.
        const auto entries = TRY(audit_chain(check.entries() == 0 ? 0 : check.last_sequence(), piece));
        TRY(check.add(entries));
        if (!entries.empty()) {
            again = false;
            continue;
        }
        const auto ends = TRY(audit_ends());
        // Where another controller writes, it may have grown just now.
        if (ends.head.sequence <= check.last_sequence() || again) return check.finish(ends);
        again = true;
    }
}

} // namespace lanepool::store
