/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SISCI API with its SmartIO part, as lanepool offers it: memory of other hosts, interrupts, and devices
 * of the pool, for programs. docs/sisci.md says how to build with it, what is left out, and which values are
 * lanepool's own.
 *
 * What holds for all functions:
 * - `error` is where the outcome goes: SCI_ERR_OK or what went wrong. It is always set, and may be NULL for
 * who does not care. A handle that is returned is NULL where the outcome is
 *   not SCI_ERR_OK.
 * - `flags` that a function does not know give SCI_ERR_ILLEGAL_FLAG; those that SISCI has and lanepool has
 * not give SCI_ERR_FLAG_NOT_IMPLEMENTED.
 * - A handle that is NULL, of another kind, or not valid any more gives SCI_ERR_ILLEGAL_PARAMETER.
 * - `localAdapterNo` is 0, the only adapter of a host: others give SCI_ERR_NO_SUCH_ADAPTERNO, and from
 *   DIS_MAX_NSCIS on SCI_ERR_ILLEGAL_ADAPTERNO.
 * - `timeout` is in milliseconds; SCI_INFINITE_TIMEOUT waits for ever, except where a function says
 * otherwise.
 * - Before SCIInitialize() and after SCITerminate() everything gives SCI_ERR_NOT_INITIALIZED.
 * - Every function may be called from any thread, at any time.
 * - SCI_ERR_NO_LINK_ACCESS: the host's agent is gone. SCI_ERR_NOSPC: over a limit of the host or out of
 * memory.
 */
#ifndef SISCI_API_H
#define SISCI_API_H

#include "dis/dis_types.h"
#include "sisci_error.h"
#include "sisci_types.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Flags: a bit means what it says only to the functions beside which it is listed ---- */

/* SCICreateSegment() */
#define SCI_FLAG_USE_CALLBACK 0x00000001 /* also of connects, interrupts, transfers, posts */
#define SCI_FLAG_EMPTY 0x00000002        /* without memory: attach some later */
#define SCI_FLAG_PRIVATE 0x00000004      /* nobody can connect; it has no id */
#define SCI_FLAG_ALLOW_UNICAST 0x00000080
#define SCI_FLAG_AUTO_ID 0x20000000 /* another id than the given one will do, if that is used */
#define SCI_FLAG_BROADCAST 0x00040000
/* SCIPrepareSegment() */
#define SCI_FLAG_DMA_SOURCE_ONLY 0x00000008
/* SCIRegisterSegmentMemory() */
#define SCI_FLAG_LOCK_USER_MEM 0x00000400
/* SCIAttachPhysicalMemory() */
#define SCI_FLAG_PHYSICAL 0x00001000
#define SCI_FLAG_CUDA_BUFFER 0x00002000
#define SCI_FLAG_SCIF_BUFFER 0x00004000
/* SCIRemoveSegment() */
#define SCI_FLAG_FORCE_REMOVE 0x00000020

/* SCIMapLocalSegment(), SCIMapRemoteSegment() */
#define SCI_FLAG_FIXED_MAP_ADDR 0x00000001
#define SCI_FLAG_READONLY_MAP 0x00000002
#define SCI_FLAG_LOCK_OPERATION 0x00000004
#define SCI_FLAG_CONDITIONAL_INTERRUPT_MAP 0x00000008
#define SCI_FLAG_UNCONDITIONAL_DATA_INTERRUPT_MAP 0x00000010
#define SCI_FLAG_IO_MAP_IOSPACE 0x00000080 /* registers: no caching, no prefetching */
#define SCI_FLAG_NO_MEMORY_LOOPBACK 0x00000800
#define SCI_FLAG_SHARED_MAP 0x00002000
#define SCI_FLAG_WRITE_BACK_CACHE_MAP 0x08000000

/* SCICreateInterrupt(), SCICreateDataInterrupt() */
#define SCI_FLAG_FIXED_INTNO 0x00000002 /* the number is given, not chosen */
#define SCI_FLAG_SHARED_INT 0x00000004
#define SCI_FLAG_CONDITIONAL_INTERRUPT 0x00000008
#define SCI_FLAG_COUNTING_INT 0x00000020 /* every trigger counts: also of SCIConnectInterrupt() */
#define SCI_FLAG_SHARE_EXTERNAL 0x00000040

/* DMA */
#define SCI_FLAG_DMA_WAIT 0x00000004 /* return when it is done */
#define SCI_FLAG_DMA_READ 0x00000010 /* from the remote segment to the local one */
#define SCI_FLAG_DMA_PHDMA 0x00000020
#define SCI_FLAG_DMA_GLOBAL 0x00000040 /* which engine: all are one here; also of SCICreateSegment() */
#define SCI_FLAG_DMA_SYSDMA 0x00000100
#define SCI_FLAG_DMA_USER_MEM 0x00000200
#define SCI_FLAG_DMA_ADAPTER 0x00000800
#define SCI_FLAG_DMA_CHANNEL_SHARED 0x00000001

/* SCICacheSync() */
#define SCI_FLAG_CACHE_FLUSH 0x00100000
#define SCI_FLAG_CACHE_INVALIDATE 0x00200000

/* SmartIO */
#define SCI_FLAG_EXCLUSIVE 0x01000000 /* SCIBorrowDevice() */
#define SCI_FLAG_DEVICE_SIDE_ONLY 0x02001000
#define SCI_FLAG_LOCAL_ONLY 0x02002000
#define SCI_FLAG_DEVICE_PREFER_BANDWIDTH 0x04000001
#define SCI_FLAG_HOST_PREFER_BANDWIDTH 0x04000002
#define SCI_FLAG_SPECIFY_PATH 0x10000000
#define SCI_FLAG_SPECIFY_SLOT 0x20000000
#define SCI_FLAG_PCIE_REQUESTER_GLOBAL 0x00000001

/* Flags that clients know by name, with values that are lanepool's own. */
#define SCI_FLAG_THREAD_SAFE 0x00010000            /* SCIOpen(): it always is */
#define SCI_FLAG_ASYNCHRONOUS_CONNECT 0x00010000   /* SCIConnectSegment() */
#define SCI_FLAG_FORCE_DISCONNECT 0x00010000       /* SCISetSegmentUnavailable() */
#define SCI_FLAG_NOTIFY 0x00020000                 /* SCISetSegmentUnavailable() */
#define SCI_FLAG_BLOCK_READ 0x00010000             /* SCIMemCpy() and its kin: from remote to local */
#define SCI_FLAG_ERROR_CHECK 0x00020000            /* the same: it always is checked */
#define SCI_FLAG_FAST_BARRIER 0x00010000           /* SCICreateMapSequence() */
#define SCI_FLAG_NO_FLUSH 0x00010000               /* SCICheckSequence() */
#define SCI_FLAG_NO_STORE_BARRIER 0x00020000       /* SCICheckSequence() */
#define SCI_FLAG_FLUSH_CPU_BUFFERS_ONLY 0x00010000 /* SCIFlush() */

/* Kinds of memory of a device. */
#define SCI_MEMTYPE_BAR 0x00000001     /* its registers: the id is the BAR's number */
#define SCI_MEMTYPE_PRIVATE 0x00000002 /* memory beside it, of one borrower */
#define SCI_MEMTYPE_SHARED 0x00000004  /* memory beside it, of all borrowers */

/* Who will use a device's memory, and how: hints. */
#define SCI_MEMACCESS_DEVICE_READ 0x00000001
#define SCI_MEMACCESS_DEVICE_WRITE 0x00000002
#define SCI_MEMACCESS_HOST_READ 0x00000004
#define SCI_MEMACCESS_HOST_WRITE 0x00000008
#define SCI_MEMACCESS_MULTIHOST_READ (0x00000010 | SCI_MEMACCESS_HOST_READ)
#define SCI_MEMACCESS_MULTIHOST_WRITE (0x00000010 | SCI_MEMACCESS_HOST_WRITE)
#define SCI_MEMACCESS_P2P_READ (0x00000020 | SCI_MEMACCESS_DEVICE_READ)
#define SCI_MEMACCESS_P2P_WRITE (0x00000020 | SCI_MEMACCESS_DEVICE_WRITE)

/* DMA engines and channels. */
#define SCI_DMA_TYPE_DONTCARE 0x00000001
#define SCI_DMA_TYPE_ADAPTER 0x00000002
#define SCI_DMA_TYPE_GLOBAL 0x00000003
#define SCI_DMA_TYPE_SYSTEM 0x00000004
#define SCI_DMA_TYPE_TRANSPARENT 0x00000005
#define SCI_DMA_CHANNEL_ID_DONTCARE 0xFFFFFFFF

#define SCI_INFINITE_TIMEOUT 0xffffffff

/* ---- Queries: all these values are lanepool's own, as nobody has published any ---- */

/* Commands, and what `data` points to. */
#define SCI_Q_VENDORID 1       /* sci_query_string_t */
#define SCI_Q_API 2            /* sci_query_string_t */
#define SCI_Q_ADAPTER 3        /* sci_query_adapter_t */
#define SCI_Q_SYSTEM 4         /* sci_query_system_t */
#define SCI_Q_LOCAL_SEGMENT 5  /* sci_query_local_segment_t */
#define SCI_Q_REMOTE_SEGMENT 6 /* sci_query_remote_segment_t */
#define SCI_Q_MAP 7            /* sci_query_map_t */
#define SCI_Q_DMA 8            /* sci_query_dma_t */
#define SCI_Q_DEVICE 9         /* sci_smartio_query_device_t */

/* Subcommands of SCI_Q_ADAPTER. */
#define SCI_Q_ADAPTER_NODEID 0x301
#define SCI_Q_ADAPTER_SERIAL_NUMBER 0x302 /* the node id: an adapter of the fabric has no other number */
#define SCI_Q_ADAPTER_CARD_TYPE 0x303     /* for SCIGetAdapterTypeString() */
#define SCI_Q_ADAPTER_CONFIGURED 0x304    /* 1 */
#define SCI_Q_ADAPTER_NUMBER 0x305        /* 0 */
#define SCI_Q_ADAPTER_NUMBER_OF_LINKS 0x306
#define SCI_Q_ADAPTER_LINK_OPERATIONAL 0x307 /* 1 while the host's agent says so */
#define SCI_Q_ADAPTER_LINK_ENABLED 0x308
#define SCI_Q_ADAPTER_LINK_CABLE_INSERTED 0x309
#define SCI_Q_ADAPTER_LINK_WIDTH 0x30a /* NOT_AVAILABLE, as the next four */
#define SCI_Q_ADAPTER_LINK_SPEED 0x30b
#define SCI_Q_ADAPTER_LINK_UPTIME 0x30c
#define SCI_Q_ADAPTER_LINK_DOWNTIME 0x30d
#define SCI_Q_ADAPTER_LINK_PARTNER_PORT_NO 0x30e
#define SCI_Q_ADAPTER_BDF 0x30f
#define SCI_Q_ADAPTER_MCAST_MAX_GROUPS 0x310 /* 0: no broadcast */
#define SCI_Q_ADAPTER_DMA_SIZE_ALIGNMENT 0x311
#define SCI_Q_ADAPTER_DMA_OFFSET_ALIGNMENT 0x312
#define SCI_Q_ADAPTER_DMA_MTU 0x313
#define SCI_Q_ADAPTER_SUGGESTED_MIN_DMA_SIZE 0x314
#define SCI_Q_ADAPTER_SUGGESTED_MIN_BLOCK_SIZE 0x315
/* Subcommand of SCI_Q_SYSTEM. */
#define SCI_Q_SYSTEM_CPU_CACHE_LINE_SIZE 0x401
/* Subcommands of the segments' queries: addresses that mean something to a program are given by the
 * functions that map for a device, so these give NOT_AVAILABLE. */
#define SCI_Q_LOCAL_SEGMENT_IOADDR 0x501
#define SCI_Q_LOCAL_SEGMENT_PHYS_ADDR 0x502
#define SCI_Q_LOCAL_SEGMENT_VIRTUAL_KERNEL_ADDR 0x503
#define SCI_Q_REMOTE_SEGMENT_IOADDR 0x601
/* Subcommands of SCI_Q_MAP; the addresses as above. */
#define SCI_Q_MAP_MAPPED_TO_LOCAL_TARGET 0x701 /* 1: of a segment of this host */
#define SCI_Q_MAP_IOADDR 0x702
#define SCI_Q_MAP_PHYS_ADDR 0x703
/* Subcommands of SCI_Q_DMA; the engine is given by the flags: SCI_FLAG_DMA_ADAPTER, _GLOBAL or _SYSDMA. */
#define SCI_Q_DMA_AVAILABLE 0x801
#define SCI_Q_DMA_CAPABILITIES 0x802 /* sci_dma_capabilities_t */
/* Subcommand of SCI_Q_DEVICE. */
#define SCI_Q_DEVICE_INFO 0x901 /* sci_smartio_device_info_t */

/* What SCI_Q_ADAPTER_CARD_TYPE answers. */
#define SCI_ADAPTER_TYPE_SWITCHTEC_NTB 1

/* ---- The library ---- */

/* Must be called first; as many SCITerminate() have to follow. It connects to the agent of this host, at the
 * socket that the environment variable LANEPOOL_AGENT names, or else at /run/lanepool/application.sock.
 * Errors: SYSTEM (no agent there: errno says why), ACCESS (it does not let this user), INCONSISTENT_VERSIONS.
 */
void SCIInitialize(unsigned int flags, sci_error_t* error);
/* The last one gives everything back that was not. Not from a callback. */
void SCITerminate(void);

/* What an error means, in words. Never NULL; valid for ever. */
const char* SCIGetErrorString(sci_error_t error);

/* A descriptor: a name for a set of resources. Each resource is of the descriptor with which it was made, but
 * may be used together with those of others. Flags: SCI_FLAG_THREAD_SAFE. */
void SCIOpen(sci_desc_t* sd, unsigned int flags, sci_error_t* error);
/* Errors: BUSY (it still has resources). */
void SCIClose(sci_desc_t sd, unsigned int flags, sci_error_t* error);

/* Asks COMMAND, one of SCI_Q_, and fills in what DATA points to. Errors: ILLEGAL_QUERY (no such command or
 * subcommand), NOT_AVAILABLE (nothing to answer), NO_SUCH_FDID (SCI_Q_DEVICE), OVERFLOW (a string that is too
 * short; it has the start). */
void SCIQuery(unsigned int command, void* data, unsigned int flags, sci_error_t* error);

void SCIGetLocalNodeId(unsigned int adapterNo, unsigned int* nodeId, unsigned int flags, sci_error_t* error);
/* Whether the node answers: 1 or 0. Errors: ILLEGAL_NODEID, NO_SUCH_NODEID, NODE_NOT_RESPONDING; with each of
 * them the answer is 0. */
int SCIProbeNode(sci_desc_t sd, unsigned int localAdapterNo, unsigned int nodeId, unsigned int flags,
                 sci_error_t* error);
const char* SCIGetAdapterTypeString(unsigned int adapterType);

/* ---- Local segments: memory that this host shows to others ----
 * In this order: create, prepare, set available; then it can be connected, and mapped for devices. A segment
 * is whole pages: its memory has the size rounded up, its size stays as given. */

/* Flags: USE_CALLBACK, EMPTY, PRIVATE, AUTO_ID, DMA_GLOBAL (nothing to do); BROADCAST and ALLOW_UNICAST are
 * not implemented. With AUTO_ID the id given is a wish. CALLBACK is called (with USE_CALLBACK) when somebody
 * connects or disconnects. Errors: SEGMENTID_USED (ids are the host's), SIZE_ALIGNMENT (0), NOSPC,
 * ILLEGAL_PARAMETER (USE_CALLBACK without one). */
void SCICreateSegment(sci_desc_t sd, sci_local_segment_t* segment, unsigned int segmentId, size_t size,
                      sci_cb_local_segment_t callback, void* callbackArg, unsigned int flags,
                      sci_error_t* error);
/* Errors: BUSY (connected, mapped by this process, or mapped for a device). Waits on it end with CANCELLED.
 */
void SCIRemoveSegment(sci_local_segment_t segment, unsigned int flags, sci_error_t* error);

/* Makes memory of the program the memory of an empty segment: its contents stay, and so does where it lies.
 * It is as long as the segment, in whole pages. Nobody may write to it during this call and
 * SCIRemoveSegment(), and it must stay mapped from the one to the other. Flags: LOCK_USER_MEM. Errors:
 * ILLEGAL_OPERATION (not empty, or has memory already), ILLEGAL_ADDRESS (not mapped, not writable, not at a
 * page, or a part of it is a segment already), SIZE_ALIGNMENT (not whole pages), OUT_OF_RANGE (not as long as
 * the segment). */
void SCIRegisterSegmentMemory(void* address, size_t size, sci_local_segment_t segment, unsigned int flags,
                              sci_error_t* error);
/* Refused: a program here knows no bus addresses. Errors: NOT_SUPPORTED; FLAG_NOT_IMPLEMENTED for
 * CUDA_BUFFER, SCIF_BUFFER and PHYSICAL. */
void SCIAttachPhysicalMemory(sci_ioaddr_t ioaddress, void* address, unsigned int busNo, size_t size,
                             sci_local_segment_t segment, unsigned int flags, sci_error_t* error);

/* Flags: DMA_SOURCE_ONLY. May be repeated. Errors: ILLEGAL_OPERATION (empty, and no memory was registered).
 */
void SCIPrepareSegment(sci_local_segment_t segment, unsigned int localAdapterNo, unsigned int flags,
                       sci_error_t* error);
/* May be repeated. Errors: SEGMENT_NOT_PREPARED, ILLEGAL_OPERATION (private). */
void SCISetSegmentAvailable(sci_local_segment_t segment, unsigned int localAdapterNo, unsigned int flags,
                            sci_error_t* error);
/* From now on nobody can connect. May be repeated. FORCE_DISCONNECT and NOTIFY are not implemented. Errors:
 * BUSY (connected), ILLEGAL_OPERATION (private). */
void SCISetSegmentUnavailable(sci_local_segment_t segment, unsigned int localAdapterNo, unsigned int flags,
                              sci_error_t* error);

/* Sharing a segment among processes of a host by attaching to it: NOT_SUPPORTED. Connect to it instead, at
 * this host's own node id. */
void SCIShareSegment(sci_local_segment_t segment, unsigned int flags, sci_error_t* error);
void SCIAttachLocalSegment(sci_desc_t sd, sci_local_segment_t* segment, unsigned int segmentId, size_t* size,
                           sci_cb_local_segment_t callback, void* callbackArg, unsigned int flags,
                           sci_error_t* error);

unsigned int SCIGetLocalSegmentId(sci_local_segment_t segment); /* 0 for a bad handle */
size_t SCIGetLocalSegmentSize(sci_local_segment_t segment);     /* 0 for a bad handle */

/* Waits for what a callback would be told, and takes it. SOURCENODEID and LOCALADAPTERNO may be NULL. Errors:
 * TIMEOUT, CANCELLED (the segment was removed), ILLEGAL_OPERATION (it has a callback). */
sci_segment_cb_reason_t SCIWaitForLocalSegmentEvent(sci_local_segment_t segment, unsigned int* sourcenodeId,
                                                    unsigned int* localAdapterNo, unsigned int timeout,
                                                    unsigned int flags, sci_error_t* error);

/* ---- Remote segments ---- */

/* TIMEOUT says how long to wait for the segment to be there; SCI_INFINITE_TIMEOUT, as clients expect, does
 * not wait at all. NODEID may be this host's own. The connection is there when this returns; CALLBACK
 * is called (with USE_CALLBACK) when it is LOST. Flags: USE_CALLBACK; BROADCAST and ASYNCHRONOUS_CONNECT are
 * not implemented. Errors: NO_SUCH_SEGMENT (none of that id, or it is not available), CONNECTION_REFUSED (not
 * by this user), ILLEGAL_NODEID, NO_SUCH_NODEID, NODE_NOT_RESPONDING, TIMEOUT (no answer). */
void SCIConnectSegment(sci_desc_t sd, sci_remote_segment_t* segment, unsigned int nodeId,
                       unsigned int segmentId, unsigned int localAdapterNo, sci_cb_remote_segment_t callback,
                       void* callbackArg, unsigned int timeout, unsigned int flags, sci_error_t* error);
/* Errors: BUSY (mapped by this process, or for a device). Waits on it end with CANCELLED. */
void SCIDisconnectSegment(sci_remote_segment_t segment, unsigned int flags, sci_error_t* error);

size_t SCIGetRemoteSegmentSize(sci_remote_segment_t segment);         /* 0 for a bad handle */
unsigned int SCIGetRemoteSegmentId(sci_remote_segment_t segment);     /* 0 for a bad handle */
unsigned int SCIGetRemoteSegmentNodeId(sci_remote_segment_t segment); /* of the host whose memory it is */

/* As SCIWaitForLocalSegmentEvent(); STATUS may be NULL. */
sci_segment_cb_reason_t SCIWaitForRemoteSegmentEvent(sci_remote_segment_t segment, sci_error_t* status,
                                                     unsigned int timeout, unsigned int flags,
                                                     sci_error_t* error);

/* ---- Mapping into this process ---- */

/* ADDR is looked at with FIXED_MAP_ADDR only. Flags: FIXED_MAP_ADDR, READONLY_MAP, IO_MAP_IOSPACE,
 * SHARED_MAP, NO_MEMORY_LOOPBACK, WRITE_BACK_CACHE_MAP (the last four need nothing done); LOCK_OPERATION and
 * the interrupt maps are not implemented. Returns NULL on error: OUT_OF_RANGE, SIZE_ALIGNMENT (0),
 * OFFSET_ALIGNMENT (not a multiple of 4), ILLEGAL_ADDRESS (FIXED_MAP_ADDR: not at a page, or something is
 * there), ILLEGAL_OPERATION (a segment without memory), NOT_CONNECTED (lost), NOT_SUPPORTED (registers that
 * are not memory), ACCESS (not writable). */
void* SCIMapLocalSegment(sci_local_segment_t segment, sci_map_t* map, size_t offset, size_t size, void* addr,
                         unsigned int flags, sci_error_t* error);
volatile void* SCIMapRemoteSegment(sci_remote_segment_t segment, sci_map_t* map, size_t offset, size_t size,
                                   void* addr, unsigned int flags, sci_error_t* error);
/* Errors: BUSY (a sequence or a block transfer uses it). */
void SCIUnmapSegment(sci_map_t map, unsigned int flags, sci_error_t* error);

/* ---- Copying ---- */

/* Copies between MEMADDR and a map: to the map, or with SCI_FLAG_BLOCK_READ from it. SEQUENCE may be NULL.
 * Flags: BLOCK_READ, ERROR_CHECK. Errors: OUT_OF_RANGE, TRANSFER_FAILED (the connection is lost),
 * ILLEGAL_OPERATION (a read-only map). */
void SCIMemCpy(sci_sequence_t sequence, void* memAddr, sci_map_t remoteMap, size_t remoteOffset, size_t size,
               unsigned int flags, sci_error_t* error);
/* The same without a sequence. */
void SCIMemCopy(void* memAddr, sci_map_t remoteMap, size_t remoteOffset, size_t size, unsigned int flags,
                sci_error_t* error);
/* Copies to where a remote segment is mapped. */
void SCIMemWrite(void* memAddr, volatile void* remoteAddr, size_t size, unsigned int flags,
                 sci_error_t* error);
/* Copies from one map to another. Errors: as SCIMemCpy(). */
void SCITransferBlock(sci_map_t sourceMap, size_t sourceOffset, sci_map_t destinationMap,
                      size_t destinationOffset, size_t size, unsigned int flags, sci_error_t* error);
/* The same by a thread of the library. Flags: USE_CALLBACK, BLOCK_READ. */
void SCITransferBlockAsync(sci_map_t sourceMap, size_t sourceOffset, sci_map_t destinationMap,
                           size_t destinationOffset, size_t size, sci_block_transfer_t* block,
                           sci_cb_block_transfer_t callback, void* callbackArg, unsigned int flags,
                           sci_error_t* error);
/* Errors: TIMEOUT; else what became of the transfer, whose handle is not valid any more. ILLEGAL_OPERATION
 * where it has a callback: then the handle ends with the callback. */
void SCIWaitForBlockTransfer(sci_block_transfer_t block, unsigned int timeout, unsigned int flags,
                             sci_error_t* error);
/* Ends a transfer that has not begun: its outcome is CANCELLED. Errors: ILLEGAL_OPERATION (it has). */
void SCIAbortBlockTransfer(sci_block_transfer_t block, unsigned int flags, sci_error_t* error);

/* ---- Sequences: whether what was written has arrived ---- */

/* Flags: FAST_BARRIER. */
void SCICreateMapSequence(sci_map_t map, sci_sequence_t* sequence, unsigned int flags, sci_error_t* error);
void SCIRemoveSequence(sci_sequence_t sequence, unsigned int flags, sci_error_t* error);
/* SCI_SEQ_OK, or SCI_SEQ_NOT_RETRIABLE when the connection is lost; with an error, SCI_SEQ_NOT_RETRIABLE. */
sci_sequence_status_t SCIStartSequence(sci_sequence_t sequence, unsigned int flags, sci_error_t* error);
/* Flags: NO_FLUSH, NO_STORE_BARRIER. */
sci_sequence_status_t SCICheckSequence(sci_sequence_t sequence, unsigned int flags, sci_error_t* error);
/* What was written before is seen before what is written after. SEQUENCE may be NULL in these four. */
void SCIStoreBarrier(sci_sequence_t sequence, unsigned int flags);
void SCIFlush(sci_sequence_t sequence, unsigned int flags);
void SCIFlushReadBuffers(sci_sequence_t sequence);
/* The fabric keeps caches coherent: orders memory only. Flags: CACHE_FLUSH, CACHE_INVALIDATE. MAP may be
 * NULL. Errors: ILLEGAL_ADDRESS (ADDR is NULL). */
void SCICacheSync(sci_map_t map, void* addr, size_t length, unsigned int flags, sci_error_t* error);

/* ---- Interrupts ---- */

/* With FIXED_INTNO, *INTERRUPTNO is the number; else it is set to one. Flags: USE_CALLBACK, FIXED_INTNO,
 * COUNTING_INT; SHARED_INT and the others are not implemented. Triggers that come while nobody waits are one,
 * or with COUNTING_INT are counted. Errors: INTNO_USED. */
void SCICreateInterrupt(sci_desc_t sd, sci_local_interrupt_t* interrupt, unsigned int localAdapterNo,
                        unsigned int* interruptNo, sci_cb_interrupt_t callback, void* callbackArg,
                        unsigned int flags, sci_error_t* error);
/* Errors: BUSY (connected). Waits on it end with CANCELLED. */
void SCIRemoveInterrupt(sci_local_interrupt_t interrupt, unsigned int flags, sci_error_t* error);
/* Errors: TIMEOUT, CANCELLED, ILLEGAL_OPERATION (it has a callback). */
void SCIWaitForInterrupt(sci_local_interrupt_t interrupt, unsigned int timeout, unsigned int flags,
                         sci_error_t* error);
/* TIMEOUT as of SCIConnectSegment(). Flags: COUNTING_INT (nothing to do). Errors: NO_SUCH_INTNO, and as of
 * SCIConnectSegment(). */
void SCIConnectInterrupt(sci_desc_t sd, sci_remote_interrupt_t* interrupt, unsigned int nodeId,
                         unsigned int localAdapterNo, unsigned int interruptNo, unsigned int timeout,
                         unsigned int flags, sci_error_t* error);
void SCIDisconnectInterrupt(sci_remote_interrupt_t interrupt, unsigned int flags, sci_error_t* error);
/* Errors: NOT_CONNECTED (the other side is gone). */
void SCITriggerInterrupt(sci_remote_interrupt_t interrupt, unsigned int flags, sci_error_t* error);

/* ---- Interrupts with data: every trigger's message arrives, each sender's in order ---- */

/* Flags: USE_CALLBACK, FIXED_INTNO. */
void SCICreateDataInterrupt(sci_desc_t sd, sci_local_data_interrupt_t* interrupt, unsigned int localAdapterNo,
                            unsigned int* interruptNo, sci_cb_data_interrupt_t callback, void* callbackArg,
                            unsigned int flags, sci_error_t* error);
void SCIRemoveDataInterrupt(sci_local_data_interrupt_t interrupt, unsigned int flags, sci_error_t* error);
/* *LENGTH is the room at DATA, and becomes the message's length. Errors: TIMEOUT, CANCELLED,
 * ILLEGAL_OPERATION (it has a callback), OVERFLOW (the message is longer than that: it stays, and *LENGTH is
 * its length). */
void SCIWaitForDataInterrupt(sci_local_data_interrupt_t interrupt, void* data, unsigned int* length,
                             unsigned int timeout, unsigned int flags, sci_error_t* error);
void SCIConnectDataInterrupt(sci_desc_t sd, sci_remote_data_interrupt_t* interrupt, unsigned int nodeId,
                             unsigned int localAdapterNo, unsigned int interruptNo, unsigned int timeout,
                             unsigned int flags, sci_error_t* error);
void SCIDisconnectDataInterrupt(sci_remote_data_interrupt_t interrupt, unsigned int flags,
                                sci_error_t* error);
/* Errors: OUT_OF_RANGE (too long, or 0), BUSY (the receiver has not taken the earlier ones), NOT_CONNECTED.
 */
void SCITriggerDataInterrupt(sci_remote_data_interrupt_t interrupt, void* data, unsigned int length,
                             unsigned int flags, sci_error_t* error);

/* ---- DMA queues: copies made by a thread of the library, one queue's in order ---- */

void SCICreateDMAQueue(sci_desc_t sd, sci_dma_queue_t* dq, unsigned int localAdapterNo,
                       unsigned int maxEntries, unsigned int flags, sci_error_t* error);
/* Errors: BUSY (at work). */
void SCIRemoveDMAQueue(sci_dma_queue_t dq, unsigned int flags, sci_error_t* error);

/* Flags: USE_CALLBACK, DMA_WAIT, DMA_READ, DMA_GLOBAL, DMA_SYSDMA, DMA_ADAPTER, DMA_USER_MEM; DMA_PHDMA,
 * BROADCAST and ALLOW_UNICAST are not implemented. Errors: OUT_OF_RANGE, SIZE_ALIGNMENT (0),
 * SEGMENT_NOT_PREPARED, SEGMENT_NOT_CONNECTED (lost), ILLEGAL_OPERATION (transfers are enqueued), MAX_ENTRIES
 * (as many are at work); with DMA_WAIT also TRANSFER_FAILED and CANCELLED. */
void SCIStartDmaTransfer(sci_dma_queue_t dq, sci_local_segment_t localSegment,
                         sci_remote_segment_t remoteSegment, size_t localOffset, size_t size,
                         size_t remoteOffset, sci_cb_dma_t callback, void* callbackArg, unsigned int flags,
                         sci_error_t* error);
void SCIStartDmaTransferMem(sci_dma_queue_t dq, void* localAddress, sci_remote_segment_t remoteSegment,
                            size_t size, size_t remoteOffset, sci_cb_dma_t callback, void* callbackArg,
                            unsigned int flags, sci_error_t* error);
void SCIStartDmaTransferVec(sci_dma_queue_t dq, sci_local_segment_t localSegment,
                            sci_remote_segment_t remoteSegment, size_t vectorLength, dis_dma_vec_t* vector,
                            sci_cb_dma_t callback, void* callbackArg, unsigned int flags, sci_error_t* error);

/* The older way: enqueue some, post them, wait, reset. Flags: DMA_READ and the engines'. */
sci_dma_queue_state_t SCIEnqueueDMATransfer(sci_dma_queue_t dq, sci_local_segment_t localSegment,
                                            sci_remote_segment_t remoteSegment, size_t localOffset,
                                            size_t remoteOffset, size_t size, unsigned int flags,
                                            sci_error_t* error);
/* Flags: USE_CALLBACK. Errors: ILLEGAL_OPERATION (nothing is enqueued, or it is at work). */
void SCIPostDMAQueue(sci_dma_queue_t dq, sci_cb_dma_t callback, void* callbackArg, unsigned int flags,
                     sci_error_t* error);
/* Makes it IDLE. Errors: ILLEGAL_OPERATION (at work). */
void SCIResetDMAQueue(sci_dma_queue_t dq, unsigned int flags, sci_error_t* error);
/* What has not begun is not done. Errors: ILLEGAL_OPERATION (not at work). */
void SCIAbortDMAQueue(sci_dma_queue_t dq, unsigned int flags, sci_error_t* error);
/* Waits until it is not at work, and answers its state. Errors: TIMEOUT. */
sci_dma_queue_state_t SCIWaitForDMAQueue(sci_dma_queue_t dq, unsigned int timeout, unsigned int flags,
                                         sci_error_t* error);
sci_dma_queue_state_t SCIDMAQueueState(sci_dma_queue_t dq); /* SCI_DMAQUEUE_ERROR for a bad handle */

/* Channels choose an engine. All are one here, so a channel changes nothing; every call is checked. */
void SCIRequestDMAChannel(sci_desc_t sd, sci_dma_channel_t* channel, unsigned int localAdapterNo,
                          sci_dma_type_t dmaType, unsigned int channelId, unsigned int flags,
                          sci_error_t* error);
/* Errors: BUSY (a queue that exists has it). */
void SCIReturnDMAChannel(sci_dma_channel_t channel, sci_error_t* error);
void SCIAssignDMAChannel(sci_dma_channel_t channel, sci_dma_queue_t dq, unsigned int flags,
                         sci_error_t* error);
/* In the place of SCIPrepareSegment(), for a segment that only DMA uses. */
void SCIPrepareLocalSegmentForDMA(sci_dma_channel_t channel, sci_local_segment_t segment, unsigned int flags,
                                  sci_error_t* error);
void SCIPrepareRemoteSegmentForDMA(sci_dma_channel_t channel, sci_remote_segment_t segment,
                                   unsigned int flags, sci_error_t* error);

/* ---- SmartIO: devices of the pool ---- */

/* The ids of the devices that are like FILTER (NULL: all), the first MAX of them at FDIDS; returns how many
 * were written. Zero and empty members of FILTER are not looked at. */
size_t SCIGetDeviceList(sci_desc_t sd, uint32_t* fdids, size_t max, sci_smartio_device_info_t* filter,
                        unsigned int flags, sci_error_t* error);
/* A loan of the device to this program: shared with other programs, or with EXCLUSIVE not. It is a loan as
 * any other: of the user, by the policy, with a due time, and it may be reclaimed; what was connected of it
 * is then LOST. Errors: NO_SUCH_FDID, NOT_AVAILABLE (somebody else has it, in a way that excludes this one;
 * or it is not to be had now), ACCESS (the policy is against it). */
void SCIBorrowDevice(sci_desc_t sd, sci_smartio_device_t* device, uint32_t fdid, unsigned int flags,
                     sci_error_t* error);
/* Errors: BUSY (segments of it are connected, or something is mapped for it). */
void SCIReturnDevice(sci_smartio_device_t device, unsigned int flags, sci_error_t* error);
uint32_t SCIGetFabricDeviceId(sci_smartio_device_t device); /* 0 for a bad handle */

/* Connects to memory of the device, as to a remote segment: MEMTYPE is one of SCI_MEMTYPE_, ID the BAR's
 * number or the id with which it was created. Flags: USE_CALLBACK. Errors: NO_SUCH_SEGMENT, NOT_CONNECTED
 * (the loan is over). */
void SCIConnectDeviceSegment(sci_smartio_device_t device, sci_remote_segment_t* segment, unsigned int id,
                             unsigned int memtype, sci_cb_remote_segment_t callback, void* callbackArg,
                             unsigned int flags, sci_error_t* error);
/* Makes memory beside the device, whole pages full of zeroes: MEMTYPE is PRIVATE (this borrower's) or SHARED
 * (for all of them). It lives until the device is returned; shared memory until all have returned it.
 * ACCESSHINTS change nothing. Flags: DEVICE_SIDE_ONLY and the preferences (nothing to do); LOCAL_ONLY,
 * SPECIFY_PATH and SPECIFY_SLOT are not implemented. Errors: SEGMENTID_USED, SIZE_ALIGNMENT (0),
 * ILLEGAL_PARAMETER (another kind). */
void SCICreateDeviceSegment(sci_smartio_device_t device, unsigned int id, size_t size, unsigned int memtype,
                            unsigned int accessHints, unsigned int flags, sci_error_t* error);

/* Lets the device reach a segment: *IOADDR is the address that the device has to use. From a page on, in
 * whole pages. The segment must be prepared, and available if it is not private. One mapping of a segment for
 * a device at a time. Errors: SEGMENT_NOT_PREPARED, ILLEGAL_OPERATION (not available), OUT_OF_RANGE,
 * SIZE_ALIGNMENT (0), OFFSET_ALIGNMENT (not at a page), BUSY (it is mapped for this device), HW_NOSPC,
 * NOT_CONNECTED (the loan is over). */
void SCIMapLocalSegmentForDevice(sci_local_segment_t segment, unsigned int localAdapterNo,
                                 sci_smartio_device_t device, sci_ioaddr_t* ioaddr, size_t offset,
                                 size_t size, unsigned int flags, sci_error_t* error);
/* The device must not use it any more. Errors: ILLEGAL_OPERATION (not mapped). */
void SCIUnmapLocalSegmentForDevice(sci_local_segment_t segment, unsigned int localAdapterNo,
                                   sci_smartio_device_t device, unsigned int flags, sci_error_t* error);
/* The same for a segment of another host, memory beside the device, or a BAR of another borrowed device. */
void SCIMapRemoteSegmentForDevice(sci_remote_segment_t segment, sci_smartio_device_t device,
                                  sci_ioaddr_t* ioaddr, size_t offset, size_t size, unsigned int flags,
                                  sci_error_t* error);
void SCIUnmapRemoteSegmentForDevice(sci_remote_segment_t segment, sci_smartio_device_t device,
                                    unsigned int flags, sci_error_t* error);

/* Lets a device of this host, which no pool knows, use the fabric: BUS and DEVFN are its address. Flags:
 * PCIE_REQUESTER_GLOBAL. */
void SCIRegisterPCIeRequester(sci_desc_t sd, unsigned int localAdapterNo, unsigned int bus,
                              unsigned int devfn, unsigned int flags, sci_error_t* error);
/* Errors: ILLEGAL_OPERATION (not registered with this descriptor). */
void SCIUnregisterPCIeRequester(sci_desc_t sd, unsigned int localAdapterNo, unsigned int bus,
                                unsigned int devfn, unsigned int flags, sci_error_t* error);

#ifdef __cplusplus
}
#endif

#endif
