/* SPDX-License-Identifier: BSD-2-Clause */
/* Incoming MSIs as the guest sees them: AIA, "Incoming MSI Controller", S-level interrupt file. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>

#include "vcpu/riscv/hart.h"

#define EIDELIVERY 0x70
#define EITHRESHOLD 0x72
#define EIP0 0x80
#define EIE0 0xc0
#define SEI (UINT64_C(1) << 9)
#define TOP(identity) ((uint64_t)(identity) << 16 | (identity))

/* CSR instructions as the hart executes them, without a program around them. */
enum operation { WRITE = 1, SET = 2, CLEAR = 3 };

static uint64_t csr_read(struct rig *rig, unsigned int csr)
{
	uint64_t value = 0;

	assert_int_equal(vd_csr_access(rig->harts[0].hart, csr, false, SET, 0, &value), CSR_OK);
	return value;
}

static uint64_t csr_change(struct rig *rig, unsigned int csr, enum operation operation,
			   uint64_t operand)
{
	uint64_t old = 0;

	assert_int_not_equal(vd_csr_access(rig->harts[0].hart, csr, true, operation, operand, &old),
			     CSR_ILLEGAL);
	return old;
}

static uint64_t sireg(struct rig *rig, uint64_t select)
{
	csr_change(rig, CSR_SISELECT, WRITE, select);
	return csr_read(rig, CSR_SIREG);
}

static void set_sireg(struct rig *rig, uint64_t select, enum operation operation, uint64_t operand)
{
	csr_change(rig, CSR_SISELECT, WRITE, select);
	csr_change(rig, CSR_SIREG, operation, operand);
}

static void enable(struct rig *rig, uint32_t identity)
{
	set_sireg(rig, EIE0 + identity / 64 * 2, SET, UINT64_C(1) << identity % 64);
}

static struct vd_hart *open_delivering(struct rig *rig)
{
	rig_open(rig, NULL);
	set_sireg(rig, EIDELIVERY, WRITE, 1);
	return rig->harts[0].hart;
}

static void pending_and_enabled_is_signalled(void **state)
{
	struct rig rig;
	struct vd_hart *hart = open_delivering(&rig);

	(void)state;
	assert_int_equal(csr_read(&rig, CSR_STOPEI), 0);
	vd_hart_msi(hart, 70);
	assert_int_equal(sireg(&rig, EIP0), 0);
	assert_int_equal(sireg(&rig, EIP0 + 2), UINT64_C(1) << 6);
	assert_int_equal(csr_read(&rig, CSR_STOPEI), 0);
	assert_int_equal(csr_read(&rig, CSR_SIP) & SEI, 0);
	enable(&rig, 70);
	assert_int_equal(csr_read(&rig, CSR_STOPEI), TOP(70));
	assert_int_equal(csr_read(&rig, CSR_SIP) & SEI, SEI);
	assert_int_equal(csr_read(&rig, CSR_STOPI), 0); /* not in sie */
	csr_change(&rig, CSR_SIE, WRITE, SEI);
	assert_int_equal(csr_read(&rig, CSR_STOPI), 9 << 16 | 1);
	set_sireg(&rig, EIE0 + 2, CLEAR, UINT64_C(1) << 6);
	assert_int_equal(csr_read(&rig, CSR_SIP) & SEI, 0);
	assert_int_equal(sireg(&rig, EIP0 + 2), UINT64_C(1) << 6);
	rig_close(&rig);
}

static void a_claim_takes_the_lowest_identity(void **state)
{
	static const uint32_t sent[] = {255, 64, 63, 1, 128, 191};
	static const uint32_t claimed[] = {1, 63, 64, 128, 191, 255};
	struct rig rig;
	struct vd_hart *hart = open_delivering(&rig);

	(void)state;
	for (unsigned int i = 0; i < 6; i++) {
		enable(&rig, sent[i]);
		vd_hart_msi(hart, sent[i]);
		vd_hart_msi(hart, sent[i]); /* pending already: one interrupt */
	}
	for (unsigned int i = 0; i < 6; i++) {
		assert_int_equal(csr_read(&rig, CSR_STOPEI), TOP(claimed[i])); /* claims nothing */
		assert_int_equal(csr_change(&rig, CSR_STOPEI, WRITE, 0), TOP(claimed[i]));
	}
	assert_int_equal(csr_change(&rig, CSR_STOPEI, WRITE, 0), 0);
	rig_close(&rig);
}

static void identities_that_do_not_exist_are_ignored(void **state)
{
	static const uint32_t bad[] = {0, 256, 257, 511, 2048, 1u << 31, UINT32_MAX};
	struct rig rig;
	struct vd_hart *hart = open_delivering(&rig);

	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		set_sireg(&rig, EIE0 + 2 * i, WRITE, UINT64_MAX);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		vd_hart_msi(hart, bad[i]);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(sireg(&rig, EIP0 + 2 * i), 0);
	assert_int_equal(csr_read(&rig, CSR_STOPEI), 0);
	/* Nor can software set them. */
	set_sireg(&rig, EIP0, WRITE, 1);
	assert_int_equal(sireg(&rig, EIP0), 0);
	assert_int_equal(sireg(&rig, EIE0), UINT64_MAX - 1);
	set_sireg(&rig, EIP0 + 8, WRITE, UINT64_MAX); /* 256 to 319 */
	assert_int_equal(sireg(&rig, EIP0 + 8), 0);
	rig_close(&rig);
}

static void the_threshold_hides_what_is_not_below_it(void **state)
{
	struct rig rig;
	struct vd_hart *hart = open_delivering(&rig);

	(void)state;
	enable(&rig, 20);
	vd_hart_msi(hart, 20);
	set_sireg(&rig, EITHRESHOLD, WRITE, 20);
	assert_int_equal(csr_read(&rig, CSR_STOPEI), 0);
	assert_int_equal(csr_read(&rig, CSR_SIP) & SEI, 0);
	assert_int_equal(csr_change(&rig, CSR_STOPEI, WRITE, 0), 0); /* nothing to claim */
	set_sireg(&rig, EITHRESHOLD, WRITE, 21);
	assert_int_equal(csr_read(&rig, CSR_STOPEI), TOP(20));
	set_sireg(&rig, EITHRESHOLD, WRITE, 1);
	assert_int_equal(csr_read(&rig, CSR_STOPEI), 0);
	set_sireg(&rig, EITHRESHOLD, WRITE, 0); /* 0: no threshold */
	assert_int_equal(csr_read(&rig, CSR_STOPEI), TOP(20));
	rig_close(&rig);
}

/* "Top external interrupt CSR": eidelivery is about the signal to the hart, not about stopei. */
static void without_delivery_the_file_still_answers(void **state)
{
	struct rig rig;
	struct vd_hart *hart = open_delivering(&rig);

	(void)state;
	enable(&rig, 20);
	vd_hart_msi(hart, 20);
	set_sireg(&rig, EIDELIVERY, WRITE, 0);
	assert_int_equal(csr_read(&rig, CSR_SIP) & SEI, 0);
	assert_int_equal(csr_read(&rig, CSR_STOPEI), TOP(20));
	assert_int_equal(csr_change(&rig, CSR_STOPEI, WRITE, 0), TOP(20));
	set_sireg(&rig, EIDELIVERY, WRITE, 1);
	assert_int_equal(csr_read(&rig, CSR_SIP) & SEI, 0);
	rig_close(&rig);
}

static void software_writes_the_arrays(void **state)
{
	struct rig rig;

	(void)state;
	open_delivering(&rig);
	set_sireg(&rig, EIP0 + 4, WRITE, 0xf0);
	set_sireg(&rig, EIP0 + 4, SET, 0x0f);
	set_sireg(&rig, EIP0 + 4, CLEAR, 0x11);
	assert_int_equal(sireg(&rig, EIP0 + 4), 0xee);
	set_sireg(&rig, EIE0 + 4, WRITE, 0x88);
	assert_int_equal(csr_change(&rig, CSR_STOPEI, WRITE, 0), TOP(131));
	set_sireg(&rig, EIP0 + 4, WRITE, 0);
	assert_int_equal(csr_read(&rig, CSR_STOPEI), 0);
	rig_close(&rig);
}

/* RV64 has no odd registers; the priorities of major interrupts are read-only zeros. */
static void selects_that_do_not_exist_are_illegal(void **state)
{
	struct rig rig;
	uint64_t value;

	(void)state;
	open_delivering(&rig);
	for (uint64_t select = 0; select < 0x200; select++) {
		bool priority = select >= 0x30 && select < 0x40;
		bool array = select >= EIP0 && select < 0x100;
		bool legal = select == EIDELIVERY || select == EITHRESHOLD ||
			     ((priority || array) && !(select & 1));
		bool reserved = select > EIDELIVERY && select < EIP0 && !legal;
		enum csr_result result;

		if (reserved) /* of the IMSIC's range: unspecified */
			continue;
		csr_change(&rig, CSR_SISELECT, WRITE, select);
		result = vd_csr_access(rig.harts[0].hart, CSR_SIREG, false, SET, 0, &value);
		if ((result == CSR_OK) != legal)
			fail_msg("read of select 0x%llx", (unsigned long long)select);
		result = vd_csr_access(rig.harts[0].hart, CSR_SIREG, true, WRITE, 0, &value);
		if ((result != CSR_ILLEGAL) != legal)
			fail_msg("write of select 0x%llx", (unsigned long long)select);
		if (priority && legal) {
			csr_change(&rig, CSR_SIREG, WRITE, UINT64_MAX);
			assert_int_equal(csr_read(&rig, CSR_SIREG), 0);
		}
	}
	rig_close(&rig);
}

/* ---- against MSIs that arrive meanwhile ------------------------------------ */

#define PASSES RIG_DATA
#define CLAIMS(identity) (RIG_DATA + 8 * (identity))
#define STOP_FLAG (RIG_DATA + RIG_PAGE)
#define PASSES_MAX 100000u

static void *run(void *argument)
{
	struct rig_hart *h = argument;

	vd_hart_run(h->hart);
	return NULL;
}

/* Start the program at RIG_CODE on a thread; x9 RIG_DATA, x10 EIP0's array index, x14 STOP_FLAG. */
static pthread_t start_racing(struct rig *rig)
{
	struct vd_hart *hart = rig_start(rig, 0, RIG_CODE, RIG_SUPERVISOR);
	pthread_t thread;

	rig->harts[0].polls_max = 0;
	set_sireg(rig, EIDELIVERY, WRITE, 1);
	enable(rig, 100);
	enable(rig, 200);
	csr_change(rig, CSR_SISELECT, WRITE, EIP0);
	vd_hart_set_x(hart, 9, RIG_DATA);
	vd_hart_set_x(hart, 11, 1 << 3);
	vd_hart_set_x(hart, 14, STOP_FLAG);
	assert_int_equal(pthread_create(&thread, NULL, run, &rig->harts[0]), 0);
	return thread;
}

/* Set and clear change their bits only: an MSI that arrives between read and write is kept. */
static void set_and_clear_lose_no_msi(void **state)
{
	struct rig rig;
	pthread_t thread;

	(void)state;
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE, CSRS(CSR_SIREG, 11), CSRC(CSR_SIREG, 11), ADDI(12, 12, 1),
		 SD(12, 9, 0), LD(13, 14, 0), BEQ(13, 0, -20), END);
	thread = start_racing(&rig);
	for (unsigned int i = 0; i < 300; i++) {
		_Atomic uint64_t *pending = &rig.harts[0].hart->imsic.pending[0];
		uint64_t bit = UINT64_C(1) << (8 + i % 56), pass;

		vd_hart_msi(rig.harts[0].hart, 8 + i % 56);
		pass = rig_read64(&rig, PASSES);
		while (rig_read64(&rig, PASSES) < pass + 2)
			sched_yield();
		assert_true(atomic_fetch_and(pending, ~bit) & bit);
	}
	rig_write64(&rig, STOP_FLAG, 1);
	pthread_join(thread, NULL);
	rig_close(&rig);
}

/* What a claim returns is what it takes, also when something more urgent arrives in between. */
static void a_claim_takes_what_it_returned(void **state)
{
	struct rig rig;
	pthread_t thread;

	(void)state;
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE, CSRRW(11, CSR_STOPEI, 0), ADDI(12, 12, 1), SD(12, 9, 0),
		 BEQ(11, 0, 28), ANDI(11, 11, 0x7ff), SLLI(11, 11, 3), ADD(11, 11, 9), LD(13, 11, 0),
		 ADDI(13, 13, 1), SD(13, 11, 0), LD(13, 14, 0), BEQ(13, 0, -44), END);
	thread = start_racing(&rig);
	for (unsigned int i = 1; i <= 600; i++) {
		uint64_t pass;

		vd_hart_msi(rig.harts[0].hart, 200);
		for (unsigned int k = 0; k < i % 64; k++)
			atomic_load(&rig.harts[0].hart->requests); /* now sooner, now later */
		vd_hart_msi(rig.harts[0].hart, 100);
		pass = rig_read64(&rig, PASSES);
		while (rig_read64(&rig, CLAIMS(100)) < i || rig_read64(&rig, CLAIMS(200)) < i) {
			assert_true(rig_read64(&rig, PASSES) < pass + PASSES_MAX);
			sched_yield();
		}
		assert_int_equal(rig_read64(&rig, CLAIMS(100)), i);
		assert_int_equal(rig_read64(&rig, CLAIMS(200)), i);
	}
	rig_write64(&rig, STOP_FLAG, 1);
	pthread_join(thread, NULL);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pending_and_enabled_is_signalled),
		cmocka_unit_test(a_claim_takes_the_lowest_identity),
		cmocka_unit_test(identities_that_do_not_exist_are_ignored),
		cmocka_unit_test(the_threshold_hides_what_is_not_below_it),
		cmocka_unit_test(without_delivery_the_file_still_answers),
		cmocka_unit_test(software_writes_the_arrays),
		cmocka_unit_test(selects_that_do_not_exist_are_illegal),
		cmocka_unit_test(set_and_clear_lose_no_msi),
		cmocka_unit_test(a_claim_takes_what_it_returned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
