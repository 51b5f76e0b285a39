// SPDX-License-Identifier: Apache-2.0
#include "bridge/module.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace lanepool::bridge {

namespace {

template <class Call>
auto repeat(Call call) {
    decltype(call()) result;
    do {
        result = call();
    } while (result < 0 && errno == EINTR);
    return result < 0 ? static_cast<decltype(result)>(-errno) : result;
}

class SystemModule final : public Module {
  public:
    int open(const std::filesystem::path& node) override {
        return repeat([&] { return ::open(node.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK); });
    }
    int ioctl(int fd, unsigned long request, void* argument) override {
        return repeat([&] { return ::ioctl(fd, request, argument); });
    }
    ssize_t read(int fd, std::span<std::byte> data) override {
        return repeat([&] { return ::read(fd, data.data(), data.size()); });
    }
};

} // namespace

Module& system_module() {
    static SystemModule module;
    return module;
}

} // namespace lanepool::bridge
