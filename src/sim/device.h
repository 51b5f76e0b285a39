// SPDX-License-Identifier: Apache-2.0
//
// A device, and the ways to it: what is physically so, whatever anybody believes.
#pragma once

#include "agent/fence.h"
#include "sim/world.h"

#include <functional>
#include <string>
#include <vector>

namespace lanepool::sim {

class Checker;

class SimDevice {
  public:
    using Done = std::function<void(Result<>)>;
    struct Window {
        agent::Opening opening;
        int64_t since_us = 0;
    };

    SimDevice(World& world, Checker& checker, std::string host, std::string device)
        : world_(world), checker_(checker), host_(std::move(host)), name_(std::move(device)) {}

    // ---- Operations, one after the other; DONE comes later, at the latest after the limit of the kind.
    void open(const agent::Opening& opening, Done done);
    void expel(pool::LoanId loan, Done done);
    void close(Done done);
    void reset(Done done);
    void sanitize(int64_t limit_us, Done done);
    // Its owner has died: nothing that was under way is answered.
    void forget_operations();

    // ---- Its own host. What that has on it is nobody else's to erase or to lend.
    static constexpr pool::LoanId of_its_host{UINT64_MAX}; // whose state and data are those of the host
    void go_to_host();
    void leave_host() { with_host_ = false; }
    bool with_host() const { return with_host_; }
    bool hosted() const { return hosted_; } // its host can have it
    void set_hosted() { hosted_ = true; }
    // An SR-IOV function of PARENT: it comes and goes.
    void set_parent(const std::string& parent) { parent_ = parent; }
    const std::string& parent() const { return parent_; }
    void appear() { there_ = true; }
    void vanish();
    bool there() const { return there_; }

    // ---- What happens to it.
    void lose_power();                  // the ways are closed, its registers are as new; the media is not
    void close_all();                   // by an owner that ends
    bool use(const agent::Opening& by); // by a guest; false: there is no way
    void fall_silent(int64_t until_us) { silent_until_us_ = until_us; }
    bool silent() const { return world_.timeline.now_us() < silent_until_us_; }
    int64_t silent_until_us() const { return silent_until_us_; }

    const std::vector<Window>& windows() const { return windows_; }
    pool::LoanId state_of() const { return state_of_; }
    pool::LoanId data_of() const { return data_of_; }
    pool::Epoch highest_opened() const { return highest_opened_; }
    void opened_at(pool::Epoch epoch) { highest_opened_ = std::max(highest_opened_, epoch); }
    const std::string& host() const { return host_; }
    const std::string& name() const { return name_; }
    pool::Fdid fdid; // as the controller calls it; 0: not known yet

  private:
    // EFFECT happens when the operation ends, also where that is after its limit.
    void run(int64_t duration_us, int64_t limit_us, std::function<Result<>(bool in_time)> effect, Done done);
    void reset_physically();
    void close_ways(std::function<void()> effect, bool works, Done done);

    World& world_;
    Checker& checker_;
    const std::string host_;
    const std::string name_;
    std::vector<Window> windows_;
    pool::LoanId state_of_; // whose state its registers hold
    pool::LoanId data_of_;  // whose data its media hold
    pool::Epoch highest_opened_;
    int64_t busy_until_us_ = 0;
    int64_t silent_until_us_ = 0;
    uint64_t owner_ = 0;   // another one after each start of its agent
    uint64_t opening_ = 0; // that no close has overtaken
    bool hosted_ = false;
    bool with_host_ = false;
    bool there_ = true;
    std::string parent_;
};

} // namespace lanepool::sim
