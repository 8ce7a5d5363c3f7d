/* SPDX-License-Identifier: BSD-2-Clause */
/* The device core itself, for the files of this floor. */
#ifndef VIADUCT_VFIO_DEVICE_H
#define VIADUCT_VFIO_DEVICE_H

#include <viaduct/vfio.h>

/* BAR memory of one type: an object has one type for all its pages. */
enum device_memory { DEVICE_MEMORY_PLAIN, DEVICE_MEMORY_PREFETCH, DEVICE_MEMORIES };

struct device_sink {
	vd_irq_sink fn;
	void *context;
};

struct vd_device {
	const struct vd_env *env;
	const struct vd_device_ops *ops;
	void *context;
	struct vd_dma_space *space;
	struct vd_host_object *memory[DEVICE_MEMORIES];
	uintptr_t window;	/* of the host, and the shift of its pages: fixed while it lives */
	unsigned page_shift;
	struct vd_region regions[VD_REGION_COUNT];
	unsigned irqs[VD_IRQ_COUNT];
	char name[32];
	_Atomic uint32_t references;
	_Atomic bool busy;
	_Atomic int poll_fd;

	struct vd_lock lock; /* everything below */
	struct device_sink sinks[VD_IRQ_COUNT];
	bool asserted; /* INTx */
	unsigned quiesced;
	bool reset_wanted;
	bool work_wanted;
	bool work_asked;	   /* within the access under way */
	bool working;		   /* a thread is inside @work, or keeps it away */
	_Atomic uint32_t work_word; /* changes when @working ends */
	enum vd_reset_kind wanted_kind;
	/* Written under the lock, read without. */
	_Atomic uint64_t reads[VD_REGION_COUNT], writes[VD_REGION_COUNT];
	_Atomic uint64_t interrupts, resets;
};

/* device_count() - the only writer is the holder of the lock */
static inline void device_count(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* ---- memory.c ------------------------------------------------------------------------------- */

/*
 * device_memory_create() - places the regions in memory and makes it. Return: 0, -errno; nothing is
 * left.
 */
int device_memory_create(struct vd_device *device, struct vd_host *host, struct vd_error *error);
void device_memory_put(struct vd_device *device);
/*
 * device_memory_start() - every mapping of every BAR leaves every mirror. Return: 0; -errno,
 * nothing started.
 */
int device_memory_start(struct vd_device *device, enum vd_invalidate_reason reason);
void device_memory_end(struct vd_device *device, enum vd_invalidate_reason reason);
/*
 * device_memory_run() - mappable bytes from @offset on, at most @length; 0: trapped, for @trapped
 * bytes at least
 */
uint64_t device_memory_run(const struct vd_region *region, uint64_t offset, uint64_t length,
			   uint64_t *trapped);
/*
 * device_memory_pointer() - host pointer of a mappable byte, *@run of them in a row; NULL: the host
 * is gone
 */
void *device_memory_pointer(const struct vd_device *device, const struct vd_region *region,
			    uint64_t offset, uint64_t *run);

/* ---- work.c --------------------------------------------------------------------------------- */

/*
 * device_work_shut(), device_work_open() - between them nobody is inside @work. Lock held, but not
 * while the first one waits.
 */
void device_work_shut(struct vd_device *device);
void device_work_open(struct vd_device *device);
/*
 * device_work_run() - call @work if it is still wanted. No lock held. @wait: for others inside;
 * else leave it to a later call.
 */
void device_work_run(struct vd_device *device, bool wait);

/* ---- device.c, lock held -------------------------------------------------------------------- */

int device_quiesce_locked(struct vd_device *device);
void device_resume_locked(struct vd_device *device);

#endif
