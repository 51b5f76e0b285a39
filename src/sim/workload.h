// SPDX-License-Identifier: Apache-2.0
//
// The people of a site: they borrow, use, renew, return, take away, drain, quarantine and restore.
#pragma once

#include "sim/agent.h"
#include "sim/controller.h"

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace lanepool::sim {

class Workload {
  public:
    Workload(World& world, Checker& checker, const std::vector<std::unique_ptr<SimAgent>>& agents)
        : world_(world), checker_(checker), agents_(agents) {}
    void set_controllers(const Controllers& controllers) { controllers_ = &controllers; }

    void start();
    void committed(const pool::Outcome& outcome);
    bool done() const { return world_.result.loans >= world_.options.loans; }
    // From here on everything is given back, and nothing is asked for.
    void give_all_back();

  private:
    void ask();
    void ask_again(int64_t after_us);
    pool::BorrowRequest wish();
    void became(const pool::Loan& loan);
    void is_over(pool::LoanId loan);
    void use_up(pool::LoanId loan, bool by_application);
    pool::BorrowRequest application_wish();
    void end(pool::LoanId loan);
    void see_to_device(const pool::Device& device);
    void see_to_own_host(const pool::Device& device);
    bool wants_home(pool::LoanId loan);
    template <class Request, class Answer>
    void request(Answer (pool::Pool::*input)(const Request&, pool::Now), Request request);
    const std::string& any_borrower();
    // Whoever can be asked; it may be one that does not know yet that it leads no more.
    SimController* controller() const { return any_serving(*controllers_, world_.result.requests); }

    World& world_;
    Checker& checker_;
    const std::vector<std::unique_ptr<SimAgent>>& agents_;
    const Controllers* controllers_ = nullptr;
    std::vector<std::string> borrowers_;
    std::vector<pool::Fdid> available_;          // as committed
    std::unordered_map<uint64_t, size_t> place_; // in available_
    std::vector<pool::Fdid> shared_;             // where somebody may be found to share with: the last ones
    size_t next_shared_ = 0;
    std::unordered_map<uint64_t, pool::LoanState> live_;
    bool ending_ = false;
};

} // namespace lanepool::sim
