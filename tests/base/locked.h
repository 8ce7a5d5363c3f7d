/* SPDX-License-Identifier: BSD-2-Clause */
/* How much memory of this process is locked, for tests of what holds it. */
#ifndef VIADUCT_TEST_LOCKED_H
#define VIADUCT_TEST_LOCKED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

/*
 * Runs @fn, which returns 0 for good, in a child that may lock @limit bytes, and whose privilege to
 * lock more is gone. Skips the test where locking cannot be seen.
 */
static inline void with_lock_limit(rlim_t limit, int (*fn)(void))
{
	struct rlimit small = {limit, limit};
	pid_t child;
	int status;

	if (!locking_works())
		skip();
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		/* of the thread alone: the child has no other. Not root: nothing to drop */
		if (geteuid() == 0 && syscall(SYS_setresuid, 65534, 65534, 65534))
			_exit(100);
		if (setrlimit(RLIMIT_MEMLOCK, &small))
			_exit(101);
		_exit(fn());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#endif
