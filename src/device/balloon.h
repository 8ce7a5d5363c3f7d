/* SPDX-License-Identifier: BSD-2-Clause */
/* The balloon itself, for its files. All under the device's lock, but where it says otherwise. */
#ifndef VIADUCT_DEVICE_BALLOON_H
#define VIADUCT_DEVICE_BALLOON_H

#include <viaduct/device.h>

#include "device/virtio/virtio.h"

/*
 * Queues of virtio 1.2, section 5.5.2. There, number 3 is for free page hints and 4 for reporting.
 * Drivers disagree whether a queue whose feature is not offered has a number, so that Linux'
 * reporting queue is 3 or 4, by its version: without hints, both are taken for it.
 */
enum balloon_queue {
	BALLOON_INFLATE, BALLOON_DEFLATE, BALLOON_STATS, BALLOON_REPORT_3, BALLOON_REPORT_4,
	BALLOON_QUEUES
};

#define BALLOON_PAGE_SHIFT 12u /* of page numbers, whatever the guest's pages are: 5.5.6.1 */
#define BALLOON_RANGES 256u

/* struct balloon_range - to be given back: whole pages of the host */
struct balloon_range { uint64_t start, length; };

/*
 * struct balloon_request - a chain of the inflate or a reporting queue, and how far it is
 * @offset: bytes that are done, of page numbers, or of the segment @segment
 */
struct balloon_request {
	bool active;
	unsigned queue, segment;
	uint64_t offset;
	struct virtio_chain chain;
};

struct vd_balloon {
	struct virtio virtio; /* first: the device's context */
	const struct vd_env *env;
	struct vd_dma_space *space;
	uint64_t memory, page_mask;
	int ready_fd; /* always readable: while there is work left, nobody sleeps */

	uint32_t target_pages, actual_pages, poison; /* the configuration: 5.5.4 */
	bool stats_held; /* the driver's buffer, until somebody wants new ones */
	unsigned turn;	 /* whose queue is looked at first */
	struct balloon_request request;
	struct virtio_chain scratch;
	struct vd_balloon_status counters;

	/* Of the thread that is inside @work, with or without the lock. */
	uint32_t pages[BALLOON_RANGES];
	struct balloon_range ranges[BALLOON_RANGES];
	unsigned range_count;
};

/* ---- balloon_work.c ------------------------------------------------------------------------- */

/* balloon_work() - a bounded part of what the driver gave up; without the lock */
void balloon_work(void *context);

#endif
