// SPDX-License-Identifier: Apache-2.0
#include "store/schema.h"
#include "store/test_backend.h"
#include "store/test_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::store {
namespace {

using ::testing::HasSubstr;

class SchemaTest : public ::testing::Test {
  protected:
    // A database of schema VERSION, with ROWS in it.
    void make(int version, const char* rows) {
        const auto old = Database::open(folder.path() / "lanepool.db");
        ASSERT_TRUE(old);
        for (int i = 0; i < version; ++i)
            ASSERT_TRUE((*old)->execute(migrations()[static_cast<size_t>(i)].sql));
        ASSERT_TRUE((*old)->execute(
            fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", application_id, version)));
        const auto filled = (*old)->execute(rows);
        ASSERT_TRUE(filled) << filled.error().message();
    }

    Result<std::unique_ptr<SqliteStore>> open() { return SqliteStore::open(folder.path()); }

    TemporaryFolder folder;
};

constexpr const char* rows_of_schema_2 = R"(
INSERT INTO hosts VALUES ('a', 1, 'i', 'v', 'g' || char(10) || 'h', 8, 7, 5), ('b', 2, '', '', '', 0, 0, 6);
INSERT INTO devices VALUES (524288, 'a', 'nvme0', 'serial', 1, 2, 67586, 'nvme', 'model', 'fw', -1, 'lent', 'why',
    -2, 7, 9, 1);
INSERT INTO loans VALUES
    (7, 524288, 'b', 'g', 'lending', 'active', 4, -1, 99, 1, 'r', 'user', 1000, 0, 'prepare=12 attach=34'),
    (9, 524288, 'b', 'g', 'lending', 'queued', 0, 0, 0, 0, '', 'user', 2000, 0, '');
INSERT INTO steps VALUES (3, 'detach', 'a', 7, 524288, 4, 1000, 1);
INSERT INTO counters VALUES ('next_fdid', 524289), ('next_loan', 10), ('next_step', 4), ('next_audit', 13);
UPDATE counters SET value = 10 WHERE name = 'audit_forgotten';
INSERT INTO audit VALUES
    (11, 5, 'user', 'loan:7', 'transition', 'active', 'quiescing', 'why', 524288, 7, 4),
    (12, 6, 'agent:a', 'host:a', 'connected', '', '', '', 0, 0, 0);
)";

TEST_F(SchemaTest, LosesNothingOfSchema2) {
    make(2, rows_of_schema_2);
    const auto store = open();
    ASSERT_TRUE(store) << store.error().message();
    const auto all = (*store)->load();
    ASSERT_TRUE(all) << all.error().message();
    pool::Host host;
    host.name = "a";
    host.partition = 1;
    host.instance = "i";
    host.version = "v";
    host.guests = {"g", "h"};
    host.windows = 8;
    host.windows_free = 7;
    host.last_seen_us = 5;
    ASSERT_EQ(all->hosts.size(), 2u);
    EXPECT_EQ(all->hosts[0], host);
    EXPECT_TRUE(all->hosts[1].guests.empty());
    pool::Device device;
    device.fdid = {0x80000};
    device.host = "a";
    device.name = "nvme0";
    device.identity = {1, 2, 0x10802, "nvme", "model", "serial", "fw", UINT64_MAX};
    device.state = pool::DeviceState::lent;
    device.reason = "why";
    device.epoch = {UINT64_MAX - 1};
    device.loan = {7};
    device.successor = {9};
    device.clean = true;
    EXPECT_THAT(all->devices, ::testing::ElementsAre(device));
    pool::Step step;
    step.id = {3};
    step.kind = pool::StepKind::detach;
    step.host = "a";
    step.loan = {7};
    step.fdid = {0x80000};
    step.epoch = {4};
    step.deadline_ms = 1000;
    step.cleanup = true;
    EXPECT_THAT(all->steps, ::testing::ElementsAre(step));
    EXPECT_EQ(all->counters, (pool::Counters{{0x80001}, {10}, {4}, 13}));
}

TEST_F(SchemaTest, MakesLoansOfSchema2WishesForTheirDevice) {
    make(2, rows_of_schema_2);
    const auto store = open();
    ASSERT_TRUE(store) << store.error().message();
    const auto all = (*store)->load();
    ASSERT_TRUE(all) << all.error().message();
    pool::Loan loan;
    loan.id = loan.group = {7};
    loan.fdid = {0x80000};
    loan.wanted.device = "80000";
    loan.borrower = "b";
    loan.guest = "g";
    loan.state = pool::LoanState::active;
    loan.epoch = {4};
    loan.priority = -1;
    loan.due_us = 99;
    loan.failing = true;
    loan.reason = "r";
    loan.requested_by = "user";
    loan.created_us = 1000;
    loan.active_us = 1046;
    loan.steps = {{pool::StepKind::prepare, 12}, {pool::StepKind::attach, 34}};
    ASSERT_EQ(all->loans.size(), 2u);
    EXPECT_EQ(all->loans[0], loan);
    EXPECT_EQ(all->loans[1].active_us, 0);
}

TEST_F(SchemaTest, ChainsTheTrailOfSchema2) {
    make(2, rows_of_schema_2);
    const auto store = open();
    ASSERT_TRUE(store) << store.error().message();
    const auto check = (*store)->verify_audit();
    ASSERT_TRUE(check) << check.error().message();
    EXPECT_EQ(check->first_sequence, 11u);
    EXPECT_EQ(check->last_sequence, 12u);
    const auto entries = (*store)->audit({}, 0, 99);
    EXPECT_EQ((*entries)[0],
              (pool::AuditEntry{
                  11, 5, "user", "loan:7", "transition", "active", "quiescing", "why", {0x80000}, {7}, {4}}));
}

TEST_F(SchemaTest, LeavesNoTableOfSchema2) {
    make(2, rows_of_schema_2);
    ASSERT_TRUE(open());
    const auto database = Database::open(folder.path() / "lanepool.db");
    const auto names =
        (*database)->prepare("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%\\_2' ESCAPE '\\'");
    ASSERT_TRUE(*(*names)->step());
    EXPECT_EQ((*names)->integer(0), 0);
}

TEST_F(SchemaTest, BringsSchema1Forward) {
    make(1, "INSERT INTO hosts VALUES ('old', 1, 'i', 'v', 'g', 1, 1, 1);"
            "INSERT INTO counters VALUES ('next_loan', 12)");
    const auto store = open();
    ASSERT_TRUE(store) << store.error().message();
    const auto all = (*store)->load();
    ASSERT_TRUE(all);
    ASSERT_EQ(all->hosts.size(), 1u);
    EXPECT_EQ(all->hosts[0].name, "old");
    EXPECT_EQ(all->counters.next_loan, pool::LoanId{12});
    EXPECT_TRUE((*store)->apply(test::outcome()));
}

TEST_F(SchemaTest, LeavesADamagedSchema2AsItWas) {
    for (const char* damage : {"UPDATE devices SET state = 'borrowed'", "UPDATE loans SET state = 'borrowed'",
                               "UPDATE loans SET steps = 'prepare'", "UPDATE steps SET kind = 'borrowed'",
                               "UPDATE counters SET value = 99 WHERE name = 'next_audit'"}) {
        std::filesystem::remove(folder.path() / "lanepool.db");
        make(2, rows_of_schema_2);
        ASSERT_TRUE((*Database::open(folder.path() / "lanepool.db"))->execute(damage));
        const auto store = open();
        ASSERT_FALSE(store) << damage;
        EXPECT_EQ(store.error().code(), Errc::io);
        EXPECT_THAT(store.error().message(), HasSubstr("is damaged"));
        const auto database = Database::open(folder.path() / "lanepool.db");
        EXPECT_EQ((*database)->pragma("user_version"), 2);
        EXPECT_TRUE((*database)->prepare("SELECT fdid FROM loans"));
    }
}

} // namespace
} // namespace lanepool::store
