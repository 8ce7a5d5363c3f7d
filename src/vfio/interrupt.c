/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts: from the device to whoever listens. All under the device's lock. */
#include "vfio/device.h"

static void deliver(struct vd_device *device, enum vd_irq_index index, unsigned vector, bool level)
{
	const struct device_sink *sink = &device->sinks[index];

	if (sink->fn)
		sink->fn(sink->context, index, vector, level);
}

void vd_device_raise(struct vd_device *device, enum vd_irq_index index, unsigned vector)
{
	if ((unsigned)index >= VD_IRQ_COUNT || vector >= device->irqs[index])
		return;
	if (index == VD_IRQ_INTX) {
		if (device->asserted)
			return;
		device->asserted = true;
	}
	device_count(&device->interrupts);
	deliver(device, index, vector, true);
}

void vd_device_lower(struct vd_device *device)
{
	if (!device->asserted)
		return;
	device->asserted = false;
	deliver(device, VD_IRQ_INTX, 0, false);
}

int vd_device_set_sink(struct vd_device *device, enum vd_irq_index index, vd_irq_sink sink,
		       void *context)
{
	if ((unsigned)index >= VD_IRQ_COUNT)
		return -EINVAL;
	vd_device_lock(device);
	device->sinks[index] = (struct device_sink){sink, context};
	/* A level is not lost by coming late. */
	if (index == VD_IRQ_INTX && device->asserted)
		deliver(device, index, 0, true);
	vd_device_unlock(device);
	return 0;
}

unsigned vd_device_irq_count(const struct vd_device *device, enum vd_irq_index index)
{
	return (unsigned)index < VD_IRQ_COUNT ? device->irqs[index] : 0;
}
