// SPDX-License-Identifier: Apache-2.0
//
// `lanepool stats`: asks every daemon of the embedded cluster.
#include "cli/context.h"
#include "cli/table.h"
#include "dev/cluster.h"

#include <iostream>

namespace lanepool::cli {

namespace {

// How many messages the daemons have handled for accesses to lent devices and to borrowers' memory: of
// registers that trap, forwarded by the switch, or sent by a device. While a guest does I/O on a lent drive
// it must not rise.
uint64_t io_messages(const Json& daemons) {
    uint64_t sum = 0;
    const auto add = [&sum](const Json& object, std::initializer_list<const char*> names) {
        for (const char* name : names)
            sum += object.is_object() ? object.value(name, uint64_t{0}) : 0;
    };
    for (const auto& [name, stats] : daemons.items()) {
        if (name == "fabric")
            add(stats.value("total", Json::object()),
                {"window_reads", "window_writes", "forwarded_reads", "forwarded_writes"});
        else if (name.starts_with("agent-"))
            add(stats, {"messages"});
        else if (stats.is_object())
            add(stats.value("messages", Json()),
                {"region_reads", "region_writes", "dma_reads", "dma_writes"});
    }
    return sum;
}

Result<> stats(const Context& context, const std::filesystem::path& folder) {
    Json json = Json::object();
    for (const auto& [name, answer] : TRY(dev::ask_daemons(folder, "stats")))
        json[name] = answer ? Json::parse(answer->dump()) : Json{{"error", answer.error().message()}};
    if (json.empty())
        return fail(Errc::not_found, "there is no cluster in {}; `lanepool dev up` starts one",
                    folder.string());
    const uint64_t messages = io_messages(json);
    if (context.json()) {
        json["io_messages"] = messages;
        std::cout << json.dump(2) << std::endl;
        return {};
    }
    std::cout << fmt::format("messages for I/O, of all daemons: {}\n", messages);
    for (const auto& [name, values] : json.items()) {
        std::cout << name << "\n";
        for (const auto& [key, value] : values.items())
            std::cout << fmt::format("  {:<28} {}\n", key,
                                     value.is_string() ? value.template get<std::string>() : value.dump());
    }
    return {};
}

} // namespace

void add_stats_command(CLI::App& app, Context& context) {
    auto folder = std::make_shared<std::filesystem::path>(dev::default_folder());
    auto* command =
        app.add_subcommand("stats", "Show what each daemon of the embedded cluster has handled by software")
            ->group("Looking");
    command->add_option("--dir", *folder, "the cluster's folder (also $LANEPOOL_DEV_DIR)")
        ->capture_default_str();
    command->callback([=, &context] { finish(context, stats(context, *folder)); });
}

} // namespace lanepool::cli
