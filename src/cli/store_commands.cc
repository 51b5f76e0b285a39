// SPDX-License-Identifier: Apache-2.0
//
// `lanepool store ...`: the controllers' records, while no controller runs.
#include "cli/context.h"
#include "store/copy.h"
#include "store/election.h"
#include "store/etcd_store.h"
#include "store/sqlite_store.h"

#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <unistd.h>

namespace lanepool::cli {

namespace {

constexpr std::string_view etcd_prefix = "etcd:";
// An election takes no longer where nobody else leads.
constexpr std::chrono::seconds election_timeout{15};

// A store that is opened by its name, and for as long as it is open nobody else's.
struct OpenStore {
    std::unique_ptr<store::Election> election; // of etcd: no controller may lead meanwhile
    std::unique_ptr<store::Store> store;
};

Result<OpenStore> open_etcd(const std::string& name) {
    store::EtcdOptions options;
    std::istringstream list(name.substr(etcd_prefix.size()));
    for (std::string endpoint; std::getline(list, endpoint, ',');)
        options.endpoints.push_back(endpoint);
    const auto client = TRY(store::EtcdClient::create(options));
    TRY(client->status()); // else the election would wait for etcd in silence
    store::ElectionOptions election;
    election.name = fmt::format("lanepool-store-{}", ::getpid());
    OpenStore opened;
    opened.election = TRY(store::Election::start(options.endpoints, election));
    const auto leadership = opened.election->wait_until_leading(election_timeout);
    if (!leadership) {
        const auto leader = opened.election->leader();
        if (!leader) return fail(Errc::timeout, "{}: the election has not ended in time", name);
        return fail(Errc::busy, "controller {} has {}: stop all controllers first", leader->name, name);
    }
    opened.store = TRY(store::EtcdStore::open(client, leadership));
    return opened;
}

// NAME: a folder of SQLite's, or "etcd:HOST:PORT,...".
Result<OpenStore> open(const std::string& name, bool has_to_exist) {
    if (name.starts_with(etcd_prefix)) return open_etcd(name);
    if (has_to_exist && !std::filesystem::exists(std::filesystem::path(name) / "lanepool.db"))
        return fail(Errc::not_found,
                    "there is no lanepool.db in {}: name a controller's --state folder, or etcd:HOST:PORT",
                    name);
    OpenStore opened;
    opened.store = TRY(store::SqliteStore::open(name));
    return opened;
}

void print(const Context& context, const std::string& done, const store::AuditCheck& check) {
    if (context.json())
        std::cout << nlohmann::ordered_json{{"entries", check.entries},
                                            {"first_sequence", check.first_sequence},
                                            {"last_sequence", check.last_sequence},
                                            {"head", store::hex(check.head)}}
                         .dump(2)
                  << std::endl;
    else
        std::cout << fmt::format("{}; its trail of {} entries verifies\n  head  {}\n", done, check.entries,
                                 store::hex(check.head))
                  << std::flush;
}

Result<> copy(const Context& context, const std::string& from, const std::string& to) {
    if (from == to) return fail(Errc::invalid_argument, "{} cannot be copied to itself", from);
    const auto source = TRY(open(from, true));
    const auto target = TRY(open(to, false));
    const bool terminal = ::isatty(STDERR_FILENO) != 0;
    const auto check = store::copy(*source.store, *target.store, [&](uint64_t done, uint64_t all) {
        if (terminal)
            std::cerr << fmt::format("\r{} of {} entries of the trail\033[K", done, all) << std::flush;
    });
    if (terminal) std::cerr << "\r\033[K" << std::flush;
    print(context, fmt::format("{} is a copy of {}", to, from), TRY(check));
    return {};
}

Result<> verify(const Context& context, const std::string& name) {
    const auto opened = TRY(open(name, true));
    TRY(opened.store->load());
    print(context, name + " can be loaded", TRY(opened.store->verify_audit()));
    return {};
}

constexpr const char* name_help = "a controller's --state folder, or etcd:HOST:PORT,...";

} // namespace

void add_store_commands(CLI::App& app, Context& context) {
    auto* store =
        app.add_subcommand("store", "The controllers' records, while no controller runs")->group("Site");
    store->require_subcommand(1);
    auto* sub = store->add_subcommand(
        "copy", "Copy all records and the audit trail to an empty store, of whichever kind");
    auto from = std::make_shared<std::string>();
    auto to = std::make_shared<std::string>();
    sub->add_option("FROM", *from, name_help)->required();
    sub->add_option("TO", *to, name_help)->required();
    sub->callback([=, &context] { finish(context, copy(context, *from, *to)); });

    sub = store->add_subcommand("verify", "Load all records and verify the audit trail");
    auto name = std::make_shared<std::string>();
    sub->add_option("STORE", *name, name_help)->required();
    sub->callback([=, &context] { finish(context, verify(context, *name)); });
}

} // namespace lanepool::cli
