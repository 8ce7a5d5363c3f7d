/* SPDX-License-Identifier: BSD-2-Clause */
/* The bookkeeping of leaf.c, on tables made by faults. */
#include "fixture.h"

#include "mmu/state.h"

#define RAM_BASE (2 * GIB)

static struct vd_mmu_place place_of(struct fixture *f, uint64_t gpa)
{
	struct vd_mmu_table *table = f->mmu->pt.root;

	for (;;) {
		unsigned index = vd_mmu_format_index(f->mmu->pt.format, table->level, gpa);
		struct vd_mmu_table *child = vd_mmu_table_child(table, index);

		if (!child)
			return (struct vd_mmu_place){table, index, gpa, table->entries[index]};
		table = child;
	}
}

static void set_and_clear_keep_count(void **state)
{
	struct vd_mmu_attributes device = {.access = VD_READ, .device = true};
	struct vd_mmu_place place;
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, PAGE, f.ram, 0, false);
	touch(&f, RAM_BASE, VD_READ);
	place = place_of(&f, RAM_BASE);
	assert_int_equal(vd_mmu_table_used(place.table), 1);
	vd_mmu_leaf_clear(&f.mmu->pt, &place);
	assert_int_equal(place.table->entries[place.index], 0);
	assert_int_equal(vd_mmu_table_used(place.table), 0);
	vd_mmu_leaf_set(&f.mmu->pt, &place, f.mmu->pt.format->leaf_entry(0, &device, 0), true);
	assert_int_equal(vd_mmu_table_leaves(place.table), 1);
	assert_int_equal(vd_mmu_table_devices(place.table), 1);
	assert_int_equal(stats_now(&f).device_pages, 1);
	vd_mmu_leaf_clear(&f.mmu->pt, &place);
	assert_int_equal(vd_mmu_table_devices(place.table), 0);
	assert_int_equal(stats_now(&f).device_pages, 0);
	fixture_close(&f);
}

/* Somebody wrote entries where we had none: taking them out makes no count wrap. */
static void foreign_entries_make_no_count_wrap(void **state)
{
	struct vd_mmu_place place;
	struct vd_mmu_stats stats;
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, PAGE, f.ram, 0, false);
	touch(&f, RAM_BASE, VD_READ);
	place = place_of(&f, RAM_BASE);
	for (unsigned i = 0; i < 8; i++)
		place.table->entries[100 + i] = UINT64_MAX;
	vd_mmu_zap(f.mmu, (vd_gpa){RAM_BASE}, 256 * PAGE);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(place.table->entries[100 + i], 0);
	stats = stats_now(&f);
	assert_int_equal(stats.mapped_bytes, 0);
	assert_int_equal(stats.device_pages, 0);
	assert_int_equal(stats.table_pages, 1);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_and_clear_keep_count),
		cmocka_unit_test(foreign_entries_make_no_count_wrap),
	};

	return cmocka_run_group_tests_name("mmu leaf", tests, NULL, NULL);
}
