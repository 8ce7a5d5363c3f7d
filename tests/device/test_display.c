/* SPDX-License-Identifier: BSD-2-Clause */
#include "display_rig.h"

#define SMALL {.memory_size = 4 << 20, .width = 640, .height = 480}

static void test_bad_configurations_are_refused(void **state)
{
	static const struct vd_display_config bad[] = {
		{.memory_size = 1},
		{.memory_size = UINT64_C(2) << 20},
		{.memory_size = (UINT64_C(16) << 20) + 4096},
		{.memory_size = UINT64_C(1) << 30},
		{.width = 1024},
		{.height = 768},
		{.width = 63, .height = 64},
		{.width = 4096, .height = 64},
		{.width = 2000, .height = 2200},
		{.width = UINT32_MAX, .height = UINT32_MAX},
	};
	struct display_rig rig;

	(void)state;
	display_rig_open(&rig, NULL);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct vd_display_config config = bad[i];
		struct vd_device *device = NULL;
		struct vd_error error = {0};

		config.env = &rig.test.env;
		config.host = rig.host;
		assert_int_equal(vd_display_create(&config, &device, &error), -EINVAL);
		assert_true(strlen(error.text) > 10);
		assert_null(device);
	}
	display_rig_close(&rig);
}

/* Everything that Linux' bochs driver looks at before it binds. */
static void test_the_bochs_driver_finds_its_device(void **state)
{
	struct vd_host_object *object;
	struct display_rig rig;
	uint64_t offset;

	(void)state;
	display_rig_open(&rig, NULL);
	assert_int_equal(get(&rig, VD_REGION_CONFIG, 0x00, 4), 0x11111234);
	assert_int_equal(get(&rig, VD_REGION_CONFIG, 0x08, 4), 0x03800002);
	assert_int_equal(vd_device_region(rig.device, 0)->size, 16 << 20);
	assert_true(vd_device_region(rig.device, 0)->flags & VD_REGION_PREFETCH);
	assert_int_equal(vd_device_map_area(rig.device, 0, 0, 16 << 20, &object, &offset), 0);
	assert_int_equal(vd_device_map_area(rig.device, 2, 0, 4096, &object, &offset),
			 -EOPNOTSUPP);
	assert_int_equal(dispi(&rig, DISPI_ID) & 0xfff0, 0xb0c0);
	assert_int_equal(dispi(&rig, DISPI_MEMORY) * 0x10000, 16 << 20);
	assert_int_equal(get(&rig, 2, DISPLAY_EXTENDED, 4), DISPLAY_EXTENDED_SIZE);
	display_rig_close(&rig);
}

static void test_registers_keep_what_is_written(void **state)
{
	struct display_rig rig;

	(void)state;
	display_rig_open(&rig, NULL);
	for (unsigned i = 0; i < DISPI_COUNT; i++)
		set_dispi(&rig, i, 0xa500 + i);
	for (unsigned i = 0; i < DISPI_COUNT; i++)
		assert_int_equal(dispi(&rig, i),
				 i == DISPI_ID ? DISPI_ID_5 : i == DISPI_MEMORY ? 256 : 0xa500 + i);
	/* In bytes and in pairs as well. */
	put(&rig, 2, DISPLAY_DISPI + 2 * DISPI_X + 1, 1, 0x12);
	assert_int_equal(dispi(&rig, DISPI_X), 0x1208);
	put(&rig, 2, DISPLAY_DISPI + 2 * DISPI_WIDTH - 2, 8, 0x0003000200010000);
	assert_int_equal(dispi(&rig, DISPI_WIDTH), 1);
	assert_int_equal(dispi(&rig, DISPI_BITS), 3);
	assert_int_equal(get(&rig, 2, DISPLAY_DISPI, 8), 0x000300020001b0c5);
	display_rig_close(&rig);
}

static void test_byte_order_takes_two_values(void **state)
{
	struct display_rig rig;

	(void)state;
	display_rig_open(&rig, NULL);
	assert_int_equal(get(&rig, 2, DISPLAY_ENDIAN, 4), 0x1e1e1e1e);
	put(&rig, 2, DISPLAY_ENDIAN, 4, 0xbebebebe);
	assert_int_equal(get(&rig, 2, DISPLAY_ENDIAN, 4), 0xbebebebe);
	put(&rig, 2, DISPLAY_ENDIAN, 4, 0x1e1e1ebe);
	put(&rig, 2, DISPLAY_ENDIAN, 1, 0x1e);
	assert_int_equal(get(&rig, 2, DISPLAY_ENDIAN, 4), 0xbebebebe);
	put(&rig, 2, DISPLAY_ENDIAN, 4, 0x1e1e1e1e);
	assert_int_equal(get(&rig, 2, DISPLAY_ENDIAN, 4), 0x1e1e1e1e);
	display_rig_close(&rig);
}

static void test_the_rest_of_the_page_is_quiet(void **state)
{
	struct display_rig rig;

	(void)state;
	display_rig_open(&rig, NULL);
	for (unsigned at = 0; at < DISPLAY_REGISTERS_SIZE; at += 8) {
		bool used = at < DISPLAY_EDID_SIZE ||
			    (at >= DISPLAY_DISPI && at < DISPLAY_DISPI + 2 * DISPI_COUNT) ||
			    at == DISPLAY_EXTENDED;

		put(&rig, 2, at, 8, UINT64_MAX);
		if (!used)
			assert_int_equal(get(&rig, 2, at, 8), 0);
	}
	/* Not even the EDID can be written. */
	assert_int_equal(get(&rig, 2, 0, 8), 0x00ffffffffffff00);
	display_rig_close(&rig);
}

static void test_video_memory_is_one_for_both_paths(void **state)
{
	struct display_rig rig;
	uint8_t *memory;

	(void)state;
	display_rig_open(&rig, NULL);
	memory = video_memory(&rig);
	put(&rig, 0, 0x123458, 8, 0x1122334455667788);
	assert_int_equal(vd_guest_load64(memory + 0x123458), 0x1122334455667788);
	vd_guest_store32(memory + (16 << 20) - 4, 0xfeedface);
	assert_int_equal(get(&rig, 0, (16 << 20) - 4, 4), 0xfeedface);
	display_rig_close(&rig);
}

static void test_reset_switches_off(void **state)
{
	struct vd_display_mode mode;
	struct display_rig rig;

	(void)state;
	display_rig_open(&rig, NULL);
	set_mode(&rig, 800, 600, 32);
	put(&rig, 2, DISPLAY_ENDIAN, 4, 0xbebebebe);
	assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
	assert_int_equal(vd_display_mode(rig.device, &mode, NULL), 0);
	assert_false(mode.enabled);
	assert_false(mode.big_endian);
	assert_int_equal(mode.width, 0);
	assert_int_equal(dispi(&rig, DISPI_ID), DISPI_ID_5);
	assert_int_equal(dispi(&rig, DISPI_MEMORY), 256);
	display_rig_close(&rig);
}

static void test_state_moves(void **state)
{
	const struct vd_display_config small = SMALL;
	struct vd_stream stream = {0};
	struct display_rig from, to;

	(void)state;
	display_rig_open(&from, &small);
	display_rig_open(&to, &small);
	stream.env = &from.test.env;
	set_mode(&from, 640, 480, 32);
	put(&from, 2, DISPLAY_ENDIAN, 4, 0xbebebebe);
	for (unsigned at = 0; at < 4 << 20; at += 4096)
		put(&from, 0, at + 8, 8, at);
	assert_int_equal(vd_device_save(from.device, &stream), 0);
	stream.position = 0;
	assert_int_equal(vd_device_load(to.device, &stream, NULL), 0);
	for (unsigned i = 0; i < DISPI_COUNT; i++)
		assert_int_equal(dispi(&to, i), dispi(&from, i));
	assert_int_equal(get(&to, 2, DISPLAY_ENDIAN, 4), 0xbebebebe);
	for (unsigned at = 0; at < 4 << 20; at += 4096)
		assert_int_equal(get(&to, 0, at + 8, 8), at);
	vd_stream_fini(&stream);
	display_rig_close(&from);
	display_rig_close(&to);
}

/* Cut short or changed: the mode stays what it was, or becomes what the stream says and no more. */
static void test_hostile_state(void **state)
{
	const struct vd_display_config small = SMALL;
	struct vd_stream stream = {0};
	struct display_rig rig;

	(void)state;
	display_rig_open(&rig, &small);
	stream.env = &rig.test.env;
	set_mode(&rig, 640, 480, 32);
	assert_int_equal(vd_device_save(rig.device, &stream), 0);
	set_mode(&rig, 320, 200, 16);
	for (size_t cut = 1; cut < stream.length; cut *= 3) {
		struct vd_stream shorter = stream;

		shorter.position = 0;
		shorter.length -= cut;
		assert_int_not_equal(vd_device_load(rig.device, &shorter, NULL), 0);
		assert_int_equal(dispi(&rig, DISPI_WIDTH), 320);
	}
	for (size_t at = 0; at < 512; at++) {
		struct vd_stream changed = stream;

		stream.data[at] ^= 0xff;
		changed.position = 0;
		(void)vd_device_load(rig.device, &changed, NULL);
		stream.data[at] ^= 0xff;
		assert_int_equal(dispi(&rig, DISPI_ID), DISPI_ID_5);
		assert_int_equal(dispi(&rig, DISPI_MEMORY), 64);
	}
	vd_stream_fini(&stream);
	display_rig_close(&rig);
}

static void test_memory_may_be_short(void **state)
{
	struct vd_display_config config = {0};
	struct vd_device *device;
	struct display_rig rig;
	long step;
	int rc = -1;

	(void)state;
	display_rig_open(&rig, NULL);
	config.env = &rig.test.env;
	config.host = rig.host;
	for (step = 1; step < 1000; step++) {
		struct vd_error error = {0};
		long blocks;

		vd_env_hosted_drain();
		blocks = rig.test.blocks;
		test_env_fail(&rig.test, step, -ENOMEM);
		rc = vd_display_create(&config, &device, &error);
		if (!test_env_failed(&rig.test))
			break;
		assert_int_not_equal(rc, 0);
		assert_true(strlen(error.text) > 5);
		vd_env_hosted_drain();
		assert_int_equal(rig.test.blocks, blocks);
	}
	assert_int_equal(rc, 0);
	assert_true(step > 2);
	vd_device_put(device);
	display_rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_configurations_are_refused),
		cmocka_unit_test(test_the_bochs_driver_finds_its_device),
		cmocka_unit_test(test_registers_keep_what_is_written),
		cmocka_unit_test(test_byte_order_takes_two_values),
		cmocka_unit_test(test_the_rest_of_the_page_is_quiet),
		cmocka_unit_test(test_video_memory_is_one_for_both_paths),
		cmocka_unit_test(test_reset_switches_off),
		cmocka_unit_test(test_state_moves),
		cmocka_unit_test(test_hostile_state),
		cmocka_unit_test(test_memory_may_be_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
