/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 1, host memory
 *
 * A *host* (struct vd_host) owns one PROT_NONE window into which every shareable memory object is
 * mapped, and one notifier chain. The truth about a piece of memory is (object, offset).
 *
 * A pfn is (address - window base) >> page shift, taken modulo 2^56 bytes, so that memory used at
 * its own address outside the window (private, foreign) has a pfn as well, and every pfn fits the
 * 44 bits of a RISC-V PPN: one add brings it back to a host pointer.
 *
 * Lock order (outermost first): notifier events (one at a time a chain, no lock held while
 * listeners are called) -> mem's update lock -> mmu lock -> device lock -> object lock.
 */
#ifndef VIADUCT_HOST_H
#define VIADUCT_HOST_H

#include <viaduct/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_host;
struct vd_host_object;

/* ---- the notifier chain ---------------------------------------------- */

enum vd_invalidate_reason {
	VD_INVALIDATE_UNMAP,	/* the memory goes away */
	VD_INVALIDATE_DISCARD,	/* its content goes, the range stays (punch hole, balloon) */
	VD_INVALIDATE_PROTECT,	/* permissions shrink */
	VD_INVALIDATE_MOVE,	/* other frames, same content */
	VD_INVALIDATE_SLOT,	/* the slot set changes */
	VD_INVALIDATE_RESET,	/* the device behind a BAR is reset or disabled */
	VD_INVALIDATE_WRITE_PROTECT, /* writable entries become read-only (dirty log, snapshot) */
};

/**
 * struct vd_invalidation - one event
 * @object: the memory object, on a host's chain; NULL on a guest space's chain (see mem.h)
 * @start: first byte: offset in @object, or guest physical address
 * @length: bytes, not 0, does not wrap
 * @blockable: whether listeners may sleep for long; if not, one that must returns -EAGAIN
 * @reason: why
 */
struct vd_invalidation {
	const struct vd_host_object *object;
	uint64_t start;
	uint64_t length;
	bool blockable;
	enum vd_invalidate_reason reason;
};

struct vd_listener;

/**
 * struct vd_listener_ops - a mirror of the memory map
 * @invalidate_start: drop everything cached of the range and return only when nobody uses it any
 *	more. 0, or -EAGAIN if it would have to sleep and @event is not blockable
 * @invalidate_end: the change is done (or was given up); what comes in now is the new state.
 *	Optional
 * @clear_young: forget that the range was used; true if it had been. Optional
 * @test_young: true if the range was used since the last clear. Optional
 * @release: the memory dies as a whole: drop everything and fault nothing in again. Optional
 *
 * Called without locks of the chain; may unregister itself from within.
 */
struct vd_listener_ops {
	int (*invalidate_start)(struct vd_listener *listener, const struct vd_invalidation *event);
	void (*invalidate_end)(struct vd_listener *listener, const struct vd_invalidation *event);
	bool (*clear_young)(struct vd_listener *listener, const struct vd_invalidation *range);
	bool (*test_young)(struct vd_listener *listener, const struct vd_invalidation *range);
	void (*release)(struct vd_listener *listener);
};

/**
 * struct vd_listener - embedded in the mirror; only @ops is the owner's
 * @number: order of registration: an event ends only for those for whom it started
 */
struct vd_listener {
	const struct vd_listener_ops *ops;
	struct vd_listener *next;
	uint64_t number;
};

/**
 * struct vd_active_range - one invalidation between its start and its end
 * @low, @high: first and last byte; @low > @high when the room is free
 * @object: of the event
 * @last_listener: number of the last listener registered when it started
 * @ticket: order of the starts
 * @thread: who started it
 */
struct vd_active_range {
	_Atomic uint64_t low, high;
	const struct vd_host_object *object;
	uint64_t last_listener;
	uint64_t ticket;
	const void *thread;
};

/* Active invalidations whose ranges are kept apart; more than that share their union. */
#define VD_NOTIFIER_RANGES 8u
/* Bits of seq that count invalidations which found nobody listening: threads at the same time. */
#define VD_NOTIFIER_UNARMED_BITS 24u

/**
 * struct vd_notifier - a chain of listeners and the retry protocol
 *
 * Who installs a translation: (1) seq = vd_notifier_begin(), (2) looks the page up, (3) under its
 * own lock, asks vd_notifier_retry(); if true it installs nothing, drops its lock, may call
 * vd_notifier_wait(), and starts again. The range is entered into @ranges before listeners are
 * called: a leaf installed after a passed check is seen by the listener's zap, which takes the same
 * lock. At the end @seq is raised before the range is dropped: who no longer sees the range sees
 * that @seq moved.
 *
 * Any number of invalidations may be active at once, overlapping or not, on any threads. @lock is
 * never held while a listener is called. It comes after every other lock, so any function here but
 * register, unregister, wait and (if blockable) start may be called with locks held that no
 * listener takes.
 *
 * Who only touches memory and installs nothing (a guest accessor, the guard of a DMA) does the same
 * in a read section of the environment: enter, (1), (2), (3), touch, leave; the section takes the
 * place of the lock. For that a listener of the chain must call env->synchronize() in its
 * invalidate_start: who passed (3) before the range was entered has left before the memory changes,
 * who comes later does not pass (3). Such a listener answers -EAGAIN to an event that is not
 * blockable.
 *
 * What a change costs while nobody listens: vd_notifier_start() and vd_notifier_end() may run on
 * different threads and any time apart, and who registers must wait for what is under way, so each
 * of them counts (one atomic add). Who changes memory under a lock of its own pays a load and a
 * branch instead, and calls neither: it asks vd_notifier_armed() when it has the lock (armed: drop
 * the lock, vd_notifier_start(), take it again); asking before it takes the lock as well saves who
 * is heard a second lock, no more. For that the owner of the chain sets @wait_changes after
 * vd_notifier_init(): it takes and drops every such lock. Registration calls it when the chain is
 * armed and before the listener looks anything up. All vd_host_object_*() changes work that way: on
 * a host's chain they leave no trace in @seq when nobody listens, so there only listeners follow
 * the retry protocol.
 */
struct vd_notifier {
	const struct vd_env *env;
	struct vd_lock lock;		/* everything below that is not atomic */
	struct vd_listener *first;
	struct vd_notifier_walk *walks;	/* callbacks that run now */
	uint64_t last_listener;
	uint64_t last_ticket;
	_Atomic uint64_t seq;		/* ended; below, those under way that were not noted */
	_Atomic uint32_t armed;		/* listeners, and those that are about to be */
	_Atomic uint32_t active;	/* ranges in use, the shared one counted once a user */
	_Atomic uint32_t sleepers;
	_Atomic uint32_t wake;		/* futex word: raised when something ends or returns */
	uint32_t shared_users;
	struct vd_active_range ranges[VD_NOTIFIER_RANGES + 1]; /* the last one is shared */
	bool dead;
	void (*wait_changes)(struct vd_notifier *notifier); /* NULL: nobody relies on it */
};

/** vd_notifier_init() - an empty chain; cannot fail */
void vd_notifier_init(struct vd_notifier *notifier, const struct vd_env *env);
/** vd_notifier_fini() - the chain is empty again, and nothing is active or waits */
void vd_notifier_fini(struct vd_notifier *notifier);

/**
 * vd_notifier_register() - add a listener, at the end: it is called after those already there
 *
 * Its callbacks may run before this returns. It hears of no event that started before, and may look
 * nothing up before this returns. Sleeps until such events are over where they cannot be told apart
 * (more than VD_NOTIFIER_RANGES at once, or nobody listened): not from a callback, nor between
 * start and end.
 * Return: 0, -EINVAL without an invalidate_start, -ESHUTDOWN after release.
 */
int vd_notifier_register(struct vd_notifier *notifier, struct vd_listener *listener);

/**
 * vd_notifier_unregister() - remove it; on return no callback of it runs (but the caller's own)
 *
 * No end comes any more for events that have started. May be called from any of its own callbacks,
 * and the listener may be freed as soon as this returns. Waits for its callbacks on other threads:
 * no lock held that they take. Once a listener; harmless if it is not (or no longer) registered.
 */
void vd_notifier_unregister(struct vd_notifier *notifier, struct vd_listener *listener);

/**
 * vd_notifier_start() - before a change: every mirror drops the range
 *
 * May sleep if @event->blockable. When it fails, those already called have got their end and
 * nothing has changed. With nobody listening it costs one predictable branch and one atomic add, as
 * does the end; the range is then not noted, and vd_notifier_retry() and vd_notifier_wait() take it
 * for all of them. See struct vd_notifier for how to pay only the branch.
 * Return: 0: the caller changes the memory, then calls vd_notifier_end() with the same event.
 *	-EAGAIN: a listener would have to sleep. Another negative errno of a listener.
 */
int vd_notifier_start(struct vd_notifier *notifier, const struct vd_invalidation *event);

/**
 * vd_notifier_end() - the change is done, or was given up
 * @event: same content as at the start; on any thread
 */
void vd_notifier_end(struct vd_notifier *notifier, const struct vd_invalidation *event);

/**
 * vd_notifier_release() - the memory dies: calls every listener's release once; nobody can register
 * any more
 */
void vd_notifier_release(struct vd_notifier *notifier);
/** vd_notifier_clear_young() - asks all listeners; true if any says the range had been used */
bool vd_notifier_clear_young(struct vd_notifier *notifier, const struct vd_invalidation *range);
/** vd_notifier_test_young() - same, changes nothing, stops at the first that says so */
bool vd_notifier_test_young(struct vd_notifier *notifier, const struct vd_invalidation *range);

/** vd_notifier_armed() - whether anybody listens or is about to; one predictable branch */
static inline bool vd_notifier_armed(const struct vd_notifier *notifier)
{
	/* acquire: pairs with the release of who left last */
	return __builtin_expect(
		atomic_load_explicit(&notifier->armed, memory_order_acquire) != 0, 0);
}

/** vd_notifier_begin() - step 1 of installing a translation; acquire pairs with end's release */
static inline uint64_t vd_notifier_begin(const struct vd_notifier *notifier)
{
	return atomic_load_explicit(&notifier->seq, memory_order_acquire);
}

/**
 * vd_notifier_retry() - step 3: whether the lookup since @seq may be stale for the range
 *
 * Lock-free; under the lock that the listener's invalidate_start takes to zap. True while an
 * overlapping invalidation is active (then wait, no lock held) and once after any ended.
 */
bool vd_notifier_retry(const struct vd_notifier *notifier, uint64_t seq, uint64_t start,
		       uint64_t length);

/**
 * vd_notifier_wait() - sleep until no active invalidation overlaps the range
 *
 * No lock held that a changer or a listener takes, and not between start and end on the same
 * thread.
 */
void vd_notifier_wait(struct vd_notifier *notifier, uint64_t start, uint64_t length);

/* ---- objects and the window ------------------------------------------ */

/** enum vd_page_kind - from the mapping, never from asking whether a page exists */
enum vd_page_kind {
	VD_PAGE_RAM = 1,  /* counted */
	VD_PAGE_RESERVED, /* RAM hidden from the host: valid, never counted or marked */
	VD_PAGE_DEVICE,	  /* never counted or marked */
};

/** enum vd_memory_type - how the host maps it; a table entry copies this */
enum vd_memory_type {
	VD_MEMORY_NORMAL,
	VD_MEMORY_UNCACHED,	   /* device, strongly ordered */
	VD_MEMORY_WRITE_COMBINING, /* device, prefetchable */
};

/**
 * struct vd_host_page - what (object, offset) is right now
 * @pfn: the page; VD_PFN_BAD if there is none
 * @kind, @type: see above
 * @writable: whether a store may be allowed *now* (a private mapping: only after a write fault)
 * @run: bytes from the looked-up offset on (not rounded) for which pfn just counts up and the
 *	rest holds alike; at least 1
 */
struct vd_host_page {
	vd_pfn pfn;
	enum vd_page_kind kind;
	enum vd_memory_type type;
	bool writable;
	uint64_t run;
};

/**
 * struct vd_host_config
 * @env: outlives the host and all its objects
 * @window_size: bytes, rounded up to 1 GiB; 0 for 1 TiB, or what the process can get of it, at
 *	least 64 GiB
 * @page_shift: 0 for the host's own; at least that
 */
struct vd_host_config {
	const struct vd_env *env;
	uint64_t window_size;
	unsigned page_shift;
};

/**
 * vd_host_create() - reserve the window (PROT_NONE, no memory is used)
 * Return: 0, -ENOMEM, -EINVAL (page shift smaller than the host's).
 */
int vd_host_create(const struct vd_host_config *config, struct vd_host **host,
		   struct vd_error *error);
/* ---- physical memory, without a process behind it ---------------------- */

/**
 * struct vd_physical_range - a piece of the platform's memory map
 * @start, @length: bytes, multiples of the page; ends at or below 2^56
 * @kind: VD_PAGE_RESERVED is RAM that nobody else uses, such as a firmware's own
 * @type: how it is to be mapped; of a device never VD_MEMORY_NORMAL, of all else always
 * @own: the hypervisor's image, heap and tables: no object is ever made of it
 */
struct vd_physical_range {
	uint64_t start, length;
	enum vd_page_kind kind;
	enum vd_memory_type type;
	bool own;
};

/**
 * struct vd_host_physical_config
 * @env: outlives the host and all its objects
 * @page_shift: of the smallest granule of the tables to come, 12 to 30
 * @ranges, @count: the memory map, in any order; copied; at most 1024. Ranges may not overlap, but
 *	those marked @own: they lie wherever they like, and go before all others
 */
struct vd_host_physical_config {
	const struct vd_env *env;
	unsigned page_shift;
	const struct vd_physical_range *ranges;
	uint32_t count;
};

/**
 * vd_host_create_physical() - a host that is the machine: a pfn is a physical address, the window
 * begins at 0, and nothing is mapped or allocated for an object. Freestanding
 * Return: 0; -EINVAL page shift, or a range that is empty, misaligned or of a type that does not go
 * with its kind, or too many of them; -EOVERFLOW a range wraps or ends above 2^56; -EEXIST ranges
 * overlap; -ENOMEM.
 */
int vd_host_create_physical(const struct vd_host_physical_config *config, struct vd_host **host,
			    struct vd_error *error);
/**
 * vd_host_is_ours() - whether this is the process that the host was made in
 *
 * A host is bound to its address space. In a child after fork() everything that makes, looks up,
 * holds or changes memory answers -EOWNERDEAD, here and on the floors above; a descriptor that was
 * passed on can be imported into a host of the other process's own. The child leaves the handles
 * alone: locks may be held by threads that are not there. What it tears down all the same (objects,
 * a detector) takes nothing from the parent.
 */
bool vd_host_is_ours(const struct vd_host *host);
/**
 * vd_host_ours() - for hot loops: not 0 where vd_host_is_ours() says true; good as long as an
 * object of the host is held
 */
const volatile uint32_t *vd_host_ours(const struct vd_host *host);
/** vd_host_is_physical() - whether it came from vd_host_create_physical() */
bool vd_host_is_physical(const struct vd_host *host);

/**
 * vd_host_destroy() - release listeners, unmap, and drop the reference that vd_host_create() gave
 *
 * Once. Objects still referenced stay valid as handles but are empty, and no new ones are made. May
 * run at the same time as anything that a reference of its own allows, the end of objects and of
 * spaces included, on other threads; no lock held that a listener takes. NULL is ignored.
 */
void vd_host_destroy(struct vd_host *host);
/**
 * vd_host_get() - one more reference to the handle, not to the memory. Lock-free
 *
 * Objects hold one, and so does everything that is made over a host: they may go in any order.
 * Return: @host.
 */
struct vd_host *vd_host_get(struct vd_host *host);
/** vd_host_put() - drops a reference; the last one frees. Never sleeps for long. NULL is ignored */
void vd_host_put(struct vd_host *host);
/** vd_host_env() - what it was created with */
const struct vd_env *vd_host_env(const struct vd_host *host);
/** vd_host_page_shift() - bits of an offset within a page: what a pfn counts */
unsigned vd_host_page_shift(const struct vd_host *host);
/** vd_host_notifier() - the host's chain; events carry (object, offset) */
struct vd_notifier *vd_host_notifier(struct vd_host *host);
/** vd_host_window_base() - for vd_host_pointer() in hot loops */
uintptr_t vd_host_window_base(const struct vd_host *host);

/** vd_host_pointer() - pfn to host pointer: one shift, a sign extension from bit 55, one add */
static inline void *vd_host_pointer(uintptr_t window_base, vd_pfn pfn, unsigned page_shift)
{
	int64_t distance = (int64_t)(pfn.value << page_shift << 8) >> 8;

	return (void *)(window_base + (uintptr_t)distance);
}

/* What an object is made with. */
#define VD_HOST_HUGETLB 1u  /* 2 MiB hugetlb pages; -ENOMEM where the host has none */
#define VD_HOST_SPARES 2u   /* keep spare frames so that vd_host_object_move() works */
#define VD_HOST_READ_ONLY 4u /* of imports and private memory: no lookup for writing succeeds */
#define VD_HOST_ANNOUNCED 8u /* of private memory: changed by vd_host_object_*() only */
#define VD_HOST_DEVICE 16u   /* of physical ranges: device memory is meant, and nothing else */

/**
 * vd_host_ram_create() - guest RAM in a sealed memfd, mapped into the window at a 1 GiB (if large
 * enough, else 2 MiB) boundary; no page is allocated yet
 * Return: 0, -ENOMEM, -EINVAL (size 0 or not a multiple of the page), -ESHUTDOWN (the host was
 * destroyed).
 */
int vd_host_ram_create(struct vd_host *host, const char *name, uint64_t size, unsigned flags,
		       struct vd_host_object **object, struct vd_error *error);

/**
 * vd_host_import() - map an existing descriptor into the window (duplicated; the caller keeps fd)
 * @kind, @type: of all its pages
 * @flags: VD_HOST_READ_ONLY
 * A regular or memfd without F_SEAL_SHRINK can be truncated by its owner at any time: without the
 * fault guard installed such a descriptor is refused.
 * Return: 0, -EINVAL, -EACCES (descriptor does not allow what is asked), -EPERM (no guard),
 * -ENOMEM, -ESHUTDOWN.
 */
int vd_host_import(struct vd_host *host, const char *name, int fd, uint64_t fd_offset,
		   uint64_t size, enum vd_page_kind kind, enum vd_memory_type type, unsigned flags,
		   struct vd_host_object **object, struct vd_error *error);

/**
 * vd_host_private() - memory of this process used at its own address (MAP_PRIVATE, anonymous,
 * file-backed): lookups for reading never break copy-on-write and report it not writable; once a
 * page was looked up for writing it counts as writable. Not unmapped by us.
 * @flags: VD_HOST_READ_ONLY, VD_HOST_ANNOUNCED
 *
 * Nothing tells us when this memory is unmapped, discarded or remapped behind our back. Who gives
 * VD_HOST_ANNOUNCED promises to do so by vd_host_object_discard() and the like only, and gets
 * memory that can be swapped and discarded. Without the promise it is locked as long as slots or
 * DMA maps use it: see vd_host_object_hold().
 * Return: 0, -EINVAL, -ENOMEM, -ESHUTDOWN.
 */
int vd_host_private(struct vd_host *host, const char *name, void *address, uint64_t size,
		    unsigned flags, struct vd_host_object **object, struct vd_error *error);

/**
 * vd_host_physical() - a range of the platform's memory map, of one kind and type, at its own
 * address
 * @host: of vd_host_create_physical()
 * @flags: VD_HOST_DEVICE, VD_HOST_READ_ONLY
 *
 * Each reason to refuse has an error of its own. The memory is not claimed: objects may overlap.
 * Changes (vd_host_object_discard() and the like) answer -EOPNOTSUPP.
 * Return: 0; -EINVAL no physical host, unknown flags, empty or misaligned; -EOVERFLOW wraps or ends
 * above 2^56; -EPERM a part is the hypervisor's own; -ENXIO a hole; -EXDEV straddles kinds or
 * types; -EMEDIUMTYPE device memory, but VD_HOST_DEVICE is not given; -ENODEV the other way round;
 * -ENOMEM; -ESHUTDOWN.
 */
int vd_host_physical(struct vd_host *host, const char *name, uint64_t start, uint64_t length,
		     unsigned flags, struct vd_host_object **object, struct vd_error *error);
/** vd_host_object_physical() - where a physical range begins; of all other objects UINT64_MAX */
uint64_t vd_host_object_physical(const struct vd_host_object *object);

/** vd_host_object_get() - one more reference. Lock-free. Return: @object */
struct vd_host_object *vd_host_object_get(struct vd_host_object *object);
/**
 * vd_host_object_put() - last reference: invalidates the whole object, then unmaps it
 *
 * Sleeps; no lock held that a listener takes, not inside a read section, not from a deferred
 * function. Should a listener refuse, the memory stays mapped and unused until the host goes. NULL
 * is ignored.
 */
void vd_host_object_put(struct vd_host_object *object);
/** vd_host_object_size() - bytes; never changes, even if an import's owner truncates it */
uint64_t vd_host_object_size(const struct vd_host_object *object);
/** vd_host_object_kind() - of all its pages */
enum vd_page_kind vd_host_object_kind(const struct vd_host_object *object);
/** vd_host_object_name() - for people; cut to 63 bytes; lives as long as the object */
const char *vd_host_object_name(const struct vd_host_object *object);
/** vd_host_object_host() - good as long as the object; may have been destroyed */
struct vd_host *vd_host_object_host(const struct vd_host_object *object);
/**
 * vd_host_object_fd() - the descriptor to hand to another process, or -EBADF for private memory
 *
 * Stays the object's. Offset 0 of the object need not be offset 0 of the descriptor, nor need it
 * stay where it is: ask vd_host_object_fd_range().
 */
int vd_host_object_fd(const struct vd_host_object *object);

/**
 * vd_host_object_fd_range() - where in the descriptor an offset lies now
 * @fd_offset: set to the offset in the descriptor
 * @run: set to the bytes from there on that lie in a row
 *
 * As good as a lookup: until an invalidation of the range (a move changes it). Lock-free.
 * Return: the descriptor; -EBADF private memory; -ERANGE outside the object.
 */
int vd_host_object_fd_range(const struct vd_host_object *object, uint64_t offset,
			    uint64_t *fd_offset, uint64_t *run);

/**
 * vd_host_object_lookup() - gfn_to_pfn's lower half: what is at (object, offset)
 * @access: VD_READ or VD_READ|VD_WRITE
 *
 * Takes no reference: the result is good until an invalidation of the range; follow the retry
 * protocol. Lock-free.
 * Return: 0; -ERANGE outside the object; -EACCES write to read-only; -EFAULT nothing there any
 * more; -EOWNERDEAD another process.
 */
int vd_host_object_lookup(const struct vd_host_object *object, uint64_t offset, unsigned access,
			  struct vd_host_page *page);

/**
 * vd_host_object_hold() - before a slot or a DMA map: lock memory that may change unannounced
 * @offset, @length: bytes, multiples of the page
 *
 * Whoever lets a guest or a device reach a piece of an object calls this first, whatever the
 * object, and vd_host_object_unhold() for the same piece when that is over: counted, pieces may
 * overlap. It does something only for private memory without VD_HOST_ANNOUNCED: all of the piece
 * gets memory (a private mapping its own copies) and is locked (mlock(2)). It can then not be
 * swapped, nor discarded by anybody: the kernel refuses, and vd_host_object_discard() and a
 * protection that takes away the right to store answer -EBUSY. munmap(2) it obeys: do not. Objects
 * in the window are never locked. A lock that the owner of the memory had put on it himself goes
 * with the last hold.
 *
 * Sleeps; any lock may be held.
 * Return: 0; -ENOMEM, -EPERM: not locked, because of RLIMIT_MEMLOCK, or it is not all mapped;
 * -EINVAL; -ERANGE. On error nothing has changed.
 */
int vd_host_object_hold(struct vd_host_object *object, uint64_t offset, uint64_t length,
			struct vd_error *error);
/**
 * vd_host_object_unhold() - undo one vd_host_object_hold() of the very same piece; nothing once the
 * host has been destroyed, which undoes all
 */
void vd_host_object_unhold(struct vd_host_object *object, uint64_t offset, uint64_t length);

/*
 * Changes to an object: each runs the host's chain (start, change, end), sleeps, and may be called
 * on several threads at once; no lock held that a listener takes. Offsets and lengths are bytes,
 * multiples of the page (the huge page with VD_HOST_HUGETLB). Return: 0; -ERANGE, -EINVAL
 * (misaligned or empty), -EAGAIN (a listener could not sleep and @blockable was false), -EBUSY
 * (pinned for longer than the owner's limit; held, by vd_host_object_hold()), -EOPNOTSUPP (the kind
 * of object does not support it), -ENOMEM, -EIO. On error nothing changed.
 */
/**
 * vd_host_object_discard() - the content goes (reads as zero, a private file mapping as the file);
 * the range stays
 */
int vd_host_object_discard(struct vd_host_object *object, uint64_t offset, uint64_t length,
			   bool blockable);
/**
 * vd_host_object_discard_unused() - discard only pages that have no memory behind them: loses
 * nothing, whoever is just about to touch them. Shared objects only
 */
int vd_host_object_discard_unused(struct vd_host_object *object, uint64_t offset, uint64_t length,
				  bool blockable);
/**
 * vd_host_object_protect() - take away or give back the right to store
 *
 * Lookups obey, and the window's mapping as well: a mirror that missed the event faults. Private
 * memory's own mapping is not touched.
 */
int vd_host_object_protect(struct vd_host_object *object, uint64_t offset, uint64_t length,
			   bool writable, bool blockable);
/**
 * vd_host_object_move() - same content in other frames (other pfns); needs VD_HOST_SPARES; old
 * frames read as zero
 */
int vd_host_object_move(struct vd_host_object *object, uint64_t offset, uint64_t length,
			bool blockable);
/**
 * vd_host_object_restore() - after a hit of the fault guard: the object's own memory in place of
 * the zeroes
 *
 * For imports whose owner took memory away and gave it back. Runs the chain as a move does (the
 * mirrors hold the zeroes). The notify word of a guard says when to try.
 * Return: as the changes above; -EFAULT where there is still nothing.
 */
int vd_host_object_restore(struct vd_host_object *object, uint64_t offset, uint64_t length,
			   bool blockable);
/**
 * vd_host_object_resident() - bytes of the range that have memory behind them now (counts pages)
 *
 * What is swapped out does not count. Imports that we may not write all count as resident
 * (mincore(2)).
 * Return: 0; -ERANGE, -EINVAL; -EFAULT the host has been destroyed.
 */
int vd_host_object_resident(const struct vd_host_object *object, uint64_t offset, uint64_t length,
			    uint64_t *bytes);

/* ---- the fault guard ------------------------------------------------- */

/**
 * vd_host_guard_install() - opt-in, process-wide: SIGBUS and SIGSEGV inside a window of ours, on
 * a thread that has a guard set, put a page of zeroes under the access and mark the guard, instead
 * of ending the process. Everything else goes to the handlers that were there before.
 * Return: 0, -errno of sigaction.
 */
int vd_host_guard_install(struct vd_error *error);
/**
 * vd_host_guard_uninstall() - undo one install; the last one puts the earlier handlers back, unless
 * somebody has set others on top: then ours stays below them and only passes on
 */
void vd_host_guard_uninstall(void);

/**
 * struct vd_host_guard - one a thread, set once a run loop or request, never once an access
 * @hits: raised by the handler at each lost page
 * @notify: OR-ed with @notify_bits at a hit, if not NULL: a hart's request word
 */
struct vd_host_guard {
	struct vd_host_guard *outer;
	_Atomic uint32_t hits;
	_Atomic uint32_t *notify;
	uint32_t notify_bits;
};
/** vd_host_guard_enter() - from now on this thread survives lost pages; guards nest */
void vd_host_guard_enter(struct vd_host_guard *guard);
/** vd_host_guard_leave() - of the guard entered last, on the thread that entered it */
void vd_host_guard_leave(struct vd_host_guard *guard);

/* ---- guest RAM: relaxed atomics and one copy function ---------------- */

#define VD_GUEST_ACCESSORS(bits)                                                                   \
	static inline uint##bits##_t vd_guest_load##bits(const void *p)                            \
	{                                                                                          \
		return __atomic_load_n((const uint##bits##_t *)p, __ATOMIC_RELAXED);               \
	}                                                                                          \
	static inline void vd_guest_store##bits(void *p, uint##bits##_t value)                     \
	{                                                                                          \
		__atomic_store_n((uint##bits##_t *)p, value, __ATOMIC_RELAXED);                    \
	}
VD_GUEST_ACCESSORS(8)
VD_GUEST_ACCESSORS(16)
VD_GUEST_ACCESSORS(32)
VD_GUEST_ACCESSORS(64)
#undef VD_GUEST_ACCESSORS

/**
 * vd_guest_copy() - copy to or from guest RAM, which others may be changing meanwhile
 *
 * Not atomic as a whole; naturally aligned units of up to 8 bytes are. Invisible to TSan, as a
 * guest's races with itself or with DMA are its own.
 */
void vd_guest_copy(void *to, const void *from, size_t length);

#ifdef __cplusplus
}
#endif
#endif
