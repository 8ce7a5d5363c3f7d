/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio over PCI for device models: the transport of virtio 1.2, section 4.1, without what only
 * transitional devices have, and split virtqueues (2.7). Registers and structures by the names of
 * the kernel's headers. Everything runs under the device's lock, but where @work says otherwise.
 *
 * Not offered: packed rings, indirect descriptors, event indices, resets of single queues, INTx.
 *
 * A driver is hostile. What it puts into registers is checked when it is put there; every word of a
 * ring is read once, into a copy. A ring that makes no sense stops the device until it is reset
 * (2.1.2, DEVICE_NEEDS_RESET); nothing else of the guest's is touched.
 */
#ifndef VIADUCT_DEVICE_VIRTIO_H
#define VIADUCT_DEVICE_VIRTIO_H

#define VIRTIO_PCI_NO_LEGACY 1
#define VIRTIO_CONFIG_NO_LEGACY 1
#define VIRTIO_RING_NO_LEGACY 1
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#include <viaduct/pci.h>

#define VIRTIO_VENDOR 0x1af4u
#define VIRTIO_DEVICE_BASE 0x1040u /* plus the device's number: 4.1.2 */
#define VIRTIO_QUEUES_MAX 8u
#define VIRTIO_QUEUE_SIZE 256u /* entries, at most */

/*
 * Where things are in BAR 0: registers in the first page of the host, the MSI-X table and its PBA
 * in the next two.
 */
#define VIRTIO_COMMON 0x000u
#define VIRTIO_ISR 0x100u
#define VIRTIO_CONFIG 0x200u
#define VIRTIO_CONFIG_MAX 0x200u
#define VIRTIO_NOTIFY 0x800u
#define VIRTIO_NOTIFY_STEP 4u

/*
 * struct virtio_queue - a split virtqueue as the driver set it up
 * @next_available: index of the chain that is next in the available ring, which has not been used
 * @next_used: index that the next used element gets
 */
struct virtio_queue {
	uint64_t desc, avail, used;
	uint16_t size, vector;
	uint16_t next_available, next_used;
	bool enabled;
};

/* A buffer as the driver described it: of the address is known only that it does not wrap. */
struct virtio_segment {
	uint64_t iova;
	uint32_t length;
	bool writable; /* by the device; else it may only be read */
};

/* struct virtio_chain - descriptors of one request, copied; readable ones come first */
struct virtio_chain {
	uint16_t head;
	uint16_t count;
	struct virtio_segment segments[VIRTIO_QUEUE_SIZE];
};

/*
 * struct virtio_model - what makes a kind of device of it
 * @name: as in struct vd_device_config
 * @id: virtio 1.2, section 5; @class_code: PCI's
 * @queues, @queue_size: how many, and of how many entries; a power of two. One MSI-X vector each,
 *	and one for changes of the configuration
 * @features: offered, VIRTIO_F_VERSION_1 aside
 * @config_size: bytes of device-specific configuration, at most VIRTIO_CONFIG_MAX
 * @config_read, @config_write: of that; inside it
 * @notify: the driver has rung for a queue that is enabled, or it should be looked at for another
 *	reason (the device goes on); only while virtio_runs()
 * @reset: the driver (or the bus) reset the device; queues and features are gone already
 * @quiesce, @poll, @work, @release: as in struct vd_device_ops; optional but @release. @work takes
 *	the lock itself
 * @save, @load: of the model's own state. @load is called after the transport's has been checked,
 *	and before it is taken over: if it returns 0, nothing can fail any more
 */
struct virtio_model {
	const char *name;
	uint16_t id;
	uint32_t class_code;
	unsigned queues;
	uint16_t queue_size;
	uint64_t features;
	uint32_t config_size;
	void (*config_read)(void *context, uint32_t offset, void *data, size_t length);
	void (*config_write)(void *context, uint32_t offset, const void *data, size_t length);
	void (*notify)(void *context, unsigned queue);
	void (*reset)(void *context);
	void (*quiesce)(void *context);
	void (*poll)(void *context);
	void (*work)(void *context);
	void (*release)(void *context);
	void (*save)(void *context, struct vd_stream *stream);
	int (*load)(void *context, struct vd_stream *stream);
};

/* struct virtio - the transport's part of a device; the model's struct embeds it */
struct virtio {
	const struct vd_env *env;
	struct vd_dma_space *space;
	struct vd_device *device; /* NULL until it is made, and at the end */
	const struct virtio_model *model;
	void *context;

	uint32_t device_select, driver_select;
	uint64_t driver_features;
	uint16_t config_vector, queue_select;
	uint8_t status, isr, generation;
	struct virtio_queue queues[VIRTIO_QUEUES_MAX];

	bool bus_master, quiesced;
	bool held;	   /* the model works on a chain without the lock */
	bool reset_wanted; /* meanwhile the driver asked for a reset */
};

/*
 * virtio_create() - the PCI function of a model. @virtio is zeroed; from success on, @release frees
 * what it is part of.
 * Return: 0; what vd_pci_function_create() returns.
 */
int virtio_create(struct virtio *virtio, const struct virtio_model *model, void *context,
		  const struct vd_env *env, struct vd_host *host, struct vd_dma_space *space,
		  struct vd_error *error);

/* virtio_runs() - the driver is ready, may be answered, and nothing is broken */
bool virtio_runs(const struct virtio *virtio);
/* virtio_has() - a feature was negotiated: @bit is its number */
bool virtio_has(const struct virtio *virtio, unsigned bit);
/* virtio_broken() - the driver makes no sense: stop until it resets the device */
void virtio_broken(struct virtio *virtio);
/* virtio_config_changed() - tell the driver that device-specific configuration has changed */
void virtio_config_changed(struct virtio *virtio);
/*
 * virtio_hold(), virtio_let_go() - around what a model does without the lock for a chain that it
 * has taken. Both with the lock held. A driver's reset waits: it is carried out by virtio_let_go().
 * Return: false if it was: the chain, and all else, is gone.
 */
void virtio_hold(struct virtio *virtio);
bool virtio_let_go(struct virtio *virtio);

/* ---- queue.c -------------------------------------------------------------------------------- */

/*
 * virtio_queue_check() - whether a queue's addresses and size make sense (2.7: alignment; no wrap)
 */
bool virtio_queue_check(const struct virtio_queue *queue);
/*
 * virtio_queue_peek() - the next chain that the driver has made available; it stays next
 * Return: true, with @chain filled; false: there is none, or the queue is not enabled, or what is
 *	there is no chain, and the device is broken now.
 */
bool virtio_queue_peek(struct virtio *virtio, unsigned index, struct virtio_chain *chain);
/*
 * virtio_queue_use() - give the chain that was peeked at back, @written bytes of it stored to, and
 * interrupt the driver unless it does not want that
 */
void virtio_queue_use(struct virtio *virtio, unsigned index, const struct virtio_chain *chain,
		      uint32_t written);
/*
 * virtio_chain_read() - copy @length bytes out of the readable part of a chain, @offset bytes in
 * Return: how many there were; -EFAULT, then the device is broken.
 */
long virtio_chain_read(struct virtio *virtio, const struct virtio_chain *chain, uint64_t offset,
		       void *data, size_t length);
/* virtio_chain_readable() - bytes of the readable part */
uint64_t virtio_chain_readable(const struct virtio_chain *chain);

/* ---- transport.c, for state.c ---------------------------------------------------------------- */

/* virtio_interrupt() - @isr: the bit of the ISR status (4.1.4.5); @vector may be "none" */
void virtio_interrupt(struct virtio *virtio, uint8_t isr, uint16_t vector);
/* virtio_notify_all() - have the model look at every queue, if the device runs */
void virtio_notify_all(struct virtio *virtio);

/* ---- state.c -------------------------------------------------------------------------------- */

int virtio_save(void *context, struct vd_stream *stream);
int virtio_load(void *context, struct vd_stream *stream);

#endif
