// SPDX-License-Identifier: Apache-2.0
#include "dev/whole_plan.h"

#include "dev/whole_host.h"
#include "io/replace_file.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

namespace lanepool::dev {

namespace {

using Json = nlohmann::json;

// Each is a QEMU with its memory, on one machine.
constexpr size_t most_borrowers = 15;

std::filesystem::path file_in(const std::filesystem::path& folder) { return folder / "whole-hosts.json"; }

} // namespace

std::vector<std::string> WholePlan::hosts() const {
    std::vector<std::string> list{lender};
    list.insert(list.end(), borrowers.begin(), borrowers.end());
    return list;
}

Result<std::optional<WholePlan>> WholePlan::read(const std::filesystem::path& folder) {
    std::ifstream stream(file_in(folder));
    if (!stream) return std::optional<WholePlan>();
    const auto damaged = [&] {
        return fail(Errc::protocol, "{} is damaged; stop the cluster and remove its folder",
                    file_in(folder).string());
    };
    const Json json = Json::parse(stream, nullptr, false);
    WholePlan plan;
    try {
        json.at("lender").get_to(plan.lender);
        json.at("borrowers").get_to(plan.borrowers);
        json.at("drives").get_to(plan.drives);
        json.at("drive_bytes").get_to(plan.drive_bytes);
        json.at("memory_mib").get_to(plan.memory_mib);
        json.at("kernels").get_to(plan.kernels);
    } catch (const Json::exception&) {
        return damaged();
    }
    if (!plan.check()) return damaged();
    return plan;
}

Result<> WholePlan::save(const std::filesystem::path& folder) const {
    const Json json{{"lender", lender},           {"borrowers", borrowers},   {"drives", drives},
                    {"drive_bytes", drive_bytes}, {"memory_mib", memory_mib}, {"kernels", kernels}};
    return io::replace_file(file_in(folder), json.dump(1) + "\n");
}

Result<> WholePlan::apply(const WholeWishes& wishes) {
    borrowers = wishes.borrowers.value_or(borrowers);
    drives = wishes.drives.value_or(drives);
    drive_bytes = wishes.drive_bytes.value_or(drive_bytes);
    memory_mib = wishes.memory_mib.value_or(memory_mib);
    const auto all = hosts();
    for (const auto& wish : wishes.kernels) {
        const auto equals = wish.find('=');
        const std::string version = wish.substr(equals == std::string::npos ? 0 : equals + 1);
        for (const auto& host : all)
            if (equals == std::string::npos || wish.substr(0, equals) == host) kernels[host] = version;
        if (equals != std::string::npos &&
            std::find(all.begin(), all.end(), wish.substr(0, equals)) == all.end())
            return fail(Errc::invalid_argument, "--kernel {}: there is no such host; there are {}", wish,
                        fmt::join(all, ", "));
    }
    for (const auto& host : all)
        kernels.try_emplace(host, host_kernels.back());
    return {};
}

Result<> WholePlan::check() const {
    const auto all = hosts();
    static const std::regex allowed("[A-Za-z0-9][A-Za-z0-9-]{0,30}");
    for (const auto& host : all)
        if (!std::regex_match(host, allowed))
            return fail(Errc::invalid_argument,
                        "'{}' is no name for a host: letters, digits and '-', at most 31", host);
    if (std::set<std::string>(all.begin(), all.end()).size() != all.size())
        return fail(Errc::invalid_argument, "two hosts have the same name ('{}' is the lending one)", lender);
    if (borrowers.size() > most_borrowers)
        return fail(Errc::invalid_argument, "at most {} hosts borrow", most_borrowers);
    for (const auto& host : all) {
        const auto kernel = kernels.find(host);
        if (kernel == kernels.end() ||
            std::find(host_kernels.begin(), host_kernels.end(), kernel->second) == host_kernels.end())
            return fail(Errc::invalid_argument, "there is no kernel '{}' for host {}; there are {}",
                        kernel == kernels.end() ? "" : kernel->second, host, fmt::join(host_kernels, ", "));
    }
    // Two more devices and the adapter.
    if (drives == 0 || drives + 3 > host_slots)
        return fail(Errc::invalid_argument, "a whole host has 1 to {} drives", host_slots - 3);
    if (drive_bytes < uint64_t{1} << 20) return fail(Errc::invalid_argument, "a drive has at least 1 MiB");
    return {};
}

Result<WholePlan> WholePlan::decide(const std::filesystem::path& folder, const WholeWishes& wishes) {
    const auto there = TRY(read(folder));
    WholePlan plan = there.value_or(WholePlan());
    TRY(plan.apply(wishes));
    TRY(plan.check());
    const bool other = there ? plan != *there : std::filesystem::exists(folder / "processes.json");
    if (other)
        return fail(
            Errc::failed_precondition,
            "the cluster in {} {}: stop it first (`lanepool dev down`), or use another folder (--dir)",
            folder.string(), there ? "has other hosts than you ask for" : "has no whole hosts");
    return plan;
}

} // namespace lanepool::dev
