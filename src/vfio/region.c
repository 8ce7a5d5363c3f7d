/* SPDX-License-Identifier: BSD-2-Clause */
/* The slow path: accesses to regions, one after the other under the device's lock. */
#include <string.h>

#include "vfio/device.h"

/* One access as asked for, or what is left of it. */
struct access {
	unsigned region;
	uint64_t offset;
	unsigned char *to; /* a read */
	const unsigned char *from;
	size_t length;
};

static void advance(struct access *access, uint64_t length)
{
	access->offset += length;
	access->length -= length;
	if (access->to)
		access->to += length;
	else
		access->from += length;
}

/* The same bytes that the fast path shows. */
static int copy_memory(struct vd_device *device, struct access *access, uint64_t length)
{
	const struct vd_region *region = &device->regions[access->region];

	while (length) {
		uint64_t run;
		void *pointer = device_memory_pointer(device, region, access->offset, &run);

		if (!pointer)
			return -EIO;
		if (run > length)
			run = length;
		if (access->to)
			vd_guest_copy(access->to, pointer, run);
		else
			vd_guest_copy(pointer, access->from, run);
		advance(access, run);
		length -= run;
	}
	return 0;
}

/* Somebody else's file may be cut at any moment: its bytes are gone then, not we. */
static int access_memory(struct vd_device *device, struct access *access, uint64_t length)
{
	struct vd_host_guard guard = {0};
	int r;

	if (!device->backed[access->region])
		return copy_memory(device, access, length);
	vd_host_guard_enter(&guard);
	r = copy_memory(device, access, length);
	vd_host_guard_leave(&guard);
	return atomic_load_explicit(&guard.hits, memory_order_relaxed) ? -EIO : r;
}

/* Naturally aligned pieces of 1, 2, 4 or 8 bytes, as a bus would carry them. */
static int access_trapped(struct vd_device *device, struct access *access, uint64_t length)
{
	const struct vd_device_ops *ops = device->ops;

	while (length) {
		size_t piece = 8;
		int r;

		while (piece > length || access->offset & (piece - 1))
			piece /= 2;
		r = access->to ? ops->read(device->context, access->region, access->offset,
					   access->to, piece)
			       : ops->write(device->context, access->region, access->offset,
					    access->from, piece);
		if (r)
			return r;
		advance(access, piece);
		length -= piece;
	}
	return 0;
}

static int access_locked(struct vd_device *device, struct access *access)
{
	const struct vd_region *region = &device->regions[access->region];
	int r = 0;

	while (access->length && !r) {
		uint64_t trapped, memory;

		memory = device_memory_run(region, access->offset, access->length, &trapped);
		r = memory ? access_memory(device, access, memory)
			   : access_trapped(device, access, trapped);
	}
	return r;
}

static int check_access(const struct vd_device *device, const struct access *access, unsigned flag)
{
	const struct vd_region *region;

	if (access->region >= VD_REGION_COUNT || !device->regions[access->region].size)
		return -EINVAL;
	region = &device->regions[access->region];
	if (access->offset > region->size || access->length > region->size - access->offset)
		return -ERANGE;
	return region->flags & flag ? 0 : -EACCES;
}

static int run_access(struct vd_device *device, struct access *access, _Atomic uint64_t *counter)
{
	struct device_wishes wishes;
	int r, failed;

	vd_device_lock(device);
	device_count(counter);
	if (!device->yielded)
		device->work_asked = false;
	r = access_locked(device, access);
	device_wishes_take(device, &wishes);
	vd_device_unlock(device);
	/* Who asked for work waits for who is inside; who did not, does not. */
	failed = device_wishes_grant(device, &wishes, wishes.asked);
	return r ? r : failed;
}

int vd_device_read(struct vd_device *device, unsigned region, vd_region_offset offset, void *data,
		   size_t length)
{
	struct access access = {.region = region, .offset = offset.value, .to = data,
				.length = length};
	int r = check_access(device, &access, VD_REGION_READ);

	if (!r)
		r = run_access(device, &access, &device->reads[region]);
	if (r)
		memset(data, 0xff, length);
	return r;
}

int vd_device_write(struct vd_device *device, unsigned region, vd_region_offset offset,
		    const void *data, size_t length)
{
	struct access access = {.region = region, .offset = offset.value, .from = data,
				.length = length};
	int r = check_access(device, &access, VD_REGION_WRITE);

	return r ? r : run_access(device, &access, &device->writes[region]);
}

const struct vd_region *vd_device_region(const struct vd_device *device, unsigned index)
{
	return index < VD_REGION_COUNT ? &device->regions[index] : NULL;
}
