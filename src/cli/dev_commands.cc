// SPDX-License-Identifier: Apache-2.0
//
// The embedded cluster: dev up, down, status, exec, port, ask.
#include "admin/server.h"
#include "cli/context.h"
#include "cli/table.h"
#include "cli/units.h"
#include "dev/cluster.h"
#include "dev/guest_exec.h"

#include <iostream>
#include <thread>
#include <unistd.h>

namespace lanepool::cli {

namespace {

using namespace std::chrono_literals;

struct DevOptions {
    std::filesystem::path folder = dev::default_folder();
    dev::ClusterOptions cluster;
    bool keep = false;
    std::string host;
    std::vector<std::string> command;
    std::string change;
    uint32_t timeout_s = 0;
    std::filesystem::path socket;
    std::string question;
};

Result<> up(const Context& context, DevOptions& options) {
    options.cluster.folder = std::filesystem::absolute(options.folder);
    options.cluster.program = std::filesystem::canonical("/proc/self/exe");
    const bool live = !context.json() && ::isatty(STDERR_FILENO);
    TRY(dev::up(options.cluster, [live](const std::string& step) {
        if (live) std::cerr << "\r\033[K" << step << std::flush;
    }));
    if (live) std::cerr << "\r\033[K" << std::flush;
    if (context.json())
        std::cout << Json{{"folder", options.cluster.folder.string()},
                          {"controller", dev::controller_endpoints(options.cluster.folder)}}
                         .dump()
                  << std::endl;
    else
        std::cout << "the cluster runs in " << options.cluster.folder.string()
                  << "; `lanepool ls` shows its devices, `lanepool dev down` stops it" << std::endl;
    return {};
}

Result<> down(const Context&, const DevOptions& options) {
    return dev::down(std::filesystem::absolute(options.folder), !options.keep);
}

Result<> status(const Context& context, const DevOptions& options) {
    const auto list = TRY(dev::status(options.folder));
    if (context.json()) {
        Json json = Json::array();
        for (const auto& process : list)
            json.push_back({{"name", process.name}, {"pid", process.pid}, {"running", process.running}});
        std::cout << json.dump(2) << std::endl;
        return {};
    }
    Table table({"PROCESS", "PID", "STATE"});
    for (const auto& process : list)
        table.add({process.name, fmt::format("{}", process.pid), process.running ? "running" : "dead"});
    std::cout << table.text();
    return {};
}

// One argument is a line for the guest's shell; several are a command and its arguments, which it must not
// split.
std::string shell_command(const std::vector<std::string>& words) {
    if (words.size() == 1) return words[0];
    std::string line;
    for (const auto& word : words)
        line += (line.empty() ? "" : " ") + dev::shell_word(word);
    return line;
}

Result<int> exec(const Context& context, const DevOptions& options) {
    auto channel = TRY(dev::GuestExec::connect(dev::exec_socket(options.folder, options.host), 30s));
    const auto result =
        TRY(channel.run(shell_command(options.command), std::chrono::seconds(options.timeout_s)));
    if (context.json())
        std::cout << Json{{"status", result.status},
                          {"output", result.output},
                          {"truncated", result.truncated},
                          {"timed_out", result.timed_out}}
                         .dump()
                  << std::endl;
    else
        std::cout << result.output << std::flush;
    if (result.truncated && !context.json())
        std::cerr << "lanepool: there was more output; it is cut off here" << std::endl;
    return result.status;
}

// What of an answer says no: "controller, fabric".
std::string missing_in(const admin::Json& answer) {
    std::string list;
    for (const auto& [name, value] : answer.items())
        if (value == false && name != "ready") list += (list.empty() ? "" : ", ") + name;
    return list;
}

// The daemon's answer; with a time-out, one that says that it is ready.
Result<> ask(const DevOptions& options) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(options.timeout_s);
    while (true) {
        const auto answer = admin::call(options.socket, {{"command", options.question}});
        if (answer && (options.timeout_s == 0 || answer->value("ready", false))) {
            std::cout << answer->dump(2) << std::endl;
            return {};
        }
        if (std::chrono::steady_clock::now() >= deadline) {
            if (!answer) return tl::unexpected(answer.error());
            return fail(Errc::timeout, "it is not ready after {} s; what it misses: {}", options.timeout_s,
                        missing_in(*answer));
        }
        std::this_thread::sleep_for(50ms);
    }
}

void add_folder(CLI::App* sub, const std::shared_ptr<DevOptions>& options) {
    sub->add_option("--dir", options->folder, "the cluster's folder (also $LANEPOOL_DEV_DIR)")
        ->capture_default_str();
}

void add_up(CLI::App& dev, Context& context, const std::shared_ptr<DevOptions>& options) {
    auto* up_command = dev.add_subcommand("up", "Start it: controller, fabric, a lender with devices, "
                                                "borrowing hosts with guests; or start again what has died");
    add_folder(up_command, options);
    auto& cluster = options->cluster;
    up_command
        ->add_option("--controllers", cluster.controllers,
                     "1, with its records in SQLite, or 3 or 5, with theirs in as many members of etcd "
                     "(default: as it is, else 1)")
        ->check(CLI::IsMember({1, 3, 5}));
    auto* drives = up_command->add_option("--drives", cluster.drives, "how many drives the lender has")
                       ->capture_default_str()
                       ->check(CLI::Range(1, 16));
    auto* drive_size = add_capacity(up_command, "--drive-size", cluster.drive_bytes,
                                    "how large they are (default: 4G; those of whole hosts 1G)");
    up_command->add_flag("--map-registers", cluster.map_registers,
                         "let programs map all of the drives' BARs, as those with SISCI must");
    up_command
        ->add_option("--dma-engines", cluster.dma_engines,
                     "how many DMA engines the lender has besides, named dma0 and up")
        ->capture_default_str()
        ->check(CLI::Range(0, 16));
    auto* hosts = up_command
                      ->add_option("--hosts", cluster.borrowers,
                                   "the borrowing hosts (default: a,b,c; of whole hosts a,b)")
                      ->delimiter(',');
    up_command->add_flag("!--no-guests", cluster.guests,
                         "borrowing hosts without guests: for applications (SISCI), and started in no time");
    up_command->add_option("--guest-memory", cluster.guest_memory_mib, "MiB of each guest")
        ->capture_default_str()
        ->check(CLI::Range(192, 16384));
    up_command->add_flag("--whole-hosts", cluster.whole_hosts,
                         "every host is a whole Linux machine with an IOMMU and an adapter card, the agent "
                         "inside, and borrows with its own kernel (needs `script/bootstrap bridge`)");
    up_command
        ->add_option("--kernel", cluster.whole.kernels,
                     "of whole hosts: 6.1 or 6.12, or that of one as in a=6.1 (default: 6.12)")
        ->delimiter(',');
    auto memory_mib = std::make_shared<unsigned>(512);
    auto* memory = up_command->add_option("--host-memory", *memory_mib, "MiB of each whole host")
                       ->capture_default_str()
                       ->check(CLI::Range(384, 3072));
    up_command->callback([=, &context] {
        auto& whole = options->cluster.whole;
        if (hosts->count() > 0) whole.borrowers = options->cluster.borrowers;
        if (drives->count() > 0) whole.drives = options->cluster.drives;
        if (drive_size->count() > 0) whole.drive_bytes = options->cluster.drive_bytes;
        if (memory->count() > 0) whole.memory_mib = *memory_mib;
        finish(context, up(context, *options));
    });
}

void add_looking(CLI::App& dev, Context& context, const std::shared_ptr<DevOptions>& options) {
    auto* status_command = dev.add_subcommand("status", "List its processes");
    add_folder(status_command, options);
    status_command->callback([=, &context] { finish(context, status(context, *options)); });

    auto* ask_command =
        dev.add_subcommand("ask", "Ask one daemon at its administration socket; prints its answer in JSON");
    ask_command->add_option("--until-ready", options->timeout_s,
                            "ask again until the answer is that it is ready, for so many seconds at most");
    ask_command->add_option("SOCKET", options->socket, "the socket, as --admin has named it")->required();
    ask_command->add_option("COMMAND", options->question, "status, stats or ping")->required();
    ask_command->callback([=, &context] { finish(context, ask(*options)); });
}

} // namespace

void add_dev_commands(CLI::App& app, Context& context) {
    auto options = std::make_shared<DevOptions>();
    auto* dev = app.add_subcommand("dev", "A whole pool on this machine, without any hardware")
                    ->group("Embedded cluster");
    dev->require_subcommand(1);
    add_up(*dev, context, options);

    auto* down_command = dev->add_subcommand("down", "Stop it and remove its folder");
    add_folder(down_command, options);
    down_command->add_flag("--keep", options->keep, "keep the folder: drives, records, logs");
    down_command->callback([=, &context] { finish(context, down(context, *options)); });

    add_looking(*dev, context, options);

    auto* exec_command = dev->add_subcommand(
        "exec", "Run a command in the guest of a host, or in a whole host; ends with its exit status");
    add_folder(exec_command, options);
    exec_command->add_option("--timeout", options->timeout_s, "seconds after which it is killed (0: never)")
        ->capture_default_str();
    exec_command->add_option("HOST", options->host, "the host")->required();
    exec_command->add_option("COMMAND", options->command, "what to run, behind --")->required();
    exec_command->callback([=, &context] {
        const auto result = exec(context, *options);
        context.exit_code = result ? *result : report(context, result.error());
    });

    auto* port_command = dev->add_subcommand(
        "port", "Take the link of a host's port down or up, or unplug its adapter and plug it in again");
    add_folder(port_command, options);
    port_command->add_option("HOST", options->host, "the host")->required();
    port_command->add_option("CHANGE", options->change, "what to do")
        ->required()
        ->check(CLI::IsMember({"down", "up", "unplug", "plug"}));
    port_command->callback([=, &context] {
        finish(context, dev::change_port(options->folder, options->host, options->change));
    });
}

} // namespace lanepool::cli
