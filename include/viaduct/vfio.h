/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 5, the device model
 *
 * A device is regions, interrupts, reset, quiesce, DMA through its DMA address space, and
 * save/load: what VFIO shows of one. Whoever uses a device (the VM's PCI host, a vfio-user server,
 * the ioctl ABI) sees only this header.
 *
 * One lock a device, owned by the core: every operation is called with it held, on the caller's
 * thread, so doorbells run inline. Operations may call vd_device_raise(), vd_device_memory() and
 * vd_dma_*(), never vd_device_read/write, reset or anything that invalidates memory, such as
 * vd_dma_discard(): that is for @work, which the core calls without the lock when a device asks for
 * it (vd_device_request_work()).
 *
 * The core owns the mappable bytes: one sealed sparse memfd for the plain regions of a device, one
 * for the prefetchable ones, as a mapping has one memory type (offset = region's @memory_offset,
 * page-padded). Trapped registers, configuration space and MSI-X tables never live there, since
 * whoever gets the descriptor can map all of it.
 *
 * Functions for users of the device take its lock: call them without it, and without a lock that a
 * listener of the host's memory takes. Host, guest, DMA space and device may go in any order.
 *
 * An interrupt has one listener: a function in this process (vd_device_set_sink()), for whoever
 * emulates the interrupt's registers himself, such as the PCI host bridge; or descriptors, as a
 * VFIO client sets them (vd_device_set_irqs()). Each index by itself: with one kind connected, the
 * other is refused.
 */
#ifndef VIADUCT_VFIO_H
#define VIADUCT_VFIO_H

#include <sys/types.h>

#include <viaduct/iommu.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Region and interrupt numbers of vfio-pci (linux/vfio.h, VFIO_PCI_*_INDEX). */
enum vd_region_index {
	VD_REGION_BAR0, VD_REGION_BAR1, VD_REGION_BAR2, VD_REGION_BAR3, VD_REGION_BAR4,
	VD_REGION_BAR5, VD_REGION_ROM, VD_REGION_CONFIG, VD_REGION_VGA, VD_REGION_COUNT
};
enum vd_irq_index {
	VD_IRQ_INTX, VD_IRQ_MSI, VD_IRQ_MSIX, VD_IRQ_ERR, VD_IRQ_REQ, VD_IRQ_COUNT
};

/** VD_IRQ_VECTORS_MAX - most vectors that an index can have */
#define VD_IRQ_VECTORS_MAX 2048u

#define VD_REGION_READ 1u
#define VD_REGION_WRITE 2u
#define VD_REGION_MMAP 4u	  /* has directly mappable areas */
#define VD_REGION_PREFETCH 8u	  /* mapped write-combining, not uncached */
#define VD_REGION_AREAS_MAX 4u

/**
 * struct vd_region_area - a directly mappable part of a region: whole pages of the host, or all of
 * a region that is smaller than one
 */
struct vd_region_area { uint64_t offset, size; };

/**
 * struct vd_region - one region as the device declares it
 * @name: for people; a string that outlives the device
 * @size: bytes; 0: there is none
 * @flags: VD_REGION_*
 * @area_count, @areas: with VD_REGION_MMAP: which parts are mappable; none given: all of it
 * @memory_offset: filled in by the core: where the region starts in its BAR memory; its low bits
 *	are the region's place within a page
 */
struct vd_region {
	const char *name;
	uint64_t size;
	unsigned flags;
	unsigned area_count;
	struct vd_region_area areas[VD_REGION_AREAS_MAX];
	uint64_t memory_offset;
};

struct vd_device;
struct vd_stream;
struct vd_group;

/** enum vd_reset_kind - of the bus (power-on, secondary bus reset), or of one function (FLR) */
enum vd_reset_kind { VD_RESET_BUS, VD_RESET_FUNCTION };

/**
 * struct vd_device_ops - what a device author writes; all optional but read and write
 * @read, @write: a trapped access, in naturally aligned pieces of 1, 2, 4 or 8 bytes; the core has
 *	checked that they lie inside the region and outside its mappable areas, which it serves
 *	itself. Little-endian bytes. Return 0 or -errno (the reader then gets all ones)
 * @reset: back to power-on state; all pins dropped, no I/O under way afterwards. The core lowers
 *	INTx
 * @quiesce: start nothing new, finish what is under way, drop pins; may sleep. Return 0, or -errno:
 *	then it goes on as before
 * @resume: ends it
 * @save: all state, including the bytes of mappable areas, while quiesced. Return 0, -errno
 * @load: the reverse, while quiesced; a stream is hostile: check everything, then take it over.
 *	Return 0, or -errno with nothing changed
 * @poll: look for completions of asynchronous I/O
 * @work: what vd_device_request_work() asked for: anything that may invalidate memory, such as
 *	vd_dma_discard(). Called without the device's lock, which it takes for itself where it looks
 *	at the device; on one thread at a time, never while quiesced, nor while a reset, quiesce,
 *	save or load is done: these wait until it returns. A guest's hart stands still meanwhile:
 *	do a bounded part, keep the rest for @poll. Must not call vd_device_read/write, reset,
 *	quiesce, save or load
 * @counters: what the device counts: calls @report for each, always the same ones
 * @release: last call; free @context
 */
struct vd_device_ops {
	int (*read)(void *context, unsigned region, uint64_t offset, void *data, size_t length);
	int (*write)(void *context, unsigned region, uint64_t offset, const void *data,
		     size_t length);
	void (*reset)(void *context, enum vd_reset_kind kind);
	int (*quiesce)(void *context);
	void (*resume)(void *context);
	int (*save)(void *context, struct vd_stream *stream);
	int (*load)(void *context, struct vd_stream *stream);
	void (*poll)(void *context);
	void (*work)(void *context);
	void (*counters)(void *context,
			 void (*report)(void *to, const char *name, uint64_t value), void *to);
	void (*release)(void *context);
};

/* ---- groups: devices that share pages ------------------------------------------------------- */

/** VD_GROUP_PLACES_MAX - regions smaller than a page that a group's memory of one type holds */
#define VD_GROUP_PLACES_MAX 128u

/**
 * vd_group_create() - devices that one user gets as a whole or not at all
 * @name: for people; copied
 *
 * Mappable regions smaller than a page lie in the group's memory side by side, each at a multiple
 * of its size, as firmware places BARs of real functions. That memory is mapped once, and nobody
 * but devices of the group ever gets a place in it. Whoever has the descriptor of one region has
 * them all, hence the one user.
 * Return: 0 and one reference; -ENOMEM.
 */
int vd_group_create(const struct vd_env *env, struct vd_host *host, const char *name,
		    struct vd_group **group, struct vd_error *error);
/** vd_group_get() - Return: @group, with one reference more. */
struct vd_group *vd_group_get(struct vd_group *group);
/** vd_group_put() - NULL is ignored; the last reference frees its memory. Sleeps */
void vd_group_put(struct vd_group *group);
/**
 * vd_group_take() - become the group's user, or be it once more
 * @user: any address that stands for it: a host bridge, a client
 *
 * Whoever lets somebody use a device takes its group first, and calls vd_group_leave() as often.
 * Return: 0; -EBUSY it has another user.
 */
int vd_group_take(struct vd_group *group, const void *user);
/** vd_group_leave() - undo one vd_group_take(); the last one makes the group free */
void vd_group_leave(struct vd_group *group);

/** struct vd_region_neighbour - a region that lies in the memory of another one */
struct vd_region_neighbour {
	const struct vd_device *device;
	unsigned region;
	uint64_t offset, size;
};

/**
 * struct vd_region_backing - memory of a mappable region that is somebody else's
 * @fd: duplicated; -1: the core's own
 * @offset: where the region starts there; a multiple of the page, and the rest of the last page
 *	belongs to nobody else; or with
 * @shared: anywhere in a page, which holds other regions of the same group: the region lies inside
 *	that page. Regions of one group that have the same page of the same file have one object
 */
struct vd_region_backing {
	int fd;
	uint64_t offset;
	bool shared;
};

/**
 * struct vd_device_config - a device to be
 * @env: must outlive it
 * @host: where its BAR memory is mapped
 * @space: what its DMA reaches; the device keeps a reference. NULL: a device without DMA
 * @name: "nvme"; copied, at most 31 bytes
 * @ops, @context: the device's own
 * @regions: VD_REGION_COUNT of them, copied
 * @irqs: VD_IRQ_COUNT counts of vectors, copied; INTx, ERR and REQ have one at most, the others
 *	VD_IRQ_VECTORS_MAX
 * @backing: NULL, or VD_REGION_COUNT of them: for a device that is a proxy of one in another
 *	process. Looked at for mappable regions only. The file must reach to the end of the region's
 *	last area. One that its owner can cut (no F_SEAL_SHRINK) is refused with -EPERM unless the
 *	fault guard is installed (vd_host_guard_install()); vd_device_read() and vd_device_write()
 *	then survive lost pages by themselves, any other thread that touches the memory needs a
 *	guard of its own
 * @group: whose memory mappable regions smaller than a page lie in, unless @pad, and whose pages
 *	regions share that are backed so; the device keeps a reference. NULL: a group of its own
 * @pad: give each of these a page to itself instead, whose rest is padding that belongs to nobody
 *	else: so any client can map it
 * @yields: the device's operations may be entered again while one is inside vd_dma_*(): see
 *	vd_device_yield()
 */
struct vd_device_config {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_dma_space *space;
	const char *name;
	const struct vd_device_ops *ops;
	void *context;
	const struct vd_region *regions;
	const unsigned *irqs;
	const struct vd_region_backing *backing;
	struct vd_group *group;
	bool pad;
	bool yields;
};

/**
 * vd_device_create() - a device with one reference; calls no operation
 * Return: 0; -EINVAL with the reason in @error: missing operations, areas that are no whole pages,
 *	outside their region or overlapping, a mappable configuration space, too many vectors, a
 *	backing that is too short, no file, or misaligned; -EACCES one that cannot be mapped for
 *	reading and writing; -EPERM one that can be cut, without the fault guard; -EXDEV a group of
 *	another host; -ENOSPC a group that is full; -ENOMEM; -EMFILE. On error @context stays the
 *	caller's.
 */
int vd_device_create(const struct vd_device_config *config, struct vd_device **device,
		     struct vd_error *error);
/** vd_device_get() - Return: @device, with one reference more. */
struct vd_device *vd_device_get(struct vd_device *device);
/**
 * vd_device_put() - last reference: quiesce, zap BARs in every mirror, release. NULL is ignored.
 * Sleeps; not from an operation, nor from an unpin request. Memory that is still mapped somewhere
 * (a guest's slot holds it) stays, without a device behind it, until that goes.
 */
void vd_device_put(struct vd_device *device);

/* ---- for the device itself (called with its lock held) -------------------------------------- */

/**
 * vd_device_memory() - the device's own view of mappable bytes of a region
 *
 * Guests and clients write there at any time: use vd_guest_load/store/copy. Good while host and
 * device live.
 * Return: a pointer, or NULL if not all of it is in one mappable area. Needs no lock.
 */
void *vd_device_memory(struct vd_device *device, unsigned region, uint64_t offset, uint64_t length);
/** vd_device_space() - the DMA address space, or NULL. Needs no lock. */
struct vd_dma_space *vd_device_space(struct vd_device *device);
/**
 * vd_device_raise() - fire an edge (MSI, MSI-X, ERR, REQ) or assert INTx
 *
 * Counted; no-op for vectors that the device does not have. INTx that is asserted stays so. To a
 * client's descriptor it is one write(2); nothing is allocated or waited for.
 */
void vd_device_raise(struct vd_device *device, enum vd_irq_index index, unsigned vector);
/** vd_device_lower() - deassert INTx */
void vd_device_lower(struct vd_device *device);
/** vd_device_asserted() - whether INTx is asserted, delivered or not (PCI 3.0, 6.2.3, status) */
bool vd_device_asserted(const struct vd_device *device);
/**
 * vd_device_disable_intx() - INTx is not delivered while @disable (PCI 3.0, 6.2.2, command bit 10)
 *
 * A sink sees it lowered meanwhile. To a client's descriptor it is as masking and unmasking: what
 * is still asserted when this ends fires again.
 */
void vd_device_disable_intx(struct vd_device *device, bool disable);
/**
 * vd_device_set_busy() - asynchronous I/O is under way: poll me
 * @fd: readable when a completion is there, or -1; stays the device's
 */
void vd_device_set_busy(struct vd_device *device, bool busy, int fd);
/**
 * vd_device_lock(), vd_device_unlock() - for a device's own threads
 * Not for unpin requests of a device that pins under its lock: see struct vd_dma_owner.
 */
void vd_device_lock(struct vd_device *device);
void vd_device_unlock(struct vd_device *device);
/**
 * vd_device_yield() - let others into the device while this thread waits for memory
 *
 * For the callbacks that carry DMA to a client in messages: they may run inside an operation, and
 * the client may want to access the device before it answers. Drops the device's lock if this
 * thread holds it, the device's configuration says that it @yields, and the operation is @read,
 * @write or @poll; @work that holds no lock yields always. Reset, quiesce, save, load and @work
 * wait until every operation that has yielded went on and is over; what an access asks for
 * meanwhile (vd_device_request_reset(), vd_device_request_work()) is done when the last of them
 * ends, not before it returns itself. So between yield and unyield a thread may call
 * vd_device_read() and vd_device_write(), but none
 * of the functions that wait.
 *
 * Return: whether it did; then call vd_device_unyield() on this thread before the callback returns.
 */
bool vd_device_yield(struct vd_device *device);
/** vd_device_unyield() - take the lock again */
void vd_device_unyield(struct vd_device *device);
/** vd_device_env() - the environment. Needs no lock. */
const struct vd_env *vd_device_env(struct vd_device *device);
/**
 * vd_device_request_reset() - from within @write: reset me, once this access is over
 *
 * The core does a whole vd_device_reset(), without the lock, on the same thread, before the access
 * returns.
 */
void vd_device_request_reset(struct vd_device *device, enum vd_reset_kind kind);
/**
 * vd_device_request_work() - from within @read, @write, @poll or @resume: call @work soon
 *
 * The core does, without the lock, on the same thread before the access (poll, resume) returns;
 * requests made until then are one. Where another thread is inside @work already, an access
 * that asked waits for it and then calls it again, so that who makes work does it; others, and a
 * poll, leave it to a later one. While the device is quiesced it is put off until that ends. A
 * reset forgets it.
 */
void vd_device_request_work(struct vd_device *device);

/* ---- for whoever uses the device; these take the lock --------------------------------------- */

const char *vd_device_name(const struct vd_device *device);
/** vd_device_region() - description; NULL if index >= VD_REGION_COUNT */
const struct vd_region *vd_device_region(const struct vd_device *device, unsigned index);
/** vd_device_irq_count() - vectors of an index, 0 for one that does not exist */
unsigned vd_device_irq_count(const struct vd_device *device, enum vd_irq_index index);

/**
 * vd_device_read(), vd_device_write() - the slow path; each call counted once
 * @length: any; mappable areas are served from their memory (the same bytes as a mapping shows),
 *	the rest by the device
 * Return: 0; -EINVAL no such region; -ERANGE outside it; -EACCES the region does not allow it; -EIO
 *	the host is gone; the device's own error; of a reset that the access asked for. On error a
 *	read gives all ones.
 */
int vd_device_read(struct vd_device *device, unsigned region, vd_region_offset offset, void *data,
		   size_t length);
int vd_device_write(struct vd_device *device, unsigned region, vd_region_offset offset,
		    const void *data, size_t length);

/**
 * vd_device_map_area() - the fast path: (object, offset) of a mappable area (A2, A8: what is not an
 * area of the region cannot be had). The object's type is write-combining for prefetchable regions,
 * else uncached. Takes no lock.
 * Return: 0 and a borrowed object; -EINVAL region; -ERANGE not inside one area; -EOPNOTSUPP nothing
 *	mappable.
 */
int vd_device_map_area(struct vd_device *device, unsigned region, uint64_t offset, uint64_t length,
		       struct vd_host_object **object, uint64_t *object_offset);

/** vd_device_group() - the group, or NULL where nothing of the device needs one. Takes no lock. */
struct vd_group *vd_device_group(const struct vd_device *device);
/**
 * vd_device_each_neighbour() - regions of whatever device in the memory object of a mappable region
 *
 * @fn is called with the group's lock held: it must not create, put or take anything.
 * Return: what the last @fn returned, else 0.
 */
int vd_device_each_neighbour(struct vd_device *device, unsigned region,
			     int (*fn)(void *context, const struct vd_region_neighbour *neighbour),
			     void *context);
/**
 * vd_device_claimed() - what of its BAR memory is kept for a mappable region alone: itself, and
 * padding. In the numbers of @memory_offset
 */
struct vd_region_area vd_device_claimed(const struct vd_device *device, unsigned region);

/**
 * vd_irq_sink - where an interrupt goes; called with the device's lock held: must not call the
 * device
 */
typedef void (*vd_irq_sink)(void *context, enum vd_irq_index index, unsigned vector, bool level);
/**
 * vd_device_set_sink() - for all vectors of an index; NULL to disconnect
 *
 * On return the old one is not called any more. The new one is told at once if INTx is asserted.
 * Sinks of several indexes may be connected at once: who emulates the registers knows which counts.
 * Return: 0, -EINVAL; -EBUSY a client has descriptors of this index set.
 */
int vd_device_set_sink(struct vd_device *device, enum vd_irq_index index, vd_irq_sink sink,
		       void *context);

/**
 * struct vd_irq_info - as VFIO_DEVICE_GET_IRQ_INFO says it
 * @flags: VFIO_IRQ_INFO_* of linux/vfio.h. MSI-X can grow while it is on, so it has no NORESIZE, as
 *	in the kernel where the platform can
 * @count: vectors; 0: there is no such interrupt
 */
struct vd_irq_info {
	uint32_t flags, count;
};
/**
 * vd_device_irq_info() - takes no lock
 * Return: 0; -EINVAL no such index, or ERR or REQ of a device that has none: as the kernel's of a
 * device without PCI Express has no ERR. A count of 0 is a mistake there to QEMU, and a warning.
 */
int vd_device_irq_info(const struct vd_device *device, unsigned index, struct vd_irq_info *info);

/**
 * vd_device_set_irqs() - VFIO_DEVICE_SET_IRQS, for every transport
 * @flags: one VFIO_IRQ_SET_DATA_*, one VFIO_IRQ_SET_ACTION_*
 * @index, @start, @count: which; @count 0 with DATA_NONE and ACTION_TRIGGER disables all of @index
 * @data: @count bytes of DATA_BOOL, else ignored
 * @fds: of DATA_EVENTFD: @count eventfds, -1 to take one away; duplicated. NULL: -1 for all
 *
 * As vfio-pci does it. INTx, MSI and MSI-X exclude each other: one has to be disabled before
 * another is set. INTx that fires is masked by that and fires again if it is still asserted when
 * unmasked. What is raised beyond the vectors that MSI was enabled with arrives at one of those, by
 * the low bits of its number. Of MSI-X, what was raised without a descriptor while the index is on
 * fires when one is set: a masked vector stays pending. DATA_NONE and DATA_BOOL with ACTION_TRIGGER
 * signal what is set (loop-back).
 *
 * Other than the kernel: a descriptor that is refused leaves everything as it was, where the kernel
 * has emptied the range by then. And an eventfd whose counter somebody has filled to the brim stops
 * the thread that raises, unless it is O_NONBLOCK. Blocking or not belongs to the client's side as
 * well, so it is left as it is: a transport whose client is not trusted sets it.
 *
 * Return: 0; -EINVAL unknown flags, not exactly one data type, no such index or vector, another
 *	index is on, an eventfd that is none, MSI beyond the vectors that were enabled at first,
 *	loop-back or unmasking of what is not on; -ENOTTY an action that the index does not have;
 *	-ERANGE MSI or MSI-X of no vectors; -EBADF not open; -EMFILE, -ENOMEM; -EBUSY a sink of this
 *	index is connected, or there is an unmask descriptor already. On error nothing has changed.
 */
int vd_device_set_irqs(struct vd_device *device, uint32_t flags, unsigned index, unsigned start,
		       unsigned count, const void *data, const int *fds);
/** vd_device_clear_irqs() - the client is gone: what it has set is taken away. Cannot fail */
void vd_device_clear_irqs(struct vd_device *device);
/**
 * vd_device_unmask_fd() - the eventfd by which a client unmasks INTx (DATA_EVENTFD, ACTION_UNMASK)
 *
 * Whoever waits for the client's messages waits for this as well. It changes with
 * vd_device_set_irqs() and vd_device_clear_irqs() only.
 * Return: the device's descriptor, or -1. Takes no lock.
 */
int vd_device_unmask_fd(const struct vd_device *device);
/** vd_device_unmask_poll() - unmasks INTx if that descriptor was signalled; never waits for it */
void vd_device_unmask_poll(struct vd_device *device);

/**
 * vd_device_reset() - zap every mapping of its BARs in every mirror, reset, let accesses re-fault
 *
 * Ends a migration: the device then runs.
 * Return: 0; -errno of a mirror that could not let go (-EBUSY: another device's DMA into the BAR):
 *	nothing has changed.
 */
int vd_device_reset(struct vd_device *device, enum vd_reset_kind kind);
/**
 * vd_device_quiesce() - nests; ended by as many vd_device_resume(). Return: 0, the device's error.
 */
int vd_device_quiesce(struct vd_device *device);
void vd_device_resume(struct vd_device *device);
/** vd_device_poll() - cheap when not busy: one relaxed load, no lock */
void vd_device_poll(struct vd_device *device);
/** vd_device_poll_fd() - the descriptor to wait for while busy, else -1. Takes no lock. */
int vd_device_poll_fd(const struct vd_device *device);
/**
 * vd_device_save() - appends the device's state to the stream; quiesces it meanwhile
 * Return: 0; -ENOMEM; the device's error. On error the stream is marked as failed.
 */
int vd_device_save(struct vd_device *device, struct vd_stream *stream);
/**
 * vd_device_load() - takes the next state off the stream; quiesces the device meanwhile
 *
 * INTx is then asserted as it was, and MSI-X vectors that were pending are. What a client has set
 * by vd_device_set_irqs() is no part of the state, and stays.
 * Return: 0; -EINVAL not the state of such a device, cut off, or the device refuses it; its error.
 *	On error nothing has changed.
 */
int vd_device_load(struct vd_device *device, struct vd_stream *stream, struct vd_error *error);

/**
 * struct vd_device_stats - counters since creation
 * @trapped_reads, @trapped_writes: calls that took the slow path, by region
 * @interrupts: raised, whether or not somebody listened
 * @resets: through vd_device_reset()
 */
struct vd_device_stats {
	uint64_t trapped_reads[VD_REGION_COUNT], trapped_writes[VD_REGION_COUNT];
	uint64_t interrupts, resets;
};
/** vd_device_stats() - takes no lock */
void vd_device_stats(const struct vd_device *device, struct vd_device_stats *stats);

/**
 * vd_device_counters() - what the device counts by itself, "commands" for instance
 * @report: called for each, with the device's lock held; @name is a string that stays
 */
void vd_device_counters(struct vd_device *device,
			void (*report)(void *to, const char *name, uint64_t value), void *to);
/* ---- migration ------------------------------------------------------------------------------ */

/**
 * enum vd_migration_state - the numbers of enum vfio_device_mig_state
 *
 * In all but RUNNING and PRE_COPY the device is quiesced: it does no DMA, to peers or otherwise,
 * and raises no interrupts. Its registers can be accessed, but whoever writes them while it is
 * copied changes what is copied.
 */
enum vd_migration_state {
	VD_MIGRATION_ERROR, VD_MIGRATION_STOP, VD_MIGRATION_RUNNING, VD_MIGRATION_STOP_COPY,
	VD_MIGRATION_RESUMING, VD_MIGRATION_RUNNING_P2P, VD_MIGRATION_PRE_COPY,
	VD_MIGRATION_PRE_COPY_P2P,
};

/**
 * vd_device_migration_set() - go to a state, by the shortest way, as the kernel combines arcs
 *
 * A migration is one for all users of the device. Entering PRE_COPY, PRE_COPY_P2P, STOP_COPY or
 * RESUMING from another state than these begins a session, whose data vd_device_migration_read()
 * gives or vd_device_migration_write() takes; leaving them ends it, read or not. From RESUMING, the
 * data must be complete by then. Sleeps as vd_device_quiesce(), vd_device_save() and
 * vd_device_load() do; vd_device_reset() leads back to RUNNING from everywhere.
 *
 * Return: 0; with the reason in @error, in the state that was reached on the way (each step is done
 *	or not): -EINVAL no such state, no way to it, or bad data; -EOPNOTSUPP the device has no
 *	save and load; -ENOMEM; the device's error.
 */
int vd_device_migration_set(struct vd_device *device, unsigned state, struct vd_error *error);
/** vd_device_migration_state() - enum vd_migration_state */
unsigned vd_device_migration_state(struct vd_device *device);
/**
 * vd_device_migration_read() - the next bytes of the state, as many as there are
 *
 * In PRE_COPY all of it, as it was on entry; then, in STOP_COPY, what of it has changed since.
 * Return: bytes; 0 at the end; -ENOMSG there are none now, but will be in STOP_COPY; -EINVAL no
 *	state to read in.
 */
ssize_t vd_device_migration_read(struct vd_device *device, void *buffer, size_t length);
/**
 * vd_device_migration_write() - take bytes that another such device gave, in any pieces
 * Return: @length; -EINVAL not RESUMING; -E2BIG more than such a device can have; -ENOMEM. On error
 *	nothing was taken.
 */
ssize_t vd_device_migration_write(struct vd_device *device, const void *buffer, size_t length);
/**
 * vd_device_migration_precopy() - VFIO_MIG_GET_PRECOPY_INFO
 * @initial: bytes that were there on entry and have not been read
 * @dirty: 0: what changed is told in STOP_COPY only
 * Return: 0; -EINVAL not in PRE_COPY or PRE_COPY_P2P.
 */
int vd_device_migration_precopy(struct vd_device *device, uint64_t *initial, uint64_t *dirty);
/** vd_device_migration_size() - bytes that STOP_COPY will have to give, or has; likely no more */
uint64_t vd_device_migration_size(struct vd_device *device);

/**
 * vd_device_feature() - VFIO_DEVICE_FEATURE, for every transport
 * @flags: feature number and VFIO_DEVICE_FEATURE_GET, SET, PROBE
 * @in, @in_length: what follows the flags in the request
 * @out: what follows the flags in the reply; may be @in
 * @out_length: room in (what argsz leaves), used out; 0 on error
 *
 * MIGRATION, MIG_DEVICE_STATE, MIG_DATA_SIZE and DMA_LOGGING_START, STOP, REPORT, in the structs of
 * linux/vfio.h, except that nothing is a pointer: as in vfio-user, START's ranges follow num_ranges
 * and its padding, and REPORT's bitmap follows page_size, in whole words of 64 bits. SET of
 * MIG_DEVICE_STATE gives the state that was reached; data_fd is -1: who has descriptors to give
 * knows from the state whether there is a session.
 *
 * Return: 0; -ENOTTY no such feature of this device; -EINVAL flags, a request or room that is too
 *	short, values that make no sense, logging that is on already, or is not; -EOVERFLOW ranges
 *	that wrap; -E2BIG too many; -ENOMEM; of vd_device_migration_set().
 */
int vd_device_feature(struct vd_device *device, uint32_t flags, const void *in, size_t in_length,
		      void *out, size_t *out_length);

/* ---- state streams: little-endian, length-checked; the first error sticks ------------------- */

/**
 * struct vd_stream - growing (save) or given (load) bytes
 * @env: to save; NULL in a stream to load from
 * @data, @length: the bytes; to load: the caller's
 * @position: of the next get
 * @room: allocated; 0 if @data is the caller's
 * @failed: a put found no memory, or a get went past the end; further ones do nothing, and gets
 *	give zeroes
 */
struct vd_stream {
	const struct vd_env *env;
	uint8_t *data;
	size_t length, position, room;
	bool failed;
};
/** vd_stream_put() - append bytes */
void vd_stream_put(struct vd_stream *stream, const void *data, size_t length);
void vd_stream_put_u64(struct vd_stream *stream, uint64_t value);
/** vd_stream_get() - take bytes; all or zeroes */
void vd_stream_get(struct vd_stream *stream, void *data, size_t length);
uint64_t vd_stream_get_u64(struct vd_stream *stream);
/** vd_stream_fini() - free what puts have allocated; the stream is empty then */
void vd_stream_fini(struct vd_stream *stream);

#ifdef __cplusplus
}
#endif
#endif
