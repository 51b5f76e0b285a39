// SPDX-License-Identifier: Apache-2.0
//
// The queues: polls doorbells, fetches commands, posts completions, tells of them by interrupts. What the
// commands mean is the executor's.
#pragma once

#include "device_model/guest_memory.h"
#include "io/clock.h"
#include "nvme/model/arbiter.h"
#include "nvme/model/dma.h"
#include "nvme/model/doorbells.h"
#include "nvme/model/events.h"
#include "nvme/model/features.h"
#include "nvme/model/interrupts.h"
#include "nvme/model/queues.h"
#include "nvme/model/request.h"

#include <array>
#include <functional>
#include <memory>
#include <vector>

namespace lanepool::nvme::model {

class Executor {
  public:
    virtual ~Executor() = default;
    // Ends with Engine::complete(), now or later, exactly once. May be called again with the same request
    // after Engine::resolve() has said "later".
    virtual void execute(Request& request) = 0;
    // The engine has stopped: requests that were parked are no more.
    virtual void stopped() = 0;
};

struct EngineStats {
    uint64_t admin_commands = 0;
    uint64_t io_commands = 0;
    uint64_t failed_commands = 0;
    uint64_t aborted_commands = 0;
    uint64_t doorbell_errors = 0;
    uint64_t lost_queues = 0;         // I/O queues whose memory went away under them
    uint64_t dropped_completions = 0; // those that such a queue would have held
};

class Engine {
  public:
    Engine(device_model::GuestMemory& memory, Dma& dma, Doorbells& doorbells, Interrupts& interrupts,
           Features& features, FileQueue& files, Executor& executor, const io::Clock& clock);

    // Enables the controller with its admin queues. WEIGHTED: submission queues are served by priority.
    void start(bool weighted, Iova submission_base, uint32_t submission_entries, Iova completion_base,
               uint32_t completion_entries);
    // Drops all queues and abandons what is in flight; see drained().
    void stop();
    bool running() const { return running_; }
    // Nothing abandoned is under way any more: nothing of an earlier life touches memory or the drive.
    bool drained() const { return active_requests_ == 0; }
    // An admin queue could not be reached in client memory. An I/O queue that cannot is only stopped: it may
    // lie in memory of somebody who has gone, while others go on.
    bool fatal() const { return fatal_; }

    // One round over the queues. Returns whether there was anything to do.
    bool poll();
    // What needs to be looked at now and then only; every millisecond or so.
    void tick(io::TimePoint now);
    // Bus Master Enable: without it nothing is read from or written to the client's memory.
    void set_mastering(bool mastering) { mastering_ = mastering; }

    // Queue management, after the checks of section 5.4 to 5.7 that need no knowledge of the queues.
    Status create_completion_queue(uint16_t id, Iova base, uint32_t entries, bool interrupts,
                                   uint16_t vector);
    Status create_submission_queue(uint16_t id, Iova base, uint32_t entries, uint16_t completion_queue,
                                   QueuePriority priority);
    Status delete_completion_queue(uint16_t id);
    // Aborts what is in flight there; COMMAND is completed when that has ended.
    void delete_submission_queue(uint16_t id, Request& command);
    bool has_submission_queue(uint16_t id) const { return id < sqs_.size() && sqs_[id] != nullptr; }
    size_t io_queue_count() const;

    // Shadow doorbells and event indexes (section 5.8, Doorbell Buffer Config).
    Status use_shadow_doorbells(Iova shadow, Iova event_indexes);

    void complete(Request& request, Status status, uint32_t dw0 = 0);
    // The in-flight command CID of queue SQID, or null.
    Request* find(uint16_t sqid, uint16_t cid);

    // Finds where the command's data of SIZE_BYTES lies. False: it has been completed with an error, or will
    // be executed again.
    bool resolve(Request& request, uint32_t size_bytes);
    // Makes request.pieces of its data. False when some of it can only be reached by messages, or not at all.
    bool make_pieces(Request& request, bool write_to_client);
    // Keeps that memory where it is until the request ends, for who lets the kernel work on it meanwhile.
    void pin(Request& request);
    // Copies DATA to where the command wants it (resolved for at least that size) and completes it.
    void send_data(Request& request, std::span<const std::byte> data);
    // Fetches the command's data, which has been resolved. DONE is not called when that fails: then the
    // request has been completed.
    void fetch_data(Request& request, std::function<void(std::vector<std::byte>)> done);

    Events& events() { return events_; }
    const EngineStats& stats() const { return stats_; }
    // I/O commands that have not ended, or were abandoned and have not ended yet.
    bool io_in_flight() const;
    size_t active_requests() const { return active_requests_; }
    bool interrupt_level() const;
    // Masks or vectors changed: what was held back may go now.
    void retry_interrupts();
    // Interrupt Coalescing and Interrupt Vector Configuration were set.
    void apply_coalescing();

  private:
    static constexpr size_t max_requests = 1024;
    // I/O commands are left in their queues while so many are under way: what is under way is served in the
    // order of its coming, so a deep queue must not fill it.
    static constexpr size_t max_under_way = 128;

    uint32_t doorbell(size_t index, bool admin);
    Arbiter::Taken take_commands(SubmissionQueue& sq, uint32_t limit);
    void update_tail(SubmissionQueue& sq);
    bool poll_head(CompletionQueue& cq);
    void fetch_by_message(SubmissionQueue& sq);
    void dispatch(SubmissionQueue& sq, Request& request);
    Request* take_request();
    void release(Request& request);
    void post(CompletionQueue& cq, const Completion& completion);
    void lose(SubmissionQueue& sq);
    void lose(CompletionQueue& cq);
    void write_completion(CompletionQueue& cq, const Completion& completion);
    void posted(CompletionQueue& cq);
    void signal_completions(CompletionQueue& cq);
    void finish_deletion(SubmissionQueue& sq);
    void post_waiting(CompletionQueue& cq);
    void doorbell_error(uint32_t info);
    void log_failure(const Request& request, Status status);
    void show_polling(size_t index);
    void scan_unused_doorbells();

    device_model::GuestMemory& memory_;
    Dma& dma_;
    Doorbells& doorbells_;
    Interrupts& interrupts_;
    Features& features_;
    FileQueue& files_;
    Executor& executor_;
    const io::Clock& clock_;
    Events events_;

    bool running_ = false;
    bool fatal_ = false;
    bool mastering_ = false;
    uint64_t epoch_ = 0; // of start and stop: tells late answers from current ones
    io::TimePoint now_;
    io::TimePoint last_scan_;
    std::array<std::unique_ptr<SubmissionQueue>, max_io_queues + 1> sqs_;
    std::array<std::unique_ptr<CompletionQueue>, max_io_queues + 1> cqs_;
    // The same without gaps, for polling.
    std::vector<SubmissionQueue*> submission_order_;
    std::vector<CompletionQueue*> completion_order_;
    Arbiter arbiter_; // of the I/O submission queues
    struct Deletion {
        uint16_t sqid;
        Request* command;
    };
    std::vector<Deletion> deletions_;

    std::optional<Iova> shadow_;
    Iova event_indexes_;
    device_model::GuestPointer shadow_memory_;
    std::array<uint32_t, doorbell_count> unused_doorbells_{}; // values that were seen and reported

    std::vector<std::unique_ptr<Request>> requests_;
    std::vector<Request*> free_requests_;
    size_t active_requests_ = 0;
    EngineStats stats_;
};

} // namespace lanepool::nvme::model
