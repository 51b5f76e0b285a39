// SPDX-License-Identifier: Apache-2.0
//
// The numbers of the control plane, each a type of its own: a loan cannot be asked for by the number of a
// step.
#pragma once

#include <compare>
#include <cstdint>
#include <fmt/format.h>

namespace lanepool::pool {

template <class Tag>
struct Id {
    uint64_t value = 0; // 0: none

    auto operator<=>(const Id&) const = default;
    explicit operator bool() const { return value != 0; }
    Id next() const { return {value + 1}; }
};

using Fdid = Id<struct FdidTag>;     // a device, for ever; people write it in hexadecimal
using LoanId = Id<struct LoanIdTag>; // never used twice
using StepId = Id<struct StepIdTag>; // never used twice
using Epoch = Id<struct EpochTag>;   // per device, only grows: raised by each reservation and each cut

// The first fdid that is given out.
inline constexpr Fdid first_fdid{0x80000};

} // namespace lanepool::pool

template <class Tag>
struct fmt::formatter<lanepool::pool::Id<Tag>> : fmt::formatter<uint64_t> {
    auto format(const lanepool::pool::Id<Tag>& id, format_context& context) const {
        return fmt::formatter<uint64_t>::format(id.value, context);
    }
};

template <>
struct fmt::formatter<lanepool::pool::Fdid> {
    constexpr auto parse(format_parse_context& context) { return context.begin(); }
    auto format(const lanepool::pool::Fdid& id, format_context& context) const {
        return fmt::format_to(context.out(), "{:x}", id.value);
    }
};
