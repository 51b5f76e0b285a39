// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "pool/records.h"

#include <map>
#include <set>

namespace lanepool::agent {

// Which loans this host has as their borrower, and what a step for one of them means; decided without doing
// it. The lender is the fence: what is refused here would only be refused there.
class BorrowedLoans {
  public:
    enum class Attach { begin, go_on }; // go_on: the loan is here at this epoch
    enum class Detach {
        nothing,   // of it is here
        ask_guest, // to let go
        cut_off,   // the lender cuts, or has cut, without asking: the guest is not waited for
    };

    // Errors: stale_epoch, for one that has been detached meanwhile, or is here at another epoch.
    Result<Attach> attach(const pool::Step& step) {
        if (const auto here = loans_.find(step.loan); here != loans_.end()) {
            if (here->second.epoch == step.epoch) return Attach::go_on;
            return fail(Errc::stale_epoch, "loan {} is here at epoch {}, not {}", step.loan,
                        here->second.epoch, step.epoch);
        }
        if (const auto ended = ended_.find(step.fdid);
            ended != ended_.end() && (step.epoch < ended->second.epoch ||
                                      (step.epoch == ended->second.epoch && ended->second.has(step.loan))))
            return fail(Errc::stale_epoch, "loan {} of epoch {} has been taken from this host again",
                        step.loan, step.epoch);
        loans_[step.loan] = {step.fdid, step.epoch};
        return Attach::begin;
    }
    Detach detach(const pool::Step& step) {
        ended_[step.fdid].note(step.loan, step.epoch);
        const auto here = loans_.find(step.loan);
        if (here == loans_.end()) return Detach::nothing;
        return step.epoch > here->second.epoch ? Detach::cut_off : Detach::ask_guest;
    }
    // It is over here.
    void forget(pool::LoanId loan) { loans_.erase(loan); }
    void forget_all() { loans_.clear(); }

  private:
    struct Key {
        pool::Fdid fdid;
        pool::Epoch epoch;
    };
    // What has been detached of a device at the highest epoch of which anything was. Shared loans come and go
    // in one epoch, and are told by their numbers, which only grow: where there are too many, those that are
    // older than the oldest are taken for detached.
    struct Ended {
        static constexpr size_t most = 1024;
        pool::Epoch epoch;
        std::set<pool::LoanId> loans;
        pool::LoanId all_before;

        bool has(pool::LoanId loan) const { return loan <= all_before || loans.contains(loan); }
        void note(pool::LoanId loan, pool::Epoch at) {
            if (at < epoch) return;
            if (at > epoch) *this = {at, {}, {}};
            loans.insert(loan);
            if (loans.size() <= most) return;
            all_before = *loans.begin();
            loans.erase(loans.begin());
        }
    };
    std::map<pool::LoanId, Key> loans_;
    std::map<pool::Fdid, Ended> ended_; // bounded by the pool's devices
};

} // namespace lanepool::agent
