// SPDX-License-Identifier: Apache-2.0
//
// Local segments: creating, preparing, showing and removing them.
#include "fixture.h"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <vector>

namespace lanepool::sisci_test {
namespace {

struct Pages {
    explicit Pages(size_t size_bytes) : size(size_bytes) {
        address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    ~Pages() { munmap(address, size); }
    size_t size;
    void* address;
};

TEST_F(Sisci, creates_segments) {
    unsigned id = fresh();
    sci_local_segment_t segment = nullptr;
    EXPECT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, id, 5000, nullptr, nullptr, 0);
    EXPECT_EQ(id, SCIGetLocalSegmentId(segment));
    EXPECT_EQ(5000u, SCIGetLocalSegmentSize(segment));
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveSegment, segment, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRemoveSegment, segment, 0);
    EXPECT_EQ(0u, SCIGetLocalSegmentId(segment));
    EXPECT_EQ(0u, SCIGetLocalSegmentSize(segment));
    EXPECT_EQ(0u, SCIGetLocalSegmentSize(nullptr));
}

TEST_F(Sisci, refuses_segments_that_cannot_be) {
    sci_local_segment_t segment = nullptr;
    EXPECT_SCI(SCI_ERR_SIZE_ALIGNMENT, SCICreateSegment, sd, &segment, fresh(), 0, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateSegment, nullptr, &segment, fresh(), page, nullptr,
               nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateSegment, sd, nullptr, fresh(), page, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCICreateSegment, sd, &segment, fresh(), page, nullptr, nullptr,
               unknown_flag);
    EXPECT_SCI(SCI_ERR_FLAG_NOT_IMPLEMENTED, SCICreateSegment, sd, &segment, fresh(), page, nullptr, nullptr,
               SCI_FLAG_BROADCAST);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateSegment, sd, &segment, fresh(), page, nullptr, nullptr,
               SCI_FLAG_USE_CALLBACK);
    EXPECT_SCI(SCI_ERR_NOSPC, SCICreateSegment, sd, &segment, fresh(), size_t{1} << 50, nullptr, nullptr, 0);
    EXPECT_EQ(nullptr, segment);
}

TEST_F(SisciPair, has_each_id_once_on_a_host) {
    unsigned id = fresh();
    sci_local_segment_t one = nullptr, two = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &one, id, page, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_SEGMENTID_USED, SCICreateSegment, sd, &two, id, page, nullptr, nullptr, 0);
    // The other host's ids are its own.
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::create_segment, 0, id, page);
    // Somebody else on this host.
    Peer neighbour(setting("LANEPOOL_AGENT"));
    EXPECT_ORDER(SCI_ERR_SEGMENTID_USED, neighbour, Order::create_segment, 0, id, page);
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveSegment, one, 0);
    EXPECT_ORDER(SCI_ERR_OK, neighbour, Order::create_segment, 0, id, page);
}

TEST_F(Sisci, takes_another_id_where_the_wish_is_used) {
    unsigned id = fresh();
    sci_local_segment_t one = nullptr, two = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &one, id, page, nullptr, nullptr, SCI_FLAG_AUTO_ID);
    EXPECT_EQ(id, SCIGetLocalSegmentId(one));
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &two, id, page, nullptr, nullptr, SCI_FLAG_AUTO_ID);
    EXPECT_NE(id, SCIGetLocalSegmentId(two));
    sci_remote_segment_t connected = nullptr;
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareSegment, two, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCISetSegmentAvailable, two, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIConnectSegment, sd, &connected, node, SCIGetLocalSegmentId(two), 0, nullptr,
               nullptr, long_ms, 0);
    disconnect(connected);
    remove(two);
    remove(one);
}

TEST_F(Sisci, shows_a_segment_only_once_it_is_prepared) {
    sci_local_segment_t segment = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, fresh(), page, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_SEGMENT_NOT_PREPARED, SCISetSegmentAvailable, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCIPrepareSegment, segment, 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADAPTERNO, SCIPrepareSegment, segment, 100, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIPrepareSegment, segment, 0, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIPrepareSegment, nullptr, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareSegment, segment, 0, SCI_FLAG_DMA_SOURCE_ONLY);
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareSegment, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCISetSegmentAvailable, segment, 2, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCISetSegmentAvailable, segment, 0, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCISetSegmentAvailable, nullptr, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCISetSegmentAvailable, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCISetSegmentAvailable, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_FLAG_NOT_IMPLEMENTED, SCISetSegmentUnavailable, segment, 0, SCI_FLAG_FORCE_DISCONNECT);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCISetSegmentUnavailable, segment, 0, 1);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCISetSegmentUnavailable, segment, 2, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCISetSegmentUnavailable, nullptr, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCISetSegmentUnavailable, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCISetSegmentUnavailable, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_FLAG_NOT_IMPLEMENTED, SCIRemoveSegment, segment, SCI_FLAG_FORCE_REMOVE);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIRemoveSegment, segment, 1);
    remove(segment);
}

TEST_F(Sisci, keeps_a_private_segment_private) {
    sci_local_segment_t segment = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, 3, page, nullptr, nullptr, SCI_FLAG_PRIVATE);
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareSegment, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCISetSegmentAvailable, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCISetSegmentUnavailable, segment, 0, 0);
    sci_map_t map = nullptr;
    EXPECT_SCI(SCI_ERR_OK, SCIMapLocalSegment, segment, &map, 0, page, nullptr, 0);
    EXPECT_SCI(SCI_ERR_BUSY, SCIRemoveSegment, segment, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, map, 0);
    remove(segment);
}

TEST_F(SisciPair, lets_nobody_in_before_or_after) {
    unsigned id = fresh();
    sci_remote_segment_t connected = nullptr;
    auto try_it = [&] {
        return outcome(SCIConnectSegment, sd, &connected, peer_node, id, 0, nullptr, nullptr,
                       SCI_INFINITE_TIMEOUT, 0);
    };
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_SEGMENT}, try_it());
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::create_segment, 0, id, page);
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_SEGMENT}, try_it());
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::prepare_segment, 0);
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_SEGMENT}, try_it());
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::segment_available, 0);
    EXPECT_EQ(Code{SCI_ERR_OK}, try_it());
    disconnect(connected);
    EXPECT_EQ(SCI_ERR_OK, while_busy([&] { return peer->tell(Order::segment_unavailable, 0); }));
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_SEGMENT}, try_it());
    EXPECT_EQ(nullptr, connected);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::segment_available, 0);
    EXPECT_EQ(Code{SCI_ERR_OK}, try_it());
    disconnect(connected);
}

TEST_F(SisciPair, is_busy_while_somebody_is_connected) {
    unsigned id = fresh();
    sci_local_segment_t segment = show(id);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_segment, 0, node, id, long_ms);
    EXPECT_SCI(SCI_ERR_BUSY, SCIRemoveSegment, segment, 0);
    EXPECT_SCI(SCI_ERR_BUSY, SCISetSegmentUnavailable, segment, 0, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_segment, 0);
    EXPECT_EQ(Code{SCI_ERR_OK},
              Code{while_busy([&] { return outcome(SCISetSegmentUnavailable, segment, 0, 0).value; })});
    remove(segment);
}

TEST_F(SisciPair, tells_a_callback_who_comes_and_goes) {
    struct Events {
        std::mutex mutex;
        std::vector<std::pair<sci_segment_cb_reason_t, unsigned>> list;
        std::condition_variable changed;
        std::atomic<sci_local_segment_t> segment{nullptr};
    } events;
    auto callback = [](void* arg, sci_local_segment_t segment, sci_segment_cb_reason_t reason, unsigned from,
                       unsigned adapter, sci_error_t error) {
        auto& told = *static_cast<Events*>(arg);
        std::lock_guard lock(told.mutex);
        told.segment = adapter == 0 && error == SCI_ERR_OK ? segment : nullptr;
        told.list.emplace_back(reason, from);
        told.changed.notify_all();
        return SCI_CALLBACK_CONTINUE;
    };
    auto wait = [&](size_t count) {
        std::unique_lock lock(events.mutex);
        EXPECT_TRUE(events.changed.wait_for(lock, std::chrono::milliseconds(long_ms),
                                            [&] { return events.list.size() >= count; }));
        return events.list[count - 1];
    };
    unsigned id = fresh();
    sci_local_segment_t segment = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, id, page,
               static_cast<sci_cb_local_segment_t>(callback), &events, SCI_FLAG_USE_CALLBACK);
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareSegment, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCISetSegmentAvailable, segment, 0, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_segment, 0, node, id, long_ms);
    EXPECT_EQ(std::pair(SCI_CB_CONNECT, peer_node), wait(1));
    EXPECT_EQ(segment, events.segment);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_segment, 0);
    EXPECT_EQ(std::pair(SCI_CB_DISCONNECT, peer_node), wait(2));
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_segment, 0, node, id, long_ms);
    EXPECT_EQ(std::pair(SCI_CB_CONNECT, peer_node), wait(3));
    peer->die();
    EXPECT_EQ(std::pair(SCI_CB_DISCONNECT, peer_node), wait(4));
    sci_error_t error = 0;
    SCIWaitForLocalSegmentEvent(segment, nullptr, nullptr, 0, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_OPERATION}, Code{error});
    remove(segment);
}

TEST_F(SisciPair, does_not_call_who_does_not_want_to_be_called_again) {
    struct Told {
        Said<int> first;
        std::atomic<int> count{0};
    } told;
    auto callback = [](void* arg, sci_local_segment_t, sci_segment_cb_reason_t, unsigned, unsigned,
                       sci_error_t) {
        auto& events = *static_cast<Told*>(arg);
        if (++events.count == 1) events.first.say(1);
        return SCI_CALLBACK_CANCEL;
    };
    unsigned id = fresh();
    sci_local_segment_t segment = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, id, page,
               static_cast<sci_cb_local_segment_t>(callback), &told, SCI_FLAG_USE_CALLBACK);
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareSegment, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCISetSegmentAvailable, segment, 0, 0);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_segment, 0, node, id, long_ms);
    told.first.hear();
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_segment, 0);
    remove(segment);
    EXPECT_EQ(1, told.count);
}

TEST_F(SisciPair, waits_for_events) {
    unsigned id = fresh();
    sci_local_segment_t segment = show(id);
    sci_error_t error = 0;
    unsigned from = 99, adapter = 99;
    SCIWaitForLocalSegmentEvent(segment, &from, &adapter, soon_ms, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_TIMEOUT}, Code{error});
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_segment, 0, node, id, long_ms);
    EXPECT_EQ(SCI_CB_CONNECT, SCIWaitForLocalSegmentEvent(segment, &from, &adapter, long_ms, 0, &error));
    EXPECT_EQ(peer_node, from);
    EXPECT_EQ(0u, adapter);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_segment, 0);
    EXPECT_EQ(SCI_CB_DISCONNECT,
              SCIWaitForLocalSegmentEvent(segment, nullptr, nullptr, SCI_INFINITE_TIMEOUT, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    SCIWaitForLocalSegmentEvent(segment, nullptr, nullptr, 0, 1, &error);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, Code{error});
    SCIWaitForLocalSegmentEvent(nullptr, nullptr, nullptr, 0, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, Code{error});

    auto waiting = std::async(std::launch::async, [&] {
        sci_error_t end = 0;
        SCIWaitForLocalSegmentEvent(segment, nullptr, nullptr, SCI_INFINITE_TIMEOUT, 0, &end);
        return Code{end};
    });
    EXPECT_EQ(std::future_status::timeout, waiting.wait_for(std::chrono::milliseconds(soon_ms)));
    remove(segment);
    EXPECT_EQ(Code{SCI_ERR_CANCELLED}, waiting.get());
}

TEST_F(SisciPair, shows_memory_of_the_program) {
    Pages pages(4 * page);
    auto* bytes = static_cast<volatile uint8_t*>(pages.address);
    bytes[0] = 11;
    bytes[3 * page] = 44;
    unsigned id = fresh();
    sci_local_segment_t segment = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, id, 4 * page, nullptr, nullptr, SCI_FLAG_EMPTY);
    sci_map_t map = nullptr;
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIPrepareSegment, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIMapLocalSegment, segment, &map, 0, page, nullptr, 0);
    auto* address = static_cast<uint8_t*>(pages.address);
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADDRESS, SCIRegisterSegmentMemory, nullptr, 4 * page, segment, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADDRESS, SCIRegisterSegmentMemory, address + 1, 4 * page, segment, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADDRESS, SCIRegisterSegmentMemory, reinterpret_cast<void*>(page), 4 * page,
               segment, 0);
    EXPECT_SCI(SCI_ERR_SIZE_ALIGNMENT, SCIRegisterSegmentMemory, address, 100, segment, 0);
    EXPECT_SCI(SCI_ERR_SIZE_ALIGNMENT, SCIRegisterSegmentMemory, address, 0, segment, 0);
    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCIRegisterSegmentMemory, address, 5 * page, segment, 0);
    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCIRegisterSegmentMemory, address, 3 * page, segment, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIRegisterSegmentMemory, address, 4 * page, segment, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRegisterSegmentMemory, address, 4 * page, nullptr, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIRegisterSegmentMemory, address, 4 * page, segment, SCI_FLAG_LOCK_USER_MEM);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIRegisterSegmentMemory, address, 4 * page, segment, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareSegment, segment, 0, 0);
    EXPECT_SCI(SCI_ERR_OK, SCISetSegmentAvailable, segment, 0, 0);

    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::connect_segment, 0, node, id, long_ms);
    EXPECT_EQ(11u, peer->ask(Order::read_remote, 0, 0).value);
    EXPECT_EQ(44u, peer->ask(Order::read_remote, 0, 3 * page).value);
    bytes[0] = 12;
    EXPECT_EQ(12u, peer->ask(Order::read_remote, 0, 0).value);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::write_remote, 0, 1, 77);
    EXPECT_EQ(77u, bytes[1]);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::disconnect_segment, 0);
    remove(segment);
    EXPECT_EQ(77u, bytes[1]); // it is the program's own again
    bytes[1] = 78;
}

TEST_F(Sisci, registers_no_memory_for_a_segment_that_has_some) {
    Pages pages(page);
    sci_local_segment_t segment = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, fresh(), page, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIRegisterSegmentMemory, pages.address, page, segment, 0);
    remove(segment);
}

TEST_F(Sisci, refuses_what_it_cannot_attach_or_share) {
    sci_local_segment_t segment = nullptr, other = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, fresh(), page, nullptr, nullptr, SCI_FLAG_EMPTY);
    EXPECT_SCI(SCI_ERR_NOT_SUPPORTED, SCIAttachPhysicalMemory, 0x1000, nullptr, 0, page, segment, 0);
    EXPECT_SCI(SCI_ERR_FLAG_NOT_IMPLEMENTED, SCIAttachPhysicalMemory, 0, nullptr, 0, page, segment,
               SCI_FLAG_CUDA_BUFFER);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIAttachPhysicalMemory, 0, nullptr, 0, page, segment, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIAttachPhysicalMemory, 0, nullptr, 0, page, nullptr, 0);
    EXPECT_SCI(SCI_ERR_NOT_SUPPORTED, SCIShareSegment, segment, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIShareSegment, segment, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIShareSegment, nullptr, 0);
    size_t size = 0;
    EXPECT_SCI(SCI_ERR_NOT_SUPPORTED, SCIAttachLocalSegment, sd, &other, 1, &size, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIAttachLocalSegment, sd, &other, 1, &size, nullptr, nullptr,
               unknown_flag);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIAttachLocalSegment, nullptr, &other, 1, &size, nullptr, nullptr,
               0);
    remove(segment);
}

TEST_F(Sisci, survives_many_threads) {
    std::vector<std::future<int>> threads;
    for (int thread = 0; thread < 4; ++thread)
        threads.push_back(std::async(std::launch::async, [this] {
            int failures = 0;
            for (int round = 0; round < 20; ++round) {
                sci_local_segment_t segment = nullptr;
                sci_remote_segment_t connected = nullptr;
                sci_map_t map = nullptr;
                sci_error_t error = 0;
                SCICreateSegment(sd, &segment, 7, page, nullptr, nullptr, SCI_FLAG_AUTO_ID, &error);
                SCIPrepareSegment(segment, 0, 0, &error);
                SCISetSegmentAvailable(segment, 0, 0, &error);
                SCIConnectSegment(sd, &connected, node, SCIGetLocalSegmentId(segment), 0, nullptr, nullptr,
                                  long_ms, 0, &error);
                volatile void* bytes = SCIMapRemoteSegment(connected, &map, 0, page, nullptr, 0, &error);
                failures += bytes == nullptr;
                SCIUnmapSegment(map, 0, &error);
                SCIDisconnectSegment(connected, 0, &error);
                failures +=
                    while_busy([&] { return outcome(SCIRemoveSegment, segment, 0).value; }) != SCI_ERR_OK;
            }
            return failures;
        }));
    for (auto& thread : threads)
        EXPECT_EQ(0, thread.get());
}

} // namespace
} // namespace lanepool::sisci_test
