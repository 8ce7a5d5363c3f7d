/* SPDX-License-Identifier: BSD-2-Clause */
/* What a vd_mmu is made of, its locked walker, and the operations its files share. */
#ifndef MMU_STATE_H
#define MMU_STATE_H

#include "mmu/table.h"

/* Raised with or without the lock, read without: relaxed, they order nothing. */
struct vd_mmu_counters {
	_Atomic uint64_t faults_ram, faults_device, faults_spurious, faults_protection;
	_Atomic uint64_t retries, zaps, flushes, table_pages, device_bytes;
	_Atomic uint64_t leaves[VD_MMU_LEVELS_MAX];
};

/*
 * @lock: orders installs against zaps; all of @root but accessed and dirty bits changes under it
 * @dead: the memory was released; written under @lock
 */
struct vd_mmu {
	struct vd_listener listener;
	const struct vd_env *env;
	struct vd_mem *mem;
	struct vd_notifier *notifier;
	const struct vd_mmu_format *format;
	struct vd_mmu_top top;
	void (*flush)(void *context, vd_gpa start, uint64_t length);
	void *flush_context;
	struct vd_lock lock;
	_Atomic bool dead;
	struct vd_mmu_table *root;
	struct vd_mmu_counters counters;
};

static inline void vd_mmu_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline void vd_mmu_uncount(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_sub_explicit(counter, n, memory_order_relaxed);
}

/* ---- walk.c: one depth-first walker, every operation a visitor ------------------------------ */

/* When a visitor is called for an entry; the values are bits of vd_mmu_visitor.when. */
enum vd_mmu_moment {
	VD_MMU_AT_ABSENT = 1,
	VD_MMU_AT_LEAF = 2,    /* anything that is neither absent nor a table of ours */
	VD_MMU_BEFORE_TABLE = 4,
	VD_MMU_AFTER_TABLE = 8,
};

/* From BEFORE_TABLE: do not go down. Other positive values end the walk. */
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
	int (*visit)(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor,
		     const struct vd_mmu_place *place, enum vd_mmu_moment moment);
};

/* Under the lock. Return: 0, or what a visit returned other than 0 and VD_MMU_SKIP. */
int vd_mmu_visit(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor);

static inline uint64_t vd_mmu_place_size(const struct vd_mmu *mmu, const struct vd_mmu_place *place)
{
	return vd_mmu_format_size(mmu->format, place->table->level);
}

/* Level at which the way to @gpa ends now (in a leaf or in nothing). No lock. */
unsigned vd_mmu_path_end(const struct vd_mmu *mmu, uint64_t gpa);

/* ---- leaf.c: the bookkeeping that goes with every leaf -------------------------------------- */

/* Under the lock: put a leaf where nothing is. */
void vd_mmu_leaf_set(struct vd_mmu *mmu, const struct vd_mmu_place *place, uint64_t entry,
		     bool device);
/* Under the lock: take it out, whatever a walker did to it meanwhile. The flush is still owed. */
void vd_mmu_leaf_clear(struct vd_mmu *mmu, const struct vd_mmu_place *place);
/* Under the lock: the whole table out, with all below. The flush is still owed. */
void vd_mmu_subtree_clear(struct vd_mmu *mmu, const struct vd_mmu_place *place,
			  struct vd_mmu_detached *detached);
/* Under the lock (B7): no TLB holds the range any more. */
void vd_mmu_flush(struct vd_mmu *mmu, uint64_t start, uint64_t length);

/* ---- zap.c ---------------------------------------------------------------------------------- */

extern const struct vd_listener_ops vd_mmu_listener_ops;

#endif
