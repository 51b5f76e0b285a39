// SPDX-License-Identifier: Apache-2.0
//
// The active half of `lanepool qualify`: on the device's own host, as an operator of the pool.
#pragma once

#include "cli/context.h"
#include "pci/types.h"
#include "qualify/report.h"
#include "qualify/trial.h"

#include <functional>
#include <optional>

namespace lanepool::cli {

struct ActiveOptions {
    std::string device; // an address of this machine, HOST/DEVICE, NAME or an fdid
    std::string agent;  // the application socket of this host's agent; empty: the default
    std::string agent_admin = "/run/lanepool/agent.sock";
    std::string store; // the agent's state folder; empty: the result is not stored
    qualify::TrialOptions trial;
};

struct Tried {
    qualify::Report report; // with what was tried
    std::string device;     // HOST/DEVICE
    bool on_bus = false;    // report.address is a place of this machine
};

// Tries the device. JUDGE makes the passive report of a function of this machine. Errors: what keeps it from
// being tried at all.
Result<Tried> try_device(const Context& context, const ActiveOptions& options,
                         const std::function<Result<qualify::Report>(const pci::Address&)>& judge);

// Stores what came of it for MODEL, and has the agent say so to the controller.
Result<> store(const ActiveOptions& options, const Tried& tried, qualify::AccessModel model);

// The report as it is printed, with the device's name in the pool.
qualify::Json to_json(const Tried& tried, qualify::AccessModel model);

} // namespace lanepool::cli
