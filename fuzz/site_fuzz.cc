// SPDX-License-Identifier: Apache-2.0
//
// The input is a site file. A site that is taken keeps what its readers rely on.
#include "pool/input.h"
#include "site/site_file.h"

#include <algorithm>
#include <cstdlib>

using namespace lanepool;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

template <class T>
bool has(const std::vector<T>& things, std::string_view name) {
    return std::ranges::any_of(things, [&](const T& each) { return each.name == name; });
}

void check_site(const pool::Site& site) {
    for (const auto& user : site.users)
        require(pool::is_name(user.name) && (user.tenant.empty() || has(site.tenants, user.tenant)));
    for (const auto& device_class : site.classes) {
        require(pool::is_name(device_class.name) && !device_class.any_of.empty());
        require(std::ranges::none_of(device_class.any_of, &pool::Selector::empty));
    }
    for (const auto& rule : site.rules) {
        require(rule.highest_priority >= rule.priority && rule.longest_s >= 0 && rule.grace_s >= 0);
        require(rule.longest_s == 0 || (rule.default_s > 0 && rule.default_s <= rule.longest_s));
        for (const auto& name : rule.classes)
            require(has(site.classes, name));
    }
    for (const auto& reservation : site.reservations) {
        require(reservation.count > 0 && reservation.weekly.has_value() != reservation.once.has_value());
        require(has(site.tenants, reservation.tenant) && has(site.classes, reservation.device_class));
        if (reservation.once) require(reservation.once->begin_us < reservation.once->end_us);
        if (!reservation.weekly) continue;
        const auto& weekly = *reservation.weekly;
        require(weekly.days != 0 && weekly.days < 0x80 && weekly.begin_s >= 0 && weekly.begin_s < 86400);
        require(weekly.length_s > 0 && weekly.length_s <= 86400);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto site = site::parse(text, "fuzzed");
    if (!site) {
        require(!site.error().message().empty());
        return 0;
    }
    check_site(*site);
    return 0;
}
