// SPDX-License-Identifier: Apache-2.0
#include "agent/guest_loan.h"

#include <spdlog/spdlog.h>

namespace lanepool::agent {

GuestLoan::GuestLoan(GuestLoanSetup setup, BorrowedDeviceEvents events)
    : setup_(std::move(setup)), events_(std::move(events)) {}

// With the borrower goes its answer, so what is still open is answered here.
GuestLoan::~GuestLoan() {
    *alive_ = false;
    borrower_.reset();
    if (attach_done_) attach_done_(fail(Errc::cancelled, "the loan was given up on this host"));
    if (detach_done_) detach_done_({});
}

std::string GuestLoan::device_id() const { return Guest::device_id(setup_.key.loan); }

admin::Json GuestLoan::stats() const {
    const auto* server = borrower_ ? borrower_->server_stats() : nullptr;
    if (!server) return {};
    const auto stats = borrower_->stats();
    return {
        {"messages", server->region_reads + server->region_writes + server->dma_reads + server->dma_writes},
        {"requests", stats.requests},
        {"trapped_reads", stats.trapped_reads},
        {"trapped_writes", stats.trapped_writes},
        {"config_accesses", stats.config_accesses},
        {"memory_maps", stats.memory_maps},
        {"reachable_maps", stats.reachable_maps},
        {"region_reads", server->region_reads.load()},
        {"region_writes", server->region_writes.load()},
        {"other", server->other.load()}};
}

// The guest answers on a thread of its own, perhaps after this object has gone.
std::function<void(Result<>)> GuestLoan::on_loop(void (GuestLoan::*member)(Result<>)) {
    return [this, alive = alive_, loop = setup_.loop, member](Result<> result) {
        loop->post([this, alive, member, result = std::move(result)] {
            if (*alive) (this->*member)(result);
        });
    };
}

void GuestLoan::attach(Done done) {
    if (phase_ == Phase::attached) return done({});
    if (phase_ != Phase::idle) return done(fail(Errc::busy, "loan {} is being taken away", setup_.key.loan));
    attach_done_ = std::move(done);
    phase_ = Phase::reaching;
    smartio::BorrowerEvents events;
    events.attached = [this](Result<> result) { reached(std::move(result)); };
    events.client_changed = [this](bool connected) { client_changed(connected); };
    events.driver_ready = [this] {
        if (phase_ == Phase::waiting_for_driver || phase_ == Phase::plugging) finish_attach({});
    };
    events.failed = [this](const Error& why) { report_lost(why.message()); };
    auto borrower = smartio::Borrower::attach({.loop = setup_.loop,
                                               .adapter = setup_.adapter,
                                               .channel = setup_.channel,
                                               .lender = setup_.lender,
                                               .key = setup_.key,
                                               .socket = setup_.socket,
                                               .options = {}},
                                              std::move(events));
    if (!borrower) return finish_attach(tl::unexpected(borrower.error()));
    borrower_ = std::move(*borrower);
    deadline_ = setup_.loop->after(setup_.attach_timeout, [this] {
        const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(setup_.attach_timeout);
        const char* what = phase_ == Phase::waiting_for_driver
                               ? "no driver of the guest has taken the device"
                               : "the device could not be brought to the guest";
        finish_attach(fail(Errc::timeout, "{} within {} ms", what, waited.count()));
    });
}

void GuestLoan::reached(Result<> result) {
    if (phase_ != Phase::reaching) return;
    if (!result) return finish_attach(std::move(result));
    phase_ = Phase::plugging;
    setup_.guest->plug(device_id(), setup_.socket, setup_.attach_timeout, on_loop(&GuestLoan::plugged));
}

void GuestLoan::plugged(Result<> result) {
    if (phase_ != Phase::plugging) return;
    if (!result) return finish_attach(std::move(result));
    phase_ = Phase::waiting_for_driver;
}

void GuestLoan::finish_attach(Result<> result) {
    if (!attach_done_) return;
    deadline_.reset();
    if (result) phase_ = Phase::attached;
    std::exchange(attach_done_, nullptr)(std::move(result));
}

// The guest has gone, or has thrown the device out without being asked.
void GuestLoan::client_changed(bool connected) {
    if (!connected && phase_ != Phase::detaching)
        report_lost(fmt::format("guest {} has died or dropped the device", setup_.guest->name()));
}

void GuestLoan::lender_lost() {
    if (borrower_) borrower_->lender_lost();
}

void GuestLoan::report_lost(const std::string& reason) {
    if (attach_done_) return finish_attach(fail(Errc::disconnected, "{}", reason));
    if (phase_ != Phase::attached) return;
    phase_ = Phase::gone;
    events_.lost(reason);
}

void GuestLoan::detach(io::Duration deadline, bool, Done done) {
    finish_attach(fail(Errc::cancelled, "the loan is being taken back"));
    phase_ = Phase::detaching;
    setup_.guest->unplug(device_id(), deadline,
                         [this, alive = alive_, loop = setup_.loop, done = std::move(done)](Result<> result) {
                             loop->post([this, alive, done, result = std::move(result)]() mutable {
                                 if (*alive)
                                     unplugged(std::move(result), std::move(done));
                                 else
                                     done(std::move(result));
                             });
                         });
}

void GuestLoan::detach_cut_off(io::Duration deadline, Done done) {
    finish_attach(fail(Errc::cancelled, "the loan has been taken back"));
    phase_ = Phase::detaching;
    lender_lost();
    detach(deadline, false, std::move(done));
}

void GuestLoan::unplugged(Result<> result, Done done) {
    if (!borrower_) return done(std::move(result));
    detach_done_ = std::move(done);
    // That the lender does not confirm is no failure of the detach: it is told to cut next, or is dead.
    borrower_->detach([this, result = std::move(result)](const Result<>& told) {
        if (!told) spdlog::info("the lender did not confirm the end of the loan: {}", told.error().message());
        std::exchange(detach_done_, nullptr)(result);
    });
}

} // namespace lanepool::agent
