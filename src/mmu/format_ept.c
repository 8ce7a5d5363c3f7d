/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Intel's extended page tables, 4 levels.
 *
 * Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3, "The Extended Page Table
 * Mechanism (EPT)":
 *  - "EPT Translation Mechanism": the formats of entries; one is present if any of bits 2:0 is set
 *  - "EPT Misconfigurations": write without read, reserved bits, reserved memory types
 *  - "Accessed and Dirty Flags for EPT": bits 8 and 9
 *  - "Memory Type Used for Translated Guest-Physical Addresses": bits 5:3, and ignore-PAT in bit 6
 */
#include "mmu/format.h"

#define EPT_R (UINT64_C(1) << 0)
#define EPT_W (UINT64_C(1) << 1)
#define EPT_X (UINT64_C(1) << 2)
#define EPT_RIGHTS (EPT_R | EPT_W | EPT_X)
#define EPT_TYPE_SHIFT 3
#define EPT_TABLE_RESERVED UINT64_C(0xf8) /* bits 7:3 */
#define EPT_IGNORE_PAT (UINT64_C(1) << 6)
#define EPT_PS (UINT64_C(1) << 7)
#define EPT_A (UINT64_C(1) << 8)
#define EPT_D (UINT64_C(1) << 9)
#define EPT_SOFT_DEVICE (UINT64_C(1) << 11)
#define EPT_ADDRESS (((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xfff))

#define BLOCK_LEVEL 2

enum { EPT_UC = 0, EPT_WC = 1, EPT_WT = 4, EPT_WP = 5, EPT_WB = 6 };

static const unsigned char ept_of_type[] = {
	[VD_MEMORY_NORMAL] = EPT_WB,
	[VD_MEMORY_UNCACHED] = EPT_UC,
	[VD_MEMORY_WRITE_COMBINING] = EPT_WC,
};

static inline uint64_t ept_block_mask(unsigned level)
{
	return ((uint64_t)4096 << 9 * level) - 1;
}

static inline unsigned ept_type(uint64_t entry)
{
	return (unsigned)(entry >> EPT_TYPE_SHIFT) & 7;
}

static inline bool ept_is_leaf(uint64_t entry, unsigned level)
{
	return !level || (level <= BLOCK_LEVEL && entry & EPT_PS);
}

static inline enum vd_mmu_entry_kind ept_kind(uint64_t entry, unsigned level)
{
	if (!(entry & EPT_RIGHTS))
		return VD_MMU_ABSENT;
	if ((entry & (EPT_R | EPT_W)) == EPT_W)
		return VD_MMU_MALFORMED;
	if (!ept_is_leaf(entry, level))
		return entry & EPT_TABLE_RESERVED ? VD_MMU_MALFORMED : VD_MMU_TABLE;
	if (level && entry & EPT_ADDRESS & ept_block_mask(level))
		return VD_MMU_MALFORMED;
	switch (ept_type(entry)) {
	case EPT_UC:
	case EPT_WC:
	case EPT_WT:
	case EPT_WP:
	case EPT_WB:
		return VD_MMU_LEAF;
	default:
		return VD_MMU_MALFORMED;
	}
}

/* Write without read is a misconfiguration; execute-only exists. */
static inline bool ept_can(const struct vd_mmu_attributes *attributes, unsigned level)
{
	(void)level;
	return attributes->access && (attributes->access & (VD_READ | VD_WRITE)) != VD_WRITE;
}

/* A is set from the start: a walker that sets it in the entry of a table then changes nothing. */
static inline uint64_t ept_table_entry(uint64_t address, unsigned level)
{
	(void)level;
	return address | EPT_RIGHTS | EPT_A;
}

static inline uint64_t ept_leaf_entry(uint64_t address, const struct vd_mmu_attributes *attributes,
				      unsigned level)
{
	uint64_t entry = address | (uint64_t)ept_of_type[attributes->type] << EPT_TYPE_SHIFT |
			 EPT_IGNORE_PAT;

	if (attributes->access & VD_READ)
		entry |= EPT_R;
	if (attributes->access & VD_WRITE)
		entry |= EPT_W;
	if (attributes->access & VD_EXECUTE)
		entry |= EPT_X;
	if (attributes->accessed)
		entry |= EPT_A;
	if (attributes->dirty)
		entry |= EPT_D;
	if (attributes->device)
		entry |= EPT_SOFT_DEVICE;
	return level ? entry | EPT_PS : entry;
}

static inline uint64_t ept_address(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & EPT_ADDRESS;
}

static inline void ept_attributes(uint64_t entry, unsigned level,
				  struct vd_mmu_attributes *attributes)
{
	unsigned type = ept_type(entry);

	(void)level;
	attributes->access = (entry & EPT_R ? VD_READ : 0) | (entry & EPT_W ? VD_WRITE : 0) |
			     (entry & EPT_X ? VD_EXECUTE : 0);
	attributes->type = type == EPT_UC   ? VD_MEMORY_UNCACHED
			   : type == EPT_WC ? VD_MEMORY_WRITE_COMBINING
					    : VD_MEMORY_NORMAL;
	attributes->accessed = entry & EPT_A;
	attributes->dirty = entry & EPT_D;
	attributes->device = entry & EPT_SOFT_DEVICE;
	attributes->user = false;
	attributes->global = false;
}

static inline bool ept_allows(uint64_t entry, unsigned access, unsigned level)
{
	uint64_t need = (access & VD_READ ? EPT_R : 0) | (access & VD_WRITE ? EPT_W : 0) |
			(access & VD_EXECUTE ? EPT_X : 0);

	(void)level;
	return (entry & need) == need;
}

static inline uint64_t ept_used(uint64_t entry, unsigned access, unsigned level)
{
	(void)level;
	return entry | EPT_A | (access & VD_WRITE ? EPT_D : 0);
}

static inline uint64_t ept_aged(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~EPT_A;
}

static inline uint64_t ept_cleaned(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~EPT_D;
}

static inline uint64_t ept_write_protected(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~(EPT_W | EPT_D);
}

#define EPT_SHAPE                                                                                  \
	.name = "ept", .flags = VD_MMU_FORMAT_ACCESSED | VD_MMU_FORMAT_DIRTY, .levels = 4,         \
	.block_level = BLOCK_LEVEL, .input_bits = 48, .output_bits = 52,                           \
	.shift = {12, 21, 30, 39}, .bits = {9, 9, 9, 9}, .kind = ept_kind, .can = ept_can,         \
	.table_entry = ept_table_entry, .leaf_entry = ept_leaf_entry, .address = ept_address,      \
	.attributes = ept_attributes, .allows = ept_allows, .used = ept_used, .aged = ept_aged,    \
	.write_protected = ept_write_protected, .cleaned = ept_cleaned

VD_MMU_FORMAT_DEFINE(vd_mmu_format_ept, EPT_SHAPE);
