// SPDX-License-Identifier: Apache-2.0
//
// A device lent over the fabric, the whole way: switch, adapters, channel, lender, borrower, and a client
// that does what a guest does.
#include "integration/lending_hosts.h"

#include "smartio/config_image_for_test.h"

#include <gmock/gmock.h>

namespace lanepool::test {
namespace {

using smartio::LenderState;
using testing::AnyOf;

constexpr uint64_t page = 4096;

// Host 0 lends; 1 and 2 borrow.
class Lent : public testing::Test {
  protected:
    Lent() : fabric(folder, 4), store(fabric, 0), a(fabric, 1), b(fabric, 2), engine(folder) {}

    void SetUp() override {
        ASSERT_TRUE(eventually([&] {
            return store.sees(a) && store.sees(b) && a.sees(store) && b.sees(store) && a.sees(b) && b.sees(a);
        }));
        lending.emplace(store, engine.path());
        ASSERT_TRUE(lending->reset());
    }
    // One loan, from prepare to a driver that has taken the device.
    std::unique_ptr<Borrowing> borrow(Host& host, uint64_t loan, uint64_t epoch) {
        must(lending->prepare(loan, epoch, host));
        auto borrowing =
            std::make_unique<Borrowing>(host, store, folder, smartio::LoanKey{test_fdid, loan, epoch});
        must(borrowing->attach());
        return borrowing;
    }

    TemporaryFolder folder;
    Fabric fabric;
    Host store;
    Host a;
    Host b;
    ServedEngine engine;
    std::optional<Lending> lending;
};

TEST_F(Lent, AGuestUsesItAsItsOwn) {
    const auto borrowing = borrow(a, 1, 1);
    Guest guest(borrowing->socket());
    EXPECT_EQ(must(pci::read32(*guest.device, pci::Region::config, 0)), 0x00101b36u);
    EXPECT_EQ(guest.device->irq(pci::Irq::msix).count, 0u);
    EXPECT_EQ(guest.device->irq(pci::Irq::msi).count, copy_engine::msi_vectors);

    // Registers that are reached by calls.
    must(pci::write64(*guest.device, pci::Region::bar0, copy_engine::scratch, 0x1122334455667788));
    EXPECT_EQ(must(pci::read64(*guest.device, pci::Region::bar0, copy_engine::scratch)), 0x1122334455667788u);
    must(pci::write32(*guest.device, pci::Region::bar3, 0xffc, 77));
    EXPECT_EQ(engine.run([](auto& device) { return device.storage[0xffc]; }), std::byte{77});

    guest.drive();
    std::memcpy(guest.ram.data(), "over the fabric", 16);
    guest.set_registers(0, 0x8000, 16);
    ASSERT_TRUE(guest.ring());
    EXPECT_STREQ(reinterpret_cast<const char*>(guest.ram.data() + 0x8000), "over the fabric");
    EXPECT_TRUE(eventually([&] { return borrowing->driver_ready == 1; }));
    EXPECT_EQ(borrowing->connects, 1);
}

TEST_F(Lent, NothingOfOursRunsPerAccess) {
    const auto borrowing = borrow(a, 1, 1);
    Guest guest(borrowing->socket());
    guest.drive();
    guest.set_registers(0, 0x8000, 4096);
    const auto device_messages = [&] {
        const auto& stats = engine.server->stats();
        return stats.region_reads + stats.region_writes + stats.dma_reads + stats.dma_writes + stats.other;
    };
    const uint64_t served = borrowing->served_accesses();
    const uint64_t requests = borrowing->stats().requests;
    const uint64_t on_fabric = fabric.messages();
    const uint64_t on_device = device_messages();
    for (uint32_t i = 0; i < 100; ++i) {
        std::memset(guest.ram.data(), static_cast<int>(i + 1), 4096);
        ASSERT_TRUE(guest.ring());
        ASSERT_EQ(guest.ram.data()[0x8fff], static_cast<std::byte>(i + 1));
    }
    EXPECT_EQ(borrowing->served_accesses(), served);
    EXPECT_EQ(borrowing->stats().requests, requests);
    EXPECT_EQ(device_messages(), on_device);
    // Nor the switch; what it sees are the agents, whose heart-beats wake each other now and then.
    EXPECT_LT(fabric.messages(), on_fabric + 20);
}

TEST_F(Lent, AMappedRegisterDoesNotOvertakeAWrittenOne) {
    const auto borrowing = borrow(a, 1, 1);
    Guest guest(borrowing->socket());
    guest.drive();
    for (uint32_t i = 1; i <= 100; ++i) {
        std::memset(guest.ram.data(), static_cast<int>(i), 4096);
        guest.set_registers(0, 0x8000, i); // the last of them just before the doorbell
        ASSERT_TRUE(guest.ring());
        ASSERT_EQ(guest.ram.data()[0x8000 + i - 1], static_cast<std::byte>(i)) << i;
        ASSERT_EQ(guest.ram.data()[0x8000 + i], std::byte{0}) << i;
    }
    EXPECT_EQ(guest.failures(), 0u);
}

TEST_F(Lent, WhatABorrowerKeepsReachesNothing) {
    auto first = borrow(a, 1, 1);
    Guest guest(first->socket());
    guest.drive();
    guest.set_registers(0, 0x8000, 4096);
    ASSERT_TRUE(guest.ring());
    const auto kept_doorbell = guest.doorbell_memory();
    ASSERT_TRUE(lending->cut(1));
    ASSERT_TRUE(lending->reset());
    ASSERT_TRUE(lending->wipe());

    auto second = borrow(b, 2, 2);
    Guest next(second->socket());
    next.drive();
    std::memcpy(next.ram.data(), "mine", 5);
    next.set_registers(0, 0x8000, 5);
    ASSERT_TRUE(next.ring());

    // The first one goes on as if nothing had happened: by its mapping, by its descriptor, by its windows.
    for (uint32_t i = 1; i <= 50; ++i) {
        const uint32_t value = 0x1000 + i;
        std::memcpy(guest.doorbell.data(), &value, sizeof value);
        const auto again = must(Mapping::create(kept_doorbell));
        std::memcpy(again.data(), &value, sizeof value);
        EXPECT_FALSE(must(pci::read64(*guest.device, pci::Region::bar0, copy_engine::destination)) ==
                     0x108000);
        [[maybe_unused]] auto ignored =
            pci::write64(*guest.device, pci::Region::bar0, copy_engine::destination, 0xbad);
        std::memset(guest.ram.data(), 0xee, 0x8000);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(next.copies(), 1u);
    EXPECT_EQ(must(pci::read64(*next.device, pci::Region::bar0, copy_engine::destination)), 0x108000u);
    EXPECT_STREQ(reinterpret_cast<const char*>(next.ram.data() + 0x8000), "mine");
    EXPECT_EQ(drain(guest.interrupt), 0u);
    ASSERT_TRUE(next.ring()); // and the second one's device still works
    EXPECT_EQ(next.copies(), 2u);
}

TEST_F(Lent, TheDeviceDoesNotReachAReturnedLoansMemory) {
    auto first = borrow(a, 1, 1);
    Guest guest(first->socket());
    guest.drive();
    guest.set_registers(0, 0x8000, 4096);
    ASSERT_TRUE(guest.ring());
    ASSERT_TRUE(lending->cut(1));
    EXPECT_EQ(engine.run([](auto& device) { return device.dma_maps(); }), 0u);
    EXPECT_FALSE(engine.run([](auto& device) { return device.has_interrupts(); }));
    EXPECT_EQ(engine.run([](auto& device) { return device.command() & pci::command::bus_master; }), 0);
    ASSERT_TRUE(lending->reset());
    std::memset(guest.ram.data(), 0, Guest::ram_bytes);

    // The next borrower tells the device to write where the first one's memory was, without mapping its own.
    auto second = borrow(b, 2, 2);
    Guest next(second->socket());
    const std::array fds{next.interrupt.get()};
    must(next.device->set_irqs(pci::Irq::msi, 0, fds));
    must(pci::write16(*next.device, pci::Region::config, 4,
                      pci::command::memory_space | pci::command::bus_master));
    next.map_doorbell();
    next.set_registers(0, 0x8000, 4096);
    ASSERT_TRUE(next.ring());
    EXPECT_EQ(next.failures(), 1u);
    EXPECT_TRUE(std::ranges::all_of(guest.ram.bytes(), [](auto byte) { return byte == std::byte{0}; }));
}

TEST_F(Lent, OldEpochsAreRefused) {
    auto first = borrow(a, 1, 5);
    EXPECT_EQ(lending->prepare(2, 5, b).error().code(), Errc::stale_epoch);
    EXPECT_EQ(lending->prepare(2, 6, b).error().code(), Errc::busy);
    EXPECT_TRUE(lending->prepare(1, 5, a)); // the same once more is no harm
    EXPECT_EQ(lending->cut(4).error().code(), Errc::stale_epoch);
    EXPECT_EQ(lending->state(), LenderState::lent);

    ASSERT_TRUE(lending->cut(7)); // a newer decision, and with it the loan of 5 cannot come back
    EXPECT_EQ(lending->epochs.highest(), 7u);
    ASSERT_TRUE(lending->reset());
    EXPECT_EQ(lending->prepare(1, 5, a).error().code(), Errc::stale_epoch);
    EXPECT_EQ(lending->prepare(3, 7, a).error().code(), Errc::stale_epoch);
    auto second = borrow(b, 3, 8);

    // The first borrower's client still asks: its agent hears that it has been superseded.
    Guest guest(first->socket());
    EXPECT_FALSE(guest.device->map_dma(*Range<Iova>::create({Guest::ram_at}, Guest::ram_bytes),
                                       guest.ram_memory, Access::read_write));
    ASSERT_TRUE(eventually([&] { return first->failure().has_value(); }));
    EXPECT_EQ(first->failure()->code(), Errc::stale_epoch);
    EXPECT_EQ(lending->status().refused, 1u);
}

TEST_F(Lent, OnlyTheLoansPartitionIsServed) {
    must(lending->prepare(1, 1, a));
    Borrowing thief(b, store, folder, {test_fdid, 1, 1});
    EXPECT_EQ(thief.attach().error().code(), Errc::permission_denied);
    Borrowing wrong_device(a, store, folder, {test_fdid + 1, 2, 1});
    EXPECT_EQ(wrong_device.attach().error().code(), Errc::not_found);
    Borrowing right(a, store, folder, {test_fdid, 1, 1});
    EXPECT_TRUE(right.attach());
}

TEST_F(Lent, ANewLenderTrustsOnlyWhatItsStoreSays) {
    borrow(a, 1, 5);
    ASSERT_TRUE(lending->cut(5));
    EXPECT_EQ(lending->prepare(2, 6, b).error().code(), Errc::failed_precondition); // not reset yet
    ASSERT_TRUE(lending->reset());
    lending->epochs.full = true;
    EXPECT_EQ(lending->prepare(2, 6, b).error().code(), Errc::no_space);
    EXPECT_EQ(lending->state(), LenderState::ready); // nothing was opened
    lending->epochs.full = false;
    EXPECT_TRUE(lending->prepare(2, 6, b));
}

TEST_F(Lent, AGuestsResetKeepsItsMappings) {
    const auto borrowing = borrow(a, 1, 1);
    Guest guest(borrowing->socket());
    guest.drive();
    guest.set_registers(0, 0x8000, 4);
    for (const bool by_config_space : {false, true}) {
        ASSERT_TRUE(guest.ring());
        if (by_config_space)
            must(
                pci::write16(*guest.device, pci::Region::config, smartio::test::at::pci_express + 8, 0x8000));
        else
            must(guest.device->reset());
        EXPECT_EQ(guest.copies(), 0u);
        EXPECT_EQ(must(pci::read16(*guest.device, pci::Region::config, 4)), 0);
        must(pci::write16(*guest.device, pci::Region::config, 4, pci::command::bus_master));
        guest.set_registers(0, 0x8000, 4);
        ASSERT_TRUE(guest.ring()); // the same doorbell page, memory and eventfd
        EXPECT_EQ(guest.copies(), 1u);
    }
}

TEST_F(Lent, WithoutFunctionLevelResetAPlainClientGetsNoMappings) {
    engine.run([](auto& device) { device.hide_flr(); });
    ASSERT_TRUE(lending->reset());
    const auto borrowing = borrow(a, 1, 1);
    {
        Guest plain(borrowing->socket());
        EXPECT_TRUE(plain.device->region(pci::Region::bar0).mappable.empty());
        plain.map_ram();
    }
    ASSERT_TRUE(eventually([&] { return borrowing->disconnects == 1; }));
    // One that asks again after a reset gets the fresh memory.
    Guest guest(borrowing->socket(), true);
    guest.drive();
    must(guest.device->reset());
    must(pci::write16(*guest.device, pci::Region::config, 4, pci::command::bus_master));
    guest.set_registers(0, 0x8000, 4);
    guest.map_doorbell();
    guest.rung = 0;
    ASSERT_TRUE(guest.ring());
    EXPECT_EQ(guest.copies(), 1u);
}

TEST_F(Lent, MemoryThatCannotBeReachedIsTakenPolitely) {
    const auto borrowing = borrow(a, 1, 1);
    Guest guest(borrowing->socket());
    struct Nothing : pci::DmaTarget {
        Result<> read(uint64_t, std::span<std::byte>) override { return {}; }
        Result<> write(uint64_t, std::span<const std::byte>) override { return {}; }
    };
    // A BAR of some device of the guest's.
    auto bar = guest.device->map_dma(*Range<Iova>::create({0xfe000000}, page), std::make_shared<Nothing>(),
                                     Access::read_write);
    EXPECT_TRUE(bar);
    guest.map_ram();
    EXPECT_EQ(borrowing->stats().memory_maps, 2u);
    EXPECT_EQ(borrowing->stats().reachable_maps, 1u);
    EXPECT_EQ(lending->status().memory_maps, 1u);
    EXPECT_TRUE(bar->unmap());
    EXPECT_TRUE(guest.ram_mapping.unmap());
    EXPECT_EQ(lending->status().memory_maps, 0u);
    EXPECT_EQ(engine.run([](auto& device) { return device.dma_maps(); }), 0u);
}

TEST_F(Lent, ReadOnlyMemoryIsReadOnlyForTheDevice) {
    const auto borrowing = borrow(a, 1, 1);
    Guest guest(borrowing->socket());
    guest.drive();
    constexpr uint64_t rom_at = 0x40000000;
    const auto rom = must(guest.device->map_dma(*Range<Iova>::create({rom_at}, page),
                                                {guest.ram_memory.fd, 0, page}, Access::read_only));
    std::memcpy(guest.ram.data(), "readable", 9);
    guest.set_registers(0, 0x8000, 9);
    must(pci::write64(*guest.device, pci::Region::bar0, copy_engine::source, rom_at));
    ASSERT_TRUE(guest.ring());
    EXPECT_STREQ(reinterpret_cast<const char*>(guest.ram.data() + 0x8000), "readable");
    guest.set_registers(0x8001, 0, 4);
    must(pci::write64(*guest.device, pci::Region::bar0, copy_engine::destination, rom_at));
    ASSERT_TRUE(guest.ring());
    EXPECT_EQ(guest.failures(), 1u);
    EXPECT_STREQ(reinterpret_cast<const char*>(guest.ram.data()), "readable");
}

TEST_F(Lent, ManyMemoryChangesAreQuick) {
    const auto borrowing = borrow(a, 1, 1);
    Guest guest(borrowing->socket());
    const auto begin = std::chrono::steady_clock::now();
    for (int round = 0; round < 4; ++round) {
        std::vector<pci::DmaMapping> mappings;
        for (uint64_t i = 0; i < 32; ++i)
            mappings.push_back(
                must(guest.device->map_dma(*Range<Iova>::create({i * 2 * page}, page),
                                           {guest.ram_memory.fd, i * page, page}, Access::read_write)));
        EXPECT_EQ(lending->status().memory_maps, 32u);
    }
    const auto took = std::chrono::steady_clock::now() - begin;
    EXPECT_EQ(lending->status().memory_maps, 0u);
    const auto each = std::chrono::duration_cast<std::chrono::microseconds>(took).count() / 256;
    RecordProperty("microseconds_per_change", static_cast<int>(each));
    std::cout << "a change of memory takes " << each << " us\n";
    EXPECT_LT(each, 20000); // a firmware makes some hundred
}

TEST_F(Lent, AGuestThatDiesLeavesNothingMapped) {
    const auto borrowing = borrow(a, 1, 1);
    {
        Guest guest(borrowing->socket());
        guest.drive();
        guest.ram_mapping = {}; // the client closes its connection with the rest in place
        guest.map_ram();
    }
    ASSERT_TRUE(eventually([&] {
        return borrowing->disconnects == 1 && engine.run([](auto& device) { return device.dma_maps(); }) == 0;
    }));
    // The lender takes these away one after the other.
    EXPECT_TRUE(eventually([&] {
        return engine.run([](auto& device) {
            return !device.has_interrupts() && (device.command() & pci::command::bus_master) == 0;
        });
    }));
    // The loan goes on: another client may come.
    Guest guest(borrowing->socket());
    guest.drive();
    guest.set_registers(0, 0x8000, 4);
    EXPECT_TRUE(guest.ring());
}

TEST_F(Lent, DetachingTellsTheLender) {
    const auto borrowing = borrow(a, 1, 1);
    Guest guest(borrowing->socket());
    guest.drive();
    EXPECT_TRUE(borrowing->detach());
    EXPECT_EQ(engine.run([](auto& device) { return device.dma_maps(); }), 0u);
    EXPECT_FALSE(pci::read32(*guest.device, pci::Region::bar0, 0));
    EXPECT_TRUE(lending->cut(1));
    EXPECT_EQ(a.adapter().capacity().windows_free, b.adapter().capacity().windows_free);
}

TEST_F(Lent, ALenderThatDiesEndsTheLoan) {
    const auto borrowing = borrow(a, 1, 1);
    std::atomic<bool> lost{false};
    a.thread.run([&] {
        a.peer_changed = [&](auto peer, bool alive) {
            if (peer == store.partition() && !alive) lost = true;
        };
    });
    Guest guest(borrowing->socket());
    store.die();
    ASSERT_TRUE(eventually([&] { return lost.load(); }));
    borrowing->lender_lost();
    ASSERT_TRUE(eventually([&] { return borrowing->failure().has_value(); }));
    EXPECT_EQ(borrowing->failure()->code(), Errc::disconnected);
    EXPECT_FALSE(pci::read32(*guest.device, pci::Region::bar0, 0));
    EXPECT_FALSE(borrowing->detach()); // says that nobody confirmed it, but ends
}

TEST_F(Lent, ABorrowerThatDiesIsCutWithoutBeingAsked) {
    auto borrowing = borrow(a, 1, 1);
    Guest guest(borrowing->socket());
    guest.drive();
    std::atomic<bool> lost{false};
    store.thread.run([&] {
        store.peer_changed = [&lost, dying = a.partition()](auto peer, bool alive) {
            if (peer == dying && !alive) lost = true;
        };
    });
    a.die();
    ASSERT_TRUE(eventually([&] { return lost.load(); }));
    store.thread.run(
        [&] { store.peer_changed = [](auto, bool) {}; }); // the hosts end after this test's locals
    EXPECT_TRUE(lending->cut(1));
    EXPECT_TRUE(lending->reset());
    EXPECT_EQ(lending->state(), LenderState::ready);
    borrowing.reset();
    EXPECT_NO_THROW(borrow(b, 2, 2));
}

TEST_F(Lent, ADeviceThatHangsIsCutOffAndReported) {
    smartio::LenderOptions options;
    options.cut_deadline = std::chrono::seconds(2);
    lending.reset();
    lending.emplace(store, engine.path(), std::chrono::seconds(1), options);
    ASSERT_TRUE(lending->reset());
    const auto borrowing = borrow(a, 1, 1);
    Guest guest(borrowing->socket());
    guest.drive();
    const auto windows_before = store.adapter().capacity().windows_free;
    engine.run([](auto& device) { device.hang(true); });
    const auto begin = std::chrono::steady_clock::now();
    const auto cut = lending->cut(1);
    const auto took = std::chrono::steady_clock::now() - begin;
    ASSERT_FALSE(cut);
    EXPECT_THAT(cut.error().code(), AnyOf(Errc::timeout, Errc::disconnected));
    EXPECT_LT(took, std::chrono::milliseconds(2500));
    EXPECT_EQ(lending->state(), LenderState::broken);
    EXPECT_FALSE(lending->status().reason.empty());
    EXPECT_GT(store.adapter().capacity().windows_free, windows_before);
    EXPECT_EQ(must(pci::read32(*guest.device, pci::Region::bar3, 0)),
              0xffffffffu); // nobody is there any more
    EXPECT_FALSE(lending->reset());
    engine.run([](auto& device) { device.hang(false); });
}

TEST_F(Lent, FiftyLoansLeaveNothingBehind) {
    const auto once = [&](uint64_t epoch) {
        auto& host = epoch % 2 ? a : b;
        const auto borrowing = borrow(host, epoch, epoch);
        {
            Guest guest(borrowing->socket());
            guest.drive();
            guest.set_registers(0, 0x8000, 4);
            ASSERT_TRUE(guest.ring());
        }
        if (epoch % 3 != 0) {
            ASSERT_TRUE(borrowing->detach());
        }
        ASSERT_TRUE(lending->cut(epoch));
        ASSERT_TRUE(lending->reset());
    };
    once(1);
    once(2);
    once(3);
    const auto count = [&] {
        // Sessions that have just ended close their descriptors a moment later.
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        return vfio_user::testing::open_descriptors();
    };
    const size_t before = count();
    const auto windows = store.adapter().capacity().windows_free;
    for (uint64_t epoch = 4; epoch < 54; ++epoch)
        once(epoch);
    EXPECT_TRUE(eventually([&] { return count() == before; }))
        << count() << " descriptors, before " << before;
    EXPECT_EQ(store.adapter().capacity().windows_free, windows);
}

TEST_F(Lent, ADeviceWhoseMemoryCannotBeRevokedIsNotLent) {
    const TemporaryFolder other;
    ServedEngine stale(other, false);
    lending.reset();
    lending.emplace(store, stale.path());
    ASSERT_TRUE(lending->reset());
    const auto refused = lending->prepare(1, 1, a);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::not_supported);
    EXPECT_EQ(lending->state(), LenderState::ready);
}

TEST_F(Lent, WipingRemovesWhatTheBorrowerLeft) {
    {
        const auto borrowing = borrow(a, 1, 1);
        Guest guest(borrowing->socket());
        must(pci::write64(*guest.device, pci::Region::bar3, 0x10, 0x5ec2e7));
    }
    ASSERT_TRUE(lending->cut(1));
    EXPECT_EQ(lending->wipe().error().code(), Errc::failed_precondition); // reset comes first
    ASSERT_TRUE(lending->reset());
    EXPECT_NE(engine.run([](auto& device) { return device.storage[0x10]; }), std::byte{0});
    ASSERT_TRUE(lending->wipe());
    EXPECT_EQ(lending->state(), LenderState::ready);
    EXPECT_TRUE(engine.run([](auto& device) {
        return std::ranges::all_of(device.storage, [](auto byte) { return byte == std::byte{0}; });
    }));
}

} // namespace
} // namespace lanepool::test
