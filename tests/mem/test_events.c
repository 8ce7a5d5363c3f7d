/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>

#include "fixture.h"

static void expect_event(const struct vd_invalidation *event, uint64_t start, uint64_t length,
			 enum vd_invalidate_reason reason)
{
	assert_null(event->object);
	assert_int_equal(event->start, start);
	assert_int_equal(event->length, length);
	assert_int_equal(event->reason, reason);
}

/* The same memory at two guest addresses: both hear of it, each of its own part. */
static void test_every_slot_hears(void **state)
{
	struct fixture f;
	struct ear ear;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 0x100000, 0, 8 * PAGE);
	add_ram(&f, 0x200000, 4 * PAGE, 8 * PAGE);
	add_ram(&f, 0x300000, 20 * PAGE, 8 * PAGE);
	ear_open(&ear, &f);
	assert_int_equal(vd_host_object_discard(f.ram, 3 * PAGE, 6 * PAGE, true), 0);
	assert_int_equal(ear.start_count, 2);
	assert_int_equal(ear.end_count, 2);
	expect_event(&ear.starts[0], 0x103000, 5 * PAGE, VD_INVALIDATE_DISCARD);
	expect_event(&ear.starts[1], 0x200000, 5 * PAGE, VD_INVALIDATE_DISCARD);
	expect_event(&ear.ends[0], 0x103000, 5 * PAGE, VD_INVALIDATE_DISCARD);
	expect_event(&ear.ends[1], 0x200000, 5 * PAGE, VD_INVALIDATE_DISCARD);
	/* nobody maps these */
	assert_int_equal(vd_host_object_discard(f.ram, 12 * PAGE, 8 * PAGE, true), 0);
	assert_int_equal(vd_host_object_discard(f.other, 0, 8 * PAGE, true), 0);
	assert_int_equal(ear.start_count, 2);
	ear_close(&ear, &f);
	fixture_close(&f);
}

/*
 * B5: who would have to sleep refuses; those already told get their end, and nothing has changed.
 */
static void test_not_blockable(void **state)
{
	struct ear first, second;
	struct fixture f;
	char byte = 0;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 0x100000, 0, 8 * PAGE);
	add_ram(&f, 0x200000, 0, 8 * PAGE);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){0x100000}, "x", 1), 0);
	ear_open(&first, &f);
	ear_open(&second, &f);
	second.answer = -EAGAIN;
	assert_int_equal(vd_host_object_discard(f.ram, 0, PAGE, false), -EAGAIN);
	assert_int_equal(first.start_count, 1);
	assert_int_equal(first.end_count, 1);
	assert_int_equal(second.start_count + second.end_count, 0);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){0x200000}, &byte, 1), 0);
	assert_int_equal(byte, 'x');
	second.answer = 0;
	assert_int_equal(vd_host_object_discard(f.ram, 0, PAGE, false), 0);
	assert_int_equal(first.start_count, 3);
	assert_int_equal(first.end_count, 3);
	assert_int_equal(second.end_count, 2);
	ear_close(&first, &f);
	ear_close(&second, &f);
	fixture_close(&f);
}

/* Refused at the second of two slots: the first one's event ends as well. */
static int refuse_second(struct vd_listener *listener, const struct vd_invalidation *event)
{
	if (event->start == 0x200000)
		return -EAGAIN;
	return ear_start(listener, event);
}

static void test_refused_half_way(void **state)
{
	static const struct vd_listener_ops ops = {
		.invalidate_start = refuse_second,
		.invalidate_end = ear_end,
	};
	struct ear ear = {.listener.ops = &ops};
	struct vd_notifier *chain;
	struct fixture f;
	uint64_t seq;

	(void)state;
	fixture_open(&f);
	chain = vd_mem_notifier(f.mem);
	add_ram(&f, 0x100000, 0, PAGE);
	add_ram(&f, 0x200000, 0, PAGE);
	add_ram(&f, 0x300000, 0, PAGE);
	assert_int_equal(vd_notifier_register(chain, &ear.listener), 0);
	assert_int_equal(vd_host_object_discard(f.ram, 0, PAGE, false), -EAGAIN);
	assert_int_equal(ear.start_count, 1);
	assert_int_equal(ear.end_count, 1);
	expect_event(&ear.ends[0], 0x100000, PAGE, VD_INVALIDATE_DISCARD);
	seq = vd_notifier_begin(chain);
	assert_false(vd_notifier_retry(chain, seq, 0, UINT64_MAX));
	/* the gate is open again: a swap does not wait */
	add_ram(&f, 0x400000, 0, PAGE);
	vd_notifier_unregister(chain, &ear.listener);
	fixture_close(&f);
}

static void test_ageing(void **state)
{
	struct vd_invalidation range = {.length = PAGE, .blockable = true};
	struct vd_notifier *chain;
	struct fixture f;
	struct ear ear;

	(void)state;
	fixture_open(&f);
	chain = vd_host_notifier(f.host);
	range.object = f.ram;
	add_ram(&f, 0, 0, PAGE);
	ear_open(&ear, &f);
	assert_false(vd_notifier_test_young(chain, &range));
	ear.young = true;
	assert_true(vd_notifier_test_young(chain, &range));
	assert_true(vd_notifier_clear_young(chain, &range));
	assert_false(vd_notifier_clear_young(chain, &range));
	ear.young = true;
	range.start = PAGE; /* no slot maps it */
	assert_false(vd_notifier_test_young(chain, &range));
	ear_close(&ear, &f);
	fixture_close(&f);
}

/* ---- events and swaps exclude each other ---- */

struct race {
	struct fixture f;
	struct vd_listener listener;
	_Atomic uint32_t inside, go_on;
	uint32_t victim;
	pthread_t thread;
	_Atomic bool done;
};

static int stay_inside(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct race *race = (struct race *)((char *)listener - offsetof(struct race, listener));
	const struct vd_env *env = vd_env_hosted();

	if (event->reason == VD_INVALIDATE_SLOT)
		return 0;
	atomic_store(&race->inside, 1);
	env->wake(env, &race->inside);
	while (!atomic_load(&race->go_on))
		env->wait(env, &race->go_on, 0);
	return 0;
}

static const struct vd_listener_ops stay_inside_ops = {.invalidate_start = stay_inside};

static void *discard_thread(void *argument)
{
	struct race *race = argument;

	assert_int_equal(vd_host_object_discard(race->f.ram, 0, PAGE, true), 0);
	return NULL;
}

static void *remove_thread(void *argument)
{
	struct race *race = argument;

	assert_int_equal(vd_mem_remove_slot(race->f.mem, race->victim), 0);
	atomic_store(&race->done, true);
	return NULL;
}

static void race_open(struct race *race)
{
	memset(race, 0, sizeof(*race));
	fixture_open(&race->f);
	race->listener.ops = &stay_inside_ops;
	race->victim = add_ram(&race->f, 0, 0, PAGE);
	assert_int_equal(vd_notifier_register(vd_mem_notifier(race->f.mem), &race->listener), 0);
}

static void wait_until_inside(struct race *race)
{
	const struct vd_env *env = vd_env_hosted();

	while (!atomic_load(&race->inside))
		env->wait(env, &race->inside, 0);
}

static void let_go(struct race *race)
{
	const struct vd_env *env = vd_env_hosted();

	atomic_store(&race->go_on, 1);
	env->wake(env, &race->go_on);
}

/* While host memory changes, the slots stay: a removal waits for the end. */
static void test_swap_waits_for_event(void **state)
{
	struct race race;
	pthread_t remover;
	uint64_t generation;

	(void)state;
	race_open(&race);
	assert_int_equal(pthread_create(&race.thread, NULL, discard_thread, &race), 0);
	wait_until_inside(&race);
	generation = vd_mem_generation(race.f.mem);
	assert_int_equal(pthread_create(&remover, NULL, remove_thread, &race), 0);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(vd_mem_generation(race.f.mem), generation);
		assert_false(race.done);
	}
	let_go(&race);
	pthread_join(race.thread, NULL);
	pthread_join(remover, NULL);
	assert_int_equal(vd_mem_slot_count(race.f.mem), 0);
	vd_notifier_unregister(vd_mem_notifier(race.f.mem), &race.listener);
	fixture_close(&race.f);
}

static int stay_in_swap(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct vd_invalidation as_other = *event;

	as_other.reason = VD_INVALIDATE_UNMAP;
	return event->reason == VD_INVALIDATE_SLOT ? stay_inside(listener, &as_other) : 0;
}

/* While the slots are swapped, an event that may not block is told so; one that may waits. */
static void test_event_meets_swap(void **state)
{
	static const struct vd_listener_ops ops = {.invalidate_start = stay_in_swap};
	struct race race;
	pthread_t discarder;

	(void)state;
	race_open(&race);
	race.listener.ops = &ops;
	assert_int_equal(pthread_create(&race.thread, NULL, remove_thread, &race), 0);
	wait_until_inside(&race);
	assert_int_equal(vd_host_object_discard(race.f.ram, 0, PAGE, false), -EAGAIN);
	assert_int_equal(pthread_create(&discarder, NULL, discard_thread, &race), 0);
	assert_false(race.done);
	let_go(&race);
	pthread_join(race.thread, NULL);
	pthread_join(discarder, NULL);
	vd_notifier_unregister(vd_mem_notifier(race.f.mem), &race.listener);
	fixture_close(&race.f);
}

/* Who reads guest memory meanwhile waits, and then sees what came of it. */
static void *read_thread(void *argument)
{
	struct race *race = argument;
	char byte = 'r';

	assert_int_equal(vd_mem_read(race->f.mem, (vd_gpa){0}, &byte, 1), 0);
	assert_int_equal(byte, 0);
	atomic_store(&race->done, true);
	return NULL;
}

static void test_copy_waits_for_event(void **state)
{
	struct race race;
	pthread_t reader;

	(void)state;
	race_open(&race);
	assert_int_equal(vd_mem_write(race.f.mem, (vd_gpa){0}, "x", 1), 0);
	assert_int_equal(pthread_create(&race.thread, NULL, discard_thread, &race), 0);
	wait_until_inside(&race);
	assert_int_equal(pthread_create(&reader, NULL, read_thread, &race), 0);
	assert_false(race.done);
	let_go(&race);
	pthread_join(race.thread, NULL);
	pthread_join(reader, NULL);
	vd_notifier_unregister(vd_mem_notifier(race.f.mem), &race.listener);
	fixture_close(&race.f);
}

/*
 * An access to a slot that is being moved within one update finds it at either place, never
 * nowhere.
 */
static void *move_thread(void *argument)
{
	struct race *race = argument;
	struct vd_mem_update *update;
	struct vd_slot_config again = ram_slot(&race->f, 0, 0, PAGE);

	assert_int_equal(vd_mem_begin(race->f.mem, &update), 0);
	assert_int_equal(vd_mem_remove(update, race->victim), 0);
	assert_int_equal(vd_mem_add(update, &again, NULL, NULL), 0);
	vd_mem_commit(update);
	return NULL;
}

static void *read_any_thread(void *argument)
{
	struct race *race = argument;
	char byte;

	assert_int_equal(vd_mem_read(race->f.mem, (vd_gpa){0}, &byte, 1), 0);
	atomic_store(&race->done, true);
	return NULL;
}

static void test_replacement_shows_no_hole(void **state)
{
	static const struct vd_listener_ops ops = {.invalidate_start = stay_in_swap};
	struct race race;
	pthread_t reader;

	(void)state;
	race_open(&race);
	race.listener.ops = &ops;
	assert_int_equal(pthread_create(&race.thread, NULL, move_thread, &race), 0);
	wait_until_inside(&race);
	assert_int_equal(pthread_create(&reader, NULL, read_any_thread, &race), 0);
	assert_false(race.done);
	let_go(&race);
	pthread_join(race.thread, NULL);
	pthread_join(reader, NULL);
	vd_notifier_unregister(vd_mem_notifier(race.f.mem), &race.listener);
	fixture_close(&race.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_slot_hears),
		cmocka_unit_test(test_not_blockable),
		cmocka_unit_test(test_refused_half_way),
		cmocka_unit_test(test_ageing),
		cmocka_unit_test(test_swap_waits_for_event),
		cmocka_unit_test(test_event_meets_swap),
		cmocka_unit_test(test_copy_waits_for_event),
		cmocka_unit_test(test_replacement_shows_no_hole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
