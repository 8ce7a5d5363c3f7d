/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RISC-V second-stage tables: Sv39x4, Sv48x4 and Sv57x4 with Svpbmt.
 *
 * The RISC-V Instruction Set Manual, Volume II: Privileged Architecture:
 *  - "Two-Stage Address Translation" / "Guest Physical Address Translation": the root table is
 *    16 KiB and its index two bits wider; U must be 1, as every access counts as user-level; G is
 *    left 0
 *  - "Sv39: Page-Based 39-bit Virtual-Memory System", "Addressing and Memory Protection" and
 *    "Virtual Address Translation Process": the entry, its malformed forms, misaligned superpages
 *  - "Svpbmt": PBMT in bits 62:61; "Svadu": hardware updates of A and D
 */
#include "mmu/format.h"

#define PTE_V (UINT64_C(1) << 0)
#define PTE_R (UINT64_C(1) << 1)
#define PTE_W (UINT64_C(1) << 2)
#define PTE_X (UINT64_C(1) << 3)
#define PTE_U (UINT64_C(1) << 4)
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

/* Steps 3 to 5 of the translation process; Svnapot is not offered, so N is reserved. */
static inline enum vd_mmu_entry_kind riscv_kind(uint64_t entry, unsigned level)
{
	uint64_t block = ((uint64_t)1 << (INDEX_BITS * level)) - 1;

	if (!(entry & PTE_V))
		return VD_MMU_ABSENT;
	if (entry & (PTE_RESERVED | PTE_N))
		return VD_MMU_MALFORMED;
	if (!(entry & (PTE_R | PTE_W | PTE_X))) {
		if (level == 0 || (entry & (PTE_A | PTE_D | PTE_U | PTE_PBMT)))
			return VD_MMU_MALFORMED;
		return VD_MMU_TABLE;
	}
	if ((entry & (PTE_R | PTE_W)) == PTE_W || !(entry & PTE_U) ||
	    riscv_pbmt(entry) == PBMT_RESERVED || (entry >> PTE_PPN_SHIFT & block))
		return VD_MMU_MALFORMED;
	return VD_MMU_LEAF;
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

static inline uint64_t riscv_leaf_entry(uint64_t address,
					const struct vd_mmu_attributes *attributes, unsigned level)
{
	uint64_t entry = address >> PAGE_SHIFT << PTE_PPN_SHIFT | PTE_V | PTE_U;

	(void)level;
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

static inline uint64_t riscv_address(uint64_t entry, unsigned level)
{
	(void)level;
	return (entry & PTE_PPN) >> PTE_PPN_SHIFT << PAGE_SHIFT;
}

static inline void riscv_attributes(uint64_t entry, unsigned level,
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

static inline uint64_t riscv_write_protected(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~(PTE_W | PTE_D);
}

/* Leaves larger than 1 GiB exist in the architecture, but no host memory is aligned for them. */
#define RISCV_SHAPE(label, count)                                                                  \
	.name = label, .flags = VD_MMU_FORMAT_ACCESSED | VD_MMU_FORMAT_DIRTY, .levels = count,     \
	.block_level = 2,                                                                          \
	.input_bits = PAGE_SHIFT + INDEX_BITS * count + 2, .output_bits = 56,                      \
	.shift = {12, 21, 30, count > 3 ? 39 : 0, count > 4 ? 48 : 0},                             \
	.bits = {9, 9, count == 3 ? 11 : 9, count == 4 ? 11 : 9, 11}, .kind = riscv_kind,          \
	.can = riscv_can, .table_entry = riscv_table_entry, .leaf_entry = riscv_leaf_entry,                          \
	.address = riscv_address, .attributes = riscv_attributes, .allows = riscv_allows,          \
	.used = riscv_used, .aged = riscv_aged, .write_protected = riscv_write_protected

/*
 * The walk gets a copy of its own: a public symbol of a shared library may be interposed, so
 * the compiler must not fold what it holds.
 */
#define RISCV_FORMAT(id, label, count)                                                             \
	static int id##_walk(const struct vd_mmu_top *top, uint64_t gpa, unsigned access,          \
			     struct vd_mmu_leaf *leaf)                                             \
	{                                                                                          \
		static const struct vd_mmu_format shape = {RISCV_SHAPE(label, count)};             \
                                                                                                   \
		return vd_mmu_format_walk(&shape, top, gpa, access, leaf);                         \
	}                                                                                          \
	static void id##_fill(vd_mmu_entry *entries, unsigned count_, uint64_t address,            \
			      const struct vd_mmu_attributes *attributes, unsigned level)          \
	{                                                                                          \
		static const struct vd_mmu_format shape = {RISCV_SHAPE(label, count)};             \
                                                                                                   \
		vd_mmu_format_fill(&shape, entries, count_, address, attributes, level);           \
	}                                                                                          \
	const struct vd_mmu_format vd_mmu_format_##id = {RISCV_SHAPE(label, count),                \
							 .fill = id##_fill, .walk = id##_walk}

RISCV_FORMAT(sv39x4, "Sv39x4", 3);
RISCV_FORMAT(sv48x4, "Sv48x4", 4);
RISCV_FORMAT(sv57x4, "Sv57x4", 5);
