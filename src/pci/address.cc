// SPDX-License-Identifier: Apache-2.0
#include "pci/address.h"

#include <charconv>
#include <fmt/format.h>

namespace lanepool::pci {

namespace {

// DIGITS hexadecimal digits, no more and no less, below LIMIT.
bool take(std::string_view& text, size_t digits, unsigned limit, unsigned& value) {
    if (text.size() < digits) return false;
    const char* end = text.data() + digits;
    const auto [stop, error] = std::from_chars(text.data(), end, value, 16);
    text.remove_prefix(digits);
    return error == std::errc() && stop == end && value < limit;
}

bool take(std::string_view& text, char separator) {
    if (text.empty() || text.front() != separator) return false;
    text.remove_prefix(1);
    return true;
}

} // namespace

Result<Address> parse_address(std::string_view text) {
    std::string_view rest = text;
    unsigned domain = 0, bus = 0, device = 0, function = 0;
    constexpr size_t without_domain = sizeof("00:00.0") - 1;
    const size_t digits = text.size() > without_domain ? text.size() - without_domain - 1 : 0;
    const bool well_formed =
        (digits == 0 ||
         (digits >= 4 && digits <= 8 && take(rest, digits, UINT32_MAX, domain) && take(rest, ':'))) &&
        take(rest, 2, 0x100, bus) && take(rest, ':') && take(rest, 2, 32, device) && take(rest, '.') &&
        take(rest, 1, 8, function) && rest.empty() && (digits <= 4 || domain > 0xffff);
    if (!well_formed)
        return fail(Errc::invalid_argument,
                    "'{}' is no PCI address: DOMAIN:BUS:DEVICE.FUNCTION in hexadecimal, as in 0000:3b:00.1",
                    text);
    return Address{domain, static_cast<uint8_t>(bus), static_cast<uint8_t>(device),
                   static_cast<uint8_t>(function)};
}

std::string to_string(const Address& address) {
    return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", address.domain, address.bus, address.device,
                       address.function);
}

RequesterId requester_of(const Address& address) {
    return {static_cast<uint16_t>(address.bus << 8 | address.device << 3 | address.function)};
}

} // namespace lanepool::pci
