/* SPDX-License-Identifier: BSD-2-Clause */
/* The device core itself, for the files of this floor. */
#ifndef VIADUCT_VFIO_DEVICE_H
#define VIADUCT_VFIO_DEVICE_H

#include <viaduct/vfio.h>

/*
 * BAR memory of one type, as an object has one type for all its pages; behind these, what regions
 * have of somebody else's, one each.
 */
enum device_memory { DEVICE_MEMORY_PLAIN, DEVICE_MEMORY_PREFETCH, DEVICE_MEMORY_BACKED };
#define DEVICE_MEMORIES (DEVICE_MEMORY_BACKED + VD_REGION_COUNT)

struct device_sink {
	vd_irq_sink fn;
	void *context;
};

/*
 * struct device_irqs - what a VFIO client has set
 * @triggers: of each index, a descriptor or -1 for each vector; all in one block, @room of them
 * @pending: MSI-X vectors that were raised without a descriptor, a bit each
 * @active: which of INTx, MSI and MSI-X is on; VD_IRQ_COUNT: none
 * @enabled: vectors that MSI was enabled with; @fold: the bits that tell them apart
 * @masked: INTx, by firing or by the client
 * @unmask: descriptor, or -1
 */
struct device_irqs {
	int *triggers[VD_IRQ_COUNT];
	unsigned room;
	unsigned active, enabled, fold;
	bool masked;
	_Atomic int unmask;
	uint64_t pending[VD_IRQ_VECTORS_MAX / 64];
};

/*
 * struct device_migration - where the device is on its way to another host
 * @lock: outside the device's
 * @data: of the session: to be read, or what was written
 */
struct device_migration {
	struct vd_lock lock;
	unsigned state; /* enum vd_migration_state */
	struct vd_stream data;
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
	struct device_migration migration;
	_Atomic bool busy;
	_Atomic int poll_fd;

	bool yields;
	bool backed[VD_REGION_COUNT]; /* memory of somebody else's */
	bool packed[VD_REGION_COUNT]; /* in the group's memory */
	bool shared[VD_REGION_COUNT]; /* backed, in a page that others of the group are in */
	struct vd_group *group;
	_Atomic uintptr_t holder;     /* of the lock; 0: nobody */
	_Atomic uintptr_t worker;     /* who is inside @work; 0: nobody */

	struct vd_lock lock; /* everything below */
	struct device_sink sinks[VD_IRQ_COUNT];
	struct device_irqs client;
	bool asserted;	    /* INTx */
	bool intx_disabled; /* by the command register */
	unsigned yielded;   /* operations that wait inside vd_device_yield() */
	bool closed;	    /* the operation under way does not yield */
	bool work_yielded;  /* @work is one of them: the worker's own, with or without the lock */
	unsigned work_nested; /* operations that yielded on the worker's thread inside that */
	unsigned quiesced;
	bool reset_wanted;
	bool work_wanted;
	bool work_asked;	   /* within the access under way */
	bool working;		   /* a thread is inside @work, or keeps it away */
	uint32_t sleepers;	   /* threads that wait for that */
	_Atomic uint32_t work_word; /* changes when @working or @yielded ends */
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
int device_memory_create(struct vd_device *device, const struct vd_device_config *config,
			 struct vd_error *error);
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

/* ---- interrupt.c, lock held ----------------------------------------------------------------- */

/* device_signal() - the floor of what an interrupt costs: one write */
void device_signal(int fd);
/* device_intx_fire() - INTx to the client, if it is on, asserted and nothing masks it */
void device_intx_fire(struct vd_device *device);
/* device_intx_unmask() - for the client; what is still asserted fires again */
void device_intx_unmask(struct vd_device *device);

/* ---- irqs.c --------------------------------------------------------------------------------- */

/* device_irqs_init() - @irqs counts are checked. Return: 0, -EINVAL, -ENOMEM */
int device_irqs_init(struct vd_device *device, struct vd_error *error);
void device_irqs_fini(struct vd_device *device);
/* device_irqs_reset() - nothing is pending any more; what the client set stays. Lock held. */
void device_irqs_reset(struct vd_device *device);
/*
 * struct device_irq_state - what is saved: the level, and what MSI-X vectors missed. What the
 * client has set is not: he sets it again.
 */
struct device_irq_state {
	uint64_t asserted;
	uint64_t pending[VD_IRQ_VECTORS_MAX / 64];
};
void device_irqs_save(const struct vd_device *device, struct vd_stream *stream);
/* device_irqs_parse() - Return: false if it cannot be such a device's, or is cut off */
bool device_irqs_parse(const struct vd_device *device, struct vd_stream *stream,
		       struct device_irq_state *state);
/* device_irqs_load() - lock held, the device itself is loaded */
void device_irqs_load(struct vd_device *device, const struct device_irq_state *state);
/* device_irqs_used() - whether a client has this index set. Lock held. */
bool device_irqs_used(const struct vd_device *device, unsigned index);

/* ---- migration.c ---------------------------------------------------------------------------- */

void device_migration_init(struct vd_device *device);
void device_migration_fini(struct vd_device *device);
/* device_migration_reset() - the device was reset: it runs. No lock held. */
void device_migration_reset(struct vd_device *device);

/* ---- group.c -------------------------------------------------------------------------------- */

/*
 * device_group_place() - a place for a region in the group's memory, which is made if there is none
 * yet. Return: 0, -ENOSPC, -ENOMEM, -EMFILE
 */
int device_group_place(struct vd_group *group, const struct vd_device *device, unsigned region,
		       struct vd_error *error);
/* device_group_forget() - the places of a device are free again */
void device_group_forget(struct vd_group *group, const struct vd_device *device);
/* device_group_offset() - where a region has its place */
uint64_t device_group_offset(struct vd_group *group, const struct vd_device *device,
			     unsigned region);
/* device_group_memory() - of that type; made before, and stays as long as the group */
struct vd_host_object *device_group_memory(const struct vd_group *group, bool prefetch);
int device_group_each(struct vd_group *group, bool prefetch,
		      int (*fn)(void *context, const struct vd_region_neighbour *neighbour),
		      void *context);

/*
 * device_group_share() - the object of a page of others that a region lies in: the one that
 * others of the group have, or a new one. Return: 0 and a reference; as vd_host_import()
 */
int device_group_share(struct vd_group *group, const struct vd_device *device, unsigned region,
		       const struct vd_region_backing *backing, struct vd_host_object **object,
		       struct vd_error *error);
/* device_group_each_shared() - the regions that lie in such an object */
int device_group_each_shared(struct vd_group *group, const struct vd_host_object *object,
			     int (*fn)(void *context, const struct vd_region_neighbour *neighbour),
			     void *context);

/*
 * device_memory_file() - a sealed file of @size bytes as an object of device memory. Return: 0,
 * -ENOMEM, -EMFILE
 */
int device_memory_file(const struct vd_env *env, struct vd_host *host, const char *name,
		       bool prefetch, uint64_t size, struct vd_host_object **object,
		       struct vd_error *error);

/* ---- work.c --------------------------------------------------------------------------------- */

/* device_wake() - @working has ended, or the last operation that had yielded goes on. Lock held. */
void device_wake(struct vd_device *device);
/*
 * device_settle() - wait until no operation has yielded. Lock held, but not while it waits.
 */
void device_settle(struct vd_device *device);
/*
 * device_work_shut(), device_work_open() - between them nobody is inside @work, and at first no
 * operation has yielded. Lock held, but not while the first one waits.
 */
void device_work_shut(struct vd_device *device);
void device_work_open(struct vd_device *device);
/*
 * device_work_run() - call @work if it is still wanted. No lock held. @wait: for others inside;
 * else leave it to a later call.
 */
void device_work_run(struct vd_device *device, bool wait);

/*
 * struct device_wishes - what an operation has asked for, or one inside which it ran
 * @asked: for work, within this access
 */
struct device_wishes {
	bool reset, work, asked;
	enum vd_reset_kind kind;
};
/*
 * device_wishes_take() - at the end of an operation, lock held. While another one is inside still,
 * all is left to the last.
 */
void device_wishes_take(struct vd_device *device, struct device_wishes *wishes);
/* device_wishes_grant() - without the lock. @wait: as above. Return: 0, what the reset returned */
int device_wishes_grant(struct vd_device *device, const struct device_wishes *wishes, bool wait);

/* ---- device.c, lock held -------------------------------------------------------------------- */

int device_quiesce_locked(struct vd_device *device);
void device_resume_locked(struct vd_device *device);

#endif
