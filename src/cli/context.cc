// SPDX-License-Identifier: Apache-2.0
#include "cli/context.h"

#include "dev/cluster.h"

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

namespace lanepool::cli {

namespace {
constexpr const char* system_socket = "/run/lanepool/controller.sock";

int exit_code_of(Errc code) {
    switch (code) {
    case Errc::invalid_argument:
    case Errc::out_of_range:
        return exit_usage;
    case Errc::not_found:
        return exit_not_found;
    case Errc::busy:
    case Errc::already_exists:
        return exit_busy;
    case Errc::unavailable:
    case Errc::disconnected:
        return exit_unavailable;
    case Errc::timeout:
        return exit_timeout;
    default:
        return exit_failed;
    }
}
} // namespace

std::string Context::endpoint() const {
    if (!controller.empty()) return controller;
    if (const char* value = std::getenv("LANEPOOL_CONTROLLER"); value && *value) return value;
    if (std::filesystem::exists(system_socket)) return std::string("unix:") + system_socket;
    return dev::controller_endpoint(dev::default_folder());
}

int report(const Context& context, const Error& error) {
    if (context.json())
        std::cout << nlohmann::json{{"error", error.message()}, {"code", name(error.code())}}.dump()
                  << std::endl;
    std::cerr << "lanepool: " << error.message() << std::endl;
    return exit_code_of(error.code());
}

void finish(Context& context, const Result<>& result) {
    if (!result) context.exit_code = report(context, result.error());
}

void finish(Context& context, const Result<int>& exit_code) {
    context.exit_code = exit_code ? *exit_code : report(context, exit_code.error());
}

int run(int argc, char** argv) {
    Context context;
    CLI::App app("lanepool lends the PCIe devices of many hosts over an NTB fabric.", "lanepool");
    app.require_subcommand(1);
    app.set_version_flag("--version", std::string("lanepool ") + LANEPOOL_VERSION);
    app.add_option(
        "--controller", context.controller,
        "the controller to ask, for example unix:/run/lanepool/controller.sock (also $LANEPOOL_CONTROLLER)");
    app.add_option("-o,--output", context.output, "how to print")
        ->check(CLI::IsMember({"table", "json"}))
        ->default_str("table");
    app.fallthrough(); // -o json may stand behind the command, as people write it
    app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 held by somebody else, 5 not "
               "reachable, 6 timed out.");
    add_query_commands(app, context);
    add_borrow_command(app, context);
    add_loan_commands(app, context);
    add_operator_commands(app, context);
    add_dev_commands(app, context);
    add_daemon_commands(app, context);
    add_site_commands(app, context);
    add_pki_commands(app, context);
    add_sim_command(app, context);
    add_completion_command(app, context);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    return context.exit_code;
}

} // namespace lanepool::cli
