// SPDX-License-Identifier: Apache-2.0
#include "share/pacing_thread.h"

namespace lanepool::sharing {

namespace {
Pacer::Counters counters_of(SharedMemory& memory) {
    const auto& page = *reinterpret_cast<const ClientPage*>(memory.bytes().data());
    // In the order opposite to that of the client: what is completed was submitted before.
    Pacer::Counters counters;
    counters.completed = page.completed.get();
    counters.submitted = page.submitted.get();
    counters.held = page.held.get();
    return counters;
}
} // namespace

PacingThread::PacingThread(ControlPage& control, const io::Clock& clock) : control_(control), clock_(clock) {
    for (auto& slot : control_.slots)
        slot.allowance.set(no_limit);
    thread_ = std::thread([this] { run(); });
}

PacingThread::~PacingThread() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
}

void PacingThread::add(uint32_t slot, unsigned weight, std::unique_ptr<SharedMemory> page) {
    const std::lock_guard lock(mutex_);
    control_.slots[slot].allowance.set(no_limit);
    pacer_.add(slot, weight, counters_of(*page));
    pages_[slot] = std::move(page);
}

void PacingThread::remove(uint32_t slot) {
    std::unique_ptr<SharedMemory> page; // let go outside of the lock: that asks the agent
    const std::lock_guard lock(mutex_);
    pacer_.remove(slot);
    page = std::move(pages_[slot]);
    control_.slots[slot].allowance.set(no_limit);
}

PacingThread::Rates PacingThread::rates() const {
    const std::lock_guard lock(mutex_);
    Rates rates;
    rates.total = pacer_.total_rate();
    for (uint32_t slot = 0; slot < max_clients; ++slot)
        rates.of[slot] = pacer_.rate(slot);
    return rates;
}

void PacingThread::run() {
    std::unique_lock lock(mutex_);
    auto last = clock_.now();
    while (!stop_) {
        wake_.wait_for(lock, interval);
        const auto now = clock_.now();
        tick(now - last);
        last = now;
    }
}

void PacingThread::tick(io::Duration elapsed) {
    for (uint32_t slot = 0; slot < max_clients; ++slot)
        if (pages_[slot]) pacer_.update(slot, counters_of(*pages_[slot]));
    pacer_.tick(elapsed);
    for (uint32_t slot = 0; slot < max_clients; ++slot)
        if (pages_[slot]) control_.slots[slot].allowance.set(pacer_.allowance(slot));
    control_.heartbeat.set(control_.heartbeat.get() + 1);
}

} // namespace lanepool::sharing
