// SPDX-License-Identifier: Apache-2.0
#include "nvme/driver.h"

#include "nvme/fake_controller.h"
#include "nvme/io_commands.h"

#include <gtest/gtest.h>

namespace lanepool::nvme {
namespace {

TEST(Driver, IdentifiesTheDrive) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    auto driver = Driver::create(fake, clock);
    ASSERT_TRUE(driver) << driver.error().message();
    EXPECT_EQ((*driver)->info().model, "Fake drive");
    EXPECT_EQ((*driver)->info().serial, "F0001");
    EXPECT_EQ((*driver)->info().max_transfer_bytes, 128u * 1024);
    EXPECT_EQ((*driver)->info().capacity_bytes, FakeController::blocks * 512);
    ASSERT_EQ((*driver)->namespaces().size(), 1u);
    EXPECT_EQ((*driver)->namespaces()[0].block_bytes, 512u);
    EXPECT_EQ((*driver)->max_queues(), 4);
}

TEST(Driver, LeavesTheFunctionQuiet) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    {
        auto driver = Driver::create(fake, clock, {.interrupt_vectors = 2});
        ASSERT_TRUE(driver);
        ASSERT_TRUE((*driver)->create_queue({.depth = 8, .interrupt_vector = 1}));
        EXPECT_EQ(fake.irqs(), 2u);
        EXPECT_TRUE(fake.pci_command() & pci::command::bus_master);
    }
    EXPECT_FALSE(fake.ready());
    EXPECT_EQ(fake.dma_mappings(), 0u);
    EXPECT_EQ(fake.irqs(), 0u);
    EXPECT_FALSE(fake.pci_command() & pci::command::bus_master);
}

TEST(Driver, WritesAndReadsBackThroughPrpLists) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    auto driver = Driver::create(fake, clock).value();
    auto* queue = driver->create_queue({}).value();
    const auto& ns = driver->namespaces()[0];
    auto memory = driver->allocate(4 * 1024 * 1024).value();
    auto bytes = memory.bytes();
    for (size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<std::byte>(i * 7 + i / 4096);
    for (const auto& [offset, blocks] : {std::pair{512u, 16u},
                                         {4096u, 8u},
                                         {0u, 255u},
                                         {12800u, 200u},
                                         {1024u * 1024 - 8192, 255u},
                                         {2560u * 1024, 256u}}) {
        const auto second = Buffer{memory, 3 * 1024 * 1024};
        ASSERT_TRUE(
            queue->execute(make_write(ns, 100, blocks, {memory, offset}).value(), std::chrono::seconds(1))
                .ok());
        ASSERT_TRUE(queue->execute(make_read(ns, 100, blocks, second).value(), std::chrono::seconds(1)).ok());
        EXPECT_EQ(std::memcmp(&bytes[offset], &bytes[3 * 1024 * 1024], blocks * 512), 0) << offset;
        EXPECT_EQ(std::memcmp(&bytes[offset], &fake.disk[100 * 512], blocks * 512), 0) << offset;
    }
}

TEST(Driver, RefusesBlocksOutsideAndTransfersTooLong) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    auto driver = Driver::create(fake, clock).value();
    const auto& ns = driver->namespaces()[0];
    auto memory = driver->allocate(256 * 1024).value();
    EXPECT_EQ(make_read(ns, FakeController::blocks, 1, {memory}).error().code(), Errc::out_of_range);
    EXPECT_EQ(make_read(ns, ~uint64_t{0}, 2, {memory}).error().code(), Errc::out_of_range);
    EXPECT_EQ(make_read(ns, 0, 0, {memory}).error().code(), Errc::invalid_argument);
    EXPECT_EQ(make_read(ns, 0, 257, {memory}).error().code(), Errc::invalid_argument);
    EXPECT_EQ(make_read(ns, 0, 8, {memory, 255 * 1024}).error().code(), Errc::out_of_range);
    EXPECT_EQ(make_read(ns, 0, 8, {memory, 2}).error().code(), Errc::invalid_argument);
}

TEST(Driver, ResetsAControllerThatDoesNotStop) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    auto first = Driver::create(fake, clock).value();
    fake.never_ready = true; // RDY stays 1
    auto second = Driver::create(fake, clock, {.iova_start = {uint64_t{1} << 33}});
    EXPECT_FALSE(second);
    EXPECT_GE(fake.resets, 1u);
    fake.never_ready = false;
    EXPECT_TRUE(Driver::create(fake, clock, {.iova_start = {uint64_t{1} << 33}}));
}

TEST(Driver, AControllerThatDoesNotGetReadyIsATimeout) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    fake.never_ready = true;
    EXPECT_EQ(Driver::create(fake, clock).error().code(), Errc::timeout);
    EXPECT_EQ(fake.dma_mappings(), 0u);
}

TEST(Driver, AFatalStatusIsAnError) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    fake.never_ready = fake.fatal = true;
    EXPECT_EQ(Driver::create(fake, clock).error().code(), Errc::io);
}

TEST(Driver, AGoneDeviceIsDisconnected) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    fake.gone = true;
    EXPECT_EQ(Driver::create(fake, clock).error().code(), Errc::disconnected);
}

TEST(Driver, AnAdminCommandWithoutAnswerIsATimeout) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    fake.on_command = [&](uint16_t queue, const Command& command) -> std::optional<FakeController::Answer> {
        if (command.opcode == static_cast<uint8_t>(AdminOpcode::set_features)) return std::nullopt;
        return fake.answer(queue, command);
    };
    EXPECT_EQ(Driver::create(fake, clock).error().code(), Errc::timeout);
}

TEST(Driver, NonsenseInIdentifyIsAProtocolError) {
    const SteppingClock clock(std::chrono::milliseconds(100));
    const auto refused = [&](auto change) {
        FakeController fake;
        change(fake);
        auto driver = Driver::create(fake, clock);
        return !driver && driver.error().code() == Errc::protocol;
    };
    EXPECT_TRUE(refused([](auto& f) { f.controller.sqes = 7; }));
    EXPECT_TRUE(refused([](auto& f) { f.name_space.flbas = 1; }));
    EXPECT_TRUE(refused([](auto& f) { f.name_space.lba_formats[0].data_shift = 63; }));
    EXPECT_TRUE(refused([](auto& f) { f.name_space.size_blocks = ~uint64_t{0}; }));
    EXPECT_FALSE(refused([](auto&) {}));
}

TEST(Driver, ShadowDoorbellsSpareCalls) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    fake.controller.oacs = oacs::doorbell_buffer_config;
    fake.on_command = [&](uint16_t queue, const Command& command) -> std::optional<FakeController::Answer> {
        if (command.opcode == static_cast<uint8_t>(AdminOpcode::doorbell_buffer_config))
            return FakeController::Answer{};
        return fake.answer(queue, command);
    };
    auto driver = Driver::create(fake, clock).value();
    auto* queue = driver->create_queue({.depth = 8}).value();
    const auto before = fake.calls;
    // The event index is 0: the step over it is told, the next ones are not.
    ASSERT_TRUE(queue->submit(Command{}, std::chrono::seconds(1), {}));
    ASSERT_TRUE(queue->ring());
    EXPECT_EQ(fake.calls, before + 1);
    ASSERT_TRUE(queue->submit(Command{}, std::chrono::seconds(1), {}));
    ASSERT_TRUE(queue->ring());
    EXPECT_EQ(fake.calls, before + 1);
}

TEST(Driver, QueuesForOthersShareTheIdsButNotShadowDoorbells) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    auto driver = Driver::create(fake, clock).value();
    QueuePlace place{.entries = 32, .submission = {0x1000}, .completion = {0x2000}};
    EXPECT_EQ(driver->create_foreign_queue(place).value(), 1);
    EXPECT_EQ(driver->create_queue({.depth = 4}).value()->id(), 2);
    place.priority = QueuePriority::low;
    EXPECT_EQ(driver->create_foreign_queue(place).value(), 3);
    EXPECT_EQ(create_queue::qprio.get(fake.log.back().cdw11), 3u);
    EXPECT_EQ(driver->delete_foreign_queue(2).error().code(), Errc::not_found);
    EXPECT_TRUE(driver->delete_foreign_queue(1));
    EXPECT_EQ(driver->create_queue({.depth = 4}).value()->id(), 1);
    place.entries = 33;
    EXPECT_EQ(driver->create_foreign_queue(place).error().code(), Errc::out_of_range);
    EXPECT_EQ(Driver::create(fake, clock, {.iova_start = {uint64_t{1} << 33}, .weighted_arbitration = true})
                  .error()
                  .code(),
              Errc::not_supported);
}

TEST(Driver, QueuesAreGivenBack) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    auto driver = Driver::create(fake, clock).value();
    std::vector<QueuePair*> queues;
    for (int i = 0; i < driver->max_queues(); ++i)
        queues.push_back(driver->create_queue({.depth = 4}).value());
    EXPECT_EQ(driver->create_queue({}).error().code(), Errc::no_space);
    ASSERT_TRUE(driver->delete_queue(*queues[1]));
    EXPECT_EQ(driver->create_queue({.depth = 4}).value()->id(), 2);
}

} // namespace
} // namespace lanepool::nvme
