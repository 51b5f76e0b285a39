// SPDX-License-Identifier: Apache-2.0
//
// Devices of the pool: a drive and a DMA engine of a third host.
#include "fixture.h"

#include "dma_model/registers.h"

#include <cstring>
#include <vector>

namespace lanepool::sisci_test {
namespace {

using namespace dma_model;

uint32_t id_of(const char* name) {
    std::string value = setting(name);
    EXPECT_FALSE(value.empty()) << name << " is not set: run tests/cluster/sisci_test.py";
    return static_cast<uint32_t>(std::strtoul(value.c_str(), nullptr, 16));
}

// A device that has just been given back is reset first.
template <class Call>
sci_error_t while_unavailable(Call&& call) {
    return while_busy([&] {
        sci_error_t error = call();
        return error == SCI_ERR_NOT_AVAILABLE ? SCI_ERR_BUSY : error;
    });
}

class SisciDevices : public SisciPair {
  protected:
    void SetUp() override {
        SisciPair::SetUp();
        drive = id_of("LANEPOOL_DRIVE");
        engine = id_of("LANEPOOL_ENGINE");
    }

    std::vector<uint32_t> list(sci_smartio_device_info_t filter) {
        std::vector<uint32_t> ids(16);
        sci_error_t error = 0;
        ids.resize(SCIGetDeviceList(sd, ids.data(), ids.size(), &filter, 0, &error));
        EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
        return ids;
    }
    sci_smartio_device_info_t info(uint32_t id) {
        sci_smartio_device_info_t answer{};
        sci_smartio_query_device_t query{.fdid = id, .subcommand = SCI_Q_DEVICE_INFO, .data = &answer};
        EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_DEVICE, &query, 0);
        return answer;
    }
    sci_smartio_device_t borrow(uint32_t id, unsigned flags) {
        sci_smartio_device_t device = nullptr;
        EXPECT_EQ(Code{SCI_ERR_OK}, Code{while_unavailable([&] {
                      return outcome(SCIBorrowDevice, sd, &device, id, flags).value;
                  })});
        return device;
    }
    void give_back(sci_smartio_device_t device) { EXPECT_SCI(SCI_ERR_OK, SCIReturnDevice, device, 0); }

    uint32_t drive = 0, engine = 0;
};

TEST_F(SisciDevices, are_listed) {
    auto has = [](const std::vector<uint32_t>& ids, uint32_t id) {
        return std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    EXPECT_TRUE(has(list({}), drive));
    EXPECT_TRUE(has(list({}), engine));
    sci_smartio_device_info_t filter{};
    filter.pci_class = 0x010802;
    EXPECT_TRUE(has(list(filter), drive));
    EXPECT_FALSE(has(list(filter), engine));
    filter = {};
    filter.pci_device_id = device_id;
    EXPECT_EQ(std::vector{engine}, list(filter));
    filter = {};
    filter.fdid = drive;
    EXPECT_EQ(std::vector{drive}, list(filter));
    filter.pci_vendor_id = 0x1234;
    EXPECT_TRUE(list(filter).empty());
    filter = {};
    std::strcpy(filter.user_name, "store/dma0");
    EXPECT_EQ(std::vector{engine}, list(filter));
    filter = {};
    filter.nodeid = node; // this host lends nothing
    EXPECT_TRUE(list(filter).empty());
    std::strcpy(filter.uuid, "x");
    EXPECT_TRUE(list(filter).empty());

    uint32_t ids[4] = {};
    sci_error_t error = 0;
    EXPECT_EQ(1u, SCIGetDeviceList(sd, ids, 1, nullptr, 0, &error));
    EXPECT_EQ(0u, ids[1]);
    EXPECT_EQ(0u, SCIGetDeviceList(sd, nullptr, 0, nullptr, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    EXPECT_EQ(0u, SCIGetDeviceList(sd, nullptr, 4, nullptr, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, Code{error});
    EXPECT_EQ(0u, SCIGetDeviceList(nullptr, ids, 4, nullptr, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, Code{error});
    EXPECT_EQ(0u, SCIGetDeviceList(sd, ids, 4, nullptr, 1, &error));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, Code{error});
}

TEST_F(SisciDevices, say_what_they_are) {
    sci_smartio_device_info_t answer = info(engine);
    EXPECT_EQ(engine, answer.fdid);
    EXPECT_EQ(device_id, answer.pci_device_id);
    EXPECT_EQ(class_code, answer.pci_class);
    EXPECT_EQ(0u, answer.adapter);
    EXPECT_STREQ("store/dma0", answer.user_name);
    sci_smartio_query_device_t query{.fdid = 1, .subcommand = SCI_Q_DEVICE_INFO, .data = &answer};
    EXPECT_SCI(SCI_ERR_NO_SUCH_FDID, SCIQuery, SCI_Q_DEVICE, &query, 0);
    query = {.fdid = engine, .subcommand = 1, .data = &answer};
    EXPECT_SCI(SCI_ERR_ILLEGAL_QUERY, SCIQuery, SCI_Q_DEVICE, &query, 0);
    query = {.fdid = engine, .subcommand = SCI_Q_DEVICE_INFO, .data = nullptr};
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIQuery, SCI_Q_DEVICE, &query, 0);
}

TEST_F(SisciDevices, are_one_borrowers_where_he_says_so) {
    sci_smartio_device_t device = nullptr;
    EXPECT_SCI(SCI_ERR_NO_SUCH_FDID, SCIBorrowDevice, sd, &device, 1, SCI_FLAG_EXCLUSIVE);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIBorrowDevice, sd, &device, engine, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIBorrowDevice, nullptr, &device, engine, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIBorrowDevice, sd, nullptr, engine, 0);
    EXPECT_EQ(nullptr, device);
    device = borrow(engine, SCI_FLAG_EXCLUSIVE);
    EXPECT_EQ(engine, SCIGetFabricDeviceId(device));
    EXPECT_ORDER(SCI_ERR_NOT_AVAILABLE, *peer, Order::borrow_device, 0, engine, SCI_FLAG_EXCLUSIVE);
    EXPECT_ORDER(SCI_ERR_NOT_AVAILABLE, *peer, Order::borrow_device, 0, engine, 0);
    sci_smartio_device_t again = nullptr;
    EXPECT_SCI(SCI_ERR_NOT_AVAILABLE, SCIBorrowDevice, sd, &again, engine, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIReturnDevice, device, 1);
    EXPECT_SCI(SCI_ERR_BUSY, SCIClose, sd, 0);
    give_back(device);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIReturnDevice, device, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIReturnDevice, nullptr, 0);
    EXPECT_EQ(0u, SCIGetFabricDeviceId(device));
}

TEST_F(SisciDevices, are_shared_by_those_who_share) {
    sci_smartio_device_t device = borrow(engine, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::borrow_device, 0, engine, 0);
    sci_smartio_device_t alone = nullptr;
    EXPECT_SCI(SCI_ERR_NOT_AVAILABLE, SCIBorrowDevice, sd, &alone, engine, SCI_FLAG_EXCLUSIVE);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::return_device, 0);
    give_back(device);
}

TEST_F(SisciDevices, show_their_registers) {
    sci_smartio_device_t device = borrow(engine, 0);
    sci_remote_segment_t bar = nullptr;
    auto connecting = [&](unsigned id, unsigned memtype, unsigned flags = 0) {
        return outcome(SCIConnectDeviceSegment, device, &bar, id, memtype, nullptr, nullptr, flags);
    };
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_SEGMENT}, connecting(2, SCI_MEMTYPE_BAR));
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_SEGMENT}, connecting(6, SCI_MEMTYPE_BAR));
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_SEGMENT}, connecting(9, SCI_MEMTYPE_PRIVATE));
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_SEGMENT}, connecting(9, SCI_MEMTYPE_SHARED));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, connecting(0, 3));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, connecting(0, SCI_MEMTYPE_BAR, unknown_flag));
    EXPECT_EQ(Code{SCI_ERR_FLAG_NOT_IMPLEMENTED}, connecting(0, SCI_MEMTYPE_BAR, SCI_FLAG_SPECIFY_PATH));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, connecting(0, SCI_MEMTYPE_BAR, SCI_FLAG_USE_CALLBACK));
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIConnectDeviceSegment, nullptr, &bar, 0, SCI_MEMTYPE_BAR, nullptr,
               nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIConnectDeviceSegment, device, nullptr, 0, SCI_MEMTYPE_BAR,
               nullptr, nullptr, 0);
    ASSERT_EQ(Code{SCI_ERR_OK}, connecting(0, SCI_MEMTYPE_BAR));
    EXPECT_EQ(bar0_bytes, SCIGetRemoteSegmentSize(bar));
    EXPECT_EQ(info(engine).nodeid, SCIGetRemoteSegmentNodeId(bar));
    sci_map_t map = nullptr;
    sci_error_t error = 0;
    auto* registers = static_cast<volatile uint32_t*>(
        SCIMapRemoteSegment(bar, &map, 0, bar0_bytes, nullptr, SCI_FLAG_IO_MAP_IOSPACE, &error));
    ASSERT_EQ(Code{SCI_ERR_OK}, Code{error});
    EXPECT_EQ(magic, registers[reg::identity / 4]);
    registers[reg::scratch / 4] = 77;
    EXPECT_EQ(77u, registers[reg::scratch / 4]);
    EXPECT_SCI(SCI_ERR_BUSY, SCIReturnDevice, device, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, map, 0);
    EXPECT_SCI(SCI_ERR_BUSY, SCIReturnDevice, device, 0);
    disconnect(bar);
    give_back(device);
}

TEST_F(SisciDevices, have_memory_beside_them) {
    sci_smartio_device_t device = borrow(engine, 0);
    auto create = [&](unsigned id, size_t size, unsigned memtype, unsigned hints = 0, unsigned flags = 0) {
        return outcome(SCICreateDeviceSegment, device, id, size, memtype, hints, flags);
    };
    EXPECT_EQ(Code{SCI_ERR_SIZE_ALIGNMENT}, create(1, 0, SCI_MEMTYPE_PRIVATE));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, create(1, page, SCI_MEMTYPE_BAR));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, create(1, page, SCI_MEMTYPE_PRIVATE, 0x100));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, create(1, page, SCI_MEMTYPE_PRIVATE, 0, unknown_flag));
    EXPECT_EQ(Code{SCI_ERR_FLAG_NOT_IMPLEMENTED},
              create(1, page, SCI_MEMTYPE_PRIVATE, 0, SCI_FLAG_LOCAL_ONLY));
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateDeviceSegment, nullptr, 1, page, SCI_MEMTYPE_PRIVATE, 0,
               0);
    EXPECT_EQ(Code{SCI_ERR_OK},
              create(1, page, SCI_MEMTYPE_PRIVATE, SCI_MEMACCESS_DEVICE_READ | SCI_MEMACCESS_HOST_WRITE,
                     SCI_FLAG_DEVICE_SIDE_ONLY));
    EXPECT_EQ(Code{SCI_ERR_SEGMENTID_USED}, create(1, page, SCI_MEMTYPE_PRIVATE));
    EXPECT_EQ(Code{SCI_ERR_OK}, create(1, page, SCI_MEMTYPE_SHARED, SCI_MEMACCESS_MULTIHOST_READ));
    EXPECT_EQ(Code{SCI_ERR_SEGMENTID_USED}, create(1, page, SCI_MEMTYPE_SHARED));
    EXPECT_EQ(Code{SCI_ERR_OK}, create(2, 96, SCI_MEMTYPE_PRIVATE)); // rounded up to whole pages
    EXPECT_EQ(Code{SCI_ERR_NOSPC}, create(3, SIZE_MAX, SCI_MEMTYPE_PRIVATE));

    // The other host's private ones are its own, the shared ones are the same.
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::borrow_device, 0, engine, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::create_device_segment, 0, 1, page, SCI_MEMTYPE_PRIVATE);
    EXPECT_ORDER(SCI_ERR_SEGMENTID_USED, *peer, Order::create_device_segment, 0, 1, page, SCI_MEMTYPE_SHARED);
    sci_remote_segment_t own = nullptr, shared = nullptr;
    sci_map_t own_map = nullptr, shared_map = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCIConnectDeviceSegment, device, &own, 1, SCI_MEMTYPE_PRIVATE, nullptr, nullptr,
               0);
    ASSERT_SCI(SCI_ERR_OK, SCIConnectDeviceSegment, device, &shared, 1, SCI_MEMTYPE_SHARED, nullptr, nullptr,
               0);
    EXPECT_EQ(info(engine).nodeid, SCIGetRemoteSegmentNodeId(shared));
    EXPECT_EQ(1u, SCIGetRemoteSegmentId(shared));
    sci_error_t error = 0;
    auto* own_bytes =
        static_cast<volatile uint8_t*>(SCIMapRemoteSegment(own, &own_map, 0, page, nullptr, 0, &error));
    auto* shared_bytes =
        static_cast<volatile uint8_t*>(SCIMapRemoteSegment(shared, &shared_map, 0, page, nullptr, 0, &error));
    EXPECT_EQ(0, own_bytes[0]);
    own_bytes[0] = 1;
    shared_bytes[0] = 2;
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_device_segment, 0, 0, 1, SCI_MEMTYPE_PRIVATE);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_device_segment, 0, 1, 1, SCI_MEMTYPE_SHARED);
    EXPECT_EQ(0u, peer->ask(Order::read_remote, 0, 0).value);
    EXPECT_EQ(2u, peer->ask(Order::read_remote, 1, 0).value);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_segment, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_segment, 1);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::return_device, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, own_map, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, shared_map, 0);
    disconnect(own);
    disconnect(shared);
    give_back(device);
}

TEST_F(SisciDevices, reach_local_segments_in_the_right_order_only) {
    sci_smartio_device_t device = borrow(engine, SCI_FLAG_EXCLUSIVE);
    sci_local_segment_t segment = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, 512, 2 * page, nullptr, nullptr, SCI_FLAG_AUTO_ID);
    sci_ioaddr_t address = 0;
    auto map = [&](size_t offset, size_t size, unsigned adapter = 0, unsigned flags = 0) {
        return outcome(SCIMapLocalSegmentForDevice, segment, adapter, device, &address, offset, size, flags);
    };
    EXPECT_EQ(Code{SCI_ERR_SEGMENT_NOT_PREPARED}, map(0, page));
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareSegment, segment, 0, 0);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_OPERATION}, map(0, page));
    EXPECT_SCI(SCI_ERR_OK, SCISetSegmentAvailable, segment, 0, 0);
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_ADAPTERNO}, map(0, page, 1));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, map(0, page, 0, 1));
    EXPECT_EQ(Code{SCI_ERR_SIZE_ALIGNMENT}, map(0, 0));
    EXPECT_EQ(Code{SCI_ERR_OFFSET_ALIGNMENT}, map(8, page));
    EXPECT_EQ(Code{SCI_ERR_OUT_OF_RANGE}, map(page, 2 * page));
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMapLocalSegmentForDevice, nullptr, 0, device, &address, 0, page,
               0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMapLocalSegmentForDevice, segment, 0, nullptr, &address, 0, page,
               0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMapLocalSegmentForDevice, segment, 0, device, nullptr, 0, page,
               0);
    EXPECT_EQ(0u, address);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIUnmapLocalSegmentForDevice, segment, 0, device, 0);
    ASSERT_EQ(Code{SCI_ERR_OK}, map(page, page));
    EXPECT_EQ(Code{SCI_ERR_BUSY}, map(0, page));
    EXPECT_SCI(SCI_ERR_BUSY, SCIRemoveSegment, segment, 0);
    EXPECT_SCI(SCI_ERR_BUSY, SCIReturnDevice, device, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIUnmapLocalSegmentForDevice, segment, 0, device, 1);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCIUnmapLocalSegmentForDevice, segment, 1, device, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIUnmapLocalSegmentForDevice, nullptr, 0, device, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIUnmapLocalSegmentForDevice, segment, 0, nullptr, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapLocalSegmentForDevice, segment, 0, device, 0);
    EXPECT_EQ(Code{SCI_ERR_OK}, map(0, 2 * page)); // another part of it
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapLocalSegmentForDevice, segment, 0, device, 0);
    remove(segment);

    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, 1, page, nullptr, nullptr, SCI_FLAG_PRIVATE);
    EXPECT_EQ(Code{SCI_ERR_SEGMENT_NOT_PREPARED}, map(0, page));
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareSegment, segment, 0, 0);
    EXPECT_EQ(Code{SCI_ERR_OK}, map(0, page));
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapLocalSegmentForDevice, segment, 0, device, 0);
    remove(segment);
    give_back(device);
}

// The engine at work: copies 64 bytes from one address of its own to another.
class SisciEngine : public SisciDevices {
  protected:
    void SetUp() override {
        SisciDevices::SetUp();
        device = borrow(engine, SCI_FLAG_EXCLUSIVE);
        sci_error_t error = 0;
        ASSERT_SCI(SCI_ERR_OK, SCIConnectDeviceSegment, device, &bar, 0, SCI_MEMTYPE_BAR, nullptr, nullptr,
                   0);
        registers = static_cast<volatile uint32_t*>(
            SCIMapRemoteSegment(bar, &bar_map, 0, bar0_bytes, nullptr, SCI_FLAG_IO_MAP_IOSPACE, &error));
        local = show(fresh(), 2 * page);
        memory =
            static_cast<uint8_t*>(SCIMapLocalSegment(local, &local_map, 0, 2 * page, nullptr, 0, &error));
        ASSERT_SCI(SCI_ERR_OK, SCIMapLocalSegmentForDevice, local, 0, device, &address, 0, 2 * page, 0);
    }
    void TearDown() override {
        EXPECT_SCI(SCI_ERR_OK, SCIUnmapLocalSegmentForDevice, local, 0, device, 0);
        EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, local_map, 0);
        remove(local);
        EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, bar_map, 0);
        disconnect(bar);
        give_back(device);
        SisciDevices::TearDown();
    }
    // The ring is in the first page.
    uint32_t copy(uint64_t from, uint64_t to) {
        std::memset(memory, 0, page);
        auto& descriptor = *reinterpret_cast<Descriptor*>(memory);
        descriptor.opcode = static_cast<uint16_t>(Opcode::copy);
        descriptor.length = 64;
        descriptor.source = from;
        descriptor.destination = to;
        registers[reg::ring_base_low / 4] = static_cast<uint32_t>(address);
        registers[reg::ring_base_high / 4] = static_cast<uint32_t>(address >> 32);
        registers[reg::ring_entries / 4] = 2;
        registers[reg::control / 4] = 1;
        wait([&] { return registers[reg::status / 4] & 1; });
        registers[reg::tail / 4] = 1;
        auto* finished = reinterpret_cast<volatile uint32_t*>(memory + offsetof(Descriptor, outcome));
        wait([&] { return *finished != 0; });
        uint32_t result = *finished;
        registers[reg::control / 4] = 0;
        wait([&] { return registers[reg::status / 4] == 0; });
        return result;
    }
    template <class Ready>
    void wait(Ready&& ready) {
        auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(long_ms);
        while (!ready() && std::chrono::steady_clock::now() < end)
            std::this_thread::yield();
        EXPECT_TRUE(ready());
    }
    uint8_t* data() { return memory + page; } // the second page, for data
    sci_ioaddr_t data_address() { return address + page; }

    static constexpr uint32_t done = static_cast<uint32_t>(Outcome::done);
    sci_smartio_device_t device = nullptr;
    sci_remote_segment_t bar = nullptr;
    sci_map_t bar_map = nullptr, local_map = nullptr;
    sci_local_segment_t local = nullptr;
    volatile uint32_t* registers = nullptr;
    uint8_t* memory = nullptr;
    sci_ioaddr_t address = 0;
};

TEST_F(SisciEngine, reaches_what_is_mapped_for_it_and_nothing_else) {
    std::memcpy(data(), "hello", 6);
    EXPECT_EQ(done, copy(data_address(), data_address() + 64));
    EXPECT_STREQ("hello", reinterpret_cast<char*>(data() + 64));
    EXPECT_EQ(static_cast<uint32_t>(Outcome::source_unreachable),
              copy(data_address() + page, data_address()));
    EXPECT_EQ(static_cast<uint32_t>(Outcome::destination_unreachable),
              copy(data_address(), data_address() + (uint64_t{1} << 40)));
}

TEST_F(SisciEngine, reaches_a_segment_of_another_host) {
    sci_remote_segment_t remote = connect(peer_node, peer_shows(0));
    sci_ioaddr_t there = 0;
    EXPECT_SCI(SCI_ERR_OFFSET_ALIGNMENT, SCIMapRemoteSegmentForDevice, remote, device, &there, 4, 8, 0);
    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCIMapRemoteSegmentForDevice, remote, device, &there, 0, page + 1, 0);
    EXPECT_SCI(SCI_ERR_SIZE_ALIGNMENT, SCIMapRemoteSegmentForDevice, remote, device, &there, 0, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIMapRemoteSegmentForDevice, remote, device, &there, 0, page, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMapRemoteSegmentForDevice, nullptr, device, &there, 0, page, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMapRemoteSegmentForDevice, remote, nullptr, &there, 0, page, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMapRemoteSegmentForDevice, remote, device, nullptr, 0, page, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIUnmapRemoteSegmentForDevice, remote, device, 0);
    ASSERT_SCI(SCI_ERR_OK, SCIMapRemoteSegmentForDevice, remote, device, &there, 0, page, 0);
    EXPECT_SCI(SCI_ERR_BUSY, SCIMapRemoteSegmentForDevice, remote, device, &there, 0, page, 0);
    EXPECT_SCI(SCI_ERR_BUSY, SCIDisconnectSegment, remote, 0);
    data()[0] = 88;
    EXPECT_EQ(done, copy(data_address(), there));
    EXPECT_EQ(88u, peer->ask(Order::read_local, 0, 0).value);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIUnmapRemoteSegmentForDevice, remote, device, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIUnmapRemoteSegmentForDevice, remote, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIUnmapRemoteSegmentForDevice, nullptr, device, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapRemoteSegmentForDevice, remote, device, 0);
    EXPECT_EQ(static_cast<uint32_t>(Outcome::destination_unreachable), copy(data_address(), there));
    disconnect(remote);
}

TEST_F(SisciEngine, reaches_memory_beside_it) {
    sci_remote_segment_t beside = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateDeviceSegment, device, 5, page, SCI_MEMTYPE_PRIVATE,
               SCI_MEMACCESS_DEVICE_READ | SCI_MEMACCESS_HOST_WRITE, 0);
    ASSERT_SCI(SCI_ERR_OK, SCIConnectDeviceSegment, device, &beside, 5, SCI_MEMTYPE_PRIVATE, nullptr, nullptr,
               0);
    sci_map_t map = nullptr;
    sci_error_t error = 0;
    auto* bytes =
        static_cast<volatile uint8_t*>(SCIMapRemoteSegment(beside, &map, 0, page, nullptr, 0, &error));
    sci_ioaddr_t there = 0;
    ASSERT_SCI(SCI_ERR_OK, SCIMapRemoteSegmentForDevice, beside, device, &there, 0, page, 0);
    bytes[0] = 99;
    EXPECT_EQ(done, copy(there, data_address()));
    EXPECT_EQ(99, data()[0]);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapRemoteSegmentForDevice, beside, device, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, map, 0);
    disconnect(beside);
}

TEST_F(SisciEngine, reaches_registers_of_another_device) {
    sci_smartio_device_t other = borrow(drive, 0);
    sci_remote_segment_t other_bar = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCIConnectDeviceSegment, other, &other_bar, 0, SCI_MEMTYPE_BAR, nullptr, nullptr,
               0);
    sci_map_t map = nullptr;
    sci_error_t error = 0;
    auto* drive_registers = static_cast<volatile uint32_t*>(
        SCIMapRemoteSegment(other_bar, &map, 0, page, nullptr, SCI_FLAG_IO_MAP_IOSPACE, &error));
    ASSERT_EQ(Code{SCI_ERR_OK}, Code{error});
    sci_ioaddr_t there = 0;
    ASSERT_SCI(SCI_ERR_OK, SCIMapRemoteSegmentForDevice, other_bar, device, &there, 0, page, 0);
    EXPECT_EQ(done, copy(there, data_address()));
    uint32_t version = 0;
    std::memcpy(&version, data() + 8, sizeof version); // VS (NVM Express 1.4, 3.1.2)
    EXPECT_EQ(drive_registers[2], version);
    EXPECT_NE(0u, version);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapRemoteSegmentForDevice, other_bar, device, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, map, 0);
    disconnect(other_bar);
    give_back(other);
}

TEST_F(SisciDevices, are_lost_when_they_are_reclaimed) {
    struct Told {
        Said<sci_segment_cb_reason_t> lost;
    } told;
    auto callback = [](void* arg, sci_remote_segment_t, sci_segment_cb_reason_t reason, sci_error_t) {
        static_cast<Told*>(arg)->lost.say(reason);
        return SCI_CALLBACK_CANCEL;
    };
    sci_smartio_device_t device = borrow(engine, SCI_FLAG_EXCLUSIVE);
    sci_remote_segment_t bar = nullptr, other = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCIConnectDeviceSegment, device, &bar, 0, SCI_MEMTYPE_BAR,
               static_cast<sci_cb_remote_segment_t>(callback), &told, SCI_FLAG_USE_CALLBACK);
    sci_map_t map = nullptr;
    sci_error_t error = 0;
    auto* registers = static_cast<volatile uint32_t*>(
        SCIMapRemoteSegment(bar, &map, 0, bar0_bytes, nullptr, SCI_FLAG_IO_MAP_IOSPACE, &error));
    sci_local_segment_t local = show(fresh());
    sci_ioaddr_t address = 0;
    ASSERT_SCI(SCI_ERR_OK, SCIMapLocalSegmentForDevice, local, 0, device, &address, 0, page, 0);

    ASSERT_EQ(0, std::system(setting("LANEPOOL_RECLAIM_ENGINE").c_str()));
    EXPECT_EQ(SCI_CB_LOST, told.lost.hear());
    registers[reg::scratch / 4] = 1; // harms nobody
    sci_map_t late = nullptr;
    EXPECT_SCI(SCI_ERR_NOT_CONNECTED, SCIMapRemoteSegment, bar, &late, 0, page, nullptr, 0);
    EXPECT_SCI(SCI_ERR_NOT_CONNECTED, SCIConnectDeviceSegment, device, &other, 0, SCI_MEMTYPE_BAR, nullptr,
               nullptr, 0);
    EXPECT_SCI(SCI_ERR_NOT_CONNECTED, SCICreateDeviceSegment, device, 1, page, SCI_MEMTYPE_PRIVATE, 0, 0);
    sci_local_segment_t second = show(fresh());
    EXPECT_SCI(SCI_ERR_NOT_CONNECTED, SCIMapLocalSegmentForDevice, second, 0, device, &address, 0, page, 0);

    // Who gives back what was taken from him does nothing wrong.
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapLocalSegmentForDevice, local, 0, device, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, map, 0);
    disconnect(bar);
    give_back(device);
    remove(local);
    remove(second);
    // Once it is reset it can be had again.
    give_back(borrow(engine, SCI_FLAG_EXCLUSIVE));
}

TEST_F(SisciDevices, are_given_back_by_who_dies) {
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{while_unavailable([&] {
                  return peer->tell(Order::borrow_device, 0, engine, SCI_FLAG_EXCLUSIVE);
              })});
    peer->die();
    give_back(borrow(engine, SCI_FLAG_EXCLUSIVE));
}

TEST_F(Sisci, registers_requesters) {
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRegisterPCIeRequester, sd, 0, 256, 0,
               SCI_FLAG_PCIE_REQUESTER_GLOBAL);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRegisterPCIeRequester, sd, 0, 0, 256, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRegisterPCIeRequester, nullptr, 0, 1, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIRegisterPCIeRequester, sd, 0, 1, 0, 2);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCIRegisterPCIeRequester, sd, 1, 1, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIUnregisterPCIeRequester, sd, 0, 1, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIUnregisterPCIeRequester, nullptr, 0, 1, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIUnregisterPCIeRequester, sd, 0, 1, 0, 2);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCIUnregisterPCIeRequester, sd, 1, 1, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIRegisterPCIeRequester, sd, 0, 5, 8, SCI_FLAG_PCIE_REQUESTER_GLOBAL);
    EXPECT_SCI(SCI_ERR_BUSY, SCIRegisterPCIeRequester, sd, 0, 5, 8, 0);
    EXPECT_SCI(SCI_ERR_BUSY, SCIClose, sd, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnregisterPCIeRequester, sd, 0, 5, 8, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIUnregisterPCIeRequester, sd, 0, 5, 8, 0);
}

} // namespace
} // namespace lanepool::sisci_test
