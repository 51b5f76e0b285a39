// SPDX-License-Identifier: Apache-2.0
#include "nvme/queue_pair.h"

#include "nvme/controller_registers.h"

#include <atomic>
#include <cstring>

namespace lanepool::nvme {

namespace {
// A command id is the slot's index below and a generation above, so that a completion that comes twice, or
// late, is told from the answer to the slot's next command. The top bit stays clear: 0xffff is reserved.
constexpr unsigned index_bits = 12;
constexpr uint8_t generations = 8;
static_assert(QueuePair::max_depth < 1 << index_bits);

constexpr uint32_t polls_per_check = 64;
// What execute() spins for a quick command before it sleeps for a slow one, such as a format.
constexpr uint32_t polls_before_sleep = 20000;
constexpr io::Duration health_interval = std::chrono::milliseconds(50);

uint16_t make_id(uint16_t index, uint8_t generation) {
    return static_cast<uint16_t>(generation << index_bits | index);
}

std::string_view why_lost(Errc code) {
    switch (code) {
    case Errc::timeout:
        return "the controller did not answer in time";
    case Errc::disconnected:
        return "the controller is gone";
    case Errc::cancelled:
        return "the controller was stopped or reset before it answered";
    case Errc::protocol:
        return "the controller broke the protocol";
    case Errc::busy:
        return "the queue is full";
    default:
        return "the controller has failed";
    }
}
} // namespace

Result<uint32_t> Outcome::result(std::string_view what) const {
    if (lost) return fail(*lost, "{}: {}", what, why_lost(*lost));
    if (!status.ok()) return fail(Errc::io, "{}: the controller answered {}", what, describe(status));
    return dw0;
}

Result<std::unique_ptr<QueuePair>> QueuePair::create(const QueueMemory& memory, const Doorbells& doorbells,
                                                     const io::Clock& clock, HealthCheck health,
                                                     Options options) {
    if (options.depth == 0 || options.depth > max_depth)
        return fail(Errc::out_of_range, "a queue depth of {} is not in 1..{}", options.depth, max_depth);
    if (options.id >= doorbells.queues())
        return fail(Errc::out_of_range, "queue {} has no doorbell", options.id);
    if (memory.submission.size() < submission_bytes(options.depth) ||
        memory.completion.size() < completion_bytes(options.depth))
        return fail(Errc::out_of_range, "a queue pair of depth {} takes {} and {} bytes, not {} and {}",
                    options.depth, submission_bytes(options.depth), completion_bytes(options.depth),
                    memory.submission.size(), memory.completion.size());
    std::unique_ptr<QueuePair> queue(new QueuePair(clock, std::move(health), options));
    queue->memory_ = memory;
    // Phase tags of an earlier life would look like completions.
    std::memset(memory.completion.data(), 0, completion_bytes(options.depth));
    queue->submission_doorbell_ = doorbells.submission(options.id);
    queue->completion_doorbell_ = doorbells.completion(options.id);
    queue->slots_.resize(options.depth);
    for (uint16_t i = options.depth; i > 0; --i)
        queue->free_.push_back(static_cast<uint16_t>(i - 1));
    return queue;
}

Result<std::unique_ptr<QueuePair>> QueuePair::create(DmaAllocator& allocator, uint64_t page_bytes,
                                                     const Doorbells& doorbells, const io::Clock& clock,
                                                     HealthCheck health, Options options) {
    const auto in_pages = [&](uint64_t bytes) { return (bytes + page_bytes - 1) / page_bytes * page_bytes; };
    const uint64_t completion_offset = in_pages(submission_bytes(options.depth));
    auto memory =
        TRY(DmaMemory::create(allocator, completion_offset + in_pages(completion_bytes(options.depth)),
                              page_bytes, "lanepool-nvme-queue"));
    const QueueMemory parts{memory.bytes().first(completion_offset), memory.iova(),
                            memory.bytes().subspan(completion_offset), memory.iova() + completion_offset};
    auto queue = TRY(create(parts, doorbells, clock, std::move(health), options));
    queue->own_memory_ = std::move(memory);
    return queue;
}

QueuePair::~QueuePair() { break_with({Errc::cancelled, "the queue was closed"}); }

Error QueuePair::broken_error() const { return broken_->within(fmt::format("queue {}", options_.id)); }

Result<> QueuePair::submit(const Command& command, io::Duration timeout, OnComplete done) {
    if (broken_) return tl::unexpected(broken_error());
    if (free_.empty())
        return fail(Errc::busy, "queue {} is full: {} commands are in flight", options_.id, options_.depth);
    const uint16_t index = free_.back();
    free_.pop_back();
    auto& slot = slots_[index];
    slot.state = State::in_flight;
    slot.armed = false;
    slot.timeout = timeout;
    slot.done = std::move(done);
    ++in_flight_;
    // There is always room: a slot is free only when its command has been answered, and so fetched.
    auto* entry = memory_.submission.data() + tail_ * sizeof(Command);
    std::memcpy(entry, &command, sizeof command);
    const le16 id = make_id(index, slot.generation);
    std::memcpy(entry + offsetof(Command, cid), &id, sizeof id);
    tail_ = static_cast<uint16_t>(tail_ + 1 == entries() ? 0 : tail_ + 1);
    return {};
}

Result<> QueuePair::ring() {
    if (broken_) return tl::unexpected(broken_error());
    if (tail_ == rung_tail_) return {};
    rung_tail_ = tail_;
    if (auto rung = submission_doorbell_.ring(tail_); !rung) {
        break_with(rung.error());
        return rung;
    }
    return {};
}

// The entry is copied before anything in it is looked at: its owner may write to it at any time.
std::optional<Completion> QueuePair::next_completion() {
    auto* place = memory_.completion.data() + head_ * sizeof(Completion);
    // Dword 3 carries the phase tag. Only after it has changed may the rest be read.
    auto& dword3 = *reinterpret_cast<uint32_t*>(place + offsetof(Completion, cid));
    const uint32_t loaded = std::atomic_ref<uint32_t>(dword3).load(std::memory_order_acquire);
    if (((loaded >> 16 & 1) != 0) != phase_) return std::nullopt;
    Completion entry;
    std::memcpy(&entry, place, sizeof entry);
    entry.cid = static_cast<uint16_t>(loaded);
    entry.status_phase = static_cast<uint16_t>(loaded >> 16);
    return entry;
}

Result<uint16_t> QueuePair::slot_of(const Completion& entry) const {
    const uint16_t index = entry.cid & ((1 << index_bits) - 1);
    if (index >= slots_.size() || slots_[index].state == State::free ||
        entry.cid != make_id(index, slots_[index].generation))
        return fail(Errc::protocol, "the controller completed command {:#x}, which is not in flight",
                    static_cast<uint16_t>(entry.cid));
    if (entry.sq_id != options_.id || entry.sq_head >= entries())
        return fail(Errc::protocol, "the controller completed a command of queue {} with head {}",
                    static_cast<uint16_t>(entry.sq_id), static_cast<uint16_t>(entry.sq_head));
    return index;
}

void QueuePair::finish(uint16_t index, const Outcome& outcome) {
    auto& slot = slots_[index];
    const bool answer = slot.state == State::in_flight;
    --(answer ? in_flight_ : abandoned_);
    slot.state = State::free;
    slot.generation = static_cast<uint8_t>((slot.generation + 1) % generations);
    free_.push_back(index);
    // Moved out first: the callback may submit, and be given this very slot.
    auto done = std::exchange(slot.done, nullptr);
    if (answer && done) done(outcome);
}

Result<uint32_t> QueuePair::poll() {
    TRY(ring());
    uint32_t answered = 0;
    // At most one round of the queue, so that a controller that completes for ever holds nobody up.
    for (; answered < options_.depth && in_flight_ + abandoned_ > 0; ++answered) {
        const auto entry = next_completion();
        if (!entry) break;
        const auto index = slot_of(*entry);
        if (!index) {
            break_with(index.error());
            return tl::unexpected(broken_error());
        }
        if (++head_ == entries()) {
            head_ = 0;
            phase_ = !phase_;
        }
        finish(*index, {std::nullopt, entry->status(), entry->dw0});
        if (broken_) return tl::unexpected(broken_error()); // by the callback
    }
    if (answered > 0) {
        progressed_ = true;
        if (auto rung = completion_doorbell_.ring(head_); !rung) break_with(rung.error());
    }
    if (++polls_ % polls_per_check == 0 && in_flight_ + abandoned_ > 0) check_deadlines();
    if (broken_) return tl::unexpected(broken_error());
    TRY(ring()); // what the callbacks submitted
    return answered;
}

void QueuePair::check_deadlines() {
    const auto now = clock_.now();
    for (uint16_t index = 0; index < slots_.size() && !broken_; ++index) {
        auto& slot = slots_[index];
        if (slot.state != State::in_flight) continue;
        if (!slot.armed) {
            slot.armed = true;
            slot.deadline = now + slot.timeout;
        } else if (now >= slot.deadline) {
            slot.state = State::abandoned;
            --in_flight_;
            ++abandoned_;
            if (auto done = std::exchange(slot.done, nullptr)) done({Errc::timeout, {}, 0});
        }
    }
    // A controller that answers is well: only one that stays silent is asked.
    if (std::exchange(progressed_, false) || !next_health_check_) {
        next_health_check_ = now + health_interval;
    } else if (!broken_ && health_ && now >= *next_health_check_) {
        next_health_check_ = now + health_interval;
        if (auto healthy = health_(); !healthy) break_with(healthy.error());
    }
}

Outcome QueuePair::execute(const Command& command, io::Duration timeout) {
    std::optional<Outcome> outcome;
    // Shared with the callback, which outlives this call only when poll() breaks; then it has been called.
    if (auto submitted = submit(command, timeout, [&outcome](const Outcome& o) { outcome = o; }); !submitted)
        return {submitted.error().code(), {}, 0};
    Backoff backoff(std::chrono::milliseconds(1));
    for (uint32_t polls = 0; !outcome; ++polls) {
        if (!poll() && !outcome) return {broken_->code(), {}, 0};
        if (polls < polls_before_sleep) continue;
        backoff.pause();
        polls_ = polls_per_check - 1; // the next one looks at the clock
    }
    return *outcome;
}

void QueuePair::break_with(Error reason) {
    if (broken_) return;
    broken_ = std::move(reason);
    const auto code = broken_->code();
    for (auto& slot : slots_) {
        if (slot.state == State::free) continue;
        const bool answer = slot.state == State::in_flight;
        slot.state = State::free;
        if (auto done = std::exchange(slot.done, nullptr); answer && done) done({code, {}, 0});
    }
    in_flight_ = abandoned_ = 0;
}

} // namespace lanepool::nvme
