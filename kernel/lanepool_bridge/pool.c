// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pool: memory that is all the remote device sees in bounce mode. Pages come in runs
 * but are given back one by one, because VFIO's pins may outlive the pool.
 */
#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "internal.h"
#include "compat.h"

/* What drivers map is seldom aligned better, and small packets waste little. */
#define LP_SLOT_SHIFT	9

static unsigned int max_pool_mib = 1024;
module_param(max_pool_mib, uint, 0644);
MODULE_PARM_DESC(max_pool_mib, "most memory of all functions' pools together, in MiB");

static atomic64_t lp_pool_pages = ATOMIC64_INIT(0);

u64 lp_pool_most_bytes(void)
{
	return (u64)READ_ONCE(max_pool_mib) << 20;
}

static int lp_pool_fill(struct lp_pool *pool, unsigned long count)
{
	unsigned int order = PMD_SHIFT - PAGE_SHIFT;

	while (pool->page_count < count) {
		struct page *run;
		gfp_t gfp = GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN;
		unsigned long i;

		while (order && 1UL << order > count - pool->page_count)
			order--;
		if (order)
			gfp |= __GFP_NORETRY;
		run = alloc_pages(gfp, order);
		if (!run) {
			if (!order)
				return -ENOMEM;
			order--;
			continue;
		}
		if (order)
			split_page(run, order);
		for (i = 0; i < 1UL << order; i++)
			pool->pages[pool->page_count++] = run + i;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

int lp_pool_create(struct lp_pool *pool, u64 bytes)
{
	unsigned long count = bytes >> PAGE_SHIFT, slots = bytes >> LP_SLOT_SHIFT;
	int err = -ENOMEM;

	if (!bytes || bytes & ~PAGE_MASK || bytes > lp_pool_most_bytes())
		return -EINVAL;
	if (atomic64_add_return(count, &lp_pool_pages) << PAGE_SHIFT >
	    lp_pool_most_bytes()) {
		atomic64_sub(count, &lp_pool_pages);
		return -ENOSPC;
	}
	pool->pages = kvcalloc(count, sizeof(*pool->pages), GFP_KERNEL);
	pool->origins = kvcalloc(slots, sizeof(*pool->origins), GFP_KERNEL);
	if (!pool->pages || !pool->origins)
		goto fail;
	err = lp_slots_create(&pool->slots, slots, LP_SLOT_SHIFT);
	if (!err)
		err = lp_pool_fill(pool, count);
	if (err)
		goto fail;
	pool->memory = vmap(pool->pages, count, VM_MAP, PAGE_KERNEL);
	if (pool->memory)
		return 0;
	err = -ENOMEM;
fail:
	/* What is not there is not counted when the rest goes. */
	atomic64_sub(count - pool->page_count, &lp_pool_pages);
	lp_pool_destroy(pool);
	return err;
}

void lp_pool_destroy(struct lp_pool *pool)
{
	unsigned long i;

	if (pool->memory)
		vunmap(pool->memory);
	for (i = 0; i < pool->page_count; i++)
		__free_page(pool->pages[i]);
	atomic64_sub(pool->page_count, &lp_pool_pages);
	lp_slots_destroy(&pool->slots);
	kvfree(pool->pages);
	kvfree(pool->origins);
	memset(pool, 0, sizeof(*pool));
}

/* A page stays as long as somebody has it, whether or not the pool does. */
int lp_pool_mmap(struct lp_function *fn, struct vm_area_struct *vma)
{
	unsigned long count = vma_pages(vma), first = vma->vm_pgoff;
	struct lp_pool *pool = &fn->pool;

	if (!pool->memory || first >= pool->page_count ||
	    count > pool->page_count - first || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	lp_vma_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY);
	return vm_insert_pages(vma, vma->vm_start, pool->pages + first, &count);
}
