/* SPDX-License-Identifier: BSD-2-Clause */
/* Page tables by themselves: what each operation promises, one by one. */
#include "../base/test_env.h"

#include "formats.h"
#include "mmu/pgtable.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define PAGE (4 * KIB)
#define RW (VD_READ | VD_WRITE)

static const struct vd_mmu_attributes rw = {.access = RW};

struct rig {
	struct test_env test;
	struct vd_pgtable *table;
	unsigned flushes;
	uint64_t low, high; /* of all flushes */
};

static void rig_flush(void *context, uint64_t start, uint64_t length)
{
	struct rig *rig = context;

	if (!rig->flushes++ || start < rig->low)
		rig->low = start;
	if (start + length > rig->high)
		rig->high = start + length;
}

static void rig_open(struct rig *rig, const struct vd_mmu_format *format)
{
	struct vd_pgtable_config config = {.env = &rig->test.env, .format = format,
					   .page_shift = 12, .flush = rig_flush,
					   .flush_context = rig};

	*rig = (struct rig){.flushes = 0};
	test_env_init(&rig->test);
	assert_int_equal(vd_pgtable_create(&config, &rig->table, NULL), 0);
}

static void rig_close(struct rig *rig)
{
	vd_pgtable_destroy(rig->table);
	vd_env_hosted_drain();
	assert_int_equal(rig->test.blocks, 0);
}

static void assert_flushed(struct rig *rig, uint64_t start, uint64_t length)
{
	assert_true(rig->flushes);
	assert_int_equal(rig->low, start);
	assert_int_equal(rig->high, start + length);
	rig->flushes = 0;
	rig->high = 0;
}

static struct vd_mmu_leaf leaf_at(struct rig *rig, uint64_t input)
{
	struct vd_mmu_leaf leaf = {.size = 0};

	vd_pgtable_walk(rig->table, input, VD_READ, &leaf);
	return leaf;
}

static struct vd_pgtable_stats stats_of(const struct rig *rig)
{
	struct vd_pgtable_stats stats;

	vd_pgtable_stats(rig->table, &stats);
	return stats;
}

static int map(struct rig *rig, uint64_t start, uint64_t length, uint64_t output)
{
	return vd_pgtable_map(rig->table, start, length, output, &rw, NULL);
}

/* ---- creation ------------------------------------------------------------------------------- */

static void configurations_are_checked(void **state)
{
	struct vd_pgtable_config good = {.env = vd_env_hosted(), .format = &vd_mmu_format_sv39,
					 .page_shift = 12}, bad;
	struct vd_pgtable *table = NULL;
	struct vd_error error;

	(void)state;
	bad = good;
	bad.env = NULL;
	assert_int_equal(vd_pgtable_create(&bad, &table, &error), -EINVAL);
	assert_int_equal(error.code, -EINVAL);
	bad = good;
	bad.format = NULL;
	assert_int_equal(vd_pgtable_create(&bad, &table, NULL), -EINVAL);
	bad = good;
	bad.window_base = 2048;
	assert_int_equal(vd_pgtable_create(&bad, &table, NULL), -EINVAL);
	bad = good;
	bad.page_shift = 39;
	assert_int_equal(vd_pgtable_create(&bad, &table, NULL), -EINVAL);
	assert_null(table);
	vd_pgtable_destroy(NULL);
}

static void failed_creation_leaves_nothing(void **state)
{
	struct vd_pgtable_config config = {.format = &vd_mmu_format_sv39, .page_shift = 12};
	struct vd_pgtable *table;
	struct test_env test;
	long step = 1;

	(void)state;
	test_env_init(&test);
	config.env = &test.env;
	for (;; step++) {
		test_env_fail(&test, step, -ENOMEM);
		if (!vd_pgtable_create(&config, &table, NULL))
			break;
		assert_int_equal(test.blocks, 0);
	}
	assert_int_equal(step, 4);
	vd_pgtable_destroy(table);
	assert_int_equal(test.blocks, 0);
}

/* Roots as small as PAE's four entries still get an alignment that hardware takes. */
static void roots_are_aligned(void **state)
{
	size_t bytes;

	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		struct rig rig;
		uintptr_t root;

		rig_open(&rig, test_formats[i]);
		root = (uintptr_t)vd_pgtable_root(rig.table, &bytes);
		assert_int_equal(root % bytes, 0);
		assert_int_equal(root % 64, 0);
		rig_close(&rig);
	}
}

/* ---- mapping -------------------------------------------------------------------------------- */

static void errors_are_distinct(void **state)
{
	static const struct vd_mmu_attributes write_only = {.access = VD_WRITE};
	struct rig rig;

	(void)state;
	rig_open(&rig, &vd_mmu_format_sv39x4);
	assert_int_equal(map(&rig, 0, 0, 0), -EINVAL);
	assert_int_equal(map(&rig, 1, PAGE, 0), -EINVAL);
	assert_int_equal(map(&rig, 0, PAGE + 1, 0), -EINVAL);
	assert_int_equal(map(&rig, 0, PAGE, 12), -EINVAL);
	assert_int_equal(map(&rig, UINT64_C(1) << 41, PAGE, 0), -EOVERFLOW);
	assert_int_equal(map(&rig, (UINT64_C(1) << 41) - PAGE, 2 * PAGE, 0), -EOVERFLOW);
	assert_int_equal(map(&rig, -PAGE, 2 * PAGE, 0), -EOVERFLOW);
	assert_int_equal(map(&rig, 0, PAGE, UINT64_C(1) << 56), -EOVERFLOW);
	assert_int_equal(map(&rig, 0, 2 * PAGE, (UINT64_C(1) << 56) - PAGE), -EOVERFLOW);
	assert_int_equal(map(&rig, 0, 2 * PAGE, -PAGE), -EOVERFLOW);
	assert_int_equal(vd_pgtable_map(rig.table, 0, PAGE, 0, &write_only, NULL), -EOPNOTSUPP);
	assert_int_equal(map(&rig, 3 * PAGE, PAGE, 0), 0);
	assert_int_equal(map(&rig, 0, 8 * MIB, 0), -EEXIST);
	assert_int_equal(map(&rig, 3 * PAGE, PAGE, 0), -EEXIST);
	assert_int_equal(stats_of(&rig).mapped_bytes, PAGE);
	assert_int_equal(stats_of(&rig).table_pages, 3);

	assert_int_equal(vd_pgtable_unmap(rig.table, 1, PAGE, NULL), -EINVAL);
	assert_int_equal(vd_pgtable_unmap(rig.table, -PAGE, 2 * PAGE, NULL), -EOVERFLOW);
	assert_int_equal(vd_pgtable_protect(rig.table, 2 * PAGE, 2 * PAGE, VD_READ), -ENOENT);
	assert_int_equal(vd_pgtable_protect(rig.table, 3 * PAGE, PAGE, VD_WRITE), -EOPNOTSUPP);
	assert_int_equal(vd_pgtable_protect(rig.table, 0, 0, VD_READ), -EINVAL);
	assert_int_equal(vd_pgtable_split(rig.table, 0, PAGE, 3), -EINVAL);
	assert_int_equal(vd_pgtable_merge(rig.table, 0, 1, 1), -EINVAL);
	assert_int_equal(rig.flushes, 0);
	/* What lies before the window's base. */
	assert_int_equal(map(&rig, 4 * PAGE, PAGE, -PAGE), 0);
	assert_int_equal(leaf_at(&rig, 4 * PAGE).pfn.value, (UINT64_C(1) << 44) - 1);
	rig_close(&rig);
}

static void blocks_are_as_large_as_they_may(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, &vd_mmu_format_sv48);
	assert_int_equal(map(&rig, GIB - 2 * MIB - PAGE, 2 * GIB, 5 * GIB - 2 * MIB - PAGE), 0);
	assert_int_equal(leaf_at(&rig, GIB - 2 * MIB - PAGE).size, PAGE);
	assert_int_equal(leaf_at(&rig, GIB - 1).size, 2 * MIB);
	assert_int_equal(leaf_at(&rig, GIB + 12345).size, GIB);
	assert_int_equal(leaf_at(&rig, GIB + 12345).pfn.value, (5 * GIB + 12345) >> 12);
	assert_int_equal(leaf_at(&rig, 3 * GIB - 5 * MIB).size, 2 * MIB);
	assert_int_equal(leaf_at(&rig, 3 * GIB - 2 * MIB - 2 * PAGE).size, PAGE);
	assert_int_equal(leaf_at(&rig, 3 * GIB - 2 * MIB - PAGE).size, 0);
	/* 511 pages at the end, of which the first 31 groups of 16 are whole. */
	assert_int_equal(leaf_at(&rig, 3 * GIB - 4 * MIB + 31 * 16 * PAGE - 1).size, 64 * KIB);
	assert_int_equal(leaf_at(&rig, 3 * GIB - 4 * MIB + 31 * 16 * PAGE).size, PAGE);
	/* Congruent modulo 2 MiB only. */
	assert_int_equal(map(&rig, 8 * GIB, GIB, 2 * MIB), 0);
	assert_int_equal(leaf_at(&rig, 8 * GIB).size, 2 * MIB);
	/* Modulo 64 KiB, and modulo the page. */
	assert_int_equal(map(&rig, 16 * GIB, 2 * MIB, 64 * KIB), 0);
	assert_int_equal(leaf_at(&rig, 16 * GIB).size, 64 * KIB);
	assert_int_equal(map(&rig, 32 * GIB, 2 * MIB, PAGE), 0);
	assert_int_equal(leaf_at(&rig, 32 * GIB).size, PAGE);
	assert_int_equal(rig.flushes, 0);
	rig_close(&rig);
}

/* ---- reserves ------------------------------------------------------------------------------- */

/* C3: with its reserve a map allocates nothing, and what it did not need is given back. */
static void reserves_cover_the_map(void **state)
{
	struct vd_pgtable_reserve *reserve;
	struct rig rig;
	long blocks;

	(void)state;
	rig_open(&rig, &vd_mmu_format_sv48x4);
	blocks = rig.test.blocks;
	assert_int_equal(vd_pgtable_reserve(rig.table, GIB + PAGE, GIB, 0, &reserve), 0);
	assert_int_equal(vd_pgtable_reserve_pages(reserve), 513 + 2 + 1);
	test_env_fail(&rig.test, 1, -ENOMEM);
	assert_int_equal(vd_pgtable_map(rig.table, GIB + PAGE, GIB, 0, &rw, reserve), 0);
	assert_int_equal(vd_pgtable_reserve_pages(reserve), 0);
	assert_false(test_env_failed(&rig.test));
	vd_pgtable_reserve_drop(rig.table, reserve);

	/* In 2 MiB blocks: granules at the ends only. */
	test_env_fail(&rig.test, 0, 0);
	assert_int_equal(vd_pgtable_reserve(rig.table, 8 * GIB + PAGE, GIB, 1, &reserve), 0);
	assert_int_equal(vd_pgtable_reserve_pages(reserve), 2 + 2 + 1);
	test_env_fail(&rig.test, 1, -ENOMEM);
	assert_int_equal(vd_pgtable_map(rig.table, 8 * GIB + PAGE, GIB, PAGE, &rw, reserve), 0);
	assert_int_equal(vd_pgtable_reserve_pages(reserve), 1); /* level 2 stood there */
	assert_false(test_env_failed(&rig.test));
	/* More than was reserved for. */
	assert_int_equal(vd_pgtable_map(rig.table, 64 * GIB, 4 * MIB, PAGE, &rw, reserve), -ENOMEM);
	assert_int_equal(leaf_at(&rig, 64 * GIB).size, 0);
	vd_pgtable_reserve_drop(rig.table, reserve);
	vd_pgtable_reserve_drop(rig.table, NULL);
	test_env_fail(&rig.test, 0, 0);

	assert_int_equal(vd_pgtable_unmap(rig.table, 0, UINT64_C(1) << 50, NULL), 0);
	vd_env_hosted_drain();
	assert_int_equal(rig.test.blocks, blocks);
	assert_int_equal(vd_pgtable_reserve(rig.table, 1, GIB, 0, &reserve), -EINVAL);
	assert_int_equal(vd_pgtable_reserve(rig.table, -GIB, GIB, 0, &reserve), -EOVERFLOW);
	for (long step = 1; step <= 9; step++) {
		test_env_fail(&rig.test, step, -ENOMEM);
		assert_int_equal(vd_pgtable_reserve(rig.table, GIB, 4 * MIB, 0, &reserve), -ENOMEM);
		assert_int_equal(rig.test.blocks, blocks);
	}
	rig_close(&rig);
}

/* ---- unmapping and splitting ---------------------------------------------------------------- */

static void unmap_is_exact(void **state)
{
	uint64_t unmapped;
	struct rig rig;

	(void)state;
	rig_open(&rig, &vd_mmu_format_sv48x4);
	assert_int_equal(map(&rig, GIB, GIB, 4 * GIB), 0);
	assert_int_equal(leaf_at(&rig, GIB).size, GIB);
	/* Each allocation fails in turn, and the block stands as it stood. */
	for (long step = 1; step <= 4; step++) {
		test_env_fail(&rig.test, step, -ENOMEM);
		assert_int_equal(vd_pgtable_unmap(rig.table, GIB + PAGE, PAGE, &unmapped), -ENOMEM);
		assert_int_equal(leaf_at(&rig, GIB).size, GIB);
		assert_int_equal(rig.flushes, 0);
	}
	test_env_fail(&rig.test, 0, 0);
	assert_int_equal(vd_pgtable_unmap(rig.table, GIB + PAGE, PAGE, &unmapped), 0);
	assert_int_equal(unmapped, PAGE);
	assert_flushed(&rig, GIB, GIB);
	assert_int_equal(leaf_at(&rig, GIB).size, PAGE);
	assert_int_equal(leaf_at(&rig, GIB + PAGE).size, 0);
	assert_int_equal(leaf_at(&rig, GIB + 2 * PAGE).pfn.value, (4 * GIB + 2 * PAGE) >> 12);
	assert_int_equal(leaf_at(&rig, GIB + 2 * MIB).size, 2 * MIB);
	assert_int_equal(stats_of(&rig).mapped_bytes, GIB - PAGE);
	assert_int_equal(vd_pgtable_unmap(rig.table, 0, 4 * GIB, &unmapped), 0);
	assert_int_equal(unmapped, GIB - PAGE);
	assert_int_equal(stats_of(&rig).table_pages, 1);
	assert_int_equal(vd_pgtable_unmap(rig.table, 0, 4 * GIB, &unmapped), 0);
	assert_int_equal(unmapped, 0);
	rig_close(&rig);
}

/* Accessed and dirty go to every part, and come together again. */
static void split_and_merge_keep_what_was_noted(void **state)
{
	struct vd_mmu_leaf leaf;
	struct rig rig;

	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		uint64_t size = vd_mmu_format_size(test_formats[i], 1);
		uint64_t page = vd_mmu_format_size(test_formats[i], 0);

		rig_open(&rig, test_formats[i]);
		assert_int_equal(map(&rig, size, 2 * size, 0), 0);
		assert_int_equal(vd_pgtable_walk(rig.table, size, VD_WRITE, &leaf), 0);
		assert_int_equal(vd_pgtable_split(rig.table, size, size, 0), 0);
		assert_flushed(&rig, size, size);
		assert_true(vd_pgtable_test_young(rig.table, 2 * size - page, page));
		assert_int_equal(leaf_at(&rig, 2 * size - page).size, page);
		assert_true(leaf_at(&rig, 2 * size - page).dirty);
		assert_int_equal(leaf_at(&rig, 2 * size).size, size);
		assert_int_equal(stats_of(&rig).mapped_bytes, 2 * size);

		vd_pgtable_write_protect(rig.table, size, size);
		assert_int_equal(vd_pgtable_protect(rig.table, size, size, RW), 0);
		vd_pgtable_clear_young(rig.table, size, size);
		assert_int_equal(vd_pgtable_walk(rig.table, size + 7 * page, VD_WRITE, &leaf), 0);
		rig.flushes = 0;
		rig.high = 0;
		/* A part of the table is left alone, but for groups in it. */
		assert_int_equal(vd_pgtable_merge(rig.table, size + page, size - page, 1), 0);
		assert_int_equal(leaf_at(&rig, size).size, page);
		assert_int_equal(vd_pgtable_merge(rig.table, size, size, 1), 0);
		leaf = leaf_at(&rig, size);
		assert_int_equal(leaf.size, size);
		assert_true(leaf.accessed && leaf.dirty);
		assert_flushed(&rig, size, size);
		rig_close(&rig);
	}
}

static void unlike_leaves_are_not_merged(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, &vd_mmu_format_sv39);
	assert_int_equal(map(&rig, 0, 2 * MIB, 2 * MIB), 0);
	assert_int_equal(vd_pgtable_split(rig.table, 0, 2 * MIB, 0), 0);
	assert_int_equal(vd_pgtable_protect(rig.table, 17 * PAGE, PAGE, VD_READ), 0);
	assert_int_equal(vd_pgtable_merge(rig.table, 0, 2 * MIB, 1), 0);
	assert_int_equal(leaf_at(&rig, 0).size, 64 * KIB); /* a group, beside the odd one */
	assert_int_equal(leaf_at(&rig, 16 * PAGE).size, PAGE);
	assert_int_equal(vd_pgtable_unmap(rig.table, 17 * PAGE, PAGE, NULL), 0);
	assert_int_equal(vd_pgtable_merge(rig.table, 0, 2 * MIB, 1), 0);
	assert_int_equal(leaf_at(&rig, 32 * PAGE).size, 64 * KIB);
	/* The right page, then one that lies elsewhere. */
	assert_int_equal(map(&rig, 17 * PAGE, PAGE, 2 * MIB + 18 * PAGE), 0);
	assert_int_equal(vd_pgtable_merge(rig.table, 0, 2 * MIB, 1), 0);
	assert_int_equal(leaf_at(&rig, 0).size, 64 * KIB);
	assert_int_equal(vd_pgtable_unmap(rig.table, 17 * PAGE, PAGE, NULL), 0);
	assert_int_equal(map(&rig, 17 * PAGE, PAGE, 2 * MIB + 17 * PAGE), 0);
	assert_int_equal(vd_pgtable_merge(rig.table, 0, 2 * MIB, 0), 0);
	assert_int_equal(leaf_at(&rig, 17 * PAGE).size, 64 * KIB);
	assert_int_equal(vd_pgtable_merge(rig.table, 0, 2 * MIB, 2), 0);
	assert_int_equal(leaf_at(&rig, 17 * PAGE).size, 2 * MIB);
	rig_close(&rig);
}

/* ---- groups --------------------------------------------------------------------------------- */

/* Whoever changes one leaf of a group un-marks all of it first, and flushes all of it. */
static void groups_are_broken_as_one(void **state)
{
	struct vd_mmu_leaf leaf;
	struct rig rig;

	(void)state;
	rig_open(&rig, &vd_mmu_format_sv39);
	assert_int_equal(map(&rig, 0, MIB, MIB), 0);
	assert_int_equal(leaf_at(&rig, 5 * PAGE).size, 64 * KIB);
	assert_int_equal(vd_pgtable_walk(rig.table, 9 * PAGE, VD_WRITE, &leaf), 0);
	assert_int_equal(vd_pgtable_protect(rig.table, 5 * PAGE, PAGE, VD_READ), 0);
	assert_flushed(&rig, 0, 64 * KIB);
	for (unsigned i = 0; i < 16; i++) {
		leaf = leaf_at(&rig, i * PAGE);
		assert_int_equal(leaf.size, PAGE);
		assert_int_equal(leaf.pfn.value, 256 + i);
		assert_int_equal(leaf.access, i == 5 ? VD_READ : RW);
		assert_true(leaf.dirty); /* of the group, whichever leaf it was noted in */
	}
	assert_int_equal(vd_pgtable_unmap(rig.table, 17 * PAGE, PAGE, NULL), 0);
	assert_flushed(&rig, 64 * KIB, 64 * KIB);
	assert_int_equal(leaf_at(&rig, 16 * PAGE).size, PAGE);
	assert_int_equal(leaf_at(&rig, 32 * PAGE).size, 64 * KIB);
	/* Ageing and write protection are the group's, whichever leaf is named. */
	assert_true(vd_pgtable_clear_young(rig.table, 35 * PAGE, PAGE));
	assert_flushed(&rig, 128 * KIB, 64 * KIB);
	assert_false(vd_pgtable_test_young(rig.table, 32 * PAGE, 16 * PAGE));
	leaf_at(&rig, 40 * PAGE);
	assert_true(vd_pgtable_test_young(rig.table, 47 * PAGE, PAGE));
	vd_pgtable_write_protect(rig.table, 33 * PAGE, PAGE);
	assert_flushed(&rig, 128 * KIB, 64 * KIB);
	assert_int_equal(leaf_at(&rig, 47 * PAGE).access, VD_READ);
	assert_int_equal(leaf_at(&rig, 47 * PAGE).size, 64 * KIB);
	assert_int_equal(vd_pgtable_split(rig.table, 32 * PAGE, PAGE, 0), 0);
	assert_int_equal(leaf_at(&rig, 47 * PAGE).size, PAGE);
	rig_close(&rig);
}

/* ---- dirty bits ----------------------------------------------------------------------------- */

/* What a walker does between the look at an entry and its change: once. */
static struct vd_pgtable *walked;

static void walk_in_between(void)
{
	struct vd_pgtable *table = walked;
	struct vd_mmu_leaf leaf;

	walked = NULL;
	if (table)
		assert_int_equal(vd_pgtable_walk_guarded(table, PAGE, VD_WRITE, &leaf), 0);
}

static uint64_t overtaken_cleaned(uint64_t entry, unsigned level)
{
	walk_in_between();
	return vd_mmu_format_sv39.cleaned(entry, level);
}

static uint64_t overtaken_write_protected(uint64_t entry, unsigned level)
{
	walk_in_between();
	return vd_mmu_format_sv39.write_protected(entry, level);
}

static void count_dirty(void *context, uint64_t start, uint64_t length)
{
	assert_int_equal(start, PAGE);
	assert_int_equal(length, PAGE);
	++*(unsigned *)context;
}

/* Told of by this call, or by the next. */
static void bits_set_meanwhile_are_not_lost(void **state)
{
	static struct vd_mmu_format overtaken;

	(void)state;
	overtaken = vd_mmu_format_sv39;
	overtaken.cleaned = overtaken_cleaned;
	overtaken.write_protected = overtaken_write_protected;
	for (unsigned i = 0; i < 4; i++) {
		bool protect = i & 1, dirty = i & 2;
		struct vd_mmu_leaf leaf;
		unsigned told = 0;
		struct rig rig;

		rig_open(&rig, &overtaken);
		assert_int_equal(map(&rig, PAGE, 2 * PAGE, PAGE), 0);
		if (dirty)
			assert_int_equal(vd_pgtable_walk(rig.table, PAGE, VD_WRITE, &leaf), 0);
		walked = rig.table;
		vd_pgtable_take_dirty(rig.table, PAGE, PAGE, protect, count_dirty, &told);
		assert_null(walked);
		if (protect || dirty) {
			assert_int_equal(told, 1);
			assert_flushed(&rig, PAGE, PAGE);
		}
		vd_pgtable_take_dirty(rig.table, PAGE, PAGE, protect, count_dirty, &told);
		assert_int_equal(told, 1);
		rig.flushes = 0;
		vd_pgtable_take_dirty(rig.table, PAGE, PAGE, protect, count_dirty, &told);
		vd_pgtable_take_dirty(rig.table, 0, 0, protect, count_dirty, &told);
		assert_int_equal(told, 1);
		assert_int_equal(rig.flushes, 0);
		assert_int_equal(leaf_at(&rig, PAGE).access, protect ? VD_READ : RW);
		rig_close(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(configurations_are_checked),
		cmocka_unit_test(failed_creation_leaves_nothing),
		cmocka_unit_test(roots_are_aligned),
		cmocka_unit_test(errors_are_distinct),
		cmocka_unit_test(blocks_are_as_large_as_they_may),
		cmocka_unit_test(reserves_cover_the_map),
		cmocka_unit_test(unmap_is_exact),
		cmocka_unit_test(split_and_merge_keep_what_was_noted),
		cmocka_unit_test(unlike_leaves_are_not_merged),
		cmocka_unit_test(groups_are_broken_as_one),
		cmocka_unit_test(bits_set_meanwhile_are_not_lost),
	};

	return cmocka_run_group_tests_name("mmu pgtable", tests, NULL, NULL);
}
