// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "sisci/events.h"
#include "sisci/library.h"

#include <atomic>
#include <mutex>
#include <optional>
#include <variant>

namespace lanepool::sisci {

struct SmartDevice; // smartio.h

struct LocalSegment final : Object {
    Hold<Descriptor> descriptor;
    unsigned id = 0;
    size_t size = 0; // as it was created; its memory is whole pages
    bool is_private = false;

    std::mutex mutex; // of what follows
    bool has_memory = false;
    bool prepared = false;
    bool available = false;

    SegmentEvents events;
    std::optional<Segment> segment; // the last: it is destroyed first, and its callbacks use the rest

    void cancel() override { events.cancel(); }
    bool is_prepared() {
        std::lock_guard lock(mutex);
        return prepared;
    }
};
template <>
struct Named<sci_local_segment_t> {
    using type = LocalSegment;
};

// A segment of another process, or memory of a device.
struct RemoteSegment final : Object {
    ~RemoteSegment() override;
    void cancel() override { events.cancel(); }

    RemoteMemory& memory();
    // What it leads to is gone. On the session's event thread.
    void lose();
    // All of it, for the library's own copying. Errors: NOT_SUPPORTED, NOT_CONNECTED.
    Outcome<MappedRange*> whole();

    Hold<Descriptor> descriptor; // of a segment
    Hold<SmartDevice> device;    // of a device's memory
    unsigned id = 0;
    unsigned node = 0;
    std::atomic<bool> lost{false};
    SegmentEvents events;
    std::variant<std::monostate, lanepool::RemoteSegment, DeviceBar, DeviceMemory> connection;

  private:
    std::mutex mutex_;
    std::optional<MappedRange> whole_;
};
template <>
struct Named<sci_remote_segment_t> {
    using type = RemoteSegment;
};

} // namespace lanepool::sisci
