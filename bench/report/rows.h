// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <optional>
#include <string>
#include <vector>

namespace lanepool::bench {

struct Goal {
    enum class Sense { at_most, at_least } sense;
    double bound;
};

// One figure: the median of VALUES, one for each round; none: not measured.
struct Row {
    std::string name;
    std::string unit;
    std::vector<double> values;
    std::optional<Goal> goal = std::nullopt;
    std::string note = {};

    std::optional<double> median() const;
    // "held", "missed", "measured" where there is no goal, or "not measured".
    std::string status() const;
};

// For people: a line a row.
std::string as_text(const Row& row);
// For programs: an array of objects (name, value, unit, goal, status, min, max, note).
Result<> write_json(const std::vector<Row>& rows, const std::string& path);

} // namespace lanepool::bench
