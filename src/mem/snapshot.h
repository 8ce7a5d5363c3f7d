/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The immutable set of slots. Readers find it through one pointer and never lock; an update
 * builds the next one and publishes it as a whole.
 */
#ifndef VIADUCT_MEM_SNAPSHOT_H
#define VIADUCT_MEM_SNAPSHOT_H

#include <viaduct/mem.h>

#include "mem/index.h"

/*
 * Who is inside the operations of a trap slot. Lives until the slot and the last call are gone,
 * and is shared by the two forms of a slot that moves.
 */
struct vd_trap_users {
	const struct vd_env *env;
	_Atomic uint32_t references; /* one of the slot, one of each call */
	_Atomic uint32_t parked;     /* calls whose thread waits in a commit */
};

enum vd_slot_state { VD_SLOT_LIVE, VD_SLOT_ADDED, VD_SLOT_LEAVING };

/* Private half of a slot; everything below @shown belongs to the update lock, but @users. */
struct vd_mem_slot {
	struct vd_slot shown;
	struct vd_trap_users *users;
	enum vd_slot_state state;
	bool moved;		    /* leaving: what it holds goes on in its other form */
	struct vd_mem_slot *origin; /* added by a move: the form it had before */
	struct vd_mem_slot *next;   /* retired */
};

/* Who maps a piece of an object: an implicit search tree by (object, offset). */
struct vd_mem_mapping {
	const struct vd_host_object *object;
	uint64_t offset, end;
	uint64_t furthest; /* no end in the subtree is larger */
	const struct vd_mem_slot *slot;
};

/* What a lookup needs next, on one cache line. */
struct vd_mem_entry {
	uint64_t last;
	struct vd_mem_slot *slot;
};

struct vd_mem_snapshot {
	struct vd_deferred deferred;
	const struct vd_env *env;
	size_t bytes;
	uint64_t generation;
	uint32_t count, capacity;
	uint32_t private_count; /* of these */
	uint32_t mapping_count;
	/* The slot that is larger than all others together: most guests have one. Size 0: none. */
	uint64_t main_base, main_size;
	struct vd_mem_slot *main;
	struct vd_index index;
	uint64_t *starts;
	struct vd_mem_entry *entries;
	struct vd_mem_mapping *mappings;
};

static inline uint64_t vd_slot_last(const struct vd_slot *slot)
{
	return slot->config.base.value + (slot->config.size - 1);
}

/* vd_snapshot_allocate() - room for @capacity slots, none in it; NULL without memory */
struct vd_mem_snapshot *vd_snapshot_allocate(const struct vd_env *env, uint32_t capacity);
void vd_snapshot_free(struct vd_mem_snapshot *snapshot);
/* vd_snapshot_retire() - free it after its readers have left */
void vd_snapshot_retire(struct vd_mem_snapshot *snapshot);

/*
 * vd_snapshot_merge() - fill @next with the slots of @old that do not leave, and with @added
 *
 * @added is sorted by base, @mapped, those of them with an object, by vd_mapping_compare(). Cannot
 * fail: @next has room.
 */
void vd_snapshot_merge(struct vd_mem_snapshot *next, const struct vd_mem_snapshot *old,
		       struct vd_mem_slot *const *added, uint32_t added_count,
		       struct vd_mem_slot *const *mapped, uint32_t mapped_count);

/* vd_mapping_compare() - order of the reverse index: object, offset, then base */
int vd_mapping_compare(const struct vd_slot *a, const struct vd_slot *b);

/* vd_snapshot_rank() - how many slots start at or below @gpa */
static inline uint32_t vd_snapshot_rank(const struct vd_mem_snapshot *snapshot, uint64_t gpa)
{
	return vd_index_rank(&snapshot->index, gpa, snapshot->entries, sizeof(*snapshot->entries));
}

/* vd_snapshot_first() - index of the first slot that ends at or above @gpa; count if none */
uint32_t vd_snapshot_first(const struct vd_mem_snapshot *snapshot, uint64_t gpa);

/*
 * vd_snapshot_each_mapping() - calls @fn for every slot that maps a part of [start, end) of
 * @object, in a fixed order; stops at a non-zero return, and returns it
 */
int vd_snapshot_each_mapping(const struct vd_mem_snapshot *snapshot,
			     const struct vd_host_object *object, uint64_t start, uint64_t end,
			     int (*fn)(void *context, const struct vd_mem_slot *slot),
			     void *context);

#endif
