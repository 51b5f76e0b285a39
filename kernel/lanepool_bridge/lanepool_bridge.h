/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The interface of /dev/lanepool_bridge: PCI functions that user space describes
 * and this machine's own drivers use.
 *
 * One open file is one function. CREATE says what it is, PLUG injects it, UNPLUG
 * takes it away; closing the file is a surprise removal. A mapping of the pool keeps the
 * file open, too. Each structure begins with its own size, which must be exact, and with
 * flags, of which unknown ones are refused; reserved fields must be zero.
 * docs/kernel-bridge.md tells the rest.
 */
#ifndef LANEPOOL_BRIDGE_H
#define LANEPOOL_BRIDGE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define LANEPOOL_BRIDGE_VERSION		1
#define LANEPOOL_BRIDGE_CONFIG_BYTES	4096
#define LANEPOOL_BRIDGE_BARS		6
#define LANEPOOL_BRIDGE_HELD_FILES	8
#define LANEPOOL_BRIDGE_MAX_VECTORS	2048

/* What the function's driver reaches by DMA, and who sees it. */
enum lanepool_bridge_dma_mode {
	LANEPOOL_BRIDGE_DMA_BOUNCE = 0,	/* a pool; nothing else is visible */
	LANEPOOL_BRIDGE_DMA_IOMMU = 1,	/* each mapping, in the adapter's IOMMU domain */
	LANEPOOL_BRIDGE_DMA_DIRECT = 2,	/* all memory; needs the module's parameter */
};

enum lanepool_bridge_vector_kind {
	LANEPOOL_BRIDGE_VECTORS_NONE = 0,
	LANEPOOL_BRIDGE_VECTORS_MSI = 1,
	LANEPOOL_BRIDGE_VECTORS_MSIX = 2,
};

enum lanepool_bridge_state {
	LANEPOOL_BRIDGE_EMPTY = 0,	/* the file is open, nothing is described */
	LANEPOOL_BRIDGE_CREATED = 1,
	LANEPOOL_BRIDGE_PLUGGED = 2,
	LANEPOOL_BRIDGE_REMOVING = 3,	/* its driver is being asked to leave */
	LANEPOOL_BRIDGE_REMOVED = 4,	/* BARs, vectors and files are given back */
	LANEPOOL_BRIDGE_RELEASED = 5,	/* nobody holds its DMA memory any more */
};

#define LANEPOOL_BRIDGE_PRESENT		0x1	/* drivers may be bound to it */
#define LANEPOOL_BRIDGE_BOUND		0x2	/* it has one */

/*
 * INFO: may be asked at any time. dma_modes has bit (1 << mode) for each allowed one;
 * presence says what its user has made of the function: PRESENT, BOUND.
 */
struct lanepool_bridge_info {
	__u32 size;
	__u32 flags;
	__u32 version;
	__u32 state;
	__u32 dma_modes;
	__u32 max_vectors;
	__u64 max_pool_bytes;
	__u32 presence;
	__u32 reserved32;
	__u64 reserved[3];
};

#define LANEPOOL_BRIDGE_BAR_64BIT	0x1	/* takes the next BAR, too */
#define LANEPOOL_BRIDGE_BAR_PREFETCH	0x2

/*
 * A BAR is a part of a region of a VFIO device that the caller has open: offset is what
 * mmap() of vfio_fd takes. size is a power of two, from 16 bytes; 0 for a BAR that is
 * not there. The part must lie at a multiple of its size in this machine's addresses.
 */
struct lanepool_bridge_bar {
	__s32 vfio_fd;
	__u32 flags;
	__u64 offset;
	__u64 size;
	__u64 reserved;
};

/*
 * CREATE. The four pointers are to LANEPOOL_BRIDGE_CONFIG_BYTES each: the configuration
 * space as drivers read it; the bits that they may write; those that a written one
 * clears; those of which a write is told by an event. The module fills in BARs and the
 * masks of what it serves itself (command register, BARs, MSI and MSI-X), and refuses
 * what it cannot serve: bridges, INTx, SR-IOV, ATS, PRI, PASID, resizable BARs, enhanced
 * allocation. Capabilities cannot change afterwards.
 *
 * Bounce mode: pool_bytes is a multiple of the page size; mmap() of this file at 0 gives
 * the pool, for VFIO_IOMMU_MAP_DMA. The other modes: dma_bar is a BAR whose VFIO device
 * is the adapter; the module maps into its container between iova_base and iova_base +
 * iova_bytes, where the caller has nothing and never will have anything.
 *
 * held_fds are VFIO files (groups, containers) that stay open until the removal has
 * ended, as those of the BARs do; -1 where there is none.
 */
struct lanepool_bridge_create {
	__u32 size;
	__u32 flags;
	__u64 config_space;
	__u64 write_mask;
	__u64 clear_mask;
	__u64 notify_mask;
	struct lanepool_bridge_bar bars[LANEPOOL_BRIDGE_BARS];
	__u32 vector_kind;
	__u32 vectors;
	__u32 dma_mode;
	__u32 dma_bar;
	__u64 pool_bytes;
	__u64 iova_base;
	__u64 iova_bytes;
	__s32 held_fds[LANEPOOL_BRIDGE_HELD_FILES];
	__u64 reserved[4];
};

/*
 * PLUG: dma_base is where the device sees the pool, or iova_base; a multiple of the
 * page size. Says where the function is; drivers come to it later (event ATTACHED).
 */
struct lanepool_bridge_plug {
	__u32 size;
	__u32 flags;
	__u64 dma_base;
	__u32 domain;
	__u32 bus;
	__u32 devfn;
	__u32 reserved32;
	__u64 reserved[2];
};

/*
 * UNPLUG: begins the removal and returns; REMOVED and RELEASED tell when it has ended.
 * SURPRISE: the device is gone already. An orderly removal may become one by surprise.
 */
#define LANEPOOL_BRIDGE_UNPLUG_SURPRISE	0x1

struct lanepool_bridge_unplug {
	__u32 size;
	__u32 flags;
	__u64 reserved[2];
};

/* SET_VECTORS: fds is a pointer to count eventfds (__s32), -1 for none any more. */
struct lanepool_bridge_vectors {
	__u32 size;
	__u32 flags;
	__u32 start;
	__u32 count;
	__u64 fds;
	__u64 reserved[2];
};

/* UPDATE_CONFIG and READ_CONFIG; data is a pointer to length bytes. */
struct lanepool_bridge_config {
	__u32 size;
	__u32 flags;
	__u32 offset;
	__u32 length;
	__u64 data;
	__u64 reserved[2];
};

/*
 * RESET: from BEGIN (or the event RESET) to END drivers read all ones, their writes and
 * the vectors are dropped. Before END, UPDATE_CONFIG puts in what the reset has left.
 */
#define LANEPOOL_BRIDGE_RESET_BEGIN	1
#define LANEPOOL_BRIDGE_RESET_END	2

struct lanepool_bridge_reset {
	__u32 size;
	__u32 flags;
	__u32 action;
	__u32 reserved32;
	__u64 reserved[2];
};

struct lanepool_bridge_stats {
	__u32 size;
	__u32 flags;
	__u64 config_reads;
	__u64 config_writes;
	__u64 events;
	__u64 events_lost;
	__u64 vectors_delivered;
	__u64 vectors_dropped;
	__u64 dma_maps;
	__u64 dma_unmaps;
	__u64 dma_failures;
	__u64 bytes_copied;
	__u64 pool_bytes;
	__u64 pool_used_bytes;
	__u64 pool_peak_bytes;
	__u64 reserved[8];
};

enum lanepool_bridge_event_type {
	LANEPOOL_BRIDGE_EVENT_CONFIG_WRITE = 1,	/* offset, length, value */
	LANEPOOL_BRIDGE_EVENT_RESET = 2,	/* the driver asked for a function level reset */
	LANEPOOL_BRIDGE_EVENT_ATTACHED = 3,	/* drivers have been offered the function */
	LANEPOOL_BRIDGE_EVENT_REMOVED = 4,
	LANEPOOL_BRIDGE_EVENT_RELEASED = 5,
	/* What this machine's user does with the function; he may undo each of them. */
	LANEPOOL_BRIDGE_EVENT_BOUND = 6,	/* a driver has taken it */
	LANEPOOL_BRIDGE_EVENT_UNBOUND = 7,	/* its driver has left it */
	LANEPOOL_BRIDGE_EVENT_PRESENT = 8,	/* a scan has found it */
	LANEPOOL_BRIDGE_EVENT_ABSENT = 9,	/* it is off its bus, until a rescan */
};

/* Events before this one were lost: READ_CONFIG and INFO say how things stand. */
#define LANEPOOL_BRIDGE_EVENT_LOST	0x1

/* read() gives whole events, as many as fit; poll() says when there is one. */
struct lanepool_bridge_event {
	__u32 type;
	__u32 flags;
	__u64 sequence;
	__u32 offset;
	__u32 length;
	__u32 value;
	__u32 reserved;
};

#define LANEPOOL_BRIDGE_TYPE		0xb6
#define LANEPOOL_BRIDGE_INFO \
	_IOWR(LANEPOOL_BRIDGE_TYPE, 0, struct lanepool_bridge_info)
#define LANEPOOL_BRIDGE_CREATE \
	_IOW(LANEPOOL_BRIDGE_TYPE, 1, struct lanepool_bridge_create)
#define LANEPOOL_BRIDGE_PLUG \
	_IOWR(LANEPOOL_BRIDGE_TYPE, 2, struct lanepool_bridge_plug)
#define LANEPOOL_BRIDGE_UNPLUG \
	_IOW(LANEPOOL_BRIDGE_TYPE, 3, struct lanepool_bridge_unplug)
#define LANEPOOL_BRIDGE_SET_VECTORS \
	_IOW(LANEPOOL_BRIDGE_TYPE, 4, struct lanepool_bridge_vectors)
#define LANEPOOL_BRIDGE_UPDATE_CONFIG \
	_IOW(LANEPOOL_BRIDGE_TYPE, 5, struct lanepool_bridge_config)
#define LANEPOOL_BRIDGE_READ_CONFIG \
	_IOW(LANEPOOL_BRIDGE_TYPE, 6, struct lanepool_bridge_config)
#define LANEPOOL_BRIDGE_RESET \
	_IOW(LANEPOOL_BRIDGE_TYPE, 7, struct lanepool_bridge_reset)
#define LANEPOOL_BRIDGE_STATS \
	_IOWR(LANEPOOL_BRIDGE_TYPE, 8, struct lanepool_bridge_stats)

#endif
