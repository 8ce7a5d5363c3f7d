/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Giving back what the driver gave up (virtio 1.2, 5.5.6.1, 5.5.6.7). A request is a chain; of it
 * one bounded part after the other is copied under the device's lock and given back without.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_balloon.h>

#include "device/balloon.h"

/* A hart stands still as long as one call of @work takes: some milliseconds. */
#define WORK_BYTES (UINT64_C(16) << 20)
#define WORK_CALLS 256u

/* What came of a part, counted without the lock. */
struct tally {
	uint64_t discarded, pinned, refused;
	unsigned calls;
};

/* ---- what is to go -------------------------------------------------------------------------- */

/* The whole host pages of [start, start + length), none of which wraps. */
static struct balloon_range whole_pages(const struct vd_balloon *balloon, uint64_t start,
					uint64_t length)
{
	uint64_t mask = balloon->page_mask, first = (start + mask) & ~mask, skipped = first - start;

	/* Rounding up may wrap, too: then there is no whole page. */
	if (length <= skipped)
		return (struct balloon_range){start, 0};
	return (struct balloon_range){first, (length - skipped) & ~mask};
}

static void add_range(struct vd_balloon *balloon, uint64_t start, uint64_t length)
{
	struct balloon_range range = whole_pages(balloon, start, length);

	balloon->counters.refused += length - range.length;
	if (range.length)
		balloon->ranges[balloon->range_count++] = range;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Neighbours go at once; a page that is named twice counts once. */
static void add_pages(struct vd_balloon *balloon, uint32_t *pages, size_t count)
{
	size_t done = 0;

	for (size_t i = 0; i < count; i++)
		pages[i] = le32toh(pages[i]);
	qsort(pages, count, sizeof(*pages), compare);
	while (done < count) {
		uint64_t first = pages[done], last = first;

		while (done < count && pages[done] <= last + 1)
			last = pages[done++];
		add_range(balloon, first << BALLOON_PAGE_SHIFT,
			  (last - first + 1) << BALLOON_PAGE_SHIFT);
	}
}

/* 5.5.6.1: an array of page numbers. Return: whether that was all. */
static bool gather_inflated(struct vd_balloon *balloon)
{
	struct balloon_request *request = &balloon->request;
	long bytes = virtio_chain_read(&balloon->virtio, &request->chain, request->offset,
				       balloon->pages, sizeof(balloon->pages));
	size_t count;

	if (bytes < 0)
		return true;
	count = (size_t)bytes / sizeof(*balloon->pages);
	request->offset += (uint64_t)bytes;
	balloon->counters.inflated += (uint64_t)count << BALLOON_PAGE_SHIFT;
	add_pages(balloon, balloon->pages, count);
	return (size_t)bytes < sizeof(balloon->pages);
}

/*
 * 5.5.6.7: buffers that the device may write are the free pages themselves. Only zero can be read
 * from what was given back, so a guest that expects another poison keeps its pages.
 */
static bool gather_reported(struct vd_balloon *balloon, uint64_t room)
{
	struct balloon_request *request = &balloon->request;
	bool poisoned = virtio_has(&balloon->virtio, VIRTIO_BALLOON_F_PAGE_POISON) &&
			balloon->poison;

	while (request->segment < request->chain.count) {
		const struct virtio_segment *segment = &request->chain.segments[request->segment];
		uint64_t left = segment->length - request->offset, length;

		if (room <= balloon->page_mask || balloon->range_count == BALLOON_RANGES)
			return false;
		/* Where it is cut, the host's pages are not: they lie in the next part. */
		length = left <= room ? left : room - ((segment->iova + request->offset + room) &
						       balloon->page_mask);
		balloon->counters.reported += length;
		if (!segment->writable || !virtio_has(&balloon->virtio, VIRTIO_BALLOON_F_REPORTING))
			balloon->counters.refused += length;
		else if (poisoned)
			balloon->counters.poisoned += length;
		else if (length)
			add_range(balloon, segment->iova + request->offset, length);
		room -= length;
		request->offset += length;
		if (request->offset == segment->length) {
			request->segment++;
			request->offset = 0;
		}
	}
	return true;
}

/* ---- giving it back ------------------------------------------------------------------------- */

/*
 * Something in the range may be pinned: then it is split, so that only what is pinned stays. A
 * device that holds very many pages makes that slow; then more stays.
 */
static void give_back(const struct vd_balloon *balloon, struct balloon_range range,
		      struct tally *tally)
{
	uint64_t page = balloon->page_mask + 1, done, half;
	int r;

	if (tally->calls++ >= 2 * WORK_CALLS) {
		tally->pinned += range.length;
		return;
	}
	r = vd_dma_discard(balloon->space, (vd_iova){range.start}, range.length, &done);
	tally->discarded += done;
	range.start += done;
	range.length -= done;
	if (r == -EBUSY && range.length > page) {
		half = (range.length / 2 + balloon->page_mask) & ~balloon->page_mask;
		give_back(balloon, (struct balloon_range){range.start, half}, tally);
		give_back(balloon, (struct balloon_range){range.start + half, range.length - half},
			  tally);
	} else if (r == -EBUSY) {
		tally->pinned += range.length;
	} else if (r) {
		tally->refused += range.length;
	}
}

/* Without the lock. */
static void give_all_back(const struct vd_balloon *balloon, struct tally *tally)
{
	for (unsigned i = 0; i < balloon->range_count; i++)
		give_back(balloon, balloon->ranges[i], tally);
}

/* ---- requests ------------------------------------------------------------------------------- */

/* The queues take turns. */
static bool take_request(struct vd_balloon *balloon)
{
	struct balloon_request *request = &balloon->request;
	static const unsigned queues[] = {BALLOON_INFLATE, BALLOON_REPORT_3, BALLOON_REPORT_4};

	for (unsigned i = 0; i < 3 && !request->active; i++) {
		unsigned queue = queues[(balloon->turn + i) % 3];

		if (queue < balloon->virtio.model->queues &&
		    virtio_queue_peek(&balloon->virtio, queue, &request->chain)) {
			request->active = true;
			request->queue = queue;
			request->segment = 0;
			request->offset = 0;
			balloon->turn = (balloon->turn + i + 1) % 3;
		}
	}
	return request->active && virtio_runs(&balloon->virtio);
}

/* Return: bytes tried. */
static uint64_t gather(struct vd_balloon *balloon, uint64_t room, bool *last)
{
	uint64_t bytes = 0;

	balloon->range_count = 0;
	*last = balloon->request.queue == BALLOON_INFLATE ? gather_inflated(balloon)
							  : gather_reported(balloon, room);
	for (unsigned i = 0; i < balloon->range_count; i++)
		bytes += balloon->ranges[i].length;
	return bytes;
}

static void count(struct vd_balloon *balloon, const struct tally *tally)
{
	balloon->counters.discarded += tally->discarded;
	balloon->counters.pinned += tally->pinned;
	balloon->counters.refused += tally->refused;
}

/* One part of a request. Return: false if the device was reset meanwhile. */
static bool do_part(struct vd_balloon *balloon, uint64_t *room, unsigned *calls)
{
	struct tally tally = {0};
	bool last, alive;
	uint64_t bytes = gather(balloon, *room, &last);

	virtio_hold(&balloon->virtio);
	vd_device_unlock(balloon->virtio.device);
	give_all_back(balloon, &tally);
	vd_device_lock(balloon->virtio.device);
	alive = virtio_let_go(&balloon->virtio);
	count(balloon, &tally);
	if (alive && last) {
		virtio_queue_use(&balloon->virtio, balloon->request.queue,
				 &balloon->request.chain, 0);
		balloon->request.active = false;
	}
	*room -= bytes < *room ? bytes : *room;
	*calls += tally.calls + 1;
	return alive;
}

void balloon_work(void *context)
{
	struct vd_balloon *balloon = context;
	uint64_t room = WORK_BYTES;
	unsigned calls = 0;
	bool more;

	vd_device_lock(balloon->virtio.device);
	while ((more = take_request(balloon)) && room && calls < WORK_CALLS)
		if (!do_part(balloon, &room, &calls))
			break;
	more = more && balloon->request.active;
	vd_device_set_busy(balloon->virtio.device, more, more ? balloon->ready_fd : -1);
	vd_device_unlock(balloon->virtio.device);
}
