/* SPDX-License-Identifier: BSD-2-Clause */
/* A balloon in a machine without a processor. */
#ifndef TESTS_DEVICE_BALLOON_RIG_H
#define TESTS_DEVICE_BALLOON_RIG_H

#include "virtio_rig.h"

#include <linux/virtio_balloon.h>

#include "device/balloon.h"

#define FEATURE(name) (UINT64_C(1) << VIRTIO_BALLOON_F_##name)
#define ALL_FEATURES (FEATURE(STATS_VQ) | FEATURE(DEFLATE_ON_OOM) | FEATURE(REPORTING))
#define MIB (UINT64_C(1) << 20)

struct balloon_rig {
	struct vrig rig;
	struct vd_balloon *balloon;
};

static inline void balloon_plug(struct balloon_rig *b, uint64_t target, bool reporting)
{
	struct vd_balloon_config config = {
		.env = &b->rig.test.env, .host = b->rig.host, .space = b->rig.space,
		.memory = VRIG_RAM_SIZE, .target = target, .reporting = reporting,
	};
	struct vd_error error = {.text = ""};
	struct vd_device *device;

	if (vd_balloon_create(&config, &b->balloon, &device, &error))
		fail_msg("%s", error.text);
	vrig_plug(&b->rig, device);
}

static inline void balloon_open(struct balloon_rig *b, uint64_t target, bool reporting)
{
	vrig_open(&b->rig);
	balloon_plug(b, target, reporting);
}

static inline struct vd_balloon_status status_of(struct balloon_rig *b)
{
	struct vd_balloon_status status;

	vd_balloon_status(b->balloon, &status);
	return status;
}

/* Marks every page of a range with its number. */
static inline void mark(struct balloon_rig *b, uint64_t gpa, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t at = gpa + i * PAGE;

		vrig_put(&b->rig, at, &at, sizeof(at));
	}
}

static inline bool is_marked(struct balloon_rig *b, uint64_t gpa)
{
	uint64_t value;

	vrig_take(&b->rig, gpa, &value, sizeof(value));
	assert_true(value == gpa || value == 0);
	return value;
}

static inline uint64_t marked_pages(struct balloon_rig *b, uint64_t gpa, uint64_t pages)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < pages; i++)
		count += is_marked(b, gpa + i * PAGE);
	return count;
}

/* Puts an array of page numbers where buffers are. */
static inline void put_pages(struct balloon_rig *b, uint64_t at, const uint64_t *gpas, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t page = (uint32_t)(gpas[i] / PAGE);

		vrig_put(&b->rig, at + 4 * i, &page, 4);
	}
}

/* Inflates or deflates by pages in a row; waits until that is done. */
static inline void send_pages(struct balloon_rig *b, unsigned queue, uint64_t gpa, uint32_t pages)
{
	for (uint32_t i = 0; i < pages; i++) {
		uint32_t page = (uint32_t)(gpa / PAGE) + i;

		vrig_put(&b->rig, VRIG_BUFFERS + 4 * i, &page, 4);
	}
	vrig_send(&b->rig, queue, VRIG_BUFFERS, 4 * pages, false);
	vrig_wait(&b->rig, queue, 0);
}

#endif
