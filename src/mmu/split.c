/* SPDX-License-Identifier: BSD-2-Clause */
/* Blocks into tables of smaller leaves, and back. */
#include "mmu/pgtable.h"

/* ---- splitting ------------------------------------------------------------------------------ */

static void fill_child(const struct vd_pgtable *pt, struct vd_mmu_table *child, uint64_t entry,
		       unsigned level, uint64_t address)
{
	struct vd_mmu_attributes attributes;

	pt->format->attributes(entry, level, &attributes);
	pt->format->fill(child->entries, child->count, address, &attributes, level - 1, false);
}

/* Address of the block itself, of a leaf of a group as well. */
static uint64_t own_address(const struct vd_pgtable *pt, const struct vd_mmu_place *place)
{
	uint64_t span = vd_mmu_format_span(pt->format, place->entry, place->table->level);

	return (pt->format->address(place->entry, place->table->level) & ~(span - 1)) |
	       (place->gpa & (span - 1));
}

/*
 * The table is filled before it can be found. What walkers note in the block meanwhile makes the
 * last step fail, or shows when the block is taken out, and is copied again.
 */
void vd_mmu_split_place(struct vd_pgtable *pt, const struct vd_mmu_place *place,
			struct vd_mmu_table *child)
{
	struct vd_mmu_table *table = place->table;
	unsigned level = table->level;
	vd_mmu_entry *slot = &table->entries[place->index];
	uint64_t size = vd_mmu_format_size(pt->format, level), address, old, link;
	struct vd_mmu_place now = *place;
	bool device;

	if (vd_mmu_is_marked(pt, place->entry, level)) {
		vd_mmu_group_break(pt, place);
		now.entry = atomic_load_explicit(slot, memory_order_relaxed);
	}
	address = own_address(pt, &now);
	link = pt->format->table_entry(vd_mmu_table_address(pt, child), level);
	old = now.entry;
	fill_child(pt, child, old, level, address);
	if (pt->format->flags & VD_MMU_FORMAT_BREAK_BEFORE_MAKE) {
		uint64_t taken = atomic_exchange_explicit(slot, 0, memory_order_acq_rel);

		vd_mmu_flush(pt, place->gpa, size);
		if (taken != old)
			fill_child(pt, child, taken, level, address);
		old = 0;
	}
	device = vd_mmu_table_devices(table) && vd_mmu_leaf_is_device(pt, now.entry, level);
	vd_mmu_table_recount(child, child->count * (device ? VD_MMU_COUNT_DEVICE
							   : VD_MMU_COUNT_LEAF));
	vd_mmu_table_recount(table, VD_MMU_COUNT_TABLE -
					    (device ? VD_MMU_COUNT_DEVICE : VD_MMU_COUNT_LEAF));
	vd_mmu_uncount(&vd_mmu_counters(pt)->leaves[level], 1);
	vd_mmu_count(&vd_mmu_counters(pt)->leaves[level - 1], child->count);
	vd_mmu_count(&vd_mmu_counters(pt)->table_pages, 1);
	atomic_store_explicit(&table->children[place->index], child, memory_order_release);
	/* Release pairs with the acquire in vd_mmu_format_walk(). */
	while (!atomic_compare_exchange_strong_explicit(slot, &old, link, memory_order_acq_rel,
							memory_order_relaxed))
		fill_child(pt, child, old, level, address);
	if (!(pt->format->flags & VD_MMU_FORMAT_BREAK_BEFORE_MAKE))
		vd_mmu_flush(pt, place->gpa, size);
}

void vd_mmu_edge_need(const struct vd_pgtable *pt, uint64_t address, size_t need[VD_MMU_LEVELS_MAX])
{
	struct vd_mmu_place place;
	unsigned level;

	if (address >> pt->format->input_bits)
		return;
	place = vd_mmu_place_find(pt, address);
	if (pt->format->kind(place.entry, place.table->level) != VD_MMU_LEAF)
		return;
	for (level = place.table->level;
	     level && address & (vd_mmu_format_size(pt->format, level) - 1); level--)
		need[level - 1]++;
}

void vd_mmu_edge_split(struct vd_pgtable *pt, uint64_t address, struct vd_mmu_spares *spares)
{
	struct vd_mmu_place place;

	if (address >> pt->format->input_bits)
		return;
	for (;;) {
		place = vd_mmu_place_find(pt, address);
		if (pt->format->kind(place.entry, place.table->level) != VD_MMU_LEAF)
			return;
		if (place.gpa == address || !place.table->level)
			break;
		vd_mmu_split_place(pt, &place,
				   vd_mmu_spares_take(spares, place.table->level - 1));
	}
	if (vd_mmu_is_marked(pt, place.entry, place.table->level) &&
	    address & (vd_mmu_format_span(pt->format, place.entry, place.table->level) - 1))
		vd_mmu_group_break(pt, &place);
}

struct split {
	struct vd_mmu_visitor visitor;
	unsigned level;
	struct vd_mmu_spares *spares;
	size_t need[VD_MMU_LEVELS_MAX];
};

static int split_count(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		       const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct split *split = (struct split *)visitor;
	uint64_t end = place->gpa + (vd_mmu_place_size(pt, place) - 1);
	uint64_t first = place->gpa > visitor->first ? place->gpa : visitor->first;
	uint64_t last = end < visitor->last ? end : visitor->last;

	(void)moment;
	for (unsigned level = split->level; level < place->table->level; level++) {
		unsigned shift = pt->format->shift[level + 1];

		split->need[level] += (size_t)((last >> shift) - (first >> shift)) + 1;
	}
	return 0;
}

/* The walker goes on into the table that was hung in, if its leaves are still too large. */
static int split_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		       const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct split *split = (struct split *)visitor;
	unsigned level = place->table->level;

	(void)moment;
	if (pt->format->kind(place->entry, level) != VD_MMU_LEAF)
		return 0;
	if (level > split->level)
		vd_mmu_split_place(pt, place, vd_mmu_spares_take(split->spares, level - 1));
	if (level == split->level + 1)
		return VD_MMU_SKIP;
	if (level == split->level && vd_mmu_is_marked(pt, place->entry, level))
		vd_mmu_group_break(pt, place);
	return 0;
}

int vd_pgtable_split(struct vd_pgtable *table, uint64_t start, uint64_t length, unsigned level)
{
	struct vd_mmu_spares spares = {0};
	uint64_t last;
	int ret = vd_mmu_range_check(table, start, length, &last);
	bool enough = false;

	if (!ret && level > table->format->block_level)
		ret = -EINVAL;
	while (!ret && !enough) {
		struct split split = {
			.visitor = {.first = start, .last = last, .when = VD_MMU_AT_LEAF,
				    .visit = split_count},
			.level = level,
			.spares = &spares,
		};

		vd_pgtable_lock(table);
		vd_mmu_visit(table, &split.visitor);
		enough = vd_mmu_spares_suffice(&spares, split.need);
		split.visitor.visit = split_visit;
		if (enough)
			vd_mmu_visit(table, &split.visitor);
		vd_pgtable_unlock(table);
		if (!enough)
			ret = vd_mmu_spares_fill(&spares, table->env, table->format, split.need);
	}
	vd_mmu_spares_drop(&spares);
	return ret;
}

/* ---- merging -------------------------------------------------------------------------------- */

struct merge {
	struct vd_mmu_visitor visitor;
	struct vd_mmu_detached detached;
	unsigned largest;
};

/* Whether the table is full of leaves that one block could stand for; what it would say. */
static bool table_fits(const struct vd_pgtable *pt, const struct vd_mmu_table *table,
		       uint64_t *address, struct vd_mmu_attributes *together)
{
	const struct vd_mmu_format *format = pt->format;
	uint64_t size = vd_mmu_format_size(format, table->level);
	struct vd_mmu_attributes attributes;

	*address = 0;
	if (vd_mmu_table_leaves(table) != table->count)
		return false;
	for (unsigned i = 0; i < table->count; i++) {
		uint64_t entry = atomic_load_explicit(&table->entries[i], memory_order_relaxed);
		struct vd_mmu_place place = {(struct vd_mmu_table *)table, i, i * size, entry};

		if (format->kind(entry, table->level) != VD_MMU_LEAF)
			return false;
		format->attributes(entry, table->level, &attributes);
		if (i == 0) {
			*together = attributes;
			*address = own_address(pt, &place);
			if (*address & (size * table->count - 1))
				return false;
		}
		if (own_address(pt, &place) != *address + i * size ||
		    !vd_mmu_attributes_alike(&attributes, together))
			return false;
	}
	return format->can(together, table->level + 1);
}

/*
 * Absent, flush, then the block, whatever the format: between the two no walker is left that could
 * note something in a leaf of the table after it was read.
 */
static void merge_table(struct vd_pgtable *pt, const struct vd_mmu_place *place, uint64_t address,
			struct vd_mmu_attributes *together, struct vd_mmu_detached *detached)
{
	struct vd_mmu_table *child = vd_mmu_table_child(place->table, place->index);
	struct vd_mmu_stripe *counters = vd_mmu_counters(pt);
	unsigned level = place->table->level;
	struct vd_mmu_attributes attributes;

	pt->recent = NULL;
	vd_mmu_table_unlink(place->table, place->index, detached);
	vd_mmu_flush(pt, place->gpa, vd_mmu_place_size(pt, place));
	together->accessed = together->dirty = false;
	/* Taken, not read: a walk in a read section may still be in there. */
	for (unsigned i = 0; i < child->count; i++) {
		uint64_t entry = atomic_exchange_explicit(&child->entries[i], 0,
							  memory_order_acq_rel);

		pt->format->attributes(entry, level - 1, &attributes);
		together->accessed |= attributes.accessed;
		together->dirty |= attributes.dirty;
	}
	vd_mmu_uncount(&counters->leaves[level - 1], child->count);
	vd_mmu_count(&counters->leaves[level], 1);
	vd_mmu_uncount(&counters->table_pages, 1);
	vd_mmu_table_recount(place->table,
			     together->device ? VD_MMU_COUNT_DEVICE : VD_MMU_COUNT_LEAF);
	/* Release pairs with the acquire in vd_mmu_format_walk(). */
	atomic_store_explicit(&place->table->entries[place->index],
			      pt->format->leaf_entry(address, together, level),
			      memory_order_release);
}

static int merge_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		       const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct merge *merge = (struct merge *)visitor;
	struct vd_mmu_table *child = vd_mmu_table_child(place->table, place->index);
	struct vd_mmu_attributes together;
	uint64_t address;

	(void)moment;
	if (place->table->level <= merge->largest && vd_mmu_place_covered(pt, visitor, place) &&
	    table_fits(pt, child, &address, &together))
		merge_table(pt, place, address, &together, &merge->detached);
	else if (child->level <= merge->largest)
		vd_mmu_group_make(pt, child, place->gpa, visitor->first, visitor->last);
	return 0;
}

int vd_pgtable_merge(struct vd_pgtable *table, uint64_t start, uint64_t length,
		     unsigned largest_level)
{
	struct merge merge = {
		.visitor = {.first = start, .when = VD_MMU_AFTER_TABLE, .visit = merge_visit},
		.largest = largest_level,
	};
	int ret = vd_mmu_range_check(table, start, length, &merge.visitor.last);

	if (ret)
		return ret;
	if (merge.largest > table->format->block_level)
		merge.largest = table->format->block_level;
	vd_pgtable_lock(table);
	vd_mmu_visit(table, &merge.visitor);
	if (table->root->level <= merge.largest)
		vd_mmu_group_make(table, table->root, 0, merge.visitor.first, merge.visitor.last);
	vd_pgtable_unlock(table);
	vd_mmu_detached_retire(&merge.detached);
	return 0;
}
