// SPDX-License-Identifier: Apache-2.0
//
// Questions about the host, its adapter and what the program has.
#include "sisci/maps.h"
#include "sisci/smartio.h"

#include <cstring>
#include <unistd.h>

namespace lanepool::sisci {
namespace {

constexpr const char* vendor = "lanepool";
constexpr const char* api_version = "SISCI API with SmartIO 5.11 (lanepool " LANEPOOL_VERSION ")";

constexpr unsigned max_dma_bytes = 1 << 30;
constexpr unsigned small_transfer_bytes = 64; // below, a store of one's own is faster than asking a thread

Outcome<> answer_text(const char* text, const sci_query_string_t& query) {
    if (!query.str || query.length == 0) return failed(SCI_ERR_ILLEGAL_PARAMETER);
    size_t length = std::strlen(text);
    size_t room = query.length - 1;
    std::memcpy(query.str, text, std::min(length, room));
    query.str[std::min(length, room)] = 0;
    if (length > room) return failed(SCI_ERR_OVERFLOW);
    return {};
}

Outcome<unsigned> adapter_answer(Session& session, unsigned subcommand) {
    switch (subcommand) {
    case SCI_Q_ADAPTER_NODEID:
    case SCI_Q_ADAPTER_SERIAL_NUMBER:
        return session.node();
    case SCI_Q_ADAPTER_CARD_TYPE:
        return SCI_ADAPTER_TYPE_SWITCHTEC_NTB;
    case SCI_Q_ADAPTER_CONFIGURED:
        return 1;
    case SCI_Q_ADAPTER_NUMBER:
        return 0;
    case SCI_Q_ADAPTER_NUMBER_OF_LINKS:
        return 1;
    case SCI_Q_ADAPTER_LINK_OPERATIONAL:
    case SCI_Q_ADAPTER_LINK_ENABLED:
    case SCI_Q_ADAPTER_LINK_CABLE_INSERTED:
        return session.nodes() ? 1 : 0;
    case SCI_Q_ADAPTER_MCAST_MAX_GROUPS:
        return 0;
    case SCI_Q_ADAPTER_DMA_SIZE_ALIGNMENT:
    case SCI_Q_ADAPTER_DMA_OFFSET_ALIGNMENT:
        return 1;
    case SCI_Q_ADAPTER_DMA_MTU:
        return max_dma_bytes;
    case SCI_Q_ADAPTER_SUGGESTED_MIN_DMA_SIZE:
    case SCI_Q_ADAPTER_SUGGESTED_MIN_BLOCK_SIZE:
        return small_transfer_bytes;
    case SCI_Q_ADAPTER_LINK_WIDTH:
    case SCI_Q_ADAPTER_LINK_SPEED:
    case SCI_Q_ADAPTER_LINK_UPTIME:
    case SCI_Q_ADAPTER_LINK_DOWNTIME:
    case SCI_Q_ADAPTER_LINK_PARTNER_PORT_NO:
    case SCI_Q_ADAPTER_BDF:
        return failed(SCI_ERR_NOT_AVAILABLE);
    default:
        return failed(SCI_ERR_ILLEGAL_QUERY);
    }
}

Outcome<> ask_adapter(Session& session, const sci_query_adapter_t& query) {
    SCI_TAKE(check_adapter(query.localAdapterNo));
    if (!query.data) return failed(SCI_ERR_ILLEGAL_PARAMETER);
    *static_cast<unsigned*>(query.data) = SCI_TAKE(adapter_answer(session, query.subcommand));
    return {};
}

Outcome<> ask_system(const sci_query_system_t& query) {
    if (query.subcommand != SCI_Q_SYSTEM_CPU_CACHE_LINE_SIZE) return failed(SCI_ERR_ILLEGAL_QUERY);
    if (!query.data) return failed(SCI_ERR_ILLEGAL_PARAMETER);
    long size = sysconf(_SC_LEVEL1_DCACHE_LINESIZE);
    *static_cast<unsigned*>(query.data) = size > 0 ? static_cast<unsigned>(size) : 64;
    return {};
}

Outcome<> ask_local_segment(const sci_query_local_segment_t& query) {
    SCI_TAKE(Library::get().find(query.segment));
    switch (query.subcommand) {
    case SCI_Q_LOCAL_SEGMENT_IOADDR:
    case SCI_Q_LOCAL_SEGMENT_PHYS_ADDR:
    case SCI_Q_LOCAL_SEGMENT_VIRTUAL_KERNEL_ADDR:
        return failed(SCI_ERR_NOT_AVAILABLE);
    default:
        return failed(SCI_ERR_ILLEGAL_QUERY);
    }
}

Outcome<> ask_remote_segment(const sci_query_remote_segment_t& query) {
    SCI_TAKE(Library::get().find(query.segment));
    if (query.subcommand == SCI_Q_REMOTE_SEGMENT_IOADDR) return failed(SCI_ERR_NOT_AVAILABLE);
    return failed(SCI_ERR_ILLEGAL_QUERY);
}

Outcome<> ask_map(Session& session, sci_query_map_t& query) {
    auto map = SCI_TAKE(Library::get().hold(query.map));
    switch (query.subcommand) {
    case SCI_Q_MAP_MAPPED_TO_LOCAL_TARGET:
        query.data = map->local || map->remote->node == session.node();
        return {};
    case SCI_Q_MAP_IOADDR:
    case SCI_Q_MAP_PHYS_ADDR:
        return failed(SCI_ERR_NOT_AVAILABLE);
    default:
        return failed(SCI_ERR_ILLEGAL_QUERY);
    }
}

Outcome<> ask_dma(const sci_query_dma_t& query, unsigned flags) {
    SCI_TAKE(check_flags(flags, SCI_FLAG_DMA_ADAPTER | SCI_FLAG_DMA_GLOBAL | SCI_FLAG_DMA_SYSDMA));
    SCI_TAKE(check_adapter(query.localAdapterNo));
    if (!query.data) return failed(SCI_ERR_ILLEGAL_PARAMETER);
    switch (query.subcommand) {
    case SCI_Q_DMA_AVAILABLE:
        *static_cast<unsigned*>(query.data) = 1;
        return {};
    case SCI_Q_DMA_CAPABILITIES:
        *static_cast<sci_dma_capabilities_t*>(query.data) = {.num_channels = 1,
                                                             .max_transfer_size = max_dma_bytes,
                                                             .max_vector_length = DIS_DMA_MAX_VECLEN,
                                                             .support_mem2io = 1,
                                                             .support_io2mem = 1,
                                                             .support_io2io = 0,
                                                             .min_align_bytes = 1,
                                                             .suggested_align_bytes = small_transfer_bytes};
        return {};
    default:
        return failed(SCI_ERR_ILLEGAL_QUERY);
    }
}

Outcome<> ask_device(Session& session, const sci_smartio_query_device_t& query) {
    if (query.subcommand != SCI_Q_DEVICE_INFO) return failed(SCI_ERR_ILLEGAL_QUERY);
    if (!query.data) return failed(SCI_ERR_ILLEGAL_PARAMETER);
    auto devices =
        SCI_TAKE(outcome_of(Device::list(session, {.fdid = query.fdid}),
                            {.not_found = SCI_ERR_NO_SUCH_FDID, .disconnected = SCI_ERR_NO_LINK_ACCESS}));
    if (devices.empty()) return failed(SCI_ERR_NO_SUCH_FDID);
    *static_cast<sci_smartio_device_info_t*>(query.data) = info_of(devices.front());
    return {};
}

Outcome<> ask(Session& session, unsigned command, void* data, unsigned flags) {
    if (command < SCI_Q_VENDORID || command > SCI_Q_DEVICE) return failed(SCI_ERR_ILLEGAL_QUERY);
    if (!data) return failed(SCI_ERR_ILLEGAL_PARAMETER);
    if (command == SCI_Q_DMA) return ask_dma(*static_cast<sci_query_dma_t*>(data), flags);
    SCI_TAKE(check_flags(flags, 0));
    switch (command) {
    case SCI_Q_VENDORID:
        return answer_text(vendor, *static_cast<sci_query_string_t*>(data));
    case SCI_Q_API:
        return answer_text(api_version, *static_cast<sci_query_string_t*>(data));
    case SCI_Q_ADAPTER:
        return ask_adapter(session, *static_cast<sci_query_adapter_t*>(data));
    case SCI_Q_SYSTEM:
        return ask_system(*static_cast<sci_query_system_t*>(data));
    case SCI_Q_LOCAL_SEGMENT:
        return ask_local_segment(*static_cast<sci_query_local_segment_t*>(data));
    case SCI_Q_REMOTE_SEGMENT:
        return ask_remote_segment(*static_cast<sci_query_remote_segment_t*>(data));
    case SCI_Q_MAP:
        return ask_map(session, *static_cast<sci_query_map_t*>(data));
    default:
        return ask_device(session, *static_cast<sci_smartio_query_device_t*>(data));
    }
}

} // namespace
} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCIQuery(unsigned int command, void* data, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        return ask(*session, command, data, flags);
    });
}
SISCI_NAMES(SCIQuery)

extern "C" void SCIGetLocalNodeId(unsigned int adapterNo, unsigned int* nodeId, unsigned int flags,
                                  sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        SCI_TAKE(check_flags(flags, 0));
        SCI_TAKE(check_adapter(adapterNo));
        if (!nodeId) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *nodeId = session->node();
        return {};
    });
}
SISCI_NAMES(SCIGetLocalNodeId)

extern "C" int SCIProbeNode(sci_desc_t sd, unsigned int localAdapterNo, unsigned int nodeId,
                            unsigned int flags, sci_error_t* error) {
    int answers = 0;
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        SCI_TAKE(Library::get().find(sd));
        SCI_TAKE(check_flags(flags, 0));
        SCI_TAKE(check_adapter(localAdapterNo));
        SCI_TAKE(check_node(*session, nodeId));
        SCI_TAKE(outcome_of(session->probe(nodeId),
                            {.not_found = SCI_ERR_NO_SUCH_NODEID, .disconnected = SCI_ERR_NO_LINK_ACCESS}));
        answers = 1;
        return {};
    });
    return answers;
}
SISCI_NAMES(SCIProbeNode)

extern "C" const char* SCIGetAdapterTypeString(unsigned int adapterType) {
    return adapterType == SCI_ADAPTER_TYPE_SWITCHTEC_NTB ? "Switchtec NTB" : "unknown";
}
SISCI_NAMES(SCIGetAdapterTypeString)
