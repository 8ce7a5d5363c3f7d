/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest-physical address space itself, for the files of this floor. */
#ifndef VIADUCT_MEM_SPACE_H
#define VIADUCT_MEM_SPACE_H

#include "mem/snapshot.h"

/* One at a time, under the update lock. */
struct vd_mem_update {
	struct vd_mem *mem;
	struct vd_mem_snapshot *reserve; /* always large enough for what was accepted so far */
	struct vd_mem_slot **added;	 /* by base */
	struct vd_mem_slot **mapped;	 /* those with an object, by vd_mapping_compare() */
	uint32_t added_count, added_room;
	uint32_t mapped_count, mapped_room;
	uint32_t leaving_count;
	int32_t private_change; /* private slots added, less those that leave */
};

/* Ids of a kind, under the update lock: an id is an index, 0 is none. */
struct vd_mem_ids {
	struct vd_mem_slot **slots;
	uint32_t room, cursor;
};

/*
 * Invalidations of host memory and swaps of the slot set exclude each other, so that start and end
 * of an event see the same slots. No lock is held while either goes on: they are counted.
 *
 * Neither starves the other, whatever the guest does to its BARs or the host to its memory: an
 * event that finds a swap waiting or going on lets just that one pass, a swap lets those events
 * pass that waited for the one before it.
 */
struct vd_mem_gate {
	struct vd_lock lock;
	uint32_t events;	 /* going on */
	uint32_t events_waiting; /* for the next swap to pass */
	uint32_t events_admitted; /* have waited, and are about to enter */
	uint64_t swaps;		 /* that have passed */
	bool swapping, swap_waiting;
	bool closed; /* the space is being destroyed: it hears no more */
	_Atomic uint32_t word;
};

struct vd_mem {
	const struct vd_env *env;
	struct vd_host *host;
	uintptr_t window_base;
	unsigned page_shift, host_page_shift, address_bits;
	bool internal;
	struct vd_mem_snapshot *_Atomic snapshot;
	_Atomic uint64_t generation;
	_Atomic bool released; /* the host's memory is gone */
	struct vd_notifier notifier;
	struct vd_listener host_listener;
	struct vd_mem_gate gate;
	struct vd_lock update_lock;
	struct vd_mem_update update;
	struct vd_mem_ids ids, private_ids;
	struct vd_dirty_ring *_Atomic ring; /* written under the update lock */
	_Atomic uint32_t trap_waiters;
	_Atomic uint32_t trap_word;
	/* Written under the update lock and, but @watching, under @watch_lock, which comes last. */
	struct vd_mem_watch *watches[VD_MEM_WATCHERS_MAX];
	_Atomic uint32_t watching;
	struct vd_lock watch_lock;
	_Atomic uint32_t watch_word; /* changes when the last call into a watcher ends */
	_Atomic uint64_t watch_sets; /* how often pages became watched */
};

/* The snapshot; acquire pairs with the release in vd_mem_commit(). */
static inline const struct vd_mem_snapshot *vd_mem_current(const struct vd_mem *mem)
{
	return atomic_load_explicit(&mem->snapshot, memory_order_acquire);
}

/* Inside a read section: if false, the host's memory stays until the section is left. */
static inline bool vd_mem_released(const struct vd_mem *mem)
{
	/* Acquire pairs with the release of the host's listener. */
	return atomic_load_explicit(&mem->released, memory_order_acquire);
}

/* vd_gate_enter_event() - 0; -EAGAIN if that would have to wait; -ESHUTDOWN once closed */
int vd_gate_enter_event(struct vd_mem *mem, bool blockable);
void vd_gate_leave_event(struct vd_mem *mem);
void vd_gate_enter_swap(struct vd_mem *mem);
void vd_gate_leave_swap(struct vd_mem *mem);
/* vd_gate_close() - waits until no event goes on; later ones are not let in */
void vd_gate_close(struct vd_mem *mem);
bool vd_gate_closed(struct vd_mem *mem);

extern const struct vd_listener_ops vd_mem_host_listener_ops;

/* vd_mem_run_start() - vd_notifier_start() for an event that must happen: repeats until it did */
void vd_mem_run_start(struct vd_mem *mem, const struct vd_invalidation *event);

/* vd_slot_destroy() - everything a slot holds; nobody can find it any more */
void vd_slot_destroy(struct vd_mem *mem, struct vd_mem_slot *slot);

/* vd_mem_slot_by_id() - a user's; under the update lock; NULL if none, private or leaving */
struct vd_mem_slot *vd_mem_slot_by_id(const struct vd_mem *mem, uint32_t id);

struct vd_trap_users *vd_trap_users_create(const struct vd_env *env);
void vd_trap_users_put(struct vd_trap_users *users);
/* vd_trap_drain() - wait until no call is inside, but those whose thread itself waits here */
void vd_trap_drain(struct vd_mem *mem, struct vd_trap_users *users);

/*
 * The log of one slot.
 * @mem, @slot_id: for the ring
 * @words: one bit a page
 */
struct vd_mem_dirty {
	struct vd_deferred deferred;
	const struct vd_env *env; /* may be freed later than the space */
	struct vd_mem *mem;
	size_t bytes;
	uint64_t pages;
	unsigned page_shift;
	uint32_t slot_id;
	_Atomic uint64_t words[];
};

void vd_dirty_free(const struct vd_env *env, struct vd_mem_dirty *dirty);
/* vd_dirty_mark() - the pages of [offset, offset + length) of a slot; length is not 0 */
void vd_dirty_mark(struct vd_mem_dirty *dirty, uint64_t offset, uint64_t length);
/* vd_dirty_protect() - no mirror lets stores to pages of the slot through any more */
void vd_dirty_protect(struct vd_mem *mem, const struct vd_slot *slot, uint64_t first_page,
		      uint64_t pages);
/* vd_dirty_ring_add() - the pages of @bits, counted from @page, have become dirty */
void vd_dirty_ring_add(struct vd_dirty_ring *ring, uint32_t slot_id, uint64_t page, uint64_t bits);
void vd_dirty_ring_free(const struct vd_env *env, struct vd_dirty_ring *ring);

/* vd_watched_create() - for a RAM slot of @pages; NULL without memory */
struct vd_mem_watched *vd_watched_create(const struct vd_env *env, uint64_t pages,
					 unsigned page_shift);
void vd_watched_free(const struct vd_env *env, struct vd_mem_watched *watched);
/*
 * vd_watch_page() - in a read section: what watchers mean for the page at @gpa, and cut *@left to
 * the bytes from there on for which they mean the same
 */
void vd_watch_page(const struct vd_slot *slot, uint64_t gpa, struct vd_mem_page *page,
		   uint64_t *left);

#endif
