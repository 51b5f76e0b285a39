// SPDX-License-Identifier: Apache-2.0
#include "api/endpoints.h"

#include <algorithm>
#include <charconv>

namespace lanepool::api {

namespace {

bool is_port(std::string_view text) {
    uint16_t port = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), port);
    return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && port != 0;
}

bool all_of(std::string_view text, std::string_view allowed) {
    return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

constexpr std::string_view hexadecimal = "0123456789abcdefABCDEF";
constexpr std::string_view letters = "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ_";

bool is_address(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos || !is_port(text.substr(colon + 1))) return false;
    const auto host = text.substr(0, colon);
    if (host.starts_with('['))
        return host.ends_with(']') &&
               all_of(host.substr(1, host.size() - 2), fmt::format("{}:.", hexadecimal));
    return all_of(host, fmt::format("{}{}.-", hexadecimal, letters));
}

Result<Endpoint> parse(std::string_view text) {
    if (text.starts_with("unix:")) text.remove_prefix(5);
    if (text.starts_with('/')) return Endpoint{std::filesystem::path(text), {}};
    if (is_address(text)) return Endpoint{{}, std::string(text)};
    return fail(Errc::invalid_argument,
                "'{}' is no place of a controller: write unix:/path, HOST:PORT or [v6]:PORT, several of them "
                "with commas between",
                text);
}

} // namespace

Result<std::vector<Endpoint>> parse_endpoints(const std::string& list) {
    std::vector<Endpoint> endpoints;
    std::string_view rest = list;
    while (true) {
        const auto comma = rest.find(',');
        const auto endpoint = TRY(parse(rest.substr(0, comma)));
        if (std::find(endpoints.begin(), endpoints.end(), endpoint) == endpoints.end())
            endpoints.push_back(endpoint);
        if (endpoints.size() > max_endpoints)
            return fail(Errc::invalid_argument, "more than {} controllers are named", max_endpoints);
        if (comma == std::string_view::npos) return endpoints;
        rest.remove_prefix(comma + 1);
    }
}

} // namespace lanepool::api
