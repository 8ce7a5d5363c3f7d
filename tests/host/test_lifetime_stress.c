/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of a host on one thread, while others make objects, use them, let go of them, and leave
 * the chain. Whoever holds a reference to the handle may.
 */
#include <pthread.h>
#include <string.h>

#include <viaduct/host.h>

#include "../base/test_env.h"

#define PAGE UINT64_C(4096)
#define OBJECTS 6u
#define ROUNDS 400u

static struct test_env test;

static struct round {
	struct vd_host *host;
	struct vd_host_object *objects[OBJECTS];
	struct vd_listener listener;
	bool refuse;
	_Atomic unsigned releases;
	pthread_barrier_t barrier;
} now;

static struct {
	_Atomic unsigned made, late, read, gone;
} seen;

static int hear_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	return event->reason == VD_INVALIDATE_UNMAP && now.refuse ? -EBUSY : 0;
}

static void hear_release(struct vd_listener *listener)
{
	(void)listener;
	atomic_fetch_add(&now.releases, 1);
}

static const struct vd_listener_ops hear_ops = {
	.invalidate_start = hear_start,
	.release = hear_release,
};

/* ---- what goes on at the same time ----------------------------------- */

static void *destroy_host(void *unused)
{
	pthread_barrier_wait(&now.barrier);
	vd_host_destroy(now.host);
	return unused;
}

static void *drop_objects(void *unused)
{
	pthread_barrier_wait(&now.barrier);
	for (unsigned i = 1; i < OBJECTS; i++)
		vd_host_object_put(now.objects[i]);
	return unused;
}

/* Changes and reads an object of its own, as a copy in a read section does. */
static void *use_object(void *unused)
{
	const struct vd_env *env = &test.env;
	uintptr_t base = vd_host_window_base(now.host);
	struct vd_host_page page;

	pthread_barrier_wait(&now.barrier);
	for (unsigned i = 0; i < 8; i++) {
		int result = vd_host_object_discard(now.objects[0], 0, PAGE, true);

		assert_int_equal(result, 0);
		env->read_enter(env);
		result = vd_host_object_lookup(now.objects[0], 0, VD_READ, &page);
		if (!result)
			vd_guest_load8(vd_host_pointer(base, page.pfn, 12));
		env->read_leave(env);
		assert_true(result == 0 || result == -EFAULT);
		atomic_fetch_add(result ? &seen.gone : &seen.read, 1);
	}
	vd_host_object_put(now.objects[0]);
	return unused;
}

static void *make_objects(void *unused)
{
	struct vd_host_object *object;

	pthread_barrier_wait(&now.barrier);
	for (unsigned i = 0; i < 4; i++) {
		int result = vd_host_ram_create(now.host, "late", PAGE, 0, &object, NULL);

		assert_true(result == 0 || result == -ESHUTDOWN);
		atomic_fetch_add(result ? &seen.late : &seen.made, 1);
		if (!result)
			vd_host_object_put(object);
	}
	/* the listener belongs to this thread: it may go when this returns */
	vd_notifier_unregister(vd_host_notifier(now.host), &now.listener);
	memset(&now.listener, 0xff, sizeof(now.listener));
	vd_host_put(now.host);
	return unused;
}

static void run_round(unsigned number)
{
	static void *(*const threads[])(void *) = {destroy_host, drop_objects, use_object,
						   make_objects};
	struct vd_host_config config = {.env = &test.env, .window_size = UINT64_C(1) << 30};
	pthread_t ids[4];

	assert_int_equal(vd_host_create(&config, &now.host, NULL), 0);
	for (unsigned i = 0; i < OBJECTS; i++)
		assert_int_equal(vd_host_ram_create(now.host, "ram", PAGE, 0, &now.objects[i],
						    NULL), 0);
	now.listener = (struct vd_listener){.ops = &hear_ops};
	now.refuse = number % 3 == 0;
	atomic_store(&now.releases, 0);
	assert_int_equal(vd_notifier_register(vd_host_notifier(now.host), &now.listener), 0);
	assert_ptr_equal(vd_host_get(now.host), now.host);
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&ids[i], NULL, threads[(i + number) % 4], NULL);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(ids[i], NULL);
	assert_true(atomic_load(&now.releases) <= 1);
}

static void everything_ends_at_once(void **state)
{
	(void)state;
	test_env_init(&test);
	pthread_barrier_init(&now.barrier, NULL, 4);
	for (unsigned i = 0; i < ROUNDS; i++)
		run_round(i);
	pthread_barrier_destroy(&now.barrier);
	vd_env_hosted_drain();
	assert_int_equal(test.blocks, 0);
	/* it was a race: each side was first at times */
	assert_true(seen.made && seen.late && seen.read && seen.gone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_ends_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
