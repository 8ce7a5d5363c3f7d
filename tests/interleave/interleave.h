/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A controlled scheduler: runs two to four threads as coroutines and tries every interleaving of
 * what they do to shared memory, the real sources being compiled with instrument.h.
 *
 * How the search stays small and yet exhaustive: two schedules that differ only in the order of
 * steps which do not touch the same thing have the same outcome, and one of them is enough.
 * Dynamic partial-order reduction by source sets (Abdulla and others, POPL 2014) with sleep sets
 * finds at least one of each class. A step is one atomic operation, lock, wait, wake, start of a
 * read section or grace period, on something that more than one thread uses and one writes, and the
 * thread's own computation up to its next one. Plain accesses must be free of data races (the
 * stress tests under ThreadSanitizer see to that); memory is sequentially consistent; a sleeper
 * does not wake by itself, so that a lost wake-up is a deadlock.
 * Memory that was given back is never used again within a run: whoever touches it is caught.
 */
#ifndef VIADUCT_TESTS_INTERLEAVE_H
#define VIADUCT_TESTS_INTERLEAVE_H

#include "instrument.h"

#include <stdint.h>

#include <viaduct/base.h>

#define INTERLEAVE_THREADS 4u

/*
 * One small program. All memory that its threads share comes from the environment: what is there
 * after @set_up is put back before each schedule.
 * @set_up: not scheduled; returns what the other functions get
 * @run: the threads' functions; the first NULL ends the list
 * @names: of the threads, for people
 * @finish: not scheduled: checks what must hold when all threads have ended; may be NULL
 */
struct interleave_case {
	const char *name;
	void *(*set_up)(const struct vd_env *env);
	void (*run[INTERLEAVE_THREADS])(void *context);
	const char *names[INTERLEAVE_THREADS];
	void (*finish)(void *context);
};

/*
 * @failed: a check did not hold, a deadlock, ...; @text says what, @schedule how it came about
 * @complete: no schedule is left that could differ
 * @schedules: that ran to the end; @cut: given up as the same as others
 */
struct interleave_result {
	bool failed, complete;
	uint64_t schedules, cut, steps;
	unsigned longest;
	double seconds;
	char text[256];
	char schedule[16384];
};

/* Tries all schedules, or as many as fit into @seconds (of CPU); ends at the first that fails. */
void interleave_explore(const struct interleave_case *test, double seconds,
			struct interleave_result *result);
/* The same without any reduction: what the reduction is tested against. */
void interleave_explore_naively(const struct interleave_case *test, double seconds,
				struct interleave_result *result);
/* Tries @count schedules by chance: for cases too large to explore. */
void interleave_sample(const struct interleave_case *test, uint64_t seed, uint64_t count,
		       double seconds, struct interleave_result *result);

/* ---- for set_up and the threads ------------------------------------------------------------- */

/* The environment's inject callback, for changes that have no better place to look at. */
void interleave_set_inject(int (*inject)(const struct vd_env *env, const char *site));
/* A counter that orders nothing and decides nothing: its accesses are no steps. */
void interleave_ignore(const volatile void *start, size_t length);
/*
 * A planted bug: from now on loads of the object give 0, or stores and updates are lost, but for
 * compare-and-swap, which swaps whatever is there. Until the next exploration.
 */
void interleave_spoil(const volatile void *object, enum interleave_kind kind);
/* Sleeps until @holds(word), a step that reads the word. */
void interleave_await(_Atomic uint32_t *word, bool (*holds)(uint32_t value));
/* A lock of the environment held together with others: the step before it is like that of a lock. */
void interleave_share(struct vd_lock *lock);
void interleave_unshare(struct vd_lock *lock);
/* Fails the schedule if @condition is false. */
void interleave_check(bool condition, const char *text);

#endif
