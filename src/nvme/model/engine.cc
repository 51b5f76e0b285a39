// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/engine.h"

#include <algorithm>
#include <cstring>
#include <spdlog/spdlog.h>

namespace lanepool::nvme::model {

namespace {
constexpr uint32_t sq_entry_bytes = sizeof(Command);
constexpr uint32_t cq_entry_bytes = sizeof(Completion);
constexpr io::Duration scan_interval = std::chrono::milliseconds(1);
} // namespace

Engine::Engine(device_model::GuestMemory& memory, Dma& dma, Doorbells& doorbells, Interrupts& interrupts,
               Features& features, FileQueue& files, Executor& executor, const io::Clock& clock)
    : memory_(memory), dma_(dma), doorbells_(doorbells), interrupts_(interrupts), features_(features),
      files_(files), executor_(executor), clock_(clock),
      events_([this](Request& request, Status status, uint32_t dw0) { complete(request, status, dw0); }) {}

void Engine::start(bool weighted, Iova submission_base, uint32_t submission_entries, Iova completion_base,
                   uint32_t completion_entries) {
    arbiter_.start(weighted);
    ++epoch_;
    fatal_ = false;
    for (size_t i = 0; i < doorbell_count; ++i)
        unused_doorbells_[i] = doorbells_.load(i);
    doorbells_.store(submission_doorbell(0), 0);
    doorbells_.store(completion_doorbell(0), 0);
    auto cq = std::make_unique<CompletionQueue>();
    cq->base = completion_base;
    cq->entries = completion_entries;
    cq->interrupts = true;
    cq->users = 1;
    cq->pacer = InterruptPacer(clock_, false);
    auto sq = std::make_unique<SubmissionQueue>();
    sq->base = submission_base;
    sq->entries = submission_entries;
    sq->cq = cq.get();
    submission_order_ = {sq.get()};
    completion_order_ = {cq.get()};
    sqs_[0] = std::move(sq);
    cqs_[0] = std::move(cq);
    running_ = true;
}

void Engine::stop() {
    ++epoch_;
    running_ = false;
    fatal_ = false;
    deletions_.clear();
    events_.reset();
    for (auto& request : requests_) {
        if (!request->active) continue;
        request->sq = nullptr;
        if (request->parked)
            release(*request);
        else if (request->ticket)
            files_.cancel(*request->ticket);
    }
    executor_.stopped();
    arbiter_.start(false);
    submission_order_.clear();
    completion_order_.clear();
    for (auto& sq : sqs_)
        sq.reset();
    for (auto& cq : cqs_)
        cq.reset();
    shadow_.reset();
}

size_t Engine::io_queue_count() const {
    return submission_order_.size() + completion_order_.size() - (running_ ? 2 : 0);
}

// --- requests

Request* Engine::take_request() {
    if (free_requests_.empty()) {
        if (requests_.size() >= max_requests) return nullptr;
        requests_.push_back(std::make_unique<Request>());
        free_requests_.push_back(requests_.back().get());
    }
    Request* request = free_requests_.back();
    free_requests_.pop_back();
    request->active = true;
    ++active_requests_;
    return request;
}

void Engine::release(Request& request) {
    request.active = false;
    request.parked = false;
    request.abort_requested = false;
    request.sq = nullptr;
    request.ticket.reset();
    if (!request.pins.empty()) request.pins.clear();
    if (!request.bounce.empty()) request.bounce = {};
    if (!request.prp_pages.empty()) request.prp_pages.clear();
    free_requests_.push_back(&request);
    --active_requests_;
}

bool Engine::io_in_flight() const {
    return std::ranges::any_of(requests_, [](const auto& request) {
        return request->active && (!request->sq || request->sq->id != 0);
    });
}

Request* Engine::find(uint16_t sqid, uint16_t cid) {
    for (auto& request : requests_)
        if (request->active && request->sq && request->sq->id == sqid && request->command.cid == cid)
            return request.get();
    return nullptr;
}

// --- submission queues

uint32_t Engine::doorbell(size_t index, bool admin) {
    if (shadow_ && !admin)
        if (const auto* word = shadow_memory_.get(memory_, *shadow_ + 4 * index, 4, false))
            return load_word(word);
    return doorbells_.load(index);
}

void Engine::update_tail(SubmissionQueue& sq) {
    const uint32_t tail = doorbell(submission_doorbell(sq.id), sq.id == 0);
    if (tail == sq.last_doorbell) [[likely]]
        return;
    sq.last_doorbell = tail;
    if (tail >= sq.entries)
        doorbell_error(async_event::invalid_doorbell_value);
    else
        sq.tail = tail;
}

Arbiter::Taken Engine::take_commands(SubmissionQueue& sq, uint32_t limit) {
    update_tail(sq);
    if (sq.head == sq.tail) [[likely]]
        return {};
    if (sq.deleting || sq.fetching || sq.lost || sq.cq->lost) return {};
    Arbiter::Taken taken;
    while (taken.count < limit && sq.head != sq.tail) {
        // A host that does not take its completions gets no new ones made.
        if (!sq.cq->waiting.empty()) break;
        if (sq.id != 0 && active_requests_ >= max_under_way) return {taken.count, true};
        const std::byte* entry =
            sq.memory.get(memory_, sq.base + uint64_t{sq.head} * sq_entry_bytes, sq_entry_bytes, false);
        if (!entry) {
            fetch_by_message(sq);
            ++taken.count;
            break;
        }
        Request* request = take_request();
        if (!request) return {taken.count, true};
        std::memcpy(&request->command, entry, sq_entry_bytes);
        if (++sq.head == sq.entries) sq.head = 0;
        ++taken.count;
        dispatch(sq, *request);
        if (!running_) break;
        // At once: while it travels, the others are being done.
        signal_completions(*sq.cq);
    }
    return taken;
}

void Engine::dispatch(SubmissionQueue& sq, Request& request) {
    request.sq = &sq;
    ++sq.in_flight;
    ++(sq.id == 0 ? stats_.admin_commands : stats_.io_commands);
    executor_.execute(request);
}

void Engine::fetch_by_message(SubmissionQueue& sq) {
    Request* request = take_request();
    if (!request) return;
    // One command an answer; the request is there already, so that there is room for it.
    const Piece piece{sq.base + uint64_t{sq.head} * sq_entry_bytes, sq_entry_bytes};
    sq.fetching = true;
    dma_.read({&piece, 1},
              [this, request, id = sq.id, epoch = epoch_](Result<std::vector<std::byte>> answer) {
                  if (epoch != epoch_ || !sqs_[id]) {
                      release(*request);
                      return;
                  }
                  SubmissionQueue& queue = *sqs_[id];
                  queue.fetching = false;
                  if (!answer || queue.deleting) {
                      release(*request);
                      if (!answer) lose(queue);
                      if (queue.deleting && queue.in_flight == 0) finish_deletion(queue);
                      return;
                  }
                  std::memcpy(&request->command, answer->data(), sq_entry_bytes);
                  if (++queue.head == queue.entries) queue.head = 0;
                  dispatch(queue, *request);
              });
}

// --- completion queues

void Engine::complete(Request& request, Status status, uint32_t dw0) {
    SubmissionQueue* sq = request.sq;
    if (!sq) {
        release(request);
        return;
    }
    if (!status.ok()) [[unlikely]] {
        if (sq->deleting && status.code() == StatusCode::abort_requested)
            status = StatusCode::aborted_sq_deletion;
        log_failure(request, status);
    }
    Completion completion;
    completion.dw0 = dw0;
    completion.sq_head = static_cast<uint16_t>(sq->head);
    completion.sq_id = sq->id;
    completion.cid = request.command.cid;
    completion.status_phase = Completion::make_status_phase(status, false);
    release(request);
    --sq->in_flight;
    post(*sq->cq, completion);
    if (sq->deleting && sq->in_flight == 0 && !sq->fetching) [[unlikely]]
        finish_deletion(*sq);
}

void Engine::log_failure(const Request& request, Status status) {
    ++stats_.failed_commands;
    if (status.code() == StatusCode::abort_requested || status.code() == StatusCode::aborted_sq_deletion) {
        ++stats_.aborted_commands;
        return; // asked for: no error
    }
    ErrorLogEntry entry;
    entry.sq_id = request.sq->id;
    entry.cid = request.command.cid;
    entry.status_phase = Completion::make_status_phase(status, false);
    entry.parameter_location = 0xffff; // not a particular field
    entry.nsid = request.command.nsid;
    if (request.sq->id != 0) entry.lba = uint64_t{request.command.cdw11} << 32 | request.command.cdw10;
    events_.log_error(entry);
}

// Nothing can be told to the host through queues that are not there.
void Engine::lose(SubmissionQueue& sq) {
    if (sq.id == 0) {
        fatal_ = true;
        running_ = false;
    } else if (!std::exchange(sq.lost, true)) {
        ++stats_.lost_queues;
        spdlog::info("nvme model: submission queue {} is not in the client's memory any more; it is stopped",
                     sq.id);
    }
}

void Engine::lose(CompletionQueue& cq) {
    ++stats_.dropped_completions;
    if (cq.id == 0) {
        fatal_ = true;
        running_ = false;
    } else if (!std::exchange(cq.lost, true)) {
        ++stats_.lost_queues;
        stats_.dropped_completions += cq.waiting.size();
        cq.waiting.clear();
        cq.head = cq.tail; // nothing for an interrupt to tell of
        spdlog::info("nvme model: completion queue {} is not in the client's memory any more; it is stopped",
                     cq.id);
    }
}

void Engine::post(CompletionQueue& cq, const Completion& completion) {
    if (cq.lost) [[unlikely]] {
        ++stats_.dropped_completions;
        return;
    }
    if (!cq.waiting.empty() || cq.full() || !mastering_) [[unlikely]] {
        cq.waiting.push_back(completion);
        return;
    }
    write_completion(cq, completion);
}

void Engine::write_completion(CompletionQueue& cq, const Completion& completion) {
    const Iova address = cq.base + uint64_t{cq.tail} * cq_entry_bytes;
    Completion entry = completion;
    entry.status_phase = static_cast<uint16_t>((entry.status_phase & ~1u) | (cq.phase ? 1 : 0));
    if (++cq.tail == cq.entries) {
        cq.tail = 0;
        cq.phase = !cq.phase;
    }
    if (auto* place = cq.memory.get(memory_, address, cq_entry_bytes, true)) [[likely]] {
        // The phase tag is what the host waits for: it goes last.
        std::array<uint32_t, 4> words;
        std::memcpy(words.data(), &entry, sizeof entry);
        for (size_t i = 0; i < 3; ++i)
            std::atomic_ref(*reinterpret_cast<uint32_t*>(place + 4 * i))
                .store(words[i], std::memory_order_relaxed);
        store_word(place + 12, words[3]);
        posted(cq);
        return;
    }
    const Piece piece{address, cq_entry_bytes};
    dma_.write({&piece, 1}, std::as_bytes(std::span(&entry, 1)),
               [this, id = cq.id, epoch = epoch_](Result<> sent) {
                   if (epoch != epoch_ || !cqs_[id]) return;
                   if (sent)
                       posted(*cqs_[id]);
                   else
                       lose(*cqs_[id]);
               });
}

void Engine::posted(CompletionQueue& cq) {
    if (cq.interrupts) cq.pacer.posted();
}

bool Engine::poll_head(CompletionQueue& cq) {
    if (cq.lost) return false;
    const uint32_t head = doorbell(completion_doorbell(cq.id), cq.id == 0);
    if (head == cq.last_doorbell) [[likely]]
        return false;
    cq.last_doorbell = head;
    // It may move over what is there, and no farther.
    if (head >= cq.entries || (head + cq.entries - cq.head) % cq.entries > cq.used()) {
        doorbell_error(async_event::invalid_doorbell_value);
        return true;
    }
    cq.head = head;
    if (cq.interrupts) cq.pacer.host_looked(cq.used());
    return true;
}

void Engine::post_waiting(CompletionQueue& cq) {
    while (!cq.waiting.empty() && !cq.full()) {
        const Completion next = cq.waiting.front();
        cq.waiting.pop_front();
        write_completion(cq, next);
    }
}

void Engine::signal_completions(CompletionQueue& cq) {
    if (!cq.pacer.due(now_) || cq.lost || !interrupts_.uses_messages()) return;
    if (interrupts_.raise(cq.vector)) cq.pacer.signalled(now_);
}

bool Engine::interrupt_level() const {
    return std::ranges::any_of(completion_order_,
                               [](const CompletionQueue* cq) { return cq->interrupts && !cq->empty(); }) &&
           (interrupts_.register_mask() & 1) == 0;
}

void Engine::retry_interrupts() {
    for (auto* cq : completion_order_)
        if (cq->interrupts) cq->pacer.start_over(cq->used());
}

void Engine::apply_coalescing() {
    for (auto* cq : completion_order_) {
        if (!cq->interrupts || cq->id == 0) continue; // never for the admin queue
        if (features_.coalescing_disabled[cq->vector])
            cq->pacer.set_coalescing(0, {});
        else
            cq->pacer.set_coalescing(features_.coalescing_threshold,
                                     features_.coalescing_time_100us * std::chrono::microseconds(100));
    }
}

// --- the round

bool Engine::poll() {
    if (!running_ || !mastering_) return false;
    bool busy = false;
    // Admin commands come first (section 3.4.4.2), and may create and delete queues.
    const auto take = [this](SubmissionQueue& sq, uint32_t limit) { return take_commands(sq, limit); };
    busy |= take(*sqs_[0], Arbiter::max_burst).count > 0;
    if (running_) busy |= arbiter_.serve(features_.arbitration, Arbiter::max_burst, take) > 0;
    for (size_t i = 0; i < completion_order_.size(); ++i)
        busy |= poll_head(*completion_order_[i]);
    for (auto* cq : completion_order_)
        if (!cq->waiting.empty()) post_waiting(*cq);
    for (auto* cq : completion_order_)
        signal_completions(*cq);
    return busy;
}

void Engine::tick(io::TimePoint now) {
    now_ = now;
    if (!running_ || now - last_scan_ < scan_interval) return;
    last_scan_ = now;
    scan_unused_doorbells();
}

void Engine::scan_unused_doorbells() {
    for (size_t i = 0; i < doorbell_count; ++i) {
        const uint32_t value = doorbells_.load(i);
        if (value == unused_doorbells_[i]) [[likely]]
            continue;
        unused_doorbells_[i] = value;
        const size_t id = i / 2;
        const bool known = id <= max_io_queues && (i % 2 == 0 ? sqs_[id] != nullptr : cqs_[id] != nullptr);
        if (!known) doorbell_error(async_event::invalid_doorbell_register);
    }
}

void Engine::doorbell_error(uint32_t info) {
    ++stats_.doorbell_errors;
    ErrorLogEntry entry;
    entry.sq_id = 0xffff; // not a command's
    entry.cid = 0xffff;
    entry.parameter_location = 0xffff;
    events_.log_error(entry);
    events_.report(async_event::type_error, info, LogPage::error);
}

} // namespace lanepool::nvme::model
