// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA operations: what all ways of DMA have in common. A way maps one run of bytes; the
 * rest (lists, pages, directions, what the driver's device reaches) is here.
 */
#include <linux/dma-map-ops.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>

#include "internal.h"
#include "compat.h"

/*
 * All of the range must be within reach, since any of it may be given out. Drivers that
 * never ask reach 32 bits.
 */
static bool lp_dma_reaches(struct device *dev, u64 mask)
{
	struct lp_function *fn = lp_function_of(dev);

	if (fn->dma_last <= mask)
		return true;
	dev_warn_ratelimited(dev, "no DMA: its driver reaches addresses up to %#llx, its memory here is from %#llx to %#llx\n",
			     mask, fn->dma_base, fn->dma_last);
	return false;
}

/* A mapping crosses no boundary that the driver has named, if it is that small. */
static u64 lp_dma_align(struct device *dev, phys_addr_t phys, size_t size)
{
	struct lp_function *fn = lp_function_of(dev);
	u64 boundary = dma_get_seg_boundary(dev);

	if (!((fn->dma_base ^ fn->dma_last) & ~boundary))
		return 1;
	return roundup_pow_of_two((phys & ~PAGE_MASK) + size);
}

static dma_addr_t lp_dma_map_phys(struct device *dev, phys_addr_t phys, size_t size,
				  enum dma_data_direction dir,
				  unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);
	dma_addr_t address = DMA_MAPPING_ERROR;

	if (lp_dma_reaches(dev, dma_get_mask(dev)))
		address = fn->dma->map(dev, phys, size, dir,
				       lp_dma_align(dev, phys, size));
	if (address == DMA_MAPPING_ERROR) {
		atomic64_inc(&fn->dma_failures);
		return address;
	}
	atomic64_inc(&fn->dma_maps);
	/* Also for what the device writes: it may write less, and the rest is kept. */
	if (fn->dma->sync && !(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		fn->dma->sync(fn, address, size, true);
	return address;
}

static void lp_dma_unmap(struct device *dev, dma_addr_t address, size_t size,
			 enum dma_data_direction dir, unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);

	if (WARN_ON_ONCE(!lp_dma_is_ours(fn, address, size)))
		return;
	if (fn->dma->sync && dir != DMA_TO_DEVICE &&
	    !(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		fn->dma->sync(fn, address, size, false);
	fn->dma->unmap(fn, address, size);
	atomic64_inc(&fn->dma_unmaps);
}

#ifdef LP_DMA_MAP_PHYS
static dma_addr_t lp_dma_map(struct device *dev, phys_addr_t phys, size_t size,
			     enum dma_data_direction dir, unsigned long attrs)
{
	/* Another device's registers are nothing that a remote device reaches. */
	if (attrs & DMA_ATTR_MMIO)
		return DMA_MAPPING_ERROR;
	return lp_dma_map_phys(dev, phys, size, dir, attrs);
}
#else
static dma_addr_t lp_dma_map(struct device *dev, struct page *page,
			     unsigned long offset, size_t size,
			     enum dma_data_direction dir, unsigned long attrs)
{
	return lp_dma_map_phys(dev, page_to_phys(page) + offset, size, dir, attrs);
}
#endif

static void lp_dma_unmap_sg(struct device *dev, struct scatterlist *list, int count,
			    enum dma_data_direction dir, unsigned long attrs)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i)
		lp_dma_unmap(dev, sg_dma_address(entry), sg_dma_len(entry), dir,
			     attrs);
}

static int lp_dma_map_sg(struct device *dev, struct scatterlist *list, int count,
			 enum dma_data_direction dir, unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i) {
		dma_addr_t address = lp_dma_map_phys(dev, sg_phys(entry),
						     entry->length, dir, attrs);

		if (address == DMA_MAPPING_ERROR) {
			lp_dma_unmap_sg(dev, list, i, dir,
					attrs | DMA_ATTR_SKIP_CPU_SYNC);
			/* What there is no room for now may be tried again. */
			return fn->dma_mode == LANEPOOL_BRIDGE_DMA_DIRECT ? -EIO :
									    -ENOMEM;
		}
		sg_dma_address(entry) = address;
		sg_dma_len(entry) = entry->length;
	}
	return count;
}

static void lp_dma_sync(struct device *dev, dma_addr_t address, size_t size,
			bool to_device)
{
	struct lp_function *fn = lp_function_of(dev);

	if (fn->dma->sync && !WARN_ON_ONCE(!lp_dma_is_ours(fn, address, size)))
		fn->dma->sync(fn, address, size, to_device);
}

static void lp_dma_sync_for_cpu(struct device *dev, dma_addr_t address, size_t size,
				enum dma_data_direction dir)
{
	if (dir != DMA_TO_DEVICE)
		lp_dma_sync(dev, address, size, false);
}

static void lp_dma_sync_for_device(struct device *dev, dma_addr_t address,
				   size_t size, enum dma_data_direction dir)
{
	lp_dma_sync(dev, address, size, true);
}

static void lp_dma_sync_sg_for_cpu(struct device *dev, struct scatterlist *list,
				   int count, enum dma_data_direction dir)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i)
		lp_dma_sync_for_cpu(dev, sg_dma_address(entry), entry->length, dir);
}

static void lp_dma_sync_sg_for_device(struct device *dev, struct scatterlist *list,
				      int count, enum dma_data_direction dir)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i)
		lp_dma_sync_for_device(dev, sg_dma_address(entry), entry->length,
				       dir);
}

static void *lp_dma_alloc(struct device *dev, size_t size, dma_addr_t *address,
			  gfp_t gfp, unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);
	size_t bytes = PAGE_ALIGN(size);
	void *memory = NULL;

	/* Aligned to its size, as the DMA API promises. */
	if (size && bytes >= size && lp_dma_reaches(dev, dev->coherent_dma_mask))
		memory = fn->dma->alloc(dev, bytes, address, gfp);
	if (memory)
		atomic64_inc(&fn->dma_maps);
	else
		atomic64_inc(&fn->dma_failures);
	return memory;
}

static void lp_dma_free(struct device *dev, size_t size, void *memory,
			dma_addr_t address, unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);
	size_t bytes = PAGE_ALIGN(size);

	if (WARN_ON_ONCE(!lp_dma_is_ours(fn, address, bytes)))
		return;
	fn->dma->free(fn, bytes, memory, address);
	atomic64_inc(&fn->dma_unmaps);
}

/* Memory of the kernel's, mapped: for drivers that sync. */
static struct page *lp_dma_alloc_pages(struct device *dev, size_t size,
				       dma_addr_t *address,
				       enum dma_data_direction dir, gfp_t gfp)
{
	unsigned int order = get_order(size);
	struct page *page;

	page = alloc_pages_node(dev_to_node(dev),
				gfp | __GFP_ZERO | __GFP_NOWARN, order);
	if (!page)
		return NULL;
	*address = lp_dma_map_phys(dev, page_to_phys(page), size, dir, 0);
	if (*address != DMA_MAPPING_ERROR)
		return page;
	__free_pages(page, order);
	return NULL;
}

static void lp_dma_free_pages(struct device *dev, size_t size, struct page *page,
			      dma_addr_t address, enum dma_data_direction dir)
{
	lp_dma_unmap(dev, address, size, dir, DMA_ATTR_SKIP_CPU_SYNC);
	__free_pages(page, get_order(size));
}

static int lp_dma_mmap(struct device *dev, struct vm_area_struct *vma,
		       void *memory, dma_addr_t address, size_t size,
		       unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);

	if (!lp_dma_is_ours(fn, address, PAGE_ALIGN(size)))
		return -ENXIO;
	return fn->dma->mmap(fn, vma, memory, address, PAGE_ALIGN(size));
}

static int lp_dma_table(struct device *dev, struct sg_table *table, void *memory,
			dma_addr_t address, size_t size, unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);

	if (!lp_dma_is_ours(fn, address, PAGE_ALIGN(size)))
		return -ENXIO;
	return fn->dma->table(fn, table, memory, address, PAGE_ALIGN(size));
}

static int lp_dma_supported(struct device *dev, u64 mask)
{
	return lp_dma_reaches(dev, mask);
}

static u64 lp_dma_required_mask(struct device *dev)
{
	return DMA_BIT_MASK(fls64(lp_function_of(dev)->dma_last));
}

/* A request must find room beside others, or it would be tried for ever. */
static size_t lp_dma_most(struct device *dev)
{
	struct lp_function *fn = lp_function_of(dev);

	if (fn->dma_mode == LANEPOOL_BRIDGE_DMA_DIRECT)
		return SIZE_MAX;
	return max_t(u64, (fn->dma_last - fn->dma_base + 1) / 8, PAGE_SIZE);
}

/* Without map_resource: a remote device reaches no other device of this machine's. */
const struct dma_map_ops lp_dma_ops = {
	.alloc = lp_dma_alloc,
	.free = lp_dma_free,
	.LP_ALLOC_PAGES = lp_dma_alloc_pages,
	.free_pages = lp_dma_free_pages,
	.mmap = lp_dma_mmap,
	.get_sgtable = lp_dma_table,
#ifdef LP_DMA_MAP_PHYS
	.map_phys = lp_dma_map,
	.unmap_phys = lp_dma_unmap,
#else
	.map_page = lp_dma_map,
	.unmap_page = lp_dma_unmap,
#endif
	.map_sg = lp_dma_map_sg,
	.unmap_sg = lp_dma_unmap_sg,
	.sync_single_for_cpu = lp_dma_sync_for_cpu,
	.sync_single_for_device = lp_dma_sync_for_device,
	.sync_sg_for_cpu = lp_dma_sync_sg_for_cpu,
	.sync_sg_for_device = lp_dma_sync_sg_for_device,
	.dma_supported = lp_dma_supported,
	.get_required_mask = lp_dma_required_mask,
	.max_mapping_size = lp_dma_most,
};
