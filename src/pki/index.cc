// SPDX-License-Identifier: Apache-2.0
#include "pki/index.h"

#include <nlohmann/json.hpp>

namespace lanepool::pki {

namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Issued& issued) {
    const auto& holder = issued.holder;
    Json json{{"name", holder.name},
              {"role", name(holder.role)},
              {"serial", issued.serial},
              {"not_before", issued.validity.not_before_s},
              {"not_after", issued.validity.not_after_s}};
    if (!holder.host.empty()) json["host"] = holder.host;
    if (!holder.dns.empty()) json["dns"] = holder.dns;
    if (!holder.ip.empty()) json["ip"] = holder.ip;
    if (issued.revoked()) json["revoked"] = issued.revoked_s;
    return json;
}

// Each gives what is harmless where the key is missing or of another type; what has to be there is checked
// afterwards.
std::string text(const Json& json, const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

int64_t number(const Json& json, const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

std::vector<std::string> texts(const Json& json, const char* key) {
    std::vector<std::string> result;
    const auto found = json.find(key);
    if (found == json.end() || !found->is_array()) return result;
    for (const auto& item : *found)
        result.push_back(item.is_string() ? item.get<std::string>() : std::string());
    return result;
}

Result<Issued> parse_issued(const Json& json) {
    if (!json.is_object()) return fail(Errc::protocol, "an entry is no object");
    const auto role = role_named(text(json, "role"));
    Issued issued{{text(json, "name"), role.value_or(Role::user), text(json, "host"), texts(json, "dns"),
                   texts(json, "ip")},
                  text(json, "serial"),
                  {number(json, "not_before"), number(json, "not_after")},
                  number(json, "revoked")};
    if (!role) return fail(Errc::protocol, "an entry has no role");
    TRY(check(issued.holder));
    const bool hexadecimal = issued.serial.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (issued.serial.empty() || issued.serial.size() > 40 || !hexadecimal)
        return fail(Errc::protocol, "the entry of {} has no serial number", issued.holder.name);
    if (issued.validity.not_after_s <= issued.validity.not_before_s || issued.revoked_s < 0)
        return fail(Errc::protocol, "the entry of {} has no times", issued.holder.name);
    return issued;
}

} // namespace

std::string to_text(const Index& index) {
    Json json{{"crl_number", index.crl_number}, {"issued", Json::array()}};
    for (const auto& issued : index.issued)
        json["issued"].push_back(to_json(issued));
    return json.dump(1) + "\n";
}

Result<Index> parse_index(std::string_view text, std::string_view what) {
    const Json json = Json::parse(text, nullptr, false);
    const bool whole = json.is_object() && json.contains("issued") && json["issued"].is_array() &&
                       json.contains("crl_number") && json["crl_number"].is_number_unsigned();
    if (!whole) return fail(Errc::protocol, "{} is no index of a CA; take it from a backup", what);
    Index index{json["crl_number"].get<uint64_t>(), {}};
    for (const auto& item : json["issued"]) {
        auto issued = parse_issued(item);
        if (!issued) return tl::unexpected<Error>(issued.error().within(what));
        index.issued.push_back(*std::move(issued));
    }
    return index;
}

} // namespace lanepool::pki
