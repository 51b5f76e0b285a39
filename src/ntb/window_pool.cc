// SPDX-License-Identifier: Apache-2.0
#include "ntb/window_pool.h"

#include "ntb/switchtec.h"

#include <algorithm>
#include <bit>
#include <fmt/ranges.h>
#include <numeric>
#include <optional>

namespace lanepool::ntb {

namespace {

constexpr unsigned page_log2 = 12;
static_assert(uint64_t{1} << page_log2 == switchtec::min_window_bytes);
// What each pair of hosts has most of, rings of 64 KiB (mailbox.h, session/protocol.h), takes one entry;
// registers of a lent device are smaller. Entries are scarce, BAR is not.
constexpr unsigned small_entry_log2 = 16;

unsigned floor_log2(uint64_t value) { return static_cast<unsigned>(std::bit_width(value)) - 1; }

// COUNT LUT windows of at most MAX_LOG2 bytes in the first half of the BAR, the direct window behind them.
BarWindows divide(const WindowBar& bar, unsigned count, unsigned max_log2) {
    BarWindows result;
    result.slot = bar.slot;
    const uint64_t half = bar.size_bytes / 2;
    if (half < switchtec::min_window_bytes) return result;
    count = static_cast<unsigned>(std::min<uint64_t>(count, half >> page_log2));
    if (count > 0) {
        result.entries = count;
        result.entry_log2 = std::min(floor_log2(half / count), max_log2);
    }
    result.direct_offset = uint64_t{count} << result.entry_log2;
    // Translation replaces the high bits of the offset, so the window must lie at a multiple of its size.
    unsigned log2 = floor_log2(bar.size_bytes - result.direct_offset);
    if (result.direct_offset != 0)
        log2 = std::min(log2, static_cast<unsigned>(std::countr_zero(result.direct_offset)));
    result.direct_log2 = log2 >= page_log2 ? log2 : 0;
    return result;
}

// A run of COUNT free entries that begins at a multiple of ALIGNMENT.
std::optional<unsigned> find_run(const std::vector<bool>& used, uint64_t count, uint64_t alignment) {
    uint64_t run = 0;
    for (size_t i = 0; i < used.size(); ++i) {
        if (used[i])
            run = 0;
        else if (run != 0 || i % alignment == 0)
            ++run;
        if (run == count) return static_cast<unsigned>(i + 1 - count);
    }
    return std::nullopt;
}

// As a BAR lies on its bus, at a multiple of its size.
bool lies_as_a_bar(const Target& target) {
    return std::has_single_bit(target.size_bytes) && target.address.value % target.size_bytes == 0;
}

} // namespace

std::vector<BarWindows> plan_windows(std::span<const WindowBar> bars, unsigned lut_entries) {
    lut_entries = std::min(lut_entries, switchtec::max_lut_entries);
    std::vector<WindowBar> sorted(bars.begin(), bars.end());
    std::sort(sorted.begin(), sorted.end(), [](auto& a, auto& b) { return a.slot < b.slot; });
    const auto largest = std::max_element(sorted.begin(), sorted.end(),
                                          [](auto& a, auto& b) { return a.size_bytes < b.size_bytes; });
    std::vector<BarWindows> result;
    const unsigned large_entries =
        sorted.size() == 1 ? std::bit_floor(lut_entries) : std::bit_floor(lut_entries / 8);
    unsigned rest = lut_entries - large_entries;
    auto small_bars = static_cast<unsigned>(sorted.size()) - 1;
    unsigned next = 0;
    for (auto bar = sorted.begin(); bar != sorted.end(); ++bar) {
        BarWindows windows;
        if (bar == largest) {
            windows = divide(*bar, large_entries, 62);
        } else {
            windows = divide(*bar, rest / small_bars, small_entry_log2);
            rest -= windows.entries;
            --small_bars;
        }
        windows.first_entry = next;
        next += windows.entries;
        result.push_back(windows);
    }
    return result;
}

WindowPool::WindowPool(std::vector<BarWindows> bars) : bars_(std::move(bars)) {
    for (const auto& bar : bars_)
        used_.push_back({std::vector<bool>(bar.entries, false), false});
}

Result<Placement> WindowPool::place(const Target& target) {
    const uint64_t address = target.address.value;
    const uint64_t end = address + target.size_bytes;
    std::optional<Placement> best;
    double best_share = 0; // for a place at which a BAR could not lie, by 1 more
    size_t best_bar = 0;
    const auto consider = [&](size_t bar, const Placement& placement, double share) {
        if (best && share >= best_share) return;
        best = placement;
        best_share = share;
        best_bar = bar;
    };
    for (size_t i = 0; i < bars_.size(); ++i) {
        const auto& bar = bars_[i];
        if (bar.entries > 0) {
            const uint64_t base = address & ~(bar.entry_bytes() - 1);
            const uint64_t count = (end - 1 - base) / bar.entry_bytes() + 1;
            const uint64_t alignment = lies_as_a_bar(target) ? count : 1;
            auto first = count > bar.entries ? std::nullopt : find_run(used_[i].entries, count, alignment);
            double share = static_cast<double>(count) / bar.entries;
            if (!first && alignment != 1 && count <= bar.entries) {
                first = find_run(used_[i].entries, count, 1);
                share += 1;
            }
            if (first)
                consider(i,
                         {bar.slot, false, *first, bar.first_entry + *first, static_cast<unsigned>(count),
                          bar.entry_log2, BusAddress{base},
                          (uint64_t{*first} << bar.entry_log2) + (address - base), 0},
                         share);
        }
        if (bar.direct_log2 != 0 && !used_[i].direct) {
            // The smallest translation that has the whole target in it.
            const uint64_t crossing = address ^ (end - 1);
            const unsigned log2 =
                std::max<unsigned>(static_cast<unsigned>(std::bit_width(crossing)), page_log2);
            if (log2 > bar.direct_log2) continue;
            const uint64_t base = address & ~((uint64_t{1} << log2) - 1);
            const uint64_t size = ((end - 1 - base) >> page_log2 << page_log2) + switchtec::min_window_bytes;
            consider(
                i,
                {bar.slot, true, 0, 0, 0, log2, BusAddress{base}, bar.direct_offset + (address - base), size},
                1.0);
        }
    }
    if (!best)
        return fail(Errc::no_space,
                    "no window of {} bytes at {:#x} of partition {}: {} of {} windows are free ({}), the "
                    "largest that "
                    "this adapter can have is {} bytes; close windows, or give the adapter larger BARs",
                    target.size_bytes, address, target.partition.value, windows_free(), windows(),
                    free_by_bar(), largest_window_bytes());
    if (best->direct)
        used_[best_bar].direct = true;
    else
        for (unsigned k = 0; k < best->count; ++k)
            used_[best_bar].entries[best->first + k] = true;
    return *best;
}

std::string WindowPool::free_by_bar() const {
    std::vector<std::string> parts;
    for (size_t i = 0; i < bars_.size(); ++i) {
        const auto& bar = bars_[i];
        const auto free = std::count(used_[i].entries.begin(), used_[i].entries.end(), false);
        if (bar.entries > 0)
            parts.push_back(fmt::format("BAR {}: {} of {} with {} KiB each", bar.slot, free, bar.entries,
                                        bar.entry_bytes() >> 10));
        if (bar.direct_log2 != 0 && !used_[i].direct)
            parts.push_back(fmt::format("BAR {}: one of {} KiB", bar.slot, bar.direct_bytes() >> 10));
    }
    return fmt::format("{}", fmt::join(parts, ", "));
}

Result<std::vector<Placement>> WindowPool::allocate(std::span<const Target> targets) {
    for (const auto& target : targets)
        TRY(Range<BusAddress>::create(target.address, target.size_bytes));
    // Large ones first: they are the hardest to place.
    std::vector<size_t> order(targets.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return targets[a].size_bytes > targets[b].size_bytes; });
    const auto before = used_;
    std::vector<Placement> placements(targets.size());
    for (const size_t i : order) {
        auto placement = place(targets[i]);
        if (!placement) {
            used_ = before;
            return tl::unexpected(targets.size() == 1 ? placement.error()
                                                      : placement.error().within(fmt::format(
                                                            "{} windows at once", targets.size())));
        }
        placements[i] = *placement;
    }
    return placements;
}

void WindowPool::release(const Placement& placement) {
    for (size_t i = 0; i < bars_.size(); ++i) {
        if (bars_[i].slot != placement.slot) continue;
        if (placement.direct)
            used_[i].direct = false;
        else
            for (unsigned k = 0; k < placement.count; ++k)
                used_[i].entries[placement.first + k] = false;
    }
}

unsigned WindowPool::windows() const {
    unsigned count = 0;
    for (const auto& bar : bars_)
        count += bar.entries + (bar.direct_log2 != 0 ? 1 : 0);
    return count;
}

unsigned WindowPool::windows_free() const {
    unsigned count = 0;
    for (size_t i = 0; i < bars_.size(); ++i) {
        count += static_cast<unsigned>(std::count(used_[i].entries.begin(), used_[i].entries.end(), false));
        if (bars_[i].direct_log2 != 0 && !used_[i].direct) ++count;
    }
    return count;
}

uint64_t WindowPool::largest_window_bytes() const {
    uint64_t largest = 0;
    for (const auto& bar : bars_)
        largest = std::max({largest, uint64_t{bar.entries} << bar.entry_log2, bar.direct_bytes()});
    return largest;
}

uint64_t WindowPool::usual_slot_bytes(uint64_t size_bytes) const {
    uint64_t slot_bytes = switchtec::min_window_bytes;
    double best_share = 1; // of a direct window
    for (const auto& bar : bars_) {
        if (bar.entries == 0) continue;
        const uint64_t count = (size_bytes - 1) / bar.entry_bytes() + 1;
        const double share = static_cast<double>(count) / bar.entries;
        if (count > bar.entries || share >= best_share) continue;
        best_share = share;
        slot_bytes = bar.entry_bytes();
    }
    return slot_bytes;
}

} // namespace lanepool::ntb
