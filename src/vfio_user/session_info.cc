// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/session.h"

#include "io/unix_socket.h"

#include <algorithm>
#include <sys/stat.h>

namespace lanepool::vfio_user {

namespace {

constexpr uint64_t page_bytes = 4096;
// Of one reply; the rest is asked for again.
constexpr size_t max_extents = 1024;

// The same open memory, perhaps behind two descriptors.
bool same_file(const SharedFd& a, const SharedFd& b) {
    if (a == b) return true;
    struct stat first {};
    struct stat second {};
    return ::fstat(a->get(), &first) == 0 && ::fstat(b->get(), &second) == 0 &&
           first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

bool on_pages(const pci::Extent& extent) {
    return extent.offset_bytes % page_bytes == 0 && extent.memory.size_bytes % page_bytes == 0 &&
           extent.memory.offset_bytes % page_bytes == 0;
}

// What one descriptor and one base offset can show of a region: the protocol has room for no more
// (VFIO_USER_DEVICE_GET_REGION_INFO). What does not fit is reached by messages.
struct OneFile {
    SharedFd fd;
    uint64_t base_bytes = 0; // wraps around where the file begins in the middle of the region
    std::vector<pci::Area> areas;
};

OneFile in_one_file(const std::vector<pci::Extent>& extents) {
    OneFile file;
    for (const auto& extent : extents) {
        if (!on_pages(extent)) continue;
        const uint64_t base = extent.memory.offset_bytes - extent.offset_bytes;
        if (!file.fd) {
            file.fd = extent.memory.fd;
            file.base_bytes = base;
        } else if (base != file.base_bytes || !same_file(file.fd, extent.memory.fd)) {
            continue;
        }
        auto& areas = file.areas;
        if (!areas.empty() && areas.back().offset_bytes + areas.back().size_bytes == extent.offset_bytes)
            areas.back().size_bytes += extent.memory.size_bytes;
        else
            areas.push_back({extent.offset_bytes, extent.memory.size_bytes});
    }
    return file;
}

template <class T>
Result<T> take_request(std::span<const std::byte> payload) {
    const auto request = TRY(wire::take<T>(payload));
    if (request.argsz < sizeof request)
        return fail(Errc::invalid_argument, "argsz is {}, the reply has at least {} bytes",
                    uint32_t{request.argsz}, sizeof request);
    return request;
}

} // namespace

Result<pci::Region> Session::region_of(uint32_t index) {
    if (index >= pci::region_count) return fail(Errc::invalid_argument, "there is no region {}", index);
    return static_cast<pci::Region>(index);
}

Result<Session::Payload> Session::device_info(std::span<const std::byte> payload) const {
    TRY(take_request<wire::DeviceInfo>(payload));
    return Payload::of(wire::DeviceInfo{sizeof(wire::DeviceInfo), wire::device::reset | wire::device::pci,
                                        pci::region_count, pci::irq_count});
}

// A client that offers too little room gets the fixed part, which says how much it takes, and asks again.
Result<Session::Payload> Session::region_info(std::span<const std::byte> payload) {
    const auto request = TRY(take_request<wire::RegionInfo>(payload));
    const auto index = TRY(region_of(request.index));
    const auto& info = environment_.handler.region(index);
    OneFile file;
    if (speaks_lanepool()) {
        file.areas = info.mappable; // and what is behind them is asked for by lanepool_region_memory
    } else {
        std::vector<pci::Extent> extents;
        for (const auto& area : info.mappable)
            for (auto& extent : TRY(environment_.handler.memory(index, area.offset_bytes, area.size_bytes)))
                extents.push_back(std::move(extent));
        file = in_one_file(extents);
    }

    wire::RegionInfo reply{};
    reply.argsz = sizeof reply;
    reply.index = request.index;
    reply.size = info.size_bytes;
    reply.offset = file.base_bytes;
    if (info.readable) reply.flags = reply.flags | wire::region::read;
    if (info.writable) reply.flags = reply.flags | wire::region::write;
    if (file.areas.empty()) return Payload::of(reply);
    reply.flags = reply.flags | wire::region::mmap;
    Payload sparse;
    if (file.areas != std::vector<pci::Area>{{0, info.size_bytes}}) {
        const auto count = static_cast<uint32_t>(file.areas.size());
        sparse = Payload::of(wire::SparseMmap{{wire::cap_sparse_mmap, 1, 0}, count, 0});
        for (const auto& area : file.areas)
            sparse.append(wire::bytes_of(wire::SparseArea{area.offset_bytes, area.size_bytes}));
        reply.flags = reply.flags | wire::region::caps;
        reply.cap_offset = sizeof reply;
        reply.argsz = static_cast<uint32_t>(sizeof reply + sparse.bytes.size());
    }
    Payload answer = Payload::of(reply);
    if (request.argsz < reply.argsz) return answer;
    answer.append(sparse.bytes);
    if (file.fd) answer.fds.push_back(file.fd);
    return answer;
}

// None: what there is to signal is asked for one by one (lanepool_region_event).
Result<Session::Payload> Session::region_io_fds(std::span<const std::byte> payload) const {
    const auto request = TRY(take_request<wire::RegionIoFds>(payload));
    TRY(region_of(request.index));
    return Payload::of(wire::RegionIoFds{sizeof(wire::RegionIoFds), 0, request.index, 0});
}

Result<Session::Payload> Session::irq_info(std::span<const std::byte> payload) const {
    const auto request = TRY(take_request<wire::IrqInfo>(payload));
    if (request.index >= pci::irq_count)
        return fail(Errc::invalid_argument, "there is no interrupt index {}", uint32_t{request.index});
    const auto index = static_cast<pci::Irq>(uint32_t{request.index});
    const auto& info = environment_.handler.irq(index);
    uint32_t flags = wire::irq::eventfd;
    if (info.maskable) flags |= wire::irq::maskable;
    if (info.automasked) flags |= wire::irq::automasked;
    // As the kernel does: message-signalled vectors are set up as one set.
    if (index == pci::Irq::msi || index == pci::Irq::msix) flags |= wire::irq::noresize;
    return Payload::of(wire::IrqInfo{sizeof(wire::IrqInfo), flags, request.index, info.count});
}

Result<Session::Payload> Session::lanepool_region_memory(std::span<const std::byte> payload) {
    const auto request = TRY(take_request<wire::RegionMemory>(payload));
    const auto index = TRY(region_of(request.index));
    const uint64_t region_bytes = environment_.handler.region(index).size_bytes;
    if (request.offset > region_bytes || request.size > region_bytes - request.offset || request.size == 0)
        return fail(Errc::out_of_range, "{} bytes at {:#x} lie outside of a region of {} bytes",
                    uint64_t{request.size}, uint64_t{request.offset}, region_bytes);
    auto extents = TRY(environment_.handler.memory(index, request.offset, request.size));
    std::sort(extents.begin(), extents.end(),
              [](const auto& a, const auto& b) { return a.offset_bytes < b.offset_bytes; });

    wire::RegionMemory reply = request;
    reply.next = request.offset + request.size;
    const size_t room =
        std::min<size_t>((request.argsz - sizeof reply) / sizeof(wire::MemoryExtent), max_extents);
    const size_t fd_room = std::min<size_t>(client_.max_msg_fds, io::max_descriptors);
    Payload list;
    uint32_t count = 0;
    for (const auto& extent : extents) {
        auto& fds = list.fds;
        auto fd = std::find(fds.begin(), fds.end(), extent.memory.fd);
        if (count == room || (fd == fds.end() && fds.size() == fd_room)) {
            reply.next = extent.offset_bytes;
            break;
        }
        if (fd == fds.end()) fd = fds.insert(fds.end(), extent.memory.fd);
        list.append(wire::bytes_of(wire::MemoryExtent{extent.offset_bytes, extent.memory.size_bytes,
                                                      extent.memory.offset_bytes,
                                                      static_cast<uint32_t>(fd - fds.begin()), 0}));
        ++count;
    }
    if (count == 0 && reply.next != request.offset + request.size)
        return fail(Errc::invalid_argument, "argsz is {}, which has no room for an extent",
                    uint32_t{request.argsz});
    reply.count = count;
    reply.argsz = static_cast<uint32_t>(sizeof reply + list.bytes.size());
    Payload answer = Payload::of(reply);
    answer.append(list.bytes);
    answer.fds = std::move(list.fds);
    return answer;
}

Result<Session::Payload> Session::lanepool_region_event(std::span<const std::byte> payload) {
    const auto request = TRY(wire::take<wire::RegionEvent>(payload));
    const auto index = TRY(region_of(request.index));
    const uint64_t region_bytes = environment_.handler.region(index).size_bytes;
    if (request.offset >= region_bytes || region_bytes - request.offset < 4)
        return fail(Errc::out_of_range, "4 bytes at {:#x} lie outside of a region of {} bytes",
                    uint64_t{request.offset}, region_bytes);
    Payload answer;
    answer.fds.push_back(share(TRY(environment_.handler.event(index, request.offset))));
    return answer;
}

} // namespace lanepool::vfio_user
