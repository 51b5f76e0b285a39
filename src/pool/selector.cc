// SPDX-License-Identifier: Apache-2.0
#include "pool/selector.h"

#include "pool/records.h"

#include <algorithm>
#include <charconv>

namespace lanepool::pool {

namespace {
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool contains(std::string_view text, std::string_view part) {
    return std::search(text.begin(), text.end(), part.begin(), part.end(),
                       [](char a, char b) { return lower(a) == lower(b); }) != text.end();
}

// By fdid in hexadecimal, with or without 0x, or by HOST/NAME.
bool names(std::string_view text, const Device& device) {
    if (const auto slash = text.find('/'); slash != std::string_view::npos)
        return text.substr(0, slash) == device.host && text.substr(slash + 1) == device.name;
    if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2);
    uint64_t fdid = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fdid, 16);
    return error == std::errc() && end == text.data() + text.size() && device.fdid == Fdid{fdid};
}

std::string size(uint64_t bytes) {
    constexpr std::string_view units[] = {"kB", "MB", "GB", "TB"};
    size_t unit = 0;
    double value = static_cast<double>(bytes) / 1000;
    for (; value >= 1000 && unit + 1 < std::size(units); ++unit)
        value /= 1000;
    return bytes < 1000 ? fmt::format("{} bytes", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}
} // namespace

bool selects(const Selector& selector, const Device& device) {
    const DeviceIdentity& identity = device.identity;
    return !selector.empty() && (selector.device.empty() || names(selector.device, device)) &&
           (selector.kind.empty() || selector.kind == identity.kind) &&
           (selector.host.empty() || selector.host == device.host) &&
           (selector.model.empty() || contains(identity.model, selector.model)) &&
           (selector.vendor_id == 0 || selector.vendor_id == identity.vendor_id) &&
           (selector.device_id == 0 || selector.device_id == identity.device_id) &&
           identity.capacity_bytes >= selector.least_capacity_bytes;
}

std::string describe(const Selector& selector) {
    if (selector.empty()) return "no device";
    std::string text = !selector.device.empty() ? "device " + selector.device
                       : selector.kind.empty()  ? std::string("device")
                                                : selector.kind;
    if (!selector.device.empty() && !selector.kind.empty()) text += " (" + selector.kind + ")";
    if (!selector.model.empty()) text += fmt::format(" of model '{}'", selector.model);
    if (selector.vendor_id) text += fmt::format(" of vendor {:04x}", selector.vendor_id);
    if (selector.device_id) text += fmt::format(" with device id {:04x}", selector.device_id);
    if (selector.least_capacity_bytes)
        text += fmt::format(" of at least {}", size(selector.least_capacity_bytes));
    if (!selector.host.empty()) text += " at host " + selector.host;
    return text;
}

} // namespace lanepool::pool
