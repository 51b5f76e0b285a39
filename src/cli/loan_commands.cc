// SPDX-License-Identifier: Apache-2.0
//
// The commands for loans that are there: return, renew, reclaim, reassign.
#include "cli/follow.h"
#include "cli/table.h"
#include "cli/units.h"

#include <iostream>

namespace lanepool::cli {

namespace {

void add_return(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand(
                       "return", "End a loan in good order: the borrower lets go first; what the host's own "
                                 "kernel has, and somebody uses there, stays")
                    ->group("Lending");
    auto what = std::make_shared<std::string>();
    auto deadline_ms = std::make_shared<uint32_t>(0);
    auto to_local = std::make_shared<bool>(false);
    sub->add_option("WHAT", *what, "an fdid, HOST/DEVICE or loan:N; a loan that is queued is withdrawn")
        ->required();
    sub->add_flag("--to-local", *to_local, "afterwards the device is its own host's, out of the pool");
    sub->add_option("--deadline", *deadline_ms,
                    "how long the guest or kernel may take to let go, for example 30s; then it is cut")
        ->transform(
            CLI::AsNumberWithUnit(std::map<std::string, uint32_t>{{"ms", 1}, {"s", 1000}, {"m", 60000}},
                                  CLI::AsNumberWithUnit::CASE_INSENSITIVE, "TIME"));
    sub->callback([=, &context] {
        v1::ReturnRequest request;
        request.set_loan_or_device(*what);
        request.set_deadline_ms(*deadline_ms);
        request.set_to_local(*to_local);
        finish(context, perform(context, Goal::loan_over, [&](auto& pool, auto* grpc_context) {
                   return pool.Return(grpc_context, request);
               }));
    });
}

void add_reclaim(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("reclaim",
                                   "End a loan by force: the borrower is cut off first, whatever it is doing")
                    ->group("Lending");
    auto what = std::make_shared<std::string>();
    auto reason = std::make_shared<std::string>();
    sub->add_option("WHAT", *what, "an fdid, HOST/DEVICE or loan:N")->required();
    sub->add_option("--reason", *reason, "why, for the audit trail");
    sub->callback([=, &context] {
        v1::ReclaimRequest request;
        request.set_loan_or_device(*what);
        request.set_reason(*reason);
        finish(context, perform(context, Goal::loan_over, [&](auto& pool, auto* grpc_context) {
                   return pool.Reclaim(grpc_context, request);
               }));
    });
}

void add_reassign(CLI::App& app, Context& context) {
    auto* sub =
        app.add_subcommand("reassign", "Hand a lent device over to another host: return, reset, wipe, borrow")
            ->group("Lending");
    auto what = std::make_shared<std::string>();
    auto host = std::make_shared<std::string>();
    auto guest = std::make_shared<std::string>();
    auto force = std::make_shared<bool>(false);
    sub->add_option("WHAT", *what, "an fdid, HOST/DEVICE or loan:N")->required();
    sub->add_option("--host", *host, "the host that gets it")->required();
    sub->add_option("--guest", *guest,
                    "which guest of the host gets it (default: the host's own kernel where it has "
                    "lanepool_bridge, else its only guest)");
    sub->add_flag("--force", *force, "cut the present borrower off instead of asking it");
    sub->callback([=, &context] {
        v1::ReassignRequest request;
        request.set_loan_or_device(*what);
        request.set_host(*host);
        request.set_guest(*guest);
        request.set_force(*force);
        finish(context, perform(context, Goal::loans_active, [&](auto& pool, auto* grpc_context) {
                   return pool.Reassign(grpc_context, request);
               }));
    });
}

void add_renew(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("renew", "Move the due time of a loan")->group("Lending");
    auto what = std::make_shared<std::string>();
    auto duration_s = std::make_shared<int64_t>(0);
    sub->add_option("WHAT", *what, "an fdid, HOST/DEVICE or loan:N")->required();
    add_time(sub, "--for", *duration_s,
             "for how long from now on, for example 90m or 8h; 0: without a due time")
        ->required();
    sub->callback([=, &context] {
        v1::RenewRequest request;
        request.set_loan_or_device(*what);
        request.set_duration_s(*duration_s);
        const auto renewed =
            ask<v1::Loan>(context, Nature::changes, [&](auto& pool, auto* grpc_context, auto* out) {
                return pool.Renew(grpc_context, request, out);
            });
        if (!renewed) return finish(context, Result<>(tl::unexpected<Error>(renewed.error())));
        if (context.json())
            std::cout << to_json(*renewed).dump(2) << std::endl;
        else
            std::cout << fmt::format("loan {} is due {}\n", renewed->id(),
                                     renewed->due_us() ? time_text(renewed->due_us()) : "never");
    });
}

} // namespace

void add_loan_commands(CLI::App& app, Context& context) {
    add_return(app, context);
    add_renew(app, context);
    add_reclaim(app, context);
    add_reassign(app, context);
}

} // namespace lanepool::cli
