// SPDX-License-Identifier: Apache-2.0
//
// DMA queues: copies between segments that a thread of the library makes, one queue's in order.
#pragma once

#include "sisci/copier.h"
#include "sisci/segments.h"

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <vector>

namespace lanepool::sisci {

// Copies that belong together, and who keeps their memory.
struct DmaBatch {
    struct Part {
        std::byte* to;
        const std::byte* from;
        size_t size;
    };
    std::vector<Part> parts;
    std::vector<Hold<LocalSegment>> local;
    std::vector<Hold<RemoteSegment>> remote;
    std::function<void(sci_error_t)> callback; // may be empty

    // What OTHER is to do, after what this is.
    void append(DmaBatch&& other);
};

struct DmaChannel final : Object {
    Hold<Descriptor> descriptor;
};
template <>
struct Named<sci_dma_channel_t> {
    using type = DmaChannel;
};

class DmaQueue final : public Object {
  public:
    DmaQueue(Hold<Descriptor> descriptor, size_t max_entries);
    ~DmaQueue() override;
    // Who waits for it gets CANCELLED.
    void cancel() override;

    // Begins BATCH, behind what it is at. With WAIT, returns when that is done, with its outcome. Errors:
    // ILLEGAL_OPERATION (something is gathered), MAX_ENTRIES.
    Outcome<> start(DmaBatch batch, bool wait);

    // Errors: ILLEGAL_OPERATION (neither idle nor gathering), MAX_ENTRIES.
    Outcome<sci_dma_queue_state_t> gather(DmaBatch batch);
    // Errors: ILLEGAL_OPERATION (nothing is gathered).
    Outcome<> post(std::function<void(sci_error_t)> callback);
    // Errors: ILLEGAL_OPERATION (at work).
    Outcome<> reset();
    // Errors: ILLEGAL_OPERATION (not at work).
    Outcome<> abort();

    // Until it is not at work. Errors: TIMEOUT, CANCELLED.
    Outcome<sci_dma_queue_state_t> wait(std::chrono::milliseconds timeout);
    sci_dma_queue_state_t state();
    void assign(Hold<DmaChannel> channel);

  private:
    struct Work;
    // What waits, and how it went: also of the thread, which may outlive the queue by a callback.
    struct Shared {
        std::mutex mutex;
        std::condition_variable changed;
        sci_dma_queue_state_t state = SCI_DMAQUEUE_IDLE;
        size_t working = 0; // batches that are not done
        bool aborting = false;
        bool cancelled = false;
        sci_error_t error = SCI_ERR_OK; // the first since the queue was not at work
    };
    static void run(const std::shared_ptr<Shared>& shared, Work& work);
    std::shared_ptr<Work> submit(DmaBatch batch); // with the lock

    Hold<Descriptor> descriptor_;
    const size_t max_entries_;
    const std::shared_ptr<Shared> shared_;
    Hold<DmaChannel> channel_;       // under shared_->mutex
    std::vector<DmaBatch> gathered_; // under shared_->mutex
    Copier copier_;
};
template <>
struct Named<sci_dma_queue_t> {
    using type = DmaQueue;
};

} // namespace lanepool::sisci
