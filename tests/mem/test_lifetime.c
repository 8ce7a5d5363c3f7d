/* SPDX-License-Identifier: BSD-2-Clause */
/* Any order of teardown: the space, its host and its memory end on different threads at once. */
#include <pthread.h>

#include "fixture.h"

#define ROUNDS 300u

static struct {
	struct fixture f;
	struct ear ear;
	pthread_barrier_t barrier;
	_Atomic unsigned host_first, space_first;
} now;

/* As a mirror does that outlives neither: it leaves when it is told, or when the space goes. */
static void leave_on_release(struct vd_listener *listener)
{
	ear_release(listener);
	vd_notifier_unregister(vd_mem_notifier(now.f.mem), listener);
}

static const struct vd_listener_ops leaving_ops = {
	.invalidate_start = ear_start,
	.invalidate_end = ear_end,
	.release = leave_on_release,
};

static void *destroy_host(void *unused)
{
	pthread_barrier_wait(&now.barrier);
	vd_host_destroy(now.f.host);
	return unused;
}

static void *destroy_space(void *unused)
{
	struct vd_mem_page page;
	char byte = 0;
	int r;

	pthread_barrier_wait(&now.barrier);
	r = vd_mem_read(now.f.mem, (vd_gpa){PAGE}, &byte, 1);
	assert_true(r == 0 || r == -EFAULT);
	atomic_fetch_add(r ? &now.host_first : &now.space_first, 1);
	r = vd_mem_gpa_to_pfn(now.f.mem, (vd_gpa){0}, VD_READ, &page);
	assert_true(r == 0 || r == -EFAULT);
	assert_ptr_equal(vd_mem_host(now.f.mem), now.f.host);
	vd_mem_destroy(now.f.mem);
	return unused;
}

static void *change_memory(void *unused)
{
	pthread_barrier_wait(&now.barrier);
	assert_int_equal(vd_host_object_discard(now.f.ram, 0, PAGE, true), 0);
	vd_host_object_put(now.f.ram);
	vd_host_object_put(now.f.other);
	return unused;
}

static void run_round(unsigned number)
{
	static void *(*const threads[])(void *) = {destroy_host, destroy_space, change_memory};
	struct vd_host_config host_config = {.env = &now.f.test.env,
					     .window_size = UINT64_C(1) << 30};
	struct vd_mem_config mem_config = {.env = &now.f.test.env};
	pthread_t ids[3];

	assert_int_equal(vd_host_create(&host_config, &now.f.host, NULL), 0);
	assert_int_equal(vd_host_ram_create(now.f.host, "ram", 4 * PAGE, 0, &now.f.ram, NULL), 0);
	assert_int_equal(vd_host_ram_create(now.f.host, "other", PAGE, 0, &now.f.other, NULL), 0);
	mem_config.host = now.f.host;
	assert_int_equal(vd_mem_create(&mem_config, &now.f.mem, NULL), 0);
	add_ram(&now.f, 0, 0, 4 * PAGE);
	now.ear = (struct ear){.listener.ops = &leaving_ops};
	assert_int_equal(vd_notifier_register(vd_mem_notifier(now.f.mem), &now.ear.listener), 0);
	for (unsigned i = 0; i < 3; i++)
		pthread_create(&ids[i], NULL, threads[(i + number) % 3], NULL);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(ids[i], NULL);
	assert_int_equal(now.ear.release_count, 1);
}

static void test_host_space_and_memory_end_at_once(void **state)
{
	(void)state;
	test_env_init(&now.f.test);
	now.f.env = &now.f.test.env;
	pthread_barrier_init(&now.barrier, NULL, 3);
	for (unsigned i = 0; i < ROUNDS; i++)
		run_round(i);
	pthread_barrier_destroy(&now.barrier);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(now.f.test.blocks, 0);
	assert_true(now.host_first && now.space_first);
}

/* An event that has started when the host is destroyed ends, for the space and all who wait. */
static void test_an_event_outlives_the_host(void **state)
{
	struct vd_invalidation event = {.length = PAGE, .blockable = true};
	struct vd_notifier *chain;
	struct fixture f;
	char byte;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 0, 0, PAGE);
	event.object = f.ram;
	chain = vd_host_notifier(vd_host_get(f.host));
	assert_int_equal(vd_notifier_start(chain, &event), 0);
	vd_host_destroy(f.host);
	vd_notifier_end(chain, &event);
	vd_host_put(f.host);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){0}, &byte, 1), -EFAULT);
	vd_mem_destroy(f.mem);
	vd_host_object_put(f.ram);
	vd_host_object_put(f.other);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(f.test.blocks, 0);
}

/* The handle that a space gives out stays good until the space goes, and makes nothing any more. */
static void test_a_space_keeps_the_handle_of_its_host(void **state)
{
	struct vd_host_object *object;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	vd_host_object_put(f.ram);
	vd_host_object_put(f.other);
	vd_host_destroy(f.host);
	vd_env_hosted_drain();
	assert_ptr_equal(vd_mem_host(f.mem), f.host);
	assert_int_equal(vd_host_page_shift(vd_mem_host(f.mem)), 12);
	assert_int_equal(vd_host_ram_create(f.host, "late", PAGE, 0, &object, NULL), -ESHUTDOWN);
	vd_mem_destroy(f.mem);
	vd_env_hosted_drain();
	assert_int_equal(f.test.blocks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_space_and_memory_end_at_once),
		cmocka_unit_test(test_an_event_outlives_the_host),
		cmocka_unit_test(test_a_space_keeps_the_handle_of_its_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
