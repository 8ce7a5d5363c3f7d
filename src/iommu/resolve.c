/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From an IOVA to a host pointer. A space that follows a guest asks the guest's memory map itself:
 * what is mirrored on demand, and kept nowhere, is never stale.
 */
#include "iommu/space.h"

#define LOOKUPS 8u

static unsigned char *pointer_of(const struct vd_dma_space *space, const struct vd_host_page *page,
				 uint64_t address)
{
	uint64_t page_mask = ((uint64_t)1 << space->host_page_shift) - 1;
	unsigned char *base =
		vd_host_pointer(space->window_base, page->pfn, space->host_page_shift);

	return base + (address & page_mask);
}

/* Trap slots (the MSI window, ECAM, registers) are no memory: DMA there faults. */
static int resolve_guest(const struct vd_dma_space *space, uint64_t iova, unsigned access,
			 struct dma_piece *piece)
{
	struct vd_mem_page page;

	piece->key = iova;
	piece->run = 1;
	if (vd_mem_gpa_to_pfn(space->mem, (vd_gpa){iova}, access, &page))
		return -EFAULT;
	piece->run = page.host.run;
	piece->pointer = pointer_of(space, &page.host, iova);
	piece->device = page.host.kind == VD_PAGE_DEVICE;
	piece->dirty_log = page.dirty_log;
	piece->watched = page.watched && access & VD_WRITE;
	piece->type = page.host.type;
	/* A store that was asked for and is allowed may need a fault for the first time only. */
	piece->rights = page.writable || (access & VD_WRITE && !page.watched)
				? VD_READ | VD_WRITE : VD_READ;
	return 0;
}

static int resolve_map(const struct vd_dma_space *space, uint64_t iova, unsigned access,
		       struct dma_piece *piece)
{
	const struct dma_map *map = dma_maps_find(&space->maps, iova);
	struct vd_host_page page;
	uint64_t left;

	/* Acquire pairs with the release in vd_dma_unmap(). */
	if (!map || (map->access & access) != access ||
	    atomic_load_explicit(&map->closed, memory_order_acquire))
		return -EFAULT;
	left = map->last - iova; /* one less than the bytes left, which may be 2^64 */
	if (!map->object) {
		piece->run = left + 1; /* such a map is no longer than its length said */
		return -EREMOTE;
	}
	piece->key = map->offset + (iova - map->start);
	piece->run = 1;
	piece->device = vd_host_object_kind(map->object) == VD_PAGE_DEVICE;
	if (vd_host_object_lookup(map->object, piece->key, access | VD_READ, &page))
		return -EFAULT;
	piece->run = page.run - 1 < left ? page.run : left + 1;
	piece->pointer = pointer_of(space, &page, piece->key);
	piece->type = page.type;
	piece->rights = map->access & (page.writable ? VD_READ | VD_WRITE : VD_READ);
	return 0;
}

/* If what changes lies further on, the answer is shorter but good. */
static bool is_stale(const struct vd_dma_space *space, uint64_t seq, struct dma_piece *piece)
{
	uint64_t page_size = (uint64_t)1 << space->host_page_shift;
	uint64_t page_left = page_size - (piece->key & (page_size - 1));

	if (!piece->run || !vd_notifier_retry(space->chain, seq, piece->key, piece->run))
		return false;
	if (piece->run > page_left)
		piece->run = page_left;
	return vd_notifier_retry(space->chain, seq, piece->key, piece->run);
}

int dma_lookup_once(const struct vd_dma_space *space, uint64_t iova, unsigned access,
		    struct dma_piece *piece)
{
	uint64_t seq = vd_notifier_begin(space->chain);
	int r;

	*piece = (struct dma_piece){.run = 0};
	r = space->mem ? resolve_guest(space, iova, access, piece)
		       : resolve_map(space, iova, access, piece);
	return r != -EREMOTE && is_stale(space, seq, piece) ? -EAGAIN : r;
}

int dma_lookup(struct vd_dma_space *space, uint64_t iova, unsigned access,
	       struct dma_piece *piece)
{
	unsigned tries = 0;
	int r;

	/* Acquire pairs with the releases where it is set. If not closed, the chain stays. */
	if (atomic_load_explicit(&space->closed, memory_order_acquire))
		return -EFAULT;
	/*
	 * An invalidation that has ended since the lookup began counts as well, whatever it was of.
	 * So many do not end in so short a time: then one is active.
	 */
	do
		r = dma_lookup_once(space, iova, access, piece);
	while (r == -EAGAIN && ++tries < LOOKUPS);
	/*
	 * Another device's memory that is just being reset or moved away does not answer. To wait
	 * for it would be a deadlock if it is the memory of the very device that asks, whose reset
	 * waits for its lock.
	 */
	if (r == -EAGAIN && piece->device)
		r = -EFAULT;
	return r;
}

int dma_resolve(struct vd_dma_space *space, uint64_t iova, unsigned access,
		struct dma_piece *piece)
{
	return space->table ? dma_assigned_resolve(space, iova, access, piece, false)
			    : dma_lookup(space, iova, access, piece);
}

int dma_resolve_locked(struct vd_dma_space *space, uint64_t iova, unsigned access,
		       struct dma_piece *piece)
{
	return space->table ? dma_assigned_resolve(space, iova, access, piece, true)
			    : dma_lookup(space, iova, access, piece);
}

int dma_resolve_keep(struct vd_dma_space *space, uint64_t iova, unsigned access,
		     struct dma_piece *piece)
{
	struct iotlb_fill fill = {.block = NULL};
	bool known;
	int r;

	if (space->table || space->mem)
		return dma_resolve(space, iova, access, piece);
	dma_add(&dma_counter(space)->misses, 1);
	known = iotlb_begin(&space->iotlb, iova, &fill);
	r = dma_lookup(space, iova, access, piece);
	if (r)
		return r;
	if (known) {
		iotlb_fill(&fill, iova, piece->rights, piece->pointer, piece->run);
		return 0;
	}
	/* Once for so many pages: who holds the lock waits for no read section. */
	dma_lock(space);
	iotlb_make(&space->iotlb, iova);
	dma_unlock(space);
	return 0;
}

/* ---- waiting for the end of a change -------------------------------------------------------- */

/* If true, chain and guest memory stay until chain_leave(). */
static bool chain_enter(struct vd_dma_space *space)
{
	bool alive;

	dma_lock(space);
	alive = !space->released;
	space->chain_sleepers += alive;
	dma_unlock(space);
	return alive;
}

static void chain_leave(struct vd_dma_space *space)
{
	dma_lock(space);
	space->chain_sleepers--;
	dma_wake(space);
	dma_unlock(space);
}

void dma_wait_for(struct vd_dma_space *space, const struct dma_piece *piece)
{
	if (!piece->run || !chain_enter(space))
		return;
	vd_notifier_wait(space->chain, piece->key, piece->run);
	chain_leave(space);
}

uint64_t dma_tell(struct vd_dma_space *space, uint64_t iova, uint64_t length)
{
	uint64_t told;

	if (!space->mem || !chain_enter(space))
		return 0;
	told = vd_mem_watch_tell(space->mem, (vd_gpa){iova}, length);
	chain_leave(space);
	return told;
}

/* ---- counting ------------------------------------------------------------------------------- */

int dma_fault(struct vd_dma_space *space)
{
	atomic_fetch_add_explicit(&space->faults, 1, memory_order_relaxed);
	return -EFAULT;
}
