// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/foreign_memory.h"

#include <limits>
#include <sys/stat.h>

namespace lanepool::vfio_user {

Result<MemoryRef> foreign_memory(SharedFd fd, uint64_t offset_bytes, uint64_t size_bytes) {
    struct stat status {};
    if (::fstat(fd->get(), &status) != 0) return fail_errno("looking at a descriptor for memory");
    const uint64_t limit =
        S_ISREG(status.st_mode) ? static_cast<uint64_t>(status.st_size) : std::numeric_limits<int64_t>::max();
    if (size_bytes == 0 || offset_bytes > limit || size_bytes > limit - offset_bytes)
        return fail(Errc::invalid_argument,
                    "{} bytes at {:#x} do not lie in the file behind them, of {} bytes", size_bytes,
                    offset_bytes, limit);
    return MemoryRef{std::move(fd), offset_bytes, size_bytes};
}

} // namespace lanepool::vfio_user
