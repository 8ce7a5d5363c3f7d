/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A host that is the machine itself: its memory map is a table, an object is a range of it at its
 * own address. What a range is comes from the table, never from asking whether a page exists.
 */
#include "host/object.h"

#define ADDRESS_LIMIT (UINT64_C(1) << 56)
#define RANGES_MAX 1024u

static size_t map_bytes(uint32_t room)
{
	return sizeof(struct physical_map) + room * sizeof(struct vd_physical_range);
}

void physical_map_free(const struct vd_env *env, struct physical_map *map)
{
	env->release(env, map, map_bytes(map->room));
}

static int check_bounds(const char *name, uint64_t start, uint64_t length, unsigned page_shift,
			struct vd_error *error)
{
	uint64_t mask = (UINT64_C(1) << page_shift) - 1;

	if (!length || (start | length) & mask)
		return vd_error_set(error, -EINVAL,
				    "%s: 0x%llx bytes at 0x%llx are not whole pages of 0x%llx",
				    name, (unsigned long long)length, (unsigned long long)start,
				    (unsigned long long)(mask + 1));
	if (start >= ADDRESS_LIMIT || length > ADDRESS_LIMIT - start)
		return vd_error_set(error, -EOVERFLOW,
				    "%s: 0x%llx bytes at 0x%llx end above 56 address bits", name,
				    (unsigned long long)length, (unsigned long long)start);
	return 0;
}

/* ---- the map --------------------------------------------------------- */

static bool type_fits(const struct vd_physical_range *range)
{
	switch (range->kind) {
	case VD_PAGE_RAM:
	case VD_PAGE_RESERVED:
		return range->type == VD_MEMORY_NORMAL;
	case VD_PAGE_DEVICE:
		return range->type == VD_MEMORY_UNCACHED ||
		       range->type == VD_MEMORY_WRITE_COMBINING;
	}
	return false;
}

/* Keeps the ranges in order. Return: 0; -EEXIST. */
static int map_insert(struct physical_map *map, const struct vd_physical_range *range,
		      struct vd_error *error)
{
	uint32_t at = map->count;

	for (uint32_t i = 0; i < map->count; i++)
		if (vd_ranges_overlap(map->ranges[i].start, map->ranges[i].length, range->start,
				      range->length))
			return vd_error_set(error, -EEXIST,
					    "memory map: 0x%llx and 0x%llx overlap",
					    (unsigned long long)map->ranges[i].start,
					    (unsigned long long)range->start);
	for (; at && map->ranges[at - 1].start > range->start; at--)
		map->ranges[at] = map->ranges[at - 1];
	map->ranges[at] = *range;
	map->count++;
	return 0;
}

static int map_fill(struct physical_map *map, const struct vd_host_physical_config *config,
		    struct vd_error *error)
{
	int result = 0;

	for (uint32_t i = 0; i < config->count && !result; i++) {
		const struct vd_physical_range *range = &config->ranges[i];

		result = check_bounds("memory map", range->start, range->length, config->page_shift,
				      error);
		if (!result && !type_fits(range))
			result = vd_error_set(error, -EINVAL,
					      "memory map: kind %d at 0x%llx does not go with "
					      "type %d", range->kind,
					      (unsigned long long)range->start, range->type);
		if (!result && !range->own)
			result = map_insert(map, range, error);
	}
	for (uint32_t i = 0; i < config->count && !result; i++)
		if (config->ranges[i].own)
			map->ranges[map->count + map->own++] = config->ranges[i];
	return result;
}

int vd_host_create_physical(const struct vd_host_physical_config *config, struct vd_host **out,
			    struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct physical_map *map;
	struct vd_host *host;
	int result;

	if (config->page_shift < 12 || config->page_shift > 30 || config->count > RANGES_MAX)
		return vd_error_set(error, -EINVAL,
				    "page shift %u (12 to 30), %u ranges (at most %u)",
				    config->page_shift, config->count, RANGES_MAX);
	host = vd_env_allocate(env, "host.create", sizeof(*host), _Alignof(struct vd_host));
	map = vd_env_allocate(env, "host.map", map_bytes(config->count),
			      _Alignof(struct physical_map));
	if (!host || !map) {
		env->release(env, host, sizeof(*host));
		env->release(env, map, map_bytes(config->count));
		return vd_error_set(error, -ENOMEM, "no memory for a host");
	}
	map->room = config->count;
	result = map_fill(map, config, error);
	if (result) {
		env->release(env, host, sizeof(*host));
		physical_map_free(env, map);
		return result;
	}
	host->env = env;
	host->page_shift = config->page_shift;
	host->physical = map;
	host->guard_slot = -1;
	host->always = 1;
	host->ours = &host->always;
	host_open(host);
	*out = host;
	return 0;
}

/* ---- objects --------------------------------------------------------- */

static int check_own(const struct physical_map *map, const char *name, uint64_t start,
		     uint64_t length, struct vd_error *error)
{
	for (uint32_t i = map->count; i < map->count + map->own; i++)
		if (vd_ranges_overlap(map->ranges[i].start, map->ranges[i].length, start, length))
			return vd_error_set(error, -EPERM,
					    "%s: the hypervisor's own memory at 0x%llx", name,
					    (unsigned long long)map->ranges[i].start);
	return 0;
}

/* The range that all of it lies in, or the first of neighbours alike. A hole goes before a seam. */
static int find_kind(const struct physical_map *map, const char *name, uint64_t start,
		     uint64_t length, const struct vd_physical_range **found,
		     struct vd_error *error)
{
	uint64_t at = start, end = start + length;
	bool seam = false;

	*found = NULL;
	for (uint32_t i = 0; i < map->count && at < end; i++) {
		const struct vd_physical_range *range = &map->ranges[i];

		if (range->start + range->length <= at)
			continue;
		if (range->start > at)
			break;
		if (!*found)
			*found = range;
		seam |= range->kind != (*found)->kind || range->type != (*found)->type;
		at = range->start + range->length;
	}
	if (at < end)
		return vd_error_set(error, -ENXIO, "%s: there is no memory at 0x%llx", name,
				    (unsigned long long)at);
	if (seam)
		return vd_error_set(error, -EXDEV,
				    "%s: 0x%llx bytes at 0x%llx are memory of several kinds", name,
				    (unsigned long long)length, (unsigned long long)start);
	return 0;
}

static int check_device(const struct vd_physical_range *range, const char *name, uint64_t start,
			bool asked, struct vd_error *error)
{
	bool device = range->kind == VD_PAGE_DEVICE;

	if (device && !asked)
		return vd_error_set(error, -EMEDIUMTYPE,
				    "%s: 0x%llx is device memory; ask for it as such", name,
				    (unsigned long long)start);
	if (!device && asked)
		return vd_error_set(error, -ENODEV, "%s: 0x%llx is no device memory", name,
				    (unsigned long long)start);
	return 0;
}

static int classify(const struct vd_host *host, const char *name, uint64_t start, uint64_t length,
		    unsigned flags, const struct vd_physical_range **range, struct vd_error *error)
{
	int result;

	if (!vd_host_is_physical(host) || flags & ~(VD_HOST_DEVICE | VD_HOST_READ_ONLY))
		return vd_error_set(error, -EINVAL, "%s: no physical host, or flags 0x%x", name,
				    flags);
	result = check_bounds(name, start, length, host->page_shift, error);
	if (!result)
		result = object_check_size(host, length, host->page_shift, name, error);
	if (!result)
		result = check_own(host->physical, name, start, length, error);
	if (!result)
		result = find_kind(host->physical, name, start, length, range, error);
	if (!result)
		result = check_device(*range, name, start, flags & VD_HOST_DEVICE, error);
	return result;
}

int vd_host_physical(struct vd_host *host, const char *name, uint64_t start, uint64_t length,
		     unsigned flags, struct vd_host_object **out, struct vd_error *error)
{
	const struct vd_physical_range *range = NULL;
	struct vd_host_object *object;
	int result = classify(host, name, start, length, flags, &range, error);

	if (result)
		return result;
	object = object_new(host, name, length, flags);
	if (!object)
		return vd_error_set(error, -ENOMEM, "%s: no memory for the object", name);
	object->kind = range->kind;
	object->type = range->type;
	object->home = start;
	result = object_publish(object, start);
	if (result) {
		object_free(object);
		return vd_error_set(error, result, "%s: the host has been destroyed", name);
	}
	*out = object;
	return 0;
}

uint64_t vd_host_object_physical(const struct vd_host_object *object)
{
	return vd_host_is_physical(object->host) ? object->home : UINT64_MAX;
}
