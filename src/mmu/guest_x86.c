/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's tables on x86: 32-bit, PAE, 4 and 5 levels.
 *
 * Intel 64 and IA-32 Architectures Software Developer's Manual, Volume 3A, chapter "Paging":
 * "32-Bit Paging" (with PSE and PSE-36), "PAE Paging", "4-Level Paging and 5-Level Paging",
 * "Accessed and Dirty Flags". MAXPHYADDR is 52 (40 for 32-bit paging), NXE is on, pages of 1 GiB
 * exist.
 */
#include "mmu/guest_format.h"

#define PTE_P (UINT64_C(1) << 0)
#define PTE_RW (UINT64_C(1) << 1)
#define PTE_US (UINT64_C(1) << 2)
#define PTE_A (UINT64_C(1) << 5)
#define PTE_D (UINT64_C(1) << 6)
#define PTE_PS (UINT64_C(1) << 7)
#define PTE_NX (UINT64_C(1) << 63)
#define PTE_ADDRESS (((UINT64_C(1) << 40) - 1) << 12)

static unsigned x86_access(uint64_t pte)
{
	return VD_READ | (pte & PTE_RW ? VD_WRITE : 0) | (pte & PTE_NX ? 0 : VD_EXECUTE) |
	       (pte & PTE_US ? VD_SHADOW_USER : 0);
}

/* Where a leaf has its PAT bit, in place of the lowest bit of the address. */
#define PTE_PAT_LARGE (UINT64_C(1) << 12)

static struct vd_guest_entry x86_leaf(uint64_t pte, uint64_t address)
{
	return (struct vd_guest_entry){.kind = VD_MMU_LEAF, .address = address,
				       .access = x86_access(pte), .accessed = pte & PTE_A,
				       .dirty = pte & PTE_D};
}

static struct vd_guest_entry x86_table(uint64_t pte)
{
	return (struct vd_guest_entry){.kind = VD_MMU_TABLE, .address = pte & PTE_ADDRESS,
				       .access = x86_access(pte), .accessed = pte & PTE_A};
}

static struct vd_guest_entry x86_64_decode(uint64_t pte, unsigned level)
{
	uint64_t block = (UINT64_C(1) << (12 + 9 * level)) - 1;
	struct vd_guest_entry bad = {.kind = VD_MMU_MALFORMED};

	if (!(pte & PTE_P)) {
		bad.kind = VD_MMU_ABSENT;
		return bad;
	}
	if (level == 0)
		return x86_leaf(pte, pte & PTE_ADDRESS);
	if (!(pte & PTE_PS))
		return x86_table(pte);
	if (level > 2 || (pte & PTE_ADDRESS & ~PTE_PAT_LARGE & block))
		return bad;
	return x86_leaf(pte, pte & PTE_ADDRESS & ~block);
}

static struct vd_guest_entry x86_pae_decode(uint64_t pte, unsigned level)
{
	const uint64_t high = UINT64_C(0x7ff) << 52;		/* bits 62:52 */
	const uint64_t pointer = high | PTE_NX | UINT64_C(0x1e6); /* of the directory pointers */
	struct vd_guest_entry entry = {.kind = VD_MMU_MALFORMED};

	if (!(pte & PTE_P)) {
		entry.kind = VD_MMU_ABSENT;
		return entry;
	}
	if (level < 2)
		return pte & high ? entry : x86_64_decode(pte, level);
	if (pte & pointer)
		return entry;
	return (struct vd_guest_entry){.kind = VD_MMU_TABLE, .address = pte & PTE_ADDRESS,
				       .access = VD_GUEST_ACCESS_ALL, .accessed = true};
}

static struct vd_guest_entry x86_32_decode(uint64_t pte, unsigned level)
{
	struct vd_guest_entry bad = {.kind = VD_MMU_MALFORMED};

	if (!(pte & PTE_P)) {
		bad.kind = VD_MMU_ABSENT;
		return bad;
	}
	if (level == 0)
		return x86_leaf(pte, pte & 0xfffff000u);
	if (!(pte & PTE_PS))
		return x86_table(pte);
	if (pte & (1u << 21)) /* reserved beside the eight bits of PSE-36 */
		return bad;
	return x86_leaf(pte, (pte & 0xffc00000u) | (pte >> 13 & 0xff) << 32);
}

static uint64_t x86_used(uint64_t pte, unsigned access, unsigned level, bool leaf)
{
	(void)level;
	return pte | PTE_A | (leaf && access & VD_WRITE ? PTE_D : 0);
}

static uint64_t x86_pae_used(uint64_t pte, unsigned access, unsigned level, bool leaf)
{
	return level == 2 ? pte : x86_used(pte, access, level, leaf);
}

#define X86_FLAGS VD_GUEST_USER_CODE | VD_GUEST_ALWAYS_UPDATE

const struct vd_guest_format vd_guest_format_x86_32 = {
	.name = "x86 32-bit", .flags = X86_FLAGS, .levels = 2, .entry_bytes = 4, .input_bits = 32,
	.address_mask = 0xfffff000u, .shift = {12, 22}, .bits = {10, 10}, .decode = x86_32_decode,
	.used = x86_used,
};

const struct vd_guest_format vd_guest_format_x86_pae = {
	.name = "x86 PAE", .flags = X86_FLAGS, .levels = 3, .entry_bytes = 8, .input_bits = 32,
	.address_mask = 0xffffffe0u, .shift = {12, 21, 30}, .bits = {9, 9, 2},
	.decode = x86_pae_decode, .used = x86_pae_used,
};

#define X86_64(label, count)                                                                       \
	{                                                                                          \
		.name = label, .flags = X86_FLAGS | VD_GUEST_SIGNED, .levels = count,              \
		.entry_bytes = 8, .input_bits = 12 + 9 * count, .address_mask = PTE_ADDRESS,       \
		.shift = {12, 21, 30, 39, 48}, .bits = {9, 9, 9, 9, 9}, .decode = x86_64_decode,   \
		.used = x86_used,                                                                  \
	}

const struct vd_guest_format vd_guest_format_x86_64 = X86_64("x86-64", 4);
const struct vd_guest_format vd_guest_format_x86_64_la57 = X86_64("x86-64 LA57", 5);
