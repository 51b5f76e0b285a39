// SPDX-License-Identifier: Apache-2.0
//
// Segments of this process.
#include "sisci/pages.h"
#include "sisci/segments.h"

namespace lanepool::sisci {
namespace {

constexpr unsigned create_flags =
    SCI_FLAG_USE_CALLBACK | SCI_FLAG_EMPTY | SCI_FLAG_PRIVATE | SCI_FLAG_AUTO_ID | SCI_FLAG_DMA_GLOBAL;

SegmentOptions options_of(LocalSegment& segment, bool empty) {
    SegmentOptions options;
    options.size_bytes = segment.size;
    if (!segment.is_private) options.id = segment.id;
    options.is_private = segment.is_private;
    options.empty = empty;
    options.on_connected = [events = segment.events](uint32_t node) { events.put({SCI_CB_CONNECT, node}); };
    options.on_disconnected = [events = segment.events](uint32_t node) {
        events.put({SCI_CB_DISCONNECT, node});
    };
    options.on_lost = [events = segment.events](const Error&) { events.put({SCI_CB_LOST}); };
    return options;
}

Outcome<> create(const std::shared_ptr<LocalSegment>& segment, Session& session, unsigned flags) {
    bool empty = flags & SCI_FLAG_EMPTY;
    auto created = Segment::create(session, options_of(*segment, empty));
    if (!created && created.error().code() == Errc::already_exists && flags & SCI_FLAG_AUTO_ID) {
        SegmentOptions options = options_of(*segment, empty);
        options.id.reset();
        created = Segment::create(session, std::move(options));
    }
    // An argument that cannot be is a size that no host has.
    if (!created)
        return failed(code_of(created.error(),
                              {.disconnected = SCI_ERR_NO_LINK_ACCESS, .invalid_argument = SCI_ERR_NOSPC}));
    segment->segment.emplace(std::move(*created));
    segment->id = segment->segment->id();
    segment->has_memory = !empty;
    return {};
}

Outcome<> set_available(LocalSegment& segment, bool available) {
    if (segment.is_private) return failed(SCI_ERR_ILLEGAL_OPERATION);
    std::lock_guard lock(segment.mutex);
    if (available && !segment.prepared) return failed(SCI_ERR_SEGMENT_NOT_PREPARED);
    if (segment.available == available) return {};
    SCI_TAKE(outcome_of(segment.segment->set_available(available), {.disconnected = SCI_ERR_NO_LINK_ACCESS}));
    segment.available = available;
    return {};
}

} // namespace
} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCICreateSegment(sci_desc_t sd, sci_local_segment_t* segment, unsigned int segmentId,
                                 size_t size, sci_cb_local_segment_t callback, void* callbackArg,
                                 unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        if (!segment) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *segment = nullptr;
        SCI_TAKE(check_flags(flags, create_flags, SCI_FLAG_BROADCAST | SCI_FLAG_ALLOW_UNICAST));
        auto made = std::make_shared<LocalSegment>();
        made->descriptor = SCI_TAKE(Library::get().hold(sd));
        if (flags & SCI_FLAG_USE_CALLBACK && !callback) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        if (size == 0) return failed(SCI_ERR_SIZE_ALIGNMENT);
        made->id = segmentId;
        made->size = size;
        made->is_private = flags & SCI_FLAG_PRIVATE;
        return Library::get().make(segment, [&](sci_local_segment_t handle) -> Outcome<> {
            if (flags & SCI_FLAG_USE_CALLBACK)
                made->events.set_callback([=](const SegmentEvent& event) {
                    return callback(callbackArg, handle, event.reason, event.node, 0, SCI_ERR_OK);
                });
            SCI_TAKE(create(made, *session, flags));
            return Library::get().add(handle, made);
        });
    });
}
SISCI_NAMES(SCICreateSegment)

extern "C" void SCIRemoveSegment(sci_local_segment_t segment, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(segment));
        SCI_TAKE(check_flags(flags, 0, SCI_FLAG_FORCE_REMOVE));
        return Library::get().remove(segment, [](LocalSegment& removed) -> Outcome<> {
            SCI_TAKE(unless_gone(removed.segment->remove()));
            removed.descriptor.reset();
            return {};
        });
    });
}
SISCI_NAMES(SCIRemoveSegment)

extern "C" void SCIRegisterSegmentMemory(void* address, size_t size, sci_local_segment_t segment,
                                         unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().hold(segment));
        SCI_TAKE(check_flags(flags, SCI_FLAG_LOCK_USER_MEM));
        std::lock_guard lock(found->mutex);
        if (found->has_memory) return failed(SCI_ERR_ILLEGAL_OPERATION);
        if (!address || reinterpret_cast<uintptr_t>(address) % page_size() != 0)
            return failed(SCI_ERR_ILLEGAL_ADDRESS);
        if (size == 0 || size % page_size() != 0) return failed(SCI_ERR_SIZE_ALIGNMENT);
        if (size != SCI_TAKE(whole_pages(found->size))) return failed(SCI_ERR_OUT_OF_RANGE);
        auto attached = found->segment->attach({static_cast<std::byte*>(address), size});
        // Here, out of range is what is not memory of the process's.
        if (!attached && attached.error().code() == lanepool::Errc::out_of_range)
            return failed(SCI_ERR_ILLEGAL_ADDRESS);
        SCI_TAKE(outcome_of(std::move(attached), {.already_exists = SCI_ERR_ILLEGAL_ADDRESS,
                                                  .disconnected = SCI_ERR_NO_LINK_ACCESS}));
        found->has_memory = true;
        return {};
    });
}
SISCI_NAMES(SCIRegisterSegmentMemory)

extern "C" void SCIAttachPhysicalMemory(sci_ioaddr_t, void*, unsigned int, size_t,
                                        sci_local_segment_t segment, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(segment));
        SCI_TAKE(check_flags(flags, 0, SCI_FLAG_CUDA_BUFFER | SCI_FLAG_SCIF_BUFFER | SCI_FLAG_PHYSICAL));
        return failed(SCI_ERR_NOT_SUPPORTED);
    });
}
SISCI_NAMES(SCIAttachPhysicalMemory)

extern "C" void SCIPrepareSegment(sci_local_segment_t segment, unsigned int localAdapterNo,
                                  unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().hold(segment));
        SCI_TAKE(check_flags(flags, SCI_FLAG_DMA_SOURCE_ONLY));
        SCI_TAKE(check_adapter(localAdapterNo));
        std::lock_guard lock(found->mutex);
        if (!found->has_memory) return failed(SCI_ERR_ILLEGAL_OPERATION);
        found->prepared = true;
        return {};
    });
}
SISCI_NAMES(SCIPrepareSegment)

extern "C" void SCISetSegmentAvailable(sci_local_segment_t segment, unsigned int localAdapterNo,
                                       unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().hold(segment));
        SCI_TAKE(check_flags(flags, 0));
        SCI_TAKE(check_adapter(localAdapterNo));
        return set_available(*found, true);
    });
}
SISCI_NAMES(SCISetSegmentAvailable)

extern "C" void SCISetSegmentUnavailable(sci_local_segment_t segment, unsigned int localAdapterNo,
                                         unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().hold(segment));
        SCI_TAKE(check_flags(flags, 0, SCI_FLAG_FORCE_DISCONNECT | SCI_FLAG_NOTIFY));
        SCI_TAKE(check_adapter(localAdapterNo));
        return set_available(*found, false);
    });
}
SISCI_NAMES(SCISetSegmentUnavailable)

extern "C" void SCIShareSegment(sci_local_segment_t segment, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(segment));
        SCI_TAKE(check_flags(flags, 0));
        return failed(SCI_ERR_NOT_SUPPORTED);
    });
}
SISCI_NAMES(SCIShareSegment)

extern "C" void SCIAttachLocalSegment(sci_desc_t sd, sci_local_segment_t* segment, unsigned int, size_t*,
                                      sci_cb_local_segment_t, void*, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        if (!segment) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *segment = nullptr;
        SCI_TAKE(Library::get().find(sd));
        SCI_TAKE(check_flags(flags, SCI_FLAG_USE_CALLBACK, SCI_FLAG_BROADCAST));
        return failed(SCI_ERR_NOT_SUPPORTED);
    });
}
SISCI_NAMES(SCIAttachLocalSegment)

extern "C" unsigned int SCIGetLocalSegmentId(sci_local_segment_t segment) {
    auto found = Library::get().find(segment);
    return found ? (*found)->id : 0;
}
SISCI_NAMES(SCIGetLocalSegmentId)

extern "C" size_t SCIGetLocalSegmentSize(sci_local_segment_t segment) {
    auto found = Library::get().find(segment);
    return found ? (*found)->size : 0;
}
SISCI_NAMES(SCIGetLocalSegmentSize)

extern "C" sci_segment_cb_reason_t SCIWaitForLocalSegmentEvent(sci_local_segment_t segment,
                                                               unsigned int* sourcenodeId,
                                                               unsigned int* localAdapterNo,
                                                               unsigned int timeout, unsigned int flags,
                                                               sci_error_t* error) {
    SegmentEvent event{};
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().find(segment));
        SCI_TAKE(check_flags(flags, 0));
        event = SCI_TAKE(found->events.wait(timeout_of(timeout)));
        if (sourcenodeId) *sourcenodeId = event.node;
        if (localAdapterNo) *localAdapterNo = 0;
        return {};
    });
    return event.reason;
}
SISCI_NAMES(SCIWaitForLocalSegmentEvent)
