// SPDX-License-Identifier: Apache-2.0
//
// A loan to this host's own kernel: the device is reached at its lender, described to the bridge module, and
// taken by whatever driver of this host's is for such a device; and the whole way back.
//
// Nothing that the function rests on (windows, memory on the fabric) goes before the kernel has let go of it,
// however long its driver takes: until then the loan lingers, without being one. What its drivers have open
// (a block device that is mounted still) may keep the function's file for longer.
#pragma once

#include "agent/background.h"
#include "agent/borrowed_device.h"
#include "agent/kernel_description.h"
#include "agent/kernel_memory.h"
#include "agent/kernel_registers.h"
#include "agent/own_kernel.h"
#include "smartio/direct_device.h"

#include <memory>
#include <string>
#include <vector>

namespace lanepool::agent {

struct KernelLoanTimes {
    // For a driver to take the function once the kernel has offered it.
    io::Duration driver_limit = std::chrono::seconds(3);
    io::Duration look_interval = std::chrono::milliseconds(50); // until then
    io::Duration watch_interval = std::chrono::seconds(1);      // afterwards
    // What is off its bus may be found again by a rescan.
    io::Duration absence_limit = std::chrono::seconds(5);
};

struct KernelLoanSetup {
    io::EventLoop* loop = nullptr;
    ntb::Adapter* adapter = nullptr;
    ntb::Channel* channel = nullptr;
    OwnKernel kernel;
    std::string host;
    ntb::Partition lender;
    smartio::LoanKey key;
    bridge::DmaMode dma_mode = bridge::DmaMode::bounce;
    io::Duration attach_timeout;
    KernelLoanTimes times;
};

class KernelLoan final : public BorrowedDevice {
  public:
    KernelLoan(KernelLoanSetup setup, BorrowedDeviceEvents events);
    // The function goes by surprise where it is still there.
    ~KernelLoan() override;

    const smartio::LoanKey& key() const override { return setup_.key; }
    ntb::Partition lender() const override { return setup_.lender; }
    bool attached() const override { return phase_ == Phase::attached; }

    void attach(Done done) override;
    void detach(io::Duration deadline, bool ask, Done done) override;
    void detach_cut_off(io::Duration deadline, Done done) override;
    void lender_lost() override;
    void adapter_gone() override;
    bool lingers() const override { return phase_ == Phase::removing || phase_ == Phase::removed; }

    std::optional<InKernel> in_kernel() const override;
    admin::Json status() const override;
    admin::Json stats() const override;

  private:
    enum class Phase {
        idle,
        reaching,   // the device, at its lender
        describing, // it to the module, and making its memory
        connecting, // interrupts
        plugging,
        waiting_for_driver,
        attached,
        removing, // the kernel has it still
        removed,  // it has not, but holds its memory
        over,
    };
    static const char* name(Phase phase);

    // ---- kernel_loan.cc: attaching, and what happens while it is attached
    void reached(Result<> result);
    void made(Result<> result);
    Result<std::vector<UniqueFd>> make_vectors() const;
    void connect();
    void connected(Result<> result, std::shared_ptr<std::vector<UniqueFd>> vectors);
    void plug();
    void plugged(Result<pci::Address> address);
    void look();
    void seen(const LocalFunction& function);
    void attach_timed_out();
    void finish_attach(Result<> result);
    void take_events();
    void handle(const bridge::Event& event);
    void lose(const std::string& reason);
    std::shared_ptr<bridge::Function> function() const { return memory_ ? memory_->function() : nullptr; }

    // ---- kernel_loan_removal.cc
    void answer_users(io::Duration deadline, Done done, const std::string& users);
    void begin_detach(io::Duration deadline, Done done);
    void detach_timed_out();
    void remove(bool surprise);
    void shut_off();
    void unplug(bool surprise);
    void was_removed();
    void close();
    void closed();
    void was_released();
    void end_if_over();

    const KernelLoanSetup setup_;
    const BorrowedDeviceEvents events_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    Phase phase_ = Phase::idle;
    Done attach_done_;
    std::vector<Done> detach_done_;        // once the kernel has let go
    io::EventLoop::Registration deadline_; // of the one or the other
    io::EventLoop::Registration asking_;   // who uses it
    io::EventLoop::Registration looking_;
    io::TimePoint offered_until_; // how long a driver is waited for
    std::optional<io::TimePoint> absent_since_;
    unsigned event_errors_ = 0;
    bool offered_ = false;
    bool looks_ = false;        // one is under way
    bool plugged_ = false;      // and so the module says when it is not any more
    bool surprise_ = false;     // how its removal was asked for
    bool shutting_off_ = false; // it is unplugged once the device does not reach the pool
    bool closed_ = false;       // windows and memory are given back
    bool released_ = false;
    std::optional<pci::Address> address_;
    std::string driver_;
    std::optional<Described> described_;
    std::unique_ptr<smartio::DirectDevice> device_;
    std::unique_ptr<KernelMemory> memory_; // uses the device
    std::unique_ptr<KernelRegisters> registers_;
    io::EventLoop::Registration function_events_;
    std::unique_ptr<Background> background_; // first to go: its work uses all of the above
};

} // namespace lanepool::agent
