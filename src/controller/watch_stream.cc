// SPDX-License-Identifier: Apache-2.0
#include "controller/watch_stream.h"

#include "api/status.h"

namespace lanepool::controller {

WatchStream* WatchStream::start(Core& core, std::string about, Ask ask) {
    std::shared_ptr<WatchStream> stream(new WatchStream(core, std::move(about), std::move(ask)));
    stream->self_ = stream;
    if (!core.enter_stream()) {
        stream->closed_ = true;
        stream->Finish(
            {grpc::StatusCode::RESOURCE_EXHAUSTED, "the controller has as many streams as it takes"});
        return stream.get();
    }
    core.post([stream] { stream->begin(); });
    return stream.get();
}

void WatchStream::OnWriteDone(bool ok) {
    core_.post([stream = self_, ok] {
        stream->writing_ = false;
        if (!ok) return stream->close(grpc::Status::CANCELLED);
        stream->pump();
    });
}

void WatchStream::OnCancel() {
    core_.post([stream = self_] { stream->close(grpc::Status::CANCELLED); });
}

void WatchStream::OnDone() {
    core_.post([stream = std::move(self_)] { static_cast<void>(stream); });
}

void WatchStream::begin() {
    // One that was cancelled before it began has asked for nothing.
    if (closed_ || !core_.add(*this)) return;
    began_ = core_.time();
    const auto goal = ask_(core_);
    if (!goal)
        return close(
            api::to_status(goal.error(), goal.error().code() == Errc::busy ? holder() : std::string()));
    goal_ = *goal;
    core_.watch(goal_->fdid, *this);
    changed();
}

std::string WatchStream::holder() const {
    const auto loan = core_.pool().find_loan(about_);
    if (!loan) return {};
    return core_.pool().ledger().loans.find(*loan)->borrower;
}

void WatchStream::changed() {
    if (closed_ || end_) return;
    Standing now = standing(core_.pool(), *goal_);
    const bool done = now.progress.done();
    if (now.progress.step() != last_step_ || now.over()) {
        last_step_ = now.progress.step();
        now.progress.set_elapsed_us(
            std::chrono::duration_cast<std::chrono::microseconds>(core_.time() - began_).count());
        next_ = std::move(now.progress);
    }
    if (now.error)
        end_ = api::to_status(*now.error);
    else if (done)
        end_ = grpc::Status::OK;
    if (end_) core_.unwatch(goal_->fdid, *this);
    pump();
}

void WatchStream::pump() {
    if (writing_ || closed_) return;
    if (next_) {
        writing_ = true;
        out_ = std::move(*next_);
        next_.reset();
        StartWrite(&out_);
    } else if (end_) {
        close(*end_);
    }
}

void WatchStream::close(const grpc::Status& status) {
    if (std::exchange(closed_, true)) return;
    if (goal_) core_.unwatch(goal_->fdid, *this);
    core_.remove(*this);
    core_.leave_stream();
    Finish(status);
}

} // namespace lanepool::controller
