// SPDX-License-Identifier: Apache-2.0
#include "sisci/outcome.h"

#include <sisci_api.h>

namespace lanepool::sisci {

sci_error_t code_of(const Error& error, const Meaning& meaning) {
    switch (error.code()) {
    case Errc::invalid_argument:
        return meaning.invalid_argument;
    case Errc::not_found:
        return meaning.not_found;
    case Errc::already_exists:
        return meaning.already_exists;
    case Errc::busy:
        return meaning.busy;
    case Errc::permission_denied:
        return meaning.permission_denied;
    case Errc::out_of_range:
        return SCI_ERR_OUT_OF_RANGE;
    case Errc::no_space:
        return SCI_ERR_NOSPC;
    case Errc::timeout:
        return SCI_ERR_TIMEOUT;
    case Errc::unavailable:
        return meaning.unavailable;
    case Errc::disconnected:
        return meaning.disconnected;
    case Errc::stale_epoch:
        return SCI_ERR_NOT_CONNECTED;
    case Errc::failed_precondition:
        return meaning.failed_precondition;
    case Errc::not_supported:
        return SCI_ERR_NOT_SUPPORTED;
    case Errc::cancelled:
        return SCI_ERR_CANCELLED;
    case Errc::protocol:
    case Errc::io:
    case Errc::internal:
        return SCI_ERR_SYSTEM;
    }
    return SCI_ERR_SYSTEM;
}

namespace {

const char* words(sci_error_t error) {
    switch (error) {
    case SCI_ERR_OK:
        return "no error";
    case SCI_ERR_BUSY:
        return "it is in use: try again";
    case SCI_ERR_FLAG_NOT_IMPLEMENTED:
        return "a flag that this library does not implement";
    case SCI_ERR_ILLEGAL_FLAG:
        return "a flag that this function does not have";
    case SCI_ERR_NOSPC:
        return "out of memory, or over a limit of the host";
    case SCI_ERR_API_NOSPC:
        return "over a limit of the library";
    case SCI_ERR_HW_NOSPC:
        return "out of windows of the adapter";
    case SCI_ERR_NOT_IMPLEMENTED:
        return "this library does not implement it";
    case SCI_ERR_ILLEGAL_ADAPTERNO:
        return "not an adapter's number";
    case SCI_ERR_NO_SUCH_ADAPTERNO:
        return "this host has no adapter of that number";
    case SCI_ERR_TIMEOUT:
        return "it took too long";
    case SCI_ERR_OUT_OF_RANGE:
        return "outside of what is there";
    case SCI_ERR_NO_SUCH_SEGMENT:
        return "there is no such segment, or no such interrupt, that is available";
    case SCI_ERR_ILLEGAL_NODEID:
        return "not a node's id";
    case SCI_ERR_CONNECTION_REFUSED:
        return "the other side does not let this user connect";
    case SCI_ERR_SEGMENT_NOT_CONNECTED:
        return "the segment is not connected any more";
    case SCI_ERR_SIZE_ALIGNMENT:
        return "the size is zero, or not a multiple of what it has to be";
    case SCI_ERR_OFFSET_ALIGNMENT:
        return "the offset is not a multiple of what it has to be";
    case SCI_ERR_ILLEGAL_PARAMETER:
        return "a null or stale handle, or another argument that cannot be";
    case SCI_ERR_MAX_ENTRIES:
        return "the queue is full";
    case SCI_ERR_SEGMENT_NOT_PREPARED:
        return "the segment is not prepared: call SCIPrepareSegment() first";
    case SCI_ERR_ILLEGAL_ADDRESS:
        return "an address that cannot be used";
    case SCI_ERR_ILLEGAL_OPERATION:
        return "not in this state";
    case SCI_ERR_ILLEGAL_QUERY:
        return "there is no such query";
    case SCI_ERR_SEGMENTID_USED:
        return "the segment's id is used";
    case SCI_ERR_SYSTEM:
        return "the operating system, or the host's agent, failed";
    case SCI_ERR_CANCELLED:
        return "cancelled: what was waited for is gone";
    case SCI_ERR_NOT_CONNECTED:
        return "not connected any more";
    case SCI_ERR_NOT_AVAILABLE:
        return "not to be had now";
    case SCI_ERR_INCONSISTENT_VERSIONS:
        return "the library and the host's agent are of different versions";
    case SCI_ERR_COND_INT_RACE_PROBLEM:
        return "an interrupt came at the same time";
    case SCI_ERR_OVERFLOW:
        return "longer than the room for it";
    case SCI_ERR_NOT_INITIALIZED:
        return "SCIInitialize() was not called";
    case SCI_ERR_ACCESS:
        return "the policy, or this user's rights, are against it";
    case SCI_ERR_NO_SUCH_NODEID:
        return "there is no such node";
    case SCI_ERR_NODE_NOT_RESPONDING:
        return "the node does not answer";
    case SCI_ERR_NO_REMOTE_LINK_ACCESS:
        return "the other host's link is down";
    case SCI_ERR_NO_LINK_ACCESS:
        return "this host's agent is gone";
    case SCI_ERR_TRANSFER_FAILED:
        return "the transfer failed: the other side is gone";
    case SCI_ERR_NOT_SUPPORTED:
        return "not supported here";
    case SCI_ERR_DEPRECATED:
        return "not offered any more";
    case SCI_ERR_DMA_NOT_AVAILABLE:
        return "there is no such DMA engine";
    case SCI_ERR_DMA_DISABLED:
        return "the DMA engine is switched off";
    case SCI_ERR_INTNO_USED:
        return "the interrupt's number is used";
    case SCI_ERR_SEMAPHORE_COUNT_EXCEEDED:
        return "a semaphore's count is exceeded";
    case SCI_ERR_IRQL_ILLEGAL:
        return "not at this interrupt level";
    case SCI_ERR_REMOTE_BUSY:
        return "the other host is busy";
    case SCI_ERR_LOCAL_BUSY:
        return "this host is busy";
    case SCI_ERR_ALL_BUSY:
        return "all hosts are busy";
    case SCI_ERR_EWOULD_BLOCK:
        return "it would have to wait";
    case SCI_ERR_NO_SUCH_FDID:
        return "the pool has no device of that id";
    default:
        return "not an error of this library";
    }
}

} // namespace
} // namespace lanepool::sisci

extern "C" const char* SCIGetErrorString(sci_error_t error) { return lanepool::sisci::words(error); }
SISCI_NAMES(SCIGetErrorString)
