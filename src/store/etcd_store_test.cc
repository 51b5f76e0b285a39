// SPDX-License-Identifier: Apache-2.0
//
// What is so of the etcd store alone: who may write, answers that are lost, outcomes that are large.
#include "store/codec.h"
#include "store/test_etcd.h"
#include "store/test_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

namespace lanepool::store {
namespace {

using test::outcome;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

class EtcdStoreTest : public ::testing::Test {
  protected:
    std::unique_ptr<Store> open(uint64_t audit_kept = 1000) { return backend.open(audit_kept); }
    // Somebody who does not ask who leads.
    void put(const std::string& key, const std::string& value) const {
        etcdserverpb::TxnRequest request;
        auto& put = *request.add_success()->mutable_request_put();
        put.set_key(key);
        put.set_value(value);
        ASSERT_TRUE(backend.client->txn(request));
    }
    void erase(const std::string& key, const std::string& end = "") const {
        etcdserverpb::TxnRequest request;
        auto& erase = *request.add_success()->mutable_request_delete_range();
        erase.set_key(key);
        erase.set_range_end(end);
        ASSERT_TRUE(backend.client->txn(request));
    }
    std::string get(const std::string& key) const {
        etcdserverpb::RangeRequest request;
        request.set_key(key);
        const auto response = backend.client->range(request);
        return response && !response->kvs().empty() ? response->kvs(0).value() : "";
    }
    int64_t count(std::string_view table) const {
        etcdserverpb::RangeRequest request;
        request.set_key(keys.table(table));
        request.set_range_end(keys.end(table));
        const auto response = backend.client->range(request);
        return response ? response->count() : -1;
    }

    test::EtcdBackend backend;
    EtcdKeys keys{backend.prefix};
};

// Loans FIRST to LAST in one.
pool::Outcome large(uint64_t first, uint64_t last) {
    pool::Outcome all;
    for (uint64_t i = first; i <= last; ++i) {
        const auto one = outcome(i);
        all.loans.push_back(one.loans[0]);
        all.steps.push_back(one.steps[0]);
        all.audit.push_back(one.audit[0]);
        all.counters = one.counters;
    }
    return all;
}

TEST_F(EtcdStoreTest, ReadersReadAndDoNotWrite) {
    auto writer = open();
    ASSERT_TRUE(writer->apply(outcome(1)));
    EtcdStoreOptions options;
    options.prefix = backend.prefix;
    auto reader = EtcdStore::open(backend.client, std::nullopt, options);
    ASSERT_TRUE(reader) << reader.error().message();
    EXPECT_EQ((*reader)->load()->loans, outcome(1).loans);
    ASSERT_TRUE(writer->apply(outcome(2)));
    EXPECT_EQ((*reader)->load()->loans.size(), 2u);
    EXPECT_EQ((*reader)->verify_audit()->entries, 2u);
    const auto refused = (*reader)->apply(outcome(3));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::failed_precondition);
}

TEST_F(EtcdStoreTest, OnlyTheLeaderWrites) {
    auto before = open();
    ASSERT_TRUE(before->apply(outcome(1)));
    backend.election.reset();
    backend.election = test::campaign(backend.prefix, "other");
    auto now = open();
    const auto refused = before->apply(outcome(2));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::cancelled);
    EXPECT_FALSE(before->usable());
    EXPECT_EQ(now->load()->loans.size(), 1u);
    ASSERT_TRUE(now->apply(outcome(2)));
    EXPECT_FALSE(before->apply(outcome(3)));
    EXPECT_EQ(now->verify_audit()->entries, 2u);
}

TEST_F(EtcdStoreTest, RefusesToOverwriteWhatSomebodyElseHasChanged) {
    auto store = open();
    ASSERT_TRUE(store->apply(outcome(1)));
    const std::string key = keys.of("loan", 1);
    put(key, get(key));
    auto changed = outcome(2);
    changed.loans.push_back(outcome(1).loans[0]);
    const auto refused = store->apply(changed);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::busy);
    EXPECT_THAT(refused.error().message(), HasSubstr(key));
    EXPECT_FALSE(store->usable());
    EXPECT_FALSE(store->apply(outcome(2)));
    EXPECT_EQ(store->load()->loans.size(), 1u);
    EXPECT_TRUE(store->usable());
    EXPECT_TRUE(store->apply(changed));
}

TEST_F(EtcdStoreTest, RefusesToEraseWhatSomebodyElseHasChanged) {
    auto store = open();
    ASSERT_TRUE(store->apply(outcome(1)));
    put(keys.of("step", 1), get(keys.of("step", 1)));
    pool::Outcome erase;
    erase.counters = outcome(1).counters;
    erase.erased_steps.push_back({1});
    EXPECT_EQ(store->apply(erase).error().code(), Errc::busy);
    EXPECT_EQ(store->load()->steps.size(), 1u);
}

TEST_F(EtcdStoreTest, LoadsAnewWhenItsVeryFirstOutcomeIsRefused) {
    auto store = open();
    auto other = outcome(1).loans[0];
    other.reason = "another";
    put(keys.of("loan", 1), encode(other));
    EXPECT_EQ(store->apply(outcome(1)).error().code(), Errc::busy);
    EXPECT_EQ(store->load()->loans[0].reason, "another");
    EXPECT_TRUE(store->usable());
    EXPECT_TRUE(store->apply(outcome(1)));
}

TEST_F(EtcdStoreTest, RefusesANewerLayout) {
    ASSERT_TRUE(open()->apply(outcome(1)));
    put(keys.of("single", "layout"), "2");
    EtcdStoreOptions options;
    options.prefix = backend.prefix;
    const auto store = EtcdStore::open(backend.client, std::nullopt, options);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errc::failed_precondition);
}

TEST_F(EtcdStoreTest, SaysWhichKeyIsDamaged) {
    ASSERT_TRUE(open()->apply(outcome(1)));
    put(keys.of("device", 0x80000), "\x0a\x7f");
    EtcdStoreOptions options;
    options.prefix = backend.prefix;
    const auto store = EtcdStore::open(backend.client, std::nullopt, options);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Errc::io);
    EXPECT_THAT(store.error().message(), HasSubstr(keys.of("device", 0x80000)));
}

// ---- large outcomes

TEST_F(EtcdStoreTest, KeepsToTheOperationsOfATransaction) {
    backend.options.txn_operations = 8;
    backend.options.txn_bytes = 4096;
    auto store = open();
    ASSERT_TRUE(store->apply(large(1, 40)));
    EXPECT_EQ(count("journal"), 0);
    ASSERT_TRUE(store->apply(large(41, 50)));
    EXPECT_EQ(store->load()->loans.size(), 50u);
    EXPECT_EQ(store->load()->loans, large(1, 50).loans);
    EXPECT_EQ(store->verify_audit()->entries, 50u);
}

class InterruptedTest : public EtcdStoreTest {
  protected:
    InterruptedTest() {
        auto store = open();
        EXPECT_TRUE(store->apply(outcome(1)));
        ChainEnds ends = *store->audit_ends();
        EtcdChanges all;
        add(all, keys, large(2, 300), ends);
        all.erase(keys.of("step", 1));
        all.put(keys.of("single", "audit_ends"), encode_ends(ends));
        changes = all.take();
        parts = encode_journal(changes, 16 << 10);
        EXPECT_GT(parts.size(), 3u);
    }
    void write_journal(size_t count) {
        for (size_t i = 0; i < count; ++i)
            put(keys.of("journal", i), parts[i]);
    }
    void carry_out(size_t count) {
        for (const auto& change : std::span(changes).first(count))
            change.value ? put(change.key, *change.value) : erase(change.key);
    }
    void is_stored(Store& store) {
        const auto all = store.load();
        ASSERT_TRUE(all) << all.error().message();
        EXPECT_EQ(all->loans, large(1, 300).loans);
        EXPECT_EQ(all->steps, large(2, 300).steps);
        EXPECT_EQ(all->counters, large(2, 300).counters);
        const auto check = store.verify_audit();
        ASSERT_TRUE(check) << check.error().message();
        EXPECT_EQ(check->entries, 300u);
        EXPECT_EQ(count("journal"), 0);
        EXPECT_TRUE(store.apply(large(301, 600)));
        EXPECT_EQ(store.load()->loans.size(), 600u);
    }

    std::vector<EtcdChange> changes;
    std::vector<std::string> parts;
};

TEST_F(InterruptedTest, WhileItWritesTheJournalNothingIsStored) {
    write_journal(parts.size() - 1);
    auto store = open();
    EXPECT_EQ(store->load()->loans.size(), 1u);
    EXPECT_EQ(store->verify_audit()->entries, 1u);
    ASSERT_TRUE(store->apply(large(2, 300)));
    pool::Outcome erase;
    erase.counters = large(2, 300).counters;
    erase.erased_steps.push_back({1});
    ASSERT_TRUE(store->apply(erase));
    is_stored(*store);
}

TEST_F(InterruptedTest, AfterTheJournalAllIsStored) {
    write_journal(parts.size());
    is_stored(*open());
}

TEST_F(InterruptedTest, WhileItIsCarriedOutAllIsStored) {
    write_journal(parts.size());
    carry_out(changes.size() / 2);
    is_stored(*open());
}

TEST_F(InterruptedTest, BeforeTheJournalIsRemovedAllIsStored) {
    write_journal(parts.size());
    carry_out(changes.size());
    is_stored(*open());
}

TEST_F(InterruptedTest, AReaderSeesTheWholeOutcomeAndChangesNothing) {
    write_journal(parts.size());
    carry_out(changes.size() / 2);
    EtcdStoreOptions options;
    options.prefix = backend.prefix;
    const auto reader = EtcdStore::open(backend.client, std::nullopt, options);
    EXPECT_EQ((*reader)->load()->loans, large(1, 300).loans);
    EXPECT_EQ((*reader)->load()->steps, large(2, 300).steps);
    EXPECT_EQ(count("journal"), static_cast<int64_t>(parts.size()));
}

// ---- answers that are lost

class LostAnswerTest : public ::testing::Test {
  protected:
    LostAnswerTest() {
        EtcdOptions hasty;
        hasty.endpoints = cluster.endpoints();
        hasty.member_timeout = 100ms;
        hasty.call_timeout = 200ms;
        client = *EtcdClient::create(hasty);
        options.prefix = prefix;
        options.txn_operations = 16;
    }
    std::unique_ptr<EtcdStore> open() {
        const auto leadership = election->wait_until_leading(10s);
        auto store = EtcdStore::open(client, leadership, options);
        EXPECT_TRUE(store) << store.error().message();
        return std::move(*store);
    }

    test::EtcdCluster cluster{1};
    std::string prefix = test::fresh_prefix();
    std::unique_ptr<Election> election = [this] {
        ElectionOptions wish;
        wish.prefix = prefix;
        wish.name = "controller";
        wish.ttl = 60s;
        return std::move(*Election::start(cluster.endpoints(), wish));
    }();
    std::shared_ptr<EtcdClient> client;
    EtcdStoreOptions options;
};

// etcd stops answering at any moment of an outcome, large or small. Whatever it has carried out: the store
// finds out, and no outcome is stored by halves, twice, or without a word.
TEST_F(LostAnswerTest, NothingIsStoredByHalvesOrUnnoticed) {
    std::mt19937 random(7);
    auto store = open();
    uint64_t stored = 0;
    int lost = 0;
    for (int round = 0; round < 12; ++round) {
        const uint64_t size = round % 3 == 0 ? 1 : 60;
        std::thread stopper([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(random() % (size * 400)));
            cluster.member(0).signal(SIGSTOP);
        });
        const auto applied = store->apply(large(stored + 1, stored + size));
        stopper.join();
        std::this_thread::sleep_for(20ms);
        cluster.member(0).signal(SIGCONT);
        if (applied) {
            stored += size;
            continue;
        }
        ++lost;
        EXPECT_EQ(applied.error().code(), Errc::unavailable);
        cluster.wait();
        // The next one finds out, or is stored in its place.
        const auto next = store->apply(large(stored + 1, stored + size));
        if (next) {
            stored += size;
        } else {
            EXPECT_FALSE(store->usable()) << next.error().message();
            EXPECT_EQ(next.error().code(), Errc::cancelled);
            const auto all = store->load();
            ASSERT_TRUE(all) << all.error().message();
            EXPECT_TRUE(store->usable());
            EXPECT_EQ(all->loans.size(), stored + size); // it was stored after all
            stored += size;
        }
    }
    EXPECT_GT(lost, 0);
    const auto all = open()->load();
    EXPECT_TRUE(all->loans == large(1, stored).loans);
    const auto check = open()->verify_audit();
    ASSERT_TRUE(check) << check.error().message();
    EXPECT_EQ(check->entries, stored);
}

TEST_F(LostAnswerTest, WithoutEtcdItFailsInTime) {
    auto store = open();
    cluster.kill(0);
    const auto started = std::chrono::steady_clock::now();
    const auto refused = store->apply(outcome(1));
    EXPECT_LT(std::chrono::steady_clock::now() - started, 2s);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::unavailable);
    EXPECT_THAT(refused.error().message(), HasSubstr("majority"));
    cluster.start(0);
    cluster.wait();
    EXPECT_TRUE(store->apply(outcome(1)));
}

// ---- the trail

class EtcdTamperTest : public EtcdStoreTest {
  protected:
    EtcdTamperTest() {
        store = open();
        for (uint64_t i = 1; i <= 9; ++i)
            EXPECT_TRUE(store->apply(outcome(i)));
    }
    std::string batch(uint64_t sequence) const { return keys.of("audit", sequence); }
    void refused(uint64_t sequence) {
        const auto check = store->verify_audit();
        ASSERT_FALSE(check);
        EXPECT_EQ(check.error().code(), Errc::io);
        EXPECT_THAT(check.error().message(), HasSubstr(fmt::format("at sequence {}:", sequence)));
    }
    std::unique_ptr<Store> store;
};

TEST_F(EtcdTamperTest, AnotherValue) {
    put(batch(4), get(batch(5)));
    refused(4);
}
TEST_F(EtcdTamperTest, AChangedByte) {
    auto value = get(batch(4));
    value.back() ^= 1;
    put(batch(4), value);
    refused(4);
}
TEST_F(EtcdTamperTest, NoValue) {
    put(batch(4), "");
    refused(4);
}
TEST_F(EtcdTamperTest, AMissingEntry) {
    erase(batch(4));
    refused(4);
}
TEST_F(EtcdTamperTest, AMissingEnd) {
    erase(batch(9));
    refused(9);
}
TEST_F(EtcdTamperTest, AnInsertedEntry) {
    put(batch(10), get(batch(9)));
    refused(10);
}
TEST_F(EtcdTamperTest, ReorderedEntries) {
    const auto four = get(batch(4));
    put(batch(4), get(batch(5)));
    put(batch(5), four);
    refused(4);
}

// ---- the cluster

TEST(EtcdClusterTest, GoesOnWhenAMemberDies) {
    test::EtcdCluster cluster(3);
    const auto client = cluster.client();
    const auto prefix = test::fresh_prefix();
    const auto election = test::campaign(prefix, "controller", cluster);
    EtcdStoreOptions options;
    options.prefix = prefix;
    const auto store = EtcdStore::open(client, election->wait_until_leading(10s), options);
    ASSERT_TRUE(store) << store.error().message();
    uint64_t number = 0;
    for (size_t member = 0; member < 3; ++member) {
        ASSERT_TRUE((*store)->apply(outcome(++number)));
        cluster.kill(member);
        const auto stored = (*store)->apply(outcome(++number));
        ASSERT_TRUE(stored) << stored.error().message();
        cluster.start(member);
        cluster.wait();
    }
    EXPECT_EQ((*store)->verify_audit()->entries, 6u);
    EXPECT_NE(client->status()->leader(), 0u);
}

TEST(EtcdClientTest, RefusesEndpointsThatAreNone) {
    for (const auto* endpoint :
         {"", "host", ":1", "host:", "host:0", "host:65536", "http://host:1", "host:1x"})
        EXPECT_EQ(EtcdClient::create({.endpoints = {endpoint}}).error().code(), Errc::invalid_argument)
            << endpoint;
    EXPECT_EQ(EtcdClient::create({}).error().code(), Errc::invalid_argument);
}

} // namespace
} // namespace lanepool::store
