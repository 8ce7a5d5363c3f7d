/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What takes leaves away. Each operation flushes before it drops the lock (B7): an invalidation
 * that comes next and finds nothing to zap may then rely on no TLB holding what was there.
 */
#include "mmu/pgtable.h"

struct vd_mmu_change vd_mmu_change_of(uint64_t start, uint64_t length)
{
	return (struct vd_mmu_change){
		.visitor = {.first = start,
			    .last = length - 1 > UINT64_MAX - start ? UINT64_MAX
								    : start + (length - 1)},
		.low = UINT64_MAX,
	};
}

void vd_mmu_change_note(struct vd_mmu_change *change, uint64_t start, uint64_t length)
{
	if (start < change->low)
		change->low = start;
	if (start + length > change->high)
		change->high = start + length;
}

void vd_mmu_change_flush(struct vd_pgtable *pt, const struct vd_mmu_change *change)
{
	if (change->low < change->high)
		vd_mmu_flush(pt, change->low, change->high - change->low);
}

/* A group goes as a whole. What the flush is of is noted. */
static void zap_leaf(struct vd_pgtable *pt, struct vd_mmu_change *change,
		     const struct vd_mmu_place *place)
{
	uint64_t size = vd_mmu_place_size(pt, place);
	struct vd_mmu_place at = *place;
	unsigned count = 1;

	if (vd_mmu_is_marked(pt, place->entry, place->table->level))
		at = vd_mmu_group_first(pt, place, &count);
	vd_mmu_change_note(change, at.gpa, size * count);
	for (; count; count--, at.index++) {
		if (atomic_load_explicit(&at.table->entries[at.index], memory_order_relaxed) &&
		    vd_mmu_leaf_clear(pt, &at))
			change->bytes += size;
	}
}

/* Leaves go one by one; a table goes as a whole if the range covers it, or once it is empty. */
static int zap_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		     const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct vd_mmu_change *change = (struct vd_mmu_change *)visitor;

	if (moment == VD_MMU_AT_LEAF) {
		zap_leaf(pt, change, place);
		return 0;
	}
	if (moment == VD_MMU_BEFORE_TABLE && !vd_mmu_place_covered(pt, visitor, place))
		return 0;
	if (moment == VD_MMU_AFTER_TABLE &&
	    vd_mmu_table_used(vd_mmu_table_child(place->table, place->index)))
		return 0;
	change->bytes += vd_mmu_subtree_clear(pt, place, &change->detached);
	vd_mmu_change_note(change, place->gpa, vd_mmu_place_size(pt, place));
	return moment == VD_MMU_BEFORE_TABLE ? VD_MMU_SKIP : 0;
}

/*
 * The flush follows the detaching and comes before the tables are retired: guarded walks have no
 * other protection (vd_pgtable_walk_guarded()).
 */
void vd_mmu_zap_locked(struct vd_pgtable *pt, struct vd_mmu_change *change)
{
	change->visitor.when = VD_MMU_AT_LEAF | VD_MMU_BEFORE_TABLE | VD_MMU_AFTER_TABLE;
	change->visitor.visit = zap_visit;
	vd_mmu_visit(pt, &change->visitor);
	vd_mmu_change_flush(pt, change);
}

uint64_t vd_mmu_zap_range(struct vd_pgtable *pt, uint64_t start, uint64_t length)
{
	struct vd_mmu_change change = vd_mmu_change_of(start, length);
	uint64_t zaps;

	vd_pgtable_lock(pt);
	zaps = atomic_load_explicit(&pt->zaps, memory_order_relaxed);
	vd_mmu_zap_locked(pt, &change);
	zaps = atomic_load_explicit(&pt->zaps, memory_order_relaxed) - zaps;
	vd_pgtable_unlock(pt);
	vd_mmu_detached_retire(&change.detached);
	return zaps;
}

void vd_pgtable_zap(struct vd_pgtable *table, uint64_t start, uint64_t length)
{
	if (length)
		vd_mmu_zap_range(table, start, length);
}

int vd_pgtable_unmap(struct vd_pgtable *table, uint64_t start, uint64_t length, uint64_t *unmapped)
{
	struct vd_mmu_spares spares = {0};
	struct vd_mmu_change change;
	uint64_t last, bytes = 0;
	int ret = vd_mmu_range_check(table, start, length, &last);

	while (!ret) {
		size_t need[VD_MMU_LEVELS_MAX] = {0};
		bool enough;

		change = vd_mmu_change_of(start, length);
		vd_pgtable_lock(table);
		vd_mmu_edge_need(table, start, need);
		vd_mmu_edge_need(table, last + 1, need);
		enough = vd_mmu_spares_suffice(&spares, need);
		if (enough) {
			vd_mmu_edge_split(table, start, &spares);
			vd_mmu_edge_split(table, last + 1, &spares);
			vd_mmu_zap_locked(table, &change);
			bytes = change.bytes;
		}
		vd_pgtable_unlock(table);
		if (enough) {
			vd_mmu_detached_retire(&change.detached);
			break;
		}
		ret = vd_mmu_spares_fill(&spares, table->env, table->format, need);
	}
	vd_mmu_spares_drop(&spares);
	if (!ret && unmapped)
		*unmapped = bytes;
	return ret;
}
