// SPDX-License-Identifier: Apache-2.0
//
// MSI-X for a client that must not know of it. QEMU (11.1) aborts when a vfio-user function on which it has
// set MSI-X up is removed, but many functions signal in no other way. So the client does not find the
// capability (ConfigShadow::read), while its guest, which reads config space in small pieces, does: the
// table that the guest programs is kept here, and each interrupt is sent as what it is on a bus, a write to
// the address that the guest gave, which the client does for the function.
#pragma once

#include "io/event_loop.h"
#include "smartio/client_irqs.h"
#include "smartio/msix_capability.h"
#include "smartio/msix_table.h"
#include "vfio_user/handler.h"

#include <functional>
#include <memory>
#include <vector>

namespace lanepool::smartio {

// On the loop's thread.
class GuestMsix {
  public:
    // READY is called whenever vectors have been set up. LOOP and IRQS must outlive this.
    GuestMsix(io::EventLoop& loop, ClientIrqs& irqs, const MsixCapability& capability,
              std::function<void()> ready);

    void connected(vfio_user::Client& client) { client_ = &client; }
    // IRQS forgets for itself.
    void disconnected();

    // Whether an access is, at least in part, one of the table or the pending bits.
    bool covers(pci::Region region, uint64_t offset_bytes, uint64_t size_bytes) const;
    std::vector<std::byte> read(pci::Region region, uint64_t offset_bytes, size_t size_bytes) const;
    void write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data,
               vfio_user::Reply<void> reply);

    // The capability's control register has been written. The reply comes once the device signals as it says.
    void control(bool enabled, bool masked, vfio_user::Reply<void> reply);
    // Forgets the table, and has the device signal nothing.
    void reset();

    bool active() const { return !vectors_.empty(); }

  private:
    struct Vector {
        UniqueFd eventfd;
        io::EventLoop::Registration watch;
        bool under_way = false; // a message of it: another one need not wait beside it
        bool again = false;
    };
    void settle(vfio_user::Reply<void> reply);
    Result<std::vector<UniqueFd>> add_vectors(uint32_t wanted);
    void grown(uint32_t before, Result<> result, vfio_user::Reply<void> reply);
    void signal(uint32_t vector);
    void sent(uint32_t vector);
    void forget();

    io::EventLoop& loop_;
    ClientIrqs& irqs_;
    const MsixCapability capability_;
    const std::function<void()> ready_;
    vfio_user::Client* client_ = nullptr;
    MsixTable table_;
    std::vector<std::unique_ptr<Vector>> vectors_; // those that are set up
    std::shared_ptr<bool> now_; // another one after each forget(): how an answer finds out that it is late
};

} // namespace lanepool::smartio
