// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.h"
#include "device_model/guest_memory.h"
#include "nvme/model/interrupt_pacer.h"
#include "nvme/spec.h"

#include <cstdint>
#include <deque>

namespace lanepool::nvme::model {

// Queues 1 to this may be created; as many of each kind.
inline constexpr uint16_t max_io_queues = 64;
inline constexpr uint32_t max_queue_entries = 1024; // CAP.MQES + 1

struct CompletionQueue {
    uint16_t id = 0;
    Iova base;
    uint32_t entries = 0;
    bool interrupts = false;
    uint16_t vector = 0;

    uint32_t head = 0; // the host has taken what lies before it
    uint32_t tail = 0;
    bool phase = true;
    uint32_t last_doorbell = 0;
    device_model::GuestPointer memory;
    unsigned users = 0; // submission queues
    bool lost = false;  // it cannot be reached any more: nothing is told through it until it is deleted

    // Completions for which there is no room; at most as many as there are requests.
    std::deque<Completion> waiting;

    InterruptPacer pacer;

    bool empty() const { return head == tail; }
    bool full() const { return (tail + 1) % entries == head; }
    uint32_t used() const { return (tail + entries - head) % entries; }
};

struct SubmissionQueue {
    uint16_t id = 0;
    Iova base;
    uint32_t entries = 0;
    CompletionQueue* cq = nullptr;

    uint32_t head = 0;
    uint32_t tail = 0; // as the host's doorbell last said
    uint32_t last_doorbell = 0;
    device_model::GuestPointer memory;
    unsigned in_flight = 0;
    bool fetching = false; // entries are being fetched by messages
    bool deleting = false;
    bool lost = false; // it cannot be reached any more: nothing is fetched from it until it is deleted
    QueuePriority priority = QueuePriority::urgent;
};

} // namespace lanepool::nvme::model
