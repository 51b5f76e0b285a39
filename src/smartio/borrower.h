// SPDX-License-Identifier: Apache-2.0
//
// The borrower's side of one loan: opens windows to what is lent, shows it as a PCI function on a vfio-user
// socket (to QEMU), and lets the lender's device reach the memory and interrupts that this client brings.
//
// All methods are called on the loop's thread and return at once; the adapter is used on a thread of the
// borrower's own. Callbacks come on the loop's thread. A callback may destroy the borrower.
#pragma once

#include "base/result.h"
#include "io/event_loop.h"
#include "ntb/adapter.h"
#include "ntb/channel.h"
#include "smartio/loan_key.h"
#include "vfio_user/server.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

namespace lanepool::smartio {

struct BorrowerOptions {
    // How long the lender has for one request. Below `client_timeout`, which is below what the client itself
    // allows (QEMU: x-msg-timeout, 5 s).
    io::Duration request_timeout = std::chrono::seconds(4);
    io::Duration client_timeout = std::chrono::milliseconds(4500);
    io::Duration attach_deadline = std::chrono::seconds(10);
    size_t max_memory_maps = 1024;
};

// What is pointed to must outlive the borrower.
struct BorrowerSetup {
    io::EventLoop* loop = nullptr;
    ntb::Adapter* adapter = nullptr;
    ntb::Channel* channel = nullptr;
    ntb::Partition lender;
    LoanKey key;
    std::filesystem::path socket; // where the function is served
    BorrowerOptions options;
};

struct BorrowerEvents {
    // Once: the socket is there (hot-add the function now), or why it is not.
    std::function<void(Result<>)> attached;
    // A client (QEMU) has connected, or has gone: removed the device, or died.
    std::function<void(bool connected)> client_changed;
    // Each time the client's driver has taken the function: it has set up an interrupt and made it bus
    // master.
    std::function<void()> driver_ready;
    // Once: the loan does not work any more (stale_epoch: the lender cut it; disconnected: its host died;
    // ...). The client gets errors and all-ones from now on. Detach.
    std::function<void(const Error& why)> failed;
};

struct BorrowerStats {
    uint64_t requests = 0;      // sent to the lender, of any kind
    uint64_t trapped_reads = 0; // of the device's registers: each a message
    uint64_t trapped_writes = 0;
    uint64_t config_accesses = 0; // answered by the shadow
    size_t memory_maps = 0;       // of the client's, now
    size_t reachable_maps = 0;    // those of them that the device reaches
    uint64_t mappable_bytes = 0;  // of the device's registers that the client may map
};

class Borrower {
  public:
    // Starts attaching; `attached` says when it is done. Errors only for a setup that cannot work.
    static Result<std::unique_ptr<Borrower>> attach(BorrowerSetup setup, BorrowerEvents events);
    // Stops serving, closes windows and withdraws exports, waiting for the adapter only. The lender is not
    // told.
    ~Borrower();

    // Stops serving, tells the lender (which stops the device), then closes windows and withdraws what was
    // exported. DONE comes at the latest after `request_timeout` and the adapter's own; an error says that
    // the lender did not confirm. No other callback comes after this call.
    void detach(std::function<void(Result<>)> done);

    // Feed ChannelEvents::peer_changed(lender, false) here.
    void lender_lost();

    bool has_client() const;
    BorrowerStats stats() const;
    // What the served socket has handled; null before `attached` and after detach().
    const vfio_user::ServerStats* server_stats() const;

  private:
    class Impl;
    explicit Borrower(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
    std::shared_ptr<Impl> impl_;
};

} // namespace lanepool::smartio
