// SPDX-License-Identifier: Apache-2.0
//
// What the machine as a whole is: system, kernel, processor, IOMMU.
#include "inventory/parts.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace lanepool::inventory {

namespace {

constexpr size_t most_text_bytes = 1024 * 1024;

// The value behind KEY in lines "KEY<blanks>SEPARATOR VALUE"; the first such line.
std::string value_of(std::string_view text, std::string_view key, char separator) {
    for (const auto line : split(text, '\n')) {
        const auto at = line.find(separator);
        if (at == std::string_view::npos || trim(line.substr(0, at)) != key) continue;
        auto value = trim(line.substr(at + 1));
        if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
            value = value.substr(1, value.size() - 2);
        return printable(value);
    }
    return {};
}

// "0-3,8" has five.
unsigned count_of(std::string_view ranges) {
    uint64_t count = 0;
    for (const auto range : split(ranges, ',')) {
        const auto dash = range.find('-');
        const auto first = to_number(range.substr(0, dash));
        const auto last = dash == std::string_view::npos ? first : to_number(range.substr(dash + 1));
        if (first && last && *first <= *last && *last < 1'000'000) count += *last - *first + 1;
    }
    return static_cast<unsigned>(std::min<uint64_t>(count, 1'000'000));
}

void read_system(Files& files, Host& host) {
    host.name = read_word(files, "/proc/sys/kernel/hostname");
    host.os = value_of(files.read("/etc/os-release", 8192).value_or(""), "PRETTY_NAME", '=');
    host.kernel_release = read_word(files, "/proc/sys/kernel/osrelease");
    host.kernel_version = read_word(files, "/proc/sys/kernel/version");
    host.architecture = read_word(files, "/proc/sys/kernel/arch");
    const auto vendor = read_word(files, "/sys/class/dmi/id/board_vendor");
    const auto board = read_word(files, "/sys/class/dmi/id/board_name");
    host.board = vendor.empty() || board.empty() ? vendor + board : vendor + " " + board;
    // "none [integrity] confidentiality"
    const auto lockdown = read_word(files, "/sys/kernel/security/lockdown");
    for (const auto word : words_of(lockdown))
        if (word.size() > 2 && word.front() == '[' && word.back() == ']')
            host.lockdown = word.substr(1, word.size() - 2);
}

void read_processors(Files& files, Host& host) {
    const auto text = files.read("/proc/cpuinfo", 4096).value_or(""); // the first one's
    host.cpu_vendor = value_of(text, "vendor_id", ':');
    host.cpu_model = value_of(text, "model name", ':');
    host.cpu_family = static_cast<unsigned>(
        std::min<uint64_t>(to_number(value_of(text, "cpu family", ':')).value_or(0), 0xffff));
    host.processors = count_of(read_word(files, "/sys/devices/system/cpu/online", 4096));
    for (const auto& [name, kind] : files.list("/sys/devices/system/node", 4096)) {
        if (!name.starts_with("node") || kind == Kind::file) continue;
        const auto node = to_number(std::string_view(name).substr(4));
        if (!node || *node > 4095) continue;
        ++host.numa_nodes;
        const auto list = read_word(files, "/sys/devices/system/node/" + name + "/cpulist", 4096);
        const auto first = to_number(std::string_view(list).substr(0, list.find_first_of("-,")));
        if (!first) continue; // memory without processors
        const auto package = read_number(
            files, fmt::format("/sys/devices/system/cpu/cpu{}/topology/physical_package_id", *first));
        if (package && *package < 4096)
            host.node_packages[static_cast<unsigned>(*node)] = static_cast<unsigned>(*package);
    }
}

bool concerns_devices(std::string_view option) {
    constexpr std::array beginnings{
        "intel_iommu", "amd_iommu", "iommu",    "arm-smmu", "pci",         "pcie_",      "vfio",  "intremap",
        "swiotlb",     "kvm",       "nox2apic", "efi=",     "disable_acs", "config_acs", "noats", "lockdown"};
    return std::ranges::any_of(beginnings, [&](const char* each) { return option.starts_with(each); });
}

void read_command_line(Files& files, Host& host) {
    const auto text = files.read("/proc/cmdline", 16384).value_or("");
    for (const auto option : words_of(text)) {
        if (option == "--") break; // what follows is for init
        if (concerns_devices(option))
            host.command_line += (host.command_line.empty() ? "" : " ") + printable(option);
    }
}

IommuMode mode_of(const std::vector<IommuGroup>& groups) {
    std::array<size_t, 3> counts{}; // passthrough, lazy, strict
    for (const auto& group : groups) {
        if (group.type == "identity") ++counts[0];
        if (group.type == "DMA-FQ") ++counts[1];
        if (group.type == "DMA") ++counts[2];
    }
    if (counts == decltype(counts){}) return IommuMode::unknown;
    constexpr std::array modes{IommuMode::passthrough, IommuMode::translated_lazy,
                               IommuMode::translated_strict};
    // A few groups may differ, by the firmware's or an operator's wish: what most have is the machine's mode.
    return modes[static_cast<size_t>(std::ranges::max_element(counts) - counts.begin())];
}

void read_iommu(Files& files, const std::vector<IommuGroup>& groups, Host& host) {
    for (const auto& [name, kind] : files.list("/sys/class/iommu", 256))
        if (kind != Kind::file) host.iommu_units.push_back(printable(name, 64));
    if (!groups.empty())
        host.iommu = mode_of(groups);
    else if (!host.iommu_units.empty() || files.exists("/sys/firmware/acpi/tables/DMAR") ||
             files.exists("/sys/firmware/acpi/tables/IVRS"))
        host.iommu = IommuMode::off;
    else
        host.iommu = IommuMode::none;
    // Linux puts "IR-" before the name of every interrupt chip whose messages are remapped.
    if (const auto interrupts = files.read("/proc/interrupts", most_text_bytes))
        host.interrupt_remapping = interrupts->find(" IR-") != std::string::npos;
}

struct Feature {
    const char* name;
    const char* module; // in /sys/module
    const char* file;   // in the lists of modules
};
constexpr std::array features{Feature{"vfio_pci", "/sys/module/vfio_pci", "/vfio-pci.ko"},
                              Feature{"type1", "/sys/module/vfio_iommu_type1", "/vfio_iommu_type1.ko"},
                              Feature{"iommufd", "/sys/module/iommufd", "/iommufd.ko"}};

// The lists have thousands of modules: of a long line only whether it begins with what is looked for counts.
bool lists(std::string_view text, std::string_view file) {
    for (const auto line : split(text, '\n'))
        if (line.substr(0, line.find(':')).find(file) != std::string_view::npos) return true;
    return false;
}

void read_vfio(Files& files, Host& host) {
    const std::string folder = "/lib/modules/" + host.kernel_release;
    std::string modules;
    bool listed = false;
    if (!host.kernel_release.empty() && host.kernel_release.find('/') == std::string::npos)
        for (const char* list : {"/modules.dep", "/modules.builtin"})
            if (const auto text = files.read(folder + list, 8 * most_text_bytes)) {
                modules += *text + "\n";
                listed = true;
            }
    std::vector<std::string> found;
    for (const auto& each : features)
        if (files.exists(each.module) || lists(modules, each.file)) found.emplace_back(each.name);
    if (std::ranges::find(found, "iommufd") == found.end() && files.exists("/dev/iommu"))
        found.emplace_back("iommufd");
    // Without the lists, what is not loaded may well be there.
    if (listed || !found.empty()) host.vfio = found;
}

} // namespace

Host read_host(Files& files, const std::vector<IommuGroup>& groups) {
    Host host;
    read_system(files, host);
    read_processors(files, host);
    read_command_line(files, host);
    read_iommu(files, groups, host);
    read_vfio(files, host);
    return host;
}

} // namespace lanepool::inventory
