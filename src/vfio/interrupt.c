/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts: from the device to whoever listens. All under the device's lock. */
#include <unistd.h>

#include "vfio/device.h"

void device_signal(int fd)
{
	static const uint64_t one = 1;

	/* That it fails can only mean that the counter is full: it has been signalled then. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

/* ---- edges ---------------------------------------------------------------------------------- */

static void fire(struct vd_device *device, enum vd_irq_index index, unsigned vector)
{
	const struct device_sink *sink = &device->sinks[index];
	int fd;

	/* Who was given fewer than it has must make do with them (PCI 3.0, 6.8.1.3). */
	if (index == VD_IRQ_MSI && device->client.active == VD_IRQ_MSI)
		vector &= device->client.fold;
	fd = device->client.triggers[index][vector];
	if (fd >= 0)
		device_signal(fd);
	else if (sink->fn)
		sink->fn(sink->context, index, vector, true);
	else if (index == VD_IRQ_MSIX && device->client.active == VD_IRQ_MSIX)
		device->client.pending[vector / 64] |= UINT64_C(1) << vector % 64;
}

/* ---- the level ------------------------------------------------------------------------------ */

static void tell_level(struct vd_device *device, bool level)
{
	const struct device_sink *sink = &device->sinks[VD_IRQ_INTX];

	if (sink->fn && !device->intx_disabled)
		sink->fn(sink->context, VD_IRQ_INTX, 0, level);
}

void device_intx_fire(struct vd_device *device)
{
	struct device_irqs *client = &device->client;

	if (client->active != VD_IRQ_INTX || client->masked || !device->asserted)
		return;
	/* Whether or not a descriptor is there: who sets one has to unmask. */
	client->masked = true;
	if (client->triggers[VD_IRQ_INTX][0] >= 0)
		device_signal(client->triggers[VD_IRQ_INTX][0]);
}

void device_intx_unmask(struct vd_device *device)
{
	struct device_irqs *client = &device->client;

	if (client->active != VD_IRQ_INTX || device->intx_disabled)
		return;
	client->masked = false;
	device_intx_fire(device);
}

bool vd_device_asserted(const struct vd_device *device)
{
	return device->asserted;
}

void vd_device_disable_intx(struct vd_device *device, bool disable)
{
	if (device->intx_disabled == disable)
		return;
	if (disable) {
		if (device->asserted)
			tell_level(device, false);
		device->intx_disabled = true;
		device->client.masked = true;
		return;
	}
	device->intx_disabled = false;
	if (device->asserted)
		tell_level(device, true);
	device_intx_unmask(device);
}

void vd_device_raise(struct vd_device *device, enum vd_irq_index index, unsigned vector)
{
	if ((unsigned)index >= VD_IRQ_COUNT || vector >= device->irqs[index])
		return;
	if (index != VD_IRQ_INTX) {
		device_count(&device->interrupts);
		fire(device, index, vector);
		return;
	}
	if (device->asserted)
		return;
	device->asserted = true;
	device_count(&device->interrupts);
	tell_level(device, true);
	device_intx_fire(device);
}

void vd_device_lower(struct vd_device *device)
{
	if (!device->asserted)
		return;
	device->asserted = false;
	tell_level(device, false);
}

/* ---- who listens in this process ------------------------------------------------------------ */

int vd_device_set_sink(struct vd_device *device, enum vd_irq_index index, vd_irq_sink sink,
		       void *context)
{
	int r = 0;

	if ((unsigned)index >= VD_IRQ_COUNT)
		return -EINVAL;
	vd_device_lock(device);
	if (sink && device_irqs_used(device, index))
		r = -EBUSY;
	else
		device->sinks[index] = (struct device_sink){sink, context};
	/* A level is not lost by coming late. */
	if (!r && index == VD_IRQ_INTX && device->asserted)
		tell_level(device, true);
	vd_device_unlock(device);
	return r;
}

unsigned vd_device_irq_count(const struct vd_device *device, enum vd_irq_index index)
{
	return (unsigned)index < VD_IRQ_COUNT ? device->irqs[index] : 0;
}
