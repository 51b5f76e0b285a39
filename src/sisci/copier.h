// SPDX-License-Identifier: Apache-2.0
//
// A thread that does what it is given, one after the other. It starts with the first.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace lanepool::sisci {

class Copier {
  public:
    using Job = std::function<void()>;

    Copier();
    // What it has begun is finished, the rest is not done. May be destroyed by a job of its own.
    ~Copier();
    Copier(const Copier&) = delete;
    Copier& operator=(const Copier&) = delete;

    void add(Job job);

  private:
    struct State;
    static void run(const std::shared_ptr<State>& state);
    std::shared_ptr<State> state_; // its thread's, too
};

} // namespace lanepool::sisci
