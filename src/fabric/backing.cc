// SPDX-License-Identifier: Apache-2.0
#include "fabric/backing.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lanepool::fabric {
namespace {

template <class T>
bool aligned(const void* a, const void* b) {
    return (reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b)) % sizeof(T) == 0;
}

// The memory may be a register or an index that somebody polls: what was one access stays one.
template <class T>
bool copy_once(std::byte* to, const std::byte* from, size_t size_bytes) {
    if (size_bytes != sizeof(T) || !aligned<T>(to, from)) return false;
    const T value = __atomic_load_n(reinterpret_cast<const T*>(from), __ATOMIC_ACQUIRE);
    __atomic_store_n(reinterpret_cast<T*>(to), value, __ATOMIC_RELEASE);
    return true;
}

void copy(std::byte* to, const std::byte* from, size_t size_bytes) {
    if (copy_once<uint64_t>(to, from, size_bytes) || copy_once<uint32_t>(to, from, size_bytes) ||
        copy_once<uint16_t>(to, from, size_bytes))
        return;
    std::memcpy(to, from, size_bytes);
}

} // namespace

Result<FileIdentity> file_identity(const UniqueFd& fd) {
    struct stat status {};
    if (fstat(fd.get(), &status) != 0) return fail_errno("look at a descriptor of a client's memory");
    if (!S_ISREG(status.st_mode)) return fail(Errc::not_supported, "not a regular file");
    const int flags = fcntl(fd.get(), F_GETFL);
    if (flags < 0) return fail_errno("look at the flags of a client's memory");
    return FileIdentity{status.st_dev, status.st_ino, flags & O_ACCMODE};
}

Backing::Backing(SharedFd fd) : fd_(std::move(fd)) {
    const int seals = fcntl(fd_->get(), F_GET_SEALS);
    cannot_shrink_ = seals >= 0 && (seals & F_SEAL_SHRINK);
}

std::byte* Backing::mapped(uint64_t offset_bytes, size_t size_bytes) {
    if (!cannot_shrink_) return nullptr;
    const auto inside = [&] {
        return offset_bytes <= mapping_.size_bytes() && size_bytes <= mapping_.size_bytes() - offset_bytes;
    };
    if (!mapping_ || !inside()) {
        struct stat status {};
        if (fstat(fd_->get(), &status) != 0 || status.st_size <= 0) return nullptr;
        const auto file_bytes = static_cast<uint64_t>(status.st_size);
        if (file_bytes <= mapping_.size_bytes()) return nullptr; // it has not grown
        const int flags = fcntl(fd_->get(), F_GETFL);
        const bool writable = flags >= 0 && (flags & O_ACCMODE) == O_RDWR;
        auto mapping =
            Mapping::create(fd_->get(), 0, file_bytes, writable ? Access::read_write : Access::read_only);
        if (!mapping) return nullptr;
        mapping_ = std::move(*mapping);
    }
    return inside() ? mapping_.data() + offset_bytes : nullptr;
}

Result<> Backing::read(uint64_t offset_bytes, std::span<std::byte> data) {
    if (const auto* from = mapped(offset_bytes, data.size())) {
        copy(data.data(), from, data.size());
        return {};
    }
    const auto got = pread(fd_->get(), data.data(), data.size(), static_cast<off_t>(offset_bytes));
    if (got < 0) return fail_errno("read a client's memory");
    if (static_cast<size_t>(got) != data.size())
        return fail(Errc::out_of_range, "a client's memory ends before offset {:#x}",
                    offset_bytes + data.size());
    return {};
}

Result<> Backing::write(uint64_t offset_bytes, std::span<const std::byte> data) {
    if (auto* to = mapped(offset_bytes, data.size())) {
        copy(to, data.data(), data.size());
        return {};
    }
    // Never beyond the end of the file: a client that lends a short file must not make the switch grow it.
    struct stat status {};
    if (fstat(fd_->get(), &status) != 0) return fail_errno("look at a client's memory");
    if (S_ISREG(status.st_mode) && (offset_bytes > static_cast<uint64_t>(status.st_size) ||
                                    data.size() > static_cast<uint64_t>(status.st_size) - offset_bytes))
        return fail(Errc::out_of_range, "a client's memory ends before offset {:#x}",
                    offset_bytes + data.size());
    const auto put = pwrite(fd_->get(), data.data(), data.size(), static_cast<off_t>(offset_bytes));
    if (put < 0) return fail_errno("write a client's memory");
    if (static_cast<size_t>(put) != data.size())
        return fail(Errc::io, "a client's memory took {} of {} bytes", put, data.size());
    return {};
}

} // namespace lanepool::fabric
