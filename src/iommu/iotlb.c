/* SPDX-License-Identifier: BSD-2-Clause */
#include "iommu/iotlb.h"

/*
 * An entry must not look fresh again when the generation has gone all the way round: long before,
 * all are cleared. Who fills one in just then read the counter shortly before.
 */
#define RAISED_MAX (UINT64_C(1) << (IOTLB_GENERATION_BITS - 1))
/* A block takes another's place only now and then, or two that are in use would take turns. */
#define CONFLICTS 64u

static void block_free(struct vd_deferred *item)
{
	struct iotlb_block *block =
		(struct iotlb_block *)((char *)item - offsetof(struct iotlb_block, deferred));

	block->env->release(block->env, block, sizeof(*block));
}

void iotlb_init(struct iotlb *iotlb, const struct vd_env *env)
{
	iotlb->env = env;
}

void iotlb_fini(struct iotlb *iotlb)
{
	for (unsigned i = 0; i < IOTLB_BLOCKS; i++) {
		struct iotlb_block *block =
			atomic_load_explicit(&iotlb->blocks[i], memory_order_relaxed);

		iotlb->env->release(iotlb->env, block, sizeof(*block));
	}
}

bool iotlb_begin(struct iotlb *iotlb, uint64_t iova, struct iotlb_fill *fill)
{
	uint64_t number = iotlb_block_number(iova);
	struct iotlb_block *block =
		atomic_load_explicit(iotlb_place(iotlb, number), memory_order_acquire);

	*fill = (struct iotlb_fill){.block = NULL};
	if (!block || block->number != number)
		return false;
	fill->block = block;
	/*
	 * Acquire, pairs with the releases in flush: who sees that something was taken away by its
	 * counter sees that it is gone.
	 */
	fill->generation = atomic_load_explicit(&iotlb->generation, memory_order_acquire) +
			   atomic_load_explicit(&block->generation, memory_order_acquire);
	return true;
}

void iotlb_make(struct iotlb *iotlb, uint64_t iova)
{
	uint64_t number = iotlb_block_number(iova);
	struct iotlb_block *_Atomic *place = iotlb_place(iotlb, number);
	struct iotlb_block *old = atomic_load_explicit(place, memory_order_relaxed), *block;

	if (old && (old->number == number || ++iotlb->conflicts % CONFLICTS))
		return;
	block = vd_env_allocate(iotlb->env, "iommu.iotlb", sizeof(*block),
				_Alignof(struct iotlb_block));
	if (!block)
		return;
	block->number = number;
	block->env = iotlb->env;
	/* Release pairs with the acquires in iotlb_find() and iotlb_begin(). */
	atomic_store_explicit(place, block, memory_order_release);
	if (old)
		old->env->defer(old->env, &old->deferred, block_free);
}

void iotlb_fill(const struct iotlb_fill *fill, uint64_t iova, unsigned rights, const void *pointer,
		uint64_t run)
{
	uint64_t offset = iova % IOTLB_PAGE;
	uint64_t address = (uintptr_t)pointer - offset, pages = (run + offset) / IOTLB_PAGE;
	unsigned shift;

	if (!fill->block || !pages || address & ~IOTLB_POINTER_MASK)
		return;
	shift = 63 - (unsigned)__builtin_clzll(pages);
	if (shift > IOTLB_RUN_MAX)
		shift = IOTLB_RUN_MAX;
	atomic_store_explicit(iotlb_entry(fill->block, iova),
			      rights | IOTLB_FILLED | (uint64_t)shift << IOTLB_RUN_SHIFT |
				      address >> IOTLB_POINTER_SHIFT | fill->generation,
			      memory_order_relaxed);
}

static void clear(struct iotlb_block *block)
{
	for (unsigned i = 0; i < IOTLB_ENTRIES; i++)
		atomic_store_explicit(&block->entries[i], 0, memory_order_relaxed);
}

static void raise(struct iotlb *iotlb, _Atomic uint64_t *generation)
{
	/* Release pairs with the acquires in iotlb_begin(). */
	atomic_fetch_add_explicit(generation, IOTLB_GENERATION_STEP, memory_order_release);
	if (++iotlb->raised < RAISED_MAX)
		return;
	iotlb->raised = 0;
	for (unsigned i = 0; i < IOTLB_BLOCKS; i++) {
		struct iotlb_block *block =
			atomic_load_explicit(&iotlb->blocks[i], memory_order_relaxed);

		if (block)
			clear(block);
	}
}

void iotlb_flush(struct iotlb *iotlb, uint64_t first, uint64_t last)
{
	uint64_t low = iotlb_block_number(first), high = iotlb_block_number(last);
	/* Neighbours may share a place: to look at it twice does no harm. */
	uint64_t count = high - low < IOTLB_BLOCKS ? high - low + 1 : IOTLB_BLOCKS;

	for (uint64_t i = 0; i < count; i++) {
		struct iotlb_block *_Atomic *place =
			count < IOTLB_BLOCKS ? iotlb_place(iotlb, low + i) : &iotlb->blocks[i];
		struct iotlb_block *block = atomic_load_explicit(place, memory_order_relaxed);

		if (block && block->number >= low && block->number <= high)
			raise(iotlb, &block->generation);
	}
}

void iotlb_flush_all(struct iotlb *iotlb)
{
	raise(iotlb, &iotlb->generation);
}
