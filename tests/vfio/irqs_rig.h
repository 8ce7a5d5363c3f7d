/* SPDX-License-Identifier: BSD-2-Clause */
/* A client with an eventfd for each vector of a device with interrupts of every kind. */
#ifndef VIADUCT_TESTS_VFIO_IRQS_RIG_H
#define VIADUCT_TESTS_VFIO_IRQS_RIG_H

#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "adder.h"

#define NONE VFIO_IRQ_SET_DATA_NONE
#define BOOL VFIO_IRQ_SET_DATA_BOOL
#define EVENTFD VFIO_IRQ_SET_DATA_EVENTFD
#define MASK VFIO_IRQ_SET_ACTION_MASK
#define UNMASK VFIO_IRQ_SET_ACTION_UNMASK
#define TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER

#define VECTORS 6u

static const unsigned counts[VD_IRQ_COUNT] = {1, 4, VECTORS, 1, 1};

struct client {
	struct rig rig;
	struct vd_device *device;
	int fds[VD_IRQ_COUNT][VECTORS];
};

static inline void client_open(struct client *c)
{
	struct vd_device_config config;

	rig_open(&c->rig);
	config = adder_config(&c->rig.f, &c->rig.adder);
	config.irqs = counts;
	vd_device_put(c->rig.adder.device);
	assert_int_equal(vd_device_create(&config, &c->rig.adder.device, NULL), 0);
	c->device = c->rig.adder.device;
	for (unsigned i = 0; i < VD_IRQ_COUNT; i++)
		for (unsigned v = 0; v < VECTORS; v++)
			c->fds[i][v] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

static inline void client_close(struct client *c)
{
	for (unsigned i = 0; i < VD_IRQ_COUNT; i++)
		for (unsigned v = 0; v < VECTORS; v++)
			close(c->fds[i][v]);
	rig_close(&c->rig);
}

/* How often it was signalled since it was asked last. */
static inline uint64_t arrived(const struct client *c, unsigned index, unsigned vector)
{
	uint64_t count = 0;

	return read(c->fds[index][vector], &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static inline int set(struct client *c, uint32_t flags, unsigned index, unsigned start, unsigned count)
{
	static const uint8_t bools[VECTORS] = {1, 0, 1, 1, 1, 1};

	return vd_device_set_irqs(c->device, flags, index, start, count, bools,
				  index < VD_IRQ_COUNT ? c->fds[index] + start % VECTORS : NULL);
}

static inline void raise_one(struct client *c, enum vd_irq_index index, unsigned vector)
{
	vd_device_lock(c->device);
	vd_device_raise(c->device, index, vector);
	vd_device_unlock(c->device);
}

static inline void set_level(struct client *c, bool level)
{
	assert_int_equal(rig_write(&c->rig, 6, level), 0);
}

static inline void disable_intx(struct client *c, bool disable)
{
	vd_device_lock(c->device);
	vd_device_disable_intx(c->device, disable);
	vd_device_unlock(c->device);
}

#endif
