/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "VFIO_USER_DEVICE_GET_REGION_INFO". What does not add up about mapping leaves the region trapped,
 * with the reason; what does not add up about the region is refused.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/user/client.h"

/* Longest reply that is asked for: some 250 areas. */
#define INFO_MAX 4096u

struct reply {
	struct client_call call;
	struct user_region_info info;
	unsigned char bytes[INFO_MAX]; /* of which the first are @info */
	size_t length;		       /* that are there */
};

static int ask(struct user_client *client, unsigned index, uint32_t argsz, struct reply *reply)
{
	struct user_region_info info = {.argsz = argsz, .index = index};
	struct client_request request = {
		.command = USER_GET_REGION_INFO, .parts = {{&info, sizeof(info)}}, .part_count = 1,
	};
	int r;

	reply->call = (struct client_call){.reply = reply->bytes, .room = sizeof(reply->bytes)};
	r = user_client_send(client, &reply->call, &request);
	if (!r)
		r = user_client_wait(client, &reply->call, 1);
	if (r)
		return r;
	if (reply->call.length < sizeof(reply->info) || reply->call.length > reply->call.room)
		return -EPROTO;
	reply->length = reply->call.length;
	memcpy(&reply->info, reply->bytes, sizeof(reply->info));
	return reply->info.index == index ? 0 : -EPROTO;
}

/* With its capabilities, if it has any and they are not too long. */
static int ask_all(struct user_client *client, unsigned index, struct reply *reply)
{
	int r = ask(client, index, sizeof(reply->info), reply);

	if (r || !(reply->info.flags & VFIO_REGION_INFO_FLAG_CAPS) ||
	    reply->info.argsz <= sizeof(reply->info) || reply->info.argsz > INFO_MAX)
		return r;
	user_client_close_call(&reply->call);
	return ask(client, index, reply->info.argsz, reply);
}

/* ---- what can be mapped --------------------------------------------------------------------- */

/* Where a capability is; 0: there is none; -1: the list makes no sense. */
static long find_capability(const struct reply *reply, unsigned id)
{
	size_t next = reply->info.cap_offset;
	struct user_capability header;

	if (!(reply->info.flags & VFIO_REGION_INFO_FLAG_CAPS))
		return 0;
	/* A list without a loop is no longer than this. */
	for (size_t i = 0; i < INFO_MAX / sizeof(header) && next; i++) {
		if (next > reply->length || reply->length - next < sizeof(header))
			return -1;
		memcpy(&header, reply->bytes + next, sizeof(header));
		if (header.id == id && header.version == 1)
			return (long)next;
		next = header.next;
	}
	return next ? -1 : 0;
}

/* Where the areas are, and how many; 0: there is no such capability, -1: it makes no sense. */
static long find_areas(const struct reply *reply, size_t *at)
{
	long found = find_capability(reply, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	struct user_sparse sparse;

	if (found <= 0)
		return found;
	*at = (size_t)found;
	if (reply->length - *at < sizeof(sparse))
		return -1;
	memcpy(&sparse, reply->bytes + *at, sizeof(sparse));
	*at += sizeof(sparse);
	if (sparse.count > (reply->length - *at) / sizeof(struct user_area))
		return -1;
	return sparse.count ? (long)sparse.count : -1;
}

static const char *take_area(struct vd_region *region, const struct user_area *area, uint64_t mask)
{
	uint64_t padded = (region->size + mask) & ~mask;

	if (!area->size || (area->offset | area->size) & mask)
		return "a mappable area is not made of whole pages";
	if (area->offset > padded || area->size > padded - area->offset)
		return "a mappable area is outside the region";
	for (unsigned i = 0; i < region->area_count; i++)
		if (vd_ranges_overlap(area->offset, area->size, region->areas[i].offset,
				      region->areas[i].size))
			return "mappable areas overlap";
	if (region->area_count < VD_REGION_AREAS_MAX)
		region->areas[region->area_count++] =
			(struct vd_region_area){area->offset, area->size};
	return NULL;
}

static const char *take_areas(struct vd_region *region, const struct reply *reply, uint64_t mask)
{
	const char *why = NULL;
	struct user_area area;
	size_t at = 0;
	long count = find_areas(reply, &at);

	if (count < 0)
		return "the description of its mappable areas makes no sense";
	/*
	 * Who announces a region smaller than a page promises that nothing else is in the page, as
	 * vfio-pci does.
	 */
	if (!count && region->size <= mask) {
		region->areas[region->area_count++] = (struct vd_region_area){0, region->size};
		return NULL;
	}
	if (!count) {
		if (region->size & mask)
			return "its size is no multiple of the page";
		area = (struct user_area){0, region->size};
		return take_area(region, &area, mask);
	}
	for (long i = 0; i < count && !why; i++) {
		memcpy(&area, reply->bytes + at + (size_t)i * sizeof(area), sizeof(area));
		why = take_area(region, &area, mask);
	}
	return why;
}

/* The descriptor must hold what is going to be mapped, now at least. */
static const char *check_file(const struct vd_region *region, int fd, uint64_t offset,
			      uint64_t mask)
{
	struct stat status;

	if (fstat(fd, &status))
		return "its descriptor cannot be looked at";
	for (unsigned i = 0; i < region->area_count; i++) {
		const struct vd_region_area *area = &region->areas[i];
		uint64_t end, size = S_ISREG(status.st_mode) ? (uint64_t)status.st_size
							     : INT64_MAX;

		if (__builtin_add_overflow(offset, area->offset + area->size + mask, &end) ||
		    (end & ~mask) > size)
			return "its memory is shorter than its mappable areas";
	}
	return NULL;
}

/* A page that others are in: offered only to who asked for it. */
static const char *take_shared(struct user_client *client, const struct vd_region *region,
			       const struct reply *reply, uint64_t mask, bool *shared)
{
	uint64_t at = reply->info.offset & mask;
	long found = client->info.page_offset
			     ? find_capability(reply, USER_CAPABILITY_SHARED_PAGE) : 0;

	*shared = found > 0;
	if (found < 0)
		return "the description of its mappable areas makes no sense";
	if (!found)
		return at ? "its memory does not start at a page" : NULL;
	return region->size > mask + 1 - at ? "it does not lie in the one page that it shares"
					    : NULL;
}

static const char *take_mapping(struct user_client *client, struct vd_region *region,
				struct vd_region_backing *backing, struct reply *reply,
				uint64_t mask)
{
	const char *why;
	bool shared;

	if (client->reconnect_ns)
		return "its server may be replaced by one with other memory (reconnect)";
	if (reply->call.fd_count != 1 || reply->call.fds[0] < 0)
		return reply->call.fd_count ? "several descriptors came with it"
					    : "no descriptor came with it";
	why = take_shared(client, region, reply, mask, &shared);
	if (!why)
		why = take_areas(region, reply, mask);
	if (!why)
		why = check_file(region, reply->call.fds[0], reply->info.offset, mask);
	if (why)
		return why;
	*backing = (struct vd_region_backing){reply->call.fds[0], reply->info.offset, shared};
	reply->call.fds[0] = -1;
	region->flags |= VD_REGION_MMAP;
	return NULL;
}

/* ---- a region ------------------------------------------------------------------------------- */

static const char *const names[VD_REGION_COUNT] = {
	"BAR 0", "BAR 1", "BAR 2", "BAR 3", "BAR 4", "BAR 5", "ROM", "configuration space", "VGA",
};

static int take_region(struct user_client *client, struct client_setup *setup, unsigned index,
		       struct reply *reply)
{
	const unsigned both = VD_REGION_READ | VD_REGION_WRITE;
	struct vd_region *region = &setup->regions[index];
	uint64_t mask = (uint64_t)sysconf(_SC_PAGESIZE) - 1;

	region->name = names[index];
	region->size = reply->info.size;
	region->flags = (reply->info.flags & VFIO_REGION_INFO_FLAG_READ ? VD_REGION_READ : 0) |
			(reply->info.flags & VFIO_REGION_INFO_FLAG_WRITE ? VD_REGION_WRITE : 0);
	if (region->size > INT64_MAX)
		return -EPROTO;
	if (index == VD_REGION_CONFIG)
		return region->size < 256 || region->size > 4096 || region->flags != both ? -EPROTO
											  : 0;
	if (!region->size || !(reply->info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return 0;
	client->info.trapped[index] =
		take_mapping(client, region, &setup->backing[index], reply, mask);
	if (client->info.trapped[index])
		region->area_count = 0;
	client->info.shared[index] = setup->backing[index].shared;
	return 0;
}

int user_client_region(struct user_client *client, struct client_setup *setup, unsigned index,
		       struct vd_error *error)
{
	struct reply *reply = vd_env_allocate(client->env, "user.region", sizeof(*reply),
					      _Alignof(struct reply));
	int r;

	if (!reply)
		return vd_error_set(error, -ENOMEM, "vfio-user: no memory");
	r = ask_all(client, index, reply);
	if (!r)
		r = take_region(client, setup, index, reply);
	user_client_close_call(&reply->call);
	client->env->release(client->env, reply, sizeof(*reply));
	if (client->dead)
		return vd_error_set(error, client->dead, "%s", client->end.text);
	if (r)
		return vd_error_set(error, r, "vfio-user %s: the server does not describe region "
				    "%u in a way that makes sense", client->name, index);
	return 0;
}
