// SPDX-License-Identifier: Apache-2.0
#include "sim/options.h"

namespace lanepool::sim {

std::string_view name(Protection protection) {
    constexpr std::array<std::string_view, protections.size()> names = {
        "fencing",   "epoch-check", "reset-verification", "write-ordering", "store-fencing",
        "expulsion", "own-host"};
    return names.at(static_cast<size_t>(protection));
}

std::optional<Protection> protection(std::string_view text) {
    for (const Protection each : protections)
        if (name(each) == text) return each;
    return std::nullopt;
}

std::string_view name(Fault fault) {
    constexpr std::array<std::string_view, fault_count> names = {"message-lost",
                                                                 "message-doubled",
                                                                 "message-overtaken",
                                                                 "message-late",
                                                                 "connection-broken",
                                                                 "partition",
                                                                 "agent-crash",
                                                                 "power-loss",
                                                                 "controller-crash",
                                                                 "controller-disk-full",
                                                                 "agent-disk-full",
                                                                 "unsynced-write-lost",
                                                                 "reset-slow",
                                                                 "reset-failed",
                                                                 "reset-lied",
                                                                 "sanitize-lied",
                                                                 "device-silent",
                                                                 "guest-died",
                                                                 "guest-stubborn",
                                                                 "attach-failed",
                                                                 "expel-failed",
                                                                 "time-of-day-set",
                                                                 "device-in-use",
                                                                 "take-late",
                                                                 "give-back-failed",
                                                                 "functions-failed",
                                                                 "driver-bound",
                                                                 "driver-slow",
                                                                 "controller-paused",
                                                                 "controller-without-store",
                                                                 "controller-without-agents",
                                                                 "write-of-old-leader"};
    return names.at(static_cast<size_t>(fault));
}

} // namespace lanepool::sim
