/* SPDX-License-Identifier: BSD-2-Clause */
/* The space as a mirror of the memory behind it. */
#include "iommu/space.h"

static struct vd_dma_space *space_of(struct vd_listener *listener)
{
	return (struct vd_dma_space *)((char *)listener - offsetof(struct vd_dma_space, listener));
}

static int write_protect(struct vd_dma_space *space, const struct dma_change *change)
{
	if (!space->table)
		return 0;
	dma_lock(space);
	dma_assigned_write_protect(space, change);
	dma_unlock(space);
	return 0;
}

static int invalidate_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct vd_dma_space *space = space_of(listener);
	struct dma_change change = {
		.object = space->mem ? NULL : event->object,
		.start = event->start,
		.last = event->start + (event->length - 1),
		.blockable = event->blockable,
	};
	bool guards;
	int r;

	/*
	 * Writes by DMA are marked after the store, at the latest by unpin: only entries of I/O
	 * page tables are write-protected, as somebody may watch the pages from now on.
	 */
	if (event->reason == VD_INVALIDATE_WRITE_PROTECT)
		return write_protect(space, &change);
	/* Who only reads does not mind. */
	if (event->reason == VD_INVALIDATE_PROTECT)
		change.access = VD_WRITE;
	dma_lock(space);
	/* The range is active: nothing of it is looked up before the end, by pins neither. */
	if (space->table)
		dma_assigned_invalidate(space, &change);
	r = dma_pins_drain(space, &change);
	guards = space->maps.count != 0;
	if (guards && !space->table)
		iotlb_flush_all(&space->iotlb);
	dma_unlock(space);
	/* Guards that began before have left. The guest's memory map sees to that itself. */
	if (!r && guards)
		space->env->synchronize(space->env);
	return r;
}

static void release(struct vd_listener *listener)
{
	struct vd_dma_space *space = space_of(listener);
	struct dma_change all = {.last = UINT64_MAX, .blockable = true};

	dma_lock(space);
	/* Release pairs with the acquire in dma_resolve(). */
	atomic_store_explicit(&space->closed, true, memory_order_release);
	dma_forget(space);
	if (dma_pins_drain(space, &all) && space->env->log)
		space->env->log(space->env, VD_LOG_ERROR,
				"DMA: memory goes away though a device still holds some of it");
	space->released = true;
	dma_discards_wait(space, 0, UINT64_MAX);
	while (space->chain_sleepers)
		dma_sleep(space, 0);
	dma_unlock(space);
	/* Whoever releases the memory waits for read sections itself. */
	vd_notifier_unregister(space->chain, listener);
}

/*
 * Nothing notes when a pinned page was last used: it is in use as long as it is pinned. Of others
 * only I/O page tables know.
 */
static bool young(struct vd_listener *listener, const struct vd_invalidation *range, bool clear)
{
	struct vd_dma_space *space = space_of(listener);
	struct dma_change pinned = {
		.object = space->mem ? NULL : range->object,
		.start = range->start,
		.last = range->start + (range->length - 1),
	};
	bool any;

	dma_lock(space);
	any = dma_pins_any(space, &pinned);
	if (space->table)
		any |= dma_assigned_young(space, &pinned, clear);
	dma_unlock(space);
	return any;
}

static bool clear_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	return young(listener, range, true);
}

static bool test_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	return young(listener, range, false);
}

const struct vd_listener_ops dma_listener_ops = {
	.invalidate_start = invalidate_start,
	.clear_young = clear_young,
	.test_young = test_young,
	.release = release,
};
