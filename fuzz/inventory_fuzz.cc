// SPDX-License-Identifier: Apache-2.0
//
// The input is a machine: files and links of functions, in pieces of one byte for the function, one for the
// file, two for the length, and the content. Whatever it is, it is read, printed, and judged.
#include "inventory/json.h"
#include "inventory/paths.h"
#include "inventory/reader.h"
#include "inventory/text.h"
#include "inventory/tree.h"
#include "pci/config_space.h"
#include "qualify/qualify.h"

#include <array>
#include <cstdlib>

using namespace lanepool;

namespace {

constexpr std::array functions{"0000:00:01.0", "0000:00:1c.0", "0000:01:00.0", "0000:01:00.1",
                               "0000:02:00.0", "0000:03:01.0", "0001:01:00.0", "0000:04:00.0"};
constexpr std::array attributes{"config",
                                "vendor",
                                "device",
                                "class",
                                "resource",
                                "current_link_speed",
                                "current_link_width",
                                "max_link_speed",
                                "max_link_width",
                                "reset_method",
                                "numa_node",
                                "dma_mask_bits",
                                "vpd",
                                "aer_dev_correctable",
                                "aer_dev_nonfatal",
                                "aer_dev_fatal",
                                "sriov_totalvfs",
                                "sriov_numvfs",
                                "driver_override",
                                "power_state"};
constexpr std::array links{"driver", "iommu_group", "physfn", "virtfn0", "virtfn1"};
constexpr std::array others{"/proc/cmdline",
                            "/proc/cpuinfo",
                            "/proc/interrupts",
                            "/proc/sys/kernel/osrelease",
                            "/proc/sys/kernel/hostname",
                            "/etc/os-release",
                            "/sys/devices/system/cpu/online",
                            "/sys/devices/system/node/node0/cpulist",
                            "/sys/kernel/iommu_groups/3/type",
                            "/sys/kernel/iommu_groups/3/reserved_regions",
                            "/sys/kernel/security/lockdown",
                            "/sys/bus/pci/slots/7/address"};
constexpr std::array other_links{"/sys/class/nvme/nvme0", "/sys/class/block/nvme0n1", "/sys/class/net/eth0",
                                 "/sys/kernel/iommu_groups/3/devices/0000:01:00.0"};

void require(bool condition) {
    if (!condition) std::abort();
}

void add(inventory::Tree& tree, uint8_t where, uint8_t which, const std::string& content) {
    const std::string address = functions[where % functions.size()];
    const std::string folder = "/sys/devices/pci0000:00/" + address;
    tree.add_link("/sys/bus/pci/devices/" + address, "../../../devices/pci0000:00/" + address);
    const size_t all = attributes.size() + links.size() + others.size() + other_links.size() + 1;
    size_t index = which % all;
    if (index == 0 && content.size() >= pci::conventional_config_bytes) {
        std::string config = content; // only a whole one has extended capabilities
        config.resize(pci::extended_config_bytes);
        return tree.add_file(folder + "/config", config);
    }
    if (index < attributes.size()) return tree.add_file(folder + "/" + attributes[index], content);
    index -= attributes.size();
    if (index < links.size()) return tree.add_link(folder + "/" + links[index], content);
    index -= links.size();
    if (index < others.size()) return tree.add_file(others[index], content);
    index -= others.size();
    if (index < other_links.size()) return tree.add_link(other_links[index], content);
    if (content.find('/') == std::string::npos)
        tree.add_link("/sys/bus/pci/devices/" + content, "../x/" + content);
}

void check(const inventory::Machine& machine) {
    require(std::ranges::is_sorted(machine.functions, {}, &inventory::Function::address));
    for (const auto& function : machine.functions) {
        require(machine.find(function.address) == &function);
        require(!function.upstream || machine.find(*function.upstream));
        require(inventory::bridges_above(machine, function).size() < 256);
        const auto report = qualify::judge(machine, function, qualify::built_in_matrix(), 0);
        require(report.models.size() == 3);
        if (&function == &machine.functions.front()) // printing takes longer than judging
            require(!qualify::to_json(report, report.main_model).dump().empty());
        require(!inventory::details(machine, function).empty());
        for (const auto& other : machine.functions)
            require(!inventory::name(inventory::peer_path(machine, function.address, other.address)).empty());
    }
    require(!inventory::to_json(machine).dump().empty()); // throws at what is no UTF-8
    inventory::tree_text(machine);
    inventory::site_toml(machine);
    inventory::details(machine);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    inventory::Tree tree;
    std::string_view rest(reinterpret_cast<const char*>(data), size);
    const auto byte = [&](size_t at) { return static_cast<uint8_t>(rest[at]); };
    while (rest.size() >= 4) {
        const size_t length = std::min<size_t>(byte(2) | size_t{byte(3)} << 8, rest.size() - 4);
        add(tree, byte(0), byte(1), std::string(rest.substr(4, length)));
        rest.remove_prefix(4 + length);
    }
    check(inventory::read_machine(tree, ""));
    return 0;
}
