/* SPDX-License-Identifier: BSD-2-Clause */
/* A device from creation to its last reference: lock, reset, quiesce, polling. */
#include <pthread.h>
#include <string.h>

#include "vfio/device.h"

/* ---- checks --------------------------------------------------------------------------------- */

static bool areas_overlap(const struct vd_region *region, unsigned a)
{
	const struct vd_region_area *areas = region->areas;

	for (unsigned b = 0; b < a; b++)
		if (vd_ranges_overlap(areas[a].offset, areas[a].size, areas[b].offset,
				      areas[b].size))
			return true;
	return false;
}

static int check_areas(const struct vd_device *device, unsigned index, uint64_t page_mask,
		       struct vd_error *error)
{
	const struct vd_region *region = &device->regions[index];

	for (unsigned i = 0; i < region->area_count; i++) {
		const struct vd_region_area *area = &region->areas[i];

		bool all = region->size <= page_mask && area->size == region->size;

		if (!area->size || (!all && (area->offset | area->size) & page_mask))
			return vd_error_set(error, -EINVAL,
					    "%s: area %u of region %u is not made of whole pages",
					    device->name, i, index);
		if (area->offset > region->size || area->size > region->size - area->offset ||
		    areas_overlap(region, i))
			return vd_error_set(error, -EINVAL,
					    "%s: area %u of region %u is outside, or overlaps one",
					    device->name, i, index);
	}
	return 0;
}

static int check_region(const struct vd_device *device, unsigned index, uint64_t page_mask,
			struct vd_error *error)
{
	const struct vd_region *region = &device->regions[index];
	const unsigned known =
		VD_REGION_READ | VD_REGION_WRITE | VD_REGION_MMAP | VD_REGION_PREFETCH;

	if (region->area_count > VD_REGION_AREAS_MAX || region->flags & ~known)
		return vd_error_set(error, -EINVAL,
				    "%s: region %u has unknown flags or too many areas",
				    device->name, index);
	if (region->flags & VD_REGION_MMAP && (!region->size || index == VD_REGION_CONFIG))
		return vd_error_set(error, -EINVAL, "%s: nothing of region %u can be mapped",
				    device->name, index);
	if (!(region->flags & VD_REGION_MMAP))
		return region->area_count ? vd_error_set(error, -EINVAL,
							 "%s: region %u has areas but no mmap flag",
							 device->name, index) : 0;
	return check_areas(device, index, page_mask, error);
}

static int take_regions(struct vd_device *device, const struct vd_device_config *config,
			struct vd_error *error)
{
	uint64_t page_mask = ((uint64_t)1 << vd_host_page_shift(config->host)) - 1;
	int r = 0;

	for (unsigned i = 0; i < VD_REGION_COUNT && !r; i++) {
		struct vd_region *region = &device->regions[i];

		*region = config->regions[i];
		region->memory_offset = 0;
		if (region->flags & VD_REGION_MMAP && !region->area_count) {
			region->area_count = 1;
			region->areas[0] = (struct vd_region_area){0, region->size};
		}
		r = check_region(device, i, page_mask, error);
	}
	return r;
}

/* ---- from beginning to end ------------------------------------------------------------------ */

int vd_device_create(const struct vd_device_config *config, struct vd_device **out,
		     struct vd_error *error)
{
	const struct vd_env *env = config->env;
	const char *name = config->name ? config->name : "device";
	struct vd_device *device;
	int r;

	if (!config->ops || !config->ops->read || !config->ops->write || !config->regions ||
	    !config->irqs)
		return vd_error_set(error, -EINVAL,
				    "%s: a device has regions, interrupts, and operations",
				    name);
	device = vd_env_allocate(env, "vfio.create", sizeof(*device), _Alignof(struct vd_device));
	if (!device)
		return vd_error_set(error, -ENOMEM, "%s: no memory for the device", name);
	device->env = env;
	device->ops = config->ops;
	device->context = config->context;
	memcpy(device->irqs, config->irqs, sizeof(device->irqs));
	for (size_t i = 0; i + 1 < sizeof(device->name) && name[i]; i++)
		device->name[i] = name[i];
	atomic_init(&device->references, 1);
	atomic_init(&device->poll_fd, -1);
	device->yields = config->yields;
	device->group = config->group ? vd_group_get(config->group) : NULL;
	r = device_irqs_init(device, error);
	if (!r)
		r = take_regions(device, config, error);
	if (!r)
		r = device_memory_create(device, config, error);
	if (r) {
		vd_group_put(device->group);
		device_irqs_fini(device);
		env->release(env, device, sizeof(*device));
		return r;
	}
	env->lock_init(env, &device->lock);
	device_migration_init(device);
	device->space = config->space ? vd_dma_space_get(config->space) : NULL;
	*out = device;
	return 0;
}

struct vd_device *vd_device_get(struct vd_device *device)
{
	atomic_fetch_add_explicit(&device->references, 1, memory_order_relaxed);
	return device;
}

static void device_warn(const struct vd_device *device, const char *text)
{
	if (device->env->log)
		device->env->log(device->env, VD_LOG_WARNING, text);
}

/*
 * Nothing is under way, and nobody has the device's memory mapped or waits for it to let go of
 * theirs.
 */
static void device_stop(struct vd_device *device)
{
	int r;

	vd_device_lock(device);
	device_work_shut(device);
	r = device_quiesce_locked(device);
	device_work_open(device);
	vd_device_unlock(device);
	if (r)
		device_warn(device, "a device that does not quiesce is released");
	r = device_memory_start(device, VD_INVALIDATE_UNMAP);
	if (r)
		device_warn(device, "a device is released while others still use its memory");
	else
		device_memory_end(device, VD_INVALIDATE_UNMAP);
	if (device->space)
		vd_dma_owner_drain(device->space, NULL);
}

void vd_device_put(struct vd_device *device)
{
	const struct vd_env *env;

	/* acq_rel: the last one sees what all others did before they let go */
	if (!device ||
	    atomic_fetch_sub_explicit(&device->references, 1, memory_order_acq_rel) != 1)
		return;
	env = device->env;
	device_stop(device);
	vd_device_lock(device);
	device->closed = true;
	if (device->ops->release)
		device->ops->release(device->context);
	vd_device_unlock(device);
	device_irqs_fini(device);
	device_migration_fini(device);
	device_memory_put(device);
	vd_group_put(device->group);
	if (device->space)
		vd_dma_space_put(device->space);
	env->lock_destroy(env, &device->lock);
	env->release(env, device, sizeof(*device));
}

/* ---- the lock ------------------------------------------------------------------------------- */

void vd_device_lock(struct vd_device *device)
{
	device->env->lock(device->env, &device->lock);
	/* Relaxed: only who stored it asks for it. */
	atomic_store_explicit(&device->holder, (uintptr_t)pthread_self(), memory_order_relaxed);
}

void vd_device_unlock(struct vd_device *device)
{
	atomic_store_explicit(&device->holder, 0, memory_order_relaxed);
	device->env->unlock(device->env, &device->lock);
}

/* Relaxed, both: only who stored it asks for it. */
static bool is_holder(const struct vd_device *device)
{
	return atomic_load_explicit(&device->holder, memory_order_relaxed) ==
	       (uintptr_t)pthread_self();
}

static bool is_worker(const struct vd_device *device)
{
	return atomic_load_explicit(&device->worker, memory_order_relaxed) ==
	       (uintptr_t)pthread_self();
}

/* Holds no lock that could be dropped, but others have to know that it sleeps. */
static bool yield_work(struct vd_device *device)
{
	if (!is_worker(device) || device->work_yielded)
		return false;
	vd_device_lock(device);
	device->work_yielded = true;
	device->yielded++;
	vd_device_unlock(device);
	return true;
}

bool vd_device_yield(struct vd_device *device)
{
	if (!is_holder(device))
		return yield_work(device);
	if (!device->yields || device->closed)
		return false;
	if (is_worker(device))
		device->work_nested++;
	device->yielded++;
	vd_device_unlock(device);
	return true;
}

void vd_device_unyield(struct vd_device *device)
{
	bool works = is_worker(device), work;

	vd_device_lock(device);
	work = works && !device->work_nested;
	if (work)
		device->work_yielded = false;
	else if (works)
		device->work_nested--;
	if (--device->yielded == 0)
		device_wake(device);
	if (work)
		vd_device_unlock(device);
}

const struct vd_env *vd_device_env(struct vd_device *device)
{
	return device->env;
}

struct vd_dma_space *vd_device_space(struct vd_device *device)
{
	return device->space;
}

const char *vd_device_name(const struct vd_device *device)
{
	return device->name;
}

/* ---- reset and quiesce ---------------------------------------------------------------------- */

void vd_device_request_reset(struct vd_device *device, enum vd_reset_kind kind)
{
	device->reset_wanted = true;
	device->wanted_kind = kind;
}

static void reset_locked(struct vd_device *device, enum vd_reset_kind kind)
{
	/* Accesses have gone on meanwhile, and one may be waiting for its memory again. */
	device_settle(device);
	device->closed = true;
	if (device->ops->reset)
		device->ops->reset(device->context, kind);
	device->closed = false;
	device->work_wanted = false;
	vd_device_lower(device);
	device_irqs_reset(device);
	device_count(&device->resets);
}

int vd_device_reset(struct vd_device *device, enum vd_reset_kind kind)
{
	int r;

	vd_device_lock(device);
	/* First: work may change memory, which must not be waited for inside an event. */
	device_work_shut(device);
	vd_device_unlock(device);
	r = device_memory_start(device, VD_INVALIDATE_RESET);
	vd_device_lock(device);
	if (!r)
		reset_locked(device, kind);
	vd_device_unlock(device);
	if (!r)
		device_memory_end(device, VD_INVALIDATE_RESET);
	vd_device_lock(device);
	device_work_open(device);
	vd_device_unlock(device);
	if (!r)
		device_migration_reset(device);
	return r;
}

int device_quiesce_locked(struct vd_device *device)
{
	int r = 0;

	device->closed = true;
	if (!device->quiesced && device->ops->quiesce)
		r = device->ops->quiesce(device->context);
	device->closed = false;
	if (!r)
		device->quiesced++;
	return r;
}

void device_resume_locked(struct vd_device *device)
{
	device->closed = true;
	if (device->quiesced && --device->quiesced == 0 && device->ops->resume)
		device->ops->resume(device->context);
	device->closed = false;
}

int vd_device_quiesce(struct vd_device *device)
{
	int r;

	vd_device_lock(device);
	device_work_shut(device);
	r = device_quiesce_locked(device);
	device_work_open(device);
	vd_device_unlock(device);
	return r;
}

void vd_device_resume(struct vd_device *device)
{
	vd_device_lock(device);
	device_resume_locked(device);
	vd_device_unlock(device);
	device_work_run(device, true);
}

/* ---- polling -------------------------------------------------------------------------------- */

void vd_device_set_busy(struct vd_device *device, bool busy, int fd)
{
	/* Relaxed: a hint. Whoever is told late polls late. */
	atomic_store_explicit(&device->poll_fd, busy ? fd : -1, memory_order_relaxed);
	atomic_store_explicit(&device->busy, busy, memory_order_relaxed);
}

void vd_device_poll(struct vd_device *device)
{
	struct device_wishes wishes;

	if (!atomic_load_explicit(&device->busy, memory_order_relaxed) || !device->ops->poll)
		return;
	vd_device_lock(device);
	device->ops->poll(device->context);
	device_wishes_take(device, &wishes);
	vd_device_unlock(device);
	(void)device_wishes_grant(device, &wishes, false);
}

int vd_device_poll_fd(const struct vd_device *device)
{
	return atomic_load_explicit(&device->poll_fd, memory_order_relaxed);
}

void vd_device_stats(const struct vd_device *device, struct vd_device_stats *stats)
{
	for (unsigned i = 0; i < VD_REGION_COUNT; i++) {
		stats->trapped_reads[i] =
			atomic_load_explicit(&device->reads[i], memory_order_relaxed);
		stats->trapped_writes[i] =
			atomic_load_explicit(&device->writes[i], memory_order_relaxed);
	}
	stats->interrupts = atomic_load_explicit(&device->interrupts, memory_order_relaxed);
	stats->resets = atomic_load_explicit(&device->resets, memory_order_relaxed);
}

void vd_device_counters(struct vd_device *device,
			void (*report)(void *to, const char *name, uint64_t value), void *to)
{
	vd_device_lock(device);
	if (device->ops->counters)
		device->ops->counters(device->context, report, to);
	vd_device_unlock(device);
}
