// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA by a bounce pool: what a driver maps is copied into the pool and back, and what it
 * allocates lies there. Nothing that decides anything is kept in the pool itself: whoever
 * sees the pool may write there at any time.
 */
#include <linux/dma-map-ops.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/vmalloc.h>

#include "internal.h"
#include "compat.h"

static long lp_pool_get(struct lp_function *fn, u64 bytes, u64 align)
{
	struct lp_slots *slots = &fn->pool.slots;
	unsigned long mask = (align >> slots->shift) - 1;

	return lp_slots_get(slots, DIV_ROUND_UP(bytes, 1UL << slots->shift), mask,
			    fn->dma_base >> slots->shift & mask);
}

/* Where a mapping's byte comes from; the address is one of ours. */
static struct lp_origin *lp_origin_of(struct lp_function *fn, dma_addr_t address)
{
	return &fn->pool.origins[(address - fn->dma_base) >> fn->pool.slots.shift];
}

static void lp_bounce_sync(struct lp_function *fn, dma_addr_t address, size_t size,
			   bool to_device)
{
	void *pool = fn->pool.memory + (address - fn->dma_base);
	struct lp_origin *origin = lp_origin_of(fn, address);
	u64 inside = (address - fn->dma_base) & ((1UL << fn->pool.slots.shift) - 1);
	void *memory;

	if (WARN_ON_ONCE(!origin->count))
		return;
	memory = phys_to_virt(origin->phys + inside);
	atomic64_add(size, &fn->bytes_copied);
	if (to_device)
		memcpy(pool, memory, size);
	else
		memcpy(memory, pool, size);
}

static dma_addr_t lp_bounce_map(struct device *dev, phys_addr_t phys, size_t size,
				enum dma_data_direction dir, u64 align)
{
	struct lp_function *fn = lp_function_of(dev);
	struct lp_slots *slots = &fn->pool.slots;
	u32 align_mask = dma_get_min_align_mask(dev);
	u64 inside = phys & align_mask, i, count;
	long first;

	align = max3(align, (u64)align_mask + 1, (u64)1 << slots->shift);
	if (size >= PAGE_SIZE)
		align = max_t(u64, align, PAGE_SIZE);
	first = lp_pool_get(fn, inside + size, align);
	if (first < 0)
		return DMA_MAPPING_ERROR;
	count = DIV_ROUND_UP(inside + size, 1UL << slots->shift);
	for (i = 0; i < count; i++)
		fn->pool.origins[first + i] = (struct lp_origin) {
			.phys = phys - inside + (i << slots->shift),
			.first = first,
			.count = count,
		};
	return fn->dma_base + ((u64)first << slots->shift) + inside;
}

static void lp_bounce_unmap(struct lp_function *fn, dma_addr_t address, size_t size)
{
	struct lp_origin origin = *lp_origin_of(fn, address);
	u32 i;

	if (WARN_ON_ONCE(!origin.count))
		return;
	for (i = 0; i < origin.count; i++)
		fn->pool.origins[origin.first + i].count = 0;
	lp_slots_put(&fn->pool.slots, origin.first, origin.count);
}

static void *lp_bounce_alloc(struct device *dev, size_t bytes, dma_addr_t *address,
			     gfp_t gfp)
{
	struct lp_function *fn = lp_function_of(dev);
	long first = -ENOSPC;
	u64 offset;

	if (bytes <= (u64)fn->pool.page_count << PAGE_SHIFT)
		first = lp_pool_get(fn, bytes, roundup_pow_of_two(bytes));
	if (first < 0)
		return NULL;
	offset = (u64)first << fn->pool.slots.shift;
	memset(fn->pool.memory + offset, 0, bytes);
	*address = fn->dma_base + offset;
	return fn->pool.memory + offset;
}

static void lp_bounce_free(struct lp_function *fn, size_t bytes, void *memory,
			   dma_addr_t address)
{
	unsigned int shift = fn->pool.slots.shift;

	lp_slots_put(&fn->pool.slots, (address - fn->dma_base) >> shift,
		     bytes >> shift);
}

static struct page **lp_bounce_pages(struct lp_function *fn, dma_addr_t address)
{
	return fn->pool.pages + ((address - fn->dma_base) >> PAGE_SHIFT);
}

static int lp_bounce_mmap(struct lp_function *fn, struct vm_area_struct *vma,
			  void *memory, dma_addr_t address, size_t bytes)
{
	unsigned long count = vma_pages(vma), all = bytes >> PAGE_SHIFT;

	if (vma->vm_pgoff >= all || count > all - vma->vm_pgoff)
		return -ENXIO;
	return vm_insert_pages(vma, vma->vm_start,
			       lp_bounce_pages(fn, address) + vma->vm_pgoff,
			       &count);
}

static int lp_bounce_table(struct lp_function *fn, struct sg_table *table,
			   void *memory, dma_addr_t address, size_t bytes)
{
	return sg_alloc_table_from_pages(table, lp_bounce_pages(fn, address),
					 bytes >> PAGE_SHIFT, 0, bytes, GFP_KERNEL);
}

const struct lp_dma lp_bounce = {
	.map = lp_bounce_map,
	.unmap = lp_bounce_unmap,
	.sync = lp_bounce_sync,
	.alloc = lp_bounce_alloc,
	.free = lp_bounce_free,
	.mmap = lp_bounce_mmap,
	.table = lp_bounce_table,
};
