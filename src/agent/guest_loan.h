// SPDX-License-Identifier: Apache-2.0
//
// A loan to a guest: the function is reached at its lender, served on a socket, and plugged into the guest;
// and the whole way back.
#pragma once

#include "agent/borrowed_device.h"
#include "agent/guest.h"
#include "smartio/borrower.h"

#include <functional>
#include <memory>
#include <string>

namespace lanepool::agent {

struct GuestLoanSetup {
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

class GuestLoan final : public BorrowedDevice {
  public:
    GuestLoan(GuestLoanSetup setup, BorrowedDeviceEvents events);
    ~GuestLoan() override;

    const smartio::LoanKey& key() const override { return setup_.key; }
    ntb::Partition lender() const override { return setup_.lender; }
    bool attached() const override { return phase_ == Phase::attached; }

    void attach(Done done) override;
    void detach(io::Duration deadline, bool ask, Done done) override;
    void detach_cut_off(io::Duration deadline, Done done) override;
    void lender_lost() override;
    void adapter_gone() override {} // destroying it does all that there is to do
    bool lingers() const override { return false; }

    admin::Json status() const override { return admin::Json::object(); }
    admin::Json stats() const override;

  private:
    enum class Phase { idle, reaching, plugging, waiting_for_driver, attached, detaching, gone };
    void reached(Result<> result);
    void plugged(Result<> result);
    void finish_attach(Result<> result);
    void client_changed(bool connected);
    void report_lost(const std::string& reason);
    void unplugged(Result<> result, Done done);
    std::string device_id() const;
    std::function<void(Result<>)> on_loop(void (GuestLoan::*member)(Result<>));

    GuestLoanSetup setup_;
    BorrowedDeviceEvents events_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    Phase phase_ = Phase::idle;
    Done attach_done_;
    Done detach_done_; // once the guest has let go
    io::EventLoop::Registration deadline_;
    std::unique_ptr<smartio::Borrower> borrower_;
};

} // namespace lanepool::agent
