// SPDX-License-Identifier: Apache-2.0
//
// Random calls of kernel/lanepool_bridge: right ones, and right ones with something wrong in them; one after
// the other, and by several threads that take away each other's files, functions and adapters. FUZZ_S is for
// how many seconds altogether; FUZZ_SEED begins with what was tried before. Where the kernel can let
// allocations fail (tests/hosts/bridge_kasan.py), they do.
#include "bridge_host.h"

#include <mutex>

namespace {

using namespace bridge_host;

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

steady_clock::time_point fuzz_end() {
    const char* seconds = std::getenv("FUZZ_S");
    return steady_clock::now() + milliseconds(500 * (seconds ? std::atoi(seconds) : 4)); // for each of two
}

uint64_t fuzz_seed() {
    const char* text = std::getenv("FUZZ_SEED");
    return text ? std::stoull(text) : static_cast<uint64_t>(steady_clock::now().time_since_epoch().count());
}

// While it lives, one of the next allocations of this thread fails.
class FailingAllocation {
  public:
    explicit FailingAllocation(uint64_t nth) { set(nth); }
    ~FailingAllocation() { set(0); }

  private:
    static void set(uint64_t nth) {
        // Opened once for each thread: to open it takes allocations, too.
        thread_local const Fd file(::open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC));
        if (file.get() < 0) return;
        const auto text = std::to_string(nth);
        (void)!::pwrite(file.get(), text.data(), text.size(), 0);
    }
};

class Caller {
  public:
    explicit Caller(uint64_t seed) : random(seed) {}

    uint64_t below(uint64_t count) { return random() % count; }
    bool one_in(uint64_t count) { return below(count) == 0; }
    uint64_t number() { return one_in(2) ? odd[below(std::size(odd))] : random(); }

    void spoil(void* at, size_t size_bytes, uint64_t times) {
        for (; times; times--) {
            auto* to = static_cast<uint8_t*>(at) + below(size_bytes / 4) * 4;
            const uint64_t value = number();
            std::memcpy(to, &value, 4);
        }
    }

    // A function for bridge_driver, which is busy with DMA memory; described rightly three times out of four.
    void describe(Description& d) {
        d.args.pool_bytes = 1 << 20;
        if (one_in(3)) d.use(one_in(2) ? LANEPOOL_BRIDGE_DMA_IOMMU : LANEPOOL_BRIDGE_DMA_DIRECT);
        d.config[PCI_DEVICE_ID] = 0xee;
        d.config[PCI_CLASS_DEVICE + 1] = 0xff;
        if (!one_in(4)) return;
        for (auto* bytes : {&d.config, &d.write_mask, &d.clear_mask, &d.notify_mask})
            if (one_in(4))
                for (auto n = below(8); n; n--)
                    (*bytes)[below(one_in(2) ? 4096 : 256)] = static_cast<uint8_t>(random());
        if (one_in(2)) spoil(&d.args, sizeof(d.args), below(3));
    }

    // One call; whether it succeeded.
    bool call(int bridge, unsigned long command, Description& d, int event) {
        if (command == LANEPOOL_BRIDGE_CREATE) return ::ioctl(bridge, command, &d.args) == 0;
        std::array<uint64_t, 64> args{};
        std::array<int32_t, 16> fds{};
        const uint32_t size = _IOC_SIZE(command);
        std::memcpy(args.data(), &size, 4);
        fds.fill(one_in(4) ? -1 : event);
        auto* words = reinterpret_cast<uint32_t*>(args.data());
        switch (command) {
        case LANEPOOL_BRIDGE_PLUG:
            args[1] = pool_iova;
            break;
        case LANEPOOL_BRIDGE_UNPLUG:
            words[1] = static_cast<uint32_t>(below(2));
            break;
        case LANEPOOL_BRIDGE_SET_VECTORS:
            words[3] = static_cast<uint32_t>(1 + below(vectors));
            args[2] = reinterpret_cast<uint64_t>(fds.data());
            break;
        case LANEPOOL_BRIDGE_UPDATE_CONFIG:
        case LANEPOOL_BRIDGE_READ_CONFIG:
            words[2] = static_cast<uint32_t>(below(4096));
            words[3] = static_cast<uint32_t>(1 + below(64));
            args[2] = reinterpret_cast<uint64_t>(config_.data());
            break;
        case LANEPOOL_BRIDGE_RESET:
            words[2] = static_cast<uint32_t>(1 + below(2));
            break;
        default:
            break;
        }
        if (one_in(4)) spoil(args.data(), size, 1);
        return ::ioctl(bridge, command, args.data()) == 0;
    }

    unsigned long any_command() {
        constexpr unsigned long commands[] = {
            LANEPOOL_BRIDGE_INFO,        LANEPOOL_BRIDGE_CREATE,      LANEPOOL_BRIDGE_PLUG,
            LANEPOOL_BRIDGE_UNPLUG,      LANEPOOL_BRIDGE_SET_VECTORS, LANEPOOL_BRIDGE_UPDATE_CONFIG,
            LANEPOOL_BRIDGE_READ_CONFIG, LANEPOOL_BRIDGE_RESET,       LANEPOOL_BRIDGE_STATS};
        return commands[below(std::size(commands))];
    }

    void map_pool(int bridge) {
        const size_t bytes = size_t{4096} << below(10);
        const uint64_t offset = one_in(2) ? 0 : odd[below(std::size(odd))];
        void* memory =
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bridge, static_cast<off_t>(offset));
        if (memory == MAP_FAILED) return;
        *static_cast<volatile int*>(memory) = 1;
        ::munmap(memory, bytes); // a mapping is a reference to the file, too
    }

    std::mt19937_64 random;

  private:
    Config config_{}; // what is read, and written back
};

// While it lives, bridge_driver uses DMA memory all the time.
struct Busy {
    Busy() { write_file(path, "1"); }
    ~Busy() { write_file(path, "0"); }
    static constexpr const char* path = "/sys/module/bridge_driver/parameters/busy";
};

void signal(int event) {
    const uint64_t one = 1;
    (void)!::write(event, &one, 8);
}

// Random calls with random changes of good arguments. What survives the checks is really injected, and goes
// with its file.
TEST(Hostile, FuzzedCallsDoNoHarm) {
    const auto seed = fuzz_seed();
    SCOPED_TRACE("FUZZ_SEED=" + std::to_string(seed));
    Caller caller(seed);
    const Busy busy;
    const VfioDrive drive;
    const Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    uint64_t calls = 0, accepted = 0, plugged = 0;
    for (const auto end = fuzz_end(); steady_clock::now() < end;) {
        const Fd bridge = open_file(bridge_path, O_RDWR | O_NONBLOCK);
        Description d(drive);
        caller.describe(d);
        for (auto n = 4 + caller.below(12); n; n--, calls++) {
            const auto command = caller.any_command();
            const FailingAllocation fails(caller.one_in(4) ? 1 + caller.below(60) : 0);
            const bool ok = caller.call(bridge.get(), command, d, event.get());
            accepted += ok && command == LANEPOOL_BRIDGE_CREATE;
            plugged += ok && command == LANEPOOL_BRIDGE_PLUG;
            signal(event.get());
            if (caller.one_in(8)) caller.map_pool(bridge.get());
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

// What several threads have in common: one adapter and one file of the bridge, which each of them may
// replace.
class Arena {
  public:
    Arena() { reopen(); }

    // The file at this moment, to be used beyond its replacement.
    std::shared_ptr<Fd> bridge() {
        const std::lock_guard lock(mutex_);
        return bridge_;
    }
    void reopen() {
        const int fd = ::open(bridge_path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) return; // as many functions are on their way out as there may be
        auto fresh = std::make_shared<Fd>(fd);
        const std::lock_guard lock(mutex_);
        bridge_.swap(fresh);
    }

    VfioDrive drive;
    // Not while the adapter is removed: who does that has the lock, and waits until everybody has closed it.
    bool hotplug = true;
    Fd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    std::atomic<uint64_t> operations{0}, plugged{0};

  private:
    std::mutex mutex_;
    std::shared_ptr<Fd> bridge_;
};

void end_reset(int bridge) {
    auto reset = sized<lanepool_bridge_reset>();
    reset.action = LANEPOOL_BRIDGE_RESET_END;
    ::ioctl(bridge, LANEPOOL_BRIDGE_RESET, &reset);
}

std::optional<fs::path> injected() {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator("/sys/bus/pci/devices", none))
        if (entry.path().filename().string().size() > 12) return entry.path();
    return std::nullopt;
}

// What a user of the host may do with a function by sysfs. Its file "rescan" is not there: the PCI core waits
// for itself when one user writes to it and another to "remove", of whatever device.
void touch_by_sysfs(Caller& caller, bool hotplug) {
    const auto function = injected();
    if (caller.one_in(4) || !function) {
        if (hotplug) write_file("/sys/bus/pci/rescan", "1");
        return;
    }
    const auto name = function->filename().string();
    // A reset takes a tenth of a second.
    if (caller.one_in(32)) return write_file(*function / "reset", "1");
    switch (caller.below(9)) {
    case 0:
        if (hotplug) write_file(*function / "remove", "1");
        return;
    case 1:
        if (hotplug) write_file("/sys/class/pci_bus/" + name.substr(0, name.size() - 5) + "/rescan", "1");
        return;
    case 2:
        return write_file(*function / "driver/unbind", name);
    case 3:
        return write_file("/sys/bus/pci/drivers_probe", name);
    case 4:
    case 5:
        return write_file(*function / "driver_override", caller.one_in(2) ? "nobody" : "\n");
    case 6:
        return write_file(*function / "enable", caller.one_in(2) ? "1" : "0");
    case 7:
        return write_file(*function / "power/control", caller.one_in(2) ? "auto" : "on");
    default: {
        const Fd config(::open((*function / "config").c_str(), O_RDWR | O_CLOEXEC));
        uint32_t value = 0;
        const auto at = static_cast<off_t>(caller.below(1024) * 4);
        (void)!::pread(config.get(), &value, 4, at);
        value = static_cast<uint32_t>(caller.number());
        // Not what a right value would not undo: the BARs are where the module says.
        if (at < PCI_BASE_ADDRESS_0 || at >= PCI_CARDBUS_CIS) (void)!::pwrite(config.get(), &value, 4, at);
        return;
    }
    }
}

// What the owner of the adapter may do with it by VFIO.
void touch_adapter(Caller& caller, const VfioDrive& drive) {
    switch (caller.below(8)) {
    case 0:
        ::ioctl(drive.device.get(), VFIO_DEVICE_RESET);
        return;
    case 1: {
        // It takes more than a second.
        if (!caller.one_in(4)) return;
        std::array<uint32_t, 8> words{static_cast<uint32_t>(sizeof(vfio_pci_hot_reset) + 4), 0, 1,
                                      static_cast<uint32_t>(drive.group.get())};
        ::ioctl(drive.device.get(), VFIO_DEVICE_PCI_HOT_RESET, words.data());
        return;
    }
    case 2: {
        const uint16_t command = caller.one_in(3) ? 0 : PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
        (void)!::pwrite(drive.device.get(), &command, 2,
                        static_cast<off_t>(drive.config_offset + PCI_COMMAND));
        return;
    }
    case 3:
        ::ioctl(drive.group.get(), VFIO_GROUP_UNSET_CONTAINER);
        return;
    default: {
        vfio_iommu_type1_dma_unmap unmap{};
        unmap.argsz = sizeof(unmap);
        unmap.flags = VFIO_DMA_UNMAP_FLAG_ALL;
        ::ioctl(drive.container.get(), VFIO_IOMMU_UNMAP_DMA, &unmap);
        return;
    }
    }
}

// As an agent does it.
void plug_in(Arena& arena, Caller& caller, int bridge) {
    Description d(arena.drive);
    caller.describe(d);
    const FailingAllocation fails(caller.one_in(4) ? 1 + caller.below(300) : 0);
    caller.call(bridge, LANEPOOL_BRIDGE_CREATE, d, -1);
    if (caller.one_in(2)) caller.call(bridge, LANEPOOL_BRIDGE_SET_VECTORS, d, arena.event.get());
    arena.plugged += caller.call(bridge, LANEPOOL_BRIDGE_PLUG, d, -1);
}

void operate(Arena& arena, Caller& caller) {
    arena.operations++;
    // Without the file: what is waited for here may be what closing it brings about.
    if (caller.one_in(8)) return touch_by_sysfs(caller, arena.hotplug);
    const auto bridge = arena.bridge();
    const int fd = bridge->get();
    if (caller.one_in(32)) return touch_adapter(caller, arena.drive);
    switch (caller.below(8)) {
    case 0:
        return arena.reopen();
    case 1:
    case 2:
        return plug_in(arena, caller, fd);
    case 3: {
        Description d(arena.drive);
        caller.call(fd, LANEPOOL_BRIDGE_UNPLUG, d, -1);
        return caller.one_in(2) ? arena.reopen() : signal(arena.event.get());
    }
    case 4:
        return caller.map_pool(fd);
    case 5: {
        lanepool_bridge_event got[16];
        (void)!::read(fd, got, sizeof(got));
        return end_reset(fd);
    }
    default: {
        Description d(arena.drive);
        caller.describe(d);
        const FailingAllocation fails(caller.one_in(4) ? 1 + caller.below(60) : 0);
        caller.call(fd, caller.any_command(), d, arena.event.get());
    }
    }
}

// Several threads with one adapter, one file and one function, which all of them use, reset, unbind, remove,
// unplug and close. In some rounds the adapter itself is unbound or removed meanwhile.
TEST(Hostile, FuzzedRacesDoNoHarm) {
    const auto seed = fuzz_seed();
    SCOPED_TRACE("FUZZ_SEED=" + std::to_string(seed));
    Caller chief(seed);
    const Busy busy;
    uint64_t operations = 0, plugged = 0, rounds = 0, taken = 0;
    // In a round that takes the adapter there may be nothing that is injected.
    for (const auto end = fuzz_end(); steady_clock::now() < end || (!plugged && rounds < 16); rounds++) {
        const auto adapter = fs::path("/sys/bus/pci/devices") / address();
        std::thread taker;
        {
            Arena arena;
            const bool take = chief.one_in(4), remove = chief.one_in(2);
            arena.hotplug = !take || !remove;
            std::vector<std::thread> threads;
            std::atomic<int> running{4};
            for (int i = running; i; i--)
                threads.emplace_back([&, caller = Caller(chief.random())]() mutable {
                    // PLUG waits for seconds for whoever removes the adapter.
                    for (int n = arena.hotplug ? 200 : 4; n; n--)
                        operate(arena, caller);
                    running--;
                });
            if (take) {
                taken++;
                taker = std::thread([&, remove] {
                    if (remove)
                        write_file(adapter / "remove", "1");
                    else
                        write_file("/sys/bus/pci/drivers/vfio-pci/unbind", address());
                });
            }
            // Whoever waits for the end of a reset waits for its agent.
            EXPECT_TRUE(wait_until(
                [&] {
                    end_reset(arena.bridge()->get());
                    return running == 0;
                },
                120'000));
            for (auto& thread : threads)
                thread.join();
            operations += arena.operations;
            plugged += arena.plugged;
        }
        if (!taker.joinable()) continue;
        taker.join();
        if (!fs::exists(adapter)) write_file("/sys/bus/pci/rescan", "1");
        give_to_vfio(address());
    }
    std::printf(
        "%llu operations, %llu functions injected, %llu rounds, in %llu the adapter was taken, seed %llu\n",
        static_cast<unsigned long long>(operations), static_cast<unsigned long long>(plugged),
        static_cast<unsigned long long>(rounds), static_cast<unsigned long long>(taken),
        static_cast<unsigned long long>(seed));
    EXPECT_GT(plugged, 0u);
    EXPECT_TRUE(wait_until(nothing_injected));
}

} // namespace
