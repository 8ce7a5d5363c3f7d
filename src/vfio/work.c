/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a device may not do under its lock, the core has it do without. Who is inside @work is noted
 * under the lock, instead of holding another lock over it: what changes memory may sleep.
 */
#include <pthread.h>

#include "vfio/device.h"

void vd_device_request_work(struct vd_device *device)
{
	device->work_wanted = true;
	device->work_asked = true;
}

void device_wake(struct vd_device *device)
{
	if (!device->sleepers)
		return;
	/* Relaxed: only a change matters, and what it is about is looked at under the lock. */
	atomic_fetch_add_explicit(&device->work_word, 1, memory_order_relaxed);
	device->env->wake(device->env, &device->work_word);
}

/* Lock held, but not while it waits. */
static void wait_change(struct vd_device *device)
{
	uint32_t seen = atomic_load_explicit(&device->work_word, memory_order_relaxed);

	device->sleepers++;
	vd_device_unlock(device);
	device->env->wait(device->env, &device->work_word, seen);
	vd_device_lock(device);
	device->sleepers--;
}

void device_settle(struct vd_device *device)
{
	while (device->yielded)
		wait_change(device);
}

void device_work_shut(struct vd_device *device)
{
	while (device->working || device->yielded)
		wait_change(device);
	device->working = true;
}

void device_work_open(struct vd_device *device)
{
	device->working = false;
	device_wake(device);
}

static bool is_wanted(const struct vd_device *device)
{
	return device->work_wanted && !device->quiesced && device->ops->work;
}

/* Lock held, but not while it waits or works. Return: whether it worked. */
static bool work_once(struct vd_device *device, bool wait)
{
	bool work;

	if (!is_wanted(device) || device->yielded || (device->working && !wait))
		return false;
	device_work_shut(device);
	/* Whoever was inside may have done it. */
	work = is_wanted(device);
	if (work) {
		device->work_wanted = false;
		/* Relaxed: only who stores it asks for it. */
		atomic_store_explicit(&device->worker, (uintptr_t)pthread_self(),
				      memory_order_relaxed);
		vd_device_unlock(device);
		device->ops->work(device->context);
		vd_device_lock(device);
		atomic_store_explicit(&device->worker, 0, memory_order_relaxed);
	}
	device_work_open(device);
	return work;
}

/* Accesses that came while @work waited for memory may have asked for something as well. */
void device_work_run(struct vd_device *device, bool wait)
{
	struct device_wishes wishes;
	bool worked;

	do {
		wishes = (struct device_wishes){0};
		vd_device_lock(device);
		worked = work_once(device, wait);
		if (worked)
			device_wishes_take(device, &wishes);
		vd_device_unlock(device);
		if (wishes.reset)
			(void)vd_device_reset(device, wishes.kind);
	} while (wishes.work);
}

void device_wishes_take(struct vd_device *device, struct device_wishes *wishes)
{
	*wishes = (struct device_wishes){0};
	if (device->yielded)
		return;
	wishes->reset = device->reset_wanted;
	wishes->kind = device->wanted_kind;
	wishes->work = device->work_wanted;
	wishes->asked = device->work_asked;
	device->reset_wanted = false;
}

int device_wishes_grant(struct vd_device *device, const struct device_wishes *wishes, bool wait)
{
	int r = wishes->reset ? vd_device_reset(device, wishes->kind) : 0;

	if (wishes->work)
		device_work_run(device, wait);
	return r;
}
