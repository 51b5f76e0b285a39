// SPDX-License-Identifier: Apache-2.0
//
// Segments of other processes, on this host or another.
#include "sisci/segments.h"

#include "sisci/smartio.h"

namespace lanepool::sisci {

RemoteSegment::~RemoteSegment() {
    connection.emplace<std::monostate>(); // its callbacks use the rest
}

RemoteMemory& RemoteSegment::memory() {
    if (auto* segment = std::get_if<lanepool::RemoteSegment>(&connection)) return *segment;
    if (auto* bar = std::get_if<DeviceBar>(&connection)) return *bar;
    return std::get<DeviceMemory>(connection);
}

void RemoteSegment::lose() {
    if (lost.exchange(true)) return;
    events.put({SCI_CB_LOST, node}); // its callback may remove this
}

Outcome<MappedRange*> RemoteSegment::whole() {
    std::lock_guard lock(mutex_);
    if (lost) return failed(SCI_ERR_NOT_CONNECTED);
    if (!whole_) whole_.emplace(SCI_TAKE(outcome_of(memory().map())));
    return &*whole_;
}

} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCIConnectSegment(sci_desc_t sd, sci_remote_segment_t* segment, unsigned int nodeId,
                                  unsigned int segmentId, unsigned int localAdapterNo,
                                  sci_cb_remote_segment_t callback, void* callbackArg, unsigned int timeout,
                                  unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        if (!segment) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *segment = nullptr;
        SCI_TAKE(
            check_flags(flags, SCI_FLAG_USE_CALLBACK, SCI_FLAG_BROADCAST | SCI_FLAG_ASYNCHRONOUS_CONNECT));
        auto made = std::make_shared<RemoteSegment>();
        made->descriptor = SCI_TAKE(Library::get().hold(sd));
        SCI_TAKE(check_adapter(localAdapterNo));
        if (flags & SCI_FLAG_USE_CALLBACK && !callback) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        SCI_TAKE(check_node(*session, nodeId));
        made->id = segmentId;
        made->node = nodeId;
        return Library::get().make(segment, [&](sci_remote_segment_t handle) -> Outcome<> {
            if (flags & SCI_FLAG_USE_CALLBACK)
                made->events.set_callback([=](const SegmentEvent& event) {
                    return callback(callbackArg, handle, event.reason, SCI_ERR_OK);
                });
            lanepool::RemoteSegmentOptions options;
            options.on_lost = [connected = made.get()](const lanepool::Error&) { connected->lose(); };
            made->connection = SCI_TAKE(outcome_of(
                lanepool::RemoteSegment::connect(*session, nodeId, segmentId, connect_timeout_of(timeout),
                                                 std::move(options)),
                {.permission_denied = SCI_ERR_CONNECTION_REFUSED, .disconnected = SCI_ERR_NO_LINK_ACCESS}));
            return Library::get().add(handle, made);
        });
    });
}
SISCI_NAMES(SCIConnectSegment)

extern "C" void SCIDisconnectSegment(sci_remote_segment_t segment, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(segment));
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().remove(segment, [](RemoteSegment& removed) -> Outcome<> {
            SCI_TAKE(unless_gone(removed.memory().disconnect()));
            removed.descriptor.reset();
            removed.device.reset();
            return {};
        });
    });
}
SISCI_NAMES(SCIDisconnectSegment)

extern "C" size_t SCIGetRemoteSegmentSize(sci_remote_segment_t segment) {
    auto found = Library::get().find(segment);
    return found ? (*found)->memory().size_bytes() : 0;
}
SISCI_NAMES(SCIGetRemoteSegmentSize)

extern "C" unsigned int SCIGetRemoteSegmentId(sci_remote_segment_t segment) {
    auto found = Library::get().find(segment);
    return found ? (*found)->id : 0;
}
SISCI_NAMES(SCIGetRemoteSegmentId)

extern "C" unsigned int SCIGetRemoteSegmentNodeId(sci_remote_segment_t segment) {
    auto found = Library::get().find(segment);
    return found ? (*found)->node : 0;
}
SISCI_NAMES(SCIGetRemoteSegmentNodeId)

extern "C" sci_segment_cb_reason_t SCIWaitForRemoteSegmentEvent(sci_remote_segment_t segment,
                                                                sci_error_t* status, unsigned int timeout,
                                                                unsigned int flags, sci_error_t* error) {
    SegmentEvent event{};
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().find(segment));
        SCI_TAKE(check_flags(flags, 0));
        event = SCI_TAKE(found->events.wait(timeout_of(timeout)));
        if (status) *status = SCI_ERR_OK;
        return {};
    });
    return event.reason;
}
SISCI_NAMES(SCIWaitForRemoteSegmentEvent)
