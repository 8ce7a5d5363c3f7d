/* SPDX-License-Identifier: BSD-2-Clause */
/* BAR memory: what a device shows to be mapped, in sealed files that the core owns. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio/device.h"

/* Which of the device's own objects a region is in, that is not packed. */
static unsigned memory_of(const struct vd_device *device, const struct vd_region *region)
{
	unsigned index = (unsigned)(region - device->regions);

	if (device->backed[index])
		return DEVICE_MEMORY_BACKED + index;
	return region->flags & VD_REGION_PREFETCH ? DEVICE_MEMORY_PREFETCH : DEVICE_MEMORY_PLAIN;
}

static struct vd_host_object *object_of(const struct vd_device *device,
					const struct vd_region *region)
{
	if (device->packed[region - device->regions])
		return device_group_memory(device->group, region->flags & VD_REGION_PREFETCH);
	return device->memory[memory_of(device, region)];
}

static enum vd_memory_type type_of(const struct vd_region *region)
{
	return region->flags & VD_REGION_PREFETCH ? VD_MEMORY_WRITE_COMBINING : VD_MEMORY_UNCACHED;
}

/* ---- making it ------------------------------------------------------------------------------ */

/* Nobody who gets the descriptor can take memory away, or add some. */
static int memfd_fill(const struct vd_env *env, int fd, uint64_t size)
{
	int r = vd_env_inject(env, "vfio.truncate");

	if (r)
		return r;
	if (ftruncate(fd, (off_t)size))
		return -errno;
	r = vd_env_inject(env, "vfio.seal");
	if (r)
		return r;
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ? -errno : 0;
}

int device_memory_file(const struct vd_env *env, struct vd_host *host, const char *name,
		       bool prefetch, uint64_t size, struct vd_host_object **object,
		       struct vd_error *error)
{
	enum vd_memory_type type = prefetch ? VD_MEMORY_WRITE_COMBINING : VD_MEMORY_UNCACHED;
	int r = vd_env_inject(env, "vfio.memfd"), fd;

	if (r)
		return vd_error_set(error, r, "%s: cannot make BAR memory", name);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return vd_error_set(error, -errno, "%s: cannot make BAR memory", name);
	r = memfd_fill(env, fd, size);
	if (r)
		vd_error_set(error, r, "%s: cannot get 0x%llx bytes of BAR memory", name,
			     (unsigned long long)size);
	else
		r = vd_host_import(host, name, fd, 0, size, VD_PAGE_DEVICE, type, 0, object,
				   error);
	close(fd); /* the object has its own */
	return r;
}

/* Up to the end of the last area: there need not be more of the file. */
static int memory_import(struct vd_device *device, struct vd_host *host, unsigned index,
			 const struct vd_region_backing *backing, struct vd_error *error)
{
	const struct vd_region *region = &device->regions[index];
	uint64_t page_mask = ((uint64_t)1 << vd_host_page_shift(host)) - 1;
	uint64_t size = 0;

	if (device->shared[index])
		return device_group_share(device->group, device, index, backing,
					  &device->memory[DEVICE_MEMORY_BACKED + index], error);
	for (unsigned i = 0; i < region->area_count; i++)
		if (region->areas[i].offset + region->areas[i].size > size)
			size = region->areas[i].offset + region->areas[i].size;
	size = (size + page_mask) & ~page_mask;
	return vd_host_import(host, device->name, backing->fd, backing->offset, size,
			      VD_PAGE_DEVICE, type_of(region), 0,
			      &device->memory[DEVICE_MEMORY_BACKED + index], error);
}

static bool is_mappable(const struct vd_device *device, unsigned index)
{
	return device->regions[index].flags & VD_REGION_MMAP;
}

/* One after the other, each on its own pages; trapped parts are holes that are never touched. */
static int place_regions(struct vd_device *device, uint64_t page_mask,
			 uint64_t sizes[DEVICE_MEMORY_BACKED], struct vd_error *error)
{
	for (unsigned i = 0; i < VD_REGION_COUNT; i++) {
		struct vd_region *region = &device->regions[i];
		uint64_t *size, padded;

		if (!is_mappable(device, i) || device->backed[i] || device->packed[i])
			continue;
		size = &sizes[memory_of(device, region)];
		region->memory_offset = *size;
		padded = (region->size + page_mask) & ~page_mask;
		if (padded < region->size || __builtin_add_overflow(*size, padded, size) ||
		    *size > INT64_MAX)
			return vd_error_set(error, -EINVAL,
					    "%s: region %u is too large to be mapped", device->name,
					    i);
	}
	return 0;
}

/* What shares pages with others of the group. */
static int pack_region(struct vd_device *device, unsigned index, struct vd_error *error)
{
	static const char zeroes[64];
	struct vd_region *region = &device->regions[index];
	int r = device_group_place(device->group, device, index, error);
	uint64_t piece, run;

	if (r)
		return r;
	device->packed[index] = true;
	region->memory_offset = device_group_offset(device->group, device, index);
	/* Another device may have been here. */
	for (uint64_t at = 0; at < region->size; at += piece) {
		void *to = device_memory_pointer(device, region, at, &run);

		if (!to)
			return vd_error_set(error, -ESHUTDOWN, "%s: the host is gone",
					    device->name);
		piece = region->size - at < sizeof(zeroes) ? region->size - at : sizeof(zeroes);
		vd_guest_copy(to, zeroes, piece);
	}
	return 0;
}

static int pack_regions(struct vd_device *device, const struct vd_device_config *config,
			uint64_t page_mask, struct vd_error *error)
{
	int r = 0;

	for (unsigned i = 0; i < VD_REGION_COUNT && !r; i++) {
		if (!is_mappable(device, i) || device->backed[i] || config->pad ||
		    device->regions[i].size > page_mask)
			continue;
		if (!device->group)
			r = vd_group_create(config->env, config->host, device->name,
					    &device->group, error);
		if (!r)
			r = pack_region(device, i, error);
	}
	return r;
}

/* What is somebody else's, and where in its page it lies if others are there. */
static int back_regions(struct vd_device *device, const struct vd_device_config *config,
			uint64_t page_mask, struct vd_error *error)
{
	int r = 0;

	for (unsigned i = 0; i < VD_REGION_COUNT && config->backing && !r; i++) {
		device->backed[i] = is_mappable(device, i) && config->backing[i].fd >= 0;
		device->shared[i] = device->backed[i] && config->backing[i].shared;
		if (!device->shared[i])
			continue;
		device->regions[i].memory_offset = config->backing[i].offset & page_mask;
		if (!device->group)
			r = vd_group_create(config->env, config->host, device->name,
					    &device->group, error);
	}
	return r;
}

int device_memory_create(struct vd_device *device, const struct vd_device_config *config,
			 struct vd_error *error)
{
	struct vd_host *host = config->host;
	uint64_t page_mask = ((uint64_t)1 << vd_host_page_shift(host)) - 1;
	uint64_t sizes[DEVICE_MEMORY_BACKED] = {0};
	int r;

	device->window = vd_host_window_base(host);
	device->page_shift = vd_host_page_shift(host);
	r = back_regions(device, config, page_mask, error);
	if (!r)
		r = pack_regions(device, config, page_mask, error);
	if (!r)
		r = place_regions(device, page_mask, sizes, error);
	for (unsigned i = 0; i < DEVICE_MEMORY_BACKED && !r; i++)
		if (sizes[i])
			r = device_memory_file(device->env, host, device->name,
					       i == DEVICE_MEMORY_PREFETCH, sizes[i],
					       &device->memory[i], error);
	for (unsigned i = 0; i < VD_REGION_COUNT && !r; i++)
		if (device->backed[i])
			r = memory_import(device, host, i, &config->backing[i], error);
	if (r)
		device_memory_put(device);
	return r;
}

void device_memory_put(struct vd_device *device)
{
	for (unsigned i = 0; i < DEVICE_MEMORIES; i++) {
		vd_host_object_put(device->memory[i]);
		device->memory[i] = NULL;
	}
	if (device->group)
		device_group_forget(device->group, device);
}

/* ---- invalidation --------------------------------------------------------------------------- */

/* The n-th piece of memory that is the device's: an object, or a page of the group's. */
#define PIECES (DEVICE_MEMORIES + VD_REGION_COUNT)

static bool piece(const struct vd_device *device, unsigned n, enum vd_invalidate_reason reason,
		  struct vd_invalidation *event)
{
	const struct vd_region *region;

	*event = (struct vd_invalidation){.blockable = true, .reason = reason};
	if (n < DEVICE_MEMORIES) {
		event->object = device->memory[n];
		event->length = event->object ? vd_host_object_size(event->object) : 0;
		return event->object;
	}
	if (!device->packed[n - DEVICE_MEMORIES])
		return false;
	region = &device->regions[n - DEVICE_MEMORIES];
	event->object = object_of(device, region);
	event->start = region->memory_offset >> device->page_shift << device->page_shift;
	event->length = (uint64_t)1 << device->page_shift;
	return true;
}

/* A host lives as long as its objects. */
static struct vd_notifier *chain_of(const struct vd_host_object *object)
{
	return vd_host_notifier(vd_host_object_host(object));
}

static void end_first(struct vd_device *device, enum vd_invalidate_reason reason, unsigned count)
{
	struct vd_invalidation event;

	while (count--)
		if (piece(device, count, reason, &event))
			vd_notifier_end(chain_of(event.object), &event);
}

int device_memory_start(struct vd_device *device, enum vd_invalidate_reason reason)
{
	for (unsigned i = 0; i < PIECES; i++) {
		struct vd_invalidation event;
		int r;

		if (!piece(device, i, reason, &event))
			continue;
		r = vd_notifier_start(chain_of(event.object), &event);
		if (r) {
			end_first(device, reason, i);
			return r;
		}
	}
	return 0;
}

void device_memory_end(struct vd_device *device, enum vd_invalidate_reason reason)
{
	end_first(device, reason, PIECES);
}

/* ---- finding it ----------------------------------------------------------------------------- */

uint64_t device_memory_run(const struct vd_region *region, uint64_t offset, uint64_t length,
			   uint64_t *trapped)
{
	*trapped = length;
	if (!(region->flags & VD_REGION_MMAP))
		return 0;
	for (unsigned i = 0; i < region->area_count; i++) {
		const struct vd_region_area *area = &region->areas[i];

		if (offset >= area->offset && offset - area->offset < area->size) {
			uint64_t left = area->size - (offset - area->offset);

			return left < length ? left : length;
		}
		if (area->offset > offset && area->offset - offset < *trapped)
			*trapped = area->offset - offset;
	}
	return 0;
}

void *device_memory_pointer(const struct vd_device *device, const struct vd_region *region,
			    uint64_t offset, uint64_t *run)
{
	uint64_t at = region->memory_offset + offset;
	const struct vd_host_object *object = object_of(device, region);
	struct vd_host_page page;
	char *pointer;

	if (vd_host_object_lookup(object, at, VD_READ | VD_WRITE, &page))
		return NULL;
	*run = page.run;
	pointer = vd_host_pointer(device->window, page.pfn, device->page_shift);
	return pointer + (at & (((uint64_t)1 << device->page_shift) - 1));
}

void *vd_device_memory(struct vd_device *device, unsigned region, uint64_t offset, uint64_t length)
{
	uint64_t ignored;

	if (region >= VD_REGION_COUNT || !length ||
	    device_memory_run(&device->regions[region], offset, length, &ignored) != length)
		return NULL;
	/* Imported memory lies in one piece, and stays where it is. */
	return device_memory_pointer(device, &device->regions[region], offset, &ignored);
}

int vd_device_map_area(struct vd_device *device, unsigned region, uint64_t offset, uint64_t length,
		       struct vd_host_object **object, uint64_t *object_offset)
{
	const struct vd_region *r;
	uint64_t ignored;

	if (region >= VD_REGION_COUNT || !device->regions[region].size)
		return -EINVAL;
	r = &device->regions[region];
	if (!(r->flags & VD_REGION_MMAP))
		return -EOPNOTSUPP;
	if (!length || device_memory_run(r, offset, length, &ignored) != length)
		return -ERANGE;
	*object = object_of(device, r);
	*object_offset = r->memory_offset + offset;
	return 0;
}

/* ---- who else is there ---------------------------------------------------------------------- */

struct vd_group *vd_device_group(const struct vd_device *device)
{
	return device->group;
}

struct vd_region_area vd_device_claimed(const struct vd_device *device, unsigned region)
{
	const struct vd_region *r = &device->regions[region];
	uint64_t page_mask = ((uint64_t)1 << device->page_shift) - 1;

	if (!is_mappable(device, region) || device->packed[region] || device->shared[region])
		return (struct vd_region_area){r->memory_offset, r->size};
	return (struct vd_region_area){r->memory_offset, (r->size + page_mask) & ~page_mask};
}

int vd_device_each_neighbour(struct vd_device *device, unsigned region,
			     int (*fn)(void *context, const struct vd_region_neighbour *neighbour),
			     void *context)
{
	const struct vd_region *of = &device->regions[region];
	int r = 0;

	if (device->packed[region])
		return device_group_each(device->group, of->flags & VD_REGION_PREFETCH, fn,
					 context);
	if (device->shared[region])
		return device_group_each_shared(device->group, object_of(device, of), fn, context);
	for (unsigned i = 0; i < VD_REGION_COUNT && !r; i++) {
		const struct vd_region *other = &device->regions[i];
		struct vd_region_neighbour neighbour = {device, i, other->memory_offset,
							other->size};

		if (is_mappable(device, i) && !device->packed[i] &&
		    object_of(device, other) == object_of(device, of))
			r = fn(context, &neighbour);
	}
	return r;
}
