/* SPDX-License-Identifier: BSD-2-Clause */
#include "display_rig.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <png.h>

struct picture {
	unsigned width, height;
	uint8_t *rgb;
};

struct bench {
	struct display_rig rig;
	char directory[64], path[96];
};

static void bench_open(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	display_rig_open(&b->rig, NULL);
	strcpy(b->directory, "/tmp/viaduct-picture-XXXXXX");
	assert_non_null(mkdtemp(b->directory));
	snprintf(b->path, sizeof(b->path), "%s/screen.png", b->directory);
}

/* Files in the directory: a picture, and nothing half written. */
static unsigned count_files(const struct bench *b)
{
	DIR *directory = opendir(b->directory);
	unsigned count = 0;

	assert_non_null(directory);
	for (struct dirent *entry; (entry = readdir(directory));)
		count += entry->d_name[0] != '.';
	closedir(directory);
	return count;
}

static void bench_close(struct bench *b)
{
	unlink(b->path);
	assert_int_equal(rmdir(b->directory), 0);
	display_rig_close(&b->rig);
}

static struct picture read_png(const char *path)
{
	png_image image = {.version = PNG_IMAGE_VERSION};
	struct picture picture;

	assert_int_not_equal(png_image_begin_read_from_file(&image, path), 0);
	image.format = PNG_FORMAT_RGB;
	picture = (struct picture){image.width, image.height, malloc(PNG_IMAGE_SIZE(image))};
	assert_non_null(picture.rgb);
	assert_int_not_equal(png_image_finish_read(&image, NULL, picture.rgb, 0, NULL), 0);
	return picture;
}

static uint32_t pixel(const struct picture *picture, unsigned x, unsigned y)
{
	const uint8_t *rgb = picture->rgb + 3 * (y * picture->width + x);

	return (uint32_t)rgb[0] << 16 | (uint32_t)rgb[1] << 8 | rgb[2];
}

/* What the test draws. */
static uint32_t colour(unsigned x, unsigned y)
{
	return (x * 3 & 0xff) << 16 | (y * 5 & 0xff) << 8 | ((x ^ y) & 0xff);
}

static void shoot(struct bench *b)
{
	struct vd_error error = {0};

	if (vd_display_screenshot(b->rig.device, b->path, &error))
		fail_msg("%s", error.text);
	assert_int_equal(count_files(b), 1);
}

static void test_32_bits(void **state)
{
	struct picture picture;
	struct bench b;
	uint8_t *memory;

	(void)state;
	bench_open(&b);
	memory = video_memory(&b.rig);
	for (unsigned order = 0; order < 2; order++) {
		set_mode(&b.rig, 320, 200, 32);
		put(&b.rig, 2, DISPLAY_ENDIAN, 4, order ? 0xbebebebe : 0x1e1e1e1e);
		for (unsigned y = 0; y < 200; y++) {
			for (unsigned x = 0; x < 320; x++) {
				uint32_t c = colour(x, y) | 0x5a000000;

				vd_guest_store32(memory + 4 * (y * 320 + x),
						 order ? __builtin_bswap32(c) : c);
			}
		}
		shoot(&b);
		picture = read_png(b.path);
		assert_int_equal(picture.width, 320);
		assert_int_equal(picture.height, 200);
		for (unsigned y = 0; y < 200; y++)
			for (unsigned x = 0; x < 320; x++)
				assert_int_equal(pixel(&picture, x, y), colour(x, y));
		free(picture.rgb);
	}
	bench_close(&b);
}

static void test_16_bits(void **state)
{
	struct picture picture;
	struct bench b;
	uint8_t *memory;

	(void)state;
	bench_open(&b);
	memory = video_memory(&b.rig);
	set_mode(&b.rig, 64, 64, 16);
	vd_guest_store16(memory, 0xf800);
	vd_guest_store16(memory + 2, 0x07e0);
	vd_guest_store16(memory + 4, 0x001f);
	vd_guest_store16(memory + 6, 0xffff);
	vd_guest_store16(memory + 8, 0x8410);
	shoot(&b);
	picture = read_png(b.path);
	assert_int_equal(pixel(&picture, 0, 0), 0xff0000);
	assert_int_equal(pixel(&picture, 1, 0), 0x00ff00);
	assert_int_equal(pixel(&picture, 2, 0), 0x0000ff);
	assert_int_equal(pixel(&picture, 3, 0), 0xffffff);
	assert_int_equal(pixel(&picture, 4, 0), 0x848284);
	assert_int_equal(pixel(&picture, 5, 0), 0);
	free(picture.rgb);
	bench_close(&b);
}

/* A picture that is a part of a larger one. */
static void test_offsets_and_stride(void **state)
{
	struct vd_display_mode mode;
	struct picture picture;
	struct bench b;
	uint8_t *memory;

	(void)state;
	bench_open(&b);
	memory = video_memory(&b.rig);
	set_mode(&b.rig, 100, 50, 32);
	set_dispi(&b.rig, DISPI_VIRTUAL_WIDTH, 300);
	set_dispi(&b.rig, DISPI_X, 7);
	set_dispi(&b.rig, DISPI_Y, 11);
	for (unsigned y = 0; y < 61; y++)
		for (unsigned x = 0; x < 300; x++)
			vd_guest_store32(memory + 4 * (y * 300 + x), colour(x, y));
	assert_int_equal(vd_display_mode(b.rig.device, &mode, NULL), 0);
	assert_int_equal(mode.stride, 1200);
	assert_int_equal(mode.offset, 11 * 1200 + 28);
	shoot(&b);
	picture = read_png(b.path);
	for (unsigned y = 0; y < 50; y++)
		for (unsigned x = 0; x < 100; x++)
			assert_int_equal(pixel(&picture, x, y), colour(x + 7, y + 11));
	free(picture.rgb);
	bench_close(&b);
}

static void refuse(struct bench *b, const char *path, int code)
{
	struct vd_error error = {0};

	assert_int_equal(vd_display_screenshot(b->rig.device, path, &error), code);
	assert_int_equal(error.code, code);
	assert_true(strlen(error.text) > 10);
}

static void test_modes_that_cannot_be_shown(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	refuse(&b, b.path, -ENODATA);
	set_mode(&b.rig, 0, 100, 32);
	refuse(&b, b.path, -ENODATA);
	for (unsigned bits = 0; bits < 70; bits++) {
		set_mode(&b.rig, 100, 100, bits);
		if (bits != 16 && bits != 32)
			refuse(&b, b.path, -EOPNOTSUPP);
	}
	set_mode(&b.rig, 65535, 65535, 32);
	refuse(&b, b.path, -EINVAL);
	/* 2048 x 2048 is all of it; one more in any direction is outside. */
	set_mode(&b.rig, 2048, 2049, 32);
	refuse(&b, b.path, -EINVAL);
	set_mode(&b.rig, 2048, 2048, 32);
	set_dispi(&b.rig, DISPI_Y, 1);
	refuse(&b, b.path, -EINVAL);
	set_mode(&b.rig, 2048, 2048, 32);
	set_dispi(&b.rig, DISPI_X, 1);
	refuse(&b, b.path, -EINVAL);
	set_mode(&b.rig, 1, 1, 32);
	set_dispi(&b.rig, DISPI_VIRTUAL_WIDTH, 65535);
	set_dispi(&b.rig, DISPI_X, 65535);
	set_dispi(&b.rig, DISPI_Y, 65535);
	refuse(&b, b.path, -EINVAL);
	assert_int_equal(count_files(&b), 0);
	set_mode(&b.rig, 2048, 2048, 32);
	shoot(&b);
	bench_close(&b);
}

static void test_files_that_cannot_be_written(void **state)
{
	static char name[5000];
	char path[128];
	struct bench b;

	(void)state;
	bench_open(&b);
	set_mode(&b.rig, 64, 64, 32);
	snprintf(path, sizeof(path), "%s/none/screen.png", b.directory);
	refuse(&b, path, -ENOENT);
	memset(name, 'x', sizeof(name) - 1);
	refuse(&b, name, -ENAMETOOLONG);
	/* A directory in the place of the picture: nothing is left beside it. */
	assert_int_equal(mkdir(b.path, 0700), 0);
	refuse(&b, b.path, -EISDIR);
	assert_int_equal(count_files(&b), 1);
	assert_int_equal(rmdir(b.path), 0);
	bench_close(&b);
}

static void test_a_picture_is_replaced_whole_or_not_at_all(void **state)
{
	struct stat before, after;
	struct bench b;
	long step;

	(void)state;
	bench_open(&b);
	set_mode(&b.rig, 64, 64, 32);
	shoot(&b);
	assert_int_equal(stat(b.path, &before), 0);
	for (step = 1; step < 100; step++) {
		struct vd_error error = {0};
		long blocks = b.rig.test.blocks;
		int rc;

		test_env_fail(&b.rig.test, step, -ENOMEM);
		rc = vd_display_screenshot(b.rig.device, b.path, &error);
		assert_int_equal(b.rig.test.blocks, blocks);
		assert_int_equal(count_files(&b), 1);
		assert_int_equal(stat(b.path, &after), 0);
		if (!test_env_failed(&b.rig.test))
			break;
		assert_int_equal(rc, -ENOMEM);
		assert_int_equal(after.st_ino, before.st_ino);
	}
	assert_true(step > 2);
	assert_int_not_equal(after.st_ino, before.st_ino);
	bench_close(&b);
}

static int nothing(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	memset(data, 0, length);
	return 0;
}

static int ignore(void *context, unsigned region, uint64_t offset, const void *data, size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	(void)data;
	(void)length;
	return 0;
}

static void test_other_devices_are_no_displays(void **state)
{
	static const struct vd_device_ops ops = {.read = nothing, .write = ignore};
	struct vd_pci_function_config config = {
		.name = "other", .identity = {.vendor = 0x1234, .device = 0x1112}, .ops = &ops,
	};
	struct vd_error error = {0};
	struct vd_display_mode mode;
	struct vd_device *device;
	struct bench b;

	(void)state;
	bench_open(&b);
	config.env = &b.rig.test.env;
	config.host = b.rig.host;
	assert_int_equal(vd_pci_function_create(&config, &device, NULL), 0);
	assert_int_equal(vd_display_screenshot(device, b.path, &error), -EINVAL);
	assert_true(strlen(error.text) > 10);
	assert_int_equal(vd_display_mode(NULL, &mode, &error), -EINVAL);
	vd_device_put(device);
	/* One that says it is, but has no registers. */
	config.identity.device = 0x1111;
	assert_int_equal(vd_pci_function_create(&config, &device, NULL), 0);
	assert_int_not_equal(vd_display_screenshot(device, b.path, &error), 0);
	vd_device_put(device);
	/* One whose registers are all zero, and that has no memory. */
	config.bars[2].size = 4096;
	assert_int_equal(vd_pci_function_create(&config, &device, NULL), 0);
	assert_int_equal(vd_display_screenshot(device, b.path, &error), -ENODATA);
	vd_device_put(device);
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_32_bits),
		cmocka_unit_test(test_16_bits),
		cmocka_unit_test(test_offsets_and_stride),
		cmocka_unit_test(test_modes_that_cannot_be_shown),
		cmocka_unit_test(test_files_that_cannot_be_written),
		cmocka_unit_test(test_a_picture_is_replaced_whole_or_not_at_all),
		cmocka_unit_test(test_other_devices_are_no_displays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
