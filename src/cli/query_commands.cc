// SPDX-License-Identifier: Apache-2.0
//
// The commands that only look: ls, hosts, loans, show, events, audit.
#include "cli/follow.h"
#include "cli/table.h"

#include <ctime>
#include <iostream>

namespace lanepool::cli {

namespace {

template <class List>
void print_json(const List& list) {
    Json json = Json::array();
    for (const auto& entry : list)
        json.push_back(to_json(entry));
    std::cout << json.dump(2) << std::endl;
}

Result<> list_devices(const Context& context) {
    const auto reply =
        TRY(ask<v1::DeviceList>(context, Nature::looks, [](auto& pool, auto* grpc_context, auto* out) {
            return pool.ListDevices(grpc_context, {}, out);
        }));
    if (context.json()) return print_json(reply.devices()), Result<>{};
    std::cout << devices_text(reply);
    return {};
}

Result<> list_hosts(const Context& context) {
    const auto reply =
        TRY(ask<v1::HostList>(context, Nature::looks, [](auto& pool, auto* grpc_context, auto* out) {
            return pool.ListHosts(grpc_context, {}, out);
        }));
    if (context.json()) return print_json(reply.hosts()), Result<>{};
    std::cout << hosts_text(reply);
    return {};
}

Result<> list_loans(const Context& context, bool all) {
    v1::ListRequest request;
    request.set_all(all);
    const auto reply =
        TRY(ask<v1::LoanList>(context, Nature::looks, [&](auto& pool, auto* grpc_context, auto* out) {
            return pool.ListLoans(grpc_context, request, out);
        }));
    if (context.json()) return print_json(reply.loans()), Result<>{};
    std::cout << loans_text(reply);
    return {};
}

void print_fields(const Json& json) {
    for (const auto& [key, value] : json.items()) {
        if (key == "steps") {
            for (const auto& step : value)
                std::cout << fmt::format("{:<16} {} {}\n", "step", step["step"].template get<std::string>(),
                                         duration_text(step["duration_us"].template get<int64_t>()));
            continue;
        }
        std::string text = value.is_string() ? value.template get<std::string>() : value.dump();
        if (key.ends_with("_us")) text = time_text(value.template get<int64_t>());
        if (key == "capacity_bytes" || key == "dma_bytes") text = size_text(value.template get<uint64_t>());
        std::cout << fmt::format("{:<16} {}\n", key, or_dash(text));
    }
}

Result<> show(const Context& context, const std::string& id) {
    v1::ShowRequest request;
    request.set_id(id);
    const auto reply =
        TRY(ask<v1::ShowReply>(context, Nature::looks, [&](auto& pool, auto* grpc_context, auto* out) {
            return pool.Show(grpc_context, request, out);
        }));
    const Json json = reply.has_device() ? to_json(reply.device())
                      : reply.has_host() ? to_json(reply.host())
                                         : to_json(reply.loan());
    if (context.json())
        std::cout << json.dump(2) << std::endl;
    else
        print_fields(json);
    return {};
}

void print_entry(const Context& context, const v1::AuditEntry& entry) {
    if (context.json()) {
        std::cout << to_json(entry).dump() << std::endl; // one object a line
        return;
    }
    std::string change;
    if (!entry.to().empty())
        change =
            entry.from().empty() ? " -> " + entry.to() : fmt::format(" {} -> {}", entry.from(), entry.to());
    std::cout << fmt::format("{}  {:<14} {:<12} {}{}{}{}", time_text(entry.time_us()), entry.actor(),
                             entry.subject(), entry.action(), change,
                             entry.epoch() ? fmt::format(" (epoch {})", entry.epoch()) : "",
                             entry.reason().empty() ? "" : ": " + entry.reason())
              << std::endl;
}

// Prints to the end of the stream; the sequence of the last entry, 0 where there was none.
grpc::Status print_stream(const Context& context, grpc::ClientReader<v1::AuditEntry>& reader,
                          uint64_t& last_sequence) {
    v1::AuditEntry entry;
    while (reader.Read(&entry)) {
        print_entry(context, entry);
        last_sequence = entry.sequence();
    }
    return reader.Finish();
}

// With FOLLOW it goes on until interrupted, at another controller where its own goes away.
Result<> events(const Context& context, bool follow, uint32_t last) {
    v1::EventsRequest request;
    request.set_follow(follow);
    request.set_last(last);
    while (true) {
        uint64_t seen = 0;
        grpc::Status status;
        TRY(call_leader(context, Nature::looks, [&](api::Client& client) {
            grpc::ClientContext grpc_context;
            if (follow)
                client.prepare(grpc_context);
            else
                client.prepare_short(grpc_context);
            status = print_stream(context, *client.pool().Events(&grpc_context, request), seen);
            return seen == 0 ? status : grpc::Status::OK; // what was printed is not printed again
        }));
        if (!follow || (!is_broken(status) && !api::does_not_lead(status))) return api::from_status(status);
        request.set_last(0);
        if (seen != 0) request.set_after_sequence(seen);
    }
}

Result<> audit(const Context& context, const v1::AuditRequest& request) {
    grpc::Status status;
    TRY(call_leader(context, Nature::looks, [&](api::Client& client) {
        grpc::ClientContext grpc_context;
        client.prepare_short(grpc_context);
        uint64_t seen = 0;
        status = print_stream(context, *client.pool().Audit(&grpc_context, request), seen);
        return seen == 0 ? status : grpc::Status::OK;
    }));
    return api::from_status(status);
}

Result<> verify_audit(const Context& context) {
    const auto reply =
        TRY(ask<v1::AuditVerification>(context, Nature::looks, [](auto& pool, auto* grpc_context, auto* out) {
            return pool.VerifyAudit(grpc_context, {}, out);
        }));
    if (context.json())
        std::cout << Json{{"entries", reply.entries()},
                          {"first_sequence", reply.first_sequence()},
                          {"last_sequence", reply.last_sequence()},
                          {"head", reply.head()}}
                         .dump(2)
                  << std::endl;
    else
        std::cout << fmt::format("{} entries ({} to {}) are whole and in order; the head is {}\n",
                                 reply.entries(), reply.first_sequence(), reply.last_sequence(),
                                 reply.head());
    return {};
}

// What `audit --since` and `--until` take: "2026-01-31", "2026-01-31T18:00:00Z", both UTC.
std::string read_time(std::string& text) {
    std::tm time{};
    const char* end = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &time);
    if (!end || *end) {
        time = {};
        end = ::strptime(text.c_str(), "%Y-%m-%d", &time);
    }
    if (!end || *end) return fmt::format("'{}' is no time: write 2026-01-31 or 2026-01-31T18:00:00Z", text);
    text = fmt::format("{}", int64_t{::timegm(&time)} * 1'000'000);
    return {};
}

void add_audit_command(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("audit", "Print the audit trail, or verify it")->group("Looking");
    auto subject = std::make_shared<std::string>();
    auto actor = std::make_shared<std::string>();
    auto action = std::make_shared<std::string>();
    auto last = std::make_shared<uint32_t>(0);
    auto from_us = std::make_shared<int64_t>(0);
    auto until_us = std::make_shared<int64_t>(0);
    sub->add_option("SUBJECT", *subject,
                    "only what concerns this fdid, HOST/DEVICE, host or loan:N; `verify`: check the chain of "
                    "hashes instead of printing");
    sub->add_option("-n,--last", *last, "only the latest N (0: all)")->capture_default_str();
    sub->add_option("--by", *actor, "only what this user, or agent:HOST, did");
    sub->add_option("--action", *action, "only this, for example borrow-refused");
    sub->add_option("--since", *from_us, "only from this time on, for example 2026-01-31T18:00:00Z")
        ->transform(CLI::Validator(read_time, "TIME"));
    sub->add_option("--until", *until_us, "only up to this time")
        ->transform(CLI::Validator(read_time, "TIME"));
    sub->callback([=, &context] {
        if (*subject == "verify") return finish(context, verify_audit(context));
        v1::AuditRequest request;
        request.set_subject(*subject);
        request.set_last(*last);
        request.set_actor(*actor);
        request.set_action(*action);
        request.set_from_us(*from_us);
        request.set_until_us(*until_us);
        finish(context, audit(context, request));
    });
}

// A command without options of its own.
CLI::App* command(CLI::App& app, Context& context, const char* name, const char* help,
                  std::function<Result<>()> work) {
    auto* sub = app.add_subcommand(name, help)->group("Looking");
    sub->callback([&context, work = std::move(work)] {
        if (const auto result = work(); !result) context.exit_code = report(context, result.error());
    });
    return sub;
}

} // namespace

void add_query_commands(CLI::App& app, Context& context) {
    command(app, context, "ls", "List the devices of the pool: what they are, and who holds them",
            [&context] { return list_devices(context); });
    command(app, context, "hosts", "List the hosts on the fabric",
            [&context] { return list_hosts(context); });

    auto all = std::make_shared<bool>(false);
    command(app, context, "loans", "List the loans that live", [&context, all] {
        return list_loans(context, *all);
    })->add_flag("--all", *all, "also those that have ended");

    auto id = std::make_shared<std::string>();
    command(app, context, "show", "Show everything about a device, a host or a loan",
            [&context, id] { return show(context, *id); })
        ->add_option("ID", *id, "an fdid, HOST/DEVICE, a host, or loan:N")
        ->required();

    auto follow = std::make_shared<bool>(false);
    auto last_event = std::make_shared<uint32_t>(20);
    auto* events_command =
        command(app, context, "events", "Show what has happened lately",
                [&context, follow, last_event] { return events(context, *follow, *last_event); });
    events_command->add_flag("-f,--follow", *follow, "go on and print what happens, until interrupted");
    events_command->add_option("-n,--last", *last_event, "how many of the latest to begin with (0: all)")
        ->capture_default_str();

    add_audit_command(app, context);
}

} // namespace lanepool::cli
