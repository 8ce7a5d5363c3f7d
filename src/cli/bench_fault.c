/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two threads fault pages in, each in its own half, against one thread that does both. Table pages
 * are there and stay: one page of each table is never zapped. They meet by looking at a word, as
 * waking up takes longer than the work; it is short, so that in some repetitions both have a
 * processor for all of it on a machine with other work: the least time is the one that counts.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include "cli/bench_tables.h"

#define PAGE 4096ull
#define TABLE (2ull << 20)

struct half {
	struct vd_mmu *mmu;
	uint64_t gpa, pages, failures;
};

struct pair {
	struct half half[2];
	pthread_t helper;
	sem_t wanted;
	_Atomic uint64_t ready, asked, done; /* rounds */
	bool stop;
};

static void fault_half(struct half *half)
{
	uint64_t failures = 0; /* not in @half, whose cache line both may write */

	for (uint64_t i = 0; i < half->pages; i++) {
		uint64_t gpa = half->gpa + i * PAGE;

		if (gpa & (TABLE - 1))
			failures += vd_mmu_fault(half->mmu, (vd_gpa){gpa}, VD_READ) != 0;
	}
	half->failures += failures;
}

/* Each pair of release and acquire is one between the two threads: what they did to @half. */
static void *help(void *context)
{
	struct pair *pair = context;

	for (uint64_t round = 1;; round++) {
		sem_wait(&pair->wanted);
		if (pair->stop)
			return NULL;
		atomic_store_explicit(&pair->ready, round, memory_order_release);
		while (atomic_load_explicit(&pair->asked, memory_order_acquire) != round)
			;
		fault_half(&pair->half[1]);
		atomic_store_explicit(&pair->done, round, memory_order_release);
	}
}

static void zap_half(const struct half *half)
{
	for (uint64_t at = 0; at < half->pages * PAGE; at += TABLE)
		vd_mmu_zap(half->mmu, (vd_gpa){half->gpa + at + PAGE}, TABLE - PAGE);
}

static void prepare(void *context, uint64_t n)
{
	struct pair *pair = context;

	(void)n;
	for (unsigned i = 0; i < 2; i++) {
		for (uint64_t at = 0; at < pair->half[i].pages * PAGE; at += TABLE)
			pair->half[i].failures +=
				vd_mmu_fault(pair->half[i].mmu,
					     (vd_gpa){pair->half[i].gpa + at}, VD_READ) != 0;
		zap_half(&pair->half[i]);
	}
}

/* Not measured: the other thread is awake when it begins. */
static void prepare_both(void *context, uint64_t n)
{
	struct pair *pair = context;
	uint64_t round = atomic_load_explicit(&pair->asked, memory_order_relaxed) + 1;

	prepare(pair, n);
	sem_post(&pair->wanted);
	while (atomic_load_explicit(&pair->ready, memory_order_acquire) != round)
		sched_yield();
}

static void together(void *context, uint64_t n)
{
	struct pair *pair = context;

	uint64_t round = atomic_load_explicit(&pair->asked, memory_order_relaxed) + 1;

	(void)n;
	atomic_store_explicit(&pair->asked, round, memory_order_release);
	fault_half(&pair->half[0]);
	while (atomic_load_explicit(&pair->done, memory_order_acquire) != round)
		;
}

/* The same number of pages by one thread. */
static void one_thread(void *context, uint64_t n)
{
	struct pair *pair = context;

	(void)n;
	fault_half(&pair->half[0]);
	fault_half(&pair->half[1]);
}

/* Each on a processor of its own, or the kernel leaves both where the one woke the other. */
static void spread(pthread_t first, pthread_t second)
{
	pthread_t threads[] = {first, second};
	cpu_set_t allowed, one;
	unsigned next = 0;

	if (pthread_getaffinity_np(first, sizeof(allowed), &allowed))
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE && next < 2; cpu++) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		pthread_setaffinity_np(threads[next++], sizeof(one), &one);
	}
}

int bench_fault_parallel(struct bench *bench, struct vd_mmu *mmu, uint64_t gpa, uint64_t size,
			 struct vd_error *error)
{
	uint64_t pages = 2 * TABLE / PAGE;
	struct pair pair = {.half = {{mmu, gpa, pages, 0}, {mmu, gpa + size / 2, pages, 0}}};
	struct bench_case c = {.name = "fault-parallel", .n = 2 * pages, .wall = true,
			       .context = &pair, .prepare = prepare_both, .body = together,
			       .peer = "one thread", .peer_prepare = prepare,
			       .peer_body = one_thread};
	struct bench_result result;
	cpu_set_t before;
	struct bench_extra extras[] = {{"speedup", 0}, {"speedup_min", 0}, {NULL, 0}};

	sem_init(&pair.wanted, 0, 0);
	if (pthread_create(&pair.helper, NULL, help, &pair))
		return vd_error_set(error, -EAGAIN, "no thread");
	pthread_getaffinity_np(pthread_self(), sizeof(before), &before);
	spread(pthread_self(), pair.helper);
	bench_measure(bench, &c, &result);
	pthread_setaffinity_np(pthread_self(), sizeof(before), &before);
	extras[0].value = result.peer.median / result.ours.median;
	extras[1].value = result.peer.least / result.ours.least;
	bench_print(bench, &c, &result, extras);
	pair.stop = true;
	sem_post(&pair.wanted);
	pthread_join(pair.helper, NULL);
	sem_destroy(&pair.wanted);
	if (pair.half[0].failures || pair.half[1].failures)
		return vd_error_set(error, -EIO, "faults failed");
	return 0;
}
