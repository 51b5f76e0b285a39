// SPDX-License-Identifier: Apache-2.0
//
// One process's use of one device: a loan, from the wish for it until this host has let go of it.
#pragma once

#include "application/controller.h"
#include "application/fabric.h"
#include "smartio/direct_device.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lanepool::application {

// A step of the controller's for this host as the borrower.
struct AttachOrder {
    smartio::LoanKey key;
    ntb::Partition lender;
    bool shared = false;
    io::Duration patience; // how long it may take
};

// On the loop's thread. Held by a shared_ptr.
class DeviceUse : public std::enable_shared_from_this<DeviceUse> {
  public:
    using Done = std::function<void(Result<>)>;
    template <class T>
    using Got = std::function<void(Result<T>)>;
    struct Events {
        // Once: the device can be used, or why not.
        std::function<void(Result<>)> ready;
        // Once, after a successful `ready`: it cannot be used any more.
        std::function<void(const std::string& reason)> lost;
        // It will end then (Unix time; 0: it will not, any more).
        std::function<void(uint64_t due_us, const std::string& reason)> due;
        // The loan does not work any more, and the controller does not know: for who tells it.
        std::function<void(const std::string& reason)> broken;
        // Once: nothing of it is on this host any more.
        std::function<void()> gone;
    };

    DeviceUse(Fabric& fabric, Events events) : fabric_(fabric), events_(std::move(events)) {}

    // ---- the loan
    void begun(uint64_t loan) { loan_.id = loan; }
    void active(const Controller::Loan& loan);
    void due(const Controller::Due& due);
    void refused(const Error& why); // the controller has not lent it, or not for long enough
    void attach(const AttachOrder& order, Done done);
    // Lets go: what waits is answered, all that the device reaches of us is taken away, and what was kept for
    // it is let go of. DONE: then. Once nothing is left: at once. REASON is for the process; empty: it knows.
    void leave(const std::string& reason, Done done);
    // The process does not want it any more: a leave() will follow, of which it need not be told.
    void give_up();
    void lender_lost();
    // The fabric goes: nothing is answered any more.
    void drop();
    void when_gone(Done done); // nothing of it is on this host any more

    const Controller::Loan& loan() const { return loan_; }
    const AttachOrder& order() const { return order_; } // once there was one
    bool attached() const { return device_ && device_->attached(); }
    bool usable() const { return phase_ == Phase::usable; }
    bool leaving() const { return phase_ == Phase::leaving || phase_ == Phase::gone; }
    // Only while it is usable.
    const smartio::DirectDevice& device() const { return *device_; }

    // ---- its use. Each is answered once; with `not_found` when the device is lost meanwhile, or is not
    // usable.
    void read(unsigned bar, uint64_t offset, size_t bytes, Got<std::vector<std::byte>> done);
    void write(unsigned bar, uint64_t offset, std::span<const std::byte> data, Done done);
    // KEEP lives until the device does not reach the memory any more.
    void place(const ntb::Target& memory, Access access, std::shared_ptr<void> keep, Got<Iova> done);
    void unmap(Iova iova, Done done);
    void create_segment(uint32_t id, uint64_t bytes, smartio::SegmentScope scope, Done done);
    void connect_segment(uint32_t id, smartio::SegmentScope scope, Got<ntb::Target> done);
    void remove_segment(uint32_t id, smartio::SegmentScope scope, Done done);
    void set_interrupt(uint32_t vector, UniqueFd eventfd, Done done);

  private:
    enum class Phase { waiting, usable, given_up, leaving, gone };

    // DONE as something that is answered also where the device does not answer any more.
    template <class T>
    Got<T> answered_once(Got<T> done);
    bool check_usable(const std::function<void(Error)>& refuse) const;
    void maybe_usable();
    void fail_ready(const Error& why);
    void device_attached(Result<> result);
    void device_failed(const Error& why);
    void finish();

    Fabric& fabric_;
    Events events_;
    Phase phase_ = Phase::waiting;
    Controller::Loan loan_;
    bool active_ = false; // says the controller
    std::string soon_;    // as of Controller::Due
    AttachOrder order_;
    std::vector<Done> attach_done_;
    std::unique_ptr<smartio::DirectDevice> device_;
    uint64_t next_call_ = 1;
    std::map<uint64_t, std::function<void(Error)>> calls_; // that wait for the device
    std::map<Iova, std::shared_ptr<void>> kept_;           // for what is mapped
    std::vector<std::shared_ptr<void>> kept_placing_;      // for what is being mapped, until it is over
    std::vector<Done> leave_done_;
};

} // namespace lanepool::application
