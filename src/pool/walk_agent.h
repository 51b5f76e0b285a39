// SPDX-License-Identifier: Apache-2.0
//
// For the random walk: an agent with its devices, as far as the controller can tell it from a real one.
#pragma once

#include "pool/input.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace lanepool::pool::testing {

struct Agent {
    struct Device {
        Epoch epoch; // on its disk
        // In its memory: who has a way to it, and when he is fenced without being told; 0: never. SHARED: all
        // of them are. EXPELLED: at this epoch.
        std::map<LoanId, int64_t> open;
        bool shared = false;
        std::set<LoanId> expelled;
        bool dirty = false;
        bool dead = false;
        // Its own host had it first, and has it again after each start. IN_USE there: it cannot be taken.
        // OF_HOST: what is on it is its host's, and nobody is let in to that.
        bool hosted = false;
        bool local = false;
        bool in_use = false;
        bool of_host = false;
        std::string parent;
        uint32_t functions = 0;
        uint32_t most_functions = 0;

        void become_local() {
            if (!hosted) return;
            close_all();
            local = of_host = dirty = true;
        }
        void wipe() { dirty = of_host = false; }

        void lease(const Step& step, int64_t now_us) {
            open[step.loan] = step.lease_ms == 0 ? 0 : now_us + step.lease_ms * 1000;
        }
        void close_all() {
            open.clear();
            expelled.clear();
        }
        bool lets_in(const Order& order) const {
            const Step& step = order.step;
            if (step.epoch > epoch) return open.empty();
            return !expelled.contains(step.loan) &&
                   (open.contains(step.loan) || (!open.empty() && shared && order.shared));
        }
    };
    // Whether something goes wrong that does so often.
    using Fault = std::function<bool(uint32_t often)>;
    std::string host;
    uint32_t partition = 0;
    int instance = 1;
    bool connected = false;
    int64_t away_since_us = 0;
    std::map<std::string, Device> devices;
    std::map<std::string, Epoch> function_epochs; // on its disk, also of those that are gone
    std::map<LoanId, ObservedLoan> loans;
    std::map<Fdid, Epoch> borrowed_epochs;
    std::set<LoanId> gone;          // that it has let go
    std::set<LoanId> mounted;       // that somebody uses there: they stay where somebody asks
    std::vector<DmaMode> dma_modes; // in which its own kernel borrows
    bool has_guest = false;
    std::deque<Order> inbox;        // of this connection
    std::deque<StepAnswer> answers; // of this connection, on their way
    std::vector<Order> old_orders;  // may still arrive: fencing has to cope
    std::vector<StepAnswer> old_answers;

    // What it says of itself.
    Hello hello() const {
        Hello hello;
        hello.host = host;
        hello.partition = partition;
        hello.instance = std::to_string(instance);
        if (has_guest) hello.guests = {"g"};
        hello.dma_modes = dma_modes;
        for (const auto& [name, device] : devices) {
            ObservedDevice observed;
            observed.name = name;
            observed.identity.serial = host + name;
            observed.identity.kind = "nvme";
            observed.answering = !device.dead;
            observed.clean = !device.dirty;
            observed.epoch = device.epoch;
            observed.local = device.local;
            observed.parent = device.parent;
            observed.functions = device.functions;
            observed.most_functions = device.most_functions;
            for (const auto& [loan, lease_end_us] : device.open) {
                if (observed.loan)
                    observed.joined.push_back(loan);
                else
                    observed.loan = loan;
            }
            hello.devices.push_back(observed);
        }
        for (const auto& [id, loan] : loans)
            hello.loans.push_back(loan);
        return hello;
    }

    // Does what it is asked for, and says whether that went well. USE: a guest has a way to this loan's
    // device.
    bool perform(const Order& order, int64_t now_us, const Fault& fault,
                 const std::function<void(LoanId)>& use) {
        const Step& step = order.step;
        if (step.kind == StepKind::attach || step.kind == StepKind::detach) {
            auto& highest = borrowed_epochs[step.fdid];
            if (step.epoch < highest) return false;
            highest = step.epoch;
            if (step.kind == StepKind::detach) {
                if (stays(step)) return false;
                loans.erase(step.loan);
                mounted.erase(step.loan);
                gone.insert(step.loan);
                return true;
            }
            if (fault(3) || gone.contains(step.loan)) return false;
            loans[step.loan] = {step.loan, step.fdid, step.epoch, true};
            use(step.loan);
            return true;
        }
        const auto found = devices.find(order.device);
        if (found == devices.end()) return false; // a function that is gone
        auto& device = found->second;
        if (step.epoch < device.epoch) return false;
        if (step.kind == StepKind::take || step.kind == StepKind::give_back ||
            step.kind == StepKind::set_functions)
            return perform_at_home(device, order, fault);
        if (device.local) return step.kind == StepKind::cut;
        if (step.kind == StepKind::extend) {
            if (!device.open.contains(step.loan)) return false;
            device.lease(step, now_us);
            return true;
        }
        if (step.kind == StepKind::expel) {
            if (fault(15)) return false;
            device.open.erase(step.loan);
            device.expelled.insert(step.loan);
            return true;
        }
        if (step.kind == StepKind::prepare && !device.lets_in(order)) return false;
        if (step.epoch > device.epoch) device.expelled.clear();
        device.epoch = step.epoch;
        if (device.dead && step.kind != StepKind::cut) return false;
        if (fault(step.kind == StepKind::reset ? 5 : 1)) return false;
        if (step.kind == StepKind::prepare && device.of_host) return false;
        if (step.kind == StepKind::prepare) {
            EXPECT_TRUE(!device.open.empty() || !device.dirty) << "lent without a verified sanitize";
            device.lease(step, now_us);
            device.shared = order.shared;
        }
        if (step.kind == StepKind::reset && step.suffices) {
            EXPECT_TRUE(device.open.empty()) << "called clean under its user";
            device.wipe();
        }
        if (step.kind == StepKind::cut) device.close_all();
        if (step.kind == StepKind::sanitize) {
            EXPECT_TRUE(device.open.empty()) << "wiped under its user";
            device.wipe();
        }
        return true;
    }

    bool stays(const Step& step) const {
        return step.kind == StepKind::detach && step.ask && mounted.contains(step.loan) &&
               loans.contains(step.loan);
    }

    // Steps of a device that its own host has, or has had.
    bool perform_at_home(Device& device, const Order& order, const Fault& fault) {
        const Step& step = order.step;
        device.epoch = step.epoch;
        if (device.dead || fault(10)) return false;
        if (step.kind == StepKind::take) {
            if (device.local && (device.in_use || device.functions > 0)) return false;
            device.local = false;
            return true;
        }
        if (step.kind == StepKind::give_back) {
            EXPECT_TRUE(device.open.empty()) << "given back under its user";
            EXPECT_TRUE(!device.dirty || device.of_host) << "given back with what a loan has left on it";
            device.become_local();
            return true;
        }
        if (!device.local) return false;
        make_functions(order.device, step.functions, fault(30));
        return true;
    }

    // Those that were there are gone. LOCAL: the new ones are the host's, until they are taken.
    void make_functions(const std::string& name, uint32_t count, bool local) {
        for (const auto& [other, device] : devices)
            if (device.parent == name) function_epochs[other] = device.epoch;
        std::erase_if(devices, [&](const auto& one) { return one.second.parent == name; });
        devices.at(name).functions = count;
        for (uint32_t i = 0; i < count; ++i) {
            const std::string function = name + ".vf" + std::to_string(i);
            Device& made = devices[function];
            made.parent = name;
            made.hosted = true;
            made.epoch = function_epochs[function];
            made.local = local;
            made.dirty = made.of_host = true;
        }
    }

    // The host starts anew, and has all that is its own; its drivers make no functions.
    void reboot() {
        crash();
        std::vector<std::string> parents;
        for (auto& [name, device] : devices) {
            device.become_local();
            if (device.functions > 0) parents.push_back(name);
        }
        for (const auto& name : parents)
            make_functions(name, 0, false);
    }

    // What it had in its memory is gone.
    void crash() {
        ++instance;
        for (auto& [name, device] : devices)
            device.close_all();
        loans.clear();
        gone.clear();
        mounted.clear();
        borrowed_epochs.clear();
        old_orders.clear(); // nobody is left who could take them
    }
    void drop(int64_t now_us) {
        connected = false;
        away_since_us = now_us;
        // What was on its way may still come, to the wrong connection or much too late.
        std::copy(inbox.begin(), inbox.end(), std::back_inserter(old_orders));
        std::copy(answers.begin(), answers.end(), std::back_inserter(old_answers));
        inbox.clear();
        answers.clear();
    }
};

} // namespace lanepool::pool::testing
