/* SPDX-License-Identifier: BSD-2-Clause */
/* An edu device, memory that its DMA reaches, and who listens to its interrupts. */
#ifndef VIADUCT_TESTS_DEVICE_EDU_RIG_H
#define VIADUCT_TESTS_DEVICE_EDU_RIG_H

#include "../base/test_env.h"

#include <stdlib.h>
#include <string.h>

#include <viaduct/device.h>

#define EDU_IOVA UINT64_C(0x100000)
#define EDU_MEMORY UINT64_C(0x10000)
#define EDU_BUFFER 0x40000u
#define EDU_BUFFER_SIZE 4096u

struct edu_rig {
	struct test_env test;
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_dma_space *space;
	struct vd_device *device;
	bool level;
	unsigned asserted, messages;
};

static inline void edu_rig_sink(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	struct edu_rig *rig = context;

	(void)vector;
	if (index == VD_IRQ_INTX) {
		rig->level = level;
		rig->asserted += level;
	} else {
		rig->messages++;
	}
}

static inline struct vd_device *edu_rig_device(struct edu_rig *rig, uint64_t mask)
{
	struct vd_edu_config config = {
		.env = &rig->test.env, .host = rig->host, .space = rig->space, .dma_mask = mask,
	};
	struct vd_error error = {0};
	struct vd_device *device = NULL;

	if (vd_edu_create(&config, &device, &error))
		fail_msg("%s", error.text);
	return device;
}

static inline void edu_rig_open(struct edu_rig *rig, uint64_t mask)
{
	struct vd_host_config host = {.env = &rig->test.env};
	struct vd_dma_config dma = {.env = &rig->test.env};

	memset(rig, 0, sizeof(*rig));
	test_env_init(&rig->test);
	assert_int_equal(vd_host_create(&host, &rig->host, NULL), 0);
	assert_int_equal(vd_host_ram_create(rig->host, "ram", EDU_MEMORY, 0, &rig->ram, NULL), 0);
	dma.host = rig->host;
	assert_int_equal(vd_dma_space_create(&dma, &rig->space, NULL), 0);
	assert_int_equal(vd_dma_map(rig->space, (vd_iova){EDU_IOVA}, EDU_MEMORY,
				    rig->ram, 0, VD_READ | VD_WRITE), 0);
	rig->device = edu_rig_device(rig, mask);
	vd_device_set_sink(rig->device, VD_IRQ_INTX, edu_rig_sink, rig);
	vd_device_set_sink(rig->device, VD_IRQ_MSI, edu_rig_sink, rig);
}

static inline void edu_rig_close(struct edu_rig *rig)
{
	test_env_fail(&rig->test, 0, 0);
	vd_device_put(rig->device);
	vd_dma_space_destroy(rig->space);
	vd_host_object_put(rig->ram);
	vd_host_destroy(rig->host);
	vd_env_hosted_drain();
	vd_env_hosted_drain(); /* what the first ones deferred */
	assert_int_equal(rig->test.blocks, 0);
}

static inline uint64_t edu_get(struct vd_device *device, uint64_t offset, unsigned length)
{
	uint64_t value = 0;

	assert_int_equal(vd_device_read(device, VD_REGION_BAR0, (vd_region_offset){offset}, &value,
					length), 0);
	return value;
}

static inline void edu_put(struct vd_device *device, uint64_t offset, unsigned length,
			   uint64_t value)
{
	assert_int_equal(vd_device_write(device, VD_REGION_BAR0, (vd_region_offset){offset}, &value,
					 length), 0);
}

/* As the specification's example has it. */
static inline void edu_transfer(struct vd_device *device, uint64_t source, uint64_t destination,
				uint64_t count, uint64_t command)
{
	edu_put(device, 0x80, 8, source);
	edu_put(device, 0x88, 8, destination);
	edu_put(device, 0x90, 8, count);
	edu_put(device, 0x98, 8, command);
}

#endif
