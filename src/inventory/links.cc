// SPDX-License-Identifier: Apache-2.0
#include "inventory/links.h"

#include "inventory/parts.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

namespace lanepool::inventory {

namespace {

// "8.0 GT/s PCIe"; "Unknown" and what is no speed of PCI Express give none.
std::optional<double> read_speed(Files& files, const std::string& path) {
    const auto text = read_word(files, path, 64);
    double speed = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), speed);
    if (error != std::errc() || !(speed >= 0 && speed <= 256)) return std::nullopt;
    return speed;
}

// Lanes; 255 is how the kernel shows that it does not know.
std::optional<unsigned> read_width(Files& files, const std::string& path) {
    const auto width = read_number(files, path);
    return width && *width <= 32 ? std::optional(static_cast<unsigned>(*width)) : std::nullopt;
}

void take(Files& files, const std::string& folder, const std::string& which, std::optional<Link>& link) {
    const auto speed = read_speed(files, folder + "/" + which + "_link_speed");
    const auto width = read_width(files, folder + "/" + which + "_link_width");
    if (!width || (*width != 0 && !speed)) return; // then what configuration space says holds
    link = *width == 0 ? Link{} : Link{*speed, *width};
}

} // namespace

void read_links(Files& files, const std::string& folder, Function& function) {
    take(files, folder, "current", function.link);
    take(files, folder, "max", function.best_link);
    if (function.best_link && function.best_link->width == 0) function.best_link.reset();
    if (!function.best_link) function.link.reset();
    // A virtual function has no link of its own (SR-IOV 1.1, 3.5.7); its parent's is the one.
    if (function.parent) function.link = function.best_link = std::nullopt;
}

std::optional<Link> possible_link(const Machine& machine, const Function& function) {
    if (!function.best_link) return std::nullopt;
    Link best = *function.best_link;
    const bool faces_down =
        function.type == FunctionType::root_port || function.type == FunctionType::downstream_port;
    // A port that leads down has its link to what is below, anything else to the port above.
    const Function* other = nullptr;
    if (faces_down) {
        const auto below = std::ranges::find_if(
            machine.functions, [&](const Function& each) { return each.upstream == function.address; });
        if (below != machine.functions.end()) other = &*below;
    } else if (function.upstream) {
        other = machine.find(*function.upstream);
    }
    if (!other || !other->best_link) return best;
    best.speed_gt_per_s = std::min(best.speed_gt_per_s, other->best_link->speed_gt_per_s);
    best.width = std::min(best.width, other->best_link->width);
    return best;
}

bool is_degraded(const Machine& machine, const Function& function) {
    const auto best = possible_link(machine, function);
    if (!best || !function.link || function.link->width == 0) return false;
    return function.link->width < best->width || function.link->speed_gt_per_s < best->speed_gt_per_s;
}

std::string link_text(const std::optional<Link>& link) {
    if (!link) return "-";
    if (link->width == 0) return "down";
    return fmt::format("{:.1f} GT/s x{}", link->speed_gt_per_s, link->width);
}

} // namespace lanepool::inventory
