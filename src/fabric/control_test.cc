// SPDX-License-Identifier: Apache-2.0
//
// The control block: lock, change, configure; what is refused, and who may.
#include "fabric/test_ports.h"

#include <gtest/gtest.h>

namespace lanepool::fabric {
namespace {

namespace switchtec = ntb::switchtec;
using Block = switchtec::ControlBlock;
using switchtec::ControlOp;
using switchtec::ControlStatus;

uint32_t bar_error(TestPort& p) { return p.get<uint32_t>(p.control(offsetof(Block, bar_error))); }
uint32_t lut_error(TestPort& p) { return p.get<uint32_t>(p.control(offsetof(Block, lut_error))); }
uint64_t bar_entry(unsigned slot) { return offsetof(Block, bar_entry) + slot * sizeof(switchtec::BarEntry); }

// What configuring says after CHANGE under the lock.
template <class Change>
bool configures(TestPort& port, Change change) {
    port.operate(ControlOp::lock);
    change();
    port.operate(ControlOp::config);
    return port.status() == ControlStatus::normal;
}

struct Control : testing::Test {
    TestFabric f;
    void SetUp() override { f.bring_up(2); }
};

TEST_F(Control, LocksAndConfigures) {
    EXPECT_EQ(f[0].status(), ControlStatus::normal);
    f[0].operate(ControlOp::lock);
    EXPECT_EQ(f[0].status(), ControlStatus::locked);
    f[0].operate(ControlOp::config);
    EXPECT_EQ(f[0].status(), ControlStatus::normal);
}

TEST_F(Control, TellsTableSizesAndWhichBarsHaveWindows) {
    EXPECT_EQ(f[0].get<uint16_t>(f[0].control(offsetof(Block, lut_entries))), 512);
    EXPECT_EQ(f[0].get<uint16_t>(f[0].control(offsetof(Block, requesters))), 256);
    for (unsigned slot = 0; slot < switchtec::bar_slots; ++slot)
        EXPECT_EQ(f[0].get<uint32_t>(f[0].control(bar_entry(slot))) & 1, slot == 2 || slot == 4) << slot;
}

TEST(ControlOfASmallTable, HasTheEntriesThatItWasGiven) {
    TestFabric f({.ports = 2, .lut_entries = 16});
    f[0].connect();
    EXPECT_EQ(f[0].get<uint16_t>(f[0].control(offsetof(Block, lut_entries))), 16);
    EXPECT_FALSE(configures(f[0], [&] { f[0].put_lut_bar(2, 17, 12); }));
    EXPECT_EQ(bar_error(f[0]), 1u << 2);
    f[0].operate(ControlOp::reset);
    EXPECT_TRUE(configures(f[0], [&] {
        f[0].put_lut_bar(2, 16, 12);
        f[0].put_lut(15, 1, 0x10000);
        f[0].put_lut(16, 1, 0x20000); // is there, but no window's
    }));
    EXPECT_EQ(f[0].port().control().windows().count(), 1u);
}

TEST_F(Control, IgnoresWritesWithoutTheLock) {
    const uint64_t entry = f[0].control(offsetof(Block, lut_entry));
    f[0].put<uint64_t>(entry, switchtec::lut::entry(1, 0x10000));
    EXPECT_EQ(f[0].get<uint64_t>(entry), 0u);
    f[0].operate(ControlOp::config);
    EXPECT_EQ(f[0].port().control().windows().count(), 0u);
}

TEST_F(Control, ChangesTakeEffectWithConfigOnly) {
    f[0].operate(ControlOp::lock);
    f[0].put_lut(0, 1, 0x10000);
    EXPECT_EQ(f[0].port().control().windows().count(), 0u);
    f[0].operate(ControlOp::config);
    EXPECT_EQ(f[0].port().control().windows().count(), 1u);
}

TEST_F(Control, ManyWindowsUnderOneLockInOneWrite) {
    std::vector<le64> entries(256);
    for (uint64_t i = 0; i < entries.size(); ++i)
        entries[i] = switchtec::lut::entry(1, 0x1000'0000 + i * 0x4000);
    EXPECT_TRUE(configures(f[0], [&] {
        must(f[0].write(pci::Region::bar0, f[0].control(offsetof(Block, lut_entry)),
                        std::as_bytes(std::span(entries))));
    }));
    EXPECT_EQ(f[0].port().control().windows().count(), 256u);
}

TEST_F(Control, ReadOnlyRegistersStay) {
    f[0].operate(ControlOp::lock);
    f[0].put<uint16_t>(f[0].control(offsetof(Block, lut_entries)), 7);
    f[0].put<uint32_t>(f[0].control(offsetof(Block, bar_error)), 7);
    f[0].put<uint32_t>(f[0].control(bar_entry(2)), 0);
    f[0].put<uint32_t>(f[0].control(bar_entry(0)), 0xffff'ffff);
    EXPECT_EQ(f[0].get<uint16_t>(f[0].control(offsetof(Block, lut_entries))), 512);
    EXPECT_EQ(bar_error(f[0]), 0u);
    EXPECT_EQ(f[0].get<uint32_t>(f[0].control(bar_entry(2))), 1u);
    EXPECT_EQ(f[0].get<uint32_t>(f[0].control(bar_entry(0))), 0u);
}

TEST_F(Control, RefusedConfigurationStaysLockedAndChangesNothing) {
    f[0].open(0, 1, 0x10000);
    EXPECT_FALSE(configures(f[0], [&] {
        f[0].put_lut(0, 1, 0x20000);
        f[0].put_lut(5, 1, 0x2000); // windows are 16 KiB
    }));
    EXPECT_EQ(f[0].status(), ControlStatus::locked);
    EXPECT_EQ(lut_error(f[0]), 0x8000'0005u);
    EXPECT_EQ(f[0].port().control().windows().translate(2, 0).target->address.value, 0x10000u);
    f[0].put_lut(5, 1, 0x4000);
    f[0].operate(ControlOp::config);
    EXPECT_EQ(f[0].status(), ControlStatus::normal);
    EXPECT_EQ(lut_error(f[0]), 0u);
    EXPECT_EQ(f[0].port().control().windows().translate(2, 0).target->address.value, 0x20000u);
}

TEST_F(Control, RefusesPartitionsThatAreNotThere) {
    for (const unsigned partition : {0u, 4u, 47u, 48u, 63u}) { // 0 is itself
        EXPECT_FALSE(configures(f[0], [&] { f[0].put_lut(1, partition, 0x10000); })) << partition;
        EXPECT_EQ(lut_error(f[0]), 0x8000'0001u);
    }
}

TEST_F(Control, RefusesLutWindowsThatDoNotFit) {
    struct Case {
        unsigned slot, count, log2;
    };
    for (const auto& c : {Case{2, 512, 18}, Case{2, 2, 26}, Case{2, 1, 11}, Case{2, 1, 63}, Case{4, 512, 30},
                          Case{4, 257, 14}, Case{4, 1, 0}}) {
        EXPECT_FALSE(configures(f[0], [&] { f[0].put_lut_bar(c.slot, c.count, c.log2); }))
            << c.slot << " " << c.count << " " << c.log2;
        EXPECT_EQ(bar_error(f[0]), 1u << c.slot);
        f[0].operate(ControlOp::reset);
        f[0].bring_up();
    }
}

TEST_F(Control, RefusesDirectWindowsThatDoNotFit) {
    struct Case {
        uint64_t size;
        unsigned log2;
        uint64_t address;
        unsigned partition = 1;
    };
    // BAR 2 has 64 MiB, of which 4 MiB are LUT windows.
    for (const auto& c :
         {Case{0, 12, 0}, Case{0x1000, 11, 0}, Case{0x400000, 21, 0}, Case{0x400000, 22, 0x200000},
          Case{0x4000000, 26, 0}, Case{uint64_t{1} << 40, 40, 0}, Case{0x800000, 23, 0},
          Case{~uint64_t{0xfff}, 63, 0}, Case{0x400000, 22, 0, 0}, Case{0x400000, 22, 0, 50}}) {
        EXPECT_FALSE(configures(f[0], [&] { f[0].put_direct(2, c.size, c.log2, c.partition, c.address); }))
            << c.size << " " << c.log2;
        EXPECT_EQ(bar_error(f[0]), 4u);
        f[0].operate(ControlOp::reset);
        f[0].bring_up();
    }
    EXPECT_TRUE(configures(f[0], [&] { f[0].put_direct(2, 0x400000, 22, 1, 0x400000); }));
}

TEST_F(Control, BarsShareTheTableInTheirOrder) {
    f[0].open(256, 1, uint64_t{7} << 30);
    const auto hop = f[0].port().control().windows().translate(4, 0x1234);
    ASSERT_TRUE(hop.target);
    EXPECT_EQ(hop.target->address.value, (uint64_t{7} << 30) + 0x1234);
    EXPECT_EQ(hop.size_bytes, (uint64_t{1} << 30) - 0x1234);
    EXPECT_FALSE(f[0].port().control().windows().translate(2, 255 * 0x4000).target);
}

TEST_F(Control, ResetTakesEverythingAwayAndUnlocks) {
    f[0].open(0, 1, 0x10000);
    f[0].operate(ControlOp::lock);
    f[0].operate(ControlOp::reset);
    EXPECT_EQ(f[0].status(), ControlStatus::normal);
    EXPECT_EQ(f[0].port().control().windows().count(), 0u);
    EXPECT_FALSE(f[0].port().control().lists(host_requester));
}

TEST_F(Control, RequesterEntriesGetAProxyAndAreObeyedAfterConfig) {
    f[0].operate(ControlOp::lock);
    f[0].put_requester(9, 0x1234);
    EXPECT_EQ(switchtec::requester::Proxy::get(
                  f[0].get<uint32_t>(f[0].control(offsetof(Block, requester_entry) + 36))),
              9);
    EXPECT_FALSE(f[0].port().control().lists({0x1234}));
    f[0].operate(ControlOp::config);
    EXPECT_TRUE(f[0].port().control().lists({0x1234}));
    f[0].operate(ControlOp::lock);
    f[0].put<uint32_t>(f[0].control(offsetof(Block, requester_entry) + 36), 0);
    f[0].operate(ControlOp::config);
    EXPECT_FALSE(f[0].port().control().lists({0x1234}));
}

TEST_F(Control, RequestersBeyondTheTableAreRefusedWithTheRestOfTheChange) {
    EXPECT_FALSE(configures(f[0], [&] {
        f[0].put_requester(256, 0x1234);
        f[0].put_lut(0, 1, 0x10000);
    }));
    EXPECT_EQ(f[0].get<uint32_t>(f[0].control(offsetof(Block, requester_error))), 0x8000'0100u);
    EXPECT_EQ(f[0].port().control().windows().count(), 0u);
    EXPECT_FALSE(f[0].port().control().lists({0x1234}));
}

TEST_F(Control, OtherPartitionsBlocksReadZeroAndIgnoreWrites) {
    f[1].open(0, 0, 0x10000);
    EXPECT_EQ(f[0].get<uint32_t>(f[0].control(offsetof(Block, requesters), 1)), 0u);
    EXPECT_EQ(f[0].get<uint64_t>(f[0].control(offsetof(Block, lut_entry), 1)), 0u);
    f[0].operate(ControlOp::lock, 1);
    EXPECT_EQ(f[1].status(), ControlStatus::normal);
    f[0].operate(ControlOp::reset, 1);
    EXPECT_EQ(f[1].port().control().windows().count(), 1u);
    // Nor do partitions that do not exist have anything.
    EXPECT_EQ(f[0].get<uint16_t>(f[0].control(offsetof(Block, requesters), 47)), 0);
}

struct Pair : testing::Test {
    TestFabric f{{.ports = 4, .policies = paired_policies(4)}};
    void SetUp() override { f.bring_up(3); }
};

TEST_F(Pair, AccessVectorLetsAPeerConfigureWindows) {
    f[0].operate(ControlOp::lock, 1);
    EXPECT_EQ(f[0].status(1), ControlStatus::locked);
    f[0].put(f[0].control(offsetof(Block, lut_entry), 1), switchtec::lut::entry(0, 0x10000));
    f[0].operate(ControlOp::config, 1);
    EXPECT_EQ(f[0].status(1), ControlStatus::normal);
    EXPECT_EQ(f[1].port().control().windows().translate(2, 0).target->partition, 0u);
}

TEST_F(Pair, TargetVectorEndsAtThePair) {
    EXPECT_EQ(f[0].get<uint32_t>(switchtec::gas::ntb_info + 0x24), 0b10u);
    EXPECT_FALSE(configures(f[0], [&] { f[0].put_lut(0, 2, 0x10000); }));
    f[0].operate(ControlOp::lock, 2);
    EXPECT_EQ(f[2].status(), ControlStatus::normal);
}

TEST_F(Pair, OnlyTheHolderSeesTheLockAndWrites) {
    f[0].operate(ControlOp::lock, 1);
    EXPECT_EQ(f[1].status(), ControlStatus::locking);
    f[1].operate(ControlOp::lock);
    EXPECT_EQ(f[1].status(), ControlStatus::locking);
    f[1].put_lut(3, 0, 0x10000);
    f[1].operate(ControlOp::config);
    f[1].operate(ControlOp::reset);
    EXPECT_EQ(f[0].status(1), ControlStatus::locked);
    f[0].operate(ControlOp::config, 1);
    EXPECT_EQ(f[1].port().control().windows().count(), 0u);
}

TEST_F(Pair, LockOfAHolderThatGoesIsReleasedWithoutItsChanges) {
    f[0].operate(ControlOp::lock, 1);
    f[0].put(f[0].control(offsetof(Block, lut_entry), 1), switchtec::lut::entry(0, 0x10000));
    f[0].disconnect();
    EXPECT_EQ(f[1].status(), ControlStatus::normal);
    EXPECT_EQ(f[1].get<uint64_t>(f[1].control(offsetof(Block, lut_entry))), 0u);
}

} // namespace
} // namespace lanepool::fabric
