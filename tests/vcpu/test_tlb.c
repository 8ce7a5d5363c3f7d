/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the soft TLB may keep: it is filled from the second-stage table as it is, and what changes in
 * either stage or in the slots shows once it was flushed.
 */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define OTHER (RIG_DATA + UINT64_C(0x200000)) /* the next 2 MiB */
#define VA UINT64_C(0x4000000000)	      /* a virtual address that is 256 GiB up */
#define DEVICE UINT64_C(0x10000000)

/* ---- the second stage ------------------------------------------------ */

/* The leaf of the Sv48x4 table (its root is four pages) that translates @gpa. */
static uint64_t *second_stage_leaf(struct rig *rig, uint64_t gpa)
{
	size_t bytes;
	uint64_t *table = vd_mmu_root(rig->mmu, &bytes), *entry;
	uint64_t mask = bytes / 8 - 1;

	assert_int_equal(bytes, 4 * RIG_PAGE);
	for (unsigned int shift = 39;; shift -= 9) {
		uint64_t pte;

		entry = &table[gpa >> shift & mask];
		pte = __atomic_load_n(entry, __ATOMIC_ACQUIRE);
		assert_true(pte & RIG_V);
		if (pte & (RIG_R | RIG_W | RIG_X))
			return entry;
		assert_true(shift > 12);
		table = vd_host_pointer(vd_host_window_base(rig->host),
					(vd_pfn){pte >> 10 & ((UINT64_C(1) << 44) - 1)}, 12);
		mask = 511;
	}
}

static void corrupt(struct rig *rig, uint64_t gpa, uint64_t pte)
{
	__atomic_store_n(second_stage_leaf(rig, gpa), pte, __ATOMIC_RELEASE);
	vd_hart_group_flush(rig->group, (vd_gpa){gpa}, RIG_PAGE);
}

static int clear_leaf(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	(void)hart, (void)number;
	corrupt(rig, RIG_DATA, 0);
	return 0;
}

static int redirect_leaf(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	uint64_t other = *second_stage_leaf(rig, OTHER);

	(void)hart, (void)number;
	corrupt(rig, RIG_DATA, other);
	return 0;
}

static int flush_only(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	(void)hart, (void)number;
	vd_hart_group_flush(rig->group, (vd_gpa){RIG_DATA}, RIG_PAGE);
	return 0;
}

/* x11 and x12: what is read at RIG_DATA before and after the step; x13: OTHER, read first. */
static struct vd_hart *load_around_a_step(struct rig *rig)
{
	struct vd_hart *hart;

	rig_write64(rig, RIG_DATA, 0x1111);
	rig_write64(rig, OTHER, 0x2222);
	RIG_LOAD(rig, RIG_CODE, LD(13, 9, 0), LD(11, 10, 0), STEP(1), LD(12, 10, 0), END);
	hart = rig_start(rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 9, OTHER);
	vd_hart_set_x(hart, 10, RIG_DATA);
	return hart;
}

static uint64_t ram_faults(struct rig *rig)
{
	struct vd_mmu_stats stats;

	vd_mmu_stats(rig->mmu, &stats);
	return stats.faults_ram;
}

static void a_leaf_that_was_cleared_faults_again(void **state)
{
	struct rig rig;
	struct vd_hart *hart;
	uint64_t faults;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig.step = flush_only;
	hart = load_around_a_step(&rig);
	rig_run(&rig, 0);
	faults = ram_faults(&rig);
	hart = load_around_a_step(&rig);
	rig_run(&rig, 0);
	assert_int_equal(ram_faults(&rig), faults); /* the table still has it: a walk, no fault */
	rig.step = clear_leaf;
	hart = load_around_a_step(&rig);
	rig_run(&rig, 0);
	assert_int_equal(ram_faults(&rig), faults + 1);
	assert_int_equal(vd_hart_x(hart, 11), 0x1111);
	assert_int_equal(vd_hart_x(hart, 12), 0x1111);
	rig_close(&rig);
}

/* The table is walked, not a shortcut beside it: the guest sees what a wrong leaf says. */
static void a_leaf_that_lies_is_believed(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	rig.step = redirect_leaf;
	hart = load_around_a_step(&rig);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 0x1111);
	assert_int_equal(vd_hart_x(hart, 12), 0x2222);
	rig_close(&rig);
}

static void a_leaf_that_lies_is_found_by_the_check(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig.step = redirect_leaf;
	hart = load_around_a_step(&rig);
	RIG_LOAD(&rig, RIG_CODE + 20, JAL(0, 0));
	assert_int_equal(vd_hart_run(hart), VD_HART_EXIT_CHECK);
	rig_close(&rig);
}

/* ---- sfence.vma and satp ---------------------------------------------- */

struct remap {
	uint64_t entry, pte;
	uint64_t fills[4]; /* until the step of this number */
};

static int change_entry(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	struct remap *remap = rig->test;
	struct vd_hart_stats stats;

	vd_hart_stats(hart, &stats);
	remap->fills[number] = stats.tlb_fills;
	rig_write64(rig, remap->entry, remap->pte);
	return 0;
}

/* Three pages of one superpage are in the TLB; sfence.vma of one address drops all three. */
static void sfence_of_an_address_drops_its_superpage(void **state)
{
	for (unsigned int level = 1; level <= 4; level++) {
		uint64_t size = UINT64_C(1) << (12 + 9 * level);
		uint64_t va = level == 4 ? size : UINT64_C(3) << 39, gpa = RIG_DATA & ~(size - 1);
		/* Not even loaded from; in the largest leaf also far away from what was. */
		uint64_t other = level == 4 ? UINT64_C(1) << 40 : 100 * RIG_PAGE;
		uint64_t at = va + (RIG_DATA - gpa);
		struct remap remap = {.pte = 0};
		struct rig rig;
		struct vd_hart *hart;

		(void)state;
		rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
		rig.test = &remap;
		rig.step = change_entry;
		rig_paging(&rig, level == 4 ? RIG_SV57 : RIG_SV48);
		remap.entry = rig_map(&rig, va, gpa, level, RIG_V | RIG_R | RIG_W | RIG_AD);
		RIG_LOAD(&rig, RIG_CODE, LD(11, 10, 0), LD(11, 12, 0), SD(11, 13, 0), STEP(1),
			 SFENCE_VMA(14), LD(11, 10, 0), LD(11, 12, 0), SD(11, 13, 0), END);
		hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
		vd_hart_set_x(hart, 10, at);
		vd_hart_set_x(hart, 12, at + 5 * RIG_PAGE);
		vd_hart_set_x(hart, 13, at + 77 * RIG_PAGE);
		vd_hart_set_x(hart, 14, at + other);
		rig_run(&rig, 0);
		assert_int_equal(rig.harts[0].trap_count, 3);
		assert_int_equal(rig.harts[0].traps[0].cause, LOAD_PAGE);
		assert_int_equal(rig.harts[0].traps[1].cause, LOAD_PAGE);
		assert_int_equal(rig.harts[0].traps[2].cause, STORE_PAGE);
		rig_close(&rig);
	}
}

static void sfence_of_a_page_drops_it_and_keeps_others(void **state)
{
	/* Not where the code's page would have to make room for it. */
	const uint64_t va = (VA >> 8) + 0x40 * RIG_PAGE;
	struct remap remap = {0};
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig.test = &remap;
	rig.step = change_entry;
	rig_paging(&rig, RIG_SV39);
	rig_map(&rig, va, RIG_DATA, 0, RIG_V | RIG_R | RIG_AD);
	remap.entry = rig_map(&rig, va + RIG_PAGE, RIG_DATA + RIG_PAGE, 0, RIG_V | RIG_R | RIG_AD);
	remap.pte = OTHER >> 12 << 10 | RIG_V | RIG_R | RIG_AD;
	rig_write64(&rig, RIG_DATA, 1);
	rig_write64(&rig, RIG_DATA + RIG_PAGE, 2);
	rig_write64(&rig, OTHER, 3);
	RIG_LOAD(&rig, RIG_CODE, LD(11, 9, 0), LD(12, 10, 0), STEP(1), SFENCE_VMA(10), LD(12, 10, 0),
		 LD(11, 9, 0), STEP(2), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 9, va);
	vd_hart_set_x(hart, 10, va + RIG_PAGE);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 1);
	assert_int_equal(vd_hart_x(hart, 12), 3);
	rig_expect_no_trap(&rig, 0);
	assert_int_equal(remap.fills[2] - remap.fills[1], 1);
	rig_close(&rig);
}

/* Also the page that the program itself runs in. */
static void sfence_reaches_the_running_code(void **state)
{
	const uint64_t va = VA >> 8;
	struct remap remap;
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig.test = &remap;
	rig.step = change_entry;
	rig_paging(&rig, RIG_SV39);
	remap.entry = rig_map(&rig, va, RIG_DATA, 0, RIG_V | RIG_X | RIG_AD);
	remap.pte = OTHER >> 12 << 10 | RIG_V | RIG_X | RIG_AD;
	RIG_LOAD(&rig, RIG_DATA, STEP(1), SFENCE_VMA(10), ADDI(11, 0, 1), END);
	RIG_LOAD(&rig, OTHER, STEP(1), SFENCE_VMA(10), ADDI(11, 0, 2), END);
	hart = rig_start(&rig, 0, va, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 10, va);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 2);
	rig_close(&rig);
}

/* No ASIDs: a new satp is seen by the next access, and the old one when it comes back. */
static void satp_switches_the_tables(void **state)
{
	const uint64_t va = VA >> 8, second = RIG_TABLES + 0x80000;
	uint8_t root[RIG_PAGE];
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig_paging(&rig, RIG_SV39);
	assert_int_equal(vd_mem_read(rig.mem, (vd_gpa){RIG_TABLES}, root, sizeof(root)), 0);
	rig_write(&rig, second, root, sizeof(root));
	rig_map(&rig, va, RIG_DATA, 1, RIG_V | RIG_R | RIG_AD);
	/* In the other tables all of that GiB is RAM from its start on. */
	rig_write64(&rig, second + (va >> 30) * 8, RIG_RAM >> 12 << 10 | RIG_V | RIG_R | RIG_AD);
	rig_write64(&rig, RIG_DATA + 0x8000, 0x1111);
	rig_write64(&rig, RIG_RAM + 0x8000, 0x2222);
	RIG_LOAD(&rig, RIG_CODE, LD(11, 10, 0), CSRRW(15, CSR_SATP, 9), LD(12, 10, 0),
		 CSRRW(16, CSR_SATP, 15), LD(13, 10, 0), CSRW(CSR_SATP, 0), LD(14, 10, 0), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 9, (uint64_t)RIG_SV39 << 60 | second >> 12);
	vd_hart_set_x(hart, 10, va + 0x8000);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 0x1111);
	assert_int_equal(vd_hart_x(hart, 12), 0x2222);
	assert_int_equal(vd_hart_x(hart, 13), 0x1111);
	assert_int_equal(vd_hart_x(hart, 15), rig.satp);
	/* Bare: the virtual address is the physical one, where nothing is. */
	rig_expect_trap(&rig, 0, LOAD_ACCESS, va + 0x8000, RIG_CODE + 24);
	rig_close(&rig);
}

/* ---- slots come, go and move ------------------------------------------- */

struct slots {
	uint32_t trap_id, id;
	unsigned int reads;
};

static int trap_read(void *context, uint64_t offset, unsigned int length, uint64_t *value)
{
	struct rig *rig = context;

	((struct slots *)rig->test)->reads++;
	*value = 0x5500 + offset + length;
	return 0;
}

static int trap_write(void *context, uint64_t offset, unsigned int length, uint64_t value)
{
	(void)context, (void)offset, (void)length, (void)value;
	return 0;
}

static const struct vd_trap_ops trap_ops = {trap_read, trap_write};

static struct vd_slot_config memory_slot(struct rig *rig, uint64_t base)
{
	return (struct vd_slot_config){.base = {base}, .size = 2 * RIG_PAGE, .kind = VD_SLOT_RAM,
				       .object = rig->ram, .offset = RIG_DATA - RIG_RAM};
}

/* 1: memory in place of the trap; 2: moved up a page; 3: removed; 4: the trap again */
static int change_slots(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	struct vd_slot_config slot = memory_slot(rig, DEVICE);
	struct slots *slots = rig->test;
	struct vd_mem_update *update;

	(void)hart;
	if (number == 4) {
		slots->trap_id = rig_trap_area(rig, DEVICE, RIG_PAGE, &trap_ops);
		return 0;
	}
	assert_int_equal(vd_mem_begin(rig->mem, &update), 0);
	if (number == 1) {
		assert_int_equal(vd_mem_remove(update, slots->trap_id), 0);
		assert_int_equal(vd_mem_add(update, &slot, &slots->id, NULL), 0);
	} else if (number == 2) {
		assert_int_equal(vd_mem_move(update, slots->id, (vd_gpa){DEVICE + RIG_PAGE}, NULL),
				 0);
	} else {
		assert_int_equal(vd_mem_remove(update, slots->id), 0);
	}
	vd_mem_commit(update);
	return 0;
}

static void changes_of_slots_are_seen(void **state)
{
	struct slots slots = {0};
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig.test = &slots;
	rig.step = change_slots;
	slots.trap_id = rig_trap_area(&rig, DEVICE, RIG_PAGE, &trap_ops);
	rig_write64(&rig, RIG_DATA, 0x1111);
	rig_write64(&rig, RIG_DATA + RIG_PAGE, 0x2222);
	RIG_LOAD(&rig, RIG_CODE, LD(11, 10, 0), LD(11, 10, 0), STEP(1), LD(12, 10, 0),
		 LD(13, 9, 0), SD(13, 9, 8), STEP(2), LD(14, 9, 0),
		 /* 40: */ LD(15, 10, 0), STEP(3),
		 /* 52: */ LD(15, 9, 0), STEP(4), LD(16, 10, 0), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 9, DEVICE + RIG_PAGE);
	vd_hart_set_x(hart, 10, DEVICE);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 0x5508);
	assert_int_equal(vd_hart_x(hart, 12), 0x1111);
	assert_int_equal(vd_hart_x(hart, 13), 0x2222);
	assert_int_equal(vd_hart_x(hart, 14), 0x1111);
	assert_int_equal(vd_hart_x(hart, 16), 0x5508);
	assert_int_equal(slots.reads, 3);
	assert_int_equal(rig.harts[0].trap_count, 2);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(rig.harts[0].traps[i].cause, LOAD_ACCESS);
	assert_int_equal(rig.harts[0].traps[0].tval, DEVICE);
	assert_int_equal(rig.harts[0].traps[1].tval, DEVICE + RIG_PAGE);
	rig_close(&rig);
}

static void *toggle_slots(void *argument)
{
	struct rig *rig = argument;
	struct slots *slots = rig->test;

	for (unsigned int round = 0; round < 100; round++) {
		const struct vd_slot_config trap = {
			.base = {DEVICE}, .size = 2 * RIG_PAGE, .kind = VD_SLOT_TRAP,
			.ops = &trap_ops, .context = rig, .reason = "test",
		};
		struct vd_slot_config memory = memory_slot(rig, DEVICE);
		struct vd_mem_update *update;

		if (vd_mem_begin(rig->mem, &update) || vd_mem_remove(update, slots->trap_id) ||
		    vd_mem_add(update, round % 2 ? &trap : &memory, &slots->trap_id, NULL))
			return rig;
		vd_mem_commit(update);
	}
	rig_write64(rig, OTHER, 1);
	return NULL;
}

/* A BAR whose mapping is switched while a hart reads it: each read finds one or the other. */
static void a_replaced_slot_leaves_no_hole(void **state)
{
	struct slots slots = {0};
	struct rig rig;
	struct vd_hart *hart;
	pthread_t thread;
	void *failed;

	(void)state;
	rig_open(&rig, NULL);
	rig.harts[0].polls_max = 0;
	rig.test = &slots;
	slots.trap_id = rig_trap_area(&rig, DEVICE, 2 * RIG_PAGE, &trap_ops);
	rig_write64(&rig, RIG_DATA, 0x5508);
	RIG_LOAD(&rig, RIG_CODE, LD(11, 10, 0), BNE(11, 12, 16), LD(13, 9, 0), BEQ(13, 0, -12), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 9, OTHER);
	vd_hart_set_x(hart, 10, DEVICE);
	vd_hart_set_x(hart, 12, 0x5508);
	assert_int_equal(pthread_create(&thread, NULL, toggle_slots, &rig), 0);
	rig_run(&rig, 0);
	pthread_join(thread, &failed);
	assert_null(failed);
	rig_expect_no_trap(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 0x5508);
	assert_int_equal(vd_hart_x(hart, 13), 1);
	rig_close(&rig);
}

/* An environment that replaces the trap by memory as the hart enters its n-th read section. */
struct swap_env {
	struct vd_env env;
	struct rig *rig;
	unsigned int depth, at;
};

static void swap_enter(const struct vd_env *env)
{
	struct swap_env *swap = (struct swap_env *)(uintptr_t)env;

	if (swap->depth++ == 0 && swap->at && --swap->at == 0) {
		swap->depth = 0;
		change_slots(swap->rig, NULL, 1);
		swap->depth = 1;
	}
	vd_env_hosted()->read_enter(env);
}

static void swap_leave(const struct vd_env *env)
{
	((struct swap_env *)(uintptr_t)env)->depth--;
	vd_env_hosted()->read_leave(env);
}

static int arm_swap(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	struct swap_env *swap = (struct swap_env *)(uintptr_t)rig->env;

	(void)hart;
	if (number == 2)
		return swap->at != 0; /* fewer read sections than that: the last round */
	swap->at = (unsigned int)vd_hart_x(hart, 20);
	return 0;
}

/* The same, at each place where the load might be overtaken. Return: whether there was one. */
static bool load_overtaken_at(unsigned int section)
{
	struct swap_env swap = {.env = *vd_env_hosted()};
	struct slots slots = {0};
	struct rig rig;
	struct vd_hart *hart;
	uint64_t value;

	swap.env.read_enter = swap_enter;
	swap.env.read_leave = swap_leave;
	swap.rig = &rig;
	rig_open(&rig, &(struct rig_setup){.env = &swap.env});
	rig.test = &slots;
	rig.step = arm_swap;
	slots.trap_id = rig_trap_area(&rig, DEVICE, 2 * RIG_PAGE, &trap_ops);
	rig_write64(&rig, RIG_DATA, 0x5508);
	RIG_LOAD(&rig, RIG_CODE, STEP(1), LD(11, 10, 0), STEP(2), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 10, DEVICE);
	vd_hart_set_x(hart, 20, section);
	rig_run(&rig, 0);
	rig_expect_no_trap(&rig, 0);
	value = vd_hart_x(hart, 11);
	assert_int_equal(value, 0x5508);
	section = swap.at;
	swap.at = 0;
	rig_close(&rig);
	return section == 0;
}

static void a_load_overtaken_by_a_replacement_succeeds(void **state)
{
	unsigned int section = 1;

	(void)state;
	while (load_overtaken_at(section))
		section++;
	assert_true(section > 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_leaf_that_was_cleared_faults_again),
		cmocka_unit_test(a_leaf_that_lies_is_believed),
		cmocka_unit_test(a_leaf_that_lies_is_found_by_the_check),
		cmocka_unit_test(sfence_of_an_address_drops_its_superpage),
		cmocka_unit_test(sfence_of_a_page_drops_it_and_keeps_others),
		cmocka_unit_test(sfence_reaches_the_running_code),
		cmocka_unit_test(satp_switches_the_tables),
		cmocka_unit_test(changes_of_slots_are_seen),
		cmocka_unit_test(a_load_overtaken_by_a_replacement_succeeds),
		cmocka_unit_test(a_replaced_slot_leaves_no_hole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
