// SPDX-License-Identifier: Apache-2.0
#include "site/table_reader.h"

#include "pool/input.h"
#include "site/words.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>

namespace lanepool::site {

namespace {
constexpr size_t most_names = 1024; // in one list
}

std::string in_quotes(std::string_view text) {
    return fmt::format("'{}'", pool::limited(text, pool::longest_name));
}

std::string suggestion(std::string_view text, const std::vector<std::string_view>& candidates,
                       std::string_view otherwise) {
    const auto near = nearest(text, candidates);
    return near.empty() ? fmt::format("; {}", otherwise) : fmt::format("; did you mean '{}'?", near);
}

bool check_name(std::string_view name, Position at, Problems& problems) {
    if (pool::is_name(name)) return true;
    problems.add(
        at, fmt::format(
                "{} is no name; a name has 1 to {} letters, digits, '.', '_' and '-', the first of them a "
                "letter or digit",
                in_quotes(name), pool::longest_name));
    return false;
}

Position TableReader::at(std::string_view key) const {
    const auto* member = table_.member(key);
    return member ? member->value.at : table_.at;
}

const Value* TableReader::look(std::string_view key) {
    known_.push_back(key);
    const auto* member = table_.member(key);
    return member ? &member->value : nullptr;
}

const Value* TableReader::find(std::string_view key, Value::Kind kind, std::string_view example) {
    const auto* value = look(key);
    if (!value || value->kind == kind) return value;
    problem(value->at, fmt::format("{}: {} is {}; write {}, for example {} = {}", what_, key,
                                   site::name(value->kind), site::name(kind), key, example));
    return nullptr;
}

const Value* TableReader::need(std::string_view key, Value::Kind kind, std::string_view example) {
    const auto* value = find(key, kind, example);
    if (!has(key)) problem(table_.at, fmt::format("{} has no {}; write {} = {}", what_, key, key, example));
    return value;
}

bool TableReader::flag(std::string_view key, bool otherwise) {
    const auto* value = find(key, Value::Kind::boolean, otherwise ? "false" : "true");
    return value ? value->boolean : otherwise;
}

int64_t TableReader::number(std::string_view key, int64_t least, int64_t most, int64_t otherwise) {
    const auto* value = find(key, Value::Kind::integer, std::to_string(std::max(least, int64_t{1})));
    if (!value) return otherwise;
    if (value->integer >= least && value->integer <= most) return value->integer;
    problem(value->at, fmt::format("{}: {} is {}; write a number from {} to {}", what_, key, value->integer,
                                   least, most));
    return otherwise;
}

int64_t TableReader::duration_s(std::string_view key, int64_t least_s, int64_t most_s, int64_t otherwise_s) {
    const auto* value = find(key, Value::Kind::text, "\"8h\"");
    if (!value) return otherwise_s;
    const auto seconds = parse_duration_s(value->text);
    if (!seconds)
        problem(value->at,
                fmt::format("{}: {} is {}; write a duration such as \"30m\", \"8h\", \"2d\" or \"1h30m\"",
                            what_, key, in_quotes(value->text)));
    else if (*seconds < least_s || *seconds > most_s)
        problem(value->at,
                fmt::format("{}: {} is {}; write a duration from {} to {}", what_, key,
                            in_quotes(value->text), duration_text(least_s), duration_text(most_s)));
    else
        return *seconds;
    return otherwise_s;
}

size_t TableReader::choice(std::string_view key, std::initializer_list<std::string_view> words) {
    const auto* value = find(key, Value::Kind::text, fmt::format("\"{}\"", *words.begin()));
    if (!value) return 0;
    const auto* found = std::ranges::find(words, value->text);
    if (found != words.end()) return static_cast<size_t>(found - words.begin());
    problem(value->at, fmt::format("{}: {} is {}; write one of \"{}\"", what_, key, in_quotes(value->text),
                                   fmt::join(words, "\", \"")));
    return 0;
}

std::string TableReader::text(std::string_view key, size_t most, std::string_view example) {
    const auto* value = find(key, Value::Kind::text, example);
    if (!value) return {};
    if (!value->text.empty() && pool::limited(value->text, most) == value->text) return value->text;
    problem(value->at, fmt::format("{}: {} is {}; write 1 to {} bytes without control characters", what_, key,
                                   value->text.empty() ? "empty" : in_quotes(value->text), most));
    return {};
}

std::string TableReader::checked_name(std::string_view key, const Value& value) {
    if (value.text == "*") {
        problem(value.at,
                fmt::format("{}: {} names one thing, so it cannot be \"*\"; write its name", what_, key));
        return {};
    }
    return check_name(value.text, value.at, problems_) ? value.text : std::string();
}

std::string TableReader::name(std::string_view key, std::string_view example) {
    const auto* value = find(key, Value::Kind::text, example);
    return value ? checked_name(key, *value) : std::string();
}

std::string TableReader::needed_name(std::string_view key, std::string_view example) {
    const auto* value = need(key, Value::Kind::text, example);
    return value ? checked_name(key, *value) : std::string();
}

std::vector<PlacedName> TableReader::names_or_all(std::string_view key) {
    const auto* value = look(key);
    if (!value) {
        problem(
            table_.at,
            fmt::format("{} does not say which {} it is about; write {} = [\"NAME\", ...], or {} = \"*\" for "
                        "all of them",
                        what_, key, key, key));
        return {};
    }
    if (value->kind == Value::Kind::text && value->text == "*") return {};
    std::vector<const Value*> items;
    if (value->kind == Value::Kind::list)
        for (const auto& item : value->items)
            items.push_back(&item);
    else
        items.push_back(value);
    if (items.empty())
        problem(value->at,
                fmt::format("{}: {} is empty; name some, or write {} = \"*\" for all", what_, key, key));
    if (items.size() > most_names) {
        problem(value->at,
                fmt::format("{}: {} has {} names; write at most {}", what_, key, items.size(), most_names));
        return {};
    }
    std::vector<PlacedName> names;
    std::set<std::string_view> seen;
    for (const auto* item : items) {
        if (item->kind != Value::Kind::text)
            problem(item->at, fmt::format("{}: {} has {} in it; write a list of names, or \"*\"", what_, key,
                                          site::name(item->kind)));
        else if (item->text == "*")
            problem(item->at, fmt::format("{}: {} has \"*\" in a list; write {} = \"*\" alone, or names",
                                          what_, key, key));
        else if (!seen.insert(item->text).second)
            problem(item->at,
                    fmt::format("{}: {} names {} twice; once is enough", what_, key, in_quotes(item->text)));
        else if (check_name(item->text, item->at, problems_))
            names.push_back({item->text, item->at});
    }
    return names;
}

std::vector<const Value*> TableReader::tables(std::string_view key, size_t most, std::string_view example) {
    const auto* value = look(key);
    if (!value) return {};
    if (value->kind != Value::Kind::list) {
        problem(value->at,
                fmt::format("{}: {} is {}; write {}", what_, key, site::name(value->kind), example));
        return {};
    }
    if (value->items.size() > most)
        problem(value->at, fmt::format("{}: there are {} of {}; at most {} are taken", what_,
                                       value->items.size(), key, most));
    std::vector<const Value*> result;
    for (const auto& item : value->items) {
        if (result.size() == most) break;
        if (item.kind == Value::Kind::table)
            result.push_back(&item);
        else
            problem(item.at,
                    fmt::format("{}: {} has {} in it; write {}", what_, key, site::name(item.kind), example));
    }
    return result;
}

void TableReader::finish() {
    for (const auto& member : table_.members) {
        if (std::ranges::find(known_, member.key) != known_.end()) continue;
        problem(member.at, fmt::format("{} has no key {}{}", what_, in_quotes(member.key),
                                       suggestion(member.key, known_,
                                                  fmt::format("it takes {}", fmt::join(known_, ", ")))));
    }
}

} // namespace lanepool::site
