// SPDX-License-Identifier: Apache-2.0
#include "application/devices.h"

#include <algorithm>
#include <spdlog/spdlog.h>

namespace lanepool::application {

using namespace std::chrono_literals;

namespace {
// The controller's two ways to this host, the stream of steps and the answer to a wish, differ by less.
constexpr io::Duration claim_timeout = 5s;
constexpr size_t max_unclaimed = 64;
} // namespace

Devices::~Devices() {
    for (const auto& use : std::set(uses_))
        use->drop();
}

// ---- For processes

Result<std::shared_ptr<DeviceUse>> Devices::borrow(const Controller::Wish& wish, DeviceUse::Events events) {
    if (!controller_) return fail(Errc::not_supported, "this host's agent borrows no devices");
    if (!look_) look_ = fabric_.loop.every(look_interval_, [this] { look_at_due(); });
    const auto weak = std::make_shared<std::weak_ptr<DeviceUse>>();
    events.broken = [this, weak](const std::string& reason) { tell_broken(weak->lock(), reason); };
    events.gone = [this, weak] { uses_.erase(weak->lock()); };
    const auto use = std::make_shared<DeviceUse>(fabric_, std::move(events));
    *weak = use;
    uses_.insert(use);
    const std::weak_ptr alive = fabric_.alive;
    // Held strongly: a loan that comes into being when nobody wants it any more must be given back.
    controller_->borrow(
        wish,
        [this, alive, use, user = wish.user](uint64_t loan) {
            if (!alive.expired()) begun(use, loan, user);
        },
        [alive, use](Result<Controller::Loan> loan) {
            if (alive.expired()) return;
            if (loan)
                use->active(*loan);
            else
                use->refused(loan.error());
        });
    return use;
}

void Devices::begun(const std::shared_ptr<DeviceUse>& use, uint64_t loan, const std::string& user) {
    use->begun(loan);
    if (!uses_.contains(use) || use->leaving()) return withdraw(loan, user);
    auto unclaimed = unclaimed_.extract(loan);
    if (!unclaimed.empty()) use->attach(unclaimed.mapped().order, std::move(unclaimed.mapped().done));
}

void Devices::withdraw(uint64_t loan, const std::string& user) {
    controller_->give_back(loan, user, [loan](const Result<>& result) {
        if (!result) spdlog::info("giving back loan {}: {}", loan, result.error().message());
    });
}

void Devices::give_back(const std::shared_ptr<DeviceUse>& use, const std::string& user,
                        DeviceUse::Done done) {
    use->give_up();
    // The step for it comes by the stream of steps; where the controller cannot be reached, none does.
    controller_->give_back(use->loan().id, user,
                           [this, use, alive = std::weak_ptr(fabric_.alive)](const Result<>& result) {
                               if (alive.expired() || result || use->leaving()) return;
                               tell_broken(use, "given back by its process");
                               use->leave({}, [](const Result<>&) {});
                           });
    use->when_gone(std::move(done));
}

void Devices::abandon(std::vector<std::shared_ptr<DeviceUse>> uses, const std::string& user,
                      const std::vector<Mapping>& peer_to_peer) {
    // Ends when the last mapping has gone, and lets go of all.
    const std::shared_ptr<void> all_unmapped(
        nullptr, [this, alive = std::weak_ptr(fabric_.alive), uses = std::move(uses), user](void*) {
            if (alive.expired()) return;
            for (const auto& use : uses)
                let_go(use, user);
        });
    for (const auto& mapping : peer_to_peer)
        mapping.use->unmap(mapping.address, [all_unmapped](const Result<>&) {});
}

void Devices::let_go(const std::shared_ptr<DeviceUse>& use, const std::string& user) {
    use->give_up();
    if (use->attached())
        tell_broken(use, "the process that used the device has ended");
    else if (use->loan().id != 0)
        withdraw(use->loan().id, user);
    use->leave({}, [](const Result<>&) {});
}

void Devices::look_at_due() {
    if (uses_.empty()) return look_.reset();
    if (std::exchange(looking_, true)) return; // the controller takes its time
    controller_->due([this, alive = std::weak_ptr(fabric_.alive)](const auto& loans) {
        if (alive.expired()) return;
        looking_ = false;
        if (!loans) return; // later
        for (const auto& due : *loans)
            if (const auto use = find(due.loan)) use->due(due);
    });
}

void Devices::tell_broken(const std::shared_ptr<DeviceUse>& use, const std::string& reason) {
    if (use && use->order().key.loan != 0 && broken_) broken_(use->order().key, reason);
}

// ---- Steps

std::shared_ptr<DeviceUse> Devices::find(uint64_t loan) const {
    const auto found = std::ranges::find_if(uses_, [&](const auto& use) { return use->loan().id == loan; });
    return loan == 0 || found == uses_.end() ? nullptr : *found;
}

bool Devices::has(uint64_t loan) const { return find(loan) || unclaimed_.contains(loan); }

void Devices::attach(const AttachOrder& order, DeviceUse::Done done) {
    const uint64_t loan = order.key.loan;
    if (const auto use = find(loan)) return use->attach(order, std::move(done));
    if (unclaimed_.size() >= max_unclaimed)
        return done(fail(Errc::no_space, "{} loans wait for who asked for them", unclaimed_.size()));
    auto& waiting = unclaimed_[loan];
    waiting.order = order;
    waiting.done = std::move(done);
    waiting.deadline = fabric_.loop.after(std::min(claim_timeout, order.patience), [this, loan] {
        const auto unclaimed = unclaimed_.extract(loan);
        unclaimed.mapped().done(fail(Errc::not_found, "no process of this host asks for loan {}", loan));
    });
}

void Devices::detach(uint64_t loan, DeviceUse::Done done) {
    if (const auto unclaimed = unclaimed_.extract(loan); !unclaimed.empty())
        unclaimed.mapped().done(fail(Errc::cancelled, "loan {} is taken back", loan));
    if (const auto use = find(loan)) return use->leave("the loan was taken back", std::move(done));
    done({});
}

void Devices::peer_lost(ntb::Partition peer) {
    for (const auto& use : std::set(uses_))
        if (use->order().key.loan != 0 && use->order().lender == peer) use->lender_lost();
}

std::vector<Devices::Loan> Devices::loans() const {
    std::vector<Loan> loans;
    for (const auto& use : uses_)
        if (use->order().key.loan != 0)
            loans.push_back({use->order().key, use->attached() && !use->leaving()});
    return loans;
}

} // namespace lanepool::application
