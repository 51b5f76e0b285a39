// SPDX-License-Identifier: Apache-2.0
#include "cli/context.h"
#include "sim/report.h"

#include <chrono>
#include <random>

namespace lanepool::cli {

namespace {

struct SimArguments {
    uint64_t seeds = 100;
    std::optional<uint64_t> first;
    std::string without;
    sim::SimOptions options;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void print(const sim::Report& report, double seconds) {
    const auto& total = report.total();
    fmt::print("{} seeds in {:.1f} s: {} loans ({:.0f} a second), {} events, {} invariants checked\n",
               report.seeds(), seconds, total.loans, static_cast<double>(total.loans) / seconds, total.events,
               total.checks);
    for (size_t i = 0; i < sim::fault_count; ++i)
        if (total.faults[i] != 0)
            fmt::print("  {:<22}{}\n", name(static_cast<sim::Fault>(i)), total.faults[i]);
    for (const auto& failed : report.failures())
        fmt::print("seed {} is wrong after {} loans, {}\n  again: {}\n", failed.seed, failed.loans,
                   failed.failure, report.reproduce(failed.seed));
}

// Fails when a seed does.
Result<int> simulate_seeds(const SimArguments& arguments, const Context& context) {
    sim::SimOptions options = arguments.options;
    if (!arguments.without.empty()) options.without = sim::protection(arguments.without);
    // Without a seed it is another part of all that can happen at each call.
    const uint64_t first = arguments.first ? *arguments.first : uint64_t{std::random_device()()} << 20;
    if (!context.json()) fmt::print("seeds {} to {}\n", first, first + arguments.seeds - 1);
    sim::Report report(options);
    const auto start = std::chrono::steady_clock::now();
    auto said = start;
    for (uint64_t i = 0; i < arguments.seeds; ++i) {
        report.add(sim::simulate(first + i, options));
        if (seconds_since(said) < 5) continue;
        said = std::chrono::steady_clock::now();
        fmt::print(stderr, "{} of {} seeds, {} loans, {} wrong\n", i + 1, arguments.seeds,
                   report.total().loans, report.failures().size());
    }
    if (context.json()) {
        auto json = report.json(seconds_since(start));
        json["first_seed"] = first;
        fmt::print("{}\n", json.dump(2));
    } else {
        print(report, seconds_since(start));
    }
    return report.failures().empty() ? exit_ok : exit_failed;
}

} // namespace

void add_sim_command(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("sim", "Simulate whole sites under faults, and check that all stays right")
                    ->group("Development");
    auto arguments = std::make_shared<SimArguments>();
    sub->add_option("--seeds", arguments->seeds, "How many seeds")->capture_default_str();
    sub->add_option("--seed", arguments->first, "The first one; a seed leads to the same events each time");
    sub->add_option("--hosts", arguments->options.hosts, "Hosts of a site")
        ->check(CLI::Range(8, 1000))
        ->capture_default_str();
    sub->add_option("--loans", arguments->options.loans, "Loans of a seed")->capture_default_str();
    sub->add_option("--controllers", arguments->options.controllers, "Controllers of a site")
        ->check(CLI::Range(1, 3))
        ->capture_default_str();
    sub->add_flag("--whole-hosts", arguments->options.whole_hosts,
                  "Every second lender has its devices to itself until they are taken");
    std::vector<std::string> names;
    for (const auto protection : sim::protections)
        names.emplace_back(name(protection));
    sub->add_option("--without", arguments->without, "Leave a protection out, to see that it is missed")
        ->check(CLI::IsMember(names));
    sub->callback([arguments, &context] { finish(context, simulate_seeds(*arguments, context)); });
}

} // namespace lanepool::cli
