/* SPDX-License-Identifier: BSD-2-Clause */
/* The listener: what is done when the guest space announces a change. */
#include "mmu/state.h"

static struct vd_mmu *mmu_of(struct vd_listener *listener)
{
	/* @listener is the first member. */
	return (struct vd_mmu *)listener;
}

/* Never -EAGAIN: the lock is held for no longer than a zap or a flush takes. */
static int mmu_invalidate_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct vd_mmu *mmu = mmu_of(listener);

	if (event->reason == VD_INVALIDATE_WRITE_PROTECT)
		vd_mmu_write_protect(mmu, (vd_gpa){event->start}, event->length);
	else
		vd_mmu_zap(mmu, (vd_gpa){event->start}, event->length);
	return 0;
}

static bool mmu_clear_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	return vd_mmu_clear_young(mmu_of(listener), (vd_gpa){range->start}, range->length);
}

static bool mmu_test_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	return vd_mmu_test_young(mmu_of(listener), (vd_gpa){range->start}, range->length);
}

static void mmu_release(struct vd_listener *listener)
{
	struct vd_mmu *mmu = mmu_of(listener);
	struct vd_mmu_change change = vd_mmu_change_of(0, UINT64_MAX);

	vd_pgtable_lock(&mmu->pt);
	/* Pairs with the acquire in mmu_is_dead(). */
	atomic_store_explicit(&mmu->dead, true, memory_order_release);
	vd_mmu_zap_locked(&mmu->pt, &change);
	vd_pgtable_unlock(&mmu->pt);
	vd_mmu_detached_retire(&change.detached);
}

const struct vd_listener_ops vd_mmu_listener_ops = {
	.invalidate_start = mmu_invalidate_start,
	.clear_young = mmu_clear_young,
	.test_young = mmu_test_young,
	.release = mmu_release,
};
