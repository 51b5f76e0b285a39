// SPDX-License-Identifier: Apache-2.0
//
// What the manager of a shared drive and its clients see of each other in memory: one segment of the
// manager's that all clients map, and one of each client's that the manager maps. Each field is written by
// one side. There are only plain loads and stores, since the two are on different hosts.
//
// Neither side trusts the other further than it must: what is read is read once, and checked.
#pragma once

#include "nvme/spec.h"

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace lanepool::sharing {

static_assert(std::endian::native == std::endian::little, "the fields are those of the processor");

// Where all find each other: the low 24 bits of this number follow from the device, so that a host can share
// several. It is the id of a segment and the number of a data interrupt.
constexpr uint32_t shared_id(uint64_t fdid) {
    const uint64_t mixed = fdid * 0x9e3779b97f4a7c15u;
    return 0x5d000000u | static_cast<uint32_t>(mixed >> 40);
}

inline constexpr uint32_t control_magic = 0x6c706473; // "sdpl" in memory
inline constexpr uint32_t layout_version = 1;
inline constexpr size_t max_clients = 64;
inline constexpr size_t max_shared_namespaces = 16;

// How often a client that does not see its manager's heartbeat looks whether there is a new manager, and for
// how long it may use its queues without having looked.
inline constexpr std::chrono::milliseconds client_look_interval{50};
inline constexpr std::chrono::milliseconds client_look_limit{150};
// A heartbeat that has not moved for so long: nobody paces.
inline constexpr std::chrono::milliseconds stale_heartbeat{50};

// A number that the other side reads at any time.
class Shown {
  public:
    void set(uint64_t value) { std::atomic_ref(value_).store(value, std::memory_order_release); }
    uint64_t get() const {
        return std::atomic_ref(const_cast<uint64_t&>(value_)).load(std::memory_order_acquire);
    }

  private:
    alignas(8) uint64_t value_;
};
static_assert(sizeof(Shown) == 8);

enum class ManagerState : uint64_t {
    starting = 0, // the controller is being taken over: nothing may be asked yet
    serving = 1,
    ended = 2, // in order: nobody comes after this manager
};

// Of the drive, constant while a manager serves.
struct DriveFacts {
    struct Namespace {
        uint32_t nsid;
        uint32_t block_bytes;
        uint64_t blocks;
    };
    uint64_t max_transfer_bytes;
    uint32_t page_bytes; // the controller's memory page
    uint32_t doorbell_stride;
    uint32_t max_depth; // commands in flight in one queue pair
    uint32_t namespaces;
    std::array<Namespace, max_shared_namespaces> space;
    std::array<char, 40> model;
    std::array<char, 20> serial;
    std::array<char, 4> reserved;
};

// Of one client: alone on its cache line, as the client reads it all the time.
struct alignas(64) AllowanceSlot {
    Shown allowance; // units that the client may have submitted; no_limit
};

struct ControlPage {
    Shown magic; // set last
    uint64_t version;
    Shown generation; // of this manager's start; never 0, and greater than that of every one before
    Shown state;      // ManagerState
    DriveFacts facts;
    alignas(64) Shown heartbeat; // counts the times that allowances were computed
    alignas(4096) std::array<AllowanceSlot, max_clients> slots;
};
inline constexpr size_t control_bytes = 8192;
static_assert(sizeof(ControlPage) == control_bytes);
static_assert(offsetof(ControlPage, slots) == 4096);

// The first page of a client's segment; its queues follow.
struct ClientPage {
    alignas(64) Shown submitted; // units
    Shown completed;             // units
    Shown held;                  // times that commands were found which must wait for the allowance
};
inline constexpr size_t client_page_bytes = 4096;
static_assert(sizeof(ClientPage) <= client_page_bytes);

} // namespace lanepool::sharing
