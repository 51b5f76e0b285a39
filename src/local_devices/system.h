// SPDX-License-Identifier: Apache-2.0
//
// The seam between what this folder decides and the kernel that it works on: files of sysfs, procfs and
// devtmpfs by their usual absolute paths. linux_system() is the machine; tests simulate a kernel in memory.
#pragma once

#include "base/result.h"
#include "io/clock.h"

#include <compare>
#include <cstddef>
#include <filesystem>
#include <linux/nvme_ioctl.h>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lanepool::local_devices {

// Where the kernel's file systems are mounted.
struct Paths {
    std::filesystem::path sys = "/sys", proc = "/proc", dev = "/dev";
};

// What tells a device node from another, whatever it is called where somebody sees it.
struct DeviceNumber {
    bool block = false;
    unsigned major = 0, minor = 0;
    auto operator<=>(const DeviceNumber&) const = default;
};

struct Entry {
    enum class Kind { file, folder, link };
    std::string name;
    Kind kind = Kind::file;
};

inline constexpr size_t most_file_bytes = 4 * 1024 * 1024;

class System {
  public:
    virtual ~System() = default;

    // The whole file, at most most_file_bytes, as bytes.
    virtual Result<std::string> read(const std::string& path) = 0;
    // Writes TEXT in one call, for at most TIMEOUT: a write to sysfs ends when the kernel has done what it
    // asks for, and that may be never. Errors: timeout, and what the system says. After a timeout the kernel
    // may still be at it; until it ends, a write of the same text to the same path fails with timeout at
    // once instead of piling up.
    virtual Result<> write(const std::string& path, const std::string& text, io::Duration timeout) = 0;
    // Whether the first register behind PATH, a BAR's file in sysfs, reads as all ones.
    virtual Result<bool> reads_all_ones(const std::string& path) = 0;
    // Sorted by name.
    virtual Result<std::vector<Entry>> list(const std::string& path) = 0;
    // The text of a symbolic link.
    virtual Result<std::string> read_link(const std::string& path) = 0;
    virtual bool exists(const std::string& path) = 0; // follows links
    // Of the device node at PATH (links are followed); none: it is no device node, or not there.
    virtual std::optional<DeviceNumber> device_number(const std::string& path) = 0;
    // Whether something in the kernel has the block device at PATH for itself (a file system, RAID, swap).
    virtual bool claimed(const std::string& path) = 0;
    // Errors: not_found: this kernel has no such module.
    virtual Result<> load_module(const std::string& name, io::Duration timeout) = 0;
    // Replaces a file of lanepool's own (not of the kernel) so that a crash leaves the old or the new.
    virtual Result<> save(const std::filesystem::path& path, const std::string& text) = 0;
    // As read(), of a file of lanepool's own; none: it is not there.
    virtual Result<std::optional<std::string>> load(const std::filesystem::path& path) = 0;

    // Sends COMMAND to the admin queue of the NVMe controller with this character device; returns the status
    // of its completion (0: success). Errors: what the system says.
    virtual Result<int> nvme_admin(const std::string& node, nvme_passthru_cmd& command) = 0;
    // Sends one rtnetlink request that is no dump, and returns the message with which the kernel answers.
    virtual Result<std::vector<std::byte>> route_request(std::span<const std::byte> request) = 0;

    virtual io::TimePoint now() = 0;
    virtual void pause(io::Duration duration) = 0;
};

// The machine's. Usable from any thread.
std::unique_ptr<System> linux_system(const Paths& paths);

} // namespace lanepool::local_devices
