// SPDX-License-Identifier: Apache-2.0
#include "smartio/lender.h"

#include "smartio/lender_core.h"
#include "smartio/worker.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <set>
#include <utility>

namespace lanepool::smartio {

std::string_view name(LenderState state) {
    constexpr std::array<std::string_view, 8> names = {"unverified", "ready",     "preparing", "lent",
                                                       "cutting",    "resetting", "wiping",    "broken"};
    return names.at(static_cast<size_t>(state));
}

namespace {
// How many that were expelled in one epoch are remembered: the latest, as loans' numbers only grow. No step
// is repeated so much later.
constexpr size_t max_expelled = 4096;
} // namespace

// Lives on the loop's thread. Jobs on the worker hold the core, never this; what they report comes back
// through the loop and finds this gone when the lender was destroyed meanwhile.
class Lender::Impl : public std::enable_shared_from_this<Impl> {
  public:
    explicit Impl(LenderSetup setup)
        : setup_(std::move(setup)),
          core_(*setup_.adapter, *setup_.device, *setup_.device_class, *setup_.epochs, setup_.requester,
                {setup_.options.max_memory_maps, setup_.options.max_mapped_bytes},
                {setup_.options.max_segments, setup_.options.max_segment_bytes}) {
        status_.key.fdid = setup_.fdid;
    }

    void prepare(uint64_t loan, uint64_t epoch, ntb::Partition borrower, bool shared, Done done);
    void expel(uint64_t loan, uint64_t epoch, Done done);
    void serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply);
    void cut(uint64_t epoch, Done done);
    void reset(Done done);
    void wipe(io::Duration deadline, Done done);
    void identify(std::function<void(Result<DeviceIdentity>)> done);
    LenderStatus status() const;

  private:
    // One step of the device's life: what to do on the loop with the result of a job on the worker.
    struct Step {
        Done finish; // empty once the deadline has passed
        io::EventLoop::Registration timer;
    };
    enum class Turn { next, first };

    void start(Turn turn, std::optional<io::Duration> deadline, std::function<Result<>()> job, Done finish);
    void expire(uint64_t id, io::Duration deadline);
    void end(uint64_t id, Result<> result);
    void undo();
    // What the worker may know of a loan: also when the loan has gone.
    struct Ticket {
        std::atomic<bool> revoked{false}; // for the requests that wait on the worker
        std::atomic<size_t> waiting{0};
    };
    struct Lent {
        LentLoan loan;
        std::shared_ptr<Ticket> ticket;
    };

    void join(const LoanKey& key, ntb::Partition borrower, Done done);
    void joined(const LoanKey& key, ntb::Partition borrower, Result<> result, Done done);
    const Lent* find(uint64_t loan) const;
    void add(const LentLoan& loan);
    void show_first();
    Result<const Lent*> check(ntb::Partition from, const LoanKey& key) const;
    void finish_cut(Result<> result);
    void become(LenderState state, std::string reason = {});
    void forget_loan();

    const LenderSetup setup_;
    LenderCore core_; // the worker's
    LenderStatus status_;
    uint64_t highest_epoch_ = 0; // that this object has seen; the store may know higher ones
    std::map<uint64_t, Step> steps_;
    uint64_t next_step_ = 1;
    std::vector<Done> waiting_for_cut_;
    std::vector<Lent> loans_; // that are lent, in the order in which they came
    bool shared_ = false;
    std::set<uint64_t> expelled_; // of this epoch: a step that was sent twice does not bring them back
    std::atomic<size_t> memory_maps_{0};
    Worker worker_; // last: its jobs use what stands above
};

void Lender::Impl::become(LenderState state, std::string reason) {
    status_.state = state;
    status_.reason = std::move(reason);
}

void Lender::Impl::forget_loan() {
    status_.key = {setup_.fdid, 0, 0};
    status_.borrower = {};
    for (const auto& one : loans_)
        one.ticket->revoked = true;
    loans_.clear();
    expelled_.clear();
}

const Lender::Impl::Lent* Lender::Impl::find(uint64_t loan) const {
    const auto found = std::ranges::find(loans_, loan, [](const Lent& one) { return one.loan.loan; });
    return found == loans_.end() ? nullptr : &*found;
}

void Lender::Impl::add(const LentLoan& loan) {
    loans_.push_back({loan, std::make_shared<Ticket>()});
    show_first();
}

void Lender::Impl::show_first() {
    status_.key.loan = loans_.front().loan.loan;
    status_.borrower = loans_.front().loan.borrower;
}

void Lender::Impl::start(Turn turn, std::optional<io::Duration> deadline, std::function<Result<>()> job,
                         Done finish) {
    const uint64_t id = next_step_++;
    auto& step = steps_[id];
    step.finish = std::move(finish);
    const std::weak_ptr<Impl> weak = weak_from_this();
    if (deadline)
        step.timer = setup_.loop->after(*deadline, [weak, id, limit = *deadline] {
            if (const auto self = weak.lock()) self->expire(id, limit);
        });
    auto work = [weak, id, loop = setup_.loop, job = std::move(job)] {
        auto result = job();
        loop->post([weak, id, result = std::move(result)] {
            if (const auto self = weak.lock()) self->end(id, result);
        });
    };
    if (turn == Turn::first)
        worker_.post_first(std::move(work));
    else
        worker_.post(std::move(work));
}

void Lender::Impl::expire(uint64_t id, io::Duration deadline) {
    const Error error(Errc::timeout,
                      fmt::format("the device did not answer within {} ms; quarantine it",
                                  std::chrono::duration_cast<std::chrono::milliseconds>(deadline).count()));
    forget_loan();
    become(LenderState::broken, error.message());
    std::exchange(steps_.at(id).finish, nullptr)(tl::unexpected(error));
}

void Lender::Impl::end(uint64_t id, Result<> result) {
    auto step = steps_.extract(id);
    step.mapped().timer.reset();
    const auto finish = std::move(step.mapped().finish);
    if (!finish) return undo();
    finish(std::move(result));
}

// A step that was given up has ended after all: close whatever it made. The state stays what it became.
void Lender::Impl::undo() {
    worker_.post([this] { [[maybe_unused]] auto ignored = core_.cut(0); });
}

// ---- Lending

void Lender::Impl::prepare(uint64_t loan, uint64_t epoch, ntb::Partition borrower, bool shared, Done done) {
    const LoanKey key{setup_.fdid, loan, epoch};
    if (status_.state == LenderState::lent && epoch == status_.key.epoch && shared == shared_) {
        const auto* there = find(loan);
        if (there && there->loan.borrower == borrower) return done({});
        if (!there && shared) return join(key, borrower, std::move(done));
    }
    const bool others_may_join = status_.state == LenderState::lent && shared_ && epoch == status_.key.epoch;
    if (epoch <= highest_epoch_ && !others_may_join)
        return done(fail(Errc::stale_epoch, "epoch {} is not newer than {}, which this device has seen",
                         epoch, highest_epoch_));
    if (status_.state == LenderState::lent || status_.state == LenderState::preparing)
        return done(fail(
            Errc::busy, "the device is lent to partition {} by loan {} in epoch {}{}; cut that one first",
            status_.borrower.value, status_.key.loan, status_.key.epoch, shared_ ? ", shared" : ""));
    if (status_.state != LenderState::ready)
        return done(fail(Errc::failed_precondition, "the device is {}: reset it before it is lent",
                         name(status_.state)));
    become(LenderState::preparing);
    status_.key = key;
    status_.borrower = borrower;
    shared_ = shared;
    start(
        Turn::next, setup_.options.step_deadline,
        [this, loan, epoch, borrower, shared] { return core_.prepare(loan, epoch, borrower, shared); },
        [this, key, borrower, done = std::move(done)](Result<> result) {
            if (status_.state == LenderState::cutting)
                return done(fail(Errc::cancelled, "the loan was cut while it was being prepared"));
            if (result) {
                highest_epoch_ = std::max(highest_epoch_, key.epoch);
                become(LenderState::lent);
                add({key.loan, borrower});
            } else if (status_.state == LenderState::preparing) {
                forget_loan();
                become(LenderState::ready);
            }
            done(std::move(result));
        });
}

void Lender::Impl::join(const LoanKey& key, ntb::Partition borrower, Done done) {
    if (expelled_.contains(key.loan))
        return done(fail(Errc::stale_epoch, "loan {} was expelled from this device", key.loan));
    if (loans_.size() >= setup_.options.max_shared_loans)
        return done(fail(Errc::no_space, "{} loans share the device already", loans_.size()));
    start(
        Turn::next, setup_.options.step_deadline,
        [this, key, borrower] { return core_.join(key.loan, key.epoch, borrower); },
        [this, key, borrower, done = std::move(done)](Result<> result) mutable {
            joined(key, borrower, std::move(result), std::move(done));
        });
}

void Lender::Impl::joined(const LoanKey& key, ntb::Partition borrower, Result<> result, Done done) {
    if (result && (status_.state != LenderState::lent || status_.key.epoch != key.epoch))
        result = fail(Errc::cancelled, "the device was cut while the loan was joining");
    if (result && expelled_.contains(key.loan)) {
        worker_.post([this, loan = key.loan] { [[maybe_unused]] auto ignored = core_.expel(loan); });
        result = fail(Errc::cancelled, "the loan was expelled while it was joining");
    }
    const auto* there = find(key.loan); // the same step may have come twice
    if (result && there && there->loan.borrower != borrower)
        result = fail(Errc::busy, "loan {} is partition {}'s", key.loan, there->loan.borrower.value);
    if (result && !there) add({key.loan, borrower});
    done(std::move(result));
}

void Lender::Impl::expel(uint64_t loan, uint64_t epoch, Done done) {
    const uint64_t seen = std::max(highest_epoch_, status_.key.epoch);
    if (epoch < seen)
        return done(
            fail(Errc::stale_epoch, "epoch {} is older than {}, which this device has seen", epoch, seen));
    if (status_.state != LenderState::lent || epoch != status_.key.epoch)
        return done(fail(Errc::failed_precondition, "the device is not lent in epoch {} ({})", epoch,
                         name(status_.state)));
    const auto* there = find(loan);
    if (there && loans_.size() == 1)
        return done(
            fail(Errc::failed_precondition, "loan {} is the last one that has the device: cut it", loan));
    if (there) {
        there->ticket->revoked = true;
        loans_.erase(loans_.begin() + (there - loans_.data()));
        show_first();
    }
    expelled_.insert(loan);
    if (expelled_.size() > max_expelled) expelled_.erase(expelled_.begin());
    start(
        Turn::first, setup_.options.cut_deadline,
        [this, loan] {
            auto result = core_.expel(loan);
            memory_maps_ = core_.memory_maps();
            return result;
        },
        std::move(done));
}

// ---- Requests of borrowers

Result<const Lender::Impl::Lent*> Lender::Impl::check(ntb::Partition from, const LoanKey& key) const {
    if (key.fdid != setup_.fdid)
        return fail(Errc::not_found, "this is device {:x}, not {:x}", setup_.fdid, key.fdid);
    if (status_.state != LenderState::lent) {
        if (key.epoch <= highest_epoch_)
            return fail(Errc::stale_epoch, "the loan of epoch {} has ended", key.epoch);
        return fail(Errc::failed_precondition, "the device is not lent ({})", name(status_.state));
    }
    if (key.epoch != status_.key.epoch)
        return fail(Errc::stale_epoch, "the device is lent in epoch {}, not {}", status_.key.epoch,
                    key.epoch);
    if (expelled_.contains(key.loan)) return fail(Errc::stale_epoch, "loan {} has ended", key.loan);
    const auto* lent = find(key.loan);
    if (!lent || from != lent->loan.borrower)
        return fail(Errc::permission_denied, "the device is lent by loan {} to partition {}, not by {} to {}",
                    status_.key.loan, status_.borrower.value, key.loan, from.value);
    return lent;
}

void Lender::Impl::serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body,
                         ntb::ChannelReply reply) {
    ++status_.requests;
    const auto request = loan_request(kind);
    if (!request) return reply(tl::unexpected<Error>(request.error()));
    const auto key = decode_key(body);
    if (!key) return reply(tl::unexpected<Error>(key.error()));
    const auto lent = check(from, *key);
    if (!lent) {
        ++status_.refused;
        return reply(tl::unexpected<Error>(lent.error()));
    }
    const auto ticket = (*lent)->ticket;
    if (ticket->waiting >= setup_.options.max_queued_requests)
        return reply(
            fail(Errc::busy, "{} requests of this loan wait already", setup_.options.max_queued_requests));
    ++ticket->waiting;
    worker_.post([this, loan = key->loan, request = *request, body = std::move(body), ticket,
                  shared = std::make_shared<ntb::ChannelReply>(std::move(reply))] {
        --ticket->waiting;
        if (ticket->revoked) return (*shared)(fail(Errc::stale_epoch, "the loan has ended"));
        auto answer = core_.handle(loan, request, body);
        memory_maps_ = core_.memory_maps();
        (*shared)(std::move(answer));
    });
}

// ---- The fence

void Lender::Impl::cut(uint64_t epoch, Done done) {
    const bool has_loan = status_.key.epoch != 0;
    if (epoch < std::max(highest_epoch_, status_.key.epoch))
        return done(fail(Errc::stale_epoch, "epoch {} is older than {}, which this device has seen", epoch,
                         std::max(highest_epoch_, status_.key.epoch)));
    highest_epoch_ = epoch;
    if (status_.state == LenderState::cutting) {
        waiting_for_cut_.push_back(std::move(done));
        return;
    }
    if (!has_loan) // nothing is open: there is no device to wait for, only the store
        return start(
            Turn::next, std::nullopt, [this, epoch] { return core_.raise(epoch); }, std::move(done));
    for (const auto& one : loans_)
        one.ticket->revoked = true;
    become(LenderState::cutting);
    waiting_for_cut_.push_back(std::move(done));
    start(
        Turn::first, setup_.options.cut_deadline, [this, epoch] { return core_.cut(epoch); },
        [this](Result<> result) { finish_cut(std::move(result)); });
}

void Lender::Impl::finish_cut(Result<> result) {
    forget_loan();
    memory_maps_ = 0;
    if (result)
        become(LenderState::unverified);
    else
        become(LenderState::broken, result.error().message());
    for (auto& done : std::exchange(waiting_for_cut_, {}))
        done(result);
}

void Lender::Impl::reset(Done done) {
    if (status_.key.epoch != 0 || status_.state == LenderState::resetting ||
        status_.state == LenderState::wiping)
        return done(
            fail(Errc::failed_precondition, "the device is {}: it cannot be reset now", name(status_.state)));
    become(LenderState::resetting);
    start(
        Turn::next, setup_.options.step_deadline, [this] { return core_.reset(); },
        [this, done = std::move(done)](Result<> result) {
            become(result ? LenderState::ready : LenderState::broken, result ? "" : result.error().message());
            done(std::move(result));
        });
}

void Lender::Impl::wipe(io::Duration deadline, Done done) {
    if (status_.state != LenderState::ready)
        return done(fail(Errc::failed_precondition, "the device is {}: reset it before it is wiped",
                         name(status_.state)));
    become(LenderState::wiping);
    start(
        Turn::next, deadline + setup_.options.step_deadline,
        [this, deadline] { return core_.wipe(deadline); },
        [this, done = std::move(done)](Result<> result) {
            become(result ? LenderState::ready : LenderState::broken, result ? "" : result.error().message());
            done(std::move(result));
        });
}

void Lender::Impl::identify(std::function<void(Result<DeviceIdentity>)> done) {
    if (status_.state != LenderState::ready)
        return done(fail(Errc::failed_precondition, "the device is {}: reset it before it is asked",
                         name(status_.state)));
    become(LenderState::resetting);
    const auto identity = std::make_shared<DeviceIdentity>();
    start(
        Turn::next, setup_.options.step_deadline,
        [this, identity]() -> Result<> {
            *identity = TRY(core_.identify());
            return core_.reset();
        },
        [this, identity, done = std::move(done)](Result<> result) {
            become(result ? LenderState::ready : LenderState::broken, result ? "" : result.error().message());
            if (!result) return done(tl::unexpected<Error>(result.error()));
            done(*identity);
        });
}

LenderStatus Lender::Impl::status() const {
    auto status = status_;
    status.memory_maps = memory_maps_;
    status.shared = shared_ && !loans_.empty();
    for (const auto& one : loans_)
        status.loans.push_back(one.loan);
    return status;
}

Result<std::unique_ptr<Lender>> Lender::create(LenderSetup setup) {
    if (!setup.loop || !setup.adapter || !setup.device || !setup.device_class || !setup.epochs)
        return fail(Errc::invalid_argument,
                    "a lender needs a loop, an adapter, a device, its class and a store");
    return std::unique_ptr<Lender>(new Lender(std::make_shared<Impl>(std::move(setup))));
}

Lender::~Lender() = default;
void Lender::prepare(uint64_t loan, uint64_t epoch, ntb::Partition borrower, bool shared, Done done) {
    impl_->prepare(loan, epoch, borrower, shared, std::move(done));
}
void Lender::expel(uint64_t loan, uint64_t epoch, Done done) { impl_->expel(loan, epoch, std::move(done)); }
void Lender::serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply) {
    impl_->serve(from, kind, std::move(body), std::move(reply));
}
void Lender::cut(uint64_t epoch, Done done) { impl_->cut(epoch, std::move(done)); }
void Lender::reset(Done done) { impl_->reset(std::move(done)); }
void Lender::wipe(io::Duration deadline, Done done) { impl_->wipe(deadline, std::move(done)); }
void Lender::identify(std::function<void(Result<DeviceIdentity>)> done) { impl_->identify(std::move(done)); }
LenderStatus Lender::status() const { return impl_->status(); }

} // namespace lanepool::smartio
