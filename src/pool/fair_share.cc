// SPDX-License-Identifier: Apache-2.0
#include "pool/fair_share.h"

#include <algorithm>
#include <array>

namespace lanepool::pool {
namespace {

constexpr int one_bits = 30;
constexpr int64_t one = 1LL << one_bits;
constexpr int64_t longest_days = 62; // after which nothing is left of anything

// 2^(2^-k) for k = 1 ... 20, with 30 bits after the point.
constexpr std::array<int64_t, 20> roots{1518500250, 1276901417, 1170923762, 1121280436, 1097253708,
                                        1085434106, 1079572136, 1076653033, 1075196443, 1074468888,
                                        1074105294, 1073923544, 1073832680, 1073787251, 1073764537,
                                        1073753181, 1073747502, 1073744663, 1073743244, 1073742534};

// 2^(part of a half life), for 0 <= part < half life: 1 to 2.
int64_t power(int64_t part_us) {
    int64_t result = one;
    for (const int64_t root : roots) {
        part_us *= 2;
        if (part_us < usage_half_life_us) continue;
        part_us -= usage_half_life_us;
        result = (result * root) >> one_bits;
    }
    return result;
}

int64_t day_of(int64_t unix_us) {
    return unix_us / usage_half_life_us - (unix_us % usage_half_life_us < 0 ? 1 : 0);
}

// Device-seconds that one device gathers if it is held for ever: half life / ln 2.
constexpr int64_t most_s = 124'649;

} // namespace

int64_t decayed(int64_t used_s, int64_t elapsed_us) {
    if (elapsed_us <= 0 || used_s <= 0) return std::max<int64_t>(used_s, 0);
    const int64_t days = day_of(elapsed_us);
    if (days >= longest_days) return 0;
    const int64_t halved = used_s >> days;
    // In two parts, so that nothing overflows: halved can have 62 bits.
    const int64_t divisor = power(elapsed_us - days * usage_half_life_us);
    return (halved / divisor) * one + ((halved % divisor) << one_bits) / divisor;
}

int64_t held_s(int64_t begin_us, int64_t end_us) {
    RunningLoans one_loan;
    one_loan.add(begin_us);
    return one_loan.held_s(end_us);
}

Usage charged(const Usage& usage, int64_t begin_us, int64_t end_us) {
    Usage after = usage;
    after.used_s =
        decayed(usage.used_s, usage.at_us == 0 ? 0 : end_us - usage.at_us) + held_s(begin_us, end_us);
    after.at_us = std::max(usage.at_us, end_us);
    return after;
}

void RunningLoans::change(int64_t begin_us, bool comes) {
    const int64_t day = day_of(begin_us);
    const auto found = days_.try_emplace(day).first;
    const int64_t weight = power(begin_us - day * usage_half_life_us);
    found->second.loans += comes ? 1 : -1;
    found->second.weight += comes ? weight : -weight;
    if (found->second.loans == 0) days_.erase(found);
}

// A device held since B has gathered most_s * (1 - 2^-(now - B)), with times in half lives; and
// 2^-(now - B) = 2^(part of B) / 2^(part of now) / 2^(days between).
int64_t RunningLoans::held_s(int64_t now_us) const {
    const int64_t today = day_of(now_us);
    const int64_t divisor = power(now_us - today * usage_half_life_us);
    int64_t total_s = 0;
    for (const auto& [day, loans] : days_) {
        if (day > today) break; // the clock went back: not begun yet
        const int64_t whole = loans.loans * most_s;
        if (today - day >= longest_days) {
            total_s += whole;
            continue;
        }
        const int64_t left =
            (loans.weight / divisor * most_s + loans.weight % divisor * most_s / divisor) >> (today - day);
        total_s += std::max<int64_t>(0, whole - left);
    }
    return total_s;
}

} // namespace lanepool::pool
