// SPDX-License-Identifier: Apache-2.0
//
// What the kernel's classes say of functions: the nodes that programs open, and what drives and cards call
// themselves. Every entry of a class is a link into the folder of the function that it belongs to.
#include "inventory/parts.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace lanepool::inventory {

namespace {

constexpr size_t most_entries = 16384;
constexpr size_t most_nodes = 64; // of one function

struct Class {
    const char* name;
    const char* node; // how a node is called, {} for the entry's name; empty: it has none
};
constexpr std::array classes{Class{"nvme", "/dev/{}"},   Class{"block", "/dev/{}"},
                             Class{"net", "{}"},         Class{"drm", "/dev/dri/{}"},
                             Class{"infiniband", "{}"},  Class{"accel", "/dev/accel/{}"},
                             Class{"uio", "/dev/{}"},    Class{"switchtec", "/dev/{}"},
                             Class{"nvidia", "/dev/{}"}, Class{"kfd", "/dev/{}"}};

Function* find(Machine& machine, const std::optional<pci::Address>& address) {
    if (!address) return nullptr;
    const auto found = std::ranges::lower_bound(machine.functions, *address, {}, &Function::address);
    return found != machine.functions.end() && found->address == *address ? &*found : nullptr;
}

void add_node(Function& function, const std::string& node) {
    if (function.device_nodes.size() == most_nodes) return;
    if (std::ranges::find(function.device_nodes, node) == function.device_nodes.end())
        function.device_nodes.push_back(node);
}

void read_drive(Files& files, const std::string& folder, Function& function) {
    const auto take = [&](const char* attribute, std::string& into) {
        if (const auto text = read_word(files, folder + "/" + attribute, 128); !text.empty()) into = text;
    };
    take("model", function.model);
    take("serial", function.serial);
    take("firmware_rev", function.firmware);
}

// The functions of an NVMe subsystem: with multipath, namespaces belong to it instead of to a controller.
std::vector<std::optional<pci::Address>> functions_of_subsystem(Files& files, const std::string& path) {
    std::vector<std::optional<pci::Address>> functions;
    const std::string folder = path.substr(0, path.rfind('/'));
    for (const auto& [name, kind] : files.list(folder, 256))
        if (kind == Kind::link && name.starts_with("nvme"))
            if (const auto controller = follow(files, folder + "/" + name))
                functions.push_back(function_in(*controller));
    return functions;
}

void read_entry(Files& files, Machine& machine, const Class& which, const std::string& name) {
    if (std::string_view(which.name) == "drm" && name.find('-') != std::string::npos) return; // a connector
    const auto folder = follow(files, fmt::format("/sys/class/{}/{}", which.name, name));
    if (!folder) return;
    const auto node = fmt::format(fmt::runtime(which.node), printable(name, 64));
    if (folder->find("/nvme-subsystem/") != std::string::npos) {
        for (const auto& address : functions_of_subsystem(files, *folder))
            if (auto* function = find(machine, address)) add_node(*function, node);
        return;
    }
    auto* function = find(machine, function_in(*folder));
    if (!function) return;
    if (std::string_view(which.name) == "nvme") read_drive(files, *folder, *function);
    add_node(*function, node);
}

} // namespace

void read_classes(Files& files, Machine& machine) {
    for (const auto& which : classes)
        for (const auto& [name, kind] : files.list(fmt::format("/sys/class/{}", which.name), most_entries))
            if (kind == Kind::link) read_entry(files, machine, which, name);
}

} // namespace lanepool::inventory
