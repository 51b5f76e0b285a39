// SPDX-License-Identifier: Apache-2.0
//
// Applications that use remote memory and devices themselves, beside what the machine allows.
#include "smartio/borrowed_drive.h"
#include "smartio/drive_bench.h"
#include "smartio/in_process.h"
#include "smartio/memory_bench.h"
#include "smartio/sharing_bench.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>

namespace {

using namespace lanepool;
using namespace lanepool::bench;

struct Arguments {
    std::vector<std::string> agents;   // of two hosts, for memory
    std::string lender;                // the agent of the drives' host
    std::string shared;                // the fdid of a drive that has a manager
    std::vector<std::string> hosts;    // the agents of those that share it evenly
    std::vector<std::string> weighted; // WEIGHT=AGENT
    std::vector<std::string> drives;   // two: FDID=FILE
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

struct Drive {
    uint64_t fdid;
    std::string file;

    static Result<Drive> parse(const std::string& text) {
        const auto equals = text.find('=');
        if (equals == std::string::npos) return fail(Errc::invalid_argument, "'{}' is not FDID=FILE", text);
        return Drive{std::stoull(text.substr(0, equals), nullptr, 16), text.substr(equals + 1)};
    }
};

Result<std::vector<Row>> drives(const Arguments& arguments) {
    const auto far = TRY(Drive::parse(arguments.drives[0]));
    const auto near = TRY(Drive::parse(arguments.drives[1]));
    const auto remote = TRY(make_borrowed("remote", arguments.agents[0], far.fdid, far.file));
    const auto local = TRY(make_borrowed("local", arguments.lender, near.fdid, near.file));
    const auto in_process = TRY(make_in_process(near.file, arguments.cores[1]));
    std::error_code error;
    DriveBenchOptions options;
    options.size_bytes = std::filesystem::file_size(near.file, error) / block_bytes * block_bytes;
    options.rounds = arguments.rounds;
    options.core = arguments.cores[0];
    options.server_core = arguments.cores[1];
    return bench_drive(*remote, *local, *in_process, options);
}

Result<std::vector<Row>> sharing(const Arguments& arguments) {
    SharingBenchOptions options;
    options.fdid = std::stoull(arguments.shared, nullptr, 16);
    options.agents = arguments.hosts;
    for (const auto& text : arguments.weighted) {
        const auto equals = text.find('=');
        if (equals == std::string::npos)
            return fail(Errc::invalid_argument, "'{}' is not WEIGHT=AGENT", text);
        options.weighted.emplace_back(text.substr(equals + 1), std::stod(text.substr(0, equals)));
    }
    options.rounds = arguments.rounds;
    options.core = arguments.cores[0];
    return bench_sharing(options);
}

Result<> run(const Arguments& arguments) {
    auto rows = TRY(memory(arguments));
    if (!arguments.drives.empty()) {
        const auto more = TRY(drives(arguments));
        rows.insert(rows.end(), more.begin(), more.end());
    }
    if (!arguments.shared.empty()) {
        const auto more = TRY(sharing(arguments));
        rows.insert(rows.end(), more.begin(), more.end());
    }
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
    app.add_option("--lender", arguments.lender, "the application socket of the drives' host");
    app.add_option("--drives", arguments.drives,
                   "FDID=FILE,FDID=FILE: two drives, the first to be borrowed by the first host, the other "
                   "by their own")
        ->delimiter(',')
        ->expected(2);
    app.add_option("--shared", arguments.shared, "the fdid of a third drive, which has a manager");
    app.add_option("--hosts", arguments.hosts, "the application sockets of hosts that share it evenly")
        ->delimiter(',');
    app.add_option("--weighted", arguments.weighted, "WEIGHT=SOCKET of hosts that share it by weight")
        ->delimiter(',');
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
