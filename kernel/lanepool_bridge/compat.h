/* SPDX-License-Identifier: GPL-2.0-only */
/* Where kernels differ. */
#ifndef LANEPOOL_BRIDGE_COMPAT_H
#define LANEPOOL_BRIDGE_COMPAT_H

#include <linux/dma-map-ops.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/version.h>

/* One MSI domain for each device, below one of the host bridge's. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
#define LP_MSI_PARENT_DOMAINS
#include <linux/irqchip/irq-msi-lib.h>
#endif

/* DMA operations take physical addresses instead of pages. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#define LP_DMA_MAP_PHYS
#endif

/* What gives pages to drivers that sync was renamed. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define LP_ALLOC_PAGES	alloc_pages_op
#else
#define LP_ALLOC_PAGES	alloc_pages
#endif

#ifndef CONFIG_X86_64
#error "lanepool_bridge knows x86-64 alone: PCI domains and MSI differ elsewhere"
#endif

/* Maps from any context. */
static inline int lp_iommu_map(struct iommu_domain *domain, unsigned long iova,
			       phys_addr_t phys, size_t bytes, int prot,
			       gfp_t gfp)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	return iommu_map(domain, iova, phys, bytes, prot, gfp);
#else
	if (gfpflags_allow_blocking(gfp))
		return iommu_map(domain, iova, phys, bytes, prot);
	return iommu_map_atomic(domain, iova, phys, bytes, prot);
#endif
}

/* The page frame behind an address of a mapping of device memory; mmap_lock is held. */
static inline int lp_frame_of(struct vm_area_struct *vma, unsigned long address,
			      unsigned long *frame)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	struct follow_pfnmap_args args = { .vma = vma, .address = address };
	int err = follow_pfnmap_start(&args);

	if (err)
		return err;
	*frame = args.pfn;
	follow_pfnmap_end(&args);
	return 0;
#else
	return follow_pfn(vma, address, frame);
#endif
}

/*
 * Says at once what configuration space of all ones says, too. The nvme driver of older
 * kernels never ends a command of its probe once this is said, and its remove() waits.
 */
static inline void lp_mark_disconnected(struct pci_dev *device)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	WRITE_ONCE(device->error_state, pci_channel_io_perm_failure);
#endif
}

/*
 * From here on no driver is bound to the function, nor by its user: that none has this
 * name is all that keeps them away. Without memory for it they are not.
 */
#define LP_NOBODY	"lanepool_bridge (nobody)"

static inline void lp_keep_drivers_away(struct pci_dev *device)
{
#ifdef LP_OVERRIDE_OF_DEVICE
	device_set_driver_override(&device->dev, LP_NOBODY);
#else
	driver_set_override(&device->dev, &device->driver_override, LP_NOBODY,
			    strlen(LP_NOBODY));
#endif
}

/* Its user may have named a driver meanwhile: that stays. */
static inline void lp_let_drivers_come(struct pci_dev *device)
{
#ifdef LP_OVERRIDE_OF_DEVICE
	static const struct device_driver nobody = { .name = LP_NOBODY };

	if (device_match_driver_override(&device->dev, &nobody) > 0)
		device_set_driver_override(&device->dev, "");
#else
	const char *ours = NULL;

	device_lock(&device->dev);
	if (device->driver_override && !strcmp(device->driver_override, LP_NOBODY))
		swap(ours, device->driver_override);
	device_unlock(&device->dev);
	kfree(ours);
#endif
}

static inline void lp_vma_flags_set(struct vm_area_struct *vma,
				    unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

#endif
