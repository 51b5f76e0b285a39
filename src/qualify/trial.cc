// SPDX-License-Identifier: Apache-2.0
#include "qualify/trial.h"

#include "qualify/drive_trial.h"

#include <algorithm>
#include <fmt/format.h>

namespace lanepool::qualify {

namespace {

double seconds(io::Duration duration) { return std::chrono::duration<double>(duration).count(); }

Check found(Outcome result, std::string reason, std::string evidence = {}) {
    return {"", result, std::move(reason), std::move(evidence), ""};
}

Check no_load() { return found(Outcome::not_tested, "no load is known for this class of devices"); }

// "5 times, median 0.41 s, longest 0.52 s"
std::string figures(std::vector<io::Duration> times) {
    std::ranges::sort(times);
    return fmt::format("{} times, median {:.2f} s, longest {:.2f} s", times.size(),
                       seconds(times[times.size() / 2]), seconds(times.back()));
}

std::string described(const TrialState& state) {
    return state.reason.empty() ? state.state : fmt::format("{}: {}", state.state, state.reason);
}

} // namespace

Result<std::vector<Check>> Trial::run() {
    const auto state = TRY(bench_.look());
    if (state.state != "available" && state.state != "local")
        return fail(
            Errc::failed_precondition,
            "the device is {}; it is tried while it is available or local: return or restore it first",
            described(state));
    was_local_ = state.state == "local";
    if (was_local_ && bench_.has_host()) driver_ = TRY(bench_.host_driver());

    check("assign_release",
          "the pool's audit trail (lanepool audit) and the agent's log say which step fails",
          [&] { return assign_release(); });
    check("pool_reset", "look at the device's reset methods in 'lanepool inventory', and at the agent's log",
          [&] { return reset(); });
    check("rebind", "look into the kernel's log of this host for what the driver says",
          [&] { return rebind(); });
    check("load", "do not lend it: data are lost on the way or on the drive. Check the link and its errors",
          [&] { return load(); });
    check("isolation", "do not lend it: switch the IOMMU on, and look at ACS in 'lanepool inventory'",
          [&] { return isolation(); });
    check("recovery", "look at the agent's log; a device that is not wiped must not be lent again",
          [&] { return recovery(); });

    const auto left = leave_as_found();
    if (bench_.cancelled())
        return fail(Errc::cancelled, "given up; the device is {}",
                    left ? "as it was found" : "not as it was found: " + left.error().message());
    Check last =
        left ? found(Outcome::pass, was_local_ ? "it is its own host's again" : "it is available again")
             : found(Outcome::fail, left.error().message());
    last.id = "left_as_found";
    if (!left)
        last.remedy = "'lanepool show' says how it stands; 'lanepool restore' or 'local' brings it back";
    checks_.push_back(std::move(last));
    return std::move(checks_);
}

void Trial::check(const char* id, const char* remedy, const std::function<Finding()>& find) {
    if (bench_.cancelled()) return;
    bench_.progress(id);
    Check result;
    if (const auto ready = make_available(); !ready) {
        // The first one has to show that it can be made so.
        result = checks_.empty() ? found(Outcome::fail, ready.error().message())
                                 : found(Outcome::not_tested, "the device could not be made available: " +
                                                                  ready.error().message());
    } else if (auto finding = find(); finding) {
        result = std::move(*finding);
    } else {
        result = found(Outcome::fail, finding.error().message());
    }
    result.id = id;
    if (result.result == Outcome::fail || result.result == Outcome::limits) result.remedy = remedy;
    checks_.push_back(std::move(result));
}

// ---- the checks

Trial::Finding Trial::assign_release() {
    std::vector<io::Duration> times;
    for (unsigned i = 0; i < options_.cycles; ++i) {
        bench_.progress(fmt::format("assign_release: {} of {}", i + 1, options_.cycles));
        TRY(check_cancelled());
        const auto start = clock_.now();
        TRY(make_available());
        auto loan = TRY(bench_.borrow());
        TRY(loan->give_back());
        TRY(make_available());
        times.push_back(clock_.now() - start);
    }
    return found(Outcome::pass, "it was borrowed and returned", figures(std::move(times)));
}

Trial::Finding Trial::reset() {
    const auto start = clock_.now();
    TRY(bench_.reset());
    const auto state = TRY(bench_.look());
    if (state.state != "available") return found(Outcome::fail, "after the reset it is " + described(state));
    return found(Outcome::pass, "it was reset, verified and erased", seconds_since(start));
}

Trial::Finding Trial::rebind() {
    if (!bench_.has_host())
        return found(Outcome::skipped, "its host has no driver for it: it sits on none of its host's buses");
    std::vector<io::Duration> times;
    for (unsigned i = 0; i < options_.cycles; ++i) {
        bench_.progress(fmt::format("rebind: {} of {}", i + 1, options_.cycles));
        TRY(check_cancelled());
        const auto start = clock_.now();
        TRY(bench_.leave_local());
        const auto driver = TRY(bench_.host_driver());
        if (i == 0 && !was_local_) driver_ = driver;
        if (driver != driver_)
            return found(Outcome::fail, fmt::format("given back to its host it has {}, where it had {}",
                                                    driver.empty() ? "no driver" : "the driver " + driver,
                                                    driver_.empty() ? "none" : driver_));
        TRY(bench_.restore());
        times.push_back(clock_.now() - start);
    }
    return found(Outcome::pass,
                 driver_.empty() ? "it went back to its host, which has no driver for it, and was taken again"
                                 : "it went back to its driver " + driver_ + ", and was taken again",
                 figures(std::move(times)));
}

Trial::Finding Trial::load() {
    if (!bench_.is_drive()) return no_load();
    const auto loan = TRY(bench_.borrow());
    auto* drive = TRY(loan->drive());
    const auto start = clock_.now();
    auto result = TRY(try_load(*drive, options_.load_bytes, options_.seed, [&](const std::string& doing) {
        bench_.progress("load: " + doing);
        return check_cancelled();
    }));
    result.evidence += ", " + seconds_since(start);
    return result;
}

Trial::Finding Trial::isolation() {
    if (!bench_.is_drive())
        return found(Outcome::not_tested,
                     "no command is known for this class of devices that names an address of its own");
    if (!options_.isolated)
        return found(Outcome::fail, "nothing keeps the device from memory that is not mapped for it, so "
                                    "nothing was tried: it could have overwritten this machine's");
    const auto loan = TRY(bench_.borrow());
    return try_isolation(*TRY(loan->drive()), options_.seed);
}

Trial::Finding Trial::recovery() {
    const uint64_t seed = options_.seed + 1;
    bench_.progress("recovery: a borrower at work");
    auto borrower = TRY(bench_.start_borrower(seed));
    const uint64_t blocks = borrower->blocks();
    const auto start = clock_.now();
    TRY(borrower->kill());
    borrower.reset();
    bench_.progress("recovery: after the borrower's end");
    TRY(make_available());
    return erased(blocks, seed, "available after " + seconds_since(start));
}

Trial::Finding Trial::erased(uint64_t blocks, uint64_t seed, std::string evidence) {
    if (!bench_.is_drive())
        return found(Outcome::pass, "its borrower was killed, and it is available again",
                     std::move(evidence));
    const auto loan = TRY(bench_.borrow());
    auto result = TRY(try_erased(*TRY(loan->drive()), blocks, seed));
    result.reason = "its borrower was killed at work, and it is available again: " + result.reason;
    result.evidence = std::move(evidence);
    return result;
}

// ---- between them

Result<> Trial::check_cancelled() const {
    if (bench_.cancelled()) return fail(Errc::cancelled, "given up");
    return {};
}

// Once it was waited for in vain, checks that are left do not wait as long again.
Result<> Trial::make_available() {
    auto result = wait_available(clock_.now() + (overdue_ ? io::Duration(0) : options_.recovery_limit));
    overdue_ = !result && result.error().code() == Errc::timeout;
    return result;
}

Result<> Trial::wait_available(io::TimePoint deadline) {
    bool restored = false;
    while (true) {
        const auto state = TRY(bench_.look());
        if (state.state == "available") return {};
        if (state.state == "local" && !std::exchange(restored, true)) {
            TRY(bench_.restore());
            continue;
        }
        if (state.state == "quarantined" || state.state == "offline" || state.state == "local")
            return fail(Errc::failed_precondition, "the device is {}", described(state));
        if (clock_.now() >= deadline)
            return fail(Errc::timeout, "the device is still {} after {:.0f} s", described(state),
                        seconds(options_.recovery_limit));
        bench_.pause();
    }
}

Result<> Trial::leave_as_found() {
    bench_.progress("leaving it as it was found");
    overdue_ = false;
    const auto state = TRY(bench_.look());
    if (was_local_ && state.state == "local") return {};
    TRY(make_available());
    if (!was_local_) return {};
    TRY(bench_.leave_local());
    if (!bench_.has_host()) return {};
    if (const auto driver = TRY(bench_.host_driver()); driver != driver_)
        return fail(Errc::failed_precondition, "its host's driver for it was '{}' and is '{}'", driver_,
                    driver);
    return {};
}

std::string Trial::seconds_since(io::TimePoint start) const {
    return fmt::format("{:.2f} s", seconds(clock_.now() - start));
}

} // namespace lanepool::qualify
