// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host bridge of one function: a root bus in a PCI domain of its own, with this one
 * function on it.
 *
 * DMA memory may outlive the driver's remove() (nvme of 6.1 frees its last pages when the
 * block device is closed), so the function stays until the bridge's own release.
 */
#include <linux/delay.h>
#include <linux/dma-map-ops.h>
#include <linux/idr.h>
#include <linux/kernfs.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/sysfs.h>

#include "internal.h"
#include "compat.h"

static DEFINE_IDA(lp_domains);

/*
 * Each time the function appears (also after a rescan) and each time a driver comes to
 * it, since unbinding may have taken the operations away: without them the driver would
 * give bare addresses to another host.
 */
static int lp_bus_notified(struct notifier_block *block, unsigned long action,
			   void *data)
{
	struct device *dev = data;
	struct pci_dev *pdev = to_pci_dev(dev);
	struct lp_function *fn;

	if (pdev->bus->ops != &lp_pci_ops)
		return NOTIFY_DONE;
	fn = lp_function_of_bus(pdev->bus);
	switch (action) {
	case BUS_NOTIFY_ADD_DEVICE:
		set_dma_ops(dev, &lp_dma_ops);
		/* The caller has to wake the device first, which is an event to it. */
		pdev->d3hot_delay = LP_POWER_WAIT_MS;
		lp_event_presence(fn, LANEPOOL_BRIDGE_EVENT_PRESENT, 0,
				  LANEPOOL_BRIDGE_PRESENT);
		break;
	case BUS_NOTIFY_BIND_DRIVER:
		set_dma_ops(dev, &lp_dma_ops);
		break;
	case BUS_NOTIFY_BOUND_DRIVER:
		lp_event_presence(fn, LANEPOOL_BRIDGE_EVENT_BOUND, 0,
				  LANEPOOL_BRIDGE_BOUND);
		break;
	case BUS_NOTIFY_UNBOUND_DRIVER:
		lp_event_presence(fn, LANEPOOL_BRIDGE_EVENT_UNBOUND,
				  LANEPOOL_BRIDGE_BOUND, 0);
		break;
	case BUS_NOTIFY_DEL_DEVICE:
		lp_event_presence(fn, LANEPOOL_BRIDGE_EVENT_ABSENT,
				  LANEPOOL_BRIDGE_PRESENT, 0);
		break;
	}
	return NOTIFY_OK;
}

static struct notifier_block lp_bus_notifier = {
	.notifier_call = lp_bus_notified,
	/* Behind that of the IOMMUs. */
	.priority = -1,
};

int lp_bus_init(void)
{
	return bus_register_notifier(&pci_bus_type, &lp_bus_notifier);
}

void lp_bus_exit(void)
{
	bus_unregister_notifier(&pci_bus_type, &lp_bus_notifier);
	ida_destroy(&lp_domains);
}

/*
 * The lowest free one: the PCI core keeps a little of each domain for ever. That nobody
 * else has it the core finds out, with the lock that its list of buses needs.
 */
static int lp_domain_get(struct lp_function *fn)
{
	int index = ida_alloc_max(&lp_domains, LP_FUNCTIONS - 1, GFP_KERNEL);

	if (index < 0)
		return index;
	fn->domain_index = index;
	fn->sysdata.domain = LP_FIRST_DOMAIN + index;
	return 0;
}

static void lp_domain_put(struct lp_function *fn)
{
	if (fn->domain_index >= 0)
		ida_free(&lp_domains, fn->domain_index);
	fn->domain_index = -1;
}

/* Its last user may be in any context. */
static void lp_bridge_released(struct pci_host_bridge *bridge)
{
	struct lp_function *fn = bridge->release_data;

	queue_work(lp_workqueue, &fn->release);
}

static void lp_bridge_window(struct lp_bar *bar, struct pci_host_bridge *bridge)
{
	bar->window = (struct resource) {
		.name = "lanepool BAR",
		.start = bar->phys,
		.end = bar->phys + bar->size - 1,
		.flags = IORESOURCE_MEM,
	};
	if (bar->flags & LANEPOOL_BRIDGE_BAR_PREFETCH)
		bar->window.flags |= IORESOURCE_PREFETCH;
	if (bar->flags & LANEPOOL_BRIDGE_BAR_64BIT)
		bar->window.flags |= IORESOURCE_MEM_64;
	pci_add_resource_offset(&bridge->windows, &bar->window,
				bar->phys - bar->bus);
}

/*
 * From the highest to the lowest: the PCI core makes one of two windows when the second
 * begins where the first ends, and releases a resource then that nobody has requested.
 */
static void lp_bridge_windows(struct lp_function *fn,
			      struct pci_host_bridge *bridge)
{
	struct lp_bar *next, *last = NULL;
	int i;

	fn->bus_numbers = (struct resource) {
		.name = "lanepool bus", .start = 0, .end = 0,
		.flags = IORESOURCE_BUS,
	};
	pci_add_resource(&bridge->windows, &fn->bus_numbers);
	do {
		next = NULL;
		for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++) {
			struct lp_bar *bar = &fn->bars[i];

			if (bar->size && (!last || bar->phys < last->phys) &&
			    (!next || bar->phys > next->phys))
				next = bar;
		}
		if (next)
			lp_bridge_window(next, bridge);
		last = next;
	} while (last);
}

/* That the PCI core sees what was described, and that no IOMMU takes it for its own. */
static int lp_check_device(struct lp_function *fn, struct pci_dev *device)
{
	int i;

	if (device->dev.iommu_group) {
		pci_err(device, "an IOMMU has claimed this function: not going on\n");
		return -EBUSY;
	}
	if (get_dma_ops(&device->dev) != &lp_dma_ops)
		return -ENODEV;
	for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++) {
		const struct resource *res = &device->resource[i];

		if (!fn->bars[i].size)
			continue;
		if (res->start != fn->bars[i].phys || !res->parent ||
		    resource_size(res) != fn->bars[i].size) {
			pci_err(device, "BAR %d is not where its window is\n", i);
			return -EBUSY;
		}
	}
	return 0;
}

/*
 * Whoever writes to one of these files waits for the PCI core's lock, or for the device,
 * and whoever removes the directory waits for him. The directory, to which the caller has a
 * reference, may be gone, and its object may have forgotten it: sysfs, which asks for an
 * object, looks at nothing but its directory.
 */
static void lp_bus_remove_files(struct kernfs_node *directory)
{
	static const struct attribute files[] = {
		{ .name = "remove" }, { .name = "rescan" }, { .name = "reset" },
	};
	struct kobject holder = { .sd = directory };
	int i;

	for (i = 0; i < ARRAY_SIZE(files); i++)
		sysfs_remove_file(&holder, &files[i]);
}

/* The function, if it was there, with a reference: for lp_bus_forget(). */
static struct pci_dev *lp_bus_take_down(struct lp_function *fn)
{
	struct pci_bus *bus = fn->bridge->bus;
	struct kernfs_node *files = NULL;
	struct pci_dev *device;

	pci_lock_rescan_remove();
	device = pci_get_slot(bus, 0);
	if (device)
		files = device->dev.kobj.sd;
	kernfs_get(files);
	pci_unlock_rescan_remove();

	if (files)
		lp_bus_remove_files(files);
	kernfs_put(files);
	lp_bus_remove_files(bus->dev.kobj.sd);

	pci_lock_rescan_remove();
	pci_stop_root_bus(bus);
	pci_remove_root_bus(bus);
	pci_unlock_rescan_remove();
	return device;
}

/*
 * The PCI core's sysfs file "remove" waits for that lock without a reference to its
 * function. Whoever waited when the function went has had the lock before us, unless we
 * are so quick as to snatch it twice.
 */
static void lp_bus_forget(struct pci_dev *device)
{
	int i;

	for (i = 0; device && i < 2; i++) {
		msleep(20);
		pci_lock_rescan_remove();
		pci_unlock_rescan_remove();
	}
	pci_dev_put(device);
}

/* fn->lock is held. */
static void lp_bus_drop(struct lp_function *fn)
{
	/* pci_remove_root_bus() leaves whoever made the bridge with a reference. */
	put_device(&fn->bridge->dev);
	fn->bridge = NULL;
}

/* The PCI core's lock is held, and fn->lock. */
static int lp_bus_scan(struct lp_function *fn)
{
	struct pci_host_bridge *bridge = pci_alloc_host_bridge(0);
	struct pci_dev *device;
	int err;

	if (!bridge)
		return -ENOMEM;
	fn->sysdata.node = NUMA_NO_NODE;
	bridge->sysdata = &fn->sysdata;
	bridge->ops = &lp_pci_ops;
	bridge->busnr = 0;
	dev_set_msi_domain(&bridge->dev, fn->msi_domain);
	lp_bridge_windows(fn, bridge);

	err = pci_scan_root_bus_bridge(bridge);
	if (err) {
		pci_free_host_bridge(bridge);
		return err;
	}
	kref_get(&fn->ref);
	__module_get(THIS_MODULE);
	pci_set_host_bridge_release(bridge, lp_bridge_released, fn);
	fn->bridge = bridge;
	fn->bus = bridge->bus;
	device = pci_get_slot(fn->bus, 0);
	pci_bus_claim_resources(bridge->bus);
	err = device ? lp_check_device(fn, device) : -ENODEV;
	pci_dev_put(device);
	return err;
}

/* The PCI core's lock is held. Drivers are kept away until lp_bus_attach(). */
static void lp_bus_add(struct lp_function *fn)
{
	struct pci_dev *device = pci_get_slot(fn->bus, 0);

	if (device)
		lp_keep_drivers_away(device);
	pci_dev_put(device);
	pci_bus_add_devices(fn->bus);
}

void lp_bus_find(struct work_struct *work)
{
	struct lp_function *fn = container_of(work, struct lp_function, find);
	bool found = false;

	pci_lock_rescan_remove();
	mutex_lock(&fn->lock);
	if (fn->finding) {
		fn->found = lp_bus_scan(fn);
		fn->finding = false;
		found = !fn->found;
	}
	mutex_unlock(&fn->lock);
	if (found)
		lp_bus_add(fn);
	pci_unlock_rescan_remove();
	complete_all(&fn->find_done);
	lp_function_put(fn);
}

/*
 * Waits for the lock under which functions are found and removed, but not for ever:
 * whoever removes the adapter holds it until the caller has closed that. fn->lock is
 * held, but not while this waits.
 */
static int lp_bus_find_and_wait(struct lp_function *fn)
{
	fn->finding = true;
	reinit_completion(&fn->find_done);
	kref_get(&fn->ref);
	queue_work(lp_workqueue, &fn->find);
	mutex_unlock(&fn->lock);
	wait_for_completion_killable_timeout(&fn->find_done,
					     msecs_to_jiffies(LP_PLUG_MS));
	mutex_lock(&fn->lock);
	if (!fn->finding)
		return fn->found;
	fn->finding = false;
	return -EBUSY;
}

/*
 * fn->lock is held, but other calls may come in between. On failure the function is used
 * up: what there is goes on close.
 */
int lp_bus_plug(struct lp_function *fn)
{
	int err = lp_domain_get(fn);

	if (err)
		return err;
	fn->state = LANEPOOL_BRIDGE_REMOVED;
	err = lp_bars_claim(fn);
	if (!err)
		err = lp_msi_domain_create(fn);
	if (!err)
		err = lp_bus_find_and_wait(fn);
	if (!err) {
		fn->state = LANEPOOL_BRIDGE_PLUGGED;
		WRITE_ONCE(fn->plugged, true);
		queue_work(lp_workqueue, &fn->attach);
		return 0;
	}
	if (fn->bridge) {
		/* It goes as any other, and nobody waits: see above. */
		lp_queue_removal(fn, true);
		return err;
	}
	lp_iommu_close(fn);
	lp_bars_unclaim(fn);
	lp_bars_close(fn);
	lp_msi_domain_destroy(fn);
	lp_domain_put(fn);
	return err;
}

/* fn->lock is held. */
void lp_bus_mark_gone(struct lp_function *fn)
{
	struct pci_dev *device;

	if (!fn->bus)
		return;
	device = pci_get_slot(fn->bus, 0);
	if (device)
		lp_mark_disconnected(device);
	pci_dev_put(device);
}

/*
 * Offers the function to drivers. The lock under which functions are found is not needed:
 * whoever removes the adapter may hold it until this function is gone, and drivers' probe
 * may need the agent, which may be waiting for it in a PLUG.
 */
void lp_bus_attach(struct work_struct *work)
{
	struct lp_function *fn = container_of(work, struct lp_function, attach);
	struct pci_dev *device = NULL;

	/* Who was killed in his PLUG did not wait for it. */
	wait_for_completion(&fn->find_done);
	if (!READ_ONCE(fn->gone))
		device = pci_get_slot(fn->bus, 0);
	if (device) {
		lp_let_drivers_come(device);
		if (device_attach(&device->dev) < 0)
			pci_warn(device, "no driver could be bound\n");
	}
	pci_dev_put(device);
	lp_event(fn, LANEPOOL_BRIDGE_EVENT_ATTACHED);
}

static void lp_bus_unbind(struct lp_function *fn)
{
	struct pci_dev *device = pci_get_slot(fn->bus, 0);

	if (!device)
		return;
	lp_keep_drivers_away(device);
	device_release_driver(&device->dev);
	pci_dev_put(device);
}

/*
 * Gives back what drivers used, unless there is one: its user may have bound it again,
 * against what keeps them away.
 */
static bool lp_bus_give_back(struct lp_function *fn, bool off_bus)
{
	struct pci_dev *device = off_bus ? NULL : pci_get_slot(fn->bridge->bus, 0);
	bool unused;

	/* While it is locked no driver comes. */
	if (device)
		device_lock(&device->dev);
	unused = !device || !device->dev.driver;
	mutex_lock(&fn->lock);
	lp_vectors_disconnect(fn);
	lp_iommu_close(fn);
	if (unused) {
		fn->bus = NULL;
		lp_bars_unclaim(fn);
		lp_bars_close(fn);
	}
	mutex_unlock(&fn->lock);
	if (device)
		device_unlock(&device->dev);
	pci_dev_put(device);
	return unused;
}

/*
 * The driver goes first, and then what it used, without the lock under which functions
 * are found and removed: drivers take their time, others' loans go on meanwhile, and
 * whoever removes the adapter itself holds that lock until VFIO's files are given back.
 */
void lp_bus_remove(struct work_struct *work)
{
	struct lp_function *fn = container_of(work, struct lp_function, remove);
	struct pci_dev *device;
	unsigned long flags;
	int tries = 0;

	flush_work(&fn->attach);
	lp_bus_unbind(fn);
	raw_spin_lock_irqsave(&fn->config_lock, flags);
	fn->gone = true;
	raw_spin_unlock_irqrestore(&fn->config_lock, flags);
	/* A rescan may have found it anew before it was gone. */
	do
		lp_bus_unbind(fn);
	while (!lp_bus_give_back(fn, false) && ++tries < LP_UNBINDS);

	device = lp_bus_take_down(fn);
	lp_bus_give_back(fn, true);

	mutex_lock(&fn->lock);
	fn->state = LANEPOOL_BRIDGE_REMOVED;
	lp_bus_drop(fn);
	mutex_unlock(&fn->lock);
	lp_event(fn, LANEPOOL_BRIDGE_EVENT_REMOVED);
	lp_bus_forget(device);
	lp_function_put(fn);
}

void lp_bus_release(struct work_struct *work)
{
	struct lp_function *fn = container_of(work, struct lp_function, release);

	/* The bridge may be released before the work that dropped it has ended. */
	flush_work(&fn->remove);
	mutex_lock(&fn->lock);
	lp_msi_domain_destroy(fn);
	lp_domain_put(fn);
	fn->state = LANEPOOL_BRIDGE_RELEASED;
	mutex_unlock(&fn->lock);
	lp_event(fn, LANEPOOL_BRIDGE_EVENT_RELEASED);
	lp_function_put(fn);
	/* This work itself is what the module's exit waits for. */
	module_put(THIS_MODULE);
}
