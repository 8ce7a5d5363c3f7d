/* SPDX-License-Identifier: BSD-2-Clause */
/* The DMA address space itself, for the files of this floor. */
#ifndef VIADUCT_IOMMU_SPACE_H
#define VIADUCT_IOMMU_SPACE_H

#include <viaduct/iommu.h>
#include <viaduct/mmu.h>

#include "iommu/dirty_pages.h"
#include "iommu/iotlb.h"
#include "iommu/maps.h"

/* Translations are counted on every access: each thread in a cache line that is likely its own. */
#define DMA_COUNTERS 16u

struct dma_counter {
	_Alignas(64) _Atomic uint64_t translations; /* but those that need no look-up at all */
	_Atomic uint64_t direct; /* these: the IOTLB has them */
	_Atomic uint64_t hits, misses; /* of the IOTLB, on other ways */
};

/* An owner that is being asked to unpin; on the asking thread's stack. */
struct dma_ask {
	const struct vd_dma_owner *owner;
	struct dma_ask *next;
};

/* A range that is being discarded; on the discarding thread's stack. */
struct dma_discard {
	uint64_t start, last;
	struct dma_discard *next;
};

struct vd_dma_space {
	const struct vd_env *env;
	struct vd_host *host;
	uintptr_t window_base;
	const volatile uint32_t *ours; /* see vd_host_ours(): only with an object at hand */
	unsigned page_shift, host_page_shift;
	uint64_t pin_limit_ns;
	_Atomic uint32_t references;
	/* The guest's memory, if IOVA = guest physical address; then @maps stays empty. */
	struct vd_mem *mem;
	/* The chain that tells of changes: the followed space's, or the host's. */
	struct vd_notifier *chain;
	struct vd_listener listener;
	struct dma_maps maps; /* written under @lock */
	/* I/O page tables of an assigned space (assigned.c), else NULL. Changed under @lock */
	struct vd_pgtable *table;
	_Atomic bool closed;  /* nothing is reachable any more */

	/*
	 * The lock comes after every lock of a caller and is not held while anything is waited for
	 * or asked. A range becomes active on @chain before the listener takes the lock to look for
	 * pins, and a pin is checked against the active ranges under the same lock: so an
	 * invalidation either sees it or keeps it out.
	 */
	struct vd_lock lock;
	bool released; /* @chain and @mem are gone */
	struct vd_dma_pin *pins;
	struct dma_ask *asks;
	struct dma_discard *discards;
	uint64_t last_ask;
	uint32_t chain_sleepers; /* threads inside vd_notifier_wait(@chain) */
	uint32_t sleepers;	 /* threads that wait for @word */
	_Atomic uint32_t word;	 /* changes when pins, asks, discards or chain sleepers get fewer */
	uint64_t pin_count, pinned_bytes;
	uint64_t bounce_limit, bounced_bytes;

	_Atomic uint64_t faults, discarded, io_faults;
	_Atomic uint64_t remote_calls, remote_errors;
	/*
	 * Dirty tracking: NULL if there is none. Set and cleared with both locks held, used in a
	 * read section or with one of them. @tracking comes before @lock.
	 */
	struct dirty_pages *_Atomic dirty;
	struct vd_lock tracking;
	struct dma_tracked *tracked; /* under @tracking */

	struct dma_counter counters[DMA_COUNTERS];
	/*
	 * In front of @table, or of @maps. Of a mediated space that follows a guest it stays empty:
	 * slots change as a whole.
	 */
	struct iotlb iotlb;
};

static inline void dma_lock(struct vd_dma_space *space)
{
	space->env->lock(space->env, &space->lock);
}

static inline void dma_unlock(struct vd_dma_space *space)
{
	space->env->unlock(space->env, &space->lock);
}

/*
 * dma_sleep() - until @word changes or @deadline_ns (of the env's clock; 0: none) has passed
 * Lock held on entry and exit, not meanwhile. Return: false if the deadline has passed.
 */
bool dma_sleep(struct vd_dma_space *space, uint64_t deadline_ns);
/* dma_wake() - lock held */
void dma_wake(struct vd_dma_space *space);

static inline struct dma_counter *dma_counter(struct vd_dma_space *space)
{
	/* which thread this is */
	uint64_t hash = (uint64_t)(uintptr_t)__builtin_thread_pointer() *
			UINT64_C(0x9e3779b97f4a7c15);

	return &space->counters[(hash >> 60) % DMA_COUNTERS];
}

static inline void dma_add(_Atomic uint64_t *counter, uint64_t n)
{
	/* No atomic addition, which would cost as much as the translation itself. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline void dma_count(struct vd_dma_space *space, uint64_t translations)
{
	dma_add(&dma_counter(space)->translations, translations);
}

/* ---- resolve.c ------------------------------------------------------------------------------ */

/*
 * One IOVA, resolved. @key and @run say which range of the chain the answer depends on; @run is 0
 * if on none. Of memory that is reached by messages (-EREMOTE) only @run is meant: what is left of
 * the map.
 */
struct dma_piece {
	unsigned char *pointer;
	uint64_t run;
	uint64_t key;
	bool device;
	bool dirty_log;
	bool watched; /* and the access stores */
	bool walked;  /* found in I/O page tables: a store has made the leaf dirty */
	enum vd_memory_type type;
	unsigned rights; /* what may be done to the page, as long as nothing changes */
};

/*
 * dma_lookup_once() - in the maps, or the guest that is followed, whatever the mode; no retry
 * protocol, but -EAGAIN if that what was found is being changed. As dma_lookup()
 */
int dma_lookup_once(const struct vd_dma_space *space, uint64_t iova, unsigned access,
		    struct dma_piece *piece);
/* dma_lookup() - the same, until it is good or something is being changed */
int dma_lookup(struct vd_dma_space *space, uint64_t iova, unsigned access,
	       struct dma_piece *piece);
/*
 * dma_resolve() - by the mode of the space, under the retry protocol; in a read section, the lock
 * not held
 * Return: 0; -EFAULT; -EREMOTE mapped and allowed, but reached by messages; -EAGAIN what the answer
 *	depends on is being changed: dma_wait_for() it.
 */
int dma_resolve(struct vd_dma_space *space, uint64_t iova, unsigned access,
		struct dma_piece *piece);
/* dma_resolve_locked() - the same with the lock held */
int dma_resolve_locked(struct vd_dma_space *space, uint64_t iova, unsigned access,
		       struct dma_piece *piece);
/* dma_resolve_keep() - dma_resolve() for the next time as well */
int dma_resolve_keep(struct vd_dma_space *space, uint64_t iova, unsigned access,
		     struct dma_piece *piece);
/* dma_wait_for() - no lock held, not in a read section */
void dma_wait_for(struct vd_dma_space *space, const struct dma_piece *piece);
/*
 * dma_tell() - the watchers of the guest's pages in a range; no lock held, not in a read section
 * Return: for vd_mem_watch_told().
 */
uint64_t dma_tell(struct vd_dma_space *space, uint64_t iova, uint64_t length);
/* dma_forget() - all that was translated. Lock held; the space has been closed */
void dma_forget(struct vd_dma_space *space);
/* dma_fault() - counts. Return: -EFAULT. */
int dma_fault(struct vd_dma_space *space);

/* ---- assigned.c: of spaces with a table; the lock held, but for resolve --------------------- */

int dma_assigned_create(struct vd_dma_space *space, struct vd_error *error);
/* dma_assigned_resolve() - as dma_resolve(), or with the lock held if @locked */
int dma_assigned_resolve(struct vd_dma_space *space, uint64_t iova, unsigned access,
			 struct dma_piece *piece, bool locked);
/* dma_assigned_zap() - of IOVAs: nothing is found in tables or IOTLB any more */
void dma_assigned_zap(struct vd_dma_space *space, uint64_t start, uint64_t last);
/* dma_assigned_harvest() - note what the dirty bits of a range of IOVAs say, and clear them */
void dma_assigned_harvest(struct vd_dma_space *space, uint64_t start, uint64_t last);
struct dma_change;
/* What changes, as with dma_pins_drain(); costs a look at each map if it is of an object. */
void dma_assigned_invalidate(struct vd_dma_space *space, const struct dma_change *change);
void dma_assigned_write_protect(struct vd_dma_space *space, const struct dma_change *change);
/* dma_assigned_young() - Return: whether a leaf of what changes was used since last cleared */
bool dma_assigned_young(struct vd_dma_space *space, const struct dma_change *change, bool clear);

/* ---- dirty.c -------------------------------------------------------------------------------- */

/* dma_dirty() - after a device's store, in a read section or with the lock held */
static inline void dma_dirty(struct vd_dma_space *space, uint64_t iova, uint64_t length)
{
	/* Acquire pairs with the release in vd_dma_dirty_start(). */
	struct dirty_pages *dirty = atomic_load_explicit(&space->dirty, memory_order_acquire);

	if (__builtin_expect(dirty != NULL, 0))
		dirty_pages_mark(dirty, iova, length);
}

/* dma_dirty_end() - with the space itself */
void dma_dirty_end(struct vd_dma_space *space);

/* ---- map.c ---------------------------------------------------------------------------------- */

/*
 * dma_take_range() - take all maps of a range, which nobody pins, out of the database
 * Lock held. Return: the list of them.
 */
struct dma_map *dma_take_range(struct vd_dma_space *space, uint64_t start, uint64_t last);
/*
 * dma_free_maps() - let their memory go, when no guard is inside any more: sleeps
 * Return: bytes that were mapped.
 */
uint64_t dma_free_maps(struct vd_dma_space *space, struct dma_map *list);

/* ---- pin.c ---------------------------------------------------------------------------------- */

/*
 * What is going to change: IOVAs, or, with @object, bytes of an object. Pins that lack one of the
 * rights in @access do not mind.
 */
struct dma_change {
	const struct vd_host_object *object;
	uint64_t start, last;
	unsigned access;
	bool blockable;
};

/*
 * dma_pins_drain() - ask the owners of the pins concerned, and wait
 * Lock held on entry and exit, not while asking or waiting. New pins must have been kept out.
 * Return: 0: there are none; -EAGAIN: there are, and the change is not blockable; -EBUSY they
 *	stayed past the limit.
 */
int dma_pins_drain(struct vd_dma_space *space, const struct dma_change *change);
/* dma_pins_any() - whether there is one that minds. Lock held. */
bool dma_pins_any(const struct vd_dma_space *space, const struct dma_change *change);

/* ---- discard.c ------------------------------------------------------------------------------ */

/*
 * dma_discards_wait() - until none of the range goes on. Lock held on entry and exit, not
 * meanwhile. New ones must have been kept out.
 */
void dma_discards_wait(struct vd_dma_space *space, uint64_t start, uint64_t last);

/* ---- remote.c ------------------------------------------------------------------------------- */

/* A map of memory that is reached by messages. */
struct dma_remote_map {
	struct dma_map map; /* its object is NULL */
	const struct vd_dma_remote_ops *ops;
	void *context;
	uint32_t calls; /* under way that no pin stands for; under the lock */
};

/* dma_map_free() - a map that is in no space any more, and what it holds */
void dma_map_free(const struct vd_env *env, struct dma_map *map);
/*
 * dma_remote_copy() - to (VD_READ) or from @buffer as much as one map holds. No lock held, not in a
 * read section.
 * @length: bytes wanted in, done out
 * Return: 0; -EFAULT there is no such map any more; what the callback returned.
 */
int dma_remote_copy(struct vd_dma_space *space, uint64_t iova, unsigned access,
		    unsigned char *buffer, uint64_t *length);
/*
 * dma_remote_wait() - until no such copy goes on in a range. Lock held on entry and exit, not
 * meanwhile. New ones must have been kept out.
 * Return: 0; -EBUSY they stayed past the limit.
 */
int dma_remote_wait(struct vd_dma_space *space, uint64_t start, uint64_t last);
/*
 * dma_bounce_copy() - between the bounce buffer of a pin and the memory it stands for
 * @access: VD_READ: from there into the buffer; VD_WRITE: the other way round
 * The pin is linked, so the maps stay, closed or not. No lock held.
 * Return: 0, or the first error of a callback. With VD_WRITE the other maps are written all the
 *	same.
 */
int dma_bounce_copy(struct vd_dma_pin *pin, unsigned access);
/* dma_bounce_allocate() - the pin's buffer. Return: 0; -ENOBUFS the limit; -ENOMEM. */
int dma_bounce_allocate(struct vd_dma_pin *pin, uint64_t bytes);
void dma_bounce_free(struct vd_dma_pin *pin);

/* ---- invalidate.c --------------------------------------------------------------------------- */

extern const struct vd_listener_ops dma_listener_ops;

#endif
