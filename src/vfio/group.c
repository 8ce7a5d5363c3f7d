/* SPDX-License-Identifier: BSD-2-Clause */
/* Groups: one memory for the small regions of several devices, and one user for all of them. */
#include <string.h>
#include <sys/stat.h>

#include "vfio/device.h"

struct place {
	const struct vd_device *device; /* NULL: free */
	unsigned region;
	uint64_t offset, size;
};

/* Places of one type of memory; the object is made with the first, and stays. */
struct places {
	struct vd_host_object *memory;
	struct place place[VD_GROUP_PLACES_MAX];
};

/* A region in a page of somebody else's file, and which page that is. */
struct share {
	struct place place; /* within the page */
	struct vd_host_object *object;
	dev_t device;
	ino_t inode;
	uint64_t page;
	bool prefetch;
};

struct vd_group {
	const struct vd_env *env;
	struct vd_host *host;
	char name[32];
	_Atomic uint32_t references;
	struct vd_lock lock; /* everything below */
	const void *user;
	unsigned takes;
	struct places places[2]; /* plain, prefetchable */
	struct share shares[VD_GROUP_PLACES_MAX];
};

int vd_group_create(const struct vd_env *env, struct vd_host *host, const char *name,
		    struct vd_group **out, struct vd_error *error)
{
	struct vd_group *group;

	group = vd_env_allocate(env, "vfio.group", sizeof(*group), _Alignof(struct vd_group));
	if (!group)
		return vd_error_set(error, -ENOMEM, "%s: no memory for a group", name);
	group->env = env;
	group->host = vd_host_get(host);
	for (size_t i = 0; i + 1 < sizeof(group->name) && name[i]; i++)
		group->name[i] = name[i];
	atomic_init(&group->references, 1);
	env->lock_init(env, &group->lock);
	*out = group;
	return 0;
}

struct vd_group *vd_group_get(struct vd_group *group)
{
	atomic_fetch_add_explicit(&group->references, 1, memory_order_relaxed);
	return group;
}

void vd_group_put(struct vd_group *group)
{
	const struct vd_env *env;

	/* acq_rel: the last one sees what all others did before they let go */
	if (!group || atomic_fetch_sub_explicit(&group->references, 1, memory_order_acq_rel) != 1)
		return;
	env = group->env;
	for (unsigned i = 0; i < 2; i++)
		vd_host_object_put(group->places[i].memory);
	vd_host_put(group->host);
	env->lock_destroy(env, &group->lock);
	env->release(env, group, sizeof(*group));
}

/* ---- the user ------------------------------------------------------------------------------- */

int vd_group_take(struct vd_group *group, const void *user)
{
	int r = 0;

	group->env->lock(group->env, &group->lock);
	if (group->takes && group->user != user) {
		r = -EBUSY;
	} else {
		group->user = user;
		group->takes++;
	}
	group->env->unlock(group->env, &group->lock);
	return r;
}

void vd_group_leave(struct vd_group *group)
{
	group->env->lock(group->env, &group->lock);
	vd_assert(group->takes);
	group->takes--;
	group->env->unlock(group->env, &group->lock);
}

/* ---- places --------------------------------------------------------------------------------- */

static struct places *places_of(struct vd_group *group, const struct vd_region *region)
{
	return &group->places[(region->flags & VD_REGION_PREFETCH) != 0];
}

/* End of a place that is in the way of [offset, offset + size); 0: none is. */
static uint64_t obstacle(const struct places *places, uint64_t offset, uint64_t size)
{
	for (unsigned i = 0; i < VD_GROUP_PLACES_MAX; i++) {
		const struct place *place = &places->place[i];

		if (place->device && vd_ranges_overlap(offset, size, place->offset, place->size))
			return place->offset + place->size;
	}
	return 0;
}

/* Multiples of the power of two that the region's size fits in, so that none crosses a page. */
static uint64_t find_offset(const struct places *places, uint64_t size)
{
	uint64_t align = 1, offset = 0, end;

	while (align < size)
		align *= 2;
	while ((end = obstacle(places, offset, size)))
		offset = (end + align - 1) & ~(align - 1);
	return offset;
}

static struct place *free_place(struct places *places)
{
	for (unsigned i = 0; i < VD_GROUP_PLACES_MAX; i++)
		if (!places->place[i].device)
			return &places->place[i];
	return NULL;
}

/* As many pages as places: each is smaller than one. */
static int make_memory(struct vd_group *group, struct places *places, struct vd_error *error)
{
	uint64_t size = (uint64_t)VD_GROUP_PLACES_MAX << vd_host_page_shift(group->host);

	return places->memory ? 0 : device_memory_file(group->env, group->host, group->name,
						       places == &group->places[1], size,
						       &places->memory, error);
}

int device_group_place(struct vd_group *group, const struct vd_device *device, unsigned region,
		       struct vd_error *error)
{
	const struct vd_region *of = &device->regions[region];
	struct places *places = places_of(group, of);
	struct place *place;
	int r;

	if (device->window != vd_host_window_base(group->host))
		return vd_error_set(error, -EXDEV, "%s: its group %s is another host's",
				    device->name, group->name);
	group->env->lock(group->env, &group->lock);
	r = make_memory(group, places, error);
	place = free_place(places);
	if (!r && !place)
		r = vd_error_set(error, -ENOSPC, "%s: group %s has %u small regions already",
				 device->name, group->name, VD_GROUP_PLACES_MAX);
	if (!r)
		*place = (struct place){device, region, find_offset(places, of->size), of->size};
	group->env->unlock(group->env, &group->lock);
	return r;
}

/* ---- pages of others ------------------------------------------------------------------------ */

static bool same_page(const struct share *a, const struct share *b)
{
	return a->device == b->device && a->inode == b->inode && a->page == b->page &&
	       a->prefetch == b->prefetch;
}

/* Lock held. A place for @share, and the object of whoever is in its page, with a reference. */
static struct share *find_share(struct vd_group *group, struct share *share)
{
	struct share *found = NULL;

	for (unsigned i = 0; i < VD_GROUP_PLACES_MAX; i++) {
		struct share *other = &group->shares[i];

		if (!other->place.device)
			found = found ? found : other;
		else if (!share->object && same_page(other, share))
			share->object = vd_host_object_get(other->object);
	}
	return found;
}

int device_group_share(struct vd_group *group, const struct vd_device *device, unsigned region,
		       const struct vd_region_backing *backing, struct vd_host_object **object,
		       struct vd_error *error)
{
	const struct vd_region *of = &device->regions[region];
	uint64_t page = (uint64_t)1 << device->page_shift;
	struct share share = {
		.place = {device, region, backing->offset & (page - 1), of->size},
		.page = backing->offset & ~(page - 1), .prefetch = of->flags & VD_REGION_PREFETCH,
	};
	enum vd_memory_type type = share.prefetch ? VD_MEMORY_WRITE_COMBINING : VD_MEMORY_UNCACHED;
	struct share *found;
	struct stat status;
	int r = 0;

	if (of->size > page - share.place.offset)
		return vd_error_set(error, -EINVAL, "%s: region %u does not lie in one page",
				    device->name, region);
	if (device->window != vd_host_window_base(group->host))
		return vd_error_set(error, -EXDEV, "%s: its group %s is another host's",
				    device->name, group->name);
	if (fstat(backing->fd, &status))
		return vd_error_set(error, -EINVAL, "%s: the memory of region %u is no file",
				    device->name, region);
	share.device = status.st_dev;
	share.inode = status.st_ino;
	group->env->lock(group->env, &group->lock);
	found = find_share(group, &share);
	if (!found)
		r = vd_error_set(error, -ENOSPC, "%s: group %s has %u small regions already",
				 device->name, group->name, VD_GROUP_PLACES_MAX);
	else if (!share.object)
		r = vd_host_import(group->host, group->name, backing->fd, share.page, page,
				   VD_PAGE_DEVICE, type, 0, &share.object, error);
	if (!r) {
		*found = share;
		*object = vd_host_object_get(share.object);
	}
	group->env->unlock(group->env, &group->lock);
	if (r && share.object)
		vd_host_object_put(share.object);
	return r;
}

int device_group_each_shared(struct vd_group *group, const struct vd_host_object *object,
			     int (*fn)(void *context, const struct vd_region_neighbour *neighbour),
			     void *context)
{
	int r = 0;

	group->env->lock(group->env, &group->lock);
	for (unsigned i = 0; i < VD_GROUP_PLACES_MAX && !r; i++) {
		const struct place *place = &group->shares[i].place;
		struct vd_region_neighbour neighbour = {place->device, place->region, place->offset,
							place->size};

		if (place->device && group->shares[i].object == object)
			r = fn(context, &neighbour);
	}
	group->env->unlock(group->env, &group->lock);
	return r;
}

/* One at a time, as to let an object go sleeps. */
static bool forget_share(struct vd_group *group, const struct vd_device *device)
{
	struct vd_host_object *object = NULL;

	group->env->lock(group->env, &group->lock);
	for (unsigned i = 0; i < VD_GROUP_PLACES_MAX && !object; i++) {
		struct share *share = &group->shares[i];

		if (share->place.device != device)
			continue;
		object = share->object;
		*share = (struct share){.object = NULL};
	}
	group->env->unlock(group->env, &group->lock);
	vd_host_object_put(object);
	return object;
}

/* ---- both ----------------------------------------------------------------------------------- */

void device_group_forget(struct vd_group *group, const struct vd_device *device)
{
	while (forget_share(group, device))
		;
	group->env->lock(group->env, &group->lock);
	for (unsigned t = 0; t < 2; t++)
		for (unsigned i = 0; i < VD_GROUP_PLACES_MAX; i++)
			if (group->places[t].place[i].device == device)
				group->places[t].place[i].device = NULL;
	group->env->unlock(group->env, &group->lock);
}

uint64_t device_group_offset(struct vd_group *group, const struct vd_device *device,
			     unsigned region)
{
	struct places *places = places_of(group, &device->regions[region]);
	uint64_t offset = UINT64_MAX;

	group->env->lock(group->env, &group->lock);
	for (unsigned i = 0; i < VD_GROUP_PLACES_MAX; i++)
		if (places->place[i].device == device && places->place[i].region == region)
			offset = places->place[i].offset;
	group->env->unlock(group->env, &group->lock);
	return offset;
}

struct vd_host_object *device_group_memory(const struct vd_group *group, bool prefetch)
{
	return group->places[prefetch].memory;
}

int device_group_each(struct vd_group *group, bool prefetch,
		      int (*fn)(void *context, const struct vd_region_neighbour *neighbour),
		      void *context)
{
	int r = 0;

	group->env->lock(group->env, &group->lock);
	for (unsigned i = 0; i < VD_GROUP_PLACES_MAX && !r; i++) {
		const struct place *place = &group->places[prefetch].place[i];
		struct vd_region_neighbour neighbour = {place->device, place->region, place->offset,
							place->size};

		if (place->device)
			r = fn(context, &neighbour);
	}
	group->env->unlock(group->env, &group->lock);
	return r;
}
