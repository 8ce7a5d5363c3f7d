/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RISC-V tables: first-stage Sv39, Sv48 and Sv57, second-stage Sv39x4, Sv48x4 and Sv57x4, all with
 * Svpbmt and Svnapot.
 *
 * The RISC-V Instruction Set Manual, Volume II: Privileged Architecture:
 *  - "Sv39: Page-Based 39-bit Virtual-Memory System", "Addressing and Memory Protection" and
 *    "Virtual Address Translation Process": the entry, its malformed forms, misaligned superpages
 *  - "Two-Stage Address Translation" / "Guest Physical Address Translation": the root table is
 *    16 KiB and its index two bits wider; U must be 1, as every access counts as user-level; G is
 *    left 0
 *  - "Svnapot": N in bit 63; the only size encoded is 64 KiB, PPN[3:0] = 1000b at the last level
 *  - "Svpbmt": PBMT in bits 62:61; "Svadu": hardware updates of A and D
 */
#include "mmu/format.h"

#define PTE_V (UINT64_C(1) << 0)
#define PTE_R (UINT64_C(1) << 1)
#define PTE_W (UINT64_C(1) << 2)
#define PTE_X (UINT64_C(1) << 3)
#define PTE_U (UINT64_C(1) << 4)
#define PTE_G (UINT64_C(1) << 5)
#define PTE_A (UINT64_C(1) << 6)
#define PTE_D (UINT64_C(1) << 7)
#define PTE_SOFT_DEVICE (UINT64_C(1) << 8) /* first of the two bits of RSW */
#define PTE_PPN_SHIFT 10
#define PTE_PPN (((UINT64_C(1) << 44) - 1) << PTE_PPN_SHIFT)
#define PTE_RESERVED (UINT64_C(0x7f) << 54)
#define PTE_PBMT_SHIFT 61
#define PTE_PBMT (UINT64_C(3) << PTE_PBMT_SHIFT)
#define PTE_N (UINT64_C(1) << 63)

#define PAGE_SHIFT 12
#define INDEX_BITS 9

#define NAPOT_BITS 4 /* log2 of the pages of the only group there is */
#define NAPOT_MASK ((UINT64_C(1) << NAPOT_BITS) - 1)
#define NAPOT_PPN (UINT64_C(1) << (NAPOT_BITS - 1)) /* lowest bit that is set tells the size */

enum { PBMT_PMA, PBMT_NC, PBMT_IO, PBMT_RESERVED };

static const unsigned char pbmt_of_type[] = {
	[VD_MEMORY_NORMAL] = PBMT_PMA,
	[VD_MEMORY_UNCACHED] = PBMT_IO,
	[VD_MEMORY_WRITE_COMBINING] = PBMT_NC,
};

static inline unsigned riscv_pbmt(uint64_t entry)
{
	return (unsigned)(entry >> PTE_PBMT_SHIFT) & 3;
}

/* Steps 3 to 5 of the translation process. */
static inline enum vd_mmu_entry_kind first_kind(uint64_t entry, unsigned level)
{
	uint64_t block = ((uint64_t)1 << (INDEX_BITS * level)) - 1;

	if (!(entry & PTE_V))
		return VD_MMU_ABSENT;
	if (entry & PTE_RESERVED)
		return VD_MMU_MALFORMED;
	if (!(entry & (PTE_R | PTE_W | PTE_X))) {
		if (level == 0 || (entry & (PTE_A | PTE_D | PTE_U | PTE_PBMT | PTE_N)))
			return VD_MMU_MALFORMED;
		return VD_MMU_TABLE;
	}
	if ((entry & (PTE_R | PTE_W)) == PTE_W || riscv_pbmt(entry) == PBMT_RESERVED ||
	    (entry >> PTE_PPN_SHIFT & block))
		return VD_MMU_MALFORMED;
	if (entry & PTE_N && (level || (entry >> PTE_PPN_SHIFT & NAPOT_MASK) != NAPOT_PPN))
		return VD_MMU_MALFORMED;
	return VD_MMU_LEAF;
}

static inline enum vd_mmu_entry_kind second_kind(uint64_t entry, unsigned level)
{
	enum vd_mmu_entry_kind kind = first_kind(entry, level);

	return kind == VD_MMU_LEAF && !(entry & PTE_U) ? VD_MMU_MALFORMED : kind;
}

/* W without R is reserved; execute-only exists. */
static inline bool riscv_can(const struct vd_mmu_attributes *attributes, unsigned level)
{
	(void)level;
	return attributes->access && (attributes->access & (VD_READ | VD_WRITE)) != VD_WRITE;
}

static inline uint64_t riscv_table_entry(uint64_t address, unsigned level)
{
	(void)level;
	return address >> PAGE_SHIFT << PTE_PPN_SHIFT | PTE_V;
}

/* All but U and G. */
static inline uint64_t riscv_leaf_entry(uint64_t address,
					const struct vd_mmu_attributes *attributes)
{
	uint64_t entry = address >> PAGE_SHIFT << PTE_PPN_SHIFT | PTE_V;

	if (attributes->access & VD_READ)
		entry |= PTE_R;
	if (attributes->access & VD_WRITE)
		entry |= PTE_W;
	if (attributes->access & VD_EXECUTE)
		entry |= PTE_X;
	if (attributes->accessed)
		entry |= PTE_A;
	if (attributes->dirty)
		entry |= PTE_D;
	if (attributes->device)
		entry |= PTE_SOFT_DEVICE;
	return entry | (uint64_t)pbmt_of_type[attributes->type] << PTE_PBMT_SHIFT;
}

static inline uint64_t first_leaf_entry(uint64_t address,
					const struct vd_mmu_attributes *attributes, unsigned level)
{
	(void)level;
	return riscv_leaf_entry(address, attributes) | (attributes->user ? PTE_U : 0) |
	       (attributes->global ? PTE_G : 0);
}

static inline uint64_t second_leaf_entry(uint64_t address,
					 const struct vd_mmu_attributes *attributes, unsigned level)
{
	(void)level;
	return riscv_leaf_entry(address, attributes) | PTE_U;
}

static inline uint64_t riscv_address(uint64_t entry, unsigned level)
{
	(void)level;
	return (entry & PTE_PPN) >> PTE_PPN_SHIFT << PAGE_SHIFT;
}

static inline void second_attributes(uint64_t entry, unsigned level,
				     struct vd_mmu_attributes *attributes)
{
	unsigned pbmt = riscv_pbmt(entry);

	(void)level;
	attributes->access = (entry & PTE_R ? VD_READ : 0) | (entry & PTE_W ? VD_WRITE : 0) |
			     (entry & PTE_X ? VD_EXECUTE : 0);
	attributes->type = pbmt == PBMT_IO   ? VD_MEMORY_UNCACHED
			   : pbmt == PBMT_NC ? VD_MEMORY_WRITE_COMBINING
					     : VD_MEMORY_NORMAL;
	attributes->accessed = entry & PTE_A;
	attributes->dirty = entry & PTE_D;
	attributes->device = entry & PTE_SOFT_DEVICE;
	attributes->user = false;
	attributes->global = false;
}

static inline void first_attributes(uint64_t entry, unsigned level,
				    struct vd_mmu_attributes *attributes)
{
	second_attributes(entry, level, attributes);
	attributes->user = entry & PTE_U;
	attributes->global = entry & PTE_G;
}

static inline bool riscv_allows(uint64_t entry, unsigned access, unsigned level)
{
	uint64_t need = (access & VD_READ ? PTE_R : 0) | (access & VD_WRITE ? PTE_W : 0) |
			(access & VD_EXECUTE ? PTE_X : 0);

	(void)level;
	return (entry & need) == need;
}

static inline uint64_t riscv_used(uint64_t entry, unsigned access, unsigned level)
{
	(void)level;
	return entry | PTE_A | (access & VD_WRITE ? PTE_D : 0);
}

static inline uint64_t riscv_aged(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~PTE_A;
}

static inline uint64_t riscv_cleaned(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~PTE_D;
}

static inline uint64_t riscv_write_protected(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~(PTE_W | PTE_D);
}

static inline bool riscv_is_contiguous(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & PTE_N;
}

/* All entries of a group hold the same number, in which the size takes the place of the page. */
static inline uint64_t riscv_contiguous_entry(uint64_t entry, uint64_t address, unsigned level,
					      bool on)
{
	uint64_t ppn = address >> PAGE_SHIFT;

	(void)level;
	if (on)
		ppn = (ppn & ~NAPOT_MASK) | NAPOT_PPN;
	return (entry & ~(PTE_PPN | PTE_N)) | ppn << PTE_PPN_SHIFT | (on ? PTE_N : 0);
}

/* Leaves larger than 1 GiB exist in the architecture, but no host memory is aligned for them. */
#define RISCV_SHAPE(label, stage, count, wider)                                                    \
	.name = label, .levels = count, .block_level = 2,                                          \
	.input_bits = PAGE_SHIFT + INDEX_BITS * count + wider, .output_bits = 56,                  \
	.shift = {12, 21, 30, count > 3 ? 39 : 0, count > 4 ? 48 : 0},                             \
	.bits = {9, 9, count == 3 ? 9 + wider : 9, count == 4 ? 9 + wider : 9, 9 + wider},         \
	.contiguous = {NAPOT_BITS}, .kind = stage##_kind, .can = riscv_can,                        \
	.table_entry = riscv_table_entry, .leaf_entry = stage##_leaf_entry,                        \
	.address = riscv_address, .attributes = stage##_attributes, .allows = riscv_allows,        \
	.used = riscv_used, .aged = riscv_aged, .write_protected = riscv_write_protected,          \
	.cleaned = riscv_cleaned,                                                                  \
	.is_contiguous = riscv_is_contiguous, .contiguous_entry = riscv_contiguous_entry

#define FIRST_SHAPE(label, count)                                                                  \
	.flags = VD_MMU_FORMAT_ACCESSED | VD_MMU_FORMAT_DIRTY | VD_MMU_FORMAT_STAGE1,              \
	RISCV_SHAPE(label, first, count, 0)

#define SECOND_SHAPE(label, count)                                                                 \
	.flags = VD_MMU_FORMAT_ACCESSED | VD_MMU_FORMAT_DIRTY, RISCV_SHAPE(label, second, count, 2)

VD_MMU_FORMAT_DEFINE(vd_mmu_format_sv39, FIRST_SHAPE("Sv39", 3));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_sv48, FIRST_SHAPE("Sv48", 4));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_sv57, FIRST_SHAPE("Sv57", 5));

VD_MMU_FORMAT_DEFINE(vd_mmu_format_sv39x4, SECOND_SHAPE("Sv39x4", 3));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_sv48x4, SECOND_SHAPE("Sv48x4", 4));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_sv57x4, SECOND_SHAPE("Sv57x4", 5));
