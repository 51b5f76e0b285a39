// SPDX-License-Identifier: Apache-2.0
//
// The way between the device and the adapter, and the adapter's windows.
#include "inventory/text.h"
#include "pci/address.h"
#include "qualify/subject.h"

#include <algorithm>
#include <fmt/format.h>

namespace lanepool::qualify {

using inventory::PeerPath;

Check check_peer_to_peer(const Subject& subject) {
    if (!subject.adapter)
        return {"peer_to_peer", Outcome::limits, "there is no NTB adapter in this machine to lend it over",
                "", "fit an adapter, best below the same switch as the device, and look again"};
    const auto evidence = fmt::format("adapter {}: {}", pci::to_string(subject.adapter->address),
                                      inventory::name(subject.route.path));
    const std::string& reason = subject.route.reason;
    switch (subject.route.path) {
    case PeerPath::same_switch:
    case PeerPath::redirected:
    case PeerPath::root_complex:
        return {"peer_to_peer", Outcome::pass, reason, evidence, ""};
    case PeerPath::between_sockets:
        return {
            "peer_to_peer", Outcome::limits, reason, evidence,
            "move device or adapter to slots of the same socket: between sockets packets are slow, or lost"};
    case PeerPath::unknown:
        break;
    }
    // What it could be at worst, by now, is a way through the root complex of a socket that is not known.
    return {"peer_to_peer", Outcome::limits, reason, evidence, "run it as root"};
}

Check check_windows(const Subject& subject) {
    if (!subject.adapter)
        return {"windows", Outcome::skipped, "there is no NTB adapter in this machine", "", ""};
    uint64_t largest = 0, all = 0, window = 0;
    for (const auto& bar : subject.function.bars)
        if (!bar.io) {
            largest = std::max(largest, bar.size_bytes);
            // Sizes are what a tree says: they need not be those of a real device.
            all = bar.size_bytes > ~uint64_t{0} - all ? ~uint64_t{0} : all + bar.size_bytes;
        }
    for (const auto& adapter : subject.machine.adapters)
        for (const auto bytes : adapter.window_bar_bytes)
            window = std::max(window, bytes);
    const auto evidence = fmt::format(
        "largest BAR {}, largest window BAR {}{}", inventory::bytes_text(largest),
        inventory::bytes_text(window),
        subject.adapter->lut_entries ? fmt::format(", {} LUT entries", *subject.adapter->lut_entries) : "");
    const std::string remedy =
        "give the partitions of the switch a larger window BAR, or make the device's BAR smaller "
        "(resourceN_resize of sysfs)";
    if (window == 0)
        return {"windows", Outcome::fail, "the adapter has no window: its BARs have no size", evidence,
                "configure window BARs in the switch"};
    if (largest > window)
        return {"windows", Outcome::fail,
                "a borrower with such an adapter cannot reach all of the device's largest BAR", evidence,
                remedy};
    if (all > window / 2)
        return {"windows", Outcome::limits,
                "the device takes more than half of what a borrower with such an adapter can reach", evidence,
                remedy};
    return {"windows", Outcome::pass, "its BARs fit into the windows of a borrower with such an adapter",
            evidence, ""};
}

} // namespace lanepool::qualify
