// SPDX-License-Identifier: Apache-2.0
#include "device_model/sigbus_guard.h"

#include <array>
#include <atomic>
#include <csignal>
#include <mutex>
#include <sys/mman.h>
#include <utility>
#include <vector>

namespace lanepool::device_model {

namespace {

// Read by a signal handler: plain atomics, no locks, no allocation.
struct Slot {
    std::atomic<uintptr_t> start{0}; // 0: free
    std::atomic<uintptr_t> end{0};
};
std::array<Slot, SigbusGuard::max_ranges> slots;
std::atomic<size_t> slots_in_use_end{0}; // no slot from here on has ever been used
std::atomic<uint64_t> lost{0};
struct sigaction previous_action;

constexpr uintptr_t page_bytes = 4096;

void on_sigbus(int number, siginfo_t* info, void*) {
    const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
    const size_t end = slots_in_use_end.load(std::memory_order_acquire);
    for (size_t i = 0; i < end; ++i) {
        const uintptr_t start = slots[i].start.load(std::memory_order_acquire);
        const uintptr_t stop = slots[i].end.load(std::memory_order_acquire);
        if (start == 0 || address < start || address >= stop) continue;
        // The whole range: a part of a huge page cannot be replaced.
        if (::mmap(reinterpret_cast<void*>(start), stop - start, PROT_READ | PROT_WRITE,
                   MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
            break;
        lost.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    // Not ours: as if we had not been here. The faulting access is repeated and raises the signal again.
    ::sigaction(number, &previous_action, nullptr);
}

void install() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action {};
        action.sa_sigaction = on_sigbus;
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        ::sigemptyset(&action.sa_mask);
        ::sigaction(SIGBUS, &action, &previous_action);
    });
}

std::mutex free_mutex;
std::vector<size_t>& free_slots() {
    static std::vector<size_t> list;
    return list;
}

} // namespace

SigbusGuard::SigbusGuard(std::byte* data, size_t size_bytes) {
    install();
    {
        const std::lock_guard lock(free_mutex);
        auto& list = free_slots();
        if (!list.empty()) {
            slot_ = list.back();
            list.pop_back();
        } else if (const size_t end = slots_in_use_end.load(); end < max_ranges) {
            slot_ = end;
            slots_in_use_end.store(end + 1, std::memory_order_release);
        } else {
            return;
        }
    }
    const auto start = reinterpret_cast<uintptr_t>(data) & ~(page_bytes - 1);
    const auto end = (reinterpret_cast<uintptr_t>(data) + size_bytes + page_bytes - 1) & ~(page_bytes - 1);
    slots[slot_].end.store(end, std::memory_order_release);
    slots[slot_].start.store(start, std::memory_order_release);
}

SigbusGuard::SigbusGuard(SigbusGuard&& other) noexcept : slot_(std::exchange(other.slot_, none)) {}

SigbusGuard& SigbusGuard::operator=(SigbusGuard&& other) noexcept {
    std::swap(slot_, other.slot_);
    return *this;
}

SigbusGuard::~SigbusGuard() {
    if (slot_ == none) return;
    slots[slot_].start.store(0, std::memory_order_release);
    const std::lock_guard lock(free_mutex);
    free_slots().push_back(slot_);
}

uint64_t SigbusGuard::lost_ranges() { return lost.load(std::memory_order_relaxed); }

} // namespace lanepool::device_model
