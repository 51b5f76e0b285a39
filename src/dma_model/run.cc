// SPDX-License-Identifier: Apache-2.0
#include "dma_model/run.h"

#include "admin/server.h"
#include "dma_model/function.h"
#include "io/event_loop.h"
#include "io/signals.h"
#include "vfio_user/server.h"

#include <csignal>
#include <spdlog/spdlog.h>

namespace lanepool::dma_model {

namespace {

using admin::Json;

// Of the path, so that the device is the same one after a restart (FNV-1a, 64 bits).
uint64_t serial_number(const std::string& path) {
    uint64_t hash = 0xcbf29ce484222325;
    for (const char c : path)
        hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    return hash;
}

Json stats_json(const vfio_user::Server& server, const Function& function,
                const device_model::Poller& poller) {
    const auto& messages = server.stats();
    const auto& engine = function.stats();
    return {{"messages",
             {{"region_reads", messages.region_reads.load()},
              {"region_writes", messages.region_writes.load()},
              {"dma_reads", messages.dma_reads.load()},
              {"dma_writes", messages.dma_writes.load()},
              {"other", messages.other.load()}}},
            {"descriptors", engine.descriptors},
            {"failed", engine.failed},
            {"bytes", engine.bytes},
            {"interrupts", function.interrupts()},
            {"lost_client_memory", device_model::SigbusGuard::lost_ranges()},
            {"naps", poller.stats().naps},
            {"wake_ups", poller.stats().wake_ups},
            {"sleeps", poller.stats().sleeps}};
}

void add_commands(admin::Server& admin, const vfio_user::Server& server, Function& function,
                  const device_model::Poller& poller) {
    admin.add("stats", [&](const Json&) -> Result<Json> { return stats_json(server, function, poller); });
    admin.add("status", [&](const Json&) -> Result<Json> {
        return Json{{"client", server.has_client()},
                    {"running", status::running.get(function.status()) != 0},
                    {"error", static_cast<uint32_t>(function.error())},
                    {"dma_regions", function.dma_regions()},
                    {"hung", function.hung()}};
    });
    admin.add("hang", [&](const Json& request) -> Result<Json> {
        const auto on = request.find("on");
        if (on == request.end() || !on->is_boolean())
            return fail(Errc::invalid_argument, "hang needs \"on\": true or false");
        function.set_hung(on->get<bool>());
        return Json{{"hung", function.hung()}};
    });
}

} // namespace

Result<int> run_dma_model(const DmaModelOptions& options) {
    auto loop = TRY(io::EventLoop::create());
    const auto stop = TRY(io::stop_on_signals(*loop));
    std::signal(SIGPIPE, SIG_IGN);
    auto function = TRY(Function::create(serial_number(std::filesystem::absolute(options.socket).string())));
    device_model::Poller poller(*loop, *function);
    const auto server =
        TRY(vfio_user::Server::create(*loop, options.socket, *function, {.fresh_memory_on_reset = true}));
    std::unique_ptr<admin::Server> admin;
    if (!options.admin_socket.empty()) {
        admin = TRY(admin::Server::create(*loop, options.admin_socket));
        add_commands(*admin, *server, *function, poller);
    }
    spdlog::info("dma model: served at {}", options.socket.string());
    poller.run();
    return 0;
}

} // namespace lanepool::dma_model
