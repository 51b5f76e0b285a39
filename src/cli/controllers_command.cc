// SPDX-License-Identifier: Apache-2.0
//
// `lanepool controllers`: which there are, and which one leads. A list beside `hosts` and `ls`; unlike those
// it is answered by every controller by itself, so that it says something when none leads.
#include "cli/context.h"
#include "cli/table.h"

#include <iostream>

namespace lanepool::cli {

namespace {

constexpr std::chrono::milliseconds silence{1000};

const char* state_of(const api::Standing& standing) {
    if (!standing.reply) return "no answer";
    return standing.reply->here() ? "leads" : "stands by";
}

Json to_json(const api::Standing& standing) {
    Json json{{"endpoint", standing.endpoint.text()}, {"state", state_of(standing)}};
    if (!standing.reply) {
        json["problem"] = standing.reply.error().message();
        return json;
    }
    json["leader"] = standing.reply->name();
    json["leader_endpoint"] = standing.reply->endpoint();
    json["answered_us"] = standing.took.count();
    return json;
}

void print(const Context& context, const std::vector<api::Standing>& standings) {
    if (context.json()) {
        Json json = Json::array();
        for (const auto& standing : standings)
            json.push_back(to_json(standing));
        std::cout << json.dump(2) << std::endl;
        return;
    }
    Table table({"ENDPOINT", "STATE", "LEADER", "ANSWERED IN", "PROBLEM"});
    for (const auto& standing : standings)
        table.add({standing.endpoint.text(), state_of(standing),
                   standing.reply ? or_dash(standing.reply->name()) : "-",
                   standing.reply ? duration_text(standing.took.count()) : "-",
                   standing.reply ? "-" : standing.reply.error().message()});
    std::cout << table.text() << std::flush;
}

Result<int> controllers(const Context& context) {
    auto options = context.client();
    options.timeout = silence;
    const auto standings = TRY(api::Client::survey(options));
    print(context, standings);
    const bool led = std::any_of(standings.begin(), standings.end(), [](const api::Standing& standing) {
        return standing.reply && standing.reply->here();
    });
    return led ? exit_ok : exit_unavailable;
}

} // namespace

void add_controllers_command(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("controllers",
                                   "List the controllers, and which one leads; ends with 5 when none does")
                    ->group("Looking");
    sub->callback([&context] { finish(context, controllers(context)); });
}

} // namespace lanepool::cli
