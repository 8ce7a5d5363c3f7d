/* SPDX-License-Identifier: BSD-2-Clause */
#include "iommu/dirty_pages.h"

#define LEAF_BITS 15u
#define LEAF_WORDS ((1u << LEAF_BITS) / 64)
#define NODE_BITS 9u
#define NODE_SLOTS (1u << NODE_BITS)
#define BLOCK_BYTES 4096u /* of leaves and nodes alike */
#define BYTES_MAX (UINT64_C(64) << 20)

typedef void *_Atomic slot_t;

struct leaf {
	_Atomic uint64_t words[LEAF_WORDS];
};

struct node {
	slot_t slots[NODE_SLOTS];
};

_Static_assert(sizeof(struct leaf) == BLOCK_BYTES && sizeof(struct node) == BLOCK_BYTES,
	       "one size for all");

struct dirty_pages {
	const struct vd_env *env;
	unsigned shift, levels; /* of nodes above the leaves */
	_Atomic uint64_t bytes;
	slot_t root;
};

/* In a slot: every page below is in the set. */
static char whole_branch;
#define WHOLE ((void *)&whole_branch)

struct dirty_pages *dirty_pages_create(const struct vd_env *env, unsigned shift)
{
	struct dirty_pages *pages =
		vd_env_allocate(env, "iommu.dirty", sizeof(*pages), _Alignof(struct dirty_pages));

	if (!pages)
		return NULL;
	pages->env = env;
	pages->shift = shift;
	while (64 - shift > LEAF_BITS + pages->levels * NODE_BITS)
		pages->levels++;
	return pages;
}

/* One level of the tree at a time, @depth of nodes below this one: as deep as it is high. */
static void free_branch(struct dirty_pages *pages, slot_t *slot, unsigned depth)
{
	void *block = atomic_load_explicit(slot, memory_order_relaxed);

	if (!block || block == WHOLE)
		return;
	for (unsigned i = 0; depth && i < NODE_SLOTS; i++)
		free_branch(pages, &((struct node *)block)->slots[i], depth - 1);
	pages->env->release(pages->env, block, BLOCK_BYTES);
}

void dirty_pages_free(struct dirty_pages *pages)
{
	if (!pages)
		return;
	free_branch(pages, &pages->root, pages->levels);
	pages->env->release(pages->env, pages, sizeof(*pages));
}

static void *block_create(struct dirty_pages *pages)
{
	void *block = NULL;

	if (atomic_fetch_add_explicit(&pages->bytes, BLOCK_BYTES, memory_order_relaxed) <
	    BYTES_MAX)
		block = vd_env_allocate(pages->env, "iommu.dirty", BLOCK_BYTES, 16);
	if (!block)
		atomic_fetch_sub_explicit(&pages->bytes, BLOCK_BYTES, memory_order_relaxed);
	return block;
}

static void block_free(struct dirty_pages *pages, void *block)
{
	if (!block)
		return;
	pages->env->release(pages->env, block, BLOCK_BYTES);
	atomic_fetch_sub_explicit(&pages->bytes, BLOCK_BYTES, memory_order_relaxed);
}

/* ---- marking -------------------------------------------------------------------------------- */

/*
 * What hangs in a slot, made if there is nothing. Once a block hangs there it stays.
 * Return: a block, or WHOLE, which then has been stored or confirmed after all that was before.
 */
static void *slot_block(struct dirty_pages *pages, slot_t *slot)
{
	/* Acquire pairs with the release below. */
	void *block = atomic_load_explicit(slot, memory_order_acquire);

	while (!block || block == WHOLE) {
		void *fresh = block ? NULL : block_create(pages);
		void *wanted = fresh ? fresh : WHOLE;

		/*
		 * Even if WHOLE is there: the store that is being marked must not be overtaken by a
		 * take. Release pairs with the acquires of slots here, and of the take.
		 */
		if (atomic_compare_exchange_strong_explicit(slot, &block, wanted,
							    memory_order_acq_rel,
							    memory_order_acquire))
			return wanted;
		block_free(pages, fresh);
	}
	return block;
}

static uint64_t word_mask(uint64_t first_bit, uint64_t count)
{
	return (count == 64 ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1) << first_bit;
}

static void leaf_mark(struct leaf *leaf, uint64_t page, uint64_t last)
{
	while (page <= last) {
		uint64_t bit = page % 64;
		uint64_t count = last - page + 1 < 64 - bit ? last - page + 1 : 64 - bit;

		/* Release pairs with the acquire in leaf_take(), even if the bits are set. */
		atomic_fetch_or_explicit(&leaf->words[page / 64 % LEAF_WORDS],
					 word_mask(bit, count), memory_order_release);
		page += count;
	}
}

/* The pages of one leaf, or of a branch that is whole. Return: the last page that is done. */
static uint64_t mark_branch(struct dirty_pages *pages, uint64_t page, uint64_t last)
{
	unsigned bits = LEAF_BITS + pages->levels * NODE_BITS;
	slot_t *slot = &pages->root;

	for (;;) {
		void *block = slot_block(pages, slot);
		uint64_t end = page | ((UINT64_C(1) << bits) - 1);

		if (end > last)
			end = last;
		if (block == WHOLE)
			return end;
		if (bits == LEAF_BITS) {
			leaf_mark(block, page, end);
			return end;
		}
		bits -= NODE_BITS;
		slot = &((struct node *)block)->slots[page >> bits & (NODE_SLOTS - 1)];
	}
}

void dirty_pages_mark(struct dirty_pages *pages, uint64_t iova, uint64_t length)
{
	uint64_t page = iova >> pages->shift, last;

	if (!length)
		return;
	last = iova + (length - 1) < iova ? UINT64_MAX : iova + (length - 1);
	last >>= pages->shift;
	while ((page = mark_branch(pages, page, last)) != last)
		page++;
}

/* ---- taking --------------------------------------------------------------------------------- */

struct take {
	struct dirty_pages *pages;
	uint64_t first, last;		/* pages that the range meets */
	uint64_t whole_first, whole_end; /* those that lie in it as a whole: [first, end) */
	uint64_t first_byte, last_byte;
	uint64_t run_first, run_end; /* pages found, not told yet; none if equal */
	void (*fn)(void *context, uint64_t first, uint64_t last);
	void *context;
};

static void tell_run(struct take *take)
{
	uint64_t first = take->run_first << take->pages->shift;
	uint64_t last = (take->run_end << take->pages->shift) - 1;

	if (take->run_first == take->run_end)
		return;
	take->fn(take->context, first > take->first_byte ? first : take->first_byte,
		 last < take->last_byte ? last : take->last_byte);
}

/* Pages [first, end) are in the set. */
static void found(struct take *take, uint64_t first, uint64_t end)
{
	if (first != take->run_end || take->run_first == take->run_end) {
		tell_run(take);
		take->run_first = first;
	}
	take->run_end = end;
}

static bool is_whole(const struct take *take, uint64_t first, uint64_t last)
{
	return first >= take->whole_first && last < take->whole_end;
}

static void leaf_take(struct take *take, struct leaf *leaf, uint64_t page, uint64_t last)
{
	for (uint64_t end; page <= last; page = end) {
		_Atomic uint64_t *word = &leaf->words[page / 64 % LEAF_WORDS];
		uint64_t base = page & ~UINT64_C(63), mask, bits;

		end = last - base < 64 ? last + 1 : base + 64;
		mask = word_mask(page - base, end - page);
		bits = atomic_load_explicit(word, memory_order_acquire) & mask;
		/* pages in part: at most the first and the last one of all */
		if (!is_whole(take, page, page))
			mask &= ~word_mask(page - base, 1);
		if (!is_whole(take, end - 1, end - 1))
			mask &= ~word_mask(end - 1 - base, 1);
		/* Acquire pairs with the release in leaf_mark(): the data is there. */
		if (bits & mask)
			bits |= atomic_fetch_and_explicit(word, ~mask, memory_order_acquire) & mask;
		while (bits) {
			unsigned bit = (unsigned)__builtin_ctzll(bits);

			found(take, base + bit, base + bit + 1);
			bits &= bits - 1;
		}
	}
}

/*
 * A branch that is whole, but lies in the range only in part, becomes a block that says so.
 * Return: the block, or NULL if there is no memory: then all of it stays in the set.
 */
static void *split_branch(struct take *take, slot_t *slot, bool is_leaf)
{
	void *block = block_create(take->pages), *whole = WHOLE;

	if (!block)
		return NULL;
	for (unsigned i = 0; i < NODE_SLOTS && !is_leaf; i++)
		atomic_init(&((struct node *)block)->slots[i], WHOLE);
	for (unsigned i = 0; i < LEAF_WORDS && is_leaf; i++)
		atomic_init(&((struct leaf *)block)->words[i], ~UINT64_C(0));
	/* One take at a time: nobody else takes WHOLE away. Release as in slot_block(). */
	atomic_compare_exchange_strong_explicit(slot, &whole, block, memory_order_acq_rel,
						memory_order_relaxed);
	return block;
}

/* @bits: of a page number, below the slot. As deep as the tree is high. */
static void take_branch(struct take *take, slot_t *slot, unsigned bits, uint64_t page,
			uint64_t last)
{
	/* Acquire pairs with the releases in slot_block(). */
	void *block = atomic_load_explicit(slot, memory_order_acquire);
	uint64_t all = (UINT64_C(1) << bits) - 1;

	if (block == WHOLE && is_whole(take, page & ~all, page | all)) {
		atomic_exchange_explicit(slot, NULL, memory_order_acq_rel);
		found(take, page, last + 1);
		return;
	}
	if (block == WHOLE) {
		block = split_branch(take, slot, bits == LEAF_BITS);
		if (!block)
			found(take, page, last + 1);
	}
	if (!block)
		return;
	if (bits == LEAF_BITS) {
		leaf_take(take, block, page, last);
		return;
	}
	bits -= NODE_BITS;
	all = (UINT64_C(1) << bits) - 1;
	for (uint64_t end; page <= last; page = end + 1) {
		end = (page | all) < last ? page | all : last;
		take_branch(take, &((struct node *)block)->slots[page >> bits & (NODE_SLOTS - 1)],
			    bits, page, end);
	}
}

void dirty_pages_take(struct dirty_pages *pages, uint64_t first, uint64_t last,
		      void (*fn)(void *context, uint64_t first, uint64_t last), void *context)
{
	uint64_t mask = (UINT64_C(1) << pages->shift) - 1;
	struct take take = {
		.pages = pages,
		.first = first >> pages->shift,
		.last = last >> pages->shift,
		.first_byte = first,
		.last_byte = last,
		.fn = fn,
		.context = context,
	};

	take.whole_first = take.first + ((first & mask) != 0);
	take.whole_end = take.last + ((last & mask) == mask);
	take_branch(&take, &pages->root, LEAF_BITS + pages->levels * NODE_BITS, take.first,
		    take.last);
	tell_run(&take);
}
