/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pictures of what a display shows, from outside: only the device's public interface is used, so
 * that a display on a transport could be asked as well. Its registers are the guest's: every number
 * in them is checked.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <png.h>

#include "device/display.h"

/* A name next to @path that nobody has; so many may be left over from others that were killed. */
#define TEMPORARY_TRIES 100u

static uint16_t get16(const uint8_t *bytes, unsigned index)
{
	return (uint16_t)(bytes[2 * index] | bytes[2 * index + 1] << 8);
}

static int read_registers(struct vd_device *device, uint64_t offset, uint8_t *bytes, size_t length)
{
	int rc = 0;

	for (size_t i = 0; i < length && !rc; i += 2)
		rc = vd_device_read(device, DISPLAY_BAR_REGISTERS, (vd_region_offset){offset + i},
				    bytes + i, 2);
	return rc;
}

static int check_display(struct vd_device *device, struct vd_error *error)
{
	uint8_t id[4] = {0};

	if (!device || vd_device_read(device, VD_REGION_CONFIG, (vd_region_offset){0}, id, 4) ||
	    get16(id, 0) != DISPLAY_VENDOR || get16(id, 1) != DISPLAY_DEVICE)
		return vd_error_set(error, -EINVAL, "there is no display to take a picture of");
	return 0;
}

int vd_display_mode(struct vd_device *device, struct vd_display_mode *mode, struct vd_error *error)
{
	uint8_t dispi[2 * DISPI_COUNT], endian[4];
	unsigned virtual_width, pixel;
	int rc = check_display(device, error);

	if (rc)
		return rc;
	rc = read_registers(device, DISPLAY_DISPI, dispi, sizeof(dispi));
	if (!rc)
		rc = read_registers(device, DISPLAY_ENDIAN, endian, sizeof(endian));
	if (rc)
		return vd_error_set(error, rc, "the display's registers cannot be read");
	mode->enabled = get16(dispi, DISPI_ENABLE) & DISPI_ENABLED;
	mode->width = get16(dispi, DISPI_WIDTH);
	mode->height = get16(dispi, DISPI_HEIGHT);
	mode->bits = get16(dispi, DISPI_BITS);
	mode->big_endian = endian[0] == DISPLAY_ENDIAN_BIG;
	virtual_width = get16(dispi, DISPI_VIRTUAL_WIDTH);
	if (virtual_width < mode->width)
		virtual_width = mode->width;
	pixel = (mode->bits + 7) / 8;
	mode->stride = (uint64_t)virtual_width * pixel;
	mode->offset = (uint64_t)get16(dispi, DISPI_X) * pixel +
		       get16(dispi, DISPI_Y) * mode->stride;
	return 0;
}

/* ---- the picture ---- */

struct picture {
	const struct vd_env *env;
	struct vd_display_mode mode;
	uint64_t span; /* bytes of video memory from the first pixel to the last */
	uint8_t *raw;
	uint8_t *rgb;
	uint64_t rgb_size;
};

static int check_mode(struct vd_device *device, struct picture *picture, struct vd_error *error)
{
	const struct vd_display_mode *mode = &picture->mode;
	uint64_t memory = vd_device_region(device, DISPLAY_BAR_MEMORY)->size;

	if (!mode->enabled || !mode->width || !mode->height)
		return vd_error_set(error, -ENODATA, "the guest has not switched the display on");
	if (mode->bits != 16 && mode->bits != 32)
		return vd_error_set(error, -EOPNOTSUPP,
				    "the guest uses %u bits a pixel: a picture needs 16 or 32",
				    mode->bits);
	/* All of it comes from 16-bit registers: no sum overflows. */
	picture->span = (mode->height - 1) * mode->stride + (uint64_t)mode->width * mode->bits / 8;
	if (mode->offset > memory || picture->span > memory - mode->offset)
		return vd_error_set(error, -EINVAL,
				    "the guest's %u x %u pixels reach beyond display memory",
				    mode->width, mode->height);
	picture->rgb_size = (uint64_t)mode->width * mode->height * 3;
	return 0;
}

static int copy_memory(struct vd_device *device, struct picture *picture, struct vd_error *error)
{
	void *memory;

	vd_device_lock(device);
	memory = vd_device_memory(device, DISPLAY_BAR_MEMORY, picture->mode.offset, picture->span);
	if (memory)
		vd_guest_copy(picture->raw, memory, picture->span);
	vd_device_unlock(device);
	return memory ? 0 : vd_error_set(error, -EOPNOTSUPP, "display memory is out of reach");
}

/* XRGB8888 and RGB565 in either byte order; the low bits of a colour repeat its high ones. */
static void convert_pixel(const struct vd_display_mode *mode, const uint8_t *raw, uint8_t *rgb)
{
	if (mode->bits == 32) {
		rgb[0] = raw[mode->big_endian ? 1 : 2];
		rgb[1] = raw[mode->big_endian ? 2 : 1];
		rgb[2] = raw[mode->big_endian ? 3 : 0];
	} else {
		unsigned value = mode->big_endian ? raw[0] << 8 | raw[1] : raw[1] << 8 | raw[0];
		unsigned red = value >> 11, green = value >> 5 & 0x3f, blue = value & 0x1f;

		rgb[0] = (uint8_t)(red << 3 | red >> 2);
		rgb[1] = (uint8_t)(green << 2 | green >> 4);
		rgb[2] = (uint8_t)(blue << 3 | blue >> 2);
	}
}

static void convert(const struct picture *picture)
{
	const struct vd_display_mode *mode = &picture->mode;
	unsigned pixel = mode->bits / 8;
	uint8_t *rgb = picture->rgb;

	for (unsigned y = 0; y < mode->height; y++)
		for (unsigned x = 0; x < mode->width; x++, rgb += 3)
			convert_pixel(mode, picture->raw + y * mode->stride + x * pixel, rgb);
}

/* ---- the file ---- */

static int open_temporary(const char *path, char *name, size_t size, struct vd_error *error)
{
	for (unsigned i = 0; i < TEMPORARY_TRIES; i++) {
		int length = snprintf(name, size, "%s.%d-%u.part", path, (int)getpid(), i);
		int fd;

		if (length < 0 || (size_t)length >= size)
			return vd_error_set(error, -ENAMETOOLONG, "name of picture is too long");
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0 || errno != EEXIST) {
			int rc = fd >= 0 ? fd : -errno;

			return fd >= 0 ? fd : vd_error_set(error, rc, "cannot create %s: %s", name,
							   strerror(-rc));
		}
	}
	return vd_error_set(error, -EEXIST, "too many unfinished pictures beside %s", path);
}

static int write_png(const struct picture *picture, FILE *file, struct vd_error *error)
{
	png_image image = {
		.version = PNG_IMAGE_VERSION,
		.width = picture->mode.width,
		.height = picture->mode.height,
		.format = PNG_FORMAT_RGB,
	};

	errno = 0;
	if (!png_image_write_to_stdio(&image, file, 0, picture->rgb, 0, NULL) || fflush(file)) {
		int rc = errno ? -errno : -EIO;

		return vd_error_set(error, rc, "cannot write a picture: %s",
				    image.message[0] ? image.message : "disk full?");
	}
	return 0;
}

static int write_file(const struct picture *picture, const char *path, struct vd_error *error)
{
	char name[4096];
	FILE *file;
	int rc, fd = open_temporary(path, name, sizeof(name), error);

	if (fd < 0)
		return fd;
	file = fdopen(fd, "wb");
	if (!file) {
		close(fd);
		unlink(name);
		return vd_error_set(error, -ENOMEM, "no memory to write a picture");
	}
	rc = write_png(picture, file, error);
	if (fclose(file) && !rc)
		rc = vd_error_set(error, -EIO, "cannot finish the picture %s", path);
	if (!rc && rename(name, path)) {
		int saved = -errno;

		rc = vd_error_set(error, saved, "cannot replace %s: %s", path, strerror(-saved));
	}
	if (rc)
		unlink(name);
	return rc;
}

int vd_display_screenshot(struct vd_device *device, const char *path, struct vd_error *error)
{
	struct picture picture = {0};
	int rc = vd_display_mode(device, &picture.mode, error);

	if (!rc)
		rc = check_mode(device, &picture, error);
	if (rc)
		return rc;
	picture.env = vd_device_env(device);
	picture.raw = vd_env_allocate(picture.env, "display.picture", picture.span, 1);
	picture.rgb = vd_env_allocate(picture.env, "display.pixels", picture.rgb_size, 1);
	if (!picture.raw || !picture.rgb)
		rc = vd_error_set(error, -ENOMEM, "no memory for a picture of %u x %u pixels",
				  picture.mode.width, picture.mode.height);
	if (!rc)
		rc = copy_memory(device, &picture, error);
	if (!rc) {
		convert(&picture);
		rc = write_file(&picture, path, error);
	}
	picture.env->release(picture.env, picture.raw, picture.span);
	picture.env->release(picture.env, picture.rgb, picture.rgb_size);
	return rc;
}
