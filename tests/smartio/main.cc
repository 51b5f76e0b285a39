// SPDX-License-Identifier: Apache-2.0
//
// Load that may be killed, and whose agents, managers and partners may be: goes on again and again until it
// is told to end. Ends with status 2 when it has seen something that must not be.
#include "smartio/roles.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <thread>

int main(int argc, char** argv) {
    using namespace lanepool::load;
    CLI::App app("Uses segments, interrupts and a shared drive for ever");
    Options options;
    std::string role;
    std::string progress_file;
    app.add_option("ROLE", role, "drive, ping, pong or hostile")
        ->required()
        ->check(CLI::IsMember({"drive", "ping", "pong", "hostile"}));
    app.add_option("--agent", options.agent, "its application socket")->required();
    app.add_option("--progress", progress_file, "where to count")->required();
    app.add_option("--fdid", options.fdid, "of the drive");
    app.add_option("--first-block", options.first_block, "of those that are written");
    app.add_option("--node", options.node, "where pong is");
    app.add_option("--id", options.id, "of segments and interrupts");
    CLI11_PARSE(app, argc, argv);
    auto progress = Progress::create(progress_file);
    if (!progress) wrong(progress.error().message());
    const auto run = role == "drive" ? drive : role == "ping" ? ping : role == "pong" ? pong : hostile;
    while (true) {
        const auto ended = run(options, *progress);
        std::fprintf(stderr, "%s: %s\n", role.c_str(), ended ? "ended" : ended.error().message().c_str());
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}
