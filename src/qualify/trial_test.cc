// SPDX-License-Identifier: Apache-2.0
//
// What a trial finds out about drives and pools that are as they should be, and about those that are not.
#include "qualify/trial.h"

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <map>

namespace lanepool::qualify {
namespace {

using namespace std::chrono_literals;

class FakeClock final : public io::Clock {
  public:
    io::TimePoint now() const override { return now_ += 1ms; }
    int64_t unix_time_us() const override { return 0; }
    void pass(io::Duration duration) { now_ += duration; }

  private:
    mutable io::TimePoint now_{};
};

// What is wrong with the pool, the drive and the way to it.
struct Faults {
    bool flips_a_bit = false;       // in the third block that is read
    bool writes_to_revoked = false; // the memory is still mapped
    bool reads_from_revoked = false;
    bool reads_from_unmapped = false; // other memory of the machine
    bool refuses_stray = true;        // by an error; else it drops them
    bool never_recovers = false;      // after its borrower's death
    bool goes = false;                // with it
    bool wipes_nothing = false;
    bool crypto_erases = false; // what is left is noise
    bool reset_fails = false;
    bool loses_driver = false; // when it is given back to its host
    bool borrower_fails = false;
    unsigned cancel_after = 0; // loans
};

constexpr uint32_t block_bytes = 512;
constexpr uint64_t block_count = 4096;

class FakeBench final : public TrialBench {
  public:
    explicit FakeBench(FakeClock& clock) : clock_(clock) {}

    Faults faults;
    bool drive = true, host = true;
    std::string state = "available", bound = "vfio-pci";
    std::vector<std::byte> disk = std::vector<std::byte>(block_count * block_bytes);
    unsigned loans = 0, live_loans = 0, resets = 0;

    bool is_drive() const override { return drive; }
    bool has_host() const override { return host; }
    Result<TrialState> look() override { return TrialState{state, ""}; }
    Result<> restore() override {
        bound = "vfio-pci";
        wipe();
        state = "available";
        return {};
    }
    Result<> leave_local() override {
        state = "local";
        bound = faults.loses_driver && loans > 0 ? "" : "nvme";
        return {};
    }
    Result<> reset() override {
        ++resets;
        if (faults.reset_fails) {
            state = "quarantined";
            return fail(Errc::io, "it is still there");
        }
        wipe();
        return {};
    }
    Result<std::string> host_driver() override { return bound; }
    Result<std::unique_ptr<TrialLoan>> borrow() override;
    Result<std::unique_ptr<TrialBorrower>> start_borrower(uint64_t seed) override;
    void pause() override { clock_.pass(20ms); }
    bool cancelled() const override { return faults.cancel_after != 0 && loans >= faults.cancel_after; }
    void progress(const std::string&) override {}

    void wipe() {
        if (faults.wipes_nothing) return;
        if (faults.crypto_erases)
            fill(disk, block_bytes, 0, 0xdead);
        else
            std::ranges::fill(disk, std::byte{0});
    }
    void returned() {
        --live_loans;
        wipe();
        state = "available";
    }

  private:
    FakeClock& clock_;
};

class FakeDrive final : public TrialDrive {
  public:
    explicit FakeDrive(FakeBench& bench) : bench_(bench) {}
    uint64_t blocks() const override { return block_count; }
    uint32_t block_bytes() const override { return qualify::block_bytes; }
    uint32_t transfer_blocks() const override { return 16; }
    Result<> write(uint64_t first, std::span<const std::byte> data) override {
        std::ranges::copy(data, at(first).begin());
        return {};
    }
    Result<> read(uint64_t first, std::span<std::byte> data) override {
        std::ranges::copy(at(first).first(data.size()), data.begin());
        if (bench_.faults.flips_a_bit && first == 0 && data.size() > 3 * qualify::block_bytes)
            data[3 * qualify::block_bytes - 1] ^= std::byte{4};
        return {};
    }
    Result<std::span<std::byte>> revoked_memory() override { return memory_; }
    Result<> read_to(Stray where, uint64_t block) override {
        if (where == Stray::revoked && bench_.faults.writes_to_revoked) {
            std::ranges::copy(at(block).first(memory_.size()), memory_.begin());
            return {};
        }
        return stray();
    }
    Result<> write_from(Stray where, uint64_t block) override {
        if (where == Stray::revoked && bench_.faults.reads_from_revoked) return write(block, memory_);
        if (where == Stray::unmapped && bench_.faults.reads_from_unmapped) {
            std::ranges::fill(at(block).first(100), std::byte{7});
            return {};
        }
        // Reads that are dropped deliver ones.
        if (!bench_.faults.refuses_stray)
            std::ranges::fill(at(block).first(qualify::block_bytes), std::byte{0xff});
        return stray();
    }

  private:
    std::span<std::byte> at(uint64_t block) {
        return std::span(bench_.disk).subspan(block * qualify::block_bytes);
    }
    Result<> stray() const {
        if (bench_.faults.refuses_stray) return fail(Errc::io, "data transfer error");
        return {};
    }
    FakeBench& bench_;
    std::vector<std::byte> memory_ = std::vector<std::byte>(qualify::block_bytes);
};

class FakeLoan final : public TrialLoan {
  public:
    explicit FakeLoan(FakeBench& bench) : bench_(bench), drive_(bench) {}
    ~FakeLoan() override {
        if (!over_) bench_.returned();
    }
    Result<> give_back() override {
        over_ = true;
        bench_.returned();
        return {};
    }
    Result<TrialDrive*> drive() override { return &drive_; }

  private:
    FakeBench& bench_;
    FakeDrive drive_;
    bool over_ = false;
};

class FakeBorrower final : public TrialBorrower {
  public:
    explicit FakeBorrower(FakeBench& bench) : bench_(bench) {}
    uint64_t blocks() const override { return bench_.drive ? 32 : 0; }
    Result<> kill() override {
        if (bench_.faults.goes)
            bench_.state = "offline";
        else if (bench_.faults.never_recovers)
            bench_.state = "recovering";
        else
            bench_.returned();
        return {};
    }

  private:
    FakeBench& bench_;
};

Result<std::unique_ptr<TrialLoan>> FakeBench::borrow() {
    if (state != "available") return fail(Errc::busy, "it is {}", state);
    ++loans;
    ++live_loans;
    state = "lent";
    return std::make_unique<FakeLoan>(*this);
}

Result<std::unique_ptr<TrialBorrower>> FakeBench::start_borrower(uint64_t seed) {
    if (faults.borrower_fails) return fail(Errc::io, "it wrote nothing");
    ++live_loans;
    state = "lent";
    if (drive) fill(std::span(disk).first(32 * qualify::block_bytes), qualify::block_bytes, 0, seed);
    return std::make_unique<FakeBorrower>(*this);
}

class TrialTest : public testing::Test {
  protected:
    Result<std::vector<Check>> run() {
        return Trial(bench, clock, {.cycles = 3, .load_bytes = 64 * 1024, .seed = 42, .isolated = isolated})
            .run();
    }
    // What is not passed, as "id:result".
    std::string objections() {
        checks = run().value();
        std::string text;
        for (const auto& check : checks)
            if (check.result != Outcome::pass)
                text += fmt::format("{}{}:{}", text.empty() ? "" : " ", check.id, name(check.result));
        return text;
    }
    const Check& check(std::string_view id) const { return *std::ranges::find(checks, id, &Check::id); }

    FakeClock clock;
    FakeBench bench{clock};
    bool isolated = true;
    std::vector<Check> checks;
};

TEST_F(TrialTest, AGoodDrivePassesAllChecksAndIsLeftAvailable) {
    EXPECT_EQ(objections(), "");
    EXPECT_EQ(checks.size(), 7U);
    EXPECT_EQ(bench.state, "available");
    EXPECT_EQ(bench.live_loans, 0U);
    EXPECT_EQ(bench.resets, 1U);
    EXPECT_NE(check("assign_release").evidence.find("3 times, median"), std::string::npos);
    EXPECT_NE(check("rebind").reason.find("driver nvme"), std::string::npos);
}

TEST_F(TrialTest, ALocalDriveIsItsOwnHostsAgain) {
    bench.state = "local";
    bench.bound = "nvme";
    EXPECT_EQ(objections(), "");
    EXPECT_EQ(bench.state, "local");
    EXPECT_EQ(bench.bound, "nvme");
}

TEST_F(TrialTest, DroppedTransfersAreIsolated) {
    bench.faults.refuses_stray = false;
    EXPECT_EQ(objections(), "");
    EXPECT_NE(check("isolation").evidence.find("dropped"), std::string::npos);
}

TEST_F(TrialTest, WrongDataFail) {
    bench.faults.flips_a_bit = true;
    EXPECT_EQ(objections(), "load:fail recovery:limits"); // what was erased is no zeroes any more
    EXPECT_NE(check("load").reason.find("the first is 2"), std::string::npos) << check("load").reason;
    EXPECT_FALSE(check("load").remedy.empty());
}

TEST_F(TrialTest, AWriteToRevokedMemoryIsAHole) {
    bench.faults.writes_to_revoked = true;
    EXPECT_EQ(objections(), "isolation:fail");
    EXPECT_NE(check("isolation").reason.find("has changed our memory"), std::string::npos);
}

TEST_F(TrialTest, AReadFromRevokedMemoryIsAHole) {
    bench.faults.reads_from_revoked = true;
    EXPECT_EQ(objections(), "isolation:fail");
    EXPECT_NE(check("isolation").reason.find("has read our memory"), std::string::npos);
}

TEST_F(TrialTest, AReadOfOtherMemoryIsAHole) {
    bench.faults.reads_from_unmapped = true;
    EXPECT_EQ(objections(), "isolation:fail");
    EXPECT_NE(check("isolation").reason.find("something from there"), std::string::npos);
}

TEST_F(TrialTest, WithoutIsolationNoStrayCommandIsGiven) {
    isolated = false;
    bench.faults.writes_to_revoked = true;
    EXPECT_EQ(objections(), "isolation:fail");
    EXPECT_NE(check("isolation").reason.find("nothing was tried"), std::string::npos);
}

TEST_F(TrialTest, WhoNeverRecoversFailsInTime) {
    bench.faults.never_recovers = true;
    const auto start = clock.now();
    EXPECT_EQ(objections(), "recovery:fail left_as_found:fail");
    EXPECT_LT(clock.now() - start, 3min);
}

TEST_F(TrialTest, ADriveThatHasGoneIsNotWaitedFor) {
    bench.faults.goes = true;
    const auto start = clock.now();
    EXPECT_EQ(objections(), "recovery:fail left_as_found:fail");
    EXPECT_LT(clock.now() - start, 10s);
}

TEST_F(TrialTest, WhatIsNotWipedFails) {
    bench.faults.wipes_nothing = true;
    EXPECT_EQ(objections(), "recovery:fail");
    EXPECT_NE(check("recovery").reason.find("still hold"), std::string::npos);
}

TEST_F(TrialTest, NoiseAfterAWipeIsALimit) {
    bench.faults.crypto_erases = true;
    EXPECT_EQ(objections(), "recovery:limits");
}

TEST_F(TrialTest, ABorrowerThatDoesNothingProvesNothing) {
    bench.faults.borrower_fails = true;
    EXPECT_EQ(objections(), "recovery:fail");
}

TEST_F(TrialTest, AfterAFailedResetNothingElseIsTried) {
    bench.faults.reset_fails = true;
    EXPECT_EQ(objections(), "pool_reset:fail rebind:not_tested load:not_tested isolation:not_tested "
                            "recovery:not_tested left_as_found:fail");
}

TEST_F(TrialTest, ALostDriverFails) {
    bench.state = "local";
    bench.bound = "nvme";
    bench.faults.loses_driver = true;
    EXPECT_EQ(objections(), "rebind:fail left_as_found:fail");
}

TEST_F(TrialTest, WhatNoLoadIsKnownForIsNotCalledPassed) {
    bench.drive = false;
    bench.host = false;
    EXPECT_EQ(objections(), "rebind:skipped load:not_tested isolation:not_tested");
}

TEST_F(TrialTest, ALentDeviceIsLeftAlone) {
    bench.state = "lent";
    EXPECT_EQ(run().error().code(), Errc::failed_precondition);
    EXPECT_EQ(bench.loans, 0U);
}

TEST_F(TrialTest, WhoGivesUpHasEverythingGivenBack) {
    bench.state = "local";
    bench.bound = "nvme";
    bench.faults.cancel_after = 2;
    EXPECT_EQ(run().error().code(), Errc::cancelled);
    EXPECT_EQ(bench.state, "local");
    EXPECT_EQ(bench.live_loans, 0U);
    EXPECT_EQ(bench.loans, 2U);
}

TEST(Fill, GivesEveryBlockOtherBytes) {
    std::vector<std::byte> data(8 * block_bytes);
    fill(data, block_bytes, 0, 1);
    std::map<std::vector<std::byte>, int> seen;
    for (size_t i = 0; i < 8; ++i)
        ++seen[{data.begin() + static_cast<ptrdiff_t>(i * block_bytes),
                data.begin() + static_cast<ptrdiff_t>((i + 1) * block_bytes)}];
    EXPECT_EQ(seen.size(), 8U);
    std::vector<std::byte> third(block_bytes);
    fill(third, block_bytes, 2, 1);
    EXPECT_EQ(seen.count(third), 1U);
}

} // namespace
} // namespace lanepool::qualify
