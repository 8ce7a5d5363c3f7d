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

/* struct unmapping - a request, and where the bitmap goes that it may want */
struct unmapping {
	struct user_dma_unmap range;
	struct user_bitmap bitmap;
	void *bits;
	uint64_t unmapped;
};

static int unmap_range(struct vd_dma_space *space, struct unmapping *u)
{
	vd_iova iova = {u->range.address};

	if (u->range.flags & USER_UNMAP_ALL)
		return vd_dma_unmap_all(space, &u->unmapped);
	if (!u->bits)
		return vd_dma_unmap(space, iova, u->range.size, &u->unmapped);
	return vd_dma_unmap_dirty(space, iova, u->range.size, u->bitmap.page_size, u->bits,
				  u->bitmap.size, &u->unmapped);
}

/*
 * Messages about what goes are refused meanwhile, and of others only writes are sent: the client
 * answers nothing before it has its reply.
 */
static int unmap(struct connection *c, struct unmapping *u)
{
	struct vd_dma_space *space = c->served->space;
	struct tally tally = {u->range.address, u->range.address + (u->range.size - 1), 0};
	int r;

	if (u->range.flags & USER_UNMAP_ALL)
		tally = (struct tally){0, UINT64_MAX, 0};
	if (c->mapped)
		(void)vd_dma_each_map(space, count_objects, &tally);
	dma_set_mode(c, DMA_POSTED, tally.start, tally.last);
	r = unmap_range(space, u);
	dma_set_mode(c, DMA_WAITED, 0, UINT64_MAX);
	dma_settle(c);
	if (!r)
		c->mapped -= tally.bytes;
	return r;
}

/* Room for the reply, with the bitmap if one is asked for. Return: 0, -errno */
static int make_room(struct connection *c, const struct user_message *message, struct unmapping *u,
		     struct reply *reply)
{
	size_t length = sizeof(u->range), bytes;
	unsigned char *payload;

	if (u->range.flags & USER_UNMAP_BITMAP) {
		if (message->length < sizeof(u->range) + sizeof(u->bitmap))
			return -EINVAL;
		memcpy(&u->bitmap, message->payload + sizeof(u->range), sizeof(u->bitmap));
		bytes = logging_bytes(c, u->range.size, u->bitmap.page_size);
		length += sizeof(u->bitmap) + bytes;
		if (!bytes || u->bitmap.size != bytes || u->range.argsz < length)
			return -EINVAL;
	}
	payload = reply_room(c, reply, length);
	if (!payload)
		return -ENOMEM;
	if (u->range.flags & USER_UNMAP_BITMAP)
		u->bits = payload + sizeof(u->range) + sizeof(u->bitmap);
	return 0;
}

int handle_dma_unmap(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct unmapping u = {.unmapped = 0};
	bool all;
	int r;

	memcpy(&u.range, message->payload, sizeof(u.range));
	all = u.range.flags == USER_UNMAP_ALL;
	if (u.range.argsz < sizeof(u.range) || (all && (u.range.address || u.range.size)) ||
	    (u.range.flags && u.range.flags != USER_UNMAP_BITMAP && !all))
		return -EINVAL;
	r = make_room(c, message, &u, reply);
	if (!r)
		r = unmap(c, &u);
	if (r)
		return r;
	if (!u.unmapped && !all)
		return -ENOENT;
	if (all)
		u.range.size = u.unmapped;
	memcpy(reply->payload, &u.range, sizeof(u.range));
	if (u.bits)
		memcpy(reply->payload + sizeof(u.range), &u.bitmap, sizeof(u.bitmap));
	return 0;
}
