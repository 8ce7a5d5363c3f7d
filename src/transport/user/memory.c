/* SPDX-License-Identifier: BSD-2-Clause */
/* The client's memory: mapped here if it gives a descriptor, else reached by messages. */
#include <string.h>

#include "transport/user/server.h"

static int map_object(struct connection *c, const struct user_dma_map *map, int fd, unsigned access)
{
	struct vd_host_object *object;
	unsigned flags = access & VD_WRITE ? 0 : VD_HOST_READ_ONLY;
	int r;

	if (map->size > SERVER_MEMORY_MAX - c->mapped)
		return -ENOSPC;
	r = vd_host_import(c->export->server->host, "client", fd, map->offset, map->size,
			   VD_PAGE_RAM, VD_MEMORY_NORMAL, flags, &object, NULL);
	if (r)
		return r;
	r = vd_dma_map(c->served->space, (vd_iova){map->address}, map->size, object, 0, access);
	vd_host_object_put(object);
	if (!r)
		c->mapped += map->size;
	return r;
}

int handle_dma_map(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct user_dma_map map;
	unsigned access = 0;

	(void)reply;
	memcpy(&map, message->payload, sizeof(map));
	if (map.argsz < sizeof(map) || message->fd_count > 1 ||
	    map.flags & ~(USER_DMA_READABLE | USER_DMA_WRITABLE))
		return -EINVAL;
	if (map.flags & USER_DMA_READABLE)
		access |= VD_READ;
	if (map.flags & USER_DMA_WRITABLE)
		access |= VD_WRITE;
	if (message->fd_count)
		return map_object(c, &map, message->fds[0], access);
	return vd_dma_map_remote(c->served->space, (vd_iova){map.address}, map.size, access,
				 &dma_remote_ops, c);
}

/* ---- unmapping ------------------------------------------------------------------------------ */

/* What is mapped in a range, by descriptor. */
struct tally {
	uint64_t start, last, bytes;
};

static int count_objects(void *context, const struct vd_dma_map_info *map)
{
	struct tally *tally = context;

	if (map->iova.value > tally->last)
		return 1;
	if (map->iova.value >= tally->start && map->object)
		tally->bytes += map->length;
	return 0;
}

/*
 * Messages about what goes are refused meanwhile, and of others only writes are sent: the client
 * answers nothing before it has its reply.
 */
static int unmap(struct connection *c, const struct user_dma_unmap *range, bool all,
		 uint64_t *unmapped)
{
	struct vd_dma_space *space = c->served->space;
	struct tally tally = {range->address, range->address + (range->size - 1), 0};
	int r;

	if (all)
		tally = (struct tally){0, UINT64_MAX, 0};
	if (c->mapped)
		(void)vd_dma_each_map(space, count_objects, &tally);
	dma_set_mode(c, DMA_POSTED, tally.start, tally.last);
	r = all ? vd_dma_unmap_all(space, unmapped)
		: vd_dma_unmap(space, (vd_iova){range->address}, range->size, unmapped);
	dma_set_mode(c, DMA_WAITED, 0, UINT64_MAX);
	if (!r)
		c->mapped -= tally.bytes;
	return r;
}

int handle_dma_unmap(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct user_dma_unmap range;
	uint64_t unmapped = 0;
	bool all;
	int r;

	memcpy(&range, message->payload, sizeof(range));
	all = range.flags & USER_UNMAP_ALL;
	if (range.argsz < sizeof(range) || range.flags & ~USER_UNMAP_ALL ||
	    (all && (range.address || range.size)))
		return -EINVAL;
	r = unmap(c, &range, all, &unmapped);
	if (r)
		return r;
	if (!unmapped && !all)
		return -ENOENT;
	if (all)
		range.size = unmapped;
	memcpy(reply_room(c, reply, sizeof(range)), &range, sizeof(range));
	return 0;
}
