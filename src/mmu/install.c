/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The last step of a fault. Shared with other faults, it only ever fills in what is absent, or adds
 * permissions, by compare-and-swap. What takes something away first is done alone: a leaf that is
 * not the one wanted, a group that must be broken, an entry that somebody else has written over.
 */
#include "mmu/state.h"

/* Address of the target's block of a level, as the format can hold it. */
static uint64_t target_block(const struct vd_mmu *mmu, const struct vd_mmu_target *target,
			     unsigned level)
{
	uint64_t reach = ((uint64_t)1 << mmu->pt.format->output_bits) - 1;

	return target->address & reach & ~(vd_mmu_format_size(mmu->pt.format, level) - 1);
}

static uint64_t target_entry(const struct vd_mmu *mmu, const struct vd_mmu_target *target,
			     const struct vd_mmu_attributes *attributes, unsigned level)
{
	return mmu->pt.format->leaf_entry(target_block(mmu, target, level), attributes, level);
}

/* Whether the leaf, as it stands, is the target's page with nothing but permissions missing. */
static bool leaf_matches(const struct vd_mmu *mmu, const struct vd_mmu_target *target,
			 const struct vd_mmu_place *place, struct vd_mmu_attributes *old)
{
	const struct vd_mmu_format *format = mmu->pt.format;
	unsigned level = place->table->level;

	/* A marked leaf changes only once its group is broken. */
	if (format->kind(place->entry, level) != VD_MMU_LEAF ||
	    vd_mmu_is_marked(&mmu->pt, place->entry, level) ||
	    format->address(place->entry, level) != target_block(mmu, target, level))
		return false;
	format->attributes(place->entry, level, old);
	return old->type == target->attributes.type && old->device == target->attributes.device;
}

/*
 * The leaf that stands there, if it maps the target's page, already allows the access or gets the
 * missing permissions, for which nobody need flush. So do accessed and dirty, for which a walker
 * that does not set them has come. Return: an outcome, or 0 when it has to go.
 */
static int leaf_widen(struct vd_mmu *mmu, const struct vd_mmu_target *target,
		      const struct vd_mmu_place *place)
{
	const struct vd_mmu_format *format = mmu->pt.format;
	unsigned level = place->table->level;
	vd_mmu_entry *slot = &place->table->entries[place->index];
	struct vd_mmu_place now = *place;
	struct vd_mmu_attributes old, wide;
	uint64_t better;

	while (leaf_matches(mmu, target, &now, &old)) {
		if (!(target->wanted & ~old.access)) {
			better = format->used(now.entry, target->wanted, level);
			if (better == now.entry)
				return VD_MMU_SPURIOUS;
		} else {
			if (level > target->level || old.access & ~target->attributes.access)
				break;
			wide = target->attributes;
			wide.dirty |= old.dirty;
			better = target_entry(mmu, target, &wide, level);
		}
		/* Lost against a walker or another fault: look again. */
		if (atomic_compare_exchange_strong_explicit(slot, &now.entry, better,
							    memory_order_acq_rel,
							    memory_order_relaxed))
			return VD_MMU_WIDENED;
	}
	return 0;
}

/* ---- shared --------------------------------------------------------------------------------- */

/*
 * The entry says who won, and is followed by @children: who reads the one and not yet the other
 * waits for the winner by taking the lock alone. Return: 0 look again; VD_MMU_SHORT.
 */
static int shared_table(struct vd_mmu *mmu, struct vd_mmu_spares *spares,
			struct vd_mmu_stripe *stripe, struct vd_mmu_table *table, unsigned index)
{
	struct vd_mmu_table *child = spares->first[table->level - 1];
	uint64_t absent = 0, link;

	if (!child)
		return VD_MMU_SHORT;
	link = mmu->pt.format->table_entry(vd_mmu_table_address(&mmu->pt, child), table->level);
	if (!atomic_compare_exchange_strong_explicit(&table->entries[index], &absent, link,
						     memory_order_acq_rel, memory_order_relaxed))
		return 0;
	vd_mmu_spares_take(spares, table->level - 1);
	/* Pairs with the acquire in vd_mmu_table_child(). */
	atomic_store_explicit(&table->children[index], child, memory_order_release);
	atomic_fetch_add_explicit(&table->counts, VD_MMU_COUNT_TABLE, memory_order_relaxed);
	vd_mmu_count_shared(&stripe->table_pages, 1);
	return 0;
}

/* Return: VD_MMU_INSTALLED; 0 look again. */
static int shared_leaf(struct vd_mmu *mmu, const struct vd_mmu_target *target,
		       struct vd_mmu_stripe *stripe, struct vd_mmu_table *table, unsigned index)
{
	bool device = target->attributes.device;
	uint64_t absent = 0;

	if (!atomic_compare_exchange_strong_explicit(
		    &table->entries[index], &absent,
		    target_entry(mmu, target, &target->attributes, table->level),
		    memory_order_acq_rel, memory_order_relaxed))
		return 0;
	atomic_fetch_add_explicit(&table->counts, device ? VD_MMU_COUNT_DEVICE : VD_MMU_COUNT_LEAF,
				  memory_order_relaxed);
	vd_mmu_count_shared(&stripe->leaves[table->level], 1);
	if (device)
		vd_mmu_count_shared(&stripe->device_bytes,
				    vd_mmu_format_size(mmu->pt.format, table->level));
	return VD_MMU_INSTALLED;
}

int vd_mmu_install_shared(struct vd_mmu *mmu, const struct vd_mmu_target *target,
			  struct vd_mmu_spares *spares, struct vd_mmu_stripe *stripe)
{
	const struct vd_mmu_format *format = mmu->pt.format;
	struct vd_mmu_place place = {.table = mmu->pt.root, .gpa = target->gpa};
	int ret = 0;

	while (!ret) {
		struct vd_mmu_table *table = place.table, *child;
		unsigned level = table->level;

		place.index = vd_mmu_format_index(format, level, target->gpa);
		child = vd_mmu_table_child(table, place.index);
		/* Acquire pairs with the release of who put it there. */
		place.entry = atomic_load_explicit(&table->entries[place.index],
						   memory_order_acquire);
		if (child) {
			if (place.entry !=
			    format->table_entry(vd_mmu_table_address(&mmu->pt, child), level))
				return VD_MMU_ALONE;
			place.table = child;
		} else if (place.entry) {
			ret = leaf_widen(mmu, target, &place);
			if (!ret)
				return VD_MMU_ALONE;
		} else if (level > target->level) {
			ret = shared_table(mmu, spares, stripe, table, place.index);
		} else {
			/* Also where smaller leaves' table stands above the target's level. */
			ret = shared_leaf(mmu, target, stripe, table, place.index);
		}
	}
	return ret;
}

/* ---- alone ---------------------------------------------------------------------------------- */

struct install_visitor {
	struct vd_mmu_visitor visitor;
	struct vd_mmu *mmu;
	const struct vd_mmu_target *target;
	struct vd_mmu_spares *spares;
};

static int install_table(struct vd_mmu *mmu, struct install_visitor *fault,
			 const struct vd_mmu_place *place)
{
	unsigned below = place->table->level - 1;
	struct vd_mmu_table *child = vd_mmu_spares_take(fault->spares, below);

	if (!child)
		return VD_MMU_SHORT;
	vd_mmu_table_link(place->table, place->index, child,
			  mmu->pt.format->table_entry(vd_mmu_table_address(&mmu->pt, child),
						      place->table->level));
	vd_mmu_count(&vd_mmu_counters(&mmu->pt)->table_pages, 1);
	return 0;
}

static int install_leaf(struct vd_mmu *mmu, const struct vd_mmu_target *target,
			const struct vd_mmu_place *place)
{
	uint64_t entry = target_entry(mmu, target, &target->attributes, place->table->level);

	vd_mmu_leaf_set(&mmu->pt, place, entry, target->attributes.device);
	return VD_MMU_INSTALLED;
}

/*
 * A leaf stands in the way. If it cannot be widened it goes: zap, flush, and only then map. Return:
 * an outcome, or 0 when the entry is absent now.
 */
static int alone_at_leaf(struct vd_mmu *mmu, const struct vd_mmu_target *target,
			 const struct vd_mmu_place *place)
{
	unsigned level = place->table->level;
	int ret = leaf_widen(mmu, target, place);

	if (ret)
		return ret;
	if (vd_mmu_is_marked(&mmu->pt, place->entry, level))
		vd_mmu_group_break(&mmu->pt, place);
	vd_mmu_leaf_clear(&mmu->pt, place);
	vd_mmu_flush(&mmu->pt, place->gpa, vd_mmu_format_size(mmu->pt.format, level));
	return 0;
}

/*
 * A table of ours to which no entry leads (any more) was cut off by somebody else: tie it again.
 * What stands there instead goes first: after the flush no walker may take it up again.
 */
static void repair_table(struct vd_mmu *mmu, const struct vd_mmu_place *place)
{
	const struct vd_mmu_table *child = vd_mmu_table_child(place->table, place->index);
	uint64_t entry = mmu->pt.format->table_entry(vd_mmu_table_address(&mmu->pt, child),
						     place->table->level);

	if (place->entry == entry)
		return;
	atomic_store_explicit(&place->table->entries[place->index], 0, memory_order_relaxed);
	vd_mmu_flush(&mmu->pt, place->gpa, vd_mmu_place_size(&mmu->pt, place));
	atomic_store_explicit(&place->table->entries[place->index], entry, memory_order_release);
}

static int install_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		       const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct install_visitor *fault = (struct install_visitor *)visitor;
	struct vd_mmu *mmu = fault->mmu;
	int ret = 0;

	(void)pt;
	if (moment == VD_MMU_BEFORE_TABLE) {
		repair_table(mmu, place);
		return 0;
	}
	if (moment == VD_MMU_AT_LEAF)
		ret = alone_at_leaf(mmu, fault->target, place);
	if (ret)
		return ret;
	/* Where a table of smaller leaves already stands, the walk is below the target's level. */
	if (place->table->level > fault->target->level)
		return install_table(mmu, fault, place);
	return install_leaf(mmu, fault->target, place);
}

int vd_mmu_install_alone(struct vd_mmu *mmu, const struct vd_mmu_target *target,
			 struct vd_mmu_spares *spares)
{
	struct install_visitor fault = {
		.visitor = {.first = target->gpa,
			    .last = target->gpa,
			    .when = VD_MMU_AT_ABSENT | VD_MMU_AT_LEAF | VD_MMU_BEFORE_TABLE,
			    .visit = install_visit},
		.mmu = mmu,
		.target = target,
		.spares = spares,
	};

	return vd_mmu_visit(&mmu->pt, &fault.visitor);
}

