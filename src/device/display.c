/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A display: video memory, a few registers, a monitor's description. Operations run with the
 * device's lock held.
 */
#include <string.h>

#include "device/display.h"

#define STATE_MAGIC UINT64_C(0x3159414c50534956)
#define CHUNK 4096u /* divides every size of video memory */

struct display {
	const struct vd_env *env;
	uint8_t *memory; /* the device core's */
	uint64_t memory_size;
	uint8_t edid[DISPLAY_EDID_SIZE];
	uint16_t dispi[DISPI_COUNT];
	bool big_endian;
};

/* ---- registers ---- */

static uint8_t register_byte(const struct display *display, uint64_t at)
{
	if (at < DISPLAY_EDID + DISPLAY_EDID_SIZE)
		return display->edid[at - DISPLAY_EDID];
	if (at >= DISPLAY_DISPI && at < DISPLAY_DISPI + 2 * DISPI_COUNT)
		return (uint8_t)(display->dispi[(at - DISPLAY_DISPI) / 2] >> at % 2 * 8);
	if (at >= DISPLAY_ENDIAN && at < DISPLAY_ENDIAN + 4)
		return display->big_endian ? DISPLAY_ENDIAN_BIG : DISPLAY_ENDIAN_LITTLE;
	return at == DISPLAY_EXTENDED ? DISPLAY_EXTENDED_SIZE : 0;
}

static void write_dispi(struct display *display, uint64_t at, uint8_t value)
{
	unsigned index = (unsigned)(at - DISPLAY_DISPI) / 2, shift = at % 2 * 8;

	/* Who asks for an older interface gets this one: it can do all they could. */
	if (index == DISPI_ID || index == DISPI_MEMORY)
		return;
	display->dispi[index] = (uint16_t)((display->dispi[index] & ~(0xffu << shift)) |
					   (unsigned)value << shift);
}

static bool is_order(const uint8_t bytes[4], uint8_t order)
{
	return bytes[0] == order && bytes[1] == order && bytes[2] == order && bytes[3] == order;
}

static void write_registers(struct display *display, uint64_t offset, const uint8_t *bytes,
			    size_t length)
{
	if (offset == DISPLAY_ENDIAN && length == 4) {
		if (is_order(bytes, DISPLAY_ENDIAN_BIG))
			display->big_endian = true;
		else if (is_order(bytes, DISPLAY_ENDIAN_LITTLE))
			display->big_endian = false;
		return;
	}
	for (size_t i = 0; i < length; i++)
		if (offset + i >= DISPLAY_DISPI && offset + i < DISPLAY_DISPI + 2 * DISPI_COUNT)
			write_dispi(display, offset + i, bytes[i]);
}

/* ---- operations ---- */

/* Video memory is served by the core, mapped or not: only registers come here. */
static int display_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	struct display *display = context;
	uint8_t *bytes = data;

	(void)region;
	for (size_t i = 0; i < length; i++)
		bytes[i] = register_byte(display, offset + i);
	return 0;
}

static int display_write(void *context, unsigned region, uint64_t offset, const void *data,
			 size_t length)
{
	(void)region;
	write_registers(context, offset, data, length);
	return 0;
}

static void power_on(struct display *display)
{
	memset(display->dispi, 0, sizeof(display->dispi));
	display->dispi[DISPI_ID] = DISPI_ID_5;
	display->dispi[DISPI_MEMORY] = (uint16_t)(display->memory_size / DISPI_MEMORY_UNIT);
	display->big_endian = false;
}

static void display_reset(void *context, enum vd_reset_kind kind)
{
	(void)kind;
	power_on(context);
}

/* A guest that still runs may draw meanwhile. */
static void save_memory(const struct display *display, struct vd_stream *stream)
{
	uint8_t chunk[CHUNK];

	for (uint64_t at = 0; at < display->memory_size; at += CHUNK) {
		vd_guest_copy(chunk, display->memory + at, CHUNK);
		vd_stream_put(stream, chunk, CHUNK);
	}
}

static void load_memory(struct display *display, struct vd_stream *stream)
{
	uint8_t chunk[CHUNK];

	for (uint64_t at = 0; at < display->memory_size; at += CHUNK) {
		vd_stream_get(stream, chunk, CHUNK);
		vd_guest_copy(display->memory + at, chunk, CHUNK);
	}
}

static int display_save(void *context, struct vd_stream *stream)
{
	struct display *display = context;

	vd_stream_put_u64(stream, STATE_MAGIC);
	vd_stream_put_u64(stream, display->memory_size);
	for (unsigned i = 0; i < DISPI_COUNT; i++)
		vd_stream_put_u64(stream, display->dispi[i]);
	vd_stream_put_u64(stream, display->big_endian);
	save_memory(display, stream);
	return stream->failed ? -ENOMEM : 0;
}

/* The registers are taken last, so a stream that ends early leaves the mode as it was. */
static int display_load(void *context, struct vd_stream *stream)
{
	struct display *display = context;
	uint16_t dispi[DISPI_COUNT];
	uint64_t big_endian;

	if (vd_stream_get_u64(stream) != STATE_MAGIC ||
	    vd_stream_get_u64(stream) != display->memory_size)
		return -EINVAL;
	for (unsigned i = 0; i < DISPI_COUNT; i++) {
		uint64_t value = vd_stream_get_u64(stream);

		if (value > UINT16_MAX)
			return -EINVAL;
		dispi[i] = (uint16_t)value;
	}
	big_endian = vd_stream_get_u64(stream);
	if (stream->failed || big_endian > 1 || dispi[DISPI_ID] != DISPI_ID_5 ||
	    dispi[DISPI_MEMORY] != display->dispi[DISPI_MEMORY] ||
	    stream->length - stream->position < display->memory_size)
		return -EINVAL;
	load_memory(display, stream);
	memcpy(display->dispi, dispi, sizeof(dispi));
	display->big_endian = big_endian;
	return 0;
}

static void display_release(void *context)
{
	struct display *display = context;

	display->env->release(display->env, display, sizeof(*display));
}

static const struct vd_device_ops display_ops = {
	.read = display_read,
	.write = display_write,
	.reset = display_reset,
	.save = display_save,
	.load = display_load,
	.release = display_release,
};

/* ---- creation ---- */

static int check_config(const struct vd_display_config *config, struct vd_error *error)
{
	uint64_t size = config->memory_size;

	if (size < UINT64_C(4) << 20 || size > UINT64_C(512) << 20 || size & (size - 1))
		return vd_error_set(error, -EINVAL,
				    "display memory is 4 MiB to 512 MiB, a power of two, not %llu",
				    (unsigned long long)size);
	if (config->width < DISPLAY_SIDE_MIN || config->width > DISPLAY_SIDE_MAX ||
	    config->height < DISPLAY_SIDE_MIN || config->height > DISPLAY_SIDE_MAX)
		return vd_error_set(error, -EINVAL,
				    "a display is %u to %u pixels wide and high, not %u x %u",
				    DISPLAY_SIDE_MIN, DISPLAY_SIDE_MAX, config->width,
				    config->height);
	if ((uint64_t)config->width * config->height * 4 > size)
		return vd_error_set(error, -EINVAL,
				    "%u x %u pixels need more than %llu bytes of display memory",
				    config->width, config->height, (unsigned long long)size);
	return 0;
}

static int create_function(struct display *display, const struct vd_display_config *config,
			   struct vd_device **device, struct vd_error *error)
{
	struct vd_pci_function_config function = {
		.env = config->env,
		.host = config->host,
		.name = "display",
		/* Revision 2 has the extended registers. */
		.identity = {.vendor = DISPLAY_VENDOR, .device = DISPLAY_DEVICE,
			     .subsystem_vendor = 0x1af4, .subsystem = 0x1100,
			     .class_code = 0x038000, .revision = 2},
		.bars = {
			[DISPLAY_BAR_MEMORY] = {.size = config->memory_size,
						.flags = VD_PCI_BAR_PREFETCH, .area_count = 1,
						.areas = {{0, config->memory_size}}},
			[DISPLAY_BAR_REGISTERS] = {.size = DISPLAY_REGISTERS_SIZE},
		},
		.ops = &display_ops,
		.context = display,
	};

	return vd_pci_function_create(&function, device, error);
}

int vd_display_create(const struct vd_display_config *given, struct vd_device **device,
		      struct vd_error *error)
{
	struct vd_display_config config = *given;
	const struct vd_env *env = config.env;
	struct display *display;
	int rc;

	if (!config.memory_size)
		config.memory_size = UINT64_C(16) << 20;
	if (!config.width && !config.height) {
		config.width = 1024;
		config.height = 768;
	}
	rc = check_config(&config, error);
	if (rc)
		return rc;
	display = vd_env_allocate(env, "display.create", sizeof(*display),
				  _Alignof(struct display));
	if (!display)
		return vd_error_set(error, -ENOMEM, "no memory for a display");
	display->env = env;
	display->memory_size = config.memory_size;
	display_edid(display->edid, config.width, config.height);
	power_on(display);
	rc = create_function(display, &config, device, error);
	if (rc) {
		env->release(env, display, sizeof(*display));
		return rc;
	}
	vd_device_lock(*device);
	display->memory = vd_device_memory(*device, DISPLAY_BAR_MEMORY, 0, config.memory_size);
	vd_device_unlock(*device);
	vd_assert(display->memory);
	return 0;
}
