/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

#define RAM_BASE (8 * GIB)

static void open_mixture(struct fixture *f)
{
	fixture_open(f, &vd_mmu_format_sv48x4);
	fixture_slot(f, RAM_BASE, RAM_BYTES, f->ram, 0, false);
	fixture_slot(f, GIB, SPARES_BYTES, f->spares, 0, false);
	fixture_slot(f, 16 * MIB, BAR_BYTES, f->bar, 0, false);
	fixture_slot(f, 0, REGISTERS_BYTES, f->registers, 0, false);
	touch(f, RAM_BASE, VD_READ);		/* 1 GiB */
	touch(f, GIB + 3 * MIB, VD_WRITE);	/* 2 MiB */
	touch(f, 16 * MIB, VD_READ);		/* 2 MiB, device */
	touch(f, 0, VD_READ);			/* 4 KiB, device */
	touch(f, PAGE, VD_WRITE);		/* 4 KiB, device */
}

static void counts_what_is_mapped(void **state)
{
	struct vd_mmu_stats stats;
	struct fixture f;

	(void)state;
	open_mixture(&f);
	stats = stats_now(&f);
	assert_int_equal(stats.mapped_1g, 1);
	assert_int_equal(stats.mapped_2m, 2);
	assert_int_equal(stats.mapped_4k, 2);
	assert_int_equal(stats.mapped_bytes, GIB + 4 * MIB + 2 * PAGE);
	assert_int_equal(stats.device_pages, 512 + 2);
	assert_int_equal(stats.faults_ram, 2);
	assert_int_equal(stats.faults_device, 3);
	/* root, the 1 GiB table, two 2 MiB tables (of GIB and of 0), one 4 KiB table */
	assert_int_equal(stats.table_pages, 5);
	vd_mmu_zap(f.mmu, (vd_gpa){0}, GIB);
	stats = stats_now(&f);
	assert_int_equal(stats.device_pages, 0);
	assert_int_equal(stats.mapped_bytes, GIB + 2 * MIB);
	assert_int_equal(stats.table_pages, 3);
	assert_int_equal(stats.zaps, 3);
	assert_int_equal(stats.flushes, 1);
	fixture_close(&f);
}

struct seen {
	struct fixture *f;
	unsigned count, stop_at;
	uint64_t last, bytes;
};

static int see(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf)
{
	struct seen *seen = context;

	assert_true(!seen->count || gpa.value > seen->last);
	assert_int_equal(leaf->pfn.value, pfn_now(seen->f, gpa.value).value);
	assert_int_equal(leaf->device, gpa.value < GIB);
	assert_int_equal(leaf->dirty, gpa.value == PAGE || gpa.value == GIB + 2 * MIB);
	seen->last = gpa.value;
	seen->bytes += leaf->size;
	return ++seen->count == seen->stop_at ? 7 : 0;
}

static void each_goes_by_address(void **state)
{
	struct fixture f;
	struct seen seen = {.f = &f};

	(void)state;
	open_mixture(&f);
	assert_int_equal(vd_mmu_each(f.mmu, see, &seen), 0);
	assert_int_equal(seen.count, 5);
	assert_int_equal(seen.bytes, stats_now(&f).mapped_bytes);
	seen = (struct seen){.f = &f, .stop_at = 2};
	assert_int_equal(vd_mmu_each(f.mmu, see, &seen), 7);
	assert_int_equal(seen.count, 2);
	fixture_close(&f);
}

/* Leaves that meet the range, blocks that reach over its ends among them. */
static void each_in_a_range(void **state)
{
	static const struct {
		uint64_t start, length;
		unsigned count;
	} ranges[] = {
		{0, UINT64_MAX, 5}, {GIB, GIB, 1}, {GIB + 2 * MIB, 0, 0}, {0, GIB, 3},
		{UINT64_MAX - 5, 100, 0}, {GIB, UINT64_MAX, 2}, {16 * MIB + PAGE, PAGE, 1},
	};
	struct fixture f;

	(void)state;
	open_mixture(&f);
	for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		struct seen seen = {.f = &f};

		assert_int_equal(vd_mmu_each_in(f.mmu, (vd_gpa){ranges[i].start}, ranges[i].length,
						see, &seen), 0);
		assert_int_equal(seen.count, ranges[i].count);
	}
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_what_is_mapped),
		cmocka_unit_test(each_goes_by_address),
		cmocka_unit_test(each_in_a_range),
	};

	return cmocka_run_group_tests_name("mmu stats", tests, NULL, NULL);
}
