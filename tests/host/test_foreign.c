/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The detector of changes to foreign memory, against real system calls of another thread: what is
 * announced, when, and when it is over; and both of its modes.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sys/stat.h>

#include <viaduct/foreign.h>

#include "../base/test_env.h"
#include "../base/locked.h"

#define PAGE UINT64_C(4096)
#define PAGES 64u

static struct test_env test;
static struct vd_host *host;
static struct vd_foreign *foreign;
static struct vd_host_object *object;
static char *memory;

/* A mirror that notes the order of things. */
struct ear {
	struct vd_listener listener;
	_Atomic int starts, ends, releases;
	_Atomic int there;     /* starts at which the watched byte was still what it had been */
	volatile char *byte;
	char was;
	uint64_t fill;	       /* at the end of an event over this offset, store into the page */
	_Atomic int filled;
	_Atomic int active;
	_Atomic int order; /* what the kernel's order of things looks like to ThreadSanitizer */
};

static struct ear ear;

static int ear_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	atomic_load(&ear.order);
	atomic_fetch_add(&ear.active, 1);
	atomic_fetch_add(&ear.starts, 1);
	if (ear.byte && *ear.byte == ear.was)
		atomic_fetch_add(&ear.there, 1);
	return 0;
}

static void ear_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	/* what a mirror does as soon as it may: fault the page in again and store to it */
	if (atomic_fetch_sub(&ear.active, 1) == 1 && ear.fill != UINT64_MAX) {
		*(volatile char *)(memory + ear.fill) = 99;
		atomic_fetch_add(&ear.filled, 1);
	}
	atomic_fetch_add(&ear.ends, 1); /* last: settled() waits for it */
}

static void ear_release(struct vd_listener *listener)
{
	(void)listener;
	atomic_fetch_add(&ear.releases, 1);
}

static const struct vd_listener_ops ear_ops = {
	.invalidate_start = ear_start, .invalidate_end = ear_end, .release = ear_release,
};

static void listen(void)
{
	ear = (struct ear){.listener.ops = &ear_ops, .fill = UINT64_MAX};
	assert_int_equal(vd_notifier_register(vd_host_notifier(host), &ear.listener), 0);
}

static char *map_pages(uint64_t pages)
{
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void open_detector(uint64_t limit_ms)
{
	struct vd_foreign_config config = {.host = host, .limit_ms = limit_ms};
	struct vd_error error = {.text = ""};

	if (vd_foreign_create(&config, &foreign, &error))
		fail_msg("%s", error.text);
	if (!vd_foreign_detects(foreign)) {
		print_message("userfaultfd is blocked here\n");
		vd_foreign_destroy(foreign);
		foreign = NULL;
		skip();
	}
}

static int set_up(void **state)
{
	struct vd_host_config config = {.env = &test.env, .window_size = UINT64_C(1) << 30};

	(void)state;
	foreign = NULL;
	object = NULL;
	memory = NULL;
	return vd_host_create(&config, &host, NULL);
}

static void watch(void)
{
	struct vd_error error = {.text = ""};

	open_detector(0);
	memory = map_pages(PAGES);
	if (vd_foreign_object(foreign, "foreign", memory, PAGES * PAGE, 0, &object, &error))
		fail_msg("%s", error.text);
	assert_true(vd_foreign_watches(object));
}

static int tear_down(void **state)
{
	(void)state;
	test_env_fail(&test, 0, 0);
	vd_notifier_unregister(vd_host_notifier(host), &ear.listener);
	vd_host_object_put(object);
	vd_foreign_destroy(foreign);
	vd_host_destroy(host);
	if (memory)
		munmap(memory, PAGES * PAGE);
	return 0;
}

static int begin(void **state)
{
	(void)state;
	test_env_init(&test);
	return 0;
}

/* Once for all tests, as the wait for what is freed late takes its time. */
static int finish(void **state)
{
	(void)state;
	vd_env_hosted_drain();
	return test.blocks ? -1 : 0;
}

static struct vd_foreign_stats stats(void)
{
	struct vd_foreign_stats now;

	vd_foreign_stats(foreign, &now);
	return now;
}

static int lookup(uint64_t page, unsigned access)
{
	struct vd_host_page found;

	return vd_host_object_lookup(object, page * PAGE, access, &found);
}

static void discard(uint64_t page, uint64_t count, int advice)
{
	atomic_fetch_add(&ear.order, 1);
	assert_int_equal(madvise(memory + page * PAGE, count * PAGE, advice), 0);
}

/* The monitor has done with all that was read so far: a change of an object waits for nothing. */
static void settled(void)
{
	for (;;) {
		int ends = atomic_load(&ear.ends); /* before the starts */

		if (ends && ends == atomic_load(&ear.starts))
			return;
		sched_yield();
	}
}

/* ---- discards -------------------------------------------------------- */

static void a_discard_is_announced_before_the_pages_go(void **state)
{
	struct vd_host_page page;

	(void)state;
	watch();
	memory[5 * PAGE] = 42;
	assert_int_equal(lookup(5, VD_READ | VD_WRITE), 0); /* counts as written from now on */
	listen();
	ear.byte = memory + 5 * PAGE;
	ear.was = 42;
	discard(4, 3, MADV_DONTNEED);
	settled();
	assert_int_equal(memory[5 * PAGE], 0);
	assert_int_equal(ear.starts, 2); /* all of it, then the range */
	assert_int_equal(ear.ends, 2);
	assert_in_range(ear.there, 1, 2);
	assert_int_equal(stats().discards, 1);
	/* a page that is not the mapping's own any more */
	assert_int_equal(vd_host_object_lookup(object, 5 * PAGE, VD_READ, &page), 0);
	assert_false(page.writable);
	assert_ptr_equal(vd_host_pointer(vd_host_window_base(host), page.pfn, 12),
			 memory + 5 * PAGE);
}

/*
 * What is stored after the end stays: the page that it went to was not a doomed one. The caller's
 * madvise() has not returned, or even taken the first page away, when the event is read.
 */
static void no_doomed_page_is_given_out(void **state)
{
	(void)state;
	watch();
	listen();
	for (int i = 0; i < 150; i++) {
		unsigned pages = i % 3 == 2 ? PAGES : 1;
		bool populated = i % 10 != 9;

		ear.fill = (pages - 1) * PAGE;
		if (populated)
			memset(memory, 1, pages * PAGE);
		atomic_store(&ear.filled, 0);
		discard(0, pages, MADV_DONTNEED);
		while (!atomic_load(&ear.filled))
			sched_yield();
		assert_int_equal(memory[ear.fill], 99);
		ear.fill = UINT64_MAX;
		discard(0, pages, MADV_DONTNEED);
		settled();
	}
}

/* It leaves the pages where they are, so no page is seen to go. */
static void freed_pages_are_not_seen_to_go(void **state)
{
	(void)state;
	watch();
	listen();
	memset(memory, 1, PAGES * PAGE);
	discard(0, 2, MADV_FREE);
	settled();
	assert_int_equal(stats().discards, 1);
	assert_int_equal(stats().unsettled, 1);
	assert_int_equal(lookup(0, VD_READ), 0);
}

static void own_changes_raise_no_events(void **state)
{
	(void)state;
	watch();
	listen();
	memory[PAGE] = 1;
	assert_int_equal(vd_host_object_discard(object, PAGE, PAGE, true), 0);
	assert_int_equal(memory[PAGE], 0);
	assert_int_equal(ear.starts, 1);
	assert_int_equal(stats().discards, 0);
	discard(1, 1, MADV_DONTNEED); /* watched again */
	settled();
	assert_int_equal(stats().discards, 1);
	/* what cannot be watched again is not used again */
	test_env_fail(&test, 2, -ENOMEM);
	assert_int_equal(vd_host_object_discard(object, PAGE, PAGE, true), 0);
	assert_string_equal(test.failed_site, "host.watch");
	assert_int_equal(lookup(1, VD_READ), -EFAULT);
	assert_int_equal(lookup(2, VD_READ), 0);
}

static void silent_calls_change_nothing(void **state)
{
	(void)state;
	watch();
	listen();
	memset(memory, 7, PAGES * PAGE);
	assert_int_equal(madvise(memory, PAGES * PAGE, MADV_COLD), 0);
	assert_int_equal(madvise(memory, PAGES * PAGE, MADV_PAGEOUT), 0);
	assert_int_equal(mprotect(memory, PAGES * PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(memory, PAGES * PAGE, PROT_READ | PROT_WRITE), 0);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(memory[i * PAGE], 7);
	assert_int_equal(ear.starts, 0);
	assert_int_equal(lookup(0, VD_READ), 0);
}

/* ---- gone for good --------------------------------------------------- */

static void what_is_unmapped_is_dead(void **state)
{
	struct vd_host_page page;

	(void)state;
	watch();
	listen();
	assert_int_equal(munmap(memory + 8 * PAGE, 4 * PAGE), 0);
	settled();
	assert_int_equal(stats().unmaps, 1);
	for (uint64_t i = 8; i < 12; i++)
		assert_int_equal(lookup(i, VD_READ), -EFAULT);
	assert_int_equal(vd_host_object_lookup(object, 0, VD_READ, &page), 0);
	assert_int_equal(page.run, 8 * PAGE);
	assert_int_equal(lookup(12, VD_READ), 0);
	assert_int_equal(ear.releases, 0);
	assert_false(stats().released);
	/* nor is it touched by us, whatever comes there */
	assert_int_equal(vd_host_object_discard(object, 7 * PAGE, 2 * PAGE, true), -EFAULT);
	assert_int_equal(vd_host_object_discard(object, 8 * PAGE, PAGE, true), -EFAULT);
}

static void an_address_in_use_again_ends_in_release(void **state)
{
	char *there;

	(void)state;
	watch();
	listen();
	there = mmap(memory + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	assert_ptr_equal(there, memory + 3 * PAGE);
	while (!atomic_load(&ear.releases))
		sched_yield();
	assert_int_equal(stats().unmaps, 1);
	assert_true(stats().released);
	assert_int_equal(lookup(3, VD_READ), -EFAULT);
	*there = 5;
	vd_host_object_put(object); /* does not stop watching somebody else's mapping */
	object = NULL;
	assert_int_equal(*there, 5);
}

static void what_is_moved_away_is_dead_and_not_watched_there(void **state)
{
	char *room = map_pages(PAGES), *moved;

	(void)state;
	watch();
	listen();
	memory[2 * PAGE] = 9;
	moved = mremap(memory + 2 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	assert_ptr_equal(moved, room);
	settled();
	assert_int_equal(*moved, 9);
	assert_int_equal(stats().remaps, 1);
	assert_int_equal(lookup(2, VD_READ), -EFAULT);
	assert_int_equal(lookup(1, VD_READ), 0);
	assert_int_equal(madvise(moved, PAGE, MADV_DONTNEED), 0);
	assert_int_equal(stats().discards, 0);
	munmap(room, PAGES * PAGE);
}

/* ---- the guard: what nothing announces ------------------------------- */

static struct vd_host_guard guard;

static void stores_are_lost_and_loads_are_zero(void)
{
	volatile uint64_t *p = (volatile uint64_t *)(memory + 6 * PAGE);
	char buffer[256], zeroes[256] = {0};
	uint64_t expected = 5;

	*p = 0x1122334455667788;
	assert_int_equal(mprotect(memory + 6 * PAGE, PAGE, PROT_READ), 0);
	vd_guest_store64((void *)(uintptr_t)p, 1);
	vd_guest_store8((void *)(uintptr_t)p, 1);
	__atomic_fetch_add(p, 1, __ATOMIC_SEQ_CST);
	assert_int_equal(*p, 0x1122334455667788);
	assert_int_equal(guard.hits, 3);
	assert_int_equal(mprotect(memory + 6 * PAGE, PAGE, PROT_NONE), 0);
	assert_int_equal(vd_guest_load8((void *)(uintptr_t)p), 0);
	assert_int_equal(vd_guest_load16((void *)(uintptr_t)p), 0);
	assert_int_equal(vd_guest_load32((void *)(uintptr_t)p), 0);
	assert_int_equal(vd_guest_load64((void *)(uintptr_t)p), 0);
	assert_true(__atomic_compare_exchange_n(p, &expected, 6, false, __ATOMIC_SEQ_CST,
						__ATOMIC_RELAXED)); /* no loop without end */
	assert_int_equal(guard.hits, 8);
	memset(buffer, 0, sizeof(buffer));
	vd_guest_copy(buffer, memory + 6 * PAGE, sizeof(buffer));
	assert_memory_equal(buffer, zeroes, sizeof(buffer));
	vd_guest_copy(memory + 5 * PAGE, memory + 6 * PAGE, PAGE); /* a string instruction */
	vd_guest_copy(memory + 6 * PAGE + 3, buffer, 7);
	assert_true(guard.hits > 10);
	assert_int_equal(mprotect(memory + 6 * PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(*p, 0x1122334455667788); /* nobody's mapping was touched */
}

static void a_forbidden_access_is_dropped(void **state)
{
	(void)state;
#ifndef __x86_64__
	skip();
#endif
	watch();
	guard = (struct vd_host_guard){0};
	assert_int_equal(vd_host_guard_install(NULL), 0);
	vd_host_guard_enter(&guard);
	stores_are_lost_and_loads_are_zero();
	vd_host_guard_leave(&guard);
	vd_host_guard_uninstall();
}

/* ---- kinds of mappings, and the other mode --------------------------- */

static void a_private_view_of_a_memfd_is_watched(void **state)
{
	int fd = memfd_create("view", MFD_CLOEXEC);

	(void)state;
	open_detector(0);
	assert_int_equal(ftruncate(fd, (off_t)(PAGES * PAGE)), 0);
	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	assert_int_equal(vd_foreign_object(foreign, "view", memory, PAGES * PAGE, 0, &object, NULL),
			 0);
	if (!vd_foreign_watches(object))
		skip(); /* before Linux 5.19 */
	listen();
	memory[0] = 1;
	discard(0, 1, MADV_DONTNEED);
	settled();
	assert_int_equal(stats().discards, 1);
}

static void what_cannot_be_watched_is_locked(void **state)
{
	FILE *file = tmpfile();
	struct stat status;

	(void)state;
	open_detector(0);
	assert_int_equal(ftruncate(fileno(file), (off_t)(PAGES * PAGE)), 0);
	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(file), 0);
	assert_int_equal(fstat(fileno(file), &status), 0);
	fclose(file);
	assert_int_equal(vd_foreign_object(foreign, "file", memory, PAGES * PAGE, 0, &object, NULL),
			 0);
	assert_int_equal(vd_host_object_hold(object, 0, 4 * PAGE, NULL), 0);
	assert_locked(vd_foreign_watches(object) ? 0 : 4 * PAGE); /* a tmpfs can be watched */
	vd_host_object_unhold(object, 0, 4 * PAGE);
}

static void watched_memory_is_never_locked(void **state)
{
	(void)state;
	watch();
	assert_int_equal(vd_host_object_hold(object, 0, PAGES * PAGE, NULL), 0);
	assert_locked(0);
	discard(0, 1, MADV_DONTNEED);
	vd_host_object_unhold(object, 0, PAGES * PAGE);
}

/* Return: 0 if the detector works as it should without userfaultfd. */
static int use_locked(bool hold)
{
	struct vd_foreign_config config = {.host = host, .hold = hold};
	int result = 0;

	if (vd_foreign_create(&config, &foreign, NULL))
		return 1;
	if (vd_foreign_detects(foreign))
		result = 2;
	memory = map_pages(PAGES);
	if (!result &&
	    vd_foreign_object(foreign, "locked", memory, PAGES * PAGE, 0, &object, NULL))
		result = 3;
	if (!result && (vd_foreign_watches(object) ||
			vd_host_object_hold(object, 0, 2 * PAGE, NULL)))
		result = 4;
	if (!result && locking_works() && (locked_bytes() != 2 * (long)PAGE ||
					   madvise(memory, PAGE, MADV_DONTNEED) == 0))
		result = 5;
	if (object && result != 4)
		vd_host_object_unhold(object, 0, 2 * PAGE);
	return result;
}

static void locks_where_it_is_told_to(void **state)
{
	(void)state;
	assert_int_equal(use_locked(true), 0);
}

static void locks_where_userfaultfd_fails(void **state)
{
	struct vd_foreign_config config = {.host = host};

	(void)state;
	test_env_fail(&test, 2, -EPERM);
	assert_int_equal(vd_foreign_create(&config, &foreign, NULL), 0);
	assert_string_equal(test.failed_site, "host.userfaultfd");
	assert_false(vd_foreign_detects(foreign));
}

/* As in a container: a filter of the calling thread, which ends with it. */
static void *filtered(void *result)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		*(int *)result = 77;
	else
		*(int *)result = use_locked(false);
	return NULL;
}

static void locks_where_userfaultfd_is_blocked(void **state)
{
	pthread_t thread;
	int result = -1;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, filtered, &result), 0);
	pthread_join(thread, NULL);
	if (result == 77)
		skip();
	assert_int_equal(result, 0);
}

/* ---- the watchdog ---------------------------------------------------- */

static _Atomic int let_go, dies;

static int stuck_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	if (atomic_load(&dies))
		syscall(SYS_exit, 0); /* this thread alone */
	while (!atomic_load(&let_go))
		sched_yield();
	return 0;
}

static const struct vd_listener_ops stuck_ops = {.invalidate_start = stuck_start};

static void a_stuck_monitor_holds_nobody_up_for_ever(void **state)
{
	struct vd_listener stuck = {.ops = &stuck_ops};

	(void)state;
	open_detector(40);
	memory = map_pages(PAGES);
	assert_int_equal(vd_foreign_object(foreign, "foreign", memory, PAGES * PAGE, 0, &object,
					   NULL), 0);
	atomic_store(&let_go, 0);
	atomic_store(&dies, 0);
	assert_int_equal(vd_notifier_register(vd_host_notifier(host), &stuck), 0);
	memory[0] = 3;
	discard(0, 1, MADV_DONTNEED); /* returns */
	assert_int_equal(memory[0], 0);
	assert_true(stats().lost);
	assert_false(vd_foreign_detects(foreign));
	assert_int_equal(lookup(0, VD_READ), -EFAULT);
	assert_int_equal(lookup(9, VD_READ), -EFAULT);
	discard(0, PAGES, MADV_DONTNEED); /* nobody watches */
	atomic_store(&let_go, 1);
	vd_notifier_unregister(vd_host_notifier(host), &stuck);
}

/* Its callback never returns: so this is a process of its own, which ends without tearing down. */
static int lose_the_monitor(void)
{
	static struct vd_listener deadly = {.ops = &stuck_ops};
	struct vd_host_config config = {.env = &test.env, .window_size = UINT64_C(1) << 30};
	struct vd_foreign_config detector = {.limit_ms = 200};

	alarm(20);
	if (vd_host_create(&config, &host, NULL))
		return 1;
	detector.host = host;
	if (vd_foreign_create(&detector, &foreign, NULL) || !vd_foreign_detects(foreign))
		return 2;
	memory = map_pages(PAGES);
	if (vd_foreign_object(foreign, "foreign", memory, PAGES * PAGE, 0, &object, NULL))
		return 3;
	atomic_store(&dies, 1);
	if (vd_notifier_register(vd_host_notifier(host), &deadly))
		return 4;
	madvise(memory, PAGE, MADV_DONTNEED);
	while (!stats().lost)
		sched_yield();
	return lookup(0, VD_READ) == -EFAULT ? 0 : 5;
}

static void a_dead_monitor_holds_nobody_up(void **state)
{
	pid_t child;
	int status;

	(void)state;
#ifdef __SANITIZE_THREAD__
	skip(); /* no threads after a fork() */
#endif
	open_detector(0);
	child = fork();
	if (child == 0)
		_exit(lose_the_monitor());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- life and death -------------------------------------------------- */

static void a_child_ends_nothing_of_the_parents(void **state)
{
	pid_t child;
	int status;

	(void)state;
	watch();
	child = fork();
	if (child == 0) {
		alarm(10);
		vd_host_object_put(object);
		vd_foreign_destroy(foreign);
		_exit(0);
	}
	assert_true(waitpid(child, &status, 0) == child && WIFEXITED(status));
	listen();
	discard(1, 1, MADV_DONTNEED);
	settled();
	assert_int_equal(stats().discards, 1);
}

static void each_allocation_may_fail(void **state)
{
	struct vd_foreign_config config = {.host = host};
	long step = 1;

	(void)state;
	open_detector(0); /* there is one at all */
	vd_foreign_destroy(foreign);
	memory = map_pages(PAGES);
	for (;; step++) {
		foreign = NULL;
		test_env_fail(&test, step, -ENOMEM);
		if (vd_foreign_create(&config, &foreign, NULL) == 0) {
			if (!test_env_failed(&test))
				break;
			assert_string_equal(test.failed_site, "host.userfaultfd");
			vd_foreign_destroy(foreign);
		}
	}
	assert_int_equal(step, 6); /* itself, descriptor, the rest, two threads */
	for (step = 1;; step++) {
		test_env_fail(&test, step, -ENOMEM);
		if (vd_foreign_object(foreign, "foreign", memory, PAGES * PAGE, 0, &object, NULL) ==
		    0)
			break;
		object = NULL;
	}
	assert_int_equal(step, 5); /* object, two bitmaps, registration */
}

static void refuses_what_it_cannot_do(void **state)
{
	struct vd_host_object *other;

	(void)state;
	watch();
	assert_int_equal(vd_foreign_object(foreign, "again", memory + PAGE, PAGE, 0, &other, NULL),
			 -EEXIST);
	assert_int_equal(vd_foreign_object(foreign, "flags", memory, PAGE, VD_HOST_ANNOUNCED,
					   &other, NULL), -EINVAL);
	assert_int_equal(vd_foreign_object(foreign, "odd", memory + 1, PAGE, 0, &other, NULL),
			 -EINVAL);
}

/* The detector goes first: its objects find nothing any more, and go later. */
static void any_order_of_teardown(void **state)
{
	(void)state;
	watch();
	listen();
	vd_foreign_destroy(foreign);
	foreign = NULL;
	assert_int_equal(ear.starts, 1);
	assert_int_equal(lookup(0, VD_READ), -EFAULT);
	discard(0, 1, MADV_DONTNEED);
	assert_int_equal(vd_host_object_discard(object, 0, PAGE, true), -EFAULT);
}

static void the_host_may_go_before_the_detector(void **state)
{
	struct vd_host_config config = {.env = &test.env, .window_size = UINT64_C(1) << 30};

	(void)state;
	watch();
	vd_host_destroy(host);
	assert_int_equal(lookup(0, VD_READ), -EFAULT);
	discard(0, 1, MADV_DONTNEED);
	vd_host_object_put(object);
	object = NULL;
	discard(0, 1, MADV_DONTNEED);
	vd_foreign_destroy(foreign);
	foreign = NULL;
	assert_int_equal(vd_host_create(&config, &host, NULL), 0);
}

static void *discard_often(void *context)
{
	uint64_t seed = (uint64_t)(uintptr_t)context;

	for (int i = 0; i < 60; i++) {
		uint64_t page = test_random(&seed) % (PAGES - 8);

		vd_guest_store8(memory + page * PAGE, 1);
		discard(page, 1 + test_random(&seed) % 8,
			test_random(&seed) % 8 ? MADV_DONTNEED : MADV_FREE);
	}
	return NULL;
}

static _Atomic bool finished;

/* Objects come and go meanwhile, and are changed by us as well. */
static void *come_and_go(void *context)
{
	char *p = map_pages(4);
	struct vd_host_object *own;

	(void)context;
	while (!atomic_load(&finished)) {
		assert_int_equal(vd_foreign_object(foreign, "own", p, 4 * PAGE, 0, &own, NULL), 0);
		madvise(p, PAGE, MADV_DONTNEED);
		assert_int_equal(vd_host_object_discard(object, 0, PAGE, true), 0);
		vd_host_object_put(own);
	}
	munmap(p, 4 * PAGE);
	return NULL;
}

static void threads(void **state)
{
	pthread_t mutators[3], other;

	(void)state;
	watch();
	listen();
	atomic_store(&finished, false);
	assert_int_equal(pthread_create(&other, NULL, come_and_go, NULL), 0);
	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&mutators[i], NULL, discard_often, (void *)i), 0);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(mutators[i], NULL);
	atomic_store(&finished, true);
	pthread_join(other, NULL);
	assert_in_range(stats().discards, 180, 100000);
	assert_false(stats().lost);
	assert_false(stats().released);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define FOREIGN_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		FOREIGN_TEST(a_discard_is_announced_before_the_pages_go),
		FOREIGN_TEST(no_doomed_page_is_given_out),
		FOREIGN_TEST(freed_pages_are_not_seen_to_go),
		FOREIGN_TEST(own_changes_raise_no_events),
		FOREIGN_TEST(silent_calls_change_nothing),
		FOREIGN_TEST(what_is_unmapped_is_dead),
		FOREIGN_TEST(an_address_in_use_again_ends_in_release),
		FOREIGN_TEST(what_is_moved_away_is_dead_and_not_watched_there),
		FOREIGN_TEST(a_forbidden_access_is_dropped),
		FOREIGN_TEST(a_private_view_of_a_memfd_is_watched),
		FOREIGN_TEST(what_cannot_be_watched_is_locked),
		FOREIGN_TEST(watched_memory_is_never_locked),
		FOREIGN_TEST(locks_where_it_is_told_to),
		FOREIGN_TEST(locks_where_userfaultfd_fails),
		FOREIGN_TEST(locks_where_userfaultfd_is_blocked),
		FOREIGN_TEST(a_stuck_monitor_holds_nobody_up_for_ever),
		FOREIGN_TEST(a_dead_monitor_holds_nobody_up),
		FOREIGN_TEST(a_child_ends_nothing_of_the_parents),
		FOREIGN_TEST(each_allocation_may_fail),
		FOREIGN_TEST(refuses_what_it_cannot_do),
		FOREIGN_TEST(any_order_of_teardown),
		FOREIGN_TEST(the_host_may_go_before_the_detector),
		FOREIGN_TEST(threads),
	};

	return cmocka_run_group_tests(tests, begin, finish);
}
