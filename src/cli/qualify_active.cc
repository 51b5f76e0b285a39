// SPDX-License-Identifier: Apache-2.0
#include "cli/qualify_active.h"

#include "admin/server.h"
#include "agent/function_source.h"
#include "agent/qualification.h"
#include "cli/follow.h"
#include "cli/table.h"
#include "cli/trial_pool.h"
#include "pci/address.h"
#include "qualify/stored.h"

#include <algorithm>
#include <random>

namespace lanepool::cli {

namespace {

using qualify::Outcome;

struct AgentDevice {
    std::string host, name, place;
    uint64_t fdid = 0;
};

bool is_meant(const AgentDevice& device, const std::string& text) {
    if (device.name == text || device.host + "/" + device.name == text || fdid_text(device.fdid) == text)
        return true;
    const auto address = pci::parse_address(text);
    return address && device.place == agent::place_of(*address);
}

// Which of this host's devices is meant, as its agent has it.
Result<AgentDevice> find_device(const ActiveOptions& options) {
    auto status = admin::call(options.agent_admin, {{"command", "status"}});
    if (!status)
        return tl::unexpected(status.error().within(
            "this host's agent is asked first (its administration socket is named by --agent-admin)"));
    try {
        for (const auto& each : status->at("devices")) {
            AgentDevice device{status->at("host"), each.at("name"), each.at("place"), each.at("fdid")};
            if (is_meant(device, options.device) && device.fdid != 0) return device;
        }
    } catch (const admin::Json::exception&) {
        return fail(Errc::protocol, "{} is not the administration socket of an agent", options.agent_admin);
    }
    return fail(
        Errc::not_found,
        "the agent of this host has no device {} that the controller knows: a device is tried on its own "
        "host; 'lanepool ls' lists them",
        options.device);
}

Result<v1::Device> show(const Context& context, uint64_t fdid) {
    v1::ShowRequest request;
    request.set_id(fdid_text(fdid));
    return TRY(ask<v1::ShowReply>(context, Nature::looks,
                                  [&](auto& pool, auto* grpc_context, auto* out) {
                                      return pool.Show(grpc_context, request, out);
                                  }))
        .device();
}

// Of a device on no bus of this machine there is nothing to be judged.
qualify::Report empty_report() {
    qualify::Report report;
    report.time_us = io::system_clock().unix_time_us();
    for (const auto model : qualify::access_models)
        report.models.push_back({model, {}});
    return report;
}

// As the agent says it to the controller, and so compares it.
void identify(qualify::Report& report, const v1::Device& device) {
    const auto& identity = device.identity();
    report.vendor_id = static_cast<uint16_t>(identity.vendor_id());
    report.device_id = static_cast<uint16_t>(identity.device_id());
    report.serial = identity.serial();
    report.firmware = identity.firmware();
    report.host = device.lender();
    report.kernel_release = agent::Qualifications::running_kernel();
    if (report.title.empty()) report.title = identity.model();
}

// What has no address on this machine reaches what was mapped for it alone: there is nothing else.
bool is_isolated(const qualify::Report& report) {
    return std::ranges::none_of(report.of(report.main_model).checks, [](const qualify::Check& check) {
        return check.id == "iommu" && check.result != Outcome::pass;
    });
}

uint64_t random_seed() {
    std::random_device source;
    return (uint64_t{source()} << 32) | source();
}

} // namespace

Result<Tried> try_device(const Context& context, const ActiveOptions& options,
                         const std::function<Result<qualify::Report>(const pci::Address&)>& judge) {
    const auto device = TRY(find_device(options));
    Tried tried;
    tried.device = device.host + "/" + device.name;
    TrialSubject subject{tried.device, device.fdid, 0, {}, options.agent};
    if (device.place.starts_with(agent::pci_place)) {
        subject.address = TRY(pci::parse_address(device.place.substr(agent::pci_place.size())));
        tried.on_bus = true;
    }
    tried.report = subject.address ? TRY(judge(*subject.address)) : empty_report();
    subject.class_code = TRY(show(context, device.fdid)).identity().class_code();
    auto trial_options = options.trial;
    trial_options.seed = random_seed();
    trial_options.isolated = is_isolated(tried.report);
    const auto pool = TRY(TrialPool::create(context, subject));
    tried.report.active = TRY(qualify::Trial(*pool, io::system_clock(), trial_options).run());
    // Only now everything is known that a driver of ours had to ask the device for.
    identify(tried.report, TRY(show(context, device.fdid)));
    return tried;
}

Result<> store(const ActiveOptions& options, const Tried& tried, qualify::AccessModel model) {
    const auto name = tried.device.substr(tried.device.find('/') + 1);
    TRY(qualify::store(options.store, name, tried.report, model, to_json(tried, model)));
    TRY(admin::call(options.agent_admin, {{"command", "hello"}}));
    return {};
}

qualify::Json to_json(const Tried& tried, qualify::AccessModel model) {
    auto json = qualify::to_json(tried.report, model);
    auto& qualification = json["qualification"];
    if (!tried.on_bus) qualification.erase("address");
    qualification["device"] = tried.device;
    return json;
}

} // namespace lanepool::cli
