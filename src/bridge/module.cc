// SPDX-License-Identifier: Apache-2.0
#include "bridge/module.h"

#include "base/system_call.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace lanepool::bridge {

namespace {

class SystemModule final : public Module {
  public:
    int open(const std::filesystem::path& node) override {
        return call_again_after_signals(
            [&] { return ::open(node.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK); });
    }
    int ioctl(int fd, unsigned long request, void* argument) override {
        return call_again_after_signals([&] { return ::ioctl(fd, request, argument); });
    }
    ssize_t read(int fd, std::span<std::byte> data) override {
        return call_again_after_signals([&] { return ::read(fd, data.data(), data.size()); });
    }
};

} // namespace

Module& system_module() {
    static SystemModule module;
    return module;
}

} // namespace lanepool::bridge
