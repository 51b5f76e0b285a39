// SPDX-License-Identifier: Apache-2.0
#include "base/mapping.h"

#include <limits>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace lanepool {

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)),
      page_offset_(std::exchange(other.page_offset_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
    if (this != &other) {
        reset();
        data_ = std::exchange(other.data_, nullptr);
        size_bytes_ = std::exchange(other.size_bytes_, 0);
        page_offset_ = std::exchange(other.page_offset_, 0);
    }
    return *this;
}

Result<Mapping> Mapping::create(int fd, uint64_t offset_bytes, uint64_t size_bytes, Access access) {
    const auto limit = static_cast<uint64_t>(std::numeric_limits<off_t>::max());
    if (size_bytes == 0 || offset_bytes > limit || size_bytes > limit - offset_bytes)
        return fail(Errc::invalid_argument, "cannot map {} bytes at offset {:#x}", size_bytes, offset_bytes);
    const auto page_offset = offset_bytes % static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    const int protection = access == Access::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
    void* address = ::mmap(nullptr, size_bytes + page_offset, protection, MAP_SHARED, fd,
                           static_cast<off_t>(offset_bytes - page_offset));
    if (address == MAP_FAILED)
        return fail_errno(fmt::format("mapping {} bytes at offset {:#x}", size_bytes, offset_bytes));
    Mapping mapping;
    mapping.data_ = static_cast<std::byte*>(address) + page_offset;
    mapping.size_bytes_ = size_bytes;
    mapping.page_offset_ = page_offset;
    return mapping;
}

void Mapping::reset() {
    if (data_) ::munmap(data_ - page_offset_, size_bytes_ + page_offset_);
    data_ = nullptr;
    size_bytes_ = page_offset_ = 0;
}

} // namespace lanepool
