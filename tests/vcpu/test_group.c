/* SPDX-License-Identifier: BSD-2-Clause */
/* The shoot-down: harts in guest while others take their translations away. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "vcpu/riscv/hart.h"

#define HARTS 2u
#define PAGES 64u
#define MOVES 400u
#define FLUSHES 300u
#define DEVICE UINT64_C(0x10000000)

/* Where hart h keeps its word of page p: its neighbours lie in the same cache line. */
#define WORD(page, hart) (RIG_DATA + (page) * RIG_PAGE + 8 * (hart))
#define STOP_FLAG (RIG_DATA + PAGES * RIG_PAGE)

enum { STEP_STALE = 1, STEP_FLUSH_ALL, STEP_FLUSH_SELF };

struct stress {
	_Atomic unsigned int running;
	_Atomic unsigned int stale;
	_Atomic unsigned int stops; /* requests to stop that ended a run */
};

static int stress_step(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	struct stress *s = rig->test;

	if (number == STEP_FLUSH_ALL)
		vd_hart_group_flush(rig->group, (vd_gpa){0}, UINT64_MAX);
	else if (number == STEP_FLUSH_SELF)
		vd_hart_request_flush(hart);
	else
		atomic_fetch_add(&s->stale, 1);
	return number == STEP_STALE;
}

/*
 * For each page: the word must hold x10, then gets x10 + 1. x9 first word, x11 this one, x13 the
 * page size, x14 the flag that ends it. No branch goes back before all pages are done: a hart that
 * is not waited for has long to do harm.
 */
static void load_counting(struct rig *rig)
{
	uint32_t code[5 * PAGES + 9] = {0};
	unsigned int n = 0;

	code[n++] = ADDI(11, 9, 0);
	code[n++] = ADDI(20, 10, 1);
	for (unsigned int page = 0; page < PAGES; page++) {
		code[n++] = LD(21, 11, 0);
		code[n++] = BEQ(21, 10, 8);
		code[n] = JAL(0, (int64_t)(sizeof(code) - 8 - 4 * n));
		n++;
		code[n++] = SD(20, 11, 0);
		code[n++] = ADD(11, 11, 13);
	}
	code[n++] = ADDI(10, 20, 0);
	code[n++] = LD(21, 14, 0);
	code[n] = BEQ(21, 0, -(int64_t)(4 * n));
	n++;
	code[n++] = ADDI(17, 0, RIG_STEP_END);
	code[n++] = ECALL;
	rig_write(rig, RIG_CODE, code, 4 * n);
	RIG_LOAD(rig, RIG_CODE + sizeof(code) - 8, STEP(STEP_STALE));
}

static void start_counting(struct rig *rig, unsigned int hart)
{
	struct vd_hart *h = rig_start(rig, hart, RIG_CODE, RIG_SUPERVISOR);

	vd_hart_set_x(h, 9, WORD(0, hart));
	vd_hart_set_x(h, 13, RIG_PAGE);
	vd_hart_set_x(h, 14, STOP_FLAG);
	rig->harts[hart].polls_max = 0; /* the mover says when */
}

static void *count(void *argument)
{
	struct rig_hart *h = argument;
	struct stress *s = h->rig->test;

	atomic_fetch_add(&s->running, 1);
	while (vd_hart_run(h->hart) == VD_HART_EXIT_STOP)
		atomic_fetch_add(&s->stops, 1);
	return NULL;
}

static void disturb(struct rig *rig, unsigned int round)
{
	/* Runs of all lengths, the page with the flag among them. */
	uint64_t first = round % PAGES, pages = 1 + round / 3 % (PAGES + 1 - first);

	switch (round % 4) {
	default:
		assert_int_equal(vd_host_object_move(rig->ram,
						     WORD(first, 0) - RIG_RAM, pages * RIG_PAGE,
						     true), 0);
		break;
	case 1:
		vd_hart_group_flush(rig->group, (vd_gpa){RIG_DATA}, RIG_PAGE);
		break;
	case 2:
		vd_hart_request_flush(rig->harts[round / 4 % HARTS].hart);
		break;
	case 3:
		vd_hart_request_stop(rig->harts[round / 4 % HARTS].hart);
		break;
	}
}

static void moved_pages_are_never_stale(void **state)
{
	struct rig rig;
	struct stress s = {0};
	pthread_t threads[HARTS];
	uint64_t passes = 0;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.harts = HARTS, .flags = VD_HART_CHECK_TLB});
	rig.test = &s;
	rig.step = stress_step;
	load_counting(&rig);
	for (unsigned int i = 0; i < HARTS; i++)
		start_counting(&rig, i);
	for (unsigned int i = 0; i < HARTS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, &rig.harts[i]), 0);
	while (atomic_load(&s.running) < HARTS)
		sched_yield();
	for (unsigned int round = 0; round < MOVES; round++)
		disturb(&rig, round);
	/* Code moves as well as data. */
	assert_int_equal(vd_host_object_move(rig.ram, RIG_CODE - RIG_RAM, RIG_PAGE, true), 0);
	rig_write64(&rig, STOP_FLAG, 1);
	for (unsigned int i = 0; i < HARTS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&s.stale), 0);
	assert_true(atomic_load(&s.stops) > 0);
	for (unsigned int i = 0; i < HARTS; i++) {
		passes = vd_hart_x(rig.harts[i].hart, 10);
		assert_true(passes > 0);
		rig_expect_no_trap(&rig, i);
		for (unsigned int page = 0; page < PAGES; page++)
			assert_int_equal(rig_read64(&rig, WORD(page, i)), passes);
	}
	rig_close(&rig);
}

static void *run(void *argument)
{
	struct rig_hart *h = argument;

	vd_hart_run(h->hart);
	return NULL;
}

/* Harts that never go outside by themselves: whoever returns from a flush has their answer. */
static void a_flush_waits_for_harts_in_guest(void **state)
{
	struct rig rig;
	pthread_t threads[HARTS];

	(void)state;
	rig_open(&rig, &(struct rig_setup){.harts = HARTS, .no_poll = true});
	RIG_LOAD(&rig, RIG_CODE, ADDI(11, 0, 1), SD(11, 10, 0), LD(12, 14, 0), BEQ(12, 0, -8), END);
	for (unsigned int i = 0; i < HARTS; i++) {
		struct vd_hart *h = rig_start(&rig, i, RIG_CODE, RIG_SUPERVISOR);

		vd_hart_set_x(h, 10, WORD(0, i));
		vd_hart_set_x(h, 14, STOP_FLAG);
		assert_int_equal(pthread_create(&threads[i], NULL, run, &rig.harts[i]), 0);
	}
	for (unsigned int i = 0; i < HARTS; i++)
		while (!rig_read64(&rig, WORD(0, i)))
			sched_yield();
	for (unsigned int round = 0; round < FLUSHES; round++) {
		if (round % 2)
			vd_hart_group_flush(rig.group, (vd_gpa){0}, UINT64_MAX);
		else
			for (unsigned int i = 0; i < HARTS; i++)
				vd_hart_request_flush(rig.harts[i].hart);
		for (unsigned int i = 0; i < HARTS; i++)
			assert_false(atomic_load(&rig.harts[i].hart->requests) & REQUEST_FLUSH);
	}
	rig_write64(&rig, STOP_FLAG, 1);
	for (unsigned int i = 0; i < HARTS; i++)
		pthread_join(threads[i], NULL);
	rig_close(&rig);
}

/* A hart in its own callback is outside: it may flush everybody, itself too. */
static void a_callback_may_flush(void **state)
{
	struct rig rig;
	uint64_t flushes;

	(void)state;
	rig_open(&rig, NULL);
	rig.step = stress_step;
	RIG_LOAD(&rig, RIG_CODE, STEP(STEP_FLUSH_ALL), STEP(STEP_FLUSH_SELF), END);
	flushes = vd_hart_group_flushes(rig.group);
	rig_go(&rig, 0, RIG_SUPERVISOR);
	/* Others are those of the page faults. */
	assert_true(vd_hart_group_flushes(rig.group) > flushes);
	rig_close(&rig);
}

/* Nobody is in guest: nothing to wait for, before the first run, after the last, and without harts. */
static void harts_outside_are_not_waited_for(void **state)
{
	struct rig rig;
	uint64_t flushes;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.harts = HARTS});
	flushes = vd_hart_group_flushes(rig.group);
	vd_hart_request_flush(rig.harts[1].hart);
	vd_hart_group_flush(rig.group, (vd_gpa){0}, 1);
	assert_int_equal(vd_hart_group_flushes(rig.group), flushes + 1);
	RIG_LOAD(&rig, RIG_CODE, END);
	rig_go(&rig, 0, RIG_SUPERVISOR);
	vd_hart_request_flush(rig.harts[0].hart);
	for (unsigned int i = 0; i < HARTS; i++)
		vd_hart_destroy(rig.harts[i].hart);
	rig.hart_count = 0;
	vd_hart_group_flush(rig.group, (vd_gpa){0}, 1);
	rig_close(&rig);
}

/* A flush that came while a hart was outside is obeyed when it goes in again. */
static int move_read(void *context, uint64_t offset, unsigned int length, uint64_t *value)
{
	struct rig *rig = context;

	(void)offset, (void)length, (void)value;
	assert_int_equal(vd_host_object_move(rig->ram, RIG_DATA - RIG_RAM, RIG_PAGE, true), 0);
	rig_write64(rig, RIG_DATA, 0x1111);
	return 0;
}

static int ignore_write(void *context, uint64_t offset, unsigned int length, uint64_t value)
{
	(void)context, (void)offset, (void)length, (void)value;
	return 0;
}

static void a_flush_while_outside_is_obeyed(void **state)
{
	static const struct vd_trap_ops device = {move_read, ignore_write};
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig_trap_area(&rig, DEVICE, RIG_PAGE, &device);
	rig_write64(&rig, RIG_DATA, 0x2222);
	RIG_LOAD(&rig, RIG_CODE, LD(11, 10, 0), SD(11, 10, 0), LD(12, 9, 0), LD(12, 10, 0),
		 ADDI(13, 12, 1), SD(13, 10, 0), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 9, DEVICE);
	vd_hart_set_x(hart, 10, RIG_DATA);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 0x2222);
	assert_int_equal(vd_hart_x(hart, 12), 0x1111);
	assert_int_equal(rig_read64(&rig, RIG_DATA), 0x1112);
	rig_close(&rig);
}

/* A request made before the run ends it at once, and only it. */
static void stop_requests_are_kept(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE, ADDI(10, 0, 7), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_request_stop(hart);
	assert_int_equal(vd_hart_run(hart), VD_HART_EXIT_STOP);
	assert_int_equal(vd_hart_x(hart, 10), 0);
	assert_int_equal(vd_hart_run(hart), VD_HART_EXIT_HALT);
	assert_int_equal(vd_hart_x(hart, 10), 7);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(harts_outside_are_not_waited_for),
		cmocka_unit_test(stop_requests_are_kept),
		cmocka_unit_test(a_callback_may_flush),
		cmocka_unit_test(a_flush_while_outside_is_obeyed),
		cmocka_unit_test(a_flush_waits_for_harts_in_guest),
		cmocka_unit_test(moved_pages_are_never_stale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
