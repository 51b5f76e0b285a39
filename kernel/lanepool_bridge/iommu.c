// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA without copies: the module's own mappings in the IOMMU domain that VFIO made for
 * the adapter, in a range that the agent keeps free. In iommu mode each of the driver's
 * mappings is one; in direct mode all memory is mapped once.
 */
#include <linux/dma-map-ops.h>
#include <linux/ioport.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "internal.h"
#include "compat.h"

/* Each page of iommu mode's range is one bit, and is looked at when it is opened. */
#define LP_IOMMU_MOST_BYTES	((u64)SZ_4G)
#define LP_PROT_ALL		(IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE)

static int lp_prot(enum dma_data_direction dir)
{
	switch (dir) {
	case DMA_TO_DEVICE:
		return IOMMU_READ | IOMMU_CACHE;
	case DMA_FROM_DEVICE:
		return IOMMU_WRITE | IOMMU_CACHE;
	default:
		return LP_PROT_ALL;
	}
}

/* VFIO says the same to its users: these addresses are not theirs. */
static int lp_check_reserved(struct pci_dev *adapter, u64 base, u64 bytes)
{
	struct iommu_group *group = iommu_group_get(&adapter->dev);
	struct iommu_resv_region *region, *next;
	LIST_HEAD(regions);
	int err;

	if (!group)
		return -ENODEV;
	err = iommu_get_group_resv_regions(group, &regions);
	iommu_group_put(group);
	list_for_each_entry_safe(region, next, &regions, list) {
		if (base < region->start + region->length &&
		    region->start < base + bytes)
			err = -EINVAL;
		kfree(region);
	}
	return err;
}

static int lp_check_unmapped(struct iommu_domain *domain, u64 base, u64 bytes)
{
	u64 at;

	for (at = 0; at < bytes; at += PAGE_SIZE) {
		if (iommu_iova_to_phys(domain, base + at))
			return -EBUSY;
		if (!(at & (SZ_16M - 1))) {
			if (fatal_signal_pending(current))
				return -EINTR;
			cond_resched();
		}
	}
	return 0;
}

static LIST_HEAD(lp_ranges);
static DEFINE_MUTEX(lp_ranges_lock);

/* Nothing may be mapped in a function's range yet, and it is no other's all the same. */
static int lp_range_take(struct lp_iommu *iommu, struct iommu_domain *domain,
			 u64 base, u64 bytes)
{
	struct lp_iommu *other;
	int err = 0;

	mutex_lock(&lp_ranges_lock);
	list_for_each_entry(other, &lp_ranges, node)
		if (other->taken == domain && base < other->base + other->bytes &&
		    other->base < base + bytes)
			err = -EBUSY;
	if (!err) {
		iommu->taken = domain;
		iommu->base = base;
		iommu->bytes = bytes;
		list_add(&iommu->node, &lp_ranges);
	}
	mutex_unlock(&lp_ranges_lock);
	return err;
}

static void lp_range_give(struct lp_iommu *iommu)
{
	mutex_lock(&lp_ranges_lock);
	if (iommu->taken)
		list_del(&iommu->node);
	iommu->taken = NULL;
	mutex_unlock(&lp_ranges_lock);
}

static int lp_map_memory(struct resource *res, void *data)
{
	struct lp_iommu *iommu = data;
	u64 start = PAGE_ALIGN(res->start), end = (res->end + 1) & PAGE_MASK;
	int err;

	if (end <= start)
		return 0;
	if (end > iommu->bytes)
		return -ERANGE;
	err = lp_check_unmapped(iommu->domain, iommu->base + start, end - start);
	if (err)
		return err;
	iommu->all_mapped = true;
	err = lp_iommu_map(iommu->domain, iommu->base + start, start, end - start,
			   LP_PROT_ALL, GFP_KERNEL);
	/* What a failing iommu_map() mapped, it has unmapped. */
	return err;
}

static int lp_unmap_memory(struct resource *res, void *data)
{
	struct lp_iommu *iommu = data;
	u64 start = PAGE_ALIGN(res->start), end = (res->end + 1) & PAGE_MASK;

	if (end > start && end <= iommu->bytes &&
	    iommu_iova_to_phys(iommu->domain, iommu->base + start) == start)
		iommu_unmap(iommu->domain, iommu->base + start, end - start);
	return 0;
}

static int lp_each_memory(struct lp_iommu *iommu,
			  int (*visit)(struct resource *, void *))
{
	return walk_iomem_res_desc(IORES_DESC_NONE,
				   IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY, 0,
				   U64_MAX, iommu, visit);
}

int lp_iommu_open(struct lp_function *fn, struct pci_dev *adapter, u64 base,
		  u64 bytes)
{
	bool direct = fn->dma_mode == LANEPOOL_BRIDGE_DMA_DIRECT;
	struct lp_iommu *iommu = &fn->iommu;
	struct iommu_domain *domain;
	u64 last;
	int err;

	rwlock_init(&iommu->lock);
	if (!bytes || (base | bytes) & ~PAGE_MASK ||
	    check_add_overflow(base, bytes - 1, &last) ||
	    (!direct && bytes > LP_IOMMU_MOST_BYTES))
		return -EINVAL;
	/* The domain of a device that VFIO has open is VFIO's, as long as it is. */
	domain = iommu_get_domain_for_dev(&adapter->dev);
	if (!domain || domain->type != IOMMU_DOMAIN_UNMANAGED)
		return -ENODEV;
	if (base < domain->geometry.aperture_start ||
	    last > domain->geometry.aperture_end)
		return -ERANGE;
	err = lp_check_reserved(adapter, base, bytes);
	if (err)
		return err;
	err = lp_range_take(iommu, domain, base, bytes);
	if (err)
		return err;
	if (!direct) {
		err = lp_check_unmapped(domain, base, bytes);
		if (!err)
			err = lp_slots_create(&iommu->slots, bytes >> PAGE_SHIFT,
					      PAGE_SHIFT);
		if (!err)
			iommu->domain = domain;
		return err;
	}
	iommu->domain = domain;
	err = lp_each_memory(iommu, lp_map_memory);
	if (err)
		lp_iommu_close(fn);
	return err;
}

/* The device no longer reaches anything; what drivers still have is theirs alone. */
void lp_iommu_close(struct lp_function *fn)
{
	struct lp_iommu *iommu = &fn->iommu;
	struct iommu_domain *domain = iommu->domain;
	unsigned long flags, first = 0, end;
	size_t done;

	if (!domain)
		goto out;
	if (iommu->all_mapped)
		lp_each_memory(iommu, lp_unmap_memory);
	write_lock_irqsave(&iommu->lock, flags);
	iommu->domain = NULL;
	write_unlock_irqrestore(&iommu->lock, flags);
	if (!iommu->slots.map)
		goto out;
	while ((first = find_next_bit(iommu->slots.map, iommu->slots.count, first)) <
	       iommu->slots.count) {
		end = find_next_zero_bit(iommu->slots.map, iommu->slots.count, first);
		done = iommu_unmap(domain, iommu->base + ((u64)first << PAGE_SHIFT),
				   (end - first) << PAGE_SHIFT);
		first += max_t(size_t, done >> PAGE_SHIFT, 1);
	}
out:
	lp_range_give(iommu);
}

void lp_iommu_destroy(struct lp_function *fn)
{
	lp_slots_destroy(&fn->iommu.slots);
}

static dma_addr_t lp_iommu_map_bytes(struct lp_function *fn, phys_addr_t phys,
				     size_t size, int prot, u64 align)
{
	struct lp_iommu *iommu = &fn->iommu;
	u64 inside = phys & ~PAGE_MASK, bytes = PAGE_ALIGN(inside + size);
	u64 mask = max_t(u64, align >> PAGE_SHIFT, 1) - 1;
	unsigned long flags;
	long first;
	int err = -ENODEV;

	first = lp_slots_get(&iommu->slots, bytes >> PAGE_SHIFT, mask,
			     fn->dma_base >> PAGE_SHIFT & mask);
	if (first < 0)
		return DMA_MAPPING_ERROR;
	read_lock_irqsave(&iommu->lock, flags);
	if (iommu->domain)
		err = lp_iommu_map(iommu->domain,
				   iommu->base + ((u64)first << PAGE_SHIFT),
				   phys - inside, bytes, prot, GFP_ATOMIC);
	read_unlock_irqrestore(&iommu->lock, flags);
	if (!err)
		return fn->dma_base + ((u64)first << PAGE_SHIFT) + inside;
	lp_slots_put(&iommu->slots, first, bytes >> PAGE_SHIFT);
	return DMA_MAPPING_ERROR;
}

static dma_addr_t lp_iommu_map_one(struct device *dev, phys_addr_t phys,
				   size_t size, enum dma_data_direction dir,
				   u64 align)
{
	return lp_iommu_map_bytes(lp_function_of(dev), phys, size, lp_prot(dir),
				  align);
}

static void lp_iommu_unmap_one(struct lp_function *fn, dma_addr_t address,
			       size_t size)
{
	struct lp_iommu *iommu = &fn->iommu;
	u64 offset = (address & PAGE_MASK) - fn->dma_base;
	u64 bytes = PAGE_ALIGN((address & ~PAGE_MASK) + size);
	unsigned long flags;

	/* After the close, which has unmapped it, its bit stays set: nobody asks again. */
	read_lock_irqsave(&iommu->lock, flags);
	if (iommu->domain) {
		iommu_unmap(iommu->domain, iommu->base + offset, bytes);
		lp_slots_put(&iommu->slots, offset >> PAGE_SHIFT,
			     bytes >> PAGE_SHIFT);
	}
	read_unlock_irqrestore(&iommu->lock, flags);
}

static void *lp_memory_alloc(size_t bytes, gfp_t gfp)
{
	return alloc_pages_exact(bytes, (gfp & ~__GFP_HIGHMEM) | __GFP_ZERO |
						__GFP_NOWARN);
}

static int lp_memory_mmap(struct lp_function *fn, struct vm_area_struct *vma,
			  void *memory, dma_addr_t address, size_t bytes)
{
	return vm_iomap_memory(vma, virt_to_phys(memory), bytes);
}

static int lp_memory_table(struct lp_function *fn, struct sg_table *table,
			   void *memory, dma_addr_t address, size_t bytes)
{
	int err = sg_alloc_table(table, 1, GFP_KERNEL);

	if (!err)
		sg_set_page(table->sgl, virt_to_page(memory), bytes, 0);
	return err;
}

static void *lp_iommu_alloc(struct device *dev, size_t bytes, dma_addr_t *address,
			    gfp_t gfp)
{
	void *memory = lp_memory_alloc(bytes, gfp);

	if (!memory)
		return NULL;
	*address = lp_iommu_map_bytes(lp_function_of(dev), virt_to_phys(memory),
				      bytes, LP_PROT_ALL,
				      roundup_pow_of_two(bytes));
	if (*address != DMA_MAPPING_ERROR)
		return memory;
	free_pages_exact(memory, bytes);
	return NULL;
}

static void lp_iommu_free(struct lp_function *fn, size_t bytes, void *memory,
			  dma_addr_t address)
{
	lp_iommu_unmap_one(fn, address, bytes);
	free_pages_exact(memory, bytes);
}

const struct lp_dma lp_iommu = {
	.map = lp_iommu_map_one,
	.unmap = lp_iommu_unmap_one,
	.alloc = lp_iommu_alloc,
	.free = lp_iommu_free,
	.mmap = lp_memory_mmap,
	.table = lp_memory_table,
};

static dma_addr_t lp_direct_map(struct device *dev, phys_addr_t phys, size_t size,
				enum dma_data_direction dir, u64 align)
{
	struct lp_function *fn = lp_function_of(dev);

	if (phys >= fn->iommu.bytes || size > fn->iommu.bytes - phys)
		return DMA_MAPPING_ERROR;
	return fn->dma_base + phys;
}

static void lp_direct_unmap(struct lp_function *fn, dma_addr_t address, size_t size)
{
}

static void *lp_direct_alloc(struct device *dev, size_t bytes, dma_addr_t *address,
			     gfp_t gfp)
{
	void *memory = lp_memory_alloc(bytes, gfp);

	if (!memory)
		return NULL;
	*address = lp_direct_map(dev, virt_to_phys(memory), bytes,
				 DMA_BIDIRECTIONAL, 1);
	if (*address != DMA_MAPPING_ERROR)
		return memory;
	free_pages_exact(memory, bytes);
	return NULL;
}

static void lp_direct_free(struct lp_function *fn, size_t bytes, void *memory,
			   dma_addr_t address)
{
	free_pages_exact(memory, bytes);
}

const struct lp_dma lp_direct = {
	.map = lp_direct_map,
	.unmap = lp_direct_unmap,
	.alloc = lp_direct_alloc,
	.free = lp_direct_free,
	.mmap = lp_memory_mmap,
	.table = lp_memory_table,
};
