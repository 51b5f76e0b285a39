// SPDX-License-Identifier: Apache-2.0
//
// One loan on this host as its borrower: the function is reached at its lender, served on a socket, and
// plugged into the guest; and the whole way back. Everything on the loop's thread.
#pragma once

#include "agent/guest.h"
#include "smartio/borrower.h"

#include <functional>
#include <memory>
#include <string>

namespace lanepool::agent {

struct BorrowedDeviceSetup {
    io::EventLoop* loop = nullptr;
    ntb::Adapter* adapter = nullptr;
    ntb::Channel* channel = nullptr;
    Guest* guest = nullptr;
    ntb::Partition lender;
    smartio::LoanKey key;
    std::filesystem::path socket;
    // How long the guest's driver may take before the loan counts as attached without it.
    io::Duration attach_timeout;
};

class BorrowedDevice {
  public:
    using Done = std::function<void(Result<>)>;
    // REASON: the loan cannot go on. Called once, after attach() has succeeded and before detach() was
    // called.
    using Lost = std::function<void(const std::string& reason)>;

    BorrowedDevice(BorrowedDeviceSetup setup, Lost lost);
    ~BorrowedDevice();

    const smartio::LoanKey& key() const { return setup_.key; }
    ntb::Partition lender() const { return setup_.lender; }
    bool attached() const { return phase_ == Phase::attached; }
    std::optional<smartio::BorrowerStats> stats() const;
    const vfio_user::ServerStats* server_stats() const;

    // Reaches the device and hot-adds it; DONE when the guest's driver has taken it. A failure has undone
    // everything but what the guest still holds: detach() in any case.
    void attach(Done done);
    // Asks the guest to let go, for at most DEADLINE, then takes the function away and tells the lender. The
    // error is the guest's; the function is gone in either case.
    void detach(io::Duration deadline, Done done);
    // The same for a loan that is cut at the lender already: the guest finds the function gone, as after a
    // surprise removal, instead of waiting for answers that do not come.
    void detach_cut_off(io::Duration deadline, Done done);
    void lender_lost();

  private:
    enum class Phase { idle, reaching, plugging, waiting_for_driver, attached, detaching, gone };
    void reached(Result<> result);
    void plugged(Result<> result);
    void finish_attach(Result<> result);
    void client_changed(bool connected);
    void report_lost(const std::string& reason);
    void unplugged(Result<> result, Done done);
    std::string device_id() const;
    std::function<void(Result<>)> on_loop(void (BorrowedDevice::*member)(Result<>));

    BorrowedDeviceSetup setup_;
    Lost lost_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    Phase phase_ = Phase::idle;
    Done attach_done_;
    Done detach_done_; // once the guest has let go
    io::EventLoop::Registration deadline_;
    std::unique_ptr<smartio::Borrower> borrower_;
};

} // namespace lanepool::agent
