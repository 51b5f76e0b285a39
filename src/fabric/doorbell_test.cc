// SPDX-License-Identifier: Apache-2.0
//
// Doorbells, messages, interrupts and link events.
#include "fabric/test_ports.h"

#include <gtest/gtest.h>

namespace lanepool::fabric {
namespace {

namespace switchtec = ntb::switchtec;
namespace gas = switchtec::gas;
using Block = switchtec::MessageBlock;

constexpr unsigned doorbell_vector = 1;
constexpr unsigned message_vector = 2;

struct Bells : testing::Test {
    TestFabric f;
    std::vector<std::vector<UniqueFd>> vectors;
    void SetUp() override {
        f.bring_up(3);
        for (unsigned p = 0; p < 3; ++p) {
            vectors.push_back(f[p].take_vectors());
            for (unsigned i = 0; i < 64; ++i)
                f[p].put<uint8_t>(f[p].messages(offsetof(Block, vec_map)) + i,
                                  i < 60 ? doorbell_vector : message_vector);
            f[p].put<uint64_t>(f[p].messages(offsetof(Block, odb_mask)), ~uint64_t{0});
            f[p].put<uint64_t>(f[p].messages(offsetof(Block, idb_mask)), ~uint64_t{0});
            for (unsigned i = 0; i < 4; ++i)
                f[p].put<uint64_t>(in(p, i), uint64_t{1} << 32 | uint64_t{1} << 40);
        }
    }
    uint64_t in(unsigned p, unsigned i) { return f[p].messages(offsetof(Block, imsg) + 8 * i); }
    uint64_t out(unsigned p, unsigned i) { return f[p].messages(offsetof(Block, omsg) + 8 * i); }
    uint64_t idb(unsigned p) { return f[p].get<uint64_t>(f[p].messages(offsetof(Block, idb))); }
    void ring(unsigned p, uint64_t bits) { f[p].put(f[p].messages(offsetof(Block, odb)), bits); }
    void map_message(unsigned p, unsigned i, unsigned partition, unsigned index) {
        f[p].put<uint8_t>(f[p].messages(offsetof(Block, msg_map)) + i,
                          static_cast<uint8_t>(index | partition << 2));
    }
    switchtec::OutStatus status(unsigned p, unsigned i) {
        return static_cast<switchtec::OutStatus>(f[p].get<uint32_t>(out(p, i) + 4));
    }
};

TEST_F(Bells, RingEverybodyElse) {
    ring(0, 0b101);
    EXPECT_EQ(idb(0), 0u);
    EXPECT_EQ(idb(1), 0b101u);
    EXPECT_EQ(idb(2), 0b101u);
    EXPECT_EQ(drain(vectors[1][doorbell_vector]), 1u) << "two bells on one vector are one interrupt";
    EXPECT_EQ(drain(vectors[0][doorbell_vector]), 0u);
}

TEST_F(Bells, AreClearedByWritingOnes) {
    ring(0, 0b111);
    f[1].put<uint64_t>(f[1].messages(offsetof(Block, idb)), 0b010);
    EXPECT_EQ(idb(1), 0b101u);
    EXPECT_EQ(idb(2), 0b111u);
}

TEST_F(Bells, MasksHoldThemBack) {
    f[0].put<uint64_t>(f[0].messages(offsetof(Block, odb_mask)), 0b10);
    f[1].put<uint64_t>(f[1].messages(offsetof(Block, idb_mask)), 0);
    ring(0, 0b11);
    EXPECT_EQ(idb(1), 0b10u);
    EXPECT_EQ(drain(vectors[1][doorbell_vector]), 0u);
    f[1].put<uint64_t>(f[1].messages(offsetof(Block, idb_mask)), 0b10);
    EXPECT_EQ(drain(vectors[1][doorbell_vector]), 1u) << "pending when it is unmasked";
}

TEST_F(Bells, HalfOfARegisterAtATime) {
    f[0].put<uint32_t>(f[0].messages(offsetof(Block, odb)) + 4, 1);
    EXPECT_EQ(idb(1), uint64_t{1} << 32);
}

TEST_F(Bells, MessageArrivesWithItsSourceAndAnInterrupt) {
    map_message(0, 2, 1, 3);
    f[0].put<uint32_t>(out(0, 2), 0xcafe);
    EXPECT_EQ(status(0, 2), switchtec::OutStatus::delivered);
    EXPECT_EQ(f[1].get<uint32_t>(in(1, 3)), 0xcafeu);
    EXPECT_EQ(f[1].get<uint8_t>(in(1, 3) + 4), 1);
    EXPECT_EQ(f[1].get<uint8_t>(in(1, 3) + 6), 0) << "source";
    EXPECT_EQ(drain(vectors[1][message_vector]), 1u);
    EXPECT_EQ(drain(vectors[2][message_vector]), 0u);
}

TEST_F(Bells, MessageRegisterIsBusyUntilTaken) {
    map_message(0, 0, 1, 0);
    map_message(2, 0, 1, 0);
    f[0].put<uint32_t>(out(0, 0), 1);
    f[2].put<uint32_t>(out(2, 0), 2);
    EXPECT_EQ(status(2, 0), switchtec::OutStatus::busy);
    EXPECT_EQ(f[1].get<uint32_t>(in(1, 0)), 1u);
    f[1].put<uint8_t>(in(1, 0) + 4, 1);
    f[2].put<uint32_t>(out(2, 0), 2);
    EXPECT_EQ(status(2, 0), switchtec::OutStatus::delivered);
    EXPECT_EQ(f[1].get<uint32_t>(in(1, 0)), 2u);
    EXPECT_EQ(f[1].get<uint8_t>(in(1, 0) + 6), 2) << "source";
}

TEST_F(Bells, MessagesReachWhoIsThereOnly) {
    for (const unsigned partition : {0u, 3u, 4u, 63u}) { // itself, not connected, does not exist
        map_message(0, 0, partition, 0);
        f[0].put<uint32_t>(out(0, 0), 1);
        EXPECT_EQ(status(0, 0), switchtec::OutStatus::unreachable) << partition;
    }
    map_message(0, 0, 1, 0);
    f[0].port().enable_link(false);
    f[0].put<uint32_t>(out(0, 0), 1);
    EXPECT_EQ(status(0, 0), switchtec::OutStatus::unreachable);
    EXPECT_EQ(f[0].port().counters().messages_refused, 5u);
}

TEST_F(Bells, MaskedMessageInterruptsWhenUnmasked) {
    map_message(0, 0, 1, 0);
    f[1].put<uint8_t>(in(1, 0) + 5, 0);
    f[0].put<uint32_t>(out(0, 0), 1);
    EXPECT_EQ(drain(vectors[1][message_vector]), 0u);
    f[1].put<uint8_t>(in(1, 0) + 5, 1);
    EXPECT_EQ(drain(vectors[1][message_vector]), 1u);
}

TEST_F(Bells, VectorsThatDoNotExistAreLost) {
    f[1].put<uint8_t>(f[1].messages(offsetof(Block, vec_map)), 0xff);
    f[2].put<uint8_t>(f[2].messages(offsetof(Block, vec_map)), 33);
    ring(0, 1);
    EXPECT_EQ(f[2].port().counters().interrupts_lost, 1u);
    EXPECT_EQ(idb(1), 1u);
}

TEST_F(Bells, OtherPartitionsBlocksAreNotAccessible) {
    ring(0, 1);
    EXPECT_EQ(f[2].get<uint64_t>(f[1].messages(offsetof(Block, idb))), 0u);
    f[2].put<uint64_t>(f[1].messages(offsetof(Block, idb)), 1);
    EXPECT_EQ(idb(1), 1u);
    EXPECT_EQ(idb(2), 1u) << "and it is not taken for its own";
}

TEST_F(Bells, InterruptsBeyondTheVectorsAreRefused) {
    Result<> result;
    std::vector<UniqueFd> fds(endpoint_vectors + 1);
    f[0].port().set_irqs(pci::Irq::msix, 0, std::move(fds), {[&](Result<> r) { result = r; }});
    EXPECT_EQ(result.error().code(), Errc::out_of_range);
    f[0].port().set_irqs(pci::Irq::intx, 0, {}, {[&](Result<> r) { result = r; }});
    EXPECT_EQ(result.error().code(), Errc::not_supported);
}

TEST_F(Bells, TurningOneIndexOffLeavesTheOther) {
    f[1].port().set_irqs(pci::Irq::msi, 0, {}, {[](Result<>) {}});
    ring(0, 1);
    EXPECT_EQ(drain(vectors[1][doorbell_vector]), 1u);
    f[1].port().set_irqs(pci::Irq::msix, 0, {}, {[](Result<>) {}});
    ring(0, 1);
    EXPECT_EQ(drain(vectors[1][doorbell_vector]), 0u);
}

TEST_F(Bells, ResetSilencesThem) {
    f[1].port().reset({[](Result<>) {}});
    f[1].put<uint8_t>(f[1].messages(offsetof(Block, vec_map)), doorbell_vector);
    f[1].put<uint64_t>(f[1].messages(offsetof(Block, idb_mask)), 1);
    ring(0, 1);
    EXPECT_EQ(drain(vectors[1][doorbell_vector]), 0u);
    EXPECT_EQ(f[1].port().counters().interrupts_lost, 1u);
}

struct Link : Bells {
    uint32_t header(unsigned viewer, unsigned p) { return f[viewer].get<uint32_t>(gas::pff(p) + 0xd30); }
    unsigned count(unsigned viewer, unsigned p) { return switchtec::event::Count::get(header(viewer, p)); }
    bool up(unsigned viewer, unsigned p) { return f[viewer].get<uint32_t>(gas::pff(p) + 0x74) != 0; }
    void enable(unsigned viewer, unsigned p) { f[viewer].put<uint32_t>(gas::pff(p) + 0xd30, 0x9); }
};

TEST_F(Link, StateIsSeenByEverybody) {
    EXPECT_TRUE(up(0, 1));
    EXPECT_FALSE(up(0, 3));
    f[1].port().enable_link(false);
    EXPECT_FALSE(up(0, 1));
    EXPECT_FALSE(up(1, 1));
    f[1].port().enable_link(true);
    EXPECT_TRUE(up(0, 1));
    EXPECT_EQ(switchtec::pff_link::Width::get(f[0].get<uint32_t>(gas::pff(1) + 0x74)), 16);
}

TEST_F(Link, ChangesAreCountedAndInterruptWhereEnabled) {
    enable(0, 1);
    const unsigned before = count(0, 1);
    f[1].disconnect();
    EXPECT_EQ(count(0, 1), before + 1);
    EXPECT_EQ(header(0, 1) & 1, 1u);
    EXPECT_EQ(drain(vectors[0][0]), 1u);
    EXPECT_EQ(drain(vectors[2][0]), 0u) << "not enabled there";
    enable(0, 1);
    EXPECT_EQ(header(0, 1) & 1, 0u);
    f[1].connect();
    EXPECT_EQ(count(0, 1), before + 2);
    EXPECT_EQ(drain(vectors[0][0]), 1u);
}

TEST_F(Link, SameStateAgainIsNoEvent) {
    const unsigned before = count(0, 1);
    f[1].port().enable_link(true);
    f[3].port().enable_link(false); // nobody is there
    f[3].port().enable_link(true);
    EXPECT_EQ(count(0, 1), before);
    EXPECT_EQ(count(0, 3), 0u);
}

TEST_F(Link, StaysDownForTheNextClientUntilItIsEnabled) {
    f[1].port().enable_link(false);
    f[1].disconnect();
    f[1].connect();
    EXPECT_FALSE(up(0, 1));
    f[1].port().enable_link(true);
    EXPECT_TRUE(up(0, 1));
}

} // namespace
} // namespace lanepool::fabric
