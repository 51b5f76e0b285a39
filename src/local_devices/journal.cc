// SPDX-License-Identifier: Apache-2.0
#include "local_devices/journal.h"

#include "pci/address.h"

#include <nlohmann/json.hpp>

namespace lanepool::local_devices {

namespace {

using nlohmann::json;

constexpr int version = 1;
constexpr size_t most_groups = 4096;
constexpr size_t most_members = 4096;
constexpr std::pair<Group::State, std::string_view> state_names[] = {
    {Group::State::taking, "taking"}, {Group::State::taken, "taken"}, {Group::State::returning, "returning"}};

json as_json(const Member& member) {
    json object = {{"address", pci::to_string(member.address)},
                   {"ids", member.identity.ids},
                   {"serial", member.identity.serial},
                   {"driver", member.driver},
                   {"driver_override", member.driver_override}};
    if (member.reset_method) object["reset_method"] = *member.reset_method;
    return object;
}

json as_json(const Group& group) {
    json object = {{"wanted", json::array()}, {"members", json::array()}};
    for (const auto& [state, text] : state_names)
        if (state == group.state) object["state"] = text;
    for (const auto& address : group.wanted)
        object["wanted"].push_back(pci::to_string(address));
    for (const auto& member : group.members)
        object["members"].push_back(as_json(member));
    return object;
}

Result<std::string> text_in(const json& object, const char* key) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    if (found == object.end() || !found->is_string()) return fail(Errc::protocol, "it has no text '{}'", key);
    return found->get<std::string>();
}

Result<json> list_in(const json& object, const char* key, size_t most) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    if (found == object.end() || !found->is_array() || found->size() > most)
        return fail(Errc::protocol, "it has no list '{}' of at most {}", key, most);
    return *found;
}

// What is written to sysfs must be one word: a name of a driver, or a list of reset methods.
Result<std::string> word_in(const json& object, const char* key) {
    std::string text = TRY(text_in(object, key));
    const auto odd = [](unsigned char letter) { return letter < ' ' || letter > '~' || letter == '/'; };
    if (text.size() > 256 || std::ranges::any_of(text, odd))
        return fail(Errc::protocol, "its '{}' is not a name", key);
    return text;
}

Result<pci::Address> address_in(const std::string& text) {
    const auto address = pci::parse_address(text);
    if (!address) return fail(Errc::protocol, "{}", address.error().message());
    return *address;
}

Result<Member> member_of(const json& object) {
    Member member;
    member.address = TRY(address_in(TRY(text_in(object, "address"))));
    member.identity = {TRY(text_in(object, "ids")), TRY(text_in(object, "serial"))};
    member.driver = TRY(word_in(object, "driver"));
    member.driver_override = TRY(word_in(object, "driver_override"));
    if (object.contains("reset_method")) member.reset_method = TRY(word_in(object, "reset_method"));
    return member;
}

Result<Group> group_of(const json& object) {
    Group group;
    const std::string text = TRY(text_in(object, "state"));
    const auto* const found =
        std::ranges::find(state_names, text, [](const auto& pair) { return pair.second; });
    if (found == std::end(state_names)) return fail(Errc::protocol, "there is no state '{}'", text);
    group.state = found->first;
    for (const auto& item : TRY(list_in(object, "wanted", most_members))) {
        if (!item.is_string()) return fail(Errc::protocol, "an address is not a text");
        group.wanted.push_back(TRY(address_in(item.get<std::string>())));
    }
    for (const auto& item : TRY(list_in(object, "members", most_members)))
        group.members.push_back(TRY(member_of(item)));
    return group;
}

} // namespace

std::string to_text(const Journal& journal) {
    json document = {{"version", version}, {"boot", journal.boot}, {"groups", json::array()}};
    for (const auto& group : journal.groups)
        document["groups"].push_back(as_json(group));
    return document.dump(1) + '\n';
}

Result<Journal> parse_journal(const std::string& text) {
    const json document = json::parse(text, nullptr, false);
    if (document.is_discarded() || !document.is_object())
        return fail(Errc::protocol, "it is not a JSON object");
    const auto found = document.find("version");
    if (found == document.end() || *found != version)
        return fail(Errc::protocol, "it is not of version {}", version);
    Journal journal;
    journal.boot = TRY(text_in(document, "boot"));
    for (const auto& item : TRY(list_in(document, "groups", most_groups)))
        journal.groups.push_back(TRY(group_of(item)));
    return journal;
}

} // namespace lanepool::local_devices
