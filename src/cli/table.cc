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

namespace {
// It is chosen when the loan begins; until then an own kernel's wish may name none.
bool is_to_own_kernel(const v1::Loan& loan) {
    return loan.access_model() != "smartio" && loan.guest().empty();
}

std::string dma_text(const v1::Loan& loan) {
    if (loan.dma_bytes() == 0) return or_dash(loan.dma());
    return fmt::format("{} {}", loan.dma(), size_text(loan.dma_bytes()));
}
} // namespace

std::string loans_text(const v1::LoanList& loans) {
    const bool with_kernels = std::any_of(loans.loans().begin(), loans.loans().end(), is_to_own_kernel);
    std::vector<std::string> headings{"LOAN", "DEVICE", "BORROWER", "GUEST", "ACCESS"};
    if (with_kernels) headings.insert(headings.end(), {"DMA", "FUNCTION", "DRIVER"});
    headings.insert(headings.end(), {"STATE", "TENANT", "PRIORITY", "SINCE", "DUE", "REASON"});
    Table table(std::move(headings));
    for (const auto& loan : loans.loans()) {
        std::vector<std::string> row{fmt::format("{}", loan.id()), loan.device(), loan.borrower(),
                                     is_to_own_kernel(loan) ? "(kernel)" : or_dash(loan.guest()),
                                     loan.access_model() + (loan.shared() ? ",shared" : "")};
        if (with_kernels)
            row.insert(row.end(), {dma_text(loan), or_dash(loan.function()), or_dash(loan.driver())});
        row.insert(row.end(),
                   {loan.state(), or_dash(loan.tenant()), fmt::format("{}", loan.priority()),
                    time_text(loan.created_us()), time_text(loan.due_us()), or_dash(loan.reason())});
        table.add(std::move(row));
    }
    return table.text();
}

std::string hosts_text(const v1::HostList& hosts) {
    const bool with_kernels = std::any_of(hosts.hosts().begin(), hosts.hosts().end(),
                                          [](const auto& host) { return host.dma_modes_size() > 0; });
    std::vector<std::string> headings{"HOST", "STATE", "PORT", "LENDS", "BORROWS", "GUESTS"};
    if (with_kernels) headings.emplace_back("KERNEL DMA");
    headings.insert(headings.end(), {"WINDOWS FREE", "LAST SEEN"});
    Table table(std::move(headings));
    for (const auto& host : hosts.hosts()) {
        std::vector<std::string> row{host.name(),
                                     host.state(),
                                     fmt::format("{}", host.partition()),
                                     host.lends() ? "yes" : "no",
                                     host.borrows() ? "yes" : "no",
                                     or_dash(fmt::format("{}", fmt::join(host.guests(), ",")))};
        if (with_kernels) row.push_back(or_dash(fmt::format("{}", fmt::join(host.dma_modes(), ","))));
        row.insert(row.end(), {fmt::format("{}/{}", host.windows_free(), host.windows()),
                               time_text(host.last_seen_us())});
        table.add(std::move(row));
    }
    return table.text();
}

std::string receipt_text(const v1::Loan& loan) {
    if (loan.state() != "active" || loan.function().empty()) return {};
    const std::string reach =
        loan.dma() == "bounce"  ? fmt::format("bounce pool of {}", size_text(loan.dma_bytes()))
        : loan.dma() == "iommu" ? fmt::format("iommu, {} of addresses", size_text(loan.dma_bytes()))
                                : "direct, all memory of the host";
    return fmt::format("{} has {} as {}, {}, {}", loan.borrower(), loan.device(), loan.function(),
                       loan.driver().empty() ? "no driver yet" : "driver " + loan.driver(), reach);
}

Json to_json(const v1::Host& host) {
    return {{"name", host.name()},
            {"state", host.state()},
            {"partition", host.partition()},
            {"lends", host.lends()},
            {"borrows", host.borrows()},
            {"guests", std::vector<std::string>(host.guests().begin(), host.guests().end())},
            {"dma_modes", std::vector<std::string>(host.dma_modes().begin(), host.dma_modes().end())},
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
            {"dma", loan.dma()},
            {"dma_bytes", loan.dma_bytes()},
            {"function", loan.function()},
            {"driver", loan.driver()},
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
