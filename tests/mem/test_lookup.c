/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>
#include <sched.h>

#include "fixture.h"

static uint32_t find_id(struct fixture *f, uint64_t gpa, struct vd_mem_hint *hint)
{
	const struct vd_slot *slot;
	uint32_t id;

	f->env->read_enter(f->env);
	slot = vd_mem_find(f->mem, (vd_gpa){gpa}, hint);
	id = slot ? slot->id : 0;
	f->env->read_leave(f->env);
	return id;
}

static void test_find_at_the_edges(void **state)
{
	struct vd_slot_config trap = trap_slot(0x2001, 3, &trap_none, NULL);
	struct fixture f;
	uint32_t ram, byte;

	(void)state;
	fixture_open(&f);
	assert_int_equal(find_id(&f, 0, NULL), 0);
	assert_int_equal(find_id(&f, UINT64_MAX, NULL), 0);
	ram = add_ram(&f, 0x1000, 0, PAGE);
	byte = add_slot(&f, &trap);
	assert_int_equal(find_id(&f, 0xfff, NULL), 0);
	assert_int_equal(find_id(&f, 0x1000, NULL), ram);
	assert_int_equal(find_id(&f, 0x1fff, NULL), ram);
	assert_int_equal(find_id(&f, 0x2000, NULL), 0);
	assert_int_equal(find_id(&f, 0x2001, NULL), byte);
	assert_int_equal(find_id(&f, 0x2003, NULL), byte);
	assert_int_equal(find_id(&f, 0x2004, NULL), 0);
	assert_int_equal(find_id(&f, UINT64_MAX, NULL), 0);
	fixture_close(&f);
}

/* A hint is never believed beyond the set it was taken in. */
static void test_hint(void **state)
{
	struct vd_mem_hint hint = {0};
	struct fixture f;
	uint32_t a, b;

	(void)state;
	fixture_open(&f);
	assert_int_equal(find_id(&f, 0, &hint), 0);
	/* another two, so that none is larger than the others together and found without a hint */
	add_ram(&f, 8 * PAGE, 0, PAGE);
	add_ram(&f, 9 * PAGE, 0, PAGE);
	a = add_ram(&f, 0, 0, PAGE);
	assert_int_equal(find_id(&f, 5, &hint), a);
	assert_int_equal(find_id(&f, 6, &hint), a);
	assert_int_equal(hint.generation, vd_mem_generation(f.mem));
	assert_int_equal(find_id(&f, PAGE, &hint), 0);
	b = add_ram(&f, PAGE, PAGE, PAGE);
	assert_int_equal(find_id(&f, PAGE, &hint), b);
	assert_int_equal(find_id(&f, 0, &hint), a);
	assert_int_equal(vd_mem_remove_slot(f.mem, a), 0);
	assert_int_equal(find_id(&f, 0, &hint), 0);
	assert_int_equal(find_id(&f, PAGE, &hint), b);
	assert_int_equal(vd_mem_remove_slot(f.mem, b), 0);
	assert_int_equal(find_id(&f, PAGE, &hint), 0);
	fixture_close(&f);
}

/* The slot larger than all others together is tried first, and is as exact as any. */
static void test_main_slot(void **state)
{
	struct fixture f;
	uint32_t small, large, last;

	(void)state;
	fixture_open(&f);
	small = add_ram(&f, 0, 0, PAGE);
	large = add_ram(&f, PAGE, 0, 3 * PAGE);
	assert_int_equal(find_id(&f, PAGE - 1, NULL), small);
	assert_int_equal(find_id(&f, PAGE, NULL), large);
	assert_int_equal(find_id(&f, 4 * PAGE - 1, NULL), large);
	assert_int_equal(find_id(&f, 4 * PAGE, NULL), 0);
	last = add_ram(&f, 4 * PAGE, 0, 8 * PAGE);
	assert_int_equal(find_id(&f, 4 * PAGE - 1, NULL), large);
	assert_int_equal(find_id(&f, 12 * PAGE - 1, NULL), last);
	assert_int_equal(vd_mem_remove_slot(f.mem, last), 0);
	assert_int_equal(find_id(&f, 12 * PAGE - 1, NULL), 0);
	assert_int_equal(find_id(&f, 4 * PAGE - 1, NULL), large);
	fixture_close(&f);
}

/* Not even looked at: its index may be far outside the arrays of this set. */
static void test_hint_of_a_larger_set(void **state)
{
	struct vd_mem_hint hint;
	struct fixture f;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	id = add_ram(&f, 0, 0, PAGE);
	add_ram(&f, PAGE, 0, PAGE);
	hint = (struct vd_mem_hint){vd_mem_generation(f.mem) - 1, UINT32_MAX};
	assert_int_equal(find_id(&f, 5, &hint), id);
	assert_int_equal(hint.index, 0);
	fixture_close(&f);
}

/* ---- readers and removals ---- */

struct hold {
	struct fixture f;
	struct ear ear;
	uint32_t id;
	_Atomic uint32_t found;
};

static void *hold_thread(void *argument)
{
	struct hold *hold = argument;
	const struct vd_env *env = hold->f.env;
	const struct vd_slot *slot;

	env->read_enter(env);
	slot = vd_mem_find(hold->f.mem, (vd_gpa){0}, NULL);
	assert_non_null(slot);
	atomic_store(&hold->found, 1);
	env->wake(env, &hold->found);
	while (slot->valid)
		sched_yield();
	/* it is being removed; as long as we look at it, it stays, and the event does not end */
	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(slot->config.size, PAGE);
		assert_int_equal(atomic_load(&hold->ear.ended), 0);
		sched_yield();
	}
	env->read_leave(env);
	return NULL;
}

static void test_removal_waits_for_readers(void **state)
{
	struct hold hold = {.found = 0};
	pthread_t thread;

	(void)state;
	fixture_open(&hold.f);
	ear_open(&hold.ear, &hold.f);
	hold.id = add_ram(&hold.f, 0, 0, PAGE);
	assert_int_equal(pthread_create(&thread, NULL, hold_thread, &hold), 0);
	while (!atomic_load(&hold.found))
		hold.f.env->wait(hold.f.env, &hold.found, 0);
	assert_int_equal(vd_mem_remove_slot(hold.f.mem, hold.id), 0);
	assert_int_equal(hold.ear.end_count, 1);
	pthread_join(thread, NULL);
	ear_close(&hold.ear, &hold.f);
	fixture_close(&hold.f);
}

static int stop_at_second(void *context, const struct vd_slot *slot)
{
	unsigned *calls = context;

	assert_int_equal(slot->config.base.value, *calls * PAGE);
	return ++*calls == 2 ? -ECANCELED : 0;
}

static void test_each_stops(void **state)
{
	struct fixture f;
	unsigned calls = 0;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 2 * PAGE, 0, PAGE);
	add_ram(&f, 0, 0, PAGE);
	add_ram(&f, PAGE, 0, PAGE);
	assert_int_equal(vd_mem_each(f.mem, stop_at_second, &calls), -ECANCELED);
	assert_int_equal(calls, 2);
	fixture_close(&f);
}

/* "Nothing here, emulate" is dropped by comparing generations: every commit moves it. */
static void test_generation_moves(void **state)
{
	struct vd_mem_update *update;
	struct fixture f;
	uint64_t generation;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	generation = vd_mem_generation(f.mem);
	id = add_ram(&f, 0, 0, PAGE);
	assert_true(vd_mem_generation(f.mem) > generation);
	generation = vd_mem_generation(f.mem);
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	vd_mem_abort(update);
	assert_int_equal(vd_mem_generation(f.mem), generation);
	assert_int_equal(vd_mem_remove_slot(f.mem, id), 0);
	assert_true(vd_mem_generation(f.mem) > generation);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find_at_the_edges),
		cmocka_unit_test(test_hint),
		cmocka_unit_test(test_main_slot),
		cmocka_unit_test(test_hint_of_a_larger_set),
		cmocka_unit_test(test_removal_waits_for_readers),
		cmocka_unit_test(test_each_stops),
		cmocka_unit_test(test_generation_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
