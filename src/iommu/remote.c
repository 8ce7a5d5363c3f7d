/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that is reached by messages. A callback runs with no lock held and outside of any guard;
 * its map stays meanwhile: for a copy because the call is counted, for a pin because of the pin.
 */
#include "iommu/space.h"

static struct dma_remote_map *remote_of(struct dma_map *map)
{
	return (struct dma_remote_map *)map;
}

void dma_map_free(const struct vd_env *env, struct dma_map *map)
{
	uint64_t length = map->last - map->start + 1;

	if (!map->object) {
		env->release(env, map, sizeof(struct dma_remote_map));
		return;
	}
	vd_host_object_unhold(map->object, map->offset, length);
	vd_host_object_put(map->object);
	env->release(env, map, sizeof(*map));
}

static int call(struct vd_dma_space *space, const struct dma_remote_map *remote, uint64_t iova,
		unsigned access, unsigned char *buffer, uint64_t length)
{
	int r = access == VD_READ
			? remote->ops->read(remote->context, (vd_iova){iova}, buffer, length)
			: remote->ops->write(remote->context, (vd_iova){iova}, buffer, length);

	atomic_fetch_add_explicit(&space->remote_calls, 1, memory_order_relaxed);
	if (!r)
		return 0;
	atomic_fetch_add_explicit(&space->remote_errors, 1, memory_order_relaxed);
	/* What these say is this floor's own. */
	return r > 0 || r == -EAGAIN || r == -EREMOTE ? -EIO : r;
}

/* ---- copies --------------------------------------------------------------------------------- */

/* The map of an address, if it is one that messages reach and lets the access through. */
static struct dma_remote_map *call_enter(struct vd_dma_space *space, uint64_t iova, unsigned access)
{
	struct dma_map *map = NULL;

	dma_lock(space);
	/* Relaxed, both: written under this lock, or by who then takes it to wait for calls. */
	if (!atomic_load_explicit(&space->closed, memory_order_relaxed))
		map = dma_maps_find(&space->maps, iova);
	if (map && (map->object || (map->access & access) != access ||
		    atomic_load_explicit(&map->closed, memory_order_relaxed)))
		map = NULL;
	if (map)
		remote_of(map)->calls++;
	dma_unlock(space);
	return map ? remote_of(map) : NULL;
}

/* @stored: bytes from @iova on that may have been stored to, even by a call that failed */
static void call_leave(struct vd_dma_space *space, struct dma_remote_map *remote, uint64_t iova,
		       uint64_t stored)
{
	dma_lock(space);
	dma_dirty(space, iova, stored);
	remote->calls--;
	dma_wake(space);
	dma_unlock(space);
}

int dma_remote_copy(struct vd_dma_space *space, uint64_t iova, unsigned access,
		    unsigned char *buffer, uint64_t *length)
{
	struct dma_remote_map *remote = call_enter(space, iova, access);
	int r;

	if (!remote)
		return -EFAULT;
	if (*length - 1 > remote->map.last - iova)
		*length = remote->map.last - iova + 1;
	r = call(space, remote, iova, access, buffer, *length);
	call_leave(space, remote, iova, access == VD_WRITE ? *length : 0);
	return r;
}

static bool calls_any(const struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	for (;;) {
		struct dma_map *map = dma_maps_next(&space->maps, start);

		if (!map || map->start > last)
			return false;
		if (!map->object && remote_of(map)->calls)
			return true;
		if (map->last >= last)
			return false;
		start = map->last + 1;
	}
}

int dma_remote_wait(struct vd_dma_space *space, uint64_t start, uint64_t last)
{
	uint64_t deadline = 0;

	while (calls_any(space, start, last)) {
		if (!deadline)
			deadline = space->env->clock_ns(space->env) + space->pin_limit_ns;
		if (!dma_sleep(space, deadline))
			return -EBUSY;
	}
	return 0;
}

/* ---- pins ----------------------------------------------------------------------------------- */

int dma_bounce_allocate(struct vd_dma_pin *pin, uint64_t bytes)
{
	struct vd_dma_space *space = pin->space;
	bool fits;

	if (!bytes)
		return 0;
	dma_lock(space);
	fits = bytes <= space->bounce_limit - space->bounced_bytes;
	if (fits)
		space->bounced_bytes += bytes;
	dma_unlock(space);
	if (!fits)
		return -ENOBUFS;
	/* as well aligned as the memory it stands for may be */
	pin->bounce = vd_env_allocate(space->env, "iommu.bounce", bytes,
				      (size_t)1 << space->host_page_shift);
	pin->bounce_bytes = bytes;
	if (pin->bounce)
		return 0;
	dma_bounce_free(pin);
	return -ENOMEM;
}

void dma_bounce_free(struct vd_dma_pin *pin)
{
	struct vd_dma_space *space = pin->space;

	if (!pin->bounce_bytes)
		return;
	space->env->release(space->env, pin->bounce, pin->bounce_bytes);
	dma_lock(space);
	space->bounced_bytes -= pin->bounce_bytes;
	dma_unlock(space);
	pin->bounce = NULL;
	pin->bounce_bytes = 0;
}

/* The map of a pinned address: it stays, for the section only keeps the way to it. */
static const struct dma_map *pinned_map(const struct vd_dma_space *space, uint64_t iova)
{
	const struct dma_map *map;

	space->env->read_enter(space->env);
	map = dma_maps_find(&space->maps, iova);
	space->env->read_leave(space->env);
	return map;
}

/* @at: where in the buffer the range's first byte lies, and then what comes after its last one */
static int bounce_range(struct vd_dma_pin *pin, const struct vd_dma_range *range, unsigned access,
			uint64_t *at)
{
	uint64_t done = 0;
	int result = 0;

	while (done < range->length) {
		uint64_t iova = range->iova.value + done, length = range->length - done;
		const struct dma_map *map = pinned_map(pin->space, iova);
		int r = 0;

		if (length - 1 > map->last - iova)
			length = map->last - iova + 1;
		if (!map->object) {
			r = call(pin->space, (const struct dma_remote_map *)map, iova, access,
				 (unsigned char *)pin->bounce + *at, length);
			*at += length;
		}
		if (r && !result)
			result = r;
		if (r && access == VD_READ)
			break;
		done += length;
	}
	return result;
}

int dma_bounce_copy(struct vd_dma_pin *pin, unsigned access)
{
	uint64_t at = 0;
	int result = 0;

	for (unsigned i = 0; i < pin->count && !(result && access == VD_READ); i++) {
		int r = bounce_range(pin, &pin->ranges[i], access, &at);

		if (!result)
			result = r;
	}
	return result;
}
