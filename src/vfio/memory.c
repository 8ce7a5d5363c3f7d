/* SPDX-License-Identifier: BSD-2-Clause */
/* BAR memory: what a device shows to be mapped, in sealed files that the core owns. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio/device.h"

/* Which of the device's objects a region is in. */
static unsigned memory_of(const struct vd_device *device, const struct vd_region *region)
{
	unsigned index = (unsigned)(region - device->regions);

	if (device->backed[index])
		return DEVICE_MEMORY_BACKED + index;
	return region->flags & VD_REGION_PREFETCH ? DEVICE_MEMORY_PREFETCH : DEVICE_MEMORY_PLAIN;
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

static int memory_create(struct vd_device *device, struct vd_host *host, unsigned which,
			 uint64_t size, struct vd_error *error)
{
	enum vd_memory_type type = which == DEVICE_MEMORY_PREFETCH ? VD_MEMORY_WRITE_COMBINING
								   : VD_MEMORY_UNCACHED;
	int r = vd_env_inject(device->env, "vfio.memfd"), fd;

	if (r)
		return vd_error_set(error, r, "%s: cannot make BAR memory", device->name);
	fd = memfd_create(device->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return vd_error_set(error, -errno, "%s: cannot make BAR memory", device->name);
	r = memfd_fill(device->env, fd, size);
	if (r)
		vd_error_set(error, r, "%s: cannot get 0x%llx bytes of BAR memory", device->name,
			     (unsigned long long)size);
	else
		r = vd_host_import(host, device->name, fd, 0, size, VD_PAGE_DEVICE, type, 0,
				   &device->memory[which], error);
	close(fd); /* the object has its own */
	return r;
}

/* Up to the end of the last area: there need not be more of the file. */
static int memory_import(struct vd_device *device, struct vd_host *host, unsigned index,
			 const struct vd_region_backing *backing, struct vd_error *error)
{
	const struct vd_region *region = &device->regions[index];
	uint64_t size = 0;

	for (unsigned i = 0; i < region->area_count; i++)
		if (region->areas[i].offset + region->areas[i].size > size)
			size = region->areas[i].offset + region->areas[i].size;
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

		if (!is_mappable(device, i) || device->backed[i])
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

int device_memory_create(struct vd_device *device, const struct vd_device_config *config,
			 struct vd_error *error)
{
	struct vd_host *host = config->host;
	uint64_t page_mask = ((uint64_t)1 << vd_host_page_shift(host)) - 1;
	uint64_t sizes[DEVICE_MEMORY_BACKED] = {0};
	int r;

	for (unsigned i = 0; i < VD_REGION_COUNT && config->backing; i++)
		device->backed[i] = is_mappable(device, i) && config->backing[i].fd >= 0;
	r = place_regions(device, page_mask, sizes, error);
	device->window = vd_host_window_base(host);
	device->page_shift = vd_host_page_shift(host);
	for (unsigned i = 0; i < DEVICE_MEMORY_BACKED && !r; i++)
		if (sizes[i])
			r = memory_create(device, host, i, sizes[i], error);
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
}

/* ---- invalidation --------------------------------------------------------------------------- */

static struct vd_invalidation whole(const struct vd_host_object *object,
				    enum vd_invalidate_reason reason)
{
	return (struct vd_invalidation){
		.object = object,
		.length = vd_host_object_size(object),
		.blockable = true,
		.reason = reason,
	};
}

/* A host lives as long as its objects. */
static struct vd_notifier *chain_of(const struct vd_host_object *object)
{
	return vd_host_notifier(vd_host_object_host(object));
}

static void end_first(struct vd_device *device, enum vd_invalidate_reason reason, unsigned count)
{
	while (count--) {
		struct vd_invalidation event;

		if (!device->memory[count])
			continue;
		event = whole(device->memory[count], reason);
		vd_notifier_end(chain_of(device->memory[count]), &event);
	}
}

int device_memory_start(struct vd_device *device, enum vd_invalidate_reason reason)
{
	for (unsigned i = 0; i < DEVICE_MEMORIES; i++) {
		struct vd_invalidation event;
		int r;

		if (!device->memory[i])
			continue;
		event = whole(device->memory[i], reason);
		r = vd_notifier_start(chain_of(device->memory[i]), &event);
		if (r) {
			end_first(device, reason, i);
			return r;
		}
	}
	return 0;
}

void device_memory_end(struct vd_device *device, enum vd_invalidate_reason reason)
{
	end_first(device, reason, DEVICE_MEMORIES);
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
	const struct vd_host_object *object = device->memory[memory_of(device, region)];
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
	*object = device->memory[memory_of(device, r)];
	*object_offset = r->memory_offset + offset;
	return 0;
}
