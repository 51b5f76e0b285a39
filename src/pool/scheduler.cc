// SPDX-License-Identifier: Apache-2.0
#include "pool/scheduler.h"

namespace lanepool::pool {

class Scheduler::State {};

Scheduler::Scheduler(Check, const SchedulerLimits&) : state_(std::make_unique<State>()) {}
Scheduler::~Scheduler() = default;
void Scheduler::note(const Host&, bool) {}
void Scheduler::note(const Device&, bool) {}
void Scheduler::note(const Loan&, bool) {}
void Scheduler::note(const Usage&, bool) {}
void Scheduler::set_site(const Site&) {}
Decision Scheduler::decide(Now) { return {}; }
Placement Scheduler::place(const std::vector<Loan>&, Now) { return {}; }
Placement Scheduler::explain(LoanId, Now) { return {}; }
std::optional<int64_t> Scheduler::next_change_us(Now) const { return std::nullopt; }
int64_t Scheduler::used_s(const std::string&, Now) const { return 0; }

} // namespace lanepool::pool
