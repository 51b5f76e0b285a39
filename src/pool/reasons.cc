// SPDX-License-Identifier: Apache-2.0
#include "pool/reasons.h"

#include <algorithm>
#include <ctime>

namespace lanepool::pool {
namespace {

constexpr size_t most_holders = 2; // that are named
constexpr size_t most_lines = 8;

std::string time_text(int64_t unix_us) {
    const std::time_t seconds = unix_us / 1'000'000;
    std::tm utc{};
    if (gmtime_r(&seconds, &utc) == nullptr) return "the end of time";
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return text;
}

std::string named(const DeviceEntry& device) {
    return fmt::format("{} ({})", device.fdid, device.listing.name);
}

std::string holder_text(const DeviceEntry& device) {
    if (device.loan == nullptr) return fmt::format("{} is being reset", named(device));
    const Loan& loan = *device.loan;
    std::string until = loan.due_us > 0 ? "until " + time_text(loan.due_us) : "with no due time";
    if (device.listing.held && device.listing.back_us == 0 && (loan.due_us == 0 || loan.preempted_by))
        until = loan.state == LoanState::active ? "and is about to give it back" : "for now";
    const std::string whose = loan.tenant.empty() ? "" : fmt::format(", tenant '{}'", loan.tenant);
    const std::string_view by =
        is_to_system(loan.access_model) ? std::string_view() : name(loan.access_model);
    return fmt::format("{} is lent to {} ({}{}loan:{}{}) {}", named(device), loan.borrower, by,
                       by.empty() ? "" : ", ", loan.id, whose, until);
}

struct Census {
    size_t devices = 0;
    size_t held = 0;
    std::vector<std::pair<int64_t, Fdid>> soonest;
};

// Of the devices that a want means, whether they can be had or not.
Census count(const Market& market, const Want& want) {
    Census census;
    if (want.scoped) {
        for (const DeviceEntry* device : market.devices_of(want)) {
            ++census.devices;
            if (!device->listing.held) continue;
            ++census.held;
            census.soonest.emplace_back(device->listing.back_us, device->fdid);
        }
    } else {
        for (const auto& type : market.types()) {
            if (!want.matches[type->number]) continue;
            census.devices += type->devices;
            census.held += type->held.size();
            size_t taken = 0;
            for (auto held = type->held.begin(); held != type->held.end() && taken < most_holders;
                 ++held, ++taken)
                census.soonest.push_back(*held);
        }
    }
    std::sort(census.soonest.begin(), census.soonest.end());
    if (census.soonest.size() > most_holders) census.soonest.resize(most_holders);
    return census;
}

// Why a device that nobody holds cannot be lent.
std::string idle_text(const DeviceEntry& entry) {
    const Device& device = *entry.record;
    const HostEntry& host = *entry.listing.host;
    if (!device.draining.empty())
        return fmt::format("{} is being drained: {}", named(entry), device.draining);
    if (device.kept_local) return fmt::format("{} is kept for its own host", named(entry));
    if (device.functions > 0)
        return fmt::format("{} has {} SR-IOV functions, which are lent by themselves", named(entry),
                           device.functions);
    if (device.parent_changing)
        return fmt::format("{}: the functions of its parent are being changed", named(entry));
    if (device.successor) return fmt::format("{} is promised to loan:{}", named(entry), device.successor);
    if (!host.rule.lends) return fmt::format("the site does not let host {} lend", host.name);
    if (host.record == nullptr || !host.record->up)
        return fmt::format("{}: its host is not connected", named(entry));
    if (!host.record->draining.empty())
        return fmt::format("{}: its host is being drained: {}", named(entry), host.record->draining);
    if (device.state != DeviceState::available)
        return fmt::format("{} is {}{}{}", named(entry), name(device.state),
                           device.reason.empty() ? "" : ": ", device.reason);
    if (host.room <= 0) return fmt::format("{}: its host has no window left", named(entry));
    return fmt::format("{} can be lent", named(entry));
}

void add_unavailable(const Market& market, const Want& want, std::vector<std::string>& lines) {
    const Census census = count(market, want);
    const std::string wanted = describe(want.selector);
    if (census.devices == 0) {
        lines.push_back(fmt::format("no device in the pool is what is wanted: {}", wanted));
        return;
    }
    std::string line = fmt::format("of {} in the pool ({}), {} can be lent now", census.devices, wanted,
                                   census.devices == 1 ? "it is not one that" : "none");
    if (census.devices == 1)
        line = fmt::format("the only device that is wanted ({}) cannot be lent now", wanted);
    if (census.held > 0) line += fmt::format(": {} in use", census.held);
    for (const auto& [back_us, fdid] : census.soonest)
        if (const DeviceEntry* device = market.find(fdid)) line += "; " + holder_text(*device);
    if (census.held == 0 && want.scoped)
        for (const DeviceEntry* device : market.devices_of(want)) {
            line += "; " + idle_text(*device);
            break;
        }
    else if (census.held < census.devices)
        line += fmt::format("; {} offline, draining, in quarantine, or of a host without room",
                            census.devices - census.held);
    lines.push_back(std::move(line));
}

void add_obstacles(const Obstacles& in_the_way, const Unit& unit, std::vector<std::string>& lines) {
    if (in_the_way.reserved > 0)
        lines.push_back(
            fmt::format("{} free, but {}", in_the_way.reserved, reservation_text(in_the_way.verdict)));
    if (in_the_way.kept > 0)
        lines.push_back(fmt::format("{} free, but kept for loan:{}, which is ahead in the queue",
                                    in_the_way.kept, in_the_way.kept_for));
    if (in_the_way.refused > 0)
        lines.push_back(fmt::format("{} free, but not allowed: {}", in_the_way.refused, in_the_way.refusal));
    if (in_the_way.own_host > 0)
        lines.push_back(fmt::format("{} free, but in {} itself: a host does not borrow from itself",
                                    in_the_way.own_host, unit.row->borrower->name));
    if (in_the_way.no_room > 0)
        lines.push_back(fmt::format("{} free, but of hosts that have no window left, such as {}",
                                    in_the_way.no_room, in_the_way.full_host));
    if (in_the_way.taken > 0)
        lines.push_back(fmt::format("{} go to those ahead in the queue", in_the_way.taken));
    if (in_the_way.cut_short) lines.push_back("there are more devices than were looked at; it goes on");
}

} // namespace

std::string reservation_text(const Reservations::Verdict& verdict) {
    return fmt::format("needed for reservation '{}': {} of class '{}' for tenant '{}' from {} until {}",
                       verdict.stands->name, verdict.stands->count, verdict.stands->device_class,
                       verdict.stands->tenant, time_text(verdict.interval.begin_us),
                       time_text(verdict.interval.end_us));
}

std::vector<std::string> why_not(const Market& market, const Unit& unit, const Look& look) {
    if (!look.blocked.empty()) return {look.blocked};
    std::vector<std::string> lines;
    if (!look.ending.empty() || !look.preemptions.empty()) {
        std::string line = "waits for what is ending for it:";
        for (const LoanId loan : look.ending)
            line += fmt::format(" loan:{}", loan);
        for (const Preemption& preemption : look.preemptions)
            line += fmt::format(" loan:{}", preemption.victim);
        return {line};
    }
    std::set<const Want*> told;
    for (size_t wish = 0; wish < unit.wants.size() && lines.size() < most_lines; ++wish) {
        if (look.matched[wish] || !told.insert(unit.wants[wish]).second) continue;
        // Equal wishes share what was found out about the first.
        const auto first = static_cast<size_t>(
            std::find(unit.wants.begin(), unit.wants.end(), unit.wants[wish]) - unit.wants.begin());
        const Obstacles& obstacles = look.obstacles[first];
        const size_t before = lines.size();
        if (unit.wants.size() > 1) {
            const auto all = std::count(unit.wants.begin(), unit.wants.end(), unit.wants[wish]);
            size_t matched = 0;
            for (size_t other = 0; other < unit.wants.size(); ++other)
                matched += unit.wants[other] == unit.wants[wish] && look.matched[other] ? 1 : 0;
            lines.push_back(fmt::format("{} of {} can be had now: {}", matched, all,
                                        describe(unit.wants[wish]->selector)));
        }
        add_obstacles(obstacles, unit, lines);
        if (look.obstacles[wish].reserved > 0 && first != wish && obstacles.reserved == 0)
            add_obstacles(look.obstacles[wish], unit, lines);
        if (lines.size() <= before + (unit.wants.size() > 1 ? 1 : 0))
            add_unavailable(market, *unit.wants[wish], lines);
    }
    if (lines.empty()) lines.push_back("not all of its devices can be had together now");
    return lines;
}

std::vector<std::string> what_it_gets(Market& market, const Unit& unit, const Look& look) {
    std::vector<std::string> lines;
    size_t index = 0;
    for (const Start& start : look.starts) {
        const DeviceEntry& device = *market.device(start.fdid);
        const size_t far = look.distances[index];
        std::string line =
            fmt::format("{}: {}, {}, {} left there", describe(unit.wants[index]->selector), named(device),
                        far == 0 ? std::string("in the very host it is to be near to")
                                 : fmt::format("at distance {}", far),
                        device.listing.host->room == unlimited_room
                            ? std::string("room not known")
                            : fmt::format("{} windows", device.listing.host->room));
        if (!start.reservation.empty()) line += fmt::format(", of reservation '{}'", start.reservation);
        lines.push_back(std::move(line));
        ++index;
    }
    return lines;
}

} // namespace lanepool::pool
