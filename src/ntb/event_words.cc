// SPDX-License-Identifier: Apache-2.0
#include "ntb/event_words.h"

#include <atomic>
#include <utility>

namespace lanepool::ntb {

namespace {
constexpr uint64_t page_bytes = 4096;
} // namespace

EventWords::Area::Area(Area&& other) noexcept
    : words_(std::exchange(other.words_, nullptr)), id_(other.id_), memory_(std::move(other.memory_)) {}

EventWords::Area& EventWords::Area::operator=(Area&& other) noexcept {
    std::swap(words_, other.words_);
    std::swap(id_, other.id_);
    std::swap(memory_, other.memory_);
    return *this;
}

EventWords::Area::~Area() {
    if (words_) words_->remove(id_);
}

Result<EventWords::Area> EventWords::add(std::vector<SharedFd> eventfds) {
    const uint64_t bytes = eventfds.size() * sizeof(uint32_t);
    Area area;
    area.memory_.size_bytes = (bytes + page_bytes - 1) / page_bytes * page_bytes;
    area.memory_.fd = share(TRY(create_memory("lanepool-events", area.memory_.size_bytes)));
    auto words = TRY(Mapping::create(area.memory_));
    const std::lock_guard lock(mutex_);
    if (eventfds.size() > max_event_words - count_)
        return fail(Errc::no_space,
                    "{} events are exported on this adapter: {} more would exceed the limit, {}", count_,
                    eventfds.size(), max_event_words);
    area.id_ = next_id_++;
    count_ += eventfds.size();
    pages_.emplace(area.id_, Page{std::move(words), std::move(eventfds)});
    area.words_ = this;
    return area;
}

void EventWords::remove(uint64_t id) {
    std::map<uint64_t, Page>::node_type removed; // unmapped and closed outside of the lock
    const std::lock_guard lock(mutex_);
    removed = pages_.extract(id);
    count_ -= removed.mapped().eventfds.size();
}

void EventWords::look() {
    const std::lock_guard lock(mutex_);
    for (auto& [id, page] : pages_) {
        auto* words = reinterpret_cast<uint32_t*>(page.words.data());
        for (size_t i = 0; i < page.eventfds.size(); ++i) {
            const std::atomic_ref word(words[i]);
            if (word.load(std::memory_order_relaxed) == 0 || word.exchange(0, std::memory_order_acq_rel) == 0)
                continue;
            if (page.eventfds[i]) signal(*page.eventfds[i]);
        }
    }
}

} // namespace lanepool::ntb
