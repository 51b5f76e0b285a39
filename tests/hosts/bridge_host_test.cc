// SPDX-License-Identifier: Apache-2.0
//
// kernel/lanepool_bridge, with a real kernel and its unmodified NVMe driver. Runs inside of a whole host,
// whose kernel has the module loaded; bridge_test.py starts it there. It plays the agent without a fabric:
// the "adapter" is the NVMe drive itself, opened by VFIO, so what is injected is a drive of the same machine,
// seen through the module alone.
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

namespace {

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

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

int checked(int result, const char* what) {
    if (result < 0) fail(what);
    return result;
}

Fd open_file(const std::string& path, int flags = O_RDWR) {
    return Fd(checked(::open(path.c_str(), flags | O_CLOEXEC), path.c_str()));
}

std::string address() {
    const char* text = std::getenv("NVME");
    if (!text) throw std::runtime_error("NVME is not set");
    return text;
}

void write_file(const fs::path& path, const std::string& text) { std::ofstream(path) << text << std::flush; }

void give_to_vfio(const std::string& device) {
    const auto at = fs::path("/sys/bus/pci/devices") / device;
    write_file(at / "driver_override", "vfio-pci");
    write_file(at / "driver/unbind", device);
    write_file("/sys/bus/pci/drivers_probe", device);
}

bool wait_until(const std::function<bool()>& condition, int timeout_ms = 20'000) {
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
    VfioDrive() {
        const auto group_link = fs::read_symlink("/sys/bus/pci/devices/" + address() + "/iommu_group");
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
        device = Fd(checked(::ioctl(group.get(), VFIO_GROUP_GET_DEVICE_FD, address().c_str()),
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

// Plays the agent: injects the drive and forwards what has to be forwarded, in a thread of its own.
class Agent {
  public:
    explicit Agent(lanepool_bridge_dma_mode mode = LANEPOOL_BRIDGE_DMA_BOUNCE, uint64_t bytes = pool_bytes)
        : description(drive), bridge(open_file(bridge_path)) {
        description.use(mode);
        if (mode == LANEPOOL_BRIDGE_DMA_BOUNCE) description.args.pool_bytes = bytes;
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_CREATE, &description.args), "CREATE");
        if (mode == LANEPOOL_BRIDGE_DMA_BOUNCE) {
            void* pool = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bridge.get(), 0);
            if (pool == MAP_FAILED) fail("mmap of the pool");
            drive.map(pool, pool_iova, bytes);
            ::munmap(pool, bytes); // VFIO has its pins
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
void verify(const std::string& disk, uint64_t seed, size_t bytes = 4 << 20) {
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
std::thread load(const std::string& disk, std::atomic<int>& done) {
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

bool nothing_injected() {
    for (const auto& entry : fs::directory_iterator("/sys/bus/pci/devices"))
        if (entry.path().filename().string().size() > 12) return false;
    return true;
}

constexpr lanepool_bridge_dma_mode modes[] = {LANEPOOL_BRIDGE_DMA_BOUNCE, LANEPOOL_BRIDGE_DMA_IOMMU,
                                              LANEPOOL_BRIDGE_DMA_DIRECT};

class EachMode : public testing::TestWithParam<lanepool_bridge_dma_mode> {};

TEST_P(EachMode, DriverReadsAndWrites) {
    Agent agent(GetParam());
    verify(agent.disk(), 1);
    const auto stats = agent.stats();
    EXPECT_GT(stats.vectors_delivered, 0u);
    EXPECT_GT(stats.dma_maps, 0u);
    EXPECT_EQ(stats.events_lost, 0u);
    EXPECT_EQ(stats.bytes_copied > (8 << 20), GetParam() == LANEPOOL_BRIDGE_DMA_BOUNCE);
    agent.unplug(false);
    EXPECT_TRUE(wait_until([&] { return agent.removed() && agent.released(); }));
    EXPECT_TRUE(nothing_injected());
    EXPECT_GT(agent.writes, 0);
    const auto after = agent.stats();
    EXPECT_EQ(after.dma_maps, after.dma_unmaps);
    EXPECT_EQ(after.pool_used_bytes, 0u);
}

TEST_P(EachMode, ComesAndGoesTenTimes) {
    for (int i = 0; i < 10; i++) {
        Agent agent(GetParam());
        verify(agent.disk(), static_cast<uint64_t>(i), 1 << 20);
        agent.unplug(false);
        ASSERT_TRUE(wait_until([&] { return agent.released(); }));
    }
    EXPECT_TRUE(nothing_injected());
}

TEST_P(EachMode, GoesBySurpriseUnderLoad) {
    for (int i = 0; i < 3; i++) {
        Agent agent(GetParam());
        std::atomic<int> done{0};
        std::thread thread = load(agent.disk(), done);
        EXPECT_TRUE(wait_until([&] { return done > 10; }));
        agent.unplug(true);
        EXPECT_TRUE(wait_until([&] { return agent.released(); }));
        thread.join();
        EXPECT_TRUE(nothing_injected());
    }
}

TEST_P(EachMode, GoesOrderlyUnderLoad) {
    Agent agent(GetParam());
    std::atomic<int> done{0};
    std::thread thread = load(agent.disk(), done);
    EXPECT_TRUE(wait_until([&] { return done > 10; }));
    agent.unplug(false);
    EXPECT_TRUE(wait_until([&] { return agent.released(); }));
    thread.join();
}

// An agent that is killed: the function goes, and its adapter can be opened again.
TEST_P(EachMode, SurvivesAKilledAgent) {
    for (int i = 0; i < 3; i++) {
        int ready[2];
        ASSERT_EQ(::pipe(ready), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            try {
                Agent agent(GetParam());
                const auto disk = agent.disk() + "\n";
                if (::write(ready[1], disk.data(), disk.size()) < 0) ::_exit(2);
                ::pause();
            } catch (const std::exception& error) {
                std::fprintf(stderr, "%s\n", error.what());
            }
            ::_exit(1);
        }
        ::close(ready[1]);
        char name[64] = {};
        ASSERT_GT(::read(ready[0], name, sizeof(name) - 1), 0);
        ::close(ready[0]);
        std::atomic<int> done{0};
        std::thread thread = load(std::string(name, std::strcspn(name, "\n")), done);
        EXPECT_TRUE(wait_until([&] { return done > 10; }));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        thread.join();
        EXPECT_TRUE(wait_until(nothing_injected));
        // VFIO lets go when the removal has ended.
        EXPECT_TRUE(wait_until([] {
            try {
                const VfioDrive drive;
                return true;
            } catch (const std::exception&) {
                return false;
            }
        }));
    }
}

TEST_P(EachMode, ADiskHeldOpenKeepsTheMemory) {
    Agent agent(GetParam());
    Fd held = open_file(agent.disk(), O_RDONLY);
    agent.unplug(true);
    EXPECT_TRUE(wait_until([&] { return agent.removed(); }));
    char byte;
    EXPECT_LT(::read(held.get(), &byte, 1), 1);
    held.reset();
    EXPECT_TRUE(wait_until([&] { return agent.released(); }));
}

TEST_P(EachMode, ResetsWhenTheDriverAsks) {
    Agent agent(GetParam());
    verify(agent.disk(), 5, 1 << 20);
    {
        std::ofstream file(agent.where / "reset");
        file << "1" << std::flush;
        EXPECT_TRUE(file.good());
    }
    EXPECT_EQ(agent.resets, 1);
    verify(agent.disk(), 6, 1 << 20);
}

// A rescan finds the function again, and it still gives no bare addresses away.
TEST_P(EachMode, ComesBackAfterARescan) {
    Agent agent(GetParam());
    agent.disk();
    std::ofstream(agent.where / "remove") << "1" << std::flush;
    EXPECT_TRUE(nothing_injected());
    std::ofstream("/sys/bus/pci/rescan") << "1" << std::flush;
    verify(agent.disk(), 7, 1 << 20);
}

// The adapter is taken away under the function: VFIO waits for its users, and the lock that all hot-plug
// needs is held meanwhile.
TEST_P(EachMode, LetsItsAdapterBeRemoved) {
    {
        Agent agent(GetParam());
        std::atomic<int> done{0};
        std::thread thread = load(agent.disk(), done);
        const Fd wanted(::eventfd(0, EFD_CLOEXEC));
        agent.drive.set_vectors({wanted.get()}, VFIO_PCI_REQ_IRQ_INDEX);
        std::atomic<bool> gone{false};
        std::thread remover([&] {
            write_file("/sys/bus/pci/devices/" + address() + "/remove", "1");
            gone = true;
        });
        pollfd waiting{wanted.get(), POLLIN, 0};
        EXPECT_EQ(::poll(&waiting, 1, 20'000), 1);
        EXPECT_FALSE(gone);
        agent.unplug(true);
        agent.drive.close();
        EXPECT_TRUE(wait_until([&] { return gone && agent.released(); }));
        thread.join();
        remover.join();
    }
    EXPECT_FALSE(fs::exists("/sys/bus/pci/devices/" + address()));
    write_file("/sys/bus/pci/rescan", "1");
    give_to_vfio(address());
}

INSTANTIATE_TEST_SUITE_P(Dma, EachMode, testing::ValuesIn(modes), [](const auto& mode) {
    return std::string(mode.param == LANEPOOL_BRIDGE_DMA_BOUNCE  ? "Bounce"
                       : mode.param == LANEPOOL_BRIDGE_DMA_IOMMU ? "Iommu"
                                                                 : "Direct");
});

// What the host's own user does with the function is told of.
TEST(Presence, IsToldOf) {
    Agent agent;
    agent.disk();
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_ATTACHED, 1));
    EXPECT_EQ(agent.told[LANEPOOL_BRIDGE_EVENT_PRESENT], 1);
    EXPECT_EQ(agent.told[LANEPOOL_BRIDGE_EVENT_BOUND], 1);
    EXPECT_EQ(agent.presence(), uint32_t{LANEPOOL_BRIDGE_PRESENT | LANEPOOL_BRIDGE_BOUND});
    // Whoever may bind drivers is not kept from it by what keeps them away while the function is made.
    std::string override;
    std::ifstream(agent.where / "driver_override") >> override;
    EXPECT_EQ(override, "(null)");
    const auto name = agent.where.filename().string();
    write_file("/sys/bus/pci/drivers/nvme/unbind", name);
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_UNBOUND, 1));
    EXPECT_EQ(agent.presence(), uint32_t{LANEPOOL_BRIDGE_PRESENT});
    write_file("/sys/bus/pci/drivers/nvme/bind", name);
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_BOUND, 2));
    write_file(agent.where / "remove", "1");
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_ABSENT, 1));
    EXPECT_EQ(agent.told[LANEPOOL_BRIDGE_EVENT_UNBOUND], 2);
    EXPECT_EQ(agent.presence(), 0u);
    write_file("/sys/bus/pci/rescan", "1");
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_BOUND, 3));
    EXPECT_EQ(agent.told[LANEPOOL_BRIDGE_EVENT_PRESENT], 2);
    verify(agent.disk(), 8, 1 << 20);
    agent.unplug(false);
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_RELEASED, 1));
    EXPECT_EQ(agent.told[LANEPOOL_BRIDGE_EVENT_ABSENT], 2);
    EXPECT_EQ(agent.presence(), 0u);
}

TEST(Bounce, ASmallPoolStaysCorrect) {
    Agent agent(LANEPOOL_BRIDGE_DMA_BOUNCE, 1 << 20);
    const auto disk = agent.disk();
    std::vector<std::thread> threads;
    // Each its own part of the disk, all at once.
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&, i] {
            const Fd file = open_file(disk, O_RDWR | O_DIRECT);
            const Aligned out(256 << 10), in(256 << 10);
            for (int round = 0; round < 8; round++) {
                const off_t at = (8 << 20) + i * (1 << 20);
                out.fill(static_cast<uint64_t>(i * 100 + round));
                ASSERT_EQ(::pwrite(file.get(), out.data, out.bytes, at), ssize_t(out.bytes));
                ASSERT_EQ(::pread(file.get(), in.data, in.bytes, at), ssize_t(in.bytes));
                ASSERT_EQ(std::memcmp(out.data, in.data, in.bytes), 0);
            }
        });
    for (auto& thread : threads)
        thread.join();
}

// What CREATE must refuse: a change of a good description, and the error.
struct Refused {
    const char* name;
    int error;
    std::function<void(Description&)> change;
};

void put16(uint8_t* to, uint32_t value) {
    to[0] = static_cast<uint8_t>(value);
    to[1] = static_cast<uint8_t>(value >> 8);
}

// An extended capability at the beginning of their list.
void extended(Description& d, uint16_t id, uint16_t next = 0) {
    put16(&d.config[0x100], id);
    put16(&d.config[0x102], 1u | static_cast<uint32_t>(next << 4));
}

// A capability of this kind in front of all others.
void capability(Description& d, uint8_t id) {
    d.config[0xe0] = id;
    d.config[0xe1] = d.config[PCI_CAPABILITY_LIST];
    d.config[PCI_CAPABILITY_LIST] = 0xe0;
}

void make_msix(Description& d, uint32_t table, uint32_t pending) {
    d.args.vector_kind = LANEPOOL_BRIDGE_VECTORS_MSIX;
    d.config[msi_at] = PCI_CAP_ID_MSIX;
    put16(&d.config[msi_at + PCI_MSIX_FLAGS], vectors - 1);
    std::memcpy(&d.config[msi_at + PCI_MSIX_TABLE], &table, 4);
    std::memcpy(&d.config[msi_at + PCI_MSIX_PBA], &pending, 4);
}

const std::vector<Refused>& refused() {
    static const std::vector<Refused> all = {
        {"size 0", EINVAL, [](auto& d) { d.args.size = 0; }},
        {"size short", EINVAL, [](auto& d) { d.args.size--; }},
        {"size long", EINVAL, [](auto& d) { d.args.size++; }},
        {"flags", EINVAL, [](auto& d) { d.args.flags = 1; }},
        {"reserved", EINVAL, [](auto& d) { d.args.reserved[3] = 1; }},
        {"config pointer", EFAULT, [](auto& d) { d.args.config_space = 0; }},
        {"mask pointer", EFAULT, [](auto& d) { d.args.write_mask = ~uint64_t{0}; }},
        {"kernel pointer", EFAULT, [](auto& d) { d.args.clear_mask = 0xffff'8880'0000'0000; }},
        {"notify pointer", EFAULT, [](auto& d) { d.args.notify_mask = 0xffff'ffff'8000'0000; }},
        {"vector kind", EINVAL, [](auto& d) { d.args.vector_kind = 3; }},
        {"no vectors with MSI", EINVAL, [](auto& d) { d.args.vectors = 0; }},
        {"vectors without kind", EINVAL, [](auto& d) { d.args.vector_kind = LANEPOOL_BRIDGE_VECTORS_NONE; }},
        {"other vectors than the capability", EINVAL, [](auto& d) { d.args.vectors = 8; }},
        {"too many vectors for MSI", EINVAL, [](auto& d) { d.args.vectors = 64; }},
        {"too many vectors", EINVAL,
         [](auto& d) {
             make_msix(d, 0x2000, 0x3000);
             d.args.vectors = ~0u;
         }},
        {"MSI-X of another kind", EINVAL,
         [](auto& d) {
             make_msix(d, 0x2000, 0x3000);
             d.args.vector_kind = LANEPOOL_BRIDGE_VECTORS_MSI;
         }},
        {"MSI-X table outside", EINVAL, [](auto& d) { make_msix(d, 0x3fd0, 0x3000); }},
        {"MSI-X pending bits outside", EINVAL, [](auto& d) { make_msix(d, 0x2000, 0x4000); }},
        {"MSI-X in a BAR that is not there", EINVAL, [](auto& d) { make_msix(d, 0x2002, 0x3000); }},
        {"MSI-X in no BAR", EINVAL, [](auto& d) { make_msix(d, 0x2007, 0x3000); }},
        {"dma mode", EINVAL, [](auto& d) { d.args.dma_mode = 3; }},
        {"pool 0", EINVAL, [](auto& d) { d.args.pool_bytes = 0; }},
        {"pool odd", EINVAL, [](auto& d) { d.args.pool_bytes++; }},
        {"pool huge", EINVAL, [](auto& d) { d.args.pool_bytes = uint64_t{1} << 40; }},
        {"pool overflowing", EINVAL, [](auto& d) { d.args.pool_bytes = ~uint64_t{4095}; }},
        {"bounce with a range", EINVAL, [](auto& d) { d.args.iova_bytes = 4096; }},
        {"bounce with an adapter", EINVAL, [](auto& d) { d.args.dma_bar = 1; }},
        {"iommu with a pool", EINVAL,
         [](auto& d) {
             d.use(LANEPOOL_BRIDGE_DMA_IOMMU);
             d.args.pool_bytes = 4096;
         }},
        {"iommu without range", EINVAL,
         [](auto& d) {
             d.use(LANEPOOL_BRIDGE_DMA_IOMMU);
             d.args.iova_bytes = 0;
         }},
        {"iommu range odd", EINVAL,
         [](auto& d) {
             d.use(LANEPOOL_BRIDGE_DMA_IOMMU);
             d.args.iova_base += 8;
         }},
        {"iommu range too large", EINVAL,
         [](auto& d) {
             d.use(LANEPOOL_BRIDGE_DMA_IOMMU);
             d.args.iova_bytes = uint64_t{1} << 40;
         }},
        {"iommu range overflowing", EINVAL,
         [](auto& d) {
             d.use(LANEPOOL_BRIDGE_DMA_IOMMU);
             d.args.iova_base = ~uint64_t{4095};
             d.args.iova_bytes = 8192;
         }},
        {"iommu range beyond the IOMMU", ERANGE,
         [](auto& d) {
             d.use(LANEPOOL_BRIDGE_DMA_IOMMU);
             d.args.iova_base = uint64_t{1} << 60;
         }},
        {"iommu range over MSI", EINVAL,
         [](auto& d) {
             d.use(LANEPOOL_BRIDGE_DMA_IOMMU);
             d.args.iova_base = 0xfee0'0000;
             d.args.iova_bytes = 4096;
         }},
        {"iommu with another BAR", EINVAL,
         [](auto& d) {
             d.use(LANEPOOL_BRIDGE_DMA_IOMMU);
             d.args.dma_bar = 1;
         }},
        {"iommu with no BAR", EINVAL,
         [](auto& d) {
             d.use(LANEPOOL_BRIDGE_DMA_IOMMU);
             d.args.dma_bar = ~0u;
         }},
        {"direct range too small", ERANGE,
         [](auto& d) {
             d.use(LANEPOOL_BRIDGE_DMA_DIRECT);
             d.args.iova_bytes = 1 << 20;
         }},
        {"BAR fd", EBADF, [](auto& d) { d.args.bars[0].vfio_fd = -1; }},
        {"BAR fd of something else", EINVAL, [](auto& d) { d.args.bars[0].vfio_fd = 0; }},
        {"BAR fd of a container", ENODEV, [](auto& d) { d.args.bars[0].vfio_fd = d.args.held_fds[1]; }},
        {"BAR flags", EINVAL, [](auto& d) { d.args.bars[0].flags = 4; }},
        {"BAR reserved", EINVAL, [](auto& d) { d.args.bars[0].reserved = 1; }},
        {"BAR size no power of two", EINVAL, [](auto& d) { d.args.bars[0].size = 0x3000; }},
        {"BAR size small", EINVAL, [](auto& d) { d.args.bars[0].size = 8; }},
        {"BAR larger than the region", EINVAL, [](auto& d) { d.args.bars[0].size = 1 << 20; }},
        {"BAR huge", EINVAL, [](auto& d) { d.args.bars[0].size = uint64_t{1} << 63; }},
        {"BAR not aligned", EINVAL,
         [](auto& d) {
             d.args.bars[0].offset += 0x1000;
             d.args.bars[0].size = 0x2000;
         }},
        {"BAR offset odd", EINVAL,
         [](auto& d) {
             d.args.bars[0].offset += 8;
             d.args.bars[0].size = 16;
         }},
        {"BAR offset overflowing", EINVAL, [](auto& d) { d.args.bars[0].offset = ~uint64_t{0}; }},
        {"BAR of configuration space", EINVAL,
         [](auto& d) {
             d.args.bars[0].offset = uint64_t{7} << 40;
             d.args.bars[0].size = 4096;
         }},
        {"BAR of no region", EINVAL, [](auto& d) { d.args.bars[0].offset = uint64_t{5} << 40; }},
        {"absent BAR with offset", EINVAL, [](auto& d) { d.args.bars[4].offset = 4096; }},
        {"64 bits without room", EINVAL,
         [](auto& d) {
             d.args.bars[5] = d.args.bars[0];
             d.args.bars[0] = {-1, 0, 0, 0, 0};
         }},
        {"64 bits over another", EINVAL,
         [](auto& d) {
             d.args.bars[1] = d.args.bars[0];
             d.args.bars[1].flags = 0;
         }},
        {"the same BAR twice", EINVAL, [](auto& d) { d.args.bars[2] = d.args.bars[0]; }},
        {"32 bits too large", EINVAL,
         [](auto& d) {
             d.args.bars[0].flags = 0;
             d.args.bars[0].size = uint64_t{1} << 32;
         }},
        {"held file that is none", EBADF, [](auto& d) { d.args.held_fds[7] = 12345; }},
        {"held file of something else", EINVAL, [](auto& d) { d.args.held_fds[7] = 0; }},
        {"no vendor", EINVAL, [](auto& d) { put16(&d.config[0], 0xffff); }},
        {"bridge header", EINVAL, [](auto& d) { d.config[PCI_HEADER_TYPE] = 1; }},
        {"many functions", EINVAL, [](auto& d) { d.config[PCI_HEADER_TYPE] = 0x80; }},
        {"bridge class", EINVAL, [](auto& d) { d.config[PCI_CLASS_DEVICE + 1] = 6; }},
        {"INTx", EINVAL, [](auto& d) { d.config[PCI_INTERRUPT_PIN] = 1; }},
        {"circle of capabilities", EINVAL, [](auto& d) { d.config[msi_at + 1] = msi_at; }},
        {"capability in the header", EINVAL, [](auto& d) { d.config[msi_at + 1] = 0x10; }},
        {"capability not aligned", EINVAL, [](auto& d) { d.config[PCI_CAPABILITY_LIST] |= 1; }},
        {"no capabilities, but vectors", EINVAL, [](auto& d) { d.config[PCI_STATUS] = 0; }},
        {"two of vectors", EINVAL,
         [](auto& d) {
             capability(d, PCI_CAP_ID_MSI);
             put16(&d.config[0xe2], 2 << 1);
         }},
        {"enhanced allocation", EOPNOTSUPP, [](auto& d) { capability(d, PCI_CAP_ID_EA); }},
        {"unknown capability", EOPNOTSUPP, [](auto& d) { capability(d, 0x7f); }},
        {"MSI enabled", EINVAL, [](auto& d) { d.config[msi_at + PCI_MSI_FLAGS] |= 1; }},
        {"root port", EINVAL, [](auto& d) { d.config[d.express + PCI_EXP_FLAGS] = 0x42; }},
        {"SR-IOV", EOPNOTSUPP, [](auto& d) { extended(d, PCI_EXT_CAP_ID_SRIOV); }},
        {"ATS", EOPNOTSUPP, [](auto& d) { extended(d, PCI_EXT_CAP_ID_ATS); }},
        {"PRI", EOPNOTSUPP, [](auto& d) { extended(d, PCI_EXT_CAP_ID_PRI); }},
        {"PASID", EOPNOTSUPP, [](auto& d) { extended(d, PCI_EXT_CAP_ID_PASID); }},
        {"resizable BAR", EOPNOTSUPP, [](auto& d) { extended(d, PCI_EXT_CAP_ID_REBAR); }},
        {"extended circle", EINVAL, [](auto& d) { extended(d, PCI_EXT_CAP_ID_DSN, 0x100); }},
        {"extended list downwards", EINVAL, [](auto& d) { extended(d, PCI_EXT_CAP_ID_DSN, 0x40); }},
    };
    return all;
}

TEST(Hostile, CreateRefusesWhatItCannotServe) {
    const VfioDrive drive;
    const Fd bridge = open_file(bridge_path);
    for (const auto& one : refused()) {
        Description description(drive);
        one.change(description);
        errno = 0;
        EXPECT_EQ(::ioctl(bridge.get(), LANEPOOL_BRIDGE_CREATE, &description.args), -1) << one.name;
        EXPECT_EQ(errno, one.error) << one.name << ": " << std::strerror(errno);
        auto info = sized<lanepool_bridge_info>();
        ASSERT_EQ(::ioctl(bridge.get(), LANEPOOL_BRIDGE_INFO, &info), 0);
        EXPECT_EQ(info.state, LANEPOOL_BRIDGE_EMPTY) << one.name;
    }
    // And takes the good one afterwards.
    Description good(drive);
    EXPECT_EQ(::ioctl(bridge.get(), LANEPOOL_BRIDGE_CREATE, &good.args), 0) << std::strerror(errno);
    EXPECT_EQ(::ioctl(bridge.get(), LANEPOOL_BRIDGE_CREATE, &good.args), -1);
    EXPECT_EQ(errno, EBUSY);
}

TEST(Hostile, DirectModeNeedsTheParameter) {
    const VfioDrive drive;
    const Fd bridge = open_file(bridge_path);
    const auto allow = [](const char* text) {
        std::ofstream("/sys/module/lanepool_bridge/parameters/allow_direct") << text << std::flush;
    };
    allow("0");
    Description description(drive);
    description.use(LANEPOOL_BRIDGE_DMA_DIRECT);
    EXPECT_EQ(::ioctl(bridge.get(), LANEPOOL_BRIDGE_CREATE, &description.args), -1);
    EXPECT_EQ(errno, EPERM);
    allow("1");
}

TEST(Hostile, AnIommuRangeThatIsMappedIsRefused) {
    const VfioDrive drive;
    const Aligned page(4096);
    page.fill(1);
    drive.map(page.data, pool_iova + (1 << 20), 4096);
    const Fd bridge = open_file(bridge_path);
    for (const auto mode : {LANEPOOL_BRIDGE_DMA_IOMMU, LANEPOOL_BRIDGE_DMA_DIRECT}) {
        Description description(drive);
        description.use(mode);
        EXPECT_EQ(::ioctl(bridge.get(), LANEPOOL_BRIDGE_CREATE, &description.args), -1);
        EXPECT_EQ(errno, EBUSY);
    }
}

TEST(Hostile, NeedsPrivilege) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::chmod(bridge_path, 0666);
        if (::setuid(65534)) ::_exit(2);
        ::_exit(::open(bridge_path, O_RDWR) < 0 && errno == EPERM ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ::chmod(bridge_path, 0600);
    EXPECT_EQ(status, 0);
}

// The other calls, on a function that is described and on one that is not.
TEST(Hostile, OtherCallsAreChecked) {
    const VfioDrive drive;
    const Fd bridge = open_file(bridge_path);
    const auto refuse = [&](unsigned long command, void* args, int error, const char* what) {
        errno = 0;
        EXPECT_EQ(::ioctl(bridge.get(), command, args), -1) << what;
        EXPECT_EQ(errno, error) << what << ": " << std::strerror(errno);
    };
    uint8_t bytes[8192] = {};
    auto plug = sized<lanepool_bridge_plug>();
    auto unplug = sized<lanepool_bridge_unplug>();
    auto config = sized<lanepool_bridge_config>();
    config.length = 4;
    config.data = reinterpret_cast<uint64_t>(bytes);
    auto set = sized<lanepool_bridge_vectors>();
    set.count = 1;
    set.fds = reinterpret_cast<uint64_t>(bytes);
    auto reset = sized<lanepool_bridge_reset>();
    reset.action = LANEPOOL_BRIDGE_RESET_BEGIN;
    refuse(LANEPOOL_BRIDGE_PLUG, &plug, EBUSY, "plug of nothing");
    refuse(LANEPOOL_BRIDGE_UNPLUG, &unplug, ENODEV, "unplug of nothing");
    refuse(LANEPOOL_BRIDGE_READ_CONFIG, &config, ENODEV, "config of nothing");
    refuse(LANEPOOL_BRIDGE_SET_VECTORS, &set, ENODEV, "vectors of nothing");
    refuse(LANEPOOL_BRIDGE_RESET, &reset, ENODEV, "reset of nothing");
    EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, bridge.get(), 0), MAP_FAILED);
    refuse(_IO(LANEPOOL_BRIDGE_TYPE, 99), nullptr, ENOTTY, "unknown call");
    for (const auto command :
         {LANEPOOL_BRIDGE_INFO, LANEPOOL_BRIDGE_CREATE, LANEPOOL_BRIDGE_PLUG, LANEPOOL_BRIDGE_UNPLUG,
          LANEPOOL_BRIDGE_SET_VECTORS, LANEPOOL_BRIDGE_UPDATE_CONFIG, LANEPOOL_BRIDGE_READ_CONFIG,
          LANEPOOL_BRIDGE_RESET, LANEPOOL_BRIDGE_STATS})
        if (command != LANEPOOL_BRIDGE_CREATE) refuse(command, nullptr, EFAULT, "no argument");

    Description description(drive);
    ASSERT_EQ(::ioctl(bridge.get(), LANEPOOL_BRIDGE_CREATE, &description.args), 0);
    const auto with = [&](auto args, unsigned long command, int error, const char* what, auto change) {
        change(args);
        refuse(command, &args, error, what);
    };
    with(plug, LANEPOOL_BRIDGE_PLUG, EINVAL, "base odd", [](auto& a) { a.dma_base = 1; });
    with(plug, LANEPOOL_BRIDGE_PLUG, EINVAL, "base overflowing",
         [](auto& a) { a.dma_base = ~uint64_t{4095}; });
    with(plug, LANEPOOL_BRIDGE_PLUG, EINVAL, "plug flags", [](auto& a) { a.flags = 1; });
    with(plug, LANEPOOL_BRIDGE_PLUG, EINVAL, "plug reserved", [](auto& a) { a.reserved[1] = 1; });
    with(plug, LANEPOOL_BRIDGE_PLUG, EINVAL, "plug size", [](auto& a) { a.size = 4; });
    with(unplug, LANEPOOL_BRIDGE_UNPLUG, EINVAL, "unplug flags", [](auto& a) { a.flags = 2; });
    with(unplug, LANEPOOL_BRIDGE_UNPLUG, ENODEV, "unplug before plug", [](auto&) {});
    for (const auto command : {LANEPOOL_BRIDGE_READ_CONFIG, LANEPOOL_BRIDGE_UPDATE_CONFIG}) {
        with(config, command, EINVAL, "config length 0", [](auto& a) { a.length = 0; });
        with(config, command, EINVAL, "config length", [](auto& a) { a.length = 4097; });
        with(config, command, EINVAL, "config end", [](auto& a) { a.offset = 4093; });
        with(config, command, EINVAL, "config overflow", [](auto& a) { a.offset = ~3u; });
        with(config, command, EINVAL, "config flags", [](auto& a) { a.flags = 1; });
        with(config, command, EFAULT, "config data", [](auto& a) { a.data = 0xffff'8880'0000'0000; });
    }
    for (const uint32_t offset : {uint32_t{PCI_VENDOR_ID}, uint32_t{PCI_CLASS_REVISION},
                                  uint32_t{PCI_BASE_ADDRESS_0}, msi_at, 0x100u})
        with(config, LANEPOOL_BRIDGE_UPDATE_CONFIG, EPERM, "fixed bytes", [&](auto& a) {
            std::memset(bytes, 0x5a, 4);
            a.offset = offset;
        });
    std::memset(bytes, 0, 4);
    with(set, LANEPOOL_BRIDGE_SET_VECTORS, EINVAL, "no eventfd", [](auto&) {}); // descriptor 0
    with(set, LANEPOOL_BRIDGE_SET_VECTORS, EINVAL, "start", [](auto& a) { a.start = vectors; });
    with(set, LANEPOOL_BRIDGE_SET_VECTORS, EINVAL, "count", [](auto& a) { a.count = vectors + 1; });
    with(set, LANEPOOL_BRIDGE_SET_VECTORS, EINVAL, "count huge", [](auto& a) { a.start = 1, a.count = ~0u; });
    with(set, LANEPOOL_BRIDGE_SET_VECTORS, EFAULT, "fds", [](auto& a) { a.fds = 0; });
    with(reset, LANEPOOL_BRIDGE_RESET, EINVAL, "action", [](auto& a) { a.action = 3; });
    char small[8];
    EXPECT_EQ(::read(bridge.get(), small, sizeof(small)), -1);
    for (const auto& [offset, length] :
         {std::pair<off_t, size_t>{0, pool_bytes + 4096}, {pool_bytes, 4096}, {off_t{1} << 50, 4096}})
        EXPECT_EQ(::mmap(nullptr, length, PROT_READ, MAP_SHARED, bridge.get(), offset), MAP_FAILED);
    EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, bridge.get(), 0), MAP_FAILED);
}

// Random calls with random changes of good arguments. What survives the checks is really injected, and goes
// with its file.
TEST(Hostile, FuzzedCallsDoNoHarm) {
    const char* seconds = std::getenv("FUZZ_S");
    const char* text = std::getenv("FUZZ_SEED");
    const uint64_t seed =
        text ? std::stoull(text) : static_cast<uint64_t>(steady_clock::now().time_since_epoch().count());
    SCOPED_TRACE("FUZZ_SEED=" + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto end = steady_clock::now() + std::chrono::seconds(seconds ? std::atoi(seconds) : 5);
    const VfioDrive drive;
    const Fd event(::eventfd(0, EFD_CLOEXEC));
    constexpr uint64_t odd[] = {0,
                                1,
                                3,
                                4,
                                7,
                                8,
                                16,
                                4095,
                                4096,
                                4097,
                                1 << 20,
                                0x7fff'ffff,
                                0x8000'0000,
                                0xffff'ffff,
                                uint64_t{1} << 40,
                                ~uint64_t{0},
                                ~uint64_t{4095}};
    uint64_t calls = 0, accepted = 0, plugged = 0;
    while (steady_clock::now() < end) {
        Fd bridge = open_file(bridge_path, O_RDWR | O_NONBLOCK);
        Description d(drive);
        d.args.pool_bytes = 1 << 20;
        if (random() % 4 == 0) d.use(random() % 2 ? LANEPOOL_BRIDGE_DMA_IOMMU : LANEPOOL_BRIDGE_DMA_DIRECT);
        // No driver comes to it: this is about the module and the PCI core, and nobody serves a driver here.
        d.config[PCI_DEVICE_ID] = 0xee;
        d.config[PCI_CLASS_DEVICE + 1] = 0xff;
        const auto spoil = [&](void* at, size_t bytes, int times) {
            for (int i = 0; i < times; i++) {
                auto* to = static_cast<uint8_t*>(at) + random() % (bytes / 4) * 4;
                const uint64_t value = random() % 2 ? odd[random() % std::size(odd)] : random();
                std::memcpy(to, &value, 4);
            }
        };
        for (auto* bytes : {&d.config, &d.write_mask, &d.clear_mask, &d.notify_mask})
            if (random() % 4 == 0)
                for (auto n = random() % 8; n; n--)
                    (*bytes)[random() % (random() % 2 ? 256 : 4096)] = static_cast<uint8_t>(random());
        if (random() % 2) spoil(&d.args, sizeof(d.args), static_cast<int>(random() % 3));
        for (auto n = 4 + random() % 12; n; n--, calls++) {
            std::array<uint64_t, 64> args{};
            const unsigned long commands[] = {
                LANEPOOL_BRIDGE_INFO,        LANEPOOL_BRIDGE_CREATE,      LANEPOOL_BRIDGE_PLUG,
                LANEPOOL_BRIDGE_UNPLUG,      LANEPOOL_BRIDGE_SET_VECTORS, LANEPOOL_BRIDGE_UPDATE_CONFIG,
                LANEPOOL_BRIDGE_READ_CONFIG, LANEPOOL_BRIDGE_RESET,       LANEPOOL_BRIDGE_STATS};
            const unsigned long command = commands[random() % std::size(commands)];
            if (command == LANEPOOL_BRIDGE_CREATE) {
                accepted += ::ioctl(bridge.get(), command, &d.args) == 0;
                continue;
            }
            const uint32_t size = _IOC_SIZE(command);
            std::memcpy(args.data(), &size, 4);
            std::array<int32_t, 16> fds{};
            fds.fill(event.get());
            auto* words = reinterpret_cast<uint32_t*>(args.data());
            if (command == LANEPOOL_BRIDGE_PLUG) args[1] = pool_iova;
            if (command == LANEPOOL_BRIDGE_SET_VECTORS)
                words[3] = 1 + random() % 4, args[2] = reinterpret_cast<uint64_t>(fds.data());
            if (command == LANEPOOL_BRIDGE_UPDATE_CONFIG || command == LANEPOOL_BRIDGE_READ_CONFIG)
                words[2] = random() % 4096, words[3] = 1 + random() % 64,
                args[2] = reinterpret_cast<uint64_t>(d.config.data());
            if (command == LANEPOOL_BRIDGE_RESET) words[2] = 1 + random() % 2;
            if (random() % 4 == 0) spoil(args.data(), size, 1);
            const bool ok = ::ioctl(bridge.get(), command, args.data()) == 0;
            plugged += ok && command == LANEPOOL_BRIDGE_PLUG;
            const uint64_t one = 1;
            if (::write(event.get(), &one, 8) != 8) fail("eventfd");
            if (random() % 8 == 0) {
                const size_t bytes = size_t{4096} << random() % 10;
                void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bridge.get(),
                                      static_cast<off_t>(odd[random() % std::size(odd)]));
                if (memory != MAP_FAILED) {
                    *static_cast<volatile int*>(memory) = 1;
                    ::munmap(memory, bytes); // a mapping is a reference to the file, too
                }
            }
            lanepool_bridge_event got[4];
            (void)!::read(bridge.get(), got, sizeof(got));
        }
    }
    std::printf("%llu calls, %llu functions described, %llu injected, seed %llu\n",
                static_cast<unsigned long long>(calls), static_cast<unsigned long long>(accepted),
                static_cast<unsigned long long>(plugged), static_cast<unsigned long long>(seed));
    EXPECT_GT(plugged, 0u);
    EXPECT_TRUE(wait_until(nothing_injected));
}

} // namespace
