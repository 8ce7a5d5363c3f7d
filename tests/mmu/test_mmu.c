/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

static void bad_configurations_are_refused(void **state)
{
	struct vd_mmu_config good, bad;
	struct vd_mmu *mmu = NULL;
	struct vd_error error;
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	good = (struct vd_mmu_config){
		.env = &f.checked.env, .mem = f.mem, .format = &vd_mmu_format_sv39x4};
	bad = good;
	bad.format = NULL;
	assert_int_equal(vd_mmu_create(&bad, &mmu, &error), -EINVAL);
	assert_int_equal(error.code, -EINVAL);
	bad = good;
	bad.env = NULL;
	assert_int_equal(vd_mmu_create(&bad, &mmu, NULL), -EINVAL);
	bad = good;
	bad.mem = NULL;
	assert_int_equal(vd_mmu_create(&bad, &mmu, NULL), -EINVAL);
	assert_null(mmu);
	/* Two mirrors of one space, the second with nothing that caches. */
	assert_int_equal(vd_mmu_create(&good, &mmu, &error), 0);
	vd_mmu_destroy(mmu);
	vd_mmu_destroy(NULL);
	fixture_close(&f);
}

static void failed_creation_leaves_nothing(void **state)
{
	struct vd_mmu_config config;
	struct vd_mmu *mmu = NULL;
	struct vd_error error;
	struct fixture f;
	long step = 1;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	config = (struct vd_mmu_config){
		.env = &f.checked.env, .mem = f.mem, .format = &vd_mmu_format_sv57x4};
	for (;; step++) {
		long blocks = f.checked.blocks;

		test_env_fail(&f.checked, step, -ENOMEM);
		if (!vd_mmu_create(&config, &mmu, &error))
			break;
		assert_int_equal(error.code, -ENOMEM);
		assert_int_equal(f.checked.blocks, blocks);
	}
	assert_int_equal(step, 4);
	vd_mmu_destroy(mmu);
	fixture_close(&f);
}

static void released_space_takes_no_mmu(void **state)
{
	struct vd_mmu_config config;
	struct vd_mmu *mmu = NULL;
	struct vd_error error;
	struct fixture f;
	long blocks;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	vd_notifier_release(vd_mem_notifier(f.mem));
	blocks = f.checked.blocks;
	config = (struct vd_mmu_config){
		.env = &f.checked.env, .mem = f.mem, .format = &vd_mmu_format_sv48x4};
	assert_int_equal(vd_mmu_create(&config, &mmu, &error), -ESHUTDOWN);
	assert_int_equal(f.checked.blocks, blocks);
	fixture_close(&f);
}

/* Destruction flushes what was mapped: no TLB may outlive the tables it was filled from. */
static void destruction_zaps_and_flushes(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, 0, 4 * PAGE, f.spares, 0, false);
	touch(&f, PAGE, VD_WRITE);
	vd_mmu_destroy(f.mmu);
	f.mmu = NULL;
	assert_int_equal(f.flush_count, 1);
	fixture_close(&f);
}

static void root_is_what_hardware_wants(void **state)
{
	struct fixture f;
	size_t bytes;
	void *root;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv39x4);
	root = vd_mmu_root(f.mmu, &bytes);
	assert_int_equal(bytes, 16384);
	assert_int_equal((uintptr_t)root % 16384, 0);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configurations_are_refused),
		cmocka_unit_test(failed_creation_leaves_nothing),
		cmocka_unit_test(released_space_takes_no_mmu),
		cmocka_unit_test(destruction_zaps_and_flushes),
		cmocka_unit_test(root_is_what_hardware_wants),
	};

	return cmocka_run_group_tests_name("mmu mmu", tests, NULL, NULL);
}
