// SPDX-License-Identifier: Apache-2.0
//
// A TOML text as a tree of plain values that know where they stand. It keeps the TOML library, which is
// large, out of all other files.
#pragma once

#include "site/problems.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::site {

struct Member;

struct Value {
    enum class Kind {
        text,
        integer,
        real, // its value is not kept: nothing in a site file is one
        boolean,
        instant,    // a date and time with an offset
        local_time, // a date or time without: not kept either
        list,
        table,
    };

    Kind kind = Kind::table;
    Position at;
    std::string text;
    int64_t integer = 0;
    bool boolean = false;
    int64_t unix_us = 0; // of an instant
    std::vector<Value> items;
    std::vector<Member> members; // of a table, by key

    const Member* member(std::string_view key) const;
};

struct Member {
    std::string key;
    Position at;
    Value value;
};

// "a text", "a list", ...: for messages.
std::string_view name(Value::Kind kind);

// Reads TEXT; the first thing that is no TOML, is too deep or too large is added to PROBLEMS, and there is no
// result.
inline constexpr size_t most_bytes = 1024 * 1024;
std::optional<Value> read_document(std::string_view text, Problems& problems);

} // namespace lanepool::site
