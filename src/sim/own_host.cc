// SPDX-License-Identifier: Apache-2.0
//
// A device that its own host has until it is taken, as an agent of a whole host sees to it: in front of the
// fence, which works with a device only while that is taken.
#include "sim/lent.h"

namespace lanepool::sim {

// As the agent goes by; without the protection it does not.
bool Lent::is_home() const { return device_.with_host() && !world_.without(Protection::own_host); }

agent::FenceObservation Lent::observed() const {
    auto seen = fence_->observed();
    if (is_home()) {
        seen.answering = true;
        seen.clean = false;
        seen.problem.clear();
    }
    return seen;
}

void Lent::go_to_host() {
    device_.go_to_host();
    disk_.clean = world_.without(Protection::own_host) && disk_.clean;
}

void Lent::appear(bool local) {
    device_.appear();
    go_to_host();
    if (!local) device_.leave_host(); // with what nobody knows on it
    start();
}

void Lent::vanish() {
    if (fence_) {
        fence_->absent("the function is gone");
        arm();
    }
    ++reach_;
    identified_ = reached_ = present_ = false;
    fdid_ = {};
    device_.vanish();
}

void Lent::perform_at_home(const pool::Order& order) {
    const pool::Step& step = order.step;
    if (step.epoch < home_epoch_ || step.epoch.value < disk_.epoch)
        return events_.answer(step, fail(Errc::stale_epoch, "device {} is at a later epoch", device_.name()));
    home_epoch_ = step.epoch;
    switch (step.kind) {
    case pool::StepKind::take:
        return take(step);
    case pool::StepKind::give_back:
        return give_back(step);
    default:
        return set_functions(step);
    }
}

// EFFECT then, unless this run of the agent has ended or the device has gone by then.
void Lent::answer_later(const pool::Step& step, int64_t delay_us, std::function<Result<>()> effect) {
    world_.timeline.after(delay_us, [this, run = run_, step, effect = std::move(effect)] {
        if (run != run_) return;
        auto result = effect();
        events_.answer(step, std::move(result));
    });
}

void Lent::take(const pool::Step& step) {
    const bool in_use = world_.fault(Fault::device_in_use, 60'000);
    const bool late = !in_use && world_.fault(Fault::take_late, 10'000);
    const int64_t delay_us = late ? 40'000'000 : world_.random.between(10'000, 400'000);
    answer_later(step, delay_us, [this, in_use]() -> Result<> {
        if (!device_.there()) return fail(Errc::not_found, "the function is gone");
        if (!device_.with_host()) return {};
        if (in_use) return fail(Errc::busy, "device {} is mounted", device_.name());
        if (events_.functions() > 0) return fail(Errc::busy, "device {} has functions", device_.name());
        device_.leave_host();
        ++world_.result.taken;
        // Another fence, which knows that it is not clean.
        fence_.emplace(device_.name(), disk_, static_cast<agent::FencePorts&>(*this));
        present_ = false;
        present_if_possible();
        events_.changed();
        return {};
    });
}

void Lent::give_back(const pool::Step& step) {
    const bool failing = world_.fault(Fault::give_back_failed, 20'000);
    answer_later(step, world_.random.between(10'000, 400'000), [this, failing]() -> Result<> {
        if (!device_.there()) return fail(Errc::not_found, "the function is gone");
        if (device_.with_host()) return {};
        if (failing) return fail(Errc::io, "no driver has taken device {}", device_.name());
        fence_->absent("it has been given back");
        present_ = false;
        go_to_host();
        ++world_.result.given_back;
        events_.changed();
        return {};
    });
}

void Lent::set_functions(const pool::Step& step) {
    const bool failing = world_.fault(Fault::functions_failed, 50'000);
    answer_later(step, world_.random.between(10'000, 400'000), [this, step, failing]() -> Result<> {
        if (!device_.with_host())
            return fail(Errc::failed_precondition, "device {} is not its own host's", device_.name());
        if (events_.functions() == step.functions) return {};
        events_.make_functions(failing ? 0 : step.functions);
        if (failing && step.functions > 0) return fail(Errc::io, "only some of them could be made");
        return {};
    });
}

} // namespace lanepool::sim
