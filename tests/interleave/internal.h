/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the coroutines (coroutines.c), their environment (env.c) and the search (explore.c). */
#ifndef VIADUCT_TESTS_INTERLEAVE_INTERNAL_H
#define VIADUCT_TESTS_INTERLEAVE_INTERNAL_H

#include "interleave.h"

#define NOBODY INTERLEAVE_THREADS

struct interleave_op {
	enum interleave_kind kind;
	const void *object;
	const char *what, *file;
	int line;
};

struct interleave_thread {
	struct interleave_op pending; /* what it does next */
	bool finished;
	bool woken;
	unsigned sections;    /* read sections, nested */
	unsigned synchronizes; /* threads whose sections it waits for */
	bool (*holds)(uint32_t value);
};

extern struct interleave_thread threads[INTERLEAVE_THREADS];
extern unsigned thread_count;
extern unsigned running; /* thread, or NOBODY: set-up, checks at the end */

/* ---- coroutines.c ---- */

void coroutines_reset(const struct interleave_case *test, void *context);
/* From nobody or a thread to a thread or nobody. */
void coroutines_switch(unsigned to);

/* ---- env.c ---- */

extern const struct vd_env interleave_env;
void memory_clear(void);
void memory_keep(void);	   /* what there is now is what each run begins with */
void memory_restore(void);
bool memory_is_freed(const void *p);
bool op_enabled(unsigned thread);
void deferred_forget(void);

/* ---- explore.c ---- */

/* The running thread has said what comes next, or has ended: returns when it may go on. */
void explore_next(void);
/* Side effects of the running step that others' steps depend on. */
void explore_freed(const void *start, size_t length);
void explore_unlocked(const void *lock);
void explore_unshared(const void *lock);
void explore_let_go(unsigned thread); /* it waited for the running one */

#endif
