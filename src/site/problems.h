// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with a site file, all of it and not only the first thing.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lanepool::site {

// In a text, both counted from 1. 0: the file as a whole.
struct Position {
    uint32_t line = 0;
    uint32_t column = 0;

    auto operator<=>(const Position&) const = default;
};

// TEXT says what is wrong, then after a semicolon what would be right. One line, printable.
struct Problem {
    Position at;
    std::string text;

    bool operator==(const Problem&) const = default;
};

class Problems {
  public:
    // How many are kept; the others are counted.
    static constexpr size_t most = 50;

    void add(Position at, std::string text);
    size_t count() const { return count_; }
    // Nothing more will be kept: what only makes a message better can be left out.
    bool full() const { return kept_.size() >= most; }
    // By their place in the file.
    std::vector<Problem> sorted() const;

  private:
    std::vector<Problem> kept_;
    size_t count_ = 0;
};

} // namespace lanepool::site
