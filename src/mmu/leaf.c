/* SPDX-License-Identifier: BSD-2-Clause */
/* Setting and clearing of leaves, with the counts that go with them, and the flush they owe. */
#include "mmu/state.h"

void vd_mmu_leaf_set(struct vd_mmu *mmu, const struct vd_mmu_place *place, uint64_t entry,
		     bool device)
{
	struct vd_mmu_table *table = place->table;

	table->used++;
	table->leaves++;
	table->devices += device;
	vd_mmu_count(&mmu->counters.leaves[table->level], 1);
	if (device)
		vd_mmu_count(&mmu->counters.device_bytes, vd_mmu_place_size(mmu, place));
	/* Pairs with the acquire in vd_mmu_format_walk(). */
	atomic_store_explicit(&table->entries[place->index], entry, memory_order_release);
}

void vd_mmu_leaf_clear(struct vd_mmu *mmu, const struct vd_mmu_place *place)
{
	struct vd_mmu_table *table = place->table;
	struct vd_mmu_attributes attributes;
	uint64_t entry = atomic_exchange_explicit(&table->entries[place->index], 0,
						  memory_order_acq_rel);

	/*
	 * Nothing is done about the entry's dirty bit: the log was marked before the entry became
	 * writable, and the primary's own dirty bit is set by the store itself (A10).
	 */
	mmu->format->attributes(entry, table->level, &attributes);
	/* Counts are tested for entries that somebody else has written to: none may wrap. */
	if (!table->leaves)
		return;
	table->used--;
	table->leaves--;
	vd_mmu_uncount(&mmu->counters.leaves[table->level], 1);
	if (attributes.device && table->devices) {
		table->devices--;
		vd_mmu_uncount(&mmu->counters.device_bytes, vd_mmu_place_size(mmu, place));
	}
	vd_mmu_count(&mmu->counters.zaps, 1);
}

static void subtree_uncount(struct vd_mmu *mmu, const struct vd_mmu_table *table)
{
	struct vd_mmu_counters *counters = &mmu->counters;

	vd_mmu_uncount(&counters->table_pages, 1);
	vd_mmu_uncount(&counters->leaves[table->level], table->leaves);
	vd_mmu_uncount(&counters->device_bytes,
		       table->devices * vd_mmu_format_size(mmu->format, table->level));
	vd_mmu_count(&counters->zaps, table->leaves);
	if (table->used == table->leaves)
		return;
	for (unsigned i = 0; i < table->count; i++) {
		const struct vd_mmu_table *child = vd_mmu_table_child(table, i);

		if (child)
			subtree_uncount(mmu, child);
	}
}

void vd_mmu_subtree_clear(struct vd_mmu *mmu, const struct vd_mmu_place *place,
			  struct vd_mmu_detached *detached)
{
	subtree_uncount(mmu, vd_mmu_table_child(place->table, place->index));
	vd_mmu_table_unlink(place->table, place->index, detached);
}

void vd_mmu_flush(struct vd_mmu *mmu, uint64_t start, uint64_t length)
{
	vd_mmu_count(&mmu->counters.flushes, 1);
	if (mmu->flush)
		mmu->flush(mmu->flush_context, (vd_gpa){start}, length);
}
