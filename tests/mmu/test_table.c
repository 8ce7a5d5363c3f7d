/* SPDX-License-Identifier: BSD-2-Clause */
#include "../base/test_env.h"

#include "mmu/table.h"

static const struct vd_mmu_format *const sv48x4 = &vd_mmu_format_sv48x4;

static void tables_are_aligned_and_empty(void **state)
{
	struct test_env test;

	(void)state;
	test_env_init(&test);
	for (unsigned level = 0; level < 4; level++) {
		struct vd_mmu_table *table = vd_mmu_table_create(&test.env, sv48x4, level);
		size_t bytes = level == 3 ? 16384 : 4096;

		assert_non_null(table);
		assert_int_equal(table->count * sizeof(vd_mmu_entry), bytes);
		assert_int_equal((uintptr_t)table->entries % bytes, 0);
		for (unsigned i = 0; i < table->count; i++) {
			assert_int_equal(table->entries[i], 0);
			assert_null(vd_mmu_table_child(table, i));
		}
		vd_mmu_table_destroy(table);
	}
	assert_int_equal(test.blocks, 0);
}

static void creation_that_fails_leaves_nothing(void **state)
{
	struct test_env test;
	long step = 1;

	(void)state;
	test_env_init(&test);
	for (;; step++) {
		struct vd_mmu_table *table;

		test_env_fail(&test, step, -ENOMEM);
		table = vd_mmu_table_create(&test.env, sv48x4, 1);
		if (table) {
			vd_mmu_table_destroy(table);
			break;
		}
		assert_int_equal(test.blocks, 0);
	}
	assert_int_equal(step, 3); /* two allocations */
}

static void spares_keep_what_they_have(void **state)
{
	const size_t one[VD_MMU_LEVELS_MAX] = {0, 1}, three[VD_MMU_LEVELS_MAX] = {1, 1, 1};
	struct vd_mmu_spares spares = {0};
	struct vd_mmu_table *first;
	struct test_env test;

	(void)state;
	test_env_init(&test);
	assert_false(vd_mmu_spares_suffice(&spares, one));
	assert_int_equal(vd_mmu_spares_fill(&spares, &test.env, sv48x4, one), 0);
	assert_true(vd_mmu_spares_suffice(&spares, one));
	first = spares.first[1];
	test_env_fail(&test, 4, -ENOMEM); /* level 0 has its two, level 2 loses its second */
	assert_int_equal(vd_mmu_spares_fill(&spares, &test.env, sv48x4, three), -ENOMEM);
	assert_ptr_equal(spares.first[1], first);
	assert_non_null(spares.first[0]);
	assert_null(spares.first[2]);
	assert_false(vd_mmu_spares_suffice(&spares, three));
	test_env_fail(&test, 0, 0);
	assert_int_equal(vd_mmu_spares_fill(&spares, &test.env, sv48x4, three), 0);
	assert_ptr_equal(vd_mmu_spares_take(&spares, 1), first);
	assert_null(vd_mmu_spares_take(&spares, 1));
	vd_mmu_table_destroy(first);
	assert_int_equal(spares.first[2]->level, 2);
	vd_mmu_spares_drop(&spares);
	assert_null(spares.first[0]);
	assert_int_equal(test.blocks, 0);
}

/* Deferred calls of this test wait in a list until it runs them. */
static struct vd_deferred *waiting[4];
static void (*waiting_fn[4])(struct vd_deferred *item);
static unsigned waiting_count;

static void collect(const struct vd_env *env, struct vd_deferred *item,
		    void (*fn)(struct vd_deferred *item))
{
	(void)env;
	waiting[waiting_count] = item;
	waiting_fn[waiting_count++] = fn;
}

/* A reader that is in an unlinked table can go on to the end; later the whole subtree goes. */
static void unlinked_tables_stay_until_readers_left(void **state)
{
	struct vd_mmu_detached detached = {NULL};
	struct vd_mmu_table *root, *middle, *leaves;
	struct test_env test;
	long blocks;

	(void)state;
	test_env_init(&test);
	test.env.defer = collect;
	root = vd_mmu_table_create(&test.env, sv48x4, 3);
	middle = vd_mmu_table_create(&test.env, sv48x4, 2);
	leaves = vd_mmu_table_create(&test.env, sv48x4, 1);
	vd_mmu_table_link(root, 2047, middle, 0x1001);
	vd_mmu_table_link(middle, 7, leaves, 0x2001);
	assert_int_equal(root->entries[2047], 0x1001);
	assert_int_equal(vd_mmu_table_used(root), 1);
	blocks = test.blocks;

	vd_mmu_table_unlink(root, 2047, &detached);
	assert_int_equal(root->entries[2047], 0);
	assert_int_equal(vd_mmu_table_used(root), 0);
	assert_null(vd_mmu_table_child(root, 2047));
	vd_mmu_detached_retire(&detached);
	assert_null(detached.first);
	assert_int_equal(test.blocks, blocks);
	assert_int_equal(middle->entries[7], 0x2001);

	assert_int_equal(waiting_count, 1);
	waiting_fn[0](waiting[0]);
	assert_int_equal(test.blocks, 2);
	vd_mmu_table_destroy(root);
	assert_int_equal(test.blocks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_aligned_and_empty),
		cmocka_unit_test(creation_that_fails_leaves_nothing),
		cmocka_unit_test(spares_keep_what_they_have),
		cmocka_unit_test(unlinked_tables_stay_until_readers_left),
	};

	return cmocka_run_group_tests_name("mmu table", tests, NULL, NULL);
}
