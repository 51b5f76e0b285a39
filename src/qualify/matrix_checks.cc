// SPDX-License-Identifier: Apache-2.0
//
// What is known of device, kernel and platform.
#include "qualify/subject.h"

#include <algorithm>
#include <fmt/format.h>

namespace lanepool::qualify {

namespace {

Check check_by(const char* id, const Statement& says) {
    const Outcome outcome = says.standing == Standing::good     ? Outcome::pass
                            : says.standing == Standing::limits ? Outcome::limits
                                                                : Outcome::fail;
    return {id, outcome, says.name + ": " + says.reason, says.source, says.remedy};
}

bool contains(const std::vector<uint16_t>& ids, uint16_t id) {
    return std::ranges::find(ids, id) != ids.end();
}

bool is_about(const DeviceEntry& entry, const inventory::Function& function) {
    if (entry.vendor_id != 0 && entry.vendor_id != function.vendor_id) return false;
    if (!entry.device_ids.empty() && !contains(entry.device_ids, function.device_id)) return false;
    if (entry.class_code && *entry.class_code != function.class_code >> 8) return false;
    return entry.driver.empty() || (function.driver && function.driver->name == entry.driver);
}

// A host bridge on the root bus above the function.
bool has_host_bridge(const Subject& subject, const PlatformEntry& entry) {
    const auto above = inventory::bridges_above(subject.machine, subject.function);
    const auto& top = above.empty() ? subject.function.address : above.back()->address;
    return std::ranges::any_of(subject.machine.functions, [&](const inventory::Function& each) {
        return each.address.domain == top.domain && each.address.bus == top.bus &&
               each.vendor_id == entry.host_bridge_vendor && contains(entry.host_bridges, each.device_id) &&
               each.class_code >> 16 == 0x06;
    });
}

bool is_about(const PlatformEntry& entry, const Subject& subject) {
    const auto& host = subject.machine.host;
    if (!entry.cpu_vendor.empty() &&
        (entry.cpu_vendor != host.cpu_vendor || host.cpu_family < entry.cpu_family_from))
        return false;
    if (entry.same_socket && subject.route.path == inventory::PeerPath::between_sockets) return false;
    return entry.host_bridge_vendor == 0 || has_host_bridge(subject, entry);
}

} // namespace

Check check_device_entry(const Subject& subject) {
    for (const auto& entry : subject.matrix.devices)
        if (is_about(entry, subject.function)) return check_by("device", entry.says);
    return {"device", Outcome::pass, "the support matrix says nothing of it: it is judged by what it can do",
            "", ""};
}

Check check_kernel_entry(const Subject& subject) {
    const auto& release = subject.machine.host.kernel_release;
    const auto version = kernel_version(release);
    if (!version)
        return {"kernel", Outcome::unknown, "which kernel its host has could not be read", release,
                "look where /proc can be read"};
    for (const auto& entry : subject.matrix.kernels)
        if (*version >= entry.from && *version < entry.below) return check_by("kernel", entry.says);
    return {"kernel", Outcome::limits, "this kernel is not among those that were tried", release,
            "try the device with `lanepool qualify` on it before relying on it, or use a kernel of the "
            "support matrix"};
}

Check check_platform_entry(const Subject& subject) {
    if (subject.adapter && subject.route.path == inventory::PeerPath::same_switch)
        return {"platform", Outcome::skipped, "packets to the adapter do not go through the root complex", "",
                ""};
    for (const auto& entry : subject.matrix.platforms)
        if (is_about(entry, subject)) return check_by("platform", entry.says);
    return {"platform", Outcome::limits,
            "whether this platform passes packets from device to adapter is not known",
            subject.machine.host.cpu_model, "try it, or put device and adapter below one switch"};
}

} // namespace lanepool::qualify
