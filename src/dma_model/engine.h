// SPDX-License-Identifier: Apache-2.0
//
// What the engine does: takes descriptors from the ring and executes them on the client's memory, a piece at
// a time, so that nothing else waits for long. Nothing that a client writes is trusted: a descriptor is
// copied once, and its memory is looked up for each piece, so that it may go away meanwhile.
#pragma once

#include "device_model/guest_memory.h"
#include "dma_model/registers.h"

#include <functional>
#include <optional>

namespace lanepool::dma_model {

struct EngineStats {
    uint64_t descriptors = 0; // done, well or not
    uint64_t failed = 0;
    uint64_t bytes = 0; // written, or for crc32c read
};

// A descriptor that is under way.
struct Job {
    Descriptor descriptor;
    uint32_t done_bytes = 0;
    uint32_t crc = 0;
};

class Engine {
  public:
    // What is done in one step.
    static constexpr uint32_t step_bytes = 256 * 1024;

    // MEMORY must outlive it. DONE is called when the head has moved, with whether the descriptor wants that
    // to be signalled.
    Engine(const device_model::GuestMemory& memory, std::function<void(bool signal)> done)
        : memory_(memory), done_(std::move(done)) {}

    // Begins with the first descriptor of a ring. Errors: what ERROR is to say; it does not run then.
    EngineError start(Iova ring, uint32_t entries);
    // A descriptor that is under way is left as it is.
    void stop() { ring_.reset(); }
    // The same, and the head is 0.
    void reset() {
        stop();
        head_ = 0;
    }
    bool running() const { return ring_.has_value(); }
    uint32_t head() const { return head_; }

    // Goes on, if there are descriptors before TAIL. Returns whether there was anything to do. On an error
    // the engine has stopped.
    bool step(uint32_t tail, EngineError& error);

    const EngineStats& stats() const { return stats_; }

  private:
    struct Ring {
        Iova base;
        uint32_t entries;
    };
    // The part of a range that lies in one piece of memory: null when its first byte cannot be reached.
    struct Part {
        std::byte* data = nullptr;
        uint32_t size_bytes = 0;
    };

    Part part(uint64_t address, uint32_t done_bytes, uint32_t most_bytes, bool write) const;
    static Outcome check(const Descriptor& descriptor);
    // Outcome::pending: there is more to do.
    Outcome work(Job& job);
    Outcome work_piece(Job& job, uint32_t most_bytes, uint32_t& size_bytes);
    Outcome finish_crc(const Job& job);
    std::byte* entry();
    bool finish(const Job& job, Outcome outcome);

    const device_model::GuestMemory& memory_;
    std::function<void(bool signal)> done_;
    std::optional<Ring> ring_;
    device_model::GuestPointer ring_memory_;
    std::optional<Job> job_;
    uint32_t head_ = 0;
    EngineStats stats_;
};

} // namespace lanepool::dma_model
