// SPDX-License-Identifier: Apache-2.0
//
// How a loan to this host's own kernel ends: its function is unplugged, orderly or by surprise; when the
// kernel has let go of it (`removed`), the lender is told, and windows and memory are given back; when nobody
// holds its memory any more (`released`), its file is closed.
#include "agent/kernel_loan.h"

#include <spdlog/spdlog.h>

namespace lanepool::agent {

void KernelLoan::detach(io::Duration deadline, bool ask, Done done) {
    if (!ask || phase_ != Phase::attached) return begin_detach(deadline, std::move(done));
    // Whichever comes first answers.
    const auto waiting = std::make_shared<Done>(std::move(done));
    asking_ = setup_.loop->after(deadline, [waiting, host = setup_.host] {
        if (const auto answer = std::exchange(*waiting, nullptr))
            answer(fail(Errc::busy, "who uses it on {} could not be found out in time", host));
    });
    background_->run(
        [system = setup_.kernel.system, address = *address_] { return users_of(*system, address); },
        [this, deadline, waiting](const std::string& users) {
            asking_.reset();
            if (const auto answer = std::exchange(*waiting, nullptr)) answer_users(deadline, answer, users);
        });
}

void KernelLoan::answer_users(io::Duration deadline, Done done, const std::string& users) {
    if (users.empty() || phase_ != Phase::attached) return begin_detach(deadline, std::move(done));
    done(fail(Errc::busy, "in use on {}: {}", setup_.host, users));
}

void KernelLoan::begin_detach(io::Duration deadline, Done done) {
    finish_attach(fail(Errc::cancelled, "the loan is being taken back"));
    remove(false);
    if (closed_) return done({});
    detach_done_.push_back(std::move(done));
    deadline_ = setup_.loop->after(deadline, [this] { detach_timed_out(); });
}

void KernelLoan::detach_cut_off(io::Duration deadline, Done done) {
    finish_attach(fail(Errc::cancelled, "the loan has been taken back"));
    lender_lost(); // it is not asked
    remove(true);
    begin_detach(deadline, std::move(done));
}

void KernelLoan::detach_timed_out() {
    const bool kernel_has_it = phase_ == Phase::removing;
    remove(true);
    const Result<> result =
        kernel_has_it
            ? fail(Errc::timeout, "the driver {}of this host does not let go of {} in time: it is taken away",
                   driver_.empty() ? "" : driver_ + " ",
                   address_ ? pci::to_string(*address_) : "the function")
            : Result<>();
    for (const auto& done : std::exchange(detach_done_, {}))
        done(result);
}

void KernelLoan::lender_lost() {
    if (device_ && phase_ != Phase::removed && phase_ != Phase::over) device_->lender_lost();
}

void KernelLoan::adapter_gone() {
    finish_attach(fail(Errc::disconnected, "the borrower's adapter has gone"));
    if (memory_) memory_->adapter_gone();
    remove(true);
    shut_off(); // the answer that it waits for has gone with the adapter
    registers_.reset();
    device_.reset();
    if (phase_ == Phase::removed && !closed_) closed(); // its answer went with the device
}

// ---- The kernel's part

void KernelLoan::remove(bool surprise) {
    if (phase_ == Phase::over || phase_ == Phase::removed) return;
    if (phase_ == Phase::removing && (surprise_ || !surprise)) return;
    const bool may_be_plugged = phase_ >= Phase::plugging;
    surprise_ = surprise;
    phase_ = Phase::removing;
    looking_.reset();
    if (memory_) memory_->stop();
    if (!may_be_plugged) return was_removed();
    // The driver of what has gone by surprise frees what the device may still write to, and takes a late
    // completion for that of a command it has ended itself (Linux 6.1 then dereferences null). In the other
    // modes the module takes the memory away first.
    if (!surprise || setup_.dma_mode != bridge::DmaMode::bounce) return unplug(surprise);
    shutting_off_ = true;
    memory_->withdraw([this, alive = alive_] {
        if (*alive) shut_off();
    });
}

// The pool is out of the device's reach.
void KernelLoan::shut_off() {
    if (std::exchange(shutting_off_, false)) unplug(true);
}

// Behind its being plugged in, where that is under way. What is not plugged in cannot be unplugged.
void KernelLoan::unplug(bool surprise) {
    background_->run([function = function(), surprise] { return function->unplug(surprise); },
                     [this](const Result<>& result) {
                         if (result || phase_ != Phase::removing) return;
                         spdlog::info("loan {}: {}", setup_.key.loan, result.error().message());
                         was_removed();
                     });
}

void KernelLoan::was_removed() {
    if (phase_ == Phase::removed || phase_ == Phase::over) return;
    const bool asked = phase_ == Phase::removing;
    const bool was_attached = attached();
    phase_ = Phase::removed;
    looking_.reset();
    if (attach_done_)
        std::exchange(attach_done_, nullptr)(fail(Errc::disconnected, "the kernel has removed it"));
    close();
    if (!asked && was_attached) events_.lost("this host's kernel has removed the function");
}

// Nothing of this host's uses it any more. The lender first: what the device reaches goes behind it.
void KernelLoan::close() {
    registers_.reset();
    if (!device_) return closed();
    device_->detach([this, alive = alive_](const Result<>& told) {
        if (!*alive) return;
        // It is told to cut next, or is dead.
        if (!told) spdlog::info("the lender did not confirm the end of the loan: {}", told.error().message());
        if (!memory_) return closed();
        memory_->withdraw([this, alive] {
            if (*alive) closed();
        });
    });
}

void KernelLoan::closed() {
    closed_ = true;
    deadline_.reset();
    for (const auto& done : std::exchange(detach_done_, {}))
        done({});
    end_if_over();
}

void KernelLoan::was_released() {
    was_removed();
    released_ = true;
    end_if_over();
}

// Where the module says nothing of its end, there was none to say.
void KernelLoan::end_if_over() {
    if (phase_ != Phase::removed || !closed_ || (plugged_ && !released_)) return;
    phase_ = Phase::over;
    function_events_.reset();
    if (memory_) memory_->drop_function();
    events_.ended();
}

} // namespace lanepool::agent
