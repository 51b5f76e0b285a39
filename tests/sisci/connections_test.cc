// SPDX-License-Identifier: Apache-2.0
//
// Remote segments, mapping, copying and sequences.
#include "fixture.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace lanepool::sisci_test {
namespace {

// A map, and what is there.
struct Mapped {
    sci_map_t map = nullptr;
    uint8_t* bytes = nullptr;
};
Mapped map_local(sci_local_segment_t segment, size_t size, unsigned flags = 0) {
    Mapped mapped;
    sci_error_t error = 0;
    mapped.bytes =
        static_cast<uint8_t*>(SCIMapLocalSegment(segment, &mapped.map, 0, size, nullptr, flags, &error));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    return mapped;
}
Mapped map_remote(sci_remote_segment_t segment, size_t size, unsigned flags = 0) {
    Mapped mapped;
    sci_error_t error = 0;
    mapped.bytes = static_cast<uint8_t*>(
        const_cast<void*>(SCIMapRemoteSegment(segment, &mapped.map, 0, size, nullptr, flags, &error)));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    return mapped;
}
void unmap(Mapped mapped) { EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, mapped.map, 0); }

TEST_F(SisciPair, connects_to_a_segment_of_another_host) {
    unsigned id = peer_shows(0, 3 * page);
    sci_remote_segment_t segment = connect(peer_node, id);
    EXPECT_EQ(3 * page, SCIGetRemoteSegmentSize(segment));
    EXPECT_EQ(id, SCIGetRemoteSegmentId(segment));
    EXPECT_EQ(peer_node, SCIGetRemoteSegmentNodeId(segment));
    Mapped there = map_remote(segment, 3 * page);
    there.bytes[2 * page + 5] = 99;
    SCIFlush(nullptr, 0);
    EXPECT_EQ(99u, peer->ask(Order::read_local, 0, 2 * page + 5).value);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::write_local, 0, 7, 55);
    EXPECT_EQ(55, there.bytes[7]);
    EXPECT_SCI(SCI_ERR_BUSY, SCIDisconnectSegment, segment, 0); // it is mapped
    unmap(there);
    disconnect(segment);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIDisconnectSegment, segment, 0);
    EXPECT_EQ(0u, SCIGetRemoteSegmentSize(segment));
    EXPECT_EQ(0u, SCIGetRemoteSegmentId(nullptr));
    EXPECT_EQ(0u, SCIGetRemoteSegmentNodeId(nullptr));
}

TEST_F(Sisci, connects_to_its_own_host) {
    unsigned id = fresh();
    sci_local_segment_t segment = show(id);
    sci_remote_segment_t connected = connect(node, id);
    Mapped here = map_local(segment, page), there = map_remote(connected, page);
    here.bytes[1] = 5;
    EXPECT_EQ(5, there.bytes[1]);
    unmap(here);
    unmap(there);
    EXPECT_SCI(SCI_ERR_BUSY, SCIRemoveSegment, segment, 0);
    disconnect(connected);
    remove(segment);
}

TEST_F(SisciPair, says_why_it_does_not_connect) {
    sci_remote_segment_t segment = nullptr;
    auto result = [&](unsigned to, unsigned id, unsigned adapter, unsigned flags, sci_desc_t descriptor) {
        return outcome(SCIConnectSegment, descriptor, &segment, to, id, adapter, nullptr, nullptr, soon_ms,
                       flags);
    };
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_SEGMENT}, result(peer_node, fresh(), 0, 0, sd));
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_SEGMENT}, result(node, fresh(), 0, 0, sd));
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_NODEID}, result(200, 1, 0, 0, sd));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_NODEID}, result(DIS_BROADCAST_NODEID_GROUP_ALL, 1, 0, 0, sd));
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_ADAPTERNO}, result(peer_node, 1, 1, 0, sd));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_ADAPTERNO}, result(peer_node, 1, DIS_MAX_NSCIS, 0, sd));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, result(peer_node, 1, 0, unknown_flag, sd));
    EXPECT_EQ(Code{SCI_ERR_FLAG_NOT_IMPLEMENTED}, result(peer_node, 1, 0, SCI_FLAG_BROADCAST, sd));
    EXPECT_EQ(Code{SCI_ERR_FLAG_NOT_IMPLEMENTED}, result(peer_node, 1, 0, SCI_FLAG_ASYNCHRONOUS_CONNECT, sd));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, result(peer_node, 1, 0, SCI_FLAG_USE_CALLBACK, sd));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, result(peer_node, 1, 0, 0, nullptr));
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIConnectSegment, sd, nullptr, peer_node, 1, 0, nullptr, nullptr,
               0, 0);
    EXPECT_EQ(nullptr, segment);
}

TEST_F(SisciPair, waits_for_a_segment_to_be_there) {
    unsigned id = fresh();
    auto connecting = std::async(std::launch::async, [&] { return connect(peer_node, id); });
    EXPECT_EQ(std::future_status::timeout, connecting.wait_for(std::chrono::milliseconds(soon_ms)));
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::create_segment, 0, id, page);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::prepare_segment, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::segment_available, 0);
    disconnect(connecting.get());
}

TEST_F(SisciPair, tells_a_callback_that_it_is_lost) {
    struct Told {
        Said<std::pair<sci_segment_cb_reason_t, sci_remote_segment_t>> lost;
    } told;
    auto callback = [](void* arg, sci_remote_segment_t segment, sci_segment_cb_reason_t reason,
                       sci_error_t status) {
        EXPECT_EQ(Code{SCI_ERR_OK}, Code{status});
        static_cast<Told*>(arg)->lost.say({reason, segment});
        return SCI_CALLBACK_CANCEL;
    };
    unsigned id = peer_shows(0);
    sci_remote_segment_t segment = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCIConnectSegment, sd, &segment, peer_node, id, 0,
               static_cast<sci_cb_remote_segment_t>(callback), &told, long_ms, SCI_FLAG_USE_CALLBACK);
    Mapped there = map_remote(segment, page);
    sci_sequence_t sequence = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateMapSequence, there.map, &sequence, 0);
    sci_error_t error = 0;
    EXPECT_EQ(SCI_SEQ_OK, SCIStartSequence(sequence, 0, &error));
    SCIWaitForRemoteSegmentEvent(segment, nullptr, 0, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_OPERATION}, Code{error});

    peer->die();
    EXPECT_EQ(std::pair(SCI_CB_LOST, segment), told.lost.hear());
    there.bytes[0] = 1; // it leads to nobody's memory, and does no harm
    uint8_t byte = 1;
    EXPECT_EQ(SCI_SEQ_NOT_RETRIABLE, SCICheckSequence(sequence, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    EXPECT_SCI(SCI_ERR_TRANSFER_FAILED, SCIMemCpy, sequence, &byte, there.map, 0, 1, 0);
    sci_map_t map = nullptr;
    EXPECT_SCI(SCI_ERR_NOT_CONNECTED, SCIMapRemoteSegment, segment, &map, 0, page, nullptr, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveSequence, sequence, 0);
    unmap(there);
    disconnect(segment);
}

TEST_F(SisciPair, waits_for_a_loss) {
    sci_remote_segment_t segment = connect(peer_node, peer_shows(0));
    sci_error_t error = 0, status = 99;
    SCIWaitForRemoteSegmentEvent(segment, &status, soon_ms, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_TIMEOUT}, Code{error});
    peer->die();
    EXPECT_EQ(SCI_CB_LOST, SCIWaitForRemoteSegmentEvent(segment, &status, long_ms, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{status});
    SCIWaitForRemoteSegmentEvent(segment, &status, 0, 1, &error);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, Code{error});
    SCIWaitForRemoteSegmentEvent(nullptr, &status, 0, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, Code{error});
    auto waiting = std::async(std::launch::async, [&] {
        sci_error_t end = 0;
        SCIWaitForRemoteSegmentEvent(segment, nullptr, SCI_INFINITE_TIMEOUT, 0, &end);
        return Code{end};
    });
    EXPECT_EQ(std::future_status::timeout, waiting.wait_for(std::chrono::milliseconds(soon_ms)));
    disconnect(segment);
    EXPECT_EQ(Code{SCI_ERR_CANCELLED}, waiting.get());
}

TEST_F(SisciPair, checks_what_is_mapped) {
    sci_local_segment_t local = show(fresh(), 2 * page);
    sci_remote_segment_t remote = connect(peer_node, peer_shows(0, 2 * page));
    sci_map_t map = nullptr;
    auto both = [&](sci_error_t expected, size_t offset, size_t size, void* address, unsigned flags) {
        EXPECT_SCI(expected, SCIMapLocalSegment, local, &map, offset, size, address, flags);
        EXPECT_EQ(nullptr, map);
        EXPECT_SCI(expected, SCIMapRemoteSegment, remote, &map, offset, size, address, flags);
        EXPECT_EQ(nullptr, map);
    };
    both(SCI_ERR_SIZE_ALIGNMENT, 0, 0, nullptr, 0);
    both(SCI_ERR_OFFSET_ALIGNMENT, 3, 4, nullptr, 0);
    both(SCI_ERR_OUT_OF_RANGE, 0, 2 * page + 1, nullptr, 0);
    both(SCI_ERR_OUT_OF_RANGE, page, page + 1, nullptr, 0);
    both(SCI_ERR_OUT_OF_RANGE, page, SIZE_MAX, nullptr, 0);
    both(SCI_ERR_OUT_OF_RANGE, 3 * page, 4, nullptr, 0);
    both(SCI_ERR_ILLEGAL_FLAG, 0, page, nullptr, unknown_flag);
    both(SCI_ERR_FLAG_NOT_IMPLEMENTED, 0, page, nullptr, SCI_FLAG_LOCK_OPERATION);
    both(SCI_ERR_FLAG_NOT_IMPLEMENTED, 0, page, nullptr, SCI_FLAG_CONDITIONAL_INTERRUPT_MAP);
    both(SCI_ERR_ILLEGAL_ADDRESS, 0, page, nullptr, SCI_FLAG_FIXED_MAP_ADDR);
    both(SCI_ERR_ILLEGAL_ADDRESS, 0, page, reinterpret_cast<void*>(0x7000100), SCI_FLAG_FIXED_MAP_ADDR);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMapLocalSegment, nullptr, &map, 0, page, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMapLocalSegment, local, nullptr, 0, page, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMapRemoteSegment, nullptr, &map, 0, page, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMapRemoteSegment, remote, nullptr, 0, page, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIUnmapSegment, nullptr, 0);
    disconnect(remote);
    remove(local);
}

TEST_F(SisciPair, maps_where_it_is_told_and_parts) {
    sci_remote_segment_t remote = connect(peer_node, peer_shows(0, 2 * page));
    sci_local_segment_t local = show(fresh(), 2 * page);
    void* room = mmap(nullptr, 8 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sci_map_t map = nullptr;
    // Something is there.
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADDRESS, SCIMapRemoteSegment, remote, &map, 0, page, room,
               SCI_FLAG_FIXED_MAP_ADDR);
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADDRESS, SCIMapLocalSegment, local, &map, 0, page, room,
               SCI_FLAG_FIXED_MAP_ADDR);
    munmap(room, 8 * page);
    sci_error_t error = 0;
    EXPECT_EQ(room, SCIMapRemoteSegment(remote, &map, 0, page, room, SCI_FLAG_FIXED_MAP_ADDR, &error));
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, map, 0);
    EXPECT_EQ(room, SCIMapLocalSegment(local, &map, 0, page, room, SCI_FLAG_FIXED_MAP_ADDR, &error));
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, map, 0);

    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::write_local, 0, page + 8, 123);
    auto* part = static_cast<volatile uint8_t*>(
        SCIMapRemoteSegment(remote, &map, page + 8, 100, nullptr, SCI_FLAG_IO_MAP_IOSPACE, &error));
    ASSERT_NE(nullptr, part);
    EXPECT_EQ(123, part[0]);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIUnmapSegment, map, 1);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, map, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIUnmapSegment, map, 0);
    disconnect(remote);
    remove(local);
}

TEST_F(SisciPair, does_not_write_to_read_only_maps) {
    sci_remote_segment_t remote = connect(peer_node, peer_shows(0));
    Mapped there = map_remote(remote, page, SCI_FLAG_READONLY_MAP);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::write_local, 0, 3, 9);
    EXPECT_EQ(9, there.bytes[3]);
    UniqueFd zeroes(open("/dev/zero", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(-1, read(zeroes.get(), there.bytes + 3, 1)); // not even the kernel does for it
    EXPECT_EQ(EFAULT, errno);
    uint8_t byte = 0;
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIMemCpy, nullptr, &byte, there.map, 0, 1, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIMemCpy, nullptr, &byte, there.map, 3, 1, SCI_FLAG_BLOCK_READ);
    EXPECT_EQ(9, byte);
    unmap(there);
    disconnect(remote);
}

TEST_F(SisciPair, copies) {
    sci_remote_segment_t remote = connect(peer_node, peer_shows(0, 4 * page));
    Mapped there = map_remote(remote, 4 * page);
    sci_sequence_t sequence = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateMapSequence, there.map, &sequence, 0);
    std::vector<uint8_t> data(2 * page, 33), back(2 * page);
    EXPECT_SCI(SCI_ERR_OK, SCIMemCpy, sequence, data.data(), there.map, page, 2 * page, SCI_FLAG_ERROR_CHECK);
    EXPECT_EQ(33u, peer->ask(Order::read_local, 0, page).value);
    EXPECT_EQ(0u, peer->ask(Order::read_local, 0, 3 * page).value);
    EXPECT_SCI(SCI_ERR_OK, SCIMemCpy, nullptr, back.data(), there.map, page, 2 * page, SCI_FLAG_BLOCK_READ);
    EXPECT_EQ(data, back);
    data.assign(2 * page, 34);
    EXPECT_SCI(SCI_ERR_OK, SCIMemCopy, data.data(), there.map, 0, 10, 0);
    EXPECT_EQ(34u, peer->ask(Order::read_local, 0, 9).value);
    data.assign(2 * page, 35);
    EXPECT_SCI(SCI_ERR_OK, SCIMemWrite, data.data(), there.bytes + 20, 10, 0);
    EXPECT_EQ(35u, peer->ask(Order::read_local, 0, 29).value);
    EXPECT_SCI(SCI_ERR_OK, SCIMemCpy, nullptr, nullptr, there.map, 0, 0, 0);

    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCIMemCpy, nullptr, data.data(), there.map, 3 * page, page + 1, 0);
    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCIMemCpy, nullptr, data.data(), there.map, 1, SIZE_MAX, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADDRESS, SCIMemCpy, nullptr, nullptr, there.map, 0, 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIMemCpy, nullptr, data.data(), there.map, 0, 1, unknown_flag);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMemCpy, nullptr, data.data(), nullptr, 0, 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIMemCpy, reinterpret_cast<sci_sequence_t>(sd), data.data(),
               there.map, 0, 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADDRESS, SCIMemWrite, nullptr, there.bytes, 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIMemWrite, data.data(), there.bytes, 1, 1);
    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCIMemCopy, data.data(), there.map, 4 * page, 1, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveSequence, sequence, 0);
    unmap(there);
    disconnect(remote);
}

TEST_F(SisciPair, transfers_blocks) {
    sci_local_segment_t local = show(fresh(), 2 * page);
    sci_remote_segment_t remote = connect(peer_node, peer_shows(0, 2 * page));
    Mapped here = map_local(local, 2 * page), there = map_remote(remote, 2 * page);
    std::memset(here.bytes, 66, 2 * page);
    EXPECT_SCI(SCI_ERR_OK, SCITransferBlock, here.map, 0, there.map, page, 100, 0);
    EXPECT_EQ(66u, peer->ask(Order::read_local, 0, page + 99).value);
    EXPECT_EQ(0u, peer->ask(Order::read_local, 0, page + 100).value);
    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCITransferBlock, here.map, page, there.map, 0, page + 1, 0);
    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCITransferBlock, here.map, 0, there.map, page, page + 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCITransferBlock, here.map, 0, there.map, 0, 1, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCITransferBlock, nullptr, 0, there.map, 0, 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCITransferBlock, here.map, 0, nullptr, 0, 1, 0);

    sci_block_transfer_t block = nullptr;
    EXPECT_SCI(SCI_ERR_OK, SCITransferBlockAsync, here.map, 0, there.map, 0, page, &block, nullptr, nullptr,
               0);
    EXPECT_SCI(SCI_ERR_OK, SCIWaitForBlockTransfer, block, SCI_INFINITE_TIMEOUT, 0);
    EXPECT_EQ(66u, peer->ask(Order::read_local, 0, page - 1).value);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIWaitForBlockTransfer, block, 0, 0);

    struct Told {
        Said<sci_error_t> done;
        std::promise<void> go_on;
    } told;
    auto callback = [](void* arg, sci_block_transfer_t, sci_error_t status) {
        static_cast<Told*>(arg)->done.say(status);
        static_cast<Told*>(arg)->go_on.get_future().wait();
        return 0;
    };
    sci_block_transfer_t second = nullptr;
    EXPECT_SCI(SCI_ERR_OK, SCITransferBlockAsync, here.map, 0, there.map, 0, page, &block,
               static_cast<sci_cb_block_transfer_t>(callback), &told, SCI_FLAG_USE_CALLBACK);
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{told.done.hear()});
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIWaitForBlockTransfer, block, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIAbortBlockTransfer, block, 0); // it is done
    // The next waits for the callback.
    EXPECT_SCI(SCI_ERR_OK, SCITransferBlockAsync, here.map, 0, there.map, 0, page, &second, nullptr, nullptr,
               0);
    EXPECT_SCI(SCI_ERR_BUSY, SCIUnmapSegment, here.map, 0);
    EXPECT_SCI(SCI_ERR_TIMEOUT, SCIWaitForBlockTransfer, second, soon_ms, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIAbortBlockTransfer, second, 0);
    EXPECT_SCI(SCI_ERR_CANCELLED, SCIWaitForBlockTransfer, second, 0, 0);
    told.go_on.set_value();

    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCITransferBlockAsync, here.map, 1, there.map, 0, 2 * page, &block,
               nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCITransferBlockAsync, here.map, 0, there.map, 0, 1, &block, nullptr,
               nullptr, unknown_flag);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCITransferBlockAsync, here.map, 0, there.map, 0, 1, nullptr,
               nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCITransferBlockAsync, here.map, 0, there.map, 0, 1, &block,
               nullptr, nullptr, SCI_FLAG_USE_CALLBACK);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIAbortBlockTransfer, nullptr, 0);
    unmap(here);
    unmap(there);
    disconnect(remote);
    remove(local);
}

TEST_F(Sisci, keeps_sequences) {
    sci_local_segment_t local = show(fresh());
    Mapped here = map_local(local, page);
    sci_sequence_t sequence = nullptr;
    sci_error_t error = 0;
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateMapSequence, nullptr, &sequence, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateMapSequence, here.map, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCICreateMapSequence, here.map, &sequence, 1);
    EXPECT_SCI(SCI_ERR_OK, SCICreateMapSequence, here.map, &sequence, SCI_FLAG_FAST_BARRIER);
    EXPECT_EQ(SCI_SEQ_OK, SCIStartSequence(sequence, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    for (unsigned flags : {0, SCI_FLAG_NO_FLUSH, SCI_FLAG_NO_STORE_BARRIER}) {
        EXPECT_EQ(SCI_SEQ_OK, SCICheckSequence(sequence, flags, &error));
        EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    }
    EXPECT_EQ(SCI_SEQ_NOT_RETRIABLE, SCICheckSequence(sequence, 1, &error));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, Code{error});
    EXPECT_EQ(SCI_SEQ_NOT_RETRIABLE, SCIStartSequence(nullptr, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, Code{error});
    SCIStoreBarrier(sequence, 0);
    SCIFlush(sequence, SCI_FLAG_FLUSH_CPU_BUFFERS_ONLY);
    SCIFlushReadBuffers(sequence);
    EXPECT_SCI(SCI_ERR_BUSY, SCIUnmapSegment, here.map, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIRemoveSequence, sequence, 1);
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveSequence, sequence, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRemoveSequence, sequence, 0);
    unmap(here);
    remove(local);
}

TEST_F(Sisci, takes_null_where_clients_pass_it) {
    int word = 0;
    SCIFlush(nullptr, 0);
    SCIStoreBarrier(nullptr, 0);
    SCIFlushReadBuffers(nullptr);
    EXPECT_SCI(SCI_ERR_OK, SCICacheSync, nullptr, &word, sizeof word, SCI_FLAG_CACHE_FLUSH);
    EXPECT_SCI(SCI_ERR_OK, SCICacheSync, nullptr, &word, sizeof word,
               SCI_FLAG_CACHE_FLUSH | SCI_FLAG_CACHE_INVALIDATE);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCICacheSync, nullptr, &word, sizeof word, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADDRESS, SCICacheSync, nullptr, nullptr, 4, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICacheSync, reinterpret_cast<sci_map_t>(sd), &word, 4, 0);
}

TEST_F(SisciPair, gives_up_what_a_dead_process_had) {
    unsigned id = peer_shows(0);
    peer->die();
    peer = std::make_unique<Peer>(setting("LANEPOOL_PEER_AGENT"));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{while_busy([&] {
                  sci_error_t error = peer->tell(Order::create_segment, 0, id, page);
                  return error == SCI_ERR_SEGMENTID_USED ? SCI_ERR_BUSY : error;
              })});
}

} // namespace
} // namespace lanepool::sisci_test
