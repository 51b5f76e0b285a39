// SPDX-License-Identifier: Apache-2.0
#include "controllers/load.h"

namespace lanepool::controllers_test {

using namespace std::chrono_literals;

namespace {
constexpr auto longest_wait = 20s;
constexpr auto renewal_pause = 15ms;
} // namespace

Load::Load(const LoadOptions& options) : options_(options) {
    std::vector<std::string> devices;
    const unsigned renewed = options.devices; // and the one after it
    for (unsigned i = 0; i < options.devices + 2; ++i)
        devices.push_back(fmt::format("nvme{}", i));
    add_agent("store", std::move(devices));
    const auto work = [&](const std::string& host, Job job) {
        add_agent(host, {});
        job.host = host;
        workers_.push_back(std::make_unique<Worker>(std::move(job), journal_));
    };
    for (unsigned i = 0; i < options.workers; ++i)
        work(fmt::format("b{}", i),
             {.endpoints = options.for_clients, .device = fmt::format("store/nvme{}", i % options.devices)});
    work("renews", {.endpoints = options.for_clients,
                    .device = fmt::format("store/nvme{}", renewed),
                    .renews = true,
                    .pause = renewal_pause});
    work("renews-directly", {.endpoints = options.controllers,
                             .direct = true,
                             .device = fmt::format("store/nvme{}", renewed + 1),
                             .renews = true,
                             .pause = renewal_pause});
}

void Load::add_agent(const std::string& host, std::vector<std::string> devices) {
    agents_.push_back(std::make_unique<integration::FakeAgent>(
        options_.for_agents, host, static_cast<uint32_t>(agents_.size()), std::move(devices),
        [this, host](const v1::Step& step) { journal_.performed(host, step); }));
}

nlohmann::json Load::next(double since_s, bool direct) {
    const auto found = journal_.next(since_s, direct, longest_wait);
    if (!found) return {{"at", nullptr}, {"why", journal_.failures().second}};
    return {{"at", found->answered_s}, {"loan", found->loan}, {"failures", journal_.failures().first}};
}

nlohmann::json Load::check() {
    const auto deadline = Clock::now() + longest_wait;
    std::string why = "nobody was asked";
    while (Clock::now() < deadline) {
        auto client = api::Client::connect({.endpoints = options_.controllers, .timeout = 2s});
        const auto problems = client
                                  ? trail_.run(**client)
                                  : Result<std::vector<std::string>>(tl::unexpected<Error>(client.error()));
        if (!problems) {
            why = problems.error().message();
            std::this_thread::sleep_for(50ms);
            continue;
        }
        nlohmann::json result{{"problems", *problems},
                              {"entries", trail_.entries()},
                              {"acknowledged", trail_.acknowledged()},
                              {"steps", trail_.performed()}};
        for (const auto& agent : agents_)
            if (agent->unclean_prepares() != 0)
                result["problems"].push_back("a device was prepared that had not been wiped");
        return result;
    }
    return {{"problems", {fmt::format("the trail could not be read: {}", why)}}};
}

} // namespace lanepool::controllers_test
