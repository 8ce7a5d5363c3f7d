/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two walkers. The lock-free one stands for hardware: it reads entries only, and changes only
 * accessed and dirty bits (format.h). The locked one goes depth-first over a range, and every
 * operation on tables is a visitor of it (map.c alone has its own, for speed).
 */
#include "mmu/pgtable.h"

static int visit_table(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		       struct vd_mmu_table *table, uint64_t base);

static int visit_at(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		    struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	if (!(visitor->when & moment))
		return 0;
	/* Relaxed: all but accessed and dirty bits changes under the lock that is held. */
	place->entry = atomic_load_explicit(&place->table->entries[place->index],
					    memory_order_relaxed);
	return visitor->visit(pt, visitor, place, moment);
}

static int visit_entry(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		       struct vd_mmu_place *place)
{
	struct vd_mmu_table *table = place->table;
	int ret;

	if (!vd_mmu_table_child(table, place->index)) {
		uint64_t entry = atomic_load_explicit(&table->entries[place->index],
						      memory_order_relaxed);

		ret = visit_at(pt, visitor, place, entry ? VD_MMU_AT_LEAF : VD_MMU_AT_ABSENT);
		if (ret == VD_MMU_SKIP)
			return 0;
		if (ret || !vd_mmu_table_child(table, place->index))
			return ret;
	} else {
		ret = visit_at(pt, visitor, place, VD_MMU_BEFORE_TABLE);
		if (ret)
			return ret == VD_MMU_SKIP ? 0 : ret;
	}
	ret = visit_table(pt, visitor, vd_mmu_table_child(table, place->index), place->gpa);
	return ret ? ret : visit_at(pt, visitor, place, VD_MMU_AFTER_TABLE);
}

static int visit_table(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		       struct vd_mmu_table *table, uint64_t base)
{
	unsigned shift = pt->format->shift[table->level];
	uint64_t reach = ((uint64_t)table->count << shift) - 1;
	uint64_t first = visitor->first > base ? visitor->first - base : 0;
	uint64_t last = visitor->last - base < reach ? visitor->last - base : reach;
	int ret = 0;

	for (uint64_t i = first >> shift; i <= last >> shift && !ret; i++) {
		struct vd_mmu_place place = {table, (unsigned)i, base + (i << shift), 0};

		ret = visit_entry(pt, visitor, &place);
	}
	return ret;
}

int vd_mmu_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor)
{
	uint64_t reach = ((uint64_t)1 << pt->format->input_bits) - 1;

	if (visitor->first > reach || visitor->first > visitor->last)
		return 0;
	if (visitor->last > reach)
		visitor->last = reach;
	return visit_table(pt, visitor, pt->root, 0);
}

struct vd_mmu_place vd_mmu_place_find(const struct vd_pgtable *pt, uint64_t input)
{
	struct vd_mmu_table *table = pt->root;

	for (;;) {
		unsigned index = vd_mmu_format_index(pt->format, table->level, input);
		struct vd_mmu_table *child = vd_mmu_table_child(table, index);

		if (!child)
			return (struct vd_mmu_place){
				.table = table,
				.index = index,
				.gpa = input & ~(vd_mmu_format_size(pt->format, table->level) - 1),
				.entry = atomic_load_explicit(&table->entries[index],
							      memory_order_relaxed),
			};
		table = child;
	}
}
