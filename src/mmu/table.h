/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Table pages and what is known about them.
 *
 * Life of a table: taken from the environment with no lock held (spare) -> linked under the mmu
 * lock -> unlinked under the lock (detached) -> retired after the lock: given back when the
 * lock-free walkers that may still be in it have left.
 */
#ifndef MMU_TABLE_H
#define MMU_TABLE_H

#include "mmu/format.h"

/*
 * The algorithms find tables through @children, never through entries: what a walker reads may
 * be corrupted without ours being lost.
 *
 * @next: links spare and detached tables
 * @used: entries that are not absent
 * @leaves, @devices: leaves among them, and those that came from device slots
 * @children: one an entry above level 0, none at level 0
 */
struct vd_mmu_table {
	struct vd_deferred deferred;
	const struct vd_env *env;
	struct vd_mmu_table *next;
	vd_mmu_entry *entries;
	uint32_t count;
	uint32_t used, leaves, devices;
	unsigned level;
	struct vd_mmu_table *children[];
};

/* Tables taken before the lock: at most one a level is needed on the way to one address. */
struct vd_mmu_spares {
	struct vd_mmu_table *level[VD_MMU_LEVELS_MAX];
};

/* Tables unlinked under the lock, with all that hangs below them. */
struct vd_mmu_detached {
	struct vd_mmu_table *first;
};

static inline struct vd_mmu_table *vd_mmu_table_child(const struct vd_mmu_table *table,
						      unsigned index)
{
	return table->level ? table->children[index] : NULL;
}

/* One zeroed table. Never under the lock. Return: the table, or NULL. */
struct vd_mmu_table *vd_mmu_table_create(const struct vd_env *env,
					 const struct vd_mmu_format *format, unsigned level);
/* The table and everything below it, at once: no walker may be in it. */
void vd_mmu_table_destroy(struct vd_mmu_table *table);

/* Make sure there is a spare for each level of @low .. @high. Return: 0, -ENOMEM (spares kept). */
int vd_mmu_spares_fill(struct vd_mmu_spares *spares, const struct vd_env *env,
		       const struct vd_mmu_format *format, unsigned low, unsigned high);
void vd_mmu_spares_drop(struct vd_mmu_spares *spares);

/* Under the lock: hang @child into an absent entry. */
void vd_mmu_table_link(struct vd_mmu_table *table, unsigned index, struct vd_mmu_table *child,
		       uint64_t entry);
/* Under the lock: make the entry absent and put the table that it led to on @detached. */
void vd_mmu_table_unlink(struct vd_mmu_table *table, unsigned index,
			 struct vd_mmu_detached *detached);
/* After the lock. */
void vd_mmu_detached_retire(struct vd_mmu_detached *detached);

#endif
