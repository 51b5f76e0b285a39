// SPDX-License-Identifier: Apache-2.0
//
// Accesses through windows: where they arrive, and what keeps them from arriving.
#include "fabric/test_ports.h"

#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace lanepool::fabric {
namespace {

namespace switchtec = ntb::switchtec;
using pci::Region;
using switchtec::ControlOp;

constexpr uint64_t base = 0x4000'0000; // what host 1 lets its port reach starts here
constexpr uint64_t gib = uint64_t{1} << 30;

std::vector<std::byte> bytes(std::initializer_list<int> values) {
    std::vector<std::byte> result;
    for (const int value : values)
        result.push_back(static_cast<std::byte>(value));
    return result;
}

// Host 0 looks at host 1 through LUT window 0 of BAR 2.
struct Window : testing::Test {
    TestFabric f;
    void SetUp() override {
        f.bring_up(3);
        f[0].open(0, 1, base);
    }
    uint32_t read32(uint64_t offset) { return f[0].get<uint32_t>(offset, Region::bar2); }
    void write32(uint64_t offset, uint32_t value) { f[0].put<uint32_t>(offset, value, Region::bar2); }
};

TEST_F(Window, ReachesMemoryInPlace) {
    auto memory = f[1].map_memory(base, 0x4000);
    write32(0x3ffc, 0x12345678);
    EXPECT_EQ(std::to_integer<int>(memory.data()[0x3ffc]), 0x78);
    memory.data()[0] = std::byte{0x5a};
    EXPECT_EQ(read32(0), 0x5au);
    EXPECT_EQ(f[0].port().counters().window_writes, 1u);
    EXPECT_EQ(f[0].port().counters().window_reads, 1u);
    EXPECT_TRUE(f[1].client.reads.empty() && f[1].client.writes.empty());
}

TEST_F(Window, EndsWhereItEnds) {
    f[1].map_memory(base, 0x8000); // more than the window shows
    const auto data = f[0].read(Region::bar2, 0x3ffe, 4).value();
    EXPECT_EQ(data, bytes({0, 0, 0xff, 0xff}));
    EXPECT_EQ(f[0].dropped(Obstacle::no_window), 1u);
}

TEST_F(Window, NeighbouringWindowsLeadToTheirOwnPlaces) {
    auto first = f[1].map_memory(base, 0x4000);
    auto second = f[2].map_memory(0x10000, 0x4000);
    f[0].open(1, 2, 0x10000);
    must(f[0].write(Region::bar2, 0x3ffe, bytes({1, 2, 3, 4})));
    EXPECT_EQ(first.data()[0x3fff], std::byte{2});
    EXPECT_EQ(second.data()[0], std::byte{3});
}

TEST_F(Window, LargeWindowsInTheOtherBar) {
    f[0].open(256, 1, 3 * gib);
    auto memory = f[1].map_memory(3 * gib, 0x10000);
    f[0].put<uint32_t>(0xfff0, 7, Region::bar4);
    EXPECT_EQ(memory.data()[0xfff0], std::byte{7});
}

TEST_F(Window, DirectWindow) {
    f[0].operate(ControlOp::lock);
    f[0].put_direct(2, 0x200000, 22, 1, 0x8000'0000); // behind 4 MiB of LUT windows, half of what it could be
    f[0].operate(ControlOp::config);
    auto memory = f[1].map_memory(0x8000'0000, 0x200000);
    write32(0x5f'fffc, 9);
    EXPECT_EQ(memory.data()[0x1f'fffc], std::byte{9});
    EXPECT_EQ(read32(0x60'0000), 0xffff'ffff);
    EXPECT_EQ(f[0].dropped(Obstacle::no_window), 1u);
}

TEST_F(Window, UnmappedReadsAllOnes) {
    f[1].map_memory(base + 0x1000, 0x1000);
    EXPECT_EQ(f[0].read(Region::bar2, 0xffe, 4).value(), bytes({0xff, 0xff, 0, 0}));
    write32(0x2000, 1);
    EXPECT_EQ(f[0].dropped(Obstacle::not_mapped), 2u);
}

TEST_F(Window, NothingAfterUnmap) {
    auto memory = f[1].map_memory(base, 0x4000);
    must(f[1].unmap_dma(base, 0x4000));
    write32(0, 1);
    EXPECT_EQ(memory.data()[0], std::byte{0});
    EXPECT_EQ(read32(0), 0xffff'ffff);
    EXPECT_TRUE(f[0].port().memory(Region::bar2, 0, 0x4000).value().empty());
}

TEST_F(Window, NothingAfterTheTargetHasGone) {
    auto memory = f[1].map_memory(base, 0x4000);
    f[1].disconnect();
    write32(0, 1);
    EXPECT_EQ(read32(0), 0xffff'ffff);
    EXPECT_EQ(f[0].dropped(Obstacle::link_down), 2u);
    f[1].connect();
    f[1].enable();
    write32(0, 1);
    EXPECT_EQ(f[0].dropped(Obstacle::not_mapped), 1u) << "the next client has mapped nothing yet";
    EXPECT_EQ(memory.data()[0], std::byte{0});
}

TEST_F(Window, NothingWhileEitherLinkIsDown) {
    f[1].map_memory(base, 0x4000);
    for (const unsigned p : {0u, 1u}) {
        f[p].port().enable_link(false);
        EXPECT_EQ(read32(0), 0xffff'ffff);
        EXPECT_TRUE(f[0].port().memory(Region::bar2, 0, 0x4000).value().empty());
        f[p].port().enable_link(true);
        EXPECT_EQ(read32(0), 0u);
    }
    EXPECT_EQ(f[0].dropped(Obstacle::link_down), 2u);
}

TEST_F(Window, TargetMustBeBusMaster) {
    auto memory = f[1].map_memory(base, 0x4000);
    f[1].put<uint16_t>(pci::config::command, pci::command::memory_space, Region::config);
    write32(0, 1);
    EXPECT_EQ(read32(0), 0xffff'ffff);
    EXPECT_TRUE(f[0].port().memory(Region::bar2, 0, 0x4000).value().empty());
    EXPECT_EQ(f[0].dropped(Obstacle::bus_master), 2u);
    EXPECT_EQ(memory.data()[0], std::byte{0});
}

TEST_F(Window, RequesterMustBeListed) {
    f[1].map_memory(base, 0x4000);
    f[0].operate(ControlOp::lock);
    f[0].put_requester(0, static_cast<uint16_t>(host_requester.value + 1));
    f[0].operate(ControlOp::config);
    EXPECT_EQ(read32(0), 0xffff'ffff);
    EXPECT_EQ(f[0].dropped(Obstacle::requester), 1u);
}

TEST_F(Window, ResetOfTheSourceClosesIt) {
    f[1].map_memory(base, 0x4000);
    f[0].port().reset({[](Result<>) {}});
    EXPECT_EQ(read32(0), 0xffff'ffff);
    EXPECT_EQ(f[0].dropped(Obstacle::no_window), 1u);
}

TEST_F(Window, FunctionLevelResetByConfigSpaceClosesIt) {
    f[1].map_memory(base, 0x4000);
    f[0].put<uint16_t>(0x68, 0x8000, Region::config);
    EXPECT_EQ(read32(0), 0xffff'ffff);
}

TEST_F(Window, ReadOnlyMemoryIsNotWritten) {
    auto memory = f[1].map_memory(base, 0x4000, Access::read_only);
    memory.data()[0] = std::byte{3};
    write32(0, 1);
    EXPECT_EQ(read32(0), 3u);
    EXPECT_EQ(f[0].dropped(Obstacle::read_only), 1u);
    // And what is handed on does not allow it either.
    const auto extents = f[0].port().memory(Region::bar2, 0, 0x4000).value();
    ASSERT_EQ(extents.size(), 1u);
    EXPECT_EQ(fcntl(extents[0].memory.fd->get(), F_GETFL) & O_ACCMODE, O_RDONLY);
}

TEST_F(Window, ShrunkMemoryDoesNotKillTheSwitch) {
    const UniqueFd file(memfd_create("shrinks", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(file.get(), 0x4000), 0);
    must(f[1].map_dma(base, 0x4000, MemoryRef{share(file.duplicate().value()), 0, 0x4000}));
    write32(0, 5);
    EXPECT_EQ(read32(0), 5u);
    ASSERT_EQ(ftruncate(file.get(), 0), 0);
    EXPECT_EQ(read32(0), 0xffff'ffff);
    write32(0, 5);
    EXPECT_EQ(f[0].dropped(Obstacle::failed), 2u);
    EXPECT_EQ(lseek(file.get(), 0, SEEK_END), 0) << "a write does not grow the client's file";
}

TEST_F(Window, MemoryBeyondTheEndOfItsFile) {
    must(f[1].map_dma(base, 0x4000, MemoryRef{share(create_memory("short", 0x1000).value()), 0, 0x4000}));
    EXPECT_EQ(read32(0x1000), 0xffff'ffff);
    write32(0x1000, 1);
    EXPECT_EQ(f[0].dropped(Obstacle::failed), 2u);
    EXPECT_EQ(
        f[1].map_dma(2 * base, 0x4000,
                     MemoryRef{share(create_memory("far", 0x1000).value()), ~uint64_t{0} - 0x1000, 0x4000})
            .error()
            .code(),
        Errc::out_of_range);
}

TEST_F(Window, HandsOutTheDescriptorsBehindIt) {
    auto fd = share(create_memory("ram", 0x10000).value());
    must(f[1].map_dma(base, 0x1000, MemoryRef{fd, 0x2000, 0x1000}));
    must(f[1].map_dma(base + 0x1000, 0x1000, MemoryRef{fd, 0x3000, 0x1000}));
    must(f[1].map_dma(base + 0x3000, 0x1000, MemoryRef{fd, 0x8000, 0x1000}));
    const auto extents = f[0].port().memory(Region::bar2, 0x800, 0x3800).value();
    ASSERT_EQ(extents.size(), 2u) << "neighbours are joined, gaps are left out";
    EXPECT_EQ(extents[0].offset_bytes, 0x800u);
    EXPECT_EQ(extents[0].memory.offset_bytes, 0x2800u);
    EXPECT_EQ(extents[0].memory.size_bytes, 0x1800u);
    EXPECT_EQ(extents[1].offset_bytes, 0x3000u);
    EXPECT_EQ(extents[1].memory.offset_bytes, 0x8000u);
    auto mapping = Mapping::create(extents[0].memory).value();
    mapping.data()[0] = std::byte{0x42};
    EXPECT_EQ(read32(0x800), 0x42u);
}

TEST_F(Window, NeighboursInDifferentFilesAreNotJoined) {
    must(f[1].map_dma(base, 0x1000, MemoryRef{share(create_memory("a", 0x1000).value()), 0, 0x1000}));
    must(f[1].map_dma(base + 0x1000, 0x1000,
                      MemoryRef{share(create_memory("b", 0x2000).value()), 0x1000, 0x1000}));
    EXPECT_EQ(f[0].port().memory(Region::bar2, 0, 0x2000).value().size(), 2u);
}

TEST_F(Window, EventIsSignalledByWritesOfFourBytes) {
    const auto event = create_eventfd().value();
    must(f[1].map_dma(base + 0x10, 4, {}, Access::read_write, event.duplicate().value()));
    write32(0x10, 1);
    EXPECT_EQ(drain(event), 1u);
    EXPECT_EQ(read32(0x10), 0u);
    f[0].put<uint16_t>(0x10, 1, Region::bar2);
    EXPECT_EQ(drain(event), 0u);
    const auto behind = f[0].port().event(Region::bar2, 0x10).value();
    signal(behind);
    EXPECT_EQ(drain(event), 1u);
    EXPECT_EQ(f[0].port().event(Region::bar2, 0x14).error().code(), Errc::not_supported);
    f[1].port().enable_link(false);
    EXPECT_EQ(f[0].port().event(Region::bar2, 0x10).error().code(), Errc::not_supported);
}

struct Forwarded : Window {
    void SetUp() override {
        Window::SetUp();
        must(f[1].map_dma(base, 0x4000, {}));
    }
    std::deque<FakeClient::Read>& reads() { return f[1].client.reads; }
    std::deque<FakeClient::Write>& writes() { return f[1].client.writes; }
};

TEST_F(Forwarded, WritesAreAcknowledgedAtOnceAndPassedOn) {
    write32(0x20, 0x01020304);
    ASSERT_EQ(writes().size(), 1u);
    EXPECT_EQ(writes()[0].address.value, base + 0x20);
    EXPECT_EQ(writes()[0].data, bytes({4, 3, 2, 1}));
}

TEST_F(Forwarded, ReadsAreAnsweredWhenTheClientHas) {
    const auto result = f[0].start_read(Region::bar2, 0x20, 4);
    ASSERT_EQ(reads().size(), 1u);
    EXPECT_EQ(reads()[0].address.value, base + 0x20);
    EXPECT_FALSE(*result);
    reads()[0].answer(bytes({1, 2, 3, 4}));
    ASSERT_TRUE(*result);
    EXPECT_EQ((*result)->value(), bytes({1, 2, 3, 4}));
}

TEST_F(Forwarded, ReadsOfSeveralPlacesAreOneAnswer) {
    f[0].open(1, 2, 0x10000);
    must(f[2].map_dma(0x10000, 0x1000, {}));
    const auto result = f[0].start_read(Region::bar2, 0x3ffe, 4);
    ASSERT_EQ(f[2].client.reads.size(), 1u);
    f[2].client.reads[0].answer(bytes({3, 4}));
    EXPECT_FALSE(*result);
    reads()[0].answer(bytes({1, 2}));
    EXPECT_EQ((*result)->value(), bytes({1, 2, 3, 4}));
}

TEST_F(Forwarded, FailuresAndWrongSizesReadAllOnes) {
    auto result = f[0].start_read(Region::bar2, 0, 4);
    reads()[0].answer(fail(Errc::io, "no"));
    EXPECT_EQ((*result)->value(), bytes({0xff, 0xff, 0xff, 0xff}));
    result = f[0].start_read(Region::bar2, 0, 4);
    reads()[1].answer(bytes({1, 2, 3, 4, 5, 6, 7, 8}));
    EXPECT_EQ((*result)->value(), bytes({0xff, 0xff, 0xff, 0xff}));
    EXPECT_EQ(f[0].dropped(Obstacle::failed), 2u);
}

TEST_F(Forwarded, WaitingReadsAreLimited) {
    std::vector<std::shared_ptr<std::optional<Result<TestPort::Bytes>>>> results;
    for (size_t i = 0; i < max_waiting_reads; ++i)
        results.push_back(f[0].start_read(Region::bar2, 0, 4));
    EXPECT_EQ(f[0].get<uint32_t>(0, Region::bar2), 0xffff'ffff);
    EXPECT_EQ(f[0].dropped(Obstacle::too_many), 1u);
    EXPECT_EQ(reads().size(), max_waiting_reads);
}

TEST_F(Forwarded, WritesWaitForTheirTurn) {
    for (size_t i = 0; i < max_requests_in_flight + 2; ++i)
        write32(0, static_cast<uint32_t>(i));
    EXPECT_EQ(writes().size(), max_requests_in_flight);
    const auto result = f[0].start_read(Region::bar2, 0, 4);
    EXPECT_TRUE(reads().empty()) << "a read does not pass the writes before it";
    writes()[0].answer({});
    EXPECT_EQ(writes().size(), max_requests_in_flight + 1);
    writes()[1].answer({});
    writes()[2].answer(fail(Errc::io, "unmapped by the IOMMU"));
    EXPECT_EQ(writes().size(), max_requests_in_flight + 2);
    ASSERT_EQ(reads().size(), 1u);
    for (size_t i = 0; i < writes().size(); ++i) {
        le32 value;
        std::memcpy(&value, writes()[i].data.data(), 4);
        ASSERT_EQ(value, i) << "in the order in which they came";
    }
    EXPECT_EQ(f[0].dropped(Obstacle::too_many), 0u);
}

TEST_F(Forwarded, WaitingWritesAreLimitedForEachSource) {
    f[2].open(0, 1, base);
    for (size_t i = 0; i < max_requests_in_flight + max_requests_queued + 1; ++i)
        write32(0, 1);
    EXPECT_EQ(f[0].dropped(Obstacle::too_many), 1u);
    EXPECT_EQ(read32(0), 0xffff'ffff);
    EXPECT_EQ(f[0].dropped(Obstacle::too_many), 2u);
    f[2].put<uint32_t>(0, 1, Region::bar2);
    EXPECT_EQ(f[2].dropped(Obstacle::too_many), 0u) << "one source does not take the others' share";
    writes()[0].answer({});
    write32(0, 1);
    EXPECT_EQ(f[0].dropped(Obstacle::too_many), 2u);
}

TEST_F(Forwarded, BytesThatWaitAreLimited) {
    for (size_t i = 0; i < max_requests_in_flight; ++i)
        write32(0, 1);
    const std::vector<std::byte> block(0x4000);
    for (size_t i = 0; i < max_request_bytes_queued / block.size() + 1; ++i)
        must(f[0].write(Region::bar2, 0, block));
    EXPECT_EQ(f[0].dropped(Obstacle::too_many), 1u);
}

TEST_F(Forwarded, WhatWaitsGoesWithTheClient) {
    for (size_t i = 0; i < max_requests_in_flight + 1; ++i)
        write32(0, 1);
    const auto late = f[0].start_read(Region::bar2, 0, 4);
    f[1].disconnect();
    writes()[0].answer({});
    EXPECT_EQ(writes().size(), max_requests_in_flight);
    f[1].client.writes.clear();
    f[1].connect();
    f[1].enable();
    must(f[1].map_dma(base, 0x4000, {}));
    write32(0, 1);
    EXPECT_EQ(writes().size(), 1u) << "what the last client left is not held against this one";
    EXPECT_TRUE(reads().empty());
}

TEST_F(Forwarded, AReadThatTimedOutInTheQueueIsNotSent) {
    TestFabric quick({.ports = 2, .peer_read_timeout = std::chrono::milliseconds(20)});
    quick.bring_up(2);
    quick[0].open(0, 1, base);
    must(quick[1].map_dma(base, 0x4000, {}));
    for (size_t i = 0; i < max_requests_in_flight; ++i)
        quick[0].put<uint32_t>(0, 1, Region::bar2);
    const auto result = quick[0].start_read(Region::bar2, 0, 4);
    for (int i = 0; i < 100 && !*result; ++i)
        quick.loop->run_once(std::chrono::milliseconds(100));
    ASSERT_TRUE(*result);
    EXPECT_EQ((*result)->value(), bytes({0xff, 0xff, 0xff, 0xff}));
    quick[1].client.writes[0].answer({});
    EXPECT_TRUE(quick[1].client.reads.empty());
}

TEST_F(Forwarded, ReadsOfAClientThatWentAreForgotten) {
    const auto result = f[0].start_read(Region::bar2, 0, 4);
    f[0].disconnect();
    ASSERT_TRUE(*result);
    EXPECT_EQ((*result)->error().code(), Errc::cancelled);
    reads()[0].answer(bytes({1, 2, 3, 4})); // nobody is there; nothing happens
}

TEST_F(Forwarded, AnswersAfterTheSwitchHasGoneDoNothing) {
    const auto result = f[0].start_read(Region::bar2, 0, 4);
    write32(0, 1);
    f.fabric.reset();
    EXPECT_EQ((*result)->error().code(), Errc::cancelled);
    reads()[0].answer(bytes({1, 2, 3, 4}));
    writes()[0].answer({});
}

TEST_F(Forwarded, MessageSignalledInterruptsReachAHostThatDidNotMapThem) {
    f[0].open(1, 1, 0xfee0'0000);
    write32(0x4000, 0x31);
    ASSERT_EQ(writes().size(), 1u);
    EXPECT_EQ(writes()[0].address.value, 0xfee0'0000u);
    f[0].put<uint16_t>(0x4000, 1, Region::bar2);
    EXPECT_EQ(read32(0x4000), 0xffff'ffff);
    EXPECT_EQ(writes().size(), 1u);
    EXPECT_TRUE(reads().empty());
}

TEST_F(Forwarded, UnansweredReadsEndAtTheDeadline) {
    TestFabric quick({.ports = 2, .peer_read_timeout = std::chrono::milliseconds(20)});
    quick.bring_up(2);
    quick[0].open(0, 1, base);
    must(quick[1].map_dma(base, 0x4000, {}));
    const auto result = quick[0].start_read(Region::bar2, 0, 4);
    for (int i = 0; i < 100 && !*result; ++i)
        quick.loop->run_once(std::chrono::milliseconds(100));
    ASSERT_TRUE(*result);
    EXPECT_EQ((*result)->value(), bytes({0xff, 0xff, 0xff, 0xff}));
    quick[1].client.reads[0].answer(bytes({1, 2, 3, 4})); // too late
}

// Host 1 is a whole machine: QEMU says what RAM its guest maps, page by page, but nothing of registers.
struct WholeHost : Window {
    void SetUp() override {
        f[1].client.lanepool = false;
        Window::SetUp();
    }
    std::deque<FakeClient::Read>& reads() { return f[1].client.reads; }
    std::deque<FakeClient::Write>& writes() { return f[1].client.writes; }
};

TEST_F(WholeHost, AnswersForWhatItHasNotMapped) {
    write32(0x20, 7);
    ASSERT_EQ(writes().size(), 1u);
    EXPECT_EQ(writes()[0].address.value, base + 0x20);
    const auto result = f[0].start_read(Region::bar2, 0x24, 4);
    ASSERT_EQ(reads().size(), 1u);
    EXPECT_EQ(reads()[0].address.value, base + 0x24);
    reads()[0].answer(bytes({1, 2, 3, 4}));
    EXPECT_EQ((*result)->value(), bytes({1, 2, 3, 4}));
    EXPECT_EQ(f[0].dropped(Obstacle::not_mapped), 0u);
}

TEST_F(WholeHost, WhatItsIommuRefusesReadsAllOnes) {
    const auto result = f[0].start_read(Region::bar2, 0, 8);
    reads()[0].answer(fail(Errc::not_found, "no such device"));
    EXPECT_EQ((*result)->value(), std::vector(8, std::byte{0xff}));
    EXPECT_EQ(f[0].dropped(Obstacle::failed), 1u);
}

TEST_F(WholeHost, RamIsReachedInPlaceAndRegistersBesideItByMessages) {
    auto memory = f[1].map_memory(base + 0x1000, 0x1000);
    must(f[0].write(Region::bar2, 0xffe, bytes({1, 2, 3, 4})));
    ASSERT_EQ(writes().size(), 1u);
    EXPECT_EQ(writes()[0].data, bytes({1, 2}));
    EXPECT_EQ(memory.data()[1], std::byte{4});
    EXPECT_EQ(f[0].port().event(Region::bar2, 0).error().code(), Errc::not_supported);
}

TEST_F(WholeHost, NobodyIsGivenTheDescriptorOfItsMemory) {
    auto memory = f[1].map_memory(base, 0x1000);
    EXPECT_TRUE(f[0].port().memory(Region::bar2, 0, 0x4000).value().empty());
    EXPECT_EQ(f[0].port().counters().window_lookups, 0u);
}

TEST_F(WholeHost, StaysClosedWithoutBusMasterOrLink) {
    f[1].put<uint16_t>(pci::config::command, pci::command::memory_space, Region::config);
    write32(0, 1);
    EXPECT_EQ(read32(0), 0xffff'ffff);
    f[1].enable();
    f[1].port().enable_link(false);
    write32(0, 1);
    EXPECT_EQ(read32(0), 0xffff'ffff);
    EXPECT_TRUE(writes().empty() && reads().empty());
}

TEST_F(WholeHost, UnmappedPagesAreAskedForAgain) {
    auto memory = f[1].map_memory(base, 0x1000);
    write32(0, 1);
    must(f[1].unmap_dma(base, 0x1000));
    write32(0, 2);
    EXPECT_EQ(memory.data()[0], std::byte{1});
    EXPECT_EQ(writes().size(), 1u) << "its IOMMU decides";
}

TEST(DmaTable, OneFileIsOneBackingHoweverOftenItIsMapped) {
    TestFabric f;
    f.bring_up(2);
    const auto ram = create_memory("ram", 0x100'0000).value();
    const auto descriptors = [] {
        return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
    };
    const auto before = descriptors();
    for (uint64_t page = 0; page < 0x1000; ++page)
        must(f[1].map_dma(base + page * 0x1000, 0x1000,
                          MemoryRef{share(ram.duplicate().value()), page * 0x1000, 0x1000}));
    EXPECT_EQ(f[1].port().dma().count(), 0x1000u);
    EXPECT_EQ(descriptors(), before + 1);
    f[1].disconnect();
    EXPECT_EQ(descriptors(), before);
}

TEST(DmaTable, HundredsOfWindowsInTwoBarsAtOnce) {
    TestFabric f({.ports = 48});
    f.bring_up(48);
    std::vector<Mapping> memory(48);
    for (unsigned p = 1; p < 48; ++p)
        memory[p] = f[p].map_memory(base, 0x100000);
    f[0].operate(ControlOp::lock);
    for (unsigned i = 0; i < 256; ++i)
        f[0].put_lut(i, 1 + i % 47, base + (i / 47) * 0x4000);
    for (unsigned i = 0; i < 64; ++i)
        f[0].put_lut(256 + i, 1 + i % 47, base);
    f[0].operate(ControlOp::config);
    ASSERT_EQ(f[0].port().control().windows().count(), 320u);
    for (unsigned i = 0; i < 256; ++i)
        f[0].put<uint32_t>(i * 0x4000, i + 1, Region::bar2);
    for (unsigned i = 0; i < 256; ++i) {
        le32 seen;
        std::memcpy(&seen, memory[1 + i % 47].data() + (i / 47) * 0x4000, 4);
        EXPECT_EQ(seen, i + 1);
    }
    EXPECT_EQ(f[0].get<uint32_t>(63 * gib + 0x4000, Region::bar4), 47 + 63 % 47 + 1u);
}

} // namespace
} // namespace lanepool::fabric
