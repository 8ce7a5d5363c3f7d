/* SPDX-License-Identifier: BSD-2-Clause */
/* One entry of each architecture, decoded from the figures of its manual. */
#include "brute.h"

#include <stdlib.h>

#define BIT(entry, n) ((entry) >> (n) & 1)
#define BITS(entry, high, low) ((entry) >> (low) & ((UINT64_C(2) << ((high) - (low))) - 1))

enum { NORMAL, COMBINING, UNCACHED };

static struct brute_leaf only(enum brute_kind kind)
{
	return (struct brute_leaf){.kind = kind, .malformed = kind == BRUTE_MALFORMED};
}

/* A table that grants everything. */
static struct brute_leaf table(uint64_t address)
{
	return (struct brute_leaf){.kind = BRUTE_TABLE, .address = address, .read = true,
				   .write = true, .execute = true, .user = true};
}

static struct brute_leaf riscv(uint64_t pte, unsigned level, bool second)
{
	static const unsigned types[] = {NORMAL, COMBINING, UNCACHED, 0};
	uint64_t ppn = BITS(pte, 53, 10);
	uint64_t pages = UINT64_C(1) << 9 * level;
	struct brute_leaf leaf = {.kind = BRUTE_LEAF, .found = true, .address = ppn * 4096,
				  .size = pages * 4096};

	if (!BIT(pte, 0))
		return only(BRUTE_ABSENT);
	if (BITS(pte, 60, 54) || (BIT(pte, 2) && !BIT(pte, 1)))
		return only(BRUTE_MALFORMED);
	if (!BITS(pte, 3, 1)) {
		if (BIT(pte, 4) || BIT(pte, 6) || BIT(pte, 7) || BITS(pte, 63, 61) || !level)
			return only(BRUTE_MALFORMED);
		return table(ppn * 4096);
	}
	if (BITS(pte, 62, 61) == 3 || ppn % pages || (second && !BIT(pte, 4)))
		return only(BRUTE_MALFORMED);
	if (BIT(pte, 63)) {
		if (level || ppn % 16 != 8)
			return only(BRUTE_MALFORMED);
		leaf.contiguous = true;
		leaf.size = 65536;
		leaf.address = ppn / 16 * 65536;
	}
	leaf.read = BIT(pte, 1);
	leaf.write = BIT(pte, 2);
	leaf.execute = BIT(pte, 3);
	leaf.user = !second && BIT(pte, 4);
	leaf.global = !second && BIT(pte, 5);
	leaf.accessed = BIT(pte, 6);
	leaf.dirty = BIT(pte, 7);
	leaf.device = BIT(pte, 8);
	leaf.type = types[BITS(pte, 62, 61)];
	return leaf;
}

/* The types of IA32_PAT: 0 UC, 1 WC, 4 WT, 5 WP, 6 WB, 7 UC-. */
static unsigned x86_type(unsigned number)
{
	unsigned type = (unsigned)(VD_MMU_X86_PAT >> 8 * number) & 0xff;

	return type == 0 || type == 7 ? UNCACHED : type == 1 ? COMBINING : NORMAL;
}

static struct brute_leaf x86(uint64_t entry, unsigned level, enum brute_architecture kind)
{
	bool nested = kind == BRUTE_X86_NESTED, pae = kind == BRUTE_X86_PAE;
	bool large = level && BIT(entry, 7);
	struct brute_leaf leaf;
	unsigned pat;

	if (!BIT(entry, 0))
		return only(BRUTE_ABSENT);
	if (pae && BITS(entry, 62, 52))
		return only(BRUTE_MALFORMED);
	if (pae && level == 2) {
		if (BIT(entry, 63) || BITS(entry, 8, 5) || BITS(entry, 2, 1))
			return only(BRUTE_MALFORMED);
		return table(BITS(entry, 51, 12) << 12);
	}
	if ((nested && !BIT(entry, 2)) || (large && level > 2))
		return only(BRUTE_MALFORMED);
	if ((large && level == 1 && BITS(entry, 20, 13)) ||
	    (large && level == 2 && BITS(entry, 29, 13)))
		return only(BRUTE_MALFORMED);
	leaf = table(BITS(entry, 51, 12) << 12);
	leaf.write = BIT(entry, 1);
	leaf.user = BIT(entry, 2);
	leaf.execute = !BIT(entry, 63);
	if (level && !large)
		return leaf;
	leaf.kind = BRUTE_LEAF;
	leaf.found = true;
	leaf.size = UINT64_C(4096) << 9 * level;
	leaf.address &= ~UINT64_C(0x1000) | (level ? 0 : 0x1000);
	pat = BIT(entry, 3) + 2 * BIT(entry, 4) + 4 * BIT(entry, level ? 12 : 7);
	leaf.type = x86_type(pat);
	leaf.accessed = BIT(entry, 5);
	leaf.dirty = BIT(entry, 6);
	leaf.user &= !nested;
	leaf.global = !nested && BIT(entry, 8);
	leaf.device = BIT(entry, 9);
	return leaf;
}

static struct brute_leaf ept(uint64_t entry, unsigned level)
{
	static const int types[] = {UNCACHED, COMBINING, -1, -1, NORMAL, NORMAL, NORMAL, -1};
	uint64_t address = BITS(entry, 51, 12) << 12;
	struct brute_leaf leaf = table(address);

	if (!BITS(entry, 2, 0))
		return only(BRUTE_ABSENT);
	if (BIT(entry, 1) && !BIT(entry, 0))
		return only(BRUTE_MALFORMED);
	leaf.read = BIT(entry, 0);
	leaf.write = BIT(entry, 1);
	leaf.execute = BIT(entry, 2);
	if (level == 3 && BITS(entry, 7, 3))
		return only(BRUTE_MALFORMED);
	if (level && !BIT(entry, 7))
		return BITS(entry, 6, 3) ? only(BRUTE_MALFORMED) : leaf;
	if (address % (UINT64_C(4096) << 9 * level))
		return only(BRUTE_MALFORMED);
	if (types[BITS(entry, 5, 3)] < 0)
		return only(BRUTE_MALFORMED);
	leaf.kind = BRUTE_LEAF;
	leaf.found = true;
	leaf.size = UINT64_C(4096) << 9 * level;
	leaf.type = (unsigned)types[BITS(entry, 5, 3)];
	leaf.accessed = BIT(entry, 8);
	leaf.dirty = BIT(entry, 9);
	leaf.device = BIT(entry, 11);
	leaf.user = false;
	return leaf;
}

/* "The Contiguous bit": how many entries, by granule, at the two levels that are used. */
static unsigned arm64_group(unsigned granule, unsigned level)
{
	switch (granule) {
	case 12:
		return 16;
	case 14:
		return level ? 32 : 128;
	default:
		return 32;
	}
}

static void arm64_stage1(uint64_t entry, struct brute_leaf *leaf)
{
	unsigned attr = (unsigned)(VD_MMU_ARM64_MAIR >> 8 * BITS(entry, 4, 2)) & 0xff;

	leaf->type = attr == 0xff ? NORMAL : attr == 0x44 ? COMBINING : UNCACHED;
	leaf->user = BIT(entry, 6);
	leaf->write = !BIT(entry, 7);
	leaf->execute = !BIT(entry, leaf->user ? 54 : 53);
	leaf->global = !BIT(entry, 11);
}

/* Return: whether the memory type is one. */
static bool arm64_stage2(uint64_t entry, struct brute_leaf *leaf)
{
	unsigned outer = (unsigned)BITS(entry, 5, 4), inner = (unsigned)BITS(entry, 3, 2);

	leaf->read = BIT(entry, 6);
	leaf->write = BIT(entry, 7);
	leaf->execute = !BIT(entry, 54);
	leaf->user = false;
	leaf->type = !outer ? UNCACHED : outer == 1 && inner == 1 ? COMBINING : NORMAL;
	return !outer || inner;
}

static struct brute_leaf arm64(uint64_t entry, unsigned level, unsigned granule, bool second)
{
	unsigned shift = granule + (granule - 3) * level;
	struct brute_leaf leaf = table(BITS(entry, 47, 12) << 12);

	if (!BIT(entry, 0))
		return only(BRUTE_ABSENT);
	if (level && BIT(entry, 1)) {
		leaf.address &= ~((UINT64_C(1) << granule) - 1);
		return leaf;
	}
	/* No 01 at the last level; blocks at levels 1 and 2 of 4 KiB, at level 2 of the others. */
	if (!level && !BIT(entry, 1))
		return only(BRUTE_MALFORMED);
	if (level > (granule == 12 ? 2 : 1))
		return only(BRUTE_MALFORMED);
	leaf.kind = BRUTE_LEAF;
	leaf.found = true;
	leaf.size = UINT64_C(1) << shift;
	leaf.address &= ~(leaf.size - 1);
	leaf.accessed = BIT(entry, 10);
	leaf.device = BIT(entry, 55);
	leaf.contiguous = level < 2 && BIT(entry, 52);
	if (leaf.contiguous)
		leaf.size *= arm64_group(granule, level);
	if (!second)
		arm64_stage1(entry, &leaf);
	else if (!arm64_stage2(entry, &leaf))
		return only(BRUTE_MALFORMED);
	leaf.dirty = leaf.write;
	return leaf;
}

/* Groups of 8 leaves of 4 KiB and of 4 of 1 MiB. */
static struct brute_leaf fake(uint64_t entry, unsigned level)
{
	static const unsigned shift[] = {12, 20, 29, 37};
	static const unsigned group[] = {8, 4, 1, 1};
	static const unsigned types[] = {NORMAL, UNCACHED, COMBINING, 0};
	unsigned turn = 3 + 7 * level;
	struct brute_leaf leaf;

	if (!entry)
		return only(BRUTE_ABSENT);
	entry = entry >> turn | entry << (64 - turn);
	if (entry >> 59 != level + 9 || !(entry & 1) || (!level && entry & 2))
		return only(BRUTE_MALFORMED);
	leaf = table(BITS(entry, 57, 10) * 256);
	if (entry & 2)
		return leaf;
	if (BITS(entry, 9, 8) == 3)
		return only(BRUTE_MALFORMED);
	leaf.kind = BRUTE_LEAF;
	leaf.found = true;
	leaf.contiguous = BIT(entry, 58);
	leaf.size = (UINT64_C(1) << shift[level]) * (leaf.contiguous ? group[level] : 1);
	leaf.read = BIT(entry, 2);
	leaf.write = BIT(entry, 3);
	leaf.execute = BIT(entry, 4);
	leaf.accessed = BIT(entry, 5);
	leaf.dirty = BIT(entry, 6);
	leaf.device = BIT(entry, 7);
	leaf.type = types[BITS(entry, 9, 8)];
	leaf.user = false;
	return leaf;
}

struct brute_leaf brute_decode(const struct brute_shape *shape, uint64_t entry, unsigned level)
{
	switch (shape->architecture) {
	case BRUTE_RISCV_FIRST:
	case BRUTE_RISCV_SECOND:
		return riscv(entry, level, shape->architecture == BRUTE_RISCV_SECOND);
	case BRUTE_X86:
	case BRUTE_X86_NESTED:
	case BRUTE_X86_PAE:
		return x86(entry, level, shape->architecture);
	case BRUTE_EPT:
		return ept(entry, level);
	case BRUTE_ARM64_STAGE1:
	case BRUTE_ARM64_STAGE2:
		return arm64(entry, level, shape->granule,
			     shape->architecture == BRUTE_ARM64_STAGE2);
	case BRUTE_FAKE:
		return fake(entry, level);
	}
	abort();
}

bool brute_can(const struct vd_mmu_format *format, const struct vd_mmu_attributes *attributes)
{
	struct brute_shape shape = brute_shape(format);
	bool read = attributes->access & VD_READ, write = attributes->access & VD_WRITE;
	bool execute = attributes->access & VD_EXECUTE;
	bool device = attributes->device || attributes->type == VD_MEMORY_UNCACHED;

	switch (shape.architecture) {
	case BRUTE_RISCV_FIRST:
	case BRUTE_RISCV_SECOND:
	case BRUTE_EPT:
		return read || (execute && !write);
	case BRUTE_X86:
	case BRUTE_X86_NESTED:
	case BRUTE_X86_PAE:
		return read;
	case BRUTE_ARM64_STAGE1:
		return read && !(execute && device);
	case BRUTE_ARM64_STAGE2:
		return (read || write || execute) && !(execute && device);
	case BRUTE_FAKE:
		return read || write || execute;
	}
	abort();
}
