/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 1, foreign memory: other code's memory of this process, used at its own address
 *
 * Such memory is somebody else's: he discards, protects, moves and unmaps it by system calls of
 * his own, and tells nobody. A *detector* (struct vd_foreign) learns of it through userfaultfd(2)
 * and runs the host's chain for him, so that nothing need be pinned. What it sees, and how late:
 *
 * - madvise(MADV_DONTNEED, MADV_FREE, MADV_REMOVE): before the pages go. The caller waits until
 *   every mirror has dropped the memory; the range stays invalid until the pages are gone.
 * - munmap(2), mmap(2) over it, mremap(2) away: after the fact, within about 100 microseconds while
 *   the monitor gets the processor; the caller waits until every mirror has dropped it. The range
 *   is dead from then on: lookups answer -EFAULT. If something is mapped at the address again by
 *   then, it may have been reached through a mirror: the host's chain ends in release, and no guest
 *   of this host goes on. What was mapped there and unmapped again in between goes unnoticed.
 * - mprotect(2): not at all. An access that the mapping does not allow is dropped by the fault
 *   guard and counts as a hit (struct vd_host_guard): a load reads zero, a store is lost, and a
 *   hart makes it an access fault of its guest. On other hosts than x86-64 the guard cannot.
 * - truncation of the file behind a private mapping: not at all; SIGBUS, as for mprotect.
 * - mlock(2), MADV_COLD, MADV_PAGEOUT, swapping, fork(2) and the copies it causes: no change for
 *   who uses memory at its address.
 *
 * A private page is only "not writable until written" in what lookups say; see vd_host_private().
 * docs/memory-changes.md has the whole table.
 *
 * The detector has two threads, made and ended by explicit calls. The *monitor* reads the events;
 * it takes no memory from malloc and prints nothing. Who changes the memory waits for it, so a
 * thread that changes it may hold no lock that a listener takes and may not be between start and
 * end of an event. Signals are blocked in both but SIGSEGV and SIGBUS, so that a listener on the
 * monitor may use a fault guard. The *watchdog* closes the descriptor if the monitor dies, or is
 * held up by listeners for longer than a limit: then nobody waits any more, and all memory of the
 * detector is dead.
 *
 * Where userfaultfd is blocked (containers), or does not serve a kind of mapping (private mappings
 * of ordinary files), memory is locked instead, as vd_host_object_hold() says. Nobody else has a
 * special case for that. Never give it heap or stacks: a monitor or a listener that touches memory
 * whose owner waits for it waits for ever.
 */
#ifndef VIADUCT_FOREIGN_H
#define VIADUCT_FOREIGN_H

#include <viaduct/host.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_foreign;

/** VD_FOREIGN_OBJECTS_MAX - objects that one detector watches */
#define VD_FOREIGN_OBJECTS_MAX 64u

/**
 * struct vd_foreign_config
 * @host: referenced as long as the detector lives
 * @limit_ms: how long listeners may take over one event before the watchdog gives the memory up;
 *	0 for 60 000, which is above what a pinned range may take
 * @hold: do not even try userfaultfd; lock
 */
struct vd_foreign_config {
	struct vd_host *host;
	uint64_t limit_ms;
	bool hold;
};

/**
 * vd_foreign_create() - start a detector
 *
 * Succeeds also where userfaultfd is not to be had, see vd_foreign_detects(). Works unprivileged
 * (UFFD_USER_MODE_ONLY): it asks for events only and never arms a page.
 * Return: 0; -ENOMEM; -EAGAIN no thread; -EMFILE; -EINVAL a physical host.
 */
int vd_foreign_create(const struct vd_foreign_config *config, struct vd_foreign **foreign,
		      struct vd_error *error);

/**
 * vd_foreign_destroy() - stop watching
 *
 * Objects still referenced stay valid as handles but are empty, as nobody would tell of changes.
 * Waits for the monitor, so not from a listener, and no lock held that one takes. Objects may go
 * before or after. NULL is ignored.
 */
void vd_foreign_destroy(struct vd_foreign *foreign);

/** vd_foreign_detects() - whether changes are seen; false: memory is locked instead */
bool vd_foreign_detects(const struct vd_foreign *foreign);

/**
 * vd_foreign_object() - a vd_host_private() object that the detector watches
 * @address, @size: multiples of the page, all mapped, neither heap nor stack. Not unmapped by us
 * @flags: VD_HOST_READ_ONLY
 *
 * Changes by vd_host_object_*() work as for VD_HOST_ANNOUNCED memory; if it has to be locked, as
 * vd_host_object_hold() says.
 * Return: as vd_host_private(); -EEXIST overlaps one that is watched; -ENOSPC too many.
 */
int vd_foreign_object(struct vd_foreign *foreign, const char *name, void *address, uint64_t size,
		      unsigned flags, struct vd_host_object **object, struct vd_error *error);

/** vd_foreign_watches() - whether this object's changes are seen; false: it is locked when used */
bool vd_foreign_watches(const struct vd_host_object *object);

/**
 * struct vd_foreign_stats - since the start
 * @discards, @unmaps, @remaps: events that concerned an object
 * @unsettled: discards at which no page was seen to go: their end was waited for another way
 * @released: the address was in use again: the host's chain ended in release
 * @lost: the watchdog gave up, and all objects are dead
 */
struct vd_foreign_stats {
	uint64_t discards, unmaps, remaps, unsettled;
	bool released, lost;
};

/** vd_foreign_stats() - any thread; a snapshot that need not fit together */
void vd_foreign_stats(const struct vd_foreign *foreign, struct vd_foreign_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
