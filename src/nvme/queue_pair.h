// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/clock.h"
#include "nvme/dma_memory.h"
#include "nvme/doorbell.h"
#include "nvme/spec.h"

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace lanepool::nvme {

// What became of a command: the controller's answer, or why there is none.
struct Outcome {
    std::optional<Errc> lost; // timeout, disconnected, protocol, cancelled; none: the controller answered
    Status status;
    uint32_t dw0 = 0;

    bool ok() const { return !lost && status.ok(); }
    // dw0, or an error that names WHAT, for example "reading blocks 0..7".
    Result<uint32_t> result(std::string_view what) const;
};
using OnComplete = std::function<void(const Outcome&)>;

// Where a queue pair lies, in this process and for the controller: page aligned there.
struct QueueMemory {
    std::span<std::byte> submission;
    Iova submission_iova;
    std::span<std::byte> completion;
    Iova completion_iova;
};

// A submission queue, its completion queue, and the commands in between. For one thread. Completions are
// polled; an interrupt only says when to.
//
// The controller is not trusted: what it puts into the completion queue is copied once and then checked, a
// completion that answers no command breaks the queue. A command that has timed out keeps its slot (and needs
// its memory) until the controller answers after all or is reset. A broken queue answers everything with the
// reason it broke for.
class QueuePair {
  public:
    struct Options {
        uint16_t id = 0;
        uint16_t depth = 32; // commands in flight, at least 1
    };
    static constexpr uint16_t max_depth = 4095;

    // Answers whether the controller is still there and running; asked now and then while commands wait, so
    // that its death need not be waited out. An error breaks the queue.
    using HealthCheck = std::function<Result<>()>;

    // In memory of its own. DOORBELLS' mappings must outlive the queue. Errors: out_of_range for OPTIONS that
    // cannot be, and those of ALLOCATOR.
    static Result<std::unique_ptr<QueuePair>> create(DmaAllocator& allocator, uint64_t page_bytes,
                                                     const Doorbells& doorbells, const io::Clock& clock,
                                                     HealthCheck health, Options options);
    // In MEMORY of somebody else's (which must outlive it), for a queue pair of which somebody else tells the
    // controller. Nothing may have been submitted to it before: the completion queue is cleared here. HEALTH
    // may be empty. Errors: out_of_range, also for memory that is too small.
    static Result<std::unique_ptr<QueuePair>> create(const QueueMemory& memory, const Doorbells& doorbells,
                                                     const io::Clock& clock, HealthCheck health,
                                                     Options options);
    // What a queue pair of DEPTH needs.
    static constexpr uint64_t submission_bytes(uint16_t depth) { return (depth + 1u) * sizeof(Command); }
    static constexpr uint64_t completion_bytes(uint16_t depth) { return (depth + 1u) * sizeof(Completion); }
    QueuePair(const QueuePair&) = delete;
    QueuePair& operator=(const QueuePair&) = delete;
    // Commands still in flight are answered `cancelled`.
    ~QueuePair();

    uint16_t id() const { return options_.id; }
    uint16_t depth() const { return options_.depth; }
    uint16_t entries() const { return static_cast<uint16_t>(options_.depth + 1); } // of each of the queues
    Iova submission_iova() const { return memory_.submission_iova; }
    Iova completion_iova() const { return memory_.completion_iova; }
    Doorbell& submission_doorbell() { return submission_doorbell_; }
    Doorbell& completion_doorbell() { return completion_doorbell_; }

    // Puts COMMAND (its id is set here) into the queue; the controller is told by the next ring() or poll().
    // DONE is called once, from poll(), break_with() or the destructor; it may submit. TIMEOUT counts from
    // the first poll() that looks at the clock, at latest the 64th. Errors: busy when DEPTH commands are in
    // flight, and the reason a broken queue broke for.
    Result<> submit(const Command& command, io::Duration timeout, OnComplete done);
    // Tells the controller about everything submitted.
    Result<> ring();
    // Rings, and answers what the controller has completed, at most DEPTH commands. Returns how many. Errors:
    // the reason a broken queue broke for.
    Result<uint32_t> poll();
    // submit() and poll() until this one is answered. Answers of other commands are given meanwhile.
    Outcome execute(const Command& command, io::Duration timeout);

    // Commands submitted and not answered, and those timed out whose slots the controller still holds.
    uint16_t in_flight() const { return in_flight_; }
    uint16_t abandoned() const { return abandoned_; }
    bool full() const { return free_.empty(); }

    // No more commands; those in flight are answered REASON.
    void break_with(Error reason);
    const std::optional<Error>& broken() const { return broken_; }

  private:
    enum class State : uint8_t { free, in_flight, abandoned };
    struct Slot {
        State state = State::free;
        uint8_t generation = 0;
        bool armed = false; // deadline is set
        io::Duration timeout{};
        io::TimePoint deadline;
        OnComplete done;
    };

    QueuePair(const io::Clock& clock, HealthCheck health, Options options)
        : clock_(clock), health_(std::move(health)), options_(options) {}
    std::optional<Completion> next_completion();
    // The slot that ENTRY answers; an error when it answers none.
    Result<uint16_t> slot_of(const Completion& entry) const;
    void finish(uint16_t index, const Outcome& outcome);
    void check_deadlines();
    Error broken_error() const;

    const io::Clock& clock_;
    HealthCheck health_;
    Options options_;
    DmaMemory own_memory_; // none when it is somebody else's
    QueueMemory memory_;
    Doorbell submission_doorbell_;
    Doorbell completion_doorbell_;
    uint16_t tail_ = 0;
    uint16_t rung_tail_ = 0;
    uint16_t head_ = 0;
    bool phase_ = true; // what a new completion's phase tag is
    uint16_t in_flight_ = 0;
    uint16_t abandoned_ = 0;
    uint32_t polls_ = 0;
    bool progressed_ = false; // since the last look at the clock
    std::optional<io::TimePoint> next_health_check_;
    std::vector<Slot> slots_;
    std::vector<uint16_t> free_;
    std::optional<Error> broken_;
};

} // namespace lanepool::nvme
