// SPDX-License-Identifier: Apache-2.0
//
// Copying by the processor: at once, and by a thread.
#include "sisci/maps.h"

#include "sisci/copier.h"

#include <condition_variable>
#include <cstring>

namespace lanepool::sisci {

struct BlockTransfer final : Object {
    Hold<Map> source;
    Hold<Map> destination;
    size_t source_offset = 0;
    size_t destination_offset = 0;
    size_t size = 0;

    bool has_callback = false;

    std::mutex mutex; // of what follows
    std::condition_variable changed;
    enum class State { waiting, copying, done } state = State::waiting;
    sci_error_t outcome = SCI_ERR_OK;
};
template <>
struct Named<sci_block_transfer_t> {
    using type = BlockTransfer;
};

namespace {

constexpr unsigned copy_flags = SCI_FLAG_BLOCK_READ | SCI_FLAG_ERROR_CHECK;

Outcome<> check_range(const Map& map, size_t offset, size_t size) {
    if (offset > map.range.size_bytes() || size > map.range.size_bytes() - offset)
        return failed(SCI_ERR_OUT_OF_RANGE);
    return {};
}

Outcome<> copy(const Map& map, void* memory, size_t offset, size_t size, bool read) {
    SCI_TAKE(check_range(map, offset, size));
    if (!memory && size > 0) return failed(SCI_ERR_ILLEGAL_ADDRESS);
    if (!read && !map.writable()) return failed(SCI_ERR_ILLEGAL_OPERATION);
    if (map.lost()) return failed(SCI_ERR_TRANSFER_FAILED);
    auto* bytes = static_cast<std::byte*>(memory);
    Result<> copied =
        read ? map.range.copy_from(offset, {bytes, size}) : map.range.copy_to(offset, {bytes, size});
    SCI_TAKE(outcome_of(std::move(copied)));
    // What was lost while it was written to may have led nowhere.
    if (map.lost()) return failed(SCI_ERR_TRANSFER_FAILED);
    return {};
}

Outcome<> transfer(const Map& source, size_t source_offset, const Map& destination, size_t destination_offset,
                   size_t size) {
    if (source.lost() || destination.lost()) return failed(SCI_ERR_TRANSFER_FAILED);
    std::memmove(destination.range.data() + destination_offset, source.range.data() + source_offset, size);
    if (source.lost() || destination.lost()) return failed(SCI_ERR_TRANSFER_FAILED);
    return {};
}

Outcome<> check_transfer(const Map& source, size_t source_offset, const Map& destination,
                         size_t destination_offset, size_t size) {
    SCI_TAKE(check_range(source, source_offset, size));
    SCI_TAKE(check_range(destination, destination_offset, size));
    if (!destination.writable()) return failed(SCI_ERR_ILLEGAL_OPERATION);
    return {};
}

// One thread for all block transfers of the process, one after the other.
Copier& copier() {
    static Copier& one = *new Copier;
    return one;
}

// On the copier's thread.
void run(const std::shared_ptr<BlockTransfer>& block, sci_block_transfer_t handle,
         sci_cb_block_transfer_t callback, void* callback_arg) {
    {
        std::lock_guard lock(block->mutex);
        if (block->state != BlockTransfer::State::waiting) return; // aborted
        block->state = BlockTransfer::State::copying;
    }
    Outcome<> outcome = transfer(*block->source, block->source_offset, *block->destination,
                                 block->destination_offset, block->size);
    {
        std::lock_guard lock(block->mutex);
        block->source.reset();
        block->destination.reset();
        block->outcome = outcome ? SCI_ERR_OK : outcome.error();
        block->state = BlockTransfer::State::done;
        block->changed.notify_all();
    }
    if (!callback) return;
    callback(callback_arg, handle, block->outcome);
    // Where SCITerminate() was faster, there is nothing to remove.
    (void)Library::get().remove(handle, [](BlockTransfer&) -> Outcome<> { return {}; });
}

} // namespace
} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCIMemCpy(sci_sequence_t sequence, void* memAddr, sci_map_t remoteMap, size_t remoteOffset,
                          size_t size, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto map = SCI_TAKE(Library::get().hold(remoteMap));
        if (sequence) SCI_TAKE(Library::get().find(sequence));
        SCI_TAKE(check_flags(flags, copy_flags));
        return copy(*map, memAddr, remoteOffset, size, flags & SCI_FLAG_BLOCK_READ);
    });
}
SISCI_NAMES(SCIMemCpy)

extern "C" void SCIMemCopy(void* memAddr, sci_map_t remoteMap, size_t remoteOffset, size_t size,
                           unsigned int flags, sci_error_t* error) {
    SCIMemCpy(nullptr, memAddr, remoteMap, remoteOffset, size, flags, error);
}
SISCI_NAMES(SCIMemCopy)

extern "C" void SCIMemWrite(void* memAddr, volatile void* remoteAddr, size_t size, unsigned int flags,
                            sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        SCI_TAKE(check_flags(flags, 0));
        if ((!memAddr || !remoteAddr) && size > 0) return failed(SCI_ERR_ILLEGAL_ADDRESS);
        if (size > 0) std::memcpy(const_cast<void*>(remoteAddr), memAddr, size);
        return {};
    });
}
SISCI_NAMES(SCIMemWrite)

extern "C" void SCITransferBlock(sci_map_t sourceMap, size_t sourceOffset, sci_map_t destinationMap,
                                 size_t destinationOffset, size_t size, unsigned int flags,
                                 sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto source = SCI_TAKE(Library::get().hold(sourceMap));
        auto destination = SCI_TAKE(Library::get().hold(destinationMap));
        SCI_TAKE(check_flags(flags, 0));
        SCI_TAKE(check_transfer(*source, sourceOffset, *destination, destinationOffset, size));
        return transfer(*source, sourceOffset, *destination, destinationOffset, size);
    });
}
SISCI_NAMES(SCITransferBlock)

extern "C" void SCITransferBlockAsync(sci_map_t sourceMap, size_t sourceOffset, sci_map_t destinationMap,
                                      size_t destinationOffset, size_t size, sci_block_transfer_t* block,
                                      sci_cb_block_transfer_t callback, void* callbackArg, unsigned int flags,
                                      sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        if (!block) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *block = nullptr;
        auto made = std::make_shared<BlockTransfer>();
        made->source = SCI_TAKE(Library::get().hold(sourceMap));
        made->destination = SCI_TAKE(Library::get().hold(destinationMap));
        SCI_TAKE(check_flags(flags, SCI_FLAG_USE_CALLBACK | SCI_FLAG_BLOCK_READ));
        made->has_callback = flags & SCI_FLAG_USE_CALLBACK;
        if (made->has_callback && !callback) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        SCI_TAKE(check_transfer(*made->source, sourceOffset, *made->destination, destinationOffset, size));
        made->source_offset = sourceOffset;
        made->destination_offset = destinationOffset;
        made->size = size;
        return Library::get().make(block, [&](sci_block_transfer_t handle) -> Outcome<> {
            SCI_TAKE(Library::get().add(handle, made));
            copier().add([=, called = made->has_callback ? callback : nullptr] {
                run(made, handle, called, callbackArg);
            });
            return {};
        });
    });
}
SISCI_NAMES(SCITransferBlockAsync)

extern "C" void SCIWaitForBlockTransfer(sci_block_transfer_t block, unsigned int timeout, unsigned int flags,
                                        sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().find(block));
        SCI_TAKE(check_flags(flags, 0));
        if (found->has_callback) return failed(SCI_ERR_ILLEGAL_OPERATION);
        {
            std::unique_lock lock(found->mutex);
            auto done = [&] { return found->state == BlockTransfer::State::done; };
            if (timeout == SCI_INFINITE_TIMEOUT)
                found->changed.wait(lock, done);
            else if (!found->changed.wait_for(lock, timeout_of(timeout), done))
                return failed(SCI_ERR_TIMEOUT);
        }
        SCI_TAKE(Library::get().remove(block, [](BlockTransfer&) -> Outcome<> { return {}; }));
        if (found->outcome != SCI_ERR_OK) return failed(found->outcome);
        return {};
    });
}
SISCI_NAMES(SCIWaitForBlockTransfer)

extern "C" void SCIAbortBlockTransfer(sci_block_transfer_t block, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().find(block));
        SCI_TAKE(check_flags(flags, 0));
        {
            std::lock_guard lock(found->mutex);
            if (found->state != BlockTransfer::State::waiting) return failed(SCI_ERR_ILLEGAL_OPERATION);
            found->state = BlockTransfer::State::done;
            found->outcome = SCI_ERR_CANCELLED;
            found->source.reset();
            found->destination.reset();
            found->changed.notify_all();
        }
        // Who waits for it takes the handle; with a callback nobody does.
        if (!found->has_callback) return {};
        return Library::get().remove(block, [](BlockTransfer&) -> Outcome<> { return {}; });
    });
}
SISCI_NAMES(SCIAbortBlockTransfer)
