/* SPDX-License-Identifier: BSD-2-Clause */
/* What harts may see of each other's stores: unprivileged manual, "RVWMO Memory Consistency". */
#include "rig.h"

#include <pthread.h>
#include <sched.h>

#define HARTS 2u
#define ROUNDS 40000u
#define FENCE_RW_RW 0x0330000fu

/* Lines of their own, so that stores wait in the host's store buffers. */
#define FLAG(hart) (RIG_DATA + (hart) * RIG_PAGE)
#define BARRIER (RIG_DATA + HARTS * RIG_PAGE)
#define SEEN(hart) (RIG_DATA + UINT64_C(0x100000) * (1 + (hart)))

static void yield(struct rig *rig, struct vd_hart *hart)
{
	(void)rig, (void)hart;
	sched_yield();
}

static void *run(void *argument)
{
	struct rig_hart *h = argument;

	vd_hart_run(h->hart);
	return NULL;
}

/*
 * Each round, after both came to the barrier: store the round's number into the own flag, fence,
 * load the other's. x9 own flag, x10 the other's, x11 barrier, x12 where what was seen goes.
 */
static void load_store_buffering(struct rig *rig)
{
	RIG_LOAD(rig, RIG_CODE, AMOADD_D(0, 11, 19), LD(20, 11, 0), BLTU(20, 21, -4),
		 SD(18, 9, 0), FENCE_RW_RW, LD(22, 10, 0), SD(22, 12, 0), ADDI(12, 12, 8),
		 ADDI(18, 18, 1), ADDI(21, 21, HARTS), BNE(18, 25, -40), END);
}

static void start(struct rig *rig, unsigned int hart)
{
	struct vd_hart *h = rig_start(rig, hart, RIG_CODE, RIG_SUPERVISOR);

	rig->harts[hart].polls_max = 0;
	vd_hart_set_x(h, 9, FLAG(hart));
	vd_hart_set_x(h, 10, FLAG(!hart));
	vd_hart_set_x(h, 11, BARRIER);
	vd_hart_set_x(h, 12, SEEN(hart));
	vd_hart_set_x(h, 18, 1);
	vd_hart_set_x(h, 19, 1);
	vd_hart_set_x(h, 21, HARTS);
	vd_hart_set_x(h, 25, ROUNDS + 1);
}

/* With a full fence between store and load, at least one of two harts sees the other's store. */
static void a_fence_orders_stores_before_loads(void **state)
{
	struct rig rig;
	pthread_t threads[HARTS];
	unsigned int blind = 0;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.harts = HARTS});
	rig.poll = yield;
	load_store_buffering(&rig);
	for (unsigned int i = 0; i < HARTS; i++)
		start(&rig, i);
	for (unsigned int i = 0; i < HARTS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, &rig.harts[i]), 0);
	for (unsigned int i = 0; i < HARTS; i++)
		pthread_join(threads[i], NULL);
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		uint64_t at = 8 * (round - 1);

		blind += rig_read64(&rig, SEEN(0) + at) < round &&
			 rig_read64(&rig, SEEN(1) + at) < round;
	}
	assert_int_equal(blind, 0);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fence_orders_stores_before_loads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
