/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How many of a sorted array of addresses lie at or below a given one, in about the same time for
 * one and for 32 Ki of them. A tree of tables: each cuts the span of its addresses into one to four
 * buckets an address, and a crowded bucket has a table of its own. What is left to compare is at
 * most VD_INDEX_SCAN neighbours, without a branch.
 *
 * Slots are where a guest puts its BARs, so a layout may be made to be unkind. The tables have a
 * fixed total size; a bucket that is crowded when it is used up is searched by halving.
 */
#ifndef VIADUCT_MEM_INDEX_H
#define VIADUCT_MEM_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VD_INDEX_SCAN 3u
/*
 * Above that many addresses a table has about one to two buckets an address, 15/16 at least: the
 * way to the cache that holds a larger one costs more than the buckets that are crowded then.
 */
#define VD_INDEX_MANY 8192u
#define VD_INDEX_ENTRIES(capacity) (8u * (capacity) + 64u)
/*
 * A node covers more than VD_INDEX_SCAN addresses, and one that is cut uses up at least 15/16 of an
 * entry for each of them: below the root there are at most 16/15 (8 capacity + 64) / 4 nodes.
 */
#define VD_INDEX_NODES(capacity) (2u * (capacity) + (capacity) / 4u + 20u)

/* Addresses first to end - 1, cut into buckets of 2^shift; or, without a table, to be halved. */
struct vd_index_node {
	uint64_t lowest, highest;
	uint32_t first, end;
	uint32_t table; /* where its entries begin */
	uint8_t shift;
	bool halve;
};

struct vd_index {
	const uint64_t *addresses; /* VD_INDEX_SCAN times UINT64_MAX behind the last one */
	uint32_t *table; /* rank of the first address in the bucket, or VD_INDEX_NODE | node */
	struct vd_index_node *nodes;
	uint32_t table_used, table_room, node_used;
};

#define VD_INDEX_NODE 0x80000000u

/* vd_index_build() - addresses, table, nodes and table_room are set by the caller */
void vd_index_build(struct vd_index *index, uint32_t count);

/*
 * vd_index_halve() - the rank of @address among those of a node. Inline although it is rare: a call
 * would make every lookup save registers.
 */
static inline uint32_t vd_index_halve(const struct vd_index *index,
				      const struct vd_index_node *node, uint64_t address)
{
	const uint64_t *base = index->addresses + node->first;
	uint32_t n = node->end - node->first;

	while (n > 1) {
		uint32_t half = n / 2;

		/* A mask, since compilers turn a conditional addition into a branch. */
		base += half & -(uint32_t)(base[half - 1] <= address);
		n -= half;
	}
	return (uint32_t)(base - index->addresses) + (*base <= address);
}

/*
 * vd_index_rank() - number of addresses <= @address
 *
 * What is looked at next is one of @rows, of @row_size bytes each, one an address: it is fetched
 * together with the addresses to compare.
 */
static inline uint32_t vd_index_rank(const struct vd_index *index, uint64_t address,
				     const void *rows, size_t row_size)
{
	const struct vd_index_node *node = index->nodes;
	const uint64_t *at;
	uint32_t entry;

	for (;;) {
		if (address < node->lowest)
			return node->first;
		address = address > node->highest ? node->highest : address;
		entry = index->table[node->table + ((address - node->lowest) >> node->shift)];
		if (__builtin_expect(!(entry & VD_INDEX_NODE), 1))
			break;
		node = &index->nodes[entry & ~VD_INDEX_NODE];
		if (__builtin_expect(node->halve, 0))
			return vd_index_halve(index, node, address);
	}
	at = index->addresses + entry;
	__builtin_prefetch((const char *)rows + entry * row_size);
	/* Later buckets hold higher addresses only, so looking too far does not count too much. */
	return entry + (at[0] <= address) + (at[1] <= address) + (at[2] <= address);
}

#endif
