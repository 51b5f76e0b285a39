// SPDX-License-Identifier: Apache-2.0
//
// `lanepool functions`: the SR-IOV functions of a device, and how many it is to have.
#include "cli/follow.h"
#include "cli/table.h"

#include <iostream>
#include <optional>

namespace lanepool::cli {

namespace {

Result<v1::Device> set_functions(const Context& context, const std::string& name, uint32_t count) {
    v1::SetFunctionsRequest request;
    request.set_device(name);
    request.set_functions(count);
    const auto reached = TRY(reach(context, Goal::functions_set, [&](auto& pool, auto* grpc_context) {
        return pool.SetFunctions(grpc_context, request);
    }));
    if (reached.device().functions() == count) return reached.device();
    return fail(
        Errc::unavailable,
        "the request was accepted, but its controller went away; `lanepool functions {}` tells how it stands",
        name);
}

Result<v1::Device> find_device(const Context& context, const std::string& name) {
    v1::ShowRequest request;
    request.set_id(name);
    const auto shown =
        TRY(ask<v1::ShowReply>(context, Nature::looks, [&](auto& pool, auto* grpc_context, auto* out) {
            return pool.Show(grpc_context, request, out);
        }));
    if (!shown.has_device())
        return fail(Errc::invalid_argument, "'{}' is no device; `lanepool ls` shows those that are there",
                    name);
    return shown.device();
}

// Those that are there.
Result<v1::DeviceList> functions_of(const Context& context, const v1::Device& device) {
    const auto all =
        TRY(ask<v1::DeviceList>(context, Nature::looks, [](auto& pool, auto* grpc_context, auto* out) {
            return pool.ListDevices(grpc_context, {}, out);
        }));
    v1::DeviceList functions;
    for (const auto& one : all.devices())
        if (one.parent() == device.name() && (one.state() != "offline" || device.state() == "offline"))
            *functions.add_devices() = one;
    return functions;
}

Result<> functions(const Context& context, const std::string& name, std::optional<uint32_t> count) {
    const auto device = count ? TRY(set_functions(context, name, *count)) : TRY(find_device(context, name));
    const auto list = TRY(functions_of(context, device));
    if (context.json()) {
        Json json{{"device", to_json(device)}, {"functions", Json::array()}};
        for (const auto& one : list.devices())
            json["functions"].push_back(to_json(one));
        std::cout << json.dump(2) << std::endl;
        return {};
    }
    if (device.most_functions() == 0)
        std::cout << fmt::format("{} has no SR-IOV\n", device.name());
    else
        std::cout << fmt::format("{} has {} of at most {} functions\n", device.name(), device.functions(),
                                 device.most_functions());
    if (list.devices_size() > 0) std::cout << devices_text(list);
    return {};
}

} // namespace

void add_functions_command(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("functions",
                                   "Show the SR-IOV functions of a device, or have its own host make so many")
                    ->group("Operating");
    auto device = std::make_shared<std::string>();
    auto count = std::make_shared<std::optional<uint32_t>>();
    sub->add_option("DEVICE", *device, "an fdid or HOST/DEVICE; its own host has it while it has functions")
        ->required();
    sub->add_option("COUNT", *count, "how many it is to have; 0 removes all; left out: only looks");
    sub->callback([=, &context] { finish(context, functions(context, *device, *count)); });
}

} // namespace lanepool::cli
