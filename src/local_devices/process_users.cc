// SPDX-License-Identifier: Apache-2.0
#include "local_devices/process_users.h"

#include "local_devices/pci_tree.h"

#include <algorithm>
#include <set>

namespace lanepool::local_devices {

std::string process_title(System& system, const std::string& pid) {
    const std::string name = text_of(system, fmt::format("/proc/{}/comm", pid));
    return name.empty() ? "process " + pid : fmt::format("process {} ({})", pid, name);
}

std::vector<std::string> processes(System& system) {
    std::vector<std::string> pids;
    const auto entries = system.list("/proc");
    if (!entries) return pids;
    const auto digit = [](char letter) { return letter >= '0' && letter <= '9'; };
    for (const auto& entry : *entries)
        if (std::ranges::all_of(entry.name, digit)) pids.push_back(entry.name);
    return pids;
}

std::vector<std::string>
open_files(System& system,
           const std::function<std::string(const std::string& text, const std::string& link)>& name_of) {
    std::vector<std::string> sentences;
    for (const auto& pid : processes(system)) {
        const std::string folder = fmt::format("/proc/{}/fd", pid);
        const auto descriptors = system.list(folder);
        if (!descriptors) continue; // it has ended, or is a kernel thread
        std::set<std::string> names;
        for (const auto& descriptor : *descriptors) {
            const std::string link = folder + '/' + descriptor.name;
            const auto text = system.read_link(link);
            if (!text) continue;
            if (auto name = name_of(*text, link); !name.empty()) names.insert(std::move(name));
        }
        for (const auto& name : names)
            sentences.push_back(fmt::format("{} has {} open", process_title(system, pid), name));
    }
    return sentences;
}

} // namespace lanepool::local_devices
