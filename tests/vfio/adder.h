/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device small enough to be read at a glance: it adds up the words of a buffer by DMA.
 *
 * BAR 0, trapped, eight 32-bit registers: 0 value (read, write), 1 buffer address, 2 count of
 * words; writing 3 adds them to the value and fires MSI-X vector 0; writing 4 pins the buffer until
 * 5 is written or memory is wanted back; 6 asserts INTx (1) or lowers it (0); writing 7 asks for a
 * reset; reading 7 fails. BAR 1: four pages, of which the first and the third can be mapped. BAR 2:
 * two pages, prefetchable, all of it. Trapped bytes of BAR 1 read as their offset.
 */
#ifndef VIADUCT_TESTS_VFIO_ADDER_H
#define VIADUCT_TESTS_VFIO_ADDER_H

#include <pthread.h>

#include "../mem/fixture.h"

#include <viaduct/vfio.h>

#define ADDER_REGISTERS 8u
#define ADDER_BAR1 (4 * PAGE)
#define ADDER_BAR2 (2 * PAGE)

struct adder {
	struct vd_device *device;
	struct vd_dma_owner owner;
	uint32_t registers[ADDER_REGISTERS];
	struct vd_dma_pin pin;
	struct vd_dma_range range;
	/*
	 * Requests come on any thread and must not wait for the device's lock: the pin has one of
	 * its own.
	 */
	pthread_mutex_t pin_lock;
	bool pinned, wanted_back;
	/* What the core did. */
	unsigned reads, writes, resets, quiesces, resumes, polls;
	_Atomic unsigned releases;
	uint64_t last_offset, last_length;
	int quiesce_result;
	bool load_fails;
};

static inline void adder_unpin(struct adder *adder)
{
	pthread_mutex_lock(&adder->pin_lock);
	if (adder->pinned)
		vd_dma_unpin(&adder->pin);
	adder->pinned = false;
	adder->wanted_back = true; /* a pin that is just being made goes as well */
	pthread_mutex_unlock(&adder->pin_lock);
}

static inline void adder_unpin_request(struct vd_dma_owner *owner, vd_iova start, uint64_t length)
{
	(void)start;
	(void)length;
	adder_unpin((struct adder *)((char *)owner - offsetof(struct adder, owner)));
}

static inline int adder_add(struct adder *adder)
{
	for (uint32_t i = 0; i < adder->registers[2]; i++) {
		vd_iova at = {adder->registers[1] + UINT64_C(4) * i};
		uint32_t word;
		int r = vd_dma_read(vd_device_space(adder->device), at, &word, 4);

		if (r)
			return r;
		adder->registers[0] += word;
	}
	vd_device_raise(adder->device, VD_IRQ_MSIX, 0);
	return 0;
}

static inline int adder_pin(struct adder *adder)
{
	struct vd_dma_segment segments[4];
	unsigned count = 4;
	int r;

	adder_unpin(adder);
	pthread_mutex_lock(&adder->pin_lock);
	adder->wanted_back = false;
	pthread_mutex_unlock(&adder->pin_lock);
	adder->range = (struct vd_dma_range){{adder->registers[1]}, 4 * adder->registers[2]};
	r = vd_dma_pin(vd_device_space(adder->device), &adder->range, 1, VD_READ, &adder->owner,
		       &adder->pin, segments, &count);
	pthread_mutex_lock(&adder->pin_lock);
	adder->pinned = !r && !adder->wanted_back;
	if (!r && !adder->pinned)
		vd_dma_unpin(&adder->pin);
	pthread_mutex_unlock(&adder->pin_lock);
	return r;
}

static inline int adder_read(void *context, unsigned region, uint64_t offset, void *data,
			     size_t length)
{
	struct adder *adder = context;

	adder->reads++;
	adder->last_offset = offset;
	adder->last_length = length;
	if (region == VD_REGION_BAR0) {
		memcpy(data, (char *)adder->registers + offset, length);
		return offset >= 28 ? -EIO : 0;
	}
	for (size_t i = 0; i < length; i++)
		((unsigned char *)data)[i] = (unsigned char)(offset + i);
	return 0;
}

static inline int adder_write(void *context, unsigned region, uint64_t offset, const void *data,
			      size_t length)
{
	struct adder *adder = context;

	adder->writes++;
	adder->last_offset = offset;
	adder->last_length = length;
	if (region != VD_REGION_BAR0)
		return 0;
	memcpy((char *)adder->registers + offset, data, length);
	switch (offset / 4) {
	case 3:
		return adder_add(adder);
	case 4:
		return adder_pin(adder);
	case 5:
		adder_unpin(adder);
		return 0;
	case 6:
		if (adder->registers[6])
			vd_device_raise(adder->device, VD_IRQ_INTX, 0);
		else
			vd_device_lower(adder->device);
		return 0;
	case 7:
		vd_device_request_reset(adder->device, VD_RESET_FUNCTION);
		return 0;
	}
	return 0;
}

static inline void adder_reset(void *context, enum vd_reset_kind kind)
{
	struct adder *adder = context;

	(void)kind;
	adder_unpin(adder);
	memset(adder->registers, 0, sizeof(adder->registers));
	adder->resets++;
}

static inline int adder_quiesce(void *context)
{
	struct adder *adder = context;

	adder->quiesces++;
	if (!adder->quiesce_result)
		adder_unpin(adder);
	return adder->quiesce_result;
}

static inline void adder_resume(void *context)
{
	((struct adder *)context)->resumes++;
}

static inline int adder_save(void *context, struct vd_stream *stream)
{
	struct adder *adder = context;

	for (unsigned i = 0; i < ADDER_REGISTERS; i++)
		vd_stream_put_u64(stream, adder->registers[i]);
	return 0;
}

static inline int adder_load(void *context, struct vd_stream *stream)
{
	struct adder *adder = context;
	uint64_t values[ADDER_REGISTERS];

	for (unsigned i = 0; i < ADDER_REGISTERS; i++)
		values[i] = vd_stream_get_u64(stream);
	for (unsigned i = 0; i < ADDER_REGISTERS; i++)
		if (stream->failed || values[i] > UINT32_MAX || adder->load_fails)
			return -EINVAL;
	for (unsigned i = 0; i < ADDER_REGISTERS; i++)
		adder->registers[i] = (uint32_t)values[i];
	return 0;
}

static inline void adder_poll(void *context)
{
	((struct adder *)context)->polls++;
}

static inline void adder_release(void *context)
{
	((struct adder *)context)->releases++;
}

static const struct vd_device_ops adder_ops = {
	.read = adder_read,
	.write = adder_write,
	.reset = adder_reset,
	.quiesce = adder_quiesce,
	.resume = adder_resume,
	.save = adder_save,
	.load = adder_load,
	.poll = adder_poll,
	.release = adder_release,
};

static const struct vd_region adder_regions[VD_REGION_COUNT] = {
	[VD_REGION_BAR0] = {.name = "registers", .size = 4 * ADDER_REGISTERS,
			    .flags = VD_REGION_READ | VD_REGION_WRITE},
	[VD_REGION_BAR1] = {.name = "mixed", .size = ADDER_BAR1,
			    .flags = VD_REGION_READ | VD_REGION_WRITE | VD_REGION_MMAP,
			    .area_count = 2, .areas = {{2 * PAGE, PAGE}, {0, PAGE}}},
	[VD_REGION_BAR2] = {.name = "memory", .size = ADDER_BAR2,
			    .flags = VD_REGION_READ | VD_REGION_WRITE | VD_REGION_MMAP |
				     VD_REGION_PREFETCH},
	[VD_REGION_ROM] = {.name = "rom", .size = 16, .flags = VD_REGION_READ},
};

static const unsigned adder_irqs[VD_IRQ_COUNT] = {[VD_IRQ_INTX] = 1, [VD_IRQ_MSIX] = 4};

static inline struct vd_device_config adder_config(const struct fixture *f, struct adder *adder)
{
	adder->owner.unpin_request = adder_unpin_request;
	return (struct vd_device_config){
		.env = f->env,
		.host = f->host,
		.name = "adder",
		.ops = &adder_ops,
		.context = adder,
		.regions = adder_regions,
		.irqs = adder_irqs,
	};
}

/* A host, a guest, a space that follows it, and the device. */
struct rig {
	struct fixture f;
	struct vd_dma_space *space;
	struct adder adder;
};

static inline void rig_open(struct rig *rig)
{
	struct vd_dma_config dma;
	struct vd_device_config config;
	struct vd_error error = {.text = ""};

	rig->adder = (struct adder){.pin_lock = PTHREAD_MUTEX_INITIALIZER};
	fixture_open(&rig->f);
	dma = (struct vd_dma_config){.env = rig->f.env, .host = rig->f.host};
	assert_int_equal(vd_dma_space_create(&dma, &rig->space, NULL), 0);
	assert_int_equal(vd_dma_follow(rig->space, rig->f.mem, NULL), 0);
	config = adder_config(&rig->f, &rig->adder);
	config.space = rig->space;
	if (vd_device_create(&config, &rig->adder.device, &error))
		fail_msg("%s", error.text);
}

static inline void rig_close(struct rig *rig)
{
	test_env_fail(&rig->f.test, 0, 0);
	vd_device_put(rig->adder.device);
	vd_dma_space_destroy(rig->space);
	fixture_close(&rig->f);
}

static inline int rig_write(struct rig *rig, unsigned index, uint32_t value)
{
	return vd_device_write(rig->adder.device, VD_REGION_BAR0, (vd_region_offset){4 * index},
			       &value, 4);
}

static inline uint32_t rig_read(struct rig *rig, unsigned index)
{
	uint32_t value = 0;

	assert_int_equal(vd_device_read(rig->adder.device, VD_REGION_BAR0,
					(vd_region_offset){4 * index}, &value, 4), 0);
	return value;
}

static inline struct vd_device_stats rig_stats(struct rig *rig)
{
	struct vd_device_stats stats;

	vd_device_stats(rig->adder.device, &stats);
	return stats;
}

#endif
