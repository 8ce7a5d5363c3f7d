/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everything at once, for ThreadSanitizer and for the invariants: copies never see a stale page,
 * mixed slots or lost stores; a removed trap slot's context is never used again.
 */
#include <pthread.h>
#include <sched.h>

#include "fixture.h"

/* Each takes several grace periods, which are long where threads outnumber processors. */
#define ROUNDS 400u
#define WORDS 64u /* of a copy */
#define SWAPPED 8u
#define SWAP_BASE UINT64_C(0x100000)
#define ALIAS_BASE UINT64_C(0x200000)
#define COUNTER_BASE UINT64_C(0x300000)
#define TRAP_BASE UINT64_C(0x400000)
#define STEADY_BASE UINT64_C(0x500000)

/*
 * Pages of the object: one with its own number in every word for each swapped slot, twice;
 * counters.
 */
#define TAGGED (2 * SWAPPED)
#define COUNTER_PAGE TAGGED

struct stress {
	struct fixture f;
	_Atomic bool stop;
	_Atomic unsigned long copies, refusals, calls;
	uint32_t ids[SWAPPED];
	uint32_t counter_id, steady_id;
};

static uint64_t tag_of(uint64_t page)
{
	return page * UINT64_C(0x0101010101010101) + 1;
}

/* Any copy is of one page as a whole: that of the one slot or that of the other, or refused. */
static void *reader(void *argument)
{
	struct stress *s = argument;
	uint64_t words[WORDS], seed = 5, i;

	while (!atomic_load(&s->stop)) {
		uint64_t slot = test_random(&seed) % SWAPPED;
		int r = vd_mem_read(s->f.mem, (vd_gpa){SWAP_BASE + slot * PAGE}, words,
				    sizeof(words));

		if (r) {
			assert_int_equal(r, -EFAULT);
			atomic_fetch_add(&s->refusals, 1);
			continue;
		}
		assert_true(words[0] == tag_of(slot) || words[0] == tag_of(slot + SWAPPED));
		for (i = 1; i < WORDS; i++)
			assert_true(words[i] == words[0]);
		atomic_fetch_add(&s->copies, 1);
		sched_yield();
	}
	return NULL;
}

/*
 * What is stored through one address is read back through the other, wherever the page has moved.
 */
static void *counter(void *argument)
{
	struct stress *s = argument;
	uint64_t value = 0, back;

	while (!atomic_load(&s->stop)) {
		value++;
		assert_int_equal(vd_mem_write(s->f.mem, (vd_gpa){COUNTER_BASE}, &value, 8), 0);
		back = 0;
		assert_int_equal(vd_mem_read(s->f.mem, (vd_gpa){ALIAS_BASE}, &back, 8), 0);
		assert_true(back == value);
		sched_yield();
	}
	return NULL;
}

/* Plain users of a lookup, without the retry protocol. */
static void *finder(void *argument)
{
	struct stress *s = argument;
	const struct vd_env *env = s->f.env;
	struct vd_mem_hint hint = {0};
	struct vd_mem_page page;
	uint64_t seed = 6;

	while (!atomic_load(&s->stop)) {
		uint64_t gpa = SWAP_BASE + test_random(&seed) % (SWAPPED * PAGE);
		const struct vd_slot *slot;
		int r;

		env->read_enter(env);
		slot = vd_mem_find(s->f.mem, (vd_gpa){gpa}, &hint);
		if (slot)
			assert_true(gpa - slot->config.base.value < slot->config.size);
		env->read_leave(env);
		r = vd_mem_gpa_to_pfn(s->f.mem, (vd_gpa){gpa}, VD_WRITE, &page);
		assert_true(r == -ENOENT || (!r && page.slot_base <= gpa));
		sched_yield();
	}
	return NULL;
}

/* The host moves frames, also under copies. */
static void *mover(void *argument)
{
	struct stress *s = argument;
	uint64_t seed = 7;

	while (!atomic_load(&s->stop)) {
		uint64_t page = test_random(&seed) % (COUNTER_PAGE + 1);
		int r = vd_host_object_move(s->f.ram, page * PAGE, PAGE, test_random(&seed) % 4);

		assert_true(r == 0 || r == -EAGAIN);
	}
	return NULL;
}

static int count_call(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	_Atomic uint32_t *magic = context;

	(void)offset;
	(void)length;
	(void)value;
	assert_int_equal(atomic_fetch_add(magic, 2) & 1, 1);
	return 0;
}

static const struct vd_trap_ops count_ops = {trap_read_none, count_call};

static void *accessor(void *argument)
{
	struct stress *s = argument;

	while (!atomic_load(&s->stop)) {
		int r = vd_mem_mmio_write(s->f.mem, (vd_gpa){TRAP_BASE}, 4, 1);

		assert_true(r == 0 || r == -ENOENT);
		if (!r)
			atomic_fetch_add(&s->calls, 1);
		/* replaced all the time, but never gone */
		assert_int_equal(vd_mem_mmio_write(s->f.mem, (vd_gpa){STEADY_BASE}, 4, 1), 0);
		sched_yield();
	}
	return NULL;
}

/* ---- the thread that changes the slot set ---- */

static void swap_one(struct stress *s, uint64_t slot, uint64_t *seed)
{
	uint64_t page = slot + test_random(seed) % 2 * SWAPPED;
	struct vd_slot_config config =
		ram_slot(&s->f, SWAP_BASE + slot * PAGE, page * PAGE, PAGE);
	struct vd_mem_update *update;

	assert_int_equal(vd_mem_begin(s->f.mem, &update), 0);
	if (s->ids[slot])
		assert_int_equal(vd_mem_remove(update, s->ids[slot]), 0);
	s->ids[slot] = 0;
	if (test_random(seed) % 8)
		assert_int_equal(vd_mem_add(update, &config, &s->ids[slot], NULL), 0);
	vd_mem_commit(update);
}

static void swap_trap(struct stress *s, _Atomic uint32_t **magic, uint32_t *id)
{
	struct vd_slot_config config;

	if (*id) {
		assert_int_equal(vd_mem_remove_slot(s->f.mem, *id), 0);
		atomic_store(*magic, 0);
		free(*magic);
		*id = 0;
		return;
	}
	*magic = malloc(sizeof(**magic));
	atomic_init(*magic, 1);
	config = trap_slot(TRAP_BASE, 8, &count_ops, *magic);
	*id = add_slot(&s->f, &config);
}

static void replace_steady(struct stress *s)
{
	struct vd_slot_config config = trap_slot(STEADY_BASE, 8, &trap_none, NULL);
	struct vd_mem_update *update;

	assert_int_equal(vd_mem_begin(s->f.mem, &update), 0);
	assert_int_equal(vd_mem_remove(update, s->steady_id), 0);
	assert_int_equal(vd_mem_add(update, &config, &s->steady_id, NULL), 0);
	vd_mem_commit(update);
}

static void log_round(struct stress *s, unsigned round)
{
	uint8_t bits = 0;

	if (round % 16 == 0)
		assert_int_equal(vd_mem_dirty_start(s->f.mem, s->counter_id), 0);
	assert_int_equal(vd_mem_dirty_fetch(s->f.mem, s->counter_id, &bits, 1), 0);
	assert_true(bits <= 1);
	if (round % 16 == 15)
		assert_int_equal(vd_mem_dirty_stop(s->f.mem, s->counter_id), 0);
}

static void fill(struct stress *s)
{
	struct vd_slot_config steady = trap_slot(STEADY_BASE, 8, &trap_none, NULL);

	fixture_open(&s->f);
	for (uint64_t page = 0; page < TAGGED; page++) {
		uint64_t words[WORDS];
		uint32_t id = add_ram(&s->f, 0, page * PAGE, PAGE);

		for (unsigned i = 0; i < WORDS; i++)
			words[i] = tag_of(page);
		assert_int_equal(vd_mem_write(s->f.mem, (vd_gpa){0}, words, sizeof(words)), 0);
		assert_int_equal(vd_mem_remove_slot(s->f.mem, id), 0);
	}
	s->counter_id = add_ram(&s->f, COUNTER_BASE, COUNTER_PAGE * PAGE, PAGE);
	s->steady_id = add_slot(&s->f, &steady);
	add_ram(&s->f, ALIAS_BASE, COUNTER_PAGE * PAGE, PAGE);
}

static void test_everything_at_once(void **state)
{
	static void *(*const bodies[])(void *) = {reader, counter, finder, mover, accessor,
						  accessor};
	enum { THREADS = sizeof(bodies) / sizeof(bodies[0]) };
	static struct stress s;
	_Atomic uint32_t *magic = NULL;
	pthread_t threads[THREADS];
	uint64_t seed = 8;
	uint32_t trap_id = 0;
	unsigned round;

	(void)state;
	fill(&s);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, bodies[i], &s), 0);
	/* at least so many rounds, and until everybody has had a turn */
	for (round = 0; round < ROUNDS || !s.copies || !s.refusals || !s.calls; round++) {
		swap_one(&s, test_random(&seed) % SWAPPED, &seed);
		if (round % 4 == 0)
			swap_trap(&s, &magic, &trap_id);
		if (round % 2)
			replace_steady(&s);
		log_round(&s, round);
		sched_yield();
	}
	if (round % 16)
		vd_mem_dirty_stop(s.f.mem, s.counter_id);
	atomic_store(&s.stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (trap_id)
		swap_trap(&s, &magic, &trap_id);
	fixture_close(&s.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
