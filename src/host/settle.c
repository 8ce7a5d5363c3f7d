/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When is a discard over? Reading its event lets the caller of madvise(2) go on, and nothing tells
 * when he has taken the pages away. What is faulted in before that may be a doomed page.
 *
 * He takes the lock of the address space for reading before the first page goes and keeps it until
 * the last one went. So: as soon as one page that was there is seen gone, a call of ours that takes
 * the same lock for writing returns only when all are.
 *
 * No page may be seen to go: there was none, they went before the first look, somebody fills them
 * again at once, or it was MADV_FREE, which leaves them (and dooms none: whoever holds one keeps
 * it). Then it takes three steps. The kernel refuses requests with EAGAIN until the caller has
 * woken up. Once this thread has run on every processor after that, he has come as far as the lock:
 * between the two he does not sleep, so another thread gets his processor only behind it. (A kernel
 * that is fully preemptible might stop him right there, and would have to leave him there all the
 * while.) And then the same call as above.
 */
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/foreign.h"

#define PAGEMAP_THERE (UINT64_C(3) << 62) /* present or swapped: Documentation, pagemap.rst */
#define LOOK_NS 1000000u
#define WAKE_NS 20000000u

static uintptr_t sample_address(uintptr_t address, uint64_t length, unsigned i)
{
	uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE), pages = length / size;

	/* the last page among them: pages go in ascending order */
	return address + (pages - 1) * i / (FOREIGN_SAMPLES - 1) * size;
}

uint32_t foreign_sample(const struct vd_foreign *foreign, uintptr_t address, uint64_t length)
{
	uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE);
	uint32_t present = 0;

	for (unsigned i = 0; i < FOREIGN_SAMPLES; i++) {
		uint64_t entry = 0;
		off_t at = (off_t)(sample_address(address, length, i) / size * sizeof(entry));

		if (pread(foreign->pagemap_fd, &entry, sizeof(entry), at) == sizeof(entry) &&
		    entry & PAGEMAP_THERE)
			present |= 1u << i;
	}
	return present;
}

/* Takes the lock of the address space for writing, once. */
static void pass_the_lock(const struct vd_foreign *foreign)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);

	/* two, as a call that changes nothing might be a shortcut */
	mprotect(foreign->page, size, PROT_NONE);
	mprotect(foreign->page, size, PROT_READ | PROT_WRITE);
}

/* The request itself means nothing. */
bool foreign_asleep(const struct vd_foreign *foreign)
{
	struct uffdio_writeprotect request = {
		.range = {.start = (uintptr_t)foreign->page,
			  .len = (uint64_t)sysconf(_SC_PAGESIZE)},
	};

	return ioctl(foreign->fd, UFFDIO_WRITEPROTECT, &request) && errno == EAGAIN;
}

/* RCU would not do: a preemptible one does not wait for code outside of its read sections. */
static void run_everywhere(void)
{
	long count = sysconf(_SC_NPROCESSORS_CONF);
	cpu_set_t before, one;

	if (sched_getaffinity(0, sizeof(before), &before))
		return;
	for (long i = 0; i < count && i < CPU_SETSIZE; i++) {
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		sched_setaffinity(0, sizeof(one), &one); /* fails where nobody of us can run */
	}
	sched_setaffinity(0, sizeof(before), &before);
}

static bool seen_to_go(const struct vd_foreign *foreign, uintptr_t address, uint64_t length,
		       uint32_t present)
{
	uint64_t until = foreign->env->clock_ns(foreign->env) + LOOK_NS;

	if (!present)
		return false;
	do {
		if (present & ~foreign_sample(foreign, address, length))
			return true;
		sched_yield();
	} while (foreign->env->clock_ns(foreign->env) < until);
	return false;
}

bool foreign_settle(const struct vd_foreign *foreign, uintptr_t address, uint64_t length,
		    uint32_t present)
{
	bool seen = seen_to_go(foreign, address, length, present);
	uint64_t until;

	if (!seen) {
		until = foreign->env->clock_ns(foreign->env) + WAKE_NS;
		while (foreign_asleep(foreign) && foreign->env->clock_ns(foreign->env) < until)
			sched_yield();
		run_everywhere();
	}
	pass_the_lock(foreign);
	return seen;
}
