/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A server for tests of the client, as simple as can be, with a thread of its own: it notes what it
 * is told, and lies where it is asked to.
 */
#ifndef VIADUCT_TESTS_TRANSPORT_MOCK_H
#define VIADUCT_TESTS_TRANSPORT_MOCK_H

#include "../../mem/fixture.h"

#include <pthread.h>

#include <viaduct/vfio_user.h>

#include "transport/user/protocol.h"

#define MOCK_MAPS 64u
#define MOCK_VECTORS 40u
#define MOCK_BAR 0x4000u
#define MOCK_BYTES (64u << 10)

/* Registers of BAR 0. Writing 0x10 does a DMA of 4 bytes: @address, 1 read, 2 write @value. */
#define MOCK_VALUE 0x00u
#define MOCK_ADDRESS 0x08u
#define MOCK_GO 0x10u
#define MOCK_FIRE 0x18u /* vector */
#define MOCK_RESULT 0x20u

struct mock;

/* struct mock_reply - what is about to be sent; a lie changes it */
struct mock_reply {
	struct user_header header;
	uint8_t bytes[MOCK_BYTES];
	size_t length;
	int fds[20];
	unsigned fd_count;
	bool none; /* say nothing */
};

/* struct mock_map - a map, as told */
struct mock_map {
	struct user_dma_map told;
	int fd; /* -1 */
};

struct mock {
	int fd, client_fd; /* both ends */
	int twin_fd;	   /* ours, -1 */
	pthread_t thread;

	/* What it is; to be changed before mock_start(). */
	const char *json;
	struct user_version version;
	struct user_device_info info;
	struct user_region_info regions[VD_REGION_COUNT];
	struct user_area areas[VD_REGION_COUNT][8];
	unsigned area_counts[VD_REGION_COUNT];
	int region_fds[VD_REGION_COUNT];
	unsigned irqs[VD_IRQ_COUNT];
	uint64_t migration;
	bool twin;
	bool no_thread; /* mock_serve() does its work; DMA's answers go unread */
	/* Called with each reply that is ready, in the server's thread. */
	void (*lie)(struct mock *mock, const struct user_header *asked, struct mock_reply *reply);
	void *context;

	/* What became of it. */
	pthread_mutex_t lock;
	uint8_t config[4096];
	uint64_t bar[MOCK_BAR / 8];
	struct mock_map maps[MOCK_MAPS];
	unsigned map_count;
	int irq_fds[VD_IRQ_COUNT][MOCK_VECTORS];
	_Atomic unsigned commands[USER_COMMANDS], posted;
	_Atomic uint32_t state;
	uint8_t saved[64];
	size_t saved_length, saved_at;
	int dma_error; /* of the last one */
	bool nests;    /* serves other commands while it waits for an answer */
	struct request *later;
};

/* A device with a BAR of registers (0), and MSI-X of four vectors. */
void mock_init(struct mock *mock);
/* BAR 2: @size bytes of memory in a file, which cannot be cut if it is @sealed. */
void mock_add_memory(struct mock *mock, uint64_t size, bool sealed);
void mock_start(struct mock *mock);
/* Without a thread: all that is there. */
void mock_serve(struct mock *mock);
/* Ends it, and closes all. The client's end is the client's. */
void mock_stop(struct mock *mock);
/* Between requests of the client: fires a vector. */
void mock_fire(struct mock *mock, unsigned index, unsigned vector);
/* A map by address; false: there is none. */
bool mock_find(struct mock *mock, uint64_t address, struct mock_map *map);

/* A host, a guest with RAM at GUEST_RAM, a space that follows, and the server. */
#define MOCK_RAM UINT64_C(0x100000)
struct mock_rig {
	struct fixture f;
	struct vd_dma_space *space;
	uint32_t slot;
	struct mock mock;
	struct vd_user_client_config config;
	struct vd_user_client_info info;
	struct vd_device *device;
	struct vd_error error;
	int descriptors;
	_Atomic unsigned logged;
};

void rig_open(struct mock_rig *rig);
/* rig_renew() - another server and another slot of RAM, as rig_open() left them */
void rig_renew(struct mock_rig *rig);
/* Return: of vd_user_client_create(). */
int rig_start(struct mock_rig *rig);
void rig_close(struct mock_rig *rig);
uint32_t rig_read(struct mock_rig *rig, unsigned region, uint64_t offset);
int rig_write(struct mock_rig *rig, unsigned region, uint64_t offset, uint64_t value,
	      size_t length);

#endif
