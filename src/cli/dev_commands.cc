// SPDX-License-Identifier: Apache-2.0
//
// The embedded cluster: dev up, down, status, exec; and stats, which asks every daemon of it.
#include "admin/server.h"
#include "cli/context.h"
#include "cli/table.h"
#include "dev/cluster.h"
#include "dev/guest_exec.h"

#include <iostream>
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
    for (const auto& word : words) {
        line += line.empty() ? "'" : " '";
        for (const char c : word)
            line += c == '\'' ? std::string("'\\''") : std::string(1, c);
        line += "'";
    }
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

// How many messages the daemons have handled for accesses to lent devices and to borrowers' memory: of
// registers that trap, forwarded by the switch, or sent by a device. While a guest does I/O on a lent drive
// it must not rise.
uint64_t io_messages(const Json& daemons) {
    uint64_t sum = 0;
    const auto add = [&sum](const Json& object, std::initializer_list<const char*> names) {
        for (const char* name : names)
            sum += object.is_object() ? object.value(name, uint64_t{0}) : 0;
    };
    for (const auto& [name, stats] : daemons.items()) {
        if (name == "fabric")
            add(stats.value("total", Json::object()),
                {"window_reads", "window_writes", "forwarded_reads", "forwarded_writes"});
        else if (name.starts_with("agent-"))
            add(stats, {"messages"});
        else if (stats.is_object())
            add(stats.value("messages", Json()),
                {"region_reads", "region_writes", "dma_reads", "dma_writes"});
    }
    return sum;
}

Result<> stats(const Context& context, const DevOptions& options) {
    Json json = Json::object();
    for (const auto& [name, socket] : dev::admin_sockets(options.folder)) {
        const auto answer = admin::call(socket, {{"command", "stats"}});
        json[name] = answer ? Json::parse(answer->dump()) : Json{{"error", answer.error().message()}};
    }
    if (json.empty())
        return fail(Errc::not_found, "there is no cluster in {}; `lanepool dev up` starts one",
                    options.folder.string());
    const uint64_t messages = io_messages(json);
    if (context.json()) {
        json["io_messages"] = messages;
        std::cout << json.dump(2) << std::endl;
        return {};
    }
    std::cout << fmt::format("messages for I/O, of all daemons: {}\n", messages);
    for (const auto& [name, values] : json.items()) {
        std::cout << name << "\n";
        for (const auto& [key, value] : values.items())
            std::cout << fmt::format("  {:<28} {}\n", key,
                                     value.is_string() ? value.template get<std::string>() : value.dump());
    }
    return {};
}

void add_folder(CLI::App* sub, const std::shared_ptr<DevOptions>& options) {
    sub->add_option("--dir", options->folder, "the cluster's folder (also $LANEPOOL_DEV_DIR)")
        ->capture_default_str();
}

} // namespace

void add_dev_commands(CLI::App& app, Context& context) {
    auto options = std::make_shared<DevOptions>();
    auto* dev = app.add_subcommand("dev", "A whole pool on this machine, without any hardware")
                    ->group("Embedded cluster");
    dev->require_subcommand(1);

    auto* up_command = dev->add_subcommand("up", "Start it: controller, fabric, a lender with devices, "
                                                 "borrowing hosts with guests; or start again what has died");
    add_folder(up_command, options);
    up_command
        ->add_option("--controllers", options->cluster.controllers,
                     "1, with its records in SQLite, or 3 or 5, with theirs in as many members of etcd "
                     "(default: as it is, else 1)")
        ->check(CLI::IsMember({1, 3, 5}));
    up_command->add_option("--drives", options->cluster.drives, "how many drives the lender has")
        ->capture_default_str()
        ->check(CLI::Range(1, 16));
    up_command->add_option("--drive-size", options->cluster.drive_size, "how large they are")
        ->capture_default_str();
    up_command->add_flag("--map-registers", options->cluster.map_registers,
                         "let programs map all of the drives' BARs, as those with SISCI must");
    up_command
        ->add_option("--dma-engines", options->cluster.dma_engines,
                     "how many DMA engines the lender has besides, named dma0 and up")
        ->capture_default_str()
        ->check(CLI::Range(0, 16));
    up_command->add_option("--hosts", options->cluster.borrowers, "the borrowing hosts")
        ->delimiter(',')
        ->capture_default_str();
    up_command->add_flag("!--no-guests", options->cluster.guests,
                         "borrowing hosts without guests: for applications (SISCI), and started in no time");
    up_command->add_option("--guest-memory", options->cluster.guest_memory_mib, "MiB of each guest")
        ->capture_default_str()
        ->check(CLI::Range(192, 16384));
    up_command->callback([=, &context] { finish(context, up(context, *options)); });

    auto* down_command = dev->add_subcommand("down", "Stop it and remove its folder");
    add_folder(down_command, options);
    down_command->add_flag("--keep", options->keep, "keep the folder: drives, records, logs");
    down_command->callback([=, &context] { finish(context, down(context, *options)); });

    auto* status_command = dev->add_subcommand("status", "List its processes");
    add_folder(status_command, options);
    status_command->callback([=, &context] { finish(context, status(context, *options)); });

    auto* exec_command =
        dev->add_subcommand("exec", "Run a command in the guest of a host; ends with its exit status");
    add_folder(exec_command, options);
    exec_command->add_option("--timeout", options->timeout_s, "seconds after which it is killed (0: never)")
        ->capture_default_str();
    exec_command->add_option("HOST", options->host, "the borrowing host")->required();
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

    auto* stats_command =
        app.add_subcommand("stats", "Show what each daemon of the embedded cluster has handled by software")
            ->group("Looking");
    add_folder(stats_command, options);
    stats_command->callback([=, &context] { finish(context, stats(context, *options)); });
}

} // namespace lanepool::cli
