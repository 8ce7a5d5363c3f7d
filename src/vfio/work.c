/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a device may not do under its lock, the core has it do without. Who is inside @work is noted
 * under the lock, instead of holding another lock over it: what changes memory may sleep.
 */
#include "vfio/device.h"

void vd_device_request_work(struct vd_device *device)
{
	device->work_wanted = true;
	device->work_asked = true;
}

void device_work_shut(struct vd_device *device)
{
	const struct vd_env *env = device->env;

	while (device->working) {
		uint32_t seen = atomic_load_explicit(&device->work_word, memory_order_relaxed);

		vd_device_unlock(device);
		env->wait(env, &device->work_word, seen);
		vd_device_lock(device);
	}
	device->working = true;
}

void device_work_open(struct vd_device *device)
{
	device->working = false;
	/* Relaxed: only a change matters, and @working is looked at under the lock. */
	atomic_fetch_add_explicit(&device->work_word, 1, memory_order_relaxed);
	device->env->wake(device->env, &device->work_word);
}

static bool is_wanted(const struct vd_device *device)
{
	return device->work_wanted && !device->quiesced && device->ops->work;
}

void device_work_run(struct vd_device *device, bool wait)
{
	vd_device_lock(device);
	if (is_wanted(device) && (wait || !device->working)) {
		device_work_shut(device);
		/* Whoever was inside may have done it. */
		if (is_wanted(device)) {
			device->work_wanted = false;
			vd_device_unlock(device);
			device->ops->work(device->context);
			vd_device_lock(device);
		}
		device_work_open(device);
	}
	vd_device_unlock(device);
}
