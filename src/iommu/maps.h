/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The map database: which IOVA range is which piece of which object.
 *
 * A B+-tree whose readers never lock and never retry. What a reader relies on:
 * - inner nodes are replaced, not changed, but for single stores: a child pointer (to a node with
 *   the same content), a separator that is raised over a gap, and the count, when a last child is
 *   added;
 * - leaves are unsorted and change in place, one slot at a time. A slot's key only leads to a map;
 *   the map itself is immutable and says what it covers, so a slot that is reused meanwhile
 *   misleads nobody;
 * - nodes and maps stay until the read section is left.
 */
#ifndef VIADUCT_IOMMU_MAPS_H
#define VIADUCT_IOMMU_MAPS_H

#include <viaduct/host.h>

/* Under the writer's lock but @start, @last, @object, @offset, @access, which never change. */
struct dma_map {
	uint64_t start, last; /* first and last byte */
	struct vd_host_object *object; /* NULL: of a struct dma_remote_map (remote.c) */
	uint64_t offset;
	unsigned access;
	_Atomic bool closed; /* being unmapped: serves nobody new */
	struct dma_map *next; /* of those taken out together */
};

struct maps_node;

struct dma_maps {
	const struct vd_env *env;
	struct maps_node *_Atomic root;
	uint32_t count;
};

/*
 * dma_maps_find() - in a read section or under the writer's lock. Return: the map that holds @iova,
 * or NULL.
 */
struct dma_map *dma_maps_find(const struct dma_maps *maps, uint64_t iova);

/* What follows needs the writer's lock. */

/* dma_maps_next() - the map that holds @iova, else the first one after it, else NULL */
struct dma_map *dma_maps_next(const struct dma_maps *maps, uint64_t iova);
/* dma_maps_each() - every map, in no order; @fn changes none */
void dma_maps_each(const struct dma_maps *maps,
		   void (*fn)(void *context, const struct dma_map *map), void *context);
/*
 * dma_maps_insert() - a map that overlaps no other. Return: 0, -ENOMEM, -ENOSPC; then nothing has
 * changed.
 */
int dma_maps_insert(struct dma_maps *maps, struct dma_map *map);
/* dma_maps_remove() - readers may hold it until a grace period has passed; cannot fail */
void dma_maps_remove(struct dma_maps *maps, struct dma_map *map);

#endif
