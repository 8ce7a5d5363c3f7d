/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The mirror in every format, with guest pages of its granule (4, 16 and 64 KiB): what faults put
 * in is read from the raw tables by the walkers of brute.c.
 */
#include "fixture.h"

#include "mmu/format.h"

#include "brute.h"
#include "formats.h"

#define RAM_BASE (2 * GIB) /* congruent to the object's place in the window modulo 1 GiB */
#define BAR_BASE (256 * MIB)
#define REGISTERS_BASE (512 * MIB)

static struct brute_leaf raw(struct fixture *f, const struct vd_mmu_format *format, uint64_t gpa)
{
	size_t bytes;

	return brute_walk(format, vd_mmu_root(f->mmu, &bytes), vd_host_window_base(f->host), gpa);
}

static void open_with(struct fixture *f, const struct vd_mmu_format *format)
{
	fixture_open_pages(f, format->shift[0]);
	fixture_mmu(f, format);
}

/* The raw table has what the host has there, in a leaf of @size. */
static void check_raw(struct fixture *f, const struct vd_mmu_format *format, uint64_t gpa,
		      uint64_t size)
{
	struct brute_leaf leaf = raw(f, format, gpa);
	uint64_t inside = gpa & (vd_mmu_format_size(format, 0) - 1);

	if (!leaf.found || leaf.size != size)
		fail_msg("%s: leaf of 0x%llx at 0x%llx, not 0x%llx", format->name,
			 (unsigned long long)leaf.size, (unsigned long long)gpa,
			 (unsigned long long)size);
	assert_int_equal(leaf.address, (pfn_now(f, gpa).value << format->shift[0]) + inside);
}

static void ram_is_mapped_by_the_largest_block(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *format = test_formats[i];
		uint64_t size = vd_mmu_format_size(format, format->block_level);
		uint64_t gpa = RAM_BASE + 3 * MIB + 0x123;
		struct brute_leaf leaf;
		struct fixture f;

		open_with(&f, format);
		fixture_slot(&f, RAM_BASE, RAM_BYTES, f.ram, 0, false);
		assert_int_equal(touch(&f, gpa, VD_READ).size, size);
		check_raw(&f, format, gpa, size);
		check_raw(&f, format, gpa & ~(size - 1), size);
		leaf = raw(&f, format, gpa);
		assert_true(leaf.read && leaf.write && leaf.execute && leaf.accessed);
		assert_false(leaf.device || leaf.user || leaf.global || leaf.contiguous);
		assert_int_equal(leaf.type, 0);
		assert_int_equal(leaf.dirty, !(format->flags & VD_MMU_FORMAT_DIRTY));
		assert_int_equal(walk(&f, gpa, VD_WRITE, &(struct vd_mmu_leaf){.size = 0}), 0);
		assert_true(raw(&f, format, gpa).dirty);
		vd_mmu_zap(f.mmu, (vd_gpa){gpa}, 1);
		assert_false(raw(&f, format, gpa & ~(size - 1)).found);
		fixture_close(&f);
	}
}

/* A5: device leaves have the type of their host mapping, and are never executable. */
static void device_leaves_have_the_type_of_the_host(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *format = test_formats[i];
		struct brute_leaf leaf;
		struct fixture f;

		open_with(&f, format);
		fixture_slot(&f, BAR_BASE, BAR_BYTES, f.bar, 0, false);
		fixture_slot(&f, REGISTERS_BASE, REGISTERS_BYTES, f.registers, 0, false);
		touch(&f, BAR_BASE + 0x8000, VD_WRITE);
		touch(&f, REGISTERS_BASE + 0x10, VD_READ);
		leaf = raw(&f, format, BAR_BASE + 0x8000);
		assert_true(leaf.found && leaf.write && leaf.device && !leaf.execute);
		assert_int_equal(leaf.type, 1);
		leaf = raw(&f, format, REGISTERS_BASE + 0x10);
		assert_true(leaf.found && leaf.read && leaf.device && !leaf.execute);
		assert_int_equal(leaf.type, 2);
		check_raw(&f, format, REGISTERS_BASE + 0x10, vd_mmu_format_size(format, 0));
		assert_int_equal(fault(&f, BAR_BASE, VD_EXECUTE), -EACCES);
		fixture_close(&f);
	}
}

/* A log is kept by pages of the guest: blocks give way to granules, with or without a dirty bit. */
static void dirty_logs_count_granules(void **state)
{
	static uint8_t bitmap[RAM_BYTES / PAGE / 8];

	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *format = test_formats[i];
		uint64_t granule = vd_mmu_format_size(format, 0);
		uint64_t gpa = RAM_BASE + 5 * granule;
		size_t bytes = RAM_BYTES / granule / 8;
		struct fixture f;
		uint32_t slot;

		open_with(&f, format);
		slot = fixture_slot(&f, RAM_BASE, RAM_BYTES, f.ram, 0, false);
		touch(&f, gpa, VD_WRITE);
		assert_int_equal(vd_mem_dirty_start(f.mem, slot), 0);
		assert_false(raw(&f, format, gpa).write);
		touch(&f, gpa, VD_WRITE);
		check_raw(&f, format, gpa, granule);
		assert_true(raw(&f, format, gpa).write && raw(&f, format, gpa).dirty);
		assert_int_equal(vd_mem_dirty_fetch(f.mem, slot, bitmap, bytes), 0);
		assert_int_equal(bitmap[0], 1 << 5);
		assert_false(raw(&f, format, gpa).write);
		touch(&f, gpa + granule, VD_READ);
		assert_int_equal(vd_mem_dirty_fetch(f.mem, slot, bitmap, bytes), 0);
		assert_int_equal(bitmap[0], 0);
		fixture_close(&f);
	}
}

/* A page of the guest must be whole leaves. */
static void pages_smaller_than_the_granule_are_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		struct vd_mmu_config config = {.format = test_formats[i]};
		unsigned shift = test_formats[i]->shift[0];
		struct vd_mmu *mmu = NULL;
		struct vd_error error;
		struct fixture f;

		if (shift == 12)
			continue;
		fixture_open_pages(&f, shift == 16 ? 14 : 12);
		config.env = &f.checked.env;
		config.mem = f.mem;
		assert_int_equal(vd_mmu_create(&config, &mmu, &error), -EINVAL);
		fixture_close(&f);
	}
}

/* Addresses beyond what a format translates are nobody's. */
static void addresses_beyond_the_format_are_not_there(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *format = test_formats[i];
		uint64_t beyond = UINT64_C(1) << format->input_bits;
		struct vd_mmu_leaf leaf;
		struct fixture f;

		open_with(&f, format);
		fixture_slot(&f, RAM_BASE, RAM_BYTES, f.ram, 0, false);
		assert_int_equal(fault(&f, beyond + RAM_BASE, VD_READ), -ENOENT);
		touch(&f, RAM_BASE, VD_READ);
		assert_int_equal(walk(&f, beyond + RAM_BASE, VD_READ, &leaf), -ENOENT);
		fixture_close(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ram_is_mapped_by_the_largest_block),
		cmocka_unit_test(device_leaves_have_the_type_of_the_host),
		cmocka_unit_test(dirty_logs_count_granules),
		cmocka_unit_test(pages_smaller_than_the_granule_are_refused),
		cmocka_unit_test(addresses_beyond_the_format_are_not_there),
	};

	return cmocka_run_group_tests_name("mmu granules", tests, NULL, NULL);
}
