// SPDX-License-Identifier: Apache-2.0
#include "pool/input.h"

#include <algorithm>
#include <set>

namespace lanepool::pool {

namespace {
bool is_alphanumeric(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

Result<> check_name(std::string_view what, std::string_view text) {
    if (is_name(text)) return {};
    return fail(Errc::invalid_argument,
                "'{}' cannot be the name of a {}: it takes 1 to {} letters, digits, '.', '_' and '-', "
                "the first of them a letter or digit",
                limited(text, longest_name), what, longest_name);
}

Result<> check_length(std::string_view what, std::string_view text) {
    if (text.size() <= longest_text) return {};
    return fail(Errc::invalid_argument, "{} has {} bytes, at most {} are taken", what, text.size(),
                longest_text);
}

Result<> check_count(std::string_view what, size_t count, size_t limit) {
    if (count <= limit) return {};
    return fail(Errc::no_space, "{} {}, at most {} are taken of one host", count, what, limit);
}

Result<> check_device(const ObservedDevice& device) {
    TRY(check_name("device", device.name));
    TRY(check_length("the kind of a device", device.identity.kind));
    TRY(check_length("the model of a device", device.identity.model));
    TRY(check_length("the serial number of a device", device.identity.serial));
    TRY(check_length("the firmware of a device", device.identity.firmware));
    if (!device.parent.empty()) TRY(check_name("device", device.parent));
    if (device.parent == device.name)
        return fail(Errc::invalid_argument, "device {} says that it is a function of itself", device.name);
    return {};
}
} // namespace

std::string limited(std::string_view text, size_t limit) {
    // Not in the middle of a UTF-8 sequence: its later bytes are 10xxxxxx.
    if (text.size() > limit) {
        while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80)
            --limit;
        text = text.substr(0, limit);
    }
    std::string kept(text);
    for (char& c : kept)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
    return kept;
}

Errc code_of(std::string_view reason) {
    const size_t open = reason.rfind('[');
    if (open == std::string_view::npos || !reason.ends_with(']')) return Errc::failed_precondition;
    return code_named(reason.substr(open + 1, reason.size() - open - 2)).value_or(Errc::failed_precondition);
}

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= longest_name && is_alphanumeric(text.front()) &&
           std::all_of(text.begin(), text.end(),
                       [](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

Result<> check(const Hello& hello, const Options& options) {
    TRY(check_name("host", hello.host));
    TRY(check_length("the instance of an agent", hello.instance));
    TRY(check_length("the version of an agent", hello.version));
    if (hello.instance.empty())
        return fail(Errc::invalid_argument, "the agent of host {} names no instance of itself", hello.host);
    TRY(check_count("devices", hello.devices.size(), options.devices_per_host));
    TRY(check_count("guests", hello.guests.size(), options.guests_per_host));
    TRY(check_count("loans", hello.loans.size(), options.observed_loans));
    std::set<std::string_view> seen;
    for (const auto& guest : hello.guests) {
        TRY(check_name("guest", guest));
        if (!seen.insert(guest).second)
            return fail(Errc::invalid_argument, "host {} names guest {} twice", hello.host, guest);
    }
    seen.clear();
    for (const auto& device : hello.devices) {
        TRY(check_device(device));
        TRY(check_count("loans that share a device", device.joined.size(), options.observed_loans));
        if (!seen.insert(device.name).second)
            return fail(Errc::invalid_argument, "host {} names device {} twice", hello.host, device.name);
    }
    std::set<LoanId> loans;
    for (const auto& loan : hello.loans)
        if (!loan.loan || !loans.insert(loan.loan).second)
            return fail(Errc::invalid_argument, "host {} reports loan {}, which is no number or there twice",
                        hello.host, loan.loan);
    return {};
}

} // namespace lanepool::pool
