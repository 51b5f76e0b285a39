// SPDX-License-Identifier: Apache-2.0
//
// Reads the keys of one table of a site file. What is not as it should be is added to the problems, and a
// harmless value is given instead, so that reading goes on and finds the next problem.
#pragma once

#include "site/document.h"
#include "site/problems.h"

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::site {

struct PlacedName {
    std::string name;
    Position at;
};

class TableReader {
  public:
    // WHAT names the table in messages: "this rule", later "rule 'night'". TABLE and PROBLEMS outlive this.
    TableReader(const Value& table, std::string what, Problems& problems)
        : table_(table), what_(std::move(what)), problems_(problems) {}

    void call_it(std::string what) { what_ = std::move(what); }
    const std::string& what() const { return what_; }
    Position at() const { return table_.at; }
    // Where KEY stands, or else the table.
    Position at(std::string_view key) const;
    bool has(std::string_view key) const { return table_.member(key) != nullptr; }
    void problem(Position at, std::string text) { problems_.add(at, std::move(text)); }

    // The key's value, if it is there and of KIND. EXAMPLE is what would be right, for messages.
    const Value* find(std::string_view key, Value::Kind kind, std::string_view example);
    // The same for a key that has to be there.
    const Value* need(std::string_view key, Value::Kind kind, std::string_view example);

    bool flag(std::string_view key, bool otherwise);
    int64_t number(std::string_view key, int64_t least, int64_t most, int64_t otherwise);
    // "8h": see words.h.
    int64_t duration_s(std::string_view key, int64_t least_s, int64_t most_s, int64_t otherwise_s);
    // Which of WORDS it is; the first where the key is missing or wrong.
    size_t choice(std::string_view key, std::initializer_list<std::string_view> words);
    // A text of 1 to MOST bytes without control characters; empty where the key is missing.
    std::string text(std::string_view key, size_t most, std::string_view example);
    // A name as hosts and devices have; empty where it is missing or wrong.
    std::string name(std::string_view key, std::string_view example);
    std::string needed_name(std::string_view key, std::string_view example);
    // One name, a list of names, or "*", which is none. It has to be there. NOUN: "tenants".
    std::vector<PlacedName> names_or_all(std::string_view key);
    // Tables in a list; none where it is missing or wrong.
    std::vector<const Value*> tables(std::string_view key, size_t most, std::string_view example);

    // Reports the keys that nobody has asked for.
    void finish();

  private:
    const Value* look(std::string_view key);
    std::string checked_name(std::string_view key, const Value& value);

    const Value& table_;
    std::string what_;
    Problems& problems_;
    std::vector<std::string_view> known_;
};

// "'NAME'", short and printable, as messages quote what the file says.
std::string in_quotes(std::string_view text);
// "; did you mean 'NEAREST'?" or "; OTHERWISE".
std::string suggestion(std::string_view text, const std::vector<std::string_view>& candidates,
                       std::string_view otherwise);
// Adds a problem unless NAME can be a name.
bool check_name(std::string_view name, Position at, Problems& problems);

} // namespace lanepool::site
