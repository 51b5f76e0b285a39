// SPDX-License-Identifier: Apache-2.0
//
// DMA queues.
#include "fixture.h"

#include <cstring>
#include <vector>

namespace lanepool::sisci_test {
namespace {

class SisciDma : public SisciPair {
  protected:
    void SetUp() override {
        SisciPair::SetUp();
        local = show(fresh(), size);
        sci_error_t error = 0;
        bytes = static_cast<uint8_t*>(SCIMapLocalSegment(local, &map, 0, size, nullptr, 0, &error));
        remote = connect(peer_node, peer_shows(0, size));
        ASSERT_SCI(SCI_ERR_OK, SCICreateDMAQueue, sd, &queue, 0, 4, 0);
    }
    void TearDown() override {
        EXPECT_EQ(Code{SCI_ERR_OK},
                  Code{while_busy([&] { return outcome(SCIRemoveDMAQueue, queue, 0).value; })});
        EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, map, 0);
        disconnect(remote);
        remove(local);
        SisciPair::TearDown();
    }
    sci_dma_queue_state_t wait() {
        sci_error_t error = 0;
        auto state = SCIWaitForDMAQueue(queue, long_ms, 0, &error);
        EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
        return state;
    }
    Code start(size_t here, size_t length, size_t there, unsigned flags) {
        return outcome(SCIStartDmaTransfer, queue, local, remote, here, length, there, nullptr, nullptr,
                       flags);
    }

    static constexpr size_t size = 4 * page;
    sci_local_segment_t local = nullptr;
    sci_remote_segment_t remote = nullptr;
    sci_map_t map = nullptr;
    uint8_t* bytes = nullptr;
    sci_dma_queue_t queue = nullptr;
};

TEST_F(SisciDma, writes_and_reads) {
    EXPECT_EQ(SCI_DMAQUEUE_IDLE, SCIDMAQueueState(queue));
    std::memset(bytes, 42, size);
    EXPECT_EQ(Code{SCI_ERR_OK}, start(0, page, page, 0));
    EXPECT_EQ(SCI_DMAQUEUE_DONE, wait());
    EXPECT_EQ(SCI_DMAQUEUE_DONE, SCIDMAQueueState(queue));
    EXPECT_EQ(42u, peer->ask(Order::read_local, 0, page).value);
    EXPECT_EQ(0u, peer->ask(Order::read_local, 0, 2 * page).value);
    EXPECT_ORDER(SCI_ERR_OK, *peer, Order::write_local, 0, 3 * page, 43);
    EXPECT_EQ(Code{SCI_ERR_OK},
              start(7, 1, 3 * page, SCI_FLAG_DMA_READ | SCI_FLAG_DMA_WAIT | SCI_FLAG_DMA_GLOBAL));
    EXPECT_EQ(43, bytes[7]);
    EXPECT_EQ(42, bytes[8]);
}

TEST_F(SisciDma, checks_transfers) {
    EXPECT_EQ(Code{SCI_ERR_SIZE_ALIGNMENT}, start(0, 0, 0, 0));
    EXPECT_EQ(Code{SCI_ERR_OUT_OF_RANGE}, start(1, size, 0, 0));
    EXPECT_EQ(Code{SCI_ERR_OUT_OF_RANGE}, start(0, size, 1, 0));
    EXPECT_EQ(Code{SCI_ERR_OUT_OF_RANGE}, start(0, SIZE_MAX, 1, 0));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, start(0, 1, 0, unknown_flag));
    EXPECT_EQ(Code{SCI_ERR_FLAG_NOT_IMPLEMENTED}, start(0, 1, 0, SCI_FLAG_BROADCAST));
    EXPECT_EQ(Code{SCI_ERR_FLAG_NOT_IMPLEMENTED}, start(0, 1, 0, SCI_FLAG_DMA_PHDMA));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, start(0, 1, 0, SCI_FLAG_USE_CALLBACK));
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIStartDmaTransfer, nullptr, local, remote, 0, 1, 0, nullptr,
               nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIStartDmaTransfer, queue, nullptr, remote, 0, 1, 0, nullptr,
               nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIStartDmaTransfer, queue, local, nullptr, 0, 1, 0, nullptr,
               nullptr, 0);
    sci_local_segment_t raw = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &raw, fresh(), page, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_SEGMENT_NOT_PREPARED, SCIStartDmaTransfer, queue, raw, remote, 0, 1, 0, nullptr,
               nullptr, 0);
    remove(raw);
    EXPECT_EQ(SCI_DMAQUEUE_IDLE, SCIDMAQueueState(queue));
    EXPECT_EQ(SCI_DMAQUEUE_ERROR, SCIDMAQueueState(nullptr));
}

TEST_F(SisciDma, transfers_memory_and_vectors) {
    std::vector<uint8_t> memory(page, 50);
    EXPECT_SCI(SCI_ERR_OK, SCIStartDmaTransferMem, queue, memory.data(), remote, page, 0, nullptr, nullptr,
               SCI_FLAG_DMA_WAIT);
    EXPECT_EQ(50u, peer->ask(Order::read_local, 0, page - 1).value);
    EXPECT_SCI(SCI_ERR_OK, SCIStartDmaTransferMem, queue, memory.data(), remote, page, page, nullptr, nullptr,
               SCI_FLAG_DMA_WAIT | SCI_FLAG_DMA_READ);
    EXPECT_EQ(0, memory[0]);
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADDRESS, SCIStartDmaTransferMem, queue, nullptr, remote, page, 0, nullptr,
               nullptr, 0);
    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCIStartDmaTransferMem, queue, memory.data(), remote, page, size,
               nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIStartDmaTransferMem, queue, memory.data(), nullptr, page, 0,
               nullptr, nullptr, 0);

    bytes[1] = 61;
    bytes[2] = 62;
    dis_dma_vec_t vector[DIS_DMA_MAX_VECLEN + 1] = {};
    vector[0] = {.size = 1, .local_offset = 1, .remote_offset = 3 * page, .flags = 0};
    vector[1] = {.size = 1, .local_offset = 2, .remote_offset = 3 * page + 9, .flags = 0};
    EXPECT_SCI(SCI_ERR_OK, SCIStartDmaTransferVec, queue, local, remote, 2, vector, nullptr, nullptr,
               SCI_FLAG_DMA_WAIT);
    EXPECT_EQ(61u, peer->ask(Order::read_local, 0, 3 * page).value);
    EXPECT_EQ(62u, peer->ask(Order::read_local, 0, 3 * page + 9).value);
    EXPECT_SCI(SCI_ERR_SIZE_ALIGNMENT, SCIStartDmaTransferVec, queue, local, remote, 3, vector, nullptr,
               nullptr, 0);
    EXPECT_SCI(SCI_ERR_OUT_OF_RANGE, SCIStartDmaTransferVec, queue, local, remote, DIS_DMA_MAX_VECLEN + 1,
               vector, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIStartDmaTransferVec, queue, local, remote, 0, vector, nullptr,
               nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIStartDmaTransferVec, queue, local, remote, 1, nullptr, nullptr,
               nullptr, 0);
    vector[0].flags = 1;
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIStartDmaTransferVec, queue, local, remote, 1, vector, nullptr,
               nullptr, 0);
}

// A transfer whose callback does not return until it is told to, so the queue's thread does nothing else.
struct Blocker {
    Said<std::pair<sci_dma_queue_t, sci_error_t>> called;
    std::promise<void> go_on;
    static sci_callback_action_t callback(void* arg, sci_dma_queue_t queue, sci_error_t status) {
        auto& blocker = *static_cast<Blocker*>(arg);
        blocker.called.say({queue, status});
        blocker.go_on.get_future().wait();
        return SCI_CALLBACK_CONTINUE;
    }
};

TEST_F(SisciDma, calls_back_queues_up_and_is_aborted) {
    Blocker blocker;
    EXPECT_SCI(SCI_ERR_OK, SCIStartDmaTransfer, queue, local, remote, 0, 1, 0, &Blocker::callback, &blocker,
               SCI_FLAG_USE_CALLBACK);
    EXPECT_EQ(std::pair(queue, SCI_ERR_OK + 0u), blocker.called.hear());
    sci_error_t error = 0;
    for (int i = 0; i < 4; ++i)
        EXPECT_EQ(Code{SCI_ERR_OK}, start(0, page, 0, 0));
    EXPECT_EQ(Code{SCI_ERR_MAX_ENTRIES}, start(0, page, 0, 0));
    EXPECT_EQ(SCI_DMAQUEUE_POSTED, SCIDMAQueueState(queue));
    EXPECT_EQ(SCI_DMAQUEUE_POSTED, SCIWaitForDMAQueue(queue, soon_ms, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_TIMEOUT}, Code{error});
    EXPECT_SCI(SCI_ERR_BUSY, SCIRemoveDMAQueue, queue, 0);
    EXPECT_SCI(SCI_ERR_BUSY, SCIDisconnectSegment, remote, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIResetDMAQueue, queue, 0);
    SCIEnqueueDMATransfer(queue, local, remote, 0, 0, 1, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_OPERATION}, Code{error});
    EXPECT_SCI(SCI_ERR_OK, SCIAbortDMAQueue, queue, 0);
    blocker.go_on.set_value();
    EXPECT_EQ(SCI_DMAQUEUE_ABORTED, wait());
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIAbortDMAQueue, queue, 0);
    EXPECT_EQ(Code{SCI_ERR_OK}, start(0, page, 0, SCI_FLAG_DMA_WAIT)); // it can be used again
    EXPECT_EQ(SCI_DMAQUEUE_DONE, SCIDMAQueueState(queue));
}

TEST_F(SisciDma, gathers_and_posts) {
    sci_error_t error = 0;
    EXPECT_SCI(SCI_ERR_ILLEGAL_OPERATION, SCIPostDMAQueue, queue, nullptr, nullptr, 0);
    bytes[0] = 71;
    EXPECT_EQ(SCI_DMAQUEUE_GATHER, SCIEnqueueDMATransfer(queue, local, remote, 0, page, 1, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    EXPECT_EQ(SCI_DMAQUEUE_GATHER,
              SCIEnqueueDMATransfer(queue, local, remote, 9, page, 1, SCI_FLAG_DMA_READ, &error));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_OPERATION}, start(0, 1, 0, 0));
    for (int i = 0; i < 2; ++i)
        SCIEnqueueDMATransfer(queue, local, remote, 0, 0, 1, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    SCIEnqueueDMATransfer(queue, local, remote, 0, 0, 1, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_MAX_ENTRIES}, Code{error});
    SCIEnqueueDMATransfer(queue, local, remote, 0, size, 1, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_OUT_OF_RANGE}, Code{error});
    SCIEnqueueDMATransfer(queue, local, remote, 0, 0, 1, SCI_FLAG_DMA_WAIT, &error);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, Code{error});
    SCIEnqueueDMATransfer(nullptr, local, remote, 0, 0, 1, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, Code{error});
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIPostDMAQueue, queue, nullptr, nullptr, unknown_flag);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIPostDMAQueue, queue, nullptr, nullptr, SCI_FLAG_USE_CALLBACK);
    EXPECT_SCI(SCI_ERR_OK, SCIPostDMAQueue, queue, nullptr, nullptr, 0);
    EXPECT_EQ(SCI_DMAQUEUE_DONE, wait());
    EXPECT_EQ(71u, peer->ask(Order::read_local, 0, page).value);
    EXPECT_EQ(71, bytes[9]); // what was written before it was read
    SCIEnqueueDMATransfer(queue, local, remote, 0, 0, 1, 0, &error);
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_OPERATION}, Code{error}); // first it has to be reset
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIResetDMAQueue, queue, 1);
    EXPECT_SCI(SCI_ERR_OK, SCIResetDMAQueue, queue, 0);
    EXPECT_EQ(SCI_DMAQUEUE_IDLE, SCIDMAQueueState(queue));
    EXPECT_EQ(SCI_DMAQUEUE_GATHER, SCIEnqueueDMATransfer(queue, local, remote, 0, 0, 1, 0, &error));
    EXPECT_SCI(SCI_ERR_OK, SCIResetDMAQueue, queue, 0);
}

TEST_F(SisciDma, fails_where_the_other_side_has_died) {
    sci_remote_segment_t doomed = nullptr;
    Peer other(setting("LANEPOOL_PEER_AGENT"));
    unsigned id = fresh();
    EXPECT_ORDER(SCI_ERR_OK, other, Order::create_segment, 0, id, page);
    EXPECT_ORDER(SCI_ERR_OK, other, Order::prepare_segment, 0);
    EXPECT_ORDER(SCI_ERR_OK, other, Order::segment_available, 0);
    doomed = connect(peer_node, id);
    other.die();
    sci_error_t error = 0;
    EXPECT_EQ(SCI_CB_LOST, SCIWaitForRemoteSegmentEvent(doomed, nullptr, long_ms, 0, &error));
    EXPECT_SCI(SCI_ERR_SEGMENT_NOT_CONNECTED, SCIStartDmaTransfer, queue, local, doomed, 0, 1, 0, nullptr,
               nullptr, 0);
    disconnect(doomed);
}

TEST_F(Sisci, makes_dma_queues_and_channels) {
    sci_dma_queue_t queue = nullptr;
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateDMAQueue, nullptr, &queue, 0, 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateDMAQueue, sd, nullptr, 0, 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCICreateDMAQueue, sd, &queue, 0, 0, 0);
    EXPECT_SCI(SCI_ERR_API_NOSPC, SCICreateDMAQueue, sd, &queue, 0, 1 << 20, 0);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCICreateDMAQueue, sd, &queue, 1, 1, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCICreateDMAQueue, sd, &queue, 0, 1, unknown_flag);
    EXPECT_SCI(SCI_ERR_FLAG_NOT_IMPLEMENTED, SCICreateDMAQueue, sd, &queue, 0, 1, SCI_FLAG_DMA_PHDMA);
    ASSERT_SCI(SCI_ERR_OK, SCICreateDMAQueue, sd, &queue, 0, 1, 0);

    sci_dma_channel_t channel = nullptr;
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRequestDMAChannel, sd, &channel, 0, 99,
               SCI_DMA_CHANNEL_ID_DONTCARE, 0);
    EXPECT_SCI(SCI_ERR_DMA_NOT_AVAILABLE, SCIRequestDMAChannel, sd, &channel, 0, SCI_DMA_TYPE_SYSTEM, 1, 0);
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCIRequestDMAChannel, sd, &channel, 1, SCI_DMA_TYPE_SYSTEM, 0, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIRequestDMAChannel, sd, &channel, 0, SCI_DMA_TYPE_SYSTEM, 0,
               unknown_flag);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRequestDMAChannel, nullptr, &channel, 0, SCI_DMA_TYPE_SYSTEM, 0,
               0);
    ASSERT_SCI(SCI_ERR_OK, SCIRequestDMAChannel, sd, &channel, 0, SCI_DMA_TYPE_ADAPTER,
               SCI_DMA_CHANNEL_ID_DONTCARE, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIAssignDMAChannel, channel, queue, 1);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIAssignDMAChannel, channel, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIAssignDMAChannel, nullptr, queue, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIAssignDMAChannel, channel, queue, 0);

    unsigned id = fresh();
    sci_local_segment_t segment = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, sd, &segment, id, page, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIPrepareLocalSegmentForDMA, channel, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIPrepareLocalSegmentForDMA, nullptr, segment, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIPrepareLocalSegmentForDMA, channel, segment, 1);
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareLocalSegmentForDMA, channel, segment, 0);
    EXPECT_SCI(SCI_ERR_OK, SCISetSegmentAvailable, segment, 0, 0);
    sci_remote_segment_t connected = connect(node, id);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIPrepareRemoteSegmentForDMA, channel, nullptr, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIPrepareRemoteSegmentForDMA, channel, connected, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIStartDmaTransfer, queue, segment, connected, 0, 8, 8, nullptr, nullptr,
               SCI_FLAG_DMA_WAIT);

    EXPECT_SCI(SCI_ERR_BUSY, SCIReturnDMAChannel, channel);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIRemoveDMAQueue, queue, 1);
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveDMAQueue, queue, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRemoveDMAQueue, queue, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIReturnDMAChannel, channel);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIReturnDMAChannel, channel);
    disconnect(connected);
    remove(segment);
}

} // namespace
} // namespace lanepool::sisci_test
