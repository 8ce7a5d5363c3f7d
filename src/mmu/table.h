/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Table pages and what is known about them.
 *
 * Life of a table: taken from the environment with no lock held (spare) -> linked under the lock
 * -> unlinked under the lock, held alone (detached) -> retired after the lock: given back when the
 * lock-free walkers that may still be in it have left.
 */
#ifndef MMU_TABLE_H
#define MMU_TABLE_H

#include "mmu/format.h"

/*
 * How many entries of a table are not absent, how many of them are leaves, and how many of those
 * came from device slots: three counts in one word, so that an install adds to all in one step.
 */
#define VD_MMU_COUNT_BITS 21
#define VD_MMU_COUNT_TABLE UINT64_C(1)
#define VD_MMU_COUNT_LEAF (VD_MMU_COUNT_TABLE | UINT64_C(1) << VD_MMU_COUNT_BITS)
#define VD_MMU_COUNT_DEVICE (VD_MMU_COUNT_LEAF | UINT64_C(1) << (2 * VD_MMU_COUNT_BITS))

/*
 * The algorithms find tables through @children, never through entries: what a walker reads may
 * be corrupted without ours being lost.
 *
 * @next: links spare and detached tables
 * @counts: see above. It and the next two lie in one cache line, wherever the allocator puts us:
 *	that is all that is read of a table which goes with many others
 * @count: of entries
 * @children: one an entry above level 0, none at level 0
 */
struct vd_mmu_table {
	union {
		struct vd_deferred deferred;
		struct vd_mmu_table *next;
	};
	_Atomic uint64_t counts;
	uint32_t count;
	unsigned level;
	vd_mmu_entry *entries;
	const struct vd_env *env;
	struct vd_mmu_table *_Atomic children[];
};

/* Tables taken before the lock, by level. */
struct vd_mmu_spares {
	struct vd_mmu_table *first[VD_MMU_LEVELS_MAX];
	size_t count[VD_MMU_LEVELS_MAX];
};

/* Tables unlinked under the lock, with all that hangs below them. */
struct vd_mmu_detached {
	struct vd_mmu_table *first;
};

static inline struct vd_mmu_table *vd_mmu_table_child(const struct vd_mmu_table *table,
						      unsigned index)
{
	/* Acquire pairs with the release in vd_mmu_table_link(): the child is filled. */
	return table->level ? atomic_load_explicit(&table->children[index], memory_order_acquire)
			    : NULL;
}

static inline uint32_t vd_mmu_table_count(const struct vd_mmu_table *table, unsigned which)
{
	uint64_t counts = atomic_load_explicit(&table->counts, memory_order_relaxed);

	return (uint32_t)(counts >> (which * VD_MMU_COUNT_BITS)) & ((1u << VD_MMU_COUNT_BITS) - 1);
}

static inline uint32_t vd_mmu_table_used(const struct vd_mmu_table *table)
{
	return vd_mmu_table_count(table, 0);
}

static inline uint32_t vd_mmu_table_leaves(const struct vd_mmu_table *table)
{
	return vd_mmu_table_count(table, 1);
}

static inline uint32_t vd_mmu_table_devices(const struct vd_mmu_table *table)
{
	return vd_mmu_table_count(table, 2);
}

/* With the lock held alone. @change is a sum of the counts above, or the negative of one. */
static inline void vd_mmu_table_recount(struct vd_mmu_table *table, uint64_t change)
{
	uint64_t counts = atomic_load_explicit(&table->counts, memory_order_relaxed);

	atomic_store_explicit(&table->counts, counts + change, memory_order_relaxed);
}

/* One zeroed table. Never under the lock. Return: the table, or NULL. */
struct vd_mmu_table *vd_mmu_table_create(const struct vd_env *env,
					 const struct vd_mmu_format *format, unsigned level);
/* The table and everything below it, at once: no walker may be in it. */
void vd_mmu_table_destroy(struct vd_mmu_table *table);

/*
 * Have at least @need[level] spares of each level. Never under the lock. Return: 0, -ENOMEM (what
 * was taken is kept).
 */
int vd_mmu_spares_fill(struct vd_mmu_spares *spares, const struct vd_env *env,
		       const struct vd_mmu_format *format, const size_t need[VD_MMU_LEVELS_MAX]);
/* Whether they are as many already. */
bool vd_mmu_spares_suffice(const struct vd_mmu_spares *spares,
			   const size_t need[VD_MMU_LEVELS_MAX]);
/* One of them, or NULL. */
struct vd_mmu_table *vd_mmu_spares_take(struct vd_mmu_spares *spares, unsigned level);
void vd_mmu_spares_drop(struct vd_mmu_spares *spares);

/* With the lock held alone: hang @child into an absent entry. */
void vd_mmu_table_link(struct vd_mmu_table *table, unsigned index, struct vd_mmu_table *child,
		       uint64_t entry);
/* With the lock held alone: the entry absent, and the table that it led to on @detached. */
void vd_mmu_table_unlink(struct vd_mmu_table *table, unsigned index,
			 struct vd_mmu_detached *detached);
/* After the lock. */
void vd_mmu_detached_retire(struct vd_mmu_detached *detached);

#endif
