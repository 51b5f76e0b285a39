// SPDX-License-Identifier: Apache-2.0
//
// Accesses of devices that the IOMMUs of their hosts have stopped. Whoever borrows a device can make as many
// as he likes, so the trail tells of few and counts the others.
#include "pool/pool.h"

#include <algorithm>
#include <limits>

namespace lanepool::pool {

namespace {
// In bytes, of what the agent says: so that what is said behind it has room in a reason.
constexpr size_t longest_fault = 180;

uint64_t sum(uint64_t a, uint64_t b) {
    return a > std::numeric_limits<uint64_t>::max() - b ? std::numeric_limits<uint64_t>::max() : a + b;
}
} // namespace

void Pool::faulted(const std::string& host, const DeviceFault& fault, Now now) {
    if (!is_name(fault.device) || fault.count == 0) return;
    const auto fdid = ledger_.device_named(host + "/" + fault.device);
    if (!fdid) return;
    const Loan* loan = ledger_.loans.find(fault.loan);
    if (loan && (loan->fdid != *fdid || loan->epoch != fault.epoch)) loan = nullptr; // not one of this device
    FaultNote note;
    if (const FaultNote* before = fault_notes_.find(*fdid)) note = *before;
    // Epochs only grow, so there are no more of these than loans.
    const bool first_of_loan = loan && note.epoch < loan->epoch;
    if (now.steady_us < note.quiet_until_steady_us && !first_of_loan) {
        note.left_out = sum(note.left_out, fault.count);
        return fault_notes_.put(*fdid, note);
    }
    begin(now, "agent:" + host);
    const uint64_t others = sum(fault.count - 1, note.left_out);
    const size_t sharers = loan ? ledger_.loans_on(*fdid).size() : 0;
    AuditEntry entry;
    entry.subject = fmt::format("device:{}", *fdid);
    entry.action = "iommu-fault";
    entry.reason = fmt::format(
        "{}{}{}", limited(fault.text, longest_fault), others > 0 ? fmt::format(", and {} more", others) : "",
        sharers > 1 ? fmt::format(" (one of the {} loans that share it)", sharers) : "");
    entry.fdid = *fdid;
    entry.loan = loan ? loan->id : LoanId{};
    entry.epoch = loan ? loan->epoch : ledger_.devices.find(*fdid)->epoch;
    audit(std::move(entry));
    if (loan) note.epoch = std::max(note.epoch, loan->epoch);
    note.quiet_until_steady_us = now.steady_us + int64_t{options_.fault_interval_ms} * 1000;
    note.left_out = 0;
    fault_notes_.put(*fdid, note);
}

} // namespace lanepool::pool
