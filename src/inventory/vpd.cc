// SPDX-License-Identifier: Apache-2.0
#include "inventory/vpd.h"

#include "inventory/parts.h"

#include <algorithm>

namespace lanepool::inventory {

namespace {

constexpr uint8_t title_tag = 0x82, read_only_tag = 0x90; // 6.27.1
// Cards are read at some milliseconds a dozen bytes; what is wanted stands at the start.
constexpr size_t most_bytes = 1024;

uint8_t byte(std::string_view bytes, size_t at) { return static_cast<uint8_t>(bytes[at]); }

// Keywords "XX LENGTH DATA" of a resource; that of the serial number.
std::string serial_in(std::string_view resource) {
    while (resource.size() >= 3) {
        const size_t length = byte(resource, 2);
        if (length > resource.size() - 3) break;
        if (resource.starts_with("SN")) return printable(trim(resource.substr(3, length)));
        resource.remove_prefix(3 + length);
    }
    return {};
}

} // namespace

VitalProductData parse_vpd(std::string_view bytes) {
    VitalProductData data;
    while (bytes.size() >= 3 && (byte(bytes, 0) & 0x80) != 0) { // small resources are the end
        const size_t written = byte(bytes, 1) | size_t{byte(bytes, 2)} << 8;
        const size_t length = std::min(written, bytes.size() - 3); // the rest was not read
        const auto resource = bytes.substr(3, length);
        if (byte(bytes, 0) == title_tag) data.title = printable(trim(resource));
        if (byte(bytes, 0) == read_only_tag) data.serial = serial_in(resource);
        bytes.remove_prefix(3 + length);
    }
    return data;
}

void read_vital_product_data(Files& files, const std::string& folder, Function& function) {
    const auto bytes = files.read(folder + "/vpd", most_bytes);
    if (!bytes) return;
    const auto data = parse_vpd(*bytes);
    if (!data.serial.empty()) function.serial = data.serial; // rather than the number of the link's card
    if (!data.title.empty()) function.model = data.title;
}

} // namespace lanepool::inventory
