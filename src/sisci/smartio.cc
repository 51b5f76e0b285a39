// SPDX-License-Identifier: Apache-2.0
//
// Devices of the pool: finding, borrowing, connecting to their memory. What a device reaches: device_maps.cc.
#include "sisci/smartio.h"

#include "sisci/pages.h"

#include <algorithm>
#include <cstring>

namespace lanepool::sisci {
namespace {

// How long a device may take to be prepared for the loan: a reset may come first.
constexpr std::chrono::seconds borrow_timeout{30};

constexpr Meaning borrow_meaning{.not_found = SCI_ERR_NO_SUCH_FDID,
                                 .busy = SCI_ERR_NOT_AVAILABLE,
                                 .unavailable = SCI_ERR_NOT_AVAILABLE,
                                 .disconnected = SCI_ERR_NO_LINK_ACCESS};

void put_text(char* room, size_t size, const std::string& text) {
    size_t length = std::min(text.size(), size - 1);
    std::memcpy(room, text.data(), length);
    room[length] = 0;
}

template <class T>
bool fits(T wanted, T is) {
    return wanted == 0 || wanted == is;
}

bool fits(const sci_smartio_device_info_t& filter, const sci_smartio_device_info_t& device) {
    auto same_text = [](const char* wanted, size_t size, const char* is) {
        return wanted[0] == 0 || std::strncmp(wanted, is, size) == 0;
    };
    return fits(filter.fdid, device.fdid) && fits(filter.pci_device_id, device.pci_device_id) &&
           fits(filter.pci_vendor_id, device.pci_vendor_id) && fits(filter.pci_class, device.pci_class) &&
           fits(filter.pci_subsystem_device_id, device.pci_subsystem_device_id) &&
           fits(filter.pci_subsystem_vendor_id, device.pci_subsystem_vendor_id) &&
           fits(filter.pci_serial_number, device.pci_serial_number) &&
           fits(filter.remote_bdf, device.remote_bdf) && fits(filter.local_bdf, device.local_bdf) &&
           fits(filter.adapter, device.adapter) && fits(filter.nodeid, device.nodeid) &&
           fits(filter.physical_slot, device.physical_slot) &&
           same_text(filter.user_name, sizeof filter.user_name, device.user_name) &&
           same_text(filter.uuid, sizeof filter.uuid, device.uuid);
}

Outcome<DeviceMemoryScope> scope_of(unsigned memtype) {
    if (memtype == SCI_MEMTYPE_PRIVATE) return DeviceMemoryScope::loan;
    if (memtype == SCI_MEMTYPE_SHARED) return DeviceMemoryScope::all;
    return failed(SCI_ERR_ILLEGAL_PARAMETER);
}

Outcome<> connect(RemoteSegment& segment, unsigned id, unsigned memtype) {
    Device& device = *segment.device->device;
    if (memtype == SCI_MEMTYPE_BAR) {
        auto bar = device.bar(id);
        // There are six.
        if (!bar && bar.error().code() == Errc::out_of_range) return failed(SCI_ERR_NO_SUCH_SEGMENT);
        segment.connection = SCI_TAKE(outcome_of(std::move(bar)));
        return {};
    }
    auto scope = SCI_TAKE(scope_of(memtype));
    segment.connection = SCI_TAKE(outcome_of(device.connect_memory(id, scope)));
    return {};
}

} // namespace

void SmartDevice::lose() {
    std::vector<std::weak_ptr<RemoteSegment>> told;
    {
        std::lock_guard lock(mutex);
        lost = true;
        told.swap(connections);
    }
    for (auto& connection : told)
        if (auto segment = connection.lock()) segment->lose();
}

Outcome<> SmartDevice::check_alive() const {
    if (lost) return failed(SCI_ERR_NOT_CONNECTED);
    return {};
}

Outcome<> SmartDevice::add_connection(const std::shared_ptr<RemoteSegment>& connection) {
    std::lock_guard lock(mutex);
    SCI_TAKE(check_alive());
    std::erase_if(connections, [](const auto& old) { return old.expired(); });
    connections.push_back(connection);
    return {};
}

sci_smartio_device_info_t info_of(const DeviceInfo& device) {
    sci_smartio_device_info_t info{};
    info.fdid = device.fdid;
    info.pci_device_id = device.device_id;
    info.pci_vendor_id = device.vendor_id;
    info.pci_class = device.class_code;
    info.nodeid = device.node;
    info.physical_slot = -1;
    put_text(info.user_name, sizeof info.user_name, device.name);
    return info;
}

} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" size_t SCIGetDeviceList(sci_desc_t sd, uint32_t* fdids, size_t max,
                                   sci_smartio_device_info_t* filter, unsigned int flags,
                                   sci_error_t* error) {
    size_t count = 0;
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        SCI_TAKE(Library::get().find(sd));
        SCI_TAKE(check_flags(flags, 0));
        if (!fdids && max > 0) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        auto devices = SCI_TAKE(outcome_of(lanepool::Device::list(*session), borrow_meaning));
        for (const auto& device : devices) {
            if (count == max) break;
            if (device.fdid > UINT32_MAX || (filter && !fits(*filter, info_of(device)))) continue;
            fdids[count++] = static_cast<uint32_t>(device.fdid);
        }
        return {};
    });
    return count;
}
SISCI_NAMES(SCIGetDeviceList)

extern "C" void SCIBorrowDevice(sci_desc_t sd, sci_smartio_device_t* device, uint32_t fdid,
                                unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        if (!device) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *device = nullptr;
        SCI_TAKE(check_flags(flags, SCI_FLAG_EXCLUSIVE));
        auto made = std::make_shared<SmartDevice>();
        made->descriptor = SCI_TAKE(Library::get().hold(sd));
        auto sharing = flags & SCI_FLAG_EXCLUSIVE ? lanepool::Sharing::exclusive : lanepool::Sharing::shared;
        lanepool::BorrowOptions options;
        options.on_lost = [borrowed = made.get()](const lanepool::Error&) { borrowed->lose(); };
        made->device.emplace(SCI_TAKE(
            outcome_of(lanepool::Device::borrow(*session, fdid, sharing, borrow_timeout, std::move(options)),
                       borrow_meaning)));
        return Library::get().make(
            device, [&](sci_smartio_device_t handle) { return Library::get().add(handle, made); });
    });
}
SISCI_NAMES(SCIBorrowDevice)

extern "C" void SCIReturnDevice(sci_smartio_device_t device, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(device));
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().remove(device, [](SmartDevice& returned) -> Outcome<> {
            {
                std::lock_guard lock(returned.mutex);
                if (!returned.local.empty() || !returned.remote.empty()) return failed(SCI_ERR_BUSY);
            }
            return unless_gone(returned.device->give_back());
        });
    });
}
SISCI_NAMES(SCIReturnDevice)

extern "C" uint32_t SCIGetFabricDeviceId(sci_smartio_device_t device) {
    auto found = Library::get().find(device);
    return found ? static_cast<uint32_t>((*found)->device->fdid()) : 0;
}
SISCI_NAMES(SCIGetFabricDeviceId)

extern "C" void SCIConnectDeviceSegment(sci_smartio_device_t device, sci_remote_segment_t* segment,
                                        unsigned int id, unsigned int memtype,
                                        sci_cb_remote_segment_t callback, void* callbackArg,
                                        unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().check_initialized());
        if (!segment) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *segment = nullptr;
        auto made = std::make_shared<RemoteSegment>();
        made->device = SCI_TAKE(Library::get().hold(device));
        SCI_TAKE(check_flags(flags, SCI_FLAG_USE_CALLBACK,
                             SCI_FLAG_DEVICE_SIDE_ONLY | SCI_FLAG_LOCAL_ONLY | SCI_FLAG_SPECIFY_PATH |
                                 SCI_FLAG_SPECIFY_SLOT));
        if (flags & SCI_FLAG_USE_CALLBACK && !callback) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        SCI_TAKE(made->device->check_alive());
        made->id = id;
        made->node = made->device->device->node();
        return Library::get().make(segment, [&](sci_remote_segment_t handle) -> Outcome<> {
            if (flags & SCI_FLAG_USE_CALLBACK)
                made->events.set_callback([=](const SegmentEvent& event) {
                    return callback(callbackArg, handle, event.reason, SCI_ERR_OK);
                });
            SCI_TAKE(connect(*made, id, memtype));
            SCI_TAKE(made->device->add_connection(made));
            return Library::get().add(handle, made);
        });
    });
}
SISCI_NAMES(SCIConnectDeviceSegment)

extern "C" void SCICreateDeviceSegment(sci_smartio_device_t device, unsigned int id, size_t size,
                                       unsigned int memtype, unsigned int accessHints, unsigned int flags,
                                       sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().hold(device));
        SCI_TAKE(check_flags(flags,
                             SCI_FLAG_DEVICE_SIDE_ONLY | SCI_FLAG_DEVICE_PREFER_BANDWIDTH |
                                 SCI_FLAG_HOST_PREFER_BANDWIDTH,
                             (SCI_FLAG_LOCAL_ONLY & ~SCI_FLAG_DEVICE_SIDE_ONLY) | SCI_FLAG_SPECIFY_PATH |
                                 SCI_FLAG_SPECIFY_SLOT));
        constexpr unsigned hints = SCI_MEMACCESS_MULTIHOST_READ | SCI_MEMACCESS_MULTIHOST_WRITE |
                                   SCI_MEMACCESS_P2P_READ | SCI_MEMACCESS_P2P_WRITE;
        if (accessHints & ~hints) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        auto scope = SCI_TAKE(scope_of(memtype));
        if (size == 0) return failed(SCI_ERR_SIZE_ALIGNMENT);
        SCI_TAKE(found->check_alive());
        return outcome_of(found->device->create_memory(id, SCI_TAKE(whole_pages(size)), scope));
    });
}
SISCI_NAMES(SCICreateDeviceSegment)
