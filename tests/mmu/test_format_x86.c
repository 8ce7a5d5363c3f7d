/* SPDX-License-Identifier: BSD-2-Clause */
/* x86-64, nested paging, PAE and EPT: entries written out by hand, and what is reserved. */
#include "../base/test_env.h"

#include "mmu/format.h"

#include "brute.h"

static const struct vd_mmu_format *const x86_64 = &vd_mmu_format_x86_64;
static const struct vd_mmu_format *const la57 = &vd_mmu_format_x86_64_la57;
static const struct vd_mmu_format *const npt = &vd_mmu_format_npt;
static const struct vd_mmu_format *const pae = &vd_mmu_format_pae;
static const struct vd_mmu_format *const ept = &vd_mmu_format_ept;

#define NX (UINT64_C(1) << 63)

static const struct vd_mmu_attributes ram = {
	.access = VD_READ | VD_WRITE | VD_EXECUTE, .accessed = true, .dirty = true};
static const struct vd_mmu_attributes registers = {
	.access = VD_READ | VD_WRITE, .type = VD_MEMORY_UNCACHED, .device = true};
static const struct vd_mmu_attributes frame_buffer = {
	.access = VD_READ, .type = VD_MEMORY_WRITE_COMBINING, .user = true, .global = true};

struct kind_case {
	const struct vd_mmu_format *format;
	uint64_t entry;
	unsigned level;
	enum vd_mmu_entry_kind kind;
};

static void check_kinds(const struct kind_case *cases, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (cases[i].format->kind(cases[i].entry, cases[i].level) != cases[i].kind)
			fail_msg("%s entry 0x%llx at level %u", cases[i].format->name,
				 (unsigned long long)cases[i].entry, cases[i].level);
	}
}

static void encodes_as_the_manual_says(void **state)
{
	(void)state;
	assert_int_equal(x86_64->leaf_entry(0x12345000, &ram, 0), 0x12345063);
	assert_int_equal(x86_64->leaf_entry(0x80200000, &ram, 1), 0x802000e3);
	assert_int_equal(x86_64->leaf_entry(0x40000000, &ram, 2), 0x400000e3);
	assert_int_equal(x86_64->leaf_entry(0xfee00000, &registers, 0), NX | 0xfee0021b);
	assert_int_equal(x86_64->leaf_entry(0xfee00000, &registers, 1), NX | 0xfee0029b);
	assert_int_equal(x86_64->leaf_entry(0xe0000000, &frame_buffer, 0), NX | 0xe000010d);
	assert_int_equal(x86_64->table_entry(0x12345000, 3), 0x12345027);
	assert_int_equal(la57->table_entry(0x12345000, 4), 0x12345027);
	/* Nested: user whatever is asked, never global. */
	assert_int_equal(npt->leaf_entry(0x12345000, &ram, 0), 0x12345067);
	assert_int_equal(npt->leaf_entry(0xe0000000, &frame_buffer, 0), NX | 0xe000000d);
	assert_int_equal(pae->leaf_entry(0x12345000, &ram, 0), 0x12345063);
	assert_int_equal(pae->leaf_entry(0xfee00000, &registers, 1), NX | 0xfee0029b);
	assert_int_equal(pae->table_entry(0x12345000, 1), 0x12345027);
	assert_int_equal(pae->table_entry(0x12345000, 2), 0x12345001);
}

/* The three entries of IA32_PAT that leaves use. */
static void the_pat_says_what_leaves_mean(void **state)
{
	(void)state;
	assert_int_equal(VD_MMU_X86_PAT & 0xff, 6);	  /* write-back */
	assert_int_equal(VD_MMU_X86_PAT >> 8 & 0xff, 1);  /* write-combining */
	assert_int_equal(VD_MMU_X86_PAT >> 24 & 0xff, 0); /* uncached */
}

static void reserved_encodings_are_malformed(void **state)
{
	const struct kind_case cases[] = {
		{x86_64, 0, 0, VD_MMU_ABSENT},
		{x86_64, 0xfffffffffffffffe, 1, VD_MMU_ABSENT},
		{x86_64, 0x01, 0, VD_MMU_LEAF},
		{x86_64, 0x81, 0, VD_MMU_LEAF},		/* PAT, not PS */
		{x86_64, 0x01, 1, VD_MMU_TABLE},
		{x86_64, 0x81, 1, VD_MMU_LEAF},
		{x86_64, 0x1081, 1, VD_MMU_LEAF},	/* PAT */
		{x86_64, 0x2081, 1, VD_MMU_MALFORMED},
		{x86_64, 0x100081, 1, VD_MMU_MALFORMED},
		{x86_64, 0x200081, 1, VD_MMU_LEAF},
		{x86_64, 0x200081, 2, VD_MMU_MALFORMED},
		{x86_64, 0x40000081, 2, VD_MMU_LEAF},
		{x86_64, 0x81, 3, VD_MMU_MALFORMED},	/* PS in a PML4E */
		{x86_64, 0x01, 3, VD_MMU_TABLE},
		{la57, 0x81, 4, VD_MMU_MALFORMED},
		{la57, 0x01, 4, VD_MMU_TABLE},
		{npt, 0x01, 0, VD_MMU_MALFORMED},	/* U clear: not for a guest */
		{npt, 0x03, 2, VD_MMU_MALFORMED},
		{npt, 0x05, 0, VD_MMU_LEAF},
		{npt, 0x05, 2, VD_MMU_TABLE},
		{npt, 0x02, 0, VD_MMU_ABSENT},
		{pae, 0x01, 0, VD_MMU_LEAF},
		{pae, 0x01 | NX, 0, VD_MMU_LEAF},
		{pae, 0x01 | UINT64_C(1) << 52, 0, VD_MMU_MALFORMED},
		{pae, 0x01 | UINT64_C(1) << 62, 1, VD_MMU_MALFORMED},
		{pae, 0x81, 1, VD_MMU_LEAF},
		{pae, 0x2081, 1, VD_MMU_MALFORMED},
		{pae, 0x01, 2, VD_MMU_TABLE},
		{pae, 0xe19, 2, VD_MMU_TABLE},		/* PWT, PCD and what is ignored */
		{pae, 0x03, 2, VD_MMU_MALFORMED},	/* the root has no RW, US, A, D, PS, G, NX */
		{pae, 0x05, 2, VD_MMU_MALFORMED},
		{pae, 0x21, 2, VD_MMU_MALFORMED},
		{pae, 0x81, 2, VD_MMU_MALFORMED},
		{pae, 0x101, 2, VD_MMU_MALFORMED},
		{pae, 0x01 | NX, 2, VD_MMU_MALFORMED},
	};

	(void)state;
	check_kinds(cases, sizeof(cases) / sizeof(cases[0]));
}

static void ept_encodes_as_the_manual_says(void **state)
{
	struct vd_mmu_attributes code = {.access = VD_EXECUTE};

	(void)state;
	assert_int_equal(ept->leaf_entry(0x12345000, &ram, 0), 0x12345377);
	assert_int_equal(ept->leaf_entry(0x80200000, &ram, 1), 0x802003f7);
	assert_int_equal(ept->leaf_entry(0xfee00000, &registers, 0), 0xfee00843);
	assert_int_equal(ept->leaf_entry(0xe0000000, &frame_buffer, 1), 0xe00000c9);
	assert_int_equal(ept->leaf_entry(0x1000, &code, 0), 0x1074);
	assert_int_equal(ept->table_entry(0x12345000, 3), 0x12345107);
	assert_false(ept->flags & VD_MMU_FORMAT_STAGE1);
}

/* "EPT Misconfigurations". */
static void ept_misconfigurations_are_malformed(void **state)
{
	const struct kind_case cases[] = {
		{ept, 0, 0, VD_MMU_ABSENT},
		{ept, 0xfffffffffffffff8, 0, VD_MMU_ABSENT},
		{ept, 0x31, 0, VD_MMU_LEAF},
		{ept, 0x34, 0, VD_MMU_LEAF},		/* execute only */
		{ept, 0x32, 0, VD_MMU_MALFORMED},	/* write without read */
		{ept, 0x36, 0, VD_MMU_MALFORMED},
		{ept, 0x02, 3, VD_MMU_MALFORMED},
		{ept, 0x11, 0, VD_MMU_MALFORMED},	/* types 2, 3 and 7 */
		{ept, 0x19, 0, VD_MMU_MALFORMED},
		{ept, 0x39, 0, VD_MMU_MALFORMED},
		{ept, 0x21, 0, VD_MMU_LEAF},		/* WT */
		{ept, 0x29, 0, VD_MMU_LEAF},		/* WP */
		{ept, 0xb1, 0, VD_MMU_LEAF},		/* bit 7 of a page is ignored */
		{ept, 0x07, 1, VD_MMU_TABLE},
		{ept, 0x0f, 1, VD_MMU_MALFORMED},	/* bits 6:3 of a table */
		{ept, 0x47, 2, VD_MMU_MALFORMED},
		{ept, 0x87, 3, VD_MMU_MALFORMED},	/* bit 7 of a PML4E */
		{ept, 0xb7, 2, VD_MMU_LEAF},
		{ept, 0x10b7, 1, VD_MMU_MALFORMED},
		{ept, 0x1000b7, 1, VD_MMU_MALFORMED},
		{ept, 0x2000b7, 1, VD_MMU_LEAF},
		{ept, 0x2000b7, 2, VD_MMU_MALFORMED},
	};

	(void)state;
	check_kinds(cases, sizeof(cases) / sizeof(cases[0]));
}

/* A walker that is given less by a table finds less; ours never give less. */
static void tables_grant_everything(void **state)
{
	(void)state;
	for (unsigned level = 1; level < 4; level++) {
		assert_int_equal(x86_64->table_entry(0, level) & (NX | 7), 7);
		assert_int_equal(ept->table_entry(0, level) & 7, 7);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodes_as_the_manual_says),
		cmocka_unit_test(the_pat_says_what_leaves_mean),
		cmocka_unit_test(reserved_encodings_are_malformed),
		cmocka_unit_test(ept_encodes_as_the_manual_says),
		cmocka_unit_test(ept_misconfigurations_are_malformed),
		cmocka_unit_test(tables_grant_everything),
	};

	return cmocka_run_group_tests_name("mmu format_x86", tests, NULL, NULL);
}
