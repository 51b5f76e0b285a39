// SPDX-License-Identifier: Apache-2.0
#include "agent/own_kernel.h"

#include "local_devices/holders.h"
#include "local_devices/pci_tree.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fmt/ranges.h>
#include <sstream>

namespace lanepool::agent {

LocalFunction look_at(local_devices::System& system, const pci::Address& function) {
    return {local_devices::present(system, function), local_devices::driver_of(system, function)};
}

std::string users_of(local_devices::System& system, const pci::Address& function) {
    const auto holders = local_devices::holders_of(system, std::array{function});
    return fmt::format("{}", fmt::join(holders, "; "));
}

// "00100000-7ffdefff : System RAM"; ranges within others are indented, and memory that is plugged in later
// stands in a range of its own.
Result<uint64_t> memory_end(local_devices::System& system) {
    std::istringstream lines(TRY(system.read("/proc/iomem")));
    uint64_t end = 0;
    for (std::string line; std::getline(lines, line);) {
        if (!line.ends_with(" : System RAM")) continue;
        const std::string_view range = std::string_view(line).substr(line.find_first_not_of(' '));
        const size_t dash = range.find('-');
        if (dash == std::string_view::npos) continue;
        uint64_t last = 0;
        std::from_chars(range.data() + dash + 1, range.data() + range.size(), last, 16);
        end = std::max(end, last == UINT64_MAX ? last : last + 1);
    }
    // Others than root read zeroes.
    if (end <= 1)
        return fail(
            Errc::failed_precondition,
            "/proc/iomem does not say where this machine's memory ends: the agent is not root, it seems");
    return end;
}

} // namespace lanepool::agent
