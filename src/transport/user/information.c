/* SPDX-License-Identifier: BSD-2-Clause */
/* What the client may ask of device and regions. */
#include <string.h>

#include <viaduct/pci.h>

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

static bool is_sparse(const struct vd_pci_announcement *a, const struct vd_region *region)
{
	return a->area_count != 1 || a->areas[0].offset || a->areas[0].size != region->size;
}

static void put_shared(unsigned char *at)
{
	struct user_capability shared = {.id = USER_CAPABILITY_SHARED_PAGE, .version = 1};

	memcpy(at, &shared, sizeof(shared));
}

static void put_sparse(unsigned char *at, const struct vd_pci_announcement *a)
{
	struct user_sparse sparse = {
		.header = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1},
		.count = a->area_count,
	};

	memcpy(at, &sparse, sizeof(sparse));
	at += sizeof(sparse);
	for (unsigned i = 0; i < a->area_count; i++, at += sizeof(struct user_area)) {
		struct user_area area = {a->areas[i].offset, a->areas[i].size};

		memcpy(at, &area, sizeof(area));
	}
}

/* Whether this client may have pages that its device's BARs share with others of the group. */
static bool has_group(struct connection *c)
{
	struct vd_group *group = vd_device_group(c->served->device);

	if (!c->page_offset || !group)
		return false;
	if (!c->has_group)
		c->has_group = !vd_group_take(group, c->identity ? (const void *)c->identity : c);
	return c->has_group;
}

int handle_region_info(struct connection *c, struct user_message *message, struct reply *reply)
{
	const struct vd_user_server *server = c->served->server;
	struct vd_device *device = c->served->device;
	struct vd_pci_announcement announcement;
	const struct vd_region *region;
	struct user_region_info info;
	uint32_t asked, whole = sizeof(info);
	unsigned char *payload;

	memcpy(&info, message->payload, sizeof(info));
	region = vd_device_region(device, info.index);
	asked = info.argsz;
	if (asked < sizeof(info) || !region)
		return -EINVAL;
	info = (struct user_region_info){.index = info.index, .size = region->size};
	if (region->size)
		info.flags = region->flags & (VFIO_REGION_INFO_FLAG_READ |
					      VFIO_REGION_INFO_FLAG_WRITE);
	vd_pci_announce(device, info.index, UINT64_C(1) << vd_host_page_shift(server->host),
			has_group(c), &announcement);
	if (c->fds_max && announcement.fd >= 0) {
		info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
		info.offset = announcement.offset;
		reply->fds[reply->fd_count++] = announcement.fd;
		if (is_sparse(&announcement, region)) {
			info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
			whole += (uint32_t)(sizeof(struct user_sparse) +
					    announcement.area_count * sizeof(struct user_area));
		} else if (announcement.shared) {
			info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
			whole += (uint32_t)sizeof(struct user_capability);
		}
	}
	info.argsz = whole;
	if (whole > asked)
		whole = sizeof(info); /* it asks again with more room */
	else if (whole > sizeof(info))
		info.cap_offset = sizeof(info);
	payload = reply_room(c, reply, whole);
	memcpy(payload, &info, sizeof(info));
	if (whole > sizeof(info) && !is_sparse(&announcement, region))
		put_shared(payload + sizeof(info));
	else if (whole > sizeof(info))
		put_sparse(payload + sizeof(info), &announcement);
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
