// SPDX-License-Identifier: Apache-2.0
#include "site/words.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <fmt/format.h>
#include <utility>

namespace lanepool::site {

namespace {

struct Unit {
    std::string_view name;
    uint64_t size;
};

constexpr std::array<Unit, 5> time_units{{{"w", 7 * 86400}, {"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}};
constexpr int64_t longest_s = int64_t{100} * 366 * 86400;

constexpr std::array<Unit, 11> size_units{{{"B", 1},
                                           {"kB", 1'000},
                                           {"MB", 1'000'000},
                                           {"GB", 1'000'000'000},
                                           {"TB", 1'000'000'000'000},
                                           {"PB", 1'000'000'000'000'000},
                                           {"KiB", uint64_t{1} << 10},
                                           {"MiB", uint64_t{1} << 20},
                                           {"GiB", uint64_t{1} << 30},
                                           {"TiB", uint64_t{1} << 40},
                                           {"PiB", uint64_t{1} << 50}}};

constexpr std::array<std::string_view, 7> day_names{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool same_ignoring_case(std::string_view a, std::string_view b) {
    return std::ranges::equal(
        a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// Takes the digits that TEXT begins with, at most 15 of them, so that nothing overflows.
std::optional<uint64_t> take_number(std::string_view& text) {
    const auto digits = static_cast<size_t>(std::ranges::find_if_not(text, is_digit) - text.begin());
    if (digits == 0 || digits > 15) return std::nullopt;
    uint64_t value = 0;
    std::from_chars(text.data(), text.data() + digits, value);
    text.remove_prefix(digits);
    return value;
}

bool take(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    return true;
}

// "HH:MM" in minutes; two digits each, minutes below 60.
std::optional<int32_t> take_clock(std::string_view& text) {
    if (text.size() < 5 || text[2] != ':') return std::nullopt;
    for (const size_t i : {0, 1, 3, 4})
        if (!is_digit(text[i])) return std::nullopt;
    const int hours = (text[0] - '0') * 10 + text[1] - '0';
    const int minutes = (text[3] - '0') * 10 + text[4] - '0';
    if (minutes > 59) return std::nullopt;
    text.remove_prefix(5);
    return hours * 60 + minutes;
}

std::optional<size_t> take_day(std::string_view& text) {
    for (size_t day = 0; day < day_names.size(); ++day)
        if (take(text, day_names[day])) return day;
    return std::nullopt;
}

// Bit 0 is Monday. 0: these are no days.
uint8_t take_days(std::string_view& text) {
    if (take(text, "daily")) return 0x7f;
    if (take(text, "weekdays")) return 0x1f;
    if (take(text, "weekends")) return 0x60;
    uint8_t days = 0;
    do {
        const auto first = take_day(text);
        const auto last = first && take(text, "-") ? take_day(text) : first;
        if (!last) return 0;
        for (size_t day = *first;; day = (day + 1) % 7) { // sat-mon goes over the week's end
            days = static_cast<uint8_t>(days | 1U << day);
            if (day == *last) break;
        }
    } while (take(text, ","));
    return days;
}

} // namespace

std::optional<int64_t> parse_duration_s(std::string_view text) {
    if (text.empty()) return std::nullopt;
    int64_t total = 0;
    auto unit = time_units.begin();
    while (!text.empty()) {
        const auto number = take_number(text);
        if (!number) return std::nullopt;
        unit = std::find_if(unit, time_units.end(),
                            [&](const Unit& each) { return text.starts_with(each.name); });
        if (unit == time_units.end()) return std::nullopt;
        text.remove_prefix(1);
        if (*number > static_cast<uint64_t>(longest_s - total) / unit->size) return std::nullopt;
        total += static_cast<int64_t>(*number * unit->size);
        ++unit;
    }
    return total;
}

std::string duration_text(int64_t seconds) {
    std::string result;
    auto left = static_cast<uint64_t>(std::max<int64_t>(seconds, 0));
    for (const auto& unit : time_units) {
        if (left / unit.size > 0) result += fmt::format("{}{}", left / unit.size, unit.name);
        left %= unit.size;
    }
    return result.empty() ? "0s" : result;
}

std::optional<uint64_t> parse_capacity_bytes(std::string_view text) {
    const auto whole = take_number(text);
    if (!whole) return std::nullopt;
    uint64_t thousandths = 0;
    if (take(text, ".")) {
        const size_t before = text.size();
        const auto decimals = take_number(text);
        if (!decimals || before - text.size() > 3) return std::nullopt;
        thousandths = *decimals;
        for (size_t digits = before - text.size(); digits < 3; ++digits)
            thousandths *= 10;
    }
    take(text, " ");
    const auto unit = std::ranges::find_if(
        size_units, [&](const Unit& each) { return same_ignoring_case(text, each.name); });
    if (unit == size_units.end() || *whole > (UINT64_MAX / 2) / unit->size) return std::nullopt;
    // The largest unit is 2^50: a thousand of it fits.
    return *whole * unit->size + thousandths * unit->size / 1000;
}

std::optional<int32_t> parse_utc_offset_s(std::string_view text) {
    if (text.size() != 6 || (text[0] != '+' && text[0] != '-')) return std::nullopt;
    const bool west = text[0] == '-';
    text.remove_prefix(1);
    const auto minutes = take_clock(text);
    if (!minutes || *minutes > (west ? 12 : 14) * 60) return std::nullopt;
    return (west ? -*minutes : *minutes) * 60;
}

std::optional<WeeklyTimes> parse_weekly_times(std::string_view text) {
    const uint8_t days = take_days(text);
    if (days == 0 || !take(text, " ")) return std::nullopt;
    const auto begin = take_clock(text);
    if (!begin || !take(text, "-")) return std::nullopt;
    const auto end = take_clock(text);
    constexpr int day_minutes = 24 * 60;
    if (!end || !text.empty() || *begin >= day_minutes || *end > day_minutes || *begin == *end)
        return std::nullopt;
    const int length = *end > *begin ? *end - *begin : *end + day_minutes - *begin;
    return WeeklyTimes{days, *begin * 60, length * 60};
}

std::string_view nearest(std::string_view text, std::span<const std::string_view> candidates) {
    constexpr size_t longest = 64;
    std::string_view best;
    size_t limit = std::min<size_t>(3, text.size() / 3 + 1) + 1;
    for (const auto candidate : candidates) {
        const size_t apart =
            text.size() > candidate.size() ? text.size() - candidate.size() : candidate.size() - text.size();
        if (apart >= limit || text.size() > longest || candidate.size() > longest) continue;
        // Levenshtein's distance, a row at a time.
        std::array<size_t, longest + 1> row{};
        for (size_t j = 0; j <= candidate.size(); ++j)
            row[j] = j;
        size_t least = 0;
        for (size_t i = 1; i <= text.size() && least < limit; ++i) {
            size_t diagonal = std::exchange(row[0], i);
            least = i;
            for (size_t j = 1; j <= candidate.size(); ++j) {
                const size_t change = diagonal + (text[i - 1] == candidate[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
                least = std::min(least, row[j]);
            }
        }
        if (least < limit && row[candidate.size()] < limit) {
            limit = row[candidate.size()];
            best = candidate;
        }
    }
    return best;
}

} // namespace lanepool::site
