// SPDX-License-Identifier: Apache-2.0
#include "sim/device.h"

#include "sim/checker.h"

namespace lanepool::sim {

namespace {
// As smartio::LenderOptions sets them.
constexpr int64_t step_limit_us = 10'000'000;
constexpr int64_t cut_limit_us = 5'000'000;
} // namespace

void SimDevice::run(int64_t duration_us, int64_t limit_us, std::function<Result<>(bool)> effect, Done done) {
    const int64_t now = world_.timeline.now_us();
    const int64_t begin = std::max({now, busy_until_us_, silent_until_us_});
    const int64_t end = begin + duration_us;
    busy_until_us_ = end;
    const bool in_time = end <= now + limit_us;
    const uint64_t owner = owner_;
    if (!in_time)
        world_.timeline.at(now + limit_us, [this, owner, done] {
            if (owner == owner_) done(fail(Errc::timeout, "the device did not answer in time"));
        });
    world_.timeline.at(end, [this, owner, in_time, effect = std::move(effect), done = std::move(done)] {
        if (owner != owner_) return;
        auto result = effect(in_time);
        if (in_time) done(std::move(result));
    });
}

void SimDevice::open(const agent::Opening& opening, Done done) {
    const uint64_t number = ++opening_;
    run(
        world_.random.between(500, 5000), step_limit_us,
        [this, opening, number](bool in_time) -> Result<> {
            // One that was given up, or overtaken by a close, is undone at once.
            if (!in_time || number != opening_) return fail(Errc::cancelled, "overtaken");
            checker_.before_open(*this, opening);
            windows_.push_back({opening, world_.timeline.now_us()});
            opened_at(opening.epoch);
            return {};
        },
        std::move(done));
}

// The way through the adapter is closed whatever the device does.
void SimDevice::close(Done done) {
    ++opening_;
    close_ways(
        [this] {
            if (!world_.without(Protection::fencing)) windows_.clear();
        },
        true, std::move(done));
}

void SimDevice::expel(pool::LoanId loan, Done done) {
    const bool works = !world_.fault(Fault::expel_failed, 20'000);
    close_ways(
        [this, loan, works] {
            if (!works || world_.without(Protection::expulsion)) return;
            std::erase_if(windows_, [&](const Window& window) { return window.opening.loan == loan; });
        },
        works, std::move(done));
}

void SimDevice::close_ways(std::function<void()> effect, bool works, Done done) {
    const int64_t now = world_.timeline.now_us();
    const uint64_t owner = owner_;
    const int64_t duration = world_.random.between(200, 2000);
    world_.timeline.at(now + duration, [this, owner, effect = std::move(effect)] {
        if (owner == owner_) effect();
    });
    const bool answers = silent_until_us_ < now + cut_limit_us;
    const int64_t end = answers ? std::max(now, silent_until_us_) + duration : now + cut_limit_us;
    world_.timeline.at(end, [this, owner, answers, works, done = std::move(done)] {
        if (owner != owner_) return;
        if (!answers) return done(fail(Errc::timeout, "the device did not answer in time"));
        if (!works) return done(fail(Errc::io, "a window could not be closed"));
        done({});
    });
}

void SimDevice::reset_physically() {
    checker_.before_reset(*this);
    state_of_ = {};
}

void SimDevice::reset(Done done) {
    const bool slow = world_.fault(Fault::reset_slow, 2000);
    const bool failing = world_.fault(Fault::reset_failed, 2000);
    const bool lying = !failing && world_.fault(Fault::reset_lied, 5000);
    run(
        slow ? world_.random.between(1'000'000, 40'000'000) : world_.random.between(20'000, 200'000),
        step_limit_us,
        [this, failing, lying](bool) -> Result<> {
            if (failing) return fail(Errc::io, "the device did not come back from its reset");
            if (!lying) reset_physically();
            if (state_of_ && !world_.without(Protection::reset_verification))
                return fail(Errc::io, "after its reset the device still has the state of its last user");
            return {};
        },
        std::move(done));
}

void SimDevice::sanitize(int64_t limit_us, Done done) {
    const bool lying = world_.fault(Fault::sanitize_lied, 5000);
    run(
        world_.random.between(50'000, 400'000), limit_us + step_limit_us,
        [this, lying](bool) -> Result<> {
            if (!lying) {
                checker_.before_reset(*this);
                data_of_ = {};
            }
            if (data_of_ && !world_.without(Protection::reset_verification))
                return fail(Errc::io, "after its sanitize the device still has the data of its last user");
            reset_physically();
            return {};
        },
        std::move(done));
}

void SimDevice::forget_operations() {
    ++owner_;
    ++opening_;
    busy_until_us_ = std::min(busy_until_us_, world_.timeline.now_us());
}

void SimDevice::lose_power() {
    forget_operations();
    windows_.clear();
    state_of_ = {};
}

void SimDevice::go_to_host() {
    checker_.before_home(*this);
    forget_operations();
    windows_.clear();
    state_of_ = data_of_ = of_its_host;
    with_host_ = true;
}

void SimDevice::vanish() {
    forget_operations();
    windows_.clear();
    state_of_ = data_of_ = {};
    there_ = with_host_ = false;
}

void SimDevice::close_all() {
    ++opening_;
    windows_.clear();
}

bool SimDevice::use(const agent::Opening& by) {
    for (const Window& window : windows_) {
        if (window.opening.loan != by.loan || window.opening.epoch != by.epoch ||
            window.opening.borrower_partition != by.borrower_partition)
            continue;
        if (silent()) return false;
        state_of_ = data_of_ = by.loan;
        return true;
    }
    return false;
}

} // namespace lanepool::sim
