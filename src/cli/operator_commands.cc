// SPDX-License-Identifier: Apache-2.0
//
// The commands of operators: reset, drain, undrain, quarantine, restore, local. See also
// functions_command.cc.
#include "cli/follow.h"
#include "cli/table.h"

#include <iostream>

namespace lanepool::cli {

namespace {

template <class Call>
Result<> order(const Context& context, const std::string& done, Call call) {
    TRY(ask<v1::Done>(context, Nature::changes, call));
    if (context.json())
        std::cout << Json{{"done", done}}.dump(2) << std::endl;
    else
        std::cout << done << std::endl;
    return {};
}

// The request is answered at once; the device is given back after that.
Result<> leave_local(const Context& context, const std::string& name) {
    v1::KeepLocalRequest request;
    request.set_device(name);
    TRY(ask<v1::Done>(context, Nature::changes, [&](auto& pool, auto* grpc_context, auto* out) {
        return pool.KeepLocal(grpc_context, request, out);
    }));
    const auto device = TRY(reach(context, Goal::device_local, name));
    const std::string done =
        name + (device.state() == "offline" ? " is its own host's when that is back" : " is its own host's");
    if (context.json())
        std::cout << Json{{"done", done}, {"device", to_json(device)}}.dump(2) << std::endl;
    else
        std::cout << done << std::endl;
    return {};
}

void add_reset(CLI::App& app, Context& context) {
    auto* sub =
        app.add_subcommand(
               "reset",
               "Reset and wipe a device that is not lent; brings a quarantined one back if both verify")
            ->group("Operating");
    auto device = std::make_shared<std::string>();
    sub->add_option("DEVICE", *device, "an fdid or HOST/DEVICE")->required();
    sub->callback([=, &context] {
        v1::ResetRequest request;
        request.set_device(*device);
        finish(context, perform(context, Goal::device_reset, [&](auto& pool, auto* grpc_context) {
                   return pool.Reset(grpc_context, request);
               }));
    });
}

void add_drain(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("drain", "Let nothing new be borrowed from or by a host, or of a device")
                    ->group("Operating");
    auto what = std::make_shared<std::string>();
    auto reason = std::make_shared<std::string>();
    auto evict = std::make_shared<bool>(false);
    sub->add_option("WHAT", *what, "a host, an fdid or HOST/DEVICE")->required();
    sub->add_option("--reason", *reason, "why, for everybody who asks")->required();
    sub->add_flag("--evict", *evict, "also ask for what is lent now");
    sub->callback([=, &context] {
        v1::DrainRequest request;
        request.set_host_or_device(*what);
        request.set_drain(true);
        request.set_evict(*evict);
        request.set_reason(*reason);
        finish(context,
               order(context, *what + " is being drained", [&](auto& pool, auto* grpc_context, auto* out) {
                   return pool.Drain(grpc_context, request, out);
               }));
    });
}

void add_undrain(CLI::App& app, Context& context) {
    auto* sub =
        app.add_subcommand("undrain", "Let a drained host or device take part again")->group("Operating");
    auto what = std::make_shared<std::string>();
    sub->add_option("WHAT", *what, "a host, an fdid or HOST/DEVICE")->required();
    sub->callback([=, &context] {
        v1::DrainRequest request;
        request.set_host_or_device(*what);
        finish(context,
               order(context, *what + " takes part again", [&](auto& pool, auto* grpc_context, auto* out) {
                   return pool.Drain(grpc_context, request, out);
               }));
    });
}

void add_quarantine(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("quarantine", "Take a device out of service; whoever has it is cut off")
                    ->group("Operating");
    auto device = std::make_shared<std::string>();
    auto reason = std::make_shared<std::string>();
    sub->add_option("DEVICE", *device, "an fdid or HOST/DEVICE")->required();
    sub->add_option("--reason", *reason, "why, for everybody who asks")->required();
    sub->callback([=, &context] {
        v1::QuarantineRequest request;
        request.set_device(*device);
        request.set_reason(*reason);
        finish(context,
               order(context, *device + " is quarantined", [&](auto& pool, auto* grpc_context, auto* out) {
                   return pool.Quarantine(grpc_context, request, out);
               }));
    });
}

void add_restore(CLI::App& app, Context& context) {
    auto* sub =
        app.add_subcommand(
               "restore", "Bring a quarantined or local device into the pool: it is taken from its own host, "
                          "where nobody there uses it, reset and wiped")
            ->group("Operating");
    auto device = std::make_shared<std::string>();
    sub->add_option("DEVICE", *device, "an fdid or HOST/DEVICE")->required();
    sub->callback([=, &context] {
        v1::RestoreRequest request;
        request.set_device(*device);
        finish(context, perform(context, Goal::device_available, [&](auto& pool, auto* grpc_context) {
                   return pool.Restore(grpc_context, request);
               }));
    });
}

void add_local(CLI::App& app, Context& context) {
    auto* sub =
        app.add_subcommand(
               "local", "Leave a device to its own host and its driver there, out of the pool, until it is "
                        "restored")
            ->group("Operating");
    auto device = std::make_shared<std::string>();
    sub->add_option("DEVICE", *device, "an fdid or HOST/DEVICE that is not lent")->required();
    sub->callback([=, &context] { finish(context, leave_local(context, *device)); });
}

} // namespace

void add_operator_commands(CLI::App& app, Context& context) {
    add_reset(app, context);
    add_drain(app, context);
    add_undrain(app, context);
    add_quarantine(app, context);
    add_restore(app, context);
    add_local(app, context);
    add_functions_command(app, context);
}

} // namespace lanepool::cli
