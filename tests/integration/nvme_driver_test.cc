// SPDX-License-Identifier: Apache-2.0
//
// Our NVMe driver on our NVMe model, over its socket: each was written against the specification, not against
// the other.
#include "integration/nvme_drive.h"
#include "nvme/driver.h"
#include "nvme/io_commands.h"
#include "nvme/wipe.h"

#include <cstring>
#include <poll.h>
#include <random>

namespace lanepool::integration {
namespace {

using namespace nvme;

constexpr uint64_t drive_bytes = 64 << 20;
constexpr io::Duration second = std::chrono::seconds(1);

class NvmeDriverTest : public testing::Test {
  protected:
    void start(DriverOptions options = {}) {
        function = drive.connect();
        auto created = Driver::create(*function, io::system_clock(), options);
        ASSERT_TRUE(created) << created.error().message();
        driver = std::move(*created);
        auto made = driver->create_queue({.depth = 32});
        ASSERT_TRUE(made) << made.error().message();
        queue = *made;
        ASSERT_EQ(driver->namespaces().size(), 1u);
        ns = driver->namespaces()[0];
    }
    Outcome run(const Command& command) { return queue->execute(command, 10 * second); }

    NvmeDrive drive{drive_bytes};
    std::unique_ptr<pci::Function> function;
    std::unique_ptr<Driver> driver;
    QueuePair* queue = nullptr;
    NamespaceInfo ns;
};

// What every block of the drive should hold: who wrote it last, or zeroes.
class Oracle {
  public:
    explicit Oracle(uint64_t pages) : version_(pages) {}
    uint64_t& version(uint64_t page) { return version_[page]; }
    static void fill(std::span<std::byte> page, uint64_t number, uint64_t version) {
        for (size_t i = 0; i < page.size(); i += 16) {
            const uint64_t words[] = {version == 0 ? 0 : number ^ i << 32, version};
            std::memcpy(&page[i], words, sizeof words);
        }
    }
    bool matches(std::span<const std::byte> page, uint64_t number) const {
        std::array<std::byte, 4096> expected;
        fill(expected, number, version_[number]);
        return std::memcmp(page.data(), expected.data(), expected.size()) == 0;
    }

  private:
    std::vector<uint64_t> version_;
};

TEST_F(NvmeDriverTest, TellsWhoItIs) {
    start();
    EXPECT_EQ(driver->info().serial, "INTEGRATION1");
    EXPECT_EQ(ns.size_bytes(), drive_bytes);
    EXPECT_TRUE(driver->doorbells_mapped());
    const auto smart = driver->admin().smart_log();
    ASSERT_TRUE(smart) << smart.error().message();
    EXPECT_GT(smart->temperature_k, 250);
    const auto cache = driver->admin().get_feature(Feature::volatile_write_cache);
    ASSERT_TRUE(cache) << cache.error().message();
    ASSERT_TRUE(driver->admin().set_feature(Feature::volatile_write_cache, *cache ^ 1));
    EXPECT_EQ(driver->admin().get_feature(Feature::volatile_write_cache).value(), *cache ^ 1);
    EXPECT_EQ(driver->admin().get_feature(static_cast<Feature>(0x7f)).error().code(), Errc::io);
    EXPECT_TRUE(driver->shut_down());
}

// Writes, reads, zeroes and deallocates pages of 4 KiB, alone and in long runs, 32 at a time; nobody touches
// a page that somebody else is at.
TEST_F(NvmeDriverTest, ManyCommandsAtATimeKeepTheirData) {
    start();
    constexpr uint32_t slot_bytes = 192 * 1024;
    const uint32_t blocks_per_page = 4096 / ns.block_bytes;
    const uint64_t most_pages = std::min<uint64_t>(slot_bytes, ns.max_transfer_bytes) / 4096;
    auto memory = driver->allocate(32 * slot_bytes).value();
    Oracle oracle(drive_bytes / 4096);
    std::vector<bool> taken(drive_bytes / 4096);
    std::vector<uint32_t> slots;
    for (uint32_t i = 0; i < 32; ++i)
        slots.push_back(i);
    std::mt19937_64 random(42);
    uint64_t mismatches = 0, failures = 0, version = 0, finished = 0;

    const auto submit_one = [&] {
        const uint32_t slot = slots.back();
        const uint64_t pages = random() % 4 ? 1 : 1 + random() % most_pages;
        const uint64_t first = random() % (taken.size() - pages + 1);
        for (uint64_t page = first; page < first + pages; ++page)
            if (taken[page]) return;
        std::fill_n(taken.begin() + static_cast<ptrdiff_t>(first), pages, true);
        slots.pop_back();
        const auto page_of = [&memory, slot](uint64_t i) {
            return memory.bytes().subspan(slot * slot_bytes + i * 4096, 4096);
        };
        const auto blocks = static_cast<uint32_t>(pages * blocks_per_page);
        const auto kind = random() % 8;
        Result<Command> command;
        if (kind < 4) {
            std::memset(page_of(0).data(), 0xee, pages * 4096);
            command = make_read(ns, first * blocks_per_page, blocks, {memory, slot * slot_bytes});
        } else if (kind < 7) {
            ++version;
            for (uint64_t i = 0; i < pages; ++i) {
                oracle.version(first + i) = version;
                Oracle::fill(page_of(i), first + i, version);
            }
            command = make_write(ns, first * blocks_per_page, blocks, {memory, slot * slot_bytes});
        } else {
            for (uint64_t i = 0; i < pages; ++i)
                oracle.version(first + i) = 0;
            command = make_write_zeroes(ns, first * blocks_per_page, blocks, random() % 2 != 0);
        }
        ASSERT_TRUE(command) << command.error().message();
        ASSERT_TRUE(
            queue->submit(*command, 10 * second, [&, slot, first, pages, kind, page_of](const Outcome& o) {
                if (!o.ok()) ++failures;
                for (uint64_t i = 0; i < pages && kind < 4; ++i)
                    if (!oracle.matches(page_of(i), first + i)) ++mismatches;
                std::fill_n(taken.begin() + static_cast<ptrdiff_t>(first), pages, false);
                slots.push_back(slot);
                ++finished;
            }));
    };
    const uint64_t messages_before = drive.messages();
    while (finished < 6000) {
        for (int i = 0; i < 8 && !slots.empty(); ++i)
            submit_one();
        const auto answered = queue->poll();
        ASSERT_TRUE(answered) << answered.error().message();
        if (*answered == 0)
            std::this_thread::yield(); // to the drive, where there are more threads than cores
    }
    while (queue->in_flight() > 0)
        ASSERT_TRUE(queue->poll());
    EXPECT_EQ(mismatches, 0u);
    EXPECT_EQ(failures, 0u);
    // None of it took a message: doorbells, queues and data are memory.
    EXPECT_LE(drive.messages() - messages_before, 20u); // health is asked after when all wait for long
    EXPECT_TRUE(run(make_flush(ns)).ok());
}

TEST_F(NvmeDriverTest, DeallocatedBlocksReadAsZeroes) {
    start();
    auto memory = driver->allocate(8192).value();
    std::memset(memory.bytes().data(), 0x77, 4096);
    const uint32_t blocks = 4096 / ns.block_bytes;
    ASSERT_TRUE(run(make_write(ns, 0, blocks, {memory}).value()).ok());
    DsmRange range;
    range.blocks = blocks;
    ASSERT_TRUE(run(make_deallocate(ns, std::span(&range, 1), {memory, 4096}).value()).ok());
    ASSERT_TRUE(run(make_read(ns, 0, blocks, {memory}).value()).ok());
    EXPECT_EQ(memory.bytes()[0], std::byte{0});
    EXPECT_EQ(std::memcmp(memory.bytes().data(), memory.bytes().data() + 1, 4095), 0);
}

TEST_F(NvmeDriverTest, TheDriveRefusesWhatLiesOutside) {
    start();
    auto memory = driver->allocate(4096).value();
    auto command = make_read(ns, 0, 1, {memory}).value();
    command.cdw10 = static_cast<uint32_t>(ns.blocks);
    EXPECT_EQ(run(command).status.code(), StatusCode::lba_out_of_range);
    command = make_read(ns, 0, 1, {memory}).value();
    command.opcode = 0x7f;
    EXPECT_EQ(run(command).status.code(), StatusCode::invalid_opcode);
    EXPECT_TRUE(run(make_read(ns, 0, 1, {memory}).value()).ok());
}

TEST_F(NvmeDriverTest, InterruptsComeByEventfd) {
    start({.interrupt_vectors = 2});
    auto* interrupting = driver->create_queue({.depth = 4, .interrupt_vector = 1}).value();
    bool answered = false;
    ASSERT_TRUE(
        interrupting->submit(make_flush(ns), 10 * second, [&](const Outcome& o) { answered = o.ok(); }));
    ASSERT_TRUE(interrupting->ring());
    pollfd wait{driver->interrupt(1).get(), POLLIN, 0};
    ASSERT_EQ(::poll(&wait, 1, 5000), 1);
    EXPECT_EQ(drain(driver->interrupt(1)), 1u);
    ASSERT_TRUE(interrupting->poll());
    EXPECT_TRUE(answered);
}

TEST_F(NvmeDriverTest, AQueueCanBeDeletedAndMadeAgain) {
    start();
    const auto id = queue->id();
    ASSERT_TRUE(driver->delete_queue(*queue));
    queue = driver->create_queue({.depth = 7}).value();
    EXPECT_EQ(queue->id(), id);
    for (int i = 0; i < 100; ++i)
        ASSERT_TRUE(run(make_flush(ns)).ok());
}

// Fills the queue with reads, and lets REST happen while they are under way.
class Interrupted : public NvmeDriverTest {
  protected:
    void fill() {
        start();
        memory = driver->allocate(32 * 65536).value();
        const auto blocks =
            static_cast<uint32_t>(std::min<uint64_t>(65536, ns.max_transfer_bytes) / ns.block_bytes);
        for (uint32_t i = 0; i < 32; ++i)
            ASSERT_TRUE(queue->submit(make_read(ns, i * 64, blocks, {memory, i * 65536}).value(), timeout,
                                      [this](const Outcome& o) { outcomes.push_back(o); }));
        ASSERT_TRUE(queue->ring());
    }
    // Until all have been answered, one way or another; the time that took.
    io::Duration wait() {
        const auto start = io::system_clock().now();
        while (outcomes.size() < 32 && io::system_clock().now() - start < 50 * second)
            static_cast<void>(queue->poll());
        EXPECT_EQ(outcomes.size(), 32u);
        return io::system_clock().now() - start;
    }
    void expect_good_again() {
        memory = {};
        driver.reset();
        function.reset();
        start();
        auto page = driver->allocate(4096).value();
        EXPECT_TRUE(run(make_read(ns, 0, 1, {page}).value()).ok());
    }

    io::Duration timeout = 60 * second;
    DmaMemory memory;
    std::vector<Outcome> outcomes;
};

TEST_F(Interrupted, AResetInMidFlightLosesNobody) {
    fill();
    ASSERT_TRUE(function->reset());
    ASSERT_TRUE(verify_reset(*function));
    EXPECT_LT(wait(), 20 * second);
    bool lost = false;
    for (const auto& outcome : outcomes) {
        EXPECT_TRUE(outcome.ok() || outcome.lost == Errc::cancelled);
        lost |= !outcome.ok();
    }
    // A drive that was quicker than the reset has lost nothing, and its queue has had nothing to notice.
    EXPECT_EQ(queue->broken().has_value(), lost);
    expect_good_again();
}

TEST_F(Interrupted, ADeviceThatDiesInMidFlightIsNoticedSoon) {
    fill();
    drive.kill();
    EXPECT_LT(wait(), 20 * second);
    for (const auto& outcome : outcomes)
        EXPECT_TRUE(outcome.ok() || outcome.lost == Errc::disconnected);
    EXPECT_EQ(Driver::create(*function, io::system_clock()).error().code(), Errc::disconnected);
    EXPECT_EQ(verify_reset(*function).error().code(), Errc::disconnected);
}

TEST_F(Interrupted, ADeviceThatHangsRunsIntoTheDeadline) {
    timeout = second;
    start();
    drive.hang(true);
    auto page = driver->allocate(4096).value();
    const auto begun = io::system_clock().now();
    const auto outcome = queue->execute(make_read(ns, 0, 1, {page}).value(), second);
    EXPECT_EQ(outcome.lost, Errc::timeout);
    EXPECT_LT(io::system_clock().now() - begun, 5 * second);
    EXPECT_EQ(queue->abandoned(), 1);
    Command abort_nothing;
    abort_nothing.opcode = static_cast<uint8_t>(AdminOpcode::abort);
    EXPECT_EQ(driver->admin().execute(abort_nothing, "abort", second).error().code(), Errc::timeout);
    drive.hang(false);
    page = {};
    expect_good_again();
}

class Wipe : public NvmeDriverTest {
  protected:
    // Writes something everywhere.
    void dirty() {
        start();
        auto memory = driver->allocate(65536).value();
        std::memset(memory.bytes().data(), 0x5a, memory.size_bytes());
        const uint32_t blocks = 65536 / ns.block_bytes;
        for (uint64_t block = 0; block < ns.blocks; block += blocks)
            ASSERT_TRUE(run(make_write(ns, block, blocks, {memory}).value()).ok());
        ASSERT_TRUE(run(make_flush(ns)).ok());
    }
    void leave() {
        driver.reset();
        function.reset();
    }
    // Looks at the file behind the drive, past everything that is tested here.
    bool file_is_empty() const {
        std::FILE* file = std::fopen(drive.file().c_str(), "rb");
        std::vector<char> data(drive_bytes);
        const size_t read = std::fread(data.data(), 1, data.size(), file);
        std::fclose(file);
        return read == drive_bytes && data[0] == 0 &&
               std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0;
    }
};

TEST_F(Wipe, LeavesNothing) {
    dirty();
    leave();
    EXPECT_FALSE(file_is_empty());
    function = drive.connect();
    WipeOptions options;
    options.deadline = io::system_clock().now() + 30 * second;
    options.seed = 7;
    bool progress = false;
    options.on_progress = [&](const WipeProgress&) { progress = true; };
    const auto report = wipe(*function, io::system_clock(), options);
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_EQ(report->method, WipeMethod::sanitize_block_erase);
    EXPECT_GT(report->blocks_verified, 0u);
    EXPECT_TRUE(progress);
    EXPECT_TRUE(file_is_empty());
    // Nothing of ours is left: another driver may map the same addresses at once.
    EXPECT_EQ(drive.call([](auto& controller) { return controller.dma_regions(); }), 0u);
    EXPECT_TRUE(Driver::create(*function, io::system_clock()));
}

TEST_F(Wipe, TakesADriveThatItsBorrowerLeftRunning) {
    dirty();
    // The borrower vanishes with commands under way; its connection stays for the lender, as after a loan.
    auto memory = driver->allocate(65536).value();
    for (int i = 0; i < 16; ++i)
        ASSERT_TRUE(queue->submit(make_read(ns, 0, 65536 / ns.block_bytes, {memory}).value(), second, {}));
    ASSERT_TRUE(queue->ring());
    ASSERT_TRUE(function->reset());
    ASSERT_TRUE(verify_reset(*function));
    memory = {};
    driver.reset();
    const auto report = wipe(*function, io::system_clock(), {.seed = 3, .on_progress = {}});
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_TRUE(file_is_empty());
}

TEST_F(Wipe, AHungDriveRunsIntoTheDeadline) {
    dirty();
    leave();
    function = drive.connect();
    drive.hang(true);
    WipeOptions options;
    options.deadline = io::system_clock().now() + second;
    const auto begun = io::system_clock().now();
    const auto report = wipe(*function, io::system_clock(), options);
    EXPECT_FALSE(report);
    EXPECT_LT(io::system_clock().now() - begun, 10 * second);
    drive.hang(false);
}

TEST_F(Wipe, OtherMethodsLeaveNothingEither) {
    dirty();
    ASSERT_TRUE(driver->info().oacs & oacs::format);
    ASSERT_TRUE(driver->admin().format(ns.nsid, ns.format, format_command::ses_user_data, 10 * second));
    EXPECT_TRUE(file_is_empty());
    leave();
    dirty();
    for (const auto action : {SanitizeAction::crypto_erase, SanitizeAction::overwrite}) {
        const bool offered =
            driver->info().sanicap &
            (action == SanitizeAction::overwrite ? sanicap::overwrite : sanicap::crypto_erase);
        EXPECT_EQ(driver->admin().start_sanitize(action).has_value(), offered);
        if (!offered) continue;
        const auto begun = io::system_clock().now();
        while ((driver->admin().sanitize_status().value().status & sanitize_status::outcome_mask) ==
               sanitize_status::in_progress)
            ASSERT_LT(io::system_clock().now() - begun, 20 * second);
        EXPECT_TRUE(file_is_empty());
    }
}

TEST_F(Wipe, IdentifiesWithoutATrace) {
    function = drive.connect();
    const auto identity = identify(*function);
    ASSERT_TRUE(identity) << identity.error().message();
    EXPECT_EQ(identity->serial, "INTEGRATION1");
    EXPECT_EQ(identity->capacity_bytes, drive_bytes);
    EXPECT_EQ(drive.call([](auto& controller) { return controller.dma_regions(); }), 0u);
    EXPECT_TRUE(verify_reset(*function));
}

} // namespace
} // namespace lanepool::integration
