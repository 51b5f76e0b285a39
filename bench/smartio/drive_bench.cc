// SPDX-License-Identifier: Apache-2.0
#include "smartio/drive_bench.h"

#include "host/ruler.h"

#include <algorithm>
#include <array>

namespace lanepool::bench {

namespace {

constexpr double ruler_tolerance = 2;
constexpr std::array<uint32_t, 2> depths{1, 32};

struct Round {
    std::array<std::array<Measured, depths.size()>, 3> of; // remote, local, in process; by depth
    double ruler_ns = 0;
};

Row row_of(const std::string& name, const char* unit, const std::vector<Round>& rounds, auto figure,
           std::optional<Goal> goal = std::nullopt) {
    Row row{"smartio.randread-4k-" + name, unit, {}};
    row.goal = goal;
    for (const auto& round : rounds)
        row.values.push_back(figure(round));
    return row;
}

std::vector<Row> rows_of(const std::vector<Round>& rounds, const std::array<System*, 3>& systems) {
    std::vector<Row> rows;
    for (size_t i = 0; i < systems.size(); ++i) {
        rows.push_back(row_of("qd1." + systems[i]->name() + ".p50_us", "us", rounds,
                              [i](auto& r) { return r.of[i][0].p50_us; }));
        rows.push_back(row_of("qd32." + systems[i]->name() + ".iops", "IOPS", rounds,
                              [i](auto& r) { return r.of[i][1].iops; }));
    }
    rows.push_back(row_of("ruler", "ns", rounds, [](auto& r) { return r.ruler_ns; }));
    rows.push_back(row_of(
        "qd1.remote-local", "rulers", rounds,
        [](auto& r) { return (r.of[0][0].p50_us - r.of[1][0].p50_us) * 1000 / r.ruler_ns; },
        Goal{Goal::Sense::at_most, 2}));
    rows.push_back(row_of(
        "qd1.remote/in-process", "x", rounds, [](auto& r) { return r.of[0][0].p50_us / r.of[2][0].p50_us; },
        Goal{Goal::Sense::at_most, 1.4}));
    rows.push_back(row_of(
        "qd32.remote/local", "x", rounds, [](auto& r) { return r.of[0][1].iops / r.of[1][1].iops; },
        Goal{Goal::Sense::at_least, 0.95}));
    rows.push_back(row_of("qd32.remote/in-process", "x", rounds,
                          [](auto& r) { return r.of[0][1].iops / r.of[2][1].iops; }));
    return rows;
}

} // namespace

Result<std::vector<Row>> bench_drive(System& remote, System& local, System& in_process,
                                     const DriveBenchOptions& options) {
    TRY(pin_to(options.core));
    const std::array<System*, 3> systems{&remote, &local, &in_process};
    std::vector<Round> rounds;
    int discarded = 0;
    for (int attempt = 0; attempt < 2 * options.rounds && std::ssize(rounds) < options.rounds; ++attempt) {
        const auto number = static_cast<size_t>(attempt);
        const double before = TRY(read_ruler(options.core, options.server_core));
        Round round;
        // Another one begins each time.
        for (size_t turn = 0; turn < systems.size(); ++turn) {
            const size_t i = (turn + number) % systems.size();
            for (size_t d = 0; d < depths.size(); ++d)
                round.of[i][d] = TRY(systems[i]->run(
                    {options.size_bytes, depths[d], options.duration, number * 1000 + depths[d]}));
        }
        const double after = TRY(read_ruler(options.core, options.server_core));
        round.ruler_ns = (before + after) / 2;
        if (std::max(before, after) > ruler_tolerance * std::min(before, after))
            ++discarded;
        else
            rounds.push_back(round);
    }
    if (rounds.empty())
        return fail(Errc::unavailable, "every round was discarded: the machine is too restless");
    auto rows = rows_of(rounds, systems);
    rows.front().note = fmt::format("{} rounds discarded", discarded);
    return rows;
}

} // namespace lanepool::bench
