// SPDX-License-Identifier: Apache-2.0
#include "smartio/worker.h"

#include <utility>

namespace lanepool::smartio {

Worker::Worker() : thread_([this] { run(); }) {}

Worker::~Worker() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
}

void Worker::post(Job job) {
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
    }
    wake_.notify_one();
}

void Worker::post_first(Job job) {
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_front(std::move(job));
    }
    wake_.notify_one();
}

size_t Worker::waiting() const {
    const std::lock_guard lock(mutex_);
    return jobs_.size();
}

void Worker::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (stopping_) return;
        {
            const Job job = std::move(jobs_.front());
            jobs_.pop_front();
            lock.unlock();
            job();
            // What the job holds may have to talk to a device on its way out: without the lock.
        }
        lock.lock();
    }
}

} // namespace lanepool::smartio
