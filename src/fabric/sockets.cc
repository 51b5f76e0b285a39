// SPDX-License-Identifier: Apache-2.0
#include "fabric/sockets.h"

#include <fmt/format.h>

namespace lanepool::fabric {

std::filesystem::path PortSockets::path(const std::filesystem::path& dir, unsigned index) {
    return dir / fmt::format("port{}.sock", index);
}

Result<std::unique_ptr<PortSockets>> PortSockets::create(Switch& fabric, std::filesystem::path dir) {
    std::unique_ptr<PortSockets> made(new PortSockets(fabric, std::move(dir)));
    made->ports_.resize(fabric.options().ports);
    for (unsigned i = 0; i < fabric.options().ports; ++i)
        TRY(made->plug(i));
    return made;
}

PortSockets::~PortSockets() {
    for (unsigned i = 0; i < ports_.size(); ++i)
        unplug(i);
}

Result<> PortSockets::plug(unsigned index) {
    if (plugged(index)) return {};
    // A read that waits for another host is answered by its own deadline, never by the server's.
    const vfio_user::ServerOptions options{.reply_timeout =
                                               fabric_.options().peer_read_timeout + std::chrono::seconds(1)};
    ports_[index].server =
        TRY(vfio_user::Server::create(fabric_.loop(), path(dir_, index), fabric_.port(index), options));
    return {};
}

void PortSockets::unplug(unsigned index) {
    if (!plugged(index)) return;
    ports_[index].earlier = messages(index);
    ports_[index].server->drop_client();
    ports_[index].server.reset();
}

PortSockets::Messages PortSockets::messages(unsigned index) const {
    Messages sum = ports_[index].earlier;
    if (!plugged(index)) return sum;
    const auto& stats = ports_[index].server->stats();
    sum.region_reads += stats.region_reads;
    sum.region_writes += stats.region_writes;
    sum.dma_reads += stats.dma_reads;
    sum.dma_writes += stats.dma_writes;
    sum.other += stats.other;
    return sum;
}

} // namespace lanepool::fabric
