// SPDX-License-Identifier: Apache-2.0
//
// DMA queues as the API has them.
#include "sisci/dma.h"

#include <cstdint>

namespace lanepool::sisci {
namespace {

constexpr unsigned engine_flags =
    SCI_FLAG_DMA_GLOBAL | SCI_FLAG_DMA_SYSDMA | SCI_FLAG_DMA_ADAPTER | SCI_FLAG_DMA_USER_MEM;
constexpr unsigned start_flags = SCI_FLAG_USE_CALLBACK | SCI_FLAG_DMA_WAIT | SCI_FLAG_DMA_READ | engine_flags;
constexpr unsigned flags_not_implemented = SCI_FLAG_DMA_PHDMA | SCI_FLAG_ALLOW_UNICAST | SCI_FLAG_BROADCAST;

constexpr unsigned max_queue_entries = 1 << 16;

Outcome<> check_range(size_t segment_size, size_t offset, size_t size) {
    if (size == 0) return failed(SCI_ERR_SIZE_ALIGNMENT);
    if (offset > segment_size || size > segment_size - offset) return failed(SCI_ERR_OUT_OF_RANGE);
    return {};
}

// The bytes of a remote segment.
Outcome<std::byte*> remote_bytes(RemoteSegment& segment, size_t offset, size_t size) {
    if (segment.lost) return failed(SCI_ERR_SEGMENT_NOT_CONNECTED);
    SCI_TAKE(check_range(segment.memory().size_bytes(), offset, size));
    auto whole = segment.whole();
    if (!whole && whole.error() == SCI_ERR_NOT_CONNECTED) return failed(SCI_ERR_SEGMENT_NOT_CONNECTED);
    return SCI_TAKE(std::move(whole))->data() + offset;
}

Outcome<std::byte*> local_bytes(LocalSegment& segment, size_t offset, size_t size) {
    if (!segment.is_prepared()) return failed(SCI_ERR_SEGMENT_NOT_PREPARED);
    SCI_TAKE(check_range(segment.size, offset, size));
    return segment.segment->bytes().data() + offset;
}

DmaBatch::Part part(std::byte* local, std::byte* remote, size_t size, unsigned flags) {
    if (flags & SCI_FLAG_DMA_READ) return {local, remote, size};
    return {remote, local, size};
}

Outcome<DmaBatch> batch_of(sci_local_segment_t local_handle, sci_remote_segment_t remote_handle,
                           const dis_dma_vec_t* vector, size_t length, unsigned flags) {
    DmaBatch batch;
    batch.local.push_back(SCI_TAKE(Library::get().hold(local_handle)));
    batch.remote.push_back(SCI_TAKE(Library::get().hold(remote_handle)));
    SCI_TAKE(check_flags(flags, start_flags, flags_not_implemented));
    for (size_t i = 0; i < length; ++i) {
        const auto& entry = vector[i];
        SCI_TAKE(check_flags(entry.flags, 0));
        auto* local = SCI_TAKE(local_bytes(*batch.local[0], entry.local_offset, entry.size));
        auto* remote = SCI_TAKE(remote_bytes(*batch.remote[0], entry.remote_offset, entry.size));
        batch.parts.push_back(part(local, remote, entry.size, flags));
    }
    return batch;
}

Outcome<std::function<void(sci_error_t)>> callback_of(sci_dma_queue_t handle, sci_cb_dma_t callback,
                                                      void* arg, unsigned flags) {
    if (!(flags & SCI_FLAG_USE_CALLBACK)) return nullptr;
    if (!callback) return failed(SCI_ERR_ILLEGAL_PARAMETER);
    return [=](sci_error_t outcome) { callback(arg, handle, outcome); };
}

Outcome<> start(sci_dma_queue_t handle, DmaQueue& queue, DmaBatch batch, sci_cb_dma_t callback, void* arg,
                unsigned flags) {
    batch.callback = SCI_TAKE(callback_of(handle, callback, arg, flags));
    return queue.start(std::move(batch), flags & SCI_FLAG_DMA_WAIT);
}

} // namespace
} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCICreateDMAQueue(sci_desc_t sd, sci_dma_queue_t* dq, unsigned int localAdapterNo,
                                  unsigned int maxEntries, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        if (!dq) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *dq = nullptr;
        auto descriptor = SCI_TAKE(Library::get().hold(sd));
        SCI_TAKE(check_flags(flags, engine_flags, SCI_FLAG_DMA_PHDMA));
        SCI_TAKE(check_adapter(localAdapterNo));
        if (maxEntries == 0) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        if (maxEntries > max_queue_entries) return failed(SCI_ERR_API_NOSPC);
        auto made = std::make_shared<DmaQueue>(std::move(descriptor), maxEntries);
        return Library::get().make(dq,
                                   [&](sci_dma_queue_t handle) { return Library::get().add(handle, made); });
    });
}
SISCI_NAMES(SCICreateDMAQueue)

extern "C" void SCIRemoveDMAQueue(sci_dma_queue_t dq, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(dq));
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().remove(dq, [](DmaQueue& queue) -> Outcome<> {
            if (queue.state() == SCI_DMAQUEUE_POSTED) return failed(SCI_ERR_BUSY);
            return {};
        });
    });
}
SISCI_NAMES(SCIRemoveDMAQueue)

extern "C" void SCIStartDmaTransfer(sci_dma_queue_t dq, sci_local_segment_t localSegment,
                                    sci_remote_segment_t remoteSegment, size_t localOffset, size_t size,
                                    size_t remoteOffset, sci_cb_dma_t callback, void* callbackArg,
                                    unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto queue = SCI_TAKE(Library::get().find(dq));
        dis_dma_vec_t whole{
            .size = size, .local_offset = localOffset, .remote_offset = remoteOffset, .flags = 0};
        auto batch = SCI_TAKE(batch_of(localSegment, remoteSegment, &whole, 1, flags));
        return start(dq, *queue, std::move(batch), callback, callbackArg, flags);
    });
}
SISCI_NAMES(SCIStartDmaTransfer)

extern "C" void SCIStartDmaTransferMem(sci_dma_queue_t dq, void* localAddress,
                                       sci_remote_segment_t remoteSegment, size_t size, size_t remoteOffset,
                                       sci_cb_dma_t callback, void* callbackArg, unsigned int flags,
                                       sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto queue = SCI_TAKE(Library::get().find(dq));
        DmaBatch batch;
        batch.remote.push_back(SCI_TAKE(Library::get().hold(remoteSegment)));
        SCI_TAKE(check_flags(flags, start_flags, flags_not_implemented));
        if (!localAddress) return failed(SCI_ERR_ILLEGAL_ADDRESS);
        auto* remote = SCI_TAKE(remote_bytes(*batch.remote[0], remoteOffset, size));
        batch.parts.push_back(part(static_cast<std::byte*>(localAddress), remote, size, flags));
        return start(dq, *queue, std::move(batch), callback, callbackArg, flags);
    });
}
SISCI_NAMES(SCIStartDmaTransferMem)

extern "C" void SCIStartDmaTransferVec(sci_dma_queue_t dq, sci_local_segment_t localSegment,
                                       sci_remote_segment_t remoteSegment, size_t vectorLength,
                                       dis_dma_vec_t* vector, sci_cb_dma_t callback, void* callbackArg,
                                       unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto queue = SCI_TAKE(Library::get().find(dq));
        if (!vector || vectorLength == 0) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        if (vectorLength > DIS_DMA_MAX_VECLEN) return failed(SCI_ERR_OUT_OF_RANGE);
        auto batch = SCI_TAKE(batch_of(localSegment, remoteSegment, vector, vectorLength, flags));
        return start(dq, *queue, std::move(batch), callback, callbackArg, flags);
    });
}
SISCI_NAMES(SCIStartDmaTransferVec)

extern "C" sci_dma_queue_state_t SCIEnqueueDMATransfer(sci_dma_queue_t dq, sci_local_segment_t localSegment,
                                                       sci_remote_segment_t remoteSegment, size_t localOffset,
                                                       size_t remoteOffset, size_t size, unsigned int flags,
                                                       sci_error_t* error) {
    sci_dma_queue_state_t state = SCI_DMAQUEUE_ERROR;
    call(error, [&]() -> Outcome<> {
        auto queue = SCI_TAKE(Library::get().hold(dq));
        state = queue->state();
        SCI_TAKE(check_flags(flags, SCI_FLAG_DMA_READ | engine_flags, flags_not_implemented));
        dis_dma_vec_t whole{
            .size = size, .local_offset = localOffset, .remote_offset = remoteOffset, .flags = 0};
        auto batch = SCI_TAKE(batch_of(localSegment, remoteSegment, &whole, 1, flags));
        state = SCI_TAKE(queue->gather(std::move(batch)));
        return {};
    });
    return state;
}
SISCI_NAMES(SCIEnqueueDMATransfer)

extern "C" void SCIPostDMAQueue(sci_dma_queue_t dq, sci_cb_dma_t callback, void* callbackArg,
                                unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto queue = SCI_TAKE(Library::get().hold(dq));
        SCI_TAKE(check_flags(flags, SCI_FLAG_USE_CALLBACK));
        return queue->post(SCI_TAKE(callback_of(dq, callback, callbackArg, flags)));
    });
}
SISCI_NAMES(SCIPostDMAQueue)

extern "C" void SCIResetDMAQueue(sci_dma_queue_t dq, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto queue = SCI_TAKE(Library::get().hold(dq));
        SCI_TAKE(check_flags(flags, 0));
        return queue->reset();
    });
}
SISCI_NAMES(SCIResetDMAQueue)

extern "C" void SCIAbortDMAQueue(sci_dma_queue_t dq, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto queue = SCI_TAKE(Library::get().hold(dq));
        SCI_TAKE(check_flags(flags, 0));
        return queue->abort();
    });
}
SISCI_NAMES(SCIAbortDMAQueue)

extern "C" sci_dma_queue_state_t SCIWaitForDMAQueue(sci_dma_queue_t dq, unsigned int timeout,
                                                    unsigned int flags, sci_error_t* error) {
    sci_dma_queue_state_t state = SCI_DMAQUEUE_ERROR;
    call(error, [&]() -> Outcome<> {
        auto queue = SCI_TAKE(Library::get().find(dq));
        state = queue->state();
        SCI_TAKE(check_flags(flags, 0));
        state = SCI_TAKE(queue->wait(timeout_of(timeout)));
        return {};
    });
    return state;
}
SISCI_NAMES(SCIWaitForDMAQueue)

extern "C" sci_dma_queue_state_t SCIDMAQueueState(sci_dma_queue_t dq) {
    auto found = Library::get().find(dq);
    return found ? (*found)->state() : SCI_DMAQUEUE_ERROR;
}
SISCI_NAMES(SCIDMAQueueState)

extern "C" void SCIRequestDMAChannel(sci_desc_t sd, sci_dma_channel_t* channel, unsigned int localAdapterNo,
                                     sci_dma_type_t dmaType, unsigned int channelId, unsigned int flags,
                                     sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        if (!channel) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *channel = nullptr;
        auto made = std::make_shared<DmaChannel>();
        made->descriptor = SCI_TAKE(Library::get().hold(sd));
        SCI_TAKE(check_flags(flags, SCI_FLAG_DMA_CHANNEL_SHARED));
        SCI_TAKE(check_adapter(localAdapterNo));
        if (dmaType < SCI_DMA_TYPE_DONTCARE || dmaType > SCI_DMA_TYPE_TRANSPARENT)
            return failed(SCI_ERR_ILLEGAL_PARAMETER);
        // There is one: 0.
        if (channelId != SCI_DMA_CHANNEL_ID_DONTCARE && channelId != 0)
            return failed(SCI_ERR_DMA_NOT_AVAILABLE);
        return Library::get().make(
            channel, [&](sci_dma_channel_t handle) { return Library::get().add(handle, made); });
    });
}
SISCI_NAMES(SCIRequestDMAChannel)

extern "C" void SCIReturnDMAChannel(sci_dma_channel_t channel, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        return Library::get().remove(channel, [](DmaChannel&) -> Outcome<> { return {}; });
    });
}
SISCI_NAMES(SCIReturnDMAChannel)

extern "C" void SCIAssignDMAChannel(sci_dma_channel_t channel, sci_dma_queue_t dq, unsigned int flags,
                                    sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto assigned = SCI_TAKE(Library::get().hold(channel));
        auto queue = SCI_TAKE(Library::get().hold(dq));
        SCI_TAKE(check_flags(flags, 0));
        queue->assign(std::move(assigned));
        return {};
    });
}
SISCI_NAMES(SCIAssignDMAChannel)

extern "C" void SCIPrepareLocalSegmentForDMA(sci_dma_channel_t channel, sci_local_segment_t segment,
                                             unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(channel));
        SCI_TAKE(Library::get().find(segment));
        SCI_TAKE(check_flags(flags, 0));
        sci_error_t prepared = SCI_ERR_OK;
        SCIPrepareSegment(segment, 0, 0, &prepared);
        if (prepared != SCI_ERR_OK) return failed(prepared);
        return {};
    });
}
SISCI_NAMES(SCIPrepareLocalSegmentForDMA)

extern "C" void SCIPrepareRemoteSegmentForDMA(sci_dma_channel_t channel, sci_remote_segment_t segment,
                                              unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(channel));
        auto remote = SCI_TAKE(Library::get().hold(segment));
        SCI_TAKE(check_flags(flags, 0));
        auto whole = remote->whole();
        if (!whole && whole.error() == SCI_ERR_NOT_CONNECTED) return failed(SCI_ERR_SEGMENT_NOT_CONNECTED);
        SCI_TAKE(std::move(whole));
        return {};
    });
}
SISCI_NAMES(SCIPrepareRemoteSegmentForDMA)
