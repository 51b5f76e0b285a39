// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the agent is told. Configuration accessors may run under a raw spinlock, so
 * nobody waits for the agent: it reads from a ring, and what finds it full is lost.
 */
#include <linux/uaccess.h>

#include "internal.h"

static void lp_wake(struct irq_work *work)
{
	struct lp_function *fn = container_of(work, struct lp_function, wake);

	wake_up_interruptible(&fn->readers);
}

void lp_events_init(struct lp_function *fn)
{
	init_waitqueue_head(&fn->readers);
	init_irq_work(&fn->wake, lp_wake);
}

/* The last places are for what comes a few times at most: what ends a loan. */
static u32 lp_event_room(u32 type)
{
	switch (type) {
	case LANEPOOL_BRIDGE_EVENT_ATTACHED:
	case LANEPOOL_BRIDGE_EVENT_REMOVED:
	case LANEPOOL_BRIDGE_EVENT_RELEASED:
		return LP_EVENTS;
	/* Only one until the agent has ended it. */
	case LANEPOOL_BRIDGE_EVENT_RESET:
		return LP_EVENTS - 4;
	default:
		return LP_EVENTS - 8;
	}
}

void lp_event_locked(struct lp_function *fn, u32 type, u32 offset, u32 length,
		     u32 value)
{
	struct lanepool_bridge_event *event;

	lockdep_assert_held(&fn->config_lock);
	if (fn->ring_count >= lp_event_room(type)) {
		fn->lost = true;
		fn->events_lost++;
		return;
	}
	event = &fn->ring[(fn->ring_head + fn->ring_count++) % LP_EVENTS];
	memset(event, 0, sizeof(*event));
	event->type = type;
	event->flags = fn->lost ? LANEPOOL_BRIDGE_EVENT_LOST : 0;
	event->sequence = ++fn->sequence;
	event->offset = offset;
	event->length = length;
	event->value = value;
	fn->lost = false;
	irq_work_queue(&fn->wake);
}

void lp_event(struct lp_function *fn, u32 type)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&fn->config_lock, flags);
	lp_event_locked(fn, type, 0, 0, 0);
	raw_spin_unlock_irqrestore(&fn->config_lock, flags);
}

void lp_event_presence(struct lp_function *fn, u32 type, u32 clear, u32 set)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&fn->config_lock, flags);
	fn->presence = (fn->presence & ~clear) | set;
	lp_event_locked(fn, type, 0, 0, 0);
	raw_spin_unlock_irqrestore(&fn->config_lock, flags);
}

bool lp_events_pending(struct lp_function *fn)
{
	return READ_ONCE(fn->ring_count) != 0;
}

static bool lp_event_take(struct lp_function *fn,
			  struct lanepool_bridge_event *event)
{
	unsigned long flags;
	bool found;

	raw_spin_lock_irqsave(&fn->config_lock, flags);
	found = fn->ring_count != 0;
	if (found) {
		*event = fn->ring[fn->ring_head];
		fn->ring_head = (fn->ring_head + 1) % LP_EVENTS;
		fn->ring_count--;
	}
	raw_spin_unlock_irqrestore(&fn->config_lock, flags);
	return found;
}

ssize_t lp_events_read(struct lp_function *fn, char __user *to, size_t bytes,
		       bool block)
{
	struct lanepool_bridge_event event;
	size_t done = 0;
	int err;

	if (bytes < sizeof(event))
		return -EINVAL;
	while (bytes - done >= sizeof(event)) {
		if (!lp_event_take(fn, &event)) {
			if (done)
				break;
			if (!block)
				return -EAGAIN;
			err = wait_event_interruptible(fn->readers,
						       lp_events_pending(fn));
			if (err)
				return err;
			continue;
		}
		/* An event whose reader has no memory for it is gone. */
		if (copy_to_user(to + done, &event, sizeof(event)))
			return -EFAULT;
		done += sizeof(event);
	}
	return done;
}
