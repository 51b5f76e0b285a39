// SPDX-License-Identifier: Apache-2.0
#include "controller/watch_stream.h"

#include "api/status.h"

namespace lanepool::controller {

void WatchStream::begin() {
    began_ = core().time();
    ask_(core(),
         [stream = shared()](const Result<Goal>& goal) { static_cast<WatchStream&>(*stream).decided(goal); });
}

void WatchStream::decided(const Result<Goal>& goal) {
    if (closed()) return;
    if (!goal)
        return close(
            api::to_status(goal.error(), goal.error().code() == Errc::busy ? holder() : std::string()));
    goal_ = *goal;
    core().watchers().add(*goal_, *this);
    changed();
}

std::string WatchStream::holder() const {
    const auto loan = core().pool().find_loan(about_);
    if (!loan) return {};
    return core().pool().ledger().loans.find(*loan)->borrower;
}

void WatchStream::changed() {
    if (closed() || end_) return;
    Standing now = standing(core().pool(), *goal_);
    const bool done = now.progress.done();
    if (now.progress.step() != last_step_ || now.over()) {
        last_step_ = now.progress.step();
        now.progress.set_elapsed_us(
            std::chrono::duration_cast<std::chrono::microseconds>(core().time() - began_).count());
        next_ = std::move(now.progress);
    }
    if (now.error)
        end_ = api::to_status(*now.error);
    else if (done)
        end_ = grpc::Status::OK;
    if (end_) core().watchers().remove(*goal_, *this);
    pump();
}

void WatchStream::pump() {
    if (!ready()) return;
    if (next_)
        send(*std::exchange(next_, std::nullopt));
    else if (end_)
        close(*end_);
}

void WatchStream::forget() {
    if (goal_) core().watchers().remove(*goal_, *this);
}

} // namespace lanepool::controller
