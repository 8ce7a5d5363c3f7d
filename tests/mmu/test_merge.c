/* SPDX-License-Identifier: BSD-2-Clause */
/* Blocks of a mirror come back when what broke them is over. */
#include "fixture.h"

#include "formats.h"

#define RAM_BASE (2 * GIB)

/* A dirty log breaks a block at the first store; once it has ended, the block can come back. */
static void blocks_come_back_after_a_log(void **state)
{
	struct vd_mmu_leaf leaf;
	struct fixture f;
	uint32_t id;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	id = fixture_slot(&f, RAM_BASE, SPARES_BYTES, f.spares, 0, false);
	touch(&f, RAM_BASE, VD_READ);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	touch(&f, RAM_BASE + PAGE, VD_WRITE);
	touch(&f, RAM_BASE + 9 * PAGE, VD_READ);
	touch(&f, RAM_BASE + 3 * MIB, VD_WRITE);
	vd_mmu_clear_young(f.mmu, (vd_gpa){RAM_BASE + 2 * MIB}, 2 * MIB);
	/* While it runs, pages stay pages. */
	assert_int_equal(vd_mmu_merge(f.mmu, (vd_gpa){0}, UINT64_MAX), 0);
	assert_int_equal(vd_mem_dirty_stop(f.mem, id), 0);
	f.flush_count = 0;
	assert_int_equal(vd_mmu_merge(f.mmu, (vd_gpa){RAM_BASE + PAGE}, 4 * MIB), 1);
	assert_flushed_once(&f, RAM_BASE + 2 * MIB, 2 * MIB);
	assert_false(vd_mmu_test_young(f.mmu, (vd_gpa){RAM_BASE + 2 * MIB}, PAGE));
	assert_int_equal(vd_mmu_merge(f.mmu, (vd_gpa){RAM_BASE}, 0), 0);
	assert_int_equal(vd_mmu_merge(f.mmu, (vd_gpa){0}, UINT64_MAX), 1);
	for (uint64_t at = 0; at < SPARES_BYTES; at += 2 * MIB) {
		assert_int_equal(walk(&f, RAM_BASE + at + PAGE, VD_READ, &leaf), 0);
		assert_int_equal(leaf.size, 2 * MIB);
		assert_int_equal(leaf.pfn.value, pfn_now(&f, RAM_BASE + at + PAGE).value);
		assert_int_equal(leaf.access, VD_READ | VD_WRITE | VD_EXECUTE);
		assert_true(leaf.dirty); /* one of the pages was */
	}
	assert_int_equal(stats_now(&f).mapped_bytes, SPARES_BYTES);
	assert_int_equal(stats_now(&f).mapped_4k, 0);
	assert_int_equal(stats_now(&f).table_pages, 3);
	assert_int_equal(vd_mmu_merge(f.mmu, (vd_gpa){0}, UINT64_MAX), 0);
	fixture_close(&f);
}

/* All the way up, in every format whose blocks the memory has room and alignment for. */
static void the_largest_block_is_made(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *format = test_formats[i];
		struct vd_mmu_leaf before, after;
		struct fixture f;
		uint32_t id;

		if (vd_mmu_format_size(format, 0) != PAGE || format->input_bits < 33)
			continue;
		fixture_open(&f, format);
		id = fixture_slot(&f, RAM_BASE, RAM_BYTES, f.ram, 0, false);
		before = touch(&f, RAM_BASE, VD_READ);
		assert_int_equal(before.size, vd_mmu_format_size(format, format->block_level));
		assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
		touch(&f, RAM_BASE, VD_WRITE);
		touch(&f, RAM_BASE + 200 * MIB, VD_READ);
		assert_int_equal(vd_mem_dirty_stop(f.mem, id), 0);
		assert_true(vd_mmu_merge(f.mmu, (vd_gpa){0}, UINT64_MAX) > 0);
		assert_int_equal(walk(&f, RAM_BASE, VD_READ, &after), 0);
		assert_int_equal(after.size, before.size);
		assert_int_equal(after.pfn.value, before.pfn.value);
		assert_int_equal(stats_now(&f).mapped_4k, 0);
		fixture_close(&f);
	}
}

/* Neither across slots, nor where the memory behind it is in pieces. */
static void what_does_not_fit_stays(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, MIB, f.ram, 0, false);
	fixture_slot(&f, RAM_BASE + MIB, MIB, f.ram, MIB, false);
	fixture_slot(&f, RAM_BASE + 2 * MIB, 2 * MIB, f.spares, 0, false);
	assert_int_equal(vd_host_object_move(f.spares, PAGE, PAGE, true), 0);
	for (uint64_t at = 0; at < 4 * MIB; at += PAGE)
		touch(&f, RAM_BASE + at, VD_READ);
	assert_int_equal(vd_mmu_merge(f.mmu, (vd_gpa){0}, UINT64_MAX), 0);
	assert_int_equal(stats_now(&f).mapped_4k, 1024);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_come_back_after_a_log),
		cmocka_unit_test(the_largest_block_is_made),
		cmocka_unit_test(what_does_not_fit_stays),
	};

	return cmocka_run_group_tests_name("mmu merge", tests, NULL, NULL);
}
