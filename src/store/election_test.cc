// SPDX-License-Identifier: Apache-2.0
#include "store/test_etcd.h"
#include "store/test_records.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::store {
namespace {

using namespace std::chrono_literals;

class ElectionTest : public ::testing::Test {
  protected:
    std::unique_ptr<Election> campaign(const std::string& name) { return test::campaign(prefix, name); }
    // Whether it comes true within some seconds.
    template <class Condition>
    static bool becomes_true(const Condition& condition) {
        for (const auto end = std::chrono::steady_clock::now() + 20s; std::chrono::steady_clock::now() < end;
             std::this_thread::sleep_for(5ms))
            if (condition()) return true;
        return false;
    }
    std::unique_ptr<EtcdStore> open(const std::optional<Leadership>& leadership) {
        EtcdStoreOptions options;
        options.prefix = prefix;
        auto store = EtcdStore::open(client, leadership, options);
        EXPECT_TRUE(store) << store.error().message();
        return store ? std::move(*store) : nullptr;
    }

    std::string prefix = test::fresh_prefix();
    std::shared_ptr<EtcdClient> client = test::EtcdCluster::shared().client();
};

TEST_F(ElectionTest, OneLeadsAndAllKnowWho) {
    const auto one = campaign("one");
    ASSERT_TRUE(one->wait_until_leading(10s));
    const auto two = campaign("two");
    const Leader leader{"one", "one:1", one->leadership()->create_revision};
    EXPECT_TRUE(becomes_true([&] { return one->leader() == leader && two->leader() == leader; }));
    EXPECT_FALSE(two->wait_until_leading(3s)); // longer than the time to live
    EXPECT_TRUE(one->leadership());
}

TEST_F(ElectionTest, WhoResignsIsFollowedAtOnce) {
    auto one = campaign("one");
    const auto first = one->wait_until_leading(10s);
    const auto two = campaign("two");
    ASSERT_TRUE(becomes_true([&] { return two->leader().has_value(); }));
    const auto started = std::chrono::steady_clock::now();
    one->resign();
    EXPECT_FALSE(one->leadership());
    const auto second = two->wait_until_leading(10s);
    ASSERT_TRUE(second);
    EXPECT_LT(std::chrono::steady_clock::now() - started, 1s); // not after the time to live
    EXPECT_GT(second->create_revision, first->create_revision);
    EXPECT_TRUE(becomes_true([&] { return two->leader()->name == "two"; }));
}

TEST_F(ElectionTest, TellsWhatHasChanged) {
    std::atomic<int> changes{0};
    const auto one = test::campaign(prefix, "one", test::EtcdCluster::shared(), [&] { ++changes; });
    ASSERT_TRUE(becomes_true([&] { return changes > 0; }));
    const auto before = one->leadership();
    ASSERT_TRUE(before);
    EXPECT_EQ(one->leader()->name, "one");
    changes = 0;
    etcdserverpb::TxnRequest erase;
    erase.add_success()->mutable_request_delete_range()->set_key(before->key);
    ASSERT_TRUE(client->txn(erase));
    // It loses, campaigns again, and leads anew.
    EXPECT_TRUE(becomes_true([&] {
        const auto now = one->leadership();
        return now && now->create_revision > before->create_revision && changes >= 1;
    }));
}

TEST_F(ElectionTest, RefusesOptionsThatMakeNoSense) {
    const auto endpoints = test::EtcdCluster::shared().endpoints();
    ElectionOptions options;
    options.name = "one";
    options.ttl = 99ms;
    EXPECT_EQ(Election::start(endpoints, options).error().code(), Errc::invalid_argument);
    options.ttl = 60'001ms;
    EXPECT_EQ(Election::start(endpoints, options).error().code(), Errc::invalid_argument);
    options.ttl = 5s;
    EXPECT_EQ(Election::start({"nowhere"}, options).error().code(), Errc::invalid_argument);
    options.name = "";
    EXPECT_EQ(Election::start(endpoints, options).error().code(), Errc::invalid_argument);
}

// The key of one that had the same name and endpoint, and died.
TEST_F(ElectionTest, DoesNotTakeAnothersKeyForItsOwn) {
    const auto one = campaign("one");
    ASSERT_TRUE(one->wait_until_leading(10s));
    const auto another = campaign("one");
    EXPECT_FALSE(another->wait_until_leading(2500ms));
    EXPECT_TRUE(one->leadership());
}

// An etcd of its own, that has its bad moments.
class ElectionOverBadEtcdTest : public ElectionTest {
  protected:
    test::EtcdCluster cluster{1};
    std::atomic<int> changes{0};
    std::unique_ptr<Election> one = test::campaign(prefix, "one", cluster, [this] { ++changes; });
};

TEST_F(ElectionOverBadEtcdTest, NobodyLeadsForLongerThanTheTimeToLive) {
    ASSERT_TRUE(one->wait_until_leading(10s));
    ASSERT_TRUE(becomes_true([&] { return changes == 1; }));
    const auto stopped = std::chrono::steady_clock::now();
    cluster.member(0).signal(SIGSTOP);
    EXPECT_TRUE(becomes_true([&] { return changes == 2; })); // told, though etcd says nothing
    EXPECT_FALSE(one->leadership());
    EXPECT_LT(std::chrono::steady_clock::now() - stopped, 1500ms);
    cluster.member(0).signal(SIGCONT);
    EXPECT_TRUE(one->wait_until_leading(10s));
}

TEST_F(ElectionOverBadEtcdTest, NobodyIsDeposedWhileEtcdIsAway) {
    const auto first = one->wait_until_leading(10s);
    ASSERT_TRUE(first);
    const auto two = test::campaign(prefix, "two", cluster);
    ASSERT_TRUE(becomes_true([&] { return two->leader().has_value(); }));
    for (const auto away : {700ms, 900ms, 1300ms, 2500ms}) {
        cluster.member(0).signal(SIGSTOP);
        std::this_thread::sleep_for(away);
        cluster.member(0).signal(SIGCONT);
        EXPECT_EQ(one->wait_until_leading(10s), first) << away.count();
        std::this_thread::sleep_for(300ms);
    }
    cluster.kill(0);
    std::this_thread::sleep_for(1500ms);
    cluster.start(0);
    cluster.wait();
    EXPECT_EQ(one->wait_until_leading(10s), first);
    std::this_thread::sleep_for(2s);
    EXPECT_EQ(one->leadership(), first);
    EXPECT_FALSE(two->leadership());
}

// The member that is asked first says nothing: another one is asked before the time is over.
TEST_F(ElectionTest, LeadsOnWhenOneMemberOfEtcdStops) {
    test::EtcdCluster three(3);
    const auto one = test::campaign(prefix, "one", three);
    const auto first = one->wait_until_leading(10s);
    ASSERT_TRUE(first);
    const auto two = test::campaign(prefix, "two", three);
    ASSERT_TRUE(becomes_true([&] { return two->leader().has_value(); }));
    for (size_t member = 0; member < 3; ++member) {
        three.member(member).signal(SIGSTOP);
        std::this_thread::sleep_for(3s); // it may have been the one that led them
        EXPECT_EQ(one->leadership(), first);
        three.member(member).signal(SIGCONT);
        std::this_thread::sleep_for(1s);
    }
}

// A controller in another process, that leads and writes.
class LeaderProcessTest : public ElectionTest {
  protected:
    LeaderProcessTest() {
        leader = std::make_unique<test::Process>(
            std::vector<std::string>{LANEPOOL_TEST_PROGRAMS "/store_leader_process",
                                     test::EtcdCluster::shared().endpoints()[0], prefix, "process"},
            log());
        EXPECT_TRUE(becomes_true([&] { return said("stored 10\n"); }));
    }
    std::filesystem::path log() const { return folder.path() / "log"; }
    bool said(const std::string& words) const {
        std::ifstream file(log());
        const std::string all{std::istreambuf_iterator<char>(file), {}};
        return all.find(words) != std::string::npos;
    }
    // How long it takes until CONDITION is true.
    template <class Condition>
    static std::chrono::milliseconds time_until(const Condition& condition) {
        const auto started = std::chrono::steady_clock::now();
        EXPECT_TRUE(becomes_true(condition));
        return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                     started);
    }
    // The last outcome that it has acknowledged.
    uint64_t acknowledged() const {
        std::ifstream file(log());
        std::string word;
        uint64_t number = 0;
        uint64_t last = 0;
        while (file >> word >> number && word == "stored")
            last = number;
        return last;
    }

    TemporaryFolder folder;
    std::unique_ptr<test::Process> leader;
};

TEST_F(LeaderProcessTest, IsFollowedWhenItIsKilled) {
    const auto two = campaign("two");
    EXPECT_TRUE(becomes_true([&] { return two->leader() && two->leader()->name == "process"; }));
    leader->end(SIGKILL);
    const auto took = time_until([&] { return two->leadership().has_value(); });
    RecordProperty("takeover_ms", std::to_string(took.count()));
    // The time to live since its last beat, and until we next look. etcd itself takes as long to elect.
    EXPECT_GT(took, 700ms);
    EXPECT_LT(took, 1500ms);
    const auto leadership = two->wait_until_leading(10s);
    ASSERT_TRUE(leadership);
    const auto store = open(leadership);
    const auto all = store->load();
    // What was acknowledged is there; and at most the one that it was about to acknowledge.
    EXPECT_GE(all->loans.size(), acknowledged());
    EXPECT_LE(all->loans.size(), acknowledged() + 1);
    EXPECT_TRUE(store->apply(test::outcome(all->loans.size() + 1)));
    EXPECT_EQ(store->verify_audit()->entries, all->loans.size() + 1);
}

TEST_F(LeaderProcessTest, IsFollowedByOneOfTwo) {
    const auto two = campaign("two");
    const auto three = campaign("three");
    ASSERT_TRUE(becomes_true([&] { return two->leader() && three->leader(); }));
    leader->end(SIGKILL);
    ASSERT_TRUE(becomes_true([&] { return two->leadership() || three->leadership(); }));
    EXPECT_NE(two->leadership().has_value(), three->leadership().has_value());
    EXPECT_TRUE(becomes_true([&] {
        return two->leader() == three->leader() && two->leader() &&
               two->leader()->name == (two->leadership() ? "two" : "three");
    }));
    std::this_thread::sleep_for(1500ms); // nobody is deposed by who came second
    EXPECT_NE(two->leadership().has_value(), three->leadership().has_value());
}

TEST_F(LeaderProcessTest, WritesNothingWhenItWakesUpTooLate) {
    const auto two = campaign("two");
    leader->signal(SIGSTOP);
    const auto leadership = two->wait_until_leading(10s);
    ASSERT_TRUE(leadership);
    const auto store = open(leadership);
    const uint64_t next = store->load()->loans.size() + 1;
    ASSERT_TRUE(store->apply(test::outcome(next)));
    leader->signal(SIGCONT);
    EXPECT_TRUE(becomes_true([&] { return said("refused"); }));
    EXPECT_TRUE(said("cancelled\n"));
    EXPECT_TRUE(store->apply(test::outcome(next + 1)));
    EXPECT_EQ(store->verify_audit()->entries, next + 1);
}

} // namespace
} // namespace lanepool::store
