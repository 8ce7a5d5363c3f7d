/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x86 tables of PAE paging.
 *
 * Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3, "PAE Paging": the root
 * are 4 entries (PDPTEs) that have P, PWT, PCD and an address, everything else but the ignored
 * bits 11:9 reserved; bits 62:52 of all entries are reserved, and bit 63 of the root's.
 */
#include "mmu/format_x86.h"

#define ROOT_LEVEL 2
#define ROOT_RESERVED (UINT64_C(0xfff) << 52 | 0x1e6)
#define RESERVED (UINT64_C(0x7ff) << 52)

static inline enum vd_mmu_entry_kind pae_kind(uint64_t entry, unsigned level)
{
	if (!(entry & X86_P))
		return VD_MMU_ABSENT;
	if (entry & (level == ROOT_LEVEL ? ROOT_RESERVED : RESERVED))
		return VD_MMU_MALFORMED;
	if (level == ROOT_LEVEL)
		return VD_MMU_TABLE;
	if (!level)
		return VD_MMU_LEAF;
	return entry & X86_PS ? x86_large_kind(entry, level) : VD_MMU_TABLE;
}

static inline uint64_t pae_table_entry(uint64_t address, unsigned level)
{
	return level == ROOT_LEVEL ? address | X86_P : x86_table_entry(address, level);
}

#define PAE_SHAPE                                                                                  \
	.name = "pae", .flags = X86_FLAGS | VD_MMU_FORMAT_STAGE1, .levels = 3, .block_level = 1,   \
	.input_bits = 32, .output_bits = 52, .shift = {12, 21, 30}, .bits = {9, 9, 2},             \
	.kind = pae_kind, .can = x86_can, .table_entry = pae_table_entry,                          \
	.leaf_entry = x86_first_leaf, .address = x86_address, .attributes = x86_first_attributes,  \
	.allows = x86_allows, .used = x86_used, .aged = x86_aged,                                  \
	.write_protected = x86_write_protected, .cleaned = x86_cleaned

VD_MMU_FORMAT_DEFINE(vd_mmu_format_pae, PAE_SHAPE);
