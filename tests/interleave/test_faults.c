/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Faults in parallel: two install into the same tables by compare-and-swap, while somebody takes
 * leaves and tables away. Nothing is lost, nothing is counted twice, no table is left behind.
 */
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static bool same_page, first_there, careless_swap;

static void *set_up(const struct vd_env *env)
{
	struct fixture *f = fixture_create(env, 2);

	/* the tables are there, and a neighbour's leaf */
	if (first_there && vd_mmu_fault(f->mmu, (vd_gpa){BASE + PAGE}, VD_READ))
		return NULL;
	if (careless_swap) {
		size_t bytes;
		_Atomic uint64_t *root = vd_mmu_root(f->mmu, &bytes);

		interleave_spoil(&root[BASE >> 30], INTERLEAVE_UPDATE);
	}
	return f;
}

static void fault(struct fixture *f, uint64_t page, unsigned access)
{
	interleave_check(!vd_mmu_fault(f->mmu, (vd_gpa){BASE + page * PAGE}, access),
			 "the fault fails");
}

static void reader(void *context)
{
	fault(context, 0, VD_READ);
}

static void writer(void *context)
{
	fault(context, same_page ? 0 : 1, VD_WRITE);
}

static void zapper(void *context)
{
	struct fixture *f = context;

	vd_mmu_zap(f->mmu, (vd_gpa){BASE}, PAGE);
}

static int count_leaf(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf)
{
	struct fixture *f = *(struct fixture **)context;

	interleave_check(leaf->pfn.value - f->first_pfn ==
				 fixture_frame(f, (gpa.value - BASE) / PAGE),
			 "a leaf leads elsewhere");
	f->moving++; /* nobody moves here: it counts */
	return 0;
}

/* What is counted is what is there. */
static void finish(void *context)
{
	struct fixture *f = context;
	struct vd_mmu_stats stats;

	f->moving = 0;
	vd_mmu_each(f->mmu, count_leaf, &f);
	vd_mmu_stats(f->mmu, &stats);
	interleave_check(stats.mapped_4k == f->moving, "leaves are miscounted");
	interleave_check(stats.table_pages == (f->moving ? 3 : 1), "tables are miscounted");
}

/* Without anybody who takes away, both find what they asked for. */
static void finish_mapped(void *context)
{
	struct fixture *f = context;
	struct vd_mmu_leaf leaf;

	interleave_check(!vd_mmu_walk(f->mmu, (vd_gpa){BASE}, VD_READ, &leaf), "a leaf is lost");
	interleave_check(!vd_mmu_walk(f->mmu, (vd_gpa){BASE + (same_page ? 0 : PAGE)}, VD_WRITE,
				      &leaf), "a leaf is lost");
	finish(context);
}

static const struct interleave_case two_faults = {
	.name = "two faults", .set_up = set_up, .run = {reader, writer},
	.names = {"reader", "writer"}, .finish = finish_mapped,
};
static const struct interleave_case fault_zap = {
	.name = "fault, zap", .set_up = set_up, .run = {reader, zapper},
	.names = {"reader", "zapper"}, .finish = finish,
};
static const struct interleave_case faults_zap = {
	.name = "two faults, zap", .set_up = set_up, .run = {reader, writer, zapper},
	.names = {"reader", "writer", "zapper"}, .finish = finish,
};

static void both_are_mapped(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		same_page = i & 1;
		first_there = i & 2;
		run_all(&two_faults);
	}
}

static void against_a_zap(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		same_page = i & 1;
		first_there = i & 2;
		run_all(&fault_zap);
		run_all(&faults_zap);
	}
}

static void *set_up_harts(const struct vd_env *env)
{
	struct fixture *f = fixture_create(env, 1);

	f->harts[0].present = f->harts[1].present = true;
	return f;
}

static void hart(struct fixture *f, unsigned number, unsigned access)
{
	hart_enter(f, number);
	interleave_check(!hart_access(f, number, BASE, access), "the fault fails");
	hart_leave(f, number);
}

static void first_hart(void *context)
{
	hart(context, 0, VD_READ);
}

static void second_hart(void *context)
{
	hart(context, 1, VD_WRITE);
}

static void changer(void *context)
{
	fixture_move(context, 0);
}

static const struct interleave_case two_harts = {
	.name = "two harts fault", .set_up = set_up_harts, .run = {first_hart, second_hart},
	.names = {"first", "second"}, .finish = fixture_finish,
};
static const struct interleave_case harts_move = {
	.name = "two harts fault, move", .set_up = set_up_harts,
	.run = {first_hart, second_hart, changer}, .names = {"first", "second", "changer"},
	.finish = fixture_finish,
};

static void against_a_move(void **state)
{
	(void)state;
	run_all(&two_harts);
	run_some(&harts_move, 1);
}

/* The first table is hung in by whoever comes, whether or not there is one. */
static void without_compare_and_swap(void **state)
{
	(void)state;
	same_page = first_there = false;
	careless_swap = true;
	run_planted(&two_faults, "a leaf is lost");
	careless_swap = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_are_mapped),
		cmocka_unit_test(against_a_zap),
		cmocka_unit_test(against_a_move),
		cmocka_unit_test(without_compare_and_swap),
	};

	return cmocka_run_group_tests_name("interleave faults", tests, NULL, NULL);
}
