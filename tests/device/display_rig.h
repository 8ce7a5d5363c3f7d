/* SPDX-License-Identifier: BSD-2-Clause */
/* A display and its registers, for the tests of its files. */
#ifndef VIADUCT_TESTS_DEVICE_DISPLAY_RIG_H
#define VIADUCT_TESTS_DEVICE_DISPLAY_RIG_H

#include "../base/test_env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/display.h"

struct display_rig {
	struct test_env test;
	struct vd_host *host;
	struct vd_device *device;
};

/* @config: without env and host; NULL for the defaults. */
static inline void display_rig_open(struct display_rig *rig, const struct vd_display_config *config)
{
	struct vd_display_config full = config ? *config : (struct vd_display_config){0};
	struct vd_host_config host = {.env = &rig->test.env};
	struct vd_error error = {0};

	memset(rig, 0, sizeof(*rig));
	test_env_init(&rig->test);
	assert_int_equal(vd_host_create(&host, &rig->host, &error), 0);
	full.env = &rig->test.env;
	full.host = rig->host;
	if (vd_display_create(&full, &rig->device, &error))
		fail_msg("%s", error.text);
}

static inline void display_rig_close(struct display_rig *rig)
{
	test_env_fail(&rig->test, 0, 0);
	vd_device_put(rig->device);
	vd_host_destroy(rig->host);
	vd_env_hosted_drain();
	vd_env_hosted_drain(); /* what the first ones deferred */
	assert_int_equal(rig->test.blocks, 0);
}

static inline uint64_t get(struct display_rig *rig, unsigned region, uint64_t offset,
			   unsigned length)
{
	uint64_t value = 0;

	assert_int_equal(vd_device_read(rig->device, region, (vd_region_offset){offset}, &value,
					length), 0);
	return value;
}

static inline void put(struct display_rig *rig, unsigned region, uint64_t offset, unsigned length,
		       uint64_t value)
{
	assert_int_equal(vd_device_write(rig->device, region, (vd_region_offset){offset}, &value,
					 length), 0);
}

static inline unsigned dispi(struct display_rig *rig, unsigned index)
{
	return (unsigned)get(rig, DISPLAY_BAR_REGISTERS, DISPLAY_DISPI + 2 * index, 2);
}

static inline void set_dispi(struct display_rig *rig, unsigned index, unsigned value)
{
	put(rig, DISPLAY_BAR_REGISTERS, DISPLAY_DISPI + 2 * index, 2, value);
}

/* As the bochs driver does it. */
static inline void set_mode(struct display_rig *rig, unsigned width, unsigned height, unsigned bits)
{
	set_dispi(rig, DISPI_ENABLE, 0);
	set_dispi(rig, DISPI_BITS, bits);
	set_dispi(rig, DISPI_WIDTH, width);
	set_dispi(rig, DISPI_HEIGHT, height);
	set_dispi(rig, DISPI_VIRTUAL_WIDTH, width);
	set_dispi(rig, DISPI_X, 0);
	set_dispi(rig, DISPI_Y, 0);
	set_dispi(rig, DISPI_ENABLE, 0x41);
}

static inline uint8_t *video_memory(struct display_rig *rig)
{
	uint8_t *memory;

	vd_device_lock(rig->device);
	memory = vd_device_memory(rig->device, DISPLAY_BAR_MEMORY, 0,
				  vd_device_region(rig->device, DISPLAY_BAR_MEMORY)->size);
	vd_device_unlock(rig->device);
	assert_non_null(memory);
	return memory;
}

#endif
