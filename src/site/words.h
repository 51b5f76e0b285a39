// SPDX-License-Identifier: Apache-2.0
//
// Quantities and times as people write them. Each function gives nothing where TEXT is not of its form, or
// does not fit: the caller knows what to say.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace lanepool::site {

// "30s", "30m", "8h", "2d", "1w", or several from large to small: "1h30m". At most 100 years. In seconds.
std::optional<int64_t> parse_duration_s(std::string_view text);
// The shortest such text.
std::string duration_text(int64_t seconds);

// "1 TB", "512 GiB", "1.5TB", "4096 B": decimal (kB, MB, GB, TB, PB) or binary (KiB ... PiB), at most three
// decimals.
std::optional<uint64_t> parse_capacity_bytes(std::string_view text);

// "+01:00", "-03:30", from -12:00 to +14:00. In seconds.
std::optional<int32_t> parse_utc_offset_s(std::string_view text);

// "weekdays 18:00-06:00", "mon,wed 09:00-12:30", "daily 00:00-24:00": days (daily, weekdays, weekends, or
// names and ranges of three letters, separated by commas), then begin and end; an end that is not later than
// the begin is on the next day. Days and times as in pool::Calendar.
struct WeeklyTimes {
    uint8_t days = 0;
    int32_t begin_s = 0;
    int32_t length_s = 0;

    bool operator==(const WeeklyTimes&) const = default;
};
std::optional<WeeklyTimes> parse_weekly_times(std::string_view text);

// The one of CANDIDATES that TEXT was probably meant to be; empty: none is near.
std::string_view nearest(std::string_view text, std::span<const std::string_view> candidates);

} // namespace lanepool::site
