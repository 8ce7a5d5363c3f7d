/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A server with its threads, and what it serves: the *probe*, a device that does what its registers
 * say.
 *
 * BAR 0, trapped, 64-bit registers: a scratch register; address and length of DMA; a command, see
 * PROBE_*; the result of the last one, -errno as two's complement; the sum of the bytes that were
 * read last; how often a register was accessed while a command was inside DMA. BAR 1: four pages of
 * which the first and third can be mapped. BAR 2: two pages, all mappable, prefetchable. ROM: 16
 * bytes, read-only.
 */
#ifndef VIADUCT_TESTS_TRANSPORT_USER_RIG_H
#define VIADUCT_TESTS_TRANSPORT_USER_RIG_H

#include "../../base/test_env.h"

#include <pthread.h>

#include <viaduct/vfio_user.h>

#include "descriptors.h"
#include "wire.h"

#define PAGE UINT64_C(4096)
#define PROBE_BUFFER (256u << 10)
#define RIG_THREADS_MAX 4u

enum { PROBE_SCRATCH, PROBE_ADDRESS, PROBE_LENGTH, PROBE_COMMAND, PROBE_RESULT, PROBE_SUM,
       PROBE_INSIDE, PROBE_REGISTERS = 8 };
/*
 * Commands: read, write (what was read, or a pattern of ones), pin and keep, let go, raise MSI-X
 * vector @length, assert and lower INTx, read in @work, reset, become busy, write back at a poll
 */
enum { PROBE_READ = 1, PROBE_WRITE, PROBE_PIN, PROBE_UNPIN, PROBE_RAISE, PROBE_ASSERT, PROBE_LOWER,
       PROBE_WORK, PROBE_RESET, PROBE_BUSY };

struct probe {
	struct vd_device *device;
	struct vd_dma_space *space;
	uint64_t registers[PROBE_REGISTERS];
	unsigned char buffer[PROBE_BUFFER];
	struct vd_dma_owner owner;
	struct vd_dma_range range;
	struct vd_dma_pin pin;
	pthread_mutex_t pin_lock;
	bool pinned, pinning, unpinning;
	bool inside; /* a command is */
	int event;   /* of a poll */
	_Atomic bool stubborn; /* does not unpin when asked to */
	_Atomic unsigned resets, polls, unpin_requests;
	_Atomic unsigned *released; /* raised */
};

/* probe_create() - Return: as vd_device_create() */
int probe_create(const struct vd_env *env, struct vd_host *host, struct vd_dma_space *space,
		 bool yields, _Atomic unsigned *released, struct probe **probe);

struct rig {
	struct test_env test;
	int descriptors;
	struct vd_host *host;
	struct vd_user_server *server;
	struct vd_user_export *export;
	char directory[64], path[80];
	pthread_t threads[RIG_THREADS_MAX];
	unsigned thread_count;
	bool yields;
	unsigned pin_limit_ms;
	struct vd_dma_space *space; /* of the device that is kept, if any */
	struct probe *probe;	    /* likewise; else the one made last */
	_Atomic unsigned released;
};

/* rig_open() - a host and a server that nobody runs, which gives clients @limit_ms to answer */
void rig_open(struct rig *rig, unsigned limit_ms);
/* rig_keep() - export one probe; rig_make() - one for each client */
void rig_keep(struct rig *rig);
void rig_make(struct rig *rig);
void rig_run(struct rig *rig, unsigned threads);
/* rig_serve() - all of it: a probe that is kept and yields, one thread */
void rig_serve(struct rig *rig);
void rig_stop(struct rig *rig);
/* rig_close() - stops; nothing may be left: no memory, no descriptor */
void rig_close(struct rig *rig);
struct vd_user_server_stats rig_stats(const struct rig *rig);

/* What clients do with the probe; fail the test if it fails. */
void probe_set(struct wire *w, unsigned reg, uint64_t value);
uint64_t probe_get(struct wire *w, unsigned reg);
/* probe_command() - one that needs no client meanwhile. Return: its result */
int probe_command(struct wire *w, unsigned command, uint64_t address, uint64_t length);

/* rig_memory() - a memfd of @size bytes, sealed against shrinking if @sealed, each byte @fill */
int rig_memory(uint64_t size, bool sealed, unsigned char fill);

#endif
