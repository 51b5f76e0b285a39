// SPDX-License-Identifier: Apache-2.0
//
// The switch through its sockets: hosts are vfio-user clients, each on threads of their own.
#include "admin/server.h"
#include "base/temporary_folder.h"
#include "fabric/commands.h"
#include "fabric/run.h"
#include "fabric/sockets.h"
#include "ntb/switchtec.h"
#include "vfio_user/client.h"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <thread>

namespace lanepool::fabric {
namespace {

using namespace std::chrono_literals;
using namespace ntb::switchtec;
using pci::Region;

constexpr uint64_t base = 0x4000'0000;

bool wait_for(const std::function<bool()>& condition) {
    for (const auto deadline = std::chrono::steady_clock::now() + 5s;
         std::chrono::steady_clock::now() < deadline;) {
        if (condition()) return true;
        std::this_thread::sleep_for(1ms);
    }
    return condition();
}

// A host's driver, as far as it takes to see through windows.
class Host {
  public:
    Host(const std::filesystem::path& dir, unsigned partition)
        : partition_(partition), function_(vfio_user::connect(PortSockets::path(dir, partition)).value()) {
        put16(pci::config::command, pci::command::memory_space | pci::command::bus_master);
        put(control(offsetof(ControlBlock, op)), 1);
        put(control(offsetof(ControlBlock, requester_entry)), 1 | host_requester.value << 16);
        put(control(offsetof(ControlBlock, bar_entry) + 2 * sizeof(BarEntry)),
            bar_ctl::Lut::of(true) | bar_ctl::LutSizeLog2::of(14) | bar_ctl::LutCountMinus1::of(255));
        put(control(offsetof(ControlBlock, op)), 2);
    }
    pci::Function& function() { return *function_; }
    void put(uint64_t offset, uint32_t value) {
        if (!pci::write32(*function_, Region::bar0, offset, value)) throw std::runtime_error("write");
    }
    uint32_t get(uint64_t offset) { return pci::read32(*function_, Region::bar0, offset).value(); }
    bool open(unsigned entry, unsigned partition, uint64_t address) {
        put(control(offsetof(ControlBlock, op)), 1);
        const bool written =
            pci::write64(*function_, Region::bar0, control(offsetof(ControlBlock, lut_entry) + 8 * entry),
                         lut::entry(static_cast<uint8_t>(partition), address))
                .has_value();
        put(control(offsetof(ControlBlock, op)), 2);
        return written && ControlStatusField::get(get(control(0))) == ControlStatus::normal;
    }

  private:
    void put16(uint64_t offset, uint16_t value) {
        if (!pci::write16(*function_, Region::config, offset, value)) throw std::runtime_error("write");
    }
    uint64_t control(uint64_t offset) const { return gas::control(partition_) + offset; }

    unsigned partition_;
    std::unique_ptr<pci::Function> function_;
};

// Memory of a host's that has no descriptor.
class Registers final : public pci::DmaTarget {
  public:
    Result<> read(uint64_t offset_bytes, std::span<std::byte> data) override {
        if (delay.count()) std::this_thread::sleep_for(delay);
        const LittleEndian<uint64_t> value = 0x1000 + offset_bytes;
        std::memcpy(data.data(), &value, std::min(sizeof(value), data.size()));
        return {};
    }
    Result<> write(uint64_t offset_bytes, std::span<const std::byte>) override {
        written = offset_bytes;
        return {};
    }
    std::atomic<uint64_t> written{~uint64_t{0}};
    std::chrono::milliseconds delay{0};
};

class Sockets : public testing::Test {
  protected:
    void start(SwitchOptions options) {
        loop_ = io::EventLoop::create().value();
        switch_ = Switch::create(*loop_, std::move(options)).value();
        sockets_ = PortSockets::create(*switch_, folder_.path()).value();
        admin_ = admin::Server::create(*loop_, admin_path()).value();
        add_commands(*admin_, *switch_, *sockets_);
        thread_ = std::thread([this] { loop_->run(); });
    }
    void SetUp() override { start({.ports = 4, .peer_read_timeout = 300ms}); }
    void TearDown() override {
        if (!loop_) return;
        loop_->stop();
        thread_.join();
        admin_.reset();
        sockets_.reset();
        switch_.reset();
    }
    std::filesystem::path admin_path() const { return folder_.path() / "admin.sock"; }
    admin::Json call(const admin::Json& request) { return admin::call(admin_path(), request).value(); }
    admin::Json port(unsigned index) { return call({{"command", "ports"}})["ports"][index]; }
    uint64_t total(const char* name) { return call({{"command", "stats"}})["total"][name].get<uint64_t>(); }

    TemporaryFolder folder_;
    std::unique_ptr<io::EventLoop> loop_;
    std::unique_ptr<Switch> switch_;
    std::unique_ptr<PortSockets> sockets_;
    std::unique_ptr<admin::Server> admin_;
    std::thread thread_;
};

TEST_F(Sockets, AWindowIsTheMemoryBehindIt) {
    Host lender(folder_.path(), 0);
    Host borrower(folder_.path(), 1);
    const MemoryRef memory{share(create_memory("device", 0x4000).value()), 0, 0x4000};
    const auto exported =
        lender.function().map_dma(*Range<Iova>::create({base}, 0x4000), memory, Access::read_write).value();
    auto lenders = Mapping::create(memory).value();
    ASSERT_TRUE(borrower.open(0, 0, base));

    const auto extents = borrower.function().memory(Region::bar2, 0, 0x4000).value();
    ASSERT_EQ(extents.size(), 1u);
    auto borrowers = Mapping::create(extents[0].memory).value();
    borrowers.data()[7] = std::byte{0x77};
    EXPECT_EQ(lenders.data()[7], std::byte{0x77});
    EXPECT_EQ(total("window_reads") + total("window_writes"), 0u) << "no message took part";

    EXPECT_EQ(pci::read8(borrower.function(), Region::bar2, 7).value(), 0x77);
    EXPECT_EQ(total("window_reads"), 1u);
}

TEST_F(Sockets, AnEventBehindAWindow) {
    Host lender(folder_.path(), 0);
    Host borrower(folder_.path(), 1);
    const auto event = create_eventfd().value();
    const auto exported = lender.function().map_dma_event({base}, event).value();
    ASSERT_TRUE(borrower.open(0, 0, base));
    signal(borrower.function().event(Region::bar2, 0).value());
    EXPECT_EQ(drain(event), 1u);
    ASSERT_TRUE(pci::write32(borrower.function(), Region::bar2, 0, 1));
    EXPECT_TRUE(wait_for([&] { return drain(event) == 1; }));
}

TEST_F(Sockets, MemoryWithoutDescriptorIsReachedByMessages) {
    Host lender(folder_.path(), 0);
    Host borrower(folder_.path(), 1);
    const auto registers = std::make_shared<Registers>();
    const auto exported = lender.function()
                              .map_dma(*Range<Iova>::create({base}, 0x1000), registers, Access::read_write)
                              .value();
    ASSERT_TRUE(borrower.open(0, 0, base));
    EXPECT_EQ(pci::read32(borrower.function(), Region::bar2, 0x20).value(), 0x1020u);
    ASSERT_TRUE(pci::write32(borrower.function(), Region::bar2, 0x24, 1));
    EXPECT_TRUE(wait_for([&] { return registers->written == 0x24; }));
    EXPECT_TRUE(borrower.function().memory(Region::bar2, 0, 0x1000).value().empty());
    EXPECT_EQ(total("forwarded_reads"), 1u);
}

TEST_F(Sockets, SlowPeersReadAsAllOnesAndHoldNobodyUp) {
    Host lender(folder_.path(), 0);
    Host borrower(folder_.path(), 1);
    const auto slow = std::make_shared<Registers>();
    slow->delay = 900ms;
    const auto exported =
        lender.function().map_dma(*Range<Iova>::create({base}, 0x1000), slow, Access::read_write).value();
    ASSERT_TRUE(borrower.open(0, 0, base));
    std::thread reader(
        [&] { EXPECT_EQ(pci::read32(borrower.function(), Region::bar2, 0).value(), 0xffff'ffffu); });
    // Meanwhile both ports go on answering.
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(lender.get(gas::sys_info), endpoint_device_id);
    EXPECT_EQ(borrower.get(gas::sys_info), endpoint_device_id);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 250ms);
    reader.join();
}

TEST_F(Sockets, TwoPortsThatReadEachOtherDoNotFreeze) {
    Host a(folder_.path(), 0);
    Host b(folder_.path(), 1);
    const auto registers = std::make_shared<Registers>();
    const auto range = *Range<Iova>::create({base}, 0x1000);
    const auto exported_a = a.function().map_dma(range, registers, Access::read_write).value();
    const auto exported_b = b.function().map_dma(range, registers, Access::read_write).value();
    ASSERT_TRUE(a.open(0, 1, base));
    ASSERT_TRUE(b.open(0, 0, base));
    const auto read_often = [](Host& host) {
        for (unsigned i = 0; i < 500; ++i)
            ASSERT_EQ(pci::read32(host.function(), Region::bar2, i).value(), 0x1000 + i);
    };
    std::thread other([&] { read_often(b); });
    read_often(a);
    other.join();
}

TEST_F(Sockets, AHostThatGoesTakesItsLinkAndItsMemoryWithIt) {
    auto lender = std::make_unique<Host>(folder_.path(), 0);
    Host borrower(folder_.path(), 1);
    const MemoryRef memory{share(create_memory("device", 0x4000).value()), 0, 0x4000};
    auto exported =
        lender->function().map_dma(*Range<Iova>::create({base}, 0x4000), memory, Access::read_write).value();
    ASSERT_TRUE(borrower.open(0, 0, base));
    EXPECT_EQ(pci::read32(borrower.function(), Region::bar2, 0).value(), 0u);

    const auto event = create_eventfd().value();
    const int vectors[] = {event.get()};
    ASSERT_TRUE(borrower.function().set_irqs(pci::Irq::msix, 0, vectors));
    borrower.put(gas::pff(0) + offsetof(PffCsr, link_state), 0x9);
    ASSERT_TRUE(exported.unmap());
    lender.reset();
    pollfd waiting{event.get(), POLLIN, 0};
    EXPECT_EQ(poll(&waiting, 1, 5000), 1) << "no interrupt came";
    EXPECT_EQ(borrower.get(gas::pff(0) + offsetof(PffCsr, link)), 0u);
    EXPECT_EQ(pci::read32(borrower.function(), Region::bar2, 0).value(), 0xffff'ffffu);
}

TEST_F(Sockets, LinkCommand) {
    Host a(folder_.path(), 0);
    EXPECT_EQ(port(0)["link"], "up");
    EXPECT_EQ(call({{"command", "link"}, {"port", 0}, {"up", false}})["link"], "down");
    EXPECT_EQ(port(0)["link"], "down");
    EXPECT_EQ(port(0)["client"], true);
    EXPECT_EQ(a.get(gas::pff(0) + offsetof(PffCsr, link)), 0u);
    EXPECT_EQ(call({{"command", "link"}, {"port", 0}, {"up", true}})["link"], "up");
}

TEST_F(Sockets, UnplugDropsTheClientAndPlugLetsTheNextOneIn) {
    Host a(folder_.path(), 0);
    std::atomic<bool> gone{false};
    a.function().on_disconnect([&] { gone = true; });
    call({{"command", "unplug"}, {"port", 0}});
    EXPECT_TRUE(wait_for([&] { return gone.load(); }));
    EXPECT_EQ(port(0)["plugged"], false);
    EXPECT_EQ(port(0)["client"], false);
    EXPECT_FALSE(vfio_user::connect(PortSockets::path(folder_.path(), 0)));
    call({{"command", "unplug"}, {"port", 0}});
    call({{"command", "plug"}, {"port", 0}});
    Host next(folder_.path(), 0);
    EXPECT_EQ(next.get(gas::sys_info), endpoint_device_id);
    // What the first client did is still counted: both set up with one write to config space and four
    // registers.
    EXPECT_EQ(total("register_writes"), 8u);
    EXPECT_EQ(call({{"command", "stats"}})["ports"][0]["messages"]["region_writes"], 10);
}

TEST_F(Sockets, CommandsRefuseWhatMakesNoSense) {
    const auto code = [&](const admin::Json& request) {
        return admin::call(admin_path(), request).error().code();
    };
    EXPECT_EQ(code({{"command", "link"}, {"port", 4}, {"up", true}}), Errc::not_found);
    EXPECT_EQ(code({{"command", "link"}, {"port", 0}}), Errc::invalid_argument);
    EXPECT_EQ(code({{"command", "link"}, {"up", true}}), Errc::invalid_argument);
    EXPECT_EQ(code({{"command", "unplug"}, {"port", -1}}), Errc::invalid_argument);
    EXPECT_EQ(code({{"command", "plug"}, {"port", "0"}}), Errc::invalid_argument);
}

TEST_F(Sockets, FortyEightPortsEachWithHundredsOfWindows) {
    TearDown();
    start({.ports = 48});
    std::vector<std::unique_ptr<Host>> hosts;
    std::vector<Mapping> memory;
    std::vector<pci::DmaMapping> exported;
    for (unsigned p = 0; p < 48; ++p) {
        hosts.push_back(std::make_unique<Host>(folder_.path(), p));
        const MemoryRef ref{share(create_memory("host", 256 * 0x4000).value()), 0, 256 * 0x4000};
        memory.push_back(Mapping::create(ref).value());
        exported.push_back(hosts[p]
                               ->function()
                               .map_dma(*Range<Iova>::create({base}, 256 * 0x4000), ref, Access::read_write)
                               .value());
    }
    for (unsigned p = 0; p < 48; p += 16) {
        // All entries in one write under one lock.
        std::vector<le64> entries(256);
        for (unsigned i = 0; i < 256; ++i)
            entries[i] = lut::entry(static_cast<uint8_t>((p + 1 + i % 47) % 48), base + i * uint64_t{0x4000});
        hosts[p]->put(gas::control(p) + offsetof(ControlBlock, op), 1);
        ASSERT_TRUE(hosts[p]->function().write(Region::bar0,
                                               gas::control(p) + offsetof(ControlBlock, lut_entry),
                                               std::as_bytes(std::span(entries))));
        hosts[p]->put(gas::control(p) + offsetof(ControlBlock, op), 2);
        const auto extents = hosts[p]->function().memory(Region::bar2, 0, 256 * 0x4000).value();
        ASSERT_EQ(extents.size(), 256u);
        for (unsigned i = 0; i < 256; ++i)
            Mapping::create(extents[i].memory).value().data()[p] = static_cast<std::byte>(i);
        for (unsigned i = 0; i < 256; ++i)
            ASSERT_EQ(memory[(p + 1 + i % 47) % 48].data()[i * 0x4000 + p], static_cast<std::byte>(i));
    }
    EXPECT_EQ(port(16)["windows"], 256);
    EXPECT_EQ(total("window_writes"), 0u);
}

// On a thread of its own: it blocks signals in the thread that calls it, and a test must stay one that can be
// stopped.
Result<int> run_elsewhere(const FabricOptions& options) {
    Result<int> result = 1;
    std::thread([&] { result = run_fabric(options); }).join();
    return result;
}

TEST(RunFabric, ServesUntilItIsTold) {
    TemporaryFolder folder;
    const auto dir = folder.path() / "made";
    Result<int> result = 1;
    std::thread process([&] { result = run_fabric({.dir = dir, .ports = 3}); });
    ASSERT_TRUE(wait_for([&] {
        return admin::call(dir / "admin.sock", {{"command", "ports"}}).has_value();
    }));
    EXPECT_EQ(admin::call(dir / "admin.sock", {{"command", "ports"}}).value()["ports"].size(), 3u);
    EXPECT_TRUE(vfio_user::connect(PortSockets::path(dir, 2)));
    // A second one on the same sockets is refused, and does no harm to the first.
    EXPECT_EQ(run_elsewhere({.dir = dir, .ports = 3}).error().code(), Errc::already_exists);
    EXPECT_TRUE(vfio_user::connect(PortSockets::path(dir, 2)));
    pthread_kill(process.native_handle(), SIGTERM);
    process.join();
    EXPECT_EQ(result.value(), 0);
    EXPECT_FALSE(std::filesystem::exists(dir / "admin.sock"));
    EXPECT_FALSE(std::filesystem::exists(PortSockets::path(dir, 0)));
}

TEST(RunFabric, RefusesWhatItCannotDo) {
    TemporaryFolder folder;
    EXPECT_EQ(run_elsewhere({.dir = folder.path(), .ports = 49}).error().code(), Errc::invalid_argument);
    EXPECT_EQ(run_elsewhere({.dir = folder.path(), .ports = 0}).error().code(), Errc::invalid_argument);
    EXPECT_FALSE(run_elsewhere({.dir = "/proc/nowhere"}));
}

} // namespace
} // namespace lanepool::fabric
