// SPDX-License-Identifier: Apache-2.0
#include "nvme/wipe.h"

#include "nvme/driver.h"
#include "nvme/fake_controller.h"

#include <gtest/gtest.h>

namespace lanepool::nvme {
namespace {

class WipeTest : public testing::Test {
  protected:
    void SetUp() override { std::fill(fake.disk.begin(), fake.disk.end(), std::byte{0x5a}); }
    Result<WipeReport> run() { return wipe(fake, clock, {.seed = 1, .on_progress = {}}); }
    bool erased() const {
        return std::all_of(fake.disk.begin(), fake.disk.end(), [](auto b) { return b == std::byte{0}; });
    }
    bool sent(AdminOpcode opcode) const {
        return std::any_of(fake.log.begin(), fake.log.end(),
                           [&](auto& c) { return c.opcode == static_cast<uint8_t>(opcode); });
    }
    void expect_quiet() const {
        EXPECT_FALSE(fake.ready());
        EXPECT_EQ(fake.dma_mappings(), 0u);
        EXPECT_EQ(fake.irqs(), 0u);
        EXPECT_FALSE(fake.pci_command() & pci::command::bus_master);
    }

    FakeController fake;
    SteppingClock clock{std::chrono::milliseconds(1)};
};

TEST_F(WipeTest, PrefersSanitizeByBlockErase) {
    fake.controller.sanicap = sanicap::block_erase | sanicap::crypto_erase | sanicap::overwrite;
    fake.controller.oacs = oacs::format;
    const auto report = run();
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_EQ(report->method, WipeMethod::sanitize_block_erase);
    EXPECT_GE(report->blocks_verified, 4096u);
    EXPECT_TRUE(report->passed_over.empty());
    EXPECT_TRUE(erased());
    expect_quiet();
}

TEST_F(WipeTest, FallsBackToFormatThenToWriteZeroesThenToWrites) {
    fake.controller.oacs = oacs::format;
    EXPECT_EQ(run()->method, WipeMethod::format_user_data_erase);
    EXPECT_TRUE(erased());
    SetUp();
    fake.controller.oacs = 0;
    EXPECT_EQ(run()->method, WipeMethod::write_zeroes);
    EXPECT_TRUE(erased());
    SetUp();
    fake.controller.oncs = 0;
    EXPECT_EQ(run()->method, WipeMethod::overwrite);
    EXPECT_TRUE(erased());
    expect_quiet();
}

TEST_F(WipeTest, PassesOverWhatTheDriveRefuses) {
    fake.controller.oacs = oacs::format;
    fake.on_command = [this](uint16_t queue,
                             const Command& command) -> std::optional<FakeController::Answer> {
        if (queue == 0 && command.opcode == static_cast<uint8_t>(AdminOpcode::format_nvm))
            return FakeController::Answer{StatusCode::invalid_format};
        return fake.answer(queue, command);
    };
    const auto report = run();
    ASSERT_TRUE(report);
    EXPECT_EQ(report->method, WipeMethod::write_zeroes);
    ASSERT_EQ(report->passed_over.size(), 1u);
    EXPECT_NE(report->passed_over[0].find("invalid format"), std::string::npos);
}

TEST_F(WipeTest, ASanitizeThatFailsIsAnError) {
    fake.controller.sanicap = sanicap::crypto_erase;
    fake.sanitize_fails = true;
    EXPECT_EQ(run().error().code(), Errc::failed_precondition);
    expect_quiet();
}

TEST_F(WipeTest, ALogThatSpeaksOfAnotherCommandIsNoProof) {
    fake.controller.sanicap = sanicap::block_erase;
    fake.on_command = [this](uint16_t queue,
                             const Command& command) -> std::optional<FakeController::Answer> {
        auto other = command;
        if (queue == 0 && command.opcode == static_cast<uint8_t>(AdminOpcode::sanitize))
            other.cdw10 = sanitize_command::sanact(static_cast<uint32_t>(SanitizeAction::overwrite));
        return fake.answer(queue, other);
    };
    EXPECT_EQ(run().error().code(), Errc::failed_precondition);
}

TEST_F(WipeTest, ADriveThatLiesIsCaught) {
    fake.controller.sanicap = sanicap::block_erase;
    fake.sanitize_lies = true;
    const auto report = run();
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code(), Errc::failed_precondition);
    EXPECT_NE(report.error().message().find("still data"), std::string::npos);
    expect_quiet();
}

TEST_F(WipeTest, ADriveThatAnswersReadsWithoutReadingIsCaught) {
    fake.on_command = [this](uint16_t queue,
                             const Command& command) -> std::optional<FakeController::Answer> {
        if (queue == 1 && command.opcode == static_cast<uint8_t>(IoOpcode::read))
            return FakeController::Answer{};
        return fake.answer(queue, command);
    };
    EXPECT_EQ(run().error().code(), Errc::failed_precondition);
}

TEST_F(WipeTest, CryptoEraseThatLeavesNoiseIsZeroedAsWell) {
    fake.controller.sanicap = sanicap::crypto_erase;
    fake.sanitize_lies = true; // what is left reads as something else
    fake.name_space.dlfeat = dlfeat::reads_unknown;
    const auto report = run();
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_EQ(report->method, WipeMethod::sanitize_crypto_erase);
    EXPECT_TRUE(erased());
}

TEST_F(WipeTest, DeallocatedBlocksMayReadAsOnesWhereTheDriveSaysSo) {
    fake.controller.sanicap = sanicap::block_erase;
    fake.sanitize_lies = true;
    std::fill(fake.disk.begin(), fake.disk.end(), std::byte{0xff});
    fake.name_space.dlfeat = dlfeat::reads_ones;
    EXPECT_TRUE(run());
    fake.name_space.dlfeat = dlfeat::reads_zeroes;
    EXPECT_FALSE(run());
}

TEST_F(WipeTest, ADeadlineEndsIt) {
    fake.controller.sanicap = sanicap::block_erase;
    fake.on_command = [this](uint16_t queue,
                             const Command& command) -> std::optional<FakeController::Answer> {
        if (queue == 1) return std::nullopt;
        return fake.answer(queue, command);
    };
    const auto report =
        wipe(fake, clock, {.deadline = clock.now() + std::chrono::seconds(60), .on_progress = {}});
    EXPECT_EQ(report.error().code(), Errc::timeout);
    expect_quiet();
}

TEST_F(WipeTest, AQueueFullOfCommandsThatTimedOutIsNotWaitedForEver) {
    fake.controller.mdts = 1; // many commands, with plain writes
    fake.controller.oncs = 0;
    fake.on_command = [this](uint16_t queue,
                             const Command& command) -> std::optional<FakeController::Answer> {
        if (queue == 1) return std::nullopt;
        return fake.answer(queue, command);
    };
    EXPECT_EQ(run().error().code(), Errc::timeout);
    expect_quiet();
}

TEST_F(WipeTest, ADriveThatDiesOnTheWayIsDisconnected) {
    fake.on_command = [this](uint16_t queue,
                             const Command& command) -> std::optional<FakeController::Answer> {
        if (queue == 1) fake.gone = true;
        return fake.answer(queue, command);
    };
    fake.on_complete = [this](Completion& entry) {
        if (fake.gone) entry = {}; // never arrives
    };
    EXPECT_EQ(run().error().code(), Errc::disconnected);
    EXPECT_EQ(fake.dma_mappings(), 0u);
}

TEST_F(WipeTest, TellsHowFarItIs) {
    fake.controller.sanicap = sanicap::block_erase;
    std::vector<double> erasing;
    bool verifying = false;
    const auto report = wipe(fake, clock, {.on_progress = [&](const WipeProgress& progress) {
                                 if (progress.step == "erasing") erasing.push_back(progress.done);
                                 verifying |= progress.step == "verifying";
                             }});
    ASSERT_TRUE(report);
    EXPECT_EQ(erasing, (std::vector<double>{0, 0.5, 1}));
    EXPECT_TRUE(verifying);
}

TEST(Identify, NamesTheDriveAndLeavesItQuiet) {
    FakeController fake;
    const auto identity = identify(fake);
    ASSERT_TRUE(identity) << identity.error().message();
    EXPECT_EQ(identity->model, "Fake drive");
    EXPECT_EQ(identity->serial, "F0001");
    EXPECT_EQ(identity->firmware, "1.0");
    EXPECT_EQ(identity->capacity_bytes, FakeController::blocks * 512);
    ASSERT_EQ(identity->namespaces.size(), 1u);
    EXPECT_FALSE(fake.ready());
    EXPECT_EQ(fake.dma_mappings(), 0u);
}

TEST(VerifyReset, TellsAResetControllerFromOthers) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    EXPECT_TRUE(verify_reset(fake, clock));
    {
        auto driver = Driver::create(fake, clock).value();
        EXPECT_EQ(verify_reset(fake, clock).error().code(), Errc::failed_precondition);
    }
    ASSERT_TRUE(fake.reset());
    EXPECT_TRUE(verify_reset(fake, clock));
    EXPECT_FALSE(fake.pci_command() & pci::command::bus_master);
    fake.fatal = true;
    EXPECT_EQ(verify_reset(fake, clock).error().code(), Errc::io);
    fake.gone = true;
    EXPECT_EQ(verify_reset(fake, clock).error().code(), Errc::disconnected);
}

TEST(VerifyReset, AControllerStillReadyIsATimeout) {
    FakeController fake;
    const SteppingClock clock(std::chrono::milliseconds(100));
    auto driver = Driver::create(fake, clock).value();
    fake.never_ready = true; // RDY stays
    ASSERT_TRUE(pci::write32(fake, pci::Region::bar0, reg::cc, 0));
    ASSERT_TRUE(pci::write16(fake, pci::Region::config, pci::config::command, 0));
    EXPECT_EQ(verify_reset(fake, clock).error().code(), Errc::timeout);
}

} // namespace
} // namespace lanepool::nvme
