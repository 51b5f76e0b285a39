// SPDX-License-Identifier: Apache-2.0
#include "inventory/names.h"

#include "inventory/files.h"
#include "ntb/switchtec.h"

#include <charconv>
#include <fmt/format.h>
#include <fstream>
#include <map>

namespace lanepool::inventory {

namespace {

constexpr size_t most_ids_bytes = 8 * 1024 * 1024;
constexpr std::array usual_ids{"/usr/share/hwdata/pci.ids", "/usr/share/misc/pci.ids"};

// Takes a number of DIGITS hexadecimal digits and the two blanks behind it.
bool take_id(std::string_view& line, size_t digits, uint32_t& id) {
    if (line.size() < digits + 2 || line.substr(digits, 2) != "  ") return false;
    const auto [end, error] = std::from_chars(line.data(), line.data() + digits, id, 16);
    line.remove_prefix(digits + 2);
    return error == std::errc() && end + 2 == line.data();
}

// The names of a pci.ids file: vendors by id, devices and classes by both halves of theirs.
struct Ids {
    std::map<uint32_t, std::string_view> vendors, devices, classes, subclasses;

    explicit Ids(std::string_view text) {
        uint32_t above = 0, id = 0;
        bool in_classes = false, known = false;
        for (std::string_view line : split(text, '\n')) {
            if (line.empty() || line.front() == '#' || line.starts_with("\t\t")) continue;
            if (line.front() == '\t') {
                line.remove_prefix(1);
                if (known && take_id(line, in_classes ? 2 : 4, id))
                    (in_classes ? subclasses : devices)[above << (in_classes ? 8 : 16) | id] = line;
                continue;
            }
            in_classes = line.starts_with("C ");
            if (in_classes) line.remove_prefix(2);
            known = take_id(line, in_classes ? 2 : 4, above);
            if (known) (in_classes ? classes : vendors)[above] = line;
        }
    }
    static std::string name(const std::map<uint32_t, std::string_view>& names, uint32_t id) {
        const auto found = names.find(id);
        return found == names.end() ? std::string() : printable(trim(found->second));
    }
};

} // namespace

std::string read_ids(const std::filesystem::path& file) {
    std::string text;
    std::vector<std::filesystem::path> candidates{file};
    if (file.empty()) candidates.assign(usual_ids.begin(), usual_ids.end());
    for (const auto& each : candidates) {
        std::error_code error;
        std::ifstream stream;
        if (std::filesystem::is_regular_file(each, error)) stream.open(each, std::ios::binary);
        if (!stream) continue;
        text.resize(most_ids_bytes);
        stream.read(text.data(), static_cast<std::streamsize>(text.size()));
        text.resize(static_cast<size_t>(stream.gcount()));
        if (!text.empty()) break;
    }
    return text;
}

void name_functions(std::string_view text, std::vector<Function>& functions) {
    const Ids ids(text);
    for (auto& function : functions) {
        function.vendor_name = Ids::name(ids.vendors, function.vendor_id);
        function.device_name =
            Ids::name(ids.devices, uint32_t{function.vendor_id} << 16 | function.device_id);
        function.class_name = Ids::name(ids.subclasses, function.class_code >> 8);
        if (function.class_name.empty())
            function.class_name = Ids::name(ids.classes, function.class_code >> 16);
    }
}

std::string_view kind_of(const Function& function) {
    if (function.vendor_id == ntb::switchtec::vendor_id && function.class_code == ntb::switchtec::class_code)
        return "ntb";
    if (function.class_code == 0x010802) return "nvme";
    // PCI Code and ID Assignment Specification 1.1
    switch (function.class_code >> 16) {
    case 0x01:
        return "storage";
    case 0x02:
        return "nic";
    case 0x03:
        return "gpu";
    case 0x04:
        return "audio";
    case 0x06:
        return "bridge";
    case 0x0c:
        return function.class_code >> 8 == 0x0c03 ? "usb" : "other";
    case 0x12:
        return "fpga"; // processing accelerators
    default:
        return "other";
    }
}

std::string title_of(const Function& function) {
    if (!function.model.empty()) return function.model;
    if (!function.device_name.empty()) return function.device_name;
    const std::string ids = fmt::format("{:04x}:{:04x}", function.vendor_id, function.device_id);
    return function.vendor_name.empty() ? ids : function.vendor_name + " " + ids;
}

} // namespace lanepool::inventory
