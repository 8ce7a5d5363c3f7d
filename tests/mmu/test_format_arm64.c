/* SPDX-License-Identifier: BSD-2-Clause */
/* arm64: entries written out by hand, and the shapes made at run time against their registers. */
#include "../base/test_env.h"

#include "mmu/format.h"

#include "brute.h"

static const struct vd_mmu_attributes ram = {
	.access = VD_READ | VD_WRITE | VD_EXECUTE, .accessed = true};
static const struct vd_mmu_attributes registers = {.access = VD_READ | VD_WRITE,
						   .type = VD_MEMORY_UNCACHED, .accessed = true,
						   .device = true};
static const struct vd_mmu_attributes frame_buffer = {
	.access = VD_READ, .type = VD_MEMORY_WRITE_COMBINING, .accessed = true};

static void stage2_encodes_as_the_manual_says(void **state)
{
	const struct vd_mmu_format *f = &vd_mmu_format_arm64_s2_4k;

	(void)state;
	/* AF, SH inner, S2AP 11, MemAttr 1111 */
	assert_int_equal(f->leaf_entry(0x12345000, &ram, 0), 0x123457ff);
	assert_int_equal(f->leaf_entry(0x80200000, &ram, 1), 0x802007fd);
	assert_int_equal(f->leaf_entry(0x40000000, &ram, 2), 0x400007fd);
	/* bit 55, XN, AF, SH outer, S2AP 11, Device-nGnRE */
	assert_int_equal(f->leaf_entry(0x09000000, &registers, 0), 0x00c00000090006c7);
	/* XN, AF, SH outer, S2AP 01, Normal Non-cacheable */
	assert_int_equal(f->leaf_entry(0x09000000, &frame_buffer, 0), 0x0040000009000657);
	assert_int_equal(f->table_entry(0x12345000, 2), 0x12345003);
}

static void stage1_encodes_as_the_manual_says(void **state)
{
	const struct vd_mmu_format *f = &vd_mmu_format_arm64_s1_4k;
	struct vd_mmu_attributes user = {.access = VD_READ | VD_EXECUTE, .accessed = true,
					 .user = true};
	struct vd_mmu_attributes kernel = {.access = VD_READ | VD_EXECUTE, .accessed = true,
					   .global = true};

	(void)state;
	/* PXN, nG, AF, SH inner, AP 11 */
	assert_int_equal(f->leaf_entry(0x12345000, &user, 0), 0x0020000012345fc3);
	/* UXN, AF, SH inner, AP 10 */
	assert_int_equal(f->leaf_entry(0x12345000, &kernel, 0), 0x0040000012345783);
	/* UXN, PXN, nG, AF, SH outer, AP 00, Attr1 */
	assert_int_equal(f->leaf_entry(0x09000000, &registers, 1), 0x00e0000009000e05);
	assert_int_equal(VD_MMU_ARM64_MAIR & 0xff, 0xff);
	assert_int_equal(VD_MMU_ARM64_MAIR >> 8 & 0xff, 0x04);
	assert_int_equal(VD_MMU_ARM64_MAIR >> 16 & 0xff, 0x44);
}

static void device_memory_is_never_executable(void **state)
{
	static const struct vd_mmu_format *const formats[] = {&vd_mmu_format_arm64_s1_4k,
							      &vd_mmu_format_arm64_s2_64k};
	struct vd_mmu_attributes leaf = {.access = VD_READ | VD_EXECUTE};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		leaf.device = false;
		leaf.type = VD_MEMORY_NORMAL;
		assert_true(formats[i]->can(&leaf, 0));
		leaf.type = VD_MEMORY_WRITE_COMBINING;
		assert_true(formats[i]->can(&leaf, 0));
		leaf.device = true;
		assert_false(formats[i]->can(&leaf, 0));
		leaf.device = false;
		leaf.type = VD_MEMORY_UNCACHED;
		assert_false(formats[i]->can(&leaf, 0));
	}
}

static void reserved_encodings_are_malformed(void **state)
{
	static const struct {
		const struct vd_mmu_format *format;
		uint64_t entry;
		unsigned level;
		enum vd_mmu_entry_kind kind;
	} cases[] = {
		{&vd_mmu_format_arm64_s2_4k, 0x7fe, 0, VD_MMU_ABSENT},
		{&vd_mmu_format_arm64_s2_4k, 0x7ff, 0, VD_MMU_LEAF},
		{&vd_mmu_format_arm64_s2_4k, 0x7fd, 0, VD_MMU_MALFORMED}, /* a block of 4 KiB */
		{&vd_mmu_format_arm64_s2_4k, 0x7fd, 1, VD_MMU_LEAF},
		{&vd_mmu_format_arm64_s2_4k, 0x7fd, 2, VD_MMU_LEAF},
		{&vd_mmu_format_arm64_s2_4k, 0x003, 2, VD_MMU_TABLE},
		{&vd_mmu_format_arm64_s2_4k, 0x7d3, 0, VD_MMU_MALFORMED}, /* MemAttr 0100 */
		{&vd_mmu_format_arm64_s2_4k, 0x7e3, 0, VD_MMU_MALFORMED}, /* 1000 */
		{&vd_mmu_format_arm64_s2_4k, 0x7f3, 0, VD_MMU_MALFORMED}, /* 1100 */
		{&vd_mmu_format_arm64_s2_4k, 0x7c3, 0, VD_MMU_LEAF},	  /* 0000 nGnRnE */
		{&vd_mmu_format_arm64_s1_4k, 0x701, 3, VD_MMU_MALFORMED}, /* a block of 512 GiB */
		{&vd_mmu_format_arm64_s2_16k, 0x7fd, 1, VD_MMU_LEAF},
		{&vd_mmu_format_arm64_s1_16k, 0x7fd, 2, VD_MMU_MALFORMED}, /* of 64 GiB */
		{&vd_mmu_format_arm64_s1_64k, 0x7fd, 2, VD_MMU_MALFORMED}, /* of 4 TiB */
		{&vd_mmu_format_arm64_s1_64k, 0x7fd, 1, VD_MMU_LEAF},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (cases[i].format->kind(cases[i].entry, cases[i].level) != cases[i].kind)
			fail_msg("%s entry 0x%llx at level %u", cases[i].format->name,
				 (unsigned long long)cases[i].entry, cases[i].level);
	}
}

/* "The Contiguous bit": bytes of a group, at the last level and the one above. */
static void groups_are_those_of_the_manual(void **state)
{
	static const struct {
		const struct vd_mmu_format *format;
		uint64_t small, large;
	} cases[] = {
		{&vd_mmu_format_arm64_s1_4k, 64 << 10, 32 << 20},
		{&vd_mmu_format_arm64_s2_4k, 64 << 10, 32 << 20},
		{&vd_mmu_format_arm64_s1_16k, 2 << 20, 1 << 30},
		{&vd_mmu_format_arm64_s2_16k, 2 << 20, 1 << 30},
		{&vd_mmu_format_arm64_s1_64k, 2 << 20, UINT64_C(16) << 30},
		{&vd_mmu_format_arm64_s2_64k, 2 << 20, UINT64_C(16) << 30},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct vd_mmu_format *f = cases[i].format;
		uint64_t small = f->contiguous_entry(f->leaf_entry(0, &ram, 0), 0, 0, true);
		uint64_t large = f->contiguous_entry(f->leaf_entry(0, &ram, 1), 0, 1, true);

		assert_int_equal(small >> 52 & 1, 1);
		assert_int_equal(vd_mmu_format_span(f, small, 0), cases[i].small);
		assert_int_equal(vd_mmu_format_span(f, large, 1), cases[i].large);
		assert_int_equal(f->contiguous[2], 0);
		assert_true(f->flags & VD_MMU_FORMAT_BREAK_BEFORE_MAKE);
		assert_false(f->flags & VD_MMU_FORMAT_DIRTY);
	}
}

/* ---- shapes made at run time ---------------------------------------------------------------- */

static void shapes_that_do_not_exist_are_refused(void **state)
{
	static const struct {
		unsigned stage, granule, bits;
	} bad[] = {
		{1, 13, 40}, {1, 0, 40},  {2, 17, 40}, {2, 12, 24}, {2, 12, 49}, {1, 16, 52},
		{1, 12, 0},  {0, 12, 40}, {3, 12, 40}, {2, 12, 64}, {1, 14, UINT32_MAX},
	};
	struct vd_mmu_format format;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vd_mmu_format_arm64(&format, (enum vd_mmu_arm64_stage)bad[i].stage,
						     bad[i].granule, bad[i].bits),
				 -EINVAL);
}

static void constants_are_shapes_too(void **state)
{
	static const struct {
		const struct vd_mmu_format *format;
		enum vd_mmu_arm64_stage stage;
		unsigned bits;
	} all[] = {
		{&vd_mmu_format_arm64_s1_4k, VD_MMU_ARM64_STAGE1, 48},
		{&vd_mmu_format_arm64_s1_16k, VD_MMU_ARM64_STAGE1, 48},
		{&vd_mmu_format_arm64_s1_64k, VD_MMU_ARM64_STAGE1, 48},
		{&vd_mmu_format_arm64_s2_4k, VD_MMU_ARM64_STAGE2, 40},
		{&vd_mmu_format_arm64_s2_16k, VD_MMU_ARM64_STAGE2, 40},
		{&vd_mmu_format_arm64_s2_64k, VD_MMU_ARM64_STAGE2, 40},
	};
	struct vd_mmu_format format;

	(void)state;
	assert_int_equal(vd_mmu_format_bytes(), sizeof(format));
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct vd_mmu_format *f = all[i].format;

		assert_int_equal(vd_mmu_format_arm64(&format, all[i].stage, f->shift[0],
						     all[i].bits), 0);
		format.walk = f->walk;
		assert_memory_equal(&format, f, sizeof(format));
	}
}

/* "VTCR_EL2": the values that Linux's KVM programs for such guests. */
static void registers_describe_the_shape(void **state)
{
	struct vd_mmu_format format;

	(void)state;
	/* 40 bits, 4 KiB: T0SZ 24, start at level 1 */
	assert_int_equal(vd_mmu_format_arm64_control(&vd_mmu_format_arm64_s2_4k), 0x3558);
	/* 16 KiB: start at level 2, TG0 10; 64 KiB: the same, TG0 01 */
	assert_int_equal(vd_mmu_format_arm64_control(&vd_mmu_format_arm64_s2_16k), 0xb558);
	assert_int_equal(vd_mmu_format_arm64_control(&vd_mmu_format_arm64_s2_64k), 0x7558);
	assert_int_equal(vd_mmu_format_arm64(&format, VD_MMU_ARM64_STAGE2, 12, 48), 0);
	assert_int_equal(vd_mmu_format_arm64_control(&format), 0x3590);
	assert_int_equal(vd_mmu_format_arm64_control(&vd_mmu_format_arm64_s1_4k), 0x3510);
}

/* One table a level, of any size; all zero but for the way to one address. */
static uint64_t tables[4][1 << 17] __attribute__((aligned(1 << 20)));

/* One leaf at each level, at both ends of the input range, found by the walker of the manual. */
static void check_shape(const struct vd_mmu_format *f, bool stage1, unsigned to, uint64_t gpa)
{
	uint64_t control = vd_mmu_format_arm64_control(f);
	uint64_t address = UINT64_C(0x123400000000) & ~(vd_mmu_format_size(f, to) - 1);
	struct vd_mmu_top top = {.format = f, .page_shift = 12,
				 .entries = (vd_mmu_entry *)tables[f->levels - 1]};
	struct vd_mmu_leaf leaf;
	struct brute_leaf raw;

	for (unsigned level = f->levels; level-- > to;) {
		unsigned index = vd_mmu_format_index(f, level, gpa);
		uint64_t entry = f->leaf_entry(address, &ram, level);

		if (level > to)
			entry = f->table_entry(vd_mmu_format_distance(f, 0, tables[level - 1]),
					       level);
		tables[level][index] = entry;
	}
	raw = brute_walk_arm64(control, stage1, top.entries, 0, gpa);
	assert_true(raw.found);
	assert_int_equal(raw.size, vd_mmu_format_size(f, to));
	assert_int_equal(raw.address, address + (gpa & (raw.size - 1)));
	assert_int_equal(f->walk(&top, gpa, VD_READ, &leaf), 0);
	assert_int_equal(leaf.size, raw.size);
	assert_int_equal(leaf.pfn.value, raw.address >> 12);
	assert_int_equal(f->walk(&top, gpa | UINT64_C(1) << f->input_bits, VD_READ, &leaf),
			 -ENOENT);
	for (unsigned level = to; level < f->levels; level++)
		tables[level][vd_mmu_format_index(f, level, gpa)] = 0;
}

static void every_shape_is_walked_as_its_registers_say(void **state)
{
	struct vd_mmu_format format;

	(void)state;
	for (unsigned n = 0; n < 6 * 24; n++) {
		unsigned granule = 12 + n % 3 * 2, bits = 25 + n / 6;
		bool stage1 = n % 6 < 3;
		uint64_t last = (UINT64_C(1) << bits) - 1;

		assert_int_equal(vd_mmu_format_arm64(&format,
						     stage1 ? VD_MMU_ARM64_STAGE1
							    : VD_MMU_ARM64_STAGE2,
						     granule, bits), 0);
		assert_true(vd_mmu_format_entries(&format, format.levels - 1) >= 2);
		for (unsigned level = 0; level <= format.block_level; level++) {
			check_shape(&format, stage1, level, 0);
			check_shape(&format, stage1, level, last);
			check_shape(&format, stage1, level, last / 3);
			assert_true(format.contiguous[level] <= format.bits[level]);
		}
		/* The largest block is there if the input range has room for it. */
		if (bits > (granule == 12 ? 30 : granule == 14 ? 25 : 29))
			assert_int_equal(format.block_level, granule == 12 ? 2 : 1);
	}
}

/* A table of such a shape, of blocks, groups and pages, read as the registers tell. */
static void check_table(enum vd_mmu_arm64_stage stage, unsigned granule, unsigned bits)
{
	struct vd_mmu_format format;
	struct vd_pgtable_config config = {.env = vd_env_hosted(), .format = &format,
					   .page_shift = 12};
	uint64_t size, start, length, seed = granule + bits, control, half;
	struct vd_pgtable *table;
	size_t bytes;

	assert_int_equal(vd_mmu_format_arm64(&format, stage, granule, bits), 0);
	control = vd_mmu_format_arm64_control(&format);
	assert_int_equal(vd_pgtable_create(&config, &table, NULL), 0);
	/* Up to the end of the input range, and not from a boundary. */
	size = vd_mmu_format_size(&format, format.block_level);
	half = UINT64_C(1) << (bits - 1);
	length = (half > 3 * size ? 3 * size : half) - 5 * vd_mmu_format_size(&format, 0);
	start = 2 * half - length;
	assert_int_equal(vd_pgtable_map(table, start, length, start - half, &ram, NULL), 0);
	assert_int_equal(vd_pgtable_map(table, start + length, size, 0, &ram, NULL), -EOVERFLOW);
	for (unsigned n = 0; n < 200; n++) {
		uint64_t input = start + test_random(&seed) % length;
		struct vd_mmu_leaf leaf;
		struct brute_leaf raw =
			brute_walk_arm64(control, stage == VD_MMU_ARM64_STAGE1,
					 vd_pgtable_root(table, &bytes), 0, input);

		assert_true(raw.found);
		assert_int_equal(raw.address, input - half);
		assert_int_equal(vd_pgtable_walk(table, input, VD_WRITE, &leaf), 0);
		assert_int_equal(leaf.size, raw.size);
		assert_int_equal(leaf.pfn.value, raw.address >> 12);
	}
	vd_pgtable_destroy(table);
	vd_env_hosted_drain();
}

static void tables_of_any_shape_are_walked(void **state)
{
	static const unsigned bits[] = {32, 36, 42, 44, 48};

	(void)state;
	for (unsigned n = 0; n < 6 * sizeof(bits) / sizeof(bits[0]); n++)
		check_table(n % 2 ? VD_MMU_ARM64_STAGE1 : VD_MMU_ARM64_STAGE2, 12 + n / 2 % 3 * 2,
			    bits[n / 6]);
}

static void unmarked_formats_mark_nothing(void **state)
{
	struct vd_mmu_format format;

	(void)state;
	vd_mmu_format_unmarked(&format, &vd_mmu_format_arm64_s2_4k);
	for (unsigned level = 0; level < VD_MMU_LEVELS_MAX; level++)
		assert_int_equal(format.contiguous[level], 0);
	assert_int_equal(format.levels, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stage2_encodes_as_the_manual_says),
		cmocka_unit_test(stage1_encodes_as_the_manual_says),
		cmocka_unit_test(device_memory_is_never_executable),
		cmocka_unit_test(reserved_encodings_are_malformed),
		cmocka_unit_test(groups_are_those_of_the_manual),
		cmocka_unit_test(shapes_that_do_not_exist_are_refused),
		cmocka_unit_test(constants_are_shapes_too),
		cmocka_unit_test(registers_describe_the_shape),
		cmocka_unit_test(every_shape_is_walked_as_its_registers_say),
		cmocka_unit_test(tables_of_any_shape_are_walked),
		cmocka_unit_test(unmarked_formats_mark_nothing),
	};

	return cmocka_run_group_tests_name("mmu format_arm64", tests, NULL, NULL);
}
