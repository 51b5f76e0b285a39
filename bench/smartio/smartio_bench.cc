// SPDX-License-Identifier: Apache-2.0
//
// Applications that use remote memory and devices themselves, beside what the machine allows.
#include "smartio/memory_bench.h"

#include <CLI/CLI.hpp>
#include <cstdio>

namespace {

using namespace lanepool;
using namespace lanepool::bench;

struct Arguments {
    std::vector<std::string> agents; // of two hosts, for memory
    std::string json;
    std::vector<int> cores{0, 1};
    int rounds = 5;
};

Result<std::vector<Row>> memory(const Arguments& arguments) {
    const auto bare = TRY(BareLinks::create());
    // Which node an agent is: asked by a child, as this process must have no threads before it forks.
    const auto links = [&](bool first, uint32_t other_node) -> Result<std::vector<std::unique_ptr<Link>>> {
        std::vector<std::unique_ptr<Link>> made;
        made.push_back(bare.end(first));
        made.push_back(TRY(make_segment_link(arguments.agents[first ? 0 : 1].c_str(), first, other_node)));
        return made;
    };
    auto peer = TRY(Peer::start(arguments.cores[1], [&]() -> Result<std::vector<std::unique_ptr<Link>>> {
        return links(false, TRY(node_of(arguments.agents[0].c_str())));
    }));
    auto own = TRY(links(true, TRY(node_of(arguments.agents[1].c_str()))));
    return bench_memory(*own[0], *own[1], peer, {arguments.rounds, arguments.cores[0], arguments.cores[1]});
}

Result<> run(const Arguments& arguments) {
    auto rows = TRY(memory(arguments));
    for (const auto& row : rows)
        fmt::print("{}\n", as_text(row));
    return arguments.json.empty() ? Result<>{} : write_json(rows, arguments.json);
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("Segments, interrupts and drives of other hosts, used by an application");
    Arguments arguments;
    app.add_option("--agents", arguments.agents, "the application sockets of two hosts")
        ->delimiter(',')
        ->required()
        ->expected(2);
    app.add_option("--cores", arguments.cores, "OWN,PEER")
        ->delimiter(',')
        ->expected(2)
        ->capture_default_str();
    app.add_option("--rounds", arguments.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
    app.add_option("--json", arguments.json, "write the rows there, too");
    CLI11_PARSE(app, argc, argv);
    if (const auto done = run(arguments); !done) {
        fmt::print(stderr, "lanepool-bench-smartio: {}\n", done.error().message());
        return 1;
    }
    return 0;
}
