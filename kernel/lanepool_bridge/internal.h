/* SPDX-License-Identifier: GPL-2.0-only */
/* What the module's files share. */
#ifndef LANEPOOL_BRIDGE_INTERNAL_H
#define LANEPOOL_BRIDGE_INTERNAL_H

#include <linux/completion.h>
#include <linux/dma-map-ops.h>
#include <linux/eventfd.h>
#include <linux/irq_work.h>
#include <linux/irqdomain.h>
#include <linux/kref.h>
#include <linux/msi.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/poll.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <asm/pci.h>

#include "lanepool_bridge.h"

#define LP_CONFIG_BYTES		LANEPOOL_BRIDGE_CONFIG_BYTES
/* How long the PCI core waits for a change between D0 and D3hot, instead of 10 ms. */
#define LP_POWER_WAIT_MS	200
#define LP_EVENTS		512
/* For how long PLUG waits until nobody else finds or removes functions. */
#define LP_PLUG_MS		5000
#define LP_UNBINDS		64
/* At most so many functions, each in a PCI domain of its own. */
#define LP_FUNCTIONS		64
/*
 * IOMMU drivers know 16 bits of a domain's number and take it for the segment of
 * the firmware's tables; no firmware has segments this high. VMD's begin at 0x10000.
 */
#define LP_FIRST_DOMAIN		0x1ff00

struct lp_function;
struct lp_dma;
struct iommu_domain;

/* A range of equal slots; what is not given out is zero in the bitmap. */
struct lp_slots {
	spinlock_t lock;	/* the bitmap and the numbers */
	unsigned long *map;
	unsigned long count;
	unsigned long hint;
	unsigned long used;
	unsigned long peak;
	unsigned int shift;
};

/* What a slot of the pool stands for: where its first byte comes from, and its run. */
struct lp_origin {
	phys_addr_t phys;
	u32 first;
	u32 count;
};

struct lp_pool {
	struct page **pages;
	unsigned long page_count;
	void *memory;
	struct lp_slots slots;
	struct lp_origin *origins;
};

/* A driver's claim on a BAR of the adapter, marked as not busy while it is lent on. */
struct lp_claim {
	struct list_head node;
	struct resource *resource;
	unsigned int users;
};

struct lp_bar {
	resource_size_t phys;
	u64 size;
	u64 bus;
	u32 flags;
	struct file *file;
	struct pci_dev *owner;
	struct lp_claim *claim;
	struct resource window;
};

struct lp_vector {
	struct lp_function *function;
	u32 index;
	struct eventfd_ctx *eventfd;
	wait_queue_entry_t wait;
	poll_table table;
	struct irq_work deliver;
};

struct lp_iommu {
	struct list_head node;	/* of the ranges taken, in which domain */
	struct iommu_domain *taken;
	rwlock_t lock;
	struct iommu_domain *domain;	/* NULL once the files are given back */
	u64 base;
	u64 bytes;
	struct lp_slots slots;
	bool all_mapped;
};

struct lp_function {
	/* First, so that a bus leads to its function. */
	struct pci_sysdata sysdata;
	struct kref ref;

	/* Held by each ioctl but those of configuration space. */
	struct mutex lock;
	enum lanepool_bridge_state state;
	bool removal_queued;
	struct lp_bar bars[LANEPOOL_BRIDGE_BARS];
	struct file *held[LANEPOOL_BRIDGE_HELD_FILES];
	struct pci_host_bridge *bridge;
	struct pci_bus *bus;	/* until it is being taken down */
	int domain_index;
	struct resource bus_numbers;
	struct work_struct find;
	bool finding;	/* PLUG still waits for it */
	int found;
	struct completion find_done;
	struct work_struct attach;
	struct work_struct remove;
	struct work_struct release;

	/* config_lock: configuration space and events; any context. */
	raw_spinlock_t config_lock;
	bool plugged;
	bool gone;
	bool resetting;
	u16 express;
	u16 advanced;
	bool express_reset;
	bool advanced_reset;
	u8 config[LP_CONFIG_BYTES];
	u8 write_mask[LP_CONFIG_BYTES];
	u8 clear_mask[LP_CONFIG_BYTES];
	u8 notify_mask[LP_CONFIG_BYTES];
	DECLARE_BITMAP(fixed, LP_CONFIG_BYTES);
	struct lanepool_bridge_event ring[LP_EVENTS];
	u32 ring_head;
	u32 ring_count;
	u64 sequence;
	bool lost;
	u32 presence;
	wait_queue_head_t readers;
	struct irq_work wake;

	enum lanepool_bridge_vector_kind vector_kind;
	u32 vector_count;
	struct lp_vector *vectors;
	struct msi_domain_info msi_info;
	struct irq_domain *msi_domain;
	struct fwnode_handle *msi_node;

	enum lanepool_bridge_dma_mode dma_mode;
	const struct lp_dma *dma;
	u64 dma_base;
	u64 dma_last;
	struct lp_pool pool;
	struct lp_iommu iommu;

	u64 config_reads;
	u64 config_writes;
	u64 events_lost;
	atomic64_t vectors_delivered;
	atomic64_t vectors_dropped;
	atomic64_t dma_maps;
	atomic64_t dma_unmaps;
	atomic64_t dma_failures;
	atomic64_t bytes_copied;
};

extern struct workqueue_struct *lp_workqueue;
extern bool lp_allow_direct;

/* main.c */
void lp_function_put(struct lp_function *fn);
void lp_queue_removal(struct lp_function *fn, bool surprise);

/* events.c */
void lp_events_init(struct lp_function *fn);
void lp_event_locked(struct lp_function *fn, u32 type, u32 offset, u32 length,
		     u32 value);
void lp_event(struct lp_function *fn, u32 type);
void lp_event_presence(struct lp_function *fn, u32 type, u32 clear, u32 set);
ssize_t lp_events_read(struct lp_function *fn, char __user *to, size_t bytes,
		       bool block);
bool lp_events_pending(struct lp_function *fn);

/* config.c */
int lp_config_prepare(struct lp_function *fn);
int lp_config_update(struct lp_function *fn, u32 offset, u32 length,
		     const u8 *data);
void lp_config_copy(struct lp_function *fn, u32 offset, u32 length, u8 *data);
extern struct pci_ops lp_pci_ops;

/* bar.c */
int lp_bars_open(struct lp_function *fn,
		 const struct lanepool_bridge_create *args);
int lp_bars_claim(struct lp_function *fn);
void lp_bars_unclaim(struct lp_function *fn);
void lp_bars_silence(struct lp_function *fn);
void lp_bars_close(struct lp_function *fn);

/* bus.c */
int lp_bus_init(void);
void lp_bus_exit(void);
int lp_bus_plug(struct lp_function *fn);
void lp_bus_mark_gone(struct lp_function *fn);
void lp_bus_find(struct work_struct *work);
void lp_bus_attach(struct work_struct *work);
void lp_bus_remove(struct work_struct *work);
void lp_bus_release(struct work_struct *work);

/* interrupts.c */
int lp_vectors_create(struct lp_function *fn);
int lp_vectors_set(struct lp_function *fn, u32 start, u32 count,
		   const s32 *fds);
void lp_vectors_disconnect(struct lp_function *fn);
void lp_vectors_destroy(struct lp_function *fn);
int lp_msi_domain_create(struct lp_function *fn);
void lp_msi_domain_destroy(struct lp_function *fn);

/* slots.c */
int lp_slots_create(struct lp_slots *slots, unsigned long count,
		    unsigned int shift);
void lp_slots_destroy(struct lp_slots *slots);
long lp_slots_get(struct lp_slots *slots, unsigned long count,
		  unsigned long align_mask, unsigned long align_offset);
void lp_slots_put(struct lp_slots *slots, unsigned long first,
		  unsigned long count);

/* pool.c */
int lp_pool_create(struct lp_pool *pool, u64 bytes);
void lp_pool_destroy(struct lp_pool *pool);
u64 lp_pool_most_bytes(void);
int lp_pool_mmap(struct lp_function *fn, struct vm_area_struct *vma);

/*
 * A way of DMA. Addresses are those that the remote device uses, and within the range
 * from dma_base to dma_last; align is a power of two. map, unmap and sync are called in
 * any context.
 */
struct lp_dma {
	dma_addr_t (*map)(struct device *dev, phys_addr_t phys, size_t size,
			  enum dma_data_direction dir, u64 align);
	void (*unmap)(struct lp_function *fn, dma_addr_t address, size_t size);
	/* Copies; NULL where the device reaches the driver's own memory. */
	void (*sync)(struct lp_function *fn, dma_addr_t address, size_t size,
		     bool to_device);
	void *(*alloc)(struct device *dev, size_t bytes, dma_addr_t *address,
		       gfp_t gfp);
	void (*free)(struct lp_function *fn, size_t bytes, void *memory,
		     dma_addr_t address);
	int (*mmap)(struct lp_function *fn, struct vm_area_struct *vma,
		    void *memory, dma_addr_t address, size_t bytes);
	int (*table)(struct lp_function *fn, struct sg_table *table, void *memory,
		     dma_addr_t address, size_t bytes);
};

/* dma.c */
extern const struct dma_map_ops lp_dma_ops;

/* bounce.c, iommu.c */
extern const struct lp_dma lp_bounce;
extern const struct lp_dma lp_iommu;
extern const struct lp_dma lp_direct;
int lp_iommu_open(struct lp_function *fn, struct pci_dev *adapter, u64 base,
		  u64 bytes);
void lp_iommu_close(struct lp_function *fn);
void lp_iommu_destroy(struct lp_function *fn);

static inline const struct lp_dma *lp_dma_of(enum lanepool_bridge_dma_mode mode)
{
	switch (mode) {
	case LANEPOOL_BRIDGE_DMA_IOMMU:
		return &lp_iommu;
	case LANEPOOL_BRIDGE_DMA_DIRECT:
		return &lp_direct;
	default:
		return &lp_bounce;
	}
}

static inline bool lp_dma_is_ours(struct lp_function *fn, dma_addr_t address,
				  size_t size)
{
	return address >= fn->dma_base && address <= fn->dma_last &&
	       (!size || size - 1 <= fn->dma_last - address);
}

static inline struct lp_function *lp_function_of_bus(struct pci_bus *bus)
{
	return container_of(bus->sysdata, struct lp_function, sysdata);
}

static inline struct lp_function *lp_function_of(struct device *dev)
{
	return lp_function_of_bus(to_pci_dev(dev)->bus);
}

#endif
