// SPDX-License-Identifier: Apache-2.0
//
// Initialising, descriptors, nodes, queries, names.
#include "fixture.h"

#include <cstring>
#include <dlfcn.h>
#include <set>

namespace lanepool::sisci_test {
namespace {

TEST(SisciLibrary, refuses_everything_before_it_is_initialized) {
    sci_desc_t sd = nullptr;
    sci_local_segment_t local = nullptr;
    sci_remote_segment_t remote = nullptr;
    sci_map_t map = nullptr;
    sci_sequence_t sequence = nullptr;
    sci_dma_queue_t queue = nullptr;
    sci_smartio_device_t device = nullptr;
    unsigned number = 0;
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCIOpen, &sd, 0);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCIClose, sd, 0);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCICreateSegment, sd, &local, 1, page, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCIPrepareSegment, local, 0, 0);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCIConnectSegment, sd, &remote, 1, 1, 0, nullptr, nullptr, 0, 0);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCIMapRemoteSegment, remote, &map, 0, page, nullptr, 0);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCICreateMapSequence, map, &sequence, 0);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCICacheSync, nullptr, &number, sizeof number, SCI_FLAG_CACHE_FLUSH);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCICreateDMAQueue, sd, &queue, 0, 1, 0);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCIBorrowDevice, sd, &device, 1, 0);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCIGetLocalNodeId, 0, &number, 0);
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCIQuery, SCI_Q_API, &number, 0);
    SCIFlush(nullptr, 0); // does no harm
    SCITerminate();       // nor this
}

TEST(SisciLibrary, is_initialized_as_often_as_it_is_terminated) {
    ASSERT_SCI(SCI_ERR_OK, SCIInitialize, 0);
    ASSERT_SCI(SCI_ERR_OK, SCIInitialize, 0);
    unsigned node = 0;
    SCITerminate();
    EXPECT_SCI(SCI_ERR_OK, SCIGetLocalNodeId, 0, &node, 0);
    SCITerminate();
    EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCIGetLocalNodeId, 0, &node, 0);
    ASSERT_SCI(SCI_ERR_OK, SCIInitialize, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIGetLocalNodeId, 0, &node, 0);
    SCITerminate();
}

TEST(SisciLibrary, says_when_there_is_no_agent) {
    std::string agent = setting("LANEPOOL_AGENT");
    setenv("LANEPOOL_AGENT", "/nowhere/agent.sock", 1);
    errno = 0;
    EXPECT_SCI(SCI_ERR_SYSTEM, SCIInitialize, 0);
    EXPECT_EQ(ENOENT, errno);
    setenv("LANEPOOL_AGENT", agent.c_str(), 1);
}

TEST(SisciLibrary, has_no_flags_for_initializing) { EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIInitialize, 1); }

TEST(SisciLibrary, gives_back_what_was_left_when_it_is_terminated) {
    unsigned id = fresh();
    for (int round = 0; round < 2; ++round) {
        ASSERT_SCI(SCI_ERR_OK, SCIInitialize, 0);
        sci_desc_t sd = nullptr;
        sci_local_segment_t segment = nullptr;
        ASSERT_SCI(SCI_ERR_OK, SCIOpen, &sd, 0);
        EXPECT_EQ(Code{SCI_ERR_OK}, Code{while_busy([&] {
                      sci_error_t error =
                          outcome(SCICreateSegment, sd, &segment, id, page, nullptr, nullptr, 0).value;
                      // The agent may not have noticed yet.
                      return error == SCI_ERR_SEGMENTID_USED ? SCI_ERR_BUSY : error;
                  })});
        SCITerminate();
        EXPECT_SCI(SCI_ERR_NOT_INITIALIZED, SCIRemoveSegment, segment, 0);
    }
}

TEST(SisciLibrary, refuses_handles_of_before_it_was_terminated) {
    sci_desc_t old = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCIInitialize, 0);
    ASSERT_SCI(SCI_ERR_OK, SCIOpen, &old, 0);
    SCITerminate();
    ASSERT_SCI(SCI_ERR_OK, SCIInitialize, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIClose, old, 0);
    SCITerminate();
}

TEST(SisciLibrary, has_words_for_each_error) {
    std::set<std::string> words;
    for (sci_error_t error :
         {SCI_ERR_OK, SCI_ERR_BUSY, SCI_ERR_FLAG_NOT_IMPLEMENTED, SCI_ERR_ILLEGAL_FLAG, SCI_ERR_NOSPC,
          SCI_ERR_TIMEOUT, SCI_ERR_NO_SUCH_SEGMENT, SCI_ERR_NO_SUCH_FDID, SCI_ERR_NOT_SUPPORTED})
        words.insert(SCIGetErrorString(error));
    EXPECT_EQ(9u, words.size());
    EXPECT_STREQ("not an error of this library", SCIGetErrorString(12345));
}

TEST(SisciLibrary, has_each_function_under_three_names) {
    // One from each file of the library.
    for (const char* name : {"SCIInitialize", "SCIGetErrorString", "SCICreateSegment", "SCIConnectSegment",
                             "SCIMapRemoteSegment", "SCIMemCpy", "SCICheckSequence", "SCITriggerInterrupt",
                             "SCITriggerDataInterrupt", "SCIStartDmaTransfer", "SCIQuery", "SCIBorrowDevice",
                             "SCIMapLocalSegmentForDevice", "SCIRegisterPCIeRequester"}) {
        void* plain = dlsym(RTLD_DEFAULT, name);
        EXPECT_NE(nullptr, plain) << name;
        EXPECT_EQ(plain, dlsym(RTLD_DEFAULT, (std::string("_SISCI_PUBLIC_FUNC_ST_") + name).c_str()));
        EXPECT_EQ(plain, dlsym(RTLD_DEFAULT, (std::string("_SISCI_PUBLIC_FUNC_MT_") + name).c_str()));
    }
}

TEST_F(Sisci, opens_and_closes_descriptors) {
    sci_desc_t one = nullptr, two = nullptr;
    EXPECT_SCI(SCI_ERR_OK, SCIOpen, &one, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIOpen, &two, SCI_FLAG_THREAD_SAFE);
    EXPECT_NE(one, two);
    EXPECT_SCI(SCI_ERR_OK, SCIClose, one, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIClose, one, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIClose, two, 1);
    EXPECT_SCI(SCI_ERR_OK, SCIClose, two, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIOpen, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIOpen, &one, unknown_flag);
    EXPECT_EQ(nullptr, one);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIClose, nullptr, 0);
    // Of another kind.
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIRemoveSegment, reinterpret_cast<sci_local_segment_t>(sd), 0);
}

TEST_F(Sisci, accepts_that_nobody_wants_to_know_the_error) {
    sci_desc_t one = nullptr;
    SCIOpen(&one, 0, nullptr);
    EXPECT_NE(nullptr, one);
    SCIClose(nullptr, 0, nullptr);
    SCIClose(one, 0, nullptr);
}

TEST_F(Sisci, does_not_close_a_descriptor_that_has_something) {
    sci_desc_t one = nullptr;
    sci_local_segment_t segment = nullptr;
    ASSERT_SCI(SCI_ERR_OK, SCIOpen, &one, 0);
    ASSERT_SCI(SCI_ERR_OK, SCICreateSegment, one, &segment, fresh(), page, nullptr, nullptr, 0);
    EXPECT_SCI(SCI_ERR_BUSY, SCIClose, one, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIRemoveSegment, segment, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIClose, one, 0);
}

TEST_F(Sisci, knows_its_node) {
    unsigned number = 99;
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCIGetLocalNodeId, 1, &number, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_ADAPTERNO, SCIGetLocalNodeId, DIS_MAX_NSCIS, &number, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIGetLocalNodeId, 0, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIGetLocalNodeId, 0, &number, 1);
    EXPECT_EQ(99u, number);
}

TEST_F(SisciPair, probes_nodes) {
    sci_error_t error = 0;
    EXPECT_NE(node, peer_node);
    EXPECT_EQ(1, SCIProbeNode(sd, 0, node, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    EXPECT_EQ(1, SCIProbeNode(sd, 0, peer_node, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_OK}, Code{error});
    EXPECT_EQ(0, SCIProbeNode(sd, 0, 200, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_NODEID}, Code{error});
    EXPECT_EQ(0, SCIProbeNode(sd, 0, 253, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_NODEID}, Code{error});
    EXPECT_EQ(0, SCIProbeNode(nullptr, 0, node, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_PARAMETER}, Code{error});
    EXPECT_EQ(0, SCIProbeNode(sd, 1, node, 0, &error));
    EXPECT_EQ(Code{SCI_ERR_NO_SUCH_ADAPTERNO}, Code{error});
    EXPECT_EQ(0, SCIProbeNode(sd, 0, node, 2, &error));
    EXPECT_EQ(Code{SCI_ERR_ILLEGAL_FLAG}, Code{error});
}

TEST_F(Sisci, answers_queries_of_texts) {
    char text[80] = "";
    sci_query_string_t query{text, sizeof text};
    EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_VENDORID, &query, 0);
    EXPECT_STREQ("lanepool", text);
    EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_API, &query, 0);
    EXPECT_NE(nullptr, std::strstr(text, "SISCI"));
    query.length = 5;
    EXPECT_SCI(SCI_ERR_OVERFLOW, SCIQuery, SCI_Q_VENDORID, &query, 0);
    EXPECT_STREQ("lane", text);
    query.length = 0;
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIQuery, SCI_Q_VENDORID, &query, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIQuery, SCI_Q_VENDORID, nullptr, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_QUERY, SCIQuery, 77, &query, 0);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIQuery, SCI_Q_API, &query, 1);
}

TEST_F(Sisci, answers_queries_of_its_adapter) {
    unsigned value = 99;
    sci_query_adapter_t query{
        .localAdapterNo = 0, .portNo = 0, .subcommand = SCI_Q_ADAPTER_NODEID, .data = &value};
    EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_ADAPTER, &query, 0);
    EXPECT_EQ(node, value);
    for (auto [subcommand, answer] : {std::pair{SCI_Q_ADAPTER_CONFIGURED, 1u},
                                      {SCI_Q_ADAPTER_NUMBER, 0u},
                                      {SCI_Q_ADAPTER_NUMBER_OF_LINKS, 1u},
                                      {SCI_Q_ADAPTER_LINK_OPERATIONAL, 1u},
                                      {SCI_Q_ADAPTER_MCAST_MAX_GROUPS, 0u},
                                      {SCI_Q_ADAPTER_DMA_SIZE_ALIGNMENT, 1u}}) {
        query.subcommand = static_cast<unsigned>(subcommand);
        EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_ADAPTER, &query, 0);
        EXPECT_EQ(answer, value) << subcommand;
    }
    query.subcommand = SCI_Q_ADAPTER_CARD_TYPE;
    EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_ADAPTER, &query, 0);
    EXPECT_STREQ("Switchtec NTB", SCIGetAdapterTypeString(value));
    EXPECT_STREQ("unknown", SCIGetAdapterTypeString(value + 1));
    query.subcommand = SCI_Q_ADAPTER_LINK_WIDTH;
    EXPECT_SCI(SCI_ERR_NOT_AVAILABLE, SCIQuery, SCI_Q_ADAPTER, &query, 0);
    query.subcommand = 1;
    EXPECT_SCI(SCI_ERR_ILLEGAL_QUERY, SCIQuery, SCI_Q_ADAPTER, &query, 0);
    query = {.localAdapterNo = 3, .portNo = 0, .subcommand = SCI_Q_ADAPTER_NODEID, .data = &value};
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCIQuery, SCI_Q_ADAPTER, &query, 0);
    query = {.localAdapterNo = 0, .portNo = 0, .subcommand = SCI_Q_ADAPTER_NODEID, .data = nullptr};
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIQuery, SCI_Q_ADAPTER, &query, 0);
}

TEST_F(Sisci, answers_queries_of_system_and_dma) {
    unsigned value = 0;
    sci_query_system_t system{.subcommand = SCI_Q_SYSTEM_CPU_CACHE_LINE_SIZE, .data = &value};
    EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_SYSTEM, &system, 0);
    EXPECT_GE(value, 16u);
    system.subcommand = 1;
    EXPECT_SCI(SCI_ERR_ILLEGAL_QUERY, SCIQuery, SCI_Q_SYSTEM, &system, 0);

    sci_query_dma_t dma{.localAdapterNo = 0, .subcommand = SCI_Q_DMA_AVAILABLE, .data = &value};
    EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_DMA, &dma, SCI_FLAG_DMA_SYSDMA);
    EXPECT_EQ(1u, value);
    sci_dma_capabilities_t capabilities{};
    dma.subcommand = SCI_Q_DMA_CAPABILITIES;
    dma.data = &capabilities;
    EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_DMA, &dma, SCI_FLAG_DMA_ADAPTER);
    EXPECT_EQ(static_cast<unsigned>(DIS_DMA_MAX_VECLEN), capabilities.max_vector_length);
    EXPECT_SCI(SCI_ERR_ILLEGAL_FLAG, SCIQuery, SCI_Q_DMA, &dma, 1);
    dma.localAdapterNo = 1;
    EXPECT_SCI(SCI_ERR_NO_SUCH_ADAPTERNO, SCIQuery, SCI_Q_DMA, &dma, 0);
}

TEST_F(SisciPair, answers_queries_of_segments_and_maps) {
    sci_local_segment_t segment = show(fresh());
    sci_query_local_segment_t local{.segment = segment, .subcommand = SCI_Q_LOCAL_SEGMENT_IOADDR, .data = {}};
    EXPECT_SCI(SCI_ERR_NOT_AVAILABLE, SCIQuery, SCI_Q_LOCAL_SEGMENT, &local, 0);
    local.subcommand = 1;
    EXPECT_SCI(SCI_ERR_ILLEGAL_QUERY, SCIQuery, SCI_Q_LOCAL_SEGMENT, &local, 0);
    local.segment = nullptr;
    EXPECT_SCI(SCI_ERR_ILLEGAL_PARAMETER, SCIQuery, SCI_Q_LOCAL_SEGMENT, &local, 0);

    sci_remote_segment_t connected = connect(peer_node, peer_shows(0));
    sci_query_remote_segment_t remote{
        .segment = connected, .subcommand = SCI_Q_REMOTE_SEGMENT_IOADDR, .data = {}};
    EXPECT_SCI(SCI_ERR_NOT_AVAILABLE, SCIQuery, SCI_Q_REMOTE_SEGMENT, &remote, 0);

    sci_map_t near = nullptr, far = nullptr;
    sci_error_t error = 0;
    SCIMapLocalSegment(segment, &near, 0, page, nullptr, 0, &error);
    SCIMapRemoteSegment(connected, &far, 0, page, nullptr, 0, &error);
    sci_query_map_t map{.map = near, .subcommand = SCI_Q_MAP_MAPPED_TO_LOCAL_TARGET, .data = 9};
    EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_MAP, &map, 0);
    EXPECT_EQ(1u, map.data);
    map.map = far;
    EXPECT_SCI(SCI_ERR_OK, SCIQuery, SCI_Q_MAP, &map, 0);
    EXPECT_EQ(0u, map.data);
    map.subcommand = SCI_Q_MAP_PHYS_ADDR;
    EXPECT_SCI(SCI_ERR_NOT_AVAILABLE, SCIQuery, SCI_Q_MAP, &map, 0);

    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, near, 0);
    EXPECT_SCI(SCI_ERR_OK, SCIUnmapSegment, far, 0);
    disconnect(connected);
    remove(segment);
}

} // namespace
} // namespace lanepool::sisci_test
