// SPDX-License-Identifier: Apache-2.0
//
// `lanepool site ...`: the file that says who may borrow what.
#include "cli/follow.h"
#include "site/site_file.h"
#include "site/words.h"

#include <array>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

namespace lanepool::cli {

namespace {

using Json = nlohmann::ordered_json;

// A little more than a site file may have is enough to be told that it has too much.
constexpr size_t most_bytes = 2 * 1024 * 1024;

Result<std::string> read_text(const std::string& path) {
    if (std::error_code error; std::filesystem::is_directory(path, error))
        return fail(Errc::invalid_argument, "{} is a folder; name a site file", path);
    std::ifstream file(path, std::ios::binary);
    if (!file) return fail_errno(fmt::format("opening {}", path));
    std::string text(most_bytes, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (file.bad()) return fail_errno(fmt::format("reading {}", path));
    text.resize(static_cast<size_t>(file.gcount()));
    return text;
}

std::array<std::pair<const char*, size_t>, 7> counts(const pool::Site& site) {
    return {{{"tenants", site.tenants.size()},
             {"users", site.users.size()},
             {"hosts", site.hosts.size()},
             {"classes", site.classes.size()},
             {"rules", site.rules.size()},
             {"failures", site.failures.size()},
             {"reservations", site.reservations.size()}}};
}

void print_json(const std::string& path, const site::Reading& reading) {
    Json json{{"file", path}, {"good", reading.good()}};
    if (reading.good())
        for (const auto& [name, count] : counts(reading.site))
            json[name] = count;
    json["problem_count"] = reading.problem_count;
    json["problems"] = Json::array();
    for (const auto& problem : reading.problems)
        json["problems"].push_back(
            {{"line", problem.at.line}, {"column", problem.at.column}, {"problem", problem.text}});
    std::cout << json.dump(2, ' ', false, Json::error_handler_t::replace) << std::endl;
}

std::string overview(const std::string& path, const pool::Site& site) {
    std::string text = path + ": good: ";
    for (const auto& [name, count] : counts(site))
        text += fmt::format("{} {}, ", count, name);
    text += fmt::format("warns {} before due\n", site::duration_text(site.warn_before_due_s));
    if (site.rules.empty()) text += "there is no rule: everybody may borrow everything\n";
    return text;
}

Result<int> check(const Context& context, const std::string& path) {
    const auto reading = site::read(TRY(read_text(path)));
    if (context.json())
        print_json(path, reading);
    else if (reading.good())
        std::cout << overview(path, reading.site) << std::flush;
    else
        std::cerr << site::problem_lines(reading, path) << std::endl;
    return reading.good() ? exit_ok : exit_usage;
}

Result<int> bring_into_force(const Context& context, const std::string& path) {
    v1::ApplySiteRequest request;
    request.set_text(TRY(read_text(path)));
    request.set_file_name(path);
    const auto reading = site::read(request.text());
    if (!reading.good()) return check(context, path); // which says what is wrong with it
    TRY(ask<v1::Done>(context, Nature::changes, [&](auto& pool, auto* grpc_context, auto* out) {
        return pool.ApplySite(grpc_context, request, out);
    }));
    if (context.json())
        print_json(path, reading);
    else
        std::cout << path << " is in force" << std::endl;
    return exit_ok;
}

Result<> show(const Context& context) {
    const auto reply =
        TRY(ask<v1::SiteReply>(context, Nature::looks, [](auto& pool, auto* grpc_context, auto* out) {
            return pool.GetSite(grpc_context, {}, out);
        }));
    if (context.json())
        std::cout << Json{{"text", reply.text()}}.dump(2, ' ', false, Json::error_handler_t::replace)
                  << std::endl;
    else if (reply.text().empty())
        std::cout << "there is no site file: everybody may borrow everything; `lanepool site apply FILE` "
                     "brings one into force"
                  << std::endl;
    else
        std::cout << reply.text() << std::flush;
    return {};
}

} // namespace

void add_site_commands(CLI::App& app, Context& context) {
    auto* site = app.add_subcommand("site", "The site file: who may borrow what")->group("Site");
    site->require_subcommand(1);
    auto* sub = site->add_subcommand("check", "Find everything that is wrong with a site file");
    auto path = std::make_shared<std::string>();
    sub->add_option("FILE", *path, "the site file")->required();
    sub->callback([=, &context] { finish(context, check(context, *path)); });

    auto* apply_command = site->add_subcommand("apply", "Let the controller go by a site file from now on");
    apply_command->add_option("FILE", *path, "the site file; loans that are there go on as they were granted")
        ->required();
    apply_command->callback([=, &context] { finish(context, bring_into_force(context, *path)); });

    auto* show_command = site->add_subcommand("show", "Print the site file that the controller goes by");
    show_command->callback([&context] { finish(context, show(context)); });
}

} // namespace lanepool::cli
