// SPDX-License-Identifier: Apache-2.0
#include "nvme/driver.h"
#include "nvme/fake_controller.h"
#include "nvme/io_commands.h"

#include <gtest/gtest.h>

namespace lanepool::nvme {
namespace {

// A driver with one I/O queue over a controller that answers I/O only when it is told to.
class QueuePairTest : public testing::Test {
  protected:
    void SetUp() override {
        fake.on_command = [this](uint16_t id,
                                 const Command& command) -> std::optional<FakeController::Answer> {
            if (id == 0) return fake.answer(id, command);
            waiting.push_back(command);
            return std::nullopt;
        };
        driver = Driver::create(fake, clock).value();
        queue = driver->create_queue({.depth = 4}).value();
    }
    void submit(io::Duration timeout = std::chrono::seconds(1)) {
        ASSERT_TRUE(queue->submit(make_flush(driver->namespaces()[0]), timeout,
                                  [this](const Outcome& o) { outcomes.push_back(o); }));
    }
    void complete(uint16_t cid, Status status = {}) {
        Completion entry;
        entry.cid = cid;
        entry.sq_id = queue->id();
        entry.status_phase = Completion::make_status_phase(status, false);
        fake.post(queue->id(), entry);
    }
    void poll(int times) {
        for (int i = 0; i < times; ++i)
            last_poll = queue->poll();
    }

    FakeController fake;
    SteppingClock clock;
    std::vector<Command> waiting;
    std::vector<Outcome> outcomes;
    Result<uint32_t> last_poll;
    std::unique_ptr<Driver> driver;
    QueuePair* queue = nullptr;
};

TEST_F(QueuePairTest, AnswersInAnyOrder) {
    submit();
    submit();
    poll(1);
    ASSERT_EQ(waiting.size(), 2u);
    complete(waiting[1].cid, StatusCode::lba_out_of_range);
    poll(1);
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0].status.code(), StatusCode::lba_out_of_range);
    EXPECT_EQ(outcomes[0].result("x").error().code(), Errc::io);
    complete(waiting[0].cid);
    poll(1);
    EXPECT_TRUE(outcomes.at(1).ok());
    EXPECT_EQ(queue->in_flight(), 0);
}

TEST_F(QueuePairTest, ManyRoundsKeepThePhase) {
    for (int i = 0; i < 100; ++i) {
        submit();
        poll(1);
        complete(waiting.back().cid);
        poll(1);
    }
    EXPECT_EQ(outcomes.size(), 100u);
    EXPECT_TRUE(last_poll);
}

TEST_F(QueuePairTest, AFullQueueIsBusy) {
    for (int i = 0; i < 4; ++i)
        submit();
    EXPECT_EQ(queue->submit(Command{}, std::chrono::seconds(1), {}).error().code(), Errc::busy);
}

TEST_F(QueuePairTest, ACommandWithoutAnAnswerTimesOutAndKeepsItsSlot) {
    submit();
    poll(64 * 300);
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0].lost, Errc::timeout);
    EXPECT_EQ(queue->abandoned(), 1);
    for (int i = 0; i < 3; ++i)
        submit();
    EXPECT_TRUE(queue->full());
    // The late answer frees the slot and reaches nobody.
    complete(waiting[0].cid);
    poll(1);
    EXPECT_TRUE(last_poll);
    EXPECT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(queue->abandoned(), 0);
    EXPECT_FALSE(queue->full());
}

TEST_F(QueuePairTest, ACompletionThatComesTwiceBreaksTheQueue) {
    submit();
    poll(1);
    complete(waiting[0].cid);
    poll(1);
    submit();
    complete(waiting[0].cid);
    poll(1);
    EXPECT_EQ(last_poll.error().code(), Errc::protocol);
    EXPECT_EQ(outcomes.at(1).lost, Errc::protocol);
    EXPECT_EQ(queue->submit(Command{}, std::chrono::seconds(1), {}).error().code(), Errc::protocol);
}

TEST_F(QueuePairTest, ACommandIdOutOfRangeBreaksTheQueue) {
    submit();
    poll(1);
    complete(0x0fff);
    poll(1);
    EXPECT_EQ(last_poll.error().code(), Errc::protocol);
}

TEST_F(QueuePairTest, AnotherQueuesCompletionBreaksTheQueue) {
    submit();
    poll(1);
    fake.on_complete = [](Completion& entry) { entry.sq_id = 9; };
    complete(waiting[0].cid);
    poll(1);
    EXPECT_EQ(last_poll.error().code(), Errc::protocol);
}

TEST_F(QueuePairTest, ADeadControllerIsNoticedBeforeTheDeadline) {
    submit(std::chrono::hours(1));
    poll(1);
    fake.gone = true;
    poll(64 * 40);
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0].lost, Errc::disconnected);
}

TEST_F(QueuePairTest, AResetUnderItIsNoticed) {
    submit(std::chrono::hours(1));
    poll(1);
    ASSERT_TRUE(fake.reset());
    poll(64 * 40);
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0].lost, Errc::cancelled);
}

TEST_F(QueuePairTest, StoppingAnswersWhatIsInFlight) {
    submit();
    poll(1);
    ASSERT_TRUE(driver->stop());
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0].lost, Errc::cancelled);
}

TEST_F(QueuePairTest, ACallbackMaySubmit) {
    int left = 10;
    std::function<void(const Outcome&)> again = [&](const Outcome&) {
        if (--left == 0) return;
        EXPECT_TRUE(queue->submit(Command{}, std::chrono::seconds(1), again).has_value());
    };
    ASSERT_TRUE(queue->submit(Command{}, std::chrono::seconds(1), again));
    for (int i = 0; i < 10; ++i) {
        poll(1);
        ASSERT_EQ(waiting.size(), static_cast<size_t>(i + 1));
        complete(waiting.back().cid);
    }
    poll(1);
    EXPECT_EQ(left, 0);
}

TEST_F(QueuePairTest, MemoryOfSomebodyElsesMustHoldIt) {
    std::array<std::byte, 0x2000> bar{};
    const auto doorbells = Doorbells::create(bar, 0, 4).value();
    std::vector<std::byte> sq(QueuePair::submission_bytes(7)), cq(QueuePair::completion_bytes(7));
    const auto made = [&](uint16_t id, uint16_t depth) {
        return QueuePair::create(QueueMemory{sq, {0x1000}, cq, {0x2000}}, doorbells, clock, {}, {id, depth});
    };
    EXPECT_TRUE(made(3, 7));
    EXPECT_EQ(made(3, 8).error().code(), Errc::out_of_range);
    EXPECT_EQ(made(4, 7).error().code(), Errc::out_of_range);
    EXPECT_EQ(Doorbells::create(bar, 0, 513).error().code(), Errc::out_of_range);
    auto other = made(3, 7).value();
    ASSERT_TRUE(other->submit(Command{}, std::chrono::seconds(1), {}));
    ASSERT_TRUE(other->ring());
    EXPECT_EQ(bar[submission_doorbell_offset(3)], std::byte{1});
}

} // namespace
} // namespace lanepool::nvme
