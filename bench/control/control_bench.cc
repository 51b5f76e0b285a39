// SPDX-License-Identifier: Apache-2.0
//
// The control plane at the size of a data centre: the real controller, store and API; the agents are
// simulated and answer at once, so that what is measured is decisions, not hardware.
#include "control/controller_process.h"
#include "control/load.h"
#include "control/simulated_agents.h"
#include "report/rows.h"

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <set>

namespace {

using namespace lanepool;
using namespace lanepool::bench;
using Clock = std::chrono::steady_clock;

struct Arguments {
    std::string program = "build/lanepool";
    std::string folder = "/var/tmp";
    std::string json;
    size_t hosts = 1000;
    size_t devices_per_host = 11; // 10 that expire, and one that is renewed meanwhile
    size_t loans = 100'000;
    size_t decisions = 50'000;
    size_t at_a_time = 24;
    int64_t expiry_s = 20;
};

// When each loan was asked back.
class Detaches {
  public:
    void note(const v1::Step& step) {
        if (step.kind() != v1::STEP_DETACH) return;
        const std::lock_guard lock(mutex_);
        at_.emplace(step.loan_id(), Clock::now());
    }
    std::map<uint64_t, Clock::time_point> all() const {
        const std::lock_guard lock(mutex_);
        return at_;
    }

  private:
    mutable std::mutex mutex_;
    std::map<uint64_t, Clock::time_point> at_;
};

class Bench {
  public:
    Bench(const Arguments& arguments, const std::filesystem::path& folder)
        : arguments_(arguments), controller_(arguments.program, folder),
          agents_(controller_.endpoint(), arguments.hosts, arguments.devices_per_host,
                  [this](const v1::Step& step) { detaches_.note(step); }) {}

    Result<> run() {
        TRY(controller_.start_s());
        client_ = TRY(api::Client::connect({.endpoints = controller_.endpoint()}));
        TRY(join());
        TRY(fill());
        TRY(decide());
        TRY(refuse());
        TRY(expire());
        TRY(restart());
        return {};
    }
    const std::vector<Row>& rows() const { return rows_; }

  private:
    void add(std::string name, std::string unit, double value, std::optional<Goal> goal = {},
             std::string note = {}) {
        rows_.push_back({"control." + std::move(name), std::move(unit), {value}, goal, std::move(note)});
        std::printf("%s\n", as_text(rows_.back()).c_str());
        std::fflush(stdout);
    }
    static Goal at_least(double bound) { return {Goal::Sense::at_least, bound}; }
    static Goal at_most(double bound) { return {Goal::Sense::at_most, bound}; }
    void add_latencies(const std::string& name, const Latencies& latencies,
                       std::optional<Goal> p99_goal = {}) {
        add(name + ".p50", "ms", latencies.percentile_us(50) / 1000);
        add(name + ".p99", "ms", latencies.percentile_us(99) / 1000, p99_goal);
    }
    size_t devices() const { return arguments_.hosts * arguments_.devices_per_host; }

    Result<> join() {
        const auto start = Clock::now();
        TRY(agents_.connect(std::chrono::seconds(60)));
        add("join", "s", std::chrono::duration<double>(Clock::now() - start).count(), {},
            fmt::format("{} hosts, {} devices", arguments_.hosts, devices()));
        return {};
    }

    // Every device is lent, by name, to the next host; the other loans wait for one.
    Result<> fill() {
        const auto lent = Load::run(arguments_.at_a_time, [&](size_t number, Load::Decided decided) {
            if (number >= devices()) return false;
            const size_t host = number % arguments_.hosts;
            v1::BorrowRequest request;
            request.add_devices()->set_device(SimulatedAgents::device(host, number / arguments_.hosts));
            request.set_host(SimulatedAgents::host((host + 1) % arguments_.hosts));
            request.set_duration_s(86'400);
            borrow(*client_, std::move(request), std::move(decided));
            return true;
        });
        add("borrow.rate", "1/s", lent.rate(), {}, fmt::format("{} refused", lent.refused));
        add_latencies("borrow", lent);
        const auto queued = Load::run(arguments_.at_a_time, [&](size_t number, Load::Decided decided) {
            if (number + devices() >= arguments_.loans) return false;
            v1::BorrowRequest request;
            request.add_devices()->set_kind("nvme");
            request.set_host(SimulatedAgents::host(number % arguments_.hosts));
            request.set_duration_s(3600);
            request.set_wait_s(-1);
            borrow(*client_, std::move(request), std::move(decided));
            return true;
        });
        add("queue.rate", "1/s", queued.rate(), {}, fmt::format("{} refused", queued.refused));
        add_latencies("queue", queued);
        add("memory", "MiB", TRY(controller_.memory_mib()), {},
            fmt::format("{} loans live or queued", arguments_.loans));
        return {};
    }

    Result<> decide() {
        const double cpu = TRY(controller_.cpu_s());
        const auto renewed = Load::run(arguments_.at_a_time, [&](size_t number, Load::Decided decided) {
            if (number >= arguments_.decisions) return false;
            renew(*client_, fmt::format("loan:{}", 1 + number * 7919 % devices()), 86'400,
                  std::move(decided));
            return true;
        });
        add("decision.rate", "1/s", renewed.rate(), at_least(5000),
            fmt::format("{} refused", renewed.refused));
        add_latencies("decision", renewed, at_most(10));
        add("decision.cpu", "us",
            1e6 * (TRY(controller_.cpu_s()) - cpu) / static_cast<double>(renewed.each_us.size()), {},
            "of all the controller's threads, a decision");
        return {};
    }

    // What nobody has, and what somebody has who does not give it back.
    Result<> refuse() {
        const auto none = Load::run(arguments_.at_a_time, [&](size_t number, Load::Decided decided) {
            if (number >= arguments_.decisions / 10) return false;
            v1::BorrowRequest request;
            auto* selector = request.add_devices();
            selector->set_kind("nvme");
            selector->set_least_capacity_bytes(number % 2 ? 9'000'000'000'000 : 1);
            request.set_host(SimulatedAgents::host(number % arguments_.hosts));
            borrow(*client_, std::move(request), std::move(decided));
            return true;
        });
        add("refusal.rate", "1/s", none.rate(), {},
            fmt::format("{} of {} refused", none.refused, none.each_us.size()));
        add_latencies("refusal", none, at_most(10));
        return {};
    }

    // Ten devices of each host are due in the same second; the loans of the others are renewed all the while.
    Result<> expire() {
        const size_t expiring = arguments_.hosts * (arguments_.devices_per_host - 1);
        const auto due = Clock::now() + std::chrono::seconds(arguments_.expiry_s);
        std::vector<Clock::time_point> due_of(expiring + 1);
        const auto set = Load::run(arguments_.at_a_time, [&](size_t number, Load::Decided decided) {
            if (number >= expiring) return false;
            const auto now = Clock::now();
            const auto left_s =
                std::max<int64_t>(1, std::chrono::duration_cast<std::chrono::seconds>(due - now).count());
            due_of[number + 1] = now + std::chrono::seconds(left_s);
            renew(*client_, fmt::format("loan:{}", number + 1), left_s, std::move(decided));
            return true;
        });
        const auto renewed = Load::run(8, [&](size_t number, Load::Decided decided) {
            if (Clock::now() > due + std::chrono::seconds(10)) return false;
            renew(*client_, fmt::format("loan:{}", expiring + 1 + number % arguments_.hosts), 86'400,
                  std::move(decided));
            return true;
        });
        const auto detached = detaches_.all();
        std::vector<double> late_ms;
        size_t missed = 0;
        for (size_t loan = 1; loan <= expiring; ++loan) {
            const auto found = detached.find(loan);
            if (found == detached.end())
                ++missed;
            else
                late_ms.push_back(
                    std::chrono::duration<double, std::milli>(found->second - due_of[loan]).count());
        }
        std::sort(late_ms.begin(), late_ms.end());
        add("expiry.missed", "loans", static_cast<double>(missed), at_most(0),
            fmt::format("of {} due in the same second, {} not set", expiring, set.refused));
        if (!late_ms.empty()) {
            add("expiry.late.p50", "ms", late_ms[late_ms.size() / 2], {},
                "from the due time to the agent's step");
            add("expiry.late.max", "ms", late_ms.back());
        }
        add("expiry.renewals.refused", "loans", static_cast<double>(renewed.refused), at_most(0),
            fmt::format("of {} meanwhile", renewed.each_us.size()));
        add_latencies("expiry.renewals", renewed);
        return {};
    }

    Result<> restart() {
        controller_.kill();
        client_.reset();
        add("restart", "s", TRY(controller_.start_s()), at_most(2),
            fmt::format("SIGKILL to the first answer, with {} loans; {:.0f} MiB on disk", arguments_.loans,
                        controller_.disk_mib()));
        const auto start = Clock::now();
        TRY(agents_.connect(std::chrono::seconds(60)));
        add("restart.all_hosts_back", "s", std::chrono::duration<double>(Clock::now() - start).count());
        return {};
    }

    const Arguments arguments_;
    Detaches detaches_;
    ControllerProcess controller_;
    SimulatedAgents agents_;
    std::unique_ptr<api::Client> client_;
    std::vector<Row> rows_;
};

} // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    CLI::App app("Loads a controller with simulated agents and measures its decisions.",
                 "lanepool-bench-control");
    app.add_option("--program", arguments.program, "the lanepool program")->capture_default_str();
    app.add_option("--folder", arguments.folder, "where its database lies: on the disk that is meant")
        ->capture_default_str();
    app.add_option("--json", arguments.json, "write the rows there, too");
    app.add_option("--hosts", arguments.hosts)->capture_default_str()->check(CLI::Range(2, 4000));
    app.add_option("--devices-per-host", arguments.devices_per_host)
        ->capture_default_str()
        ->check(CLI::Range(2, 250));
    app.add_option("--loans", arguments.loans, "live or queued")->capture_default_str();
    app.add_option("--decisions", arguments.decisions, "to be measured")->capture_default_str();
    app.add_option("--at-a-time", arguments.at_a_time, "requests under way")->capture_default_str();
    app.add_option("--expiry", arguments.expiry_s, "seconds until the loans are due that expire together")
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    std::string folder = arguments.folder + "/lanepool-bench.XXXXXX";
    if (!::mkdtemp(folder.data())) {
        std::perror(folder.c_str());
        return 1;
    }
    auto result = Result<>();
    {
        Bench bench(arguments, folder);
        result = bench.run();
        if (result && !arguments.json.empty()) result = write_json(bench.rows(), arguments.json);
    }
    if (!result) {
        std::fprintf(stderr, "lanepool-bench-control: %s\n", result.error().message().c_str());
        std::fprintf(stderr, "lanepool-bench-control: the controller's log is kept in %s\n", folder.c_str());
        return 1;
    }
    std::filesystem::remove_all(folder);
    return 0;
}
