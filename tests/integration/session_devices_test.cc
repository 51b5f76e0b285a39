// SPDX-License-Identifier: Apache-2.0
//
// Programs that drive a device of another host by lanepool/smartio.h, the whole way.
#include "integration/application_hosts.h"
#include "integration/nvme_class.h"
#include "integration/nvme_drive.h"
#include "lanepool/device_function.h"
#include "lanepool/smartio.h"
#include "nvme/borrowed/borrowed_memory.h"
#include "nvme/driver.h"
#include "nvme/io_commands.h"

#include <atomic>
#include <cstring>
#include <future>

namespace lanepool::test {
namespace {

using std::chrono::seconds;

constexpr uint64_t page = 4096;
constexpr seconds patience{20};

template <class T>
Errc code(const Result<T>& result) {
    EXPECT_FALSE(result) << "it should have failed";
    return result ? Errc::internal : result.error().code();
}

// Host 0 lends the device at SOCKET; programs of host 1 borrow, and have friends on host 0.
struct World {
    World(const std::filesystem::path& socket, smartio::DeviceClass& device_class)
        : fabric(folder, 2), store(fabric, folder, 0), a(fabric, folder, 1, &controller),
          lending(store.host, socket, seconds(4), smartio::LenderOptions{}, device_class),
          controller(lending, store.host) {
        controller.borrower = &a;
        EXPECT_TRUE(eventually([&] { return a.sees(store) && store.sees(a); }));
        must(lending.reset());
        counts = a.counts();
        session = must(Session::open({.socket = a.socket()}));
    }
    ~World() {
        session.reset();
        EXPECT_TRUE(eventually([&] { return a.counts() == counts; })) << a.counts() << counts;
        controller.stop();
        store.die(); // before the lender goes
        a.die();
    }
    // The pool takes the device back, whatever its user does.
    void reclaim() { must(controller.end(1, true)); }

    TemporaryFolder folder;
    Fabric fabric;
    ApplicationHost store;
    ApplicationHost a;
    Lending lending;
    OneDevice controller;
    Json counts;
    std::optional<Session> session;
};

// A program that has borrowed the copy engine.
class BorrowedEngine : public testing::Test {
  protected:
    void borrow(BorrowOptions options = {}) {
        device =
            must(Device::borrow(*world.session, test_fdid, Sharing::exclusive, patience, std::move(options)));
        registers = must(device->bar(0));
        // Of this BAR one page is memory; the rest is reached by calls.
        EXPECT_FALSE(registers->mappable());
        EXPECT_EQ(code(registers->map()), Errc::not_supported);
        doorbell = must(registers->map({.offset_bytes = copy_engine::doorbell, .size_bytes = page}));
    }
    uint64_t read(uint64_t offset, unsigned width = 4) { return must(registers->read(offset, width)); }
    // Whether the device has copied a page.
    bool copy(uint64_t from, uint64_t to) {
        const auto copies = read(copy_engine::copies), failures = read(copy_engine::failures);
        must(registers->write(copy_engine::source, 8, from));
        must(registers->write(copy_engine::destination, 8, to));
        must(registers->write(copy_engine::size, 4, page));
        std::atomic_ref(*reinterpret_cast<uint32_t*>(doorbell.data())) = ++rung;
        bool copied = false;
        EXPECT_TRUE(eventually([&] {
            copied = read(copy_engine::copies) != copies;
            return copied || read(copy_engine::failures) != failures;
        }));
        return copied;
    }
    // ... from the first page of MEMORY, as the device sees it at ADDRESS, to the second.
    bool copies(std::span<std::byte> memory, uint64_t address) {
        std::memset(memory.data(), 7, page);
        return copy(address, address + page) && memory[2 * page - 1] == std::byte{7};
    }

    TemporaryFolder folder;
    ServedEngine engine{folder};
    CopyEngineClass engine_class;
    World world{engine.path(), engine_class};
    std::optional<Device> device;
    std::optional<DeviceBar> registers;
    MappedRange doorbell;
    uint32_t rung = 0;
};

TEST_F(BorrowedEngine, IsListedAndKnown) {
    const auto list = must(Device::list(*world.session, {.class_code = 0x088000}));
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].fdid, test_fdid);
    EXPECT_TRUE(must(Device::list(*world.session, {.class_code = 0x010802})).empty());
    borrow();
    EXPECT_EQ(device->identity().vendor_id, 0x1b36);
    EXPECT_EQ(device->node(), world.store.node());
    EXPECT_EQ(device->loan(), 1u);
    EXPECT_EQ(device->due_us(), 1234u);
    EXPECT_EQ(device->interrupts(), copy_engine::msi_vectors);
    EXPECT_EQ(code(device->bar(1)), Errc::not_found);
    must(registers->write(copy_engine::scratch, 8, 0x1122334455667788));
    EXPECT_EQ(read(copy_engine::scratch, 8), 0x1122334455667788u);
}

TEST_F(BorrowedEngine, CopiesInMemoryOfTheProgram) {
    borrow();
    auto segment = must(Segment::create(*world.session, {.size_bytes = 4 * page, .is_private = true}));
    auto mapping = must(device->map(segment, {.offset_bytes = page, .size_bytes = 2 * page}));
    const auto interrupt = must(create_eventfd());
    must(device->set_interrupt(0, interrupt));
    EXPECT_TRUE(copies(segment.bytes().subspan(page), mapping.address()));
    EXPECT_TRUE(eventually([&] { return drain(interrupt) > 0; }));
    EXPECT_EQ(code(segment.remove()), Errc::busy);
    must(mapping.unmap());
    EXPECT_FALSE(copy(mapping.address(), mapping.address() + page));
    EXPECT_TRUE(segment.remove());
    EXPECT_TRUE(device->give_back());
}

TEST_F(BorrowedEngine, CopiesInMemoryOfAnotherHost) {
    auto there = must(Session::open({.socket = world.store.socket()}));
    std::optional<Segment> theirs = must(Segment::create(there, {.size_bytes = 2 * page, .id = 9}));
    must(theirs->set_available(true));
    borrow();
    std::promise<void> lost;
    auto remote = must(RemoteSegment::connect(*world.session, there.node(), 9, patience,
                                              {.on_lost = [&](const Error&) { lost.set_value(); }}));
    const auto mapping = must(device->map(remote));
    EXPECT_TRUE(copies(theirs->bytes(), mapping.address()));
    EXPECT_EQ(code(remote.disconnect()), Errc::busy);
    // Its owner takes it away: the device must not reach what comes to lie there.
    theirs.reset();
    EXPECT_EQ(lost.get_future().wait_for(patience), std::future_status::ready);
    EXPECT_TRUE(eventually([&] { return !copy(mapping.address(), mapping.address() + page); }));
}

TEST_F(BorrowedEngine, HasMemoryBesideIt) {
    borrow();
    must(device->create_memory(4, 2 * page, DeviceMemoryScope::loan));
    EXPECT_EQ(code(device->create_memory(4, 2 * page, DeviceMemoryScope::loan)), Errc::already_exists);
    const auto beside = must(device->connect_memory(4, DeviceMemoryScope::loan));
    const auto view = must(beside.map());
    EXPECT_TRUE(copies(view.bytes(), must(device->map(beside)).address()));
    must(device->remove_memory(4, DeviceMemoryScope::loan));
    EXPECT_EQ(code(device->connect_memory(4, DeviceMemoryScope::loan)), Errc::not_found);
}

TEST_F(BorrowedEngine, IsLostWhenItIsReclaimed) {
    std::promise<Errc> lost;
    borrow({.on_lost = [&](const Error& why) { lost.set_value(why.code()); }});
    auto segment = must(Segment::create(*world.session, {.size_bytes = 2 * page}));
    const auto mapping = must(device->map(segment));
    world.reclaim();
    auto told = lost.get_future();
    ASSERT_EQ(told.wait_for(patience), std::future_status::ready);
    EXPECT_EQ(told.get(), Errc::disconnected);
    std::atomic_ref(*reinterpret_cast<uint32_t*>(doorbell.data())) = ++rung; // rings nobody's
    EXPECT_EQ(code(registers->read(copy_engine::copies, 4)), Errc::disconnected);
    EXPECT_EQ(code(device->map(segment)), Errc::disconnected);
    EXPECT_TRUE(segment.remove());
    registers.reset();
    device.reset();
    borrow(); // it may be borrowed anew
    EXPECT_EQ(read(copy_engine::copies), 0u);
}

// Our NVMe driver in a program, on a drive of another host. With MAPPED registers nothing that it does is a
// message.
class BorrowedDrive : public testing::TestWithParam<bool> {
  protected:
    static constexpr uint64_t drive_bytes = 16 << 20;
    integration::NvmeDrive drive{drive_bytes, {.serial = {}, .map_registers = GetParam()}};
    NvmeClass nvme_class;
    World world{drive.socket(), nvme_class};
};

TEST_P(BorrowedDrive, IsWrittenAndReadInPlace) {
    using namespace nvme;
    const auto function =
        must(DeviceFunction::borrow(*world.session, test_fdid, Sharing::exclusive, patience));
    const auto memory = std::make_shared<BorrowedMemory>(*world.session, function->device());
    const auto driver = must(
        Driver::create(*function, io::system_clock(),
                       {.reset = DriverOptions::Reset::never, .interrupt_vectors = 1, .allocator = memory}));
    EXPECT_EQ(driver->info().serial, "INTEGRATION1");
    EXPECT_TRUE(driver->doorbells_mapped());
    auto* queue = must(driver->create_queue({.depth = 8, .interrupt_vector = 0}));
    const auto ns = driver->namespaces().at(0);
    auto buffer = must(driver->allocate(2 * page));
    const auto bytes = buffer.bytes();
    for (uint32_t i = 0; i < 20; ++i) {
        std::memset(bytes.data(), static_cast<int>(i + 1), page);
        ASSERT_TRUE(queue->execute(must(make_write(ns, i * 8, 8, {buffer})), patience).ok());
        ASSERT_TRUE(queue->execute(must(make_read(ns, i * 8, 8, {buffer, page})), patience).ok());
        ASSERT_EQ(std::memcmp(bytes.data(), bytes.data() + page, page), 0);
    }
    EXPECT_GT(drain(driver->interrupt(0)), 0u);
    EXPECT_TRUE(driver->shut_down());
}

INSTANTIATE_TEST_SUITE_P(Registers, BorrowedDrive, testing::Bool());

} // namespace
} // namespace lanepool::test
