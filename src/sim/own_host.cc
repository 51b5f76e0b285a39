// SPDX-License-Identifier: Apache-2.0
//
// A device that its own host can use, too: what src/agent/lent_host.cc is in a real agent.
#include "sim/lent.h"

namespace lanepool::sim {

// As the agent goes by; without the protection it does not.
bool Lent::is_home() const { return device_.with_host() && !world_.without(Protection::own_host); }

agent::HostPorts* Lent::host_ports() {
    const bool knows = device_.hosted() && !world_.without(Protection::own_host);
    return knows ? static_cast<agent::HostPorts*>(this) : nullptr;
}

void Lent::appear(bool local) {
    device_.appear();
    device_.go_to_host();
    if (!local) device_.leave_host(); // with what nobody knows on it
    disk_.clean = false;              // the agent keeps no such promise of what was called so before
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

// EFFECT after a while, unless the device or this run of its agent has gone by then.
void Lent::ask_host(uint64_t operation, int64_t limit_us, int64_t delay_us,
                    std::function<Result<>()> effect) {
    const auto late = std::make_shared<bool>(false);
    world_.timeline.after(limit_us, [this, run = run_, operation, late, ends = delay_us] {
        if (run != run_ || *late) return;
        *late = true;
        fence_->finished(operation, fail(Errc::timeout, "its host took {} us", ends),
                         world_.timeline.now_us());
        arm();
    });
    world_.timeline.after(delay_us, [this, run = run_, operation, late, effect = std::move(effect)] {
        if (run != run_ || *late) return; // what comes too late is undone, or is not begun
        *late = true;
        auto result = effect();
        const bool lost = !result && !device_.with_host();
        fence_->finished(operation, std::move(result), world_.timeline.now_us());
        arm();
        if (lost) { // nobody knows whose it is
            present_ = reached_ = false;
            device_came();
        }
        events_.changed();
    });
}

void Lent::take(uint64_t operation, int64_t limit_us) {
    const bool in_use = world_.fault(Fault::device_in_use, 60'000);
    const bool late = !in_use && world_.fault(Fault::take_late, 10'000);
    const int64_t delay_us = late ? 40'000'000 : world_.random.between(10'000, 400'000);
    ask_host(operation, limit_us, delay_us, [this, in_use]() -> Result<> {
        if (in_use) return fail(Errc::busy, "device {} is mounted", device_.name());
        if (events_.functions() > 0) return fail(Errc::busy, "device {} has functions", device_.name());
        device_.leave_host();
        present_ = true;
        ++world_.result.taken;
        return {};
    });
}

void Lent::give_back(uint64_t operation, int64_t limit_us) {
    const bool failing = world_.fault(Fault::give_back_failed, 20'000);
    ask_host(operation, limit_us, world_.random.between(10'000, 400'000), [this, failing]() -> Result<> {
        if (failing) return fail(Errc::io, "no driver has taken device {}", device_.name());
        device_.go_to_host();
        present_ = false;
        ++world_.result.given_back;
        return {};
    });
}

void Lent::set_functions(uint64_t operation, uint32_t functions, int64_t limit_us) {
    const bool failing = world_.fault(Fault::functions_failed, 50'000);
    const int64_t delay_us = world_.random.between(10'000, 400'000);
    ask_host(operation, limit_us, delay_us, [this, functions, failing]() -> Result<> {
        if (events_.functions() == functions) return {};
        TRY(events_.make_functions(failing ? 0 : functions));
        if (failing && functions > 0) return fail(Errc::io, "only some of them could be made");
        return {};
    });
}

} // namespace lanepool::sim
