// SPDX-License-Identifier: Apache-2.0
//
// What kernel/lanepool_bridge refuses.
#include "bridge_host.h"

namespace {

using namespace bridge_host;

// What CREATE must refuse: a change of a good description, and the error.
struct Refused {
    const char* name;
    int error;
    std::function<void(Description&)> change;
};

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

// Nothing is mapped in a function's range at first, and it is another's nevertheless.
TEST(Hostile, AnotherFunctionsIommuRangeIsRefused) {
    const VfioDrive drive;
    Fd first = open_file(bridge_path);
    const Fd second = open_file(bridge_path);
    Description description(drive);
    description.use(LANEPOOL_BRIDGE_DMA_IOMMU);
    ASSERT_EQ(::ioctl(first.get(), LANEPOOL_BRIDGE_CREATE, &description.args), 0) << std::strerror(errno);
    for (const auto mode : {LANEPOOL_BRIDGE_DMA_IOMMU, LANEPOOL_BRIDGE_DMA_DIRECT}) {
        Description other(drive);
        other.use(mode);
        EXPECT_EQ(::ioctl(second.get(), LANEPOOL_BRIDGE_CREATE, &other.args), -1);
        EXPECT_EQ(errno, EBUSY);
    }
    Description beside(drive);
    beside.use(LANEPOOL_BRIDGE_DMA_IOMMU);
    beside.args.iova_base += beside.args.iova_bytes;
    EXPECT_EQ(::ioctl(second.get(), LANEPOOL_BRIDGE_CREATE, &beside.args), 0) << std::strerror(errno);
    first.reset();
    const Fd third = open_file(bridge_path);
    EXPECT_EQ(::ioctl(third.get(), LANEPOOL_BRIDGE_CREATE, &description.args), 0) << std::strerror(errno);
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

// The drive as a hostile lender commands it: with an admin queue of its own that lies in the function's pool.
// NVM Express Base 1.4, chapters 3.1, 4 and 5.15.
class Drive {
  public:
    Drive(const VfioDrive& drive, uint8_t* pool) : pool_(pool) {
        const auto bar = drive.region(VFIO_PCI_BAR0_REGION_INDEX);
        void* at = ::mmap(nullptr, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, drive.device.get(),
                          static_cast<off_t>(bar.offset));
        if (at == MAP_FAILED) fail("mmap of the drive");
        registers_ = static_cast<volatile uint32_t*>(at);
        bytes_ = bar.size;
        put(configuration, 0);
        if (!wait_until([&] { return !(registers_[status / 4] & 1); })) fail("the drive does not stop");
        put(queue_sizes, (entries - 1) << 16 | (entries - 1));
        put(submissions, static_cast<uint32_t>(pool_iova));
        put(submissions + 4, pool_iova >> 32);
        put(completions, static_cast<uint32_t>(pool_iova + 4096));
        put(completions + 4, (pool_iova + 4096) >> 32);
        put(configuration, 4 << 20 | 6 << 16 | 1);
        if (!wait_until([&] { return registers_[status / 4] & 1; })) fail("the drive does not start");
    }
    ~Drive() {
        put(configuration, 0);
        wait_until([&] { return !(registers_[status / 4] & 1); });
        ::munmap(const_cast<uint32_t*>(registers_), bytes_);
    }

    // Has it write 4 KiB (of what it is) to this address; whether it says that it did.
    bool writes_to(uint64_t address) {
        auto* command = reinterpret_cast<uint32_t*>(pool_ + tail_ * 64);
        std::memset(command, 0, 64);
        command[0] = 6 | tail_ << 16; // Identify
        command[6] = static_cast<uint32_t>(address);
        command[7] = static_cast<uint32_t>(address >> 32);
        command[10] = 1; // the controller
        auto* completion = reinterpret_cast<volatile uint32_t*>(pool_ + 4096 + tail_ * 16);
        tail_++;
        put(0x1000, tail_);
        if (!wait_until([&] { return completion[3] & 0x1'0000; }, 5'000)) return false;
        return completion[3] >> 17 == 0;
    }

  private:
    static constexpr uint32_t configuration = 0x14, status = 0x1c, queue_sizes = 0x24, submissions = 0x28,
                              completions = 0x30, entries = 32;
    void put(uint32_t offset, uint64_t value) const {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        registers_[offset / 4] = static_cast<uint32_t>(value);
    }
    uint8_t* pool_;
    volatile uint32_t* registers_ = nullptr;
    uint64_t bytes_ = 0;
    uint32_t tail_ = 0;
};

uint64_t physical_address(const void* at) {
    const Fd file = open_file("/proc/self/pagemap", O_RDONLY);
    uint64_t entry = 0;
    const auto page = reinterpret_cast<uint64_t>(at) / 4096;
    if (::pread(file.get(), &entry, 8, static_cast<off_t>(page * 8)) != 8 || !(entry >> 63)) fail("pagemap");
    return (entry & ((uint64_t{1} << 55) - 1)) * 4096;
}

// In bounce mode the device reaches the pool and nothing else: not memory by its physical address, not what
// lies around the pool, not the descriptions that the module goes by.
TEST(Hostile, ALenderReachesThePoolAlone) {
    const VfioDrive drive;
    const Fd bridge = open_file(bridge_path);
    Description d(drive);
    d.args.pool_bytes = 1 << 20;
    d.config[PCI_DEVICE_ID] = 0xed; // which no driver takes: the drive is ours
    d.config[PCI_CLASS_DEVICE + 1] = 0xff;
    ASSERT_EQ(::ioctl(bridge.get(), LANEPOOL_BRIDGE_CREATE, &d.args), 0) << std::strerror(errno);
    const Pool mapped(bridge.get(), 1 << 20);
    uint8_t* const pool = mapped.data;
    drive.map(pool, pool_iova, mapped.bytes);
    auto plug = sized<lanepool_bridge_plug>();
    plug.dma_base = pool_iova;
    ASSERT_EQ(::ioctl(bridge.get(), LANEPOOL_BRIDGE_PLUG, &plug), 0) << std::strerror(errno);
    {
        Drive lender(drive, pool);
        EXPECT_TRUE(lender.writes_to(pool_iova + 8192));
        EXPECT_EQ(std::string(reinterpret_cast<char*>(pool) + 8192 + 4, 5), "nvme0"); // its serial number
        // Pages of another's, and the pool's own by the addresses that the kernel knows them by.
        const Aligned victim(16 << 12), before(16 << 12);
        victim.fill(9);
        ASSERT_EQ(::mlock(victim.data, victim.bytes), 0);
        std::memcpy(before.data, victim.data, victim.bytes);
        std::memset(pool + 12288, 0x5a, 4096);
        for (size_t page = 0; page < 8; page++)
            lender.writes_to(physical_address(victim.data + page * 4096)); // QEMU's says that it did
        for (const uint64_t address : {physical_address(pool + 12288), uint64_t{0}, pool_iova - 4096,
                                       pool_iova + (1 << 20), uint64_t{0x100'0000}})
            lender.writes_to(address);
        EXPECT_EQ(std::memcmp(victim.data, before.data, victim.bytes), 0);
        for (size_t i = 0; i < 4096; i++)
            ASSERT_EQ(pool[12288 + i], 0x5a);
        EXPECT_TRUE(lender.writes_to(pool_iova + 12288));
        EXPECT_EQ(std::string(reinterpret_cast<char*>(pool) + 12288 + 4, 5), "nvme0");
    }
}

} // namespace
