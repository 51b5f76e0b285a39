// SPDX-License-Identifier: GPL-2.0-only
/*
 * PCI functions that user space describes: /dev/lanepool_bridge. This file checks what
 * callers say, as if they were hostile, and holds a function's life together.
 */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "internal.h"

struct workqueue_struct *lp_workqueue;

bool lp_allow_direct;
module_param_named(allow_direct, lp_allow_direct, bool, 0644);
MODULE_PARM_DESC(allow_direct, "let remote devices see all of this machine's memory");

/* Open files; a function that outlives its file still counts. */
static atomic_t lp_function_count = ATOMIC_INIT(0);

static void lp_function_free(struct kref *ref)
{
	struct lp_function *fn = container_of(ref, struct lp_function, ref);

	irq_work_sync(&fn->wake);
	lp_iommu_close(fn);
	lp_iommu_destroy(fn);
	lp_vectors_destroy(fn);
	lp_bars_close(fn);
	lp_pool_destroy(&fn->pool);
	mutex_destroy(&fn->lock);
	kvfree(fn);
	atomic_dec(&lp_function_count);
}

void lp_function_put(struct lp_function *fn)
{
	kref_put(&fn->ref, lp_function_free);
}

static void lp_function_init(struct lp_function *fn)
{
	kref_init(&fn->ref);
	mutex_init(&fn->lock);
	raw_spin_lock_init(&fn->config_lock);
	rwlock_init(&fn->iommu.lock);
	init_completion(&fn->find_done);
	INIT_WORK(&fn->find, lp_bus_find);
	INIT_WORK(&fn->attach, lp_bus_attach);
	INIT_WORK(&fn->remove, lp_bus_remove);
	INIT_WORK(&fn->release, lp_bus_release);
	fn->domain_index = -1;
	lp_events_init(fn);
}

static int lp_open(struct inode *inode, struct file *file)
{
	struct lp_function *fn;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (atomic_inc_return(&lp_function_count) > LP_FUNCTIONS) {
		atomic_dec(&lp_function_count);
		return -EMFILE;
	}
	fn = kvzalloc(sizeof(*fn), GFP_KERNEL);
	if (!fn) {
		atomic_dec(&lp_function_count);
		return -ENOMEM;
	}
	lp_function_init(fn);
	file->private_data = fn;
	return nonseekable_open(inode, file);
}

/* fn->lock is held. */
void lp_queue_removal(struct lp_function *fn, bool surprise)
{
	unsigned long flags;

	if (surprise) {
		raw_spin_lock_irqsave(&fn->config_lock, flags);
		fn->gone = true;
		raw_spin_unlock_irqrestore(&fn->config_lock, flags);
		lp_bus_mark_gone(fn);
		/* The driver will free memory without asking the device to stop. */
		lp_iommu_close(fn);
	}
	if (fn->removal_queued)
		return;
	fn->removal_queued = true;
	fn->state = LANEPOOL_BRIDGE_REMOVING;
	kref_get(&fn->ref);
	queue_work(lp_workqueue, &fn->remove);
}

static int lp_close(struct inode *inode, struct file *file)
{
	struct lp_function *fn = file->private_data;

	mutex_lock(&fn->lock);
	if (fn->state == LANEPOOL_BRIDGE_PLUGGED ||
	    fn->state == LANEPOOL_BRIDGE_REMOVING) {
		/*
		 * A dead agent takes no pool out of the device's reach, and VFIO's
		 * files, which are held, keep it there. The adapter was its alone.
		 */
		if (current->flags & PF_EXITING)
			lp_bars_silence(fn);
		lp_queue_removal(fn, true);
	}
	mutex_unlock(&fn->lock);
	lp_function_put(fn);
	return 0;
}

static bool lp_all_zero(const __u64 *reserved, size_t count)
{
	return !memchr_inv(reserved, 0, count * sizeof(*reserved));
}

static int lp_fetch(void *to, const void __user *from, size_t bytes)
{
	if (copy_from_user(to, from, bytes))
		return -EFAULT;
	return *(u32 *)to == bytes ? 0 : -EINVAL;
}

static int lp_ioctl_info(struct lp_function *fn, void __user *user)
{
	struct lanepool_bridge_info info;
	int err = lp_fetch(&info, user, sizeof(info));

	if (err)
		return err;
	if (info.flags || info.reserved32 ||
	    !lp_all_zero(info.reserved, ARRAY_SIZE(info.reserved)))
		return -EINVAL;
	info.version = LANEPOOL_BRIDGE_VERSION;
	info.state = READ_ONCE(fn->state);
	info.dma_modes = 1U << LANEPOOL_BRIDGE_DMA_BOUNCE |
			 1U << LANEPOOL_BRIDGE_DMA_IOMMU;
	if (READ_ONCE(lp_allow_direct))
		info.dma_modes |= 1U << LANEPOOL_BRIDGE_DMA_DIRECT;
	info.max_vectors = LANEPOOL_BRIDGE_MAX_VECTORS;
	info.max_pool_bytes = lp_pool_most_bytes();
	info.presence = READ_ONCE(fn->presence);
	return copy_to_user(user, &info, sizeof(info)) ? -EFAULT : 0;
}

static int lp_check_vectors(const struct lanepool_bridge_create *args)
{
	switch (args->vector_kind) {
	case LANEPOOL_BRIDGE_VECTORS_NONE:
		return args->vectors ? -EINVAL : 0;
	case LANEPOOL_BRIDGE_VECTORS_MSI:
		return args->vectors && args->vectors <= 32 ? 0 : -EINVAL;
	case LANEPOOL_BRIDGE_VECTORS_MSIX:
		return args->vectors &&
		       args->vectors <= LANEPOOL_BRIDGE_MAX_VECTORS ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static int lp_check_dma(const struct lanepool_bridge_create *args)
{
	switch (args->dma_mode) {
	case LANEPOOL_BRIDGE_DMA_BOUNCE:
		return args->dma_bar || args->iova_base || args->iova_bytes ?
			       -EINVAL : 0;
	case LANEPOOL_BRIDGE_DMA_DIRECT:
		if (!READ_ONCE(lp_allow_direct))
			return -EPERM;
		fallthrough;
	case LANEPOOL_BRIDGE_DMA_IOMMU:
		return args->pool_bytes || args->dma_bar >= LANEPOOL_BRIDGE_BARS ||
		       !args->bars[args->dma_bar].size ? -EINVAL : 0;
	default:
		return -EINVAL;
	}
}

static int lp_fetch_config(struct lp_function *fn,
			   const struct lanepool_bridge_create *args)
{
	if (copy_from_user(fn->config, u64_to_user_ptr(args->config_space),
			   LP_CONFIG_BYTES) ||
	    copy_from_user(fn->write_mask, u64_to_user_ptr(args->write_mask),
			   LP_CONFIG_BYTES) ||
	    copy_from_user(fn->clear_mask, u64_to_user_ptr(args->clear_mask),
			   LP_CONFIG_BYTES) ||
	    copy_from_user(fn->notify_mask, u64_to_user_ptr(args->notify_mask),
			   LP_CONFIG_BYTES))
		return -EFAULT;
	return 0;
}

/* Gives back what a failed CREATE has taken, so that another may follow. */
static void lp_uncreate(struct lp_function *fn)
{
	lp_iommu_close(fn);
	lp_iommu_destroy(fn);
	lp_pool_destroy(&fn->pool);
	lp_vectors_destroy(fn);
	lp_bars_close(fn);
	memset(fn->bars, 0, sizeof(fn->bars));
	memset(&fn->iommu, 0, sizeof(fn->iommu));
	rwlock_init(&fn->iommu.lock);
	bitmap_zero(fn->fixed, LP_CONFIG_BYTES);
	fn->express = 0;
	fn->advanced = 0;
	fn->express_reset = false;
	fn->advanced_reset = false;
}

static int lp_create(struct lp_function *fn,
		     const struct lanepool_bridge_create *args)
{
	int err;

	fn->vector_kind = args->vector_kind;
	fn->vector_count = args->vectors;
	fn->dma_mode = args->dma_mode;
	fn->dma = lp_dma_of(fn->dma_mode);
	err = lp_bars_open(fn, args);
	if (!err)
		err = lp_fetch_config(fn, args);
	if (!err)
		err = lp_config_prepare(fn);
	if (!err)
		err = lp_vectors_create(fn);
	if (err)
		return err;
	if (fn->dma_mode == LANEPOOL_BRIDGE_DMA_BOUNCE)
		return lp_pool_create(&fn->pool, args->pool_bytes);
	return lp_iommu_open(fn, fn->bars[args->dma_bar].owner, args->iova_base,
			     args->iova_bytes);
}

static int lp_ioctl_create(struct lp_function *fn, void __user *user)
{
	struct lanepool_bridge_create *args;
	int err;

	if (fn->state != LANEPOOL_BRIDGE_EMPTY)
		return -EBUSY;
	args = kmalloc(sizeof(*args), GFP_KERNEL);
	if (!args)
		return -ENOMEM;
	err = lp_fetch(args, user, sizeof(*args));
	if (!err && (args->flags ||
		     !lp_all_zero(args->reserved, ARRAY_SIZE(args->reserved))))
		err = -EINVAL;
	if (!err)
		err = lp_check_vectors(args);
	if (!err)
		err = lp_check_dma(args);
	if (!err) {
		err = lp_create(fn, args);
		if (err)
			lp_uncreate(fn);
		else
			/* Nobody looks at what is described before. */
			smp_store_release(&fn->state,
					  LANEPOOL_BRIDGE_CREATED);
	}
	kfree(args);
	return err;
}

static int lp_ioctl_plug(struct lp_function *fn, void __user *user)
{
	struct lanepool_bridge_plug args;
	int err = lp_fetch(&args, user, sizeof(args));
	u64 last, bytes;

	if (err)
		return err;
	if (fn->state != LANEPOOL_BRIDGE_CREATED)
		return -EBUSY;
	bytes = fn->dma_mode == LANEPOOL_BRIDGE_DMA_BOUNCE ?
			(u64)fn->pool.page_count << PAGE_SHIFT : fn->iommu.bytes;
	/* The last address is what DMA_MAPPING_ERROR means. */
	if (args.flags || args.domain || args.bus || args.devfn ||
	    args.reserved32 ||
	    !lp_all_zero(args.reserved, ARRAY_SIZE(args.reserved)) ||
	    args.dma_base & ~PAGE_MASK ||
	    check_add_overflow(args.dma_base, bytes, &last))
		return -EINVAL;
	fn->dma_base = args.dma_base;
	fn->dma_last = last - 1;
	err = lp_bus_plug(fn);
	if (err)
		return err;
	args.domain = fn->sysdata.domain;
	args.bus = 0;
	args.devfn = 0;
	return copy_to_user(user, &args, sizeof(args)) ? -EFAULT : 0;
}

static int lp_ioctl_unplug(struct lp_function *fn, void __user *user)
{
	struct lanepool_bridge_unplug args;
	int err = lp_fetch(&args, user, sizeof(args));

	if (err)
		return err;
	if (args.flags & ~LANEPOOL_BRIDGE_UNPLUG_SURPRISE ||
	    !lp_all_zero(args.reserved, ARRAY_SIZE(args.reserved)))
		return -EINVAL;
	if (fn->state != LANEPOOL_BRIDGE_PLUGGED &&
	    fn->state != LANEPOOL_BRIDGE_REMOVING)
		return -ENODEV;
	lp_queue_removal(fn, args.flags & LANEPOOL_BRIDGE_UNPLUG_SURPRISE);
	return 0;
}

static int lp_ioctl_vectors(struct lp_function *fn, void __user *user)
{
	struct lanepool_bridge_vectors args;
	int err = lp_fetch(&args, user, sizeof(args));
	s32 *fds;

	if (err)
		return err;
	if (fn->state != LANEPOOL_BRIDGE_CREATED &&
	    fn->state != LANEPOOL_BRIDGE_PLUGGED &&
	    fn->state != LANEPOOL_BRIDGE_REMOVING)
		return -ENODEV;
	if (args.flags || !args.count || args.start >= fn->vector_count ||
	    args.count > fn->vector_count - args.start ||
	    !lp_all_zero(args.reserved, ARRAY_SIZE(args.reserved)))
		return -EINVAL;
	fds = memdup_user(u64_to_user_ptr(args.fds), args.count * sizeof(*fds));
	if (IS_ERR(fds))
		return PTR_ERR(fds);
	err = lp_vectors_set(fn, args.start, args.count, fds);
	kfree(fds);
	return err;
}

static bool lp_is_described(struct lp_function *fn)
{
	/* Pairs with the end of CREATE. */
	return smp_load_acquire(&fn->state) != LANEPOOL_BRIDGE_EMPTY;
}

static int lp_ioctl_config(struct lp_function *fn, void __user *user, bool update)
{
	struct lanepool_bridge_config args;
	int err = lp_fetch(&args, user, sizeof(args));
	u8 *data;

	if (err)
		return err;
	if (!lp_is_described(fn))
		return -ENODEV;
	if (args.flags || !args.length || args.length > LP_CONFIG_BYTES ||
	    args.offset > LP_CONFIG_BYTES - args.length ||
	    !lp_all_zero(args.reserved, ARRAY_SIZE(args.reserved)))
		return -EINVAL;
	data = kmalloc(args.length, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	if (update) {
		if (copy_from_user(data, u64_to_user_ptr(args.data), args.length))
			err = -EFAULT;
		else
			err = lp_config_update(fn, args.offset, args.length, data);
	} else {
		lp_config_copy(fn, args.offset, args.length, data);
		if (copy_to_user(u64_to_user_ptr(args.data), data, args.length))
			err = -EFAULT;
	}
	kfree(data);
	return err;
}

static int lp_ioctl_reset(struct lp_function *fn, void __user *user)
{
	struct lanepool_bridge_reset args;
	int err = lp_fetch(&args, user, sizeof(args));
	unsigned long flags;

	if (err)
		return err;
	if (args.flags || args.reserved32 ||
	    !lp_all_zero(args.reserved, ARRAY_SIZE(args.reserved)) ||
	    (args.action != LANEPOOL_BRIDGE_RESET_BEGIN &&
	     args.action != LANEPOOL_BRIDGE_RESET_END))
		return -EINVAL;
	if (!lp_is_described(fn))
		return -ENODEV;
	raw_spin_lock_irqsave(&fn->config_lock, flags);
	fn->resetting = args.action == LANEPOOL_BRIDGE_RESET_BEGIN;
	raw_spin_unlock_irqrestore(&fn->config_lock, flags);
	return 0;
}

static int lp_ioctl_stats(struct lp_function *fn, void __user *user)
{
	struct lanepool_bridge_stats stats;
	int err = lp_fetch(&stats, user, sizeof(stats));
	const struct lp_slots *slots;

	if (err)
		return err;
	if (stats.flags || !lp_all_zero(stats.reserved, ARRAY_SIZE(stats.reserved)))
		return -EINVAL;
	stats.config_reads = READ_ONCE(fn->config_reads);
	stats.config_writes = READ_ONCE(fn->config_writes);
	stats.events = READ_ONCE(fn->sequence);
	stats.events_lost = READ_ONCE(fn->events_lost);
	stats.vectors_delivered = atomic64_read(&fn->vectors_delivered);
	stats.vectors_dropped = atomic64_read(&fn->vectors_dropped);
	stats.dma_maps = atomic64_read(&fn->dma_maps);
	stats.dma_unmaps = atomic64_read(&fn->dma_unmaps);
	stats.dma_failures = atomic64_read(&fn->dma_failures);
	stats.bytes_copied = atomic64_read(&fn->bytes_copied);
	slots = fn->dma_mode == LANEPOOL_BRIDGE_DMA_BOUNCE ? &fn->pool.slots :
							     &fn->iommu.slots;
	stats.pool_bytes = (u64)slots->count << slots->shift;
	stats.pool_used_bytes = (u64)READ_ONCE(slots->used) << slots->shift;
	stats.pool_peak_bytes = (u64)READ_ONCE(slots->peak) << slots->shift;
	return copy_to_user(user, &stats, sizeof(stats)) ? -EFAULT : 0;
}

static long lp_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	struct lp_function *fn = file->private_data;
	void __user *user = (void __user *)arg;
	long err;

	/* A reset may have to be ended while PLUG waits for whoever asked for it. */
	switch (command) {
	case LANEPOOL_BRIDGE_INFO:
		return lp_ioctl_info(fn, user);
	case LANEPOOL_BRIDGE_UPDATE_CONFIG:
		return lp_ioctl_config(fn, user, true);
	case LANEPOOL_BRIDGE_READ_CONFIG:
		return lp_ioctl_config(fn, user, false);
	case LANEPOOL_BRIDGE_RESET:
		return lp_ioctl_reset(fn, user);
	}
	if (mutex_lock_interruptible(&fn->lock))
		return -EINTR;
	switch (command) {
	case LANEPOOL_BRIDGE_CREATE:
		err = lp_ioctl_create(fn, user);
		break;
	case LANEPOOL_BRIDGE_PLUG:
		err = lp_ioctl_plug(fn, user);
		break;
	case LANEPOOL_BRIDGE_UNPLUG:
		err = lp_ioctl_unplug(fn, user);
		break;
	case LANEPOOL_BRIDGE_SET_VECTORS:
		err = lp_ioctl_vectors(fn, user);
		break;
	case LANEPOOL_BRIDGE_STATS:
		err = lp_ioctl_stats(fn, user);
		break;
	default:
		err = -ENOTTY;
	}
	mutex_unlock(&fn->lock);
	return err;
}

static ssize_t lp_read(struct file *file, char __user *to, size_t bytes,
		       loff_t *offset)
{
	return lp_events_read(file->private_data, to, bytes,
			      !(file->f_flags & O_NONBLOCK));
}

static __poll_t lp_poll(struct file *file, struct poll_table_struct *table)
{
	struct lp_function *fn = file->private_data;

	poll_wait(file, &fn->readers, table);
	return lp_events_pending(fn) ? EPOLLIN | EPOLLRDNORM : 0;
}

/* The caller holds its mmap_lock, within which nobody may wait for a function's lock. */
static int lp_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct lp_function *fn = file->private_data;
	int err;

	if (!mutex_trylock(&fn->lock))
		return -EBUSY;
	err = fn->state == LANEPOOL_BRIDGE_CREATED ||
			      fn->state == LANEPOOL_BRIDGE_PLUGGED ?
		      lp_pool_mmap(fn, vma) : -ENODEV;
	mutex_unlock(&fn->lock);
	return err;
}

static const struct file_operations lp_files = {
	.owner = THIS_MODULE,
	.open = lp_open,
	.release = lp_close,
	.unlocked_ioctl = lp_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.read = lp_read,
	.poll = lp_poll,
	.mmap = lp_mmap,
};

static struct miscdevice lp_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lanepool_bridge",
	.mode = 0600,
	.fops = &lp_files,
};

static int __init lp_init(void)
{
	int err;

	lp_workqueue = alloc_workqueue("lanepool_bridge", WQ_UNBOUND, 0);
	if (!lp_workqueue)
		return -ENOMEM;
	err = lp_bus_init();
	if (err)
		goto no_bus;
	err = misc_register(&lp_misc);
	if (!err)
		return 0;
	lp_bus_exit();
no_bus:
	destroy_workqueue(lp_workqueue);
	return err;
}

static void __exit lp_exit(void)
{
	misc_deregister(&lp_misc);
	destroy_workqueue(lp_workqueue);
	lp_bus_exit();
	/* Whoever queued a bridge's release may still be on its way out of here. */
	synchronize_rcu_tasks();
}

module_init(lp_init);
module_exit(lp_exit);

MODULE_DESCRIPTION("PCI functions of other hosts for this host's own drivers");
MODULE_AUTHOR("the lanepool project");
MODULE_LICENSE("GPL");
MODULE_VERSION("1");
