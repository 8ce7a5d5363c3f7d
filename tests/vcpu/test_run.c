/* SPDX-License-Identifier: BSD-2-Clause */
/* The run loop where a program makes no progress: it is still polled, stopped and interrupted. */
#include "rig.h"

#include "vcpu/riscv/hart.h"

#define NOWHERE UINT64_C(0x10000)
#define POLLS 3u

/* No handler: the fetch of the handler faults, for ever. */
static void a_hart_that_cannot_fetch_is_polled(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE, CSRW(CSR_STVEC, 9), JALR(0, 9, 0));
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 9, NOWHERE);
	rig.harts[0].polls_max = POLLS;
	assert_int_equal(vd_hart_run(hart), VD_HART_EXIT_STOP);
	assert_int_equal(rig.harts[0].polls, POLLS + 1);
	assert_int_equal(vd_hart_pc(hart).value, NOWHERE);
	rig_close(&rig);
}

static int end(void *context, struct vd_hart *hart)
{
	(void)context, (void)hart;
	return 1;
}

/* Without a way to sleep, waiting is as if an interrupt had come that nobody sent. */
static void waiting_without_idle_goes_on(void **state)
{
	static const struct vd_hart_ops ops = {.ecall = end};
	struct vd_hart_config config = {.timebase_hz = 10000000, .ops = &ops};
	struct vd_error error;
	struct vd_hart *hart;
	struct rig rig;

	(void)state;
	rig_open(&rig, NULL);
	config.env = rig.env;
	config.group = rig.group;
	config.mem = rig.mem;
	config.mmu = rig.mmu;
	assert_int_equal(vd_hart_create(&config, &hart, &error), 0);
	RIG_LOAD(&rig, RIG_CODE, WFI, ADDI(11, 11, 1), WFI, ADDI(11, 11, 1), END);
	vd_hart_reset(hart, (vd_gva){RIG_CODE});
	assert_int_equal(vd_hart_run(hart), VD_HART_EXIT_HALT);
	assert_int_equal(vd_hart_x(hart, 11), 2);
	vd_hart_destroy(hart);
	rig_close(&rig);
}

static void lose_page(struct rig *rig, struct vd_hart *hart, uint64_t deadline_ns)
{
	(void)rig, (void)deadline_ns;
	vd_hart_request(hart, REQUEST_LOST_PAGE); /* as the guard does in a callback */
}

/* The exception is taken, and its handler runs: waiting is over. */
static void a_lost_page_ends_waiting(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, NULL);
	rig.idle = lose_page;
	rig.harts[0].polls_max = 1000;
	RIG_LOAD(&rig, RIG_CODE, WFI, NOP, END);
	rig_go(&rig, 0, RIG_SUPERVISOR);
	rig_expect_trap(&rig, 0, LOAD_ACCESS, RIG_CODE + 4, RIG_CODE + 4);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hart_that_cannot_fetch_is_polled),
		cmocka_unit_test(waiting_without_idle_goes_on),
		cmocka_unit_test(a_lost_page_ends_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
