// SPDX-License-Identifier: Apache-2.0
//
// The command that asks for devices: by name, or by what they are.
#include "cli/follow.h"
#include "cli/table.h"
#include "cli/units.h"

#include <iostream>

namespace lanepool::cli {

namespace {

struct Wish {
    std::vector<std::string> devices;
    std::string host, guest, near, dma;
    std::string kind, model, lender;
    uint64_t least_bytes = 0;
    uint32_t count = 1;
    int64_t duration_s = 0;
    int32_t priority = 0;
    bool wait = false;
    int64_t wait_s = 0;
    CLI::Option* duration_given = nullptr;
    CLI::Option* priority_given = nullptr;
    bool dry_run = false;
};

Result<v1::BorrowRequest> request_of(const Wish& wish) {
    v1::BorrowRequest request;
    for (const auto& device : wish.devices)
        request.add_devices()->set_device(device);
    const bool by_kind =
        !wish.kind.empty() || !wish.model.empty() || !wish.lender.empty() || wish.least_bytes != 0;
    if (!wish.devices.empty() && by_kind)
        return fail(Errc::invalid_argument,
                    "name devices, or say what they are (--kind, --model, --least, --from), not both");
    if (wish.devices.empty() && !by_kind)
        return fail(
            Errc::invalid_argument,
            "say which device: an fdid or HOST/DEVICE as `lanepool ls` prints them, or what it is, for "
            "example --kind nvme --least 1TB");
    for (uint32_t i = 0; by_kind && i < wish.count; ++i) {
        auto* selector = request.add_devices();
        selector->set_kind(wish.kind);
        selector->set_model(wish.model);
        selector->set_host(wish.lender);
        selector->set_least_capacity_bytes(wish.least_bytes);
    }
    request.set_host(wish.host);
    request.set_guest(wish.guest);
    request.set_near(wish.near);
    request.set_dma(wish.dma);
    if (wish.duration_given->count()) request.set_duration_s(wish.duration_s);
    if (wish.priority_given->count()) request.set_priority(wish.priority);
    request.set_wait_s(wish.wait ? -1 : wish.wait_s);
    return request;
}

Result<int> explain(const Context& context, const v1::BorrowRequest& request) {
    const auto reply =
        TRY(ask<v1::Explanation>(context, Nature::looks, [&](auto& pool, auto* grpc_context, auto* out) {
            return pool.Explain(grpc_context, request, out);
        }));
    if (context.json()) {
        Json json = {{"allowed", reply.allowed()},
                     {"now", reply.now()},
                     {"devices", Json::array()},
                     {"why", Json::array()}};
        for (const auto& device : reply.devices())
            json["devices"].push_back(to_json(device));
        for (const auto& line : reply.why())
            json["why"].push_back(line);
        std::cout << json.dump(2) << std::endl;
    } else {
        std::cout << (!reply.allowed() ? "refused"
                      : reply.now()    ? "served at once"
                                       : "not served now")
                  << '\n';
        for (const auto& device : reply.devices())
            std::cout << fmt::format("  {} {}\n", fdid_text(device.fdid()), device.name());
        for (const auto& line : reply.why())
            std::cout << "  " << line << '\n';
    }
    return reply.now() ? exit_ok : reply.allowed() ? exit_busy : exit_failed;
}

Result<int> borrow(const Context& context, const Wish& wish) {
    const auto request = TRY(request_of(wish));
    if (wish.dry_run) return explain(context, request);
    TRY(perform(context, Goal::loans_active,
                [&](auto& pool, auto* grpc_context) { return pool.Borrow(grpc_context, request); }));
    return exit_ok;
}

} // namespace

void add_borrow_command(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("borrow", "Lend devices to a host")->group("Lending");
    auto wish = std::make_shared<Wish>();
    sub->add_option("DEVICE", wish->devices,
                    "fdids or HOST/DEVICE, as `lanepool ls` prints them; of several, all are lent or none");
    sub->add_option("--host", wish->host, "the host that gets them")->required();
    auto* guest =
        sub->add_option("--guest", wish->guest,
                        "which guest of the host gets them (default: the host's own kernel where it "
                        "has lanepool_bridge, else its only guest)");
    sub->add_option("--dma", wish->dma,
                    "what of the host's memory they reach, where its own kernel gets them: a bounce pool, by "
                    "iommu what is mapped at the moment, or by direct all of it (default: as the site says)")
        ->check(CLI::IsMember({"bounce", "iommu", "direct"}))
        ->excludes(guest);
    sub->add_option("--kind", wish->kind, "any device of this kind")
        ->check(CLI::IsMember({"nvme", "gpu", "nic", "fpga", "other"}));
    sub->add_option("--model", wish->model, "any device with this in its model's name");
    sub->add_option("--from", wish->lender, "any device of this lender");
    add_capacity(sub, "--least", wish->least_bytes, "any device of at least this capacity, for example 1TB");
    sub->add_option("--count", wish->count, "so many of them, all or none")->check(CLI::Range(1, 64));
    sub->add_option("--near", wish->near, "as near as can be to this host (default: the one that gets them)");
    wish->duration_given =
        add_time(sub, "--for", wish->duration_s,
                 "for how long, for example 90m or 8h; it is returned when the time is over; 0: no due time");
    wish->priority_given =
        sub->add_option("--priority", wish->priority, "-1000 to 1000, as far as the site allows");
    auto* wait = sub->add_flag("--wait", wish->wait, "queue what cannot be had now, until it can");
    add_time(sub, "--wait-for", wish->wait_s, "the same, for at most so long")->excludes(wait);
    sub->add_flag("--dry-run", wish->dry_run, "only say what would become of it, and why");
    sub->callback([=, &context] { finish(context, borrow(context, *wish)); });
}

} // namespace lanepool::cli
