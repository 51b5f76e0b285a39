// SPDX-License-Identifier: GPL-2.0-only
/*
 * BARs: parts of what a VFIO device of this machine lets its user map. Where they lie
 * is found out by mapping them for a moment, so that VFIO itself judges the caller's
 * numbers; what comes out has to lie within one BAR of a device whose driver is VFIO's.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/pci.h>

#include "internal.h"
#include "compat.h"

static LIST_HEAD(lp_claims);
static DEFINE_MUTEX(lp_claims_lock);

/* Files of VFIO's core can hold no other file, so holding them makes no circle. */
static bool lp_is_vfio(struct file *file)
{
	struct module *owner = file->f_op->owner;

	return owner && !strcmp(module_name(owner), "vfio");
}

static int lp_frame_at(struct file *file, unsigned long address,
		       unsigned long *frame)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int err;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	/* Another thread may have put something else there. */
	vma = find_vma(mm, address);
	if (!vma || vma->vm_start > address || vma->vm_file != file ||
	    !(vma->vm_flags & VM_PFNMAP)) {
		err = -EINVAL;
		goto out;
	}
	err = lp_frame_of(vma, address, frame);
	if (!err)
		goto out;
	/* This may let go of the lock, and the mapping may be another one then. */
	err = fixup_user_fault(mm, address, FAULT_FLAG_WRITE, NULL);
	if (err)
		goto out;
	err = lp_frame_of(vma, address, frame);
out:
	mmap_read_unlock(mm);
	return err;
}

/* Where the page at this offset of a VFIO device lies. */
static int lp_physical(struct file *file, u64 offset, resource_size_t *phys)
{
	unsigned long address, frame;
	int err;

	if (offset > ULONG_MAX || offset & ~PAGE_MASK)
		return -EINVAL;
	address = vm_mmap(file, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			  offset);
	if (IS_ERR_VALUE(address))
		return (int)address;
	err = lp_frame_at(file, address, &frame);
	vm_munmap(address, PAGE_SIZE);
	if (!err)
		*phys = (resource_size_t)frame << PAGE_SHIFT;
	return err;
}

static int lp_owning_bar(struct pci_dev *dev, resource_size_t start,
			 resource_size_t end)
{
	int i;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct resource *res = &dev->resource[i];

		if (res->flags & IORESOURCE_MEM && resource_size(res) &&
		    res->start <= start && end <= res->end)
			return i;
	}
	return -1;
}

/* The device one of whose BARs holds all of this, and whose driver is one of VFIO's. */
static struct pci_dev *lp_owner(resource_size_t start, resource_size_t end)
{
	const struct pci_driver *driver;
	struct pci_dev *dev = NULL;

	for_each_pci_dev(dev) {
		if (lp_owning_bar(dev, start, end) < 0)
			continue;
		/* A lent function's BARs are parts of its adapter's: no chains. */
		if (dev->bus->ops == &lp_pci_ops)
			continue;
		/* The caller has the file open: the driver that it is of does not go. */
		driver = READ_ONCE(dev->driver);
		if (driver && driver->driver_managed_dma)
			return dev;
	}
	return NULL;
}

static int lp_bar_open(struct lp_bar *bar,
		       const struct lanepool_bridge_bar *args)
{
	u64 inside = args->offset & ~PAGE_MASK, last;
	resource_size_t first_page, last_page;
	int err;

	if (check_add_overflow(args->offset, args->size - 1, &last))
		return -EINVAL;
	bar->file = fget(args->vfio_fd);
	if (!bar->file)
		return -EBADF;
	if (!lp_is_vfio(bar->file))
		return -EINVAL;
	err = lp_physical(bar->file, args->offset & PAGE_MASK, &first_page);
	if (!err)
		err = lp_physical(bar->file, last & PAGE_MASK, &last_page);
	if (err)
		return err;
	if (last_page - first_page != (last & PAGE_MASK) - (args->offset & PAGE_MASK))
		return -EINVAL;
	bar->phys = first_page + inside;
	bar->size = args->size;
	bar->flags = args->flags;
	if (bar->phys & (bar->size - 1))
		return -EINVAL;
	bar->owner = lp_owner(bar->phys, bar->phys + bar->size - 1);
	return bar->owner ? 0 : -EINVAL;
}

static int lp_bar_check(const struct lanepool_bridge_bar *args, int index)
{
	const struct lanepool_bridge_bar *next = args + 1;

	if (args->reserved)
		return -EINVAL;
	if (!args->size)
		return args->flags || args->offset ? -EINVAL : 0;
	if (args->size < 16 || !is_power_of_2(args->size) ||
	    args->flags & ~(LANEPOOL_BRIDGE_BAR_64BIT | LANEPOOL_BRIDGE_BAR_PREFETCH))
		return -EINVAL;
	if (args->flags & LANEPOOL_BRIDGE_BAR_64BIT)
		return index + 1 < LANEPOOL_BRIDGE_BARS && !next->size ? 0 : -EINVAL;
	return args->size <= SZ_2G ? 0 : -EINVAL;
}

static bool lp_bus_is_free(struct lp_function *fn, u64 start, u64 bytes, int but)
{
	int i;

	for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++) {
		const struct lp_bar *bar = &fn->bars[i];

		if (i != but && bar->size && start < bar->bus + bar->size &&
		    bar->bus < start + bytes)
			return false;
	}
	return true;
}

/*
 * What the BAR's register says. It is the address itself, unless that does not fit: then
 * the host bridge translates, as real ones may.
 */
static int lp_bars_address(struct lp_function *fn)
{
	int i, k;

	for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++)
		fn->bars[i].bus = fn->bars[i].phys;
	for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++) {
		struct lp_bar *bar = &fn->bars[i];
		u64 at;

		/* Two windows of one address are one window to the PCI core. */
		for (k = 0; k < i; k++)
			if (bar->size && fn->bars[k].size &&
			    bar->phys < fn->bars[k].phys + fn->bars[k].size &&
			    fn->bars[k].phys < bar->phys + bar->size)
				return -EINVAL;
		if (!bar->size || bar->flags & LANEPOOL_BRIDGE_BAR_64BIT ||
		    bar->phys + bar->size <= SZ_4G)
			continue;
		for (at = bar->size; at < SZ_4G; at += bar->size)
			if (at >= SZ_1M && lp_bus_is_free(fn, at, bar->size, i))
				break;
		if (at >= SZ_4G)
			return -ENOSPC;
		bar->bus = at;
	}
	return 0;
}

static int lp_hold(struct lp_function *fn, const s32 *fds)
{
	int i;

	for (i = 0; i < LANEPOOL_BRIDGE_HELD_FILES; i++) {
		if (fds[i] == -1)
			continue;
		fn->held[i] = fget(fds[i]);
		if (!fn->held[i])
			return -EBADF;
		if (!lp_is_vfio(fn->held[i]))
			return -EINVAL;
	}
	return 0;
}

/* Fills in fn->bars and fn->held; lp_bars_close() gives back what there is of them. */
int lp_bars_open(struct lp_function *fn, const struct lanepool_bridge_create *args)
{
	int i, err;

	for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++) {
		err = lp_bar_check(&args->bars[i], i);
		if (err)
			return err;
	}
	for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++) {
		if (!args->bars[i].size)
			continue;
		err = lp_bar_open(&fn->bars[i], &args->bars[i]);
		if (err)
			return err;
	}
	err = lp_bars_address(fn);
	return err ? err : lp_hold(fn, args->held_fds);
}

/* Nothing that comes through the adapter reaches this machine's memory any more. */
void lp_bars_silence(struct lp_function *fn)
{
	int i;

	for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++)
		if (fn->bars[i].owner)
			pci_clear_master(fn->bars[i].owner);
}

void lp_bars_close(struct lp_function *fn)
{
	int i;

	for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++) {
		struct lp_bar *bar = &fn->bars[i];

		if (bar->owner)
			pci_dev_put(bar->owner);
		if (bar->file)
			fput(bar->file);
		bar->owner = NULL;
		bar->file = NULL;
	}
	for (i = 0; i < LANEPOOL_BRIDGE_HELD_FILES; i++) {
		if (fn->held[i])
			fput(fn->held[i]);
		fn->held[i] = NULL;
	}
}

/*
 * VFIO's driver has requested the adapter's BAR, as busy, since it was mapped above; then
 * the function's driver cannot request its part. Not busy, it is a parent like any other.
 */
static int lp_claim(struct lp_bar *bar)
{
	int index = lp_owning_bar(bar->owner, bar->phys, bar->phys + bar->size - 1);
	struct resource *whole, *busy;
	struct lp_claim *claim;

	if (index < 0)
		return -ENODEV;
	whole = &bar->owner->resource[index];
	busy = whole->child;
	if (!busy || busy->start != whole->start || busy->end != whole->end)
		return -EBUSY;
	list_for_each_entry(claim, &lp_claims, node) {
		if (claim->resource == busy) {
			claim->users++;
			bar->claim = claim;
			return 0;
		}
	}
	if (!(busy->flags & IORESOURCE_BUSY))
		return -EBUSY;
	claim = kzalloc(sizeof(*claim), GFP_KERNEL);
	if (!claim)
		return -ENOMEM;
	claim->resource = busy;
	claim->users = 1;
	list_add(&claim->node, &lp_claims);
	busy->flags &= ~IORESOURCE_BUSY;
	bar->claim = claim;
	return 0;
}

int lp_bars_claim(struct lp_function *fn)
{
	int i, err = 0;

	mutex_lock(&lp_claims_lock);
	for (i = 0; i < LANEPOOL_BRIDGE_BARS && !err; i++)
		if (fn->bars[i].size)
			err = lp_claim(&fn->bars[i]);
	mutex_unlock(&lp_claims_lock);
	if (err)
		lp_bars_unclaim(fn);
	return err;
}

void lp_bars_unclaim(struct lp_function *fn)
{
	int i;

	mutex_lock(&lp_claims_lock);
	for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++) {
		struct lp_claim *claim = fn->bars[i].claim;

		fn->bars[i].claim = NULL;
		if (!claim || --claim->users)
			continue;
		if (claim->resource->child) {
			/* A driver forgot its request: what is above it has to stay. */
			pr_err("lanepool_bridge: %pR is still requested; its adapter stays open\n",
			       claim->resource->child);
			get_file(fn->bars[i].file);
		} else {
			claim->resource->flags |= IORESOURCE_BUSY;
		}
		list_del(&claim->node);
		kfree(claim);
	}
	mutex_unlock(&lp_claims_lock);
}
