// SPDX-License-Identifier: Apache-2.0
#include "local_devices/device_nodes.h"

#include "local_devices/pci_tree.h"
#include "pci/address.h"

#include <charconv>
#include <deque>
#include <set>

namespace lanepool::local_devices {

namespace {

constexpr size_t most_folders = 65536;
constexpr size_t most_depth = 24;

std::optional<unsigned> number_in(std::string_view text) {
    unsigned value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
    return value;
}

// "nvme0c1n2", a path to a namespace by one of several controllers, is "nvme0n2" to everybody: that device is
// among the virtual ones, not below any function. Empty: NAME is not of this form.
std::string shared_namespace_of(std::string_view name) {
    constexpr std::string_view prefix = "nvme";
    if (!name.starts_with(prefix)) return {};
    const size_t c = name.find('c', prefix.size());
    const size_t n = name.find('n', prefix.size());
    if (c == std::string_view::npos || n == std::string_view::npos || c > n) return {};
    const auto subsystem = name.substr(prefix.size(), c - prefix.size());
    if (!number_in(subsystem) || !number_in(name.substr(c + 1, n - c - 1)) || !number_in(name.substr(n + 1)))
        return {};
    return fmt::format("nvme{}n{}", subsystem, name.substr(n + 1));
}

class Finder {
  public:
    explicit Finder(System& system) : system_(system) {}

    void walk(const std::string& folder, const std::string& on = {}, size_t depth = 0);
    void follow_block_devices();
    KernelDevices take() { return std::move(found_); }

  private:
    void add_node(const std::string& folder, const std::string& on);
    void add_interfaces(const std::string& folder);
    void add_class_device(const std::string& class_name, const std::string& name, const std::string& on);
    std::string stack_title(const DeviceNode& upper) const;
    std::vector<std::string> uppers_of(const DeviceNode& node);

    System& system_;
    KernelDevices found_;
    std::set<std::string> visited_; // folders
};

void Finder::add_node(const std::string& folder, const std::string& on) {
    const std::string numbers = text_of(system_, folder + "/dev"); // "259:1"
    const size_t colon = numbers.find(':');
    if (colon == std::string::npos || found_.nodes.size() >= most_nodes) return;
    const auto major = number_in(std::string_view(numbers).substr(0, colon));
    const auto minor = number_in(std::string_view(numbers).substr(colon + 1));
    if (!major || !minor) return;
    DeviceNode node;
    node.folder = folder;
    node.on = on;
    node.path = "/dev/" + last_name(folder);
    const std::string uevent = text_of(system_, folder + "/uevent");
    constexpr std::string_view key = "DEVNAME=";
    if (const size_t at = uevent.find(key); at != std::string::npos) {
        const size_t start = at + key.size();
        node.path = "/dev/" + uevent.substr(start, uevent.find('\n', start) - start);
    }
    const auto subsystem = system_.read_link(folder + "/subsystem");
    node.number = {subsystem && last_name(*subsystem) == "block", *major, *minor};
    node.called = text_of(system_, folder + "/dm/name");
    found_.nodes.push_back(std::move(node));
}

void Finder::add_interfaces(const std::string& folder) {
    const auto entries = system_.list(folder);
    if (!entries) return;
    for (const auto& entry : *entries)
        found_.interfaces.push_back(entry.name);
    if (entries->empty()) found_.hidden_interface = true;
}

void Finder::add_class_device(const std::string& class_name, const std::string& name, const std::string& on) {
    if (const auto folder = target_of(system_, fmt::format("/sys/class/{}/{}", class_name, name)))
        walk(*folder, on);
}

void Finder::walk(const std::string& folder, const std::string& on, size_t depth) {
    if (depth > most_depth || visited_.size() >= most_folders || !visited_.insert(folder).second) return;
    const auto entries = system_.list(folder);
    if (!entries) return;
    for (const auto& entry : *entries) {
        if (entry.kind == Entry::Kind::file && entry.name == "dev") add_node(folder, on);
        if (entry.kind != Entry::Kind::folder) continue;
        const std::string below = folder + '/' + entry.name;
        if (entry.name == "net") add_interfaces(below);
        if (const auto shared = shared_namespace_of(entry.name); !shared.empty()) {
            add_class_device("block", shared, on);
            add_class_device("nvme-generic", "ng" + shared.substr(std::string_view("nvme").size()), on);
        }
        walk(below, on, depth + 1);
    }
}

std::string Finder::stack_title(const DeviceNode& upper) const {
    const std::string uuid = text_of(system_, upper.folder + "/dm/uuid");
    const std::string level = text_of(system_, upper.folder + "/md/level");
    std::string kind = "device";
    if (!level.empty()) kind = level + " array";
    if (!upper.called.empty()) kind = "mapped device";
    if (uuid.starts_with("LVM-")) kind = "LVM volume";
    if (uuid.starts_with("CRYPT-")) kind = "encrypted volume";
    if (uuid.starts_with("mpath-")) kind = "multipath device";
    return upper.called.empty() ? fmt::format("{} ({})", upper.path, kind)
                                : fmt::format("{} ({} {})", upper.path, kind, upper.called);
}

// What is built directly on NODE: device-mapper volumes and arrays, and loop devices.
std::vector<std::string> Finder::uppers_of(const DeviceNode& node) {
    std::vector<std::string> names;
    if (const auto holders = system_.list(node.folder + "/holders"))
        for (const auto& holder : *holders)
            names.push_back(holder.name);
    if (const auto blocks = system_.list("/sys/class/block"))
        for (const auto& block : *blocks)
            if (block.name.starts_with("loop") &&
                text_of(system_, fmt::format("/sys/class/block/{}/loop/backing_file", block.name)) ==
                    node.path)
                names.push_back(block.name);
    return names;
}

void Finder::follow_block_devices() {
    for (size_t i = 0; i < found_.nodes.size(); ++i) { // grows on the way
        const DeviceNode node = found_.nodes[i];
        if (!node.number.block) continue;
        for (const auto& name : uppers_of(node)) {
            const size_t first = found_.nodes.size();
            add_class_device("block", name, node.path);
            std::string upper = "/dev/" + name;
            if (found_.nodes.size() > first) upper = stack_title(found_.nodes[first]);
            found_.stacked.push_back(fmt::format("{} is part of {}", node.path, upper));
        }
    }
}

// Device nodes that NVIDIA's driver makes without telling sysfs: it names their minor number in procfs.
void add_nvidia_node(System& system, const pci::Address& function, KernelDevices& devices) {
    constexpr unsigned nvidia_major = 195;
    const std::string information =
        text_of(system, fmt::format("/proc/driver/nvidia/gpus/{}/information", pci::to_string(function)));
    constexpr std::string_view key = "Device Minor:";
    const size_t at = information.find(key);
    if (at == std::string::npos) return;
    const size_t start = information.find_first_of("0123456789", at + key.size());
    if (start == std::string::npos) return;
    const size_t end = information.find_first_not_of("0123456789", start);
    const auto minor = number_in(std::string_view(information).substr(start, end - start));
    if (!minor) return;
    DeviceNode node;
    node.path = fmt::format("/dev/nvidia{}", *minor);
    node.number = {false, nvidia_major, *minor};
    devices.nodes.push_back(std::move(node));
}

} // namespace

std::string DeviceNode::title() const { return called.empty() ? path : fmt::format("{} ({})", path, called); }

KernelDevices kernel_devices_of(System& system, std::span<const pci::Address> functions) {
    Finder finder(system);
    for (const auto& function : functions)
        if (const auto folder = target_of(system, attribute(function))) finder.walk(*folder);
    finder.follow_block_devices();
    KernelDevices devices = finder.take();
    for (const auto& function : functions)
        add_nvidia_node(system, function, devices);
    return devices;
}

} // namespace lanepool::local_devices
