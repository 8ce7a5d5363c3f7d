/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `--stress`: a thread that changes the host's side of guest memory while the guest runs: pages
 * move to other frames, pages that the guest never touched are discarded. A guest that keeps
 * checksums must notice nothing.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cli/run.h"

#define PAGE 4096u
#define RUN_PAGES 16u

struct stress {
	struct vd_vm *vm;
	unsigned what;
	_Atomic bool stop;
	pthread_t thread;
	uint64_t random;
};

static uint64_t next_random(struct stress *s)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return s->random;
}

static void *stress_thread(void *argument)
{
	struct stress *s = argument;
	struct vd_host_object *ram = vd_vm_ram(s->vm);
	uint64_t pages = vd_host_object_size(ram) / PAGE;

	while (!atomic_load(&s->stop)) {
		uint64_t page = next_random(s) % (pages - RUN_PAGES);
		uint64_t count = 1 + next_random(s) % RUN_PAGES;

		if (s->what & STRESS_MOVE)
			vd_host_object_move(ram, page * PAGE, count * PAGE, true);
		if (s->what & STRESS_DISCARD)
			vd_host_object_discard_unused(ram, page * PAGE, count * PAGE, true);
		sched_yield();
	}
	return NULL;
}

int stress_start(struct vd_vm *vm, unsigned what, struct stress **result, struct vd_error *error)
{
	struct stress *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return vd_error_set(error, -ENOMEM, "out of memory for the stress thread");
	s->vm = vm;
	s->what = what;
	s->random = 0x9e3779b97f4a7c15ull;
	rc = -pthread_create(&s->thread, NULL, stress_thread, s);
	if (rc) {
		free(s);
		return vd_error_set(error, rc, "cannot start the stress thread: %s", strerror(-rc));
	}
	*result = s;
	return 0;
}

void stress_stop(struct stress *s)
{
	if (!s)
		return;
	atomic_store(&s->stop, true);
	pthread_join(s->thread, NULL);
	free(s);
}
