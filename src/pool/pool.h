// SPDX-License-Identifier: Apache-2.0
//
// Who may have which device, and what happens next. Pure: no clock, no I/O, no threads, no randomness; the
// same inputs lead to the same outcome. docs/loans.md tells the whole story.
//
// Every input changes the records in memory at once. outcome() is everything that has changed since the last
// commit(): store it in one transaction, then commit() and send its orders. If it cannot be stored,
// rollback(): then none of the inputs since the last commit has happened. Several inputs may share one
// outcome.
//
// Inputs that come twice, late, with an old epoch or from the wrong host change nothing.
#pragma once

#include "base/result.h"
#include "pool/input.h"
#include "pool/ledger.h"
#include "pool/policy.h"
#include "pool/scheduler.h"
#include "pool/site.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::pool {

class Pool {
  public:
    // From what was stored. SITE is what stored.site says, read by who calls: the pool only keeps that text.
    // Nobody is connected yet: devices are offline and loans wait until their agents say hello, for a while.
    // There is an outcome to store afterwards. internal: records that contradict each other.
    static Result<std::unique_ptr<Pool>> create(const Snapshot& stored, Site site, const Options& options,
                                                Now now);

    // ---- What people ask. Each acts on one host, device or loan and never on more. A refusal says who holds
    // the device or which rule is against it, why, and what to do next, and is audited.
    // The new loans, one for each selector, all on their way to active; or all queued, if the request waits.
    Result<std::vector<LoanId>> borrow(const BorrowRequest& request, Now now);
    // What borrow() would do now. Changes and audits nothing.
    Explanation explain(const BorrowRequest& request, Now now) const;
    // The loan, on its way back. One that is already on its way is left alone; one that is queued is
    // withdrawn, with its group.
    Result<LoanId> give_back(const ReturnRequest& request, Now now);
    // The same, without asking the borrower: the lender cuts first.
    Result<LoanId> reclaim(const ReclaimRequest& request, Now now);
    // The loan, with another due time.
    Result<LoanId> renew(const RenewRequest& request, Now now);
    // The new loan; it waits until the old one is over.
    Result<LoanId> reassign(const ReassignRequest& request, Now now);
    // The device, on its way to available. One that is already on its way is left alone.
    Result<Fdid> reset(const ResetRequest& request, Now now);
    // Nothing new from or to it, or no longer so. The loans that are asked back, where the request says so.
    Result<std::vector<LoanId>> drain(const DrainRequest& request, Now now);
    // The device, quarantined, or on its way there where it has to be cut off first.
    Result<Fdid> quarantine(const QuarantineRequest& request, Now now);
    // The device, on its way from quarantine or local use to available.
    Result<Fdid> restore(const RestoreRequest& request, Now now);
    // The device, out of the pool.
    Result<Fdid> keep_local(const KeepLocalRequest& request, Now now);
    // The device, whose functions are being made or removed; or as it is, if it has so many.
    Result<Fdid> set_functions(const SetFunctionsRequest& request, Now now);
    // From now on SITE decides; loans that are there go on as they were granted. TEXT, which SITE was read
    // from, is stored.
    Result<> apply_site(Site site, const std::string& text, const Caller& caller, Now now);

    // ---- What agents say.
    // What is really there on a host. CONNECTED: the first Hello of a connection; unanswered steps are sent
    // again. Returns the fdid of each device, in the Hello's order.
    Result<std::vector<Fdid>> hello(const Hello& hello, bool connected, Now now);
    // A sign of life; not stored.
    void heard(const std::string& host, std::optional<uint32_t> windows_free, Now now);
    void answered(const std::string& host, const StepAnswer& answer, Now now);
    void lost(const std::string& host, const LoanLost& lost, Now now);
    // Is audited, and changes nothing else.
    void faulted(const std::string& host, const DeviceFault& fault, Now now);
    void disconnected(const std::string& host, std::string_view why, Now now);

    // ---- Time.
    // Deadlines and due times that have passed.
    void tick(Now now);
    // When tick() is wanted next, on the steady clock; it may be past already, where one call was not enough.
    std::optional<int64_t> next_tick_steady_us() const;

    // ---- What has changed.
    // Serves the queue first, once for all inputs since the last commit. To be called once before each
    // commit() or rollback(). internal: an input led to a
    // transition that does not exist. Roll back.
    Result<Outcome> outcome();
    void commit();
    void rollback();

    // ---- Reading. Pointers are valid until the next input.
    const Ledger& ledger() const { return ledger_; }
    const Options& options() const { return options_; }
    const Site& site() const { return policy_->site(); }
    // Who this is, and what he may do: for what others decide by it, such as which loans he may see.
    Who who(const Caller& caller) const { return policy_->who(caller); }
    // By fdid in hexadecimal (with or without 0x) or HOST/NAME.
    Result<Fdid> find_device(std::string_view id) const;
    // loan:N, or the loan that holds a device.
    Result<LoanId> find_loan(std::string_view loan_or_device) const;
    // The step that this device, or this loan of one, waits for now.
    const Step* awaited(Fdid fdid) const;
    const Step* awaited_by(const Loan& loan) const;

  private:
    // What a borrow request comes to.
    struct Plan {
        std::vector<Loan> wishes;  // not numbered yet
        std::vector<Start> starts; // where it can be had now: one for each
        std::optional<Fdid> joins; // or this, which others have and share
        std::optional<Error> not_now;
        std::vector<std::string> why;
    };

    // Of a device's faults that have been audited, and of those that were not because there were so many.
    struct FaultNote {
        Epoch epoch; // the highest of a loan that was told of
        int64_t quiet_until_steady_us = 0;
        uint64_t left_out = 0;
    };

    Pool(Site site, const Options& options);
    Result<> load(const Snapshot& stored);
    void restart();

    // ---- pool.cc: the smallest changes
    void begin(Now now, std::string_view actor);
    void begin(Now now, const Caller& caller);
    Caller asker(const Caller& caller, const std::string& host) const;
    Caller asker(const Caller& caller, std::string_view loan_or_device) const;
    void audit(AuditEntry entry);
    void audit_loan(std::string_view action, const Loan& loan, std::string_view reason);
    void audit_refusal(std::string_view action, std::string_view subject, const Error& error);
    void set_state(LoanId id, LoanState to, std::string_view reason, bool may_come_back = false);
    void note_broken_group(LoanId id, std::string_view reason);
    void set_state(Fdid fdid, DeviceState to, std::string_view reason);
    Step new_step(StepKind kind, const std::string& host, Fdid fdid, LoanId loan, Epoch epoch);
    void issue(StepKind kind, Fdid fdid, LoanId loan, uint32_t deadline_ms, bool ask = false);
    void issue_cleanup(StepKind kind, const std::string& host, Fdid fdid, LoanId loan, Epoch epoch);
    void send(StepId id);
    bool is_up(const std::string& host) const;
    bool in_recovery(Fdid fdid) const;

    // ---- borrow.cc
    Result<Plan> plan(const BorrowRequest& request, const Who& who, Now now, bool explains) const;
    Result<> check_request(const BorrowRequest& request) const;
    Result<Loan> wish_for(const Selector& selector, const BorrowRequest& request, const Who& who,
                          std::vector<std::string>* why) const;
    Result<const Rule*> rule_for_any(const Selector& selector, const Loan& wish, const Who& who) const;
    Result<> set_terms(Loan& wish, const Rule& rule, const Who& who, std::optional<int64_t> duration_s,
                       std::optional<int32_t> priority) const;
    Result<> check_limits(const std::vector<Loan>& wishes, const Who& who) const;
    Result<> check_available(const Device& device, const Loan* wish = nullptr) const;
    Result<> check_not_drained(const Device& device) const;
    Error held(const Device& device, const Loan& loan, const Loan* wish) const;
    bool can_be_lent(const Device& device) const;
    Result<> check_host(const std::string& host) const;
    Result<std::string> check_guest(const std::string& host, const std::string& guest) const;
    Result<> check_other_host(const Device& device, const std::string& host) const;
    Result<> check_duration(int64_t duration_s) const;
    Result<> check_room(size_t loans) const;
    Result<Loan> judged_again(const Loan& wish) const;
    Result<> check_wish(const Loan& wish, const Device& device) const;
    Result<std::vector<LoanId>> try_borrow(const BorrowRequest& request, const Who& who);
    LoanId add_loan(Loan loan, LoanId group, std::string_view what);

    // ---- receivers.cc
    Result<std::string> check_receiver(const std::string& host, const std::string& guest, AccessModel model,
                                       DmaMode dma) const;
    Result<DmaMode> check_receiver_now(const Loan& loan, const Device& device) const;
    void note_attached(const Step& step, const Attached& attached);
    void stays_in_use(const Step& step, const std::string& why);
    void insist(LoanId id, const std::string& reason, uint32_t deadline_ms);

    // ---- sharing.cc
    bool may_share(const Device& device, const Loan& wish) const;
    Result<> check_join(const Device& device, const Loan& wish) const;
    void join(LoanId id, Fdid fdid);
    bool others_stay(const Loan& loan) const;
    void leave(LoanId id, const std::string& reason, bool tell_borrower);
    void reclaim_device(Fdid fdid, const std::string& reason);
    bool note_loss(LoanId id, const std::string& reason);
    void lose_device(Fdid fdid, const std::string& reason);
    Result<LoanId> find_single_loan(std::string_view loan_or_device) const;

    // ---- serving.cc
    void start(LoanId id, Fdid fdid, const std::string& reservation, DmaMode dma);
    void start_successor(Fdid fdid);
    void serve_queue();
    void start_group(const std::vector<Start>& starts);
    void end_wish(LoanId id, LoanState how, const std::string& reason);
    void settle_groups();
    void wants_decision() { decision_wanted_ = true; }

    // ---- returning.cc
    Result<LoanId> try_give_back(const ReturnRequest& request, const Who& who);
    Result<LoanId> try_reclaim(const ReclaimRequest& request, const Who& who);
    Result<LoanId> try_reassign(const ReassignRequest& request, const Who& who);
    void start_return(LoanId id, const std::string& reason, uint32_t deadline_ms, bool ask = false);
    void start_reclaim(LoanId id, const std::string& reason);

    // ---- operators.cc
    Result<Fdid> try_reset(const ResetRequest& request, const Who& who);
    Result<std::vector<LoanId>> try_drain(const DrainRequest& request, const Who& who);
    Result<Fdid> try_quarantine(const QuarantineRequest& request, const Who& who);
    Result<Fdid> try_restore(const RestoreRequest& request, const Who& who);
    Result<Fdid> try_keep_local(const KeepLocalRequest& request, const Who& who);
    Result<> check_lender(const Device& device, std::string_view what) const;
    Result<> check_there(const Device& device) const;
    void mark_local(Fdid fdid);
    void unmark_local(Fdid fdid, const std::string& reason);
    void judge_wishes();

    // ---- expiry.cc
    Result<LoanId> try_renew(const RenewRequest& request, const Who& who);
    void activated(LoanId id);
    void set_due(LoanId id, int64_t in_us);
    int64_t warning_steady_us(int64_t due_steady_us) const;
    void plan_warning(LoanId id);
    void extend_lease(LoanId id);
    int64_t lease_ms(const Step& step) const;
    void warn(LoanId id);
    void fall_due(LoanId id);
    void preempt(LoanId victim, LoanId winner);

    // ---- recovery.cc
    void advance(const Step& step);
    void step_failed(const Step& step, const std::string& why);
    bool retries_reset(Fdid fdid) const;
    void note_duration(const Step& step);
    void recover(Fdid fdid, std::string reason, bool tell_borrower);
    void lose(LoanId id, const std::string& reason);
    void finish(Fdid fdid);
    void quarantine(Fdid fdid, const std::string& reason);
    void give_up(Fdid fdid, const std::string& reason);
    void end(LoanId id, LoanState how, const std::string& reason);
    void fail_successor(Fdid fdid, const std::string& reason);
    void drop_steps(Fdid fdid);
    void raise_epoch(Fdid fdid);
    void reflect(Fdid fdid);

    // ---- own_host.cc
    void seen_with_host(Fdid fdid);
    void start_recovery(Fdid fdid);
    void begin_with_take(Fdid fdid, const std::string& reason);
    void leave_to_host(Fdid fdid, const std::string& reason);
    void end_loans(Fdid fdid, const std::string& reason);
    void start_give_back(Fdid fdid, const std::string& reason);
    void given_back(Fdid fdid);
    void observe_kept_local(const Device& device, const ObservedDevice& observed);

    // ---- functions.cc
    Result<Fdid> try_set_functions(const SetFunctionsRequest& request, const Who& who);
    Result<> check_functions_unused(const Device& device) const;
    Result<> check_room_for_functions(const Device& device, uint32_t functions) const;
    Result<> check_parent_settled(const Device& device) const;
    Result<> check_no_functions(const Device& device) const;
    void await_functions(const Step& step);
    void end_functions(Fdid fdid);
    void see_functions(Fdid fdid);
    std::vector<Fdid> functions_of(const Device& device) const;
    bool is_forgettable(const Device& device) const;
    void forget(Fdid fdid);

    // ---- absence.cc
    void expire(const Timer& timer);
    void step_expired(StepId id);
    void wait_for_borrower(const std::string& host, int64_t least_us);
    void borrower_gone(const std::string& host);
    void lender_gone(const std::string& host);

    // ---- hello.cc
    Result<> check_place(const Hello& hello) const;
    std::optional<Fdid> known(const std::string& host, const ObservedDevice& observed) const;
    std::vector<Fdid> forgotten_for(const Hello& hello) const;
    size_t devices_with(const Hello& hello) const;
    void note_traits(Fdid fdid, const ObservedDevice& observed);
    void host_arrived(const Hello& hello);
    Fdid identify(const std::string& host, const ObservedDevice& observed);
    void observe(Fdid fdid, const ObservedDevice& observed);
    void observe_quarantined(const Device& device, const ObservedDevice& observed);
    void observe_idle(const Device& device, const ObservedDevice& observed, bool ahead);
    void observe_lent(const Device& device, const ObservedDevice& observed, bool ahead);
    void vanished(Fdid fdid);
    void reconcile_borrowed(const Hello& hello);
    void send_again(const std::vector<StepId>& steps);

    const Options options_;
    std::shared_ptr<const Policy> policy_;
    std::unique_ptr<Scheduler> scheduler_;
    Ledger ledger_;
    Table<Fdid, FaultNote> fault_notes_{[](const FaultNote&, bool, const FaultNote*) {}}; // not stored
    std::string actor_; // of the input at hand
    Now now_;
    // Since the last commit:
    std::vector<AuditEntry> audit_;
    std::vector<Order> orders_;
    std::optional<Error> defect_;
    std::shared_ptr<const Policy> committed_policy_; // where another site was applied
    std::optional<std::string> site_text_;
    // Groups of which one has ended before all of them were active, with the loan and why.
    std::vector<std::pair<LoanId, std::string>> broken_groups_;
    // The queue has to be looked at: now, and again at that time; 0: not before something changes.
    bool decision_wanted_ = true;
    int64_t decision_steady_us_ = 0;
};

// "80001 (store/nvme0)"
std::string describe(const Device& device);
// Who uses the device of a loan, and how: "guest g", "smartio, shared"
std::string describe_use(const Loan& loan);
// "2026-01-31T18:00:00Z"
std::string describe_time(int64_t unix_us);

} // namespace lanepool::pool
