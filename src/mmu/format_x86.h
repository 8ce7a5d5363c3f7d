/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The entry that PAE, 4-level and 5-level paging have in common.
 *
 * Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3:
 *  - "Paging": tables "Format of a Page-Table Entry that Maps a 4-KByte Page", "... Page-Directory
 *    Entry that Maps a 2-MByte Page", "... that Maps a 1-GByte Page"
 *  - "Page Attribute Table (PAT)": a type is an entry of IA32_PAT, its number PAT, PCD, PWT. PAT is
 *    bit 7 of a 4 KiB leaf, where others have PS, and bit 12 of the others
 */
#ifndef MMU_FORMAT_X86_H
#define MMU_FORMAT_X86_H

#include "mmu/format.h"

#define X86_P (UINT64_C(1) << 0)
#define X86_RW (UINT64_C(1) << 1)
#define X86_US (UINT64_C(1) << 2)
#define X86_PWT (UINT64_C(1) << 3)
#define X86_PCD (UINT64_C(1) << 4)
#define X86_A (UINT64_C(1) << 5)
#define X86_D (UINT64_C(1) << 6)
#define X86_PS (UINT64_C(1) << 7)
#define X86_PAT_SMALL (UINT64_C(1) << 7)
#define X86_G (UINT64_C(1) << 8)
#define X86_SOFT_DEVICE (UINT64_C(1) << 9) /* first of the three ignored bits */
#define X86_PAT_LARGE (UINT64_C(1) << 12)
#define X86_ADDRESS (((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xfff))
#define X86_NX (UINT64_C(1) << 63)

#define X86_FLAGS (VD_MMU_FORMAT_ACCESSED | VD_MMU_FORMAT_DIRTY)

/* Numbers of IA32_PAT's entries that leaves are made with; the layout is VD_MMU_X86_PAT. */
static const unsigned char x86_pat_of_type[] = {
	[VD_MEMORY_NORMAL] = 0,
	[VD_MEMORY_WRITE_COMBINING] = 1,
	[VD_MEMORY_UNCACHED] = 3,
};

/* What each of them says; write-through and write-protected memory is cached. */
static const unsigned char x86_type_of_pat[] = {
	VD_MEMORY_NORMAL,   VD_MEMORY_WRITE_COMBINING, VD_MEMORY_UNCACHED, VD_MEMORY_UNCACHED,
	VD_MEMORY_NORMAL,   VD_MEMORY_NORMAL,	       VD_MEMORY_UNCACHED, VD_MEMORY_NORMAL,
};

static inline uint64_t x86_block_mask(unsigned level)
{
	return ((uint64_t)4096 << 9 * level) - 1;
}

/* Of a table's entry at a level where PS may be set: the leaf's address and its reserved bits. */
static inline enum vd_mmu_entry_kind x86_large_kind(uint64_t entry, unsigned level)
{
	uint64_t reserved = X86_ADDRESS & x86_block_mask(level) & ~X86_PAT_LARGE;

	return entry & reserved ? VD_MMU_MALFORMED : VD_MMU_LEAF;
}

/* Every leaf can be read. */
static inline bool x86_can(const struct vd_mmu_attributes *attributes, unsigned level)
{
	(void)level;
	return attributes->access & VD_READ;
}

/* A is set from the start: a walker that sets it in the entry of a table then changes nothing. */
static inline uint64_t x86_table_entry(uint64_t address, unsigned level)
{
	(void)level;
	return address | X86_P | X86_RW | X86_US | X86_A;
}

/* All but U and G. */
static inline uint64_t x86_second_leaf(uint64_t address, const struct vd_mmu_attributes *attributes,
				       unsigned level)
{
	unsigned pat = x86_pat_of_type[attributes->type];
	uint64_t entry = address | X86_P;

	if (attributes->access & VD_WRITE)
		entry |= X86_RW;
	if (!(attributes->access & VD_EXECUTE))
		entry |= X86_NX;
	if (attributes->accessed)
		entry |= X86_A;
	if (attributes->dirty)
		entry |= X86_D;
	if (attributes->device)
		entry |= X86_SOFT_DEVICE;
	if (pat & 1)
		entry |= X86_PWT;
	if (pat & 2)
		entry |= X86_PCD;
	return level ? entry | X86_PS : entry;
}

static inline uint64_t x86_first_leaf(uint64_t address, const struct vd_mmu_attributes *attributes,
				      unsigned level)
{
	return x86_second_leaf(address, attributes, level) | (attributes->user ? X86_US : 0) |
	       (attributes->global ? X86_G : 0);
}

static inline bool x86_is_large(uint64_t entry, unsigned level)
{
	return level && entry & X86_PS;
}

static inline uint64_t x86_address(uint64_t entry, unsigned level)
{
	uint64_t address = entry & X86_ADDRESS;

	return x86_is_large(entry, level) ? address & ~x86_block_mask(level) : address;
}

static inline void x86_second_attributes(uint64_t entry, unsigned level,
					 struct vd_mmu_attributes *attributes)
{
	unsigned pat = (entry & X86_PWT ? 1 : 0) | (entry & X86_PCD ? 2 : 0) |
		       (entry & (level ? X86_PAT_LARGE : X86_PAT_SMALL) ? 4 : 0);

	attributes->access = VD_READ | (entry & X86_RW ? VD_WRITE : 0) |
			     (entry & X86_NX ? 0 : VD_EXECUTE);
	attributes->type = (enum vd_memory_type)x86_type_of_pat[pat];
	attributes->accessed = entry & X86_A;
	attributes->dirty = entry & X86_D;
	attributes->device = entry & X86_SOFT_DEVICE;
	attributes->user = false;
	attributes->global = false;
}

static inline void x86_first_attributes(uint64_t entry, unsigned level,
					struct vd_mmu_attributes *attributes)
{
	x86_second_attributes(entry, level, attributes);
	attributes->user = entry & X86_US;
	attributes->global = entry & X86_G;
}

static inline bool x86_allows(uint64_t entry, unsigned access, unsigned level)
{
	(void)level;
	return (!(access & VD_WRITE) || entry & X86_RW) &&
	       (!(access & VD_EXECUTE) || !(entry & X86_NX));
}

static inline uint64_t x86_used(uint64_t entry, unsigned access, unsigned level)
{
	(void)level;
	return entry | X86_A | (access & VD_WRITE ? X86_D : 0);
}

static inline uint64_t x86_aged(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~X86_A;
}

static inline uint64_t x86_cleaned(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~X86_D;
}

/* D without RW would make a shadow stack of the page (CR4.CET). */
static inline uint64_t x86_write_protected(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~(X86_RW | X86_D);
}

#endif
