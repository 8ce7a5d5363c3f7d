/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include "pci/bar.h"

#define KIB UINT64_C(1024)

static unsigned plan(const struct vd_region *region, uint64_t page, bool direct,
		     struct vd_region_area hidden, struct vd_pci_bar_part *parts)
{
	struct vd_pci_bar_facts facts = {.region = region, .page = page, .direct = direct,
					 .hidden = {hidden}};

	return vd_pci_bar_plan(&facts, parts);
}

static void expect(const struct vd_pci_bar_part *part, uint64_t offset, uint64_t size,
		   const char *reason)
{
	assert_int_equal(part->offset, offset);
	assert_int_equal(part->size, size);
	assert_ptr_equal(part->reason, reason);
}

static const struct vd_region_area nothing;

static void test_each_case_has_its_reason(void **state)
{
	struct vd_region region = {.size = 64 * KIB, .flags = VD_REGION_READ | VD_REGION_WRITE};
	struct vd_region_area msix = {0x2010, 0x20};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];

	(void)state;
	assert_int_equal(plan(&region, 4 * KIB, true, nothing, parts), 1);
	expect(&parts[0], 0, 64 * KIB, vd_pci_reason_emulated);

	region.flags |= VD_REGION_MMAP;
	assert_int_equal(plan(&region, 4 * KIB, true, nothing, parts), 1);
	expect(&parts[0], 0, 64 * KIB, NULL);
	assert_int_equal(plan(&region, 4 * KIB, false, nothing, parts), 1);
	expect(&parts[0], 0, 64 * KIB, vd_pci_reason_off);

	/* The page with the table is hidden whole, what is beside it is not. */
	assert_int_equal(plan(&region, 4 * KIB, true, msix, parts), 3);
	expect(&parts[0], 0, 8 * KIB, NULL);
	expect(&parts[1], 8 * KIB, 4 * KIB, vd_pci_reason_msix);
	expect(&parts[2], 12 * KIB, 52 * KIB, NULL);
	/* The same BAR on larger pages. */
	assert_int_equal(plan(&region, 16 * KIB, true, msix, parts), 2);
	expect(&parts[0], 0, 16 * KIB, vd_pci_reason_msix);
	expect(&parts[1], 16 * KIB, 48 * KIB, NULL);
	assert_int_equal(plan(&region, 64 * KIB, true, msix, parts), 1);
	expect(&parts[0], 0, 64 * KIB, vd_pci_reason_msix);

	region.size = 0x100;
	assert_int_equal(plan(&region, 4 * KIB, true, nothing, parts), 1);
	expect(&parts[0], 0, 0x100, vd_pci_reason_small);
	region.size = 0;
	assert_int_equal(plan(&region, 4 * KIB, true, nothing, parts), 0);
}

static void test_edges_of_areas_are_trapped(void **state)
{
	struct vd_region region = {.size = 256 * KIB, .flags = VD_REGION_MMAP, .area_count = 1,
				   .areas = {{12 * KIB, 120 * KIB}}};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];

	(void)state;
	assert_int_equal(plan(&region, 64 * KIB, true, nothing, parts), 5);
	expect(&parts[0], 0, 12 * KIB, vd_pci_reason_emulated);
	expect(&parts[1], 12 * KIB, 52 * KIB, vd_pci_reason_edge);
	expect(&parts[2], 64 * KIB, 64 * KIB, NULL);
	expect(&parts[3], 128 * KIB, 4 * KIB, vd_pci_reason_edge);
	expect(&parts[4], 132 * KIB, 124 * KIB, vd_pci_reason_emulated);
}

static void test_lies_about_areas_stay_inside_the_region(void **state)
{
	struct vd_region region = {
		.size = 64 * KIB, .flags = VD_REGION_MMAP, .area_count = 99,
		.areas = {{0, UINT64_MAX}, {UINT64_MAX, 1}, {UINT64_MAX - 1, UINT64_MAX},
			  {4 * KIB, 0}},
	};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];

	(void)state;
	assert_int_equal(plan(&region, 4 * KIB, true, nothing, parts), 1);
	expect(&parts[0], 0, 64 * KIB, NULL);
}

/* Whether every byte of [start, start + size) is declared mappable by one area. */
static bool is_mappable(const struct vd_region *region, uint64_t start, uint64_t size)
{
	for (unsigned i = 0; i < region->area_count; i++) {
		const struct vd_region_area *area = &region->areas[i];

		if (start >= area->offset && start + size <= area->offset + area->size)
			return true;
	}
	return !region->area_count;
}

static bool meets_hidden(const struct vd_pci_bar_facts *facts, uint64_t start, uint64_t size)
{
	for (unsigned i = 0; i < VD_PCI_HIDDEN_MAX; i++) {
		const struct vd_region_area *hidden = &facts->hidden[i];

		if (hidden->size && start < hidden->offset + hidden->size &&
		    hidden->offset < start + size)
			return true;
	}
	return false;
}

static const struct vd_pci_bar_part *part_at(const struct vd_pci_bar_part *parts, unsigned count,
					     uint64_t offset)
{
	for (unsigned i = 0; i < count; i++)
		if (offset >= parts[i].offset && offset - parts[i].offset < parts[i].size)
			return &parts[i];
	fail_msg("offset %llx is in no part", (unsigned long long)offset);
	return NULL;
}

/* The rule said again, page by page. */
static void check_plan(const struct vd_pci_bar_facts *facts, const struct vd_pci_bar_part *parts,
		       unsigned count)
{
	const struct vd_region *region = facts->region;
	uint64_t end = 0;

	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(parts[i].offset, end);
		assert_int_not_equal(parts[i].size, 0);
		assert_true(!i || parts[i].reason != parts[i - 1].reason);
		end += parts[i].size;
	}
	assert_int_equal(end, region->size);
	for (uint64_t page = 0; page < region->size; page += facts->page) {
		bool direct = region->flags & VD_REGION_MMAP && facts->direct &&
			      region->size >= facts->page &&
			      is_mappable(region, page, facts->page) &&
			      !meets_hidden(facts, page, facts->page);

		for (uint64_t at = page; at < page + facts->page && at < region->size; at += 512)
			assert_int_equal(part_at(parts, count, at)->reason == NULL, direct);
	}
}

static void test_random_regions_follow_the_rule(void **state)
{
	(void)state;
	test_start(0x5eed0001);
	for (unsigned round = 0; round < 20000; round++) {
		struct vd_region region = {.size = UINT64_C(256) << below(11)};
		struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
		struct vd_pci_bar_facts facts = {
			.region = &region,
			.page = UINT64_C(4096) << 2 * below(3),
			.direct = below(8) != 0,
		};
		unsigned count;

		region.flags = below(6) ? VD_REGION_MMAP : 0;
		region.area_count = below(2) * below(5);
		for (unsigned i = 0; i < region.area_count; i++) {
			uint64_t offset = below((uint32_t)region.size / 256) * 256;

			region.areas[i].offset = offset;
			region.areas[i].size =
				(1 + below((uint32_t)(region.size - offset) / 256)) *
				256;
		}
		for (unsigned i = 0; i < VD_PCI_HIDDEN_MAX; i++) {
			facts.hidden[i].offset = below((uint32_t)region.size / 16) * 16;
			facts.hidden[i].size = below(2) * 16;
		}
		count = vd_pci_bar_plan(&facts, parts);
		check_plan(&facts, parts, count);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_case_has_its_reason),
		cmocka_unit_test(test_edges_of_areas_are_trapped),
		cmocka_unit_test(test_lies_about_areas_stay_inside_the_region),
		cmocka_unit_test_teardown(test_random_regions_follow_the_rule, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
