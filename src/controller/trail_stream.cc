// SPDX-License-Identifier: Apache-2.0
#include "controller/trail_stream.h"

#include "api/convert.h"
#include "api/status.h"

#include <algorithm>
#include <charconv>

namespace lanepool::controller {

namespace {
constexpr uint32_t batch = 256;

// FILTER, narrowed down to SUBJECT.
Result<store::AuditFilter> filter_for(const pool::Pool& pool, store::AuditFilter filter,
                                      const std::string& subject) {
    if (subject.empty()) return filter;
    if (const auto fdid = pool.find_device(subject)) {
        filter.fdid = *fdid;
    } else if (subject.starts_with("loan:")) {
        uint64_t id = 0;
        const char* end = subject.data() + subject.size();
        // Also of a loan whose record is not kept any more.
        if (const auto parsed = std::from_chars(subject.data() + 5, end, id);
            parsed.ec != std::errc() || parsed.ptr != end)
            return fail(Errc::invalid_argument, "'{}' is no loan; write loan:N", pool::limited(subject, 64));
        filter.loan = pool::LoanId{id};
    } else if (pool.ledger().hosts.find(subject)) {
        filter.host = subject;
    } else {
        return fail(Errc::not_found,
                    "there is no device, loan or host '{}'; `lanepool ls` and `lanepool hosts` show those "
                    "that are there",
                    pool::limited(subject, 64));
    }
    return filter;
}
} // namespace

void TrailStream::begin() {
    if (const auto found = find_start(); !found) return close(api::to_status(found.error()));
    if (wish_.follow) core().follow(*this);
    pump();
}

Result<> TrailStream::find_start() {
    filter_ = TRY(filter_for(core().pool(), wish_.filter, wish_.subject));
    after_ = wish_.after_sequence;
    until_ = core().pool().ledger().counters.next_audit - 1;
    if (wish_.last > 0) after_ = std::max(after_, TRY(core().store().audit_before_last(filter_, wish_.last)));
    return {};
}

void TrailStream::pump() {
    if (!ready()) return;
    if (!wish_.follow && after_ >= until_) return close(grpc::Status::OK);
    const auto entries = core().store().audit(filter_, after_, batch);
    if (!entries) return close(api::to_status(entries.error()));
    if (entries->empty()) {
        if (!wish_.follow) close(grpc::Status::OK);
        return;
    }
    after_ = entries->back().sequence;
    std::deque<v1::AuditEntry> visible;
    for (const auto& entry : *entries)
        if (may_see(entry)) visible.push_back(api::to_message(entry));
    // Whoever may see little of a long trail does not hold up everybody else meanwhile.
    if (visible.empty()) return pump_later();
    send_all(std::move(visible));
}

// What happens to loans is their tenant's affair, and operators'; the rest is everybody's.
bool TrailStream::may_see(const pool::AuditEntry& entry) const {
    if (!entry.loan) return true;
    const pool::Who who = core().pool().who(wish_.caller);
    if (who.may_act_as(pool::Role::operator_)) return true;
    const pool::Loan* loan = core().pool().ledger().loans.find(entry.loan);
    return loan && loan->tenant == who.tenant;
}

void TrailStream::forget() { core().unfollow(*this); }

} // namespace lanepool::controller
