// SPDX-License-Identifier: Apache-2.0
//
// Functions one by one, as sysfs shows them (Documentation/ABI/testing/sysfs-bus-pci of Linux).
#include "inventory/config_decode.h"
#include "inventory/parts.h"
#include "pci/address.h"
#include "pci/config_space.h"

#include <algorithm>
#include <fmt/format.h>

namespace lanepool::inventory {

namespace {

constexpr size_t most_functions = 16384;
constexpr std::string_view devices = "/sys/bus/pci/devices";

// include/linux/ioport.h of Linux
constexpr uint64_t resource_io = 0x100, resource_memory = 0x200, resource_prefetch = 0x2000;
constexpr uint64_t resource_memory_64 = 0x00100000, resource_unset = 0x20000000;

// A line "FIRST LAST FLAGS" of `resource`; absent: it is none.
std::optional<Bar> bar_of(std::string_view line) {
    const auto words = words_of(line);
    if (words.size() != 3) return std::nullopt;
    const auto first = to_number(words[0]), last = to_number(words[1]), flags = to_number(words[2]);
    if (!first || !last || !flags) return std::nullopt;
    Bar bar;
    if ((*flags & (resource_io | resource_memory)) == 0 || *last < *first) return bar;
    if (*last - *first == ~uint64_t{0}) return std::nullopt;
    bar.size_bytes = *last - *first + 1;
    bar.address = (*flags & resource_unset) != 0 ? 0 : *first;
    bar.io = (*flags & resource_io) != 0;
    bar.is_64_bit = (*flags & resource_memory_64) != 0;
    bar.prefetchable = (*flags & resource_prefetch) != 0;
    return bar;
}

void read_bars(Files& files, const std::string& folder, Function& function) {
    const auto text = files.read(folder + "/resource", 4096);
    if (!text) {
        function.notes.push_back("its BARs could not be read");
        return;
    }
    const auto lines = split(*text, '\n');
    const size_t bars = function.bridge ? 2 : pci::bar_count;
    for (size_t i = 0; i < bars && i < lines.size(); ++i) {
        if (const auto bar = bar_of(lines[i]))
            function.bars[i] = *bar;
        else
            function.notes.push_back(fmt::format("its BAR {} is shown as '{}'", i, printable(lines[i], 64)));
    }
}

// A number of at most MOST; a note where something else is written.
uint64_t identity(Files& files, const Place& place, const char* attribute, uint64_t most,
                  Function& function) {
    const auto text = read_word(files, place.folder + "/" + attribute, 64);
    const auto number = to_number(text);
    if (number && *number <= most) return *number;
    function.notes.push_back(text.empty() ? fmt::format("its {} could not be read", attribute)
                                          : fmt::format("its {} is shown as '{}'", attribute, text));
    return 0;
}

void read_reset(Files& files, const std::string& folder, Function& function) {
    const auto methods = files.read(folder + "/reset_method", 256);
    if (methods) {
        for (const auto word : words_of(*methods))
            function.reset_methods.push_back(printable(word, 32));
    } else if (files.exists(folder + "/reset")) {
        function.notes.push_back("it can be reset, but this kernel does not say how (Linux 5.15 does)");
    }
}

// vfio-pci and the like ask for no mask: theirs is the kernel's default, and says nothing.
bool asks_for_dma(const Function& function) {
    if (!function.driver) return false;
    const std::string& name = function.driver->name;
    return name != "vfio-pci" && name != "pci-stub" && name != "xen-pciback" && name != "uio_pci_generic";
}

void read_upstream(const Place& place, Function& function) {
    const auto end = place.folder.rfind('/');
    if (end != std::string::npos) function.upstream = function_in(place.folder.substr(0, end));
}

} // namespace

std::optional<pci::Address> function_in(std::string_view path) {
    std::optional<pci::Address> last;
    for (const auto part : split(path, '/'))
        if (part.size() == sizeof("0000:00:00.0") - 1)
            if (const auto address = pci::parse_address(part)) last = *address;
    return last;
}

std::vector<Place> find_functions(Files& files, std::vector<std::string>& notes) {
    std::vector<Place> places;
    const auto names = files.list(std::string(devices), most_functions);
    if (names.size() == most_functions)
        notes.push_back(fmt::format("there are more functions than the {} that are read", most_functions));
    for (const auto& [name, kind] : names) {
        const auto address = pci::parse_address(name);
        if (!address || pci::to_string(*address) != name) {
            notes.push_back(
                fmt::format("'{}' is left out: it is no address of a PCI function", printable(name, 64)));
            continue;
        }
        const std::string path = fmt::format("{}/{}", devices, name);
        const auto folder = kind == Kind::link ? follow(files, path) : path;
        if (folder)
            places.push_back({*address, *folder});
        else
            notes.push_back(fmt::format("{} is left out: its link leads nowhere", name));
    }
    return places;
}

Function read_function(Files& files, const Place& place) {
    const std::string& folder = place.folder;
    Function function;
    function.address = place.address;
    function.vendor_id = static_cast<uint16_t>(identity(files, place, "vendor", 0xffff, function));
    function.device_id = static_cast<uint16_t>(identity(files, place, "device", 0xffff, function));
    function.class_code = static_cast<uint32_t>(identity(files, place, "class", 0xffffff, function));
    function.subsystem_vendor_id = static_cast<uint16_t>(
        std::min<uint64_t>(read_number(files, folder + "/subsystem_vendor").value_or(0), 0xffff));
    function.subsystem_device_id = static_cast<uint16_t>(
        std::min<uint64_t>(read_number(files, folder + "/subsystem_device").value_or(0), 0xffff));
    function.revision =
        static_cast<uint8_t>(std::min<uint64_t>(read_number(files, folder + "/revision").value_or(0), 0xff));
    const std::string config = files.read(folder + "/config", pci::extended_config_bytes).value_or("");
    decode_config(std::as_bytes(std::span(config)), function);
    read_upstream(place, function);
    read_bars(files, folder, function);
    read_driver(files, folder, function);
    read_errors(files, folder, function);
    read_sriov(files, folder, function);
    read_links(files, folder, function);
    read_vital_product_data(files, folder, function);
    read_reset(files, folder, function);
    if (const auto node = read_number(files, folder + "/numa_node"); node && *node < 4096) // "-1" is none
        function.numa_node = static_cast<int>(*node);
    if (const auto group = to_number(link_name(files, folder + "/iommu_group")))
        function.iommu_group = static_cast<unsigned>(*group);
    const auto bits = read_number(files, folder + "/dma_mask_bits");
    if (bits && *bits >= 1 && *bits <= 64 && asks_for_dma(function))
        function.dma_bits = static_cast<unsigned>(*bits);
    function.boot_display = read_number(files, folder + "/boot_vga") == 1u;
    function.power_state = read_word(files, folder + "/power_state", 16);
    return function;
}

} // namespace lanepool::inventory
