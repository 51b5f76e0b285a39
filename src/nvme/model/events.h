// SPDX-License-Identifier: Apache-2.0
//
// The error log and asynchronous events (NVM Express Base Specification 2.0, sections 5.2 and 5.16.1.2).
#pragma once

#include "nvme/spec.h"

#include <deque>
#include <functional>
#include <vector>

namespace lanepool::nvme::model {

struct Request;

inline constexpr unsigned max_event_requests = 4; // AERL + 1
inline constexpr unsigned error_log_entries = 64; // ELPE + 1

class Events {
  public:
    using Complete = std::function<void(Request& request, Status status, uint32_t dw0)>;
    explicit Events(Complete complete) : complete_(std::move(complete)) {}

    // A controller reset: requests and events that were not reported are gone. The error log stays.
    void reset();

    // An Asynchronous Event Request command. Keeps it until there is an event.
    void add_request(Request& request);
    // Ends it with `aborted`, if it is one of ours.
    bool abort(uint16_t cid);

    void report(uint32_t type, uint32_t info, LogPage page);
    // Get Log Page without Retain Asynchronous Event: more events of the types behind PAGE may be reported.
    void log_was_read(LogPage page);

    void log_error(const ErrorLogEntry& entry);
    // Newest first, one for each slot.
    std::vector<ErrorLogEntry> error_log() const;
    uint64_t error_count() const { return error_count_; }

  private:
    struct Event {
        uint32_t type;
        uint32_t dw0;
        LogPage page;
    };
    void deliver();

    Complete complete_;
    std::deque<Request*> requests_;
    std::deque<Event> waiting_;
    std::array<LogPage, 8> masked_by_{}; // by event type: the page whose reading unmasks it
    std::array<bool, 8> masked_{};
    std::deque<ErrorLogEntry> errors_;
    uint64_t error_count_ = 0;
};

} // namespace lanepool::nvme::model
