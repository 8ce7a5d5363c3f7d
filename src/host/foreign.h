/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the detector of changes to foreign memory. */
#ifndef VIADUCT_HOST_FOREIGN_H
#define VIADUCT_HOST_FOREIGN_H

#include <pthread.h>

#include <viaduct/foreign.h>

#include "host/object.h"

#define FOREIGN_RANGES 32u  /* that one batch of events may touch */
#define FOREIGN_SAMPLES 16u /* pages of a range that are watched for the end of a discard */

/* An object in the batch that is worked on; the whole of it is invalid while @started. */
struct foreign_entry {
	struct vd_host_object *object;
	struct vd_invalidation whole;
	bool started;
	bool keep; /* to the end of the batch: a part of it could not be told apart */
};

/* A piece of an object that an event was about. */
struct foreign_range {
	struct vd_invalidation event;
	uintptr_t address;
	bool started;
	uint32_t present; /* samples that were there right after the event was read */
};

/* What the monitor alone uses. */
struct foreign_batch {
	struct foreign_entry entries[VD_FOREIGN_OBJECTS_MAX];
	unsigned entry_count;
	struct foreign_range ranges[FOREIGN_RANGES];
	unsigned range_count;
	bool reused;
	bool coarse; /* more ranges than there is room for: those objects stay invalid as a whole */
};

struct vd_foreign {
	const struct vd_env *env;
	struct vd_host *host;
	_Atomic uint32_t references; /* the creator's, and one an object */
	int fd; /* userfaultfd; an inert descriptor once it was given up; negative: there is none */
	int stop_fd, inert_fd, pagemap_fd;
	char *page; /* of our own: for calls that shall only take the lock of the address space */
	uint64_t limit_ns;

	/*
	 * Never held while anything is waited for but @idle, nor over a call that raises an event.
	 * Comes after all other locks.
	 */
	pthread_mutex_t lock;
	pthread_cond_t idle;
	bool open; /* events are read; false before, and once destroyed */
	bool busy; /* the monitor uses the objects */
	bool dead; /* it does not exist any more */
	struct vd_host_object *objects[VD_FOREIGN_OBJECTS_MAX];
	unsigned count;

	pthread_mutex_t alive; /* robust; the monitor's as long as it lives */
	pthread_t monitor, watchdog;
	bool running;
	_Atomic bool stop, lost, released;
	_Atomic uint64_t busy_since; /* 0: it waits for events */
	_Atomic uint64_t discards, unmaps, remaps, unsettled;
	struct foreign_batch batch;
};

/* monitor.c: the threads. Return: 0, or -errno; then none runs. */
int foreign_start(struct vd_foreign *foreign);
void foreign_stop(struct vd_foreign *foreign);
/* The memory of all objects is dead. Lock held. */
void foreign_empty_all(struct vd_foreign *foreign);

/* foreign.c: nobody waits for an event to be read any more, nor will. Lock held. */
void foreign_release_waiters(struct vd_foreign *foreign);

/* settle.c: from the reading of an event to the end of what it announced */
uint32_t foreign_sample(const struct vd_foreign *foreign, uintptr_t address, uint64_t length);
/* Whether a caller waits for the reading of his event, or has not woken up yet. */
bool foreign_asleep(const struct vd_foreign *foreign);
/* Returns when the pages are gone. Return: false if none was seen to go. */
bool foreign_settle(const struct vd_foreign *foreign, uintptr_t address, uint64_t length,
		    uint32_t present);

#endif
