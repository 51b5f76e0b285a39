// SPDX-License-Identifier: Apache-2.0
#include "base/unique_fd.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

namespace lanepool {

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
        reset();
        fd_ = other.release();
    }
    return *this;
}

void UniqueFd::reset() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Result<UniqueFd> UniqueFd::duplicate() const {
    UniqueFd copy(::fcntl(fd_, F_DUPFD_CLOEXEC, 0));
    if (!copy) return fail_errno("duplicating a file descriptor");
    return copy;
}

Result<UniqueFd> create_memory(const char* name, uint64_t size_bytes) {
    UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd) return fail_errno("creating shared memory");
    if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) return fail_errno("sizing shared memory");
    if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return fail_errno("sealing shared memory");
    return fd;
}

Result<UniqueFd> create_eventfd() {
    UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd) return fail_errno("creating an eventfd");
    return fd;
}

void signal(const UniqueFd& eventfd) {
    const uint64_t one = 1;
    [[maybe_unused]] auto written = ::write(eventfd.get(), &one, sizeof one);
}

uint64_t drain(const UniqueFd& eventfd) {
    uint64_t count = 0;
    return ::read(eventfd.get(), &count, sizeof count) == sizeof count ? count : 0;
}

} // namespace lanepool
