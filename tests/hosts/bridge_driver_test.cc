// SPDX-License-Identifier: Apache-2.0
//
// What kernel/lanepool_bridge makes of everything that a driver may ask the kernel for: functions without a
// device behind them, whose BARs are parts of another drive's memory, and bridge_driver, which uses them.
#include "bridge_host.h"

namespace {

using namespace bridge_host;

constexpr uint64_t part_bytes = 64 << 10;

// One of several functions of one card, each with 4 KiB of registers and a blank MSI-X table.
class Injected {
  public:
    Injected(const VfioDrive& card, uint32_t index,
             lanepool_bridge_dma_mode mode = LANEPOOL_BRIDGE_DMA_BOUNCE, uint64_t base = pool_iova,
             uint64_t bytes = 1 << 20)
        : bridge(open_file(bridge_path, O_RDWR | O_NONBLOCK)), description_(card), base_(base) {
        auto& d = description_;
        d.config[PCI_DEVICE_ID] = 0xee;
        d.config[PCI_CLASS_DEVICE + 1] = 0xff;
        for (uint32_t at = d.config[PCI_CAPABILITY_LIST]; at; at = d.config[at + 1])
            if (d.config[at] == PCI_CAP_ID_PM) d.notify_mask[power_at = at + PCI_PM_CTRL] = 3;
        make_msix(d, 2, 0x802); // in BAR 2
        d.use(mode);
        if (mode == LANEPOOL_BRIDGE_DMA_BOUNCE)
            d.args.pool_bytes = bytes;
        else
            d.args.iova_base = pool_iova + index * (uint64_t{4} << 30);
        const auto memory = card.region(VFIO_PCI_BAR2_REGION_INDEX);
        const uint64_t at = memory.offset + index * part_bytes;
        d.args.bars[0] = {card.device.get(), LANEPOOL_BRIDGE_BAR_64BIT, at, 4096, 0};
        d.args.bars[2] = {card.device.get(), LANEPOOL_BRIDGE_BAR_64BIT, at + 4096, 4096, 0};
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_CREATE, &d.args), "CREATE");
        if (mode == LANEPOOL_BRIDGE_DMA_BOUNCE) pool_.emplace(bridge.get(), bytes);
        std::vector<int32_t> fds;
        for (uint32_t i = 0; i < vectors; i++) {
            events.emplace_back(checked(::eventfd(0, EFD_CLOEXEC), "eventfd"));
            fds.push_back(events.back().get());
        }
        auto set = sized<lanepool_bridge_vectors>();
        set.count = vectors;
        set.fds = reinterpret_cast<uint64_t>(fds.data());
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_SET_VECTORS, &set), "SET_VECTORS");
        auto plug = sized<lanepool_bridge_plug>();
        plug.dma_base = base;
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_PLUG, &plug), "PLUG");
        char name[32];
        std::snprintf(name, sizeof(name), "%04x:%02x:00.0", plug.domain, plug.bus);
        where = fs::path("/sys/bus/pci/devices") / name;
        if (!wait_for(LANEPOOL_BRIDGE_EVENT_ATTACHED) || !fs::exists(where / "test"))
            throw std::runtime_error("bridge_driver did not take " + where.string());
    }

    // A command of the driver's: 0, or the error that the file gives.
    int command(const char* file, const std::string& text) const {
        const Fd fd = open_file((where / "test" / file).string(), O_WRONLY);
        return ::write(fd.get(), text.data(), text.size()) < 0 ? errno : 0;
    }
    std::string show(const char* file) const {
        std::ifstream in(where / "test" / file);
        std::string text;
        std::getline(in, text, '\0');
        return text;
    }

    // The runs of bytes that the driver has mapped, as the remote device would see them.
    std::vector<std::pair<uint64_t, uint64_t>> mapped() const {
        std::vector<std::pair<uint64_t, uint64_t>> runs;
        std::istringstream in(show("map"));
        for (std::string address, size; in >> address >> size;)
            runs.emplace_back(std::stoull(address, nullptr, 16), std::stoull(size));
        return runs;
    }
    // In bounce mode: whether the device would see the bytes FIRST, FIRST + 1, ... there.
    bool sees(uint32_t first) const {
        for (const auto& [at, size] : mapped())
            for (uint64_t i = 0; i < size; i++)
                if (pool_->data[at - base_ + i] != static_cast<uint8_t>(first++)) return false;
        return true;
    }
    void device_writes(uint32_t first) const {
        for (const auto& [at, size] : mapped())
            for (uint64_t i = 0; i < size; i++)
                pool_->data[at - base_ + i] = static_cast<uint8_t>(first++);
    }

    void unplug(bool surprise) const {
        auto args = sized<lanepool_bridge_unplug>();
        args.flags = surprise ? LANEPOOL_BRIDGE_UNPLUG_SURPRISE : 0;
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_UNPLUG, &args), "UNPLUG");
    }
    lanepool_bridge_stats stats() const {
        auto args = sized<lanepool_bridge_stats>();
        checked(::ioctl(bridge.get(), LANEPOOL_BRIDGE_STATS, &args), "STATS");
        return args;
    }
    bool wait_for(lanepool_bridge_event_type type) {
        return wait_until([&] {
            lanepool_bridge_event event;
            while (::read(bridge.get(), &event, sizeof(event)) == sizeof(event)) {
                if (event.type == LANEPOOL_BRIDGE_EVENT_CONFIG_WRITE && event.offset == power_at)
                    power_states.push_back(event.value & 3);
                if (event.type == type) return true;
            }
            return false;
        });
    }
    // Takes the events that are there; the power states that were written.
    const std::vector<uint32_t>& powers() {
        lanepool_bridge_event event;
        while (::read(bridge.get(), &event, sizeof(event)) == sizeof(event))
            if (event.type == LANEPOOL_BRIDGE_EVENT_CONFIG_WRITE && event.offset == power_at)
                power_states.push_back(event.value & 3);
        return power_states;
    }

    Fd bridge;
    std::vector<Fd> events;
    fs::path where;
    uint32_t power_at = 0;
    std::vector<uint32_t> power_states;

  private:
    Description description_;
    uint64_t base_;
    std::optional<Pool> pool_;
};

class Driver : public testing::Test {
  protected:
    const VfioDrive card{address("NVME1")};
};

TEST_F(Driver, SeesWhatItsDeviceWrote) {
    Injected function(card, 0);
    for (const std::string kind : {"single", "list", "pages", "coherent"})
        for (const std::string way : {"to", "from", "both"}) {
            SCOPED_TRACE(kind + " " + way);
            // Of the driver's own memory, which the others bring.
            const bool copied = kind == "single" || kind == "list";
            const bool shared = kind == "coherent", read = way != "to" || shared;
            ASSERT_EQ(function.command("fill", "10"), 0);
            ASSERT_EQ(function.command("map", kind + " " + way), 0);
            if (copied) {
                EXPECT_TRUE(function.sees(10));
            }
            ASSERT_EQ(function.command("fill", "70"), 0);
            EXPECT_EQ(function.sees(70), shared);
            ASSERT_EQ(function.command("sync", "device"), 0);
            EXPECT_TRUE(function.sees(70));
            function.device_writes(130);
            EXPECT_EQ(function.command("check", "130"), shared ? 0 : EIO);
            ASSERT_EQ(function.command("sync", "cpu"), 0);
            EXPECT_EQ(function.command("check", read ? "130" : "70"), 0);
            function.device_writes(190);
            const int before = function.command("check", "190");
            EXPECT_EQ(before, shared ? 0 : EIO);
            ASSERT_EQ(function.command("unmap", "1"), 0);
            if (copied) {
                EXPECT_EQ(function.command("check", read ? "190" : "70"), 0);
            }
        }
    const auto stats = function.stats();
    EXPECT_EQ(stats.dma_maps, stats.dma_unmaps);
    EXPECT_EQ(stats.pool_used_bytes, 0u);
}

// What one address range is to three ways of DMA: only drivers that reach all of it have any.
TEST_F(Driver, HasNoDmaThatItsDeviceDoesNotReach) {
    struct {
        lanepool_bridge_dma_mode mode;
        uint64_t base;
        int bits_too_few, bits_enough;
    } const cases[] = {{LANEPOOL_BRIDGE_DMA_BOUNCE, 16 << 20, 24, 28},
                       {LANEPOOL_BRIDGE_DMA_BOUNCE, 0xf000'0000, 28, 32},
                       {LANEPOOL_BRIDGE_DMA_BOUNCE, uint64_t{1} << 32, 32, 33},
                       {LANEPOOL_BRIDGE_DMA_IOMMU, 64 << 20, 24, 28},
                       {LANEPOOL_BRIDGE_DMA_IOMMU, 0xf000'0000, 28, 32},
                       {LANEPOOL_BRIDGE_DMA_IOMMU, uint64_t{1} << 32, 32, 33},
                       {LANEPOOL_BRIDGE_DMA_DIRECT, 0, 28, 32},
                       {LANEPOOL_BRIDGE_DMA_DIRECT, uint64_t{1} << 40, 40, 41}};
    for (const auto& one : cases) {
        SCOPED_TRACE(std::to_string(one.mode) + " at " + std::to_string(one.base));
        Injected function(card, 0, one.mode, one.base);
        EXPECT_EQ(function.command("masks", std::to_string(one.bits_too_few)), EIO);
        EXPECT_EQ(function.command("masks", std::to_string(one.bits_enough)), 0);
        for (const char* kind : {"single to", "list from", "pages both", "coherent both"}) {
            EXPECT_EQ(function.command("map", kind), 0) << kind;
            for (const auto& [at, size] : function.mapped()) {
                EXPECT_GE(at, one.base);
                EXPECT_LE((at + size - 1) >> one.bits_enough, 0u);
            }
            EXPECT_EQ(function.command("unmap", "1"), 0);
        }
        function.unplug(false);
        EXPECT_TRUE(function.wait_for(LANEPOOL_BRIDGE_EVENT_RELEASED));
    }
}

TEST_F(Driver, HasNoDmaToRegistersOfOthers) {
    for (const auto mode : modes) {
        Injected function(card, 0, mode);
        EXPECT_NE(function.command("map", "resource both"), 0) << mode;
        function.unplug(false);
        EXPECT_TRUE(function.wait_for(LANEPOOL_BRIDGE_EVENT_RELEASED));
    }
}

// Eight functions, parts of one BAR of one card, with MSI-X kept. Some go by surprise, the others go on.
TEST_F(Driver, SharesACardWithOthers) {
    const auto region = card.region(VFIO_PCI_BAR2_REGION_INDEX);
    std::vector<std::unique_ptr<Injected>> functions;
    for (uint32_t i = 0; i < 8; i++)
        functions.push_back(std::make_unique<Injected>(card, i));
    const auto use = [&](uint32_t i, uint32_t round) {
        auto& function = *functions[i];
        SCOPED_TRACE(i);
        EXPECT_EQ(function.command("word", std::to_string(1000 * round + i)), 0);
        uint32_t word = 0;
        EXPECT_EQ(::pread(card.device.get(), &word, 4, static_cast<off_t>(region.offset + i * part_bytes)),
                  4);
        EXPECT_EQ(word, 1000 * round + i);
        std::string expected;
        for (uint32_t vector = 0; vector < vectors; vector++) {
            const uint64_t one = 1;
            EXPECT_EQ(::write(function.events[vector].get(), &one, 8), 8);
            expected += std::to_string(round) + " ";
        }
        EXPECT_TRUE(wait_until([&] { return function.show("interrupts") == expected; }))
            << function.show("interrupts");
    };
    for (uint32_t i = 0; i < 8; i++)
        use(i, 1);
    for (uint32_t i = 0; i < 8; i += 2)
        functions[i]->unplug(i % 4 == 0);
    for (uint32_t i = 0; i < 8; i += 2)
        EXPECT_TRUE(functions[i]->wait_for(LANEPOOL_BRIDGE_EVENT_RELEASED));
    for (uint32_t i = 1; i < 8; i += 2)
        use(i, 2);
    // The kernel has masked and unmasked, and has put no message into the table, nor when it restored it.
    EXPECT_EQ(functions[1]->command("power", "3"), 0);
    use(1, 3);
    std::array<uint32_t, 4 * vectors> table{};
    EXPECT_EQ(::pread(card.device.get(), table.data(), sizeof(table),
                      static_cast<off_t>(region.offset + part_bytes + 4096)),
              static_cast<ssize_t>(sizeof(table)));
    for (const uint32_t word : table)
        EXPECT_EQ(word, 0u);
}

// Power states go to the caller; what the function is stays the same.
TEST_F(Driver, SleepsAndWakes) {
    Injected function(card, 0);
    EXPECT_EQ(function.powers(), std::vector<uint32_t>{});
    write_file(function.where / "power/control", "auto");
    EXPECT_TRUE(wait_until([&] { return function.powers() == std::vector<uint32_t>{3}; }));
    EXPECT_EQ(function.show("suspended"), "1\n");
    write_file(function.where / "power/control", "on");
    EXPECT_EQ(function.powers(), (std::vector<uint32_t>{3, 0}));
    const uint64_t one = 1;
    EXPECT_EQ(::write(function.events[2].get(), &one, 8), 8);
    EXPECT_TRUE(wait_until([&] { return function.show("interrupts") == "0 0 1 0 "; }));
    EXPECT_EQ(function.command("word", "7"), 0);
    EXPECT_EQ(function.show("word"), "7\n");
}

} // namespace
