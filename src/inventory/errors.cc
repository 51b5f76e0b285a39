// SPDX-License-Identifier: Apache-2.0
//
// Advanced Error Reporting (Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats of Linux).
#include "inventory/parts.h"

namespace lanepool::inventory {

namespace {

// Lines "NAME COUNT", the last of them the total.
std::optional<uint64_t> total(Files& files, const std::string& path) {
    const auto text = files.read(path, 4096);
    if (!text) return std::nullopt;
    for (const auto line : split(*text, '\n')) {
        const auto words = words_of(line);
        if (words.size() == 2 && words[0].starts_with("TOTAL_ERR")) return to_number(words[1]);
    }
    return std::nullopt;
}

} // namespace

void read_errors(Files& files, const std::string& folder, Function& function) {
    const auto correctable = total(files, folder + "/aer_dev_correctable");
    const auto nonfatal = total(files, folder + "/aer_dev_nonfatal");
    const auto fatal = total(files, folder + "/aer_dev_fatal");
    if (correctable && nonfatal && fatal) function.aer = AerCounters{*correctable, *nonfatal, *fatal};
}

} // namespace lanepool::inventory
