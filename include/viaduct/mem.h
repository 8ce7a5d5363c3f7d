/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 2, the guest-physical address space
 *
 * Slots say what lies where: RAM and device slots point at (host object, offset), trap slots at
 * read/write operations together with the reason why the area is trapped. Nothing takes a raw host
 * address: what cannot be a host object cannot be mapped into a guest. Readers never lock: the slot
 * set is an immutable snapshot, replaced as a whole and freed after its readers have left.
 *
 * The space is a listener of its host's chain and runs a chain of its own with guest physical
 * ranges: an event about host memory reaches every slot that maps it. Secondary page tables, soft
 * TLBs and DMA address spaces listen there. Removing and moving slots runs the same chain. Events
 * about host memory and swaps of the slot set exclude each other, so that start and end of an event
 * see the same slots.
 *
 * Whoever keeps what a lookup said, "nothing is here" included, follows the retry protocol of
 * vd_mem_notifier(): vd_notifier_begin(), look up, and under the own lock vd_notifier_retry(). That
 * is also why a replacement shows no hole: while slots leave, their ranges are active on the chain.
 * An answer of "nothing" or "trap" may instead be kept with the vd_mem_generation() read before the
 * lookup, and dropped when that has moved: adding slots runs no event.
 *
 * What waits for what: an update waits for events about host memory to end, for listeners, and for
 * read sections of the environment; a copy waits for events over its range. So no function that
 * changes slots or copies may be called inside a read section, by a listener, or by a thread
 * between start and end of an event.
 */
#ifndef VIADUCT_MEM_H
#define VIADUCT_MEM_H

#include <viaduct/host.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_mem;

/** VD_MEM_SLOTS_MAX - slots a space can hold, private ones not counted */
#define VD_MEM_SLOTS_MAX 32768u
/** VD_MEM_PRIVATE_SLOTS_MAX - private slots a space can hold beside them */
#define VD_MEM_PRIVATE_SLOTS_MAX 1024u
/** VD_MEM_PRIVATE_ID - set in the ids of private slots: an id space of their own */
#define VD_MEM_PRIVATE_ID (1u << 31)

/**
 * enum vd_slot_kind - what an access to a slot means
 * @VD_SLOT_RAM: memory: mapped, copied from and to, dirty-logged
 * @VD_SLOT_DEVICE: memory of a device, mapped straight into the guest; never copied or logged
 * @VD_SLOT_TRAP: no memory: operations are called
 */
enum vd_slot_kind { VD_SLOT_RAM = 1, VD_SLOT_DEVICE, VD_SLOT_TRAP };

/**
 * struct vd_trap_ops - operations of a trapped area
 * @read: put the value into *@value, which is 0 on entry
 * @write: take the value
 *
 * @offset counts from the slot's base; @length is 1, 2, 4 or 8, and @offset is a multiple of it: an
 * access that is not is split. Values are those of a little-endian guest, zero-extended. Called on
 * the accessing thread, outside any lock or read section of this floor; may change the slot set, up
 * to removing the slot it was called through.
 * Return: 0; a negative errno makes the access fault in the guest.
 */
struct vd_trap_ops {
	int (*read)(void *context, uint64_t offset, unsigned length, uint64_t *value);
	int (*write)(void *context, uint64_t offset, unsigned length, uint64_t value);
};

/**
 * struct vd_slot_config - one slot as asked for
 * @base, @size: guest physical range in bytes; page-aligned for RAM and device slots, any for traps
 * @kind: see there. RAM slots take no object of kind VD_PAGE_DEVICE
 * @read_only: guest stores fault (RAM, device)
 * @object, @offset: memory behind it (RAM, device), page-aligned; while the slot lives, it is
 *	referenced and held (vd_host_object_hold())
 * @ops, @context: of a trap slot; they outlive it
 * @reason: of a trap slot: why, in words, for people; a string that outlives the slot
 * @name: for people; a string that outlives the slot, or NULL
 * @is_private: the VMM's own (an internal VM's memory, say), with an id of the private space: user
 *	calls neither list, count, move, log nor remove it, and it spends none of their slots.
 *	Lookups, copies and events find it as any other
 */
struct vd_slot_config {
	vd_gpa base;
	uint64_t size;
	enum vd_slot_kind kind;
	bool read_only;
	struct vd_host_object *object;
	uint64_t offset;
	const struct vd_trap_ops *ops;
	void *context;
	const char *reason;
	const char *name;
	bool is_private;
};

/**
 * struct vd_slot - as found by a lookup; good inside the read section only
 * @config: as it was given, with the base it has now
 * @id: for updates and the dirty log; never 0, stays when the slot moves, comes back late when it
 *	is gone
 * @valid: false while being removed or moved: treat as absent
 * @dirty, @watched: internal
 */
struct vd_slot {
	struct vd_slot_config config;
	uint32_t id;
	_Atomic bool valid;
	struct vd_mem_dirty *_Atomic dirty;
	struct vd_mem_watched *_Atomic watched;
};

/**
 * struct vd_mem_config - a space as asked for
 * @env: outlives the space
 * @host: may be destroyed first; then the slots stay, with nothing behind them. The space holds a
 *	reference to the handle
 * @page_shift: 0 for the host's; at least that, at most 30
 * @address_bits: guest physical; slots must end at or below 2^address_bits. 0 for 50 (Sv48x4,
 *	RISC-V privileged manual, "Hypervisor Extension"); at most 63
 * @internal: there is no process behind this guest: see vd_mem_is_internal()
 */
struct vd_mem_config {
	const struct vd_env *env;
	struct vd_host *host;
	unsigned page_shift;
	unsigned address_bits;
	bool internal;
};

/**
 * vd_mem_create() - an empty space that listens to its host
 * Return: 0; -EINVAL page shift or address bits, or internal over a host that is not physical;
 *	-ENOMEM; -ESHUTDOWN the host was released.
 */
int vd_mem_create(const struct vd_mem_config *config, struct vd_mem **mem, struct vd_error *error);

/**
 * vd_mem_destroy() - removes all slots and frees the space; NULL is nothing
 *
 * Waits for events about host memory that go on, then tells the listeners that are left to release:
 * they unregister there, or have done so before. No other call into the space, and no trap
 * operation of it, goes on. The host may be destroyed before, after, or meanwhile on another
 * thread.
 */
void vd_mem_destroy(struct vd_mem *mem);

/** vd_mem_env() - the environment it was made with */
const struct vd_env *vd_mem_env(const struct vd_mem *mem);
/** vd_mem_host() - the host it was made over; may have been destroyed, good as long as the space */
struct vd_host *vd_mem_host(const struct vd_mem *mem);
/** vd_mem_page_shift() - of the guest's pages */
unsigned vd_mem_page_shift(const struct vd_mem *mem);
/**
 * vd_mem_is_internal() - whether the guest has no process address space behind it
 *
 * The memory of such a guest is physical memory at its own address (IPA = PA), in slots over a
 * physical host (vd_host_physical()) that are added by the same calls as any; nothing is emulated
 * for it, so it has no traps. Its tables are filled up front: see vd_internal_create() in mmu.h.
 */
bool vd_mem_is_internal(const struct vd_mem *mem);
/** vd_mem_notifier() - the chain with guest physical ranges; its events have no object */
struct vd_notifier *vd_mem_notifier(struct vd_mem *mem);

/* ---- updates ------------------------------------------------------------------------------- */

struct vd_mem_update;

/**
 * vd_mem_begin() - start an update: any number of changes, published together
 *
 * Takes the update lock, which vd_mem_commit() or vd_mem_abort() on the same thread drops. There is
 * one update at a time; the dirty log waits for it as well.
 * Return: 0; -ENOMEM; -EOWNERDEAD in a child after fork(), see vd_host_is_ours(). On error no
 * update has begun.
 */
int vd_mem_begin(struct vd_mem *mem, struct vd_mem_update **update);

/**
 * vd_mem_add() - add a slot
 * @slot: copied
 * @id: gets the new slot's id; may be NULL
 *
 * A failure leaves the update as it was before the call. The range may be one that the same update
 * has emptied.
 * Return: 0; -EINVAL empty, misaligned, or members that do not go with its kind; -EOVERFLOW wraps
 *	or exceeds the address bits; -EXDEV memory of another host; -ERANGE not inside the object;
 *	-EEXIST overlaps a slot; -ENOSPC too many slots; -EPERM memory that must be locked cannot
 *	be; -ENOMEM, that as well; of an internal guest: -EADDRNOTAVAIL another address than its
 *	memory's own; -EOPNOTSUPP a trap.
 */
int vd_mem_add(struct vd_mem_update *update, const struct vd_slot_config *slot, uint32_t *id,
	       struct vd_error *error);

/**
 * vd_mem_remove() - remove a slot: as a whole, as it was added
 * Return: 0; -ENOENT no such slot, or removed in this update already.
 */
int vd_mem_remove(struct vd_mem_update *update, uint32_t id);

/**
 * vd_mem_move() - give a slot another base; it keeps its id, memory, dirty log and context
 *
 * May overlap where the slot itself was. Two slots change places by way of a third base.
 * Return: 0; -ENOENT; -EINVAL, -EOVERFLOW, -EEXIST, -ENOMEM as vd_mem_add(), with nothing changed.
 */
int vd_mem_move(struct vd_mem_update *update, uint32_t id, vd_gpa base, struct vd_error *error);

/**
 * vd_mem_commit() - publish all changes of the update; cannot fail
 *
 * Old slots that leave or move are marked invalid and their ranges run through the chain, reason
 * VD_INVALIDATE_SLOT, blockable: when every mirror has dropped and flushed them, the new set is
 * published, read sections that may hold something of the old one are waited for, and the event
 * ends. Ranges of other slots are not touched. Additions alone wait for no reader.
 *
 * Sleeps. No lock is held by the caller that a listener or a trap operation takes.
 *
 * On return no operation of a removed trap slot runs and none will: its context may be freed. Not
 * waited for are operations that the calling thread is itself inside of, and those whose thread is
 * waiting in a commit of its own, as two operations that remove each other's slot would wait for
 * ever.
 */
void vd_mem_commit(struct vd_mem_update *update);

/**
 * vd_mem_remove_private() - remove a private slot, in an update, as vd_mem_remove() does others
 * Return: 0; -ENOENT no such slot, a user's, or removed in this update already.
 */
int vd_mem_remove_private(struct vd_mem_update *update, uint32_t id);

/** vd_mem_abort() - forget all changes of the update */
void vd_mem_abort(struct vd_mem_update *update);

/** vd_mem_add_slot() - an update of one vd_mem_add(); same errors */
int vd_mem_add_slot(struct vd_mem *mem, const struct vd_slot_config *slot, uint32_t *id,
		    struct vd_error *error);
/** vd_mem_remove_slot() - an update of one vd_mem_remove(); -ENOENT, -ENOMEM */
int vd_mem_remove_slot(struct vd_mem *mem, uint32_t id);

/* ---- lookup -------------------------------------------------------------------------------- */

/** struct vd_mem_hint - where something was found last; one a thread and space, zeroed at first */
struct vd_mem_hint {
	uint64_t generation;
	uint32_t index;
};

/**
 * vd_mem_find() - the slot that holds a guest physical address
 * @hint: tried first; may be NULL
 *
 * Inside a read section of the environment. Lock-free; takes about as long among 32768 slots as
 * among one, up to cache misses.
 * Return: the slot, or NULL.
 */
const struct vd_slot *vd_mem_find(const struct vd_mem *mem, vd_gpa gpa, struct vd_mem_hint *hint);

/**
 * vd_mem_each() - call @fn for every slot of one set but private ones, by ascending address
 *
 * In a read section that it enters itself: @fn neither sleeps nor changes slots. Stops when it
 * returns non-zero.
 * Return: 0, or what stopped it.
 */
int vd_mem_each(const struct vd_mem *mem, int (*fn)(void *context, const struct vd_slot *slot),
		void *context);

/**
 * vd_mem_generation() - changes with every commit; never 0
 *
 * Read it before a lookup: what was found is at least as new as the generation says.
 */
uint64_t vd_mem_generation(const struct vd_mem *mem);

/** vd_mem_slot_count() - slots of the current set, private ones not counted */
size_t vd_mem_slot_count(const struct vd_mem *mem);
/** vd_mem_private_count() - private slots of the current set */
size_t vd_mem_private_count(const struct vd_mem *mem);

/**
 * struct vd_mem_page - gfn_to_pfn's answer
 * @host: what is there; @host.run counts from the address asked for and is cut to where all of this
 *	holds alike: to the slot, and to the page where a dirty log marks a page at a time
 * @slot_id, @kind, @slot_base, @slot_size: the slot it came from
 * @writable: slot and host allow a store now, dirty logging needs no fault first, and nobody
 *	watches the page
 * @watched: somebody does: no store, not even the one that was asked for, without
 *	vd_mem_watch_tell()
 * @dirty_log: stores to the slot are logged: whoever makes a page writable marks it dirty
 */
struct vd_mem_page {
	struct vd_host_page host;
	uint32_t slot_id;
	enum vd_slot_kind kind;
	uint64_t slot_base, slot_size;
	bool writable;
	bool watched;
	bool dirty_log;
};

/**
 * vd_mem_gpa_to_pfn() - look a guest address up
 * @access: VD_READ, VD_WRITE or VD_EXECUTE: what the guest does. A read never breaks copy-on-write
 *	of private memory; with VD_WRITE such a page counts as written
 *
 * Lock-free, takes no reference: follow the retry protocol, also before acting on a failure.
 * Return: 0; -ENOENT no slot; -EREMOTE a trap slot (the access is emulated); -EACCES the slot or
 *	the host allows no store; -EFAULT the host has nothing there; -EOWNERDEAD this is
 *	another process. On failure @page's pfn is VD_PFN_BAD.
 */
int vd_mem_gpa_to_pfn(const struct vd_mem *mem, vd_gpa gpa, unsigned access,
		      struct vd_mem_page *page);

/* ---- access -------------------------------------------------------------------------------- */

/**
 * vd_mem_read() - checked copy out of RAM slots
 *
 * May cross slots; never touches traps or devices. Waits while the range is being invalidated. The
 * copy is not atomic as a whole; naturally aligned units of up to 8 bytes are. @length bytes are
 * copied in one read section: whoever passes a guest's length on, bounds it.
 * Return: 0; -EFAULT if any byte is not RAM, or the range wraps.
 */
int vd_mem_read(struct vd_mem *mem, vd_gpa gpa, void *buffer, size_t length);

/**
 * vd_mem_write() - checked copy into RAM slots; as vd_mem_read(), and marks the dirty log
 *
 * Return: 0; -EFAULT as there; -EACCES a slot or the host is read-only. On failure nothing was
 *	written (but where foreign memory vanished during the copy itself).
 */
int vd_mem_write(struct vd_mem *mem, vd_gpa gpa, const void *buffer, size_t length);

/**
 * vd_mem_mmio_read() - dispatch one load to the trap slot that holds all of it
 * @length: 1, 2, 4 or 8
 * @value: gets the value, zero-extended; not touched when no operation was called
 *
 * No lock or read section is held while the operation runs; see vd_mem_commit() for how long the
 * slot's context stays. A load that is not naturally aligned becomes several, from low to high.
 * Return: 0; the operation's error; -ENOENT no trap slot holds it; -EINVAL length, or wraps.
 */
int vd_mem_mmio_read(struct vd_mem *mem, vd_gpa gpa, unsigned length, uint64_t *value);

/** vd_mem_mmio_write() - dispatch one store, as vd_mem_mmio_read(); what precedes an error stays */
int vd_mem_mmio_write(struct vd_mem *mem, vd_gpa gpa, unsigned length, uint64_t value);

/**
 * vd_mem_discard() - give the host the memory behind pages of RAM; they read as zero from then on
 * @gpa, @length: whole pages, all in RAM slots that the guest may store to
 * @blockable: false: rather fail than wait for pins or for a change of the slot set
 * @discarded: set to the bytes that are gone: from @gpa on, one stretch for each slot; all of
 *	@length if this succeeds
 *
 * Each stretch is one vd_host_object_discard(); from the look at the slots to the last of them the
 * slot set does not change, so memory that has just left the guest is never hit. It counts as a
 * store: the dirty log marks the pages, and watchers are told before it. Who must have each page as
 * of one moment keeps discards out while he sets his watch: those of devices, by quiescing them.
 *
 * Sleeps, as the changes of an object do: no lock held that a listener takes, not in a read
 * section, not by a listener. May run on several threads, and inside an operation of a trap slot.
 * Return: 0; with nothing changed, -EINVAL empty or no whole pages; -EOVERFLOW; -EFAULT not all of
 *	it is RAM; -EACCES a read-only or private slot; -ESHUTDOWN the space is being destroyed;
 *	what vd_host_object_discard() returns of the stretch that failed, which is unchanged:
 *	-EAGAIN,
 *	-EBUSY it is pinned or held, -EINVAL smaller than the object's huge pages, -EOPNOTSUPP.
 */
int vd_mem_discard(struct vd_mem *mem, vd_gpa gpa, uint64_t length, bool blockable,
		   uint64_t *discarded);

/* ---- the dirty log ------------------------------------------------------------------------- */

/**
 * vd_mem_dirty_start() - log stores to a RAM slot, one bit a page, all clear
 *
 * Every mirror drops its leave to store (VD_INVALIDATE_WRITE_PROTECT over the slot); from then on
 * the first store to a page is seen: a mirror asks vd_mem_gpa_to_pfn() with VD_WRITE and marks it.
 * Sleeps, as vd_mem_commit(). The log goes with the slot.
 * Return: 0; -ENOENT no such slot; -EINVAL a device or trap slot; -EALREADY; -ENOMEM.
 */
int vd_mem_dirty_start(struct vd_mem *mem, uint32_t slot_id);

/** vd_mem_dirty_stop() - log no more. Return: 0; -ENOENT no such slot; -ENODATA no log runs. */
int vd_mem_dirty_stop(struct vd_mem *mem, uint32_t slot_id);

/**
 * vd_mem_dirty_fetch() - copy the log out and clear it
 * @bitmap: one bit a page, bit 0 of byte 0 first; all (pages + 7) / 8 bytes are written
 * @bytes: room in @bitmap
 *
 * Mirrors are write-protected again before return, over the span of the pages that were dirty: what
 * is stored later is reported by the next fetch, what was stored before can be read now.
 * Return: 0; -ENOENT no such slot; -ENODATA no log runs; -ENOSPC @bytes is too small.
 */
int vd_mem_dirty_fetch(struct vd_mem *mem, uint32_t slot_id, uint8_t *bitmap, size_t bytes);

/**
 * vd_mem_mark_dirty() - the pages of a range, after they were stored to or before they may be
 *
 * Lock-free. Nothing where no log runs; the range may be anything.
 */
void vd_mem_mark_dirty(struct vd_mem *mem, vd_gpa gpa, uint64_t length);

/**
 * struct vd_mem_dirty_page - an entry of the dirty ring
 * @slot_id: of the slot that was stored to
 * @page: number of the page within it
 */
struct vd_mem_dirty_page {
	uint32_t slot_id;
	uint64_t page;
};

/**
 * struct vd_mem_dirty_ring_config
 * @entries: a power of two, 64 to 2^20
 * @soft: entries from which on it counts as full; less than @entries, as devices and harts that
 *	have not been stopped yet still add to it. 0 for seven eighths
 * @full: told once after a fetch when so many are reached, on the thread that stored: it neither
 *	sleeps nor calls back. It stops the harts, or wakes who fetches. NULL for nobody
 * @context: passed to @full
 */
struct vd_mem_dirty_ring_config {
	uint32_t entries, soft;
	void (*full)(void *context);
	void *context;
};

/**
 * vd_mem_dirty_ring_create() - also list the pages that become dirty, in the order they do
 *
 * One ring a space, for all of its dirty logs, those that run already included. What a fetch costs
 * is then what was stored to, not the size of memory. The bitmaps stay: what finds no room in the
 * ring is in them, so nothing is ever lost.
 * Return: 0; -EINVAL entries or soft; -EALREADY; -ENOMEM.
 */
int vd_mem_dirty_ring_create(struct vd_mem *mem, const struct vd_mem_dirty_ring_config *config);
/** vd_mem_dirty_ring_destroy() - list no more. Sleeps. Return: 0; -ENODATA there is none. */
int vd_mem_dirty_ring_destroy(struct vd_mem *mem);
/**
 * vd_mem_dirty_ring_state() - how full it is; lock-free
 * @used: set to the entries now; may be NULL
 *
 * Return: 0; -ENOBUFS full, by the soft limit; -ENODATA there is none.
 */
int vd_mem_dirty_ring_state(const struct vd_mem *mem, uint32_t *used);
/**
 * vd_mem_dirty_ring_fetch() - take pages out of the ring and of the bitmaps
 * @pages: gets them, oldest first
 * @room: of @pages
 * @count: set to how many there were
 *
 * As with vd_mem_dirty_fetch(), mirrors are write-protected again before return: what was stored to
 * these pages before can be read now, what is stored later is listed again. Pages that
 * vd_mem_dirty_fetch() has reported meanwhile, and those of logs that ended, are left out.
 * Return: 0; -ENOBUFS as well as the pages: since the last call some found no room, and are in the
 *	bitmaps only; -ENODATA there is no ring.
 */
int vd_mem_dirty_ring_fetch(struct vd_mem *mem, struct vd_mem_dirty_page *pages, size_t room,
			    size_t *count);

/* ---- watching stores ----------------------------------------------------------------------- */

/** VD_MEM_WATCHERS_MAX - watchers a space can have at a time */
#define VD_MEM_WATCHERS_MAX 8u

struct vd_mem_watch;

/**
 * struct vd_mem_watch_ops - somebody wants to know of stores to pages of RAM slots
 * @store: bytes of watched pages are about to be stored to, or have been; act on whole pages
 *
 * Whoever stores calls it: vd_mmu_fault() (with one byte: how long the access is it does not know),
 * vd_mem_write(), DMA copies and pins. It is called before the store is let through, by
 * vd_mem_watch_tell(). What may become of the page then:
 *
 * - the watcher clears it, if it has seen enough, as a snapshot that has copied the page does, or a
 *   shadow table that no longer needs it. The store goes on, and nobody is told after it;
 * - it stays watched. A copy and a pin are let through all the same, and the watcher is called once
 *   more when they are over: by the end of vd_mem_write() and vd_dma_write(), by vd_dma_unpin().
 *   vd_mmu_fault() installs nothing and returns -EUCLEAN: the store is to be emulated (by
 *   vd_mem_write()). vd_dma_translate() asks again until the page is not watched any more, so a
 *   watcher keeps a page only where it knows the store for its own.
 *
 * Called on the storing thread, with no lock or read section of floors 0 to 4 held; several calls
 * may run at once, for the same page as well. It may sleep and look memory up. It must not store to
 * watched memory, change slots, or add or remove a watcher. Locks of a device may be held (who pins
 * and copies), so it takes none that a holder of its own locks waits for.
 */
struct vd_mem_watch_ops {
	void (*store)(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length);
};

/** struct vd_mem_watch - embedded by the watcher; zeroed, but for @ops, which is the owner's */
struct vd_mem_watch {
	const struct vd_mem_watch_ops *ops;
	struct vd_mem *mem;
	unsigned number;
	uint32_t calls;
	bool leaving;
};

/**
 * vd_mem_watch_add() - a new watcher, of no page yet
 *
 * Takes a byte a page of RAM for as long as there is any watcher. Takes the update lock.
 * Return: 0; -EINVAL no @store; -ENOSPC too many; -ENOMEM.
 */
int vd_mem_watch_add(struct vd_mem *mem, struct vd_mem_watch *watch);
/**
 * vd_mem_watch_remove() - it watches nothing; on return no call of it runs, and none will
 *
 * Nothing if it is not (or no longer) added. Sleeps; takes the update lock. Before the space goes.
 */
void vd_mem_watch_remove(struct vd_mem_watch *watch);
/**
 * vd_mem_watch_set() - watch the pages that a range meets, as far as they are RAM
 *
 * From then on no mirror is given leave to store there. Those that have it, and copies that are
 * under way, are not concerned until vd_mem_write_protect() of the range has returned: what they
 * store is seen by who reads the page after that. Write pins that are held go on, until unpin.
 * Lock-free; aliases of the memory in other slots are other pages.
 */
void vd_mem_watch_set(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length);
/** vd_mem_watch_clear() - watch them no more; lock-free, @store may do it */
void vd_mem_watch_clear(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length);
/**
 * vd_mem_write_protect() - every mirror drops its leave to store to a range
 *
 * Runs VD_INVALIDATE_WRITE_PROTECT and waits for read sections. Sleeps: as vd_mem_commit().
 */
void vd_mem_write_protect(struct vd_mem *mem, vd_gpa gpa, uint64_t length);
/**
 * vd_mem_watched() - whether somebody watches a page that the range meets
 *
 * For who is about to store there: asked in a read section that lasts until the store is over.
 * While there is no watcher, one load and one branch.
 */
bool vd_mem_watched(struct vd_mem *mem, vd_gpa gpa, uint64_t length);
/**
 * vd_mem_watch_tell() - call the watchers of those pages of a range that are watched
 *
 * Outside of locks and read sections; sleeps. Nothing where nobody watches; the range may be
 * anything.
 * Return: for vd_mem_watch_told(); never 0.
 */
uint64_t vd_mem_watch_tell(struct vd_mem *mem, vd_gpa gpa, uint64_t length);
/**
 * vd_mem_watch_told() - whether all who watch now were told by a call of vd_mem_watch_tell()
 * @told: what it returned, or 0: nobody was
 *
 * For who finds a page watched, as for vd_mem_watched(): if not, a page may have become watched
 * since, perhaps by another watcher, who is to be told before the store as well.
 */
bool vd_mem_watch_told(const struct vd_mem *mem, uint64_t told);
/** vd_mem_watched_else() - vd_mem_watched(), by another than @watch: for a watcher that stores */
bool vd_mem_watched_else(const struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length);
/** vd_mem_watch_tell_else() - vd_mem_watch_tell(), all but @watch */
void vd_mem_watch_tell_else(const struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length);

#ifdef __cplusplus
}
#endif
#endif
