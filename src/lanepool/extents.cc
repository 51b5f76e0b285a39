// SPDX-License-Identifier: Apache-2.0
#include "lanepool/extents.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lanepool::client {

namespace {
// More than a processor can address, and far from where sums overflow.
constexpr uint64_t max_bytes = uint64_t{1} << 52;

uint64_t page_start(uint64_t offset) { return offset / page_bytes() * page_bytes(); }
uint64_t page_end(uint64_t offset) { return page_start(offset + page_bytes() - 1); }

Result<Piece> take_piece(const session::Json& extent, UniqueFd fd, uint64_t from, uint64_t size,
                         Shrinkable shrinkable) {
    if (!extent.is_object()) return fail(Errc::protocol, "an extent that is not an object");
    Piece piece;
    piece.offset_bytes = TRY(session::get_number(extent, "offset"));
    piece.size_bytes = TRY(session::get_number(extent, "size"));
    piece.fd_offset_bytes = TRY(session::get_number(extent, "fd_offset"));
    if (piece.offset_bytes < from || piece.size_bytes == 0 || piece.offset_bytes > size ||
        piece.size_bytes > size - piece.offset_bytes)
        return fail(Errc::protocol, "an extent of {:#x} bytes at {:#x} of {:#x}", piece.size_bytes,
                    piece.offset_bytes, size);
    TRY(check_memory(fd, piece.fd_offset_bytes, piece.size_bytes, shrinkable));
    piece.fd = std::move(fd);
    return piece;
}
} // namespace

uint64_t page_bytes() {
    static const auto bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    return bytes;
}

Result<uint64_t> size_of_part(uint64_t offset_bytes, uint64_t part_bytes, uint64_t size_bytes) {
    if (offset_bytes >= size_bytes || part_bytes > size_bytes - offset_bytes)
        return fail(Errc::out_of_range, "{:#x} bytes at {:#x} are not inside of {:#x}", part_bytes,
                    offset_bytes, size_bytes);
    return part_bytes ? part_bytes : size_bytes - offset_bytes;
}

Result<> check_memory(const UniqueFd& fd, uint64_t fd_offset_bytes, uint64_t size_bytes,
                      Shrinkable shrinkable) {
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return fail_errno("looking at memory from the agent");
    uint64_t limit = max_bytes;
    if (S_ISREG(status.st_mode)) {
        const int seals = ::fcntl(fd.get(), F_GET_SEALS);
        if (shrinkable == Shrinkable::no && (seals < 0 || !(seals & F_SEAL_SHRINK)))
            return fail(Errc::protocol, "memory that is not sealed against shrinking");
        limit = static_cast<uint64_t>(status.st_size);
    }
    if (fd_offset_bytes > limit || size_bytes > limit - fd_offset_bytes)
        return fail(Errc::protocol, "{:#x} bytes at {:#x} of memory that has {:#x}", size_bytes,
                    fd_offset_bytes, limit);
    return {};
}

Result<Extents> Extents::take(session::Message& answer, Shrinkable shrinkable) {
    Extents result;
    result.size_bytes_ = TRY(session::get_number(answer.body, "size"));
    if (result.size_bytes_ == 0 || result.size_bytes_ > max_bytes)
        return fail(Errc::protocol, "memory of {:#x} bytes", result.size_bytes_);
    const auto list = answer.body.find("extents");
    if (list == answer.body.end() || !list->is_array() || list->size() != answer.fds.size())
        return fail(Errc::protocol, "extents must be a list, with {} descriptors one of as many",
                    answer.fds.size());
    uint64_t from = 0;
    for (size_t i = 0; i < list->size(); ++i) {
        auto piece =
            TRY(take_piece((*list)[i], std::move(answer.fds[i]), from, result.size_bytes_, shrinkable));
        from = piece.offset_bytes + piece.size_bytes;
        result.pieces_.push_back(std::move(piece));
    }
    return result;
}

Extents Extents::whole(UniqueFd fd, uint64_t size_bytes) {
    Extents result;
    result.size_bytes_ = size_bytes;
    result.pieces_.push_back({0, size_bytes, std::move(fd), 0});
    return result;
}

bool Extents::complete() const {
    uint64_t end = 0;
    for (const Piece& piece : pieces_) {
        if (piece.offset_bytes != end) return false;
        end += piece.size_bytes;
    }
    return end == size_bytes_;
}

Result<MappedRange> Extents::map(const MapOptions& options) const {
    const uint64_t offset = options.offset_bytes;
    const uint64_t size = TRY(size_of_part(offset, options.size_bytes, size_bytes_));
    const uint64_t start = page_start(offset);
    const uint64_t length = page_end(offset + size) - start;
    void* address = nullptr;
    if (options.address) {
        const auto wanted = reinterpret_cast<uintptr_t>(options.address);
        if (wanted % page_bytes() != offset - start)
            return fail(Errc::invalid_argument, "offset {:#x} cannot lie at {}: not the same place in a page",
                        offset, options.address);
        address = reinterpret_cast<void*>(wanted - (offset - start)); // NOLINT(performance-no-int-to-ptr)
    }
    // The place first, in one piece; then what lies there.
    void* place =
        ::mmap(address, length, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (address ? MAP_FIXED_NOREPLACE : 0), -1, 0);
    if (place == MAP_FAILED) return fail_errno(fmt::format("finding room for {:#x} bytes", size));
    MappedRange range(place, length, offset - start, size, options.access);
    const int protection = options.access == Access::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
    uint64_t done = offset; // what lies before it is mapped
    for (const Piece& piece : pieces_) {
        const uint64_t end = piece.offset_bytes + piece.size_bytes;
        if (end <= done || piece.offset_bytes >= offset + size) continue;
        const uint64_t lead = done - page_start(done); // only the first may begin inside of a page
        if (piece.offset_bytes > done || (done != offset && lead) ||
            piece.fd_offset_bytes % page_bytes() != piece.offset_bytes % page_bytes())
            break;
        const uint64_t last = std::min(end, offset + size);
        const uint64_t fd_offset = piece.fd_offset_bytes + (done - piece.offset_bytes) - lead;
        auto* const where = static_cast<std::byte*>(place) + (done - lead - start);
        if (::mmap(where, page_end(last) - (done - lead), protection, MAP_SHARED | MAP_FIXED, piece.fd.get(),
                   static_cast<off_t>(fd_offset)) == MAP_FAILED)
            return fail_errno(fmt::format("mapping {:#x} bytes at {:#x}", last - done, done));
        done = last;
    }
    if (done != offset + size)
        return fail(Errc::not_supported,
                    "there is no memory at {:#x} that could be mapped in whole pages: read and write a "
                    "device's registers by calls (DeviceBar::read and write, or DeviceFunction). Where the "
                    "adapter is a card of this host no program can map what lies elsewhere: keep memory "
                    "for the device or the peer here (Segment, Device::map)",
                    done);
    return range;
}

} // namespace lanepool::client

namespace lanepool {

MappedRange::MappedRange(void* address, size_t length_bytes, size_t first_byte, size_t size_bytes,
                         Access access)
    : data_(static_cast<std::byte*>(address) + first_byte), size_bytes_(size_bytes), address_(address),
      length_bytes_(length_bytes), access_(access) {}

MappedRange::MappedRange(MappedRange&& other) noexcept { *this = std::move(other); }

MappedRange& MappedRange::operator=(MappedRange&& other) noexcept {
    if (this != &other) {
        reset();
        data_ = std::exchange(other.data_, nullptr);
        size_bytes_ = std::exchange(other.size_bytes_, 0);
        address_ = std::exchange(other.address_, nullptr);
        length_bytes_ = std::exchange(other.length_bytes_, 0);
        access_ = other.access_;
    }
    return *this;
}

void MappedRange::reset() {
    if (address_) ::munmap(address_, length_bytes_);
    data_ = nullptr;
    address_ = nullptr;
    size_bytes_ = length_bytes_ = 0;
}

Result<> MappedRange::copy_to(uint64_t offset_bytes, std::span<const std::byte> data) const {
    if (offset_bytes > size_bytes_ || data.size() > size_bytes_ - offset_bytes)
        return fail(Errc::out_of_range, "{:#x} bytes at {:#x} are not inside of {:#x}", data.size(),
                    offset_bytes, size_bytes_);
    if (access_ != Access::read_write) return fail(Errc::permission_denied, "it is mapped read-only");
    if (!data.empty()) std::memcpy(data_ + offset_bytes, data.data(), data.size());
    return {};
}

Result<> MappedRange::copy_from(uint64_t offset_bytes, std::span<std::byte> data) const {
    if (offset_bytes > size_bytes_ || data.size() > size_bytes_ - offset_bytes)
        return fail(Errc::out_of_range, "{:#x} bytes at {:#x} are not inside of {:#x}", data.size(),
                    offset_bytes, size_bytes_);
    if (!data.empty()) std::memcpy(data.data(), data_ + offset_bytes, data.size());
    return {};
}

} // namespace lanepool
