/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The environment of the threads: memory that is put back for each run, and locks, sleep and read
 * sections that are the scheduler's own.
 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- memory ---------------------------------------------------------- */

#define ARENA_BYTES (64u << 20)
#define FREED_MAX 256u

static char *arena, *kept;
static size_t arena_used, arena_kept, arena_dirty;
static struct freed {
	uintptr_t start, end;
} freed[FREED_MAX];
static unsigned freed_count;
/* What a thread allocates of this size is a buffer to copy through: clearing it costs too much. */
static _Alignas(64) char scratch[64u << 10];
static int (*inject_hook)(const struct vd_env *env, const char *site);

void memory_clear(void)
{
	if (!arena) {
		arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (arena == MAP_FAILED)
			abort();
	}
	memset(arena, 0, arena_dirty);
	arena_used = arena_dirty = 0;
	freed_count = 0;
	inject_hook = NULL;
}

void memory_keep(void)
{
	free(kept);
	kept = malloc(arena_used ? arena_used : 1);
	if (!kept)
		abort();
	memcpy(kept, arena, arena_used);
	arena_kept = arena_used;
	freed_count = 0;
}

void memory_restore(void)
{
	memcpy(arena, kept, arena_kept);
	if (arena_dirty > arena_kept)
		memset(arena + arena_kept, 0, arena_dirty - arena_kept);
	arena_used = arena_dirty = arena_kept;
	freed_count = 0;
}

bool memory_is_freed(const void *p)
{
	for (unsigned i = 0; i < freed_count; i++)
		if ((uintptr_t)p - freed[i].start < freed[i].end - freed[i].start)
			return true;
	return false;
}

static void *env_allocate(const struct vd_env *env, size_t size, size_t align)
{
	uintptr_t at = ((uintptr_t)arena + arena_used + align - 1) & ~(uintptr_t)(align - 1);
	size_t end = at - (uintptr_t)arena + size;

	(void)env;
	if (running != NOBODY && size >= sizeof(scratch))
		return scratch;
	/* a gap, so that nothing is ever next to something else's end */
	if (end + 64 > ARENA_BYTES)
		abort();
	arena_used = (end + 64 + 15) & ~(size_t)15;
	if (arena_used > arena_dirty)
		arena_dirty = arena_used;
	return (void *)at;
}

static void env_release(const struct vd_env *env, void *p, size_t size)
{
	(void)env;
	if (!p || running == NOBODY || p == scratch)
		return;
	if (freed_count == FREED_MAX)
		abort();
	freed[freed_count++] = (struct freed){(uintptr_t)p, (uintptr_t)p + size};
	explore_freed(p, size);
}

static int env_inject(const struct vd_env *env, const char *site)
{
	return inject_hook && running != NOBODY ? inject_hook(env, site) : 0;
}

void interleave_set_inject(int (*inject)(const struct vd_env *env, const char *site))
{
	inject_hook = inject;
}

/* ---- locks ----------------------------------------------------------- */

/* In the room of a vd_lock: who holds it, counted from 1; 0: nobody. Then how many share it. */
static unsigned *owner_of(const void *lock)
{
	return (unsigned *)(uintptr_t)lock;
}

static unsigned *sharers_of(const void *lock)
{
	return owner_of(lock) + 1;
}

static void env_lock_init(const struct vd_env *env, struct vd_lock *lock)
{
	(void)env;
	*owner_of(lock) = *sharers_of(lock) = 0;
}

static void env_lock(const struct vd_env *env, struct vd_lock *lock)
{
	(void)env;
	INTERLEAVE_POINT(LOCK, lock, "lock");
	if (running == NOBODY && (*owner_of(lock) || *sharers_of(lock)))
		abort();
	*owner_of(lock) = running + 1;
}

static void env_unlock(const struct vd_env *env, struct vd_lock *lock)
{
	(void)env;
	interleave_check(*owner_of(lock) == running + 1, "a lock is dropped by who has it not");
	*owner_of(lock) = 0;
	explore_unlocked(lock);
}

void interleave_share(struct vd_lock *lock)
{
	INTERLEAVE_POINT(SHARE, lock, "share");
	++*sharers_of(lock);
}

void interleave_unshare(struct vd_lock *lock)
{
	interleave_check(*sharers_of(lock) > 0, "a lock is dropped by who has it not");
	--*sharers_of(lock);
	explore_unshared(lock);
}

/* ---- sleep ----------------------------------------------------------- */

static void env_wait(const struct vd_env *env, _Atomic uint32_t *word, uint32_t seen)
{
	(void)env;
	interleave_check(running != NOBODY && !threads[running].sections,
			 "sleeps in a read section");
	INTERLEAVE_POINT(WAIT, word, "wait");
	if (*word != seen)
		return;
	threads[running].woken = false;
	INTERLEAVE_POINT(WOKEN, word, "woken");
}

static void env_wake(const struct vd_env *env, _Atomic uint32_t *word)
{
	(void)env;
	INTERLEAVE_POINT(WAKE, word, "wake");
	for (unsigned i = 0; i < thread_count; i++)
		if (threads[i].pending.kind == INTERLEAVE_WOKEN &&
		    threads[i].pending.object == (const void *)word && !threads[i].woken) {
			threads[i].woken = true;
			explore_let_go(i);
		}
}

void interleave_await(_Atomic uint32_t *word, bool (*holds)(uint32_t value))
{
	if (running == NOBODY)
		return;
	threads[running].holds = holds;
	INTERLEAVE_POINT(AWAIT, word, "await");
}

/* ---- read sections --------------------------------------------------- */

#define DEFERRED_MAX 64u

static struct deferred {
	struct vd_deferred *item;
	void (*fn)(struct vd_deferred *item);
	unsigned readers; /* whose sections are waited for */
} deferred[DEFERRED_MAX];
static unsigned deferred_count;
static const char sections; /* the object of all read sections */

void deferred_forget(void)
{
	deferred_count = 0;
}

static unsigned readers_now(void)
{
	unsigned readers = 0;

	for (unsigned i = 0; i < thread_count; i++)
		if (threads[i].sections)
			readers |= 1u << i;
	return readers;
}

/* As early as it is allowed: that is when a mistake shows. */
static void deferred_run(void)
{
	for (unsigned i = 0; i < deferred_count; i++) {
		struct deferred call = deferred[i];

		if (call.readers || !call.fn)
			continue;
		deferred[i].fn = NULL;
		call.fn(call.item);
	}
}

static void env_read_enter(const struct vd_env *env)
{
	(void)env;
	if (running == NOBODY)
		return;
	if (!threads[running].sections)
		INTERLEAVE_POINT(ENTER, &sections, "read section");
	threads[running].sections++;
}

static void env_read_leave(const struct vd_env *env)
{
	unsigned bit = 1u << running;

	(void)env;
	if (running == NOBODY || --threads[running].sections)
		return;
	for (unsigned i = 0; i < thread_count; i++) {
		if (!(threads[i].synchronizes & bit))
			continue;
		threads[i].synchronizes &= ~bit;
		explore_let_go(i);
	}
	for (unsigned i = 0; i < deferred_count; i++)
		deferred[i].readers &= ~bit;
	deferred_run();
}

static void env_synchronize(const struct vd_env *env)
{
	(void)env;
	if (running == NOBODY)
		return;
	interleave_check(!threads[running].sections, "a grace period inside a read section");
	INTERLEAVE_POINT(SYNCHRONIZE, &sections, "synchronize");
	threads[running].synchronizes = readers_now();
	INTERLEAVE_POINT(SYNCHRONIZED, &sections, "synchronized");
}

static void env_defer(const struct vd_env *env, struct vd_deferred *item,
		      void (*fn)(struct vd_deferred *item))
{
	(void)env;
	if (running == NOBODY) {
		fn(item);
		return;
	}
	INTERLEAVE_POINT(DEFER, &sections, "defer");
	if (deferred_count == DEFERRED_MAX)
		abort();
	deferred[deferred_count++] = (struct deferred){item, fn, readers_now()};
	deferred_run();
}

static uint64_t env_clock(const struct vd_env *env)
{
	(void)env;
	return 0;
}

const struct vd_env interleave_env = {
	.allocate = env_allocate,
	.release = env_release,
	.clock_ns = env_clock,
	.inject = env_inject,
	.lock_init = env_lock_init,
	.lock_destroy = env_lock_init,
	.lock = env_lock,
	.unlock = env_unlock,
	.wait = env_wait,
	.wake = env_wake,
	.read_enter = env_read_enter,
	.read_leave = env_read_leave,
	.synchronize = env_synchronize,
	.defer = env_defer,
};

bool op_enabled(unsigned thread)
{
	const struct interleave_thread *t = &threads[thread];

	if (t->finished)
		return false;
	switch (t->pending.kind) {
	case INTERLEAVE_LOCK:
		return !*owner_of(t->pending.object) && !*sharers_of(t->pending.object);
	case INTERLEAVE_SHARE:
		return !*owner_of(t->pending.object);
	case INTERLEAVE_WOKEN:
		return t->woken;
	case INTERLEAVE_SYNCHRONIZED:
		return !t->synchronizes;
	case INTERLEAVE_AWAIT:
		return t->holds(*(const uint32_t *)t->pending.object);
	default:
		return true;
	}
}
