// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "sisci/segments.h"

#include <map>
#include <mutex>
#include <optional>
#include <vector>

namespace lanepool::sisci {

// A device that this process has borrowed.
struct SmartDevice final : Object {
    // Tells all that is connected through it. On the session's event thread.
    void lose();
    // Errors: NOT_CONNECTED.
    Outcome<> check_alive() const;
    // Errors: NOT_CONNECTED.
    Outcome<> add_connection(const std::shared_ptr<RemoteSegment>& connection);

    // What the device reaches, by the segment: one mapping of each.
    template <class Of>
    struct Reached {
        Hold<Of> segment;
        DeviceMapping mapping;
    };

    Hold<Descriptor> descriptor;
    std::atomic<bool> lost{false};
    std::mutex mutex; // of what follows
    std::map<const Object*, Reached<LocalSegment>> local;
    std::map<const Object*, Reached<RemoteSegment>> remote;
    std::vector<std::weak_ptr<RemoteSegment>> connections;
    std::optional<Device> device; // the last: it is destroyed first, and its callbacks use the rest
};
template <>
struct Named<sci_smartio_device_t> {
    using type = SmartDevice;
};

// What the pool knows of a device, as SISCI shows it.
sci_smartio_device_info_t info_of(const DeviceInfo& device);

} // namespace lanepool::sisci
