/* SPDX-License-Identifier: BSD-2-Clause */
/* Making a DMA address space, filling it, taking it away. */
#include "iommu/space.h"

#define MAPS_MAX 65535u
#define PIN_LIMIT_MS 10000u
#define BOUNCE_LIMIT (UINT64_C(64) << 20)

static int check_config(const struct vd_dma_config *config, struct vd_error *error)
{
	unsigned host_shift = vd_host_page_shift(config->host);

	if (config->page_shift && (config->page_shift < host_shift || config->page_shift > 30))
		return vd_error_set(error, -EINVAL,
				    "DMA page shift %u: the host's pages need %u to 30",
				    config->page_shift, host_shift);
	if (config->pin_limit_ms > UINT32_MAX)
		return vd_error_set(error, -EINVAL, "pin limit of %llu ms is absurd",
				    (unsigned long long)config->pin_limit_ms);
	return 0;
}

int vd_dma_space_create(const struct vd_dma_config *config, struct vd_dma_space **out,
			struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_dma_space *space;
	int r = check_config(config, error);

	if (r)
		return r;
	space = vd_env_allocate(env, "iommu.create", sizeof(*space), _Alignof(struct vd_dma_space));
	if (!space)
		return vd_error_set(error, -ENOMEM, "no memory for a DMA address space");
	space->env = env;
	space->host = config->host;
	space->window_base = vd_host_window_base(config->host);
	space->host_page_shift = vd_host_page_shift(config->host);
	space->page_shift = config->page_shift ? config->page_shift : space->host_page_shift;
	space->pin_limit_ns =
		(config->pin_limit_ms ? config->pin_limit_ms : PIN_LIMIT_MS) * UINT64_C(1000000);
	space->bounce_limit = config->bounce_limit ? config->bounce_limit : BOUNCE_LIMIT;
	atomic_init(&space->references, 1);
	space->maps.env = env;
	space->chain = vd_host_notifier(config->host);
	space->listener.ops = &dma_listener_ops;
	env->lock_init(env, &space->lock);
	r = vd_notifier_register(space->chain, &space->listener);
	if (r) {
		env->lock_destroy(env, &space->lock);
		env->release(env, space, sizeof(*space));
		return vd_error_set(error, r, "the host's memory has been released");
	}
	*out = space;
	return 0;
}

struct vd_dma_space *vd_dma_space_get(struct vd_dma_space *space)
{
	atomic_fetch_add_explicit(&space->references, 1, memory_order_relaxed);
	return space;
}

void vd_dma_space_put(struct vd_dma_space *space)
{
	const struct vd_env *env = space->env;

	/* acq_rel: the last one sees what all others did before they let go */
	if (atomic_fetch_sub_explicit(&space->references, 1, memory_order_acq_rel) != 1)
		return;
	env->lock_destroy(env, &space->lock);
	env->release(env, space, sizeof(*space));
}

int vd_dma_follow(struct vd_dma_space *space, struct vd_mem *mem, struct vd_error *error)
{
	int r;

	if (vd_mem_host(mem) != space->host)
		return vd_error_set(error, -EXDEV, "the guest's memory belongs to another host");
	if (space->mem || space->maps.count)
		return vd_error_set(error, -EBUSY, "this DMA address space is in use already");
	vd_notifier_unregister(space->chain, &space->listener);
	space->mem = mem;
	space->chain = vd_mem_notifier(mem);
	r = vd_notifier_register(space->chain, &space->listener);
	if (!r)
		return 0;
	space->mem = NULL;
	space->chain = vd_host_notifier(space->host);
	if (vd_notifier_register(space->chain, &space->listener)) {
		atomic_store_explicit(&space->closed, true, memory_order_release);
		space->released = true;
	}
	return vd_error_set(error, r, "the guest's memory has been released");
}

/* ---- maps ----------------------------------------------------------------------------------- */

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
		if (at == UINT64_MAX)
			break;
	}
}

/* Takes all maps of the range out of the database, which nobody pins. Return: the list of them. */
static struct dma_map *take_range(struct vd_dma_space *space, uint64_t start, uint64_t last)
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

/* Sleeps: no guard is inside any more when the memory is let go. Return: bytes that were mapped. */
static uint64_t free_maps(struct vd_dma_space *space, struct dma_map *list)
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
		*list = take_range(space, change->start, change->last);
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
	bytes = free_maps(space, list);
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

/* ---- the end -------------------------------------------------------------------------------- */

/* Nothing is reachable any more, and nothing is held. Return: -EBUSY if it is, past the limit. */
static int close_space(struct vd_dma_space *space, struct dma_map **list, bool *listens)
{
	struct dma_change all = {.last = UINT64_MAX, .blockable = true};
	int r;

	dma_lock(space);
	/* Release pairs with the acquire in dma_resolve(). */
	atomic_store_explicit(&space->closed, true, memory_order_release);
	dma_discards_wait(space, 0, UINT64_MAX);
	r = dma_pins_drain(space, &all);
	if (!r)
		r = dma_remote_wait(space, 0, UINT64_MAX);
	if (!r) {
		*list = take_range(space, 0, UINT64_MAX);
		while (space->chain_sleepers)
			dma_sleep(space, 0);
	}
	*listens = !space->released;
	dma_unlock(space);
	return r;
}

void vd_dma_space_destroy(struct vd_dma_space *space)
{
	struct dma_map *list = NULL;
	bool listens;

	if (!space)
		return;
	if (close_space(space, &list, &listens)) {
		/* A device may write there any time: space and memory stay as they are. */
		if (space->env->log)
			space->env->log(space->env, VD_LOG_ERROR,
					"DMA: a device does not let go; its memory is lost");
		return;
	}
	if (listens)
		vd_notifier_unregister(space->chain, &space->listener);
	/* Sections that began before may still ask the chain, which may go after this. */
	space->env->synchronize(space->env);
	dma_lock(space);
	space->released = true;
	dma_unlock(space);
	free_maps(space, list);
	vd_dma_space_put(space);
}

static int count_memory(void *context, const struct vd_slot *slot)
{
	uint64_t *count = context;

	*count += slot->config.kind != VD_SLOT_TRAP;
	return 0;
}

void vd_dma_stats(const struct vd_dma_space *space, struct vd_dma_stats *stats)
{
	struct vd_dma_space *locked = (struct vd_dma_space *)space;

	*stats = (struct vd_dma_stats){
		.faults = atomic_load_explicit(&space->faults, memory_order_relaxed),
		.discarded = atomic_load_explicit(&space->discarded, memory_order_relaxed),
		.remote_calls = atomic_load_explicit(&space->remote_calls, memory_order_relaxed),
		.remote_errors = atomic_load_explicit(&space->remote_errors, memory_order_relaxed),
	};
	for (unsigned i = 0; i < DMA_COUNTERS; i++)
		stats->translations += atomic_load_explicit(&space->counters[i].translations,
							    memory_order_relaxed);
	dma_lock(locked);
	stats->pins = space->pin_count;
	stats->pinned_bytes = space->pinned_bytes;
	stats->bounced_bytes = space->bounced_bytes;
	stats->maps = space->maps.count;
	if (space->mem && !space->released)
		vd_mem_each(space->mem, count_memory, &stats->maps);
	dma_unlock(locked);
}
