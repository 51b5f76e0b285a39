// SPDX-License-Identifier: Apache-2.0
#include "sim/workload.h"

namespace lanepool::sim {

using pool::LoanState;
using pool::Now;
using pool::Pool;

namespace {
const pool::Caller operator_of_the_site{"root", true};
}

template <class Request, class Answer>
void Workload::request(Answer (Pool::*input)(const Request&, Now), Request request) {
    SimController* const asked = controller();
    if (asked == nullptr) return;
    using Value = typename Answer::value_type;
    asked->decide<Value>([&](Pool& pool, Now now) { return (pool.*input)(request, now); },
                         [](const Answer&) {});
}

void Workload::start() {
    uint64_t devices = 0;
    for (const auto& agent : agents_) {
        if (agent->borrows()) borrowers_.push_back(agent->host());
        devices += agent->devices().size();
    }
    const uint64_t askers = devices + devices / 8; // so that some find everything taken
    for (uint64_t i = 0; i < askers; ++i)
        ask_again(2'000'000 + world_.random.between(0, 2'000'000));
}

const std::string& Workload::any_borrower() { return borrowers_[world_.random.below(borrowers_.size())]; }

void Workload::ask_again(int64_t after_us) {
    world_.timeline.after(after_us, [this] { ask(); });
}

pool::BorrowRequest Workload::wish() {
    pool::BorrowRequest request;
    request.host = any_borrower();
    if (world_.options.whole_hosts && world_.random.chance(100'000)) request.guest = "g";
    if (world_.options.whole_hosts && request.guest.empty() && world_.random.chance(100'000))
        request.dma = pool::dma_modes[world_.random.below(pool::dma_modes.size())];
    request.caller = operator_of_the_site;
    if (world_.random.chance(400'000)) request.duration_s = world_.random.between(1, 20);
    const size_t count = world_.random.chance(20'000) ? 2 : 1;
    const bool any = world_.random.chance(50'000);
    for (size_t i = 0; i < count; ++i) {
        pool::Selector selector;
        if (any)
            selector.kind = "nvme";
        else if (!available_.empty() && !world_.random.chance(50'000))
            selector.device = fmt::format("{}", available_[world_.random.below(available_.size())]);
        else
            selector.device = fmt::format("{:x}", pool::first_fdid.value + world_.random.below(64));
        request.devices.push_back(std::move(selector));
    }
    if (world_.random.chance(100'000)) request.wait_s = world_.random.between(1, 30);
    return request;
}

// For itself or beside others; on any host, also the device's own.
pool::BorrowRequest Workload::application_wish() {
    pool::BorrowRequest request = wish();
    request.access_model = pool::AccessModel::smartio;
    request.guest.clear();
    request.dma = pool::DmaMode::none;
    request.shared = world_.random.chance(850'000);
    if (world_.random.chance(300'000)) request.host = agents_[world_.random.below(agents_.size())]->host();
    if (request.shared && !shared_.empty() && world_.random.chance(700'000)) {
        request.devices.resize(1);
        request.devices[0] = pool::Selector();
        request.devices[0].device = fmt::format("{}", shared_[world_.random.below(shared_.size())]);
    }
    return request;
}

void Workload::ask() {
    if (ending_ || done()) return;
    SimController* const asked = controller();
    if (asked == nullptr) return ask_again(500'000);
    const auto wanted = world_.random.chance(300'000) ? application_wish() : wish();
    asked->decide<std::vector<pool::LoanId>>([&](Pool& pool, Now now) { return pool.borrow(wanted, now); },
                                             [this](const Result<std::vector<pool::LoanId>>& loans) {
                                                 if (!loans)
                                                     return ask_again(
                                                         world_.random.between(200'000, 2'000'000));
                                                 for (const pool::LoanId loan : *loans)
                                                     if (live_.contains(loan.value)) checker_.promised(loan);
                                                 // Whoever asked comes back when the first of them is over;
                                                 // the others are one asker too many.
                                             });
}

// ---- what has become of things

void Workload::committed(const pool::Outcome& outcome) {
    for (const auto& loan : outcome.loans)
        became(loan);
    for (const pool::LoanId loan : outcome.erased_loans)
        is_over(loan);
    for (const auto& device : outcome.devices)
        see_to_device(device);
}

void Workload::became(const pool::Loan& loan) {
    const auto known = live_.find(loan.id.value);
    if (has_ended(loan.state)) return is_over(loan.id);
    const bool now_active =
        loan.state == LoanState::active && (known == live_.end() || known->second != LoanState::active);
    live_[loan.id.value] = loan.state;
    const bool by_application = loan.access_model == pool::AccessModel::smartio;
    if (now_active)
        world_.timeline.after(ending_ ? 0 : world_.random.between(50'000, 1'500'000),
                              [this, id = loan.id, by_application] { use_up(id, by_application); });
    if (now_active && loan.shared) {
        constexpr size_t remembered = 32;
        if (shared_.size() < remembered)
            shared_.push_back(loan.fdid);
        else
            shared_[next_shared_++ % remembered] = loan.fdid;
    }
    if (now_active) ++world_.result.active;
}

void Workload::is_over(pool::LoanId loan) {
    if (live_.erase(loan.value) == 0) return;
    ++world_.result.loans;
    ask_again(world_.random.between(1000, 200'000));
}

void Workload::use_up(pool::LoanId loan, bool by_application) {
    const auto known = live_.find(loan.value);
    if (known == live_.end() || known->second != LoanState::active) return;
    const std::string id = fmt::format("loan:{}", loan);
    const uint64_t what = ending_ ? 0 : world_.random.below(100);
    if (what < 80) return end(loan);
    if (what < 86) return request(&Pool::reclaim, pool::ReclaimRequest{id, "needed", operator_of_the_site});
    if (what < 88 && by_application && controller() != nullptr) // from all that have the device
        if (const auto* record = controller()->pool().ledger().loans.find(loan))
            return request(&Pool::reclaim, pool::ReclaimRequest{fmt::format("{}", record->fdid), "needed",
                                                                operator_of_the_site});
    if (what < 92 && !by_application)
        return request(&Pool::reassign, pool::ReassignRequest{id, any_borrower(), "", operator_of_the_site,
                                                              world_.random.chance(500'000)});
    if (what < 96) {
        request(&Pool::renew, pool::RenewRequest{id, world_.random.between(1, 30), operator_of_the_site});
        world_.timeline.after(world_.random.between(100'000, 2'000'000), [this, loan] { end(loan); });
        return;
    }
    // The rest forgets, and is reminded by its due time or much later.
    world_.timeline.after(30'000'000, [this, loan] { end(loan); });
}

void Workload::end(pool::LoanId loan) {
    if (!live_.contains(loan.value)) return;
    if (controller() == nullptr) {
        world_.timeline.after(500'000, [this, loan] { end(loan); });
        return;
    }
    request(&Pool::give_back,
            pool::ReturnRequest{fmt::format("loan:{}", loan), operator_of_the_site, 0, wants_home(loan)});
    // It may not have been stored, and whoever wants to return something tries again.
    world_.timeline.after(10'000'000, [this, loan] { end(loan); });
}

void Workload::see_to_device(const pool::Device& device) {
    const bool is_available = device.state == pool::DeviceState::available;
    const auto place = place_.find(device.fdid.value);
    if (is_available && place == place_.end()) {
        place_[device.fdid.value] = available_.size();
        available_.push_back(device.fdid);
    } else if (!is_available && place != place_.end()) {
        available_[place->second] = available_.back();
        place_[available_.back().value] = place->second;
        available_.pop_back();
        place_.erase(device.fdid.value);
    }
    if (device.seen_with_host && !ending_) see_to_own_host(device);
    if (device.state == pool::DeviceState::quarantined)
        world_.timeline.after(world_.random.between(2'000'000, 20'000'000), [this, fdid = device.fdid] {
            const SimController* const asked = controller();
            if (ending_ || asked == nullptr) return;
            const auto* now = asked->pool().ledger().devices.find(fdid);
            if (now && now->state == pool::DeviceState::quarantined)
                request(&Pool::restore, pool::RestoreRequest{fmt::format("{}", fdid), operator_of_the_site});
        });
    else if (is_available && !ending_ && world_.random.chance(500))
        request(&Pool::quarantine,
                pool::QuarantineRequest{fmt::format("{}", device.fdid), "looks odd", operator_of_the_site});
}

// Some devices of whole hosts go back there after a loan.
bool Workload::wants_home(pool::LoanId id) {
    if (!world_.options.whole_hosts || !world_.random.chance(100'000)) return false;
    const auto& ledger = controller()->pool().ledger();
    const auto* loan = ledger.loans.find(id);
    const auto* device = loan ? ledger.devices.find(loan->fdid) : nullptr;
    return device && device->seen_with_host;
}

// Of whole hosts: into the pool, out of it again, or functions.
void Workload::see_to_own_host(const pool::Device& device) {
    const std::string id = fmt::format("{}", device.fdid);
    if (device.state == pool::DeviceState::available && world_.random.chance(30'000))
        return request(&Pool::keep_local, pool::KeepLocalRequest{id, operator_of_the_site});
    if (device.state != pool::DeviceState::local) return;
    const bool functions = device.most_functions > 0 && !world_.random.chance(100'000);
    const auto count = static_cast<uint32_t>(world_.random.below(device.most_functions + 1));
    world_.timeline.after(world_.random.between(200'000, 5'000'000), [this, id, functions, count] {
        if (ending_) return;
        if (functions)
            request(&Pool::set_functions, pool::SetFunctionsRequest{id, count, operator_of_the_site});
        else
            request(&Pool::restore, pool::RestoreRequest{id, operator_of_the_site});
    });
}

void Workload::give_all_back() {
    ending_ = true;
    for (const auto& [loan, state] : std::map<uint64_t, LoanState>(live_.begin(), live_.end()))
        end({loan});
}

} // namespace lanepool::sim
