// SPDX-License-Identifier: Apache-2.0
#include "share/membership.h"

#include "share/pacer.h"

#include <cstring>
#include <thread>

namespace lanepool::sharing {

namespace {
constexpr io::Duration answer_timeout = std::chrono::seconds(3);
constexpr size_t most_answers = 64;
} // namespace

Result<std::unique_ptr<Membership>> Membership::create(Fabric& fabric, const io::Clock& clock, Place place) {
    std::unique_ptr<Membership> membership(new Membership(fabric, clock, place));
    membership->page_ = TRY(fabric.create_memory(client_page_bytes, std::nullopt));
    membership->inbox_ = TRY(fabric.create_inbox(
        std::nullopt,
        [self = membership.get()](const Sender&, std::span<const std::byte> message) {
            self->received(message);
        },
        [](const Sender&) {}));
    return membership;
}

void Membership::received(std::span<const std::byte> message) {
    auto answer = decode_answer(message);
    if (!answer) return; // nobody that we asked
    const std::lock_guard lock(mutex_);
    if (answers_.size() < most_answers) answers_.push_back(std::move(*answer));
    has_answers_ = true;
}

void Membership::take_answers() {
    if (!has_answers_.load(std::memory_order_relaxed)) return;
    std::vector<Answer> answers;
    {
        const std::lock_guard lock(mutex_);
        answers.swap(answers_);
        has_answers_ = false;
    }
    for (auto& answer : answers) {
        if (answer.token == 0 && !answer.outcome) { // told, not asked: the manager ends
            refusal_ = answer.outcome.error();
            standing_ = Standing::refused;
        } else if (answer.token != token_) {
            continue; // of a question that we have given up
        } else if (standing_ == Standing::asking) {
            if (!answer.outcome) {
                refusal_ = answer.outcome.error();
                standing_ = Standing::refused;
            } else if (*answer.outcome && (*answer.outcome)->generation == generation_ &&
                       (*answer.outcome)->slot < max_clients) {
                joined_ = **answer.outcome;
                standing_ = Standing::member;
            }
        } else {
            left_ = true;
        }
    }
}

void Membership::look(io::TimePoint now) {
    take_answers();
    if (standing_ == Standing::refused) return;
    if (control_) {
        if (const uint64_t beat = control().heartbeat.get(); beat != heartbeat_) {
            heartbeat_ = beat;
            beat_ = seen_ = now;
        }
        if (standing_ == Standing::asking && now - asked_ > answer_timeout) part(now);
    }
    if (control_) {
        const bool lost = control_lost_->load(std::memory_order_relaxed);
        if (!lost && now - beat_ <= client_look_interval) return;
    }
    if (now >= next_search_) search(now);
}

// Is there a manager, and another one than the one that we are with?
void Membership::search(io::TimePoint now) {
    auto lost = std::make_shared<std::atomic<bool>>(false);
    auto memory = fabric_.connect_memory(place_.node, shared_id(place_.fdid), control_bytes, io::Duration(0),
                                         [lost](const Error&) { *lost = true; });
    now = clock_.now(); // it may have taken long
    next_search_ = now + client_look_interval;
    if (!memory) {
        // That there is none is an answer, and nobody can be on a host that is not alive.
        if (memory.error().code() == Errc::not_found || memory.error().code() == Errc::unavailable)
            seen_ = now;
        if (standing_ == Standing::apart) forget();
        return;
    }
    const auto& page = *reinterpret_cast<const ControlPage*>((*memory)->bytes().data());
    const bool there = page.magic.get() == control_magic;
    const uint64_t generation = page.generation.get();
    if (!there || (standing_ != Standing::apart && generation == generation_)) {
        seen_ = now; // none yet, or the one that we know: slow, but there
        return;
    }
    // Another one has reset the drive, or is about to.
    if (standing_ != Standing::apart) part(now);
    if (page.version != layout_version) {
        refusal_ = Error(
            Errc::not_supported,
            fmt::format("the drive's manager speaks version {}, this is version {}: use the same release",
                        page.version, layout_version));
        standing_ = Standing::refused;
        return;
    }
    if (generation == past_generation_ || page.state.get() != static_cast<uint64_t>(ManagerState::serving))
        return;
    std::memcpy(&facts_, &page.facts, sizeof facts_);
    generation_ = generation;
    heartbeat_ = page.heartbeat.get();
    beat_ = seen_ = now;
    control_ = std::move(*memory);
    control_lost_ = std::move(lost);
}

void Membership::part(io::TimePoint now) {
    if (standing_ == Standing::refused) return;
    if (standing_ == Standing::member) past_generation_ = generation_;
    standing_ = Standing::apart;
    joined_.reset();
    forget();
    next_search_ = now;
}

void Membership::forget() {
    outbox_.reset();
    control_.reset();
    control_lost_.reset();
}

void Membership::ask(Join join, io::TimePoint now) {
    join.reply = inbox_->number();
    join.segment = page_->id();
    auto outbox = fabric_.connect_inbox(place_.node, shared_id(place_.fdid), io::Duration(0));
    ++token_;
    if (!outbox || !(*outbox)->send(encode(Request{token_, join}))) {
        forget();
        next_search_ = now + client_look_interval;
        return;
    }
    outbox_ = std::move(*outbox);
    asked_ = now;
    standing_ = Standing::asking;
}

uint64_t Membership::allowance() const {
    return standing_ == Standing::member ? control().slots[joined_->slot].allowance.get() : no_limit;
}

Result<> Membership::leave(io::Duration timeout) {
    if (standing_ != Standing::member || !outbox_) return {};
    const auto deadline = clock_.now() + timeout;
    ++token_;
    TRY(outbox_->send(encode(Request{token_, std::nullopt})));
    while (!left_) {
        take_answers();
        if (standing_ == Standing::refused) return {}; // the manager has ended meanwhile
        if (clock_.now() > deadline)
            return fail(Errc::timeout, "the drive's manager did not confirm that we leave");
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return {};
}

} // namespace lanepool::sharing
