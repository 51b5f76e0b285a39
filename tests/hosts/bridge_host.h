// SPDX-License-Identifier: Apache-2.0
//
// What plays the agent in the tests of kernel/lanepool_bridge, without a fabric: the "adapter" is an NVMe
// drive of the whole host that they run in, opened by VFIO, so what is injected is a drive of the same
// machine, seen through the module alone.
#pragma once

#include "../../kernel/lanepool_bridge/lanepool_bridge.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <memory>
#include <optional>
#include <poll.h>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace bridge_host {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Config = std::array<uint8_t, LANEPOOL_BRIDGE_CONFIG_BYTES>;

constexpr const char* bridge_path = "/dev/lanepool_bridge";
constexpr uint64_t pool_iova = 0x1'0000'0000;
constexpr uint64_t pool_bytes = 16 << 20;
constexpr uint32_t vectors = 4;
constexpr uint32_t msi_at = 0x40; // where the drive has its MSI-X capability

class Fd {
  public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Fd() { reset(); }
    void reset() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }
    int get() const { return fd_; }

  private:
    int fd_ = -1;
};

[[noreturn]] inline void fail(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

inline int checked(int result, const char* what) {
    if (result < 0) fail(what);
    return result;
}

inline Fd open_file(const std::string& path, int flags = O_RDWR) {
    return Fd(checked(::open(path.c_str(), flags | O_CLOEXEC), path.c_str()));
}

// The drive that is injected, and another one, whose BAR 2 is plain memory (NVMe's controller memory buffer).
inline std::string address(const char* variable = "NVME") {
    const char* text = std::getenv(variable);
    if (!text) throw std::runtime_error(std::string(variable) + " is not set");
    return text;
}

inline void write_file(const fs::path& path, const std::string& text) {
    std::ofstream(path) << text << std::flush;
}

inline void give_to_vfio(const std::string& device) {
    const auto at = fs::path("/sys/bus/pci/devices") / device;
    write_file(at / "driver_override", "vfio-pci");
    write_file(at / "driver/unbind", device);
    write_file("/sys/bus/pci/drivers_probe", device);
}

inline bool wait_until(const std::function<bool()>& condition, int timeout_ms = 20'000) {
    const auto end = steady_clock::now() + milliseconds(timeout_ms);
    while (!condition()) {
        if (steady_clock::now() > end) return false;
        std::this_thread::sleep_for(milliseconds(5));
    }
    return true;
}

template <class T>
T sized() {
    T value{};
    value.size = sizeof(value);
    return value;
}

// A drive of this machine that vfio-pci has, with a container of its own.
class VfioDrive {
  public:
    explicit VfioDrive(const std::string& name = address()) {
        const auto group_link = fs::read_symlink("/sys/bus/pci/devices/" + name + "/iommu_group");
        container = open_file("/dev/vfio/vfio");
        // The function of the test before may still be on its way out, which keeps VFIO's files.
        const auto path = "/dev/vfio/" + group_link.filename().string();
        if (!wait_until([&] {
                return (group = Fd(::open(path.c_str(), O_RDWR | O_CLOEXEC))).get() >= 0 || errno != EBUSY;
            }))
            fail(path);
        if (group.get() < 0) fail(path);
        int container_fd = container.get();
        checked(::ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &container_fd), "VFIO_GROUP_SET_CONTAINER");
        checked(::ioctl(container.get(), VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "VFIO_SET_IOMMU");
        device = Fd(checked(::ioctl(group.get(), VFIO_GROUP_GET_DEVICE_FD, name.c_str()),
                            "VFIO_GROUP_GET_DEVICE_FD"));
        config_offset = region(VFIO_PCI_CONFIG_REGION_INDEX).offset;
        set_command(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        checked(static_cast<int>(
                    ::pread(device.get(), config.data(), config.size(), static_cast<off_t>(config_offset))),
                "reading configuration space");
    }

    vfio_region_info region(uint32_t index) const {
        vfio_region_info info{};
        info.argsz = sizeof(info);
        info.index = index;
        checked(::ioctl(device.get(), VFIO_DEVICE_GET_REGION_INFO, &info), "VFIO_DEVICE_GET_REGION_INFO");
        return info;
    }

    void set_command(uint16_t value) const {
        checked(static_cast<int>(
                    ::pwrite(device.get(), &value, 2, static_cast<off_t>(config_offset + PCI_COMMAND))),
                "writing command");
    }

    void reset() const { checked(::ioctl(device.get(), VFIO_DEVICE_RESET), "VFIO_DEVICE_RESET"); }

    void map(void* memory, uint64_t iova, uint64_t bytes) const {
        vfio_iommu_type1_dma_map map{};
        map.argsz = sizeof(map);
        map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
        map.vaddr = reinterpret_cast<uint64_t>(memory);
        map.iova = iova;
        map.size = bytes;
        checked(::ioctl(container.get(), VFIO_IOMMU_MAP_DMA, &map), "VFIO_IOMMU_MAP_DMA");
    }

    void set_vectors(const std::vector<int32_t>& fds, uint32_t index = VFIO_PCI_MSIX_IRQ_INDEX) const {
        std::vector<uint8_t> bytes(sizeof(vfio_irq_set) + fds.size() * 4);
        auto* set = reinterpret_cast<vfio_irq_set*>(bytes.data());
        set->argsz = static_cast<uint32_t>(bytes.size());
        set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        set->index = index;
        set->count = static_cast<uint32_t>(fds.size());
        std::memcpy(set->data, fds.data(), fds.size() * 4);
        checked(::ioctl(device.get(), VFIO_DEVICE_SET_IRQS, set), "VFIO_DEVICE_SET_IRQS");
    }

    void close() {
        device.reset();
        group.reset();
        container.reset();
    }

    Fd container, group, device;
    uint64_t config_offset = 0;
    Config config{};
};

// A description that the module accepts: the drive's own configuration space with a synthetic MSI capability
// in the place of MSI-X, without extended capabilities.
struct Description {
    explicit Description(const VfioDrive& drive)
        : config(drive.config), args(sized<lanepool_bridge_create>()) {
        std::fill(config.begin() + 0x100, config.end(), uint8_t{0});
        config[PCI_COMMAND] = config[PCI_COMMAND + 1] = 0;
        config[PCI_INTERRUPT_PIN] = 0;
        if (config[msi_at] != PCI_CAP_ID_MSIX)
            throw std::runtime_error("the drive has its MSI-X capability elsewhere");
        const uint8_t next = config[msi_at + 1];
        std::fill(config.begin() + msi_at, config.begin() + msi_at + 16, uint8_t{0});
        config[msi_at] = PCI_CAP_ID_MSI;
        config[msi_at + 1] = next;
        config[msi_at + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_64BIT | 2 << 1; // four vectors
        for (uint32_t at = config[PCI_CAPABILITY_LIST]; at; at = config[at + 1]) {
            if (config[at] == PCI_CAP_ID_PM) write_mask[at + PCI_PM_CTRL] = 3;
            if (config[at] == PCI_CAP_ID_EXP) {
                write_mask[at + PCI_EXP_DEVCTL] = write_mask[at + PCI_EXP_DEVCTL + 1] = 0xff;
                express = at;
            }
        }
        notify_mask[PCI_COMMAND] = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
        args.config_space = reinterpret_cast<uint64_t>(config.data());
        args.write_mask = reinterpret_cast<uint64_t>(write_mask.data());
        args.clear_mask = reinterpret_cast<uint64_t>(clear_mask.data());
        args.notify_mask = reinterpret_cast<uint64_t>(notify_mask.data());
        const auto bar = drive.region(VFIO_PCI_BAR0_REGION_INDEX);
        for (auto& other : args.bars)
            other.vfio_fd = -1;
        args.bars[0] = {drive.device.get(), LANEPOOL_BRIDGE_BAR_64BIT, bar.offset, bar.size, 0};
        args.vector_kind = LANEPOOL_BRIDGE_VECTORS_MSI;
        args.vectors = vectors;
        args.pool_bytes = pool_bytes;
        std::fill(std::begin(args.held_fds), std::end(args.held_fds), -1);
        args.held_fds[0] = drive.group.get();
        args.held_fds[1] = drive.container.get();
    }
    void use(lanepool_bridge_dma_mode mode) {
        args.dma_mode = mode;
        if (mode == LANEPOOL_BRIDGE_DMA_BOUNCE) return;
        args.pool_bytes = 0;
        args.iova_base = pool_iova;
        args.iova_bytes = mode == LANEPOOL_BRIDGE_DMA_IOMMU ? 64 << 20 : uint64_t{4} << 30;
    }
    Config config, write_mask{}, clear_mask{}, notify_mask{};
    uint32_t express = 0;
    lanepool_bridge_create args;
};

inline void put16(uint8_t* to, uint32_t value) {
    to[0] = static_cast<uint8_t>(value);
    to[1] = static_cast<uint8_t>(value >> 8);
}

inline void make_msix(Description& d, uint32_t table, uint32_t pending) {
    d.args.vector_kind = LANEPOOL_BRIDGE_VECTORS_MSIX;
    d.config[msi_at] = PCI_CAP_ID_MSIX;
    put16(&d.config[msi_at + PCI_MSIX_FLAGS], vectors - 1);
    std::memcpy(&d.config[msi_at + PCI_MSIX_TABLE], &table, 4);
    std::memcpy(&d.config[msi_at + PCI_MSIX_PBA], &pending, 4);
}

inline constexpr lanepool_bridge_dma_mode modes[] = {LANEPOOL_BRIDGE_DMA_BOUNCE, LANEPOOL_BRIDGE_DMA_IOMMU,
                                                     LANEPOOL_BRIDGE_DMA_DIRECT};

// The pool of a function. While it is mapped, its file and VFIO's are open.
class Pool {
  public:
    Pool(int bridge, size_t size_bytes) : bytes(size_bytes) {
        void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bridge, 0);
        if (at == MAP_FAILED) fail("mmap of the pool");
        data = static_cast<uint8_t*>(at);
    }
    ~Pool() { ::munmap(data, bytes); }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    uint8_t* data = nullptr;
    const size_t bytes;
};

// Plays the agent: injects the drive and forwards what has to be forwarded, in a thread of its own.
class Agent {
  public:
    explicit Agent(lanepool_bridge_dma_mode mode = LANEPOOL_BRIDGE_DMA_BOUNCE, uint64_t bytes = pool_bytes)
        : description(drive), bridge(open_file(bridge_path)) {
        description.use(mode);
        if (mode == LANEPOOL_BRIDGE_DMA_BOUNCE) description.args.pool_bytes = bytes;
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_CREATE, &description.args), "CREATE");
        if (mode == LANEPOOL_BRIDGE_DMA_BOUNCE) {
            const Pool pool(bridge.get(), bytes);
            drive.map(pool.data, pool_iova, bytes); // VFIO has its pins
        }
        std::vector<int32_t> fds;
        for (uint32_t i = 0; i < vectors; i++) {
            events.emplace_back(checked(::eventfd(0, EFD_CLOEXEC), "eventfd"));
            fds.push_back(events.back().get());
        }
        drive.set_vectors(fds);
        auto set = sized<lanepool_bridge_vectors>();
        set.count = vectors;
        set.fds = reinterpret_cast<uint64_t>(fds.data());
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_SET_VECTORS, &set), "SET_VECTORS");
        auto plug = sized<lanepool_bridge_plug>();
        plug.dma_base = pool_iova;
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_PLUG, &plug), "PLUG");
        char name[32];
        std::snprintf(name, sizeof(name), "%04x:%02x:00.0", plug.domain, plug.bus);
        where = fs::path("/sys/bus/pci/devices") / name;
        thread = std::thread([this] { serve(); });
    }
    ~Agent() { stop(); }

    void stop() {
        stopping = true;
        if (thread.joinable()) thread.join();
        bridge.reset();
    }

    void unplug(bool surprise) const {
        auto args = sized<lanepool_bridge_unplug>();
        args.flags = surprise ? LANEPOOL_BRIDGE_UNPLUG_SURPRISE : 0;
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_UNPLUG, &args), "UNPLUG");
    }

    uint32_t presence() const {
        auto args = sized<lanepool_bridge_info>();
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_INFO, &args), "INFO");
        return args.presence;
    }

    // That this many events of a type have come.
    bool heard(lanepool_bridge_event_type type, int count) const {
        return wait_until([&] { return told[type] == count; });
    }

    lanepool_bridge_stats stats() const {
        auto args = sized<lanepool_bridge_stats>();
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_STATS, &args), "STATS");
        return args;
    }

    // The block device that the kernel's driver has made of it, when its probe has ended: a removal before
    // that waits for what the driver waits for, up to its own time-outs.
    std::string disk() const {
        if (!wait_until([&] { return told[LANEPOOL_BRIDGE_EVENT_ATTACHED] > 0; }))
            throw std::runtime_error("no driver came to " + where.string());
        std::string found;
        const bool there = wait_until([&] {
            std::error_code none;
            for (const auto& controller : fs::directory_iterator(where / "nvme", none))
                for (const auto& entry : fs::directory_iterator(controller.path(), none)) {
                    const auto name = entry.path().filename().string();
                    if (name.starts_with("nvme") && name.ends_with("n1") && fs::exists("/dev/" + name))
                        found = "/dev/" + name;
                }
            return !found.empty();
        });
        if (!there) throw std::runtime_error("no block device came up at " + where.string());
        return found;
    }

    bool removed() const { return removed_; }
    bool released() const { return released_; }

    VfioDrive drive;
    Description description;
    Fd bridge;
    std::vector<Fd> events;
    fs::path where;
    std::atomic<int> resets{0}, writes{0};
    std::array<std::atomic<int>, 16> told{}; // events of each type

  private:
    void serve() {
        while (!stopping) {
            pollfd poller{bridge.get(), POLLIN, 0};
            if (::poll(&poller, 1, 10) <= 0) continue;
            lanepool_bridge_event got[8];
            const auto bytes = ::read(bridge.get(), got, sizeof(got));
            for (ssize_t i = 0; i < bytes / ssize_t{sizeof(got[0])}; i++)
                handle(got[i]);
        }
    }
    void handle(const lanepool_bridge_event& event) {
        if (event.type < told.size()) told[event.type]++;
        switch (event.type) {
        case LANEPOOL_BRIDGE_EVENT_CONFIG_WRITE:
            writes++;
            break;
        case LANEPOOL_BRIDGE_EVENT_RESET: {
            drive.reset();
            resets++;
            uint16_t command = 0;
            auto config = sized<lanepool_bridge_config>();
            config.offset = PCI_COMMAND;
            config.length = 2;
            config.data = reinterpret_cast<uint64_t>(&command);
            ::ioctl(bridge.get(), LANEPOOL_BRIDGE_UPDATE_CONFIG, &config);
            auto end = sized<lanepool_bridge_reset>();
            end.action = LANEPOOL_BRIDGE_RESET_END;
            ::ioctl(bridge.get(), LANEPOOL_BRIDGE_RESET, &end);
            break;
        }
        case LANEPOOL_BRIDGE_EVENT_REMOVED:
            removed_ = true;
            break;
        case LANEPOOL_BRIDGE_EVENT_RELEASED:
            released_ = true;
            break;
        default:
            break;
        }
    }
    std::atomic<bool> stopping{false}, removed_{false}, released_{false};
    std::thread thread;
};

struct Aligned {
    explicit Aligned(size_t size_bytes)
        : data(static_cast<uint8_t*>(std::aligned_alloc(4096, size_bytes))), bytes(size_bytes) {}
    ~Aligned() { std::free(data); }
    void fill(uint64_t seed) const {
        std::mt19937_64 random(seed);
        for (size_t i = 0; i < bytes; i += 8) {
            const uint64_t word = random();
            std::memcpy(data + i, &word, 8);
        }
    }
    uint8_t* data;
    size_t bytes;
};

// Writes, reads with another block size, and compares.
inline void verify(const std::string& disk, uint64_t seed, size_t bytes = 4 << 20) {
    const Fd file = open_file(disk, O_RDWR | O_DIRECT);
    const Aligned out(bytes), in(bytes);
    out.fill(seed);
    std::memset(in.data, 0, bytes);
    for (size_t at = 0; at < bytes; at += 128 << 10)
        ASSERT_EQ(::pwrite(file.get(), out.data + at, 128 << 10, static_cast<off_t>(at)), 128 << 10)
            << std::strerror(errno);
    ASSERT_EQ(::fsync(file.get()), 0) << std::strerror(errno);
    for (size_t at = 0, piece; at < bytes; at += piece) {
        piece = at < bytes / 4 ? 4096 : bytes / 4;
        ASSERT_EQ(::pread(file.get(), in.data + at, piece, static_cast<off_t>(at)),
                  static_cast<ssize_t>(piece))
            << std::strerror(errno);
    }
    ASSERT_EQ(std::memcmp(out.data, in.data, bytes), 0);
}

// Reads and writes until the disk fails.
inline std::thread load(const std::string& disk, std::atomic<int>& done) {
    return std::thread([disk, &done] {
        const int fd = ::open(disk.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
        const Aligned block(64 << 10);
        for (int i = 0; fd >= 0; i++, done++) {
            const auto at = static_cast<off_t>(i % 64) * (64 << 10);
            const ssize_t moved =
                i % 2 ? ::pread(fd, block.data, block.bytes, at) : ::pwrite(fd, block.data, block.bytes, at);
            if (moved < 0) break;
        }
        if (fd >= 0) ::close(fd);
    });
}

inline bool nothing_injected() {
    for (const auto& entry : fs::directory_iterator("/sys/bus/pci/devices"))
        if (entry.path().filename().string().size() > 12) return false;
    return true;
}

} // namespace bridge_host
