// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/run.h"

#include "admin/server.h"
#include "device_model/sigbus_guard.h"
#include "io/event_loop.h"
#include "io/signals.h"
#include "nvme/model/poller.h"
#include "vfio_user/server.h"

#include <csignal>
#include <spdlog/spdlog.h>

namespace lanepool::nvme::model {

namespace {

using admin::Json;

Json stats_json(const vfio_user::Server& server, const Controller& controller, const Poller& poller,
                const Media& media) {
    const auto& messages = server.stats();
    const auto& engine = controller.stats();
    const auto& counters = media.counters();
    return {{"messages",
             {{"region_reads", messages.region_reads.load()},
              {"region_writes", messages.region_writes.load()},
              {"dma_reads", messages.dma_reads.load()},
              {"dma_writes", messages.dma_writes.load()},
              {"other", messages.other.load()}}},
            {"commands",
             {{"admin", engine.admin_commands},
              {"io", engine.io_commands},
              {"reads", counters.reads},
              {"writes", counters.writes},
              {"failed", engine.failed_commands},
              {"aborted", engine.aborted_commands}}},
            {"interrupts", controller.interrupts().raised()},
            {"doorbell_errors", engine.doorbell_errors},
            {"lost_queues", engine.lost_queues},
            {"dropped_completions", engine.dropped_completions},
            {"lost_client_memory", device_model::SigbusGuard::lost_ranges()},
            {"naps", poller.stats().naps},
            {"wake_ups", poller.stats().wake_ups},
            {"sleeps", poller.stats().sleeps}};
}

Json status_json(const vfio_user::Server& server, const Controller& controller, Media& media) {
    const auto sanitize = media.sanitize_log();
    return {{"serial", controller.identity().serial},
            {"size_bytes", media.image().size_bytes()},
            {"allocated_bytes", media.image().allocated_bytes()},
            {"block_bytes", 1u << media.lba_shift()},
            {"client", server.has_client()},
            {"ready", csts::rdy.get(controller.csts()) != 0},
            {"fatal", csts::cfs.get(controller.csts()) != 0},
            {"io_queues", controller.io_queue_count()},
            {"commands_in_flight", controller.commands_in_flight()},
            {"dma_regions", controller.dma_regions()},
            {"erasing", media.busy()},
            {"sanitize_status", uint16_t{sanitize.status}},
            {"hung", controller.hung()}};
}

void add_commands(admin::Server& admin, const vfio_user::Server& server, Controller& controller,
                  const Poller& poller, Media& media) {
    admin.add("stats",
              [&](const Json&) -> Result<Json> { return stats_json(server, controller, poller, media); });
    admin.add("status", [&](const Json&) -> Result<Json> { return status_json(server, controller, media); });
    admin.add("hang", [&](const Json& request) -> Result<Json> {
        const auto on = request.find("on");
        if (on == request.end() || !on->is_boolean())
            return fail(Errc::invalid_argument, "hang needs \"on\": true or false");
        controller.set_hung(on->get<bool>());
        return Json{{"hung", controller.hung()}};
    });
}

// An orderly end: what was written is durable, and the drive says so.
void end(Media& media, io::Duration powered) {
    if (::fsync(media.image().fd()) != 0) spdlog::error("nvme model: flushing at the end failed");
    auto& counters = media.counters();
    --counters.unsafe_shutdowns;
    counters.powered_s +=
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(powered).count());
    if (auto saved = media.save(); !saved) spdlog::error("nvme model: {}", saved.error().message());
}

} // namespace

Result<int> run_nvme_model(const NvmeModelOptions& options) {
    auto loop = TRY(io::EventLoop::create());
    const auto stop = TRY(io::stop_on_signals(*loop));
    // A file that may not grow is an error of one write, not the end of the drive.
    std::signal(SIGXFSZ, SIG_IGN);
    std::signal(SIGPIPE, SIG_IGN);
    Media::Options media_options{.file = options.file, .size_bytes = options.size_bytes};
    if (options.threads) media_options.make_queue = FileQueue::create_threads;
    auto media = TRY(Media::open(media_options));
    ControllerOptions controller_options;
    controller_options.serial = options.serial.empty()
                                    ? Identity::make_serial(std::filesystem::absolute(options.file).string())
                                    : options.serial;
    controller_options.msix = options.msix;
    controller_options.map_registers = options.map_registers;
    auto controller = TRY(Controller::create(controller_options, *media, loop->clock()));
    auto poller = TRY(Poller::create(*loop, *media, *controller));
    vfio_user::ServerOptions server_options;
    server_options.fresh_memory_on_reset = true;
    const auto server = TRY(vfio_user::Server::create(*loop, options.socket, *controller, server_options));
    std::unique_ptr<admin::Server> admin;
    if (!options.admin_socket.empty()) {
        admin = TRY(admin::Server::create(*loop, options.admin_socket));
        add_commands(*admin, *server, *controller, *poller, *media);
    }
    const auto started = loop->clock().now();
    spdlog::info("nvme model {}: {} bytes from {}, served at {}", controller->identity().serial,
                 media->image().size_bytes(), options.file.string(), options.socket.string());
    poller->run();
    end(*media, loop->clock().now() - started);
    return 0;
}

} // namespace lanepool::nvme::model
