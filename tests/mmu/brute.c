/* SPDX-License-Identifier: BSD-2-Clause */
#include "brute.h"

#include "fake_format.h"

static uint64_t *table_at(uintptr_t window_base, uint64_t address)
{
	if (address >> 55 & 1)
		address |= UINT64_C(0xff) << 56;
	return (uint64_t *)(window_base + (uintptr_t)address);
}

static struct brute_leaf riscv_walk(unsigned levels, uint64_t *table, uintptr_t window_base,
				    uint64_t gpa)
{
	struct brute_leaf leaf = {.found = false};

	if (gpa >> (12 + 9 * levels + 2))
		return leaf;
	for (int i = (int)levels - 1; i >= 0; i--) {
		uint64_t vpn = gpa >> (12 + 9 * i);
		uint64_t size = UINT64_C(4096) << (9 * i);
		uint64_t pte, ppn;

		vpn &= i == (int)levels - 1 ? 0x7ff : 0x1ff;
		leaf.slot = &table[vpn];
		pte = __atomic_load_n(leaf.slot, __ATOMIC_ACQUIRE);
		ppn = pte >> 10 & 0xfffffffffff;
		if (!(pte & 1))
			return leaf;
		leaf.malformed = true;
		if (pte >> 63 || (pte >> 54 & 0x7f) || (pte & 6) == 4)
			return leaf;
		if ((pte & 0xe) == 0) {
			if (pte & 0xd0 || pte >> 61)
				return leaf;
			leaf.malformed = false;
			table = table_at(window_base, ppn << 12);
			continue;
		}
		if (!(pte & 0x10) || (pte >> 61 & 3) == 3 || (ppn << 12) % size)
			return leaf;
		leaf.malformed = false;
		leaf.found = true;
		leaf.size = size;
		leaf.address = (ppn << 12) + gpa % size;
		leaf.read = pte & 2;
		leaf.write = pte & 4;
		leaf.execute = pte & 8;
		leaf.accessed = pte & 0x40;
		leaf.dirty = pte & 0x80;
		leaf.type = (unsigned)(pte >> 61 & 3);
		return leaf;
	}
	leaf.malformed = true;
	return leaf;
}

static struct brute_leaf fake_walk(uint64_t *table, uintptr_t window_base, uint64_t gpa)
{
	static const unsigned shift[] = {12, 20, 29, 37, 41};
	static const unsigned type[] = {0, 2, 1};
	struct brute_leaf leaf = {.found = false};

	if (gpa >> 41)
		return leaf;
	for (unsigned level = 3;; level--) {
		unsigned turn = 3 + 7 * level;
		uint64_t entry;

		leaf.slot = &table[(gpa % (UINT64_C(1) << shift[level + 1])) >> shift[level]];
		entry = __atomic_load_n(leaf.slot, __ATOMIC_ACQUIRE);
		if (!entry)
			return leaf;
		entry = entry >> turn | entry << (64 - turn);
		leaf.malformed = entry >> 59 != level + 9 || !(entry & 1) || (!level && entry & 2);
		if (leaf.malformed)
			return leaf;
		leaf.address = (entry >> 10 & 0x1ffffffffffff) * 128;
		if (entry & 2) {
			table = table_at(window_base, leaf.address);
			continue;
		}
		leaf.found = true;
		leaf.size = UINT64_C(1) << shift[level];
		leaf.address += gpa % leaf.size;
		leaf.read = entry & 4;
		leaf.write = entry & 8;
		leaf.execute = entry & 16;
		leaf.accessed = entry & 32;
		leaf.dirty = entry & 64;
		leaf.type = type[entry >> 8 & 3];
		return leaf;
	}
}

struct brute_leaf brute_walk(const struct vd_mmu_format *format, void *root, uintptr_t window_base,
			     uint64_t gpa)
{
	if (format == &fake_format)
		return fake_walk(root, window_base, gpa);
	return riscv_walk(format == &vd_mmu_format_sv39x4   ? 3
			  : format == &vd_mmu_format_sv48x4 ? 4
							    : 5,
			  root, window_base, gpa);
}
