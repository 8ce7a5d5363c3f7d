/* SPDX-License-Identifier: BSD-2-Clause */
/* The edu device against the words of QEMU's docs/specs/edu.rst. */
#include "edu_rig.h"

static struct edu_rig rig;

static int setup(void **state)
{
	(void)state;
	edu_rig_open(&rig, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	edu_rig_close(&rig);
	return 0;
}

static void it_is_found_on_the_bus(void **state)
{
	uint32_t word;

	(void)state;
	assert_int_equal(vd_device_read(rig.device, VD_REGION_CONFIG, (vd_region_offset){0}, &word,
					4), 0);
	assert_int_equal(word, 0x11e81234);
	assert_int_equal(vd_device_region(rig.device, 0)->size, 1 << 20);
	assert_int_equal(vd_device_irq_count(rig.device, VD_IRQ_INTX), 1);
	assert_int_equal(edu_get(rig.device, 0, 4), 0x010000ed);
	edu_put(rig.device, 0, 4, 5);
	assert_int_equal(edu_get(rig.device, 0, 4), 0x010000ed);
}

static void a_live_card_inverts(void **state)
{
	(void)state;
	edu_put(rig.device, 4, 4, 0x12345678);
	assert_int_equal(edu_get(rig.device, 4, 4), 0xedcba987);
}

static void factorials(void **state)
{
	uint32_t expected = 1;

	(void)state;
	for (uint32_t n = 0; n < 40; n++) {
		expected *= n ? n : 1;
		edu_put(rig.device, 8, 4, n);
		assert_int_equal(edu_get(rig.device, 8, 4), expected);
		assert_int_equal(edu_get(rig.device, 0x20, 4), 0);
	}
	/* A number that would take a minute. */
	edu_put(rig.device, 8, 4, UINT32_MAX);
	assert_int_equal(edu_get(rig.device, 8, 4), 0);
	assert_int_equal(rig.asserted, 0);
}

static void a_factorial_interrupts_on_request(void **state)
{
	(void)state;
	edu_put(rig.device, 0x20, 4, 0xff);
	assert_int_equal(edu_get(rig.device, 0x20, 4), 0x80);
	edu_put(rig.device, 8, 4, 5);
	assert_true(rig.level);
	assert_int_equal(rig.messages, 1);
	assert_int_equal(edu_get(rig.device, 0x24, 4), 1);
	edu_put(rig.device, 0x64, 4, 1);
	assert_false(rig.level);
	edu_put(rig.device, 0x20, 4, 0);
	edu_put(rig.device, 8, 4, 5);
	assert_false(rig.level);
}

static void causes_are_kept_until_acknowledged(void **state)
{
	(void)state;
	edu_put(rig.device, 0x60, 4, 0);
	assert_false(rig.level);
	edu_put(rig.device, 0x60, 4, 0x50);
	edu_put(rig.device, 0x60, 4, 0x80000001);
	assert_int_equal(edu_get(rig.device, 0x24, 4), 0x80000051);
	/* What can be written only reads as nothing. */
	assert_int_equal(edu_get(rig.device, 0x60, 4), 0);
	edu_put(rig.device, 0x64, 4, 0x80000051 & ~1u);
	assert_true(rig.level);
	edu_put(rig.device, 0x64, 4, UINT32_MAX);
	assert_false(rig.level);
	assert_int_equal(rig.asserted, 1);
	edu_put(rig.device, 0x60, 4, 2);
	assert_int_equal(rig.asserted, 2);
}

static void sizes_that_are_not_allowed(void **state)
{
	(void)state;
	assert_int_equal(edu_get(rig.device, 0, 1), 0xff);
	assert_int_equal(edu_get(rig.device, 0, 2), 0xffff);
	assert_true(edu_get(rig.device, 0, 8) == UINT64_MAX);
	edu_put(rig.device, 0, 8, UINT64_C(5) << 32);
	assert_int_equal(edu_get(rig.device, 4, 4), 0);
	edu_put(rig.device, 0x80, 8, UINT64_C(0x1122334455667788));
	assert_int_equal(edu_get(rig.device, 0x80, 4), 0x55667788);
	edu_put(rig.device, 0x80, 2, 0);
	assert_true(edu_get(rig.device, 0x80, 8) == UINT64_C(0x1122334455667788));
	edu_put(rig.device, 0x80, 4, 7);
	assert_int_equal(edu_get(rig.device, 0x80, 8), 7);
	/* All of the region: it ends where it ends, and nothing else is there. */
	for (uint64_t at = 0xa0; at < 1 << 20; at += 4096 - 32) {
		edu_put(rig.device, at, 4, 1);
		assert_int_equal(edu_get(rig.device, at, 4), UINT32_MAX);
	}
}

static void fill(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 7 + seed + i / 256);
}

/* The example of the specification, with an address in the middle of a page. */
static void there_and_back(void **state)
{
	uint8_t there[100], back[100];
	uint64_t address = EDU_IOVA + 4096 - 50;

	(void)state;
	fill(there, sizeof(there), 1);
	assert_int_equal(vd_dma_write(rig.space, (vd_iova){address}, there, 100), 0);
	edu_transfer(rig.device, address, EDU_BUFFER, 100, 1);
	assert_int_equal(edu_get(rig.device, 0x98, 8), 0);
	edu_transfer(rig.device, EDU_BUFFER, address + 100, 100, 3);
	assert_int_equal(edu_get(rig.device, 0x98, 8) & 1, 0);
	assert_int_equal(vd_dma_read(rig.space, (vd_iova){address + 100}, back, 100), 0);
	assert_memory_equal(there, back, 100);
	assert_int_equal(rig.asserted, 0);
}

static void dma_interrupts_on_request(void **state)
{
	(void)state;
	/* Without the bit that starts it, nothing is started. */
	edu_transfer(rig.device, EDU_IOVA, EDU_BUFFER, 16, 4);
	assert_false(rig.level);
	assert_int_equal(edu_get(rig.device, 0x98, 8), 0);
	edu_transfer(rig.device, EDU_IOVA, EDU_BUFFER, 16, 5);
	assert_true(rig.level);
	assert_int_equal(edu_get(rig.device, 0x24, 4), 0x100);
	edu_put(rig.device, 0x64, 4, 0x100);
	assert_false(rig.level);
}

/* Whole buffer, its last byte, and everything that reaches beyond it by some way of counting. */
static void the_buffer_has_two_ends(void **state)
{
	static const struct { uint64_t at, count; bool inside; } cases[] = {
		{EDU_BUFFER, EDU_BUFFER_SIZE, true},
		{EDU_BUFFER + EDU_BUFFER_SIZE - 1, 1, true},
		{EDU_BUFFER + EDU_BUFFER_SIZE - 1, 2, false},
		{EDU_BUFFER + EDU_BUFFER_SIZE, 1, false},
		{EDU_BUFFER - 1, 2, false},
		{EDU_BUFFER, EDU_BUFFER_SIZE + 1, false},
		{EDU_BUFFER + 8, UINT64_MAX, false},
		{EDU_BUFFER + 8, UINT64_MAX - 7, false},
		{EDU_BUFFER - 8, 16, false},
		{0, EDU_BUFFER + 8, false},
		{UINT64_MAX, 2, false},
	};
	uint8_t bytes[EDU_BUFFER_SIZE], now[EDU_BUFFER_SIZE];

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint64_t count = cases[i].inside ? cases[i].count : 1;

		fill(bytes, sizeof(bytes), i + 1);
		assert_int_equal(vd_dma_write(rig.space, (vd_iova){EDU_IOVA}, bytes,
					      sizeof(bytes)), 0);
		edu_transfer(rig.device, EDU_IOVA, cases[i].at, cases[i].count, 1);
		memset(now, 0, sizeof(now));
		assert_int_equal(vd_dma_write(rig.space, (vd_iova){EDU_IOVA}, now, sizeof(now)), 0);
		edu_transfer(rig.device, cases[i].at, EDU_IOVA, cases[i].count, 7);
		assert_int_equal(edu_get(rig.device, 0x98, 8) & 1, 0);
		assert_true(rig.level);
		assert_int_equal(vd_dma_read(rig.space, (vd_iova){EDU_IOVA}, now, sizeof(now)), 0);
		if (cases[i].inside)
			assert_memory_equal(now, bytes, count);
		else
			assert_int_equal(now[0], 0);
	}
}

static void memory_that_is_not_there(void **state)
{
	struct vd_dma_stats stats;

	(void)state;
	edu_transfer(rig.device, EDU_IOVA + EDU_MEMORY - 8, EDU_BUFFER, 16, 5);
	assert_int_equal(edu_get(rig.device, 0x98, 8) & 1, 0);
	assert_true(rig.level);
	edu_transfer(rig.device, EDU_BUFFER, 0, 16, 7);
	assert_int_equal(edu_get(rig.device, 0x98, 8) & 1, 0);
	vd_dma_stats(rig.space, &stats);
	assert_int_equal(stats.faults, 2);
}

static void only_28_wires(void **state)
{
	struct vd_device *wide = edu_rig_device(&rig, UINT64_MAX);
	uint64_t high = UINT64_C(1) << 28, word = 0x1234;
	struct vd_dma_stats stats;

	(void)state;
	assert_int_equal(vd_dma_write(rig.space, (vd_iova){EDU_IOVA}, &word, 8), 0);
	edu_transfer(rig.device, EDU_IOVA | high | high << 20, EDU_BUFFER, 8, 1);
	edu_transfer(rig.device, EDU_BUFFER, EDU_IOVA + 64, 8, 3);
	assert_int_equal(vd_dma_read(rig.space, (vd_iova){EDU_IOVA + 64}, &word, 8), 0);
	assert_int_equal(word, 0x1234);
	edu_transfer(wide, EDU_IOVA | high, EDU_BUFFER, 8, 1);
	vd_dma_stats(rig.space, &stats);
	assert_int_equal(stats.faults, 1);
	vd_device_put(wide);
}

static void reset_forgets(void **state)
{
	(void)state;
	edu_put(rig.device, 4, 4, 1);
	edu_put(rig.device, 0x60, 4, 1);
	edu_put(rig.device, 0x80, 8, 1);
	assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
	assert_false(rig.level);
	assert_int_equal(edu_get(rig.device, 0, 4), 0x010000ed);
	assert_int_equal(edu_get(rig.device, 4, 4), 0);
	assert_int_equal(edu_get(rig.device, 0x24, 4), 0);
	assert_int_equal(edu_get(rig.device, 0x80, 8), 0);
}

/* While it is quiesced a transfer waits, and registers of a transfer that waits do not change. */
static void a_transfer_goes_on_elsewhere(void **state)
{
	struct vd_stream saved = {.env = &rig.test.env}, again;
	struct vd_device *other = edu_rig_device(&rig, 0);
	uint64_t word = 0x55aa;

	(void)state;
	assert_int_equal(vd_dma_write(rig.space, (vd_iova){EDU_IOVA}, &word, 8), 0);
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	edu_transfer(rig.device, EDU_IOVA, EDU_BUFFER, 8, 5);
	edu_put(rig.device, 0x90, 8, 1);
	edu_put(rig.device, 4, 4, 1);
	assert_int_equal(edu_get(rig.device, 0x98, 8), 5);
	assert_int_equal(edu_get(rig.device, 0x90, 8), 8);
	assert_int_equal(vd_device_save(rig.device, &saved), 0);
	/* It is all or nothing. */
	for (size_t length = 0; length < saved.length; length += 97) {
		again = (struct vd_stream){.data = saved.data, .length = length};
		assert_int_equal(vd_device_load(other, &again, NULL), -EINVAL);
		assert_int_equal(edu_get(other, 4, 4), 0);
	}
	again = (struct vd_stream){.data = saved.data, .length = saved.length};
	assert_int_equal(vd_device_load(other, &again, NULL), 0);
	assert_int_equal(edu_get(other, 0x98, 8), 4);
	assert_int_equal(edu_get(other, 0x24, 4), 0x100);
	assert_int_equal(edu_get(other, 4, 4), UINT32_MAX - 1);
	edu_transfer(other, EDU_BUFFER, EDU_IOVA + 8, 8, 3);
	assert_int_equal(vd_dma_read(rig.space, (vd_iova){EDU_IOVA + 8}, &word, 8), 0);
	assert_int_equal(word, 0x55aa);
	vd_device_resume(rig.device);
	assert_int_equal(edu_get(rig.device, 0x98, 8), 4);
	vd_stream_fini(&saved);
	vd_device_put(other);
}

static struct vd_device *far_device;

/* The client looks at the device before it answers, as QEMU's processors do. */
static int far_read(void *context, vd_iova iova, void *buffer, size_t length)
{
	(void)context;
	(void)iova;
	assert_int_equal(edu_get(far_device, 0x98, 8), 5);
	edu_put(far_device, 4, 4, 0);
	memset(buffer, 0x5a, length);
	return 0;
}

static int far_write(void *context, vd_iova iova, const void *buffer, size_t length)
{
	(void)context;
	(void)iova;
	(void)length;
	assert_int_equal(((const uint8_t *)buffer)[99], 0x5a);
	return -EIO;
}

static void memory_may_be_far_away(void **state)
{
	static const struct vd_dma_remote_ops ops = {far_read, far_write};
	struct vd_dma_config config = {.env = &rig.test.env, .host = rig.host};
	struct vd_dma_space *space, *near = rig.space;

	(void)state;
	assert_int_equal(vd_dma_space_create(&config, &space, NULL), 0);
	assert_int_equal(vd_dma_map_remote(space, (vd_iova){EDU_IOVA}, EDU_MEMORY,
					   VD_READ | VD_WRITE, &ops, NULL), 0);
	rig.space = space;
	far_device = edu_rig_device(&rig, 0);
	rig.space = near;
	edu_transfer(far_device, EDU_IOVA, EDU_BUFFER, 100, 5);
	assert_int_equal(edu_get(far_device, 0x98, 8), 4);
	assert_int_equal(edu_get(far_device, 0x24, 4), 0x100);
	assert_int_equal(edu_get(far_device, 4, 4), UINT32_MAX);
	/* An error is the end of it as well. */
	edu_transfer(far_device, EDU_BUFFER, EDU_IOVA, 100, 3);
	assert_int_equal(edu_get(far_device, 0x98, 8) & 1, 0);
	vd_device_put(far_device);
	vd_dma_space_destroy(space);
}

static void creation_fails_cleanly(void **state)
{
	(void)state;
	for (long step = 1;; step++) {
		struct vd_edu_config config = {
			.env = &rig.test.env, .host = rig.host, .space = rig.space,
		};
		struct vd_device *device = NULL;
		struct vd_error error = {0};
		long blocks = rig.test.blocks;

		test_env_fail(&rig.test, step, -ENOMEM);
		if (!vd_edu_create(&config, &device, &error)) {
			vd_device_put(device);
			assert_true(step > 2);
			break;
		}
		assert_null(device);
		assert_true(strlen(error.text) > 10);
		assert_int_equal(rig.test.blocks, blocks);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(it_is_found_on_the_bus), TEST(a_live_card_inverts), TEST(factorials),
		TEST(a_factorial_interrupts_on_request), TEST(causes_are_kept_until_acknowledged),
		TEST(sizes_that_are_not_allowed), TEST(there_and_back),
		TEST(dma_interrupts_on_request), TEST(the_buffer_has_two_ends),
		TEST(memory_that_is_not_there), TEST(only_28_wires), TEST(reset_forgets),
		TEST(a_transfer_goes_on_elsewhere), TEST(memory_may_be_far_away), TEST(creation_fails_cleanly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
