// SPDX-License-Identifier: Apache-2.0
//
// Quantities as people write them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace lanepool::cli {

// An option for a time in seconds: "30s", "90m", "8h", "2d".
inline CLI::Option* add_time(CLI::App* sub, const std::string& name, int64_t& seconds,
                             const std::string& help) {
    return sub->add_option(name, seconds, help)
        ->transform(CLI::AsNumberWithUnit(
            std::map<std::string, int64_t>{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}, {"w", 604800}},
            CLI::AsNumberWithUnit::CASE_INSENSITIVE, "TIME"))
        ->check(CLI::NonNegativeNumber);
}

// An option for a capacity in bytes: "512GiB", "1TB".
inline CLI::Option* add_capacity(CLI::App* sub, const std::string& name, uint64_t& bytes,
                                 const std::string& help) {
    return sub->add_option(name, bytes, help)->transform(CLI::AsSizeValue(false));
}

} // namespace lanepool::cli
