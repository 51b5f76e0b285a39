// SPDX-License-Identifier: Apache-2.0
#include "fabric/switch.h"

#include <bit>

namespace lanepool::fabric {
namespace {

constexpr uint64_t largest_bar_bytes = uint64_t{1} << 40;

Result<> check(const SwitchOptions& options) {
    if (options.ports < 1 || options.ports > ntb::switchtec::max_partitions)
        return fail(Errc::invalid_argument, "a switch with {} ports: it can have 1 to {}", options.ports,
                    ntb::switchtec::max_partitions);
    for (const uint64_t bytes : {options.bar2_bytes, options.bar4_bytes})
        if (!std::has_single_bit(bytes) || bytes < ntb::switchtec::min_window_bytes ||
            bytes > largest_bar_bytes)
            return fail(Errc::invalid_argument,
                        "a window BAR of {:#x} bytes: it must be a power of two from {:#x} to {:#x}", bytes,
                        ntb::switchtec::min_window_bytes, largest_bar_bytes);
    if (options.lut_entries < 1 || options.lut_entries > ntb::switchtec::max_lut_entries)
        return fail(Errc::invalid_argument, "{} LUT entries a partition: it can have 1 to {}",
                    options.lut_entries, ntb::switchtec::max_lut_entries);
    if (!options.policies.empty() && options.policies.size() != options.ports)
        return fail(Errc::invalid_argument, "{} partition policies for {} ports", options.policies.size(),
                    options.ports);
    const uint64_t existing = (uint64_t{1} << options.ports) - 1;
    for (const auto& policy : options.policies)
        if (policy.targets & ~existing || policy.control & ~existing)
            return fail(Errc::invalid_argument, "a partition policy names a port beyond the last, {}",
                        options.ports - 1);
    return {};
}

} // namespace

Result<std::unique_ptr<Switch>> Switch::create(io::EventLoop& loop, SwitchOptions options) {
    TRY(check(options));
    if (options.policies.empty()) options.policies = open_policies(options.ports);
    std::unique_ptr<Switch> made(new Switch(loop, std::move(options)));
    WindowBars bars{};
    bars[2] = made->options_.bar2_bytes;
    bars[4] = made->options_.bar4_bytes;
    for (unsigned i = 0; i < made->options_.ports; ++i)
        made->ports_.push_back(std::make_unique<Port>(*made, i, bars, made->options_.policies[i]));
    return made;
}

void Switch::link_changed(unsigned partition) {
    for (auto& port : ports_)
        port->link_changed(partition);
}

void Switch::release_locks(unsigned holder) {
    for (auto& port : ports_)
        port->control().release(holder);
}

void Switch::ring(unsigned source, uint64_t targets, uint64_t bits) {
    for (auto& port : ports_)
        if (port->partition() != source && (targets >> port->partition() & 1) != 0 && port->link_up())
            port->doorbells().ring(bits);
}

} // namespace lanepool::fabric
