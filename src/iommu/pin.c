/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory held for asynchronous I/O, and how those who want it back get it. */
#include "iommu/space.h"

/* ---- pinning -------------------------------------------------------------------------------- */

/* Segments under construction. */
struct gather {
	struct vd_dma_segment *segments;
	unsigned count, room;
	uint64_t pieces;
	uint64_t told; /* the watchers of what is to be stored to: vd_mem_watch_told() */
	/* Of memory reached by messages: its bounce buffer, and how much of it is wanted. */
	unsigned char *bounce;
	uint64_t bounce_room, bounced;
};

static int gather_add(struct gather *gather, unsigned char *pointer, uint64_t length)
{
	struct vd_dma_segment *last = gather->segments + gather->count - 1;

	gather->pieces++;
	if (gather->count && (unsigned char *)last->base + last->length == pointer) {
		last->length += length;
		return 0;
	}
	if (gather->count == gather->room)
		return -ENOSPC;
	gather->segments[gather->count++] = (struct vd_dma_segment){pointer, length};
	return 0;
}

/*
 * Bytes that are reached by messages. Without a buffer they are only counted, and with one that is
 * too small as well: a map has changed since they were.
 */
static int gather_remote(const struct vd_dma_space *space, struct gather *gather, uint64_t length)
{
	uint64_t at = gather->bounced;

	/* each term is at most the limit, or the pin fails */
	if (length > space->bounce_limit - at)
		return -ENOBUFS;
	gather->bounced += length;
	if (gather->bounced > gather->bounce_room)
		return 0;
	return gather_add(gather, gather->bounce + at, length);
}

static int gather_range(struct vd_dma_space *space, const struct vd_dma_range *range,
			unsigned access, struct gather *gather, struct dma_piece *piece)
{
	uint64_t done = 0, end;

	if (!vd_range_end(range->iova.value, range->length, &end))
		return -EFAULT;
	while (done < range->length) {
		int r = dma_resolve_locked(space, range->iova.value + done, access, piece);
		uint64_t length = range->length - done;

		if (r && r != -EREMOTE)
			return r;
		if (piece->watched && !vd_mem_watch_told(space->mem, gather->told))
			return -EUCLEAN;
		if (piece->run < length)
			length = piece->run;
		r = r ? gather_remote(space, gather, length)
		      : gather_add(gather, piece->pointer, length);
		if (r)
			return r;
		done += length;
	}
	return 0;
}

static void pin_link(struct vd_dma_pin *pin)
{
	struct vd_dma_space *space = pin->space;

	pin->next = space->pins;
	pin->previous = &space->pins;
	if (pin->next)
		pin->next->previous = &pin->next;
	space->pins = pin;
	space->pin_count++;
	space->pinned_bytes += pin->bytes;
}

/* Lock held: no invalidation of these ranges has looked for pins and not seen this one. */
static int pin_locked(struct vd_dma_pin *pin, struct gather *gather, struct dma_piece *piece)
{
	int r = pin->count ? 0 : -EFAULT;

	for (unsigned i = 0; i < pin->count && !r; i++) {
		r = gather_range(pin->space, &pin->ranges[i], pin->access, gather, piece);
		pin->bytes += pin->ranges[i].length;
	}
	if (!r && gather->bounced != gather->bounce_room)
		r = -EREMOTE;
	if (!r)
		pin_link(pin);
	return r;
}

/* Return: by when all were told, as vd_mem_watch_tell(). */
static uint64_t tell_ranges(struct vd_dma_space *space, const struct vd_dma_range *ranges,
			    unsigned count)
{
	uint64_t told = 0;

	for (unsigned i = 0; i < count; i++) {
		uint64_t now = dma_tell(space, ranges[i].iova.value, ranges[i].length);

		if (!told)
			told = now;
	}
	return told;
}

static void pin_unlink(struct vd_dma_pin *pin)
{
	struct vd_dma_space *space = pin->space;

	*pin->previous = pin->next;
	if (pin->next)
		pin->next->previous = pin->previous;
	space->pinned_bytes -= pin->bytes;
	dma_wake(space);
}

/* As often as something changes meanwhile. */
static int pin_ranges(struct vd_dma_pin *pin, struct gather *gather,
		      struct vd_dma_segment *segments, unsigned room)
{
	struct vd_dma_space *space = pin->space;
	struct dma_piece piece;
	uint64_t told = 0;
	int r;

	for (;;) {
		*gather = (struct gather){.segments = segments, .room = room, .told = told,
					  .bounce = pin->bounce,
					  .bounce_room = pin->bounce_bytes};
		pin->bytes = 0;
		dma_lock(space);
		r = pin_locked(pin, gather, &piece);
		dma_unlock(space);
		if (r == -EAGAIN) {
			dma_wait_for(space, &piece);
		} else if (r == -EREMOTE) {
			dma_bounce_free(pin);
			r = dma_bounce_allocate(pin, gather->bounced);
			if (r)
				return r;
		} else if (r == -EUCLEAN) {
			told = tell_ranges(space, pin->ranges, pin->count);
		} else {
			return r;
		}
	}
}

/* What the device is going to read, from where it is reached by messages only. */
static int fill_bounce(struct vd_dma_pin *pin)
{
	int r = pin->bounce && pin->access & VD_READ ? dma_bounce_copy(pin, VD_READ) : 0;

	if (!r)
		return 0;
	dma_lock(pin->space);
	pin_unlink(pin);
	pin->space->pin_count--;
	dma_unlock(pin->space);
	return r;
}

int vd_dma_pin(struct vd_dma_space *space, const struct vd_dma_range *ranges, unsigned count,
	       unsigned access, struct vd_dma_owner *owner, struct vd_dma_pin *pin,
	       struct vd_dma_segment *segments, unsigned *segment_count)
{
	struct gather gather;
	int r;

	*pin = (struct vd_dma_pin){.space = space, .owner = owner, .ranges = ranges,
				   .count = count, .access = access};
	r = pin_ranges(pin, &gather, segments, *segment_count);
	if (!r)
		r = fill_bounce(pin);
	if (r) {
		dma_bounce_free(pin);
		return r == -EFAULT ? dma_fault(space) : r;
	}
	dma_count(space, gather.pieces);
	for (unsigned i = 0; i < count && space->env->trace_events & VD_TRACE_PIN; i++)
		vd_trace(space->env, VD_TRACE_PIN, ranges[i].iova.value, ranges[i].length, access);
	*segment_count = gather.count;
	return 0;
}

int vd_dma_unpin(struct vd_dma_pin *pin)
{
	struct vd_dma_space *space = pin->space;
	bool watched = false;
	int r = 0;

	/* While the pin keeps the maps. */
	if (pin->bounce && pin->access & VD_WRITE)
		r = dma_bounce_copy(pin, VD_WRITE);
	dma_lock(space);
	/* Before the pin is gone: what it held, and the log of it, may go with it. */
	for (unsigned i = 0; i < pin->count && pin->access & VD_WRITE; i++) {
		vd_gpa gpa = {pin->ranges[i].iova.value};
		uint64_t length = pin->ranges[i].length;

		dma_dirty(space, gpa.value, length);
		if (!space->mem || space->released)
			continue;
		vd_mem_mark_dirty(space->mem, gpa, length);
		watched |= vd_mem_watched(space->mem, gpa, length);
	}
	pin_unlink(pin);
	dma_unlock(space);
	dma_bounce_free(pin);
	/* Who has begun to watch meanwhile, or kept on: what was let through is over. */
	if (watched)
		tell_ranges(space, pin->ranges, pin->count);
	return r;
}

/* ---- getting memory back -------------------------------------------------------------------- */

/* Whether a range, all of which is mapped as it is pinned, is backed by the bytes that change. */
static bool range_backed_by(const struct vd_dma_space *space, const struct vd_dma_range *range,
			    const struct dma_change *change)
{
	uint64_t last = range->iova.value + (range->length - 1), at = range->iova.value;

	for (;;) {
		const struct dma_map *map = dma_maps_find(&space->maps, at);
		uint64_t end;

		if (!map)
			return false;
		end = map->last < last ? map->last : last;
		if (map->object == change->object &&
		    map->offset + (at - map->start) <= change->last &&
		    change->start <= map->offset + (end - map->start))
			return true;
		if (end == last)
			return false;
		at = end + 1;
	}
}

static bool range_concerned(const struct vd_dma_space *space, const struct vd_dma_range *range,
			    const struct dma_change *change)
{
	if (change->object)
		return range_backed_by(space, range, change);
	return range->iova.value <= change->last &&
	       change->start <= range->iova.value + (range->length - 1);
}

static bool pin_concerned(const struct vd_dma_space *space, const struct vd_dma_pin *pin,
			  const struct dma_change *change)
{
	if ((pin->access & change->access) != change->access)
		return false;
	for (unsigned i = 0; i < pin->count; i++)
		if (range_concerned(space, &pin->ranges[i], change))
			return true;
	return false;
}

/* The first pin concerned that was not asked for since ask number @since; UINT64_MAX for any. */
static struct vd_dma_pin *find_concerned(const struct vd_dma_space *space,
					 const struct dma_change *change, uint64_t since)
{
	struct vd_dma_pin *pin = space->pins;

	while (pin && (pin->asked >= since || !pin_concerned(space, pin, change)))
		pin = pin->next;
	return pin;
}

/*
 * Asks the owner of @pin for all its pins that are concerned. The lock is dropped meanwhile; that
 * the owner is being asked is noted, so that it can wait for the end of that before it goes.
 */
static void ask(struct vd_dma_space *space, struct vd_dma_pin *pin,
		const struct dma_change *change, uint64_t number)
{
	struct vd_dma_owner *owner = pin->owner;
	struct dma_ask note = {.owner = owner, .next = space->asks}, **link;
	uint64_t low = UINT64_MAX, high = 0;

	for (; pin; pin = pin->next) {
		if (pin->owner != owner || !pin_concerned(space, pin, change))
			continue;
		pin->asked = number;
		for (unsigned i = 0; i < pin->count; i++) {
			uint64_t start = pin->ranges[i].iova.value;
			uint64_t last = start + (pin->ranges[i].length - 1);

			low = start < low ? start : low;
			high = last > high ? last : high;
		}
	}
	if (!owner)
		return;
	space->asks = &note;
	dma_unlock(space);
	/* A length of 2^64 does not occur: it would be all there is, and pinned. */
	owner->unpin_request(owner, (vd_iova){low}, high - low + 1);
	dma_lock(space);
	for (link = &space->asks; *link != &note; link = &(*link)->next)
		;
	*link = note.next;
	dma_wake(space);
}

bool dma_pins_any(const struct vd_dma_space *space, const struct dma_change *change)
{
	return find_concerned(space, change, UINT64_MAX);
}

int dma_pins_drain(struct vd_dma_space *space, const struct dma_change *change)
{
	uint64_t number = ++space->last_ask, deadline = 0;
	struct vd_dma_pin *pin;

	while (dma_pins_any(space, change)) {
		if (!change->blockable)
			return -EAGAIN;
		pin = find_concerned(space, change, number);
		if (pin) {
			ask(space, pin, change, number);
			continue;
		}
		if (!deadline)
			deadline = space->env->clock_ns(space->env) + space->pin_limit_ns;
		if (!dma_sleep(space, deadline))
			return -EBUSY;
	}
	return 0;
}

void vd_dma_owner_drain(struct vd_dma_space *space, const struct vd_dma_owner *owner)
{
	const struct dma_ask *note;

	dma_lock(space);
	do {
		note = space->asks;
		while (note && owner && note->owner != owner)
			note = note->next;
		if (note)
			dma_sleep(space, 0);
	} while (note);
	dma_unlock(space);
}
