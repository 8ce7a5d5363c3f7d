/* SPDX-License-Identifier: BSD-2-Clause */
/* Setting and clearing of leaves, with the counts that go with them, and the flush they owe. */
#include "mmu/pgtable.h"

void vd_mmu_leaf_set(struct vd_pgtable *pt, const struct vd_mmu_place *place, uint64_t entry,
		     bool device)
{
	struct vd_mmu_table *table = place->table;

	vd_mmu_table_recount(table, device ? VD_MMU_COUNT_DEVICE : VD_MMU_COUNT_LEAF);
	vd_mmu_count(&vd_mmu_counters(pt)->leaves[table->level], 1);
	if (device)
		vd_mmu_count(&vd_mmu_counters(pt)->device_bytes, vd_mmu_place_size(pt, place));
	/* Pairs with the acquire in vd_mmu_format_walk(). */
	atomic_store_explicit(&table->entries[place->index], entry, memory_order_release);
}

bool vd_mmu_leaf_clear(struct vd_pgtable *pt, const struct vd_mmu_place *place)
{
	struct vd_mmu_table *table = place->table;
	struct vd_mmu_attributes attributes;
	bool device;
	uint64_t entry = atomic_exchange_explicit(&table->entries[place->index], 0,
						  memory_order_acq_rel);

	/*
	 * Nothing is done about the entry's dirty bit: the log was marked before the entry became
	 * writable, and the primary's own dirty bit is set by the store itself (A10).
	 */
	pt->format->attributes(entry, table->level, &attributes);
	/* Counts are tested for entries that somebody else has written to: none may wrap. */
	if (!vd_mmu_table_leaves(table))
		return false;
	device = attributes.device && vd_mmu_table_devices(table);
	vd_mmu_table_recount(table, -(device ? VD_MMU_COUNT_DEVICE : VD_MMU_COUNT_LEAF));
	vd_mmu_uncount(&vd_mmu_counters(pt)->leaves[table->level], 1);
	if (device)
		vd_mmu_uncount(&vd_mmu_counters(pt)->device_bytes, vd_mmu_place_size(pt, place));
	vd_mmu_count(&pt->zaps, 1);
	return true;
}

bool vd_mmu_leaf_rewrite(const struct vd_mmu_place *place,
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

/* Tables that are fetched while others are counted. */
#define AHEAD 8u

/* What hangs below an entry, added up before it is taken from the counters. */
struct subtree {
	uint64_t tables, devices;
	uint64_t leaves[VD_MMU_LEVELS_MAX];
};

/* Only what is known about the tables is read, never a table: most of it is not in any cache. */
static void subtree_count(const struct vd_mmu_format *format, const struct vd_mmu_table *table,
			  struct subtree *sum)
{
	uint32_t leaves = vd_mmu_table_leaves(table);
	uint32_t below = vd_mmu_table_used(table) - leaves;

	sum->tables++;
	sum->leaves[table->level] += leaves;
	sum->devices += vd_mmu_table_devices(table) * vd_mmu_format_size(format, table->level);
	for (unsigned i = 0; below && i < table->count; i++) {
		const struct vd_mmu_table *child = vd_mmu_table_child(table, i);

		if (i + AHEAD < table->count) {
			const struct vd_mmu_table *soon = vd_mmu_table_child(table, i + AHEAD);

			__builtin_prefetch(soon ? (const void *)&soon->counts : NULL);
		}
		if (!child)
			continue;
		below--;
		subtree_count(format, child, sum);
	}
}

uint64_t vd_mmu_subtree_clear(struct vd_pgtable *pt, const struct vd_mmu_place *place,
			      struct vd_mmu_detached *detached)
{
	struct vd_mmu_stripe *counters = vd_mmu_counters(pt);
	struct subtree sum = {0};
	uint64_t bytes = 0;

	subtree_count(pt->format, vd_mmu_table_child(place->table, place->index), &sum);
	vd_mmu_uncount(&counters->table_pages, sum.tables);
	vd_mmu_uncount(&counters->device_bytes, sum.devices);
	for (unsigned level = 0; level < place->table->level; level++) {
		vd_mmu_uncount(&counters->leaves[level], sum.leaves[level]);
		vd_mmu_count(&pt->zaps, sum.leaves[level]);
		bytes += sum.leaves[level] << pt->format->shift[level];
	}
	pt->recent = NULL;
	vd_mmu_table_unlink(place->table, place->index, detached);
	return bytes;
}

void vd_mmu_flush(struct vd_pgtable *pt, uint64_t start, uint64_t length)
{
	vd_mmu_count(&pt->flushes, 1);
	if (pt->flush)
		pt->flush(pt->flush_context, start, length);
}
