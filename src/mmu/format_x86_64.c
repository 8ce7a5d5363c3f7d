/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x86-64 tables of 4 and 5 levels, and AMD's nested paging, which walks the same.
 *
 * Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3, "4-Level Paging and
 * 5-Level Paging": PS is reserved above the table of 1 GiB pages; bits 62:52 of an entry are
 * ignored or, with CR4.PKE, a key that is left 0.
 * AMD64 Architecture Programmer's Manual, volume 2, "Nested Paging", "Nested Page Table Entry
 * Format": an access to a page whose U is 0 at any level is a nested page fault.
 */
#include "mmu/format_x86.h"

#define BLOCK_LEVEL 2

static inline enum vd_mmu_entry_kind first_kind(uint64_t entry, unsigned level)
{
	if (!(entry & X86_P))
		return VD_MMU_ABSENT;
	if (!level)
		return VD_MMU_LEAF;
	if (!(entry & X86_PS))
		return VD_MMU_TABLE;
	return level > BLOCK_LEVEL ? VD_MMU_MALFORMED : x86_large_kind(entry, level);
}

static inline enum vd_mmu_entry_kind nested_kind(uint64_t entry, unsigned level)
{
	if ((entry & (X86_P | X86_US)) == X86_P)
		return VD_MMU_MALFORMED;
	return first_kind(entry, level);
}

static inline uint64_t nested_leaf(uint64_t address, const struct vd_mmu_attributes *attributes,
				   unsigned level)
{
	return x86_second_leaf(address, attributes, level) | X86_US;
}

#define X86_64_SHAPE(count)                                                                        \
	.levels = count, .block_level = BLOCK_LEVEL, .input_bits = 12 + 9 * count,                 \
	.output_bits = 52, .shift = {12, 21, 30, 39, count > 4 ? 48 : 0},                          \
	.bits = {9, 9, 9, 9, count > 4 ? 9 : 0}, .can = x86_can,                                   \
	.table_entry = x86_table_entry, .address = x86_address, .allows = x86_allows,              \
	.used = x86_used, .aged = x86_aged, .write_protected = x86_write_protected,                \
	.cleaned = x86_cleaned

#define FIRST_SHAPE(label, count)                                                                  \
	.name = label, .flags = X86_FLAGS | VD_MMU_FORMAT_STAGE1, .kind = first_kind,              \
	.leaf_entry = x86_first_leaf, .attributes = x86_first_attributes, X86_64_SHAPE(count)

#define NESTED_SHAPE(label, count)                                                                 \
	.name = label, .flags = X86_FLAGS, .kind = nested_kind, .leaf_entry = nested_leaf,         \
	.attributes = x86_second_attributes, X86_64_SHAPE(count)

VD_MMU_FORMAT_DEFINE(vd_mmu_format_x86_64, FIRST_SHAPE("x86-64", 4));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_x86_64_la57, FIRST_SHAPE("x86-64-la57", 5));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_npt, NESTED_SHAPE("npt", 4));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_npt_la57, NESTED_SHAPE("npt-la57", 5));
