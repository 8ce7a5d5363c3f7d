/* SPDX-License-Identifier: BSD-2-Clause */
/* Exceptions, interrupts, returns from them, and waiting for them. */
#include "rig.h"

#include <string.h>

#define SSI (1u << 1)
#define STI (1u << 5)
#define SEI (1u << 9)
#define SIE (1u << 1)
#define SPIE (1u << 5)
#define SPP (1u << 8)
#define USER_VA UINT64_C(0x10000000)

static int nothing_to_do(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	(void)rig, (void)hart, (void)number;
	return 0;
}

static int send_msi(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	(void)rig;
	vd_hart_msi(hart, (uint32_t)number);
	return 0;
}

/* x9 to x12: values for the program. */
static struct vd_hart *start(struct rig *rig, uint64_t sstatus, uint64_t x9, uint64_t x10)
{
	struct vd_hart *hart = rig_start(rig, 0, RIG_CODE, sstatus);

	vd_hart_set_x(hart, 9, x9);
	vd_hart_set_x(hart, 10, x10);
	return hart;
}

/* ---- exceptions ------------------------------------------------------------- */

static void exceptions_say_what_happened(void **state)
{
	const uint32_t code[] = {
		0x00100073 /* ebreak */, 0xffffffff, 0x30200073 /* mret */, CSRR(11, 0x300),
		0x00000073 + (1u << 20) /* ebreak */,
	};
	struct rig rig;

	(void)state;
	rig_open(&rig, NULL);
	rig_write(&rig, RIG_CODE, code, sizeof(code));
	RIG_LOAD(&rig, RIG_CODE + sizeof(code), END);
	rig_go(&rig, 0, RIG_SUPERVISOR);
	assert_int_equal(rig.harts[0].trap_count, 5);
	for (unsigned int i = 0; i < 5; i++) {
		const struct rig_trap *t = &rig.harts[0].traps[i];
		bool ebreak = i == 0 || i == 4;

		assert_int_equal(t->cause, ebreak ? BREAKPOINT : ILLEGAL);
		assert_int_equal(t->tval, ebreak ? RIG_CODE + 4 * i : code[i]);
		assert_int_equal(t->pc, RIG_CODE + 4 * i);
	}
	rig_close(&rig);
}

/* User mode may do none of this; its environment calls are S mode's. */
static void user_mode_may_not(void **state)
{
	const uint32_t code[] = {SRET, WFI, SFENCE_VMA(0), CSRR(11, CSR_SSTATUS),
					CSRW(CSR_SIE, 9), NOP, NOP};
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	rig.step = nothing_to_do;
	rig_paging(&rig, RIG_SV39);
	rig_map(&rig, USER_VA, RIG_CODE, 0, RIG_V | RIG_R | RIG_X | RIG_U | RIG_AD);
	rig_write(&rig, RIG_CODE, code, sizeof(code));
	RIG_LOAD(&rig, RIG_CODE + sizeof(code), STEP(1), ADDI(12, 0, 5), END);
	hart = rig_start(&rig, 0, USER_VA, RIG_USER);
	rig_run(&rig, 0);
	assert_int_equal(rig.harts[0].trap_count, 5);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(rig.harts[0].traps[i].cause, ILLEGAL);
	assert_int_equal(vd_hart_x(hart, 12), 5);
	rig_close(&rig);
}

/* sret restores SIE from SPIE and the mode from SPP, and leaves SPIE set and SPP clear. */
static void sret_unwinds_sstatus(void **state)
{
	for (unsigned int spie = 0; spie < 2; spie++) {
		struct rig rig;
		struct vd_hart *hart;
		uint64_t status;

		(void)state;
		rig_open(&rig, NULL);
		RIG_LOAD(&rig, RIG_CODE, CSRW(CSR_SEPC, 9), CSRW(CSR_SSTATUS, 10), SRET, NOP,
			 CSRR(11, CSR_SSTATUS), END);
		hart = start(&rig, RIG_SUPERVISOR, RIG_CODE + 16, SPP | (spie ? SPIE : SIE));
		rig_run(&rig, 0);
		rig_expect_no_trap(&rig, 0);
		status = vd_hart_x(hart, 11);
		assert_int_equal(status & (SIE | SPIE | SPP), SPIE | (spie ? SIE : 0));
		rig_close(&rig);
	}
}

/* ---- interrupts ---------------------------------------------------------------- */

/* A software interrupt is taken between the instruction that allowed it and the next. */
static void an_interrupt_is_taken_at_once(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	/* sip, sie, SIE in all six orders: the last of the three is what allows it. */
	for (unsigned int order = 0; order < 6; order++) {
		static const unsigned char orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
							   {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
		uint32_t code[] = {CSRS(CSR_SIP, 9), CSRS(CSR_SIE, 9), CSRS(CSR_SSTATUS, 9)};
		uint32_t ordered[3];

		for (unsigned int i = 0; i < 3; i++)
			ordered[i] = code[orders[order][i]];
		rig_write(&rig, RIG_CODE, ordered, sizeof(ordered));
		RIG_LOAD(&rig, RIG_CODE + 12, ADDI(11, 11, 1), END);
		hart = start(&rig, RIG_SUPERVISOR, SSI, 0);
		rig_run(&rig, 0);
		rig_expect_trap(&rig, 0, INTERRUPT(1), 0, RIG_CODE + 12);
		assert_int_equal(vd_hart_x(hart, 11), 1);
	}
	rig_close(&rig);
}

/* User mode is interrupted whatever SIE says, supervisor mode is not. */
static void sie_protects_supervisor_mode_only(void **state)
{
	for (unsigned int user = 0; user < 2; user++) {
		struct rig rig;

		(void)state;
		rig_open(&rig, NULL);
		rig_paging(&rig, RIG_SV39);
		rig_map(&rig, USER_VA, RIG_CODE + 0x100, 0, RIG_V | RIG_R | RIG_X | RIG_U | RIG_AD);
		RIG_LOAD(&rig, RIG_CODE, CSRS(CSR_SIP, 9), CSRS(CSR_SIE, 9), CSRW(CSR_SEPC, 10),
			 CSRC(CSR_SSTATUS, 12), CSRS(CSR_SSTATUS, 13), SRET);
		RIG_LOAD(&rig, RIG_CODE + 0x100, NOP, END);
		start(&rig, RIG_SUPERVISOR, SSI, user ? USER_VA + 0x100 : RIG_CODE + 0x100);
		vd_hart_set_x(rig.harts[0].hart, 12, SPP | SPIE);
		vd_hart_set_x(rig.harts[0].hart, 13, user ? 0 : SPP);
		rig_run(&rig, 0);
		if (user)
			rig_expect_trap(&rig, 0, INTERRUPT(1), 0, USER_VA + 0x100);
		else
			rig_expect_no_trap(&rig, 0);
		rig_close(&rig);
	}
}

/* External before software before timer; vectored interrupts have an entry each, exceptions the first. */
static void interrupts_have_an_order_and_a_vector(void **state)
{
	static const unsigned int causes[] = {9, 1, 5};
	const uint64_t table = RIG_CODE + 0x800;
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	rig.step = send_msi;
	for (unsigned int i = 0; i < 16; i++)
		RIG_LOAD(&rig, table + 4 * i, JAL(0, 0x400));
	/* What each entry jumps to: x18 = x18 << 8 | its number, and this source off. */
	RIG_LOAD(&rig, table + 0x400, END);
	for (unsigned int i = 0; i < 3; i++) {
		uint64_t entry = table + 4 * causes[i], body = table + 0x100 + 0x40 * i;

		RIG_LOAD(&rig, entry, JAL(0, (int64_t)(body - entry)));
		RIG_LOAD(&rig, body, SLLI(18, 18, 8), ADDI(18, 18, causes[i]), ADDI(20, 0, 1),
			 SLLI(20, 20, causes[i]), CSRC(CSR_SIE, 20), SRET);
	}
	/* External: identity 7, enabled. Timer: 0 is long past. */
	RIG_LOAD(&rig, RIG_CODE, CSRW(CSR_STVEC, 9), ADDI(11, 0, 0x70), CSRW(CSR_SISELECT, 11),
		 ADDI(11, 0, 1), CSRW(CSR_SIREG, 11), ADDI(11, 0, 0xc0), CSRW(CSR_SISELECT, 11),
		 ADDI(11, 0, 0x80), CSRW(CSR_SIREG, 11), CSRW(CSR_STIMECMP, 0),
		 ADDI(11, 0, SSI), CSRS(CSR_SIP, 11), CSRW(CSR_SIE, 10), STEP(7),
		 CSRR(19, CSR_SIP), CSRR(21, CSR_STOPI), CSRS(CSR_SSTATUS, 11),
		 /* 72 */ 0x00100073);
	hart = start(&rig, RIG_SUPERVISOR, table | 1, SSI | STI | SEI);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 18), 0x090105);
	assert_int_equal(vd_hart_x(hart, 19), SSI | STI | SEI);
	assert_int_equal(vd_hart_x(hart, 21), 9 << 16 | 1);
	rig_close(&rig);
}

static int set_timer(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	(void)rig;
	vd_hart_set_timer(hart, number == 1 ? vd_hart_time(hart) : UINT64_MAX);
	return 0;
}

/* stimecmp, and the SBI's way to the same: pending from that time on, until it is set anew. */
static void the_timer_interrupts(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	rig.step = set_timer;
	RIG_LOAD(&rig, RIG_CODE, CSRW(CSR_STIMECMP, 10), CSRR(11, CSR_SIP), CSRW(CSR_STIMECMP, 0),
		 CSRR(12, CSR_SIP), CSRW(CSR_STIMECMP, 10), CSRR(13, CSR_SIP), STEP(1),
		 CSRR(14, CSR_SIP), STEP(2), CSRR(15, CSR_SIP), STEP(1), CSRS(CSR_SSTATUS, 16),
		 CSRS(CSR_SIE, 9), /* 64 */ NOP, END);
	hart = start(&rig, RIG_SUPERVISOR, STI, UINT64_MAX - 1);
	vd_hart_set_x(hart, 16, SIE);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 0);
	assert_int_equal(vd_hart_x(hart, 12), STI);
	assert_int_equal(vd_hart_x(hart, 13), 0);
	assert_int_equal(vd_hart_x(hart, 14), STI);
	assert_int_equal(vd_hart_x(hart, 15), 0);
	rig_expect_trap(&rig, 0, INTERRUPT(5), 0, RIG_CODE + 64);
	rig_close(&rig);
}

/* A hart that only computes is interrupted too, by time and from outside. */
static int send_ipi(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	(void)rig;
	if (number == 1)
		vd_hart_software_interrupt(hart);
	else
		vd_hart_set_timer(hart, vd_hart_time(hart) + 1000);
	return 0;
}

static void a_loop_is_interrupted(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	for (unsigned int number = 1; number <= 2; number++) {
		rig_open(&rig, NULL);
		rig.step = send_ipi;
		/* Recording the trap turns this interrupt off and leaves its cause in scause. */
		RIG_LOAD(&rig, RIG_CODE, CSRS(CSR_SIE, 9), STEP(number), CSRR(11, CSR_SCAUSE),
			 BEQ(11, 0, -4), END);
		hart = start(&rig, RIG_SUPERVISOR | RIG_INTERRUPTS, SSI | STI, 0);
		rig_run(&rig, 0);
		assert_int_equal(rig.harts[0].trap_count, 1);
		assert_int_equal(vd_hart_x(hart, 11), INTERRUPT(number == 1 ? 1 : 5));
		rig_close(&rig);
	}
}

/* ---- waiting ---------------------------------------------------------------------- */

enum waker { WAKE_MSI, WAKE_IPI, WAKE_STOP, WAKE_EARLY };

struct waiting {
	enum waker waker;
	unsigned int idles, wakes, polls_before_idle;
	uint64_t deadline;
};

static void wake_by(struct rig *rig, struct vd_hart *hart, uint64_t deadline)
{
	struct waiting *w = rig->test;

	w->deadline = deadline;
	if (++w->idles < 3 && w->waker == WAKE_EARLY)
		return;
	if (w->waker == WAKE_IPI)
		vd_hart_software_interrupt(hart);
	else if (w->waker == WAKE_STOP && w->idles == 1)
		vd_hart_request_stop(hart);
	else
		vd_hart_msi(hart, 7);
}

static void count_wake(struct rig *rig, struct vd_hart *hart)
{
	(void)hart;
	((struct waiting *)rig->test)->wakes++;
}

/* WFI with identity 7 enabled. x9: sie. x11 counts what runs behind it. */
static struct vd_hart *start_waiting(struct rig *rig, struct waiting *w, uint64_t sie)
{
	struct vd_hart *hart;

	rig_open(rig, NULL);
	rig->test = w;
	rig->idle = wake_by;
	rig->wake = count_wake;
	RIG_LOAD(rig, RIG_CODE, ADDI(11, 0, 0x70), CSRW(CSR_SISELECT, 11), ADDI(11, 0, 1),
		 CSRW(CSR_SIREG, 11), ADDI(11, 0, 0xc0), CSRW(CSR_SISELECT, 11),
		 ADDI(11, 0, 0x80), CSRW(CSR_SIREG, 11), CSRW(CSR_SIE, 9), CSRW(CSR_STIMECMP, 10),
		 ADDI(11, 0, 1), WFI, /* 48 */ ADDI(11, 11, 1), END);
	hart = start(rig, RIG_SUPERVISOR | RIG_INTERRUPTS, sie, UINT64_MAX);
	return hart;
}

static void wfi_sleeps_until_something_comes(void **state)
{
	for (enum waker waker = WAKE_MSI; waker <= WAKE_EARLY; waker++) {
		struct waiting w = {.waker = waker};
		struct rig rig;
		struct vd_hart *hart = start_waiting(&rig, &w, SEI | SSI);

		(void)state;
		if (waker == WAKE_STOP) { /* waits on when it is run again */
			assert_int_equal(vd_hart_run(hart), VD_HART_EXIT_STOP);
			assert_int_equal(vd_hart_x(hart, 11), 1);
		}
		rig_run(&rig, 0);
		assert_int_equal(w.idles, waker == WAKE_EARLY ? 3 : waker == WAKE_STOP ? 2 : 1);
		assert_int_equal(w.wakes, waker == WAKE_STOP ? 2 : 1);
		assert_int_equal(w.deadline, UINT64_MAX);
		assert_int_equal(vd_hart_x(hart, 11), 2);
		rig_expect_trap(&rig, 0, INTERRUPT(waker == WAKE_IPI ? 1 : 9), 0, RIG_CODE + 48);
		rig_close(&rig);
	}
}

/* What is pending already ends it; without SIE it just goes on. */
static void wfi_with_something_pending_does_not_sleep(void **state)
{
	struct waiting w = {0};
	struct rig rig;
	struct vd_hart *hart = start_waiting(&rig, &w, STI);

	(void)state;
	vd_hart_set_x(hart, 7, RIG_SUPERVISOR); /* interrupts off */
	vd_hart_set_x(hart, 10, 0);		/* the timer is due */
	rig_run(&rig, 0);
	assert_int_equal(w.idles, 0);
	assert_int_equal(vd_hart_x(hart, 11), 2);
	rig_expect_no_trap(&rig, 0);
	rig_close(&rig);
}

/* The deadline is the timer's, if that can interrupt, in nanoseconds. */
static void wfi_names_the_timer_as_deadline(void **state)
{
	for (unsigned int enabled = 0; enabled < 2; enabled++) {
		struct waiting w = {.waker = WAKE_MSI};
		struct rig rig;
		struct vd_hart *hart = start_waiting(&rig, &w, SEI | (enabled ? STI : 0));
		uint64_t ticks = vd_hart_time(hart) + 10000000u * 3600u;

		(void)state;
		vd_hart_set_x(hart, 10, ticks);
		rig_run(&rig, 0);
		assert_int_equal(w.deadline, enabled ? ticks * 100 : UINT64_MAX);
		rig_close(&rig);
	}
}

/* Another thread asks for a poll just after one: the hart must not go to sleep on it. */
static void ask_for_another_poll(struct rig *rig, struct vd_hart *hart)
{
	struct waiting *w = rig->test;

	if (vd_hart_x(hart, 11) == 1 && w->polls_before_idle < 3) {
		assert_int_equal(w->idles, 0);
		w->polls_before_idle++;
		vd_hart_request_poll(hart);
	}
}

static void a_poll_request_before_sleep_is_kept(void **state)
{
	struct waiting w = {.waker = WAKE_MSI};
	struct rig rig;

	(void)state;
	start_waiting(&rig, &w, SEI);
	rig.poll = ask_for_another_poll;
	rig_run(&rig, 0);
	assert_int_equal(w.polls_before_idle, 3);
	assert_int_equal(w.idles, 1);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exceptions_say_what_happened),
		cmocka_unit_test(user_mode_may_not),
		cmocka_unit_test(sret_unwinds_sstatus),
		cmocka_unit_test(an_interrupt_is_taken_at_once),
		cmocka_unit_test(sie_protects_supervisor_mode_only),
		cmocka_unit_test(interrupts_have_an_order_and_a_vector),
		cmocka_unit_test(the_timer_interrupts),
		cmocka_unit_test(a_loop_is_interrupted),
		cmocka_unit_test(wfi_sleeps_until_something_comes),
		cmocka_unit_test(wfi_with_something_pending_does_not_sleep),
		cmocka_unit_test(wfi_names_the_timer_as_deadline),
		cmocka_unit_test(a_poll_request_before_sleep_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
