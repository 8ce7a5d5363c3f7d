/* SPDX-License-Identifier: BSD-2-Clause */
/* The environment of an ordinary process: libc, POSIX threads, Linux futexes, liburcu. */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <urcu/urcu-bp.h>

#include <viaduct/base.h>

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif

#ifdef UNDER_TSAN
/*
 * liburcu is not instrumented: ThreadSanitizer sees neither that a grace period follows the read
 * sections before it nor that a deferred call follows its request. Tell it exactly that much.
 */
#include <sanitizer/tsan_interface.h>
static char grace_period; /* only its address is used */
#define tsan_release(address) __tsan_release(address)
#define tsan_acquire(address) __tsan_acquire(address)
#define GRACE_PERIOD (&grace_period)
#else
#define tsan_release(address) ((void)(address))
#define tsan_acquire(address) ((void)(address))
#define GRACE_PERIOD NULL
#endif

struct deferred_call {
	struct rcu_head head;
	void (*fn)(struct vd_deferred *item);
};

_Static_assert(sizeof(struct deferred_call) <= sizeof(struct vd_deferred), "room of vd_deferred");
_Static_assert(sizeof(pthread_mutex_t) <= sizeof(struct vd_lock), "room of vd_lock");
_Static_assert(_Alignof(pthread_mutex_t) <= _Alignof(struct vd_lock), "alignment of vd_lock");

/* Blocks from here on are zeroed and untouched, whatever their alignment. */
#define BIG_BLOCK ((size_t)1 << 20)

#ifdef __SANITIZE_ADDRESS__
/*
 * The address sanitizer looks for leaks, and for what keeps memory, in the heap only: from there,
 * with the heap's address in front of the block.
 */
static void *allocate_big(size_t size, size_t align)
{
	size_t room;
	char *p, *block;

	if (__builtin_add_overflow(size, align + sizeof(p), &room))
		return NULL;
	p = calloc(1, room);
	if (!p)
		return NULL;
	block = p + sizeof(p);
	block += -(uintptr_t)block & (align - 1);
	memcpy(block - sizeof(p), &p, sizeof(p));
	return block;
}

static void release_big(void *p, size_t size)
{
	void *heap;

	(void)size;
	memcpy(&heap, (char *)p - sizeof(heap), sizeof(heap));
	free(heap);
}
#else
/* Straight from the kernel. */
static void *allocate_big(size_t size, size_t align)
{
	size_t room, head;
	char *p;

	if (__builtin_add_overflow(size, align, &room))
		return NULL;
	p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	head = -(uintptr_t)p & (align - 1);
	/* Whole pages, as @p is at the beginning of one. */
	if (head)
		munmap(p, head);
	p += head;
	room -= head;
	size += -size & ((size_t)sysconf(_SC_PAGESIZE) - 1);
	if (room > size)
		munmap(p + size, room - size);
	return p;
}

static void release_big(void *p, size_t size)
{
	munmap(p, size);
}
#endif

static void *hosted_allocate(const struct vd_env *env, size_t size, size_t align)
{
	void *p;

	(void)env;
	if (size >= BIG_BLOCK)
		return allocate_big(size, align);
	if (align <= _Alignof(max_align_t))
		return calloc(1, size ? size : 1);
	if (posix_memalign(&p, align, size ? size : 1))
		return NULL;
	return memset(p, 0, size);
}

static void hosted_release(const struct vd_env *env, void *p, size_t size)
{
	(void)env;
	if (p && size >= BIG_BLOCK)
		release_big(p, size);
	else
		free(p);
}

static uint64_t hosted_clock_ns(const struct vd_env *env)
{
	struct timespec now;

	(void)env;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static pthread_mutex_t *mutex_of(struct vd_lock *lock)
{
	return (pthread_mutex_t *)(void *)lock->room;
}

static void hosted_lock_init(const struct vd_env *env, struct vd_lock *lock)
{
	(void)env;
	pthread_mutex_init(mutex_of(lock), NULL);
}

static void hosted_lock_destroy(const struct vd_env *env, struct vd_lock *lock)
{
	(void)env;
	pthread_mutex_destroy(mutex_of(lock));
}

static void hosted_lock(const struct vd_env *env, struct vd_lock *lock)
{
	(void)env;
	pthread_mutex_lock(mutex_of(lock));
}

static void hosted_unlock(const struct vd_env *env, struct vd_lock *lock)
{
	(void)env;
	pthread_mutex_unlock(mutex_of(lock));
}

static void hosted_wait(const struct vd_env *env, _Atomic uint32_t *word, uint32_t seen)
{
	int saved = errno;

	(void)env;
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	errno = saved;
}

static void hosted_wake(const struct vd_env *env, _Atomic uint32_t *word)
{
	int saved = errno;

	(void)env;
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	errno = saved;
}

static void hosted_read_enter(const struct vd_env *env)
{
	(void)env;
	urcu_bp_read_lock();
}

static void hosted_read_leave(const struct vd_env *env)
{
	(void)env;
	tsan_release(GRACE_PERIOD);
	urcu_bp_read_unlock();
}

static void hosted_synchronize(const struct vd_env *env)
{
	(void)env;
	urcu_bp_synchronize_rcu();
	tsan_acquire(GRACE_PERIOD);
}

static void run_deferred(struct rcu_head *head)
{
	struct deferred_call *call = caa_container_of(head, struct deferred_call, head);

	tsan_acquire(GRACE_PERIOD);
	tsan_acquire(call);
	call->fn((struct vd_deferred *)(void *)call);
}

static void hosted_defer(const struct vd_env *env, struct vd_deferred *item,
			 void (*fn)(struct vd_deferred *item))
{
	struct deferred_call *call = (struct deferred_call *)(void *)item;

	(void)env;
	call->fn = fn;
	tsan_release(call);
	urcu_bp_call_rcu(&call->head, run_deferred);
}

const struct vd_env *vd_env_hosted(void)
{
	static const struct vd_env hosted = {
		.allocate = hosted_allocate,
		.release = hosted_release,
		.clock_ns = hosted_clock_ns,
		.lock_init = hosted_lock_init,
		.lock_destroy = hosted_lock_destroy,
		.lock = hosted_lock,
		.unlock = hosted_unlock,
		.wait = hosted_wait,
		.wake = hosted_wake,
		.read_enter = hosted_read_enter,
		.read_leave = hosted_read_leave,
		.synchronize = hosted_synchronize,
		.defer = hosted_defer,
	};

	return &hosted;
}

struct drain {
	struct vd_deferred deferred;
	_Atomic uint32_t done;
};

static void drain_done(struct vd_deferred *item)
{
	struct drain *drain = (struct drain *)(void *)item;

	/* release: pairs with vd_env_hosted_drain(), which may return before the wake */
	atomic_store_explicit(&drain->done, 1, memory_order_release);
	hosted_wake(NULL, &drain->done);
}

void vd_env_hosted_drain(void)
{
	struct drain drain = {.done = 0};

	/*
	 * Deferred calls run in order. Not urcu_bp_barrier(): it passes memory between threads in a
	 * way that ThreadSanitizer takes for a race.
	 */
	hosted_defer(NULL, &drain.deferred, drain_done);
	/* acquire: pairs with drain_done() */
	while (!atomic_load_explicit(&drain.done, memory_order_acquire))
		hosted_wait(NULL, &drain.done, 0);
}
