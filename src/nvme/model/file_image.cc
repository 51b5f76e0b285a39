// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/file_image.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <vector>

namespace lanepool::nvme::model {

namespace {
constexpr uint64_t size_unit_bytes = 4096; // the largest block that the namespace can be formatted with

Result<uint64_t> settle_size(const UniqueFd& fd, const std::filesystem::path& path, uint64_t wanted_bytes) {
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return fail_errno(fmt::format("looking at {}", path.string()));
    if (!S_ISREG(status.st_mode))
        return fail(Errc::invalid_argument, "{} is not a regular file", path.string());
    const auto present = static_cast<uint64_t>(status.st_size);
    if (present != 0 && wanted_bytes != 0 && present != wanted_bytes)
        return fail(Errc::failed_precondition,
                    "{} has {} bytes, not {}; leave the size out to take it as it is, or use another file",
                    path.string(), present, wanted_bytes);
    const uint64_t size = present != 0 ? present : wanted_bytes;
    if (size == 0 || size % size_unit_bytes != 0 || size > static_cast<uint64_t>(INT64_MAX))
        return fail(Errc::invalid_argument,
                    "{}: a drive of {} bytes is not possible; choose a multiple of {}", path.string(), size,
                    size_unit_bytes);
    if (present == 0 && ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
        return fail_errno(fmt::format("making {} {} bytes long", path.string(), size));
    return size;
}
} // namespace

Result<FileImage> FileImage::open(const std::filesystem::path& path, uint64_t size_bytes) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd) return fail_errno(fmt::format("opening {}", path.string()));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return fail(Errc::busy, "{} is in use by another process; stop it or use another file",
                        path.string());
        return fail_errno(fmt::format("locking {}", path.string()));
    }
    const uint64_t size = TRY(settle_size(fd, path, size_bytes));
    struct statfs file_system {};
    if (::fstatfs(fd.get(), &file_system) != 0)
        return fail_errno(fmt::format("asking for the file system of {}", path.string()));
    const bool in_memory = file_system.f_type == TMPFS_MAGIC || file_system.f_type == RAMFS_MAGIC;
    return FileImage(std::move(fd), size, in_memory);
}

uint64_t FileImage::allocated_bytes() const {
    struct stat status {};
    return ::fstat(fd_.get(), &status) == 0 ? static_cast<uint64_t>(status.st_blocks) * 512 : size_bytes_;
}

std::optional<int64_t> FileImage::read_now(std::span<const iovec> pieces, uint64_t offset_bytes) {
    if (!can_read_now_) return std::nullopt;
    const auto offset = static_cast<off_t>(offset_bytes);
    const auto count = static_cast<int>(pieces.size());
    const ssize_t done = in_memory_ ? ::preadv(fd_.get(), pieces.data(), count, offset)
                                    : ::preadv2(fd_.get(), pieces.data(), count, offset, RWF_NOWAIT);
    if (done >= 0) return done;
    if (errno == EOPNOTSUPP && !in_memory_) can_read_now_ = false;
    if (errno == EAGAIN || errno == EINTR || errno == EOPNOTSUPP) return std::nullopt;
    return -errno;
}

std::optional<int64_t> FileImage::write_now(std::span<const iovec> pieces, uint64_t offset_bytes) {
    if (!can_write_now_) return std::nullopt;
    const auto offset = static_cast<off_t>(offset_bytes);
    const auto count = static_cast<int>(pieces.size());
    const ssize_t done = in_memory_ ? ::pwritev(fd_.get(), pieces.data(), count, offset)
                                    : ::pwritev2(fd_.get(), pieces.data(), count, offset, RWF_NOWAIT);
    if (done >= 0) return done;
    if (errno == EOPNOTSUPP && !in_memory_) can_write_now_ = false;
    if (errno == EAGAIN || errno == EINTR || errno == EOPNOTSUPP) return std::nullopt;
    return -errno;
}

Result<bool> FileImage::is_empty() const {
    off_t data = ::lseek(fd_.get(), 0, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return true;
    // A file system that keeps no record of holes answers "all data": look at it then.
    std::vector<char> buffer(1 << 20);
    for (data = std::max<off_t>(data, 0); static_cast<uint64_t>(data) < size_bytes_;) {
        const ssize_t count = ::pread(fd_.get(), buffer.data(), buffer.size(), data);
        if (count < 0) return fail_errno("reading back what was erased");
        if (count == 0) break;
        if (std::any_of(buffer.begin(), buffer.begin() + count, [](char byte) { return byte != 0; }))
            return false;
        data += count;
    }
    return true;
}

} // namespace lanepool::nvme::model
