// SPDX-License-Identifier: Apache-2.0
#include "local_devices/holders.h"

#include "local_devices/device_nodes.h"
#include "local_devices/pci_tree.h"
#include "local_devices/process_users.h"
#include "pci/address.h"

#include <charconv>
#include <set>
#include <sstream>

namespace lanepool::local_devices {

namespace {

using Nodes = std::vector<DeviceNode>;

const DeviceNode* node_with(const Nodes& nodes, const DeviceNumber& number) {
    const auto found = std::ranges::find(nodes, number, &DeviceNode::number);
    return found == nodes.end() ? nullptr : &*found;
}

std::string where(const DeviceNode& node) {
    return node.on.empty() ? node.title() : fmt::format("{} on {}", node.title(), node.on);
}

// Blanks and the like are written as \040 in /proc/PID/mountinfo and /proc/swaps.
std::string unescaped(std::string_view text) {
    std::string result;
    for (size_t i = 0; i < text.size(); ++i) {
        unsigned value = 0;
        if (text[i] == '\\' && i + 3 < text.size() &&
            std::from_chars(text.data() + i + 1, text.data() + i + 4, value, 8).ptr == text.data() + i + 4) {
            result += static_cast<char>(value);
            i += 3;
        } else {
            result += text[i];
        }
    }
    return result;
}

struct Mount {
    DeviceNumber number;
    std::string point, type, source;
};

// A line of /proc/PID/mountinfo (man 5 proc): ids, device, root, mount point, options, any number of
// optional fields, "-", file system type, source.
std::optional<Mount> mount_in(const std::string& line) {
    std::istringstream words(line);
    std::string id, parent, device, root, point, word;
    words >> id >> parent >> device >> root >> point;
    while (words >> word && word != "-") {
    }
    Mount mount;
    mount.number.block = true;
    if (!(words >> mount.type >> mount.source)) return std::nullopt;
    char colon = 0;
    std::istringstream numbers(device);
    if (!(numbers >> mount.number.major >> colon >> mount.number.minor)) return std::nullopt;
    mount.point = unescaped(point);
    mount.source = unescaped(mount.source);
    return mount;
}

// Btrfs on NODE, mounted or not: its file system has a device number of its own, and may span several nodes.
std::set<std::string> btrfs_members(System& system, const Nodes& nodes) {
    std::set<std::string> members;
    const auto systems = system.list("/sys/fs/btrfs");
    if (!systems) return members;
    for (const auto& one : *systems) {
        const auto devices = system.list(fmt::format("/sys/fs/btrfs/{}/devices", one.name));
        if (!devices) continue;
        const auto ours = [&](const Entry& device) {
            return std::ranges::find(nodes, "/dev/" + device.name, &DeviceNode::path) != nodes.end();
        };
        if (!std::ranges::any_of(*devices, ours)) continue;
        for (const auto& device : *devices)
            members.insert("/dev/" + device.name);
    }
    return members;
}

class Holders {
  public:
    Holders(System& system, std::span<const pci::Address> functions)
        : system_(system), functions_(functions), devices_(kernel_devices_of(system, functions)) {}

    std::vector<std::string> all();

  private:
    void virtual_functions();
    void mounts();
    void mounts_of(const std::string& pid, bool own_namespace);
    void swap();
    void interfaces();
    void open_nodes();
    void claims();
    void say(std::string sentence, const DeviceNode* node = nullptr);

    System& system_;
    const std::span<const pci::Address> functions_;
    const KernelDevices devices_;
    std::vector<std::string> sentences_;
    std::set<std::string> explained_; // paths of nodes about whose use something has been said
};

void Holders::say(std::string sentence, const DeviceNode* node) {
    if (node) {
        explained_.insert(node->path);
        if (!node->on.empty()) explained_.insert(node->on);
    }
    if (std::ranges::find(sentences_, sentence) == sentences_.end())
        sentences_.push_back(std::move(sentence));
}

void Holders::virtual_functions() {
    for (const auto& function : functions_) {
        const auto existing = virtual_functions_of(system_, function);
        if (existing.empty()) continue;
        say(fmt::format("{} has {} virtual functions, {} being the first", pci::to_string(function),
                        existing.size(), pci::to_string(existing.front())));
    }
}

void Holders::mounts_of(const std::string& pid, bool own_namespace) {
    const auto text = system_.read(fmt::format("/proc/{}/mountinfo", pid));
    if (!text) return;
    const auto btrfs = btrfs_members(system_, devices_.nodes);
    std::istringstream lines(*text);
    for (std::string line; std::getline(lines, line);) {
        const auto mount = mount_in(line);
        if (!mount) continue;
        const DeviceNode* node = node_with(devices_.nodes, mount->number);
        if (!node && mount->source.starts_with("/dev/"))
            if (const auto number = system_.device_number(mount->source))
                node = node_with(devices_.nodes, *number);
        if (!node && !btrfs.contains(mount->source)) continue;
        const std::string seen = own_namespace ? "" : fmt::format(" for {}", process_title(system_, pid));
        say(fmt::format("{} is mounted at {} ({}){}", node ? where(*node) : mount->source, mount->point,
                        mount->type, seen),
            node);
    }
}

// Once for each mount namespace that a process has, our own first.
void Holders::mounts() {
    std::set<std::string> seen;
    const auto own = system_.read_link("/proc/self/ns/mnt");
    if (own) seen.insert(*own);
    mounts_of("self", true);
    for (const auto& pid : processes(system_)) {
        const auto space = system_.read_link(fmt::format("/proc/{}/ns/mnt", pid));
        if (space && seen.insert(*space).second) mounts_of(pid, false);
    }
}

void Holders::swap() {
    const auto text = system_.read("/proc/swaps");
    if (!text) return;
    std::istringstream lines(*text);
    std::string line;
    std::getline(lines, line); // the heading
    while (std::getline(lines, line)) {
        const std::string path = unescaped(line.substr(0, line.find_first_of(" \t")));
        const auto number = system_.device_number(path);
        const auto* node = number ? node_with(devices_.nodes, *number) : nullptr;
        if (node) say(fmt::format("{} is swap space", where(*node)), node);
    }
}

void Holders::interfaces() {
    constexpr unsigned interface_up = 0x1; // IFF_UP
    for (const auto& name : devices_.interfaces) {
        const std::string folder = "/sys/class/net/" + name;
        const std::string flags = text_of(system_, folder + "/flags"); // "0x1003"
        unsigned value = 0;
        if (flags.starts_with("0x"))
            std::from_chars(flags.data() + 2, flags.data() + flags.size(), value, 16);
        if (value & interface_up) say(fmt::format("{} is up", name));
        if (const auto master = system_.read_link(folder + "/master"))
            say(fmt::format("{} is part of {}", name, last_name(*master)));
        constexpr std::string_view upper = "upper_";
        const auto entries = system_.list(folder);
        if (!entries) continue;
        for (const auto& entry : *entries)
            if (entry.name.starts_with(upper) && !system_.exists(folder + "/master"))
                say(fmt::format("{} is built on {}", entry.name.substr(upper.size()), name));
    }
    if (devices_.hidden_interface)
        say(fmt::format("a network interface of {} is in another network namespace (`lsns -t net`)",
                        pci::to_string(functions_.front())));
}

// Nodes in containers may have other names; what counts is their number. Only names with /dev/ are looked at
// that closely: asking a file of a network file system may take for ever.
void Holders::open_nodes() {
    std::vector<std::string> registers;
    for (const auto& function : functions_)
        if (const auto folder = target_of(system_, attribute(function)))
            registers.push_back(*folder + "/resource");
    const auto name_of = [&](const std::string& text, const std::string& link) -> std::string {
        for (const auto& path : registers)
            if (text.starts_with(path)) return text;
        if (text.find("/dev/") == std::string::npos || text.starts_with("/dev/pts/") || text == "/dev/null")
            return {};
        const auto number = system_.device_number(link);
        const DeviceNode* node = number ? node_with(devices_.nodes, *number) : nullptr;
        if (!node) return {};
        explained_.insert(node->path);
        return where(*node);
    };
    for (auto& sentence : open_files(system_, name_of))
        say(std::move(sentence));
    for (auto& sentence : vfio_users_of(system_, functions_))
        say(std::move(sentence));
}

// Whatever else the kernel does with a block device (ZFS, bcache, an exported target) has it for itself. A
// device whose partition is in use is claimed, too: then the partition says by whom.
void Holders::claims() {
    for (const auto& node : devices_.nodes) {
        if (!node.number.block || explained_.contains(node.path) || !system_.claimed(node.path)) continue;
        const auto partition = [&](const std::string& path) { return path.starts_with(node.path); };
        if (std::ranges::any_of(explained_, partition)) continue;
        say(fmt::format("the kernel has {} in use (ZFS, a cache, or an exported disk?)", where(node)), &node);
    }
}

std::vector<std::string> Holders::all() {
    mounts();
    swap();
    for (const auto& sentence : devices_.stacked) {
        say(sentence);
        explained_.insert(sentence.substr(0, sentence.find(' ')));
    }
    interfaces();
    virtual_functions();
    open_nodes();
    claims();
    if (sentences_.size() > most_holders) {
        const size_t more = sentences_.size() - (most_holders - 1);
        sentences_.resize(most_holders - 1);
        sentences_.push_back(fmt::format("and {} more", more));
    }
    return std::move(sentences_);
}

} // namespace

std::vector<std::string> holders_of(System& system, std::span<const pci::Address> functions) {
    return Holders(system, functions).all();
}

// A group's node is kept open by who uses one of its functions, as QEMU does, but need not be; nodes of
// single functions are in sysfs and found there.
std::vector<std::string> vfio_users_of(System& system, std::span<const pci::Address> functions) {
    std::set<std::string> nodes;
    for (const auto& function : functions) {
        if (driver_of(system, function) != "vfio-pci") continue;
        if (const auto link = system.read_link(attribute(function, "iommu_group")))
            nodes.insert("/dev/vfio/" + last_name(*link));
        if (const auto devices = system.list(attribute(function, "vfio-dev")))
            for (const auto& device : *devices)
                nodes.insert("/dev/vfio/devices/" + device.name);
    }
    if (nodes.empty()) return {};
    return open_files(system, [&](const std::string& text, const std::string&) {
        return nodes.contains(text) ? text : std::string();
    });
}

} // namespace lanepool::local_devices
