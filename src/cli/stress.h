/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of `--stress`. */
#ifndef CLI_STRESS_H
#define CLI_STRESS_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "cli/run.h"

#define STRESS_PAGE 4096u
#define STRESS_RUN 16u /* pages at most that one change is about */

struct stress {
	struct vd_vm *vm;
	unsigned what;
	_Atomic bool stop;
	_Atomic uint64_t random;
	pthread_t threads[3];
	unsigned count;
};

uint64_t stress_random(struct stress *s);
bool stress_goes_on(struct stress *s);

/* stress_foreign.c: threads */
void *stress_foreign_memory(void *stress);
void *stress_other_mappings(void *stress);

#endif
