/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 4, DMA address spaces
 *
 * What a device may reach, by IOVA. Mapping stores, pinning pins: a map keeps (object, offset,
 * length, access) and costs nothing else; memory is held only while a device has I/O under way.
 *
 * A space is either filled by vd_dma_map() and vd_dma_unmap(), as by a VFIO client, or follows a
 * guest's memory map, with IOVA = guest physical address (vd_dma_follow()). Only the latter marks
 * the guest's dirty logs and tells its watchers: a map knows the object, not whose memory it is.
 * Who fills a space with memory of a guest of this process, and wants to copy it as it runs, asks
 * vd_dma_dirty_start() as well.
 *
 * Two primitives. The *guard* (vd_dma_translate() between vd_dma_guard_enter/leave, and
 * vd_dma_read/write) is a read section of the environment: short, never sleeps; an invalidation
 * waits for it. The *pin* is counted over ranges, for asynchronous I/O: an invalidation closes the
 * range to new pins, asks the owners, and waits with no lock held up to the space's limit. A pin's
 * owner never calls invalidate. Where an invalidation may not sleep and there are pins, it fails
 * with -EAGAIN.
 *
 * Memory may also be somebody's who gave no descriptor and answers messages (vd_dma_map_remote()):
 * copies and pins reach it like any other, but sleep; no guard can hold it.
 *
 * Anything outside the maps faults, is counted and changes nothing (A12); in a space that follows a
 * guest that includes all trap slots: registers, configuration space, the MSI window. Device memory
 * (another device's BAR) is reached like RAM; while it is being reset or moved, DMA to it faults
 * instead of waiting.
 *
 * Addresses, lengths and counts given to translate, read, write and pin may come from a hostile
 * guest.
 *
 * Stores to pages that somebody watches (vd_mem_watch_add()) wait until he was told.
 *
 * Locks: functions may be called with any lock held that no listener or watcher of the memory and
 * no unpin_request takes, except where noted. Memory, host and space may go in any order, but not
 * at the same time.
 */
#ifndef VIADUCT_IOMMU_H
#define VIADUCT_IOMMU_H

#include <viaduct/mem.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_dma_space;

/**
 * enum vd_dma_mode - how accesses find the memory; all functions answer alike in both
 * @VD_DMA_MEDIATED: each is looked up in the maps, or in the slots of the guest that is followed
 * @VD_DMA_ASSIGNED: each goes through I/O page tables of floor mmu with an IOTLB in front of them,
 *	as if an IOMMU stood between a device and all of the guest's memory
 *
 * I/O page tables (Sv48x4, as in the second stage of a RISC-V IOMMU whose device contexts have
 * tc.GADE) hold pages and blocks that somebody accessed, and are filled by I/O page faults: a
 * device here can fault, so nothing is pinned for them, and memory behind them is discarded, moved
 * and swapped as if they were not there. Only where I/O cannot fault (a device behind the real
 * /dev/vfio) all memory must be mapped beforehand and stay pinned. They are a listener: an
 * invalidation drops entries, and the IOTLB's with them, before memory changes. Who maps many
 * pieces of one object pays for it there: each such event of an object looks at every map.
 *
 * Walks set accessed and dirty bits. The ageing of host memory asks for the former; reports of
 * vd_dma_dirty_report() are made of the latter. Each guest's own dirty logs are marked as in the
 * other mode.
 *
 * Not held by tables, and so looked up by a fault each time: memory that may only be written, what
 * lies at or above 2^50, and stores to watched pages. Where there is no memory for a table, the
 * access is answered without.
 */
enum vd_dma_mode { VD_DMA_MEDIATED, VD_DMA_ASSIGNED };

/**
 * struct vd_dma_config - a space to be
 * @env: must outlive the space
 * @host: whose memory objects it can map
 * @page_shift: alignment of maps; 0 for the host's, else at least that
 * @pin_limit_ms: how long an invalidation waits for pins before -EBUSY; 0 for 10 s
 * @bounce_limit: bytes that the buffers of all pins together may take, for memory that is reached
 *	by messages; 0 for 64 MiB
 * @mode: see there
 */
struct vd_dma_config {
	const struct vd_env *env;
	struct vd_host *host;
	unsigned page_shift;
	uint64_t pin_limit_ms;
	uint64_t bounce_limit;
	enum vd_dma_mode mode;
};

/**
 * vd_dma_space_create() - an empty space
 * Return: 0; -EINVAL page shift, limit or mode; -ENOMEM; -ESHUTDOWN the host is being destroyed.
 */
int vd_dma_space_create(const struct vd_dma_config *config, struct vd_dma_space **space,
			struct vd_error *error);

/**
 * vd_dma_space_destroy() - nothing is reachable any more; all maps go
 *
 * Asks the owners of pins and waits for them, up to the limit; what is then still pinned stays for
 * ever. Sleeps; no lock held, not in a guard. The struct itself goes with the last
 * vd_dma_space_put(). NULL is ignored.
 */
void vd_dma_space_destroy(struct vd_dma_space *space);

/**
 * vd_dma_space_get() - for who may outlive the space's destruction; every call on it then faults.
 * Return: @space.
 */
struct vd_dma_space *vd_dma_space_get(struct vd_dma_space *space);
/** vd_dma_space_put() - undo vd_dma_space_get(); never sleeps */
void vd_dma_space_put(struct vd_dma_space *space);

/**
 * vd_dma_map() - make (object, offset) reachable at an IOVA
 * @access: VD_READ: the device may read, VD_WRITE: it may write
 *
 * Keeps a reference to @object; touches none of its memory. Never sleeps, but to lock memory that
 * may change unannounced: see vd_host_object_hold().
 *
 * Return: 0; -EINVAL zero length, IOVA, length or offset misaligned, no access; -EOVERFLOW wraps;
 *	-EEXIST overlaps a map; -ERANGE outside the object; -EACCES write to a read-only object;
 *	-EXDEV an object of another host; -ENOSPC over 131 072 maps; -EBUSY the space follows a
 *	guest; -ESHUTDOWN it is destroyed; -EPERM memory that must be locked cannot be; -ENOMEM,
 *	that as well. On error nothing has changed.
 */
int vd_dma_map(struct vd_dma_space *space, vd_iova iova, uint64_t length,
	       struct vd_host_object *object, uint64_t offset, unsigned access);

/**
 * struct vd_dma_remote_ops - memory that is reached by messages: a client that gave no descriptor
 * @read, @write: @length bytes, all in one map; needed as far as the map's access goes
 *
 * Called on the thread that copies, pins or unpins, with no lock of this floor held and in no
 * guard; may sleep, on several threads at once, and may call into the space. The caller's locks are
 * held: a device's. Messages that are too long for the client are the callback's to split.
 *
 * vd_dma_unmap() waits for calls under way: whoever unmaps sees to it first that they return, with
 * an error. It may also be the thread that calls back: an owner of a pin that lets go when it is
 * asked writes back from inside vd_dma_unmap(). Who cannot send a message then returns an error.
 *
 * Return: 0; a negative errno (-EIO, -ETIMEDOUT, -ECONNRESET, -ECANCELED ...), which the copy or
 *	pin returns as well, with -EIO in place of -EAGAIN and -EREMOTE.
 */
struct vd_dma_remote_ops {
	int (*read)(void *context, vd_iova iova, void *buffer, size_t length);
	int (*write)(void *context, vd_iova iova, const void *buffer, size_t length);
};

/**
 * vd_dma_map_remote() - make memory that is reached by messages reachable at an IOVA
 * @access: as vd_dma_map()
 * @ops, @context: until the map is gone
 *
 * vd_dma_read() and vd_dma_write() call back; vd_dma_pin() gives a buffer that is filled and
 * written back; vd_dma_translate() answers -EOPNOTSUPP. One copy or pin may reach both kinds of
 * maps.
 *
 * Return: as vd_dma_map(); -EINVAL as well if an operation is missing.
 */
int vd_dma_map_remote(struct vd_dma_space *space, vd_iova iova, uint64_t length, unsigned access,
		      const struct vd_dma_remote_ops *ops, void *context);

/**
 * vd_dma_unmap() - take away exactly the maps that lie in the range
 * @unmapped: set to the bytes that were mapped, 0 on error; may be NULL
 *
 * Closes the maps (new accesses fault), asks the owners of pins and waits for them, for guards, for
 * vd_dma_discard() and for callbacks of remote maps.
 * Sleeps; no lock held that a guard's or pin's holder takes, not in a guard.
 *
 * Return: 0, also where nothing was mapped; -EINVAL zero length, misaligned, or it would split a
 *	map; -EOVERFLOW; -EBUSY the space follows a guest, or pins or callbacks stayed past the
 *	limit: then the maps stay, closed, and keep their memory until a later call succeeds.
 */
int vd_dma_unmap(struct vd_dma_space *space, vd_iova iova, uint64_t length, uint64_t *unmapped);
/** vd_dma_unmap_all() - vd_dma_unmap() of all maps. Return: 0; -EBUSY. */
int vd_dma_unmap_all(struct vd_dma_space *space, uint64_t *unmapped);

/**
 * struct vd_dma_map_info - what is mapped
 * @object, @offset: NULL and 0 if it is reached by messages
 */
struct vd_dma_map_info {
	vd_iova iova;
	uint64_t length;
	struct vd_host_object *object;
	uint64_t offset;
	unsigned access;
};

/**
 * vd_dma_each_map() - call @fn for each map, by ascending address; closed ones are left out
 *
 * With the space's lock held: @fn is short and calls nothing of this space. Stops when it returns
 * non-zero. Of a space that follows a guest there are none: see vd_mem_each().
 * Return: 0, or what stopped it.
 */
int vd_dma_each_map(struct vd_dma_space *space,
		    int (*fn)(void *context, const struct vd_dma_map_info *map), void *context);

/**
 * vd_dma_follow() - IOVA = guest physical address: all RAM slots, and device slots (peer to peer)
 *
 * Slots that come, move and go are followed without the device's help. DMA writes are marked in the
 * guest's dirty logs. Undone by destroy. Before any use of the space by a device; sleeps.
 *
 * Return: 0; -EBUSY there are maps, or it follows already; -EXDEV @mem belongs to another host;
 *	-ESHUTDOWN @mem has been released.
 */
int vd_dma_follow(struct vd_dma_space *space, struct vd_mem *mem, struct vd_error *error);

/* ---- pins ----------------------------------------------------------------------------------- */

/**
 * struct vd_dma_owner - who holds pins
 * @unpin_request: somebody wants memory of this range back: let go of it as soon as the I/O under
 *	way allows, here or later. Called on the invalidating thread with no lock held, at most once
 *	an invalidation. A thread of the owner may be waiting inside vd_dma_pin() for this very
 *	invalidation meanwhile, with its own locks held: who takes such a lock here waits for
 *	itself.
 */
struct vd_dma_owner {
	void (*unpin_request)(struct vd_dma_owner *owner, vd_iova start, uint64_t length);
};

/** struct vd_dma_range - bytes to pin */
struct vd_dma_range { vd_iova iova; uint64_t length; };
/** struct vd_dma_segment - bytes of host memory; laid out as struct iovec */
struct vd_dma_segment { void *base; size_t length; };

/** struct vd_dma_pin - the caller's storage, written by vd_dma_pin(), private */
struct vd_dma_pin {
	struct vd_dma_space *space;
	struct vd_dma_owner *owner;
	const struct vd_dma_range *ranges;
	unsigned count;
	unsigned access;
	struct vd_dma_pin *next, **previous;
	uint64_t bytes;
	uint64_t asked;
	void *bounce;
	uint64_t bounce_bytes;
};

/**
 * vd_dma_pin() - hold ranges for asynchronous I/O, in one conversion
 * @ranges: @count of them, each not empty; must stay as they are until unpin
 * @access: VD_READ: the device reads, VD_WRITE: it writes
 * @owner: asked when the memory is wanted back; NULL: nobody is asked, and everybody waits
 * @segments: set to host pointers in order, adjacent ones merged
 * @segment_count: room in, used out (unchanged on error)
 *
 * All or nothing. Sleeps while an invalidation of a range is under way: not in a guard, and not
 * with a lock that a listener takes.
 *
 * Memory that is reached by messages is stood for by a buffer until unpin. With VD_READ it is read
 * before this returns, and the owner may already be asked for the pin meanwhile. With VD_WRITE all
 * of it is written at unpin: what the device has not stored to becomes zero if VD_READ is missing.
 *
 * Return: 0; -EFAULT a byte is not mapped or not allowed, a range is empty or wraps, or there is
 *	none (counted as one fault); -ENOSPC not enough segments; of memory that is reached by
 *	messages -ENOBUFS the space's bounce limit, -ENOMEM, and what its @read returned.
 */
int vd_dma_pin(struct vd_dma_space *space, const struct vd_dma_range *ranges, unsigned count,
	       unsigned access, struct vd_dma_owner *owner, struct vd_dma_pin *pin,
	       struct vd_dma_segment *segments, unsigned *segment_count);
/**
 * vd_dma_unpin() - any thread, never sleeps for long; pages pinned for VD_WRITE are marked dirty,
 * and those that are watched are told of: then it takes as long as the watcher. The ranges are read
 *
 * What was pinned for VD_WRITE and is reached by messages is written now: then this sleeps, and may
 * fail. The pin is over all the same, and other ranges have been written. Calls that failed are
 * counted (@remote_errors); a device completes its I/O with an error.
 * Return: 0, or the first error of a @write; always 0 where no memory is reached by messages.
 */
int vd_dma_unpin(struct vd_dma_pin *pin);
/**
 * vd_dma_owner_drain() - wait until no unpin_request of the owner runs
 * @owner: NULL for all owners
 *
 * For an owner that holds no pins any more and is about to go. Sleeps; no lock held that
 * unpin_request takes, and not from within it.
 */
void vd_dma_owner_drain(struct vd_dma_space *space, const struct vd_dma_owner *owner);

/* ---- guards --------------------------------------------------------------------------------- */

/**
 * vd_dma_guard_enter() - until leave, what was translated stays; nests; nothing in it may sleep or
 * wait
 */
void vd_dma_guard_enter(struct vd_dma_space *space);
void vd_dma_guard_leave(struct vd_dma_space *space);
/**
 * vd_dma_translate() - one host pointer, inside a guard
 * @run: set to bytes that are contiguous from it on: at least to the end of the host's page, mostly
 *	half or more of what is, at most what the map holds. In assigned mode at most to the end of
 *	the leaf, at least to that of its 4 KiB
 * After storing through the pointer, call vd_dma_mark_dirty() before the guard is left.
 * Return: 0; -EFAULT (counted); -EAGAIN an invalidation is under way, or somebody watches the page
 *	that is to be stored to: leave the guard, vd_dma_wait(), try again; -EOPNOTSUPP the memory
 *	is reached by messages: leave the guard, copy or pin.
 */
int vd_dma_translate(struct vd_dma_space *space, vd_iova iova, unsigned access, void **pointer,
		     uint64_t *run);
/** vd_dma_mark_dirty() - the device has stored there; cheap where nobody wants to know */
void vd_dma_mark_dirty(struct vd_dma_space *space, vd_iova iova, uint64_t length);
/**
 * vd_dma_wait() - until what made vd_dma_translate() say -EAGAIN is over: watchers of the range are
 * told, invalidations are waited for. Sleeps; not in a guard.
 */
void vd_dma_wait(struct vd_dma_space *space, vd_iova iova, uint64_t length);

/**
 * vd_dma_read(), vd_dma_write() - copy under a guard (entered here), across maps
 *
 * Waits out invalidations. Not in a guard. Where a part is reached by messages, the copy goes on
 * from piece to piece, and sleeps.
 * Return: 0; -EFAULT a byte is not mapped or not allowed (counted as one fault): then nothing was
 *	written, unless the memory was taken away meanwhile; what a callback returned: then what
 *	comes before that piece was copied.
 */
int vd_dma_read(struct vd_dma_space *space, vd_iova iova, void *buffer, size_t length);
int vd_dma_write(struct vd_dma_space *space, vd_iova iova, const void *buffer, size_t length);

/* ---- what was stored to --------------------------------------------------------------------- */

/**
 * vd_dma_dirty_start() - from now on note which pages devices store to, by IOVA
 * @ranges: @count of them, at most 1024, in any order, multiples of @page_size; 0 for everything
 * @page_size: in bytes, a power of two, at least 4 KiB; need not be that of maps, ours or the
 *	host's
 *
 * Everything through this space counts: copies, marks, unpin for VD_WRITE, discards, memory that is
 * reached by messages, and maps that come later. While nobody tracks, each costs one predictable
 * branch. The notes are kept where pages are stored to, in at most 64 MiB; where there is no memory
 * for one, more is reported than was stored to, never less. They are by address: they stay until
 * reported, whatever is unmapped or mapped there. Of a space that follows a guest this is beside
 * the logs of the guest's slots (vd_mem_dirty_start()), and knows of its devices' stores only.
 *
 * Sleeps: waits for guards.
 * Return: 0; -EINVAL page size, or an empty or misaligned range; -EOVERFLOW one wraps; -EEXIST two
 *	overlap; -E2BIG too many; -EALREADY somebody tracks; -ENOMEM.
 */
int vd_dma_dirty_start(struct vd_dma_space *space, const struct vd_dma_range *ranges,
		       unsigned count, uint64_t page_size);
/**
 * vd_dma_dirty_report() - copy out what was stored to, and clear it
 * @iova, @length: bytes, multiples of @page_size; may be more than is tracked: that is clean
 * @page_size: as there, and may be another one. Pages of start's that the range meets in part stay
 *	noted, after they were reported
 * @bitmap: a bit a page, bit 0 of byte 0 is at @iova; all @bytes are written
 *
 * In assigned mode a page counts as stored to when it was translated for VD_WRITE, and this sleeps:
 * waits for guards.
 *
 * What is pinned for VD_WRITE counts as stored to at each report, also by pins older than the
 * tracking, and once more after unpin. What was stored before can be read now, what is stored later
 * comes later.
 * Return: 0; -EINVAL page size, empty, misaligned; -EOVERFLOW; -ENOSPC @bytes is too small;
 *	-ENODATA nobody tracks. On error nothing was written or cleared.
 */
int vd_dma_dirty_report(struct vd_dma_space *space, vd_iova iova, uint64_t length,
			uint64_t page_size, void *bitmap, size_t bytes);
/**
 * vd_dma_dirty_stop() - note no more, and forget. Sleeps: waits for guards. Return: 0; -ENODATA
 * nobody tracked.
 */
int vd_dma_dirty_stop(struct vd_dma_space *space);
/**
 * vd_dma_unmap_dirty() - vd_dma_unmap() and the report of the range, in one step
 * @unmapped: not NULL
 *
 * Nothing is stored to by these maps between the two. Locks as vd_dma_unmap(); reports of the space
 * wait meanwhile, so no owner of a pin makes one when it is asked for it.
 * Return: as both; on error nothing was reported or cleared.
 */
int vd_dma_unmap_dirty(struct vd_dma_space *space, vd_iova iova, uint64_t length,
		       uint64_t page_size, void *bitmap, size_t bytes, uint64_t *unmapped);

/* ---- giving memory back --------------------------------------------------------------------- */

/**
 * vd_dma_discard() - give the host the memory behind a range that the device may write
 * @iova, @length: whole pages of the host
 * @discarded: set to the bytes that are gone, from @iova on: all of @length if this succeeds
 *
 * The pages stay mapped and read as zero; whoever touches them gets new memory. Runs the chain as
 * every change of memory does, one event for each map or slot in the range, so all mirrors of it
 * let go first. Never under a pin (B1): with one anywhere in a stretch, it is left as it was. Only
 * where a listener other than this space has to sleep is anything waited for, and then also for
 * pins that begin in that moment. Counted as a write
 * in dirty logs. Maps and slots that go meanwhile wait for it.
 *
 * Sleeps: no lock held that a listener takes, the device's own included, and not in a guard: a
 * device calls this from its @work (vfio.h).
 * Return: 0; with nothing changed, -EINVAL empty, or no whole pages; -EOVERFLOW; -EFAULT a byte is
 *	not mapped or not allowed, device memory, or reached by messages (counted as one fault); of
 *	the stretch that failed, which is unchanged: -EBUSY pinned, or held in memory; -EINVAL parts
 *	of huge pages; -EOPNOTSUPP, -ENOMEM, -EIO.
 */
int vd_dma_discard(struct vd_dma_space *space, vd_iova iova, uint64_t length, uint64_t *discarded);

/**
 * struct vd_dma_stats - counters
 * @translations: successful lookups by guard, copy and pin, one each contiguous piece. Cheap rather
 *	than exact: when many threads translate at the same time, some may not be counted
 * @pins: pin calls that succeeded
 * @pinned_bytes: now
 * @faults: calls that failed with -EFAULT
 * @discarded: bytes given back by vd_dma_discard()
 * @remote_calls, @remote_errors: callbacks of remote maps, and those that failed
 * @bounced_bytes: memory that stands for such maps in pins, now
 * @iotlb_hits, @iotlb_misses: look-ups that what is remembered of earlier ones did, or did not
 *	answer: in assigned mode in front of the tables, else of the maps. As cheap
 * @iotlb_invalidations: ranges that the IOTLB was told to forget in assigned mode, each with a
 *	change of the tables
 * @io_faults: I/O page faults that found memory, in assigned mode
 * @io_mapped_bytes: by I/O page tables now
 * @maps: now; of a space that follows a guest, its RAM and device slots
 */
struct vd_dma_stats {
	uint64_t translations;
	uint64_t pins;
	uint64_t pinned_bytes;
	uint64_t faults;
	uint64_t discarded;
	uint64_t remote_calls;
	uint64_t remote_errors;
	uint64_t bounced_bytes;
	uint64_t iotlb_hits, iotlb_misses, iotlb_invalidations;
	uint64_t io_faults;
	uint64_t io_mapped_bytes;
	uint64_t maps;
};
void vd_dma_stats(const struct vd_dma_space *space, struct vd_dma_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
