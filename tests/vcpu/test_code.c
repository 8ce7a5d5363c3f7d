/* SPDX-License-Identifier: BSD-2-Clause */
/* Decoded code: programs that change, lie across pages, or do not fit into the cache. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define FUNCTION (RIG_CODE + 0x1000)
#define OTHER (RIG_DATA + UINT64_C(0x200000))
#define RETURN JALR(0, 1, 0)
#define FLAGS (RIG_V | RIG_R | RIG_W | RIG_X | RIG_AD)

static int return_from_fetch(struct rig *rig, struct vd_hart *hart, const struct rig_trap *trap)
{
	(void)rig;
	if (trap->cause == FETCH_PAGE || trap->cause == FETCH_ACCESS)
		vd_hart_set_x(hart, 30, vd_hart_x(hart, 1));
	return 0;
}

static struct vd_hart *start(struct rig *rig)
{
	struct vd_hart *hart = rig_start(rig, 0, RIG_CODE, RIG_SUPERVISOR);

	vd_hart_set_x(hart, 10, FUNCTION);
	return hart;
}

/* ---- programs that change themselves ------------------------------------ */

static void stores_to_code_are_seen_after_fence_i(void **state)
{
	struct rig rig;
	struct vd_hart *hart;
	struct vd_hart_stats stats;

	(void)state;
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE, JALR(1, 10, 0), ADDI(12, 11, 0), SW(9, 10, 0), FENCE_I,
		 JALR(1, 10, 0), END);
	RIG_LOAD(&rig, FUNCTION, ADDI(11, 0, 1), RETURN);
	hart = start(&rig);
	vd_hart_set_x(hart, 9, ADDI(11, 0, 2));
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 12), 1);
	assert_int_equal(vd_hart_x(hart, 11), 2);
	vd_hart_stats(hart, &stats);
	assert_int_equal(stats.fence_is, 1);
	assert_true(stats.code_verifies >= 1);
	rig_close(&rig);
}

/* Either instruction may run without the fence; nothing else may. */
static void stores_without_fence_i_show_old_or_new_code(void **state)
{
	struct rig rig;
	struct vd_hart *hart;
	uint64_t seen;

	(void)state;
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE, JALR(1, 10, 0), SW(9, 10, 0), JALR(1, 10, 0), ADDI(12, 11, 0),
		 FENCE_I, JALR(1, 10, 0), END);
	RIG_LOAD(&rig, FUNCTION, ADDI(11, 0, 1), RETURN);
	hart = start(&rig);
	vd_hart_set_x(hart, 9, ADDI(11, 0, 2));
	rig_run(&rig, 0);
	seen = vd_hart_x(hart, 12);
	assert_true(seen == 1 || seen == 2);
	assert_int_equal(vd_hart_x(hart, 11), 2);
	rig_close(&rig);
}

/* The instruction behind the fence itself, twice, so that it had been decoded. */
static void the_running_page_may_change(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE, SW(9, 10, 12), FENCE_I, ADDI(12, 12, 1), ADDI(11, 11, 1),
		 ADDI(9, 13, 0), BNE(12, 14, -20), END);
	hart = start(&rig);
	vd_hart_set_x(hart, 9, ADDI(11, 11, 1));
	vd_hart_set_x(hart, 10, RIG_CODE);
	vd_hart_set_x(hart, 13, ADDI(11, 11, 0x100));
	vd_hart_set_x(hart, 14, 3);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 0x201);
	rig_close(&rig);
}

/* Only the second half of an instruction changes: it has to be decoded again as a whole. */
static void half_an_instruction_may_change(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE, JALR(1, 10, 0), ADDI(12, 11, 0), SH(9, 10, 2), FENCE_I,
		 JALR(1, 10, 0), END);
	RIG_LOAD(&rig, FUNCTION, ADDI(11, 0, 1), RETURN);
	hart = start(&rig);
	vd_hart_set_x(hart, 9, ADDI(11, 0, 0x7f2) >> 16);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 12), 1);
	assert_int_equal(vd_hart_x(hart, 11), 0x7f2);
	rig_close(&rig);
}

/* lui x12, 0x458d0 holds c.li x11, 3 in its upper half: both are decoded where they are entered. */
static void instructions_may_overlap(void **state)
{
	const uint32_t lui = insn_u(INSN_LUI, 12, 0x458d0000);
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	assert_int_equal(lui >> 16, insn_ci(1, 2, 11, 3));
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE, JALR(1, 10, 0), ADDI(13, 11, 0), JALR(1, 10, 2), END);
	RIG_LOAD(&rig, FUNCTION, lui, RETURN);
	hart = start(&rig);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 12), 0x458d0000);
	assert_int_equal(vd_hart_x(hart, 13), 0);
	assert_int_equal(vd_hart_x(hart, 11), 3);
	rig_close(&rig);
}

/* ---- a cache that is too small -------------------------------------------- */

#define PAGES 9u
#define ROUNDS 3u

/* Pages call each other in a circle, and one of their instructions lies across two pages. */
static void a_full_cache_starts_again(void **state)
{
	struct vd_hart_stats stats;
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.code_cache_bytes = 1});
	for (unsigned int i = 0; i < PAGES; i++) {
		uint64_t page = RIG_DATA + i * RIG_PAGE;

		RIG_LOAD(&rig, page + 2, ADDI(11, 11, 1), JAL(0, 0xff6));
		RIG_LOAD(&rig, page + 0xffc, 0x00010001 /* two c.nop */);
		RIG_LOAD(&rig, page + 0xffe, ADDI(12, 12, 1));
	}
	RIG_LOAD(&rig, RIG_DATA + PAGES * RIG_PAGE + 2, RETURN);
	RIG_LOAD(&rig, RIG_CODE, JALR(1, 10, 2), ADDI(13, 13, 1), BNE(13, 14, -8), END);
	hart = start(&rig);
	vd_hart_set_x(hart, 10, RIG_DATA);
	vd_hart_set_x(hart, 14, ROUNDS);
	rig_run(&rig, 0);
	rig_expect_no_trap(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), PAGES * ROUNDS);
	assert_int_equal(vd_hart_x(hart, 12), PAGES * ROUNDS);
	vd_hart_stats(hart, &stats);
	assert_true(stats.code_pages >= PAGES * ROUNDS); /* fewer would have fit */
	rig_close(&rig);
}

/* ---- instructions across two pages ------------------------------------------ */

#define LAST (RIG_DATA + 0xffe) /* where they begin */
#define VA UINT64_C(0x40000000)

/* An instruction's halves in two pages that are neighbours only for the guest. */
static void load_across(struct rig *rig, uint32_t insn)
{
	uint16_t low = (uint16_t)insn, high = (uint16_t)(insn >> 16);
	uint32_t code[] = {ADDI(13, 13, 1), RETURN};

	rig_write(rig, LAST, &low, sizeof(low));
	rig_write(rig, OTHER, &high, sizeof(high));
	rig_write(rig, OTHER + 2, code, sizeof(code));
}

static void open_across(struct rig *rig)
{
	rig_open(rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig->trap = return_from_fetch;
	rig_paging(rig, RIG_SV39);
	rig_map(rig, VA, RIG_DATA, 0, FLAGS);
	rig_map(rig, VA + RIG_PAGE, OTHER, 0, FLAGS);
	RIG_LOAD(rig, RIG_CODE, JALR(1, 10, 0), END);
}

static struct vd_hart *run_across(struct rig *rig)
{
	struct vd_hart *hart = start(rig);

	vd_hart_set_x(hart, 10, VA + 0xffe);
	rig_run(rig, 0);
	return hart;
}

static void instructions_across_pages_run(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	open_across(&rig);
	load_across(&rig, ADDI(11, 0, 0x123));
	hart = run_across(&rig);
	assert_int_equal(vd_hart_x(hart, 11), 0x123);
	assert_int_equal(vd_hart_x(hart, 13), 1);
	/* Jumps count from where it begins, and link behind it. */
	load_across(&rig, JAL(5, 8));
	RIG_LOAD(&rig, OTHER + 6, RETURN);
	hart = run_across(&rig);
	assert_int_equal(vd_hart_x(hart, 5), VA + RIG_PAGE + 2);
	assert_int_equal(vd_hart_x(hart, 13), 0);
	load_across(&rig, BEQ(0, 0, 8));
	RIG_LOAD(&rig, OTHER + 6, RETURN);
	assert_int_equal(vd_hart_x(run_across(&rig), 13), 0);
	load_across(&rig, BNE(0, 0, 8));
	assert_int_equal(vd_hart_x(run_across(&rig), 13), 1);
	/* Back into the first page. */
	load_across(&rig, JAL(5, -0x7e));
	RIG_LOAD(&rig, LAST - 0x7e, ADDI(11, 0, 0x321), RETURN);
	assert_int_equal(vd_hart_x(run_across(&rig), 11), 0x321);
	load_across(&rig, insn_u(INSN_AUIPC, 11, 0));
	assert_int_equal(vd_hart_x(run_across(&rig), 11), VA + 0xffe);
	rig_expect_no_trap(&rig, 0);
	rig_close(&rig);
}

static void exceptions_across_pages_name_the_instruction(void **state)
{
	struct rig rig;

	(void)state;
	open_across(&rig);
	load_across(&rig, LD(11, 0, 0));
	run_across(&rig);
	rig_expect_trap(&rig, 0, LOAD_PAGE, 0, VA + 0xffe);
	load_across(&rig, CSRR(11, 0x7ff));
	run_across(&rig);
	rig_expect_trap(&rig, 0, ILLEGAL, CSRR(11, 0x7ff), VA + 0xffe);
	rig_close(&rig);
}

/* The second half faults: its page is named, and the instruction as where to go on. */
static void a_missing_second_page_faults(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	open_across(&rig);
	load_across(&rig, ADDI(11, 0, 0x123));
	rig_map(&rig, VA + RIG_PAGE, OTHER, 0, 0);
	hart = run_across(&rig);
	rig_expect_trap(&rig, 0, FETCH_PAGE, VA + RIG_PAGE, VA + 0xffe);
	assert_int_equal(vd_hart_x(hart, 11), 0);
	rig_map(&rig, VA + RIG_PAGE, UINT64_C(0x20000000), 0, FLAGS);
	run_across(&rig);
	rig_expect_trap(&rig, 0, FETCH_ACCESS, VA + RIG_PAGE, VA + 0xffe);
	/* Two bytes need no second page. */
	rig_map(&rig, VA + RIG_PAGE, OTHER, 0, 0);
	load_across(&rig, insn_cr(8, 1, 0) /* c.jr x1 */);
	run_across(&rig);
	rig_expect_no_trap(&rig, 0);
	rig_close(&rig);
}

/* After fence.i and sfence.vma the second half is read again, wherever it lies now. */
static int change_second_half(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	uint16_t half = (uint16_t)(ADDI(11, 0, 0x456) >> 16);

	(void)hart;
	if (number == 1)
		rig_write(rig, OTHER, &half, sizeof(half));
	else
		rig_map(rig, VA + RIG_PAGE, OTHER + RIG_PAGE, 0, FLAGS);
	return 0;
}

static void the_second_half_may_change(void **state)
{
	const uint32_t moved[] = {ADDI(11, 0, 0x789) >> 16 | RETURN << 16, RETURN >> 16};
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	open_across(&rig);
	rig.step = change_second_half;
	load_across(&rig, ADDI(11, 0, 0x123));
	rig_write(&rig, OTHER + RIG_PAGE, moved, sizeof(moved));
	RIG_LOAD(&rig, RIG_CODE, JALR(1, 10, 0), ADDI(14, 11, 0), STEP(1), FENCE_I, JALR(1, 10, 0),
		 ADDI(15, 11, 0), STEP(2), SFENCE_VMA(9), JALR(1, 10, 0), END);
	hart = start(&rig);
	vd_hart_set_x(hart, 9, VA + RIG_PAGE);
	vd_hart_set_x(hart, 10, VA + 0xffe);
	rig_run(&rig, 0);
	rig_expect_no_trap(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 14), 0x123);
	assert_int_equal(vd_hart_x(hart, 15), 0x456);
	assert_int_equal(vd_hart_x(hart, 11), 0x789);
	rig_close(&rig);
}

/* ---- code changed by others ---------------------------------------------------- */

#define VERSIONS 200u
#define SEEN RIG_DATA		  /* the version that the hart ran last */
#define PASSES (RIG_DATA + 8)

static void *run(void *argument)
{
	struct rig_hart *h = argument;

	vd_hart_run(h->hart);
	return NULL;
}

static void a_remote_fence_is_obeyed(void **state)
{
	struct rig rig;
	struct vd_hart *hart;
	pthread_t thread;

	(void)state;
	rig_open(&rig, NULL);
	rig.harts[0].polls_max = 0;
	RIG_LOAD(&rig, RIG_CODE, JALR(1, 10, 0), SD(11, 9, 0), ADDI(12, 12, 1), SD(12, 9, 8),
		 BNE(11, 0, -16), END);
	RIG_LOAD(&rig, FUNCTION, ADDI(11, 0, 1), RETURN);
	hart = start(&rig);
	vd_hart_set_x(hart, 9, SEEN);
	assert_int_equal(pthread_create(&thread, NULL, run, &rig.harts[0]), 0);
	for (unsigned int version = 2; version <= VERSIONS; version++) {
		uint64_t pass;

		RIG_LOAD(&rig, FUNCTION, ADDI(11, 0, version));
		vd_hart_request_flush(hart);
		/* The pass that runs now may have called it before. */
		pass = rig_read64(&rig, PASSES);
		while (rig_read64(&rig, PASSES) < pass + 2)
			sched_yield();
		assert_int_equal(rig_read64(&rig, SEEN), version);
	}
	RIG_LOAD(&rig, FUNCTION, ADDI(11, 0, 0));
	vd_hart_request_flush(hart);
	pthread_join(thread, NULL);
	rig_close(&rig);
}

/* An environment in which the second-stage fault at OTHER changes code and fences the hart. */
struct fence_env {
	struct vd_env env;
	struct rig *rig;
	uint32_t *code;
};

static void change_code(const struct vd_env *env, enum vd_trace_event event, uint64_t gpa,
			uint64_t b, uint64_t c)
{
	struct fence_env *fence = (struct fence_env *)(uintptr_t)env;

	(void)event, (void)b, (void)c;
	if ((gpa & ~(RIG_PAGE - 1)) != OTHER)
		return;
	vd_guest_store32(fence->code, ADDI(11, 0, 2));
	vd_hart_request_flush(fence->rig->harts[0].hart); /* outside: not waited for */
}

/* The fence comes while an access is in its slow path: what follows the access is new already. */
static void a_fence_met_in_an_access_is_obeyed(void **state)
{
	const uint32_t accesses[] = {
		LD(12, 10, 0), SD(12, 10, 0), AMOADD_D(12, 10, 0),
		insn_r(INSN_AMO, 3, 2 << 2, 12, 10, 0) /* lr.d */,
		insn_r(INSN_AMO, 3, 3 << 2, 12, 10, 0) /* sc.d */,
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(accesses) / sizeof(accesses[0]); i++) {
		struct fence_env fence = {.env = *vd_env_hosted()};
		struct vd_host_page page;
		struct rig rig;
		struct vd_hart *hart;

		fence.env.trace_events = VD_TRACE_FAULT;
		fence.env.trace = change_code;
		fence.rig = &rig;
		rig_open(&rig, &(struct rig_setup){.env = &fence.env});
		RIG_LOAD(&rig, RIG_CODE, accesses[i], ADDI(11, 0, 1), END);
		assert_int_equal(vd_host_object_lookup(rig.ram, RIG_CODE + 4 - RIG_RAM,
						       VD_READ | VD_WRITE, &page), 0);
		fence.code = (void *)((char *)vd_host_pointer(vd_host_window_base(rig.host),
							      page.pfn, 12) + 4);
		hart = start(&rig);
		vd_hart_set_x(hart, 10, OTHER);
		rig_run(&rig, 0);
		rig_expect_no_trap(&rig, 0);
		if (vd_hart_x(hart, 11) != 2)
			fail_msg("access %u: the old instruction ran", i);
		rig_close(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stores_to_code_are_seen_after_fence_i),
		cmocka_unit_test(stores_without_fence_i_show_old_or_new_code),
		cmocka_unit_test(the_running_page_may_change),
		cmocka_unit_test(half_an_instruction_may_change),
		cmocka_unit_test(instructions_may_overlap),
		cmocka_unit_test(a_full_cache_starts_again),
		cmocka_unit_test(instructions_across_pages_run),
		cmocka_unit_test(exceptions_across_pages_name_the_instruction),
		cmocka_unit_test(a_missing_second_page_faults),
		cmocka_unit_test(the_second_half_may_change),
		cmocka_unit_test(a_remote_fence_is_obeyed),
		cmocka_unit_test(a_fence_met_in_an_access_is_obeyed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
