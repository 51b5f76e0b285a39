// SPDX-License-Identifier: Apache-2.0
//
// What is so of the SQLite store alone: its file, and the disk under it.
#include "store/schema.h"
#include "store/test_backend.h"
#include "store/test_faults.h"
#include "store/test_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

namespace lanepool::store {
namespace {

using ::testing::HasSubstr;

class SqliteStoreTest : public ::testing::Test {
  protected:
    ~SqliteStoreTest() override { faults().clear(); }

    std::filesystem::path file() const { return folder.path() / "lanepool.db"; }

    std::unique_ptr<SqliteStore> open(uint64_t audit_kept = 1000) {
        auto store = SqliteStore::open(folder.path(), audit_kept);
        EXPECT_TRUE(store) << store.error().message();
        return store ? std::move(*store) : nullptr;
    }
    static pool::Outcome some(uint64_t number = 1) { return test::outcome(number); }

    TemporaryFolder folder;
};

TEST_F(SqliteStoreTest, ItsFileIsItsOwnersAlone) {
    open();
    EXPECT_EQ(std::filesystem::status(file()).permissions(),
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(SqliteStoreTest, CountsHowOftenARecordWasWritten) {
    {
        auto store = open();
        ASSERT_TRUE(store->apply(some(1)));
        ASSERT_TRUE(store->apply(some(2)));
    }
    const auto database = Database::open(file());
    const auto rows =
        (*database)->prepare("SELECT (SELECT version FROM hosts), (SELECT version FROM loans WHERE key = 2)");
    ASSERT_TRUE(*(*rows)->step());
    EXPECT_EQ((*rows)->integer(0), 2);
    EXPECT_EQ((*rows)->integer(1), 1);
}

TEST_F(SqliteStoreTest, TheTrailCanOnlyGrow) {
    {
        auto store = open();
        ASSERT_TRUE(store->apply(some()));
    }
    const auto database = Database::open(file());
    EXPECT_THAT((*database)->execute("UPDATE audit SET actor = 'x'").error().message(),
                HasSubstr("append-only"));
    EXPECT_THAT((*database)->execute("DELETE FROM audit").error().message(), HasSubstr("append-only"));
}

TEST_F(SqliteStoreTest, RefusesASecondController) {
    const auto first = open();
    const auto second = SqliteStore::open(folder.path());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), Errc::busy);
}

TEST_F(SqliteStoreTest, RefusesANewerSchemaAndLeavesItAlone) {
    ASSERT_TRUE(open()->apply(some()));
    ASSERT_TRUE((*Database::open(file()))->execute("PRAGMA user_version = 99; DROP TABLE steps"));
    const auto store = SqliteStore::open(folder.path());
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errc::failed_precondition);
    EXPECT_THAT(store.error().message(), HasSubstr("schema version 99"));
    EXPECT_EQ((*Database::open(file()))->pragma("user_version"), 99);
}

TEST_F(SqliteStoreTest, RefusesWhatIsNotIts) {
    std::ofstream(file()) << "this is a text, and no database at all, as anybody can see who looks at it";
    auto store = SqliteStore::open(folder.path());
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errc::failed_precondition);
    std::filesystem::remove(file());
    ASSERT_TRUE((*Database::open(file()))->execute("CREATE TABLE t (x)"));
    store = SqliteStore::open(folder.path());
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errc::failed_precondition);
}

TEST_F(SqliteStoreTest, SaysThatItIsDamaged) {
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
    const auto store = SqliteStore::open(folder.path());
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errc::io);
    EXPECT_THAT(store.error().message(), HasSubstr("damaged"));
}

TEST_F(SqliteStoreTest, SaysWhichTableIsDamaged) {
    ASSERT_TRUE(open()->apply(some()));
    ASSERT_TRUE((*Database::open(file()))->execute("UPDATE devices SET body = x'0a7f'"));
    const auto all = open()->load();
    ASSERT_FALSE(all);
    EXPECT_EQ(all.error().code(), Errc::io);
    EXPECT_THAT(all.error().message(), HasSubstr("table devices"));
}

TEST_F(SqliteStoreTest, AFullDiskChangesNothing) {
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

TEST_F(SqliteStoreTest, AReadOnlyDiskChangesNothing) {
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

TEST_F(SqliteStoreTest, AWriteErrorAtEachWriteChangesNothing) {
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

TEST_F(SqliteStoreTest, KeepsWhatItAcknowledgedWhenItIsKilled) {
    for (int round = 0; round < 5; ++round) {
        const uint64_t first = open()->load()->loans.size() + 1;
        int ends[2];
        ASSERT_EQ(::pipe(ends), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            auto store = SqliteStore::open(folder.path());
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
