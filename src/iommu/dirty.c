/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages devices have stored to. Each mark comes after its store, in a read section or under
 * the space's lock; pins are asked for when a report is made, as what they store cannot be seen.
 */
#include "iommu/space.h"

#define RANGES_MAX 1024u
#define PAGE_SHIFT_MIN 12u

/* What a client wants to hear of, by ascending address. */
struct dma_tracked {
	uint32_t count; /* 0: everything */
	struct vd_dma_range ranges[];
};

static size_t tracked_size(uint32_t count)
{
	return sizeof(struct dma_tracked) + count * sizeof(struct vd_dma_range);
}

static bool check_page_size(uint64_t page_size)
{
	return page_size >= UINT64_C(1) << PAGE_SHIFT_MIN && !(page_size & (page_size - 1));
}

static int check_aligned(uint64_t iova, uint64_t length, uint64_t page_size)
{
	uint64_t end;

	if (!length || (iova | length) & (page_size - 1))
		return -EINVAL;
	return vd_range_end(iova, length, &end) ? 0 : -EOVERFLOW;
}

/* ---- start and stop ------------------------------------------------------------------------- */

static int tracked_add(struct dma_tracked *tracked, const struct vd_dma_range *range)
{
	uint32_t at = tracked->count;

	while (at && tracked->ranges[at - 1].iova.value > range->iova.value)
		at--;
	if (at && range->iova.value - tracked->ranges[at - 1].iova.value <
			  tracked->ranges[at - 1].length)
		return -EEXIST;
	if (at < tracked->count &&
	    tracked->ranges[at].iova.value - range->iova.value < range->length)
		return -EEXIST;
	for (uint32_t i = tracked->count++; i > at; i--)
		tracked->ranges[i] = tracked->ranges[i - 1];
	tracked->ranges[at] = *range;
	return 0;
}

static int tracked_create(const struct vd_env *env, const struct vd_dma_range *ranges,
			  uint32_t count, uint64_t page_size, struct dma_tracked **out)
{
	struct dma_tracked *tracked;
	int r = 0;

	for (uint32_t i = 0; i < count && !r; i++)
		r = check_aligned(ranges[i].iova.value, ranges[i].length, page_size);
	if (r)
		return r;
	tracked = vd_env_allocate(env, "iommu.dirty", tracked_size(count),
				  _Alignof(struct dma_tracked));
	if (!tracked)
		return -ENOMEM;
	for (uint32_t i = 0; i < count && !r; i++)
		r = tracked_add(tracked, &ranges[i]);
	if (r)
		env->release(env, tracked, tracked_size(count));
	else
		*out = tracked;
	return r;
}

/* Tracking lock held, or nobody else has the space. */
static void forget(struct vd_dma_space *space, struct dirty_pages *pages)
{
	dirty_pages_free(pages);
	space->env->release(space->env, space->tracked, tracked_size(space->tracked->count));
	space->tracked = NULL;
}

static int start_locked(struct vd_dma_space *space, const struct vd_dma_range *ranges,
			uint32_t count, uint64_t page_size)
{
	struct dirty_pages *pages;
	int r;

	if (space->tracked)
		return -EALREADY;
	r = tracked_create(space->env, ranges, count, page_size, &space->tracked);
	if (r)
		return r;
	pages = dirty_pages_create(space->env, (unsigned)__builtin_ctzll(page_size));
	if (!pages) {
		forget(space, NULL);
		return -ENOMEM;
	}
	dma_lock(space);
	/* Old dirty bits are nobody's, and blocks too large. */
	if (space->table)
		dma_assigned_zap(space, 0, UINT64_MAX);
	/* Release pairs with the acquire in dma_dirty(). */
	atomic_store_explicit(&space->dirty, pages, memory_order_release);
	dma_unlock(space);
	/* Who has seen nobody track has stored before this returns. */
	space->env->synchronize(space->env);
	return 0;
}

int vd_dma_dirty_start(struct vd_dma_space *space, const struct vd_dma_range *ranges,
		       unsigned count, uint64_t page_size)
{
	int r;

	if (!check_page_size(page_size))
		return -EINVAL;
	if (count > RANGES_MAX)
		return -E2BIG;
	space->env->lock(space->env, &space->tracking);
	r = start_locked(space, ranges, count, page_size);
	space->env->unlock(space->env, &space->tracking);
	return r;
}

/* Tracking lock held. */
static void stop_locked(struct vd_dma_space *space)
{
	struct dirty_pages *pages;

	dma_lock(space);
	pages = atomic_load_explicit(&space->dirty, memory_order_relaxed);
	atomic_store_explicit(&space->dirty, NULL, memory_order_relaxed);
	/* What is asked for next may be blocks again. */
	if (space->table)
		dma_assigned_zap(space, 0, UINT64_MAX);
	dma_unlock(space);
	space->env->synchronize(space->env);
	forget(space, pages);
}

int vd_dma_dirty_stop(struct vd_dma_space *space)
{
	int r = 0;

	space->env->lock(space->env, &space->tracking);
	if (space->tracked)
		stop_locked(space);
	else
		r = -ENODATA;
	space->env->unlock(space->env, &space->tracking);
	return r;
}

void dma_dirty_end(struct vd_dma_space *space)
{
	if (space->tracked)
		forget(space, atomic_load_explicit(&space->dirty, memory_order_relaxed));
}

/* ---- reports -------------------------------------------------------------------------------- */

struct report {
	const struct dma_tracked *tracked;
	uint64_t start, last; /* bytes */
	unsigned shift;	      /* of the client's pages */
	unsigned char *bitmap;
};

static void set_bits(unsigned char *bitmap, uint64_t first, uint64_t last)
{
	for (; first % 8 && first <= last; first++)
		bitmap[first / 8] |= (unsigned char)(1u << first % 8);
	for (; first + 7 <= last; first += 8)
		bitmap[first / 8] = 0xff;
	for (; first <= last; first++)
		bitmap[first / 8] |= (unsigned char)(1u << first % 8);
}

static void set_bytes(struct report *report, uint64_t first, uint64_t last)
{
	set_bits(report->bitmap, (first - report->start) >> report->shift,
		 (last - report->start) >> report->shift);
}

/* Stored to, by ascending address; within the report, but not all of it may be tracked. */
static void note(void *context, uint64_t first, uint64_t last)
{
	struct report *report = context;
	const struct dma_tracked *tracked = report->tracked;
	uint32_t low = 0, high = tracked->count;

	if (!tracked->count) {
		set_bytes(report, first, last);
		return;
	}
	/* the first range that does not end before */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct vd_dma_range *range = &tracked->ranges[middle];

		if (range->iova.value + (range->length - 1) < first)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < tracked->count && tracked->ranges[low].iova.value <= last; low++) {
		uint64_t start = tracked->ranges[low].iova.value;
		uint64_t end = start + (tracked->ranges[low].length - 1);

		set_bytes(report, start > first ? start : first, end < last ? end : last);
	}
}

/* What is pinned for storing counts as stored to. Lock held. */
static void note_pins(const struct vd_dma_space *space, struct report *report)
{
	for (const struct vd_dma_pin *pin = space->pins; pin; pin = pin->next) {
		for (unsigned i = 0; i < pin->count && pin->access & VD_WRITE; i++) {
			uint64_t first = pin->ranges[i].iova.value;
			uint64_t last = first + (pin->ranges[i].length - 1);

			if (first > report->last || last < report->start)
				continue;
			note(report, first > report->start ? first : report->start,
			     last < report->last ? last : report->last);
		}
	}
}

static int check_report(uint64_t iova, uint64_t length, uint64_t page_size, size_t bytes)
{
	int r;

	if (!check_page_size(page_size))
		return -EINVAL;
	r = check_aligned(iova, length, page_size);
	if (r)
		return r;
	return (length / page_size - 1) / 8 < bytes ? 0 : -ENOSPC;
}

/* Tracking lock held. */
static void report_locked(struct vd_dma_space *space, struct report *report)
{
	report->tracked = space->tracked;
	if (space->table) {
		dma_lock(space);
		dma_assigned_harvest(space, report->start, report->last);
		dma_unlock(space);
	}
	/* Only this lock's holders change it. */
	dirty_pages_take(atomic_load_explicit(&space->dirty, memory_order_relaxed), report->start,
			 report->last, note, report);
	dma_lock(space);
	note_pins(space, report);
	dma_unlock(space);
	/* Dirty bits come before the store: who set those that were taken has stored after this. */
	if (space->table)
		space->env->synchronize(space->env);
}

int vd_dma_dirty_report(struct vd_dma_space *space, vd_iova iova, uint64_t length,
			uint64_t page_size, void *bitmap, size_t bytes)
{
	struct report report = {.start = iova.value, .last = iova.value + (length - 1),
				.bitmap = bitmap};
	int r = check_report(iova.value, length, page_size, bytes);

	if (r)
		return r;
	report.shift = (unsigned)__builtin_ctzll(page_size);
	space->env->lock(space->env, &space->tracking);
	if (space->tracked) {
		__builtin_memset(bitmap, 0, bytes);
		report_locked(space, &report);
	} else {
		r = -ENODATA;
	}
	space->env->unlock(space->env, &space->tracking);
	return r;
}

int vd_dma_unmap_dirty(struct vd_dma_space *space, vd_iova iova, uint64_t length,
		       uint64_t page_size, void *bitmap, size_t bytes, uint64_t *unmapped)
{
	struct report report = {.start = iova.value, .last = iova.value + (length - 1),
				.bitmap = bitmap};
	int r = check_report(iova.value, length, page_size, bytes);

	*unmapped = 0;
	if (r)
		return r;
	report.shift = (unsigned)__builtin_ctzll(page_size);
	space->env->lock(space->env, &space->tracking);
	r = space->tracked ? vd_dma_unmap(space, iova, length, unmapped) : -ENODATA;
	/* Pins are gone, and whoever was inside a guard has marked what he stored. */
	if (!r) {
		__builtin_memset(bitmap, 0, bytes);
		report_locked(space, &report);
	}
	space->env->unlock(space->env, &space->tracking);
	return r;
}
