// SPDX-License-Identifier: Apache-2.0
//
// The commands that change who holds what: borrow, return, reclaim, reassign, reset.
#include "api/client.h"
#include "cli/context.h"
#include "cli/table.h"

#include <chrono>
#include <iostream>
#include <pwd.h>
#include <unistd.h>

namespace lanepool::cli {

namespace {

std::string user_name() {
    const passwd* entry = ::getpwuid(::getuid());
    return entry ? entry->pw_name : fmt::format("uid:{}", ::getuid());
}

// One line on the terminal that says what is being waited for, and for how long.
class ProgressLine {
  public:
    explicit ProgressLine(bool enabled) : enabled_(enabled && ::isatty(STDERR_FILENO)) {}
    ~ProgressLine() { clear(); }
    void show(const std::string& step) {
        if (!enabled_) return;
        const auto elapsed =
            std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start_)
                .count();
        std::cerr << "\r\033[K" << step << " (" << duration_text(elapsed) << ")" << std::flush;
        shown_ = true;
    }
    void clear() {
        if (std::exchange(shown_, false)) std::cerr << "\r\033[K" << std::flush;
    }

  private:
    const bool enabled_;
    bool shown_ = false;
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Follows a request to its end; the last progress is what came of it.
Result<v1::Progress> follow(const Context& context, grpc::ClientReader<v1::Progress>& reader) {
    ProgressLine line(!context.json());
    v1::Progress progress, last;
    while (reader.Read(&progress)) {
        line.show(progress.step());
        last = progress;
    }
    line.clear();
    TRY(api::from_status(reader.Finish()));
    if (!last.done())
        return fail(
            Errc::disconnected,
            "the controller ended the request without a result; `lanepool loans` tells how it stands");
    return last;
}

void print(const Context& context, const v1::Progress& progress) {
    if (context.json()) {
        Json json = Json::object();
        if (progress.has_loan()) json["loan"] = to_json(progress.loan());
        if (progress.has_device()) json["device"] = to_json(progress.device());
        std::cout << json.dump(2) << std::endl;
        return;
    }
    std::cout << progress.step() << std::endl;
}

// Connects, starts the call that START makes, follows it, prints what came of it.
template <class Start>
Result<> perform(const Context& context, Start start) {
    const auto client = TRY(api::Client::connect(context.endpoint()));
    grpc::ClientContext grpc_context; // the controller's own deadlines bound each step
    const auto reader = start(client->pool(), &grpc_context);
    print(context, TRY(follow(context, *reader)));
    return {};
}

void add_borrow(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("borrow", "Lend a device to a host")->group("Lending");
    auto device = std::make_shared<std::string>();
    auto host = std::make_shared<std::string>();
    auto guest = std::make_shared<std::string>();
    auto duration_s = std::make_shared<int64_t>(0);
    sub->add_option("DEVICE", *device, "an fdid or HOST/DEVICE, as `lanepool ls` prints them")->required();
    sub->add_option("--host", *host, "the host that gets it")->required();
    sub->add_option("--guest", *guest, "which guest of the host gets it, if it has several");
    sub->add_option("--for", *duration_s,
                    "for how long, for example 90m or 8h; it is returned when the time is over")
        ->transform(CLI::AsNumberWithUnit(
            std::map<std::string, int64_t>{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}},
            CLI::AsNumberWithUnit::CASE_INSENSITIVE, "TIME"))
        ->check(CLI::PositiveNumber);
    sub->callback([=, &context] {
        v1::BorrowRequest request;
        request.set_device(*device);
        request.set_host(*host);
        request.set_guest(*guest);
        request.set_duration_s(*duration_s);
        request.set_actor(user_name());
        finish(context, perform(context, [&](auto& pool, auto* grpc_context) {
                   return pool.Borrow(grpc_context, request);
               }));
    });
}

void add_return(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("return", "End a loan in good order: the borrower lets go first")
                    ->group("Lending");
    auto what = std::make_shared<std::string>();
    auto deadline_ms = std::make_shared<uint32_t>(0);
    sub->add_option("WHAT", *what, "an fdid, HOST/DEVICE or loan:N")->required();
    sub->add_option("--deadline", *deadline_ms,
                    "how long the guest may take to let go, for example 30s; then it is cut")
        ->transform(
            CLI::AsNumberWithUnit(std::map<std::string, uint32_t>{{"ms", 1}, {"s", 1000}, {"m", 60000}},
                                  CLI::AsNumberWithUnit::CASE_INSENSITIVE, "TIME"));
    sub->callback([=, &context] {
        v1::ReturnRequest request;
        request.set_loan_or_device(*what);
        request.set_deadline_ms(*deadline_ms);
        request.set_actor(user_name());
        finish(context, perform(context, [&](auto& pool, auto* grpc_context) {
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
        request.set_actor(user_name());
        finish(context, perform(context, [&](auto& pool, auto* grpc_context) {
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
    sub->add_option("--guest", *guest, "which guest of the host gets it, if it has several");
    sub->add_flag("--force", *force, "cut the present borrower off instead of asking it");
    sub->callback([=, &context] {
        v1::ReassignRequest request;
        request.set_loan_or_device(*what);
        request.set_host(*host);
        request.set_guest(*guest);
        request.set_force(*force);
        request.set_actor(user_name());
        finish(context, perform(context, [&](auto& pool, auto* grpc_context) {
                   return pool.Reassign(grpc_context, request);
               }));
    });
}

void add_reset(CLI::App& app, Context& context) {
    auto* sub =
        app.add_subcommand(
               "reset",
               "Reset and wipe a device that is not lent; brings a quarantined one back if both verify")
            ->group("Lending");
    auto device = std::make_shared<std::string>();
    sub->add_option("DEVICE", *device, "an fdid or HOST/DEVICE")->required();
    sub->callback([=, &context] {
        v1::ResetRequest request;
        request.set_device(*device);
        request.set_actor(user_name());
        finish(context, perform(context, [&](auto& pool, auto* grpc_context) {
                   return pool.Reset(grpc_context, request);
               }));
    });
}

} // namespace

void add_loan_commands(CLI::App& app, Context& context) {
    add_borrow(app, context);
    add_return(app, context);
    add_reclaim(app, context);
    add_reassign(app, context);
    add_reset(app, context);
}

} // namespace lanepool::cli
