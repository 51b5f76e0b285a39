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
#include <string>
#include <vector>

namespace lanepool::pool::testing {

struct Agent {
    struct Device {
        Epoch epoch;              // on its disk
        LoanId loan;              // in its memory
        int64_t lease_end_us = 0; // when it is fenced without being told; 0: never
        bool dirty = false;
        bool dead = false;

        void lease(const Step& step, int64_t now_us) {
            lease_end_us = step.lease_ms == 0 ? 0 : now_us + step.lease_ms * 1000;
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
    std::map<LoanId, ObservedLoan> loans;
    std::map<Fdid, Epoch> borrowed_epochs;
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
        if (devices.empty()) hello.guests = {"g"};
        for (const auto& [name, device] : devices) {
            ObservedDevice observed;
            observed.name = name;
            observed.identity.serial = host + name;
            observed.identity.kind = "nvme";
            observed.answering = !device.dead;
            observed.clean = !device.dirty;
            observed.epoch = device.epoch;
            observed.loan = device.loan;
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
                loans.erase(step.loan);
                return true;
            }
            if (fault(3)) return false;
            loans[step.loan] = {step.loan, step.fdid, step.epoch, true};
            use(step.loan);
            return true;
        }
        auto& device = devices.at(order.device);
        if (step.epoch < device.epoch) return false;
        if (step.kind == StepKind::extend) {
            if (device.loan != step.loan) return false;
            device.lease(step, now_us);
            return true;
        }
        device.epoch = step.epoch;
        if (device.dead && step.kind != StepKind::cut) return false;
        if (fault(step.kind == StepKind::reset ? 5 : 1)) return false;
        if (step.kind == StepKind::prepare) {
            EXPECT_TRUE(device.loan == step.loan || !device.dirty) << "lent without a verified sanitize";
            device.loan = step.loan;
            device.lease(step, now_us);
        }
        if (step.kind == StepKind::reset && step.suffices) {
            EXPECT_FALSE(device.loan) << "called clean under its user";
            device.dirty = false;
        }
        if (step.kind == StepKind::cut) device.loan = {};
        if (step.kind == StepKind::sanitize) {
            EXPECT_FALSE(device.loan) << "wiped under its user";
            device.dirty = false;
        }
        return true;
    }

    // What it had in its memory is gone.
    void crash() {
        ++instance;
        for (auto& [name, device] : devices)
            device.loan = {};
        loans.clear();
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
