// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/event_loop.h"
#include "smartio/worker.h"

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

namespace lanepool::smartio {

// Blocking work for an object that lives on an event loop: done elsewhere, one job after the other, the
// results brought back in the same order. Used and destroyed on the loop's thread.
class Errands {
  public:
    explicit Errands(io::EventLoop& loop) : loop_(loop), self_(std::make_shared<bool>()) {}

    // Calls THEN(JOB()) with JOB on the worker and THEN on the loop, unless this is destroyed before. JOB
    // must not touch what belongs to the loop's thread.
    template <class Job, class Then>
    void run(Job job, Then then) {
        using Value = std::invoke_result_t<Job>;
        worker_.post([&loop = loop_, weak = std::weak_ptr(self_), job = std::move(job),
                      then = std::make_shared<Then>(std::move(then))]() mutable {
            auto value = std::make_shared<Value>(job());
            loop.post([weak, then = std::move(then), value] {
                if (weak.lock()) (*then)(std::move(*value));
            });
        });
    }

    // Calls THEN on the loop once everything asked for so far is done.
    template <class Then>
    void flush(Then then) {
        run([] { return 0; }, [then = std::move(then)](int) mutable { then(); });
    }

    // Destroys THING on the worker: closing a window or withdrawing an export waits for the adapter.
    template <class T>
    void dispose(T thing) {
        worker_.post([kept = std::make_shared<T>(std::move(thing))]() mutable { kept.reset(); });
    }

    size_t waiting() const { return worker_.waiting(); }
    io::EventLoop& loop() const { return loop_; }

  private:
    io::EventLoop& loop_;
    std::shared_ptr<bool> self_;
    Worker worker_;
};

} // namespace lanepool::smartio
