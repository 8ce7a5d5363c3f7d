/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

#include "fake_format.h"

#define RAM_BASE (2 * GIB)

/* The space with pages at RAM_BASE, one mapping each; then count from here. */
static void open_pages(struct fixture *f, const struct vd_mmu_format *format, unsigned pages)
{
	fixture_open(f, format);
	fixture_slot(f, RAM_BASE, 255 * PAGE, f->spares, PAGE, false);
	for (unsigned i = 0; i < pages; i++)
		touch(f, RAM_BASE + i * PAGE, VD_READ);
	f->flush_count = 0;
}

static bool mapped(struct fixture *f, uint64_t gpa)
{
	struct vd_mmu_leaf leaf;

	return walk(f, gpa, VD_READ, &leaf) == 0;
}

static void zap_takes_the_range_and_flushes_it(void **state)
{
	struct fixture f;

	(void)state;
	open_pages(&f, &vd_mmu_format_sv48x4, 8);
	vd_mmu_zap(f.mmu, (vd_gpa){RAM_BASE + 2 * PAGE + 5}, PAGE);
	assert_flushed_once(&f, RAM_BASE + 2 * PAGE, 2 * PAGE);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(mapped(&f, RAM_BASE + i * PAGE), i != 2 && i != 3);
	assert_int_equal(stats_now(&f).zaps, 2);
	assert_int_equal(stats_now(&f).mapped_4k, 6);
	fixture_close(&f);
}

static void nothing_zapped_nothing_flushed(void **state)
{
	struct fixture f;

	(void)state;
	open_pages(&f, &vd_mmu_format_sv48x4, 2);
	vd_mmu_zap(f.mmu, (vd_gpa){RAM_BASE}, 0);
	vd_mmu_zap(f.mmu, (vd_gpa){RAM_BASE + 2 * PAGE}, GIB);
	vd_mmu_zap(f.mmu, (vd_gpa){UINT64_MAX}, UINT64_MAX);
	assert_int_equal(f.flush_count, 0);
	assert_true(mapped(&f, RAM_BASE + PAGE));
	/* One that wraps ends at the end. */
	vd_mmu_zap(f.mmu, (vd_gpa){RAM_BASE + PAGE}, UINT64_MAX);
	assert_true(mapped(&f, RAM_BASE));
	assert_false(mapped(&f, RAM_BASE + PAGE));
	fixture_close(&f);
}

/* A block goes as a whole, and the flush is of the whole block. */
static void zap_of_a_part_takes_the_block(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, SPARES_BYTES, f.spares, 0, false);
	assert_int_equal(touch(&f, RAM_BASE, VD_READ).size, 2 * MIB);
	assert_int_equal(touch(&f, RAM_BASE + 2 * MIB, VD_READ).size, 2 * MIB);
	vd_mmu_zap(f.mmu, (vd_gpa){RAM_BASE + MIB}, 1);
	assert_flushed_once(&f, RAM_BASE, 2 * MIB);
	assert_false(mapped(&f, RAM_BASE));
	assert_true(mapped(&f, RAM_BASE + 2 * MIB));
	fixture_close(&f);
}

/* Walkers may cache the way to a table: when it goes, the flush is of all that it could map. */
static void flush_covers_the_tables_that_went(void **state)
{
	struct fixture f;

	(void)state;
	open_pages(&f, &vd_mmu_format_sv39x4, 1);
	fixture_slot(&f, GIB + 2 * MIB, PAGE, f.ram, 0, false);
	fixture_slot(&f, GIB + 4 * MIB, PAGE, f.ram, 0, false);
	touch(&f, GIB + 2 * MIB, VD_READ);
	touch(&f, GIB + 4 * MIB, VD_READ);
	vd_mmu_zap(f.mmu, (vd_gpa){GIB + 2 * MIB}, PAGE);
	assert_flushed_once(&f, GIB + 2 * MIB, 2 * MIB);
	vd_mmu_zap(f.mmu, (vd_gpa){GIB + 4 * MIB}, PAGE);
	assert_flushed_once(&f, GIB, GIB);
	fixture_close(&f);
}

/* Tables go with their last leaf, or as a whole where the range covers them. */
static void empty_tables_are_given_back(void **state)
{
	struct fixture f;
	long blocks;

	(void)state;
	fixture_open(&f, &fake_format);
	blocks = f.checked.blocks;
	fixture_slot(&f, RAM_BASE, 255 * PAGE, f.spares, PAGE, false);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 20; i++)
			touch(&f, RAM_BASE + i * PAGE, VD_READ);
		assert_int_equal(stats_now(&f).table_pages, 4);
		if (round == 0) {
			for (unsigned i = 0; i < 20; i++)
				vd_mmu_zap(f.mmu, (vd_gpa){RAM_BASE + i * PAGE}, PAGE);
		} else if (round == 1) {
			vd_mmu_zap(f.mmu, (vd_gpa){RAM_BASE}, MIB);
		} else {
			vd_mmu_zap(f.mmu, (vd_gpa){0}, UINT64_MAX);
		}
		assert_int_equal(stats_now(&f).table_pages, 1);
		assert_int_equal(stats_now(&f).mapped_bytes, 0);
		assert_int_equal(stats_now(&f).zaps, 20 * (round + 1));
		fixture_drain();
		assert_int_equal(f.checked.blocks, blocks);
	}
	fixture_close(&f);
}

static void write_protection_keeps_reads(void **state)
{
	struct vd_mmu_leaf leaf;
	struct fixture f;

	(void)state;
	open_pages(&f, &fake_format, 0);
	touch(&f, RAM_BASE, VD_WRITE);
	touch(&f, RAM_BASE + PAGE, VD_WRITE);
	f.flush_count = 0;
	vd_mmu_write_protect(f.mmu, (vd_gpa){RAM_BASE}, PAGE);
	assert_flushed_once(&f, RAM_BASE, PAGE);
	assert_int_equal(walk(&f, RAM_BASE, VD_WRITE, &leaf), -EACCES);
	assert_int_equal(walk(&f, RAM_BASE, VD_READ, &leaf), 0);
	assert_false(leaf.dirty);
	assert_int_equal(walk(&f, RAM_BASE + PAGE, VD_WRITE, &leaf), 0);
	/* Done before: nothing to flush. */
	vd_mmu_write_protect(f.mmu, (vd_gpa){RAM_BASE}, PAGE);
	vd_mmu_write_protect(f.mmu, (vd_gpa){RAM_BASE}, 0);
	assert_int_equal(f.flush_count, 0);
	/* With no log, the next store simply gets its permission back. */
	touch(&f, RAM_BASE, VD_WRITE);
	fixture_close(&f);
}

/* B3, A10: clearing reaches TLBs, so that the next use through one is seen again. */
static void ageing_flushes_what_it_clears(void **state)
{
	struct fixture f;
	struct vd_mmu_leaf leaf;

	(void)state;
	open_pages(&f, &vd_mmu_format_sv57x4, 4);
	assert_true(vd_mmu_test_young(f.mmu, (vd_gpa){RAM_BASE}, GIB));
	assert_int_equal(f.flush_count, 0);
	assert_true(vd_mmu_clear_young(f.mmu, (vd_gpa){RAM_BASE + PAGE}, 2 * PAGE));
	assert_flushed_once(&f, RAM_BASE + PAGE, 2 * PAGE);
	assert_false(vd_mmu_clear_young(f.mmu, (vd_gpa){RAM_BASE + PAGE}, 2 * PAGE));
	assert_int_equal(f.flush_count, 0);
	assert_true(vd_mmu_test_young(f.mmu, (vd_gpa){RAM_BASE}, PAGE));
	assert_false(vd_mmu_test_young(f.mmu, (vd_gpa){RAM_BASE + PAGE}, 2 * PAGE));
	assert_int_equal(walk(&f, RAM_BASE + 2 * PAGE, VD_READ, &leaf), 0);
	assert_true(vd_mmu_test_young(f.mmu, (vd_gpa){RAM_BASE + PAGE}, 2 * PAGE));
	assert_false(vd_mmu_test_young(f.mmu, (vd_gpa){RAM_BASE}, 0));
	assert_false(vd_mmu_clear_young(f.mmu, (vd_gpa){RAM_BASE + 8 * PAGE}, GIB));
	fixture_close(&f);
}

/* A7: removing a slot zaps what came from it, and nothing else. */
static void removing_a_slot_is_no_sledgehammer(void **state)
{
	struct fixture f;
	uint32_t id;

	(void)state;
	open_pages(&f, &vd_mmu_format_sv48x4, 4);
	id = fixture_slot(&f, RAM_BASE + 255 * PAGE, PAGE, f.registers, 0, false);
	touch(&f, RAM_BASE + 255 * PAGE, VD_READ);
	assert_int_equal(stats_now(&f).device_pages, 1);
	assert_int_equal(vd_mem_remove_slot(f.mem, id), 0);
	assert_flushed_once(&f, RAM_BASE + 255 * PAGE, PAGE);
	assert_int_equal(stats_now(&f).zaps, 1);
	assert_int_equal(stats_now(&f).device_pages, 0);
	assert_int_equal(fault(&f, RAM_BASE + 255 * PAGE, VD_READ), -ENOENT);
	assert_true(mapped(&f, RAM_BASE + 3 * PAGE));
	fixture_close(&f);
}

/* B2: the same memory at two guest addresses; a host change reaches both. */
static void host_changes_reach_every_alias(void **state)
{
	struct fixture f;
	vd_pfn old;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, SPARES_BYTES, f.spares, 0, false);
	fixture_slot(&f, 3 * GIB + PAGE, MIB, f.spares, 0, false);
	old = touch(&f, RAM_BASE + PAGE, VD_WRITE).pfn;
	assert_int_equal(touch(&f, 3 * GIB + 2 * PAGE, VD_WRITE).pfn.value, old.value);
	assert_int_equal(vd_host_object_move(f.spares, PAGE, PAGE, true), 0);
	assert_int_equal(f.flush_count, 2);
	assert_false(mapped(&f, RAM_BASE));
	assert_false(mapped(&f, 3 * GIB + 2 * PAGE));
	assert_int_not_equal(touch(&f, RAM_BASE + PAGE, VD_READ).pfn.value, old.value);
	assert_int_equal(touch(&f, RAM_BASE + PAGE, VD_READ).pfn.value,
			 touch(&f, 3 * GIB + 2 * PAGE, VD_READ).pfn.value);
	fixture_close(&f);
}

static void protection_of_the_host_takes_writes(void **state)
{
	struct vd_mmu_leaf leaf;
	struct fixture f;

	(void)state;
	open_pages(&f, &vd_mmu_format_sv48x4, 4);
	assert_int_equal(vd_host_object_protect(f.spares, PAGE, PAGE, false, true), 0);
	assert_int_equal(fault(&f, RAM_BASE, VD_WRITE), -EACCES);
	leaf = touch(&f, RAM_BASE, VD_READ);
	assert_int_equal(leaf.access, VD_READ | VD_EXECUTE);
	assert_int_equal(vd_host_object_protect(f.spares, PAGE, PAGE, true, true), 0);
	touch(&f, RAM_BASE, VD_WRITE);
	fixture_close(&f);
}

/* The chain ages through the listener as well. */
static void chain_reaches_the_young_bits(void **state)
{
	struct vd_invalidation range = {.start = RAM_BASE, .length = PAGE, .blockable = true};
	struct fixture f;

	(void)state;
	open_pages(&f, &vd_mmu_format_sv48x4, 1);
	assert_true(vd_notifier_test_young(vd_mem_notifier(f.mem), &range));
	assert_true(vd_notifier_clear_young(vd_mem_notifier(f.mem), &range));
	assert_false(vd_notifier_test_young(vd_mem_notifier(f.mem), &range));
	fixture_close(&f);
}

/* B4: after release nothing is mapped, and nothing comes back. */
static void release_ends_it(void **state)
{
	struct fixture f;

	(void)state;
	open_pages(&f, &vd_mmu_format_sv48x4, 4);
	vd_notifier_release(vd_mem_notifier(f.mem));
	assert_int_equal(f.flush_count, 1);
	assert_int_equal(stats_now(&f).mapped_bytes, 0);
	assert_int_equal(stats_now(&f).table_pages, 1);
	assert_false(mapped(&f, RAM_BASE));
	assert_int_equal(fault(&f, RAM_BASE, VD_READ), -ESHUTDOWN);
	assert_int_equal(fault(&f, 0, VD_READ), -ESHUTDOWN);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zap_takes_the_range_and_flushes_it),
		cmocka_unit_test(nothing_zapped_nothing_flushed),
		cmocka_unit_test(zap_of_a_part_takes_the_block),
		cmocka_unit_test(flush_covers_the_tables_that_went),
		cmocka_unit_test(empty_tables_are_given_back),
		cmocka_unit_test(write_protection_keeps_reads),
		cmocka_unit_test(ageing_flushes_what_it_clears),
		cmocka_unit_test(removing_a_slot_is_no_sledgehammer),
		cmocka_unit_test(host_changes_reach_every_alias),
		cmocka_unit_test(protection_of_the_host_takes_writes),
		cmocka_unit_test(chain_reaches_the_young_bits),
		cmocka_unit_test(release_ends_it),
	};

	return cmocka_run_group_tests_name("mmu zap", tests, NULL, NULL);
}
