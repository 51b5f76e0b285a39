// SPDX-License-Identifier: Apache-2.0
#include "report/rows.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

namespace lanepool::bench {

namespace {
std::string goal_text(const Row& row) {
    if (!row.goal) return {};
    return fmt::format("{} {:g}", row.goal->sense == Goal::Sense::at_most ? "<=" : ">=", row.goal->bound);
}
std::string number(double value) {
    return value >= 1000 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}
} // namespace

std::optional<double> Row::median() const {
    if (values.empty()) return std::nullopt;
    auto sorted = values;
    std::sort(sorted.begin(), sorted.end());
    const size_t middle = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

std::string Row::status() const {
    const auto value = median();
    if (!value) return "not measured";
    if (!goal) return "measured";
    const bool held = goal->sense == Goal::Sense::at_most ? *value <= goal->bound : *value >= goal->bound;
    return held ? "held" : "missed";
}

std::string as_text(const Row& row) {
    const auto value = row.median();
    std::string spread;
    if (value) {
        const auto [least, greatest] = std::minmax_element(row.values.begin(), row.values.end());
        spread = fmt::format("[{} .. {}]", number(*least), number(*greatest));
    }
    return fmt::format("{:44} {:>9} {:5} {:8} {:12} {} {}", row.name, value ? number(*value) : "-", row.unit,
                       goal_text(row), row.status(), spread, row.note);
}

Result<> write_json(const std::vector<Row>& rows, const std::string& path) {
    auto list = nlohmann::json::array();
    for (const auto& row : rows) {
        nlohmann::json object{{"name", row.name}, {"value", nullptr},       {"unit", row.unit},
                              {"goal", nullptr},  {"status", row.status()}, {"min", nullptr},
                              {"max", nullptr},   {"note", row.note}};
        if (const auto value = row.median()) {
            object["value"] = *value;
            object["min"] = *std::min_element(row.values.begin(), row.values.end());
            object["max"] = *std::max_element(row.values.begin(), row.values.end());
        }
        if (row.goal) object["goal"] = goal_text(row);
        list.push_back(std::move(object));
    }
    std::ofstream file(path);
    file << list.dump(1) << '\n';
    file.close();
    if (!file) return fail(Errc::io, "{} could not be written", path);
    return {};
}

} // namespace lanepool::bench
