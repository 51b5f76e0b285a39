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

static u64 lp_pool_bytes(struct lp_function *fn)
{
	return (u64)fn->pool.page_count << PAGE_SHIFT;
}

static long lp_pool_get(struct lp_function *fn, u64 bytes, u64 align)
{
	struct lp_slots *slots = &fn->pool.slots;
	unsigned long mask = (align >> slots->shift) - 1;

	return lp_slots_get(slots, DIV_ROUND_UP(bytes, 1UL << slots->shift), mask,
			    fn->dma_base >> slots->shift & mask);
}

/* The slot of an address that a driver has got from us; -1 where it has not. */
static long lp_slot_of(struct lp_function *fn, dma_addr_t address, size_t bytes)
{
	u64 offset = address - fn->dma_base;

	if (address < fn->dma_base || offset >= lp_pool_bytes(fn) ||
	    bytes > lp_pool_bytes(fn) - offset)
		return -1;
	return offset >> fn->pool.slots.shift;
}

/* Copies between the pool and what it stands for, page by page of the latter. */
static void lp_copy(struct lp_function *fn, u64 offset, phys_addr_t phys,
		    size_t bytes, bool to_pool)
{
	void *pool = fn->pool.memory + offset;

	atomic64_add(bytes, &fn->bytes_copied);
	if (to_pool)
		memcpy(pool, phys_to_virt(phys), bytes);
	else
		memcpy(phys_to_virt(phys), pool, bytes);
}

static dma_addr_t lp_bounce_map_phys(struct device *dev, phys_addr_t phys,
				     size_t size, unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);
	struct lp_slots *slots = &fn->pool.slots;
	u32 align_mask = dma_get_min_align_mask(dev);
	u64 inside = phys & align_mask, align = (u64)align_mask + 1, i, count;
	long first;

	if (size >= PAGE_SIZE)
		align = max_t(u64, align, PAGE_SIZE);
	align = max_t(u64, align, 1UL << slots->shift);
	first = lp_pool_get(fn, inside + size, align);
	if (first < 0) {
		atomic64_inc(&fn->dma_failures);
		return DMA_MAPPING_ERROR;
	}
	count = DIV_ROUND_UP(inside + size, 1UL << slots->shift);
	for (i = 0; i < count; i++)
		fn->pool.origins[first + i] = (struct lp_origin) {
			.phys = phys - inside + (i << slots->shift),
			.first = first,
			.count = count,
		};
	/* Also for what the device writes: it may write less, and the rest is kept. */
	if (!(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		lp_copy(fn, ((u64)first << slots->shift) + inside, phys, size, true);
	atomic64_inc(&fn->dma_maps);
	return fn->dma_base + ((u64)first << slots->shift) + inside;
}

static void lp_bounce_sync(struct device *dev, dma_addr_t address, size_t size,
			   bool to_pool)
{
	struct lp_function *fn = lp_function_of(dev);
	u64 offset = address - fn->dma_base;
	long slot = lp_slot_of(fn, address, size);
	u64 inside;

	if (WARN_ON_ONCE(slot < 0 || !fn->pool.origins[slot].count))
		return;
	inside = offset & ((1UL << fn->pool.slots.shift) - 1);
	lp_copy(fn, offset, fn->pool.origins[slot].phys + inside, size, to_pool);
}

static void lp_bounce_unmap(struct device *dev, dma_addr_t address, size_t size,
			    enum dma_data_direction dir, unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);
	long slot = lp_slot_of(fn, address, size);
	struct lp_origin origin;
	u32 i;

	if (WARN_ON_ONCE(slot < 0 || !fn->pool.origins[slot].count))
		return;
	if (dir != DMA_TO_DEVICE && !(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		lp_bounce_sync(dev, address, size, false);
	origin = fn->pool.origins[slot];
	for (i = 0; i < origin.count; i++)
		fn->pool.origins[origin.first + i].count = 0;
	lp_slots_put(&fn->pool.slots, origin.first, origin.count);
	atomic64_inc(&fn->dma_unmaps);
}

#ifdef LP_DMA_MAP_PHYS
static dma_addr_t lp_bounce_map(struct device *dev, phys_addr_t phys, size_t size,
				enum dma_data_direction dir, unsigned long attrs)
{
	/* Another device's registers are nothing to copy from. */
	if (attrs & DMA_ATTR_MMIO)
		return DMA_MAPPING_ERROR;
	return lp_bounce_map_phys(dev, phys, size, attrs);
}
#else
static dma_addr_t lp_bounce_map(struct device *dev, struct page *page,
				unsigned long offset, size_t size,
				enum dma_data_direction dir, unsigned long attrs)
{
	return lp_bounce_map_phys(dev, page_to_phys(page) + offset, size, attrs);
}
#endif

static void lp_bounce_unmap_sg(struct device *dev, struct scatterlist *list,
			       int count, enum dma_data_direction dir,
			       unsigned long attrs)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i)
		lp_bounce_unmap(dev, sg_dma_address(entry), sg_dma_len(entry), dir,
				attrs);
}

static int lp_bounce_map_sg(struct device *dev, struct scatterlist *list,
			    int count, enum dma_data_direction dir,
			    unsigned long attrs)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i) {
		dma_addr_t address = lp_bounce_map_phys(dev, sg_phys(entry),
							entry->length, attrs);

		if (address == DMA_MAPPING_ERROR) {
			lp_bounce_unmap_sg(dev, list, i, dir,
					   attrs | DMA_ATTR_SKIP_CPU_SYNC);
			return -ENOMEM;
		}
		sg_dma_address(entry) = address;
		sg_dma_len(entry) = entry->length;
	}
	return count;
}

static void lp_bounce_sync_for_cpu(struct device *dev, dma_addr_t address,
				   size_t size, enum dma_data_direction dir)
{
	if (dir != DMA_TO_DEVICE)
		lp_bounce_sync(dev, address, size, false);
}

static void lp_bounce_sync_for_device(struct device *dev, dma_addr_t address,
				      size_t size, enum dma_data_direction dir)
{
	lp_bounce_sync(dev, address, size, true);
}

static void lp_bounce_sync_sg_for_cpu(struct device *dev,
				      struct scatterlist *list, int count,
				      enum dma_data_direction dir)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i)
		lp_bounce_sync_for_cpu(dev, sg_dma_address(entry), entry->length,
				       dir);
}

static void lp_bounce_sync_sg_for_device(struct device *dev,
					 struct scatterlist *list, int count,
					 enum dma_data_direction dir)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i)
		lp_bounce_sync_for_device(dev, sg_dma_address(entry),
					  entry->length, dir);
}

static void *lp_bounce_alloc(struct device *dev, size_t size,
			     dma_addr_t *address, gfp_t gfp, unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);
	u64 bytes = PAGE_ALIGN(size), offset;
	long first;

	if (!size || bytes < size || bytes > lp_pool_bytes(fn))
		return NULL;
	/* Aligned to their size, as the DMA API promises. */
	first = lp_pool_get(fn, bytes, roundup_pow_of_two(bytes));
	if (first < 0) {
		atomic64_inc(&fn->dma_failures);
		return NULL;
	}
	offset = (u64)first << fn->pool.slots.shift;
	memset(fn->pool.memory + offset, 0, bytes);
	*address = fn->dma_base + offset;
	return fn->pool.memory + offset;
}

static void lp_bounce_free(struct device *dev, size_t size, void *memory,
			   dma_addr_t address, unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);
	u64 bytes = PAGE_ALIGN(size);
	long slot = lp_slot_of(fn, address, bytes);

	if (WARN_ON_ONCE(slot < 0))
		return;
	lp_slots_put(&fn->pool.slots, slot, bytes >> fn->pool.slots.shift);
}

static int lp_bounce_mmap(struct device *dev, struct vm_area_struct *vma,
			  void *memory, dma_addr_t address, size_t size,
			  unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);
	unsigned long count = vma_pages(vma), all = PAGE_ALIGN(size) >> PAGE_SHIFT;
	unsigned long first;

	if (lp_slot_of(fn, address, size) < 0 || vma->vm_pgoff >= all ||
	    count > all - vma->vm_pgoff)
		return -ENXIO;
	first = ((address - fn->dma_base) >> PAGE_SHIFT) + vma->vm_pgoff;
	return vm_insert_pages(vma, vma->vm_start, fn->pool.pages + first, &count);
}

static int lp_bounce_table(struct device *dev, struct sg_table *table,
			   void *memory, dma_addr_t address, size_t size,
			   unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);

	if (lp_slot_of(fn, address, size) < 0)
		return -ENXIO;
	return sg_alloc_table_from_pages(table,
		fn->pool.pages + ((address - fn->dma_base) >> PAGE_SHIFT),
		PAGE_ALIGN(size) >> PAGE_SHIFT, 0, size, GFP_KERNEL);
}

static int lp_bounce_supported(struct device *dev, u64 mask)
{
	struct lp_function *fn = lp_function_of(dev);

	return fn->dma_base + lp_pool_bytes(fn) - 1 <= mask;
}

static u64 lp_bounce_required_mask(struct device *dev)
{
	struct lp_function *fn = lp_function_of(dev);

	return DMA_BIT_MASK(fls64(fn->dma_base + lp_pool_bytes(fn) - 1));
}

/* A request must find room beside others, or it would be tried for ever. */
static size_t lp_bounce_most(struct device *dev)
{
	return max_t(u64, lp_pool_bytes(lp_function_of(dev)) / 8, PAGE_SIZE);
}

const struct dma_map_ops lp_bounce_ops = {
	.alloc = lp_bounce_alloc,
	.free = lp_bounce_free,
	.mmap = lp_bounce_mmap,
	.get_sgtable = lp_bounce_table,
#ifdef LP_DMA_MAP_PHYS
	.map_phys = lp_bounce_map,
	.unmap_phys = lp_bounce_unmap,
#else
	.map_page = lp_bounce_map,
	.unmap_page = lp_bounce_unmap,
#endif
	.map_sg = lp_bounce_map_sg,
	.unmap_sg = lp_bounce_unmap_sg,
	.sync_single_for_cpu = lp_bounce_sync_for_cpu,
	.sync_single_for_device = lp_bounce_sync_for_device,
	.sync_sg_for_cpu = lp_bounce_sync_sg_for_cpu,
	.sync_sg_for_device = lp_bounce_sync_sg_for_device,
	.dma_supported = lp_bounce_supported,
	.get_required_mask = lp_bounce_required_mask,
	.max_mapping_size = lp_bounce_most,
};
