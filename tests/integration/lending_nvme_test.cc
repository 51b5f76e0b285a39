// SPDX-License-Identifier: Apache-2.0
//
// The NVMe model lent over the fabric, with our own driver in the place of the guest's.
#include "integration/lending_hosts.h"
#include "integration/nvme_class.h"

#include "nvme/driver.h"
#include "nvme/io_commands.h"
#include "nvme/model/poller.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace lanepool::test {
namespace {

constexpr uint64_t drive_bytes = 16 << 20;

// The model on a thread of its own.
class Drive {
  public:
    explicit Drive(const TemporaryFolder& folder) : socket(folder / "nvme") {
        loop_ = must(io::EventLoop::create());
        media_ = must(nvme::model::Media::open({.file = folder / "blocks", .size_bytes = drive_bytes}));
        controller_ = must(nvme::model::Controller::create({"LENT-1"}, *media_, loop_->clock()));
        poller_ = must(nvme::model::Poller::create(*loop_, *media_, *controller_));
        server =
            must(vfio_user::Server::create(*loop_, socket, *controller_, {std::chrono::seconds(2), true}));
        thread_ = std::thread([this] { poller_->run(); });
    }
    ~Drive() {
        loop_->stop();
        thread_.join();
        server.reset();
    }
    const std::filesystem::path socket;
    std::unique_ptr<vfio_user::Server> server;

  private:
    std::unique_ptr<io::EventLoop> loop_;
    std::unique_ptr<nvme::model::Media> media_;
    std::unique_ptr<nvme::model::Controller> controller_;
    std::unique_ptr<nvme::model::Poller> poller_;
    std::thread thread_;
};

// A driver on a borrowed drive, with a queue and a buffer.
struct User {
    explicit User(const std::filesystem::path& socket)
        : device(must(vfio_user::connect(socket, {std::chrono::seconds(10), false}))),
          driver(must(nvme::Driver::create(*device, io::system_clock()))),
          queue(must(driver->create_queue({}))), buffer(must(driver->allocate(65536))) {}

    nvme::Outcome run(const Result<nvme::Command>& command) {
        return queue->execute(must(Result<nvme::Command>(command)), std::chrono::seconds(10));
    }
    bool write(uint64_t block, uint8_t value) {
        std::memset(buffer.bytes().data(), value, buffer.size_bytes());
        return run(nvme::make_write(ns(), block, blocks(), {buffer})).ok();
    }
    // The byte that all of the blocks hold; nothing if they differ or cannot be read.
    std::optional<uint8_t> read(uint64_t block) {
        if (!run(nvme::make_read(ns(), block, blocks(), {buffer})).ok()) return std::nullopt;
        const auto first = buffer.bytes()[0];
        for (const auto byte : buffer.bytes())
            if (byte != first) return std::nullopt;
        return std::to_integer<uint8_t>(first);
    }
    const nvme::NamespaceInfo& ns() { return driver->namespaces().at(0); }
    uint32_t blocks() { return static_cast<uint32_t>(buffer.size_bytes() / ns().block_bytes); }

    std::unique_ptr<pci::Function> device;
    std::unique_ptr<nvme::Driver> driver;
    nvme::QueuePair* queue;
    nvme::DmaMemory buffer;
};

class LentDrive : public testing::Test {
  protected:
    LentDrive() : fabric(folder, 3), store(fabric, 0), a(fabric, 1), b(fabric, 2), drive(folder) {}
    void SetUp() override {
        ASSERT_TRUE(eventually([&] {
            return store.sees(a) && store.sees(b) && a.sees(store) && b.sees(store) && a.sees(b) && b.sees(a);
        }));
        lending.emplace(store, drive.socket, std::chrono::seconds(4), smartio::LenderOptions{}, nvme_class);
        ASSERT_TRUE(lending->reset());
    }
    std::unique_ptr<Borrowing> borrow(Host& host, uint64_t loan) {
        must(lending->prepare(loan, loan, host));
        auto borrowing =
            std::make_unique<Borrowing>(host, store, folder, smartio::LoanKey{test_fdid, loan, loan});
        must(borrowing->attach());
        return borrowing;
    }

    TemporaryFolder folder;
    Fabric fabric;
    Host store;
    Host a;
    Host b;
    Drive drive;
    NvmeClass nvme_class;
    std::optional<Lending> lending;
};

TEST_F(LentDrive, BlocksGoToAndFroWithoutAMessage) {
    const auto borrowing = borrow(a, 1);
    User user(borrowing->socket());
    ASSERT_TRUE(user.driver->doorbells_mapped());
    ASSERT_TRUE(user.write(0, 0x11));
    const auto messages = [&] {
        const auto& stats = drive.server->stats();
        return stats.region_reads + stats.region_writes + stats.dma_reads + stats.dma_writes + stats.other;
    };
    const uint64_t on_drive = messages();
    const uint64_t served = borrowing->served_accesses();
    const uint64_t on_fabric = fabric.messages();
    for (uint8_t i = 1; i <= 100; ++i) {
        ASSERT_TRUE(user.write(128, i));
        ASSERT_EQ(user.read(128), i);
    }
    EXPECT_EQ(user.read(0), 0x11);
    EXPECT_EQ(messages(), on_drive);
    EXPECT_EQ(borrowing->served_accesses(), served);
    EXPECT_LT(fabric.messages(), on_fabric + 20); // the agents' heart-beats
}

TEST_F(LentDrive, TheNextBorrowerFindsItEmptyAndUndisturbed) {
    const auto first = borrow(a, 1);
    User before(first->socket());
    ASSERT_TRUE(before.write(0, 0xaa));
    ASSERT_TRUE(lending->cut(1));
    ASSERT_TRUE(lending->reset());
    ASSERT_TRUE(lending->wipe(std::chrono::seconds(20)));

    const auto second = borrow(b, 2);
    User after(second->socket());
    EXPECT_EQ(after.read(0), 0);
    ASSERT_TRUE(after.write(0, 0xbb));
    // The first driver still has its queues, its buffer and its doorbells, and does not know.
    std::memset(before.buffer.bytes().data(), 0xee, before.buffer.size_bytes());
    for (int i = 0; i < 20; ++i) {
        const auto write = nvme::make_write(before.ns(), 0, before.blocks(), {before.buffer});
        if (before.queue->submit(*write, std::chrono::seconds(1), [](auto&) {})) [[maybe_unused]]
            const auto rung = before.queue->ring();
    }
    for (uint8_t i = 1; i <= 50; ++i) {
        ASSERT_TRUE(after.write(256, i));
        ASSERT_EQ(after.read(256), i);
    }
    EXPECT_EQ(after.read(0), 0xbb);
    EXPECT_TRUE(
        std::ranges::all_of(before.buffer.bytes(), [](auto byte) { return byte == std::byte{0xee}; }));
}

TEST_F(LentDrive, ADriveIsFoundAgainAfterEveryWayOfEnding) {
    const auto identity = lending->identify();
    ASSERT_TRUE(identity) << identity.error().message();
    EXPECT_EQ(identity->serial, "LENT-1");
    EXPECT_EQ(identity->capacity_bytes, drive_bytes);
    for (uint64_t loan = 1; loan <= 6; ++loan) {
        const auto borrowing = borrow(loan % 2 ? a : b, loan);
        {
            User user(borrowing->socket());
            ASSERT_TRUE(user.write(0, static_cast<uint8_t>(loan)));
            if (loan % 3 == 0) {
                ASSERT_TRUE(lending->cut(loan)); // with a driver on it
            }
        }
        if (loan % 3 == 1) {
            ASSERT_TRUE(borrowing->detach());
        }
        ASSERT_TRUE(lending->cut(loan));
        ASSERT_TRUE(lending->reset());
    }
}

} // namespace
} // namespace lanepool::test
