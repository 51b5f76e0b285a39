// SPDX-License-Identifier: GPL-2.0-only
/* Runs of slots out of a range: next fit over a bitmap. Any context. */
#include <linux/bitmap.h>
#include <linux/slab.h>

#include "internal.h"

int lp_slots_create(struct lp_slots *slots, unsigned long count,
		    unsigned int shift)
{
	spin_lock_init(&slots->lock);
	slots->count = count;
	slots->shift = shift;
	slots->map = kvcalloc(BITS_TO_LONGS(count), sizeof(long), GFP_KERNEL);
	return slots->map ? 0 : -ENOMEM;
}

void lp_slots_destroy(struct lp_slots *slots)
{
	kvfree(slots->map);
	slots->map = NULL;
}

/* The first slot's number plus align_offset is a multiple of align_mask + 1. */
long lp_slots_get(struct lp_slots *slots, unsigned long count,
		  unsigned long align_mask, unsigned long align_offset)
{
	unsigned long flags, first;
	long found = -ENOSPC;

	if (!count || count > slots->count)
		return -ENOSPC;
	spin_lock_irqsave(&slots->lock, flags);
	first = bitmap_find_next_zero_area_off(slots->map, slots->count,
					       slots->hint, count, align_mask,
					       align_offset);
	if (first >= slots->count)
		first = bitmap_find_next_zero_area_off(slots->map, slots->count,
						       0, count, align_mask,
						       align_offset);
	if (first < slots->count) {
		bitmap_set(slots->map, first, count);
		slots->hint = first + count;
		slots->used += count;
		if (slots->used > slots->peak)
			slots->peak = slots->used;
		found = first;
	}
	spin_unlock_irqrestore(&slots->lock, flags);
	return found;
}

void lp_slots_put(struct lp_slots *slots, unsigned long first,
		  unsigned long count)
{
	unsigned long flags;

	spin_lock_irqsave(&slots->lock, flags);
	bitmap_clear(slots->map, first, count);
	slots->used -= count;
	spin_unlock_irqrestore(&slots->lock, flags);
}
