// SPDX-License-Identifier: Apache-2.0
#include "fabric/run.h"

#include "admin/server.h"
#include "fabric/commands.h"
#include "fabric/sockets.h"
#include "fabric/switch.h"
#include "io/signals.h"

#include <spdlog/spdlog.h>
#include <sys/resource.h>

namespace lanepool::fabric {
namespace {

// Every memory and eventfd that a client shows its port is a descriptor here.
void allow_many_descriptors() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        spdlog::warn("the limit of open files stays at its default: many windows may not work");
}

Result<> make_dir(const std::filesystem::path& dir) {
    std::error_code error;
    std::filesystem::create_directories(dir, error);
    if (error) return fail_errno(-error.value(), fmt::format("make the directory {}", dir.string()));
    return {};
}

} // namespace

Result<int> run_fabric(const FabricOptions& options) {
    allow_many_descriptors();
    TRY(make_dir(options.dir));
    const auto loop = TRY(io::EventLoop::create());
    const auto stop = TRY(io::stop_on_signals(*loop));
    SwitchOptions switch_options;
    switch_options.ports = options.ports;
    switch_options.lut_entries = options.lut_entries;
    switch_options.bar2_bytes = options.bar2_bytes;
    switch_options.bar4_bytes = options.bar4_bytes;
    switch_options.peer_read_timeout = options.peer_read_timeout;
    if (options.pairs && options.ports <= ntb::switchtec::max_partitions)
        switch_options.policies = paired_policies(options.ports);
    const auto fabric = TRY(Switch::create(*loop, std::move(switch_options)));
    const auto sockets = TRY(PortSockets::create(*fabric, options.dir));
    const auto admin = TRY(admin::Server::create(*loop, options.dir / "admin.sock"));
    add_commands(*admin, *fabric, *sockets);
    spdlog::info("fabric: {} ports at {}/portN.sock", options.ports, options.dir.string());
    loop->run();
    spdlog::info("fabric: stopped");
    return 0;
}

} // namespace lanepool::fabric
