/* SPDX-License-Identifier: BSD-2-Clause */
#include "mem/index.h"

/* Smallest power of two, as a shift, that is at least twice @count. */
static uint8_t bits_for(uint32_t count)
{
	return (uint8_t)(32 - __builtin_clz(2 * count - 1));
}

static uint32_t node_append(struct vd_index *index, uint32_t first, uint32_t end)
{
	index->nodes[index->node_used] = (struct vd_index_node){
		.lowest = index->addresses[first],
		.highest = index->addresses[end - 1],
		.first = first,
		.end = end,
	};
	return index->node_used++;
}

/*
 * Fills a node's buckets. Crowded ones become nodes, at the end of the list, still to be divided.
 */
static void cut(struct vd_index *index, const struct vd_index_node *node, uint32_t buckets)
{
	uint32_t rank = node->first;

	for (uint32_t b = 0; b < buckets; b++) {
		uint32_t first = rank;

		while (rank < node->end &&
		       (index->addresses[rank] - node->lowest) >> node->shift == b)
			rank++;
		index->table[node->table + b] =
			rank - first > VD_INDEX_SCAN ?
				VD_INDEX_NODE | node_append(index, first, rank) : first;
	}
}

/* The ends of the span fall into different buckets: there is progress, however lopsided. */
static void divide(struct vd_index *index, struct vd_index_node *node)
{
	uint32_t count = node->end - node->first;
	uint8_t bits = bits_for(count);
	uint64_t span = node->highest - node->lowest;
	uint32_t buckets;

	while (span >> node->shift >> bits)
		node->shift++;
	while (count > VD_INDEX_MANY && span >> node->shift >> 1 >= count - count / 16)
		node->shift++;
	buckets = (uint32_t)(span >> node->shift) + 1;
	if (index->table_room - index->table_used < buckets) {
		node->halve = true;
		return;
	}
	node->table = index->table_used;
	index->table_used += buckets;
	cut(index, node, buckets);
}

void vd_index_build(struct vd_index *index, uint32_t count)
{
	index->table_used = index->node_used = 0;
	if (!count) {
		/* Everything but UINT64_MAX is below it, and that is brought down to 0. */
		index->nodes[0] = (struct vd_index_node){ .lowest = UINT64_MAX, .shift = 63 };
		index->table[0] = 0;
		return;
	}
	node_append(index, 0, count);
	for (uint32_t i = 0; i < index->node_used; i++)
		divide(index, &index->nodes[i]);
}
