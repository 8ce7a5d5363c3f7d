/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sleeping with a limit. The environment has no timed wait, as the freestanding floors need none;
 * from this floor on the world is a Linux process.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "iommu/space.h"

static void wait_for_word(_Atomic uint32_t *word, uint32_t seen, const struct timespec *timeout)
{
	int saved = errno;

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, timeout, NULL, 0);
	errno = saved;
}

bool dma_sleep(struct vd_dma_space *space, uint64_t deadline_ns)
{
	uint32_t seen = atomic_load_explicit(&space->word, memory_order_relaxed);
	uint64_t now = deadline_ns ? space->env->clock_ns(space->env) : 0;
	struct timespec timeout;

	if (deadline_ns && now >= deadline_ns)
		return false;
	timeout.tv_sec = (time_t)((deadline_ns - now) / 1000000000u);
	timeout.tv_nsec = (long)((deadline_ns - now) % 1000000000u);
	space->sleepers++;
	dma_unlock(space);
	wait_for_word(&space->word, seen, deadline_ns ? &timeout : NULL);
	dma_lock(space);
	space->sleepers--;
	return true;
}

void dma_wake(struct vd_dma_space *space)
{
	int saved = errno;

	if (!space->sleepers)
		return;
	atomic_fetch_add_explicit(&space->word, 1, memory_order_relaxed);
	syscall(SYS_futex, &space->word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
	errno = saved;
}
