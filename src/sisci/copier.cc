// SPDX-License-Identifier: Apache-2.0
#include "sisci/copier.h"

#include <csignal>
#include <pthread.h>
#include <thread>

namespace lanepool::sisci {

struct Copier::State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Job> jobs;
    std::thread thread;
    bool ended = false;
};

Copier::Copier() : state_(std::make_shared<State>()) {}

Copier::~Copier() {
    std::thread thread;
    std::deque<Job> left;
    {
        std::lock_guard lock(state_->mutex);
        state_->ended = true;
        left.swap(state_->jobs);
        thread.swap(state_->thread);
        state_->changed.notify_all();
    }
    if (!thread.joinable()) return;
    if (thread.get_id() == std::this_thread::get_id())
        thread.detach();
    else
        thread.join();
}

void Copier::add(Job job) {
    std::lock_guard lock(state_->mutex);
    state_->jobs.push_back(std::move(job));
    state_->changed.notify_all();
    if (state_->thread.joinable()) return;
    // The program's signals are for its own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    state_->thread = std::thread([state = state_] { run(state); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Copier::run(const std::shared_ptr<State>& state) {
    std::unique_lock lock(state->mutex);
    for (;;) {
        state->changed.wait(lock, [&] { return state->ended || !state->jobs.empty(); });
        if (state->ended) return;
        Job job = std::move(state->jobs.front());
        state->jobs.pop_front();
        lock.unlock();
        job();
        job = nullptr;
        lock.lock();
    }
}

} // namespace lanepool::sisci
