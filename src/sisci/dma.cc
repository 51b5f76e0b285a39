// SPDX-License-Identifier: Apache-2.0
#include "sisci/dma.h"

#include <cstring>
#include <iterator>

namespace lanepool::sisci {

struct DmaQueue::Work {
    DmaBatch batch;
    bool done = false; // with the lock
    sci_error_t outcome = SCI_ERR_OK;
};

void DmaBatch::append(DmaBatch&& other) {
    parts.insert(parts.end(), other.parts.begin(), other.parts.end());
    std::move(other.local.begin(), other.local.end(), std::back_inserter(local));
    std::move(other.remote.begin(), other.remote.end(), std::back_inserter(remote));
}

DmaQueue::DmaQueue(Hold<Descriptor> descriptor, size_t max_entries)
    : descriptor_(std::move(descriptor)), max_entries_(max_entries), shared_(std::make_shared<Shared>()) {}

DmaQueue::~DmaQueue() = default;

void DmaQueue::cancel() {
    std::lock_guard lock(shared_->mutex);
    shared_->cancelled = true;
    shared_->aborting = true;
    shared_->changed.notify_all();
}

std::shared_ptr<DmaQueue::Work> DmaQueue::submit(DmaBatch batch) {
    auto work = std::make_shared<Work>();
    work->batch = std::move(batch);
    if (shared_->working++ == 0) shared_->error = SCI_ERR_OK;
    shared_->state = SCI_DMAQUEUE_POSTED;
    copier_.add([shared = shared_, work] { run(shared, *work); });
    return work;
}

// On the queue's thread.
void DmaQueue::run(const std::shared_ptr<Shared>& shared, Work& work) {
    auto aborting = [&] {
        std::lock_guard lock(shared->mutex);
        return shared->aborting;
    };
    sci_error_t outcome = SCI_ERR_OK;
    for (const auto& part : work.batch.parts) {
        if (aborting()) {
            outcome = SCI_ERR_CANCELLED;
            break;
        }
        std::memcpy(part.to, part.from, part.size);
    }
    for (const auto& remote : work.batch.remote)
        if (remote->lost && outcome == SCI_ERR_OK) outcome = SCI_ERR_TRANSFER_FAILED;
    work.batch.local.clear();
    work.batch.remote.clear();
    {
        std::lock_guard lock(shared->mutex);
        if (shared->error == SCI_ERR_OK) shared->error = outcome;
        if (--shared->working == 0) {
            shared->aborting = shared->cancelled;
            shared->state = shared->error == SCI_ERR_OK          ? SCI_DMAQUEUE_DONE
                            : shared->error == SCI_ERR_CANCELLED ? SCI_DMAQUEUE_ABORTED
                                                                 : SCI_DMAQUEUE_ERROR;
        }
        work.outcome = outcome;
        work.done = true;
        shared->changed.notify_all();
    }
    if (work.batch.callback) work.batch.callback(outcome);
}

Outcome<> DmaQueue::start(DmaBatch batch, bool wait) {
    std::unique_lock lock(shared_->mutex);
    if (shared_->state == SCI_DMAQUEUE_GATHER) return failed(SCI_ERR_ILLEGAL_OPERATION);
    if (shared_->working >= max_entries_) return failed(SCI_ERR_MAX_ENTRIES);
    std::shared_ptr<Shared> shared = shared_;
    auto work = submit(std::move(batch));
    if (!wait) return {};
    shared->changed.wait(lock, [&] { return work->done || shared->cancelled; });
    if (!work->done) return failed(SCI_ERR_CANCELLED);
    if (work->outcome != SCI_ERR_OK) return failed(work->outcome);
    return {};
}

Outcome<sci_dma_queue_state_t> DmaQueue::gather(DmaBatch batch) {
    std::lock_guard lock(shared_->mutex);
    if (shared_->state != SCI_DMAQUEUE_IDLE && shared_->state != SCI_DMAQUEUE_GATHER)
        return failed(SCI_ERR_ILLEGAL_OPERATION);
    if (gathered_.size() >= max_entries_) return failed(SCI_ERR_MAX_ENTRIES);
    gathered_.push_back(std::move(batch));
    return shared_->state = SCI_DMAQUEUE_GATHER;
}

Outcome<> DmaQueue::post(std::function<void(sci_error_t)> callback) {
    std::lock_guard lock(shared_->mutex);
    if (shared_->state != SCI_DMAQUEUE_GATHER) return failed(SCI_ERR_ILLEGAL_OPERATION);
    DmaBatch all;
    for (auto& batch : gathered_)
        all.append(std::move(batch));
    gathered_.clear();
    all.callback = std::move(callback);
    submit(std::move(all));
    return {};
}

Outcome<> DmaQueue::reset() {
    std::lock_guard lock(shared_->mutex);
    if (shared_->state == SCI_DMAQUEUE_POSTED) return failed(SCI_ERR_ILLEGAL_OPERATION);
    gathered_.clear();
    shared_->state = SCI_DMAQUEUE_IDLE;
    return {};
}

Outcome<> DmaQueue::abort() {
    std::lock_guard lock(shared_->mutex);
    if (shared_->state != SCI_DMAQUEUE_POSTED) return failed(SCI_ERR_ILLEGAL_OPERATION);
    shared_->aborting = true;
    return {};
}

Outcome<sci_dma_queue_state_t> DmaQueue::wait(std::chrono::milliseconds timeout) {
    std::shared_ptr<Shared> shared = shared_;
    std::unique_lock lock(shared->mutex);
    auto ready = [&] { return shared->cancelled || shared->state != SCI_DMAQUEUE_POSTED; };
    if (timeout == forever)
        shared->changed.wait(lock, ready);
    else if (!shared->changed.wait_for(lock, timeout, ready))
        return failed(SCI_ERR_TIMEOUT);
    if (shared->cancelled) return failed(SCI_ERR_CANCELLED);
    return shared->state;
}

sci_dma_queue_state_t DmaQueue::state() {
    std::lock_guard lock(shared_->mutex);
    return shared_->state;
}

void DmaQueue::assign(Hold<DmaChannel> channel) {
    std::lock_guard lock(shared_->mutex);
    channel_ = std::move(channel);
}

} // namespace lanepool::sisci
