// SPDX-License-Identifier: Apache-2.0
//
// The engine between ports that only take notes: who hears what, when, and what becomes of it where it could
// not be stored.
#include "controller/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::controller {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class HandClock final : public io::Clock {
  public:
    io::TimePoint now() const override { return io::TimePoint(1h) + passed; }
    int64_t unix_time_us() const override {
        return 1'700'000'000'000'000 + std::chrono::duration_cast<std::chrono::microseconds>(passed).count();
    }
    io::Duration passed{0};
};

// What has happened, in its order.
using Notes = std::vector<std::string>;

class Link final : public AgentLink {
  public:
    Link(Notes& notes, std::string name) : notes_(notes), name_(std::move(name)) {}
    void welcome(const std::vector<pool::Fdid>& fdids) override {
        notes_.push_back(fmt::format("{} is welcomed with {}", name_, fdids.size()));
    }
    void send(const pool::Order& order) override {
        notes_.push_back(fmt::format("{} is sent {}", name_, pool::name(order.step.kind)));
        orders.push_back(order);
    }
    void close(const Error& why) override {
        notes_.push_back(name_ + " is closed");
        closed = why;
    }
    std::vector<pool::Order> orders;
    std::optional<Error> closed;

  private:
    Notes& notes_;
    const std::string name_;
};

pool::Hello hello_of(const std::string& host, uint32_t partition, size_t devices) {
    pool::Hello hello;
    hello.host = host;
    hello.partition = partition;
    hello.instance = "1";
    hello.windows = hello.windows_free = 16;
    for (size_t i = 0; i < devices; ++i) {
        pool::ObservedDevice device;
        device.name = fmt::format("nvme{}", i);
        device.identity.serial = fmt::format("{}-{}", host, i);
        device.answering = device.clean = true;
        hello.devices.push_back(device);
    }
    if (devices == 0) hello.guests = {"g"};
    return hello;
}

class EngineTest : public ::testing::Test, protected EnginePorts {
  protected:
    EngineTest() {
        options.heartbeat_timeout = 3s;
        auto created = Engine::create(clock, *this, {}, {}, options);
        EXPECT_TRUE(created) << created.error().message();
        engine = std::move(*created);
        notes.clear();
        outcomes.clear();
    }

    Result<> store(const pool::Outcome& outcome) override {
        notes.push_back(failure ? "not stored" : "stored");
        if (failure) return tl::unexpected(*failure);
        outcomes.push_back(outcome);
        return {};
    }
    void committed(const pool::Outcome&) override { notes.push_back("told"); }

    // Asks for a change that is always possible; the answer is noted.
    void ask(const std::string& who) {
        engine->decide<bool>(
            [&](pool::Pool& pool, pool::Now now) -> Result<bool> {
                TRY(pool.apply_site({}, "# " + who, {who, true}, now));
                return true;
            },
            [this, who](const Result<bool>& answer) {
                notes.push_back(who + (answer ? " is answered" : " is refused"));
                if (!answer) refusal = answer.error();
            });
    }
    void borrow(const std::string& device, int64_t duration_s = 0) {
        pool::BorrowRequest request;
        request.devices.push_back({});
        request.devices[0].device = device;
        request.host = "a";
        request.duration_s = duration_s;
        request.caller = {"root", true};
        engine->decide<std::vector<pool::LoanId>>(
            [&](pool::Pool& pool, pool::Now now) { return pool.borrow(request, now); },
            [this](const Result<std::vector<pool::LoanId>>& loans) {
                notes.push_back(loans ? "the borrower is answered" : "the borrower is refused");
                if (!loans) refusal = loans.error();
            });
    }
    void arrive(Link& link, const pool::Hello& hello) {
        engine->listen(link);
        engine->hello(link, hello);
    }
    // Both are there.
    void connect() {
        arrive(lender, hello_of("store", 0, 1));
        arrive(borrower, hello_of("a", 1, 0));
        ASSERT_TRUE(engine->flush());
        notes.clear();
        outcomes.clear();
    }
    void pass(io::Duration time) {
        clock.passed += time;
        engine->tick();
    }
    bool up(const std::string& host) const {
        const auto* record = engine->pool().ledger().hosts.find(host);
        return record && record->up;
    }
    const Error disk_full{Errc::no_space, "the disk is full"};

    HandClock clock;
    EngineOptions options;
    Notes notes;
    std::vector<pool::Outcome> outcomes;
    std::optional<Error> failure; // of the store
    std::optional<Error> refusal; // that somebody got last
    std::unique_ptr<Engine> engine;
    Link lender{notes, "the lender"};
    Link borrower{notes, "the borrower's agent"};
};

// ---- storing

TEST_F(EngineTest, NobodyHearsOfAnythingBeforeItIsStored) {
    connect();
    ask("ann");
    borrow("store/nvme0");
    EXPECT_THAT(notes, IsEmpty());
    EXPECT_TRUE(engine->dirty());
    ASSERT_TRUE(engine->flush());
    EXPECT_THAT(notes, ElementsAre("stored", "told", "the lender is sent prepare", "ann is answered",
                                   "the borrower is answered"));
    EXPECT_FALSE(engine->dirty());
}

TEST_F(EngineTest, WhatArrivesTogetherSharesATransaction) {
    ask("ann");
    arrive(lender, hello_of("store", 0, 2));
    ask("bob");
    ASSERT_TRUE(engine->flush());
    EXPECT_THAT(notes, ElementsAre("stored", "told", "the lender is welcomed with 2", "ann is answered",
                                   "bob is answered"));
    EXPECT_EQ(outcomes.at(0).devices.size(), 2u);
    EXPECT_EQ(engine->stats().decisions, 2u);
    ASSERT_TRUE(engine->flush()); // nothing is left
    EXPECT_EQ(outcomes.size(), 1u);
}

TEST_F(EngineTest, WhatCannotBeStoredHasNotHappened) {
    connect();
    const auto before = engine->pool().ledger().counters;
    failure = disk_full;
    borrow("store/nvme0");
    EXPECT_EQ(engine->flush().error().code(), Errc::no_space);
    EXPECT_THAT(notes, ElementsAre("not stored", "the borrower is refused"));
    EXPECT_EQ(refusal->message(), "the disk is full");
    EXPECT_EQ(engine->pool().ledger().live_loans(), 0u);
    EXPECT_EQ(engine->pool().ledger().counters, before);
    failure.reset();
    notes.clear();
    borrow("store/nvme0");
    ASSERT_TRUE(engine->flush());
    EXPECT_THAT(notes,
                ElementsAre("stored", "told", "the lender is sent prepare", "the borrower is answered"));
}

TEST_F(EngineTest, ARefusalStaysOneWhenItCannotBeWrittenDown) {
    connect();
    failure = disk_full;
    borrow("store/nvme7");
    EXPECT_FALSE(engine->flush());
    EXPECT_EQ(refusal->code(), Errc::not_found);
}

TEST_F(EngineTest, AgentsWhoseWordsAreLostAreToSayThemAgain) {
    connect();
    borrow("store/nvme0");
    ASSERT_TRUE(engine->flush());
    const pool::Step step = lender.orders.at(0).step;
    failure = disk_full;
    engine->answered(lender, {step.id, step.loan, step.epoch, step.kind, true, "", ""});
    engine->answered(lender, {step.id, step.loan, step.epoch, step.kind, true, "", ""});
    notes.clear();
    EXPECT_FALSE(engine->flush());
    EXPECT_THAT(notes, ElementsAre("not stored", "the lender is closed")); // once; the other said nothing
    EXPECT_EQ(engine->pool().ledger().loans.find(step.loan)->state, pool::LoanState::preparing);
}

TEST_F(EngineTest, WhatIsDueStaysSoUntilItIsStored) {
    connect();
    borrow("store/nvme0");
    ASSERT_TRUE(engine->flush());
    const pool::Step step = lender.orders.at(0).step;
    const auto due = engine->next_tick();
    failure = disk_full;
    for (io::Duration passed{0}; passed < std::chrono::milliseconds(step.deadline_ms) + 3s; passed += 1s) {
        pass(1s);
        engine->heard(lender, 16);
        engine->heard(borrower, 16);
        if (engine->dirty()) break;
    }
    ASSERT_TRUE(engine->dirty());
    EXPECT_LT(due, clock.now());
    EXPECT_FALSE(engine->flush());
    // Not at once: a full disk would keep the thread busy.
    pass(options.retry_delay - 1ms);
    EXPECT_FALSE(engine->dirty());
    EXPECT_GT(engine->next_tick(), clock.now());
    pass(1ms);
    EXPECT_TRUE(engine->dirty());
    failure.reset();
    ASSERT_TRUE(engine->flush());
    EXPECT_NE(engine->pool().ledger().loans.find(step.loan)->state, pool::LoanState::preparing);
}

TEST_F(EngineTest, WhatIsNotStoredAtTheEndIsRefused) {
    ask("ann");
    engine->abandon(Error(Errc::unavailable, "another one leads"));
    EXPECT_THAT(notes, ElementsAre("ann is refused"));
    EXPECT_EQ(refusal->message(), "another one leads");
    EXPECT_THAT(outcomes, IsEmpty());
}

// ---- agents

TEST_F(EngineTest, TheFirstMessageIsAHello) {
    engine->listen(lender);
    engine->answered(lender, {});
    EXPECT_EQ(lender.closed->code(), Errc::protocol);
    engine->listen(borrower);
    engine->lost(borrower, {});
    EXPECT_EQ(borrower.closed->code(), Errc::protocol);
    borrower.closed.reset();
    engine->listen(borrower);
    engine->faulted(borrower, {});
    EXPECT_EQ(borrower.closed->code(), Errc::protocol);
    EXPECT_FALSE(engine->dirty());
}

TEST_F(EngineTest, AnAgentStaysOfOneHost) {
    connect();
    engine->hello(lender, hello_of("other", 2, 0));
    EXPECT_EQ(lender.closed->code(), Errc::protocol);
    EXPECT_THAT(lender.closed->message(), HasSubstr("host store"));
    EXPECT_FALSE(engine->pool().ledger().hosts.find("other"));
}

TEST_F(EngineTest, ANewConnectionOfAHostTakesThePlaceOfTheOldOne) {
    connect();
    Link again{notes, "its next connection"};
    arrive(again, hello_of("store", 0, 2)); // it has something new to say
    EXPECT_THAT(notes, IsEmpty());
    ASSERT_TRUE(engine->flush());
    EXPECT_THAT(notes, ElementsAre("stored", "told", "its next connection is welcomed with 2",
                                   "the lender is closed"));
    engine->gone(lender, "closed");
    EXPECT_FALSE(engine->dirty()); // the host is still there
    EXPECT_TRUE(up("store"));
    borrow("store/nvme0");
    ASSERT_TRUE(engine->flush());
    EXPECT_EQ(again.orders.size(), 1u);
    EXPECT_THAT(lender.orders, IsEmpty());
}

TEST_F(EngineTest, WhereTheHandoverCannotBeStoredTheOldConnectionStays) {
    connect();
    Link again{notes, "its next connection"};
    failure = disk_full;
    arrive(again, hello_of("store", 0, 2));
    EXPECT_FALSE(engine->flush());
    EXPECT_THAT(notes, ElementsAre("not stored", "its next connection is closed"));
    engine->gone(again, "closed");
    failure.reset();
    borrow("store/nvme0");
    ASSERT_TRUE(engine->flush());
    EXPECT_EQ(lender.orders.size(), 1u);
}

TEST_F(EngineTest, WhoIsSilentForTooLongIsClosed) {
    connect();
    for (int i = 0; i < 3; ++i) {
        pass(1s);
        engine->heard(lender, 16);
    }
    pass(500ms);
    EXPECT_FALSE(lender.closed);
    ASSERT_TRUE(borrower.closed);
    EXPECT_EQ(borrower.closed->code(), Errc::timeout);
    engine->gone(borrower, "it was silent");
    ASSERT_TRUE(engine->flush());
    EXPECT_FALSE(up("a"));
    EXPECT_TRUE(up("store"));
}

TEST_F(EngineTest, WhoSaysNoHelloIsClosedToo) {
    engine->listen(lender);
    pass(2900ms);
    EXPECT_FALSE(lender.closed);
    pass(500ms);
    EXPECT_EQ(lender.closed->code(), Errc::timeout);
}

TEST_F(EngineTest, ADisconnectionThatCouldNotBeStoredIsStoredLater) {
    connect();
    failure = disk_full;
    engine->gone(lender, "it has closed its connection");
    EXPECT_FALSE(engine->flush());
    EXPECT_TRUE(up("store")); // as it is stored
    failure.reset();
    pass(options.heartbeat_check);
    ASSERT_TRUE(engine->dirty());
    ASSERT_TRUE(engine->flush());
    EXPECT_FALSE(up("store"));
    pass(options.heartbeat_check);
    EXPECT_FALSE(engine->dirty()); // once
}

TEST_F(EngineTest, ADisconnectionIsForgottenWhenTheAgentIsBackFirst) {
    connect();
    failure = disk_full;
    engine->gone(lender, "it has closed its connection");
    EXPECT_FALSE(engine->flush());
    failure.reset();
    Link again{notes, "its next connection"};
    arrive(again, hello_of("store", 0, 1));
    ASSERT_TRUE(engine->flush());
    pass(options.heartbeat_check);
    EXPECT_FALSE(engine->dirty());
    EXPECT_TRUE(up("store"));
}

} // namespace
} // namespace lanepool::controller
