// SPDX-License-Identifier: Apache-2.0
#include "nvme/borrowed/borrowed_memory.h"

#include "lanepool/test_agent.h"

namespace lanepool::nvme {
namespace {

class BorrowedMemoryTest : public testing::Test {
  protected:
    Result<Device> borrow() {
        const Json none = {{"size", 0}, {"mapped", false}};
        agent.on("device_borrow", {{"device", 2},
                                   {"loan", 1},
                                   {"node", 1},
                                   {"due_us", 0},
                                   {"interrupts", 0},
                                   {"config", std::string(128, '0')},
                                   {"bars", Json::array({none, none, none, none, none, none})}});
        agent.on("segment_create", {{"segment", 3}, {"segment_id", 9}});
        return Device::borrow(session, 1, Sharing::exclusive, std::chrono::seconds(1));
    }
    void place_at(uint64_t address) { agent.on("device_map", {{"mapping", 4}, {"address", address}}); }

    TestAgent agent;
    Session session = *Session::open(agent.options());
    Device device = *borrow();
    BorrowedMemory memory{session, device};
};

TEST_F(BorrowedMemoryTest, LiesWhereTheLenderSays) {
    place_at(0x7000'1000);
    {
        const auto block = memory.allocate(8192, 4096, Access::read_only, "queue");
        ASSERT_TRUE(block) << block.error().message();
        EXPECT_EQ((*block)->iova().value, 0x7000'1000u);
        EXPECT_EQ((*block)->bytes().size(), 8192u);
        const auto segment = agent.next("segment_create");
        EXPECT_EQ(segment["private"], true);
        EXPECT_EQ(segment["size"], 8192);
        EXPECT_EQ(agent.next("device_map")["read_only"], true);
        EXPECT_EQ(agent.count("device_unmap"), 0u);
    }
    EXPECT_EQ(agent.next("device_unmap")["mapping"], 4);
    EXPECT_EQ(agent.next("segment_remove")["segment"], 3);
}

TEST_F(BorrowedMemoryTest, IsAlignedInsideOfWhatIsMapped) {
    place_at(0x7000'1000);
    const auto block = memory.allocate(65536, 65536, Access::read_write, "buffer");
    ASSERT_TRUE(block) << block.error().message();
    EXPECT_EQ((*block)->iova().value, 0x7001'0000u);
    EXPECT_EQ((*block)->bytes().size(), 65536u);
    (*block)->bytes().back() = std::byte{1};
    EXPECT_EQ(agent.next("segment_create")["size"], 65536 + 65536 - 4096);
}

TEST_F(BorrowedMemoryTest, AnAddressInsideOfAPageIsRefused) {
    place_at(0x7000'1008);
    EXPECT_EQ(code(memory.allocate(4096, 4096, Access::read_write, "queue")), Errc::protocol);
}

} // namespace
} // namespace lanepool::nvme
