// SPDX-License-Identifier: Apache-2.0
#include "cli/context.h"

#include "dev/cluster.h"

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

namespace lanepool::cli {

namespace {
constexpr std::chrono::milliseconds patience{15'000};
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

std::string endpoints(const Context& context) {
    if (!context.controllers.empty()) return context.controllers;
    if (const char* value = std::getenv("LANEPOOL_CONTROLLER"); value && *value) return value;
    if (std::filesystem::exists(system_socket)) return std::string("unix:") + system_socket;
    return dev::controller_endpoints(dev::default_folder());
}
} // namespace

api::ClientOptions Context::client() const {
    api::ClientOptions options{.endpoints = endpoints(*this)};
    if (!(tls == api::TlsFiles{})) options.tls = tls;
    // Of several, one leads a few seconds after another one has died.
    if (options.endpoints.find(',') != std::string::npos) options.timeout = patience;
    return options;
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
        "--controller", context.controllers,
        "the controller to ask, for example unix:/run/lanepool/controller.sock; of several, separated by "
        "commas, the one that leads is found (also $LANEPOOL_CONTROLLER)");
    const auto add_tls = [&app](const char* name, std::filesystem::path& file, const char* variable,
                                const char* what) {
        app.add_option(name, file, fmt::format("between machines: {}", what))->envname(variable);
    };
    add_tls("--tls-ca", context.tls.ca, "LANEPOOL_TLS_CA", "the certificate of the site's CA");
    add_tls("--tls-cert", context.tls.certificate, "LANEPOOL_TLS_CERT", "one's own certificate");
    add_tls("--tls-key", context.tls.key, "LANEPOOL_TLS_KEY", "the key of that certificate");
    app.add_option("-o,--output", context.output, "how to print")
        ->check(CLI::IsMember({"table", "json"}))
        ->default_str("table");
    app.fallthrough(); // -o json may stand behind the command, as people write it
    app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 held by somebody else, 5 not "
               "reachable, 6 timed out.");
    add_query_commands(app, context);
    add_inventory_command(app, context);
    add_qualify_command(app, context);
    add_controllers_command(app, context);
    add_borrow_command(app, context);
    add_loan_commands(app, context);
    add_operator_commands(app, context);
    add_dev_commands(app, context);
    add_stats_command(app, context);
    add_daemon_commands(app, context);
    add_site_commands(app, context);
    add_pki_commands(app, context);
    add_store_commands(app, context);
    add_sim_command(app, context);
    add_nvme_commands(app, context);
    add_completion_command(app, context);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    return context.exit_code;
}

} // namespace lanepool::cli
