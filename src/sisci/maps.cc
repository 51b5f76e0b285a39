// SPDX-License-Identifier: Apache-2.0
//
// Mapping segments into this process.
#include "sisci/maps.h"

#include "sisci/pages.h"

namespace lanepool::sisci {
namespace {

constexpr unsigned map_flags = SCI_FLAG_FIXED_MAP_ADDR | SCI_FLAG_READONLY_MAP | SCI_FLAG_IO_MAP_IOSPACE |
                               SCI_FLAG_SHARED_MAP | SCI_FLAG_NO_MEMORY_LOOPBACK |
                               SCI_FLAG_WRITE_BACK_CACHE_MAP;
constexpr unsigned map_flags_not_implemented =
    SCI_FLAG_LOCK_OPERATION | SCI_FLAG_CONDITIONAL_INTERRUPT_MAP | SCI_FLAG_UNCONDITIONAL_DATA_INTERRUPT_MAP;
// Any processor can load and store from here on in one go.
constexpr size_t offset_alignment = 4;

Outcome<MapOptions> options_of(size_t segment_size, size_t offset, size_t size, void* addr, unsigned flags) {
    if (size == 0) return failed(SCI_ERR_SIZE_ALIGNMENT);
    if (offset % offset_alignment != 0) return failed(SCI_ERR_OFFSET_ALIGNMENT);
    if (offset > segment_size || size > segment_size - offset) return failed(SCI_ERR_OUT_OF_RANGE);
    MapOptions options{.offset_bytes = offset, .size_bytes = size};
    if (flags & SCI_FLAG_READONLY_MAP) options.access = Access::read_only;
    if (flags & SCI_FLAG_FIXED_MAP_ADDR) {
        if (!addr || reinterpret_cast<uintptr_t>(addr) % page_size() != offset % page_size())
            return failed(SCI_ERR_ILLEGAL_ADDRESS);
        options.address = addr;
    }
    return options;
}

} // namespace
} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void* SCIMapLocalSegment(sci_local_segment_t segment, sci_map_t* map, size_t offset, size_t size,
                                    void* addr, unsigned int flags, sci_error_t* error) {
    void* mapped = nullptr;
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        if (!map) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *map = nullptr;
        auto made = std::make_shared<Map>();
        made->local = SCI_TAKE(Library::get().hold(segment));
        SCI_TAKE(check_flags(flags, map_flags, map_flags_not_implemented));
        auto options = SCI_TAKE(options_of(made->local->size, offset, size, addr, flags));
        made->range = SCI_TAKE(
            outcome_of(made->local->segment->map(options), {.already_exists = SCI_ERR_ILLEGAL_ADDRESS}));
        return Library::get().make(map, [&](sci_map_t handle) -> Outcome<> {
            SCI_TAKE(Library::get().add(handle, made));
            mapped = made->range.data();
            return {};
        });
    });
    return mapped;
}
SISCI_NAMES(SCIMapLocalSegment)

extern "C" volatile void* SCIMapRemoteSegment(sci_remote_segment_t segment, sci_map_t* map, size_t offset,
                                              size_t size, void* addr, unsigned int flags,
                                              sci_error_t* error) {
    volatile void* mapped = nullptr;
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        if (!map) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *map = nullptr;
        auto made = std::make_shared<Map>();
        made->remote = SCI_TAKE(Library::get().hold(segment));
        SCI_TAKE(check_flags(flags, map_flags, map_flags_not_implemented));
        auto options = SCI_TAKE(options_of(made->remote->memory().size_bytes(), offset, size, addr, flags));
        if (made->remote->lost) return failed(SCI_ERR_NOT_CONNECTED);
        made->range = SCI_TAKE(
            outcome_of(made->remote->memory().map(options), {.already_exists = SCI_ERR_ILLEGAL_ADDRESS}));
        return Library::get().make(map, [&](sci_map_t handle) -> Outcome<> {
            SCI_TAKE(Library::get().add(handle, made));
            mapped = made->range.data();
            return {};
        });
    });
    return mapped;
}
SISCI_NAMES(SCIMapRemoteSegment)

extern "C" void SCIUnmapSegment(sci_map_t map, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(map));
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().remove(map, [](Map& removed) -> Outcome<> {
            removed.range.reset();
            removed.local.reset();
            removed.remote.reset();
            return {};
        });
    });
}
SISCI_NAMES(SCIUnmapSegment)
