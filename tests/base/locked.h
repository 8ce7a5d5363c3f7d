/* SPDX-License-Identifier: BSD-2-Clause */
/* How much memory of this process is locked, for tests of what holds it. */
#ifndef VIADUCT_TEST_LOCKED_H
#define VIADUCT_TEST_LOCKED_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline long locked_bytes(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	long kilobytes = -1;
	char line[128];

	assert_non_null(file);
	while (kilobytes < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, "VmLck:", 6))
			kilobytes = strtol(line + 6, NULL, 10);
	fclose(file);
	assert_true(kilobytes >= 0);
	return kilobytes << 10;
}

/* Sanitizers make mlock() do nothing: then what is locked cannot be seen. */
static inline bool locking_works(void)
{
	long size = sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long before = locked_bytes();
	bool works;

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mlock(p, (size_t)size), 0);
	works = locked_bytes() == before + size;
	munmap(p, (size_t)size);
	return works;
}

static inline void assert_locked(long bytes)
{
	static int works = -1;

	if (works < 0)
		works = locking_works();
	if (works)
		assert_int_equal(locked_bytes(), bytes);
}

struct limited {
	int (*fn)(void);
	int result;
};

/* The system call itself: of this thread alone. Not root: nothing to drop. */
static inline void *run_limited(void *context)
{
	struct limited *limited = context;

	if (geteuid() == 0 && syscall(SYS_setresuid, 65534, 65534, 65534))
		limited->result = 100;
	else
		limited->result = limited->fn();
	return NULL;
}

/*
 * Runs @fn, which returns 0 for good, on a thread whose privilege to lock more is gone, while the
 * process may lock @limit bytes. Skips the test where locking cannot be seen. Not in a child: a
 * host is bound to its process.
 */
static inline void with_lock_limit(rlim_t limit, int (*fn)(void))
{
	struct limited limited = {.fn = fn};
	struct rlimit before, small;
	pthread_t thread;

	if (!locking_works())
		skip();
	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &before), 0);
	small = (struct rlimit){limit, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &small), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_limited, &limited), 0);
	pthread_join(thread, NULL);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &before), 0);
	assert_int_equal(limited.result, 0);
}

#endif
