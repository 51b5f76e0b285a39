// SPDX-License-Identifier: Apache-2.0
//
// Our server against a client that says whatever it likes. Each test ends with a look at whether the server
// still serves and whether every descriptor it was sent is closed.
#include "vfio_user/raw_peer.h"
#include "vfio_user/test_function.h"

#include <cerrno>
#include <sys/eventfd.h>

namespace lanepool::vfio_user {
namespace {

using testing::RawPeer;
using testing::ServedFunction;
using testing::TestFunction;
using wire::Command;

constexpr uint64_t page = 4096;

class HostileClient : public ::testing::Test {
  protected:
    HostileClient() { start({.reply_timeout = std::chrono::milliseconds(300)}); }
    void start(ServerOptions options) {
        served_.reset();
        served_ = std::make_unique<ServedFunction>(options);
        descriptors_ = testing::open_descriptors();
    }
    RawPeer connected(bool lanepool = false) {
        auto peer = RawPeer::connect(served_->path());
        EXPECT_EQ(lanepool ? peer.negotiate(R"({"capabilities":{"max_msg_fds":64,"lanepool":{"version":1}}})")
                           : peer.negotiate(),
                  0);
        return peer;
    }
    void TearDown() override {
        {
            auto peer = connected();
            const wire::DeviceInfo info{sizeof info, 0, 0, 0};
            EXPECT_EQ(peer.call(Command::device_get_info, {wire::bytes_of(info)}), 0);
        }
        EXPECT_TRUE(eventually([&] { return !served_->run([&] { return served_->server->has_client(); }); }));
        EXPECT_EQ(testing::open_descriptors(), descriptors_);
    }
    TestFunction& function() { return served_->function; }

    std::unique_ptr<ServedFunction> served_;
    size_t descriptors_ = 0;
};

wire::DmaMap dma_map(uint64_t address, uint64_t size, uint32_t flags = 3, uint64_t offset = 0) {
    return {sizeof(wire::DmaMap), flags, offset, address, size};
}
wire::DmaUnmap dma_unmap(uint64_t address, uint64_t size, uint32_t flags = 0) {
    return {sizeof(wire::DmaUnmap), flags, address, size};
}

// --- the stream

TEST_F(HostileClient, AMessageShorterThanItsHeaderEndsTheConnection) {
    auto peer = connected();
    wire::Header header{1, 4, 15, 0, 0};
    peer.send_bytes(wire::bytes_of(header));
    EXPECT_TRUE(peer.closed_by_peer());
}

TEST_F(HostileClient, AnOversizedMessageEndsTheConnectionBeforeItIsRead) {
    auto peer = connected();
    wire::Header header{1, 10, 0xffffffff, 0, 0};
    peer.send_bytes(wire::bytes_of(header));
    EXPECT_TRUE(peer.closed_by_peer());
}

TEST_F(HostileClient, AMessageOfNoTypeEndsTheConnection) {
    auto peer = connected();
    wire::Header header{1, 4, 16, 5, 0};
    peer.send_bytes(wire::bytes_of(header));
    EXPECT_TRUE(peer.closed_by_peer());
}

TEST_F(HostileClient, AReplyToNothingEndsTheConnection) {
    auto peer = connected();
    wire::Header header{1, 11, 16, wire::flags::reply, 0};
    peer.send_bytes(wire::bytes_of(header));
    EXPECT_TRUE(peer.closed_by_peer());
    EXPECT_TRUE(eventually([&] { return served_->run([&] { return function().disconnects == 1; }); }));
}

TEST_F(HostileClient, ATruncatedMessageAndItsDescriptorsGoWithTheConnection) {
    auto peer = connected();
    const auto eventfd = *create_eventfd();
    const int fds[] = {eventfd.get(), eventfd.get()};
    const auto map = dma_map(0, page);
    auto bytes = wire::encode_command(Command::dma_map, 1, {wire::bytes_of(map)});
    bytes.resize(bytes.size() - 5);
    peer.send_bytes(bytes, fds);
}

TEST_F(HostileClient, AMessageMayArriveByteByByte) {
    auto peer = connected();
    const wire::DeviceInfo info{sizeof info, 0, 0, 0};
    const auto bytes = wire::encode_command(Command::device_get_info, 9, {wire::bytes_of(info)});
    for (const auto& byte : bytes)
        ASSERT_TRUE(peer.send_bytes({&byte, 1}));
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.id, 9);
    EXPECT_EQ(answer->payload.size(), sizeof info);
}

TEST_F(HostileClient, DescriptorsInEveryByteOfAMessageAreTooMany) {
    auto peer = connected();
    const auto eventfd = *create_eventfd();
    const std::vector<int> fds(40, eventfd.get());
    const auto map = dma_map(0, page);
    const auto bytes = wire::encode_command(Command::dma_map, 1, {wire::bytes_of(map)});
    for (size_t i = 0; i < 3; ++i)
        peer.send_bytes(std::span(bytes).subspan(i, 1), fds);
    EXPECT_TRUE(peer.closed_by_peer());
}

// --- the version

TEST_F(HostileClient, TheFirstMessageMustBeTheVersion) {
    auto peer = RawPeer::connect(served_->path());
    const wire::DeviceInfo info{sizeof info, 0, 0, 0};
    EXPECT_EQ(peer.call(Command::device_get_info, {wire::bytes_of(info)}), EINVAL);
    EXPECT_TRUE(peer.closed_by_peer());
    EXPECT_EQ(served_->run([&] { return function().disconnects; }), 0); // it never knew of that client
}

TEST_F(HostileClient, AnotherMajorVersionIsRefused) {
    auto peer = RawPeer::connect(served_->path());
    const wire::Version version{1, 0};
    EXPECT_EQ(peer.call(Command::version, {wire::bytes_of(version)}), ENOTSUP);
    EXPECT_TRUE(peer.closed_by_peer());
}

TEST_F(HostileClient, VersionDataThatIsNotWhatItShouldBeIsRefused) {
    const wire::Version version{0, 0};
    const std::string nested = R"({"capabilities":)" + std::string(3000, '[');
    for (const std::string& json :
         {std::string("{"), std::string("[]"), std::string(R"({"capabilities":7})"),
          std::string(R"({"capabilities":{"max_msg_fds":"many"}})"),
          std::string(R"({"capabilities":{"max_data_xfer_size":0}})"),
          std::string(R"({"capabilities":{"max_msg_fds":-1}})"),
          std::string(R"({"capabilities":{"lanepool":1}})"), nested, std::string(100000, ' ')}) {
        auto peer = RawPeer::connect(served_->path());
        EXPECT_EQ(peer.negotiate(json), EINVAL) << json.substr(0, 100);
        EXPECT_TRUE(peer.closed_by_peer());
    }
    auto peer = RawPeer::connect(served_->path());
    EXPECT_EQ(peer.call(Command::version, {wire::bytes_of(version), std::as_bytes(std::span("{}", 2))}),
              EINVAL); // no terminating NUL
    EXPECT_TRUE(peer.closed_by_peer());
}

TEST_F(HostileClient, WithoutVersionDataTheDefaultsHold) {
    auto peer = RawPeer::connect(served_->path());
    const wire::Version version{0, 0};
    EXPECT_EQ(peer.call(Command::version, {wire::bytes_of(version)}), 0);
    std::span<const std::byte> payload = peer.answer().payload;
    ASSERT_TRUE(wire::take<wire::Version>(payload));
    const auto capabilities = parse_capabilities(payload);
    ASSERT_TRUE(capabilities);
    EXPECT_LE(capabilities->max_msg_fds, 16u); // QEMU's limit
    EXPECT_FALSE(capabilities->lanepool);
}

TEST_F(HostileClient, ASecondVersionIsAnErrorLikeAnyUnknownCommand) {
    auto peer = connected();
    EXPECT_NE(peer.negotiate(), 0);
    EXPECT_EQ(peer.call(static_cast<Command>(999), {}), ENOTSUP);
    EXPECT_EQ(peer.call(Command::dma_read, {}), ENOTSUP);
}

TEST_F(HostileClient, TheExtensionIsNotThereForOthers) {
    auto peer = connected();
    const wire::RegionMemory memory{4096, 0, page, page, 0, 0, 0};
    EXPECT_EQ(peer.call(Command::lanepool_region_memory, {wire::bytes_of(memory)}), ENOTSUP);
    const wire::RegionEvent event{0, 0, 0x10};
    EXPECT_EQ(peer.call(Command::lanepool_region_event, {wire::bytes_of(event)}), ENOTSUP);
    const auto map = dma_map(0, 4, 3 | wire::dma::event);
    const auto eventfd = *create_eventfd();
    const int fd = eventfd.get();
    EXPECT_EQ(peer.call(Command::dma_map, {wire::bytes_of(map)}, {&fd, 1}), EINVAL);
}

// --- what there is

TEST_F(HostileClient, ShortRequestsAreRefused) {
    auto peer = connected();
    const std::array<std::byte, 3> few{};
    for (const auto command :
         {Command::dma_map, Command::dma_unmap, Command::device_get_info, Command::device_get_region_info,
          Command::device_get_region_io_fds, Command::device_get_irq_info, Command::device_set_irqs,
          Command::region_read, Command::region_write, Command::region_write_multi}) {
        EXPECT_EQ(peer.call(command, {few}), EINVAL) << static_cast<int>(command);
        EXPECT_EQ(peer.call(command, {}), EINVAL) << static_cast<int>(command);
    }
}

TEST_F(HostileClient, AnArgszBelowTheReplyIsRefused) {
    auto peer = connected();
    const wire::RegionInfo region{31, 0, 0, 0, 0, 0};
    EXPECT_EQ(peer.call(Command::device_get_region_info, {wire::bytes_of(region)}), EINVAL);
    const wire::IrqInfo irq{0, 0, 0, 0};
    EXPECT_EQ(peer.call(Command::device_get_irq_info, {wire::bytes_of(irq)}), EINVAL);
    const wire::RegionInfo unknown{32, 0, 9, 0, 0, 0};
    EXPECT_EQ(peer.call(Command::device_get_region_info, {wire::bytes_of(unknown)}), EINVAL);
    const wire::IrqInfo unknown_irq{16, 0, 5, 0};
    EXPECT_EQ(peer.call(Command::device_get_irq_info, {wire::bytes_of(unknown_irq)}), EINVAL);
}

TEST_F(HostileClient, RegionInformationIsAskedForTwiceAsQemuDoes) {
    auto peer = connected();
    const wire::RegionInfo first{32, 0, 0, 0, 0, 0};
    ASSERT_EQ(peer.call(Command::device_get_region_info, {wire::bytes_of(first)}), 0);
    EXPECT_EQ(peer.answer().payload.size(), 32u); // QEMU closes when more comes than it has room for
    EXPECT_TRUE(peer.answer().fds.empty());
    std::span<const std::byte> payload = peer.answer().payload;
    const auto info = *wire::take<wire::RegionInfo>(payload);
    EXPECT_EQ(info.argsz, sizeof(wire::RegionInfo) + sizeof(wire::SparseMmap) + sizeof(wire::SparseArea));
    EXPECT_TRUE(info.flags & wire::region::caps);
    EXPECT_EQ(info.cap_offset, 32u); // QEMU checks it in the first answer already

    const wire::RegionInfo second{info.argsz, 0, 0, 0, 0, 0};
    ASSERT_EQ(peer.call(Command::device_get_region_info, {wire::bytes_of(second)}), 0);
    EXPECT_EQ(peer.answer().payload.size(), info.argsz);
    ASSERT_EQ(peer.answer().fds.size(), 1u);
    payload = std::span<const std::byte>(peer.answer().payload).subspan(32);
    const auto sparse = *wire::take<wire::SparseMmap>(payload);
    EXPECT_EQ(sparse.header.id, wire::cap_sparse_mmap);
    EXPECT_EQ(sparse.area_count, 1u); // two neighbours of the same file
    const auto area = *wire::take<wire::SparseArea>(payload);
    EXPECT_EQ(area.offset, page);
    EXPECT_EQ(area.size, 2 * page);
    const auto mapping = Mapping::create(peer.answer().fds[0].get(), info.offset + area.offset, area.size);
    ASSERT_TRUE(mapping);
    mapping->data()[0] = std::byte{5};
    EXPECT_EQ(served_->run([&] { return function().bytes(pci::Region::bar0)[page]; }), std::byte{5});
}

TEST_F(HostileClient, OfARegionWithTwoBasesAStandardClientMapsTheFirst) {
    auto peer = connected();
    const auto other = share(*create_memory("other", page));
    const auto same = served_->run([&] { return function().file(pci::Region::bar0); });
    for (const auto& file : {other, same}) { // another file, and another place in the same one
        served_->run([&] { function().elsewhere = file; });
        const wire::RegionInfo request{200, 0, 0, 0, 0, 0};
        ASSERT_EQ(peer.call(Command::device_get_region_info, {wire::bytes_of(request)}), 0);
        EXPECT_EQ(peer.answer().fds.size(), 1u);
        auto payload = std::span<const std::byte>(peer.answer().payload).subspan(32);
        EXPECT_EQ(wire::take<wire::SparseMmap>(payload)->area_count, 1u);
        const auto area = *wire::take<wire::SparseArea>(payload);
        EXPECT_EQ(area.offset, page);
        EXPECT_EQ(area.size, page);
    }
    served_->run([&] { function().elsewhere = nullptr; });
}

TEST_F(HostileClient, AFileThatBeginsInTheMiddleOfARegionIsMappedByAnOffsetThatWraps) {
    auto peer = connected();
    const auto file = share(*create_memory("whole", 2 * page));
    served_->run([&] { function().elsewhere = file; });
    // The second page is gone, so that only the third, at the start of its file, is left.
    const wire::RegionInfo request{200, 0, 0, 0, 0, 0};
    served_->run([&] { function().only_elsewhere = true; });
    ASSERT_EQ(peer.call(Command::device_get_region_info, {wire::bytes_of(request)}), 0);
    std::span<const std::byte> payload = peer.answer().payload;
    const auto info = *wire::take<wire::RegionInfo>(payload);
    ASSERT_TRUE(wire::take<wire::SparseMmap>(payload));
    const auto area = *wire::take<wire::SparseArea>(payload);
    EXPECT_EQ(area.offset, 2 * page);
    EXPECT_EQ(info.offset + area.offset, 0u); // as QEMU adds them up
    served_->run([&] { function().elsewhere = nullptr; });
}

TEST_F(HostileClient, ARegionThatCanBeMappedWholeNeedsNoCapability) {
    auto peer = connected();
    const wire::RegionInfo request{32, 0, 2, 0, 0, 0};
    ASSERT_EQ(peer.call(Command::device_get_region_info, {wire::bytes_of(request)}), 0);
    std::span<const std::byte> payload = peer.answer().payload;
    const auto info = *wire::take<wire::RegionInfo>(payload);
    EXPECT_EQ(info.flags, wire::region::read | wire::region::write | wire::region::mmap);
    EXPECT_EQ(peer.answer().fds.size(), 1u);
}

TEST_F(HostileClient, MemoryOfARegionIsAskedForWithinItOnly) {
    auto peer = connected(true);
    for (const auto& [offset, size] : std::vector<std::pair<uint64_t, uint64_t>>{
             {0, 0}, {0, 5 * page}, {~uint64_t{0}, 2}, {4 * page, 1}, {1, ~uint64_t{0}}}) {
        const wire::RegionMemory memory{4096, 0, offset, size, 0, 0, 0};
        EXPECT_EQ(peer.call(Command::lanepool_region_memory, {wire::bytes_of(memory)}), EINVAL);
    }
    const wire::RegionMemory small{40, 0, 0, 4 * page, 0, 0, 0};
    EXPECT_EQ(peer.call(Command::lanepool_region_memory, {wire::bytes_of(small)}), EINVAL);
    const wire::RegionMemory no_region{4096, 77, 0, page, 0, 0, 0};
    EXPECT_EQ(peer.call(Command::lanepool_region_memory, {wire::bytes_of(no_region)}), EINVAL);
    const wire::RegionEvent event{0, 0, 4 * page - 3};
    EXPECT_EQ(peer.call(Command::lanepool_region_event, {wire::bytes_of(event)}), EINVAL);
}

TEST_F(HostileClient, MemoryThatDoesNotFitIsContinued) {
    auto peer = connected(true);
    const wire::RegionMemory memory{72, 0, 0, 4 * page, 0, 0, 0}; // room for one extent
    ASSERT_EQ(peer.call(Command::lanepool_region_memory, {wire::bytes_of(memory)}), 0);
    std::span<const std::byte> payload = peer.answer().payload;
    const auto info = *wire::take<wire::RegionMemory>(payload);
    EXPECT_EQ(info.count, 1u);
    EXPECT_EQ(info.next, 2 * page);
    const wire::RegionMemory rest{72, 0, info.next, 4 * page - info.next, 0, 0, 0};
    ASSERT_EQ(peer.call(Command::lanepool_region_memory, {wire::bytes_of(rest)}), 0);
    payload = peer.answer().payload;
    EXPECT_EQ(wire::take<wire::RegionMemory>(payload)->next, 4 * page);
}

// --- regions

TEST_F(HostileClient, AccessesOutsideOfARegionAreRefused) {
    auto peer = connected();
    const std::array<std::byte, 8> data{};
    for (const auto& access : std::vector<wire::RegionAccess>{{4 * page, 0, 1},
                                                              {4 * page - 3, 0, 4},
                                                              {~uint64_t{0}, 0, 4},
                                                              {0, 1, 4},
                                                              {0, 9, 4},
                                                              {0, 0xffffffff, 4},
                                                              {0, 0, 0},
                                                              {0, 0, 0xffffffff},
                                                              {0, 0, (1 << 20) + 1}}) {
        EXPECT_NE(peer.call(Command::region_read, {wire::bytes_of(access)}), 0);
        EXPECT_NE(peer.call(Command::region_write, {wire::bytes_of(access), data}), 0);
    }
    const wire::RegionAccess read_only{0, 4, 8};
    EXPECT_EQ(peer.call(Command::region_write, {wire::bytes_of(read_only), data}), EACCES);
}

TEST_F(HostileClient, AWriteMustComeWithItsBytes) {
    auto peer = connected();
    const wire::RegionAccess access{0, 0, 8};
    const std::array<std::byte, 9> data{};
    EXPECT_EQ(peer.call(Command::region_write, {wire::bytes_of(access)}), EINVAL);
    EXPECT_EQ(peer.call(Command::region_write, {wire::bytes_of(access), data}), EINVAL);
}

TEST_F(HostileClient, PostedWritesAreDoneAndNotAnswered) {
    auto peer = connected();
    const wire::RegionAccess access{8, 0, 4};
    const std::array<std::byte, 4> data{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
    ASSERT_TRUE(
        peer.send(Command::region_write, {wire::bytes_of(access), data}, {}, wire::flags::no_reply, 1));
    const wire::RegionAccess bad{4 * page, 0, 4};
    ASSERT_TRUE(peer.send(Command::region_write, {wire::bytes_of(bad), data}, {}, wire::flags::no_reply, 2));
    ASSERT_EQ(peer.call(Command::region_read, {wire::bytes_of(access)}), 0); // its answer is the only one
    EXPECT_EQ(peer.answer().payload[sizeof access + 3], std::byte{4});
}

TEST_F(HostileClient, SeveralWritesInOneMessage) {
    auto peer = connected();
    wire::WriteMulti multi{2};
    std::array<wire::SingleWrite, 2> writes{{{0, 0, 4, {std::byte{1}}}, {4, 0, 8, {std::byte{2}}}}};
    const auto list = std::as_bytes(std::span(writes));
    ASSERT_EQ(peer.call(Command::region_write_multi, {wire::bytes_of(multi), list}), 0);
    EXPECT_EQ(peer.answer().payload.size(), sizeof multi);
    EXPECT_EQ(served_->run([&] { return function().bytes(pci::Region::bar0)[4]; }), std::byte{2});

    EXPECT_EQ(peer.call(Command::region_write_multi, {wire::bytes_of(multi), list.first(30)}), EINVAL);
    multi.write_count = 3;
    EXPECT_EQ(peer.call(Command::region_write_multi, {wire::bytes_of(multi), list}), EINVAL);
    multi.write_count = 0;
    EXPECT_EQ(peer.call(Command::region_write_multi, {wire::bytes_of(multi)}), EINVAL);
    multi.write_count = 2;
    writes[0].data[0] = std::byte{9};
    writes[1].count = 9;
    EXPECT_EQ(peer.call(Command::region_write_multi, {wire::bytes_of(multi), list}), EINVAL);
    EXPECT_EQ(served_->run([&] { return function().bytes(pci::Region::bar0)[0]; }),
              std::byte{1}); // none done
}

// --- DMA

TEST_F(HostileClient, DmaRangesMustMakeSense) {
    auto peer = connected();
    const auto memory = *create_memory("ram", 2 * page);
    const int fd = memory.get();
    const int two[] = {fd, fd};
    const auto call = [&](const wire::DmaMap& map, std::span<const int> fds = {}) {
        return peer.call(Command::dma_map, {wire::bytes_of(map)}, fds);
    };
    EXPECT_EQ(call(dma_map(0, 0)), EINVAL);
    EXPECT_EQ(call(dma_map(~uint64_t{0}, 2)), EINVAL);       // wraps around
    EXPECT_EQ(call(dma_map(page, ~uint64_t{0})), EINVAL);    //
    EXPECT_EQ(call(dma_map(0, page, 0)), EINVAL);            // neither read nor written
    EXPECT_EQ(call(dma_map(0, page, 0x80000003)), EINVAL);   // unknown flag
    EXPECT_EQ(call(dma_map(0, page), two), EINVAL);          // which one?
    EXPECT_EQ(call(dma_map(0, 3 * page), {&fd, 1}), EINVAL); // more than the file has
    EXPECT_EQ(call(dma_map(0, page, 3, 2 * page), {&fd, 1}), EINVAL);
    EXPECT_EQ(call(dma_map(0, page, 3, ~uint64_t{0}), {&fd, 1}), EINVAL);
    auto small = dma_map(0, page);
    small.argsz = 31;
    EXPECT_EQ(call(small), EINVAL);
    EXPECT_TRUE(served_->run([&] { return function().dma.empty(); }));
    EXPECT_EQ(call(dma_map(~uint64_t{0}, 1)), 0); // the very last byte there is
}

TEST_F(HostileClient, OverlappingDmaRangesAreRefused) {
    auto peer = connected();
    ASSERT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(2 * page, 2 * page))}), 0);
    for (const auto& [address, size] : std::vector<std::pair<uint64_t, uint64_t>>{
             {2 * page, 2 * page}, {0, 2 * page + 1}, {4 * page - 1, 1}, {0, 100 * page}, {3 * page, 1}})
        EXPECT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(address, size))}), EEXIST);
    EXPECT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(0, 2 * page))}), 0);
    EXPECT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(4 * page, 1))}), 0);
    EXPECT_EQ(served_->run([&] { return function().dma.size(); }), 3u);
}

TEST_F(HostileClient, UnmappingTakesWholeMappingsOnly) {
    auto peer = connected();
    for (uint64_t i = 0; i < 4; ++i)
        ASSERT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(2 * i * page, 2 * page))}), 0);
    const auto mapped = [&] { return served_->run([&] { return function().dma.size(); }); };
    const auto unmap = [&](const wire::DmaUnmap& request) {
        return peer.call(Command::dma_unmap, {wire::bytes_of(request)});
    };
    EXPECT_EQ(unmap(dma_unmap(0, page)), EINVAL);
    EXPECT_EQ(unmap(dma_unmap(page, 2 * page)), EINVAL);
    EXPECT_EQ(unmap(dma_unmap(0, 0)), EINVAL);
    EXPECT_EQ(unmap(dma_unmap(0, page, 8)), EINVAL);
    EXPECT_EQ(unmap(dma_unmap(page, page, wire::dma::unmap_all)), EINVAL);
    EXPECT_EQ(mapped(), 4u);
    ASSERT_EQ(unmap(dma_unmap(0, 4 * page)), 0); // two at once, as the kernel allows
    EXPECT_EQ(peer.answer().payload.size(), sizeof(wire::DmaUnmap));
    EXPECT_EQ(mapped(), 2u);
    EXPECT_EQ(unmap(dma_unmap(0, 4 * page)), 0); // nothing there
    EXPECT_EQ(unmap(dma_unmap(0, 0, wire::dma::unmap_all)), 0);
    EXPECT_EQ(mapped(), 0u);
}

TEST_F(HostileClient, ARangeIsMappedAnewBehindAnUnmapThatIsStillBeingDone) {
    start({.reply_timeout = std::chrono::seconds(30)});
    auto peer = connected();
    ASSERT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(0, page))}), 0);
    served_->run([&] { function().hold = true; });
    ASSERT_TRUE(peer.send(Command::dma_unmap, {wire::bytes_of(dma_unmap(0, page))}, {}, 0, 1));
    ASSERT_TRUE(peer.send(Command::dma_map, {wire::bytes_of(dma_map(0, 2 * page))}, {}, 0, 2));
    ASSERT_TRUE(eventually([&] { return served_->run([&] { return function().held.size() == 1; }); }));
    EXPECT_EQ(served_->run([&] { return function().dma.size(); }), 0u); // the map has to wait
    served_->run([&] { function().release(); });
    for (uint16_t id = 1; id <= 2; ++id) {
        const auto answer = peer.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->header.id, id);
        EXPECT_FALSE(answer->header.flags & wire::flags::error);
    }
}

TEST_F(HostileClient, AMappingThatTimedOutIsTakenBack) {
    auto peer = connected();
    served_->run([&] { function().hold = true; });
    EXPECT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(0, page))}), ETIMEDOUT);
    served_->run([&] { function().release(); });
    EXPECT_EQ(served_->run([&] { return function().dma.size(); }), 0u);
    EXPECT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(0, page))}), 0);
}

TEST_F(HostileClient, AMappingThatTimedOutInTheQueueIsNeverMade) {
    auto peer = connected();
    served_->run([&] { function().hold = true; });
    ASSERT_TRUE(peer.send(Command::dma_map, {wire::bytes_of(dma_map(0, page))}, {}, 0, 1));
    ASSERT_TRUE(peer.send(Command::dma_map, {wire::bytes_of(dma_map(page, page))}, {}, 0, 2));
    for (int i = 0; i < 2; ++i)
        EXPECT_EQ(peer.receive()->header.error, static_cast<uint32_t>(ETIMEDOUT));
    served_->run([&] { function().release(); });
    EXPECT_TRUE(served_->run([&] { return function().dma.empty(); }));
    EXPECT_EQ(served_->run([&] { return function().maps; }), 1); // the first, which was taken back
    EXPECT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(page, page))}), 0);
}

TEST_F(HostileClient, ThereIsALimitToMappings) {
    auto peer = RawPeer::connect(served_->path());
    ASSERT_EQ(peer.negotiate(R"({"capabilities":{"max_dma_maps":3}})"), 0);
    for (uint64_t i = 0; i < 3; ++i)
        ASSERT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(i * page, page))}), 0);
    EXPECT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(5 * page, page))}), ENOSPC);
}

// --- interrupts

TEST_F(HostileClient, InterruptsMustMakeSense) {
    using namespace wire::irq_set;
    auto peer = connected();
    const auto eventfd = *create_eventfd();
    const int fds[] = {eventfd.get(), eventfd.get(), eventfd.get()};
    const auto call = [&](uint32_t flags, uint32_t index, uint32_t start, uint32_t count, size_t fd_count = 0,
                          size_t data_bytes = 0) {
        const wire::IrqSet set{sizeof(wire::IrqSet), flags, index, start, count};
        const std::vector<std::byte> data(data_bytes, std::byte{1});
        return peer.call(Command::device_set_irqs, {wire::bytes_of(set), data},
                         std::span(fds).first(fd_count));
    };
    EXPECT_EQ(call(data_eventfd | trigger, 2, 0, 3, 2), EINVAL); // one is missing
    EXPECT_EQ(call(data_eventfd | trigger, 2, 2, 3, 3), EINVAL); // there are four vectors
    EXPECT_EQ(call(data_eventfd | trigger, 2, 0xffffffff, 3, 3), EINVAL);
    EXPECT_EQ(call(data_eventfd | trigger, 2, 3, 0xffffffff, 1), EINVAL);
    EXPECT_EQ(call(data_eventfd | trigger, 5, 0, 1, 1), EINVAL); // there is no such index
    EXPECT_EQ(call(data_eventfd | trigger, 1, 0, 1, 1), EINVAL); // no MSI
    EXPECT_EQ(call(data_none | trigger, 2, 0, 1, 1), EINVAL);    // a descriptor for nothing
    EXPECT_EQ(call(data_none | data_bool | trigger, 2, 0, 1), EINVAL);
    EXPECT_EQ(call(data_none | trigger | mask, 2, 0, 1), EINVAL);
    EXPECT_EQ(call(trigger, 2, 0, 1), EINVAL);
    EXPECT_EQ(call(data_none, 2, 0, 1), EINVAL);
    EXPECT_EQ(call(data_none | trigger | 0x100, 2, 0, 1), EINVAL);
    EXPECT_EQ(call(data_bool | trigger, 2, 0, 3, 0, 2), EINVAL); // a flag is missing
    EXPECT_EQ(call(data_none | mask, 2, 0, 1), EINVAL);          // MSI-X is masked in its table
    EXPECT_EQ(call(data_none | mask, 2, 0, 0), EINVAL);
    EXPECT_EQ(call(data_eventfd | mask, 0, 0, 1, 1), ENOTSUP);
    EXPECT_TRUE(served_->run([&] { return function().eventfds.empty(); }));
}

TEST_F(HostileClient, AClientMayTriggerItsOwnInterrupts) {
    using namespace wire::irq_set;
    auto peer = connected();
    const auto first = *create_eventfd();
    const auto second = *create_eventfd();
    const int fds[] = {first.get(), second.get()};
    const wire::IrqSet assign{sizeof assign, data_eventfd | trigger, 2, 1, 2};
    ASSERT_EQ(peer.call(Command::device_set_irqs, {wire::bytes_of(assign)}, fds), 0);
    const wire::IrqSet some{sizeof some + 2, data_bool | trigger, 2, 1, 2};
    const std::byte which[] = {std::byte{0}, std::byte{1}};
    ASSERT_EQ(peer.call(Command::device_set_irqs, {wire::bytes_of(some), which}), 0);
    EXPECT_EQ(drain(first), 0u);
    EXPECT_EQ(drain(second), 1u);
    const wire::IrqSet deassign{sizeof deassign, data_eventfd | trigger, 2, 2, 1}; // no descriptor
    ASSERT_EQ(peer.call(Command::device_set_irqs, {wire::bytes_of(deassign)}), 0);
    const wire::IrqSet all{sizeof all, data_none | trigger, 2, 0, 4};
    ASSERT_EQ(peer.call(Command::device_set_irqs, {wire::bytes_of(all)}), 0);
    EXPECT_EQ(drain(first), 1u);
    EXPECT_EQ(drain(second), 0u);
    EXPECT_FALSE(served_->run([&] {
        return static_cast<bool>(function().eventfds.at({pci::Irq::msix, 2}));
    }));
}

// --- descriptors

TEST_F(HostileClient, DescriptorsThatACommandDoesNotTakeAreClosed) {
    auto peer = connected();
    const auto eventfd = *create_eventfd();
    const std::vector<int> fds(60, eventfd.get());
    const wire::RegionAccess access{0, 0, 4};
    EXPECT_EQ(peer.call(Command::region_read, {wire::bytes_of(access)}, fds), EINVAL);
    EXPECT_EQ(peer.call(Command::device_reset, {}, fds), EINVAL);
    EXPECT_EQ(peer.call(static_cast<Command>(77), {}, fds), EINVAL);
    EXPECT_TRUE(eventually([&] { return testing::open_descriptors() <= descriptors_ + 3; }));
}

TEST_F(HostileClient, DescriptorsWithTheVersionAreClosed) {
    auto peer = RawPeer::connect(served_->path());
    const auto eventfd = *create_eventfd();
    const std::vector<int> fds(60, eventfd.get());
    const wire::Version version{0, 0};
    peer.call(Command::version, {wire::bytes_of(version)}, fds);
}

// --- DMA by message

TEST_F(HostileClient, AnAnswerOfTheWrongSizeIsAnErrorOfThatAccess) {
    auto peer = connected();
    std::promise<Result<std::vector<std::byte>>> done;
    served_->run([&] {
        function().client()->dma_read(Iova{0x1000}, 8,
                                      [&](auto result) { done.set_value(std::move(result)); });
    });
    const auto request = peer.receive();
    ASSERT_TRUE(request);
    const wire::DmaAccess access{0x1000, 8};
    const std::array<std::byte, 4> few{};
    ASSERT_TRUE(peer.reply(*request, {wire::bytes_of(access), few}));
    EXPECT_EQ(done.get_future().get().error().code(), Errc::protocol);
}

TEST_F(HostileClient, AnAnswerToAnotherCommandEndsTheConnection) {
    auto peer = connected();
    std::promise<Result<>> done;
    served_->run([&] {
        function().client()->dma_write(Iova{0x1000}, std::as_bytes(std::span("abc")),
                                       [&](auto result) { done.set_value(std::move(result)); });
    });
    auto request = *peer.receive();
    request.header.command = static_cast<uint16_t>(Command::dma_read);
    ASSERT_TRUE(peer.reply(request, {}));
    EXPECT_TRUE(peer.closed_by_peer());
    EXPECT_EQ(done.get_future().get().error().code(), Errc::disconnected);
}

TEST_F(HostileClient, AClientThatDoesNotAnswerDmaIsATimeoutAndALateAnswerIsTaken) {
    auto peer = connected();
    std::promise<Result<std::vector<std::byte>>> done;
    served_->run([&] {
        function().client()->dma_read(Iova{0x1000}, 4,
                                      [&](auto result) { done.set_value(std::move(result)); });
    });
    const auto request = *peer.receive();
    EXPECT_EQ(done.get_future().get().error().code(), Errc::timeout);
    const wire::DmaAccess access{0x1000, 4};
    const std::array<std::byte, 4> data{};
    ASSERT_TRUE(peer.reply(request, {wire::bytes_of(access), data}));
    const wire::RegionAccess read{0, 0, 4};
    EXPECT_EQ(peer.call(Command::region_read, {wire::bytes_of(read)}), 0);
    ASSERT_TRUE(peer.reply(request, {wire::bytes_of(access), data})); // a second time is once too often
    EXPECT_TRUE(peer.closed_by_peer());
}

TEST_F(HostileClient, DmaHasItsLimits) {
    auto peer = connected();
    std::vector<Errc> errors;
    served_->run([&] {
        auto& client = *function().client();
        const auto note = [&](auto result) {
            errors.push_back(result ? Errc::internal : result.error().code());
        };
        client.dma_read(Iova{0}, 0, note);
        client.dma_read(Iova{~uint64_t{0}}, 2, note);
        client.dma_read(Iova{0}, size_t{17} << 20, note);
        for (int i = 0; i < 1025; ++i)
            client.dma_read(Iova{0}, 4, [&, i](auto result) {
                if (i == 1024) note(result);
            });
    });
    EXPECT_EQ(errors,
              (std::vector{Errc::out_of_range, Errc::out_of_range, Errc::out_of_range, Errc::no_space}));
}

// --- load

TEST_F(HostileClient, AClientThatDoesNotReadIsNotReadFrom) {
    auto peer = connected();
    const timeval soon{0, 200'000};
    ::setsockopt(peer.fd(), SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon);
    const wire::RegionAccess access{0, 7, 256};
    // Far more answers than the server keeps, so sending gets stuck at some point.
    bool stuck = false;
    size_t sent = 0;
    for (; sent < 500'000 && !stuck; ++sent)
        stuck = !peer.send(Command::region_read, {wire::bytes_of(access)});
    EXPECT_TRUE(stuck);
    EXPECT_LT(sent, 100'000u);
}

TEST_F(HostileClient, ACommandThatIsNeverAnsweredDoesNotStopTheNext) {
    auto peer = connected();
    served_->run([&] { function().hold = true; });
    const wire::RegionAccess access{0, 0, 4};
    ASSERT_TRUE(peer.send(Command::region_read, {wire::bytes_of(access)}, {}, 0, 1));
    const wire::DeviceInfo info{sizeof info, 0, 0, 0};
    EXPECT_EQ(peer.call(Command::device_get_info, {wire::bytes_of(info)}), 0);
    const auto late = peer.receive();
    ASSERT_TRUE(late);
    EXPECT_EQ(late->header.id, 1);
    EXPECT_EQ(late->header.error, static_cast<uint32_t>(ETIMEDOUT));
    served_->run([&] { function().release(); });
}

TEST_F(HostileClient, AnIdleClientsHangUpIsNoticedAtOnce) {
    auto peer = connected();
    const auto memory = *create_memory("ram", page);
    const int fd = memory.get();
    ASSERT_EQ(peer.call(Command::dma_map, {wire::bytes_of(dma_map(0, page))}, {&fd, 1}), 0);
    const auto before = std::chrono::steady_clock::now();
    peer.close();
    EXPECT_TRUE(eventually([&] { return served_->run([&] { return function().disconnects == 1; }); }));
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(1));
}

TEST_F(HostileClient, AFunctionThatLetsItsClientGoInTheMiddleOfACommandIsFine) {
    auto peer = connected();
    served_->run([&] { function().hold = true; });
    const wire::RegionAccess access{0, 0, 4};
    ASSERT_TRUE(peer.send(Command::region_read, {wire::bytes_of(access)}));
    ASSERT_TRUE(eventually([&] { return served_->run([&] { return function().held_reads.size() == 1; }); }));
    served_->run([&] {
        served_->server->drop_client(); // destroys the reply unanswered
        function().hold = false;
    });
    EXPECT_TRUE(peer.closed_by_peer());
}

} // namespace
} // namespace lanepool::vfio_user
