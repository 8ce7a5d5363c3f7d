/* SPDX-License-Identifier: BSD-2-Clause */
#include "balloon_rig.h"

#define CONFIG_AT(field) (VIRTIO_CONFIG + offsetof(struct virtio_balloon_config, field))

static void test_target(void **state)
{
	struct balloon_rig b;
	uint64_t generation;

	(void)state;
	balloon_open(&b, 32 * MIB, true);
	assert_int_equal(vrig_features(&b.rig), ALL_FEATURES | FEATURE(PAGE_POISON) |
						UINT64_C(1) << VIRTIO_F_VERSION_1);
	assert_int_equal(vrig_read(&b.rig, CONFIG_AT(num_pages), 4), 16 * MIB / PAGE);
	assert_int_equal(status_of(&b).target, 32 * MIB);
	assert_int_equal(status_of(&b).actual, VRIG_RAM_SIZE);
	assert_false(status_of(&b).ready);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	assert_true(status_of(&b).ready);
	assert_true(status_of(&b).reporting);
	generation = vrig_get(&b.rig, config_generation);
	assert_int_equal(vd_balloon_set_target(b.balloon, 8 * MIB + 1), 0);
	assert_int_equal(b.rig.interrupts[0], 1);
	assert_int_not_equal(vrig_get(&b.rig, config_generation), generation);
	assert_int_equal(vrig_read(&b.rig, CONFIG_AT(num_pages), 4), 40 * MIB / PAGE - 1);
	/* the same again is no change */
	assert_int_equal(vd_balloon_set_target(b.balloon, 8 * MIB + 1), 0);
	assert_int_equal(b.rig.interrupts[0], 1);
	assert_int_equal(vd_balloon_set_target(b.balloon, VRIG_RAM_SIZE + 1), -ERANGE);
	assert_int_equal(vd_balloon_set_target(b.balloon, 0), 0);
	/* the driver says where it is; the rest is not its to write */
	vrig_write(&b.rig, CONFIG_AT(num_pages), 8, UINT64_C(1024) << 32 | 5);
	assert_int_equal(status_of(&b).actual, VRIG_RAM_SIZE - 4 * MIB);
	assert_int_equal(status_of(&b).target, 0);
	vrig_write(&b.rig, CONFIG_AT(actual), 4, UINT32_MAX);
	assert_int_equal(status_of(&b).actual, 0);
	/* a reset is the driver's: what the host wants stays */
	vrig_set(&b.rig, device_status, 0);
	assert_int_equal(status_of(&b).actual, VRIG_RAM_SIZE);
	assert_int_equal(status_of(&b).target, 0);
	vrig_close(&b.rig);
}

static void test_without_reporting(void **state)
{
	struct balloon_rig b;

	(void)state;
	balloon_open(&b, 0, false);
	assert_int_equal(vrig_get(&b.rig, num_queues), 3);
	assert_int_equal(vrig_features(&b.rig), FEATURE(STATS_VQ) | FEATURE(DEFLATE_ON_OOM) |
						UINT64_C(1) << VIRTIO_F_VERSION_1);
	assert_int_equal(status_of(&b).target, VRIG_RAM_SIZE);
	vrig_start(&b.rig, 0, 3, 128);
	assert_false(status_of(&b).reporting);
	mark(&b, VRIG_DATA, 4);
	send_pages(&b, BALLOON_INFLATE, VRIG_DATA, 4);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 4), 0);
	vrig_close(&b.rig);
}

static void test_bad_config(void **state)
{
	struct vd_balloon_config config;
	struct vd_balloon *balloon;
	struct vd_device *device;
	struct balloon_rig b;

	(void)state;
	balloon_open(&b, 0, true);
	config = (struct vd_balloon_config){.env = &b.rig.test.env, .host = b.rig.host,
					    .space = b.rig.space, .memory = VRIG_RAM_SIZE};
	config.memory = 4095;
	assert_int_equal(vd_balloon_create(&config, &balloon, &device, NULL), -EINVAL);
	config.memory = UINT64_C(1) << 44;
	assert_int_equal(vd_balloon_create(&config, &balloon, &device, NULL), -EINVAL);
	config.memory = VRIG_RAM_SIZE;
	config.target = VRIG_RAM_SIZE + 1;
	assert_int_equal(vd_balloon_create(&config, &balloon, &device, NULL), -EINVAL);
	config.target = 0;
	for (long step = 1;; step++) {
		long blocks = b.rig.test.blocks;

		test_env_fail(&b.rig.test, step, -ENOMEM);
		if (!vd_balloon_create(&config, &balloon, &device, NULL)) {
			assert_true(step > 2);
			break;
		}
		assert_true(test_env_failed(&b.rig.test));
		/* What the rig let go of may still be under way. */
		assert_true(b.rig.test.blocks <= blocks);
	}
	test_env_fail(&b.rig.test, 0, 0);
	vd_device_put(device);
	vrig_close(&b.rig);
}

/* ---- inflating and deflating ---------------------------------------------------------------- */

static void test_inflate(void **state)
{
	uint64_t pages[] = {VRIG_DATA + 7 * PAGE, VRIG_DATA + 2 * PAGE, VRIG_DATA + 3 * PAGE,
			    VRIG_DATA + 7 * PAGE, VRIG_DATA + PAGE};
	uint64_t before, after;
	struct balloon_rig b;
	uint32_t id, length;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	mark(&b, VRIG_DATA, 10);
	assert_int_equal(vd_host_object_resident(b.rig.ram, 0, VRIG_RAM_SIZE, &before), 0);
	put_pages(&b, VRIG_BUFFERS, pages, 5);
	vrig_send(&b.rig, BALLOON_INFLATE, VRIG_BUFFERS, 20, false);
	/* done by the time the doorbell's write is over */
	assert_true(vrig_used(&b.rig, BALLOON_INFLATE, &id, &length));
	assert_int_equal(length, 0);
	assert_int_equal(b.rig.interrupts[1 + BALLOON_INFLATE], 1);
	assert_int_equal(vd_host_object_resident(b.rig.ram, 0, VRIG_RAM_SIZE, &after), 0);
	assert_int_equal(before - after, 3 * PAGE); /* a page of buffers has come, four went */
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(is_marked(&b, VRIG_DATA + i * PAGE),
				 i != 1 && i != 2 && i != 3 && i != 7);
	assert_int_equal(status_of(&b).inflated, 5 * PAGE);
	assert_int_equal(status_of(&b).discarded, 4 * PAGE);
	/* touched in the balloon, or after it: it is memory */
	mark(&b, VRIG_DATA + 2 * PAGE, 1);
	assert_true(is_marked(&b, VRIG_DATA + 2 * PAGE));
	send_pages(&b, BALLOON_DEFLATE, VRIG_DATA + PAGE, 3);
	assert_int_equal(status_of(&b).deflated, 3 * PAGE);
	mark(&b, VRIG_DATA + 3 * PAGE, 1);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 10), 8);
	vrig_close(&b.rig);
}

/* What is not the guest's memory is not touched, and the rest of the request is. */
static void test_inflate_nonsense(void **state)
{
	uint64_t pages[] = {0, VRIG_DATA, UINT64_C(0xffffffff) * PAGE, VRIG_RAM - PAGE,
			    VRIG_RAM + VRIG_RAM_SIZE};
	struct balloon_rig b;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	mark(&b, VRIG_DATA, 2);
	put_pages(&b, VRIG_BUFFERS, pages, 5);
	/* bytes that make no page number are left over */
	vrig_send(&b.rig, BALLOON_INFLATE, VRIG_BUFFERS, 23, false);
	vrig_wait(&b.rig, BALLOON_INFLATE, 0);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 2), 1);
	assert_int_equal(status_of(&b).refused, 4 * PAGE);
	assert_int_equal(status_of(&b).discarded, PAGE);
	/* an empty request, and one that can only be written, are done at once */
	vrig_send(&b.rig, BALLOON_INFLATE, VRIG_BUFFERS, 0, false);
	vrig_wait(&b.rig, BALLOON_INFLATE, 0);
	vrig_send(&b.rig, BALLOON_INFLATE, VRIG_DATA + PAGE, PAGE, true);
	vrig_wait(&b.rig, BALLOON_INFLATE, 0);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 2), 1);
	/* a list that is not there */
	vrig_send(&b.rig, BALLOON_INFLATE, VRIG_RAM + VRIG_RAM_SIZE - 8, 16, false);
	assert_true(vrig_is_broken(&b.rig));
	vrig_close(&b.rig);
}

/* More than a part: the rest is done by polls, and the device says that it is busy. */
static void test_inflate_much(void **state)
{
	const uint32_t count = 6000;
	struct balloon_rig b;
	unsigned polls = 0;
	uint32_t id, length;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	mark(&b, VRIG_DATA, count);
	/* every other page, so that nothing can be put together; in segments of odd sizes */
	for (uint32_t i = 0; i < count / 2; i++) {
		uint32_t page = (uint32_t)(VRIG_DATA / PAGE) + 2 * i;

		vrig_put(&b.rig, VRIG_BUFFERS + 4 * i, &page, 4);
	}
	for (uint16_t i = 0; i < 3; i++)
		vrig_desc(&b.rig, 0, i, VRIG_BUFFERS + 4001u * i, i < 2 ? 4001 : 12000 - 8002,
			  i < 2 ? 1 : 0, (uint16_t)(i + 1));
	vrig_offer(&b.rig, 0, 0);
	vrig_ring(&b.rig, 0);
	while (!vrig_used(&b.rig, 0, &id, &length)) {
		assert_true(vd_device_poll_fd(b.rig.device) >= 0);
		assert_true(status_of(&b).discarded >= polls * PAGE);
		vd_device_poll(b.rig.device);
		assert_true(++polls < 100);
	}
	assert_true(polls > 4);
	assert_int_equal(vd_device_poll_fd(b.rig.device), -1);
	assert_int_equal(marked_pages(&b, VRIG_DATA, count), count / 2);
	assert_int_equal(status_of(&b).discarded, count / 2 * PAGE);
	vrig_close(&b.rig);
}

/* B1: a page that something holds stays as it is, its neighbours go. */
static void test_pinned_pages_stay(void **state)
{
	struct vd_dma_range range = {{VRIG_DATA + 5 * PAGE + 8}, PAGE};
	struct vd_dma_segment segment;
	struct vd_dma_pin pin;
	struct balloon_rig b;
	unsigned count = 1;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	mark(&b, VRIG_DATA, 16);
	assert_int_equal(vd_dma_pin(b.rig.space, &range, 1, VD_READ, NULL, &pin, &segment, &count),
			 0);
	send_pages(&b, BALLOON_INFLATE, VRIG_DATA, 16);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(is_marked(&b, VRIG_DATA + i * PAGE), i == 5 || i == 6);
	assert_int_equal(status_of(&b).pinned, 2 * PAGE);
	assert_int_equal(status_of(&b).discarded, 14 * PAGE);
	vd_dma_unpin(&pin);
	send_pages(&b, BALLOON_INFLATE, VRIG_DATA, 16);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 16), 0);
	vrig_close(&b.rig);
}

/* The host fails: the guest's memory stays, and the guest goes on. */
static void test_host_fails(void **state)
{
	struct balloon_rig b;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	mark(&b, VRIG_DATA, 4);
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t page = (uint32_t)(VRIG_DATA / PAGE) + i;

		vrig_put(&b.rig, VRIG_BUFFERS + 4 * i, &page, 4);
	}
	test_env_fail(&b.rig.test, 1, -EIO);
	vrig_send(&b.rig, BALLOON_INFLATE, VRIG_BUFFERS, 16, false);
	assert_true(test_env_failed(&b.rig.test));
	vrig_wait(&b.rig, BALLOON_INFLATE, 0);
	assert_int_equal(status_of(&b).refused, 4 * PAGE);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 4), 4);
	vrig_close(&b.rig);
}

/* ---- reporting ------------------------------------------------------------------------------ */

/* Whole pages of what was reported, and nothing beside them. */
static void check_report(struct balloon_rig *b, unsigned queue)
{
	mark(b, VRIG_DATA, 16);
	vrig_desc(&b->rig, queue, 0, VRIG_DATA, 2 * PAGE, 3, 1);
	vrig_desc(&b->rig, queue, 1, VRIG_DATA + 4 * PAGE + 1, 3 * PAGE, 3, 2);
	vrig_desc(&b->rig, queue, 2, VRIG_DATA + 9 * PAGE + 8, PAGE - 8, 3, 3);
	vrig_desc(&b->rig, queue, 3, VRIG_DATA + 12 * PAGE, PAGE + 100, 2, 0);
	vrig_offer(&b->rig, queue, 0);
	vrig_ring(&b->rig, queue);
	vrig_wait(&b->rig, queue, 0);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(is_marked(b, VRIG_DATA + i * PAGE),
				 i != 0 && i != 1 && i != 5 && i != 6 && i != 12);
}

static void test_report(void **state)
{
	struct balloon_rig b;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	check_report(&b, BALLOON_REPORT_3);
	check_report(&b, BALLOON_REPORT_4);
	assert_int_equal(status_of(&b).discarded, 10 * PAGE);
	assert_int_equal(status_of(&b).reported, 14 * PAGE + 2 * 92);
	assert_int_equal(status_of(&b).refused, 4 * PAGE + 2 * 92);
	assert_int_equal(status_of(&b).inflated, 0);
	vrig_close(&b.rig);
}

static void report(struct balloon_rig *b, uint64_t gpa, uint32_t length, bool writable)
{
	vrig_send(&b->rig, BALLOON_REPORT_3, gpa, length, writable);
	vrig_wait(&b->rig, BALLOON_REPORT_3, 0);
}

static void test_report_nonsense(void **state)
{
	struct balloon_rig b;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	mark(&b, VRIG_DATA, 4);
	report(&b, VRIG_DATA, 2 * PAGE, false); /* not to be written */
	report(&b, VRIG_RAM - 4 * PAGE, 2 * PAGE, true);
	report(&b, 0, (uint32_t)VRIG_RAM - 1, true);
	report(&b, UINT64_MAX - 4095, 4096, true);
	report(&b, UINT64_MAX - 100, 101, true);
	report(&b, VRIG_DATA + 1, PAGE, true);
	report(&b, VRIG_RAM + VRIG_RAM_SIZE - PAGE, UINT32_MAX, true);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 4), 4);
	assert_int_equal(status_of(&b).discarded, 0);
	/* not agreed upon: it has no meaning */
	vrig_start(&b.rig, 0, 5, 128);
	report(&b, VRIG_DATA, 4 * PAGE, true);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 4), 4);
	vrig_close(&b.rig);
}

/* Bounded parts; where they are cut no page is lost. */
static void test_report_much(void **state)
{
	const uint64_t pages = 36 * MIB / PAGE;
	struct balloon_rig b;
	unsigned polls = 0;
	uint32_t id, length;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	mark(&b, VRIG_DATA, pages + 1);
	vrig_send(&b.rig, BALLOON_REPORT_3, VRIG_DATA - 5, (uint32_t)(pages * PAGE + 10), true);
	while (!vrig_used(&b.rig, BALLOON_REPORT_3, &id, &length)) {
		assert_true(status_of(&b).discarded <= (polls + 1) * 16 * MIB);
		vd_device_poll(b.rig.device);
		assert_true(++polls < 10);
	}
	assert_int_equal(polls, 2);
	assert_int_equal(marked_pages(&b, VRIG_DATA, pages + 1), 1);
	assert_int_equal(status_of(&b).discarded, pages * PAGE);
	vrig_close(&b.rig);
}

/* 5.5.6.7: a guest whose free pages have to keep their poison keeps its pages. */
static void test_poison(void **state)
{
	struct balloon_rig b;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES | FEATURE(PAGE_POISON), 5, 128);
	mark(&b, VRIG_DATA, 4);
	vrig_write(&b.rig, CONFIG_AT(poison_val), 4, 0xaaaaaaaa);
	assert_int_equal(vrig_read(&b.rig, CONFIG_AT(poison_val), 4), 0xaaaaaaaa);
	report(&b, VRIG_DATA, 4 * PAGE, true);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 4), 4);
	assert_int_equal(status_of(&b).poisoned, 4 * PAGE);
	/* zero is what they read as */
	vrig_write(&b.rig, CONFIG_AT(poison_val), 4, 0);
	report(&b, VRIG_DATA, 2 * PAGE, true);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 4), 2);
	/* pages in the balloon have no content */
	vrig_write(&b.rig, CONFIG_AT(poison_val), 4, 0xaaaaaaaa);
	send_pages(&b, BALLOON_INFLATE, VRIG_DATA, 4);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 4), 0);
	vrig_close(&b.rig);
}

/* ---- statistics ----------------------------------------------------------------------------- */

static void put_stat(struct balloon_rig *b, unsigned index, uint16_t tag, uint64_t value)
{
	vrig_put(&b->rig, VRIG_BUFFERS + 10 * index, &tag, 2);
	vrig_put(&b->rig, VRIG_BUFFERS + 10 * index + 2, &value, 8);
}

static void test_stats(void **state)
{
	struct vd_balloon_status status;
	struct balloon_rig b;
	uint32_t id, length;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	put_stat(&b, 0, VIRTIO_BALLOON_S_MEMFREE, 1000);
	put_stat(&b, 1, 4711, 5);
	put_stat(&b, 2, VIRTIO_BALLOON_S_HTLB_PGFAIL, 3);
	vrig_send(&b.rig, BALLOON_STATS, VRIG_BUFFERS, 35, false);
	/* the device keeps the buffer until somebody wants to know */
	assert_false(vrig_used(&b.rig, BALLOON_STATS, &id, &length));
	status = status_of(&b);
	assert_int_equal(status.stats_known,
			 1u << VD_BALLOON_FREE | 1u << VD_BALLOON_HUGE_FAILURES);
	assert_int_equal(status.stats[VD_BALLOON_FREE], 1000);
	assert_true(vrig_used(&b.rig, BALLOON_STATS, &id, &length));
	assert_int_equal(b.rig.interrupts[1 + BALLOON_STATS], 1);
	(void)status_of(&b);
	assert_false(vrig_used(&b.rig, BALLOON_STATS, &id, &length));
	put_stat(&b, 0, VIRTIO_BALLOON_S_MEMFREE, 2000);
	vrig_send(&b.rig, BALLOON_STATS, VRIG_BUFFERS, 10, false);
	vrig_ring(&b.rig, BALLOON_STATS);
	assert_int_equal(status_of(&b).stats[VD_BALLOON_FREE], 2000);
	vrig_set(&b.rig, device_status, 0);
	assert_int_equal(status_of(&b).stats_known, 0);
	vrig_close(&b.rig);
}

/* ---- reset, quiesce, state with work left ---------------------------------------------------- */

/* A report of all data, of which one part is done: with pages left. */
static void begin_report(struct balloon_rig *b)
{
	uint64_t before = status_of(b).discarded;

	mark(b, VRIG_DATA, 36 * MIB / PAGE);
	vrig_send(&b->rig, BALLOON_REPORT_3, VRIG_DATA, (uint32_t)(36 * MIB), true);
	assert_int_equal(status_of(b).discarded - before, 16 * MIB);
}

static void test_reset_with_work_left(void **state)
{
	struct balloon_rig b;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	begin_report(&b);
	vrig_set(&b.rig, device_status, 0);
	assert_int_equal(vd_device_poll_fd(b.rig.device), -1);
	for (unsigned i = 0; i < 5; i++)
		vd_device_poll(b.rig.device);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 36 * MIB / PAGE), 20 * MIB / PAGE);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	send_pages(&b, BALLOON_INFLATE, VRIG_DATA + 20 * MIB, 1);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 36 * MIB / PAGE), 20 * MIB / PAGE - 1);
	vrig_close(&b.rig);
}

static void test_quiesce_with_work_left(void **state)
{
	struct balloon_rig b;

	(void)state;
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	begin_report(&b);
	assert_int_equal(vd_device_quiesce(b.rig.device), 0);
	vd_device_poll(b.rig.device);
	vrig_ring(&b.rig, BALLOON_REPORT_3);
	assert_int_equal(status_of(&b).discarded, 16 * MIB);
	vd_device_resume(b.rig.device);
	vrig_wait(&b.rig, BALLOON_REPORT_3, 0);
	assert_int_equal(status_of(&b).discarded, 36 * MIB);
	/* unplugged with work left: it is forgotten */
	begin_report(&b);
	vrig_close(&b.rig);
}

/* Saved in the middle of a request: another device does all of it. */
static void test_save_with_work_left(void **state)
{
	struct vd_stream stream, in;
	struct balloon_rig b;

	(void)state;
	balloon_open(&b, 0, true);
	stream = (struct vd_stream){.env = &b.rig.test.env};
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	assert_int_equal(vd_balloon_set_target(b.balloon, 40 * MIB), 0);
	vrig_write(&b.rig, CONFIG_AT(actual), 4, 100);
	put_stat(&b, 0, VIRTIO_BALLOON_S_MEMFREE, 1000);
	vrig_send(&b.rig, BALLOON_STATS, VRIG_BUFFERS, 10, false);
	mark(&b, VRIG_DATA, 36 * MIB / PAGE);
	vrig_send(&b.rig, BALLOON_REPORT_3, VRIG_DATA, (uint32_t)(36 * MIB), true);
	/* quiesced over it, so that nothing goes on after the moment that is saved */
	assert_int_equal(vd_device_quiesce(b.rig.device), 0);
	assert_int_equal(vd_device_save(b.rig.device, &stream), 0);
	vrig_unplug(&b.rig);
	balloon_plug(&b, 0, true);
	vrig_bus_master(&b.rig, true);
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	assert_int_equal(vd_device_load(b.rig.device, &in, NULL), 0);
	assert_int_equal(status_of(&b).target, 40 * MIB);
	assert_int_equal(status_of(&b).actual, VRIG_RAM_SIZE - 100 * PAGE);
	assert_int_equal(status_of(&b).stats[VD_BALLOON_FREE], 1000);
	vrig_wait(&b.rig, BALLOON_REPORT_3, 0);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 36 * MIB / PAGE), 0);
	/* another guest's memory is another balloon; and a target that it cannot have */
	b.balloon->memory += MIB;
	in.position = 0;
	assert_int_equal(vd_device_load(b.rig.device, &in, NULL), -EINVAL);
	b.balloon->memory -= MIB;
	for (size_t i = 1; i <= 24; i++) {
		stream.data[stream.length - i] ^= 0xff;
		in.position = 0;
		(void)vd_device_load(b.rig.device, &in, NULL);
		assert_true(status_of(&b).target <= VRIG_RAM_SIZE);
		stream.data[stream.length - i] ^= 0xff;
	}
	vd_stream_fini(&stream);
	vrig_close(&b.rig);
}

/* ---- against a model ------------------------------------------------------------------------ */

#define MODEL_PAGES 64u

/* Random requests to random queues: exactly the pages named are gone, whatever else is going on. */
static void test_random_requests(void **state)
{
	uint64_t *random = test_state();
	bool full[MODEL_PAGES] = {false};
	struct balloon_rig b;

	(void)state;
	test_start(5);
	balloon_open(&b, 0, true);
	vrig_start(&b.rig, ALL_FEATURES, 5, 128);
	for (unsigned round = 0; round < 600; round++) {
		uint64_t page = test_random(random) % MODEL_PAGES;
		uint64_t count = 1 + test_random(random) % (MODEL_PAGES - page);

		switch (test_random(random) % 3) {
		case 0:
			mark(&b, VRIG_DATA + page * PAGE, count);
			break;
		case 1:
			report(&b, VRIG_DATA + page * PAGE, (uint32_t)(count * PAGE), true);
			break;
		default:
			send_pages(&b, BALLOON_INFLATE, VRIG_DATA + page * PAGE, (uint32_t)count);
			break;
		}
		for (uint64_t i = 0; i < count; i++)
			full[page + i] = is_marked(&b, VRIG_DATA + (page + i) * PAGE);
		for (uint64_t i = 0; i < MODEL_PAGES; i++)
			assert_int_equal(is_marked(&b, VRIG_DATA + i * PAGE), full[i]);
	}
	vrig_close(&b.rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_target),
		cmocka_unit_test(test_without_reporting),
		cmocka_unit_test(test_bad_config),
		cmocka_unit_test(test_inflate),
		cmocka_unit_test(test_inflate_nonsense),
		cmocka_unit_test(test_inflate_much),
		cmocka_unit_test(test_pinned_pages_stay),
		cmocka_unit_test(test_host_fails),
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_report_nonsense),
		cmocka_unit_test(test_report_much),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_reset_with_work_left),
		cmocka_unit_test(test_quiesce_with_work_left),
		cmocka_unit_test(test_save_with_work_left),
		cmocka_unit_test_teardown(test_random_requests, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
