/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What changes leaves where they stand: permissions, write protection, ageing. An address never
 * changes here. Flushed before the lock is dropped, as in zap.c.
 */
#include "mmu/pgtable.h"

/*
 * Whether the leaf is one of a group that was seen to already: a group is changed as a whole at the
 * first of its leaves that the range meets.
 */
static bool group_was_seen(const struct vd_pgtable *pt, const struct vd_mmu_visitor *visitor,
			   const struct vd_mmu_place *place, struct vd_mmu_place *first,
			   unsigned *count)
{
	*first = *place;
	*count = 1;
	if (!vd_mmu_is_marked(pt, place->entry, place->table->level))
		return false;
	*first = vd_mmu_group_first(pt, place, count);
	return first->index != place->index && place->gpa > visitor->first;
}

/* Rewrites one leaf, or all of its group. Return: whether something changed; it is noted. */
static bool rewrite(struct vd_pgtable *pt, struct vd_mmu_change *change,
		    struct vd_mmu_place first, unsigned count,
		    uint64_t (*how)(uint64_t entry, unsigned level))
{
	uint64_t length = vd_mmu_place_size(pt, &first) * count;
	uint64_t start = first.gpa;
	bool changed = false;

	for (; count; count--, first.index++) {
		first.entry = atomic_load_explicit(&first.table->entries[first.index],
						   memory_order_relaxed);
		changed |= vd_mmu_leaf_rewrite(&first, how);
	}
	if (changed)
		vd_mmu_change_note(change, start, length);
	return changed;
}

/* ---- write protection ----------------------------------------------------------------------- */

/*
 * Blocks are write-protected as they are: reads go on at no cost, and the first store replaces the
 * block by a single page (fault.c), which is what a dirty log needs.
 */
static int write_protect_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
			       const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct vd_mmu_place first;
	unsigned count;

	(void)moment;
	if (!group_was_seen(pt, visitor, place, &first, &count))
		rewrite(pt, (struct vd_mmu_change *)visitor, first, count,
			pt->format->write_protected);
	return 0;
}

void vd_pgtable_write_protect(struct vd_pgtable *table, uint64_t start, uint64_t length)
{
	struct vd_mmu_change change = vd_mmu_change_of(start, length);

	if (!length)
		return;
	change.visitor.when = VD_MMU_AT_LEAF;
	change.visitor.visit = write_protect_visit;
	vd_pgtable_lock(table);
	vd_mmu_visit(table, &change.visitor);
	vd_mmu_change_flush(table, &change);
	vd_pgtable_unlock(table);
}

/* ---- taking dirty bits ---------------------------------------------------------------------- */

struct take_dirty {
	struct vd_mmu_change change;
	bool protect;
	void (*fn)(void *context, uint64_t start, uint64_t length);
	void *context;
};

/* In one step, as a walker may make it dirty meanwhile. Return: whether it was. */
static bool take_one(const struct vd_pgtable *pt, struct vd_mmu_place *place, bool protect,
		     bool *changed)
{
	uint64_t (*how)(uint64_t, unsigned) =
		protect ? pt->format->write_protected : pt->format->cleaned;
	vd_mmu_entry *slot = &place->table->entries[place->index];
	unsigned level = place->table->level;
	uint64_t entry = atomic_load_explicit(slot, memory_order_relaxed), next;
	struct vd_mmu_attributes attributes;

	do
		next = how(entry, level);
	while (next != entry &&
	       !atomic_compare_exchange_weak_explicit(slot, &entry, next, memory_order_acq_rel,
						      memory_order_relaxed));
	*changed |= next != entry;
	pt->format->attributes(entry, level, &attributes);
	return attributes.dirty;
}

static int take_dirty_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
			    const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct take_dirty *take = (struct take_dirty *)visitor;
	bool dirty = false, changed = false;
	struct vd_mmu_place first;
	uint64_t length;
	unsigned count;

	(void)moment;
	if (pt->format->kind(place->entry, place->table->level) != VD_MMU_LEAF ||
	    group_was_seen(pt, visitor, place, &first, &count))
		return 0;
	length = vd_mmu_place_size(pt, &first) * count;
	for (; count; count--, first.index++)
		dirty |= take_one(pt, &first, take->protect, &changed);
	if (changed)
		vd_mmu_change_note(&take->change, first.gpa, length);
	if (dirty)
		take->fn(take->context, first.gpa, length);
	return 0;
}

void vd_pgtable_take_dirty(struct vd_pgtable *table, uint64_t start, uint64_t length, bool protect,
			   void (*fn)(void *context, uint64_t start, uint64_t length),
			   void *context)
{
	struct take_dirty take = {.change = vd_mmu_change_of(start, length), .protect = protect,
				  .fn = fn, .context = context};

	if (!length)
		return;
	take.change.visitor.when = VD_MMU_AT_LEAF;
	take.change.visitor.visit = take_dirty_visit;
	vd_pgtable_lock(table);
	vd_mmu_visit(table, &take.change.visitor);
	vd_mmu_change_flush(table, &take.change);
	vd_pgtable_unlock(table);
}

/* ---- ageing --------------------------------------------------------------------------------- */

static bool is_young(const struct vd_pgtable *pt, const struct vd_mmu_place *first, unsigned count)
{
	unsigned level = first->table->level;
	struct vd_mmu_attributes attributes;

	for (unsigned i = 0; i < count; i++) {
		uint64_t entry = atomic_load_explicit(&first->table->entries[first->index + i],
						      memory_order_relaxed);

		pt->format->attributes(entry, level, &attributes);
		if (attributes.accessed)
			return true;
	}
	return false;
}

static int young_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		       const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct vd_mmu_change *change = (struct vd_mmu_change *)visitor;
	struct vd_mmu_place first;
	unsigned count;

	(void)moment;
	if (group_was_seen(pt, visitor, place, &first, &count) || !is_young(pt, &first, count))
		return 0;
	change->young = true;
	if (!change->clear)
		return 1;
	rewrite(pt, change, first, count, pt->format->aged);
	return 0;
}

static bool young(struct vd_pgtable *pt, uint64_t start, uint64_t length, bool clear)
{
	struct vd_mmu_change change = vd_mmu_change_of(start, length);

	if (!length)
		return false;
	change.visitor.when = VD_MMU_AT_LEAF;
	change.visitor.visit = young_visit;
	change.clear = clear;
	vd_pgtable_lock(pt);
	vd_mmu_visit(pt, &change.visitor);
	/* Also for a cleared accessed bit: a use through a TLB would not set it again. */
	vd_mmu_change_flush(pt, &change);
	vd_pgtable_unlock(pt);
	return change.young;
}

bool vd_pgtable_clear_young(struct vd_pgtable *table, uint64_t start, uint64_t length)
{
	return young(table, start, length, true);
}

bool vd_pgtable_test_young(struct vd_pgtable *table, uint64_t start, uint64_t length)
{
	return young(table, start, length, false);
}

/* ---- permissions ---------------------------------------------------------------------------- */

struct protect {
	struct vd_mmu_change change;
	unsigned access;
};

/* All of it is mapped by leaves that can say so. */
static int protect_check(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
			 const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	const struct protect *protect = (const struct protect *)visitor;
	unsigned level = place->table->level;
	struct vd_mmu_attributes attributes;

	if (moment == VD_MMU_AT_ABSENT || pt->format->kind(place->entry, level) != VD_MMU_LEAF)
		return -ENOENT;
	pt->format->attributes(place->entry, level, &attributes);
	attributes.access = protect->access;
	return pt->format->can(&attributes, level) ? 0 : -EOPNOTSUPP;
}

static uint64_t with_access(const struct vd_pgtable *pt, const struct vd_mmu_place *place,
			    uint64_t entry, unsigned access)
{
	const struct vd_mmu_format *format = pt->format;
	unsigned level = place->table->level;
	bool marked = vd_mmu_is_marked(pt, entry, level);
	struct vd_mmu_attributes attributes;
	uint64_t address = format->address(entry, level);

	if (marked) {
		uint64_t span = vd_mmu_format_span(format, entry, level);

		address = (address & ~(span - 1)) | (place->gpa & (span - 1));
	}
	format->attributes(entry, level, &attributes);
	attributes.access = access;
	entry = format->leaf_entry(address, &attributes, level);
	return marked ? format->contiguous_entry(entry, address, level, true) : entry;
}

static int protect_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
			 const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct protect *protect = (struct protect *)visitor;
	vd_mmu_entry *slot = &place->table->entries[place->index];
	uint64_t old = place->entry, new;

	(void)moment;
	/* Lost against a walker that set accessed or dirty: again. */
	do {
		new = with_access(pt, place, old, protect->access);
		if (new == old)
			return 0;
	} while (!atomic_compare_exchange_weak_explicit(slot, &old, new, memory_order_acq_rel,
							memory_order_relaxed));
	vd_mmu_change_note(&protect->change, place->gpa, vd_mmu_place_size(pt, place));
	return 0;
}

static void protect_commit(struct vd_pgtable *pt, struct protect *protect, uint64_t last,
			   struct vd_mmu_spares *spares)
{
	vd_mmu_edge_split(pt, protect->change.visitor.first, spares);
	vd_mmu_edge_split(pt, last + 1, spares);
	protect->change.visitor.when = VD_MMU_AT_LEAF;
	protect->change.visitor.visit = protect_visit;
	vd_mmu_visit(pt, &protect->change.visitor);
	vd_mmu_change_flush(pt, &protect->change);
}

int vd_pgtable_protect(struct vd_pgtable *table, uint64_t start, uint64_t length, unsigned access)
{
	struct vd_mmu_spares spares = {0};
	struct protect protect = {.access = access};
	uint64_t last;
	int ret = vd_mmu_range_check(table, start, length, &last);
	bool enough = false;

	while (!ret && !enough) {
		size_t need[VD_MMU_LEVELS_MAX] = {0};

		protect.change = vd_mmu_change_of(start, length);
		protect.change.visitor.when = VD_MMU_AT_ABSENT | VD_MMU_AT_LEAF;
		protect.change.visitor.visit = protect_check;
		vd_pgtable_lock(table);
		ret = vd_mmu_visit(table, &protect.change.visitor);
		vd_mmu_edge_need(table, start, need);
		vd_mmu_edge_need(table, last + 1, need);
		enough = vd_mmu_spares_suffice(&spares, need);
		if (!ret && enough)
			protect_commit(table, &protect, last, &spares);
		vd_pgtable_unlock(table);
		if (!ret && !enough)
			ret = vd_mmu_spares_fill(&spares, table->env, table->format, need);
	}
	vd_mmu_spares_drop(&spares);
	return ret;
}
