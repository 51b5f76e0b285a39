// SPDX-License-Identifier: Apache-2.0
//
// A loan to a host's own kernel, the whole way: from the lender over a card to a function that the kernel is
// shown, and back.
#include "integration/kernel_loan_hosts.h"

#include <unistd.h>

namespace lanepool::test {
namespace {

using agent::KernelLoan;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uint64_t mib = 1 << 20;
constexpr Iova pool_at{16 * mib};
constexpr uint16_t on = pci::command::memory_space | pci::command::bus_master;

bool arrives(int eventfd) {
    return eventually([&] {
        uint64_t count = 0;
        return ::read(eventfd, &count, sizeof count) == sizeof count;
    });
}

// ---- Attached

TEST_F(KernelLoans, AnOwnKernelUsesIt) {
    ASSERT_TRUE(attach());
    const auto injected = function();
    const auto in_kernel = ask([](auto& it) { return *it.in_kernel(); });
    EXPECT_EQ(in_kernel.function, "1ff00:00:00.0");
    EXPECT_EQ(in_kernel.driver, "nvme");
    EXPECT_EQ(in_kernel.dma_bytes, 8 * mib);
    EXPECT_EQ(injected->dma_base(), pool_at.value);

    // Its registers.
    const auto registers = must(Mapping::create(injected->description().bars[0].memory));
    ASSERT_EQ(registers.size_bytes(), memory_device::bar0_bytes);
    registers.data()[8] = std::byte{7};
    EXPECT_EQ(device.registers(0)[8], std::byte{7});

    // What a driver lays into the pool, the device finds; and the other way round.
    const auto pool = must(Mapping::create(injected->pool()));
    std::memcpy(pool.data() + 0x1000, "over the fabric", 16);
    ASSERT_TRUE(device.copy(pool_at + 0x1000, pool_at + 0x7f0000, 16));
    EXPECT_STREQ(reinterpret_cast<const char*>(pool.data() + 0x7f0000), "over the fabric");

    // Its interrupts.
    const auto vectors = injected->vectors();
    ASSERT_EQ(vectors.size(), memory_device::vectors);
    for (uint32_t i = 0; i < vectors.size(); ++i) {
        ASSERT_TRUE(device.raise(i));
        EXPECT_TRUE(arrives(vectors[i])) << i;
    }
    EXPECT_THAT(losses(), IsEmpty());
}

TEST_F(KernelLoans, IsGivenBack) {
    ASSERT_TRUE(attach());
    const auto files = open_files();
    const auto windows = a.adapter().capacity().windows_free;
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(detach());
        EXPECT_EQ(function()->state(), Injected::State::released);
        EXPECT_FALSE(function()->surprised());
        EXPECT_TRUE(eventually([&] { return !lingers(); }));
        EXPECT_EQ(device.dma_maps(), 0u);
        make_ready();
        ASSERT_TRUE(attach());
    }
    EXPECT_EQ(a.adapter().capacity().windows_free, windows);
    auto now = open_files();
    now["anon_inode:"] -= 3; // the fake functions' own
    EXPECT_EQ(now, files);
    EXPECT_EQ(ended, 3);
    EXPECT_THAT(losses(), IsEmpty());
}

TEST_F(KernelLoans, WithoutADriverItIsLentNevertheless) {
    driver = "";
    ASSERT_TRUE(attach());
    EXPECT_EQ(ask([](auto& it) { return *it.in_kernel(); }).driver, "");
    EXPECT_EQ(ask([](auto& it) { return it.attached(); }), true);
    // One that comes later is seen.
    driver = "late";
    arrive(function()->address());
    EXPECT_TRUE(eventually([&] { return ask([](auto& it) { return it.in_kernel()->driver; }) == "late"; }));
}

TEST_F(KernelLoans, AKernelThatDoesNotOfferItHasAttachFail) {
    offers = false;
    const auto result = attach(std::chrono::milliseconds(300));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::timeout);
    EXPECT_TRUE(eventually([&] { return !lingers(); }));
}

// ---- Registers

TEST_F(KernelLoans, TheDeviceIsOnWhateverADriverHasJustTurnedOff) {
    ASSERT_TRUE(attach());
    EXPECT_EQ(device.config16(pci::config::command) & on, on);
    function()->driver_writes(pci::config::command, 2, on);
    function()->driver_writes(pci::config::command, 2, 0);
    EXPECT_TRUE(eventually([&] { return pci::get16(function()->config(), pci::config::command) == 0; }));
    EXPECT_EQ(device.config16(pci::config::command) & on, on);
}

TEST_F(KernelLoans, ADriverPutsItToSleepAndWakesIt) {
    ASSERT_TRUE(attach());
    for (int i = 0; i < 2; ++i) {
        function()->driver_writes(memory_device::power_control, 2, 3);
        ASSERT_TRUE(eventually([&] { return device.asleep(); }));
        function()->driver_writes(memory_device::power_control, 2, 0);
        // It has forgotten what it was told, but not that it is on.
        ASSERT_TRUE(eventually(
            [&] { return !device.asleep() && (device.config16(pci::config::command) & on) == on; }));
    }
    EXPECT_EQ(device.rude_awakenings(), 0);
    EXPECT_TRUE(detach());
}

TEST_F(KernelLoans, WhatEventsDidNotTellIsFoundInTheShadow) {
    ASSERT_TRUE(attach());
    function()->lose_events(
        [](auto& injected) { injected.driver_writes(memory_device::power_control, 2, 3); });
    EXPECT_FALSE(device.asleep());
    bridge::Event event{bridge::Event::Kind::presence};
    event.lost_before = true;
    function()->inject(event);
    EXPECT_TRUE(eventually([&] { return device.asleep(); }));
    EXPECT_TRUE(detach());
}

TEST_F(KernelLoans, OneEventThatCannotBeReadIsNoEnd) {
    ASSERT_TRUE(attach());
    function()->fail_next("take_events", Error(Errc::protocol, "it fails here"));
    function()->driver_writes(memory_device::power_control, 2, 3);
    EXPECT_TRUE(eventually([&] { return device.asleep(); }));
    EXPECT_THAT(losses(), IsEmpty());
    EXPECT_TRUE(detach());
}

TEST_F(KernelLoans, ADriversResetResetsTheDevice) {
    ASSERT_TRUE(attach());
    const auto injected = function();
    const int before = device.resets();
    for (int i = 1; i <= 2; ++i) {
        injected->driver_writes(pci::config::command, 2, on);
        injected->driver_writes(memory_device::device_control, 2, 0x1234);
        device.registers(0)[8] = std::byte{7};
        injected->driver_resets();
        ASSERT_TRUE(eventually([&] { return !injected->resetting(); }));
        EXPECT_EQ(device.resets(), before + i);
        EXPECT_EQ(device.registers(0)[8], std::byte{0});
        EXPECT_EQ(pci::get16(injected->config(), pci::config::command), 0u);
        EXPECT_EQ(pci::get16(injected->config(), memory_device::device_control),
                  pci::get16(injected->description().config.values, memory_device::device_control));
        EXPECT_EQ(device.config16(pci::config::command) & on, on);
    }
    // Memory and interrupts are as before.
    const auto pool = must(Mapping::create(injected->pool()));
    std::memcpy(pool.data(), "again", 6);
    ASSERT_TRUE(device.copy(pool_at, pool_at + 4096, 6));
    EXPECT_EQ(pool.data()[4096], std::byte{'a'});
    ASSERT_TRUE(device.raise(1));
    EXPECT_TRUE(arrives(injected->vectors()[1]));
    EXPECT_TRUE(ask([](auto& it) { return it.attached(); }));
}

class WithoutReset : public KernelLoans {
  protected:
    WithoutReset() : KernelLoans({.has_flr = false}) {}
};

TEST_F(WithoutReset, AResetThatFailsEndsTheLoan) {
    ASSERT_TRUE(attach());
    function()->fail_next("reset", Error(Errc::io, "it fails here"));
    function()->driver_resets();
    ASSERT_TRUE(eventually([&] { return !losses().empty(); }));
    EXPECT_TRUE(eventually([&] { return function()->surprised(); }));
    EXPECT_TRUE(detach());
}

// ---- Its end

TEST_F(KernelLoans, StaysWithWhoUsesItWhereThatIsAsked) {
    ASSERT_TRUE(attach());
    const auto address = function()->address();
    system.change([&](auto& kernel) {
        kernel.files["/sys/devices/" + kernel.folder_of(address) + "/net/lp0/address"] = "52\n";
        kernel.files["/sys/class/net/lp0/flags"] = "0x1003\n";
    });
    const auto result = detach(true);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::busy);
    EXPECT_THAT(result.error().message(), AllOf(HasSubstr("in use on a: "), HasSubstr("lp0"),
                                                Not(HasSubstr("stop using it")))); // the controller says that
    EXPECT_TRUE(ask([](auto& it) { return it.attached(); }));
    EXPECT_EQ(function()->state(), Injected::State::plugged);
    EXPECT_TRUE(detach(false));
    EXPECT_EQ(function()->state(), Injected::State::released);
}

TEST_F(KernelLoans, IsGivenBackWhereNobodyUsesIt) {
    ASSERT_TRUE(attach());
    EXPECT_TRUE(detach(true));
    EXPECT_FALSE(function()->surprised());
}

// A driver that clings to it: it is taken away, and all that it rests on stays until the driver has gone.
TEST_F(KernelLoans, ADriverThatDoesNotLetGoKeepsWhatItsFunctionRestsOn) {
    bridge.hold_removals(true);
    const auto windows = a.adapter().capacity().windows_free;
    ASSERT_TRUE(attach());
    const auto injected = function();
    const auto result = detach(false, std::chrono::milliseconds(50));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::timeout);
    EXPECT_THAT(result.error().message(), HasSubstr("nvme"));
    EXPECT_TRUE(eventually([&] { return injected->surprised(); }));
    EXPECT_TRUE(lingers());
    EXPECT_LT(a.adapter().capacity().windows_free, windows);
    injected->driver_leaves();
    EXPECT_TRUE(eventually([&] { return a.adapter().capacity().windows_free == windows; }));
    EXPECT_TRUE(lingers());
    EXPECT_FALSE(injected->closed());
    injected->memory_released();
    EXPECT_TRUE(eventually([&] { return !lingers(); }));
    EXPECT_TRUE(injected->closed());
    EXPECT_EQ(ended, 1);
}

// A block device that somebody still has open.
TEST_F(KernelLoans, AnEndedLoansMemoryDoesNotKeepTheNextOneAway) {
    bridge.hold_removals(true);
    ASSERT_TRUE(attach());
    const auto first = function();
    auto detached = std::async(std::launch::async, [&] { return detach(); });
    ASSERT_TRUE(eventually([&] { return first->state() == Injected::State::removing; }));
    first->driver_leaves();
    EXPECT_TRUE(detached.get());
    EXPECT_TRUE(lingers());
    std::unique_ptr<KernelLoan> leftover;
    a.thread.run([&] { leftover = std::move(loan); });

    make_ready();
    bridge.hold_removals(false);
    ASSERT_TRUE(attach());
    EXPECT_NE(function(), first);
    EXPECT_FALSE(first->closed());
    first->memory_released();
    EXPECT_TRUE(eventually([&] { return ended == 1; }));
    EXPECT_TRUE(first->closed());
    EXPECT_TRUE(ask([](auto& it) { return it.attached(); }));
    a.thread.run([&] { leftover.reset(); });
}

TEST_F(KernelLoans, ALenderThatDiesTakesItByItsSurprise) {
    ASSERT_TRUE(attach());
    store.die();
    ASSERT_TRUE(eventually([&] { return !losses().empty(); }));
    EXPECT_TRUE(eventually([&] { return function()->surprised(); }));
    EXPECT_TRUE(detach());
    EXPECT_EQ(losses().size(), 1u);
}

TEST_F(KernelLoans, ALoanThatIsCutGoesBySurprise) {
    ASSERT_TRUE(attach());
    must(lending.cut(epoch));
    EXPECT_TRUE(await(a.thread, [&](auto done) { loan->detach_cut_off(std::chrono::seconds(5), done); }));
    EXPECT_TRUE(function()->surprised());
    EXPECT_THAT(losses(), IsEmpty());
}

TEST_F(KernelLoans, AnAdapterThatGoesTakesItAlong) {
    bridge.hold_removals(true);
    ASSERT_TRUE(attach());
    ask([](auto& it) { it.adapter_gone(); });
    EXPECT_TRUE(eventually([&] { return function()->surprised(); }));
    EXPECT_TRUE(lingers());
    function()->driver_leaves();
    function()->memory_released();
    EXPECT_TRUE(eventually([&] { return !lingers(); }));
}

TEST_F(KernelLoans, SomebodyWhoRemovesItFromTheBusEndsTheLoan) {
    ASSERT_TRUE(attach());
    system.change([](auto& kernel) { kernel.functions.clear(); });
    ASSERT_TRUE(eventually([&] { return !losses().empty(); }));
    EXPECT_THAT(losses(), ElementsAre(HasSubstr("somebody has removed 1ff00:00:00.0")));
    EXPECT_TRUE(detach());
}

TEST_F(KernelLoans, IsForgottenWhileItIsAttached) {
    ASSERT_TRUE(attach());
    const auto injected = function();
    a.thread.run([&] { loan.reset(); });
    EXPECT_TRUE(injected->surprised());
    EXPECT_TRUE(injected->closed());
}

// ---- Memory

TEST_F(KernelLoans, APoolIsAsSmallAsItMustBe) {
    bridge.fail_next("create", Error(Errc::no_space, "no memory"));
    ASSERT_TRUE(attach());
    EXPECT_EQ(function()->pool().size_bytes, 4 * mib);
    EXPECT_EQ(ask([](auto& it) { return it.in_kernel()->dma_bytes; }), 4 * mib);
    EXPECT_TRUE(detach());
    make_ready();
    for (int i = 0; i < 4; ++i)
        bridge.fail_next("create", Error(Errc::no_space, "no memory"));
    const auto result = attach();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::no_space);
}

// The kernel maps memory where it was told that it may. It does so before the lender's window is opened,
// because a window of the virtual switch is what is behind it.
class WithAddresses : public KernelLoans {
  protected:
    WithAddresses() {
        bridge.when_created([this](const bridge::Description& description) {
            memory = {share(must(create_memory("kernel", description.iova_bytes))), 0,
                      description.iova_bytes};
            const auto range = Range<Iova>::create({description.iova_base}, description.iova_bytes);
            mapped = must(a.adapter().function().map_dma(*range, memory, Access::read_write));
        });
    }
    // A page from one end of them to the other.
    bool copies(uint64_t size, Iova base) {
        const auto all = must(Mapping::create(memory));
        all.data()[size - 4096] = std::byte{5};
        return device.copy(base + (size - 4096), base, 1) && all.data()[0] == std::byte{5};
    }
    MemoryRef memory;
    pci::DmaMapping mapped;
};

TEST_F(WithAddresses, OfAnIommuTheKernelMapsWhatItsDriverUses) {
    mode = bridge::DmaMode::iommu;
    ASSERT_TRUE(attach());
    const auto description = function()->description();
    EXPECT_EQ(description.dma_mode, mode);
    EXPECT_EQ(description.pool_bytes, 0u);
    EXPECT_EQ(description.bars[description.dma_bar].memory.size_bytes, memory_device::bar0_bytes);
    EXPECT_EQ(description.iova_bytes, 512 * mib);
    EXPECT_EQ(ask([](auto& it) { return it.in_kernel()->dma_bytes; }), 512 * mib);
    EXPECT_TRUE(copies(512 * mib, pool_at));
    must(mapped.unmap());
    EXPECT_TRUE(detach());
}

TEST_F(WithAddresses, DirectDmaIsOfAllMemoryOrNot) {
    mode = bridge::DmaMode::direct;
    auto result = attach();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::not_supported);
    EXPECT_THAT(result.error().message(), HasSubstr("allow_direct=1"));
    EXPECT_EQ(function(), nullptr);

    bridge.set_ability(bridge::Ability{{bridge::DmaMode::direct}, 2048, mib});
    a.thread.run([&] { loan.reset(); });
    ASSERT_TRUE(attach_prepared());
    EXPECT_EQ(function()->description().iova_bytes, 0x7ffdf000u);
    EXPECT_TRUE(copies(0x7ffdf000, pool_at));
    must(mapped.unmap());
    EXPECT_TRUE(detach());
    make_ready();

    // More than any window has.
    system.change(
        [](auto& kernel) { kernel.files["/proc/iomem"] = "100000000-ffffffffffff : System RAM\n"; });
    result = attach();
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message(), HasSubstr("direct DMA of 281474976710656 bytes"));
}

// ---- What fails leaves nothing behind

class FailingAttach : public KernelLoans, public testing::WithParamInterface<const char*> {};

TEST_P(FailingAttach, LeavesNothingBehind) {
    ASSERT_TRUE(attach()); // what is opened for all loans is
    ASSERT_TRUE(detach());
    a.thread.run([&] { loan.reset(); });
    make_ready();
    const auto files = open_files();
    const auto windows = a.adapter().capacity().windows_free;
    bridge.fail_next(GetParam(), Error(Errc::io, "it fails here"));
    const auto result = attach();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::io);
    EXPECT_THAT(result.error().message(), HasSubstr("it fails here"));
    EXPECT_TRUE(eventually([&] { return !lingers(); }));
    EXPECT_TRUE(detach());
    EXPECT_EQ(a.adapter().capacity().windows_free, windows);
    EXPECT_EQ(device.dma_maps(), 0u);
    EXPECT_EQ(device.interrupts(), 0u);
    EXPECT_TRUE(function()->closed());
    a.thread.run([&] { loan.reset(); });
    make_ready();
    auto now = open_files();
    --now["anon_inode:"]; // the fake function's own
    EXPECT_EQ(now, files);
    EXPECT_TRUE(attach()); // and it can be had again
}

INSTANTIATE_TEST_SUITE_P(At, FailingAttach, testing::Values("create", "pool", "set_vectors", "plug"));

} // namespace
} // namespace lanepool::test
