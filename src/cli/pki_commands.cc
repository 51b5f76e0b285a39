// SPDX-License-Identifier: Apache-2.0
//
// `lanepool pki ...`: certificates for controllers, agents and people.
#include "cli/context.h"
#include "cli/table.h"
#include "pki/authority.h"

#include <ctime>
#include <iostream>

namespace lanepool::cli {

namespace {

int64_t now_s() { return std::time(nullptr); }

std::string date_text(int64_t unix_s) {
    const std::time_t time = unix_s;
    std::tm fields{};
    gmtime_r(&time, &fields);
    return fmt::format("{:04}-{:02}-{:02}", fields.tm_year + 1900, fields.tm_mon + 1, fields.tm_mday);
}

const char* state_of(const pki::Issued& issued) {
    if (issued.revoked()) return "revoked";
    return issued.validity.not_after_s <= now_s() ? "expired" : "valid";
}

Json to_json(const pki::Issued& issued) {
    const auto& holder = issued.holder;
    Json json{{"name", holder.name},
              {"role", pki::name(holder.role)},
              {"serial", issued.serial},
              {"not_before", issued.validity.not_before_s},
              {"not_after", issued.validity.not_after_s},
              {"state", state_of(issued)}};
    if (!holder.host.empty()) json["host"] = holder.host;
    if (!holder.dns.empty()) json["dns"] = holder.dns;
    if (!holder.ip.empty()) json["ip"] = holder.ip;
    if (issued.revoked()) json["revoked"] = issued.revoked_s;
    return json;
}

void print_list(const Context& context, const std::vector<pki::Issued>& list) {
    if (context.json()) {
        Json json = Json::array();
        for (const auto& issued : list)
            json.push_back(to_json(issued));
        std::cout << json.dump(2) << std::endl;
        return;
    }
    Table table({"NAME", "ROLE", "HOST", "STATE", "UNTIL", "SERIAL"});
    for (const auto& issued : list)
        table.add({issued.holder.name, std::string(pki::name(issued.holder.role)),
                   or_dash(issued.holder.host), state_of(issued), date_text(issued.validity.not_after_s),
                   issued.serial});
    std::cout << table.text() << std::flush;
}

void print_issued(const Context& context, const pki::Authority& authority, const pki::Issued& issued) {
    const std::string key = authority.key_path(issued.holder.name).string();
    const std::string chain = authority.chain_path(issued.holder.name).string();
    if (context.json()) {
        Json json = to_json(issued);
        json["key"] = key;
        json["chain"] = chain;
        std::cout << json.dump(2) << std::endl;
        return;
    }
    std::cout << fmt::format("{} {}, until {}\n  key          {}\n  certificate  {}\n",
                             pki::name(issued.holder.role), issued.holder.name,
                             date_text(issued.validity.not_after_s), key, chain)
              << std::flush;
}

Result<> init(const Context& context, const std::string& folder, const std::string& name) {
    TRY(pki::Authority::init(folder, name, now_s()));
    if (context.json())
        std::cout << Json{{"folder", folder}, {"name", name}}.dump(2) << std::endl;
    else
        std::cout << fmt::format(
                         "a CA is in {}: give ca.pem and crl.pem to everybody, and ca.key to nobody\n",
                         folder)
                  << std::flush;
    return {};
}

Result<> issue(const Context& context, const std::string& folder, pki::Holder holder, const std::string& role,
               int days) {
    holder.role = pki::role_named(role).value(); // CLI11 has checked it
    auto authority = TRY(pki::Authority::open(folder));
    print_issued(context, authority, TRY(authority.issue(std::move(holder), days, now_s())));
    return {};
}

Result<> renew(const Context& context, const std::string& folder, const std::string& name, int days) {
    auto authority = TRY(pki::Authority::open(folder));
    print_issued(context, authority, TRY(authority.renew(name, days, now_s())));
    return {};
}

Result<> revoke(const Context& context, const std::string& folder, const std::string& what) {
    auto authority = TRY(pki::Authority::open(folder));
    print_list(context, TRY(authority.revoke(what, now_s())));
    if (!context.json())
        std::cout << fmt::format("now give {}/crl.pem to every controller\n", folder) << std::flush;
    return {};
}

Result<> list(const Context& context, const std::string& folder) {
    print_list(context, TRY(pki::Authority::open(folder)).issued());
    return {};
}

CLI::Option* add_folder(CLI::App* sub, std::string& folder) {
    return sub->add_option("--dir", folder, "the CA's folder")->required();
}

CLI::Option* add_days(CLI::App* sub, int& days) {
    return sub->add_option("--days", days, "how long it is good for")
        ->capture_default_str()
        ->check(CLI::Range(1, pki::most_days));
}

void add_init(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("init", "Make a CA in a folder");
    auto folder = std::make_shared<std::string>();
    auto name = std::make_shared<std::string>("lanepool");
    sub->add_option("DIR", *folder, "the folder to make")->required();
    sub->add_option("--name", *name, "what the CA is called")->capture_default_str();
    sub->callback([=, &context] { finish(context, init(context, *folder, *name)); });
}

void add_issue(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("issue", "Make a key and a certificate");
    auto folder = std::make_shared<std::string>();
    auto holder = std::make_shared<pki::Holder>();
    auto role = std::make_shared<std::string>();
    auto days = std::make_shared<int>(pki::default_days);
    std::vector<std::string> names;
    for (const auto each : pki::roles)
        names.emplace_back(pki::name(each));
    sub->add_option("NAME", holder->name, "whom it is for")->required();
    sub->add_option("--role", *role, "what he may be")->required()->check(CLI::IsMember(names));
    sub->add_option("--host", holder->host, "the host that an agent speaks for; by default NAME");
    sub->add_option("--dns", holder->dns, "a DNS name of a controller (may be repeated); by default NAME");
    sub->add_option("--ip", holder->ip, "an address of a controller (may be repeated)");
    add_days(sub, *days);
    add_folder(sub, *folder);
    sub->callback([=, &context] { finish(context, issue(context, *folder, *holder, *role, *days)); });
}

void add_renew(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("renew", "Make a new certificate for the same key");
    auto folder = std::make_shared<std::string>();
    auto name = std::make_shared<std::string>();
    auto days = std::make_shared<int>(pki::default_days);
    sub->add_option("NAME", *name, "whose")->required();
    add_days(sub, *days);
    add_folder(sub, *folder);
    sub->callback([=, &context] { finish(context, renew(context, *folder, *name, *days)); });
}

void add_revoke(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("revoke", "Make certificates worth nothing");
    auto folder = std::make_shared<std::string>();
    auto what = std::make_shared<std::string>();
    sub->add_option("NAME|SERIAL", *what, "all certificates of a name, or the one with a serial number")
        ->required();
    add_folder(sub, *folder);
    sub->callback([=, &context] { finish(context, revoke(context, *folder, *what)); });
}

void add_list(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("ls", "List what a CA has issued");
    auto folder = std::make_shared<std::string>();
    add_folder(sub, *folder);
    sub->callback([=, &context] { finish(context, list(context, *folder)); });
}

} // namespace

void add_pki_commands(CLI::App& app, Context& context) {
    auto* pki = app.add_subcommand("pki", "Certificates for controllers, agents and people")->group("Site");
    pki->require_subcommand(1);
    add_init(*pki, context);
    add_issue(*pki, context);
    add_renew(*pki, context);
    add_revoke(*pki, context);
    add_list(*pki, context);
}

} // namespace lanepool::cli
