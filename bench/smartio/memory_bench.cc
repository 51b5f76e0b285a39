// SPDX-License-Identifier: Apache-2.0
#include "smartio/memory_bench.h"

#include "host/ruler.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace lanepool::bench {

namespace {

constexpr double ruler_tolerance = 2;
constexpr std::array block_sizes{std::pair{size_t{64} << 10, "64k"}, std::pair{size_t{1} << 20, "1m"},
                                 std::pair{link_bytes / 2, "32m"}};
constexpr uint32_t polled_round_trips = 200'000;
constexpr uint32_t blocking_round_trips = 4'000;

// Copies between FROM and TO, block after block through all of both, for a while: GB/s.
double copy_gbps(std::span<std::byte> to, std::span<const std::byte> from, size_t block_bytes) {
    constexpr std::chrono::milliseconds duration{150};
    uint64_t bytes = 0;
    const auto start = std::chrono::steady_clock::now();
    auto now = start;
    for (size_t at = 0; now - start < duration; at = (at + block_bytes) % from.size()) {
        std::memcpy(to.data() + at, from.data() + at, block_bytes);
        asm volatile("" : : "r"(to.data()) : "memory"); // what was copied is looked at
        bytes += block_bytes;
        now = std::chrono::steady_clock::now();
    }
    return static_cast<double>(bytes) / std::chrono::duration<double, std::nano>(now - start).count();
}

struct Measured {
    std::array<double, block_sizes.size()> write_gbps{};
    std::array<double, block_sizes.size()> read_gbps{};
    double polled_ns = 0;
    double blocking_ns = 0;
};

Result<Measured> measure(Link& link, size_t index, Peer& peer, std::span<std::byte> local) {
    Measured measured;
    for (size_t i = 0; i < block_sizes.size(); ++i) {
        const size_t block_bytes = block_sizes[i].first;
        // Small blocks stay in the cache, as they would in use.
        const size_t area_bytes = std::min(local.size(), std::max(block_bytes * 2, size_t{2} << 20));
        measured.write_gbps[i] =
            copy_gbps(link.there().first(area_bytes), local.first(area_bytes), block_bytes);
        measured.read_gbps[i] =
            copy_gbps(local.first(area_bytes), link.there().first(area_bytes), block_bytes);
    }
    measured.polled_ns = TRY(peer.round_trip_ns(link, index, Peer::Way::polled, polled_round_trips));
    measured.blocking_ns = TRY(peer.round_trip_ns(link, index, Peer::Way::blocking, blocking_round_trips));
    return measured;
}

struct Round {
    Measured bare, segment;
};

Row row_of(const std::string& name, const char* unit, const std::vector<Round>& rounds, auto figure,
           std::optional<Goal> goal = std::nullopt) {
    Row row{"smartio." + name, unit, {}};
    row.goal = goal;
    for (const auto& round : rounds)
        row.values.push_back(figure(round));
    return row;
}

std::vector<Row> rows_of(const std::vector<Round>& rounds) {
    const Goal bandwidth{Goal::Sense::at_least, 0.95};
    const Goal latency{Goal::Sense::at_most, 1.2};
    std::vector<Row> rows;
    for (size_t i = 0; i < block_sizes.size(); ++i) {
        const std::string size = block_sizes[i].second;
        rows.push_back(
            row_of("write-" + size, "GB/s", rounds, [i](auto& r) { return r.segment.write_gbps[i]; }));
        rows.push_back(row_of(
            "write-" + size + ".segment/memcpy", "x", rounds,
            [i](auto& r) { return r.segment.write_gbps[i] / r.bare.write_gbps[i]; }, bandwidth));
        rows.push_back(
            row_of("read-" + size, "GB/s", rounds, [i](auto& r) { return r.segment.read_gbps[i]; }));
        rows.push_back(row_of(
            "read-" + size + ".segment/memcpy", "x", rounds,
            [i](auto& r) { return r.segment.read_gbps[i] / r.bare.read_gbps[i]; }, bandwidth));
    }
    rows.push_back(row_of("pingpong", "ns", rounds, [](auto& r) { return r.segment.polled_ns; }));
    rows.push_back(row_of(
        "pingpong.segment/shared-memory", "x", rounds,
        [](auto& r) { return r.segment.polled_ns / r.bare.polled_ns; }, latency));
    rows.push_back(row_of("interrupt", "ns", rounds, [](auto& r) { return r.segment.blocking_ns; }));
    rows.push_back(row_of(
        "interrupt.interrupt/eventfd", "x", rounds,
        [](auto& r) { return r.segment.blocking_ns / r.bare.blocking_ns; }, latency));
    return rows;
}

} // namespace

Result<std::vector<Row>> bench_memory(Link& bare, Link& segment, Peer& peer,
                                      const MemoryBenchOptions& options) {
    TRY(pin_to(options.core));
    std::vector<std::byte> local(link_bytes);
    std::ranges::fill(local, std::byte{1});
    // Touched once, so that no page is made while it is measured.
    for (const auto* link : {&bare, &segment}) {
        std::memcpy(link->there().data(), local.data(), link_bytes);
        std::memcpy(link->here().data(), local.data(), link_bytes);
    }
    std::vector<Round> rounds;
    int discarded = 0;
    for (int attempt = 0; attempt < 2 * options.rounds && std::ssize(rounds) < options.rounds; ++attempt) {
        const double before = TRY(read_ruler(options.core, options.peer_core));
        Round round;
        // Each begins every other time.
        for (const bool bare_now : {attempt % 2 == 0, attempt % 2 != 0})
            (bare_now ? round.bare : round.segment) =
                TRY(measure(bare_now ? bare : segment, bare_now ? 0 : 1, peer, local));
        const double after = TRY(read_ruler(options.core, options.peer_core));
        if (std::max(before, after) > ruler_tolerance * std::min(before, after))
            ++discarded;
        else
            rounds.push_back(round);
    }
    if (rounds.empty())
        return fail(Errc::unavailable, "every round was discarded: the machine is too restless");
    auto rows = rows_of(rounds);
    rows.front().note = fmt::format("{} rounds discarded", discarded);
    return rows;
}

} // namespace lanepool::bench
