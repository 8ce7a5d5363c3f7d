/* SPDX-License-Identifier: BSD-2-Clause */
/* Creation, roots, the budget, and failing allocations. */
#include "shadow_fixture.h"

#define TABLE(n) (GUEST_RAM + (n) * PAGE)
#define DATA (GUEST_RAM + MIB)

static const struct guest_kind *const sv39 = &guest_kinds[0];

/* One page of data at address 0x1000 of the root in page @first. */
static void map_one(struct shadowed *s, unsigned first, unsigned access, unsigned bits)
{
	poke(s, TABLE(first), guest_table(sv39, TABLE(first + 1), 2));
	poke(s, TABLE(first + 1), guest_table(sv39, TABLE(first + 2), 1));
	poke(s, TABLE(first + 2) + 8, guest_leaf(sv39, DATA, access, bits, 0));
}

static void bad_configurations_are_told_apart(void **state)
{
	struct vd_shadow_config config;
	struct vd_shadow *shadow = NULL;
	struct vd_error error;
	struct shadowed s;

	(void)state;
	shadow_open_world(&s, sv39, false);
	config = (struct vd_shadow_config){.env = &s.f.checked.env, .mem = s.f.mem};
	assert_int_equal(vd_shadow_create(&config, &shadow, &error), -EINVAL);
	config.format = &vd_mmu_format_sv39x4;
	assert_int_equal(vd_shadow_create(&config, &shadow, &error), -EINVAL);
	config.format = &vd_mmu_format_arm64_s1_64k;
	assert_int_equal(vd_shadow_create(&config, &shadow, &error), -EINVAL);
	config.format = &vd_mmu_format_sv39;
	config.pages = VD_SHADOW_PAGES_MIN - 1;
	assert_int_equal(vd_shadow_create(&config, &shadow, &error), -EINVAL);
	config.pages = 1u << 31;
	assert_int_equal(vd_shadow_create(&config, &shadow, &error), -EINVAL);
	assert_null(shadow);
	shadow_close(&s);
}

static void roots_are_found_again(void **state)
{
	struct vd_shadow_root *first, *second, *none;
	struct vd_shadow_stats stats;
	struct shadowed s;

	(void)state;
	shadow_open(&s, sv39, &vd_mmu_format_sv39, 0, false);
	map_one(&s, 0, VD_READ, GUEST_A);
	first = root_of(&s, TABLE(0));
	assert_int_equal(vd_shadow_fault(s.shadow, first, (vd_gva){PAGE},
					 VD_READ | VD_SHADOW_SUM, NULL), 0);
	second = root_of(&s, TABLE(5));
	assert_ptr_not_equal(first, second);
	vd_shadow_root_put(s.shadow, first);
	assert_ptr_equal(root_of(&s, TABLE(0)), first);
	/* With all that hangs below. */
	assert_int_equal(shadow_walk(&s, first, PAGE, VD_READ, NULL), 0);
	stats = shadow_stats(&s);
	assert_int_equal(stats.pages, 4);
	assert_int_equal(stats.leaves, 1);
	assert_int_equal(vd_shadow_root_get(s.shadow, &vd_guest_format_sv48, (vd_gpa){0}, &none),
			 -EINVAL);
	vd_shadow_root_put(s.shadow, first);
	vd_shadow_root_put(s.shadow, second);
	shadow_close(&s);
}

/* An address that the shadow's format cuts must not be taken for what is left of it. */
static void without_paging_nothing_lies_beyond_the_format(void **state)
{
	const uint64_t beyond = GUEST_RAM + (UINT64_C(1) << 39);
	struct vd_shadow_root *bare;
	struct shadowed s;

	(void)state;
	shadow_open(&s, sv39, &vd_mmu_format_sv39, 0, false);
	assert_int_equal(vd_shadow_root_get(s.shadow, &vd_guest_format_bare, (vd_gpa){0}, &bare),
			 0);
	assert_int_equal(vd_shadow_fault(s.shadow, bare, (vd_gva){GUEST_RAM}, VD_READ, NULL), 0);
	assert_int_equal(shadow_walk(&s, bare, GUEST_RAM, VD_READ, NULL), 0);
	assert_int_equal(shadow_walk(&s, bare, beyond, VD_READ, NULL), -ENOENT);
	fixture_slot(&s.f, beyond, PAGE, s.ram, PAGE, false);
	assert_int_equal(vd_shadow_fault(s.shadow, bare, (vd_gva){beyond}, VD_READ, NULL),
			 -ENOENT);
	assert_int_equal(vd_shadow_fault(s.shadow, bare, (vd_gva){UINT64_C(1) << 60}, VD_READ,
					 NULL), -ENOENT);
	vd_shadow_root_put(s.shadow, bare);
	shadow_close(&s);
}

static void roots_in_use_are_never_recycled(void **state)
{
	struct vd_shadow_root *roots[VD_SHADOW_PAGES_MIN];
	struct shadowed s;
	unsigned count = 0;
	int ret = 0;

	(void)state;
	shadow_open(&s, sv39, &vd_mmu_format_sv39, VD_SHADOW_PAGES_MIN, false);
	while (!ret) {
		assert_true(count < VD_SHADOW_PAGES_MIN);
		ret = vd_shadow_root_get(s.shadow, s.kind->format, (vd_gpa){TABLE(count)},
					 &roots[count]);
		count += !ret;
	}
	assert_int_equal(ret, -ENOSPC);
	assert_true(count > VD_SHADOW_PAGES_MIN / 2);
	vd_shadow_root_put(s.shadow, roots[--count]);
	assert_int_equal(vd_shadow_root_get(s.shadow, s.kind->format, (vd_gpa){TABLE(99)},
					    &roots[count]), 0);
	for (unsigned i = 0; i <= count; i++)
		vd_shadow_root_put(s.shadow, roots[i]);
	shadow_close(&s);
}

/* Each allocation of a creation, a root and a fault fails in turn; nothing is lost or changed. */
static void failing_allocations_change_nothing(void **state)
{
	struct shadowed s;
	bool done = false;

	(void)state;
	shadow_open_world(&s, sv39, false);
	map_one(&s, 0, VD_READ | VD_WRITE, GUEST_A | GUEST_D);
	for (long step = 1; !done; step++) {
		struct vd_shadow_root *root = NULL;
		long blocks = s.f.checked.blocks;
		int ret;

		test_env_fail(&s.f.checked, step, -ENOMEM);
		ret = shadow_open_config(&s, &vd_mmu_format_sv57, 0, NULL);
		if (ret) {
			assert_int_equal(ret, -ENOMEM);
			assert_int_equal(s.f.checked.blocks, blocks);
			continue;
		}
		ret = vd_shadow_root_get(s.shadow, s.kind->format, (vd_gpa){TABLE(0)}, &root);
		if (!ret) {
			ret = vd_shadow_fault(s.shadow, root, (vd_gva){PAGE},
					      VD_WRITE | VD_SHADOW_SUM, NULL);
			done = !ret && !test_env_failed(&s.f.checked);
			assert_int_equal(shadow_stats(&s).leaves, !ret);
			vd_shadow_root_put(s.shadow, root);
		}
		assert_true(!ret || ret == -ENOMEM);
		vd_shadow_destroy(s.shadow);
		s.shadow = NULL;
	}
	shadow_close(&s);
}

static void a_space_that_dies_ends_it(void **state)
{
	struct vd_shadow_root *root;
	struct vd_shadow_write write;
	struct shadowed s;

	(void)state;
	shadow_open(&s, sv39, &vd_mmu_format_sv39, 0, false);
	map_one(&s, 0, VD_READ, GUEST_A);
	root = root_of(&s, TABLE(0));
	assert_int_equal(vd_shadow_fault(s.shadow, root, (vd_gva){PAGE},
					 VD_READ | VD_SHADOW_SUM, NULL), 0);
	vd_notifier_release(vd_mem_notifier(s.f.mem));
	assert_int_equal(shadow_walk(&s, root, PAGE, VD_READ | VD_SHADOW_SUM, NULL), -ENOENT);
	assert_int_equal(vd_shadow_fault(s.shadow, root, (vd_gva){PAGE},
					 VD_READ | VD_SHADOW_SUM, NULL), -ESHUTDOWN);
	assert_int_equal(vd_shadow_write_begin(s.shadow, (vd_gpa){DATA}, 8, &write), -ESHUTDOWN);
	vd_shadow_root_put(s.shadow, root);
	shadow_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configurations_are_told_apart),
		cmocka_unit_test(roots_are_found_again),
		cmocka_unit_test(without_paging_nothing_lies_beyond_the_format),
		cmocka_unit_test(roots_in_use_are_never_recycled),
		cmocka_unit_test(failing_allocations_change_nothing),
		cmocka_unit_test(a_space_that_dies_ends_it),
	};

	return cmocka_run_group_tests_name("shadow", tests, NULL, NULL);
}
