/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Harts on shadow tables: every kind of store to the guest's own table takes effect, and a shadow
 * that lies is found by the check.
 */
#include "rig.h"

#include <stdlib.h>

#define VA UINT64_C(0x40000000)
#define TABLE_VA UINT64_C(0x40200000) /* where the program finds the table */
#define OTHER (RIG_DATA + RIG_PAGE)
#define FAR (RIG_DATA + UINT64_C(0x200000)) /* not in a leaf with RIG_DATA */
#define SWAP_D(rd, rs1, rs2) insn_r(INSN_AMO, 3, 1 << 2, rd, rs1, rs2)
#define LOAD_RESERVED_D(rd, rs1) insn_r(INSN_AMO, 3, 2 << 2, rd, rs1, 0)
#define STORE_CONDITIONAL_D(rd, rs1, rs2) insn_r(INSN_AMO, 3, 3 << 2, rd, rs1, rs2)
#define LEAF (RIG_V | RIG_R | RIG_W | RIG_AD)

static uint64_t pte(uint64_t gpa)
{
	return gpa >> 2 | LEAF;
}

/* x10: VA, x12: its entry, x13 and x14: entries for two pages, x15: the second's high half. */
static struct vd_hart *start(struct rig *rig)
{
	struct vd_hart *hart;
	uint64_t entry;

	rig_paging(rig, RIG_SV39);
	rig_write64(rig, RIG_DATA, 0x1111);
	rig_write64(rig, OTHER, 0x2222);
	entry = rig_map(rig, VA, RIG_DATA, 0, LEAF);
	rig_map(rig, TABLE_VA, entry & ~(RIG_PAGE - 1), 0, LEAF);
	hart = rig_start(rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 10, VA);
	vd_hart_set_x(hart, 12, TABLE_VA | (entry & (RIG_PAGE - 1)));
	vd_hart_set_x(hart, 13, pte(OTHER));
	vd_hart_set_x(hart, 14, pte(RIG_DATA));
	return hart;
}

static uint64_t table_stores(struct vd_hart *hart)
{
	struct vd_hart_stats stats;

	vd_hart_stats(hart, &stats);
	return stats.table_stores;
}

/* x20 and x21: what is at VA before and after the store; x22: what the store itself gave. */
static void check_store(struct rig *rig, uint64_t given, uint64_t stores)
{
	struct vd_hart *hart = start(rig);
	uint64_t before = table_stores(hart);

	rig_run(rig, 0);
	rig_expect_no_trap(rig, 0);
	assert_int_equal(vd_hart_x(hart, 20), 0x1111);
	assert_int_equal(vd_hart_x(hart, 21), 0x2222);
	assert_int_equal(vd_hart_x(hart, 22), given);
	assert_int_equal(table_stores(hart) - before, stores);
}

static void every_kind_of_store_reaches_the_table(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	RIG_LOAD(&rig, RIG_CODE, LD(20, 10, 0), SD(13, 12, 0), SFENCE_VMA(10), LD(21, 10, 0),
		 ADDI(22, 0, 0), END);
	check_store(&rig, 0, 1);
	RIG_LOAD(&rig, RIG_CODE, LD(20, 10, 0), SWAP_D(22, 12, 13), SFENCE_VMA(10), LD(21, 10, 0),
		 END);
	check_store(&rig, pte(RIG_DATA), 1);
	/* The reservation holds; a second store on it fails, and changes nothing. */
	RIG_LOAD(&rig, RIG_CODE, LD(20, 10, 0), LOAD_RESERVED_D(23, 12),
		 STORE_CONDITIONAL_D(22, 12, 13), STORE_CONDITIONAL_D(24, 12, 14), SFENCE_VMA(10),
		 LD(21, 10, 0), END);
	check_store(&rig, 0, 2);
	assert_int_equal(vd_hart_x(rig.harts[0].hart, 24), 1);
	/* Half an entry: the page is shadowed no longer, and says so all the same. */
	RIG_LOAD(&rig, RIG_CODE, LD(20, 10, 0), SW(13, 12, 0), SFENCE_VMA(10), LD(21, 10, 0),
		 ADDI(22, 0, 0), END);
	check_store(&rig, 0, 1);
	rig_close(&rig);
}

/*
 * A store to a table by way of a large page: where it leads is remembered by small pages, and all of
 * them go when the guest flushes any address of the large one.
 */
static void a_flush_of_a_large_page_is_one_of_its_tables(void **state)
{
	const uint64_t large = UINT64_C(0x40600000), above_va = UINT64_C(0x40800000);
	uint64_t entry, above, offset;
	struct vd_hart *hart;
	struct rig rig;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	hart = start(&rig);
	entry = rig_map(&rig, VA + RIG_PAGE, RIG_DATA, 0, LEAF) - 8;
	above = rig_map(&rig, large, RIG_RAM, 1, LEAF);
	rig_map(&rig, above_va, above & ~(RIG_PAGE - 1), 0, LEAF);
	offset = entry - RIG_RAM;
	vd_hart_set_x(hart, 11, large);
	vd_hart_set_x(hart, 12, large + offset);
	vd_hart_set_x(hart, 15, pte(FAR));
	vd_hart_set_x(hart, 16, above_va | (above & (RIG_PAGE - 1)));
	/* All tables are shadowed before the first store: to make a shadow may flush the hart. */
	RIG_LOAD(&rig, RIG_CODE, LD(20, 10, 0), LD(21, 16, 0), SD(13, 12, 0), SD(15, 16, 0),
		 SFENCE_VMA(11), SD(14, 12, 0), END);
	rig_run(&rig, 0);
	rig_expect_no_trap(&rig, 0);
	assert_true(table_stores(hart) >= 2);
	assert_int_equal(rig_read64(&rig, entry), pte(OTHER));
	assert_int_equal(rig_read64(&rig, FAR + offset), pte(RIG_DATA));
	rig_close(&rig);
}

static void without_paging_far_addresses_are_access_faults(void **state)
{
	struct vd_hart *hart;
	struct rig rig;

	(void)state;
	rig_open(&rig, &(struct rig_setup){0});
	RIG_LOAD(&rig, RIG_CODE, LD(11, 10, 0), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 10, UINT64_C(1) << 60);
	rig_run(&rig, 0);
	rig_expect_trap(&rig, 0, LOAD_ACCESS, UINT64_C(1) << 60, RIG_CODE);
	rig_close(&rig);
}

/* Somebody who watches and takes his time: more calls than a fault makes. */
struct slow_watch {
	struct vd_mem_watch watch;
	unsigned int calls;
};

static void let_go_late(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct slow_watch *slow = (struct slow_watch *)watch;

	if (++slow->calls % 20 == 0)
		vd_mem_watch_clear(watch, gpa, length);
}

/* A page of data, and one of tables. */
static void stores_wait_for_who_watches(void **state)
{
	static const struct vd_mem_watch_ops ops = {let_go_late};
	struct slow_watch slow = {.watch = {.ops = &ops}};
	struct vd_hart *hart;
	struct rig rig;

	(void)state;
	rig_open(&rig, &(struct rig_setup){0});
	assert_int_equal(vd_mem_watch_add(rig.mem, &slow.watch), 0);
	hart = start(&rig);
	RIG_LOAD(&rig, RIG_CODE, LD(20, 10, 0), SD(13, 10, 0), SD(13, 12, 0), SWAP_D(22, 12, 13),
		 END);
	vd_mem_watch_set(&slow.watch, (vd_gpa){RIG_TABLES}, RIG_DATA + RIG_PAGE - RIG_TABLES);
	rig_run(&rig, 0);
	rig_expect_no_trap(&rig, 0);
	assert_int_equal(rig_read64(&rig, RIG_DATA), pte(OTHER));
	assert_int_equal(vd_hart_x(hart, 22), pte(OTHER));
	assert_true(slow.calls >= 40);
	vd_mem_watch_remove(&slow.watch);
	rig_close(&rig);
}

/* The leaf of the Sv57 shadow for a hart without paging. */
static uint64_t *leaf_of(struct rig *rig, struct vd_shadow_root *root, uint64_t gpa)
{
	uint64_t *table = vd_shadow_root_entries(root), *entry;

	for (unsigned int shift = 48;; shift -= 9) {
		entry = &table[gpa >> shift & 511];
		assert_true(*entry & RIG_V);
		if (*entry & (RIG_R | RIG_W | RIG_X))
			return entry;
		table = vd_host_pointer(vd_host_window_base(rig->host),
					(vd_pfn){*entry >> 10 & ((UINT64_C(1) << 44) - 1)}, 12);
	}
}

static int redirect(struct rig *rig, struct vd_hart *hart, uint64_t number)
{
	struct vd_shadow_root *root;

	(void)hart, (void)number;
	assert_int_equal(vd_shadow_root_get(rig->shadow, &vd_guest_format_bare, (vd_gpa){0},
					    &root), 0);
	__atomic_store_n(leaf_of(rig, root, RIG_DATA), *leaf_of(rig, root, FAR),
			 __ATOMIC_RELEASE);
	vd_hart_group_flush(rig->group, (vd_gpa){0}, UINT64_MAX);
	vd_shadow_root_put(rig->shadow, root);
	return 0;
}

static void a_leaf_that_lies_is_found_by_the_check(void **state)
{
	struct vd_hart *hart;
	struct rig rig;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig.step = redirect;
	rig_write64(&rig, RIG_DATA, 0x1111);
	RIG_LOAD(&rig, RIG_CODE, LD(13, 9, 0), LD(11, 10, 0), STEP(1), LD(12, 10, 0), JAL(0, 0));
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 9, FAR);
	vd_hart_set_x(hart, 10, RIG_DATA);
	assert_int_equal(vd_hart_run(hart), VD_HART_EXIT_CHECK);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_store_reaches_the_table),
		cmocka_unit_test(a_flush_of_a_large_page_is_one_of_its_tables),
		cmocka_unit_test(stores_wait_for_who_watches),
		cmocka_unit_test(without_paging_far_addresses_are_access_faults),
		cmocka_unit_test(a_leaf_that_lies_is_found_by_the_check),
	};

	setenv("VD_TEST_SHADOW", "1", 1);
	return cmocka_run_group_tests_name("shadow", tests, NULL, NULL);
}
