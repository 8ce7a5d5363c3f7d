/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that a device says nobody needs goes back to the host. What is being discarded is on a
 * list: a map that goes waits for it, as the memory is somebody else's from then on.
 */
#include "iommu/space.h"

void dma_discards_wait(struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	const struct dma_discard *discard;

	do {
		discard = space->discards;
		while (discard && (discard->start > last || discard->last < start))
			discard = discard->next;
		if (discard)
			dma_sleep(space, 0);
	} while (discard);
}

static void leave(struct vd_dma_space *space, struct dma_discard *discard)
{
	struct dma_discard **link = &space->discards;

	while (*link != discard)
		link = &(*link)->next;
	*link = discard->next;
	dma_wake(space);
}

/*
 * Without waiting if that is possible: no pin may come in between. Whoever else refuses has to
 * sleep, and may, but not for a pin of ours.
 */
static bool must_not_wait(struct vd_dma_space *space, const struct dma_change *change)
{
	bool pinned;

	dma_lock(space);
	pinned = dma_pins_any(space, change);
	dma_unlock(space);
	return pinned;
}

static int discard_guest(struct vd_dma_space *space, uint64_t start, uint64_t length,
			 uint64_t *discarded)
{
	struct dma_change change = {.start = start, .last = start + (length - 1)};
	uint64_t rest = 0;
	int r = vd_mem_discard(space->mem, (vd_gpa){start}, length, false, discarded);

	if (r == -EAGAIN) {
		change.start += *discarded;
		if (must_not_wait(space, &change))
			return -EBUSY;
		r = vd_mem_discard(space->mem, (vd_gpa){change.start}, length - *discarded, true,
				   &rest);
		*discarded += rest;
	}
	return r == -EACCES || r == -ESHUTDOWN ? -EFAULT : r;
}

/* ---- a space of maps of its own ------------------------------------------------------------- */

/* The map of an address, if all of it may be discarded. Lock held. */
static const struct dma_map *find_map(const struct vd_dma_space *space, uint64_t iova)
{
	const struct dma_map *map = dma_maps_find(&space->maps, iova);

	/* Relaxed: written under this lock. */
	if (!map || atomic_load_explicit(&map->closed, memory_order_relaxed) ||
	    !(map->access & VD_WRITE) || !map->object ||
	    vd_host_object_kind(map->object) != VD_PAGE_RAM)
		return NULL;
	return map;
}

/* Lock held. */
static int check_maps(const struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	for (;;) {
		const struct dma_map *map = find_map(space, start);

		if (!map)
			return -EFAULT;
		if (map->last >= last)
			return 0;
		start = map->last + 1;
	}
}

static int discard_object(struct vd_dma_space *space, struct vd_host_object *object,
			  uint64_t offset, uint64_t length)
{
	struct dma_change change = {.object = object, .start = offset,
				    .last = offset + (length - 1)};
	int r = vd_host_object_discard(object, offset, length, false);

	if (r != -EAGAIN)
		return r;
	return must_not_wait(space, &change) ? -EBUSY
					     : vd_host_object_discard(object, offset, length, true);
}

/* The maps stay, as the range is on the list; closed ones are waiting for us. */
static int discard_maps(struct vd_dma_space *space, uint64_t start, uint64_t last,
			uint64_t *discarded)
{
	uint64_t at = start;

	for (;;) {
		const struct dma_map *map;
		struct vd_host_object *object;
		uint64_t offset, end;
		int r;

		dma_lock(space);
		map = dma_maps_find(&space->maps, at);
		object = map->object;
		offset = map->offset + (at - map->start);
		end = map->last < last ? map->last : last;
		dma_unlock(space);
		r = discard_object(space, object, offset, end - at + 1);
		if (r)
			return r;
		*discarded += end - at + 1;
		if (end == last)
			return 0;
		at = end + 1;
	}
}

int vd_dma_discard(struct vd_dma_space *space, vd_iova iova, uint64_t length, uint64_t *discarded)
{
	struct dma_discard discard = {.start = iova.value, .last = iova.value + (length - 1)};
	uint64_t end;
	int r = 0;

	*discarded = 0;
	if (!length || (iova.value | length) & (((uint64_t)1 << space->host_page_shift) - 1))
		return -EINVAL;
	if (!vd_range_end(iova.value, length, &end))
		return -EOVERFLOW;
	dma_lock(space);
	if (atomic_load_explicit(&space->closed, memory_order_relaxed) || space->released)
		r = -EFAULT;
	else if (!space->mem)
		r = check_maps(space, discard.start, discard.last);
	if (!r) {
		discard.next = space->discards;
		space->discards = &discard;
	}
	dma_unlock(space);
	if (r)
		return dma_fault(space);
	r = space->mem ? discard_guest(space, discard.start, length, discarded)
		       : discard_maps(space, discard.start, discard.last, discarded);
	dma_lock(space);
	dma_dirty(space, discard.start, *discarded);
	leave(space, &discard);
	dma_unlock(space);
	atomic_fetch_add_explicit(&space->discarded, *discarded, memory_order_relaxed);
	return r == -EFAULT ? dma_fault(space) : r;
}
