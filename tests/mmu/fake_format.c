/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake_format.h"

#include "mmu/format.h"

#define VALID UINT64_C(1)
#define TABLE UINT64_C(2)
#define ACCESS_SHIFT 2
#define ACCESSED (UINT64_C(1) << 5)
#define DIRTY (UINT64_C(1) << 6)
#define DEVICE (UINT64_C(1) << 7)
#define TYPE_SHIFT 8
#define ADDRESS_SHIFT 10 /* in units of 256 bytes */
#define ADDRESS_MASK ((UINT64_C(1) << 48) - 1)
#define GROUPED (UINT64_C(1) << 58)
#define CHECK_SHIFT 59

static uint64_t seal(uint64_t plain, unsigned level)
{
	unsigned turn = 7 * level + 3;

	plain |= (uint64_t)(level + 9) << CHECK_SHIFT;
	return plain << turn | plain >> (64 - turn);
}

static uint64_t open(uint64_t entry, unsigned level)
{
	unsigned turn = 7 * level + 3;

	return entry >> turn | entry << (64 - turn);
}

static enum vd_mmu_entry_kind fake_kind(uint64_t entry, unsigned level)
{
	uint64_t plain = open(entry, level);

	if (!entry)
		return VD_MMU_ABSENT;
	if (plain >> CHECK_SHIFT != level + 9 || !(plain & VALID))
		return VD_MMU_MALFORMED;
	if (!(plain & TABLE))
		return (plain >> TYPE_SHIFT & 3) == 3 ? VD_MMU_MALFORMED : VD_MMU_LEAF;
	return level ? VD_MMU_TABLE : VD_MMU_MALFORMED;
}

static bool fake_can(const struct vd_mmu_attributes *attributes, unsigned level)
{
	(void)level;
	return attributes->access != 0;
}

static uint64_t fake_table_entry(uint64_t address, unsigned level)
{
	return seal(address >> 8 << ADDRESS_SHIFT | TABLE | VALID, level);
}

static uint64_t fake_leaf_entry(uint64_t address, const struct vd_mmu_attributes *attributes,
				unsigned level)
{
	return seal(address >> 8 << ADDRESS_SHIFT | VALID |
			    (uint64_t)attributes->access << ACCESS_SHIFT |
			    (attributes->accessed ? ACCESSED : 0) |
			    (attributes->dirty ? DIRTY : 0) | (attributes->device ? DEVICE : 0) |
			    (uint64_t)attributes->type << TYPE_SHIFT,
		    level);
}

static uint64_t fake_address(uint64_t entry, unsigned level)
{
	return (open(entry, level) >> ADDRESS_SHIFT & ADDRESS_MASK) << 8;
}

static void fake_attributes(uint64_t entry, unsigned level, struct vd_mmu_attributes *attributes)
{
	uint64_t plain = open(entry, level);

	*attributes = (struct vd_mmu_attributes){
		.access = plain >> ACCESS_SHIFT & 7,
		.type = (enum vd_memory_type)(plain >> TYPE_SHIFT & 3),
		.accessed = plain & ACCESSED,
		.dirty = plain & DIRTY,
		.device = plain & DEVICE,
	};
}

static bool fake_allows(uint64_t entry, unsigned access, unsigned level)
{
	return !(access & ~(unsigned)(open(entry, level) >> ACCESS_SHIFT & 7));
}

static uint64_t fake_used(uint64_t entry, unsigned access, unsigned level)
{
	return seal(open(entry, level) | ACCESSED | (access & VD_WRITE ? DIRTY : 0), level);
}

static uint64_t fake_aged(uint64_t entry, unsigned level)
{
	return seal(open(entry, level) & ~ACCESSED, level);
}

static uint64_t fake_write_protected(uint64_t entry, unsigned level)
{
	return seal(open(entry, level) & ~((uint64_t)VD_WRITE << ACCESS_SHIFT | DIRTY), level);
}

static uint64_t fake_cleaned(uint64_t entry, unsigned level)
{
	return seal(open(entry, level) & ~DIRTY, level);
}

static bool fake_is_contiguous(uint64_t entry, unsigned level)
{
	return open(entry, level) & GROUPED;
}

static uint64_t fake_contiguous_entry(uint64_t entry, uint64_t address, unsigned level, bool on)
{
	uint64_t plain = open(entry, level) & ~GROUPED;

	(void)address;
	return seal(on ? plain | GROUPED : plain, level);
}

#define FAKE_SHAPE(label, more)                                                                    \
	.name = label, .flags = VD_MMU_FORMAT_ACCESSED | VD_MMU_FORMAT_DIRTY | (more),             \
	.levels = 4, .block_level = 2, .input_bits = 41, .output_bits = 56,                        \
	.shift = {12, 20, 29, 37}, .bits = {8, 9, 8, 4}, .kind = fake_kind, .can = fake_can,       \
	.table_entry = fake_table_entry, .leaf_entry = fake_leaf_entry, .address = fake_address,   \
	.attributes = fake_attributes, .allows = fake_allows, .used = fake_used,                   \
	.aged = fake_aged, .write_protected = fake_write_protected, .cleaned = fake_cleaned

#define GROUPS_SHAPE                                                                               \
	FAKE_SHAPE("fake-groups", VD_MMU_FORMAT_BREAK_BEFORE_MAKE), .contiguous = {3, 2},          \
	.is_contiguous = fake_is_contiguous, .contiguous_entry = fake_contiguous_entry

VD_MMU_FORMAT_DEFINE(fake_format, FAKE_SHAPE("fake", 0));
VD_MMU_FORMAT_DEFINE(fake_format_groups, GROUPS_SHAPE);
