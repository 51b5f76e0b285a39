// SPDX-License-Identifier: Apache-2.0
#include "share/run.h"

#include "admin/server.h"
#include "io/event_loop.h"
#include "io/signals.h"
#include "share/manager.h"
#include "share/session_fabric.h"

#include <charconv>
#include <csignal>
#include <fstream>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

namespace lanepool::sharing {

namespace {

using admin::Json;

constexpr io::Duration borrow_timeout = std::chrono::seconds(30);
constexpr io::Duration check_interval = std::chrono::milliseconds(200);
constexpr std::uintmax_t most_file_bytes = 1 << 20;

Result<DeviceInfo> find_device(Session& session, const std::string& device) {
    uint64_t fdid = 0;
    const auto* end = device.data() + device.size();
    const auto [stop, error] = std::from_chars(device.data(), end, fdid, 16);
    const bool is_fdid = error == std::errc() && stop == end;
    for (auto& info : TRY(Device::list(session)))
        if ((is_fdid && info.fdid == fdid) || fmt::format("{}/{}", info.host, info.name) == device ||
            info.name == device)
            return info;
    return fail(Errc::not_found, "there is no device '{}': `lanepool ls` lists them", device);
}

Result<ClientRules> read_rules(const std::filesystem::path& file) {
    if (file.empty()) return ClientRules();
    std::error_code error;
    const auto size = std::filesystem::file_size(file, error);
    if (error) return fail(Errc::not_found, "{}: {}", file.string(), error.message());
    if (size > most_file_bytes)
        return fail(Errc::invalid_argument, "{} has {} bytes, at most {} are read", file.string(), size,
                    most_file_bytes);
    std::ifstream stream(file, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    if (!stream) return fail(Errc::io, "{} cannot be read", file.string());
    return ClientRules::parse(text, file.string());
}

Json status_json(const Manager& manager, const DeviceInfo& device, uint64_t loan) {
    const auto status = manager.status();
    const auto& drive = manager.driver();
    Json clients = Json::array();
    for (const auto& client : status.clients)
        clients.push_back({{"slot", client.slot},
                           {"host", client.host},
                           {"node", client.node},
                           {"user", client.user},
                           {"weight", client.weight},
                           {"namespace", client.part.nsid},
                           {"first_block", client.part.first_block},
                           {"blocks", client.part.blocks},
                           {"read_only", client.read_only},
                           {"queue", client.queue},
                           {"depth", client.depth},
                           {"bytes_per_second", client.bytes_per_second}});
    return {{"fdid", fmt::format("{:x}", device.fdid)},
            {"device", device.name},
            {"host", device.host},
            {"loan", loan},
            {"model", drive.info().model},
            {"serial", drive.info().serial},
            {"generation", status.generation},
            {"bytes_per_second", status.bytes_per_second},
            {"joined", status.joined},
            {"refused", status.refused},
            {"died", status.died},
            {"clients", std::move(clients)}};
}

} // namespace

Result<int> run_share(const ShareOptions& options) {
    auto loop = TRY(io::EventLoop::create());
    const auto stop = TRY(io::stop_on_signals(*loop));
    std::signal(SIGPIPE, SIG_IGN);
    ManagerOptions manager_options;
    manager_options.rules = TRY(read_rules(options.clients_file));
    auto session = TRY(Session::open({.socket = options.agent_socket}));
    const auto device = TRY(find_device(session, options.device));
    const auto drive = TRY(SessionDrive::borrow(session, device.fdid, borrow_timeout));
    SessionFabric fabric(session);
    const auto wake = TRY(create_eventfd());
    auto manager = TRY(Manager::create(fabric, *drive, device.fdid, loop->clock(), std::move(manager_options),
                                       [&wake] { signal(wake); }));
    // What has ended the sharing; then the loop stops.
    std::optional<Error> broken;
    const auto look = [&](Result<> result) {
        if (result || broken) return;
        broken = result.error();
        manager->end(broken->within("the shared drive's manager has ended"));
        loop->stop();
    };
    const auto asked = TRY(loop->watch(wake.get(), EPOLLIN, [&](uint32_t) {
        drain(wake);
        look(manager->poll());
    }));
    const auto checks = loop->every(check_interval, [&] { look(manager->check()); });
    std::unique_ptr<admin::Server> admin;
    if (!options.admin_socket.empty()) {
        admin = TRY(admin::Server::create(*loop, options.admin_socket));
        admin->add("status",
                   [&](const Json&) -> Result<Json> { return status_json(*manager, device, drive->loan()); });
    }
    spdlog::info("drive {:x} ({}, {} of {}) is shared, loan {}: {} namespaces", device.fdid, device.name,
                 manager->driver().info().model, device.host, drive->loan(),
                 manager->driver().namespaces().size());
    look(manager->poll()); // who has asked before the loop was there
    loop->run();
    admin.reset();
    manager.reset();
    if (broken) return tl::unexpected(*broken);
    spdlog::info("drive {:x} is not shared any more", device.fdid);
    return 0;
}

} // namespace lanepool::sharing
