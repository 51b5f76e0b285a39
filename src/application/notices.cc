// SPDX-License-Identifier: Apache-2.0
#include "application/notices.h"

namespace lanepool::application {

using namespace std::chrono_literals;

namespace {
constexpr auto answer_timeout = 2s;
constexpr auto retry_interval = 100ms;

bool worth_repeating(Errc code) { return code == Errc::timeout || code == Errc::no_space; }
} // namespace

void Notices::add(ntb::Partition peer, SegmentRequest kind, uint64_t id, std::function<void()> done) {
    const Key key{peer, kind};
    boxes_[key].queue.push_back({id, std::move(done)});
    send(key);
}

void Notices::send(const Key& key) {
    Box& box = boxes_[key];
    if (!box.under_way.empty() || box.queue.empty() || box.retry) return;
    std::vector<uint64_t> ids;
    while (!box.queue.empty() && ids.size() < max_ids) {
        ids.push_back(box.queue.front().id);
        box.under_way.push_back(std::move(box.queue.front()));
        box.queue.pop_front();
    }
    fabric_.channel.request(key.first, static_cast<uint16_t>(key.second), encode_ids(ids), answer_timeout,
                            [this, key, alive = std::weak_ptr(fabric_.alive)](const auto& answer) {
                                if (!alive.expired()) answered(key, answer);
                            });
}

void Notices::answered(const Key& key, const Result<std::vector<std::byte>>& answer) {
    Box& box = boxes_[key];
    auto told = std::exchange(box.under_way, {});
    if (!answer && worth_repeating(answer.error().code()) && fabric_.reaches(key.first)) {
        box.queue.insert(box.queue.begin(), std::make_move_iterator(told.begin()),
                         std::make_move_iterator(told.end()));
        box.retry = fabric_.loop.after(retry_interval, [this, key] {
            boxes_[key].retry.reset();
            send(key);
        });
        return;
    }
    send(key);
    for (const auto& notice : told)
        if (notice.done) notice.done();
}

size_t Notices::waiting() const {
    size_t count = 0;
    for (const auto& [key, box] : boxes_)
        count += box.queue.size() + box.under_way.size();
    return count;
}

} // namespace lanepool::application
