/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 4, DMA address spaces
 *
 * What a device may reach, by IOVA. Mapping stores, pinning pins: a map keeps (object, offset, length,
 * access) and costs nothing else; memory is held only while a device has I/O under way.
 *
 * Two primitives. The *guard* (vd_dma_translate() between vd_dma_guard_enter/leave, and vd_dma_read/write) is a
 * read section of the environment: short, never sleeps; an invalidation waits for it. The *pin* is counted over ranges, for
 * asynchronous I/O: an invalidation closes the range to new pins, asks the owners, and waits with no lock held up
 * to the space's limit. A pin's owner never calls invalidate. A listener that may not sleep answers -EAGAIN.
 *
 * Anything outside the maps faults, is counted and changes nothing (A12): the MSI window is never mapped.
 */
#ifndef VIADUCT_IOMMU_H
#define VIADUCT_IOMMU_H

#include <viaduct/mem.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_dma_space;

struct vd_dma_config {
	const struct vd_env *env;
	struct vd_host *host;
	unsigned page_shift;   /* 0 for the host's */
	uint64_t pin_limit_ms; /* how long an invalidation waits for pins before -EBUSY; 0 for 10 s */
};

int vd_dma_space_create(const struct vd_dma_config *config, struct vd_dma_space **space,
			struct vd_error *error);
void vd_dma_space_destroy(struct vd_dma_space *space);

/**
 * vd_dma_map() - make (object, offset) reachable at an IOVA
 * @access: VD_READ: the device may read, VD_WRITE: it may write
 * Return: 0; -EINVAL zero length, misaligned, no access; -EOVERFLOW wraps; -EEXIST overlaps; -ERANGE outside the object;
 *	-EACCES write to a read-only object; -ENOSPC over 65 535 maps; -ENOMEM.
 */
int vd_dma_map(struct vd_dma_space *space, vd_iova iova, uint64_t length,
	       struct vd_host_object *object, uint64_t offset, unsigned access);
/**
 * vd_dma_unmap() - take away exactly the maps that lie in the range
 * Asks the owners of pins in it and waits, no lock held.
 * Return: 0 and *@unmapped bytes; -EINVAL if it would split a map; -EOVERFLOW; -EBUSY pins stayed past the limit: the range is
 *	closed to new pins but stays mapped.
 */
int vd_dma_unmap(struct vd_dma_space *space, vd_iova iova, uint64_t length, uint64_t *unmapped);
/**
 * vd_dma_follow() - IOVA = guest physical address: keep maps of all RAM slots, and of device slots (peer to peer),
 * as the slot set changes; DMA writes are marked in the guest's dirty logs. Undone by destroy.
 */
int vd_dma_follow(struct vd_dma_space *space, struct vd_mem *mem, struct vd_error *error);

/** struct vd_dma_owner - who holds pins; asked to let go, on the invalidating thread, no lock held */
struct vd_dma_owner {
	void (*unpin_request)(struct vd_dma_owner *owner, vd_iova start, uint64_t length);
};
struct vd_dma_range { vd_iova iova; uint64_t length; };
/** struct vd_dma_segment - laid out as struct iovec */
struct vd_dma_segment { void *base; size_t length; };

/** struct vd_dma_pin - caller's storage; ranges must stay until unpin */
struct vd_dma_pin {
	struct vd_dma_space *space;
	struct vd_dma_owner *owner;
	const struct vd_dma_range *ranges;
	unsigned count;
	unsigned access;
	struct vd_dma_pin *next, **previous;
};

/**
 * vd_dma_pin() - hold ranges for asynchronous I/O, in one conversion
 * @segments: host pointers in order, adjacent ones merged; *@segment_count: room in, used out
 *
 * All or nothing. Sleeps while an invalidation of the range is under way: not with a lock that a listener takes.
 * Return: 0; -EFAULT a byte is not mapped or not allowed (counted as a fault); -ENOSPC not enough segments.
 */
int vd_dma_pin(struct vd_dma_space *space, const struct vd_dma_range *ranges, unsigned count,
	       unsigned access, struct vd_dma_owner *owner, struct vd_dma_pin *pin,
	       struct vd_dma_segment *segments, unsigned *segment_count);
/** vd_dma_unpin() - any thread, never sleeps; pages pinned for VD_WRITE are marked dirty */
void vd_dma_unpin(struct vd_dma_pin *pin);

void vd_dma_guard_enter(struct vd_dma_space *space);
void vd_dma_guard_leave(struct vd_dma_space *space);
/**
 * vd_dma_translate() - one host pointer, inside a guard
 * *@run: bytes contiguous from it on, at most what the map holds. Marks nothing dirty.
 * Return: 0; -EFAULT; -EAGAIN an invalidation is under way: leave the guard, vd_dma_wait(), try again.
 */
int vd_dma_translate(struct vd_dma_space *space, vd_iova iova, unsigned access, void **pointer,
		     uint64_t *run);
void vd_dma_wait(struct vd_dma_space *space, vd_iova iova, uint64_t length);

/** vd_dma_read(), vd_dma_write() - copy under a guard (entered here). Return: 0 or -EFAULT with nothing written. */
int vd_dma_read(struct vd_dma_space *space, vd_iova iova, void *buffer, size_t length);
int vd_dma_write(struct vd_dma_space *space, vd_iova iova, const void *buffer, size_t length);

struct vd_dma_stats {
	uint64_t translations; /* successful lookups by guard, copy and pin */
	uint64_t pins;	       /* pin calls that succeeded */
	uint64_t pinned_bytes; /* now */
	uint64_t faults;
	uint64_t maps;	       /* now */
};
void vd_dma_stats(const struct vd_dma_space *space, struct vd_dma_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
