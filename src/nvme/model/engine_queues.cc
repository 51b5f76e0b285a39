// SPDX-License-Identifier: Apache-2.0
//
// The engine's part that creates and deletes queues.
#include "nvme/model/engine.h"

#include <algorithm>

namespace lanepool::nvme::model {

Status Engine::create_completion_queue(uint16_t id, Iova base, uint32_t entries, bool interrupts,
                                       uint16_t vector) {
    if (id == 0 || id > features_.io_queues || cqs_[id])
        return Status(StatusCode::invalid_queue_identifier, true);
    auto cq = std::make_unique<CompletionQueue>();
    cq->id = id;
    cq->base = base;
    cq->entries = entries;
    cq->interrupts = interrupts;
    cq->vector = vector;
    cq->pacer = InterruptPacer(clock_, true);
    const size_t index = completion_doorbell(id);
    doorbells_.store(index, 0);
    show_polling(index);
    completion_order_.push_back(cq.get());
    cqs_[id] = std::move(cq);
    apply_coalescing();
    return {};
}

Status Engine::create_submission_queue(uint16_t id, Iova base, uint32_t entries, uint16_t completion_queue,
                                       QueuePriority priority) {
    if (id == 0 || id > features_.io_queues || sqs_[id])
        return Status(StatusCode::invalid_queue_identifier, true);
    // The admin completion queue takes no I/O commands' completions.
    if (completion_queue == 0 || completion_queue > max_io_queues || !cqs_[completion_queue])
        return Status(StatusCode::completion_queue_invalid, true);
    auto sq = std::make_unique<SubmissionQueue>();
    sq->id = id;
    sq->base = base;
    sq->entries = entries;
    sq->priority = priority;
    sq->cq = cqs_[completion_queue].get();
    ++sq->cq->users;
    const size_t index = submission_doorbell(id);
    doorbells_.store(index, 0);
    show_polling(index);
    submission_order_.push_back(sq.get());
    arbiter_.add(*sq);
    sqs_[id] = std::move(sq);
    return {};
}

Status Engine::delete_completion_queue(uint16_t id) {
    if (id == 0 || id > max_io_queues || !cqs_[id]) return Status(StatusCode::invalid_queue_identifier, true);
    if (cqs_[id]->users > 0) return Status(StatusCode::invalid_queue_deletion, true);
    std::erase(completion_order_, cqs_[id].get());
    cqs_[id].reset();
    unused_doorbells_[completion_doorbell(id)] = doorbells_.load(completion_doorbell(id));
    return {};
}

void Engine::delete_submission_queue(uint16_t id, Request& command) {
    if (id == 0 || id > max_io_queues || !sqs_[id] || sqs_[id]->deleting) {
        complete(command, Status(StatusCode::invalid_queue_identifier, true));
        return;
    }
    SubmissionQueue& sq = *sqs_[id];
    sq.deleting = true;
    command.parked = true;
    deletions_.push_back({id, &command});
    for (auto& request : requests_)
        if (request->active && request->sq == &sq) {
            request->abort_requested = true;
            if (request->ticket) files_.cancel(*request->ticket);
        }
    if (sq.in_flight == 0 && !sq.fetching) finish_deletion(sq);
}

void Engine::finish_deletion(SubmissionQueue& sq) {
    const uint16_t id = sq.id;
    --sq.cq->users;
    std::erase(submission_order_, &sq);
    arbiter_.remove(sq);
    sqs_[id].reset();
    unused_doorbells_[submission_doorbell(id)] = doorbells_.load(submission_doorbell(id));
    const auto found = std::ranges::find(deletions_, id, &Deletion::sqid);
    if (found == deletions_.end()) return;
    Request& command = *found->command;
    deletions_.erase(found);
    complete(command, Status());
}

Status Engine::use_shadow_doorbells(Iova shadow, Iova event_indexes) {
    // Polled with every round: of use only where that is no message.
    if (!memory_.direct(shadow, page_bytes, false) || !memory_.direct(event_indexes, page_bytes, true))
        return Status(StatusCode::invalid_field, true);
    shadow_ = shadow;
    event_indexes_ = event_indexes;
    for (const auto* sq : submission_order_)
        show_polling(submission_doorbell(sq->id));
    for (const auto* cq : completion_order_)
        show_polling(completion_doorbell(cq->id));
    return {};
}

void Engine::show_polling(size_t index) {
    if (!shadow_) return;
    // The buffers are polled all the time: an event index that the host's value does not pass but when it
    // wraps.
    if (auto* word = memory_.direct(event_indexes_ + 4 * index, 4, true)) store_word(word, 0xffff);
}

} // namespace lanepool::nvme::model
