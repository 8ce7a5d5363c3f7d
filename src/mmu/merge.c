/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blocks in place of tables of smaller leaves, where the guest space would give a block to a fault
 * today: after a dirty log has ended, or memory has come together again. What is to be mapped is
 * asked of the space, as for a fault and by the same protocol, not read from the leaves: some of
 * them may be absent, or lack permissions that the log has cost them.
 */
#include "mmu/state.h"

/* The next table from @visitor.first on to which an entry of @level leads, all inside the range. */
struct candidate {
	struct vd_mmu_visitor visitor;
	unsigned level;
	uint64_t gpa;
};

static int candidate_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
			   const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct candidate *candidate = (struct candidate *)visitor;

	(void)moment;
	if (place->table->level > candidate->level)
		return 0;
	if (!vd_mmu_place_covered(pt, visitor, place))
		return VD_MMU_SKIP;
	candidate->gpa = place->gpa;
	return 1;
}

static bool candidate_next(struct vd_pgtable *pt, struct candidate *candidate)
{
	int ret;

	vd_pgtable_lock(pt);
	ret = vd_mmu_visit(pt, &candidate->visitor);
	vd_pgtable_unlock(pt);
	return ret == 1;
}

/* What walkers noted in the leaves, which are taken out: nobody shall note more in them. */
static void gather(const struct vd_mmu_format *format, struct vd_mmu_table *table,
		   struct vd_mmu_attributes *together)
{
	struct vd_mmu_attributes attributes;

	for (unsigned i = 0; i < table->count; i++) {
		struct vd_mmu_table *child = vd_mmu_table_child(table, i);
		uint64_t entry;

		if (child) {
			gather(format, child, together);
			continue;
		}
		entry = atomic_exchange_explicit(&table->entries[i], 0, memory_order_acq_rel);
		if (format->kind(entry, table->level) != VD_MMU_LEAF)
			continue;
		format->attributes(entry, table->level, &attributes);
		together->accessed |= attributes.accessed;
		together->dirty |= attributes.dirty;
	}
}

/* Alone. Absent, flush, then the block, as in split.c. Return: whether there was a table. */
static bool replace(struct vd_mmu *mmu, struct vd_mmu_target *target, unsigned level,
		    struct vd_mmu_detached *detached)
{
	const struct vd_mmu_format *format = mmu->pt.format;
	struct vd_mmu_place place = {.table = mmu->pt.root, .gpa = target->gpa};
	struct vd_mmu_table *child;
	uint64_t reach = ((uint64_t)1 << format->output_bits) - 1;

	for (;;) {
		place.index = vd_mmu_format_index(format, place.table->level, target->gpa);
		child = vd_mmu_table_child(place.table, place.index);
		if (!child)
			return false;
		if (place.table->level == level)
			break;
		place.table = child;
	}
	vd_mmu_subtree_clear(&mmu->pt, &place, detached);
	vd_mmu_flush(&mmu->pt, place.gpa, vd_mmu_format_size(format, level));
	target->attributes.accessed = target->attributes.dirty = false;
	gather(format, child, &target->attributes);
	vd_mmu_leaf_set(&mmu->pt, &place,
			format->leaf_entry(target->address & reach, &target->attributes, level),
			target->attributes.device);
	return true;
}

static bool merge_one(struct vd_mmu *mmu, uint64_t gpa, unsigned level)
{
	uint64_t seq = vd_notifier_begin(mmu->notifier);
	struct vd_mmu_detached detached = {NULL};
	struct vd_mmu_target target;
	bool merged = false;

	/* For reading: a block that is there for a store only is made by one. */
	if (vd_mmu_resolve(mmu, gpa, VD_READ, &target) || target.level < level)
		return false;
	vd_pgtable_lock(&mmu->pt);
	/* What is changing now may be merged another time. */
	if (!vd_mmu_overtaken(mmu, seq, gpa, vd_mmu_format_size(mmu->pt.format, level)))
		merged = replace(mmu, &target, level, &detached);
	vd_pgtable_unlock(&mmu->pt);
	vd_mmu_detached_retire(&detached);
	return merged;
}

uint64_t vd_mmu_merge(struct vd_mmu *mmu, vd_gpa start, uint64_t length)
{
	struct vd_mmu_change range = vd_mmu_change_of(start.value, length);
	uint64_t merged = 0;

	if (!length)
		return 0;
	/* The largest first: the tables in them are then gone. */
	for (unsigned level = mmu->pt.format->block_level; level; level--) {
		struct candidate candidate = {
			.visitor = {.first = range.visitor.first, .last = range.visitor.last,
				    .when = VD_MMU_BEFORE_TABLE, .visit = candidate_visit},
			.level = level,
		};

		while (candidate_next(&mmu->pt, &candidate)) {
			merged += merge_one(mmu, candidate.gpa, level);
			candidate.visitor.first =
				candidate.gpa + vd_mmu_format_size(mmu->pt.format, level);
			candidate.visitor.last = range.visitor.last;
		}
	}
	return merged;
}
