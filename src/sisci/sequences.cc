// SPDX-License-Identifier: Apache-2.0
//
// Whether what was written has arrived. Stores to mapped memory do, in order, unless the connection is lost.
#include "sisci/maps.h"

#include <atomic>

namespace lanepool::sisci {
namespace {

void order_stores() { std::atomic_thread_fence(std::memory_order_seq_cst); }

sci_sequence_status_t status_of(const Sequence& sequence) {
    return sequence.map->lost() ? SCI_SEQ_NOT_RETRIABLE : SCI_SEQ_OK;
}

} // namespace
} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCICreateMapSequence(sci_map_t map, sci_sequence_t* sequence, unsigned int flags,
                                     sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        if (!sequence) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *sequence = nullptr;
        auto made = std::make_shared<Sequence>();
        made->map = SCI_TAKE(Library::get().hold(map));
        SCI_TAKE(check_flags(flags, SCI_FLAG_FAST_BARRIER));
        return Library::get().make(sequence,
                                   [&](sci_sequence_t handle) { return Library::get().add(handle, made); });
    });
}
SISCI_NAMES(SCICreateMapSequence)

extern "C" void SCIRemoveSequence(sci_sequence_t sequence, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(sequence));
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().remove(sequence, [](Sequence& removed) -> Outcome<> {
            removed.map.reset();
            return {};
        });
    });
}
SISCI_NAMES(SCIRemoveSequence)

extern "C" sci_sequence_status_t SCIStartSequence(sci_sequence_t sequence, unsigned int flags,
                                                  sci_error_t* error) {
    sci_sequence_status_t status = SCI_SEQ_NOT_RETRIABLE;
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().hold(sequence));
        SCI_TAKE(check_flags(flags, 0));
        status = status_of(*found);
        return {};
    });
    return status;
}
SISCI_NAMES(SCIStartSequence)

extern "C" sci_sequence_status_t SCICheckSequence(sci_sequence_t sequence, unsigned int flags,
                                                  sci_error_t* error) {
    sci_sequence_status_t status = SCI_SEQ_NOT_RETRIABLE;
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().hold(sequence));
        SCI_TAKE(check_flags(flags, SCI_FLAG_NO_FLUSH | SCI_FLAG_NO_STORE_BARRIER));
        if (!(flags & SCI_FLAG_NO_STORE_BARRIER)) order_stores();
        status = status_of(*found);
        return {};
    });
    return status;
}
SISCI_NAMES(SCICheckSequence)

extern "C" void SCIStoreBarrier(sci_sequence_t, unsigned int) { order_stores(); }
SISCI_NAMES(SCIStoreBarrier)

extern "C" void SCIFlush(sci_sequence_t, unsigned int) { order_stores(); }
SISCI_NAMES(SCIFlush)

extern "C" void SCIFlushReadBuffers(sci_sequence_t) { order_stores(); }
SISCI_NAMES(SCIFlushReadBuffers)

extern "C" void SCICacheSync(sci_map_t map, void* addr, size_t, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        if (map) SCI_TAKE(Library::get().find(map));
        SCI_TAKE(check_flags(flags, SCI_FLAG_CACHE_FLUSH | SCI_FLAG_CACHE_INVALIDATE));
        if (!addr) return failed(SCI_ERR_ILLEGAL_ADDRESS);
        order_stores();
        return {};
    });
}
SISCI_NAMES(SCICacheSync)
