/* SPDX-License-Identifier: BSD-2-Clause */
/* A hart's state, out of one hart and into another. */
#include "rig.h"

#include <string.h>

#include "../base/test_env.h"
#include "vcpu/riscv/hart.h"

enum { READ = 2, WRITE = 1 };

static const struct rig_setup two = {.harts = 2};
static const struct rig_setup two_machine = {.harts = 2, .flags = VD_HART_MACHINE};

/* Each hart's own, or changing by itself. */
static bool is_compared(unsigned csr)
{
	return csr != 0xc01 && csr != 0xf14;
}

static bool csr_get(struct vd_hart *h, unsigned csr, uint64_t *value)
{
	*value = 0;
	return vd_csr_access(h, csr, false, READ, 0, value) == CSR_OK;
}

/* Every register, and what lies behind siselect, reads alike. */
static void assert_alike(struct vd_hart *a, struct vd_hart *b)
{
	uint64_t x, y, selected = a->siselect;

	assert_int_equal(a->siselect, b->siselect);
	for (unsigned select = 0; select < 256; select++) {
		a->siselect = b->siselect = select;
		assert_int_equal(csr_get(a, CSR_SIREG, &x), csr_get(b, CSR_SIREG, &y));
		assert_int_equal(x, y);
	}
	a->siselect = b->siselect = selected;
	for (unsigned csr = 0; csr < 4096; csr++) {
		bool there = csr_get(a, csr, &x);

		assert_int_equal(there, csr_get(b, csr, &y));
		if (there && is_compared(csr) && x != y)
			fail_msg("CSR 0x%x: 0x%llx, not 0x%llx", csr, (unsigned long long)y,
				 (unsigned long long)x);
	}
	for (unsigned i = 0; i < 32; i++) {
		assert_int_equal(vd_hart_x(a, i), vd_hart_x(b, i));
		assert_int_equal(vd_hart_f(a, i), vd_hart_f(b, i));
	}
	assert_int_equal(vd_hart_pc(a).value, vd_hart_pc(b).value);
	assert_int_equal(a->privilege, b->privilege);
	assert_int_equal(a->fp_on, b->fp_on);
	assert_int_equal(a->waiting, b->waiting);
}

/* Through the guest's own door, so that only what a guest can bring about comes out. */
static void scramble(struct vd_hart *h, uint64_t *seed)
{
	uint64_t old;

	for (unsigned i = 1; i < 32; i++) {
		vd_hart_set_x(h, i, test_random(seed));
		vd_hart_set_f(h, i, test_random(seed));
	}
	for (unsigned n = 0; n < 6000; n++) {
		unsigned csr = (unsigned)(test_random(seed) % 4096);

		vd_csr_access(h, csr, true, WRITE, test_random(seed), &old);
	}
	for (unsigned select = 0x70; select < 0x100; select++) {
		vd_csr_access(h, CSR_SISELECT, true, WRITE, select, &old);
		vd_csr_access(h, CSR_SIREG, true, WRITE, test_random(seed), &old);
	}
	vd_csr_access(h, CSR_STIMECMP, true, WRITE, UINT64_MAX - 5, &old);
	vd_hart_msi(h, (uint32_t)(test_random(seed) % 256));
	h->pc = test_random(seed) & ~1ull;
	h->waiting = test_random(seed) & 1;
	h->count = test_random(seed) >> 8;
	if (!hart_machine(h))
		h->privilege = test_random(seed) & 1 ? PRIV_S : PRIV_U;
	vd_tlb_update_context(h);
}

static void round_trip(const struct rig_setup *setup)
{
	struct vd_hart_state first, again;
	uint64_t seed = 7;
	struct rig rig;

	rig_open(&rig, setup);
	for (unsigned round = 0; round < 50; round++) {
		struct vd_hart *a = rig.harts[0].hart, *b = rig.harts[1].hart;

		scramble(a, &seed);
		scramble(b, &seed);
		memset(&first, 0xa5, sizeof(first));
		memset(&again, 0x5a, sizeof(again));
		vd_hart_save(a, &first);
		assert_int_equal(vd_hart_load(b, &first), 0);
		vd_hart_save(b, &again);
		assert_memory_equal(&first, &again, sizeof(first));
		a->privilege = b->privilege = hart_machine(a) ? PRIV_M : PRIV_S;
		assert_alike(a, b);
		vd_hart_reset(a, (vd_gva){0});
		vd_hart_reset(b, (vd_gva){0});
	}
	rig_close(&rig);
}

static void every_register_comes_back(void **state)
{
	(void)state;
	round_trip(&two);
	round_trip(&two_machine);
}

/* What is taken at all is what comes out again, and what is refused changes nothing. */
static void hostile_states_are_refused_as_a_whole(void **state)
{
	struct vd_hart_state good, bad, before, after;
	unsigned refused = 0, taken = 0;
	uint64_t seed = 11;
	struct rig rig;

	(void)state;
	rig_open(&rig, &two);
	scramble(rig.harts[0].hart, &seed);
	vd_hart_save(rig.harts[0].hart, &good);
	for (size_t word = 0; word < VD_HART_STATE_WORDS; word++) {
		for (unsigned bit = 0; bit < 64; bit++) {
			struct vd_hart *h = rig.harts[1].hart;

			bad = good;
			((uint64_t *)&bad)[word] ^= 1ull << bit;
			vd_hart_save(h, &before);
			if (vd_hart_load(h, &bad)) {
				vd_hart_save(h, &after);
				assert_memory_equal(&before, &after, sizeof(after));
				refused++;
			} else {
				vd_hart_save(h, &after);
				assert_memory_equal(&bad, &after, sizeof(after));
				taken++;
			}
		}
	}
	assert_true(refused > 500 && taken > 5000);
	bad = good;
	bad.privilege = PRIV_M;
	assert_int_equal(vd_hart_load(rig.harts[1].hart, &bad), -EINVAL);
	bad = good;
	bad.satp = 7ull << 60;
	assert_int_equal(vd_hart_load(rig.harts[1].hart, &bad), -EINVAL);
	rig_close(&rig);
}

static void what_was_on_its_way_is_kept(void **state)
{
	struct vd_hart_state saved;
	struct rig rig;

	(void)state;
	rig_open(&rig, &two);
	vd_hart_software_interrupt(rig.harts[0].hart);
	rig.harts[1].hart->reservation = RIG_DATA;
	vd_hart_save(rig.harts[0].hart, &saved);
	assert_int_equal(saved.sip, 2);
	assert_int_equal(vd_hart_load(rig.harts[1].hart, &saved), 0);
	assert_int_equal(rig.harts[1].hart->reservation, UINT64_MAX);
	assert_int_equal(vd_hart_sip(rig.harts[1].hart), 2);
	rig_close(&rig);
}

/* A program that was stopped half-way goes on in another hart, where time has not passed. */
static void a_program_goes_on_elsewhere(void **state)
{
	struct vd_hart_state saved;
	struct rig rig;

	(void)state;
	rig_open(&rig, &two);
	RIG_LOAD(&rig, RIG_CODE, ADDI(10, 0, 1), STEP(RIG_STEP_END), ADDI(10, 10, 41), END);
	rig_go(&rig, 0, RIG_SUPERVISOR);
	vd_hart_save(rig.harts[0].hart, &saved);
	assert_int_equal(vd_hart_load(rig.harts[1].hart, &saved), 0);
	rig_run(&rig, 1);
	assert_int_equal(vd_hart_x(rig.harts[1].hart, 10), 42);
	assert_int_equal(vd_hart_x(rig.harts[0].hart, 10), 1);
	rig_close(&rig);
}

static uint64_t still(const struct vd_env *env)
{
	(void)env;
	return 5000000000u;
}

static uint64_t deadline;

static void note_deadline(struct rig *rig, struct vd_hart *hart, uint64_t deadline_ns)
{
	(void)rig;
	deadline = deadline_ns;
	vd_hart_request_stop(hart);
}

static void wake_nobody(struct rig *rig, struct vd_hart *hart)
{
	(void)rig, (void)hart;
}

/* The timer's distance from now stays, whatever the two clocks say. */
static void time_goes_on_from_where_it_was(void **state)
{
	struct vd_env env = *vd_env_hosted();
	const struct rig_setup setup = {.env = &env};
	struct vd_hart *h;
	struct rig rig;
	uint64_t ns_per_tick;

	(void)state;
	env.clock_ns = still;
	rig_open(&rig, &setup);
	rig.idle = note_deadline;
	rig.wake = wake_nobody;
	h = rig.harts[0].hart;
	ns_per_tick = h->ns_per_tick;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t now = i ? 17 : UINT64_C(1) << 50; /* behind the clock, and before it */

		RIG_LOAD(&rig, RIG_CODE, WFI, JAL(0, -4));
		rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
		vd_hart_set_time(h, now, 5000000000u);
		assert_int_equal(vd_hart_time(h), now);
		h->sie = 1u << IRQ_STIMER;
		vd_hart_set_timer(h, now + 1000);
		assert_int_equal(vd_hart_run(h), VD_HART_EXIT_STOP);
		assert_int_equal(deadline, 5000000000u + 1000 * ns_per_tick);
	}
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_register_comes_back),
		cmocka_unit_test(hostile_states_are_refused_as_a_whole),
		cmocka_unit_test(what_was_on_its_way_is_kept),
		cmocka_unit_test(a_program_goes_on_elsewhere),
		cmocka_unit_test(time_goes_on_from_where_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
