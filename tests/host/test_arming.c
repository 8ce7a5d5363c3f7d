/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changes of objects tell nobody while nobody listens, at the price of a branch. Who comes to
 * listen meanwhile misses none of them all the same.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "host/object.h"

#include "../base/test_env.h"

#define PAGE UINT64_C(4096)
#define PAGES 8u

static struct test_env test;
static struct vd_host *host;
static struct vd_host_object *object; /* every byte of page i is i + 1 */

static int set_up(void **state)
{
	struct vd_host_config config = {.env = &test.env, .window_size = UINT64_C(1) << 30};

	(void)state;
	test_env_init(&test);
	if (vd_host_create(&config, &host, NULL) ||
	    vd_host_ram_create(host, "ram", PAGES * PAGE, VD_HOST_SPARES, &object, NULL))
		return -1;
	for (unsigned i = 0; i < PAGES; i++)
		memset((char *)host->window_base + i * PAGE, (int)i + 1, PAGE);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	vd_host_object_put(object);
	vd_host_destroy(host);
	vd_env_hosted_drain();
	return test.blocks ? -1 : 0;
}

/* ---- a mirror -------------------------------------------------------- */

static struct mirror {
	struct vd_listener listener;
	struct vd_lock lock;
	unsigned char *entry[PAGES];
	_Atomic unsigned starts, ends;
} mirror;

static int mirror_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	vd_env_hosted()->lock(NULL, &mirror.lock);
	for (uint64_t at = event->start; at < event->start + event->length; at += PAGE)
		mirror.entry[at / PAGE] = NULL;
	vd_env_hosted()->unlock(NULL, &mirror.lock);
	atomic_fetch_add(&mirror.starts, 1);
	return 0;
}

static void mirror_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	atomic_fetch_add(&mirror.ends, 1);
}

static const struct vd_listener_ops mirror_ops = {
	.invalidate_start = mirror_start,
	.invalidate_end = mirror_end,
};

static void mirror_open(void)
{
	mirror = (struct mirror){.listener.ops = &mirror_ops};
	vd_env_hosted()->lock_init(NULL, &mirror.lock);
	assert_int_equal(vd_notifier_register(&host->notifier, &mirror.listener), 0);
}

static void mirror_close(void)
{
	vd_notifier_unregister(&host->notifier, &mirror.listener);
	vd_env_hosted()->lock_destroy(NULL, &mirror.lock);
}

static void mirror_fault(unsigned i)
{
	uint64_t seq = vd_notifier_begin(&host->notifier);
	struct vd_host_page page;

	assert_int_equal(vd_host_object_lookup(object, i * PAGE, VD_READ, &page), 0);
	vd_env_hosted()->lock(NULL, &mirror.lock);
	if (!vd_notifier_retry(&host->notifier, seq, i * PAGE, PAGE))
		mirror.entry[i] = vd_host_pointer(host->window_base, page.pfn, 12);
	vd_env_hosted()->unlock(NULL, &mirror.lock);
}

/* Frames that were left read as zero, or as another page. */
static void mirror_use(unsigned i)
{
	vd_env_hosted()->lock(NULL, &mirror.lock);
	if (mirror.entry[i])
		assert_int_equal(vd_guest_load8(mirror.entry[i]), i + 1);
	vd_env_hosted()->unlock(NULL, &mirror.lock);
}

/* ---- one change, one arming ------------------------------------------ */

static struct {
	_Atomic bool inside;
	_Atomic bool done;
} change;

/* In the middle of a change that told nobody: lets somebody come to listen before it goes on. */
static int linger(const struct vd_env *env, const char *site)
{
	(void)env;
	if (strcmp(site, "host.copy"))
		return 0;
	atomic_store(&change.inside, true);
	while (!vd_notifier_armed(&host->notifier))
		sched_yield();
	for (int i = 0; i < 100; i++)
		sched_yield();
	atomic_store(&change.done, true);
	return 0;
}

static void *move_one(void *unused)
{
	assert_int_equal(vd_host_object_move(object, 0, PAGE, true), 0);
	return unused;
}

static void who_comes_waits_for_the_change_under_way(void **state)
{
	struct vd_host_page before, after;
	pthread_t thread;

	(void)state;
	assert_int_equal(vd_host_object_lookup(object, 0, VD_READ, &before), 0);
	test.env.inject = linger;
	pthread_create(&thread, NULL, move_one, NULL);
	while (!atomic_load(&change.inside))
		sched_yield();
	mirror_open();
	assert_true(atomic_load(&change.done));
	assert_int_equal(vd_host_object_lookup(object, 0, VD_READ, &after), 0);
	assert_int_not_equal(before.pfn.value, after.pfn.value);
	pthread_join(thread, NULL);
	assert_int_equal(mirror.starts, 0);
	assert_int_equal(mirror.ends, 0);
	mirror_close();
}

static bool arm_at_lock;

static void arming_lock(const struct vd_env *env, struct vd_lock *lock)
{
	if (arm_at_lock) {
		arm_at_lock = false;
		mirror_open();
		mirror_fault(0);
	}
	vd_env_hosted()->lock(env, lock);
}

/* Somebody comes between the question and the lock: is told, once. */
static void who_comes_before_the_lock_is_told(void **state)
{
	(void)state;
	test.env.lock = arming_lock;
	arm_at_lock = true;
	assert_int_equal(vd_host_object_move(object, 0, PAGE, true), 0);
	assert_false(arm_at_lock);
	assert_int_equal(mirror.starts, 1);
	assert_int_equal(mirror.ends, 1);
	assert_null(mirror.entry[0]);
	mirror_fault(0);
	assert_non_null(mirror.entry[0]);
	mirror_use(0);
	mirror_close();
}

static void unheard_changes_leave_no_trace(void **state)
{
	uint64_t seq = vd_notifier_begin(&host->notifier);

	(void)state;
	assert_int_equal(vd_host_object_move(object, 0, PAGE, true), 0);
	assert_int_equal(vd_host_object_discard(object, PAGE, PAGE, true), 0);
	assert_int_equal(vd_host_object_protect(object, 0, PAGE, false, true), 0);
	assert_false(vd_notifier_retry(&host->notifier, seq, 0, PAGES * PAGE));
}

/* ---- many ------------------------------------------------------------ */

static _Atomic bool stop;

static void *move_pages(void *context)
{
	uint64_t seed = (uint64_t)(uintptr_t)context;

	while (!atomic_load(&stop)) {
		uint64_t page = test_random(&seed) % PAGES;

		assert_int_equal(vd_host_object_move(object, page * PAGE, PAGE, true), 0);
		sched_yield();
	}
	return NULL;
}

static int yield(const struct vd_env *env, const char *site)
{
	(void)env;
	if (!strcmp(site, "host.copy"))
		sched_yield();
	return 0;
}

static void mirrors_come_while_pages_move(void **state)
{
	pthread_t threads[2];

	(void)state;
	test.env.inject = yield;
	atomic_store(&stop, false);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, move_pages, (void *)i);
	for (int round = 0; round < 1500; round++) {
		mirror_open();
		for (unsigned i = 0; i < PAGES; i++)
			mirror_fault(i);
		for (unsigned i = 0; i < PAGES; i++)
			mirror_use(i);
		sched_yield();
		for (unsigned i = 0; i < PAGES; i++)
			mirror_use(i);
		mirror_close();
		if (round % 4 == 0)
			sched_yield(); /* nobody listens: changes begin that tell nobody */
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define ARMING_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		ARMING_TEST(who_comes_waits_for_the_change_under_way),
		ARMING_TEST(who_comes_before_the_lock_is_told),
		ARMING_TEST(unheard_changes_leave_no_trace),
		ARMING_TEST(mirrors_come_while_pages_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
