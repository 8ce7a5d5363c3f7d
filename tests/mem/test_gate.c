/* SPDX-License-Identifier: BSD-2-Clause */
/* Events about host memory and swaps of the slot set: one at a time, each gets its turn. */
#include <pthread.h>
#include <sched.h>

#include "fixture.h"
#include "mem/space.h"

struct turns {
	struct fixture f;
	struct vd_invalidation event;
	uint32_t id;
	uint64_t generation; /* as seen inside the event of the other thread */
	_Atomic unsigned events, swaps;
};

static void turns_open(struct turns *turns)
{
	memset(turns, 0, sizeof(*turns));
	fixture_open(&turns->f);
	turns->id = add_ram(&turns->f, 0, 0, PAGE);
	turns->event = (struct vd_invalidation){
		.object = turns->f.ram,
		.length = PAGE,
		.blockable = true,
	};
}

static struct vd_notifier *host_chain(struct turns *turns)
{
	return vd_host_notifier(turns->f.host);
}

static void *remove_thread(void *argument)
{
	struct turns *turns = argument;

	assert_int_equal(vd_mem_remove_slot(turns->f.mem, turns->id), 0);
	return NULL;
}

static void *event_thread(void *argument)
{
	struct turns *turns = argument;

	assert_int_equal(vd_notifier_start(host_chain(turns), &turns->event), 0);
	turns->generation = vd_mem_generation(turns->f.mem);
	vd_notifier_end(host_chain(turns), &turns->event);
	return NULL;
}

static void wait_for_swap(struct turns *turns)
{
	const struct vd_env *env = turns->f.env;
	bool waiting;

	do {
		sched_yield();
		env->lock(env, &turns->f.mem->gate.lock);
		waiting = turns->f.mem->gate.swap_waiting;
		env->unlock(env, &turns->f.mem->gate.lock);
	} while (!waiting);
}

static void wait_for_waiting_event(struct turns *turns)
{
	const struct vd_env *env = turns->f.env;
	uint32_t waiting;

	do {
		sched_yield();
		env->lock(env, &turns->f.mem->gate.lock);
		waiting = turns->f.mem->gate.events_waiting;
		env->unlock(env, &turns->f.mem->gate.lock);
	} while (!waiting);
}

/* An event does not overtake a swap that waits for another event. */
static void test_event_lets_waiting_swap_pass(void **state)
{
	struct turns turns;
	pthread_t remover, other;
	uint64_t generation;

	(void)state;
	turns_open(&turns);
	generation = vd_mem_generation(turns.f.mem);
	assert_int_equal(vd_notifier_start(host_chain(&turns), &turns.event), 0);
	assert_int_equal(pthread_create(&remover, NULL, remove_thread, &turns), 0);
	wait_for_swap(&turns);
	assert_int_equal(pthread_create(&other, NULL, event_thread, &turns), 0);
	wait_for_waiting_event(&turns);
	assert_int_equal(vd_mem_generation(turns.f.mem), generation);
	vd_notifier_end(host_chain(&turns), &turns.event);
	pthread_join(remover, NULL);
	pthread_join(other, NULL);
	assert_int_equal(turns.generation, generation + 1);
	fixture_close(&turns.f);
}

/* But one inside another does, or both would wait for ever; and one that may not block. */
static void test_nested_event_does_not_wait(void **state)
{
	struct vd_invalidation inner;
	struct turns turns;
	pthread_t remover;

	(void)state;
	turns_open(&turns);
	inner = turns.event;
	assert_int_equal(vd_notifier_start(host_chain(&turns), &turns.event), 0);
	assert_int_equal(pthread_create(&remover, NULL, remove_thread, &turns), 0);
	wait_for_swap(&turns);
	assert_int_equal(vd_notifier_start(host_chain(&turns), &inner), 0);
	vd_notifier_end(host_chain(&turns), &inner);
	inner.blockable = false;
	assert_int_equal(vd_notifier_start(host_chain(&turns), &inner), 0);
	vd_notifier_end(host_chain(&turns), &inner);
	assert_int_equal(vd_mem_slot_count(turns.f.mem), 1);
	vd_notifier_end(host_chain(&turns), &turns.event);
	pthread_join(remover, NULL);
	fixture_close(&turns.f);
}

#define TURNS 40u

static void *many_events(void *argument)
{
	struct turns *turns = argument;

	while (turns->events < TURNS || turns->swaps < TURNS) {
		assert_int_equal(vd_host_object_discard(turns->f.ram, 0, PAGE, true), 0);
		turns->events++;
	}
	return NULL;
}

/* Threads that do nothing else: all come to their share. */
static void test_nobody_starves(void **state)
{
	struct turns turns;
	pthread_t threads[3];

	(void)state;
	turns_open(&turns);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, many_events, &turns), 0);
	while (turns.events < TURNS || turns.swaps < TURNS) {
		assert_int_equal(vd_mem_remove_slot(turns.f.mem, turns.id), 0);
		turns.id = add_ram(&turns.f, 0, 0, PAGE);
		turns.swaps++;
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	fixture_close(&turns.f);
}

/* ---- the gate alone, as fast as it goes ---- */

#define PASSES 3000u

struct bare {
	struct turns turns;
	uint64_t slots; /* plain: ThreadSanitizer sees who is not kept out */
	_Atomic bool stop;
};

static void *bare_events(void *argument)
{
	struct bare *bare = argument;
	struct vd_mem *mem = bare->turns.f.mem;

	while (!atomic_load(&bare->stop)) {
		uint64_t slots;

		assert_int_equal(vd_gate_enter_event(mem, true), 0);
		slots = bare->slots;
		sched_yield();
		assert_int_equal(bare->slots, slots);
		vd_gate_leave_event(mem);
	}
	return NULL;
}

static void test_gate_alone(void **state)
{
	struct bare bare = {.stop = false};
	pthread_t threads[2];

	(void)state;
	turns_open(&bare.turns);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, bare_events, &bare), 0);
	for (unsigned i = 0; i < PASSES; i++) {
		vd_gate_enter_swap(bare.turns.f.mem);
		bare.slots++;
		sched_yield();
		vd_gate_leave_swap(bare.turns.f.mem);
	}
	atomic_store(&bare.stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	fixture_close(&bare.turns.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_event_lets_waiting_swap_pass),
		cmocka_unit_test(test_nested_event_does_not_wait),
		cmocka_unit_test(test_nobody_starves),
		cmocka_unit_test(test_gate_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
