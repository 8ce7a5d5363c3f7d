/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device's TLB: what pages were translated to, so that the next time costs three loads.
 *
 * Blocks of 512 pages, found by a hash of their address. Nothing is ever taken out of an entry:
 * it carries the generation at which its lookup began, the sum of two counters, and counts only
 * while that is the current one. Whoever changes the memory raises the counter of all or of the
 * blocks concerned, and then waits for read sections: who began before has left, who comes later
 * sees the raised counter. Who fills an entry read the counter before he looked anything up, so
 * what he found is as old as the entry says, and a lock is not needed.
 */
#ifndef VIADUCT_IOMMU_IOTLB_H
#define VIADUCT_IOMMU_IOTLB_H

#include <viaduct/base.h>

#define IOTLB_BLOCKS 1024u
#define IOTLB_ENTRIES_SHIFT 9u
#define IOTLB_ENTRIES (1u << IOTLB_ENTRIES_SHIFT)
/* Of what an entry is for. The host's pages may be larger: then several entries say the same. */
#define IOTLB_PAGE_SHIFT 12u
#define IOTLB_PAGE (UINT64_C(1) << IOTLB_PAGE_SHIFT)

/*
 * An entry, from its lowest bit: rights (VD_READ, VD_WRITE, never VD_EXECUTE); whether it was ever
 * filled; 4 bits: the run is at least 2^n pages; bits 12 to 47 of the pointer; the generation.
 */
#define IOTLB_FILLED 8u
#define IOTLB_RUN_SHIFT 4u
#define IOTLB_RUN_MAX 15u
#define IOTLB_POINTER_SHIFT 4u /* to the left */
#define IOTLB_POINTER_MASK UINT64_C(0x0000fffffffff000)
#define IOTLB_GENERATION_BITS 20u
#define IOTLB_GENERATION_STEP (UINT64_C(1) << (64 - IOTLB_GENERATION_BITS))

struct iotlb_block {
	uint64_t number; /* of the block in the address space; does not change */
	_Atomic uint64_t generation; /* where it is in an entry, as that of all */
	const struct vd_env *env;
	struct vd_deferred deferred;
	_Alignas(64) _Atomic uint64_t entries[IOTLB_ENTRIES];
};

struct iotlb {
	const struct vd_env *env;
	_Atomic uint64_t generation;
	struct iotlb_block *_Atomic blocks[IOTLB_BLOCKS];
	/* under the owner's lock */
	uint64_t raised;    /* how often a counter was, since all entries were cleared */
	uint32_t conflicts; /* of blocks that want the same place */
};

/* What is about to be looked up. */
struct iotlb_fill {
	struct iotlb_block *block; /* NULL: the answer cannot be kept */
	uint64_t generation;
};

static inline uint64_t iotlb_block_number(uint64_t iova)
{
	return iova >> (IOTLB_PAGE_SHIFT + IOTLB_ENTRIES_SHIFT);
}

static inline struct iotlb_block *_Atomic *iotlb_place(struct iotlb *iotlb, uint64_t number)
{
	return &iotlb->blocks[(number ^ number >> 10) % IOTLB_BLOCKS];
}

static inline _Atomic uint64_t *iotlb_entry(struct iotlb_block *block, uint64_t iova)
{
	return &block->entries[iova >> IOTLB_PAGE_SHIFT & (IOTLB_ENTRIES - 1)];
}

/* Relaxed: ordered by read sections, see above. */
static inline uint64_t iotlb_generation(const struct iotlb *iotlb, const struct iotlb_block *block)
{
	return atomic_load_explicit(&iotlb->generation, memory_order_relaxed) +
	       atomic_load_explicit(&block->generation, memory_order_relaxed);
}

/*
 * iotlb_find() - in a read section
 * @pointer, @run: set if it is there
 */
static inline bool iotlb_find(struct iotlb *iotlb, uint64_t iova, unsigned access, void **pointer,
			      uint64_t *run)
{
	uint64_t number = iotlb_block_number(iova);
	/* Acquire pairs with the release in iotlb_begin(): the block is complete. */
	struct iotlb_block *block =
		atomic_load_explicit(iotlb_place(iotlb, number), memory_order_acquire);
	uint64_t wanted = access | IOTLB_FILLED, mask = wanted | -IOTLB_GENERATION_STEP;
	uint64_t entry, wrong, offset;

	if (__builtin_expect(!block, 0))
		return false;
	entry = atomic_load_explicit(iotlb_entry(block, iova), memory_order_relaxed);
	wrong = (block->number ^ number) |
		((entry ^ (iotlb_generation(iotlb, block) + wanted)) & mask);
	if (__builtin_expect(wrong != 0, 0))
		return false;
	offset = iova % IOTLB_PAGE;
	*pointer = (void *)(uintptr_t)((entry << IOTLB_POINTER_SHIFT & IOTLB_POINTER_MASK) |
				       offset);
	*run = (IOTLB_PAGE << (entry >> IOTLB_RUN_SHIFT & IOTLB_RUN_MAX)) - offset;
	return true;
}

/* iotlb_init() - it is zeroed */
void iotlb_init(struct iotlb *iotlb, const struct vd_env *env);
/* iotlb_fini() - nobody looks anything up any more */
void iotlb_fini(struct iotlb *iotlb);

/*
 * iotlb_begin() - before the lookup of what will be filled in; in a read section that lasts until
 * then
 * @fill: set unless there is no block yet
 * Return: false: there is none; with the owner's lock held, iotlb_make() makes one.
 */
bool iotlb_begin(struct iotlb *iotlb, uint64_t iova, struct iotlb_fill *fill);
/* iotlb_make() - the owner's lock held. Without memory, or if the place is taken, there is none */
void iotlb_make(struct iotlb *iotlb, uint64_t iova);
/*
 * iotlb_fill() - what was found
 * @pointer: of @iova, with @run bytes in a row from it on; all of the page holds alike
 */
void iotlb_fill(const struct iotlb_fill *fill, uint64_t iova, unsigned rights, const void *pointer,
		uint64_t run);

/*
 * Nothing that was looked up before is found any more by read sections that begin later. The
 * owner's lock held, under which whatever leads to the range has been taken away. Who gives memory
 * away waits for read sections after it.
 */
void iotlb_flush(struct iotlb *iotlb, uint64_t first, uint64_t last);
void iotlb_flush_all(struct iotlb *iotlb);

#endif
