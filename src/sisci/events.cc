// SPDX-License-Identifier: Apache-2.0
#include "sisci/events.h"

#include "sisci/library.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace lanepool::sisci {
namespace {

constexpr size_t max_kept = 256; // of events that nobody has waited for; the oldest go first

} // namespace

struct SegmentEvents::State {
    Callback callback;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<SegmentEvent> kept;
    std::thread::id caller; // of the callback, while it runs
    bool wanted = true;     // the callback wants to be called again
    bool cancelled = false;
};

SegmentEvents::SegmentEvents() : state_(std::make_shared<State>()) {}

void SegmentEvents::set_callback(Callback callback) { state_->callback = std::move(callback); }

void SegmentEvents::put(const SegmentEvent& event) const {
    std::shared_ptr<State> state = state_; // the callback may destroy this
    std::unique_lock lock(state->mutex);
    if (!state->callback) {
        if (state->kept.size() == max_kept) state->kept.pop_front();
        state->kept.push_back(event);
        state->changed.notify_all();
        return;
    }
    // One at a time: a device's loss and a segment's own events come by different ways.
    state->changed.wait(lock, [&] { return state->caller == std::thread::id(); });
    if (!state->wanted || state->cancelled) return;
    state->caller = std::this_thread::get_id();
    lock.unlock();
    sci_callback_action_t action = state->callback(event);
    lock.lock();
    state->caller = {};
    if (action == SCI_CALLBACK_CANCEL) state->wanted = false;
    state->changed.notify_all();
}

Outcome<SegmentEvent> SegmentEvents::wait(std::chrono::milliseconds timeout) const {
    std::shared_ptr<State> state = state_;
    if (state->callback) return failed(SCI_ERR_ILLEGAL_OPERATION);
    std::unique_lock lock(state->mutex);
    auto ready = [&] { return state->cancelled || !state->kept.empty(); };
    if (timeout == forever)
        state->changed.wait(lock, ready);
    else if (!state->changed.wait_for(lock, timeout, ready))
        return failed(SCI_ERR_TIMEOUT);
    if (state->cancelled) return failed(SCI_ERR_CANCELLED);
    SegmentEvent event = state->kept.front();
    state->kept.pop_front();
    return event;
}

void SegmentEvents::cancel() const {
    std::shared_ptr<State> state = state_;
    std::unique_lock lock(state->mutex);
    state->cancelled = true;
    state->changed.notify_all();
    state->changed.wait(lock, [&] {
        return state->caller == std::thread::id() || state->caller == std::this_thread::get_id();
    });
}

} // namespace lanepool::sisci
