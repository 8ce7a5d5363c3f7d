/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the host's chain to the guest's: an event about (object, offset) becomes one event for each
 * guest range that maps a part of it. The gate holds the slot set still from start to end.
 */
#include "mem/space.h"

struct translation {
	struct vd_mem *mem;
	const struct vd_invalidation *host;
	const struct vd_mem_slot *failed; /* first one whose start was refused */
	bool any;
	bool young;
};

static struct vd_mem *mem_of(struct vd_listener *listener)
{
	return (struct vd_mem *)((char *)listener - offsetof(struct vd_mem, host_listener));
}

/* The guest range of a slot that maps a part of the event's; they are known to overlap. */
static struct vd_invalidation guest_event(const struct vd_invalidation *host,
					  const struct vd_slot *slot)
{
	const struct vd_slot_config *config = &slot->config;
	struct vd_invalidation event = *host;
	uint64_t host_end = host->start + host->length;
	uint64_t slot_end = config->offset + config->size;
	uint64_t start = host->start > config->offset ? host->start : config->offset;
	uint64_t end = host_end < slot_end ? host_end : slot_end;

	event.object = NULL;
	event.start = config->base.value + (start - config->offset);
	event.length = end - start;
	return event;
}

static int each(struct translation *t, int (*fn)(void *context, const struct vd_mem_slot *slot))
{
	return vd_snapshot_each_mapping(vd_mem_current(t->mem), t->host->object, t->host->start,
					t->host->start + t->host->length, fn, t);
}

static int start_one(void *context, const struct vd_mem_slot *slot)
{
	struct translation *t = context;
	struct vd_invalidation event = guest_event(t->host, &slot->shown);
	int r = vd_notifier_start(&t->mem->notifier, &event);

	if (r)
		t->failed = slot;
	else
		t->any = true;
	return r;
}

static int end_one(void *context, const struct vd_mem_slot *slot)
{
	struct translation *t = context;
	struct vd_invalidation event = guest_event(t->host, &slot->shown);

	if (slot == t->failed)
		return 1;
	vd_notifier_end(&t->mem->notifier, &event);
	return 0;
}

static int invalidate_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct translation t = { .mem = mem_of(listener), .host = event };
	int r = vd_gate_enter_event(t.mem, event->blockable);

	if (r)
		return r == -ESHUTDOWN ? 0 : r;
	r = each(&t, start_one);
	if (r) {
		each(&t, end_one);
		vd_gate_leave_event(t.mem);
		return r;
	}
	/*
	 * Whoever translated before the event became active, and copies inside a read section, has
	 * left.
	 */
	if (t.any)
		t.mem->env->synchronize(t.mem->env);
	return 0;
}

static void invalidate_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct translation t = { .mem = mem_of(listener), .host = event };

	if (vd_gate_closed(t.mem)) /* then no start was let in that has not had its end */
		return;
	each(&t, end_one);
	vd_gate_leave_event(t.mem);
}

static int clear_young_one(void *context, const struct vd_mem_slot *slot)
{
	struct translation *t = context;
	struct vd_invalidation range = guest_event(t->host, &slot->shown);

	t->young |= vd_notifier_clear_young(&t->mem->notifier, &range);
	return 0;
}

static int test_young_one(void *context, const struct vd_mem_slot *slot)
{
	struct translation *t = context;
	struct vd_invalidation range = guest_event(t->host, &slot->shown);

	t->young = vd_notifier_test_young(&t->mem->notifier, &range);
	return t->young;
}

static bool scan(struct vd_listener *listener, const struct vd_invalidation *range,
		 int (*fn)(void *context, const struct vd_mem_slot *slot))
{
	struct translation t = { .mem = mem_of(listener), .host = range };

	int r = vd_gate_enter_event(t.mem, range->blockable);

	if (r)
		return r == -EAGAIN; /* not known: a page in use is never reported as old */
	each(&t, fn);
	vd_gate_leave_event(t.mem);
	return t.young;
}

static bool clear_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	return scan(listener, range, clear_young_one);
}

static bool test_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	return scan(listener, range, test_young_one);
}

static void release(struct vd_listener *listener)
{
	struct vd_mem *mem = mem_of(listener);

	/* Release pairs with the acquire in vd_mem_released(). */
	atomic_store_explicit(&mem->released, true, memory_order_release);
	vd_notifier_release(&mem->notifier);
	/* Copies that began before have left; new ones see the flag. */
	mem->env->synchronize(mem->env);
	/* Stays registered: an event that has started on another thread must have its end. */
}

const struct vd_listener_ops vd_mem_host_listener_ops = {
	.invalidate_start = invalidate_start,
	.invalidate_end = invalidate_end,
	.clear_young = clear_young,
	.test_young = test_young,
	.release = release,
};

void vd_mem_run_start(struct vd_mem *mem, const struct vd_invalidation *event)
{
	while (vd_notifier_start(&mem->notifier, event)) {
		if (mem->env->log)
			mem->env->log(mem->env, VD_LOG_WARNING,
				      "a listener refused an invalidation that may block; again");
	}
}
