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
    std::unique_ptr<Election> campaign(const std::string& name) {
        return test::campaign(client, prefix, name);
    }
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
    EXPECT_FALSE(two->wait_until_leading(3s)); // longer than a lease
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
    EXPECT_LT(std::chrono::steady_clock::now() - started, 1s); // it does not wait for the lease
    EXPECT_GT(second->create_revision, first->create_revision);
    EXPECT_TRUE(becomes_true([&] { return two->leader()->name == "two"; }));
}

TEST_F(ElectionTest, TellsWhatHasChanged) {
    ElectionOptions options;
    options.prefix = prefix;
    options.name = "one";
    std::atomic<int> changes{0};
    auto one = Election::start(client, options, [&] { ++changes; });
    EXPECT_TRUE(becomes_true([&] { return (*one)->leadership() && (*one)->leader() && changes >= 2; }));
    changes = 0;
    etcdserverpb::TxnRequest erase;
    erase.add_success()->mutable_request_delete_range()->set_key((*one)->leadership()->key);
    const auto before = *(*one)->leadership();
    ASSERT_TRUE(client->txn(erase));
    // It loses, campaigns again, and leads anew.
    EXPECT_TRUE(becomes_true([&] {
        const auto now = (*one)->leadership();
        return now && now->create_revision > before.create_revision && changes >= 2;
    }));
}

TEST_F(ElectionTest, RefusesOptionsThatMakeNoSense) {
    ElectionOptions options;
    options.name = "one";
    options.ttl = 0s;
    EXPECT_EQ(Election::start(client, options).error().code(), Errc::invalid_argument);
    options.ttl = 61s;
    EXPECT_EQ(Election::start(client, options).error().code(), Errc::invalid_argument);
    options.ttl = 5s;
    options.name = "";
    EXPECT_EQ(Election::start(client, options).error().code(), Errc::invalid_argument);
}

TEST_F(ElectionTest, WithoutEtcdNobodyLeadsForLongerThanTheLease) {
    test::EtcdCluster cluster(1);
    const auto one = test::campaign(cluster.client(), prefix, "one");
    ASSERT_TRUE(one->wait_until_leading(10s));
    cluster.member(0).signal(SIGSTOP);
    std::this_thread::sleep_for(2100ms);
    EXPECT_FALSE(one->leadership());
    cluster.member(0).signal(SIGCONT);
    EXPECT_TRUE(one->wait_until_leading(10s));
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

    test::TemporaryFolder folder;
    std::unique_ptr<test::Process> leader;
};

TEST_F(LeaderProcessTest, IsFollowedWhenItIsKilled) {
    const auto two = campaign("two");
    EXPECT_TRUE(becomes_true([&] { return two->leader() && two->leader()->name == "process"; }));
    leader->end(SIGKILL);
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
