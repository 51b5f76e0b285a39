// SPDX-License-Identifier: Apache-2.0
#include "store/schema.h"
#include "store/sqlite_store.h"
#include "store/test_faults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

namespace lanepool::store {
namespace {

using ::testing::HasSubstr;

class StoreTest : public ::testing::Test {
  protected:
    StoreTest() {
        std::string pattern = (std::filesystem::temp_directory_path() / "lanepool-store-XXXXXX").string();
        folder = ::mkdtemp(pattern.data());
    }
    ~StoreTest() override {
        faults().clear();
        std::filesystem::remove_all(folder);
    }

    std::filesystem::path file() const { return folder / "lanepool.db"; }

    std::unique_ptr<SqliteStore> open(uint64_t audit_kept = 1000) {
        auto store = SqliteStore::open(folder, audit_kept);
        EXPECT_TRUE(store) << store.error().message();
        return store ? std::move(*store) : nullptr;
    }

    static pool::Outcome some(uint64_t number = 1) {
        pool::Outcome outcome;
        pool::Host host;
        host.name = "store";
        host.partition = 3;
        host.instance = "i";
        host.version = "v";
        host.guests = {"g", "h"};
        host.windows = 8;
        host.windows_free = 7;
        host.last_seen_us = 5;
        outcome.hosts.push_back(host);
        pool::Device device;
        device.fdid = {0x80000};
        device.host = "store";
        device.name = "nvme0";
        device.identity = {1,
                           2,
                           0x010802,
                           "nvme",
                           "m\xc3\xb6"
                           "del",
                           "serial",
                           "fw",
                           UINT64_MAX};
        device.state = pool::DeviceState::lent;
        device.reason = "why";
        device.epoch = {UINT64_MAX};
        device.loan = {number};
        device.successor = {9};
        device.clean = true;
        outcome.devices.push_back(device);
        pool::Loan loan;
        loan.id = {number};
        loan.fdid = device.fdid;
        loan.borrower = "a";
        loan.guest = "g";
        loan.state = pool::LoanState::active;
        loan.epoch = {4};
        loan.priority = -1;
        loan.due_us = 99;
        loan.failing = true;
        loan.reason = "r";
        loan.requested_by = "user";
        loan.created_us = 1;
        loan.ended_us = 2;
        loan.steps = {{pool::StepKind::prepare, 12}, {pool::StepKind::attach, 34}};
        outcome.loans.push_back(loan);
        pool::Step step;
        step.id = {number};
        step.kind = pool::StepKind::detach;
        step.host = "a";
        step.loan = {number};
        step.fdid = device.fdid;
        step.epoch = {4};
        step.deadline_ms = 1000;
        step.cleanup = true;
        outcome.steps.push_back(step);
        outcome.counters = {{0x80001}, {number + 1}, {number + 1}, number + 1};
        outcome.audit.push_back(entry(number));
        return outcome;
    }

    static pool::AuditEntry entry(uint64_t sequence) {
        return {sequence,    7,     "user",    "loan:1", "transition", "active",
                "quiescing", "why", {0x80000}, {1},      {4}};
    }

    std::filesystem::path folder;
};

TEST_F(StoreTest, StartsEmpty) {
    const auto all = open()->load();
    ASSERT_TRUE(all);
    EXPECT_TRUE(all->hosts.empty());
    EXPECT_EQ(all->counters, pool::Counters{});
    EXPECT_EQ(std::filesystem::status(file()).permissions(),
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(StoreTest, GivesBackWhatItWasGiven) {
    const auto given = some();
    ASSERT_TRUE(open()->apply(given));
    auto store = open();
    const auto all = store->load();
    ASSERT_TRUE(all);
    EXPECT_EQ(all->hosts, given.hosts);
    EXPECT_EQ(all->devices, given.devices);
    EXPECT_EQ(all->loans, given.loans);
    EXPECT_EQ(all->steps, given.steps);
    EXPECT_EQ(all->counters, given.counters);
    EXPECT_EQ(*store->audit({}, 0, 10), given.audit);
}

TEST_F(StoreTest, ReplacesAndErases) {
    auto store = open();
    auto outcome = some();
    ASSERT_TRUE(store->apply(outcome));
    outcome.loans[0].state = pool::LoanState::returned;
    outcome.loans[0].steps.clear();
    outcome.devices[0].loan = {};
    outcome.hosts[0].guests.clear();
    outcome.steps.clear();
    outcome.audit.clear();
    outcome.erased_steps.push_back({1});
    ASSERT_TRUE(store->apply(outcome));
    const auto all = store->load();
    EXPECT_EQ(all->loans, outcome.loans);
    EXPECT_EQ(all->devices, outcome.devices);
    EXPECT_EQ(all->hosts, outcome.hosts);
    EXPECT_TRUE(all->steps.empty());
    pool::Outcome erase;
    erase.counters = outcome.counters;
    erase.erased_loans.push_back({1});
    ASSERT_TRUE(store->apply(erase));
    EXPECT_TRUE(store->load()->loans.empty());
}

TEST_F(StoreTest, TakesAllOfAnOutcomeOrNothing) {
    auto store = open();
    ASSERT_TRUE(store->apply(some(1)));
    auto bad = some(2);
    bad.audit[0].sequence = 1; // there already
    EXPECT_FALSE(store->apply(bad));
    EXPECT_EQ(store->load()->loans.size(), 1u);
    ASSERT_TRUE(store->apply(some(2)));
    EXPECT_EQ(store->load()->loans.size(), 2u);
}

TEST_F(StoreTest, FindsPartsOfTheTrail) {
    auto store = open();
    auto outcome = some();
    outcome.audit.clear();
    for (uint64_t i = 1; i <= 10; ++i) {
        auto one = entry(i);
        one.loan = {i % 2};
        one.fdid = {i <= 5 ? 0x80000u : 0x80001u};
        if (i == 3) one.subject = "host:store";
        if (i == 4) one.actor = "agent:store";
        outcome.audit.push_back(one);
    }
    ASSERT_TRUE(store->apply(outcome));
    EXPECT_EQ(store->audit({}, 4, 3)->size(), 3u);
    EXPECT_EQ(store->audit({}, 4, 3)->front().sequence, 5u);
    EXPECT_EQ(store->audit({.fdid = pool::Fdid{0x80001}, .loan = {}, .host = {}}, 0, 99)->size(), 5u);
    EXPECT_EQ(store->audit({.fdid = {}, .loan = pool::LoanId{1}, .host = {}}, 0, 99)->size(), 5u);
    EXPECT_EQ(store->audit({.fdid = {}, .loan = {}, .host = "store"}, 0, 99)->size(), 2u);
    EXPECT_EQ(*store->audit_before_last({}, 3), 7u);
    EXPECT_EQ(*store->audit_before_last({}, 10), 0u);
    EXPECT_EQ(*store->audit_before_last({.fdid = {}, .loan = pool::LoanId{1}, .host = {}}, 2), 5u);
}

TEST_F(StoreTest, TheTrailCanOnlyGrow) {
    {
        auto store = open();
        ASSERT_TRUE(store->apply(some()));
    }
    const auto database = Database::open(file());
    EXPECT_THAT((*database)->execute("UPDATE audit SET reason = 'x'").error().message(),
                HasSubstr("append-only"));
    EXPECT_THAT((*database)->execute("DELETE FROM audit").error().message(), HasSubstr("append-only"));
}

TEST_F(StoreTest, ForgetsOnlyTheOldestEndOfTheTrail) {
    auto store = open(5);
    for (uint64_t i = 1; i <= 12; ++i)
        ASSERT_TRUE(store->apply(some(i)));
    const auto kept = store->audit({}, 0, 99);
    ASSERT_EQ(kept->size(), 5u);
    EXPECT_EQ(kept->front().sequence, 8u);
}

TEST_F(StoreTest, RefusesASecondController) {
    const auto first = open();
    const auto second = SqliteStore::open(folder);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), Errc::busy);
}

TEST_F(StoreTest, RefusesANewerSchemaAndLeavesItAlone) {
    ASSERT_TRUE(open()->apply(some()));
    ASSERT_TRUE((*Database::open(file()))->execute("PRAGMA user_version = 99; DROP TABLE steps"));
    const auto store = SqliteStore::open(folder);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errc::failed_precondition);
    EXPECT_THAT(store.error().message(), HasSubstr("schema version 99"));
    EXPECT_EQ((*Database::open(file()))->pragma("user_version"), 99);
}

TEST_F(StoreTest, BringsAnOlderSchemaForward) {
    {
        const auto old = Database::open(file());
        ASSERT_TRUE((*old)->execute(migrations()[0]));
        ASSERT_TRUE((*old)->execute(
            fmt::format("PRAGMA application_id = {}; PRAGMA user_version = 1", application_id)));
        ASSERT_TRUE((*old)->execute("INSERT INTO hosts VALUES ('old', 1, 'i', 'v', 'g', 1, 1, 1);"
                                    "INSERT INTO counters VALUES ('next_loan', 12)"));
    }
    auto store = open();
    const auto all = store->load();
    ASSERT_TRUE(all);
    ASSERT_EQ(all->hosts.size(), 1u);
    EXPECT_EQ(all->hosts[0].name, "old");
    EXPECT_EQ(all->counters.next_loan, pool::LoanId{12});
    EXPECT_TRUE(store->apply(some()));
}

TEST_F(StoreTest, RefusesWhatIsNotIts) {
    std::ofstream(file()) << "this is a text, and no database at all, as anybody can see who looks at it";
    auto store = SqliteStore::open(folder);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errc::failed_precondition);
    std::filesystem::remove(file());
    ASSERT_TRUE((*Database::open(file()))->execute("CREATE TABLE t (x)"));
    store = SqliteStore::open(folder);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errc::failed_precondition);
}

TEST_F(StoreTest, SaysThatItIsDamaged) {
    {
        auto store = open();
        for (uint64_t i = 1; i < 200; ++i)
            ASSERT_TRUE(store->apply(some(i)));
    }
    {
        std::fstream bytes(file(), std::ios::in | std::ios::out | std::ios::binary);
        const auto size = std::filesystem::file_size(file());
        for (auto at = std::streamoff{4096}; at < static_cast<std::streamoff>(size); at += 512) {
            bytes.seekp(at);
            bytes.write("damaged damaged damaged damaged ", 32);
        }
    }
    const auto store = SqliteStore::open(folder);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errc::io);
    EXPECT_THAT(store.error().message(), HasSubstr("damaged"));
}

TEST_F(StoreTest, RefusesAStateThatDoesNotExist) {
    ASSERT_TRUE(open()->apply(some()));
    ASSERT_TRUE((*Database::open(file()))->execute("UPDATE devices SET state = 'borrowed'"));
    const auto all = open()->load();
    ASSERT_FALSE(all);
    EXPECT_THAT(all.error().message(), HasSubstr("'borrowed'"));
}

TEST_F(StoreTest, AFullDiskChangesNothing) {
    const Faults::Scope watched;
    auto store = open();
    ASSERT_TRUE(store->apply(some(1)));
    faults().writes_fail_with(SQLITE_FULL);
    const auto full = store->apply(some(2));
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().code(), Errc::no_space);
    EXPECT_THAT(full.error().message(), HasSubstr("is full"));
    EXPECT_EQ(store->load()->loans.size(), 1u);
    faults().clear();
    ASSERT_TRUE(store->apply(some(2)));
    store.reset();
    EXPECT_EQ(open()->load()->loans.size(), 2u);
}

TEST_F(StoreTest, AReadOnlyDiskChangesNothing) {
    const Faults::Scope watched;
    auto store = open();
    ASSERT_TRUE(store->apply(some(1)));
    faults().writes_fail_with(SQLITE_READONLY);
    const auto refused = store->apply(some(2));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::permission_denied);
    faults().clear();
    EXPECT_TRUE(store->apply(some(2)));
}

TEST_F(StoreTest, AWriteErrorAtEachWriteChangesNothing) {
    const Faults::Scope watched;
    auto store = open();
    ASSERT_TRUE(store->apply(some(1)));
    for (uint64_t loans = 1; loans <= 20; ++loans) {
        // After so many good writes and syncs.
        faults().fail_after(static_cast<int>(loans % 5), SQLITE_IOERR_WRITE);
        const auto refused = store->apply(some(loans + 1));
        const bool hit = faults().hit();
        faults().clear();
        EXPECT_EQ(store->load()->loans.size(), refused ? loans + 1 : loans);
        EXPECT_EQ(refused.has_value(), !hit);
        if (!refused) {
            EXPECT_EQ(refused.error().code(), Errc::io);
            ASSERT_TRUE(store->apply(some(loans + 1)));
        }
    }
}

TEST_F(StoreTest, KeepsWhatItAcknowledgedWhenItIsKilled) {
    for (int round = 0; round < 5; ++round) {
        const uint64_t first = open()->load()->loans.size() + 1;
        int ends[2];
        ASSERT_EQ(::pipe(ends), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            auto store = SqliteStore::open(folder);
            for (uint64_t i = first; store && (*store)->apply(some(i)); ++i)
                if (::write(ends[1], &i, sizeof i) != sizeof i) break;
            ::_exit(1);
        }
        ::close(ends[1]);
        uint64_t acknowledged = 0;
        const uint64_t wanted = first + 7 + static_cast<uint64_t>(round);
        while (acknowledged < wanted)
            ASSERT_EQ(::read(ends[0], &acknowledged, sizeof acknowledged), ssize_t{sizeof acknowledged});
        ::kill(child, SIGKILL);
        while (::read(ends[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged)
            ;
        ::close(ends[0]);
        ASSERT_EQ(::waitpid(child, nullptr, 0), child);
        auto store = open();
        const auto all = store->load();
        ASSERT_TRUE(all);
        EXPECT_GE(all->loans.size(), acknowledged);
        EXPECT_LE(all->loans.size(), acknowledged + 1); // the one that was stored and not told of
        EXPECT_EQ(all->counters.next_audit, all->loans.size() + 1);
        EXPECT_EQ(store->audit({}, 0, 10000)->size(), all->loans.size());
    }
}

} // namespace
} // namespace lanepool::store
