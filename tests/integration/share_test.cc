// SPDX-License-Identifier: Apache-2.0
//
// Several clients and the manager of one drive, without agents: what they say to each other, and what they do
// when one of them dies.
#include "integration/share_hosts.h"

#include <fstream>
#include <random>

namespace lanepool::integration {
namespace {

using sharing::ClientRules;
using sharing::ManagerOptions;

constexpr uint64_t drive_bytes = 64 << 20;

ManagerOptions quick(std::string_view rules = {}) {
    ManagerOptions options;
    options.grace = std::chrono::milliseconds(0); // but where there was a manager before
    if (!rules.empty()) options.rules = ClientRules::parse(rules, "clients.toml").value();
    return options;
}

class ShareTest : public testing::Test {
  protected:
    struct Client {
        std::unique_ptr<SharedHosts::Process> process;
        std::optional<SharedDrive> drive;
        SharedDrive* operator->() { return &*drive; }
    };
    Client join(uint32_t node, SharedDriveOptions options = {}, const std::string& user = "ann") {
        Client client{std::make_unique<SharedHosts::Process>(hosts, node, user), std::nullopt};
        auto opened = SharedDrive::open(client.process->fabric, client.process->loan, SharedHosts::fdid,
                                        io::system_clock(), options);
        EXPECT_TRUE(opened) << opened.error().message();
        if (opened) client.drive = std::move(*opened);
        return client;
    }
    Error refusal(uint32_t node, SharedDriveOptions options = {}, const std::string& user = "ann") {
        SharedHosts::Process process(hosts, node, user);
        auto opened =
            SharedDrive::open(process.fabric, process.loan, SharedHosts::fdid, io::system_clock(), options);
        EXPECT_FALSE(opened);
        return opened ? Error(Errc::internal, "it was let in") : opened.error();
    }
    static std::vector<std::byte> pattern(uint64_t size_bytes, uint8_t seed) {
        std::vector<std::byte> data(size_bytes);
        for (size_t i = 0; i < data.size(); ++i)
            data[i] = static_cast<std::byte>((i / 7 + i * seed) & 0xff);
        return data;
    }

    SharedHosts hosts{drive_bytes};
};

TEST_F(ShareTest, WhatOneHostWritesAnotherReads) {
    ManagerProcess manager(hosts, quick());
    ASSERT_TRUE(manager.manager) << manager.error->message();
    auto writer = join(1), reader = join(2);
    const auto written = pattern(3 << 20, 5); // several commands
    ASSERT_TRUE(writer->write_blocks(40, written));
    ASSERT_TRUE(writer->flush_blocks());
    std::vector<std::byte> read(written.size());
    ASSERT_TRUE(reader->read_blocks(40, read));
    EXPECT_EQ(read, written);
    EXPECT_EQ(writer->blocks() * writer->block_bytes(), drive_bytes);
    EXPECT_EQ(manager.status().clients.size(), 2u);
    EXPECT_TRUE(writer->close());
    EXPECT_EQ(manager.status().clients.size(), 1u);
    EXPECT_EQ(manager.status().died, 0u);
}

TEST_F(ShareTest, NobodySeesMoreThanHisPart) {
    ManagerProcess manager(hosts, quick("[[client]]\nhosts='host1'\nusers='*'\nfirst_block=1000\nblocks=100\n"
                                        "[[client]]\nhosts='*'\nusers='*'\nread_only=true\nweight=3"));
    ASSERT_TRUE(manager.manager);
    auto part = join(1), all = join(2);
    EXPECT_EQ(part->blocks(), 100u);
    EXPECT_EQ(all->weight(), 3);
    const auto written = pattern(part->block_bytes(), 3);
    ASSERT_TRUE(part->write_blocks(7, written));
    std::vector<std::byte> read(written.size());
    ASSERT_TRUE(all->read_blocks(1007, read));
    EXPECT_EQ(read, written);
    EXPECT_EQ(part->write_blocks(100, written).error().code(), Errc::out_of_range);
    EXPECT_EQ(part->read_blocks(~uint64_t{0}, read).error().code(), Errc::out_of_range);
    EXPECT_EQ(all->write_blocks(0, written).error().code(), Errc::permission_denied);
}

TEST_F(ShareTest, WhoMayNotIsToldWhy) {
    ManagerProcess manager(hosts, quick("[[client]]\nhosts='host1'\nusers='ann'\nmost_queues=1"));
    ASSERT_TRUE(manager.manager);
    EXPECT_EQ(refusal(2).code(), Errc::permission_denied);
    EXPECT_EQ(refusal(1, {}, "eve").code(), Errc::permission_denied);
    auto first = join(1);
    EXPECT_EQ(refusal(1).code(), Errc::no_space);
    EXPECT_EQ(refusal(1, {.depth = 4000}).code(), Errc::no_space);
    ASSERT_TRUE(first->close());
    EXPECT_EQ(refusal(1, {.depth = 4000}).code(), Errc::out_of_range);
    EXPECT_EQ(manager.status().refused, 5u);
}

TEST_F(ShareTest, WithoutAManagerOpeningEndsInTime) {
    const auto error = refusal(1, {.open_timeout = std::chrono::milliseconds(50)});
    EXPECT_EQ(error.code(), Errc::not_found);
    EXPECT_NE(error.message().find("lanepool nvme share"), std::string::npos);
}

TEST_F(ShareTest, ASecondManagerOnTheHostIsRefused) {
    ManagerProcess manager(hosts, quick());
    ManagerProcess second(hosts, quick());
    ASSERT_TRUE(second.error);
    EXPECT_EQ(second.error->code(), Errc::busy);
    EXPECT_TRUE(join(1)->flush_blocks());
}

TEST_F(ShareTest, RulesThatTheDriveCannotKeepStopTheManager) {
    ManagerProcess manager(hosts, quick("[[client]]\nhosts='*'\nusers='*'\nnamespace=9"));
    ASSERT_TRUE(manager.error);
    EXPECT_EQ(manager.error->code(), Errc::invalid_argument);
}

TEST_F(ShareTest, NonsenseToTheManagerHurtsNobody) {
    ManagerProcess manager(hosts, quick());
    auto client = join(1);
    SharedHosts::Process evil(hosts, 2, "eve");
    auto box = evil.fabric.connect_inbox(0, sharing::shared_id(SharedHosts::fdid), {}).value();
    const auto say = [&](std::span<const std::byte> bytes) { ASSERT_TRUE(box->send(bytes)); };
    say(std::as_bytes(std::span("{}")));
    say(sharing::encode(sharing::Request{1, std::nullopt}));                     // leaves before it joined
    say(sharing::encode(sharing::Request{2, sharing::Join{1, 1, 4, {0}, {0}}})); // no such reply
    auto inbox = evil.fabric
                     .create_inbox(
                         std::nullopt, [](auto&&...) {}, [](auto&&...) {})
                     .value();
    say(sharing::encode(sharing::Request{3, sharing::Join{inbox->number(), 1, 4, {0}, {0}}})); // no such page
    auto small = evil.fabric.create_memory(64, std::nullopt).value();
    say(sharing::encode(sharing::Request{4, sharing::Join{inbox->number(), small->id(), 4, {0}, {0}}}));
    auto page = evil.fabric.create_memory(4096, std::nullopt).value();
    // Addresses at which there is nothing, and not even pages.
    say(sharing::encode(
        sharing::Request{5, sharing::Join{inbox->number(), page->id(), 4, {0x123457}, {~uint64_t{0}}}}));
    EXPECT_TRUE(eventually([&] { return manager.status().refused == 3; }));
    EXPECT_TRUE(client->flush_blocks());
    EXPECT_FALSE(manager.error);
}

// Reads and writes blocks that nobody else touches, and checks every one.
class Load {
  public:
    Load(SharedDrive& drive, uint64_t first_block, uint32_t seed)
        : drive_(drive), first_block_(first_block), random_(seed),
          buffer_(drive.allocate(slots * 4096).value()), versions_(blocks) {}

    // Until COUNT more commands have been answered well, or one has not.
    Result<> run(uint64_t count) {
        const uint64_t until = done_ + count;
        const auto deadline = io::system_clock().now() + std::chrono::seconds(30);
        while (done_ < until) {
            for (uint32_t slot = 0; slot < slots; ++slot)
                if (!busy_[slot]) TRY(start(slot));
            TRY(drive_.poll());
            if (failure_) return tl::unexpected(*failure_);
            if (io::system_clock().now() > deadline) return fail(Errc::timeout, "{} of {}", done_, until);
        }
        return {};
    }
    Result<> finish() {
        while (drive_.outstanding() > 0)
            TRY(drive_.poll());
        return failure_ ? Result<>(tl::unexpected(*failure_)) : Result<>();
    }

  private:
    static constexpr uint32_t slots = 16;
    static constexpr uint32_t blocks = 64; // of 4 KiB, one slot's each

    Result<> start(uint32_t slot) {
        const uint32_t page = slot + slots * (static_cast<uint32_t>(random_()) % (blocks / slots));
        const auto per_page = 4096 / drive_.block_bytes();
        const SharedDrive::Extent extent{first_block_ + page * per_page, per_page, slot * 4096};
        auto* words = reinterpret_cast<uint64_t*>(&buffer_.bytes()[slot * 4096]);
        busy_[slot] = true;
        const auto answer = [this, slot](const Result<>& result) {
            busy_[slot] = false;
            ++done_;
            if (!result && !failure_) failure_ = result.error();
        };
        if (random_() % 2 || versions_[page] == 0) {
            words[0] = words[511] = ++versions_[page] << 8 | page;
            return drive_.write(extent, buffer_, answer);
        }
        words[0] = words[511] = 0;
        return drive_.read(extent, buffer_, [this, answer, page, words](const Result<>& result) {
            const uint64_t expected = versions_[page] << 8 | page;
            if (result && (words[0] != expected || words[511] != expected))
                failure_ = Error(Errc::internal,
                                 fmt::format("page {} has {:#x}, not {:#x}", page, words[0], expected));
            answer(result);
        });
    }

    SharedDrive& drive_;
    uint64_t first_block_;
    std::mt19937 random_;
    DriveBuffer buffer_;
    std::vector<uint64_t> versions_;
    std::array<bool, slots> busy_{};
    uint64_t done_ = 0;
    std::optional<Error> failure_;
};

TEST_F(ShareTest, TheDeathOfAClientIsNoneOfTheOthersBusiness) {
    ManagerProcess manager(hosts, quick());
    auto survivor = join(1);
    Load load(*survivor.drive, 0, 1);
    ASSERT_TRUE(load.run(200));
    for (int i = 0; i < 5; ++i) {
        auto victim = join(2);
        {
            Load short_lived(*victim.drive, 10'000, 2);
            ASSERT_TRUE(short_lived.run(50));
            victim.process->kill();        // with commands under way
            EXPECT_FALSE(victim->close()); // nobody hears that it leaves
        }
        victim.drive.reset(); // its memory goes
        const auto outcome = load.run(200);
        ASSERT_TRUE(outcome) << outcome.error().message();
    }
    ASSERT_TRUE(load.finish());
    EXPECT_TRUE(eventually([&] { return manager.status().died == 5; }));
    EXPECT_EQ(manager.status().clients.size(), 1u);
    EXPECT_FALSE(manager.error) << manager.error->message();
}

TEST_F(ShareTest, ClientsOutliveTheirManagerAndJoinTheNextOne) {
    auto manager = std::make_unique<ManagerProcess>(hosts, quick());
    auto one = join(1), two = join(2);
    Load load_one(*one.drive, 0, 1), load_two(*two.drive, 10'000, 2);
    std::atomic<bool> stop{false};
    const auto forever = [&stop](Load& load) {
        Result<> result;
        while (result && !stop)
            result = load.run(20);
        return result ? load.finish() : result;
    };
    auto ends_one = std::async(std::launch::async, [&] { return forever(load_one); });
    auto ends_two = std::async(std::launch::async, [&] { return forever(load_two); });
    for (int i = 0; i < 3; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20)); // under load
        manager->kill();
        manager.reset();
        std::this_thread::sleep_for(std::chrono::milliseconds(20)); // under load, without a manager
        manager = std::make_unique<ManagerProcess>(hosts, ManagerOptions{});
        ASSERT_TRUE(manager->manager) << manager->error->message();
        EXPECT_TRUE(eventually([&] { return manager->status().clients.size() == 2; }));
    }
    stop = true;
    const auto end_one = ends_one.get(), end_two = ends_two.get();
    EXPECT_TRUE(end_one) << end_one.error().message();
    EXPECT_TRUE(end_two) << end_two.error().message();
    EXPECT_EQ(one->rejoined(), 3u);
    EXPECT_EQ(two->rejoined(), 3u);
}

TEST_F(ShareTest, AManagerThatEndsTellsItsClients) {
    auto manager = std::make_unique<ManagerProcess>(hosts, quick());
    auto client = join(1);
    ASSERT_TRUE(client->flush_blocks());
    manager->manager->end({Errc::disconnected, "closed for the night"});
    manager->end();
    std::optional<Result<>> answer;
    if (client->flush([&](Result<> result) { answer = std::move(result); }))
        while (client->poll()) {
        }
    const auto error = client->flush_blocks().error();
    EXPECT_EQ(error.code(), Errc::disconnected);
    EXPECT_NE(error.message().find("closed for the night"), std::string::npos);
    EXPECT_FALSE(answer && answer->has_value());
}

TEST_F(ShareTest, ALoanThatEndsEndsTheClientWithItsReason) {
    ManagerProcess manager(hosts, quick());
    auto client = join(1), other = join(2);
    client.process->loan.end({Errc::stale_epoch, "reclaimed by an operator"});
    ASSERT_TRUE(eventually([&] { return !client->poll(); }));
    EXPECT_EQ(client->flush_blocks().error().code(), Errc::stale_epoch);
    EXPECT_TRUE(other->flush_blocks());
}

TEST_F(ShareTest, WithoutANewManagerCommandsAreAnsweredInTheEnd) {
    auto manager = std::make_unique<ManagerProcess>(hosts, quick());
    auto client = join(1, {.manager_timeout = std::chrono::milliseconds(200)});
    manager->process.fabric.die(); // nobody is told
    manager->end();                // and the controller is disabled
    const auto outcome = client->flush_blocks();
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code(), Errc::unavailable);
    // But a new one is joined even then.
    ManagerProcess next(hosts, quick());
    EXPECT_TRUE(eventually([&] { return client->poll() && client->rejoined() == 1; }));
    EXPECT_TRUE(client->flush_blocks());
}

TEST_F(ShareTest, ADriveThatDiesEndsEverybodyInTime) {
    ManagerProcess manager(hosts, quick());
    auto client = join(1, {.manager_timeout = std::chrono::milliseconds(200)});
    Load load(*client.drive, 0, 1);
    ASSERT_TRUE(load.run(100));
    hosts.drive.kill();
    const auto start = io::system_clock().now();
    EXPECT_FALSE(load.run(1'000'000));
    EXPECT_LT(io::system_clock().now() - start, std::chrono::seconds(10));
    EXPECT_FALSE(manager.manager->check());
}

// The order of magnitude only, and while the machine has time for all threads; exact shares are the pacer's
// tests.
TEST_F(ShareTest, WeightsCountMoreThanDepths) {
    ManagerProcess manager(hosts, quick("[[client]]\nhosts='host1'\nusers='*'\nweight=4\n"
                                        "[[client]]\nhosts='*'\nusers='*'\nweight=1"));
    constexpr uint64_t transfer_bytes = 64 << 10; // so that the drive has more to do than its clients
    std::array<std::atomic<uint64_t>, 2> answered{};
    std::atomic<bool> stop{false};
    const auto run = [&](uint32_t node, uint16_t depth) {
        auto client = join(node, {.depth = depth});
        auto buffer = client->allocate(transfer_bytes).value();
        const auto blocks = static_cast<uint32_t>(transfer_bytes / client->block_bytes());
        auto& count = answered[node - 1];
        while (!stop) {
            while (
                client->read({0, blocks, 0}, buffer, [&count](const Result<>& r) { count += r ? 1 : 0; })) {
            }
            ASSERT_TRUE(client->poll());
            std::this_thread::yield();
        }
        while (client->outstanding() > 0)
            ASSERT_TRUE(client->poll());
    };
    auto heavy = std::async(std::launch::async, [&] { run(1, 16); });
    auto deep = std::async(std::launch::async, [&] { run(2, 128); });
    double ratio = 0;
    for (int attempt = 0; attempt < 40 && (ratio < 3 || ratio > 5); ++attempt) {
        const std::array before{answered[0].load(), answered[1].load()};
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        ratio = static_cast<double>(answered[0] - before[0]) / static_cast<double>(answered[1] - before[1]);
    }
    stop = true;
    heavy.get();
    deep.get();
    EXPECT_GE(ratio, 3);
    EXPECT_LE(ratio, 5);
}

} // namespace
} // namespace lanepool::integration
