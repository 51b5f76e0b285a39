// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ntb/switchtec.h"
#include "vfio_user/handler.h"

#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace lanepool::fabric {

// How many messages of the switch's may be with one client, so many that they stay below what its connection
// keeps track of (1024); and what may wait here behind them, of one source, so that a client that does not
// read its socket does not make the switch grow, and a source that writes without end does not take the
// others' share.
inline constexpr size_t max_requests_in_flight = 768;
inline constexpr size_t max_requests_queued = 16384;
inline constexpr size_t max_request_bytes_queued = size_t{4} << 20;

// What other ports ask of one port's client, in the order in which it came: on a bus no read passes a write
// before it either (PCI Express Base Specification 2.4.1). Nothing here blocks. Used on the loop's thread.
class ClientRequests {
  public:
    using ReadAnswer = std::function<void(Result<std::vector<std::byte>>)>;

    // CLIENT must be there until close().
    explicit ClientRequests(vfio_user::Client& client) : state_(std::make_shared<State>(client)) {}
    ~ClientRequests() { close(); }
    ClientRequests(const ClientRequests&) = delete;
    ClientRequests& operator=(const ClientRequests&) = delete;

    // Both say whether it was taken: not when too much of SOURCE waits already. DATA is copied.
    bool write(unsigned source, Iova address, std::span<const std::byte> data);
    // WANTED is asked when the read's turn has come: nobody may wait for it any more.
    bool read(unsigned source, Iova address, size_t size_bytes, std::function<bool()> wanted,
              ReadAnswer answer);

  private:
    struct Request {
        unsigned source;
        Iova address;
        size_t size_bytes;
        std::vector<std::byte> data;  // of a write
        std::function<bool()> wanted; // of a read
        ReadAnswer answer;            // of a read; none: a write
    };
    struct Share {
        size_t requests = 0;
        size_t bytes = 0;
    };
    // Kept by the messages that are with the client.
    struct State : std::enable_shared_from_this<State> {
        explicit State(vfio_user::Client& to) : client(&to) {}
        void pump();
        void send(Request request);
        void done();

        vfio_user::Client* client; // null: closed
        size_t in_flight = 0;
        bool pumping = false;
        std::deque<Request> queue;
        std::array<Share, ntb::switchtec::max_partitions> queued{};
    };
    bool add(Request request);
    void close();

    std::shared_ptr<State> state_;
};

} // namespace lanepool::fabric
