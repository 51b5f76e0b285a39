// SPDX-License-Identifier: Apache-2.0
#include "application/memory.h"

#include <algorithm>
#include <fcntl.h>
#include <sys/stat.h>

namespace lanepool::application {

Result<MemoryRef> check_memory(UniqueFd fd, uint64_t size_bytes) {
    const int seals = ::fcntl(fd.get(), F_GET_SEALS);
    if (seals < 0) return fail(Errc::invalid_argument, "the memory is not a memfd (memfd_create)");
    if ((seals & F_SEAL_SHRINK) == 0)
        return fail(Errc::invalid_argument, "the memory is not sealed against shrinking (F_SEAL_SHRINK)");
    const int flags = ::fcntl(fd.get(), F_GETFL);
    if ((seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0 || flags < 0 || (flags & O_ACCMODE) != O_RDWR)
        return fail(Errc::invalid_argument, "the memory cannot be written");
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return fail_errno("look at a segment's memory");
    const auto file_bytes = static_cast<uint64_t>(std::max<off_t>(status.st_size, 0));
    if (file_bytes < size_bytes)
        return fail(Errc::invalid_argument, "the memory has {} bytes where {} are needed", file_bytes,
                    size_bytes);
    return MemoryRef{share(std::move(fd)), 0, size_bytes};
}

} // namespace lanepool::application
