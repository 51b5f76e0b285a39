// SPDX-License-Identifier: Apache-2.0
//
// What holds of every store.
#include "store/copy.h"
#include "store/test_backend.h"
#include "store/test_etcd.h"
#include "store/test_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::store {
namespace {

using test::entry;
using test::outcome;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Kind {
    const char* name;
    std::unique_ptr<test::Backend> (*make)();
};

class StoreTest : public ::testing::TestWithParam<Kind> {
  protected:
    std::unique_ptr<Store> open(uint64_t audit_kept = 1000) { return backend->open(audit_kept); }

    std::unique_ptr<test::Backend> backend = GetParam().make();
};

template <class Made>
std::unique_ptr<test::Backend> make() {
    return std::make_unique<Made>();
}

INSTANTIATE_TEST_SUITE_P(All, StoreTest,
                         ::testing::Values(Kind{"Sqlite", make<test::SqliteBackend>},
                                           Kind{"Etcd", make<test::EtcdBackend>}),
                         [](const auto& kind) { return std::string(kind.param.name); });

// Entries FIRST to LAST, one in each outcome.
void grow(Store& store, uint64_t first, uint64_t last) {
    for (uint64_t i = first; i <= last; ++i) {
        const auto stored = store.apply(outcome(i));
        ASSERT_TRUE(stored) << stored.error().message();
    }
}

std::vector<uint64_t> sequences(const Result<std::vector<pool::AuditEntry>>& entries) {
    std::vector<uint64_t> result;
    EXPECT_TRUE(entries);
    for (const auto& one : *entries)
        result.push_back(one.sequence);
    return result;
}

TEST_P(StoreTest, StartsEmpty) {
    const auto store = open();
    const auto all = store->load();
    ASSERT_TRUE(all) << all.error().message();
    EXPECT_TRUE(all->hosts.empty());
    EXPECT_TRUE(all->usage.empty());
    EXPECT_EQ(all->site, "");
    EXPECT_EQ(all->counters, pool::Counters{});
    EXPECT_EQ(*store->verify_audit(), AuditCheck{});
}

TEST_P(StoreTest, GivesBackWhatItWasGiven) {
    auto given = outcome();
    given.site = "[site]";
    ASSERT_TRUE(open()->apply(given));
    auto store = open();
    const auto all = store->load();
    ASSERT_TRUE(all) << all.error().message();
    EXPECT_EQ(all->hosts, given.hosts);
    EXPECT_EQ(all->devices, given.devices);
    EXPECT_EQ(all->loans, given.loans);
    EXPECT_EQ(all->steps, given.steps);
    EXPECT_EQ(all->usage, given.usage);
    EXPECT_EQ(all->site, "[site]");
    EXPECT_EQ(all->counters, given.counters);
    EXPECT_EQ(*store->audit({}, 0, 10), given.audit);
}

TEST_P(StoreTest, ReplacesAndErases) {
    auto store = open();
    auto changed = outcome();
    changed.site = "[site]";
    ASSERT_TRUE(store->apply(changed));
    changed.loans[0].state = pool::LoanState::returned;
    changed.loans[0].steps.clear();
    changed.devices[0].loan = {};
    changed.hosts[0].guests.clear();
    changed.usage[0].used_s = 5;
    changed.site = "";
    changed.steps.clear();
    changed.audit.clear();
    changed.erased_steps.push_back({1});
    ASSERT_TRUE(store->apply(changed));
    const auto all = store->load();
    EXPECT_EQ(all->loans, changed.loans);
    EXPECT_EQ(all->devices, changed.devices);
    EXPECT_EQ(all->hosts, changed.hosts);
    EXPECT_EQ(all->usage, changed.usage);
    EXPECT_EQ(all->site, "");
    EXPECT_TRUE(all->steps.empty());
    pool::Outcome erase;
    erase.counters = changed.counters;
    erase.erased_loans.push_back({1});
    erase.erased_devices.push_back(changed.devices[0].fdid);
    ASSERT_TRUE(store->apply(erase));
    EXPECT_TRUE(store->load()->loans.empty());
    EXPECT_TRUE(store->load()->devices.empty());
}

TEST_P(StoreTest, ErasesWhatTheSameOutcomeWrites) {
    auto store = open();
    auto both = outcome();
    both.erased_loans.push_back({1});
    both.erased_steps.push_back({1});
    both.erased_steps.push_back({77}); // that was never there
    both.erased_devices.push_back(both.devices[0].fdid);
    ASSERT_TRUE(store->apply(both));
    EXPECT_TRUE(store->load()->loans.empty());
    EXPECT_TRUE(store->load()->devices.empty());
    EXPECT_TRUE(store->load()->steps.empty());
    grow(*store, 2, 3);
    EXPECT_EQ(store->load()->loans.size(), 2u);
}

TEST_P(StoreTest, OrdersRecordsByTheirNumbers) {
    auto store = open();
    grow(*store, 1, 11);
    const auto all = store->load();
    ASSERT_EQ(all->loans.size(), 11u);
    for (size_t i = 0; i < 11; ++i) {
        EXPECT_EQ(all->loans[i].id.value, i + 1);
        EXPECT_EQ(all->steps[i].id.value, i + 1);
    }
}

TEST_P(StoreTest, TakesAllOfAnOutcomeOrNothing) {
    auto store = open();
    ASSERT_TRUE(store->apply(outcome(1)));
    auto bad = outcome(2);
    bad.audit[0].sequence = 1; // there already
    EXPECT_FALSE(store->apply(bad));
    bad.audit[0].sequence = 3; // and 2?
    EXPECT_FALSE(store->apply(bad));
    auto wrong = outcome(2);
    wrong.counters.next_audit = 2;
    EXPECT_FALSE(store->apply(wrong));
    EXPECT_EQ(store->load()->loans.size(), 1u);
    ASSERT_TRUE(store->apply(outcome(2)));
    EXPECT_EQ(store->load()->loans.size(), 2u);
    EXPECT_EQ(store->verify_audit()->entries, 2u);
}

TEST_P(StoreTest, TakesALargeOutcome) {
    pool::Outcome large;
    for (uint64_t i = 1; i <= 700; ++i) {
        const auto one = outcome(i);
        large.loans.push_back(one.loans[0]);
        large.steps.push_back(one.steps[0]);
        large.audit.push_back(one.audit[0]);
        large.counters = one.counters;
    }
    for (uint64_t i = 1; i <= 100; ++i)
        large.erased_steps.push_back({i});
    ASSERT_TRUE(open()->apply(large));
    auto store = open();
    const auto all = store->load();
    EXPECT_EQ(all->loans, large.loans);
    EXPECT_EQ(all->steps.size(), 600u);
    EXPECT_EQ(*store->audit({}, 0, 1000), large.audit);
    EXPECT_EQ(store->verify_audit()->entries, 700u);
    ASSERT_TRUE(store->apply(outcome(701)));
}

TEST_P(StoreTest, FindsPartsOfTheTrail) {
    auto store = open();
    auto some = outcome();
    some.audit.clear();
    for (uint64_t i = 1; i <= 10; ++i) {
        auto one = entry(i);
        one.time_us = static_cast<int64_t>(100 + i);
        one.loan = {i % 2};
        one.fdid = {i <= 5 ? 0x80000u : 0x80001u};
        one.action = i == 7 ? "borrow" : "transition";
        if (i == 3) one.subject = "host:store";
        if (i == 4) one.actor = "agent:store";
        some.audit.push_back(one);
    }
    some.counters.next_audit = 11;
    ASSERT_TRUE(store->apply(some));
    const auto find = [&](const AuditFilter& filter) { return sequences(store->audit(filter, 0, 99)); };
    EXPECT_THAT(sequences(store->audit({}, 4, 3)), ElementsAre(5, 6, 7));
    EXPECT_THAT(sequences(store->audit({}, 4, 0)), ElementsAre());
    AuditFilter filter;
    filter.fdid = pool::Fdid{0x80001};
    EXPECT_THAT(find(filter), ElementsAre(6, 7, 8, 9, 10));
    filter.action = "borrow";
    EXPECT_THAT(find(filter), ElementsAre(7));
    filter = {};
    filter.loan = pool::LoanId{1};
    EXPECT_THAT(find(filter), ElementsAre(1, 3, 5, 7, 9));
    filter.from_us = 104;
    filter.until_us = 109;
    EXPECT_THAT(find(filter), ElementsAre(5, 7));
    EXPECT_EQ(*store->audit_before_last(filter, 1), 5u);
    filter = {};
    filter.until_us = 103;
    EXPECT_THAT(find(filter), ElementsAre(1, 2));
    filter = {};
    filter.host = "store";
    EXPECT_THAT(find(filter), ElementsAre(3, 4));
    filter = {};
    filter.actor = "agent:store";
    EXPECT_THAT(find(filter), ElementsAre(4));
    filter = {};
    filter.subject = "host:store";
    EXPECT_THAT(find(filter), ElementsAre(3));
    EXPECT_EQ(*store->audit_before_last({}, 3), 7u);
    EXPECT_EQ(*store->audit_before_last({}, 10), 0u);
    filter = {};
    filter.loan = pool::LoanId{1};
    EXPECT_EQ(*store->audit_before_last(filter, 2), 5u);
}

TEST_P(StoreTest, ForgetsOnlyTheOldestEndOfTheTrail) {
    auto store = open(5);
    grow(*store, 1, 12);
    EXPECT_THAT(sequences(store->audit({}, 0, 99)), ElementsAre(8, 9, 10, 11, 12));
    const auto check = store->verify_audit();
    ASSERT_TRUE(check) << check.error().message();
    EXPECT_EQ(check->first_sequence, 8u);
    EXPECT_EQ(check->last_sequence, 12u);
    EXPECT_EQ(check->entries, 5u);
    store.reset();
    store = open(5);
    EXPECT_EQ(*store->verify_audit(), *check);
    grow(*store, 13, 13);
    EXPECT_EQ(store->verify_audit()->first_sequence, 9u);
}

TEST_P(StoreTest, ItsChainIsTheOneOfTheEntries) {
    auto store = open();
    grow(*store, 1, 3);
    store.reset();
    store = open();
    grow(*store, 4, 5);
    Hash hash = no_hash;
    for (uint64_t i = 1; i <= 5; ++i)
        hash = chained(hash, entry(i));
    const auto check = store->verify_audit();
    ASSERT_TRUE(check) << check.error().message();
    EXPECT_EQ(*check, (AuditCheck{5, 1, 5, hash}));
}

TEST_P(StoreTest, BecomesACopyOfAnotherAndBack) {
    auto store = open(7);
    grow(*store, 1, 9);
    pool::Outcome site;
    site.site = "[site]";
    site.counters = outcome(9).counters;
    ASSERT_TRUE(store->apply(site));
    test::SqliteBackend elsewhere;
    const auto other = elsewhere.open(1000);
    const auto copied = copy(*store, *other);
    ASSERT_TRUE(copied) << copied.error().message();
    EXPECT_EQ(*copied, *store->verify_audit());
    EXPECT_EQ(copied->first_sequence, 3u);
    const auto backend_2 = GetParam().make();
    const auto third = backend_2->open();
    const auto back = copy(*other, *third);
    ASSERT_TRUE(back) << back.error().message();
    EXPECT_EQ(back->head, copied->head);
    const auto all = third->load();
    ASSERT_TRUE(all) << all.error().message();
    EXPECT_EQ(all->loans, store->load()->loans);
    EXPECT_EQ(all->steps, store->load()->steps);
    EXPECT_EQ(all->hosts, store->load()->hosts);
    EXPECT_EQ(all->devices, store->load()->devices);
    EXPECT_EQ(all->usage, store->load()->usage);
    EXPECT_EQ(all->counters, store->load()->counters);
    EXPECT_EQ(all->site, "[site]");
    grow(*third, 10, 10);
    EXPECT_EQ(third->verify_audit()->entries, 8u);
}

TEST_P(StoreTest, IsNotOverwrittenByACopy) {
    auto store = open();
    grow(*store, 1, 1);
    const auto backend_2 = GetParam().make();
    const auto other = backend_2->open();
    grow(*other, 1, 2);
    const auto refused = copy(*store, *other);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::failed_precondition);
    EXPECT_EQ(other->load()->loans.size(), 2u);
}

TEST_P(StoreTest, HalfACopyCannotBeLoaded) {
    {
        const auto store = open();
        ASSERT_TRUE(store->begin_copy({4, Hash{1}}));
        ASSERT_TRUE(store->apply(outcome(5)));
    }
    const auto store = open();
    const auto all = store->load();
    ASSERT_FALSE(all);
    EXPECT_EQ(all.error().code(), Errc::failed_precondition);
    EXPECT_THAT(all.error().message(), HasSubstr("half a copy"));
    EXPECT_FALSE(store->begin_copy({}));
}

} // namespace
} // namespace lanepool::store
