// SPDX-License-Identifier: Apache-2.0
//
// What a borrowed device reaches.
#include "sisci/pages.h"
#include "sisci/smartio.h"

namespace lanepool::sisci {
namespace {

Outcome<DeviceMapOptions> options_of(size_t segment_size, size_t offset, size_t size) {
    if (size == 0) return failed(SCI_ERR_SIZE_ALIGNMENT);
    if (offset % page_size() != 0) return failed(SCI_ERR_OFFSET_ALIGNMENT);
    if (offset > segment_size || size > segment_size - offset) return failed(SCI_ERR_OUT_OF_RANGE);
    // Its memory is whole pages, and so is what a device reaches.
    return DeviceMapOptions{.offset_bytes = offset, .size_bytes = SCI_TAKE(whole_pages(size))};
}

// Maps MEMORY, which is SEGMENT's, for DEVICE, and notes it in REACHED.
template <class Of, class Memory>
Outcome<sci_ioaddr_t> map(SmartDevice& device, std::map<const Object*, SmartDevice::Reached<Of>>& reached,
                          Hold<Of> segment, const Memory& memory, const DeviceMapOptions& options) {
    SCI_TAKE(device.check_alive());
    std::lock_guard lock(device.mutex);
    const Object* key = segment.get();
    if (reached.contains(key)) return failed(SCI_ERR_BUSY);
    auto mapped = device.device->map(memory, options);
    if (!mapped && mapped.error().code() == Errc::no_space) return failed(SCI_ERR_HW_NOSPC);
    auto mapping = SCI_TAKE(outcome_of(std::move(mapped)));
    sci_ioaddr_t address = mapping.address();
    reached.emplace(key, SmartDevice::Reached<Of>{std::move(segment), std::move(mapping)});
    return address;
}

template <class Of>
Outcome<> unmap(SmartDevice& device, std::map<const Object*, SmartDevice::Reached<Of>>& reached,
                const Object* segment) {
    std::lock_guard lock(device.mutex);
    auto found = reached.find(segment);
    if (found == reached.end()) return failed(SCI_ERR_ILLEGAL_OPERATION);
    SCI_TAKE(unless_gone(found->second.mapping.unmap()));
    reached.erase(found);
    return {};
}

} // namespace
} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCIMapLocalSegmentForDevice(sci_local_segment_t segment, unsigned int localAdapterNo,
                                            sci_smartio_device_t device, sci_ioaddr_t* ioaddr, size_t offset,
                                            size_t size, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto local = SCI_TAKE(Library::get().hold(segment));
        auto found = SCI_TAKE(Library::get().hold(device));
        if (!ioaddr) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        SCI_TAKE(check_flags(flags, 0));
        SCI_TAKE(check_adapter(localAdapterNo));
        {
            std::lock_guard lock(local->mutex);
            if (!local->prepared) return failed(SCI_ERR_SEGMENT_NOT_PREPARED);
            if (!local->available && !local->is_private) return failed(SCI_ERR_ILLEGAL_OPERATION);
        }
        auto options = SCI_TAKE(options_of(local->size, offset, size));
        const lanepool::Segment& memory = *local->segment;
        *ioaddr = SCI_TAKE(map(*found, found->local, std::move(local), memory, options));
        return {};
    });
}
SISCI_NAMES(SCIMapLocalSegmentForDevice)

extern "C" void SCIUnmapLocalSegmentForDevice(sci_local_segment_t segment, unsigned int localAdapterNo,
                                              sci_smartio_device_t device, unsigned int flags,
                                              sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto local = SCI_TAKE(Library::get().find(segment));
        auto found = SCI_TAKE(Library::get().hold(device));
        SCI_TAKE(check_flags(flags, 0));
        SCI_TAKE(check_adapter(localAdapterNo));
        return unmap(*found, found->local, local.get());
    });
}
SISCI_NAMES(SCIUnmapLocalSegmentForDevice)

extern "C" void SCIMapRemoteSegmentForDevice(sci_remote_segment_t segment, sci_smartio_device_t device,
                                             sci_ioaddr_t* ioaddr, size_t offset, size_t size,
                                             unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto remote = SCI_TAKE(Library::get().hold(segment));
        auto found = SCI_TAKE(Library::get().hold(device));
        if (!ioaddr) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        SCI_TAKE(check_flags(flags, 0));
        if (remote->lost) return failed(SCI_ERR_NOT_CONNECTED);
        auto options = SCI_TAKE(options_of(remote->memory().size_bytes(), offset, size));
        const lanepool::RemoteMemory& memory = remote->memory();
        *ioaddr = SCI_TAKE(map(*found, found->remote, std::move(remote), memory, options));
        return {};
    });
}
SISCI_NAMES(SCIMapRemoteSegmentForDevice)

extern "C" void SCIUnmapRemoteSegmentForDevice(sci_remote_segment_t segment, sci_smartio_device_t device,
                                               unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto remote = SCI_TAKE(Library::get().find(segment));
        auto found = SCI_TAKE(Library::get().hold(device));
        SCI_TAKE(check_flags(flags, 0));
        return unmap(*found, found->remote, remote.get());
    });
}
SISCI_NAMES(SCIUnmapRemoteSegmentForDevice)
