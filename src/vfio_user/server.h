// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "io/event_loop.h"
#include "vfio_user/handler.h"

#include <atomic>
#include <filesystem>
#include <memory>

namespace lanepool::vfio_user {

// How many messages of each kind were handled: what `lanepool stats` prints, so that "none of our code runs
// per I/O" can be checked. Readable from any thread.
struct ServerStats {
    std::atomic<uint64_t> region_reads{0};
    std::atomic<uint64_t> region_writes{0};
    std::atomic<uint64_t> dma_reads{0}; // sent to the client
    std::atomic<uint64_t> dma_writes{0};
    std::atomic<uint64_t> other{0};
};

struct ServerOptions {
    // A handler's reply that comes later than this is not sent any more: the client gets a time-out error
    // instead. Below the client's own limit (QEMU: x-msg-timeout), or its stream of messages goes out of
    // step.
    io::Duration reply_timeout = std::chrono::seconds(2);
    // Whether reset() puts fresh memory behind the regions (told to lanepool clients).
    bool fresh_memory_on_reset = false;
};

// Shows one function on one Unix socket, to one client at a time; when it goes, the next may come.
class Server {
  public:
    // Listens on PATH. HANDLER and LOOP must outlive the server. Construct and destroy on the loop's thread
    // (or while it does not run). Destroying closes the connection without a call to the handler.
    static Result<std::unique_ptr<Server>> create(io::EventLoop& loop, const std::filesystem::path& path,
                                                  Handler& handler, ServerOptions options = {});
    ~Server();

    bool has_client() const;
    // Closes the connection as if the client had gone.
    void drop_client();
    const ServerStats& stats() const;

  private:
    class Impl;
    explicit Server(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace lanepool::vfio_user
