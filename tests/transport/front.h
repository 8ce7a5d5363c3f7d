/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ways to a device, one table: in process; a client by hand at our vfio-user server; our client
 * there. The tests of devices are written once, against this.
 */
#ifndef VIADUCT_TESTS_TRANSPORT_FRONT_H
#define VIADUCT_TESTS_TRANSPORT_FRONT_H

#include "../base/test_env.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <linux/vfio.h>

#include <viaduct/device.h>
#include <viaduct/vfio_user.h>

#include "user/wire.h"

#define FRONT_RAM UINT64_C(0x100000)
#define FRONT_RAM_SIZE (UINT64_C(64) << 12)
#define FRONT_PAGE UINT64_C(4096)

struct front;

/**
 * struct front_device - a device, and what the tests have to know of it
 * @scratch: a register that keeps what is written, which is @value, until reset
 * @store: have it store @length bytes, of which not all are 0xa5, by DMA, and wait until it has.
 *	Return: 0; that it failed, which it may keep for itself: @silent
 * @sum: have it load bytes by DMA. Return: their sum
 * @intx: assert INTx, or lower it
 * @raise: MSI-X, of @vectors
 */
struct front_device {
	const char *name;
	int (*create)(struct front *f, const struct vd_env *env, struct vd_host *host,
		      struct vd_dma_space *space, struct vd_device **device);
	struct { unsigned region; uint64_t offset; uint32_t length; uint64_t value; } scratch;
	int (*store)(struct front *f, uint64_t address, uint32_t length);
	bool silent;
	uint64_t (*sum)(struct front *f, uint64_t address, uint32_t length);
	void (*intx)(struct front *f, bool level);
	unsigned vectors;
	void (*raise)(struct front *f, unsigned vector);
};

struct front_ops {
	const char *name;
	void (*open)(struct front *f);
	void (*close)(struct front *f);
	/* As vd_device_read() and so on; errors may differ. */
	int (*read)(struct front *f, unsigned region, uint64_t offset, void *data, uint32_t length);
	int (*write)(struct front *f, unsigned region, uint64_t offset, const void *data,
		     uint32_t length);
	uint64_t (*size)(struct front *f, unsigned region);
	/* Mapped, to be unmapped; NULL: it cannot be. */
	void *(*map)(struct front *f, unsigned region, uint64_t offset, uint64_t length);
	int (*set_irqs)(struct front *f, uint32_t flags, unsigned index, unsigned start,
			unsigned count, const int *fds);
	int (*reset)(struct front *f);
	/* The client's memory from FRONT_RAM on, for the device's DMA: all of it, or none. */
	int (*dma_map)(struct front *f);
	int (*dma_unmap)(struct front *f);
	/* VFIO_DEVICE_FEATURE: what follows the flags; @out_length: room, then what came */
	int (*feature)(struct front *f, uint32_t flags, const void *in, size_t in_length, void *out,
		       size_t *out_length);
	/* Quiesce and go on; state out of the device, *@length bytes of room at first, and into it */
	int (*stop)(struct front *f);
	void (*go)(struct front *f);
	int (*save)(struct front *f, unsigned char *bytes, size_t *length);
	int (*load)(struct front *f, const unsigned char *bytes, size_t length);
	bool guest; /* sees what a guest's bridge sees: one kind of interrupt; no features */
};

struct front {
	const struct front_ops *ops;
	const struct front_device *kind;
	struct test_env test;
	int descriptors;
	int ram_fd;
	unsigned char *bytes; /* of the client's memory */
	/* The client's side; none by hand. */
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	struct vd_dma_space *space;
	uint32_t slot;
	struct vd_device *device; /* that is driven */
	struct wire wire;
	/* The server's; none in process. */
	struct vd_host *server_host;
	struct vd_dma_space *server_space;
	struct vd_user_server *server;
	pthread_t thread;
	char path[80];
	struct vd_device *real; /* what it comes down to */
	char image[64];
	_Atomic unsigned released;
};

extern const struct front_ops *const fronts[];
extern const struct front_device *const front_devices[];

void front_open(struct front *f, const struct front_ops *ops, const struct front_device *kind);
/* Nothing may be left: no memory, no descriptor. */
void front_close(struct front *f);
/* front_fired() - how often an eventfd was signalled since; waits for it if it @must have been */
uint64_t front_fired(struct front *f, int fd, bool must);
/* Of BAR registers; fail the test if it fails. */
uint64_t front_get(struct front *f, uint64_t offset, uint32_t length);
void front_put(struct front *f, uint64_t offset, uint32_t length, uint64_t value);

#endif
