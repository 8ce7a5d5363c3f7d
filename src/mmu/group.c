/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Groups: neighbouring leaves that a TLB may hold as one translation (the contiguous bit of arm64,
 * Svnapot). A TLB that meets one leaf of a group may answer for all of them from it. So a group is
 * made and broken as one, by way of absent and a flush, and only what makes all of its leaves say
 * the same again is done to it as it stands. Accessed and dirty belong to the group, whichever
 * leaf a walker set them in.
 */
#include "mmu/pgtable.h"

struct vd_mmu_place vd_mmu_group_first(const struct vd_pgtable *pt,
				       const struct vd_mmu_place *place, unsigned *count)
{
	unsigned level = place->table->level;
	struct vd_mmu_place first = *place;
	unsigned inside;

	*count = 1u << pt->format->contiguous[level];
	inside = place->index & (*count - 1);
	first.index -= inside;
	first.gpa -= inside * vd_mmu_format_size(pt->format, level);
	first.entry = atomic_load_explicit(&first.table->entries[first.index],
					   memory_order_relaxed);
	return first;
}

/* Address of the first of @count leaves, from one of them that starts at @gpa. */
static uint64_t group_address(const struct vd_pgtable *pt, uint64_t entry, unsigned level,
			      unsigned count)
{
	uint64_t bytes = vd_mmu_format_size(pt->format, level) * count;

	return pt->format->address(entry, level) & ~(bytes - 1);
}

/* Takes the leaves out and says what walkers noted in any of them. */
static void group_take(struct vd_mmu_table *table, unsigned first, unsigned count,
		       const struct vd_mmu_format *format, struct vd_mmu_attributes *together)
{
	bool accessed = false, dirty = false;

	for (unsigned i = 0; i < count; i++) {
		uint64_t entry = atomic_exchange_explicit(&table->entries[first + i], 0,
							  memory_order_acq_rel);

		format->attributes(entry, table->level, together);
		accessed |= together->accessed;
		dirty |= together->dirty;
	}
	together->accessed = accessed;
	together->dirty = dirty;
}

static void group_rewrite(struct vd_pgtable *pt, const struct vd_mmu_place *first, unsigned count,
			  bool marked)
{
	unsigned level = first->table->level;
	uint64_t address = group_address(pt, first->entry, level, count);
	struct vd_mmu_attributes together;

	group_take(first->table, first->index, count, pt->format, &together);
	vd_mmu_flush(pt, first->gpa, vd_mmu_format_size(pt->format, level) * count);
	pt->format->fill(&first->table->entries[first->index], count, address, &together, level,
			 marked);
}

void vd_mmu_group_break(struct vd_pgtable *pt, const struct vd_mmu_place *place)
{
	unsigned count;
	struct vd_mmu_place first = vd_mmu_group_first(pt, place, &count);

	group_rewrite(pt, &first, count, false);
}

/* ---- making --------------------------------------------------------------------------------- */

/* Whether the entries are unmarked leaves of one aligned piece of memory, and say the same. */
static bool group_fits(const struct vd_pgtable *pt, const struct vd_mmu_table *table,
		       unsigned first, unsigned count)
{
	const struct vd_mmu_format *format = pt->format;
	unsigned level = table->level;
	uint64_t size = vd_mmu_format_size(format, level);
	struct vd_mmu_attributes attributes, head = {0};
	uint64_t address = 0;

	for (unsigned i = 0; i < count; i++) {
		uint64_t entry = atomic_load_explicit(&table->entries[first + i],
						      memory_order_relaxed);

		if (vd_mmu_table_child(table, first + i) ||
		    format->kind(entry, level) != VD_MMU_LEAF ||
		    vd_mmu_is_marked(pt, entry, level))
			return false;
		format->attributes(entry, level, &attributes);
		if (i == 0) {
			head = attributes;
			address = format->address(entry, level);
			if (address & (size * count - 1))
				return false;
		}
		if (format->address(entry, level) != address + i * size ||
		    !vd_mmu_attributes_alike(&attributes, &head))
			return false;
	}
	return true;
}

void vd_mmu_group_make(struct vd_pgtable *pt, struct vd_mmu_table *table, uint64_t base,
		       uint64_t first, uint64_t last)
{
	unsigned count = 1u << pt->format->contiguous[table->level];
	uint64_t bytes = vd_mmu_format_size(pt->format, table->level) * count;

	if (count == 1)
		return;
	for (unsigned i = 0; i < table->count; i += count) {
		uint64_t gpa = base + bytes / count * i;
		struct vd_mmu_place place = {table, i, gpa, 0};

		if (gpa < first || gpa + (bytes - 1) > last || !group_fits(pt, table, i, count))
			continue;
		place.entry = atomic_load_explicit(&table->entries[i], memory_order_relaxed);
		group_rewrite(pt, &place, count, true);
	}
}
