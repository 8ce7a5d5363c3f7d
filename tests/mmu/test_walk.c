/* SPDX-License-Identifier: BSD-2-Clause */
/* The two walkers, the lock-free and the locked one, on tables made by faults. */
#include "fixture.h"

#include "fake_format.h"
#include "mmu/state.h"

#define RAM_BASE (2 * GIB)

/* ---- the lock-free walk --------------------------------------------------------------------- */

static void walk_sets_accessed_and_dirty(void **state)
{
	static const struct vd_mmu_format *const formats[] = {&vd_mmu_format_sv48x4, &fake_format};
	struct vd_mmu_leaf leaf;
	struct fixture f;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		fixture_open(&f, formats[i]);
		fixture_slot(&f, RAM_BASE, SPARES_BYTES, f.spares, 0, false);
		assert_int_equal(fault(&f, RAM_BASE, VD_READ), 0);
		assert_true(vd_mmu_clear_young(f.mmu, (vd_gpa){RAM_BASE}, PAGE));
		assert_false(vd_mmu_test_young(f.mmu, (vd_gpa){RAM_BASE}, PAGE));
		assert_int_equal(walk(&f, RAM_BASE + PAGE, VD_READ, &leaf), 0);
		assert_true(leaf.accessed && !leaf.dirty);
		assert_true(vd_mmu_test_young(f.mmu, (vd_gpa){RAM_BASE}, PAGE));
		assert_int_equal(walk(&f, RAM_BASE, VD_WRITE, &leaf), 0);
		assert_true(leaf.accessed && leaf.dirty);
		assert_int_equal(walk(&f, RAM_BASE, VD_READ, &leaf), 0);
		assert_true(leaf.dirty);
		fixture_close(&f);
	}
}

/* A walk that is refused leaves the entry as it was. */
static void refused_walk_sets_nothing(void **state)
{
	struct vd_mmu_leaf leaf;
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, PAGE, f.ram, 0, true);
	touch(&f, RAM_BASE, VD_READ);
	assert_true(vd_mmu_clear_young(f.mmu, (vd_gpa){RAM_BASE}, PAGE));
	assert_int_equal(walk(&f, RAM_BASE, VD_WRITE, &leaf), -EACCES);
	assert_int_equal(walk(&f, RAM_BASE, VD_READ | VD_WRITE, &leaf), -EACCES);
	assert_false(vd_mmu_test_young(f.mmu, (vd_gpa){RAM_BASE}, PAGE));
	assert_int_equal(walk(&f, RAM_BASE + PAGE, VD_READ, &leaf), -ENOENT);
	assert_int_equal(walk(&f, UINT64_MAX, VD_READ, &leaf), -ENOENT);
	assert_int_equal(vd_mmu_walk_guarded(f.mmu, (vd_gpa){RAM_BASE}, VD_WRITE, &leaf), -EACCES);
	assert_int_equal(vd_mmu_walk_guarded(f.mmu, (vd_gpa){RAM_BASE}, VD_EXECUTE, &leaf), 0);
	assert_int_equal(leaf.pfn.value, pfn_now(&f, RAM_BASE).value);
	assert_true(vd_mmu_test_young(f.mmu, (vd_gpa){RAM_BASE}, PAGE));
	fixture_close(&f);
}

static void path_end_says_where_nothing_follows(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv57x4);
	fixture_slot(&f, RAM_BASE, GIB, f.ram, 0, false);
	fixture_slot(&f, 8 * GIB, PAGE, f.ram, 0, false);
	assert_int_equal(vd_mmu_path_end(f.mmu, RAM_BASE), 4);
	touch(&f, RAM_BASE, VD_READ);
	assert_int_equal(vd_mmu_path_end(f.mmu, RAM_BASE), 2);
	touch(&f, 8 * GIB, VD_READ);
	assert_int_equal(vd_mmu_path_end(f.mmu, 8 * GIB + PAGE), 0);
	assert_int_equal(vd_mmu_path_end(f.mmu, 8 * GIB + 2 * MIB), 1);
	fixture_close(&f);
}

/* ---- the locked walk ------------------------------------------------------------------------ */

#define NOTES_MAX 32u

struct noting {
	struct vd_mmu_visitor visitor;
	unsigned count;
	struct { enum vd_mmu_moment moment; unsigned level; uint64_t gpa; } notes[NOTES_MAX];
	int answer;	  /* at note number @answer_at */
	unsigned answer_at;
};

static int note(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct noting *n = (struct noting *)visitor;

	(void)pt;
	assert_true(n->count < NOTES_MAX);
	n->notes[n->count].moment = moment;
	n->notes[n->count].level = place->table->level;
	n->notes[n->count].gpa = place->gpa;
	return ++n->count == n->answer_at ? n->answer : 0;
}

/* Three pages, a hole and a block in the fake format's shape: 4 KiB, 1 MiB, 512 MiB, 128 GiB. */
static void open_small_tree(struct fixture *f)
{
	fixture_open(f, &fake_format);
	fixture_slot(f, GIB, 2 * PAGE, f->ram, PAGE, false);
	fixture_slot(f, GIB + 3 * MIB, PAGE, f->ram, 0, false);
	fixture_slot(f, 2 * GIB, GIB, f->ram, 0, false);
	touch(f, GIB, VD_READ);
	touch(f, GIB + PAGE, VD_READ);
	touch(f, GIB + 3 * MIB, VD_READ);
	touch(f, 2 * GIB, VD_READ);
}

static int run_noting(struct fixture *f, struct noting *n, uint64_t first, uint64_t last,
		      unsigned when)
{
	n->visitor = (struct vd_mmu_visitor){first, last, when, note};
	n->count = 0;
	return vd_mmu_visit(&f->mmu->pt, &n->visitor);
}

static void visits_depth_first_in_order(void **state)
{
	static const struct {
		enum vd_mmu_moment moment;
		unsigned level;
		uint64_t gpa;
	} expected[] = {
		{VD_MMU_BEFORE_TABLE, 3, 0},
		{VD_MMU_BEFORE_TABLE, 2, GIB},
		{VD_MMU_BEFORE_TABLE, 1, GIB},
		{VD_MMU_AT_LEAF, 0, GIB},
		{VD_MMU_AT_LEAF, 0, GIB + PAGE},
		{VD_MMU_AFTER_TABLE, 1, GIB},
		{VD_MMU_BEFORE_TABLE, 1, GIB + 3 * MIB},
		{VD_MMU_AT_LEAF, 0, GIB + 3 * MIB},
		{VD_MMU_AFTER_TABLE, 1, GIB + 3 * MIB},
		{VD_MMU_AFTER_TABLE, 2, GIB},
		{VD_MMU_AT_LEAF, 2, 2 * GIB},
		{VD_MMU_AFTER_TABLE, 3, 0},
	};
	struct noting n = {.count = 0};
	struct fixture f;

	(void)state;
	open_small_tree(&f);
	assert_int_equal(run_noting(&f, &n, 0, UINT64_MAX, ~(unsigned)VD_MMU_AT_ABSENT), 0);
	assert_int_equal(n.count, sizeof(expected) / sizeof(expected[0]));
	for (unsigned i = 0; i < n.count; i++) {
		assert_int_equal(n.notes[i].moment, expected[i].moment);
		assert_int_equal(n.notes[i].level, expected[i].level);
		assert_int_equal(n.notes[i].gpa, expected[i].gpa);
	}
	fixture_close(&f);
}

static void visits_what_the_range_meets_only(void **state)
{
	struct noting n = {.count = 0};
	struct fixture f;

	(void)state;
	open_small_tree(&f);
	run_noting(&f, &n, GIB + PAGE - 1, GIB + PAGE - 1, VD_MMU_AT_LEAF);
	assert_int_equal(n.count, 1);
	assert_int_equal(n.notes[0].gpa, GIB);
	run_noting(&f, &n, GIB + PAGE - 1, GIB + PAGE, VD_MMU_AT_LEAF);
	assert_int_equal(n.count, 2);
	/* A range that ends inside a block meets it. */
	run_noting(&f, &n, 2 * GIB + MIB, 2 * GIB + MIB, VD_MMU_AT_LEAF);
	assert_int_equal(n.count, 1);
	assert_int_equal(n.notes[0].gpa, 2 * GIB);
	run_noting(&f, &n, GIB + 2 * PAGE, GIB + 4 * PAGE - 1, VD_MMU_AT_ABSENT | VD_MMU_AT_LEAF);
	assert_int_equal(n.count, 2);
	assert_int_equal(n.notes[0].moment, VD_MMU_AT_ABSENT);
	/* Beyond what the format addresses, and backwards: nothing. */
	run_noting(&f, &n, UINT64_C(1) << 41, UINT64_MAX, 15);
	assert_int_equal(n.count, 0);
	run_noting(&f, &n, 2 * GIB, GIB, 15);
	assert_int_equal(n.count, 0);
	fixture_close(&f);
}

static void answers_stop_and_skip(void **state)
{
	struct noting n = {.count = 0};
	struct fixture f;

	(void)state;
	open_small_tree(&f);
	n.answer = 42;
	n.answer_at = 2;
	assert_int_equal(run_noting(&f, &n, 0, UINT64_MAX, VD_MMU_AT_LEAF), 42);
	assert_int_equal(n.count, 2);
	n.answer = VD_MMU_SKIP;
	n.answer_at = 3; /* the table at GIB on level 1 */
	assert_int_equal(run_noting(&f, &n, 0, UINT64_MAX, VD_MMU_AT_LEAF | VD_MMU_BEFORE_TABLE),
			 0);
	assert_int_equal(n.count, 6);
	assert_int_equal(n.notes[3].gpa, GIB + 3 * MIB);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walk_sets_accessed_and_dirty),
		cmocka_unit_test(refused_walk_sets_nothing),
		cmocka_unit_test(path_end_says_where_nothing_follows),
		cmocka_unit_test(visits_depth_first_in_order),
		cmocka_unit_test(visits_what_the_range_meets_only),
		cmocka_unit_test(answers_stop_and_skip),
	};

	return cmocka_run_group_tests_name("mmu walk", tests, NULL, NULL);
}
