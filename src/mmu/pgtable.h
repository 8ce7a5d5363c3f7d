/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a vd_pgtable is made of, its locked walker, and the steps its operations share. Nothing
 * here knows guest spaces or notifiers: see state.h for those.
 */
#ifndef MMU_PGTABLE_H
#define MMU_PGTABLE_H

#include "mmu/share.h"
#include "mmu/table.h"

/*
 * @share: the lock: entries are filled in shared, all else that changes @root but accessed and
 *	dirty bits is done alone
 * @recent, @recent_base: table of granules that was mapped in last, or NULL, and what of an input
 *	address leads to it; looked at and changed alone. Forgotten when a table goes
 * @zaps, @flushes: counted alone
 */
struct vd_pgtable {
	const struct vd_env *env;
	const struct vd_mmu_format *format;
	struct vd_mmu_top top;
	void (*flush)(void *context, uint64_t start, uint64_t length);
	void *flush_context;
	struct vd_mmu_table *root, *recent;
	uint64_t recent_base;
	_Atomic uint64_t zaps, flushes;
	struct vd_mmu_share share;
};

/* A table that is embedded. Return: 0, -EINVAL, -ENOMEM, as vd_pgtable_create(). */
int vd_pgtable_init(struct vd_pgtable *pt, const struct vd_pgtable_config *config,
		    struct vd_error *error);
/* Frees the tables; nothing is flushed. */
void vd_pgtable_fini(struct vd_pgtable *pt);

static inline void vd_pgtable_lock(struct vd_pgtable *pt)
{
	vd_mmu_share_lock(&pt->share, pt->env);
}

static inline void vd_pgtable_unlock(struct vd_pgtable *pt)
{
	vd_mmu_share_unlock(&pt->share, pt->env);
}

/* Counters of what is there now, for whoever is alone: only their sum over all stripes counts. */
static inline struct vd_mmu_stripe *vd_mmu_counters(struct vd_pgtable *pt)
{
	return &pt->share.stripes[0];
}

/* ---- walk.c: one depth-first walker, every operation a visitor ------------------------------ */

/* When a visitor is called for an entry; the values are bits of vd_mmu_visitor.when. */
enum vd_mmu_moment {
	VD_MMU_AT_ABSENT = 1,
	VD_MMU_AT_LEAF = 2,    /* anything that is neither absent nor a table of ours */
	VD_MMU_BEFORE_TABLE = 4,
	VD_MMU_AFTER_TABLE = 8,
};

/* Do not go down, into a table that was just hung in either. Other positive values end the walk. */
#define VD_MMU_SKIP INT32_MAX

/* One entry: where it stands, the input address it starts at, and its value when it was reached. */
struct vd_mmu_place {
	struct vd_mmu_table *table;
	unsigned index;
	uint64_t gpa;
	uint64_t entry;
};

/*
 * @first, @last: the input addresses, both inclusive; cut to what the format can address
 * @visit: may change the entry; a table it hangs in is walked, one it takes out is not
 */
struct vd_mmu_visitor {
	uint64_t first, last;
	unsigned when;
	int (*visit)(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		     const struct vd_mmu_place *place, enum vd_mmu_moment moment);
};

/* Alone. Return: 0, or what a visit returned other than 0 and VD_MMU_SKIP. */
int vd_mmu_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor);

static inline uint64_t vd_mmu_place_size(const struct vd_pgtable *pt,
					 const struct vd_mmu_place *place)
{
	return vd_mmu_format_size(pt->format, place->table->level);
}

/* Whether the visitor's range holds all that the entry maps. */
static inline bool vd_mmu_place_covered(const struct vd_pgtable *pt,
					const struct vd_mmu_visitor *visitor,
					const struct vd_mmu_place *place)
{
	uint64_t last = place->gpa + (vd_mmu_place_size(pt, place) - 1);

	return place->gpa >= visitor->first && last <= visitor->last;
}

/* Alone: the entry at which the way to an address ends, in a leaf or in nothing. */
struct vd_mmu_place vd_mmu_place_find(const struct vd_pgtable *pt, uint64_t input);

/* ---- leaf.c: the bookkeeping that goes with every leaf -------------------------------------- */

static inline uint64_t vd_mmu_table_address(const struct vd_pgtable *pt,
					    const struct vd_mmu_table *table)
{
	return vd_mmu_format_distance(pt->format, pt->top.window_base, table->entries);
}

/* Alone: put a leaf where nothing is. */
void vd_mmu_leaf_set(struct vd_pgtable *pt, const struct vd_mmu_place *place, uint64_t entry,
		     bool device);
/*
 * Alone: take it out, whatever a walker did to it meanwhile. The flush is still owed. Return:
 * whether it was one of ours.
 */
bool vd_mmu_leaf_clear(struct vd_pgtable *pt, const struct vd_mmu_place *place);
/*
 * By compare-and-swap, as walkers set accessed and dirty meanwhile. Return: whether it changed; a
 * flush is then owed.
 */
bool vd_mmu_leaf_rewrite(const struct vd_mmu_place *place,
			 uint64_t (*change)(uint64_t entry, unsigned level));
/*
 * Alone: the whole table out, with all below. The flush is still owed. Return: bytes that were
 * mapped.
 */
uint64_t vd_mmu_subtree_clear(struct vd_pgtable *pt, const struct vd_mmu_place *place,
			      struct vd_mmu_detached *detached);
/* Alone (B7): no TLB holds the range any more. */
void vd_mmu_flush(struct vd_pgtable *pt, uint64_t start, uint64_t length);

/* ---- group.c: leaves that are marked as one translation ------------------------------------- */

static inline bool vd_mmu_is_marked(const struct vd_pgtable *pt, uint64_t entry, unsigned level)
{
	return pt->format->contiguous[level] && pt->format->is_contiguous(entry, level) &&
	       pt->format->kind(entry, level) == VD_MMU_LEAF;
}

static inline bool vd_mmu_leaf_is_device(const struct vd_pgtable *pt, uint64_t entry,
					 unsigned level)
{
	struct vd_mmu_attributes attributes;

	pt->format->attributes(entry, level, &attributes);
	return attributes.device;
}

/* Whether two leaves say the same, but for what walkers note in them. */
static inline bool vd_mmu_attributes_alike(const struct vd_mmu_attributes *a,
					   const struct vd_mmu_attributes *b)
{
	return a->access == b->access && a->type == b->type && a->device == b->device &&
	       a->user == b->user && a->global == b->global;
}

/* The first leaf of the group that a marked one belongs to; @count is set to their number. */
struct vd_mmu_place vd_mmu_group_first(const struct vd_pgtable *pt,
				       const struct vd_mmu_place *place, unsigned *count);
/* Alone: absent, flushed, written again without the marks. */
void vd_mmu_group_break(struct vd_pgtable *pt, const struct vd_mmu_place *place);
/*
 * Alone: marks the groups of leaves, alike and side by side, among the entries of a table
 * that lie in [@first, @last].
 */
void vd_mmu_group_make(struct vd_pgtable *pt, struct vd_mmu_table *table, uint64_t base,
		       uint64_t first, uint64_t last);

/* ---- zap.c ---------------------------------------------------------------------------------- */

/*
 * @low, @high: what was changed, whole blocks, the end exclusive; nothing while @low > @high. The
 *	end does not wrap: no format has 64 input bits. A table that goes counts with all that it
 *	could map, as hardware may have cached the way to it.
 * @bytes: unmapped so far
 */
struct vd_mmu_change {
	struct vd_mmu_visitor visitor;
	struct vd_mmu_detached detached;
	uint64_t low, high, bytes;
	bool clear, young;
};

/* A range that wraps ends at the last address; @length is not 0. */
struct vd_mmu_change vd_mmu_change_of(uint64_t start, uint64_t length);
void vd_mmu_change_note(struct vd_mmu_change *change, uint64_t start, uint64_t length);
void vd_mmu_change_flush(struct vd_pgtable *pt, const struct vd_mmu_change *change);

/*
 * Alone: drop every leaf that meets the range, blocks and groups as a whole, and flush.
 * @change->detached is retired after the lock.
 */
void vd_mmu_zap_locked(struct vd_pgtable *pt, struct vd_mmu_change *change);
/* The same with the lock taken. Return: leaves dropped. */
uint64_t vd_mmu_zap_range(struct vd_pgtable *pt, uint64_t start, uint64_t length);

/* ---- split.c -------------------------------------------------------------------------------- */

/* Alone: the block becomes the table @child of smaller leaves that say the same. */
void vd_mmu_split_place(struct vd_pgtable *pt, const struct vd_mmu_place *place,
			struct vd_mmu_table *child);
/* Alone: raise @need by the tables that vd_mmu_edge_split() takes for @address. */
void vd_mmu_edge_need(const struct vd_pgtable *pt, uint64_t address,
		      size_t need[VD_MMU_LEVELS_MAX]);
/* Alone: no block and no group lies across @address any more. */
void vd_mmu_edge_split(struct vd_pgtable *pt, uint64_t address, struct vd_mmu_spares *spares);

/* ---- map.c ---------------------------------------------------------------------------------- */

struct vd_pgtable_reserve {
	struct vd_mmu_spares spares;
};

/*
 * -EINVAL misaligned or empty; -EOVERFLOW wraps or beyond the input bits; else 0 and the last
 * address of the range.
 */
static inline int vd_mmu_range_check(const struct vd_pgtable *pt, uint64_t start, uint64_t length,
				     uint64_t *last)
{
	uint64_t granule = vd_mmu_format_size(pt->format, 0);

	if (!length || (start | length) & (granule - 1))
		return -EINVAL;
	*last = start + (length - 1);
	if (*last < start || *last >> pt->format->input_bits)
		return -EOVERFLOW;
	return 0;
}

/*
 * Raise @need by the tables below @level that leaves of up to @largest in [@first, @last] take
 * where nothing stands yet.
 */
void vd_mmu_need_tables(const struct vd_mmu_format *format, uint64_t first, uint64_t last,
			unsigned level, unsigned largest, size_t need[VD_MMU_LEVELS_MAX]);

#endif
