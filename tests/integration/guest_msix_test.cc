// SPDX-License-Identifier: Apache-2.0
//
// A lent device that signals by MSI-X only, whose client knows nothing of MSI-X: what the guest behind it
// writes into the table, and what comes to the addresses that it gives.
#include "integration/lending_hosts.h"

#include <gmock/gmock.h>

namespace lanepool::test {
namespace {

using pci::Region;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t interrupts_at = 0xfee00000;
constexpr uint64_t capability = smartio::test::at::msix;
constexpr uint16_t enable = 0x8000, mask_all = 0x4000;

// Where interrupts go in the client's machine.
class Interrupts final : public pci::DmaTarget {
  public:
    Result<> read(uint64_t, std::span<std::byte>) override { return fail(Errc::not_supported, "write only"); }
    Result<> write(uint64_t offset, std::span<const std::byte> data) override {
        const std::lock_guard lock(mutex_);
        messages_.emplace_back(interrupts_at + offset, pci::get32(data, 0));
        return {};
    }
    std::vector<std::pair<uint64_t, uint32_t>> take() {
        const std::lock_guard lock(mutex_);
        return std::exchange(messages_, {});
    }

  private:
    std::mutex mutex_;
    std::vector<std::pair<uint64_t, uint32_t>> messages_;
};

class GuestMsix : public testing::Test {
  protected:
    GuestMsix() : fabric(folder, 2), store(fabric, 0), a(fabric, 1), engine(folder) {
        engine.run([](auto& function) {
            function.have_msix_for_msi();
            return 0;
        });
    }
    void SetUp() override {
        ASSERT_TRUE(eventually([&] { return store.sees(a) && a.sees(store); }));
        lending.emplace(store, engine.path());
        ASSERT_TRUE(lending->reset());
        must(lending->prepare(1, 1, a));
        borrowing.emplace(a, store, folder, smartio::LoanKey{test_fdid, 1, 1});
        must(borrowing->attach());
        connect();
    }
    void connect() {
        device = must(vfio_user::connect(borrowing->socket(), {std::chrono::seconds(5), false}));
        window = must(
            device->map_dma(*Range<Iova>::create({interrupts_at}, 1 << 20), messages, Access::read_write));
    }
    void put(uint64_t offset, uint32_t value) { must(pci::write32(*device, Region::bar0, offset, value)); }
    uint32_t get(uint64_t offset) { return must(pci::read32(*device, Region::bar0, offset)); }
    static uint64_t entry(uint32_t vector) { return copy_engine::msix_table + vector * 16; }
    void program(uint32_t vector, bool masked = false) {
        put(entry(vector), static_cast<uint32_t>(interrupts_at + 0x1000 * vector));
        put(entry(vector) + 4, 0);
        put(entry(vector) + 8, 0x40 + vector);
        put(entry(vector) + 12, masked);
    }
    void control(uint16_t value) { must(pci::write16(*device, Region::config, capability + 2, value)); }
    bool raise(uint32_t vector) {
        return engine.run([vector](auto& function) { return function.raise(vector); });
    }
    std::vector<std::pair<uint64_t, uint32_t>> wait() {
        std::vector<std::pair<uint64_t, uint32_t>> got;
        [[maybe_unused]] const bool came = eventually([&] { return !(got = messages->take()).empty(); });
        return got;
    }
    static std::pair<uint64_t, uint32_t> message(uint32_t vector) {
        return {interrupts_at + 0x1000 * vector, 0x40 + vector};
    }

    TemporaryFolder folder;
    Fabric fabric;
    Host store;
    Host a;
    ServedEngine engine;
    std::optional<Lending> lending;
    std::optional<Borrowing> borrowing;
    std::shared_ptr<Interrupts> messages = std::make_shared<Interrupts>();
    std::unique_ptr<pci::Function> device;
    pci::DmaMapping window;
};

TEST_F(GuestMsix, InterruptsComeAsTheGuestAskedForThem) {
    EXPECT_EQ(device->irq(pci::Irq::msix).count, 0u);
    EXPECT_EQ(device->irq(pci::Irq::msi).count, 0u);
    EXPECT_EQ(must(pci::read8(*device, Region::config, capability)), 0x11);
    // As Linux does it: on but masked, then the table, then the mask.
    control(enable | mask_all);
    program(0);
    program(1);
    EXPECT_FALSE(raise(0));
    control(enable);
    EXPECT_TRUE(raise(1));
    EXPECT_THAT(wait(), ElementsAre(message(1)));
    EXPECT_TRUE(raise(0));
    EXPECT_THAT(wait(), ElementsAre(message(0)));
    EXPECT_FALSE(raise(2)) << "nobody asked for it";
    must(pci::write16(*device, Region::config, pci::config::command, pci::command::bus_master));
    EXPECT_TRUE(eventually([&] { return borrowing->driver_ready == 1; }));
    control(0);
    EXPECT_FALSE(raise(0));
}

// QEMU turns INTx on at the beginning, and would turn it off and on for MSI-X if it knew of that.
TEST_F(GuestMsix, IntxIsThereAgainWithoutIt) {
    const auto line = must(create_eventfd());
    const std::array fds{line.get()};
    must(device->set_irqs(pci::Irq::intx, 0, fds));
    const auto has_intx = [&] { return engine.run([](auto& function) { return function.has_intx(); }); };
    ASSERT_TRUE(has_intx());
    control(enable);
    program(0);
    EXPECT_TRUE(raise(0));
    EXPECT_FALSE(has_intx());
    control(0);
    EXPECT_FALSE(raise(0));
    EXPECT_TRUE(has_intx());
}

TEST_F(GuestMsix, MaskedOnesWait) {
    control(enable);
    program(0);
    program(1, true);
    ASSERT_TRUE(raise(1));
    EXPECT_TRUE(eventually([&] { return get(copy_engine::msix_pending) == 2; }));
    EXPECT_THAT(messages->take(), testing::Not(testing::Contains(message(1))));
    put(entry(1) + 12, 0);
    EXPECT_THAT(wait(), testing::Contains(message(1)));
    EXPECT_EQ(get(copy_engine::msix_pending), 0u);
    control(enable | mask_all);
    ASSERT_TRUE(raise(0));
    EXPECT_TRUE(eventually([&] { return get(copy_engine::msix_pending) == 1; }));
    control(enable);
    EXPECT_THAT(wait(), ElementsAre(message(0)));
}

TEST_F(GuestMsix, VectorsThatComeLaterCostNone) {
    control(enable);
    program(0);
    EXPECT_TRUE(raise(0));
    EXPECT_THAT(wait(), ElementsAre(message(0)));
    program(2);
    EXPECT_THAT(wait(), ElementsAre(message(0))) << "one may have been lost";
    EXPECT_TRUE(raise(2));
    EXPECT_THAT(wait(), ElementsAre(message(2)));
    EXPECT_TRUE(raise(0));
    EXPECT_THAT(wait(), ElementsAre(message(0)));
}

TEST_F(GuestMsix, TheTableIsNotTheDevices) {
    const uint64_t before = engine.server->stats().region_writes + engine.server->stats().region_reads;
    program(3);
    EXPECT_EQ(get(entry(3) + 8), 0x43u);
    EXPECT_EQ(get(entry(3) + 12), 0u);
    EXPECT_EQ(must(pci::read64(*device, Region::bar0, entry(4) - 8)), 0x43u);
    EXPECT_EQ(engine.server->stats().region_writes + engine.server->stats().region_reads, before);
    EXPECT_FALSE(raise(3)) << "MSI-X is off";
}

TEST_F(GuestMsix, AResetForgetsIt) {
    control(enable);
    program(0);
    ASSERT_TRUE(raise(0));
    EXPECT_THAT(wait(), ElementsAre(message(0)));
    ASSERT_TRUE(device->reset());
    EXPECT_TRUE(eventually([&] { return !raise(0); }));
    EXPECT_EQ(get(entry(0) + 12), 1u);
    EXPECT_EQ(must(pci::read16(*device, Region::config, capability + 2)), copy_engine::msix_vectors - 1);
    control(enable);
    program(0);
    ASSERT_TRUE(raise(0));
    EXPECT_THAT(wait(), ElementsAre(message(0)));
}

TEST_F(GuestMsix, TheNextClientBeginsAnew) {
    control(enable);
    program(0);
    ASSERT_TRUE(raise(0));
    window = {};
    device.reset();
    EXPECT_TRUE(eventually([&] { return !raise(0); }));
    messages->take();
    ASSERT_TRUE(eventually([&] { return borrowing->disconnects == 1; }));
    connect();
    EXPECT_EQ(get(entry(0)), 0u);
    EXPECT_THAT(messages->take(), IsEmpty());
    control(enable);
    program(0);
    ASSERT_TRUE(raise(0));
    EXPECT_THAT(wait(), ElementsAre(message(0)));
}

} // namespace
} // namespace lanepool::test
