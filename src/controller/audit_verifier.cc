// SPDX-License-Identifier: Apache-2.0
#include "controller/audit_verifier.h"

#include <algorithm>

namespace lanepool::controller {

namespace {
// Less than a millisecond of work.
constexpr uint32_t entries_at_a_time = 512;
constexpr int most_beginnings = 8;
} // namespace

void AuditVerifier::stop(const Error& why) {
    *alive_ = false;
    alive_ = std::make_shared<bool>(true);
    auto asked = std::exchange(asked_, {});
    for (Answer& answer : std::exchange(waiting_, {}))
        asked.push_back(std::move(answer));
    for (const Answer& answer : asked)
        answer(tl::unexpected<Error>(why));
}

void AuditVerifier::post(void (AuditVerifier::*what)()) {
    loop_.post([this, alive = alive_, what] {
        if (*alive) (this->*what)();
    });
}

void AuditVerifier::ask(Answer answer) {
    waiting_.push_back(std::move(answer));
    if (asked_.empty()) post(&AuditVerifier::begin);
}

void AuditVerifier::begin() {
    if (!asked_.empty() || waiting_.empty()) return; // it has begun already
    asked_ = std::exchange(waiting_, {});
    check_.reset();
    beginnings_ = 0;
    next();
}

void AuditVerifier::next() {
    const auto result = piece();
    if (!result) return post(&AuditVerifier::next);
    for (const Answer& answer : std::exchange(asked_, {}))
        answer(*result);
    if (!waiting_.empty()) post(&AuditVerifier::begin);
}

std::optional<Result<store::AuditCheck>> AuditVerifier::piece() {
    const auto failed = [](const Error& error) { return Result<store::AuditCheck>(tl::unexpected(error)); };
    if (!check_) {
        if (++beginnings_ > most_beginnings)
            return failed(Error(Errc::busy,
                                "the oldest entries of the audit trail are forgotten faster than they can "
                                "be verified; try again, or verify a copy"));
        const auto ends = store_.audit_ends();
        if (!ends) return failed(ends.error());
        ends_ = *ends;
        check_.emplace(ends_.start);
    }
    const uint64_t last = check_->last_sequence();
    if (last >= ends_.head.sequence) return end();
    const uint64_t left = ends_.head.sequence - last;
    const auto entries =
        store_.audit_chain(last, static_cast<uint32_t>(std::min<uint64_t>(left, entries_at_a_time)));
    if (!entries) return failed(entries.error());
    if (entries->empty() || entries->front().entry.sequence != last + 1) {
        const auto forgotten = has_been_forgotten();
        if (!forgotten) return failed(forgotten.error());
        if (*forgotten) return std::nullopt;
        if (entries->empty()) return check_->finish(ends_);
    }
    if (const auto fits = check_->add(*entries); !fits) return failed(fits.error());
    return std::nullopt;
}

std::optional<Result<store::AuditCheck>> AuditVerifier::end() {
    // Nothing may lie behind the end; what has been added meanwhile does.
    const auto now = store_.audit_ends();
    if (!now) return Result<store::AuditCheck>(tl::unexpected(now.error()));
    if (now->head == ends_.head) {
        const auto more = store_.audit_chain(check_->last_sequence(), 1);
        if (!more) return Result<store::AuditCheck>(tl::unexpected(more.error()));
        if (const auto fits = check_->add(*more); !fits)
            return Result<store::AuditCheck>(tl::unexpected(fits.error()));
    }
    return check_->finish(ends_);
}

Result<bool> AuditVerifier::has_been_forgotten() {
    const auto now = TRY(store_.audit_ends());
    if (now.start.sequence <= check_->last_sequence()) return false;
    check_.reset();
    return true;
}

} // namespace lanepool::controller
