// SPDX-License-Identifier: Apache-2.0
//
// What every command is given, and how commands end.
#pragma once

#include "api/client.h"
#include "base/result.h"

#include <CLI/CLI.hpp>
#include <string>

namespace lanepool::cli {

// Exit codes, as `lanepool --help` and the man page list them.
enum Exit : int {
    exit_ok = 0,
    exit_failed = 1,
    exit_usage = 2,
    exit_not_found = 3,
    exit_busy = 4,        // held by somebody else
    exit_unavailable = 5, // the controller, or a host that is needed, is not there
    exit_timeout = 6,
};

struct Context {
    std::string controllers; // as api::parse_endpoints() reads them; empty: see client()
    api::TlsFiles tls;       // one's own, for other machines; without names: none
    std::string output = "table";
    int exit_code = exit_ok; // set by the command that ran

    bool json() const { return output == "json"; }
    // The controllers that are meant: --controller, $LANEPOOL_CONTROLLER, the machine's own, the embedded
    // cluster's; and how long one that leads is looked for.
    api::ClientOptions client() const;
};

// Prints the error (to stderr; with -o json as an object) and returns the exit code for it.
int report(const Context& context, const Error& error);
// The end of a command: its exit code is 0 or what it says, or that of its error, which is reported.
void finish(Context& context, const Result<>& result);
void finish(Context& context, const Result<int>& exit_code);

// Each adds its commands. A command's callback runs when it was chosen, and sets Context::exit_code.
void add_query_commands(CLI::App& app, Context& context);      // ls hosts loans show events audit
void add_inventory_command(CLI::App& app, Context& context);   // inventory
void add_qualify_command(CLI::App& app, Context& context);     // qualify
void add_controllers_command(CLI::App& app, Context& context); // controllers
void add_borrow_command(CLI::App& app, Context& context);
void add_loan_commands(CLI::App& app, Context& context);     // return renew reclaim reassign
void add_operator_commands(CLI::App& app, Context& context); // reset drain undrain quarantine restore local
void add_functions_command(CLI::App& app, Context& context); // functions
void add_daemon_commands(CLI::App& app, Context& context);   // controller agent fabric model
void add_nvme_commands(CLI::App& app, Context& context);     // nvme share|clients
void add_dev_commands(CLI::App& app, Context& context);      // dev up|down|status|exec|port|ask
void add_stats_command(CLI::App& app, Context& context);     // stats
void add_site_commands(CLI::App& app, Context& context);     // site check apply show
void add_pki_commands(CLI::App& app, Context& context);      // pki init issue renew revoke ls
void add_store_commands(CLI::App& app, Context& context);    // store copy verify
void add_sim_command(CLI::App& app, Context& context);       // sim
void add_completion_command(CLI::App& app, Context& context);

// Everything: parses, runs, returns the exit code.
int run(int argc, char** argv);

} // namespace lanepool::cli
