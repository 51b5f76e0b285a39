// SPDX-License-Identifier: Apache-2.0
#include "sim/report.h"

#include <fmt/format.h>

namespace lanepool::sim {

namespace {
constexpr size_t failures_kept = 100;
} // namespace

void Report::add(const SeedResult& result) {
    ++seeds_;
    total_.loans += result.loans;
    total_.active += result.active;
    total_.joined += result.joined;
    total_.taken += result.taken;
    total_.given_back += result.given_back;
    total_.functions_lent += result.functions_lent;
    total_.kernels_lent += result.kernels_lent;
    total_.stayed += result.stayed;
    total_.requests += result.requests;
    total_.events += result.events;
    total_.checks += result.checks;
    total_.transactions += result.transactions;
    total_.audit_entries += result.audit_entries;
    total_.quarantines += result.quarantines;
    total_.elections += result.elections;
    total_.simulated_us += result.simulated_us;
    for (size_t i = 0; i < fault_count; ++i)
        total_.faults[i] += result.faults[i];
    if (result.failure.empty()) return;
    ++failed_;
    if (failures_.size() < failures_kept) failures_.push_back(result);
}

std::string Report::reproduce(uint64_t seed) const {
    std::string command = fmt::format("lanepool sim --seeds 1 --seed {} --hosts {} --loans {}", seed,
                                      options_.hosts, options_.loans);
    if (options_.controllers != 1) command += fmt::format(" --controllers {}", options_.controllers);
    if (options_.whole_hosts) command += " --whole-hosts";
    if (options_.without) command += fmt::format(" --without {}", name(*options_.without));
    return command;
}

nlohmann::json Report::json(double seconds) const {
    nlohmann::json faults = nlohmann::json::object();
    uint64_t injected = 0;
    for (size_t i = 0; i < fault_count; ++i) {
        faults[std::string(name(static_cast<Fault>(i)))] = total_.faults[i];
        injected += total_.faults[i];
    }
    nlohmann::json failures = nlohmann::json::array();
    for (const SeedResult& each : failures_)
        failures.push_back({{"seed", each.seed},
                            {"failure", each.failure},
                            {"loans_before", each.loans},
                            {"reproduce", reproduce(each.seed)}});
    return {{"seeds", seeds_},
            {"failed", failed_},
            {"hosts", options_.hosts},
            {"without", options_.without ? nlohmann::json(std::string(name(*options_.without))) : nullptr},
            {"loans", total_.loans},
            {"loans_active", total_.active},
            {"openings_beside_others", total_.joined},
            {"loans_of_own_kernels", total_.kernels_lent},
            {"returns_refused", total_.stayed},
            {"requests", total_.requests},
            {"events", total_.events},
            {"transactions", total_.transactions},
            {"audit_entries", total_.audit_entries},
            {"quarantines", total_.quarantines},
            {"controllers", options_.controllers},
            {"elections", total_.elections},
            {"invariants_checked", total_.checks},
            {"faults_injected", injected},
            {"faults", faults},
            {"simulated_seconds", static_cast<double>(total_.simulated_us) / 1e6},
            {"seconds", seconds},
            {"loans_per_second", seconds > 0 ? static_cast<double>(total_.loans) / seconds : 0.0},
            {"failures", failures}};
}

} // namespace lanepool::sim
