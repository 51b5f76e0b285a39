// SPDX-License-Identifier: Apache-2.0
//
// Loans that this host has as their borrower: given to a guest, to applications, or to its own kernel.
#include "agent/agent.h"

#include "agent/guest_loan.h"
#include "agent/kernel_loan.h"

#include <algorithm>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

namespace lanepool::agent {

namespace {

// Functions of loans that have ended, whose memory somebody holds. The module has a limit of its own.
constexpr size_t most_leftovers = 32;
constexpr unsigned beats_between_looks = 8;

// So much of a step's deadline may be used up here; the rest is for the answer's way.
std::chrono::milliseconds patience(const pool::Step& step) {
    return std::chrono::milliseconds(step.deadline_ms) * 9 / 10;
}

} // namespace

// ---- Attaching

void Agent::attach(const pool::Order& order, std::function<void(Result<>)> done) {
    if (order.access_model == pool::AccessModel::smartio)
        return attach_to_application(order, std::move(done));
    const pool::Step& step = order.step;
    const auto decided = loans_.attach(step);
    if (!decided) return done(tl::unexpected<Error>(decided.error()));
    if (*decided == BorrowedLoans::Attach::go_on)
        return borrowed_.at(step.loan.value)->attach(std::move(done));
    auto made = make_borrowed(order);
    if (!made) {
        loans_.forget(step.loan);
        return done(tl::unexpected<Error>(made.error()));
    }
    auto& device = borrowed_[step.loan.value] = std::move(*made);
    device->attach([this, done = std::move(done)](const Result<>& result) {
        done(result);
        if (!result) hello_soon(); // what is left of it is here until somebody says detach
    });
}

Result<std::unique_ptr<BorrowedDevice>> Agent::make_borrowed(const pool::Order& order) {
    const auto mode = bridge::dma_mode(pool::name(order.dma));
    Guest* const to = mode ? nullptr : TRY(guest(order.guest));
    if (!fabric_->is_up()) return fail(Errc::unavailable, "host {} is not on the fabric", options_.host);
    if (mode) return kernel_loan(order, *mode);
    return guest_loan(order, *to);
}

BorrowedDeviceEvents Agent::events_of(const pool::Step& step) {
    BorrowedDeviceEvents events;
    events.lost = [this, loan = step.loan.value, epoch = step.epoch.value](const std::string& reason) {
        report_lost(loan, epoch, false, reason);
    };
    events.ended = [this, alive = alive_] {
        loop_.post([this, alive] {
            if (*alive) std::erase_if(leftovers_, [](const auto& device) { return !device->lingers(); });
        });
    };
    return events;
}

std::unique_ptr<BorrowedDevice> Agent::guest_loan(const pool::Order& order, Guest& to) {
    const pool::Step& step = order.step;
    return std::make_unique<GuestLoan>(
        GuestLoanSetup{.loop = &loop_,
                       .adapter = &fabric_->adapter(),
                       .channel = &fabric_->channel(),
                       .guest = &to,
                       .lender = ntb::Partition{static_cast<uint8_t>(order.lender_partition)},
                       .key = {step.fdid.value, step.loan.value, step.epoch.value},
                       .socket = options_.state / fmt::format("loan-{}.sock", step.loan.value),
                       .attach_timeout = patience(step)},
        events_of(step));
}

Result<std::unique_ptr<BorrowedDevice>> Agent::kernel_loan(const pool::Order& order, bridge::DmaMode mode) {
    const pool::Step& step = order.step;
    if (!own_kernel_.bridge)
        return fail(Errc::not_supported,
                    "host {} cannot borrow with its own kernel: its adapter {} is no card of its bus",
                    options_.host, options_.adapter);
    if (const auto ability = own_kernel_.bridge->ability(); !ability)
        return tl::unexpected(
            ability.error().within(fmt::format("host {} cannot borrow with its own kernel", options_.host)));
    if (leftovers_.size() >= most_leftovers)
        return fail(Errc::no_space,
                    "on host {} the functions of {} earlier loans are still held by who has their devices "
                    "open there ('leftovers' at its agent's administration socket): close those",
                    options_.host, leftovers_.size());
    return std::make_unique<KernelLoan>(
        KernelLoanSetup{.loop = &loop_,
                        .adapter = &fabric_->adapter(),
                        .channel = &fabric_->channel(),
                        .kernel = own_kernel_,
                        .host = options_.host,
                        .lender = ntb::Partition{static_cast<uint8_t>(order.lender_partition)},
                        .key = {step.fdid.value, step.loan.value, step.epoch.value},
                        .dma_mode = mode,
                        .attach_timeout = patience(step),
                        .times = {}},
        events_of(step));
}

void Agent::attach_to_application(const pool::Order& order, std::function<void(Result<>)> done) {
    const pool::Step& step = order.step;
    if (!applications_)
        return done(fail(Errc::not_supported, "host {} serves no applications", options_.host));
    if (const auto decided = loans_.attach(step); !decided)
        return done(tl::unexpected<Error>(decided.error()));
    applications_->attach({{step.fdid.value, step.loan.value, step.epoch.value},
                           ntb::Partition{static_cast<uint8_t>(order.lender_partition)},
                           order.shared,
                           patience(step)},
                          [this, loan = step.loan, done = std::move(done)](const Result<>& result) {
                              if (!result) loans_.forget(loan);
                              done(result);
                          });
}

Result<Guest*> Agent::guest(const std::string& name) {
    if (name.empty() && guests_.size() == 1) return guests_.begin()->second.get();
    const auto found = guests_.find(name);
    if (found == guests_.end())
        return fail(Errc::not_found, "host {} has no guest '{}'", options_.host, name);
    return found->second.get();
}

void Agent::add_attached(uint64_t loan, v1::StepDone& answer) const {
    const auto found = borrowed_.find(loan);
    if (found == borrowed_.end()) return;
    const auto in_kernel = found->second->in_kernel();
    if (!in_kernel) return;
    auto& attached = *answer.mutable_attached();
    attached.set_dma_bytes(in_kernel->dma_bytes);
    attached.set_function(in_kernel->function);
    attached.set_driver(in_kernel->driver);
}

// ---- Detaching

void Agent::detach(const pool::Order& order, std::function<void(Result<>)> done) {
    const pool::Step& step = order.step;
    const auto decided = loans_.detach(step);
    if (applications_ && applications_->has_loan(step.loan.value))
        return applications_->detach(
            step.loan.value, [this, loan = step.loan, done = std::move(done)](const Result<>& result) {
                loans_.forget(loan);
                done(result);
            });
    if (decided == BorrowedLoans::Detach::nothing) return done({});
    // Not erased from inside of its own callback.
    auto detached = [this, alive = alive_, loan = step.loan, done = std::move(done)](const Result<>& result) {
        done(result);
        loop_.post([this, alive, loan] {
            if (*alive) forget_borrowed(loan);
        });
    };
    const auto here = borrowed_.find(step.loan.value);
    if (here == borrowed_.end()) return detached({}); // an application has let go of it
    BorrowedDevice& device = *here->second;
    if (decided == BorrowedLoans::Detach::cut_off)
        device.detach_cut_off(patience(step), std::move(detached));
    else
        device.detach(patience(step), step.ask, std::move(detached));
}

void Agent::forget_borrowed(pool::LoanId loan) {
    const auto here = borrowed_.find(loan.value);
    if (here != borrowed_.end() && here->second->attached()) return; // somebody uses it, and it stays
    if (auto node = borrowed_.extract(loan.value)) keep_while_it_lingers(std::move(node.mapped()));
    loans_.forget(loan);
}

void Agent::keep_while_it_lingers(std::unique_ptr<BorrowedDevice> device) {
    if (device->lingers()) leftovers_.push_back(std::move(device));
}

void Agent::give_up_borrowed() {
    for (const auto& device : leftovers_)
        device->adapter_gone();
    for (const auto& [loan, device] : borrowed_) {
        report_lost(loan, device->key().epoch, false, "the borrower's adapter has gone");
        device->adapter_gone();
    }
    for (auto& [loan, device] : std::exchange(borrowed_, {}))
        keep_while_it_lingers(std::move(device));
    loans_.forget_all();
}

// ---- What it says of them

admin::Json Agent::borrowed_status() const {
    admin::Json loans = admin::Json::array();
    for (const auto& [loan, device] : borrowed_) {
        auto status = device->status();
        status.update({{"loan", loan}, {"epoch", device->key().epoch}, {"attached", device->attached()}});
        loans.push_back(std::move(status));
    }
    return loans;
}

admin::Json Agent::leftovers_status() const {
    admin::Json leftovers = admin::Json::array();
    for (const auto& device : leftovers_) {
        auto status = device->status();
        status["loan"] = device->key().loan;
        leftovers.push_back(std::move(status));
    }
    return leftovers;
}

// Modules come and go.
void Agent::look_for_bridge() {
    if (!own_kernel_.bridge || beats_++ % beats_between_looks != 0) return;
    const auto ability = own_kernel_.bridge->ability();
    // As many functions as there can be: it is there nevertheless.
    if (!ability && ability.error().code() == Errc::no_space) return;
    const std::string problem = ability ? "" : ability.error().message();
    if (!ability && problem != bridge_problem_)
        spdlog::info("this host's own kernel borrows nothing: {}", problem);
    bridge_problem_ = problem;
    std::vector<std::string> modes;
    if (ability)
        for (const auto mode : ability->dma_modes)
            modes.emplace_back(name(mode));
    if (modes == dma_modes_) return;
    if (!modes.empty()) spdlog::info("this host borrows with its own kernel: DMA {}", fmt::join(modes, ", "));
    dma_modes_ = std::move(modes);
    hello_soon();
}

} // namespace lanepool::agent
