// SPDX-License-Identifier: Apache-2.0
#include "vfio/kernel.h"

#include "base/system_call.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace lanepool::vfio {

namespace {

class SystemKernel final : public Kernel {
  public:
    Result<UniqueFd> open(const std::filesystem::path& path) override {
        const int fd = call_again_after_signals([&] { return ::open(path.c_str(), O_RDWR | O_CLOEXEC); });
        if (fd < 0) return fail_errno(fd, path.string());
        return UniqueFd(fd);
    }
    int ioctl(int fd, unsigned long request, void* argument) override {
        return call_again_after_signals([&] { return ::ioctl(fd, request, argument); });
    }
    ssize_t pread(int fd, std::span<std::byte> data, uint64_t offset_bytes) override {
        return call_again_after_signals(
            [&] { return ::pread(fd, data.data(), data.size(), static_cast<off_t>(offset_bytes)); });
    }
    ssize_t pwrite(int fd, std::span<const std::byte> data, uint64_t offset_bytes) override {
        return call_again_after_signals(
            [&] { return ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset_bytes)); });
    }
    Result<Mapping> map(const MemoryRef& memory, Access access) override {
        return Mapping::create(memory, access);
    }
};

} // namespace

Kernel& system_kernel() {
    static SystemKernel kernel;
    return kernel;
}

} // namespace lanepool::vfio
