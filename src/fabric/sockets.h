// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "fabric/switch.h"
#include "vfio_user/server.h"

#include <filesystem>
#include <memory>
#include <vector>

namespace lanepool::fabric {

// The ports' sockets: DIR/portN.sock for each. Used on the loop's thread only.
class PortSockets {
  public:
    // Serves every port. FABRIC must outlive it; DIR must exist. Errors: what listening reports.
    static Result<std::unique_ptr<PortSockets>> create(Switch& fabric, std::filesystem::path dir);
    ~PortSockets();

    // INDEX must be a port's. Unplugging drops the client and lets nobody connect until plugged again; both
    // do nothing when it is already so.
    void unplug(unsigned index);
    Result<> plug(unsigned index);
    bool plugged(unsigned index) const { return ports_[index].server != nullptr; }

    // What the server of port INDEX has handled, with what earlier ones (before an unplug) had.
    struct Messages {
        uint64_t region_reads = 0;
        uint64_t region_writes = 0;
        uint64_t dma_reads = 0;
        uint64_t dma_writes = 0;
        uint64_t other = 0;
    };
    Messages messages(unsigned index) const;

    static std::filesystem::path path(const std::filesystem::path& dir, unsigned index);

  private:
    struct Served {
        std::unique_ptr<vfio_user::Server> server; // none: unplugged
        Messages earlier;
    };
    PortSockets(Switch& fabric, std::filesystem::path dir) : fabric_(fabric), dir_(std::move(dir)) {}

    Switch& fabric_;
    std::filesystem::path dir_;
    std::vector<Served> ports_;
};

} // namespace lanepool::fabric
