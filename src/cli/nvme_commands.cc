// SPDX-License-Identifier: Apache-2.0
//
// `lanepool nvme ...`: one drive that programs on several hosts use.
#include "admin/server.h"
#include "cli/context.h"
#include "cli/log.h"
#include "cli/table.h"
#include "share/run.h"

#include <iostream>

namespace lanepool::cli {

namespace {

using admin::Json;

void print_clients(const Context& context, const Json& status) {
    if (context.json()) {
        std::cout << status.dump(2) << std::endl;
        return;
    }
    Table table({"HOST", "USER", "WEIGHT", "NAMESPACE", "BLOCKS", "QUEUE", "DEPTH", "MB/S"});
    for (const auto& client : status.at("clients")) {
        const auto first = client.at("first_block").get<uint64_t>();
        table.add({client.at("host").get<std::string>(), client.at("user").get<std::string>(),
                   client.at("weight").dump(), client.at("namespace").dump(),
                   fmt::format("{}..{}{}", first, first + client.at("blocks").get<uint64_t>() - 1,
                               client.at("read_only").get<bool>() ? " (read)" : ""),
                   client.at("queue").dump(), client.at("depth").dump(),
                   fmt::format("{:.1f}", client.at("bytes_per_second").get<double>() / 1e6)});
    }
    std::cout << table.text() << std::flush;
}

// The daemon is ours, but a socket may lead to any.
Result<> clients(const Context& context, const std::string& socket) {
    const auto status = TRY(admin::call(socket, {{"command", "status"}}));
    try {
        print_clients(context, status);
    } catch (const Json::exception&) {
        return fail(Errc::protocol, "{} is not the administration socket of `lanepool nvme share`", socket);
    }
    return {};
}

} // namespace

void add_nvme_commands(CLI::App& app, Context& context) {
    auto* nvme =
        app.add_subcommand("nvme", "Share one drive among programs on several hosts")->group("Daemons");
    nvme->require_subcommand(1);

    auto* share = nvme->add_subcommand("share", "Run the manager of a shared drive, until SIGTERM");
    auto options = std::make_shared<sharing::ShareOptions>();
    share->add_option("DEVICE", options->device, "an fdid, or HOST/DEVICE")->required();
    share->add_option("--agent", options->agent_socket,
                      "the application socket of this host's agent (default: $LANEPOOL_AGENT, or "
                      "/run/lanepool/application.sock)");
    share->add_option("--clients", options->clients_file,
                      "who may use which part of it, and how much (docs/shared-drives.md); by default "
                      "everybody may use everything");
    share->add_option("--admin", options->admin_socket, "the administration socket to make");
    share->callback([=, &context] {
        set_up_log("share");
        finish(context, sharing::run_share(*options));
    });

    auto* list = nvme->add_subcommand("clients", "Who uses a shared drive, and how much");
    auto socket = std::make_shared<std::string>();
    list->add_option("SOCKET", *socket, "that of `nvme share --admin`")->required();
    list->callback([=, &context] { finish(context, clients(context, *socket)); });
}

} // namespace lanepool::cli
