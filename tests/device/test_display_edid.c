/* SPDX-License-Identifier: BSD-2-Clause */
#include "display_rig.h"

/* A reader of the parts that kernels read (VESA E-EDID 1.4). */
struct seen {
	unsigned width, height, h_blank, v_blank, clock_10khz;
};

static struct seen parse(const uint8_t *edid)
{
	static const uint8_t header[8] = {0, 255, 255, 255, 255, 255, 255, 0};
	const uint8_t *t = edid + 54;
	uint8_t sum = 0;

	for (unsigned i = 0; i < DISPLAY_EDID_SIZE; i++)
		sum = (uint8_t)(sum + edid[i]);
	assert_int_equal(sum, 0);
	assert_memory_equal(edid, header, 8);
	assert_int_equal(edid[18], 1);
	assert_int_equal(edid[19], 4);
	assert_int_equal(edid[126], 0); /* no extensions */
	/* The other descriptors are no timings. */
	for (unsigned i = 1; i < 4; i++) {
		assert_int_equal(t[18 * i] | t[18 * i + 1] | t[18 * i + 2], 0);
		assert_true(t[18 * i + 3] >= 0x10);
	}
	return (struct seen){
		.clock_10khz = t[0] | t[1] << 8,
		.width = t[2] | (t[4] & 0xf0) << 4,
		.h_blank = t[3] | (t[4] & 0x0f) << 8,
		.height = t[5] | (t[7] & 0xf0) << 4,
		.v_blank = t[6] | (t[7] & 0x0f) << 8,
	};
}

/* The syncs lie in the blanking, and the picture is shown often enough. */
static void check(unsigned width, unsigned height)
{
	uint8_t edid[DISPLAY_EDID_SIZE];
	const uint8_t *t = edid + 54;
	struct seen seen;
	uint64_t hertz;

	display_edid(edid, width, height);
	seen = parse(edid);
	assert_int_equal(seen.width, width);
	assert_int_equal(seen.height, height);
	assert_true(t[8] + t[9] < (int)seen.h_blank);
	assert_true((t[10] >> 4) + (t[10] & 15) < (int)seen.v_blank);
	assert_int_equal(t[11], 0);
	hertz = seen.clock_10khz * UINT64_C(10000) / (width + seen.h_blank) /
		(height + seen.v_blank);
	assert_in_range(hertz, 30, 60);
	assert_int_equal(t[12] | (t[14] & 0xf0) << 4, width * 254 / 960);
	/* Modes that are offered besides are not larger than the preferred one. */
	assert_true(!(edid[35] & 0x20) || (width >= 640 && height >= 480));
	assert_true(!(edid[35] & 0x01) || (width >= 800 && height >= 600));
	assert_true(!(edid[36] & 0x08) || (width >= 1024 && height >= 768));
	/* The range that is claimed holds the clock. */
	assert_true(edid[54 + 36 + 9] * 1000u >= seen.clock_10khz);
}

static void test_common_modes(void **state)
{
	(void)state;
	check(640, 480);
	check(1024, 768);
	check(1280, 800);
	check(1920, 1080);
	check(3840, 2160);
	check(DISPLAY_SIDE_MIN, DISPLAY_SIDE_MIN);
	check(DISPLAY_SIDE_MAX, DISPLAY_SIDE_MAX);
	check(DISPLAY_SIDE_MAX, DISPLAY_SIDE_MIN);
}

static void test_every_width_and_height(void **state)
{
	(void)state;
	for (unsigned side = DISPLAY_SIDE_MIN; side <= DISPLAY_SIDE_MAX; side++) {
		check(side, 600);
		check(800, side);
	}
}

static void test_the_guest_reads_it(void **state)
{
	const struct vd_display_config config = {.width = 1280, .height = 800};
	uint8_t edid[DISPLAY_EDID_SIZE];
	struct display_rig rig;
	struct seen seen;

	(void)state;
	display_rig_open(&rig, &config);
	for (unsigned i = 0; i < DISPLAY_EDID_SIZE; i++)
		edid[i] = (uint8_t)get(&rig, DISPLAY_BAR_REGISTERS, i, 1);
	seen = parse(edid);
	assert_int_equal(seen.width, 1280);
	assert_int_equal(seen.height, 800);
	display_rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_common_modes),
		cmocka_unit_test(test_every_width_and_height),
		cmocka_unit_test(test_the_guest_reads_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
