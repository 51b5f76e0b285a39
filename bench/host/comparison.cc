// SPDX-License-Identifier: Apache-2.0
#include "host/comparison.h"

#include "host/process_cpu.h"
#include "host/ruler.h"

#include <algorithm>
#include <cstdio>

namespace lanepool::bench {

namespace {
constexpr double ruler_tolerance = 2;
constexpr uint32_t depths[] = {1, 32};

template <class... Args>
void log(fmt::format_string<Args...> format, Args&&... args) {
    std::fputs(fmt::format("# {}\n", fmt::format(format, std::forward<Args>(args)...)).c_str(), stdout);
    std::fflush(stdout);
}
} // namespace

Result<> Comparison::run() {
    for (int attempt = 0; attempt < 2 * options_.rounds && std::ssize(rounds_) < options_.rounds; ++attempt) {
        auto round = TRY(run_round(static_cast<size_t>(attempt)));
        const auto [least, greatest] = std::minmax_element(round.rulers_ns.begin(), round.rulers_ns.end());
        if (*greatest > ruler_tolerance * *least) {
            ++discarded_;
            log("round discarded: the ruler went from {:.0f} to {:.0f} ns", *least, *greatest);
        } else {
            rounds_.push_back(std::move(round));
        }
    }
    if (rounds_.empty())
        return fail(Errc::unavailable,
                    "every round was discarded: the machine is too restless to compare anything");
    return {};
}

Result<Comparison::Round> Comparison::run_round(size_t number) {
    Round round;
    const auto read_ruler_now = [&]() -> Result<> {
        round.rulers_ns.push_back(TRY(read_ruler(options_.client_core, options_.server_core)));
        return {};
    };
    // Another one begins each time, so that none always runs on a machine that its predecessor has warmed.
    for (size_t i = 0; i < systems_.size(); ++i) {
        auto& system = *systems_[(i + number) % systems_.size()];
        TRY(read_ruler_now());
        for (const uint32_t depth : depths) {
            const double cpu = options_.server ? TRY(cpu_seconds(options_.server)) : 0;
            const auto start = Recorder::clock_now();
            auto measured =
                system.run({options_.size_bytes, depth, options_.duration, number * 1000 + depth});
            if (!measured && measured.error().code() == Errc::not_supported) continue;
            const auto& m = round.measured[{system.name(), depth}] = TRY(std::move(measured));
            const double wall = std::chrono::duration<double>(Recorder::clock_now() - start).count();
            if (options_.server)
                round.server_cpu[{system.name(), depth}] = (TRY(cpu_seconds(options_.server)) - cpu) / wall;
            log("{:12} QD{:<3} {:9.0f} IOPS {:8.2f} us, p50 {:8.2f}, p99 {:8.2f}", system.name(), depth,
                m.iops, m.mean_us, m.p50_us, m.p99_us);
        }
        TRY(read_ruler_now());
    }
    return round;
}

Row Comparison::ratio(const std::string& over, const std::string& under, uint32_t depth, bool latency,
                      std::optional<Goal> goal) const {
    Row row{fmt::format("host.randread-4k-qd{}.{}/{}.{}", depth, over, under, latency ? "p50_us" : "iops"),
            "x",
            {}};
    row.goal = goal;
    for (const auto& round : rounds_) {
        const auto a = round.measured.find({over, depth});
        const auto b = round.measured.find({under, depth});
        if (a == round.measured.end() || b == round.measured.end()) return row;
        row.values.push_back(latency ? a->second.p50_us / b->second.p50_us : a->second.iops / b->second.iops);
    }
    return row;
}

std::vector<Row> Comparison::rows() const {
    std::vector<Row> rows;
    for (const uint32_t depth : depths) {
        for (const auto& system : systems_) {
            const std::pair key{system->name(), depth};
            if (!rounds_.front().measured.count(key)) continue;
            const auto add = [&](const char* figure, const char* unit, auto value) {
                Row row{fmt::format("host.randread-4k-qd{}.{}.{}", depth, system->name(), figure), unit, {}};
                for (const auto& round : rounds_)
                    row.values.push_back(value(round));
                rows.push_back(std::move(row));
            };
            add("mean_us", "us", [&](auto& r) { return r.measured.at(key).mean_us; });
            add("p50_us", "us", [&](auto& r) { return r.measured.at(key).p50_us; });
            add("p99_us", "us", [&](auto& r) { return r.measured.at(key).p99_us; });
            add("iops", "IOPS", [&](auto& r) { return r.measured.at(key).iops; });
            if (options_.server) add("server_cpu", "cores", [&](auto& r) { return r.server_cpu.at(key); });
        }
    }
    // The bounds are what the best comparable target (a polling user-space one over the same file) reached on
    // the same kind of machine: 2.5 times pread's latency at depth 1, 1.2 times libaio's reads a second at
    // depth 32.
    std::vector<std::string> drives;
    for (const auto& system : systems_)
        if (const auto& name = system->name(); name != "pread" && name != "libaio" && name != "io_uring")
            drives.push_back(name);
    if (drives.empty()) drives.push_back("lanepool"); // its rows say that it was not measured
    for (const auto& name : drives) {
        rows.push_back(ratio(name, "pread", 1, true, Goal{Goal::Sense::at_most, 2.5}));
        rows.push_back(ratio(name, "libaio", 1, true, std::nullopt));
        rows.push_back(ratio(name, "libaio", 32, false, Goal{Goal::Sense::at_least, 1.2}));
        rows.push_back(ratio(name, "io_uring", 1, true, std::nullopt));
        rows.push_back(ratio(name, "io_uring", 32, false, std::nullopt));
    }
    std::erase_if(rows, [](auto& row) { return row.values.empty() && !row.goal; });
    Row ruler{"host.ruler", "ns", {}};
    ruler.note = fmt::format("{} rounds discarded", discarded_);
    for (const auto& round : rounds_)
        ruler.values.insert(ruler.values.end(), round.rulers_ns.begin(), round.rulers_ns.end());
    rows.push_back(std::move(ruler));
    return rows;
}

} // namespace lanepool::bench
