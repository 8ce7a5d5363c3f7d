/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A space whose accesses go through I/O page tables, as those of an assigned device go through an
 * IOMMU: IOTLB, walk, I/O page fault. The tables hold what was asked for so far, of the maps or of
 * the guest that is followed, and are a mirror like any other. The IOTLB is a mirror of the tables
 * and no more: it has only what they have, and their flush empties it before a change of them
 * returns.
 *
 * All changes of the tables, but for accessed and dirty bits, are made under the space's lock. An
 * entry is made under it after a passed vd_notifier_retry(), and an invalidation takes it to drop
 * what there is: so neither overlooks the other. Walks take no lock, in a read section for which
 * whoever changes the memory waits.
 *
 * What the tables cannot say is answered all the same, each time by a fault: memory that may only
 * be written, pages whose stores somebody watches, IOVAs beyond the format, and anything while
 * there is no memory for tables.
 */
#include "iommu/space.h"

#define GRANULE (UINT64_C(1) << 12)

static uint64_t length_of(uint64_t start, uint64_t last)
{
	/* All there is: ranges of a table that wrap end at its last address. */
	return last - start == UINT64_MAX ? UINT64_MAX : last - start + 1;
}

static void flush_iotlb(void *context, uint64_t start, uint64_t length)
{
	struct vd_dma_space *space = context;

	iotlb_flush(&space->iotlb, start, start + (length - 1));
}

int dma_assigned_create(struct vd_dma_space *space, struct vd_error *error)
{
	struct vd_pgtable_config config = {
		.env = space->env,
		/* A RISC-V IOMMU's second stage; with tc.GADE it updates A and D as our walk. */
		.format = &vd_mmu_format_sv48x4,
		.window_base = space->window_base,
		.page_shift = space->host_page_shift,
		.flush = flush_iotlb,
		.flush_context = space,
	};

	return vd_pgtable_create(&config, &space->table, error);
}

/* ---- I/O page faults ------------------------------------------------------------------------ */

static bool is_tracking(const struct vd_dma_space *space)
{
	/* Relaxed: set under the lock that is held. */
	return atomic_load_explicit(&space->dirty, memory_order_relaxed) != NULL;
}

static uint64_t distance_of(const struct vd_dma_space *space, const struct dma_piece *piece)
{
	return (uintptr_t)piece->pointer - space->window_base;
}

/*
 * The size of the largest block around an address that is one piece and allows the access, from
 * its start to its end; @rights is set to those of all of it.
 */
static uint64_t block_around(const struct vd_dma_space *space, uint64_t iova, unsigned access,
			     const struct dma_piece *piece, unsigned *rights)
{
	static const uint64_t sizes[] = {UINT64_C(1) << 30, UINT64_C(1) << 21};

	*rights = piece->rights;
	/* Who tracks wants to hear of pages. */
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && !is_tracking(space); i++) {
		uint64_t inside = iova & (sizes[i] - 1);
		struct dma_piece head;

		if ((iova ^ distance_of(space, piece)) & (sizes[i] - 1) ||
		    piece->run < sizes[i] - inside)
			continue;
		/* For reading: only what was asked for may break copy-on-write. */
		if (dma_lookup_once(space, iova - inside, VD_READ, &head) ||
		    head.run < sizes[i] || access & ~head.rights)
			continue;
		*rights = head.rights;
		return sizes[i];
	}
	return GRANULE;
}

static int map_block(struct vd_dma_space *space, uint64_t iova, uint64_t size,
		     const struct dma_piece *piece, const struct vd_mmu_attributes *attributes)
{
	uint64_t inside = iova & (size - 1);

	return vd_pgtable_map(space->table, iova - inside, size,
			      distance_of(space, piece) - inside, attributes, NULL);
}

/*
 * Lock held. Without an entry, the next access faults again: nothing here is an error. The walk
 * that follows notes the use.
 */
static void install(struct vd_dma_space *space, uint64_t iova, unsigned access)
{
	struct vd_mmu_attributes attributes = {.access = 0};
	uint64_t size;
	struct dma_piece piece;
	struct vd_mmu_leaf leaf;

	/* Relaxed: written under this lock. If not closed, the chain stays. */
	if (atomic_load_explicit(&space->closed, memory_order_relaxed))
		return;
	/* Somebody else may have been here first. */
	if (!vd_pgtable_walk_guarded(space->table, iova, access, &leaf))
		return;
	/*
	 * Both look-ups ask vd_notifier_retry(), and it holds until the lock is dropped: whoever
	 * starts a change is kept waiting in his listener.
	 */
	if (dma_lookup_once(space, iova, access, &piece) || piece.watched)
		return;
	size = block_around(space, iova, access, &piece, &attributes.access);
	attributes.type = piece.type;
	attributes.device = piece.device;
	if (map_block(space, iova, size, &piece, &attributes) != -EEXIST)
		return;
	/* Not larger than what stands there; a leaf that allows less goes first. */
	attributes.access = piece.rights;
	if (map_block(space, iova, GRANULE, &piece, &attributes) != -EEXIST)
		return;
	dma_assigned_zap(space, iova, iova);
	map_block(space, iova, GRANULE, &piece, &attributes);
}

/* ---- resolving ------------------------------------------------------------------------------ */

static bool walk(struct vd_dma_space *space, uint64_t iova, unsigned access,
		 struct dma_piece *piece)
{
	struct vd_mmu_leaf leaf;
	uint64_t page_mask = ((uint64_t)1 << space->host_page_shift) - 1;
	unsigned char *page;

	/* Tables are freed after read sections, and taken away under the lock. */
	if (vd_pgtable_walk_guarded(space->table, iova, access, &leaf) || *space->ours == 0)
		return false;
	page = vd_host_pointer(space->window_base, leaf.pfn, space->host_page_shift);
	*piece = (struct dma_piece){
		.pointer = page + (iova & page_mask),
		.run = leaf.size - (iova & (leaf.size - 1)),
		/* As hardware, the IOTLB lets stores through once the leaf is dirty. */
		.rights = leaf.access & (leaf.dirty ? VD_READ | VD_WRITE : VD_READ),
		.dirty_log = space->mem != NULL,
		.walked = true,
	};
	return true;
}

static bool find(struct vd_dma_space *space, uint64_t iova, unsigned access,
		 struct dma_piece *piece)
{
	void *pointer;

	*piece = (struct dma_piece){.dirty_log = space->mem != NULL, .walked = true};
	if (!iotlb_find(&space->iotlb, iova, access, &pointer, &piece->run) || *space->ours == 0)
		return false;
	piece->pointer = pointer;
	return true;
}

static int fault(struct vd_dma_space *space, uint64_t iova, unsigned access,
		 struct dma_piece *piece, bool locked)
{
	int r = dma_lookup(space, iova, access, piece);

	if (r || piece->watched)
		return r;
	atomic_fetch_add_explicit(&space->io_faults, 1, memory_order_relaxed);
	/* Also in a read section: who holds the lock waits for none. */
	if (!locked)
		dma_lock(space);
	install(space, iova, access);
	if (!locked)
		dma_unlock(space);
	/* If it does not stand, what was looked up is good for this read section. */
	walk(space, iova, access, piece);
	return 0;
}

int dma_assigned_resolve(struct vd_dma_space *space, uint64_t iova, unsigned access,
			 struct dma_piece *piece, bool locked)
{
	struct iotlb_fill fill;
	bool known;

	if (find(space, iova, access, piece)) {
		dma_add(&dma_counter(space)->hits, 1);
		return 0;
	}
	dma_add(&dma_counter(space)->misses, 1);
	known = iotlb_begin(&space->iotlb, iova, &fill);
	if (!walk(space, iova, access, piece)) {
		int r = fault(space, iova, access, piece, locked);

		if (r || !piece->walked)
			return r;
	}
	if (known) {
		iotlb_fill(&fill, iova, piece->rights, piece->pointer, piece->run);
		return 0;
	}
	/* Once for so many pages. */
	if (!locked)
		dma_lock(space);
	iotlb_make(&space->iotlb, iova);
	if (!locked)
		dma_unlock(space);
	return 0;
}

/* ---- what listeners hear, all with the lock held -------------------------------------------- */

static void note_dirty(void *context, uint64_t start, uint64_t length)
{
	dirty_pages_mark(context, start, length);
}

/* @protect: so that nothing gets dirty any more that is about to go */
static void take_dirty(struct vd_dma_space *space, uint64_t start, uint64_t last, bool protect)
{
	if (is_tracking(space))
		vd_pgtable_take_dirty(space->table, start, length_of(start, last), protect,
				      note_dirty,
				      atomic_load_explicit(&space->dirty, memory_order_relaxed));
}

void dma_assigned_harvest(struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	take_dirty(space, start, last, false);
}

void dma_assigned_zap(struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	take_dirty(space, start, last, true);
	vd_pgtable_zap(space->table, start, length_of(start, last));
}

static bool zap(struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	dma_assigned_zap(space, start, last);
	return false;
}

static bool write_protect(struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	take_dirty(space, start, last, true);
	vd_pgtable_write_protect(space->table, start, length_of(start, last));
	return false;
}

static bool clear_young(struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	return vd_pgtable_clear_young(space->table, start, length_of(start, last));
}

static bool test_young(struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	return vd_pgtable_test_young(space->table, start, length_of(start, last));
}

struct visit {
	struct vd_dma_space *space;
	const struct dma_change *change;
	bool (*fn)(struct vd_dma_space *space, uint64_t start, uint64_t last);
	bool any;
};

/* The part of a map that is backed by the bytes that change. */
static void visit_map(void *context, const struct dma_map *map)
{
	struct visit *visit = context;
	const struct dma_change *change = visit->change;
	uint64_t first = map->offset, last = map->offset + (map->last - map->start);

	if (map->object != change->object || first > change->last || last < change->start)
		return;
	first = change->start > first ? change->start - map->offset : 0;
	last = (change->last < last ? change->last : last) - map->offset;
	visit->any |= visit->fn(visit->space, map->start + first, map->start + last);
}

static bool each_range(struct vd_dma_space *space, const struct dma_change *change,
		       bool (*fn)(struct vd_dma_space *space, uint64_t start, uint64_t last))
{
	struct visit visit = {.space = space, .change = change, .fn = fn};

	if (!change->object)
		return fn(space, change->start, change->last);
	dma_maps_each(&space->maps, visit_map, &visit);
	return visit.any;
}

void dma_assigned_invalidate(struct vd_dma_space *space, const struct dma_change *change)
{
	each_range(space, change, zap);
}

void dma_assigned_write_protect(struct vd_dma_space *space, const struct dma_change *change)
{
	each_range(space, change, write_protect);
}

bool dma_assigned_young(struct vd_dma_space *space, const struct dma_change *change, bool clear)
{
	return each_range(space, change, clear ? clear_young : test_young);
}
