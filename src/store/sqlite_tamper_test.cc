// SPDX-License-Identifier: Apache-2.0
//
// Somebody edits the database behind the store's back.
#include "store/test_backend.h"
#include "store/test_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::store {
namespace {

using ::testing::HasSubstr;

class TamperTest : public ::testing::Test {
  protected:
    TamperTest() {
        auto store = SqliteStore::open(folder.path(), 8);
        for (uint64_t i = 1; i <= 12; ++i)
            EXPECT_TRUE((*store)->apply(test::outcome(i)));
    }

    // What verify says after SQL; entries 5 to 12 are there.
    Result<AuditCheck> verify_after(const char* sql) {
        {
            const auto database = Database::open(folder.path() / "lanepool.db");
            const auto done =
                (*database)->execute(std::string("DROP TRIGGER audit_is_not_changed; DROP TRIGGER "
                                                 "audit_is_not_shortened;") +
                                     sql);
            EXPECT_TRUE(done) << done.error().message();
        }
        auto store = SqliteStore::open(folder.path(), 8);
        EXPECT_TRUE(store) << store.error().message();
        return (*store)->verify_audit();
    }

    void refused_after(const char* sql, uint64_t sequence) {
        const auto check = verify_after(sql);
        ASSERT_FALSE(check);
        EXPECT_EQ(check.error().code(), Errc::io);
        EXPECT_THAT(check.error().message(), HasSubstr(fmt::format("at sequence {}:", sequence)));
    }

    TemporaryFolder folder;
};

TEST_F(TamperTest, ItVerifiesAsLongAsNobodyDoes) {
    const auto check = verify_after("");
    ASSERT_TRUE(check) << check.error().message();
    EXPECT_EQ(check->first_sequence, 5u);
    EXPECT_EQ(check->last_sequence, 12u);
}

TEST_F(TamperTest, AChangedBody) {
    // The body of another entry, with its own sequence put in: as careful as one can be without the hashes.
    refused_after("UPDATE audit SET body = (SELECT body FROM audit WHERE sequence = 8) WHERE sequence = 7",
                  7);
}

TEST_F(TamperTest, AChangedLastByteOfABody) {
    refused_after("UPDATE audit SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB) WHERE "
                  "sequence = 7",
                  7);
}

TEST_F(TamperTest, AChangedColumn) { refused_after("UPDATE audit SET actor = 'x' WHERE sequence = 7", 7); }
TEST_F(TamperTest, AnotherChangedColumn) {
    refused_after("UPDATE audit SET loan = 77 WHERE sequence = 7", 7);
}
TEST_F(TamperTest, AChangedHash) {
    refused_after("UPDATE audit SET hash = (SELECT hash FROM audit WHERE sequence = 6) WHERE sequence = 7",
                  7);
}
TEST_F(TamperTest, AHashThatIsNone) { refused_after("UPDATE audit SET hash = x'00' WHERE sequence = 7", 7); }
TEST_F(TamperTest, AMissingEntry) { refused_after("DELETE FROM audit WHERE sequence = 7", 7); }
TEST_F(TamperTest, AMissingBeginning) { refused_after("DELETE FROM audit WHERE sequence < 7", 5); }
TEST_F(TamperTest, AMissingEnd) { refused_after("DELETE FROM audit WHERE sequence > 10", 11); }
TEST_F(TamperTest, AMissingEndThatTheKeptHeadHides) {
    refused_after("DELETE FROM audit WHERE sequence > 10;"
                  "UPDATE audit_ends SET sequence = 10, hash = (SELECT hash FROM audit WHERE sequence = 10) "
                  "WHERE which = 'head'",
                  11);
}
TEST_F(TamperTest, AnInsertedEntry) {
    refused_after(
        "UPDATE audit SET sequence = -sequence WHERE sequence >= 9;"
        "UPDATE audit SET sequence = 1 - sequence WHERE sequence < 0;"
        "INSERT INTO audit SELECT 9, time_us, actor, subject, action, fdid, loan, hash, body FROM audit "
        "WHERE sequence = 8",
        9);
}
TEST_F(TamperTest, AnAddedEnd) {
    refused_after("INSERT INTO audit SELECT 13, time_us, actor, subject, action, fdid, loan, hash, body FROM "
                  "audit WHERE sequence = 12",
                  13);
}
TEST_F(TamperTest, AnAddedBeginning) {
    refused_after("INSERT INTO audit SELECT 4, time_us, actor, subject, action, fdid, loan, hash, body FROM "
                  "audit WHERE sequence = 5",
                  4);
}
TEST_F(TamperTest, TwoThatAreReordered) {
    refused_after("UPDATE audit SET sequence = 100 WHERE sequence = 7;"
                  "UPDATE audit SET sequence = 7 WHERE sequence = 9;"
                  "UPDATE audit SET sequence = 9 WHERE sequence = 100",
                  7);
}
TEST_F(TamperTest, AnotherHashBeforeTheFirst) {
    refused_after("UPDATE audit_ends SET hash = zeroblob(32) WHERE which = 'start'", 5);
}

} // namespace
} // namespace lanepool::store
