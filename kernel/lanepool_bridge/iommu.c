// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA without copies: the module's own mappings in the IOMMU domain that VFIO made for
 * the adapter, in a range that the agent keeps free. In iommu mode each of the driver's
 * mappings is one; in direct mode all memory is mapped once.
 */
#include <linux/dma-map-ops.h>
#include <linux/ioport.h>
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
	iommu->base = base;
	iommu->bytes = bytes;
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
		return;
	if (iommu->all_mapped)
		lp_each_memory(iommu, lp_unmap_memory);
	write_lock_irqsave(&iommu->lock, flags);
	iommu->domain = NULL;
	write_unlock_irqrestore(&iommu->lock, flags);
	if (!iommu->slots.map)
		return;
	while ((first = find_next_bit(iommu->slots.map, iommu->slots.count, first)) <
	       iommu->slots.count) {
		end = find_next_zero_bit(iommu->slots.map, iommu->slots.count, first);
		done = iommu_unmap(domain, iommu->base + ((u64)first << PAGE_SHIFT),
				   (end - first) << PAGE_SHIFT);
		first += max_t(size_t, done >> PAGE_SHIFT, 1);
	}
}

void lp_iommu_destroy(struct lp_function *fn)
{
	lp_slots_destroy(&fn->iommu.slots);
}

static dma_addr_t lp_iommu_map_phys(struct device *dev, phys_addr_t phys,
				    size_t size, int prot, u64 align)
{
	struct lp_function *fn = lp_function_of(dev);
	struct lp_iommu *iommu = &fn->iommu;
	u64 inside = phys & ~PAGE_MASK, bytes = PAGE_ALIGN(inside + size);
	u64 mask = (align >> PAGE_SHIFT) - 1;
	unsigned long flags;
	long first;
	int err = -ENODEV;

	first = lp_slots_get(&iommu->slots, bytes >> PAGE_SHIFT, mask,
			     fn->dma_base >> PAGE_SHIFT & mask);
	if (first < 0)
		goto fail;
	read_lock_irqsave(&iommu->lock, flags);
	if (iommu->domain)
		err = lp_iommu_map(iommu->domain,
				   iommu->base + ((u64)first << PAGE_SHIFT),
				   phys - inside, bytes, prot, GFP_ATOMIC);
	read_unlock_irqrestore(&iommu->lock, flags);
	if (!err) {
		atomic64_inc(&fn->dma_maps);
		return fn->dma_base + ((u64)first << PAGE_SHIFT) + inside;
	}
	lp_slots_put(&iommu->slots, first, bytes >> PAGE_SHIFT);
fail:
	atomic64_inc(&fn->dma_failures);
	return DMA_MAPPING_ERROR;
}

static void lp_iommu_unmap(struct device *dev, dma_addr_t address, size_t size,
			   enum dma_data_direction dir, unsigned long attrs)
{
	struct lp_function *fn = lp_function_of(dev);
	struct lp_iommu *iommu = &fn->iommu;
	u64 offset = (address & PAGE_MASK) - fn->dma_base;
	u64 bytes = PAGE_ALIGN((address & ~PAGE_MASK) + size);
	unsigned long flags;

	if (WARN_ON_ONCE(address < fn->dma_base || offset >= iommu->bytes ||
			 bytes > iommu->bytes - offset))
		return;
	/* After the close, which has unmapped it, its bit stays set: nobody asks again. */
	read_lock_irqsave(&iommu->lock, flags);
	if (iommu->domain) {
		iommu_unmap(iommu->domain, iommu->base + offset, bytes);
		lp_slots_put(&iommu->slots, offset >> PAGE_SHIFT,
			     bytes >> PAGE_SHIFT);
	}
	read_unlock_irqrestore(&iommu->lock, flags);
	atomic64_inc(&fn->dma_unmaps);
}

#ifdef LP_DMA_MAP_PHYS
static dma_addr_t lp_iommu_map_page(struct device *dev, phys_addr_t phys,
				    size_t size, enum dma_data_direction dir,
				    unsigned long attrs)
{
	if (attrs & DMA_ATTR_MMIO)
		return DMA_MAPPING_ERROR;
	return lp_iommu_map_phys(dev, phys, size, lp_prot(dir), PAGE_SIZE);
}
#else
static dma_addr_t lp_iommu_map_page(struct device *dev, struct page *page,
				    unsigned long offset, size_t size,
				    enum dma_data_direction dir,
				    unsigned long attrs)
{
	return lp_iommu_map_phys(dev, page_to_phys(page) + offset, size,
				 lp_prot(dir), PAGE_SIZE);
}
#endif

static void lp_iommu_unmap_sg(struct device *dev, struct scatterlist *list,
			      int count, enum dma_data_direction dir,
			      unsigned long attrs)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i)
		lp_iommu_unmap(dev, sg_dma_address(entry), sg_dma_len(entry), dir,
			       attrs);
}

static int lp_iommu_map_sg(struct device *dev, struct scatterlist *list,
			   int count, enum dma_data_direction dir,
			   unsigned long attrs)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i) {
		dma_addr_t address = lp_iommu_map_phys(dev, sg_phys(entry),
						       entry->length,
						       lp_prot(dir), PAGE_SIZE);

		if (address == DMA_MAPPING_ERROR) {
			lp_iommu_unmap_sg(dev, list, i, dir, attrs);
			return -ENOMEM;
		}
		sg_dma_address(entry) = address;
		sg_dma_len(entry) = entry->length;
	}
	return count;
}

static void *lp_iommu_alloc(struct device *dev, size_t size,
			    dma_addr_t *address, gfp_t gfp, unsigned long attrs)
{
	size_t bytes = PAGE_ALIGN(size);
	void *memory;

	if (!size || bytes < size)
		return NULL;
	memory = alloc_pages_exact(bytes, (gfp & ~__GFP_HIGHMEM) | __GFP_ZERO);
	if (!memory)
		return NULL;
	*address = lp_iommu_map_phys(dev, virt_to_phys(memory), bytes, LP_PROT_ALL,
				     roundup_pow_of_two(bytes));
	if (*address == DMA_MAPPING_ERROR) {
		free_pages_exact(memory, bytes);
		return NULL;
	}
	return memory;
}

static void lp_iommu_free(struct device *dev, size_t size, void *memory,
			  dma_addr_t address, unsigned long attrs)
{
	size_t bytes = PAGE_ALIGN(size);

	lp_iommu_unmap(dev, address, bytes, DMA_BIDIRECTIONAL, attrs);
	free_pages_exact(memory, bytes);
}

static int lp_memory_mmap(struct device *dev, struct vm_area_struct *vma,
			  void *memory, dma_addr_t address, size_t size,
			  unsigned long attrs)
{
	return vm_iomap_memory(vma, virt_to_phys(memory), PAGE_ALIGN(size));
}

static int lp_memory_table(struct device *dev, struct sg_table *table,
			   void *memory, dma_addr_t address, size_t size,
			   unsigned long attrs)
{
	int err = sg_alloc_table(table, 1, GFP_KERNEL);

	if (!err)
		sg_set_page(table->sgl, virt_to_page(memory), PAGE_ALIGN(size), 0);
	return err;
}

static int lp_iommu_supported(struct device *dev, u64 mask)
{
	struct lp_function *fn = lp_function_of(dev);

	return fn->dma_base + fn->iommu.bytes - 1 <= mask;
}

static u64 lp_iommu_required_mask(struct device *dev)
{
	struct lp_function *fn = lp_function_of(dev);

	return DMA_BIT_MASK(fls64(fn->dma_base + fn->iommu.bytes - 1));
}

static size_t lp_iommu_most(struct device *dev)
{
	return lp_function_of(dev)->iommu.bytes / 8;
}

const struct dma_map_ops lp_iommu_ops = {
	.alloc = lp_iommu_alloc,
	.free = lp_iommu_free,
	.mmap = lp_memory_mmap,
	.get_sgtable = lp_memory_table,
#ifdef LP_DMA_MAP_PHYS
	.map_phys = lp_iommu_map_page,
	.unmap_phys = lp_iommu_unmap,
#else
	.map_page = lp_iommu_map_page,
	.unmap_page = lp_iommu_unmap,
#endif
	.map_sg = lp_iommu_map_sg,
	.unmap_sg = lp_iommu_unmap_sg,
	.dma_supported = lp_iommu_supported,
	.get_required_mask = lp_iommu_required_mask,
	.max_mapping_size = lp_iommu_most,
};

static dma_addr_t lp_direct_map_phys(struct device *dev, phys_addr_t phys,
				     size_t size)
{
	struct lp_function *fn = lp_function_of(dev);

	if (phys >= fn->iommu.bytes || size > fn->iommu.bytes - phys) {
		atomic64_inc(&fn->dma_failures);
		return DMA_MAPPING_ERROR;
	}
	atomic64_inc(&fn->dma_maps);
	return fn->dma_base + phys;
}

#ifdef LP_DMA_MAP_PHYS
static dma_addr_t lp_direct_map(struct device *dev, phys_addr_t phys, size_t size,
				enum dma_data_direction dir, unsigned long attrs)
{
	if (attrs & DMA_ATTR_MMIO)
		return DMA_MAPPING_ERROR;
	return lp_direct_map_phys(dev, phys, size);
}
#else
static dma_addr_t lp_direct_map(struct device *dev, struct page *page,
				unsigned long offset, size_t size,
				enum dma_data_direction dir, unsigned long attrs)
{
	return lp_direct_map_phys(dev, page_to_phys(page) + offset, size);
}
#endif

static void lp_direct_unmap(struct device *dev, dma_addr_t address, size_t size,
			    enum dma_data_direction dir, unsigned long attrs)
{
	atomic64_inc(&lp_function_of(dev)->dma_unmaps);
}

static int lp_direct_map_sg(struct device *dev, struct scatterlist *list,
			    int count, enum dma_data_direction dir,
			    unsigned long attrs)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, count, i) {
		sg_dma_address(entry) =
			lp_direct_map_phys(dev, sg_phys(entry), entry->length);
		if (sg_dma_address(entry) == DMA_MAPPING_ERROR)
			return -EIO;
		sg_dma_len(entry) = entry->length;
	}
	return count;
}

static void lp_direct_unmap_sg(struct device *dev, struct scatterlist *list,
			       int count, enum dma_data_direction dir,
			       unsigned long attrs)
{
	atomic64_add(count, &lp_function_of(dev)->dma_unmaps);
}

static void *lp_direct_alloc(struct device *dev, size_t size,
			     dma_addr_t *address, gfp_t gfp, unsigned long attrs)
{
	size_t bytes = PAGE_ALIGN(size);
	void *memory;

	if (!size || bytes < size)
		return NULL;
	memory = alloc_pages_exact(bytes, (gfp & ~__GFP_HIGHMEM) | __GFP_ZERO);
	if (!memory)
		return NULL;
	*address = lp_direct_map_phys(dev, virt_to_phys(memory), bytes);
	if (*address == DMA_MAPPING_ERROR) {
		free_pages_exact(memory, bytes);
		return NULL;
	}
	return memory;
}

static void lp_direct_free(struct device *dev, size_t size, void *memory,
			   dma_addr_t address, unsigned long attrs)
{
	atomic64_inc(&lp_function_of(dev)->dma_unmaps);
	free_pages_exact(memory, PAGE_ALIGN(size));
}

const struct dma_map_ops lp_direct_ops = {
	.alloc = lp_direct_alloc,
	.free = lp_direct_free,
	.mmap = lp_memory_mmap,
	.get_sgtable = lp_memory_table,
#ifdef LP_DMA_MAP_PHYS
	.map_phys = lp_direct_map,
	.unmap_phys = lp_direct_unmap,
#else
	.map_page = lp_direct_map,
	.unmap_page = lp_direct_unmap,
#endif
	.map_sg = lp_direct_map_sg,
	.unmap_sg = lp_direct_unmap_sg,
	.dma_supported = lp_iommu_supported,
	.get_required_mask = lp_iommu_required_mask,
};
