// SPDX-License-Identifier: Apache-2.0
//
// Who may be let in to one device of this host, decided without doing anything: no I/O, no clock, no threads.
// The controller says what should be; the fence holds whatever was promised about the device, also when the
// controller, the borrower or this agent itself dies in the middle.
//
//   - A step of an epoch below the highest that is on disk is refused, and so is a second loan while one is
//     open, and one of a device that has not been reset and sanitized since its last user. Only shared loans
//     of one epoch are open side by side, and one of them that has been expelled is never let in again.
//   - The disk knows that a device is not clean, and of which epoch it is, before anything is opened. It is
//     clean again after a verified reset and a verified sanitize (or the reset alone, where the step says
//     that this is enough), and by nothing else.
//   - A loan whose lease has run out is closed without being told to, and of several it alone. After a
//     restart no loan is open.
//   - A device that its own host can use, too (HostPorts), is either the host's or the fence's. It is taken
//     and given back by steps alone, and whoever has had it, it is not clean.
//   - A step that comes twice is done once, as far as anybody can tell.
//
// The simulator drives this class, not a copy of it.
#pragma once

#include "agent/device_records.h"
#include "base/result.h"
#include "pool/records.h"

#include <cstdint>
#include <list>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace lanepool::agent {

// A loan as the device's own host knows it.
struct Opening {
    pool::LoanId loan;
    pool::Epoch epoch;
    uint32_t borrower_partition = 0;
    bool shared = false; // others of this epoch may be open, too

    bool operator==(const Opening&) const = default;
};

// What the fence wants done. An operation is answered by LenderFence::finished() with its number, later, not
// from inside of the call, and within a limit of time that its owner sets; one that fails for whatever reason
// has left nothing open, also where it ends late; where it is an expel() nothing is left open by the close()
// that follows. Operations go to the device in the order of the calls, but close() ends an open() or expel()
// that is under way. No call may lead back into the fence.
class FencePorts {
  public:
    virtual ~FencePorts() = default;

    // On disk when it returns. An error: as if nothing had been asked.
    virtual Result<> store(const DeviceRecord& record) = 0;
    // Opens the ways of this loan, and of no other; others that are open stay so.
    virtual void open(uint64_t operation, const Opening& opening) = 0;
    // Closes the ways of this loan, which is one of several, without asking anybody; the others stay open.
    virtual void expel(uint64_t operation, const Opening& opening) = 0;
    // Closes every way, without asking anybody.
    virtual void close(uint64_t operation, pool::Epoch epoch) = 0;
    // Resets, and fails unless it has seen that the device is as new.
    virtual void reset(uint64_t operation) = 0;
    // Erases what the last user left, and fails unless it has seen that it is gone.
    virtual void sanitize(uint64_t operation, int64_t limit_us) = 0;
    // Each step is answered once.
    virtual void answer(const pool::Order& order, Result<> result) = 0;
    // Nobody asked for it, but the loan cannot go on; its ways are closed, or being closed.
    virtual void lost(const Opening& opening, const std::string& reason) = 0;
    // Whether it answers, as observed() says; of all else the answers to the steps have told.
    virtual void changed() = 0;
};

// What the fence wants of a device that its own host can use, too: as with FencePorts, but for the limits of
// time, which the steps have set.
class HostPorts {
  public:
    virtual ~HostPorts() = default;
    // Takes it from the host and resets it. An error: it is the host's, as before.
    virtual void take(uint64_t operation, int64_t limit_us) = 0;
    // Closes what is open of it and gives it back. An error: nobody knows whose it is until local() or
    // present() says so.
    virtual void give_back(uint64_t operation, int64_t limit_us) = 0;
    // How many SR-IOV functions it has from now on.
    virtual void set_functions(uint64_t operation, uint32_t functions, int64_t limit_us) = 0;
};

// For a Hello.
struct FenceObservation {
    bool local = false; // its own host has it
    bool answering = false;
    bool clean = false;
    pool::Epoch epoch;
    pool::LoanId loan;                // some way of it may be open
    std::vector<pool::LoanId> joined; // and of these
    std::string problem;
};

class LenderFence {
  public:
    enum class State {
        absent, // there is no device to work with
        local,  // its own host's
        taking, // from it
        giving_back,
        changing,   // how many SR-IOV functions it has; its own host's
        verifying,  // the reset with which it begins whenever it comes, until one has worked
        unverified, // closed, and not reset since
        ready,      // reset, and seen to be
        opening,    // one loan; others may be open
        open,
        expelling, // one of several
        closing,
        resetting,
        sanitizing,
        broken, // it has not done what it should; a reset may bring it back, and is tried now and then
    };

    // DEVICE: its name, for messages. FOUND: its record on disk. HOST: null for one that nobody but this
    // fence can use: it counts as taken, and as given back, whenever that is asked for. PORTS and HOST must
    // outlive this.
    LenderFence(std::string device, DeviceRecord found, FencePorts& ports, HostPorts* host = nullptr);

    // What is there is another device than before, with this record on disk: of the last one nothing is left.
    // Only while it is absent.
    void exchanged(DeviceRecord found);
    // The device is there, and its own host's. Only while it is absent.
    void local(int64_t now_us);
    // The device can be worked with. WINDOWS_OPEN: somebody may still have a way to it, which is closed
    // first.
    void present(bool windows_open);
    // The device, or what is needed to lend it, has gone; nothing of it is open any more. Operations under
    // way are not answered.
    void absent(const std::string& reason);
    // One step for this device. It waits for a device that is not ready for it, for at most its deadline.
    void perform(const pool::Order& order, int64_t now_us);
    void finished(uint64_t operation, Result<> result, int64_t now_us);
    // NOW_US: any clock that only goes forward, the same one everywhere.
    void tick(int64_t now_us);
    std::optional<int64_t> next_tick_us() const;
    // Answers whatever waits; for the end.
    void stop(const std::string& reason);

    FenceObservation observed() const;
    State state() const { return state_; }
    // Its own host has it, or is about to: absent() is for one that has gone altogether then.
    bool with_host() const {
        return state_ == State::local || state_ == State::taking || state_ == State::giving_back ||
               state_ == State::changing;
    }
    const DeviceRecord& record() const { return record_; }
    bool under_way() const { return operation_ != 0; }
    // Of which some way may be open.
    std::vector<Opening> openings() const;

  private:
    struct Pending {
        pool::Order order;
        int64_t deadline_us;
    };
    struct Lent {
        Opening opening;
        int64_t lease_until_us = 0; // 0: without end
        pool::StepId lease_step;    // which set it
        bool announced = false;     // whoever decides knows that this loan is over
        bool going = false;         // it is expelled, or will be as soon as that can begin
    };

    void prepare(const Pending& step, int64_t now_us);
    void cut(const Pending& step);
    void expel(const Pending& step);
    void reset(const Pending& step);
    void sanitize(const Pending& step, int64_t now_us);
    void extend(const Pending& step, int64_t now_us);
    void begin(const Pending& step, int64_t now_us);
    void wait(const Pending& step);
    void retry_waiting(int64_t now_us);

    uint64_t start(State state);
    void close();
    void first_reset();
    std::vector<Pending> end_operation();
    void opened(const std::vector<Pending>& steps, const Result<>& result);
    void expelled(const std::vector<Pending>& steps, const Result<>& result);
    void closed(const std::vector<Pending>& steps, const Result<>& result);
    void was_reset(const std::vector<Pending>& steps, Result<> result);
    void sanitized(const std::vector<Pending>& steps, Result<> result);
    void failed(const std::string& problem);
    void set_answering(bool answering);
    Result<> store(const DeviceRecord& record);
    Result<> raise(pool::Epoch epoch);
    static void arm_lease(Lent& lent, const pool::Step& step, int64_t now_us);
    void lose(Lent& lent, const std::string& reason);
    void lose_all(const std::string& reason);

    // ---- fence_host.cc
    static int64_t limit_us(const Pending& step, int64_t now_us);
    void take(const Pending& step, int64_t now_us);
    void give_back(const Pending& step, int64_t now_us);
    void set_functions(const Pending& step, int64_t now_us);
    void while_with_host(const Pending& step);
    void taken(const std::vector<Pending>& steps, const Result<>& result);
    void given_back(const std::vector<Pending>& steps, const Result<>& result);
    void changed_functions(const std::vector<Pending>& steps, const Result<>& result);
    void become_local();

    // ---- fence_shared.cc
    Lent* find(pool::LoanId loan);
    bool is_lent() const {
        return state_ == State::opening || state_ == State::open || state_ == State::expelling;
    }
    bool may_join(const Opening& wanted) const;
    bool was_expelled(pool::LoanId loan) const;
    void note_expelled(pool::LoanId loan);
    void forget_expelled();
    void drop(pool::LoanId loan);
    void begin_expulsion(pool::LoanId loan);
    void expel_next();
    void close_all_for(const std::string& reason);
    void leases_ran_out(int64_t now_us);

    const std::string device_;
    DeviceRecord record_;
    FencePorts& ports_;
    HostPorts* const host_;
    State state_ = State::absent;
    bool reached_ = false;                    // it has been reset well since it came
    bool answering_ = false;                  // and no operation has failed it since
    bool cut_stored_ = true;                  // of the close that is under way
    std::string problem_ = "not reached yet"; // why it is absent, verifying or broken
    std::vector<Lent> lent_;                  // of opening, open, expelling, closing
    pool::LoanId moving_;                     // of them the one that is opening, or expelling
    std::set<pool::LoanId> expelled_;         // at the epoch on disk
    pool::LoanId expelled_before_;            // so were all up to this one
    int64_t retry_us_ = 0;                    // of a reset of a broken device; 0: no need
    pool::StepId reset_done_;                 // that left it ready
    pool::StepId sanitize_done_;              // that left it clean
    uint64_t operation_ = 0;                  // under way; 0: none
    uint64_t next_operation_ = 1;
    std::vector<Pending> at_it_; // the steps that the operation answers
    std::list<Pending> waiting_;
};

std::string_view name(LenderFence::State state);

} // namespace lanepool::agent
