/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What takes away: zap, write protection, ageing; and the listener that calls them when the guest
 * space announces a change. Each flushes before it drops the lock (B7): an invalidation that
 * comes next and finds nothing to zap may then rely on no TLB holding what was there.
 */
#include "mmu/state.h"

/*
 * @low, @high: what was changed, whole blocks, the end exclusive; nothing while @low > @high. The
 *	end does
 * not wrap: no format has 64 input bits. A table that goes counts with all that it could map, as
 * hardware may have cached the way to it.
 */
struct change {
	struct vd_mmu_visitor visitor;
	struct vd_mmu_detached detached;
	uint64_t low, high;
	bool clear, young;
};

static struct change change_of(vd_gpa start, uint64_t length)
{
	return (struct change){
		.visitor = {.first = start.value,
			    /* A range that wraps ends at the end. */
			    .last = length - 1 > UINT64_MAX - start.value
					    ? UINT64_MAX
					    : start.value + (length - 1)},
		.low = UINT64_MAX,
	};
}

static void change_note(struct vd_mmu *mmu, struct change *change, const struct vd_mmu_place *place)
{
	uint64_t end = place->gpa + vd_mmu_place_size(mmu, place);

	if (place->gpa < change->low)
		change->low = place->gpa;
	if (end > change->high)
		change->high = end;
}

static void change_flush(struct vd_mmu *mmu, const struct change *change)
{
	if (change->low < change->high)
		vd_mmu_flush(mmu, change->low, change->high - change->low);
}

/* ---- zap ------------------------------------------------------------------------------------ */

static bool zap_covers(const struct vd_mmu *mmu, const struct vd_mmu_visitor *visitor,
		       const struct vd_mmu_place *place)
{
	uint64_t last = place->gpa + (vd_mmu_place_size(mmu, place) - 1);

	return place->gpa >= visitor->first && last <= visitor->last;
}

/* Leaves go one by one; a table goes as a whole if the range covers it, or once it is empty. */
static int zap_visit(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor,
		     const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct change *change = (struct change *)visitor;

	if (moment == VD_MMU_AT_LEAF) {
		vd_mmu_leaf_clear(mmu, place);
	} else if (moment == VD_MMU_BEFORE_TABLE) {
		if (!zap_covers(mmu, visitor, place))
			return 0;
		vd_mmu_subtree_clear(mmu, place, &change->detached);
	} else {
		if (vd_mmu_table_child(place->table, place->index)->used)
			return 0;
		vd_mmu_subtree_clear(mmu, place, &change->detached);
	}
	change_note(mmu, change, place);
	return moment == VD_MMU_BEFORE_TABLE ? VD_MMU_SKIP : 0;
}

/*
 * Under the lock. The flush follows the detaching and comes before the tables are retired:
 * guarded walks have no other protection (vd_mmu_walk_guarded()).
 */
static void zap_locked(struct vd_mmu *mmu, struct change *change)
{
	change->visitor.when = VD_MMU_AT_LEAF | VD_MMU_BEFORE_TABLE | VD_MMU_AFTER_TABLE;
	change->visitor.visit = zap_visit;
	vd_mmu_visit(mmu, &change->visitor);
	change_flush(mmu, change);
}

void vd_mmu_zap(struct vd_mmu *mmu, vd_gpa start, uint64_t length)
{
	struct change change = change_of(start, length);
	uint64_t zaps;

	if (!length)
		return;
	mmu->env->lock(mmu->env, &mmu->lock);
	zaps = atomic_load_explicit(&mmu->counters.zaps, memory_order_relaxed);
	zap_locked(mmu, &change);
	zaps = atomic_load_explicit(&mmu->counters.zaps, memory_order_relaxed) - zaps;
	mmu->env->unlock(mmu->env, &mmu->lock);
	vd_mmu_detached_retire(&change.detached);
	vd_trace(mmu->env, VD_TRACE_ZAP, start.value, length, zaps);
}

/* ---- write protection ----------------------------------------------------------------------- */

/* By compare-and-swap, as walkers set accessed and dirty meanwhile. Return: whether it changed. */
static bool entry_rewrite(const struct vd_mmu_place *place,
			  uint64_t (*change)(uint64_t entry, unsigned level))
{
	vd_mmu_entry *slot = &place->table->entries[place->index];
	uint64_t old = place->entry, new;

	do {
		new = change(old, place->table->level);
		if (new == old)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(slot, &old, new, memory_order_acq_rel,
							memory_order_relaxed));
	return true;
}

/*
 * Blocks are write-protected as they are: reads go on at no cost, and the first store replaces the
 * block by a single page (fault.c), which is what a dirty log needs.
 */
static int protect_visit(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor,
			 const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	(void)moment;
	if (entry_rewrite(place, mmu->format->write_protected))
		change_note(mmu, (struct change *)visitor, place);
	return 0;
}

void vd_mmu_write_protect(struct vd_mmu *mmu, vd_gpa start, uint64_t length)
{
	struct change change = change_of(start, length);

	if (!length)
		return;
	change.visitor.when = VD_MMU_AT_LEAF;
	change.visitor.visit = protect_visit;
	mmu->env->lock(mmu->env, &mmu->lock);
	vd_mmu_visit(mmu, &change.visitor);
	change_flush(mmu, &change);
	mmu->env->unlock(mmu->env, &mmu->lock);
}

/* ---- ageing --------------------------------------------------------------------------------- */

static int young_visit(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor,
		       const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct change *change = (struct change *)visitor;
	struct vd_mmu_attributes attributes;

	(void)moment;
	mmu->format->attributes(place->entry, place->table->level, &attributes);
	if (!attributes.accessed)
		return 0;
	change->young = true;
	if (!change->clear)
		return 1;
	if (entry_rewrite(place, mmu->format->aged))
		change_note(mmu, change, place);
	return 0;
}

static bool young(struct vd_mmu *mmu, vd_gpa start, uint64_t length, bool clear)
{
	struct change change = change_of(start, length);

	if (!length)
		return false;
	change.visitor.when = VD_MMU_AT_LEAF;
	change.visitor.visit = young_visit;
	change.clear = clear;
	mmu->env->lock(mmu->env, &mmu->lock);
	vd_mmu_visit(mmu, &change.visitor);
	/* Also for a cleared accessed bit: a use through a TLB would not set it again. */
	change_flush(mmu, &change);
	mmu->env->unlock(mmu->env, &mmu->lock);
	return change.young;
}

bool vd_mmu_clear_young(struct vd_mmu *mmu, vd_gpa start, uint64_t length)
{
	return young(mmu, start, length, true);
}

bool vd_mmu_test_young(struct vd_mmu *mmu, vd_gpa start, uint64_t length)
{
	return young(mmu, start, length, false);
}

/* ---- the listener --------------------------------------------------------------------------- */

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
	struct change change = change_of((vd_gpa){0}, UINT64_MAX);

	mmu->env->lock(mmu->env, &mmu->lock);
	/* Pairs with the acquire in mmu_is_dead(). */
	atomic_store_explicit(&mmu->dead, true, memory_order_release);
	zap_locked(mmu, &change);
	mmu->env->unlock(mmu->env, &mmu->lock);
	vd_mmu_detached_retire(&change.detached);
}

const struct vd_listener_ops vd_mmu_listener_ops = {
	.invalidate_start = mmu_invalidate_start,
	.clear_young = mmu_clear_young,
	.test_young = mmu_test_young,
	.release = mmu_release,
};
