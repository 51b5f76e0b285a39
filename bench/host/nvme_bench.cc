// SPDX-License-Identifier: Apache-2.0
//
// Random reads through our own user-space NVMe driver, beside the kernel's ways to read the same file.
#include "host/comparison.h"
#include "host/process_cpu.h"
#include "host/ruler.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <thread>

namespace {

using namespace lanepool;
using namespace lanepool::bench;

struct Arguments {
    std::string file;
    std::vector<std::string> sockets; // NAME=PATH
    std::string json;
    std::vector<int> cores{0, 1};
    int rounds = 5;
    double runtime_s = 1;
    double idle_s = 3;
    pid_t server = 0;
    bool direct = false;
    bool uring = false;
};

Result<std::vector<std::unique_ptr<System>>> make_systems(const Arguments& arguments) {
    std::vector<std::unique_ptr<System>> systems;
    systems.push_back(TRY(make_pread(arguments.file, arguments.direct)));
    systems.push_back(TRY(make_libaio(arguments.file, arguments.direct)));
    if (arguments.uring) systems.push_back(TRY(make_io_uring(arguments.file, arguments.direct)));
    for (const auto& given : arguments.sockets) {
        const auto equals = given.find('=');
        const auto name = equals == std::string::npos ? "lanepool" : given.substr(0, equals);
        systems.push_back(TRY(
            make_nvme(name, equals == std::string::npos ? given : given.substr(equals + 1), arguments.file)));
    }
    return systems;
}

// What the server uses while a client is connected, and has a queue, but asks for nothing.
Result<Row> measure_idle(const Arguments& arguments) {
    Row row{"host.idle_cpu.model", "cores", {}};
    row.goal = Goal{Goal::Sense::at_most, 0.02};
    if (!arguments.server) return row;
    std::this_thread::sleep_for(std::chrono::seconds(1)); // until it has noticed
    const double before = TRY(cpu_seconds(arguments.server));
    const auto start = Recorder::clock_now();
    std::this_thread::sleep_for(std::chrono::duration<double>(arguments.idle_s));
    const double wall = std::chrono::duration<double>(Recorder::clock_now() - start).count();
    row.values.push_back((TRY(cpu_seconds(arguments.server)) - before) / wall);
    return row;
}

Result<> run(const Arguments& arguments) {
    if (arguments.cores.size() < 2 || arguments.cores[0] == arguments.cores[1])
        return fail(Errc::invalid_argument, "--cores names the client's core and others, the server's");
    std::error_code error;
    ComparisonOptions options;
    options.size_bytes = std::filesystem::file_size(arguments.file, error) / block_bytes * block_bytes;
    if (error) return fail(Errc::not_found, "{}: {}", arguments.file, error.message());
    options.duration =
        std::chrono::duration_cast<io::Duration>(std::chrono::duration<double>(arguments.runtime_s));
    options.rounds = arguments.rounds;
    options.client_core = arguments.cores[0];
    options.server_core = arguments.cores[1];
    options.server = arguments.server;
    auto systems = TRY(make_systems(arguments));
    // After the connections were made, so that every thread that they started in the server is there.
    if (arguments.server) TRY(pin_process(arguments.server, std::span(arguments.cores).subspan(1)));
    TRY(pin_to(options.client_core));
    Comparison comparison(std::move(systems), options);
    TRY(comparison.run());
    auto rows = comparison.rows();
    rows.push_back(TRY(measure_idle(arguments)));
    for (const auto& row : rows)
        fmt::print("{}\n", as_text(row));
    return arguments.json.empty() ? Result<>{} : write_json(rows, arguments.json);
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "Random 4 KiB reads from a host process: drives at vfio-user sockets beside pread and libaio");
    Arguments arguments;
    app.add_option("--file", arguments.file, "the file that the drives show, every block allocated")
        ->required();
    app.add_option("--socket", arguments.sockets,
                   "[NAME=]PATH of a vfio-user socket; more than one may be given");
    app.add_option("--server-pid", arguments.server,
                   "the serving process: it is put on its core, its time counted");
    app.add_option("--cores", arguments.cores, "CLIENT,SERVER[,SERVER...]")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--rounds", arguments.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
    app.add_option("--runtime", arguments.runtime_s, "seconds of each measurement")
        ->check(CLI::Range(0.01, 3600.0))
        ->capture_default_str();
    app.add_option("--idle", arguments.idle_s, "seconds for which idling is measured")
        ->check(CLI::Range(0.1, 3600.0))
        ->capture_default_str();
    app.add_flag("--direct", arguments.direct, "open the file with O_DIRECT: for a file on a disk");
    app.add_flag("--uring", arguments.uring,
                 "io_uring as well: on tmpfs it hands each read to a kernel thread");
    app.add_option("--json", arguments.json, "write the rows there, too");
    CLI11_PARSE(app, argc, argv);
    if (auto done = run(arguments); !done) {
        fmt::print(stderr, "lanepool-bench-host: {}\n", done.error().message());
        return 1;
    }
    return 0;
}
