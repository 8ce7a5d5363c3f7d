/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>
#include <sched.h>

#include "fixture.h"

static void test_create_and_ask(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	assert_ptr_equal(vd_mem_env(f.mem), f.env);
	assert_ptr_equal(vd_mem_host(f.mem), f.host);
	assert_int_equal(vd_mem_page_shift(f.mem), vd_host_page_shift(f.host));
	assert_int_equal(vd_mem_slot_count(f.mem), 0);
	fixture_close(&f);
}

static void test_create_refuses(void **state)
{
	struct vd_mem_config config;
	struct vd_mem *mem = NULL;
	struct vd_error error;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	config = (struct vd_mem_config){.env = f.env, .host = f.host, .page_shift = 11};
	assert_int_equal(vd_mem_create(&config, &mem, &error), -EINVAL);
	config.page_shift = 31;
	assert_int_equal(vd_mem_create(&config, &mem, &error), -EINVAL);
	config.page_shift = 0;
	config.address_bits = 64;
	assert_int_equal(vd_mem_create(&config, &mem, &error), -EINVAL);
	assert_non_null(strstr(error.text, "64"));
	assert_null(mem);
	fixture_close(&f);
}

static void test_create_without_memory(void **state)
{
	struct vd_mem_config config;
	struct vd_mem *mem = NULL;
	struct vd_error error;
	struct fixture f;
	long step = 0, blocks;
	int r;

	(void)state;
	fixture_open(&f);
	config = (struct vd_mem_config){.env = f.env, .host = f.host};
	blocks = f.test.blocks;
	do {
		test_env_fail(&f.test, ++step, -ENOMEM);
		r = vd_mem_create(&config, &mem, &error);
		if (r) {
			assert_int_equal(r, -ENOMEM);
			assert_int_equal(f.test.blocks, blocks);
		}
	} while (r);
	assert_true(step > 2);
	vd_mem_destroy(mem);
	fixture_close(&f);
}

/* 64 KiB guest pages over a host of 4 KiB ones. */
static void test_larger_guest_pages(void **state)
{
	struct vd_slot_config slot;
	struct vd_mem_config config;
	struct vd_mem *mem;
	struct fixture f;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	config = (struct vd_mem_config){.env = f.env, .host = f.host, .page_shift = 16};
	assert_int_equal(vd_mem_create(&config, &mem, NULL), 0);
	slot = ram_slot(&f, 0x10000, 0x1000, 0x10000);
	assert_int_equal(vd_mem_add_slot(mem, &slot, &id, NULL), -EINVAL);
	slot.offset = 0x10000;
	assert_int_equal(vd_mem_add_slot(mem, &slot, &id, NULL), 0);
	assert_int_equal(vd_mem_dirty_start(mem, id), 0);
	assert_int_equal(vd_mem_write(mem, (vd_gpa){0x1ffff}, "x", 1), 0);
	{
		uint8_t bits = 0xff;

		assert_int_equal(vd_mem_dirty_fetch(mem, id, &bits, 1), 0);
		assert_int_equal(bits, 1);
	}
	vd_mem_destroy(mem);
	fixture_close(&f);
}

static void test_host_dies_first(void **state)
{
	struct vd_mem_page page;
	struct fixture f;
	struct ear ear;
	char byte = 0;

	(void)state;
	fixture_open(&f);
	ear_open(&ear, &f);
	add_ram(&f, 0, 0, PAGE);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){0}, "x", 1), 0);
	vd_host_destroy(f.host);
	assert_int_equal(ear.release_count, 1);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){0}, &byte, 1), -EFAULT);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0}, VD_READ, &page), -EFAULT);
	assert_true(vd_pfn_is_bad(page.host.pfn));
	ear_close(&ear, &f);
	vd_mem_destroy(f.mem);
	vd_host_object_put(f.ram);
	vd_host_object_put(f.other);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(f.test.blocks, 0);
}

/* Slots hold their memory: the creator's handle may go. */
static void test_slots_keep_objects(void **state)
{
	struct vd_host_object *object;
	struct vd_slot_config slot;
	struct fixture f;
	uint32_t id;
	char text[4] = "";

	(void)state;
	fixture_open(&f);
	assert_int_equal(vd_host_ram_create(f.host, "own", PAGE, 0, &object, NULL), 0);
	slot = ram_slot(&f, 0, 0, PAGE);
	slot.object = object;
	id = add_slot(&f, &slot);
	vd_host_object_put(object);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){8}, "abc", 4), 0);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){8}, text, 4), 0);
	assert_string_equal(text, "abc");
	assert_int_equal(vd_mem_remove_slot(f.mem, id), 0);
	fixture_close(&f);
}

static struct vd_notifier *left_chain;

static void leave_on_release(struct vd_listener *listener)
{
	ear_release(listener);
	vd_notifier_unregister(left_chain, listener);
}

static void test_destroy_releases_mirrors(void **state)
{
	static const struct vd_listener_ops ops = {
		.invalidate_start = ear_start,
		.release = leave_on_release,
	};
	struct ear ear = {.listener.ops = &ops};
	struct fixture f;

	(void)state;
	fixture_open(&f);
	left_chain = vd_mem_notifier(f.mem);
	assert_int_equal(vd_notifier_register(left_chain, &ear.listener), 0);
	fixture_close(&f);
	assert_int_equal(ear.release_count, 1);
}

struct traffic {
	struct fixture f;
	_Atomic bool stop;
};

static void *traffic_thread(void *argument)
{
	struct traffic *traffic = argument;

	while (!atomic_load(&traffic->stop)) {
		assert_int_equal(vd_host_object_discard(traffic->f.ram, 0, PAGE, true), 0);
		sched_yield();
	}
	return NULL;
}

/* Spaces come and go while host memory changes: each event ends where it started, or not at all. */
static void test_destroy_among_events(void **state)
{
	struct traffic traffic = {.stop = false};
	struct vd_mem_config config;
	struct vd_slot_config slot;
	pthread_t thread;

	(void)state;
	fixture_open(&traffic.f);
	config = (struct vd_mem_config){.env = traffic.f.env, .host = traffic.f.host};
	slot = ram_slot(&traffic.f, 0, 0, PAGE);
	assert_int_equal(pthread_create(&thread, NULL, traffic_thread, &traffic), 0);
	for (unsigned i = 0; i < 200; i++) {
		struct vd_mem *mem;

		assert_int_equal(vd_mem_create(&config, &mem, NULL), 0);
		assert_int_equal(vd_mem_add_slot(mem, &slot, NULL, NULL), 0);
		sched_yield();
		vd_mem_destroy(mem);
	}
	atomic_store(&traffic.stop, true);
	pthread_join(thread, NULL);
	fixture_close(&traffic.f);
}

static struct fixture *late_fixture;
static struct vd_invalidation late_event;

/* Stands in for another thread: an event starts at the one point of a destroy where it hurts. */
static void start_event_at_wake(const struct vd_env *env, _Atomic uint32_t *word)
{
	struct fixture *f = late_fixture;

	late_fixture = NULL;
	vd_env_hosted()->wake(env, word);
	if (f)
		assert_int_equal(vd_notifier_start(vd_host_notifier(f->host), &late_event), 0);
}

/* An event that starts when the space hears no more, but is registered still, never ends for it. */
static void test_event_in_the_middle_of_destroy(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 0, 0, PAGE);
	late_event = (struct vd_invalidation){.object = f.ram, .length = PAGE, .blockable = true};
	f.test.env.wake = start_event_at_wake;
	late_fixture = &f;
	vd_mem_destroy(f.mem);
	assert_null(late_fixture);
	vd_notifier_end(vd_host_notifier(f.host), &late_event);
	f.mem = NULL;
	fixture_close(&f);
}

static void test_create_over_a_dead_host(void **state)
{
	struct vd_mem_config config;
	struct vd_mem *mem = NULL;
	struct fixture f;
	long blocks;

	(void)state;
	fixture_open(&f);
	vd_notifier_release(vd_host_notifier(f.host));
	blocks = f.test.blocks;
	config = (struct vd_mem_config){.env = f.env, .host = f.host};
	assert_int_equal(vd_mem_create(&config, &mem, NULL), -ESHUTDOWN);
	assert_int_equal(f.test.blocks, blocks);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_and_ask),
		cmocka_unit_test(test_create_refuses),
		cmocka_unit_test(test_create_without_memory),
		cmocka_unit_test(test_larger_guest_pages),
		cmocka_unit_test(test_host_dies_first),
		cmocka_unit_test(test_slots_keep_objects),
		cmocka_unit_test(test_destroy_releases_mirrors),
		cmocka_unit_test(test_destroy_among_events),
		cmocka_unit_test(test_event_in_the_middle_of_destroy),
		cmocka_unit_test(test_create_over_a_dead_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
