/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two walkers. The lock-free one stands for hardware: it reads entries only, and changes only
 * accessed and dirty bits (format.h). The locked one goes depth-first over a range, and every
 * operation on tables is a visitor of it.
 */
#include "mmu/state.h"

static int visit_table(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor,
		       struct vd_mmu_table *table, uint64_t base);

static int visit_at(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor, struct vd_mmu_place *place,
		    enum vd_mmu_moment moment)
{
	if (!(visitor->when & moment))
		return 0;
	/* Relaxed: all but accessed and dirty bits changes under the lock that is held. */
	place->entry = atomic_load_explicit(&place->table->entries[place->index],
					    memory_order_relaxed);
	return visitor->visit(mmu, visitor, place, moment);
}

static int visit_entry(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor,
		       struct vd_mmu_place *place)
{
	struct vd_mmu_table *table = place->table;
	int ret;

	if (!vd_mmu_table_child(table, place->index)) {
		uint64_t entry = atomic_load_explicit(&table->entries[place->index],
						      memory_order_relaxed);

		ret = visit_at(mmu, visitor, place, entry ? VD_MMU_AT_LEAF : VD_MMU_AT_ABSENT);
		if (ret || !vd_mmu_table_child(table, place->index))
			return ret;
	} else {
		ret = visit_at(mmu, visitor, place, VD_MMU_BEFORE_TABLE);
		if (ret)
			return ret == VD_MMU_SKIP ? 0 : ret;
	}
	ret = visit_table(mmu, visitor, vd_mmu_table_child(table, place->index), place->gpa);
	return ret ? ret : visit_at(mmu, visitor, place, VD_MMU_AFTER_TABLE);
}

static int visit_table(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor,
		       struct vd_mmu_table *table, uint64_t base)
{
	unsigned shift = mmu->format->shift[table->level];
	uint64_t reach = ((uint64_t)table->count << shift) - 1;
	uint64_t first = visitor->first > base ? visitor->first - base : 0;
	uint64_t last = visitor->last - base < reach ? visitor->last - base : reach;
	int ret = 0;

	for (uint64_t i = first >> shift; i <= last >> shift && !ret; i++) {
		struct vd_mmu_place place = {table, (unsigned)i, base + (i << shift), 0};

		ret = visit_entry(mmu, visitor, &place);
	}
	return ret;
}

int vd_mmu_visit(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor)
{
	uint64_t reach = ((uint64_t)1 << mmu->format->input_bits) - 1;

	if (visitor->first > reach || visitor->first > visitor->last)
		return 0;
	if (visitor->last > reach)
		visitor->last = reach;
	return visit_table(mmu, visitor, mmu->root, 0);
}

int vd_mmu_walk(struct vd_mmu *mmu, vd_gpa gpa, unsigned access, struct vd_mmu_leaf *leaf)
{
	const struct vd_env *env = mmu->env;
	int ret;

	env->read_enter(env);
	ret = mmu->format->walk(&mmu->top, gpa.value, access, leaf);
	env->read_leave(env);
	return ret;
}

int vd_mmu_walk_guarded(struct vd_mmu *mmu, vd_gpa gpa, unsigned access, struct vd_mmu_leaf *leaf)
{
	return mmu->format->walk(&mmu->top, gpa.value, access, leaf);
}

unsigned vd_mmu_path_end(const struct vd_mmu *mmu, uint64_t gpa)
{
	const struct vd_mmu_format *format = mmu->format;
	vd_mmu_entry *table = mmu->top.entries;
	unsigned level = format->levels - 1;
	uint64_t entry;

	mmu->env->read_enter(mmu->env);
	for (;; level--) {
		unsigned index = vd_mmu_format_index(format, level, gpa);

		/* Pairs with the release in vd_mmu_table_link(), as in vd_mmu_format_walk(). */
		entry = atomic_load_explicit(&table[index], memory_order_acquire);
		if (format->kind(entry, level) != VD_MMU_TABLE)
			break;
		table = vd_mmu_format_table(format, mmu->top.window_base, entry, level);
	}
	mmu->env->read_leave(mmu->env);
	return level;
}
