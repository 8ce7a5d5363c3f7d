/* SPDX-License-Identifier: BSD-2-Clause */
/* Filling a DMA address space and taking maps away again. */
#include "iommu/space.h"

#define MAPS_MAX 131072u

static int check_range(const struct vd_dma_space *space, uint64_t iova, uint64_t length,
		       uint64_t offset)
{
	uint64_t end;

	if (!length || (iova | length | offset) & (((uint64_t)1 << space->page_shift) - 1))
		return -EINVAL;
	return vd_range_end(iova, length, &end) ? 0 : -EOVERFLOW;
}

static int check_object(const struct vd_dma_space *space, const struct vd_host_object *object,
			uint64_t offset, uint64_t length, unsigned access)
{
	uint64_t size = vd_host_object_size(object);
	struct vd_host_page page;

	if (vd_host_object_host(object) != space->host)
		return -EXDEV;
	if (offset > size || length > size - offset)
		return -ERANGE;
	/* A lookup for writing would count as a write to private memory. */
	if (access & VD_WRITE && vd_host_object_fd(object) >= 0 &&
	    vd_host_object_lookup(object, offset, VD_READ | VD_WRITE, &page) == -EACCES)
		return -EACCES;
	return 0;
}

static int map_locked(struct vd_dma_space *space, struct dma_map *map)
{
	const struct dma_map *next;

	/* Relaxed: written under this lock. */
	if (atomic_load_explicit(&space->closed, memory_order_relaxed))
		return -ESHUTDOWN;
	if (space->mem)
		return -EBUSY;
	next = dma_maps_next(&space->maps, map->start);
	if (next && next->start <= map->last)
		return -EEXIST;
	if (space->maps.count >= MAPS_MAX)
		return -ENOSPC;
	return dma_maps_insert(&space->maps, map);
}

static int check_map(const struct vd_dma_space *space, uint64_t iova, uint64_t length,
		     uint64_t offset, unsigned access)
{
	if (!access || access & ~(VD_READ | VD_WRITE))
		return -EINVAL;
	return check_range(space, iova, length, offset);
}

int vd_dma_map(struct vd_dma_space *space, vd_iova iova, uint64_t length,
	       struct vd_host_object *object, uint64_t offset, unsigned access)
{
	const struct vd_env *env = space->env;
	struct dma_map *map;
	int r = check_map(space, iova.value, length, offset, access);

	if (!r)
		r = check_object(space, object, offset, length, access);
	if (!r)
		r = vd_host_object_hold(object, offset, length, NULL);
	if (r)
		return r;
	map = vd_env_allocate(env, "iommu.map", sizeof(*map), _Alignof(struct dma_map));
	if (!map) {
		vd_host_object_unhold(object, offset, length);
		return -ENOMEM;
	}
	map->start = iova.value;
	map->last = iova.value + (length - 1);
	map->object = vd_host_object_get(object);
	map->offset = offset;
	map->access = access;
	dma_lock(space);
	r = map_locked(space, map);
	dma_unlock(space);
	if (r)
		dma_map_free(env, map);
	return r;
}

int vd_dma_map_remote(struct vd_dma_space *space, vd_iova iova, uint64_t length, unsigned access,
		      const struct vd_dma_remote_ops *ops, void *context)
{
	const struct vd_env *env = space->env;
	struct dma_remote_map *remote;
	int r = check_map(space, iova.value, length, 0, access);

	if (r)
		return r;
	if ((access & VD_READ && !ops->read) || (access & VD_WRITE && !ops->write))
		return -EINVAL;
	remote = vd_env_allocate(env, "iommu.map", sizeof(*remote),
				 _Alignof(struct dma_remote_map));
	if (!remote)
		return -ENOMEM;
	*remote = (struct dma_remote_map){
		.map = {.start = iova.value, .last = iova.value + (length - 1), .access = access},
		.ops = ops,
		.context = context,
	};
	dma_lock(space);
	r = map_locked(space, &remote->map);
	dma_unlock(space);
	if (r)
		dma_map_free(env, &remote->map);
	return r;
}

/* The next map that begins in the range; @at moves behind it. */
static struct dma_map *take_next(const struct vd_dma_space *space, uint64_t *at, uint64_t last)
{
	struct dma_map *map = *at <= last ? dma_maps_next(&space->maps, *at) : NULL;

	if (!map || map->start > last)
		return NULL;
	/* no map begins at the last byte */
	*at = map->last == UINT64_MAX ? UINT64_MAX : map->last + 1;
	return map;
}

/* Whether an end of the range lies inside a map. */
static bool would_split(const struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	const struct dma_map *first = dma_maps_find(&space->maps, start);
	const struct dma_map *end = dma_maps_find(&space->maps, last);

	return (first && first->start < start) || (end && end->last > last);
}

/* Maps in the range serve nobody new from now on. */
static void close_range(struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	struct dma_map *map;
	uint64_t at = start;

	while ((map = take_next(space, &at, last))) {
		/* Release pairs with the acquire in dma_resolve(). */
		atomic_store_explicit(&map->closed, true, memory_order_release);
		if (space->table)
			dma_assigned_zap(space, map->start, map->last);
		else
			iotlb_flush(&space->iotlb, map->start, map->last);
		if (at == UINT64_MAX)
			break;
	}
}

struct dma_map *dma_take_range(struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	struct dma_map *list = NULL, *map;
	uint64_t at = start;

	while ((map = take_next(space, &at, last))) {
		dma_maps_remove(&space->maps, map);
		map->next = list;
		list = map;
	}
	return list;
}

uint64_t dma_free_maps(struct vd_dma_space *space, struct dma_map *list)
{
	const struct vd_env *env = space->env;
	uint64_t bytes = 0;

	if (list)
		env->synchronize(env);
	while (list) {
		struct dma_map *map = list;

		list = map->next;
		bytes += map->last - map->start + 1;
		dma_map_free(env, map);
	}
	return bytes;
}

static int unmap_locked(struct vd_dma_space *space, const struct dma_change *change,
			struct dma_map **list)
{
	int r;

	if (space->mem)
		return -EBUSY;
	if (would_split(space, change->start, change->last))
		return -EINVAL;
	close_range(space, change->start, change->last);
	dma_discards_wait(space, change->start, change->last);
	r = dma_pins_drain(space, change);
	if (!r)
		r = dma_remote_wait(space, change->start, change->last);
	/* Others may have changed the maps while that waited. */
	if (!r && would_split(space, change->start, change->last))
		r = -EINVAL;
	if (!r)
		*list = dma_take_range(space, change->start, change->last);
	return r;
}

static int unmap(struct vd_dma_space *space, const struct dma_change *change, uint64_t *unmapped)
{
	struct dma_map *list = NULL;
	uint64_t bytes;
	int r;

	dma_lock(space);
	r = unmap_locked(space, change, &list);
	dma_unlock(space);
	bytes = dma_free_maps(space, list);
	if (unmapped)
		*unmapped = bytes;
	return r;
}

int vd_dma_unmap(struct vd_dma_space *space, vd_iova iova, uint64_t length, uint64_t *unmapped)
{
	struct dma_change change = {.start = iova.value, .last = iova.value + (length - 1),
				    .blockable = true};
	int r = check_range(space, iova.value, length, 0);

	if (!r)
		return unmap(space, &change, unmapped);
	if (unmapped)
		*unmapped = 0;
	return r;
}

int vd_dma_unmap_all(struct vd_dma_space *space, uint64_t *unmapped)
{
	struct dma_change all = {.last = UINT64_MAX, .blockable = true};

	return unmap(space, &all, unmapped);
}

int vd_dma_each_map(struct vd_dma_space *space,
		    int (*fn)(void *context, const struct vd_dma_map_info *map), void *context)
{
	const struct dma_map *map;
	uint64_t at = 0;
	int r = 0;

	dma_lock(space);
	while (!r && (map = take_next(space, &at, UINT64_MAX))) {
		struct vd_dma_map_info info = {
			.iova = {map->start},
			.length = map->last - map->start + 1,
			.object = map->object,
			.offset = map->offset,
			.access = map->access,
		};

		/* Relaxed: written under this lock. */
		if (!atomic_load_explicit(&map->closed, memory_order_relaxed))
			r = fn(context, &info);
		if (at == UINT64_MAX)
			break;
	}
	dma_unlock(space);
	return r;
}
