// SPDX-License-Identifier: Apache-2.0
// The ruler of a group of measurements: how long two threads on given cores take to hand a cache line to and
// fro. Prints the median round trip in nanoseconds. Usage: ruler CORE CORE
//
// On a shared machine this drifts by several times with where the hypervisor puts the cores, and everything
// that polls drifts with it: figures are comparable only where the ruler is.

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace {

constexpr int kBatches = 201;
constexpr int kRoundTrips = 500;
constexpr int kTotal = kBatches * kRoundTrips;

void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0) {
        std::fprintf(stderr, "ruler: core %d cannot be used\n", core);
        std::exit(1);
    }
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3 || std::atoi(argv[1]) == std::atoi(argv[2])) {
        std::fprintf(stderr, "usage: %s CORE OTHER_CORE\n", argv[0]);
        return 2;
    }
    alignas(128) std::atomic<int> ping{0};
    alignas(128) std::atomic<int> pong{0};
    std::thread other([&, core = std::atoi(argv[2])] {
        pin(core);
        for (int i = 1; i <= kTotal; ++i) {
            while (ping.load(std::memory_order_acquire) != i) {
            }
            pong.store(i, std::memory_order_release);
        }
    });
    pin(std::atoi(argv[1]));
    std::array<double, kBatches> batches{};
    int i = 0;
    for (double& batch : batches) {
        const auto start = std::chrono::steady_clock::now();
        for (const int end = i + kRoundTrips; i < end;) {
            ping.store(++i, std::memory_order_release);
            while (pong.load(std::memory_order_acquire) != i) {
            }
        }
        batch = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() /
                kRoundTrips;
    }
    other.join();
    std::nth_element(batches.begin(), batches.begin() + kBatches / 2, batches.end());
    std::printf("%.1f\n", batches[kBatches / 2]);
}
