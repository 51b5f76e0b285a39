// SPDX-License-Identifier: Apache-2.0
#include "store/copy.h"

namespace lanepool::store {

namespace {

// Records, or entries, that are taken at a time.
constexpr size_t piece = 1000;

// Stores the records of ALL piece by piece.
template <class Record>
Result<> put(Store& to, const pool::Counters& counters, const std::vector<Record>& all,
             std::vector<Record> pool::Outcome::*records) {
    for (size_t at = 0; at < all.size(); at += piece) {
        const auto begin = all.begin() + static_cast<ptrdiff_t>(at);
        pool::Outcome outcome;
        (outcome.*records).assign(begin, begin + static_cast<ptrdiff_t>(std::min(piece, all.size() - at)));
        outcome.counters = counters;
        TRY(to.apply(outcome));
    }
    return {};
}

Result<> put_trail(Store& from, Store& to, pool::Counters counters, uint64_t after,
                   const std::function<void(uint64_t done)>& progress) {
    uint64_t done = 0;
    for (;;) {
        const auto entries = TRY(from.audit_chain(after, piece));
        if (entries.empty()) return {};
        pool::Outcome outcome;
        for (const auto& [entry, hash] : entries)
            outcome.audit.push_back(entry);
        after = outcome.audit.back().sequence;
        counters.next_audit = after + 1;
        outcome.counters = counters;
        TRY(to.apply(outcome));
        done += entries.size();
        progress(done);
    }
}

} // namespace

Result<AuditCheck> copy(Store& from, Store& to,
                        const std::function<void(uint64_t done, uint64_t all)>& progress) {
    const auto check = TRY(from.verify_audit());
    const auto all = TRY(from.load());
    const auto ends = TRY(from.audit_ends());
    TRY(to.begin_copy(ends.start));
    TRY(put_trail(from, to, all.counters, ends.start.sequence, [&](uint64_t done) {
        if (progress) progress(done, check.entries);
    }));
    TRY(put(to, all.counters, all.hosts, &pool::Outcome::hosts));
    TRY(put(to, all.counters, all.devices, &pool::Outcome::devices));
    TRY(put(to, all.counters, all.loans, &pool::Outcome::loans));
    TRY(put(to, all.counters, all.steps, &pool::Outcome::steps));
    TRY(put(to, all.counters, all.usage, &pool::Outcome::usage));
    pool::Outcome rest;
    rest.site = all.site;
    rest.counters = all.counters;
    TRY(to.apply(rest));
    TRY(to.end_copy());
    const auto copied = TRY(to.verify_audit());
    if (copied.head != check.head)
        return fail(Errc::io,
                    "the copy's audit trail ends with {}, not with {}: something has written to one of the "
                    "two; throw the copy away and copy again",
                    hex(copied.head), hex(check.head));
    return copied;
}

} // namespace lanepool::store
