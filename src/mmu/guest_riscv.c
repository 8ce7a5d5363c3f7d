/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's tables on RISC-V: Sv39, Sv48, Sv57, and the MMU switched off.
 *
 * The RISC-V Instruction Set Manual, Volume II: Privileged Architecture, "Sv39: Page-Based 39-bit
 * Virtual-Memory System", "Virtual Address Translation Process". Svnapot and Svpbmt are not
 * offered to guests: their bits are reserved.
 */
#include "mmu/guest_format.h"

#define PTE_V (UINT64_C(1) << 0)
#define PTE_R (UINT64_C(1) << 1)
#define PTE_W (UINT64_C(1) << 2)
#define PTE_X (UINT64_C(1) << 3)
#define PTE_U (UINT64_C(1) << 4)
#define PTE_A (UINT64_C(1) << 6)
#define PTE_D (UINT64_C(1) << 7)
#define PTE_RESERVED (UINT64_C(0x3ff) << 54)
#define PTE_ADDRESS(pte) (((pte) >> 10 & ((UINT64_C(1) << 44) - 1)) << 12)

static struct vd_guest_entry riscv_decode(uint64_t pte, unsigned level)
{
	uint64_t block = (UINT64_C(1) << (12 + 9 * level)) - 1;
	struct vd_guest_entry entry = {.kind = VD_MMU_MALFORMED, .address = PTE_ADDRESS(pte)};

	if (!(pte & PTE_V)) {
		entry.kind = VD_MMU_ABSENT;
		return entry;
	}
	if (pte & PTE_RESERVED || (pte & (PTE_R | PTE_W)) == PTE_W)
		return entry;
	if (!(pte & (PTE_R | PTE_X))) {
		if (level && !(pte & (PTE_A | PTE_D | PTE_U)))
			entry.kind = VD_MMU_TABLE;
		entry.access = VD_GUEST_ACCESS_ALL;
		entry.accessed = true;
		return entry;
	}
	if (entry.address & block)
		return entry;
	entry.kind = VD_MMU_LEAF;
	entry.access = (pte & PTE_R ? VD_READ : 0) | (pte & PTE_W ? VD_WRITE : 0) |
		       (pte & PTE_X ? VD_EXECUTE : 0) | (pte & PTE_U ? VD_SHADOW_USER : 0);
	entry.accessed = pte & PTE_A;
	entry.dirty = pte & PTE_D;
	return entry;
}

static uint64_t riscv_used(uint64_t pte, unsigned access, unsigned level, bool leaf)
{
	(void)level;
	if (!leaf)
		return pte;
	return pte | PTE_A | (access & VD_WRITE ? PTE_D : 0);
}

#define RISCV(count)                                                                               \
	{                                                                                          \
		.name = count == 3 ? "Sv39" : count == 4 ? "Sv48" : "Sv57",                        \
		.flags = VD_GUEST_SIGNED, .levels = count, .entry_bytes = 8,                       \
		.input_bits = 12 + 9 * count, .address_mask = ((UINT64_C(1) << 44) - 1) << 12,     \
		.shift = {12, 21, 30, 39, 48}, .bits = {9, 9, 9, 9, 9}, .decode = riscv_decode,    \
		.used = riscv_used,                                                                \
	}

const struct vd_guest_format vd_guest_format_sv39 = RISCV(3);
const struct vd_guest_format vd_guest_format_sv48 = RISCV(4);
const struct vd_guest_format vd_guest_format_sv57 = RISCV(5);

const struct vd_guest_format vd_guest_format_bare = {
	.name = "bare", .flags = VD_GUEST_ANYONE, .input_bits = 56};
