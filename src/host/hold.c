/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory whose changes nobody announces is locked as long as somebody maps it.
 *
 * mlock(2) does not count, and several slots, of several objects even, may map the same addresses:
 * so the host counts, by address. It keeps the edges at which the count changes, in order.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "host/object.h"

/* ---- edges, lock held ------------------------------------------------ */

/* How many edges lie at or below the address. The count there is that of the last of them. */
static uint32_t edges_below(const struct host_holds *holds, uintptr_t address)
{
	uint32_t low = 0, high = holds->used;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (holds->edges[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint32_t count_behind(const struct host_holds *holds, uint32_t edges)
{
	return edges ? holds->edges[edges - 1].count : 0;
}

/* The stretch from @start on, up to @end at most, that has one and the same count. */
static uintptr_t stretch_end(const struct host_holds *holds, uintptr_t start, uintptr_t end,
			     uint32_t *count)
{
	uint32_t below = edges_below(holds, start);

	*count = count_behind(holds, below);
	if (below < holds->used && holds->edges[below].address < end)
		return holds->edges[below].address;
	return end;
}

static void edge_make(struct host_holds *holds, uintptr_t address)
{
	uint32_t at = edges_below(holds, address);
	uint32_t count = count_behind(holds, at);

	if (at && holds->edges[at - 1].address == address)
		return;
	memmove(holds->edges + at + 1, holds->edges + at,
		(holds->used - at) * sizeof(*holds->edges));
	holds->edges[at] = (struct hold_edge){.address = address, .count = count};
	holds->used++;
}

static void edge_drop_if_level(struct host_holds *holds, uintptr_t address)
{
	uint32_t at = edges_below(holds, address) - 1;

	if (holds->edges[at].count != count_behind(holds, at))
		return;
	holds->used--;
	memmove(holds->edges + at, holds->edges + at + 1,
		(holds->used - at) * sizeof(*holds->edges));
}

/* Room was prepared: as many ranges as are held have at most twice as many edges. */
static void count_range(struct host_holds *holds, uintptr_t start, uintptr_t end, int by)
{
	edge_make(holds, start);
	edge_make(holds, end);
	for (uint32_t i = edges_below(holds, start) - 1; holds->edges[i].address < end; i++)
		holds->edges[i].count += (uint32_t)by;
	edge_drop_if_level(holds, end);
	edge_drop_if_level(holds, start);
}

static int edges_prepare(const struct vd_env *env, struct host_holds *holds)
{
	uint32_t room = holds->room ? 2 * holds->room : 16;
	struct hold_edge *edges;

	if (2 * (holds->ranges + 1) <= holds->room)
		return 0;
	edges = vd_env_allocate(env, "host.hold_edges", room * sizeof(*edges),
				_Alignof(struct hold_edge));
	if (!edges)
		return -ENOMEM;
	if (holds->used)
		memcpy(edges, holds->edges, holds->used * sizeof(*edges));
	env->release(env, holds->edges, holds->room * sizeof(*edges));
	holds->edges = edges;
	holds->room = room;
	return 0;
}

/* ---- locking --------------------------------------------------------- */

static int lock_memory(const struct vd_host *host, uintptr_t start, uintptr_t end)
{
	int result = vd_env_inject(host->env, "host.hold");

	if (result)
		return result;
	if (mlock((void *)start, end - start) == 0)
		return 0;
	result = errno == EPERM ? -EPERM : -ENOMEM;
	/* it may have locked a part, up to a hole */
	munlock((void *)start, end - start);
	return result;
}

/* Unlocks what has the given count. */
static void unlock_range(const struct host_holds *holds, uintptr_t start, uintptr_t end,
			 uint32_t wanted)
{
	uint32_t count;

	for (uintptr_t next; start < end; start = next) {
		next = stretch_end(holds, start, end, &count);
		if (count == wanted)
			munlock((void *)start, next - start);
	}
}

/* Locks what nobody holds yet; all or nothing. */
static int lock_range(const struct vd_host *host, uintptr_t start, uintptr_t end)
{
	uint32_t count;
	int result = 0;

	for (uintptr_t at = start, next; at < end; at = next) {
		next = stretch_end(&host->holds, at, end, &count);
		if (count == 0)
			result = lock_memory(host, at, next);
		if (result) {
			unlock_range(&host->holds, start, at, 0);
			return result;
		}
	}
	return 0;
}

static int hold_locked(struct vd_host *host, uintptr_t start, uintptr_t end)
{
	int result;

	if (host->holds.closed) /* nothing is reached there any more */
		return 0;
	result = edges_prepare(host->env, &host->holds);
	if (!result)
		result = lock_range(host, start, end);
	if (result)
		return result;
	count_range(&host->holds, start, end, 1);
	host->holds.ranges++;
	return 0;
}

static int report(const struct vd_host_object *object, uint64_t length, int result,
		  struct vd_error *error)
{
	struct rlimit limit = {0};

	getrlimit(RLIMIT_MEMLOCK, &limit);
	return vd_error_set(error, result,
			    "%s: cannot lock 0x%lx bytes that may change unannounced: all of them "
			    "mapped? RLIMIT_MEMLOCK is %lu KiB: raise it (ulimit -l), or promise "
			    "VD_HOST_ANNOUNCED", object->name, (unsigned long)length,
			    (unsigned long)(limit.rlim_cur >> 10));
}

int hosted_hold(struct vd_host_object *object, uint64_t offset, uint64_t length,
		struct vd_error *error)
{
	struct vd_host *host = object->host;
	uint64_t mask = (UINT64_C(1) << host->page_shift) - 1;
	int result;

	if (length == 0 || (offset | length) & mask)
		return vd_error_set(error, -EINVAL, "%s: not whole pages", object->name);
	if (offset > object->size || length > object->size - offset)
		return vd_error_set(error, -ERANGE, "%s: not inside the object", object->name);
	host->env->lock(host->env, &host->holds.lock);
	result = hold_locked(host, object->home + offset, object->home + offset + length);
	host->env->unlock(host->env, &host->holds.lock);
	return result ? report(object, length, result, error) : 0;
}

void hosted_unhold(struct vd_host_object *object, uint64_t offset, uint64_t length)
{
	struct vd_host *host = object->host;
	uintptr_t start = object->home + offset, end = start + length;

	host->env->lock(host->env, &host->holds.lock);
	if (!host->holds.closed) {
		vd_assert(host->holds.ranges);
		unlock_range(&host->holds, start, end, 1);
		count_range(&host->holds, start, end, -1);
		host->holds.ranges--;
	}
	host->env->unlock(host->env, &host->holds.lock);
}

bool holds_any(struct vd_host_object *object, uint64_t offset, uint64_t length)
{
	struct vd_host *host = object->host;
	uintptr_t start = object->home + offset, end = start + length;
	uint32_t count = 0;

	if (!object->private)
		return false;
	host->env->lock(host->env, &host->holds.lock);
	while (start < end && !count)
		start = stretch_end(&host->holds, start, end, &count);
	host->env->unlock(host->env, &host->holds.lock);
	return count != 0;
}

void holds_close(struct vd_host *host)
{
	struct host_holds *holds = &host->holds;

	host->env->lock(host->env, &holds->lock);
	for (uint32_t i = 0; i < holds->used; i++)
		if (holds->edges[i].count)
			munlock((void *)holds->edges[i].address,
				holds->edges[i + 1].address - holds->edges[i].address);
	host->env->release(host->env, holds->edges, holds->room * sizeof(*holds->edges));
	holds->edges = NULL;
	holds->used = 0;
	holds->closed = true;
	host->env->unlock(host->env, &holds->lock);
}
