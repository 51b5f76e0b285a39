// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "application/device_use.h"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace lanepool::application {

// The loans that processes of this host have, and the controller's steps for them. On the loop's thread.
class Devices {
  public:
    // BROKEN: a loan does not work any more, and the controller does not know.
    using Broken = std::function<void(const smartio::LoanKey& key, const std::string& reason)>;
    // LOOK_INTERVAL: how late a process may hear that the end of its loan has moved.
    Devices(Fabric& fabric, Controller* controller, Broken broken, io::Duration look_interval)
        : fabric_(fabric), controller_(controller), broken_(std::move(broken)),
          look_interval_(look_interval) {}
    ~Devices(); // lets go of the adapter, without a word to anybody

    // For a process, which is told of `ready`, `lost` and `due`.
    Result<std::shared_ptr<DeviceUse>> borrow(const Controller::Wish& wish, DeviceUse::Events events);
    // DONE: this host has let go of it.
    void give_back(const std::shared_ptr<DeviceUse>& use, const std::string& user, DeviceUse::Done done);
    struct Mapping {
        std::shared_ptr<DeviceUse> use;
        Iova address;
    };
    // Their process has ended: everything is let go of at once, and the controller told. PEER_TO_PEER: what
    // one of them has mapped of another, which goes first.
    void abandon(std::vector<std::shared_ptr<DeviceUse>> uses, const std::string& user,
                 const std::vector<Mapping>& peer_to_peer);

    // Steps of the controller's. An attach step that comes before the controller has told who it is for waits
    // for that, at most a few seconds.
    void attach(const AttachOrder& order, DeviceUse::Done done);
    void detach(uint64_t loan, DeviceUse::Done done);
    void peer_lost(ntb::Partition peer);

    struct Loan {
        smartio::LoanKey key;
        bool attached = false;
    };
    std::vector<Loan> loans() const; // that are on this host
    bool has(uint64_t loan) const;
    size_t size() const { return uses_.size(); }
    Controller* controller() const { return controller_; } // null: there is none

  private:
    struct Unclaimed {
        AttachOrder order;
        DeviceUse::Done done;
        io::EventLoop::Registration deadline;
    };
    std::shared_ptr<DeviceUse> find(uint64_t loan) const;
    void begun(const std::shared_ptr<DeviceUse>& use, uint64_t loan, const std::string& user);
    void let_go(const std::shared_ptr<DeviceUse>& use, const std::string& user);
    void look_at_due();
    void tell_broken(const std::shared_ptr<DeviceUse>& use, const std::string& reason);
    // Tells the controller, which may have ended the loan already.
    void withdraw(uint64_t loan, const std::string& user);

    Fabric& fabric_;
    Controller* const controller_;
    const Broken broken_;
    const io::Duration look_interval_;
    std::set<std::shared_ptr<DeviceUse>> uses_;
    std::map<uint64_t, Unclaimed> unclaimed_; // attach steps, by loan
    io::EventLoop::Registration look_;        // at when the loans end
    bool looking_ = false;
};

} // namespace lanepool::application
