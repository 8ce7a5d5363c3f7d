/* SPDX-License-Identifier: BSD-2-Clause */
/* What the client may ask of device and regions. */
#include <string.h>

#include "transport/user/server.h"

int handle_info(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct user_device_info info;

	memcpy(&info, message->payload, sizeof(info));
	if (info.argsz < sizeof(info))
		return -EINVAL;
	info = (struct user_device_info){
		.argsz = sizeof(info),
		.flags = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI,
		.regions = VD_REGION_COUNT,
		.irqs = VD_IRQ_COUNT,
	};
	memcpy(reply_room(c, reply, sizeof(info)), &info, sizeof(info));
	return 0;
}

/* ---- regions -------------------------------------------------------------------------------- */

/* The descriptor of a region's mappable areas, and where in it the region starts. Or -1. */
static int region_memory(struct vd_device *device, unsigned index, uint64_t *offset)
{
	const struct vd_region *region = vd_device_region(device, index);
	const struct vd_region_area *area = &region->areas[0];
	struct vd_host_object *object;
	uint64_t object_offset, run;
	int fd;

	if (!(region->flags & VD_REGION_MMAP) ||
	    vd_device_map_area(device, index, area->offset, area->size, &object, &object_offset))
		return -1;
	fd = vd_host_object_fd_range(object, object_offset, offset, &run);
	/* Another process's memory may begin with this area. */
	if (fd < 0 || *offset < area->offset)
		return -1;
	*offset -= area->offset;
	return fd;
}

static bool is_sparse(const struct vd_region *region)
{
	return region->area_count != 1 || region->areas[0].offset ||
	       region->areas[0].size != region->size;
}

static void put_sparse(unsigned char *at, const struct vd_region *region)
{
	struct user_sparse sparse = {
		.header = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1},
		.count = region->area_count,
	};

	memcpy(at, &sparse, sizeof(sparse));
	at += sizeof(sparse);
	for (unsigned i = 0; i < region->area_count; i++, at += sizeof(struct user_area)) {
		struct user_area area = {region->areas[i].offset, region->areas[i].size};

		memcpy(at, &area, sizeof(area));
	}
}

int handle_region_info(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct vd_device *device = c->served->device;
	const struct vd_region *region;
	struct user_region_info info;
	uint32_t asked, whole = sizeof(info);
	unsigned char *payload;
	int fd = -1;

	memcpy(&info, message->payload, sizeof(info));
	region = vd_device_region(device, info.index);
	asked = info.argsz;
	if (asked < sizeof(info) || !region)
		return -EINVAL;
	info = (struct user_region_info){.index = info.index, .size = region->size};
	if (region->size)
		info.flags = region->flags & (VFIO_REGION_INFO_FLAG_READ |
					      VFIO_REGION_INFO_FLAG_WRITE);
	if (c->fds_max)
		fd = region_memory(device, info.index, &info.offset);
	if (fd >= 0) {
		info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
		reply->fds[reply->fd_count++] = fd;
		if (is_sparse(region)) {
			info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
			whole += (uint32_t)(sizeof(struct user_sparse) +
					    region->area_count * sizeof(struct user_area));
		}
	}
	info.argsz = whole;
	if (whole > asked)
		whole = sizeof(info); /* it asks again with more room */
	else if (whole > sizeof(info))
		info.cap_offset = sizeof(info);
	payload = reply_room(c, reply, whole);
	memcpy(payload, &info, sizeof(info));
	if (whole > sizeof(info))
		put_sparse(payload + sizeof(info), region);
	return 0;
}

/* A device's doorbells are served on the thread that writes them: there are no descriptors. */
int handle_region_io_fds(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct user_io_fds fds;

	memcpy(&fds, message->payload, sizeof(fds));
	if (fds.argsz < sizeof(fds) || fds.flags || fds.count ||
	    !vd_device_region(c->served->device, fds.index))
		return -EINVAL;
	fds.argsz = sizeof(fds);
	memcpy(reply_room(c, reply, sizeof(fds)), &fds, sizeof(fds));
	return 0;
}
