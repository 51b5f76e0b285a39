// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <fmt/format.h>
#include <map>

namespace lanepool::cli {

std::string Table::text() const {
    std::vector<size_t> widths;
    for (const auto& row : rows_) {
        widths.resize(std::max(widths.size(), row.size()));
        for (size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (const auto& row : rows_) {
        std::string line;
        for (size_t i = 0; i < row.size(); ++i)
            line += fmt::format("{:<{}}", row[i], widths[i] + 2);
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + "\n";
    }
    return text;
}

std::string fdid_text(uint64_t fdid) { return fmt::format("{:x}", fdid); }

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

std::string time_text(int64_t unix_time_us) {
    if (unix_time_us == 0) return "-";
    const std::time_t seconds = unix_time_us / 1'000'000;
    std::tm local{};
    ::localtime_r(&seconds, &local);
    std::array<char, 32> text{};
    const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &local);
    return fmt::format("{}.{:03}", std::string_view(text.data(), length), unix_time_us / 1000 % 1000);
}

std::string size_text(uint64_t size_bytes) {
    if (size_bytes == 0) return "-";
    static constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    auto value = static_cast<double>(size_bytes);
    for (; value >= 1024 && unit + 1 < units.size(); ++unit)
        value /= 1024;
    return fmt::format("{:.1f} {}", value, units[unit]);
}

std::string duration_text(int64_t duration_us) {
    if (duration_us >= 1'000'000) return fmt::format("{:.2f} s", static_cast<double>(duration_us) / 1e6);
    if (duration_us >= 1'000) return fmt::format("{:.1f} ms", static_cast<double>(duration_us) / 1e3);
    return fmt::format("{} us", duration_us);
}

namespace {

// Of those that share it all.
std::string loans_text(const v1::Device& device) {
    if (device.sharing_loan_ids_size() > 0)
        return fmt::format("{}", fmt::join(device.sharing_loan_ids(), ","));
    return device.loan_id() ? fmt::format("{}", device.loan_id()) : "-";
}

std::string functions_text(const v1::Device& device) {
    return device.most_functions() > 0 ? fmt::format("{}/{}", device.functions(), device.most_functions())
                                       : "-";
}

// In their order, but each followed by its functions; those without a parent that is there come last.
std::vector<const v1::Device*> as_tree(const v1::DeviceList& devices) {
    std::map<std::string, std::vector<const v1::Device*>> functions;
    for (const auto& device : devices.devices())
        if (!device.parent().empty()) functions[device.parent()].push_back(&device);
    std::vector<const v1::Device*> ordered;
    for (const auto& device : devices.devices()) {
        if (!device.parent().empty()) continue;
        ordered.push_back(&device);
        if (auto found = functions.extract(device.name()); !found.empty())
            ordered.insert(ordered.end(), found.mapped().begin(), found.mapped().end());
    }
    for (const auto& [parent, orphans] : functions)
        ordered.insert(ordered.end(), orphans.begin(), orphans.end());
    return ordered;
}

} // namespace

std::string devices_text(const v1::DeviceList& devices) {
    const bool any = std::any_of(devices.devices().begin(), devices.devices().end(), [](const auto& device) {
        return device.most_functions() > 0 || !device.parent().empty();
    });
    std::vector<std::string> headings{"FDID",  "DEVICE",   "KIND", "MODEL", "CAPACITY",
                                      "STATE", "BORROWER", "LOAN", "REASON"};
    if (any) headings.insert(headings.begin() + 2, "VFS");
    Table table(headings);
    for (const auto* device : as_tree(devices)) {
        std::vector<std::string> row{fdid_text(device->fdid()),
                                     (device->parent().empty() ? "" : "  ") + device->name(),
                                     or_dash(device->identity().kind()),
                                     or_dash(device->identity().model()),
                                     size_text(device->identity().capacity_bytes()),
                                     device->state(),
                                     or_dash(device->borrower()),
                                     loans_text(*device),
                                     or_dash(device->reason())};
        if (any) row.insert(row.begin() + 2, functions_text(*device));
        table.add(std::move(row));
    }
    return table.text();
}

Json to_json(const v1::Device& device) {
    const auto& identity = device.identity();
    return {{"fdid", fdid_text(device.fdid())},
            {"name", device.name()},
            {"lender", device.lender()},
            {"state", device.state()},
            {"reason", device.reason()},
            {"epoch", device.epoch()},
            {"loan", device.loan_id()},
            {"sharing_loans", device.sharing_loan_ids()},
            {"borrower", device.borrower()},
            {"kind", identity.kind()},
            {"vendor_id", fmt::format("{:04x}", identity.vendor_id())},
            {"device_id", fmt::format("{:04x}", identity.device_id())},
            {"class_code", fmt::format("{:06x}", identity.class_code())},
            {"model", identity.model()},
            {"serial", identity.serial()},
            {"firmware", identity.firmware()},
            {"capacity_bytes", identity.capacity_bytes()},
            {"draining", device.draining()},
            {"parent", device.parent()},
            {"functions", device.functions()},
            {"most_functions", device.most_functions()}};
}

Json to_json(const v1::Host& host) {
    return {{"name", host.name()},
            {"state", host.state()},
            {"partition", host.partition()},
            {"lends", host.lends()},
            {"borrows", host.borrows()},
            {"guests", std::vector<std::string>(host.guests().begin(), host.guests().end())},
            {"last_seen_us", host.last_seen_us()},
            {"version", host.version()},
            {"windows", host.windows()},
            {"windows_free", host.windows_free()},
            {"draining", host.draining()}};
}

Json to_json(const v1::Loan& loan) {
    Json steps = Json::array();
    for (const auto& step : loan.steps())
        steps.push_back({{"step", step.step()}, {"duration_us", step.duration_us()}});
    return {{"id", loan.id()},
            {"group", loan.group()},
            {"fdid", loan.fdid() ? fdid_text(loan.fdid()) : ""},
            {"device", loan.device()},
            {"wanted", loan.wanted()},
            {"lender", loan.lender()},
            {"borrower", loan.borrower()},
            {"guest", loan.guest()},
            {"access_model", loan.access_model()},
            {"shared", loan.shared()},
            {"state", loan.state()},
            {"epoch", loan.epoch()},
            {"priority", loan.priority()},
            {"due_us", loan.due_us()},
            {"reason", loan.reason()},
            {"warned", loan.warned()},
            {"preemptible", loan.preemptible()},
            {"preempted_by", loan.preempted_by()},
            {"requested_by", loan.requested_by()},
            {"tenant", loan.tenant()},
            {"rule", loan.rule()},
            {"reservation", loan.reservation()},
            {"duration_s", loan.duration_s()},
            {"wait_until_us", loan.wait_until_us()},
            {"created_us", loan.created_us()},
            {"active_us", loan.active_us()},
            {"ended_us", loan.ended_us()},
            {"steps", steps}};
}

Json to_json(const v1::AuditEntry& entry) {
    return {{"sequence", entry.sequence()},
            {"time_us", entry.time_us()},
            {"actor", entry.actor()},
            {"subject", entry.subject()},
            {"action", entry.action()},
            {"from", entry.from()},
            {"to", entry.to()},
            {"reason", entry.reason()},
            {"fdid", fdid_text(entry.fdid())},
            {"loan", entry.loan_id()},
            {"epoch", entry.epoch()}};
}

} // namespace lanepool::cli
