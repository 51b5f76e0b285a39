// SPDX-License-Identifier: Apache-2.0
//
// The vfio-user protocol as it lies on the socket, version 0.0 (vfio-user Protocol Specification; the
// structures behind the header are those of linux/vfio.h). Everything is little-endian. Nothing here knows
// sockets: it is the part of the protocol that a fuzzer can reach without one.
#pragma once

#include "base/endian.h"
#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

namespace lanepool::vfio_user::wire {

inline constexpr uint16_t version_major = 0;
inline constexpr uint16_t version_minor = 0;

// What we accept in one message. The client may be told less (Capabilities).
inline constexpr uint32_t max_data_bytes = 1 << 20;
// The largest message: data, the structures before it, and room for the longest list of extents.
inline constexpr uint32_t max_message_bytes = max_data_bytes + (64 << 10);
inline constexpr uint32_t max_dma_maps = 65535;

// Section "Commands". The last ones are ours and only used after both sides negotiated `lanepool`.
enum class Command : uint16_t {
    version = 1,
    dma_map = 2,
    dma_unmap = 3,
    device_get_info = 4,
    device_get_region_info = 5,
    device_get_region_io_fds = 6,
    device_get_irq_info = 7,
    device_set_irqs = 8,
    region_read = 9,
    region_write = 10,
    dma_read = 11,
    dma_write = 12,
    device_reset = 13,
    region_write_multi = 15,
    lanepool_region_memory = 0x4c01,
    lanepool_region_event = 0x4c02,
};

namespace flags {
inline constexpr uint32_t type_mask = 0xf;
inline constexpr uint32_t command = 0;
inline constexpr uint32_t reply = 1;
inline constexpr uint32_t no_reply = 1 << 4;
inline constexpr uint32_t error = 1 << 5;
} // namespace flags

struct Header {
    le16 id;
    le16 command;
    le32 size_bytes; // of the whole message
    le32 flags;
    le32 error; // errno of a reply with flags::error; may be 0

    bool is_reply() const { return (flags & flags::type_mask) == flags::reply; }
    bool wants_reply() const { return (flags & flags::no_reply) == 0; }
};
static_assert(sizeof(Header) == 16);

// Everything that can be wrong with a header by itself. Errors: protocol; the stream cannot be trusted after
// that.
Result<> check(const Header& header);

struct Version {
    le16 major;
    le16 minor;
    // followed by JSON and a terminating NUL
};
static_assert(sizeof(Version) == 4);

namespace dma {
inline constexpr uint32_t readable = 1 << 0;
inline constexpr uint32_t writeable = 1 << 1;
inline constexpr uint32_t event = 1 << 16;    // ours: the descriptor is an eventfd, the size is 4
inline constexpr uint32_t unmap_all = 1 << 1; // of dma_unmap, VFIO_DMA_UNMAP_FLAG_ALL
} // namespace dma

struct DmaMap {
    le32 argsz;
    le32 flags;
    le64 offset;
    le64 address;
    le64 size;
};
static_assert(sizeof(DmaMap) == 32);

struct DmaUnmap {
    le32 argsz;
    le32 flags;
    le64 address;
    le64 size;
};
static_assert(sizeof(DmaUnmap) == 24);

namespace device {
inline constexpr uint32_t reset = 1 << 0;
inline constexpr uint32_t pci = 1 << 1;
} // namespace device

struct DeviceInfo {
    le32 argsz;
    le32 flags;
    le32 num_regions;
    le32 num_irqs;
};
static_assert(sizeof(DeviceInfo) == 16);

namespace region {
inline constexpr uint32_t read = 1 << 0;
inline constexpr uint32_t write = 1 << 1;
inline constexpr uint32_t mmap = 1 << 2;
inline constexpr uint32_t caps = 1 << 3;
} // namespace region

struct RegionInfo {
    le32 argsz;
    le32 flags;
    le32 index;
    le32 cap_offset; // from the start of this structure
    le64 size;
    le64 offset; // in the descriptor
};
static_assert(sizeof(RegionInfo) == 32);

inline constexpr uint16_t cap_sparse_mmap = 1; // VFIO_REGION_INFO_CAP_SPARSE_MMAP

struct CapHeader {
    le16 id;
    le16 version;
    le32 next; // from the start of the RegionInfo; 0: the last one
};
static_assert(sizeof(CapHeader) == 8);

struct SparseMmap {
    CapHeader header;
    le32 area_count;
    le32 reserved;
    // followed by the areas
};
static_assert(sizeof(SparseMmap) == 16);

struct SparseArea {
    le64 offset;
    le64 size;
};
static_assert(sizeof(SparseArea) == 16);

struct RegionIoFds {
    le32 argsz;
    le32 flags;
    le32 index;
    le32 count;
    // followed by the sub-regions
};
static_assert(sizeof(RegionIoFds) == 16);

inline constexpr uint32_t io_fd_type_ioeventfd = 0;

struct IoEventFd {
    le64 offset;
    le64 size; // 0: of any size
    le32 fd_index;
    le32 type;
    le32 flags; // 0: every write, whatever its value
    le32 padding;
    le64 datamatch;
};
static_assert(sizeof(IoEventFd) == 40);

namespace irq {
inline constexpr uint32_t eventfd = 1 << 0;
inline constexpr uint32_t maskable = 1 << 1;
inline constexpr uint32_t automasked = 1 << 2;
inline constexpr uint32_t noresize = 1 << 3;
} // namespace irq

struct IrqInfo {
    le32 argsz;
    le32 flags;
    le32 index;
    le32 count;
};
static_assert(sizeof(IrqInfo) == 16);

namespace irq_set {
inline constexpr uint32_t data_none = 1 << 0;
inline constexpr uint32_t data_bool = 1 << 1;
inline constexpr uint32_t data_eventfd = 1 << 2;
inline constexpr uint32_t data_mask = data_none | data_bool | data_eventfd;
inline constexpr uint32_t mask = 1 << 3;
inline constexpr uint32_t unmask = 1 << 4;
inline constexpr uint32_t trigger = 1 << 5;
inline constexpr uint32_t action_mask = mask | unmask | trigger;
} // namespace irq_set

struct IrqSet {
    le32 argsz;
    le32 flags;
    le32 index;
    le32 start;
    le32 count;
    // followed by COUNT bytes with data_bool
};
static_assert(sizeof(IrqSet) == 20);

struct RegionAccess { // REGION_READ, REGION_WRITE
    le64 offset;
    le32 region;
    le32 count;
    // followed by the data of a write's request and a read's reply
};
static_assert(sizeof(RegionAccess) == 16);

struct DmaAccess { // DMA_READ, DMA_WRITE
    le64 address;
    le64 count;
    // followed by the data of a write's request and a read's reply
};
static_assert(sizeof(DmaAccess) == 16);

struct WriteMulti {
    le64 write_count;
    // followed by the writes
};
static_assert(sizeof(WriteMulti) == 8);

struct SingleWrite {
    le64 offset;
    le32 region;
    le32 count; // at most 8
    std::array<std::byte, 8> data;
};
static_assert(sizeof(SingleWrite) == 24);

// Ours. What is behind SIZE bytes at OFFSET of a region. The answer covers the range up to NEXT (more
// extents or descriptors did not fit; ask again from there) and has COUNT extents behind it.
struct RegionMemory {
    le32 argsz; // the most that the reply's payload may have
    le32 index;
    le64 offset;
    le64 size;
    le64 next;  // of a reply
    le32 count; // of a reply
    le32 reserved;
};
static_assert(sizeof(RegionMemory) == 40);

struct MemoryExtent {
    le64 offset;    // in the region
    le64 size;      //
    le64 fd_offset; // in the descriptor
    le32 fd_index;  // in the reply's descriptors
    le32 reserved;
};
static_assert(sizeof(MemoryExtent) == 32);

// Ours. The eventfd behind OFFSET of a region comes with the reply, which has no payload.
struct RegionEvent {
    le32 index;
    le32 reserved;
    le64 offset;
};
static_assert(sizeof(RegionEvent) == 16);

// A structure at the start of BYTES, which are then moved behind it. Errors: protocol when there are fewer.
template <class T>
Result<T> take(std::span<const std::byte>& bytes) {
    if (bytes.size() < sizeof(T))
        return fail(Errc::protocol, "a message ends {} bytes too early", sizeof(T) - bytes.size());
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    bytes = bytes.subspan(sizeof value);
    return value;
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span(&value, 1));
}

// The bytes of a whole message; its size is filled in.
std::vector<std::byte> encode(Header header, std::initializer_list<std::span<const std::byte>> parts);
std::vector<std::byte> encode_command(Command command, uint16_t id,
                                      std::initializer_list<std::span<const std::byte>> parts,
                                      uint32_t extra_flags = 0);
// A reply that has only a header, as every one that reports an error.
std::vector<std::byte> encode_error(uint16_t id, uint16_t command, const Error& error);

// The errno that stands for a failure on the wire, never 0.
int errno_of(Errc code);

} // namespace lanepool::vfio_user::wire
