/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `--stress=foreign`: other code of this process does to memory what it likes: to the guest's own
 * what a guest does not see, and everything else to what is mapped beside it. With private memory
 * that is the guest's RAM itself; the guest must leave the last eighth of it alone (`mem=`).
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/stress.h"

#define READ_WRITE (PROT_READ | PROT_WRITE)

/* Where the guest's RAM is; NULL if it is no private memory. */
static char *private_memory(struct stress *s)
{
	struct vd_host *host = vd_vm_host(s->vm);
	struct vd_host_page page;

	if (vd_host_object_fd(vd_vm_ram(s->vm)) >= 0 ||
	    vd_host_object_lookup(vd_vm_ram(s->vm), 0, VD_READ, &page))
		return NULL;
	return vd_host_pointer(vd_host_window_base(host), page.pfn, vd_host_page_shift(host));
}

/* Nothing of it changes what the guest reads. */
static void unseen_call(char *start, size_t length, unsigned which)
{
	switch (which % 5) {
	case 0:
		madvise(start, length, MADV_COLD);
		break;
	case 1:
		madvise(start, length, MADV_PAGEOUT);
		break;
	case 2: /* splits the mapping and joins it again */
		mprotect(start, length, READ_WRITE | PROT_EXEC);
		mprotect(start, length, READ_WRITE);
		break;
	case 3:
		mlock(start, length);
		munlock(start, length);
		break;
	default:
		madvise(start, length, MADV_WILLNEED);
		break;
	}
}

void *stress_foreign_memory(void *context)
{
	struct stress *s = context;
	uint64_t size = vd_host_object_size(vd_vm_ram(s->vm)), free_size = size / 8;
	char *memory = private_memory(s);

	while (memory && stress_goes_on(s)) {
		size_t length = (1 + stress_random(s) % STRESS_RUN) * STRESS_PAGE;
		uint64_t room = (size - length) / STRESS_PAGE;
		uint64_t free_room = (free_size - length) / STRESS_PAGE;
		char *unused = memory + (size - free_size) +
			stress_random(s) % free_room * STRESS_PAGE;

		for (unsigned i = 0; i < 8; i++)
			unseen_call(memory + stress_random(s) % room * STRESS_PAGE, length,
				    (unsigned)stress_random(s));
		if (stress_random(s) & 1)
			memset(unused, 1, length);
		madvise(unused, length, stress_random(s) & 3 ? MADV_DONTNEED : MADV_FREE);
		mprotect(unused, length, PROT_READ);
		mprotect(unused, length, READ_WRITE);
		sched_yield();
	}
	return NULL;
}

/* A file that its owner cuts while it is mapped, then moved, protected and unmapped. */
static void one_mapping(int fd)
{
	size_t size = STRESS_RUN * STRESS_PAGE;
	char *p = ftruncate(fd, (off_t)size) ? MAP_FAILED
					     : mmap(NULL, size, READ_WRITE, MAP_SHARED, fd, 0);
	char *moved;

	if (p == MAP_FAILED)
		return;
	memset(p, 2, size);
	mprotect(p, size / 2, PROT_READ);
	moved = mremap(p, size, 2 * size, MREMAP_MAYMOVE);
	p = moved == MAP_FAILED ? p : moved;
	mprotect(p, size / 2, READ_WRITE);
	if (ftruncate(fd, 0) == 0)
		madvise(p, size, MADV_DONTNEED);
	munmap(p, moved == MAP_FAILED ? size : 2 * size);
}

void *stress_other_mappings(void *context)
{
	struct stress *s = context;
	int fd = memfd_create("stress", MFD_CLOEXEC);

	while (fd >= 0 && stress_goes_on(s)) {
		one_mapping(fd);
		sched_yield();
	}
	if (fd >= 0)
		close(fd);
	return NULL;
}
