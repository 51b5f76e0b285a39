// SPDX-License-Identifier: Apache-2.0
#include "host/ruler.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <pthread.h>
#include <sched.h>
#include <thread>

namespace lanepool::bench {

Result<> pin_to(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(core), &set);
    if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set); error != 0)
        return fail_errno(-error, fmt::format("using core {}", core));
    return {};
}

Result<double> read_ruler(int core, int other_core) {
    constexpr int batches = 101;
    constexpr int round_trips = 500;
    TRY(pin_to(core));
    alignas(128) std::atomic<int> ping{0};
    alignas(128) std::atomic<int> pong{0};
    Result<> pinned;
    std::thread other([&] {
        pinned = pin_to(other_core);
        for (int i = 1; i <= batches * round_trips; ++i) {
            while (ping.load(std::memory_order_acquire) != i) {
            }
            pong.store(i, std::memory_order_release);
        }
    });
    std::array<double, batches> times{};
    int i = 0;
    for (auto& time : times) {
        const auto start = std::chrono::steady_clock::now();
        for (const int end = i + round_trips; i < end;) {
            ping.store(++i, std::memory_order_release);
            while (pong.load(std::memory_order_acquire) != i) {
            }
        }
        time = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() /
               round_trips;
    }
    other.join();
    TRY(std::move(pinned));
    std::nth_element(times.begin(), times.begin() + batches / 2, times.end());
    return times[batches / 2];
}

} // namespace lanepool::bench
