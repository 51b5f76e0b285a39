// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/events.h"

#include "nvme/model/request.h"

#include <algorithm>

namespace lanepool::nvme::model {

namespace {
// Events that nobody has asked for are kept up to here; one of a kind is enough.
constexpr size_t max_waiting_events = 16;
} // namespace

void Events::reset() {
    requests_.clear();
    waiting_.clear();
    masked_.fill(false);
}

void Events::add_request(Request& request) {
    if (requests_.size() >= max_event_requests) {
        complete_(request, Status(StatusCode::async_event_limit_exceeded, true), 0);
        return;
    }
    request.parked = true;
    requests_.push_back(&request);
    deliver();
}

bool Events::abort(uint16_t cid) {
    const auto found =
        std::ranges::find_if(requests_, [&](const Request* request) { return request->command.cid == cid; });
    if (found == requests_.end()) return false;
    Request& request = **found;
    requests_.erase(found);
    complete_(request, Status(StatusCode::abort_requested), 0);
    return true;
}

void Events::report(uint32_t type, uint32_t info, LogPage page) {
    const uint32_t dw0 = async_event::type(type) | async_event::info(info) |
                         async_event::log_page(static_cast<uint32_t>(page));
    if (std::ranges::any_of(waiting_, [&](const Event& event) { return event.dw0 == dw0; })) return;
    if (waiting_.size() >= max_waiting_events) return;
    waiting_.push_back({type, dw0, page});
    deliver();
}

void Events::deliver() {
    for (auto event = waiting_.begin(); event != waiting_.end() && !requests_.empty();) {
        if (masked_[event->type]) {
            ++event;
            continue;
        }
        masked_[event->type] = true;
        masked_by_[event->type] = event->page;
        const uint32_t dw0 = event->dw0;
        event = waiting_.erase(event);
        Request& request = *requests_.front();
        requests_.pop_front();
        complete_(request, Status(), dw0);
    }
}

void Events::log_was_read(LogPage page) {
    for (size_t type = 0; type < masked_.size(); ++type)
        if (masked_[type] && masked_by_[type] == page) masked_[type] = false;
    deliver();
}

void Events::log_error(const ErrorLogEntry& entry) {
    errors_.push_front(entry);
    errors_.front().error_count = ++error_count_;
    if (errors_.size() > error_log_entries) errors_.pop_back();
}

std::vector<ErrorLogEntry> Events::error_log() const {
    std::vector<ErrorLogEntry> log(errors_.begin(), errors_.end());
    log.resize(error_log_entries);
    return log;
}

} // namespace lanepool::nvme::model
