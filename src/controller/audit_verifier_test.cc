// SPDX-License-Identifier: Apache-2.0
#include "controller/audit_verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::controller {
namespace {

using ::testing::HasSubstr;

// A trail in memory that grows, forgets and is tampered with while somebody reads it.
class Trail final : public store::Store {
  public:
    void grow(uint64_t count) {
        for (; count > 0; --count) {
            store::ChainedEntry one;
            one.entry.sequence = ends.head.sequence + 1;
            one.entry.action = "borrow";
            one.hash = store::chained(ends.head.hash, one.entry);
            ends.head = {one.entry.sequence, one.hash};
            ends.next_sequence = one.entry.sequence + 1;
            entries.push_back(std::move(one));
        }
    }
    void forget(uint64_t count) {
        ends.start = {entries[count - 1].entry.sequence, entries[count - 1].hash};
        entries.erase(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(count));
    }

    Result<std::vector<store::ChainedEntry>> audit_chain(uint64_t after, uint32_t limit) override {
        ++reads;
        most_at_a_time = std::max(most_at_a_time, limit);
        std::vector<store::ChainedEntry> found;
        for (const auto& one : entries)
            if (one.entry.sequence > after && found.size() < limit) found.push_back(one);
        return found;
    }
    Result<store::ChainEnds> audit_ends() override {
        if (broken) return fail(Errc::io, "the disk is gone");
        return ends;
    }
    Result<pool::Snapshot> load() override { return fail(Errc::not_supported, "not here"); }
    Result<> apply(const pool::Outcome&) override { return fail(Errc::not_supported, "not here"); }
    Result<std::vector<pool::AuditEntry>> audit(const store::AuditFilter&, uint64_t, uint32_t) override {
        return fail(Errc::not_supported, "not here");
    }
    Result<uint64_t> audit_before_last(const store::AuditFilter&, uint32_t) override {
        return fail(Errc::not_supported, "not here");
    }
    Result<> begin_copy(const store::ChainEnd&) override { return fail(Errc::not_supported, "not here"); }
    Result<> end_copy() override { return fail(Errc::not_supported, "not here"); }

    std::vector<store::ChainedEntry> entries;
    store::ChainEnds ends;
    bool broken = false;
    int reads = 0;
    uint32_t most_at_a_time = 0;
};

class AuditVerifierTest : public ::testing::Test {
  protected:
    AuditVerifierTest() { trail.grow(5000); }

    void ask() {
        verifier->ask([this](const auto& result) { answers.push_back(result); });
    }
    // Lets the loop turn so often, or until somebody is answered.
    int turn(int times = 1000) {
        int turns = 0;
        while (answers.empty() && turns < times && loop->run_once(io::Duration::zero()))
            ++turns;
        return turns;
    }
    std::string error() const {
        return answers.empty() || answers[0] ? "no error" : answers[0].error().message();
    }

    std::unique_ptr<io::EventLoop> loop = io::EventLoop::create().value();
    Trail trail;
    std::vector<Result<store::AuditCheck>> answers;
    std::optional<AuditVerifier> verifier{std::in_place, *loop, trail};
};

TEST_F(AuditVerifierTest, ReadsSmallPiecesAndLetsOthersInBetween) {
    ask();
    int others = 0;
    const std::function<void()> other = [&] {
        ++others;
        loop->post(other);
    };
    loop->post(other);
    EXPECT_GE(turn(), 9);
    EXPECT_GE(others, 9);
    EXPECT_LE(trail.most_at_a_time, 512u);
    ASSERT_TRUE(answers.at(0)) << error();
    EXPECT_EQ(*answers[0], trail.verify_audit().value());
}

TEST_F(AuditVerifierTest, AnEmptyTrailVerifies) {
    trail = Trail();
    ask();
    turn();
    ASSERT_TRUE(answers.at(0)) << error();
    EXPECT_EQ(answers[0]->entries, 0u);
}

// The answer is about the trail as it was at one moment, however it grows.
TEST_F(AuditVerifierTest, ATrailThatGrowsIsVerifiedToWhereItEndedBefore) {
    ask();
    const auto before = trail.verify_audit().value();
    trail.reads = 0;
    turn(1);
    for (int i = 0; i < 100 && answers.empty(); ++i) {
        trail.grow(1000);
        turn(1);
    }
    ASSERT_TRUE(answers.at(0)) << error();
    EXPECT_EQ(*answers[0], before);
    EXPECT_LE(trail.reads, 11);
}

TEST_F(AuditVerifierTest, WhatIsForgottenMeanwhileIsNoFault) {
    ask();
    turn(2);
    trail.forget(3000);
    turn();
    ASSERT_TRUE(answers.at(0)) << error();
    EXPECT_EQ(answers[0]->first_sequence, 3001u);
    EXPECT_EQ(answers[0]->last_sequence, 5000u);
}

TEST_F(AuditVerifierTest, ATrailThatIsForgottenFasterIsGivenUp) {
    ask();
    for (int i = 0; i < 100 && answers.empty(); ++i) {
        turn(1);
        trail.grow(2000);
        trail.forget(2000);
    }
    ASSERT_FALSE(answers.at(0));
    EXPECT_EQ(answers[0].error().code(), Errc::busy);
}

TEST_F(AuditVerifierTest, NamesTheFirstEntryThatDoesNotFit) {
    const Trail whole = trail;
    for (const uint64_t at : {1u, 512u, 513u, 2222u, 5000u}) {
        for (const bool taken_out : {false, true}) {
            trail = whole;
            answers.clear();
            if (taken_out)
                trail.entries.erase(trail.entries.begin() + static_cast<std::ptrdiff_t>(at - 1));
            else
                trail.entries[at - 1].entry.reason = "changed";
            ask();
            turn();
            EXPECT_THAT(error(), HasSubstr(fmt::format("at sequence {}:", at)));
        }
    }
}

TEST_F(AuditVerifierTest, FindsWhatWasPutInBehindItsEnd) {
    const auto ends = trail.ends;
    trail.grow(1);
    trail.ends = ends;
    ask();
    turn();
    EXPECT_THAT(error(), HasSubstr("at sequence 5001:"));
}

TEST_F(AuditVerifierTest, FindsAnEndThatWasCutOff) {
    trail.entries.resize(4000);
    ask();
    turn();
    EXPECT_THAT(error(), HasSubstr("at sequence 4001:"));
    trail.ends.head = {4000, trail.entries.back().hash}; // the counters say otherwise
    answers.clear();
    ask();
    turn();
    EXPECT_THAT(error(), HasSubstr("at sequence 4001:"));
}

TEST_F(AuditVerifierTest, SaysWhatTheStoreSays) {
    trail.broken = true;
    ask();
    turn();
    EXPECT_EQ(error(), "the disk is gone");
}

TEST_F(AuditVerifierTest, ManyWhoAskShareARun) {
    for (int i = 0; i < 100; ++i)
        ask();
    turn();
    EXPECT_EQ(answers.size(), 100u);
    EXPECT_LE(trail.reads, 11);
}

// Who asks in the middle of a run hears of the trail as it is then, or later.
TEST_F(AuditVerifierTest, WhoAsksLaterWaitsForTheNextRun) {
    ask();
    turn(3);
    trail.grow(10);
    ask();
    turn();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0]->last_sequence, 5000u);
    answers.clear();
    turn();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0]->last_sequence, 5010u);
}

TEST_F(AuditVerifierTest, WhoWaitsHearsWhyItStops) {
    ask();
    turn(3);
    verifier->stop(Error(Errc::unavailable, "another one leads"));
    EXPECT_EQ(error(), "another one leads");
    turn();
    EXPECT_EQ(answers.size(), 1u);
}

TEST_F(AuditVerifierTest, EverybodyIsAnsweredAtItsEnd) {
    ask();
    turn(3);
    ask();
    verifier.reset();
    ASSERT_EQ(answers.size(), 2u);
    EXPECT_EQ(answers[1].error().code(), Errc::cancelled);
    loop->run_once(io::Duration::zero()); // what was posted finds nobody
}

} // namespace
} // namespace lanepool::controller
