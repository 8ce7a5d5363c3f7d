/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arm64 tables: stage 1 of EL1&0 and stage 2, with granules of 4, 16 and 64 KiB.
 *
 * Arm Architecture Reference Manual for A-profile architecture, "The AArch64 Virtual Memory System
 * Architecture":
 *  - "Translation table descriptor formats": valid, table, block and page, the output address
 *  - "Stage 1 attribute fields in Block and Page descriptors" and the same of stage 2: AttrIndx,
 *    AP[2:1], SH, AF, nG, PXN, UXN; MemAttr, S2AP, XN[1]. FEAT_S2FWB and FEAT_XNX are not used
 *  - "The Contiguous bit": bit 52
 *  - "Translation using the 4KB granule" and so on: which levels may hold blocks, and
 *    "Concatenated translation tables" at the start of stage 2
 *  - "Hardware management of the Access flag": AF. Dirty state (DBM) is not used
 *  - "Using break-before-make when updating translation table entries"
 *
 * The manual counts levels from the root, this floor from the pages: its level L is 3 - L here.
 */
#include "mmu/format.h"

#define DESC_VALID (UINT64_C(1) << 0)
#define DESC_TABLE (UINT64_C(1) << 1) /* at the last level: page */
#define DESC_SH_SHIFT 8
#define DESC_AF (UINT64_C(1) << 10)
#define DESC_ADDRESS_BITS 48
#define DESC_CONTIGUOUS (UINT64_C(1) << 52)
#define DESC_SOFT_DEVICE (UINT64_C(1) << 55) /* first of the bits 58:55 */

#define S1_ATTR_SHIFT 2
#define S1_USER (UINT64_C(1) << 6)	/* AP[1] */
#define S1_READ_ONLY (UINT64_C(1) << 7) /* AP[2] */
#define S1_NOT_GLOBAL (UINT64_C(1) << 11)
#define S1_PXN (UINT64_C(1) << 53)
#define S1_UXN (UINT64_C(1) << 54)

#define S2_MEMATTR_SHIFT 2
#define S2_READ (UINT64_C(1) << 6)  /* S2AP[0] */
#define S2_WRITE (UINT64_C(1) << 7) /* S2AP[1] */
#define S2_XN (UINT64_C(1) << 54)   /* XN[1]; XN[0] is left 0 */

#define INPUT_BITS_MIN 25 /* TnSZ up to 39, without FEAT_TTST */
#define INPUT_BITS_MAX 48 /* TnSZ from 16, without FEAT_LPA */
#define CONCATENATED_BITS 4

/* Device memory and Normal Non-cacheable are outer shareable whatever SH says. */
enum { SH_OUTER = 2, SH_INNER = 3 };

/* MemAttr[3:0] of stage 2; 01xx, 10xx and 11xx are Normal, with 00 as the inner half reserved. */
enum { S2_DEVICE_NGNRE = 0x1, S2_NORMAL_NC = 0x5, S2_NORMAL_WB = 0xf };

static const unsigned char attr_of_type[] = {
	[VD_MEMORY_NORMAL] = 0,
	[VD_MEMORY_UNCACHED] = 1,
	[VD_MEMORY_WRITE_COMBINING] = 2,
};

static const unsigned char memattr_of_type[] = {
	[VD_MEMORY_NORMAL] = S2_NORMAL_WB,
	[VD_MEMORY_UNCACHED] = S2_DEVICE_NGNRE,
	[VD_MEMORY_WRITE_COMBINING] = S2_NORMAL_NC,
};

static inline unsigned arm64_shift(unsigned granule, unsigned level)
{
	return granule + (granule - 3) * level;
}

/* With 48 bits of output, only the 4 KiB granule has blocks above the last table but one. */
static inline unsigned arm64_block_level(unsigned granule)
{
	return granule == 12 ? 2 : 1;
}

static inline bool arm64_is_table(uint64_t entry, unsigned level)
{
	return level && entry & DESC_TABLE;
}

static inline enum vd_mmu_entry_kind s1_kind(uint64_t entry, unsigned level, unsigned granule)
{
	if (!(entry & DESC_VALID))
		return VD_MMU_ABSENT;
	if (!level)
		return entry & DESC_TABLE ? VD_MMU_LEAF : VD_MMU_MALFORMED;
	if (entry & DESC_TABLE)
		return VD_MMU_TABLE;
	return level > arm64_block_level(granule) ? VD_MMU_MALFORMED : VD_MMU_LEAF;
}

static inline unsigned s2_memattr(uint64_t entry)
{
	return (unsigned)(entry >> S2_MEMATTR_SHIFT) & 0xf;
}

static inline enum vd_mmu_entry_kind s2_kind(uint64_t entry, unsigned level, unsigned granule)
{
	enum vd_mmu_entry_kind kind = s1_kind(entry, level, granule);
	unsigned memattr = s2_memattr(entry);

	return kind == VD_MMU_LEAF && memattr > 3 && !(memattr & 3) ? VD_MMU_MALFORMED : kind;
}

/*
 * What a walker fetches speculatively must not be device memory: none is executable. A device's
 * write-combining memory is Normal to the walker, and still nothing to run.
 */
static inline bool arm64_may_execute(const struct vd_mmu_attributes *attributes)
{
	return !(attributes->access & VD_EXECUTE) ||
	       (!attributes->device && attributes->type != VD_MEMORY_UNCACHED);
}

/* Every leaf can be read. */
static inline bool s1_can(const struct vd_mmu_attributes *attributes, unsigned level)
{
	(void)level;
	return attributes->access & VD_READ && arm64_may_execute(attributes);
}

/* Write-only and execute-only exist. */
static inline bool s2_can(const struct vd_mmu_attributes *attributes, unsigned level)
{
	(void)level;
	return attributes->access && arm64_may_execute(attributes);
}

static inline uint64_t arm64_table_entry(uint64_t address, unsigned level)
{
	(void)level;
	return address | DESC_TABLE | DESC_VALID;
}

/* What both stages have in the same place. */
static inline uint64_t arm64_leaf(uint64_t address, const struct vd_mmu_attributes *attributes,
				  unsigned level)
{
	uint64_t sh = attributes->type == VD_MEMORY_NORMAL ? SH_INNER : SH_OUTER;

	return address | DESC_VALID | (level ? 0 : DESC_TABLE) | sh << DESC_SH_SHIFT |
	       (attributes->accessed ? DESC_AF : 0) |
	       (attributes->device ? DESC_SOFT_DEVICE : 0);
}

/* A user's page is never run by the kernel, nor one of the kernel's by users. */
static inline uint64_t s1_leaf_entry(uint64_t address, const struct vd_mmu_attributes *attributes,
				     unsigned level)
{
	uint64_t entry = arm64_leaf(address, attributes, level) |
			 (uint64_t)attr_of_type[attributes->type] << S1_ATTR_SHIFT;

	if (!(attributes->access & VD_WRITE))
		entry |= S1_READ_ONLY;
	if (!(attributes->access & VD_EXECUTE))
		entry |= S1_PXN | S1_UXN;
	else
		entry |= attributes->user ? S1_PXN : S1_UXN;
	return entry | (attributes->user ? S1_USER : 0) |
	       (attributes->global ? 0 : S1_NOT_GLOBAL);
}

static inline uint64_t s2_leaf_entry(uint64_t address, const struct vd_mmu_attributes *attributes,
				     unsigned level)
{
	return arm64_leaf(address, attributes, level) |
	       (uint64_t)memattr_of_type[attributes->type] << S2_MEMATTR_SHIFT |
	       (attributes->access & VD_READ ? S2_READ : 0) |
	       (attributes->access & VD_WRITE ? S2_WRITE : 0) |
	       (attributes->access & VD_EXECUTE ? 0 : S2_XN);
}

static inline uint64_t arm64_address(uint64_t entry, unsigned level, unsigned granule)
{
	unsigned shift = arm64_is_table(entry, level) ? granule : arm64_shift(granule, level);

	return entry & ((UINT64_C(1) << DESC_ADDRESS_BITS) - (UINT64_C(1) << shift));
}

static inline bool s1_executes(uint64_t entry)
{
	return !(entry & (entry & S1_USER ? S1_UXN : S1_PXN));
}

static inline void s1_attributes(uint64_t entry, unsigned level,
				 struct vd_mmu_attributes *attributes)
{
	unsigned attr = (unsigned)(entry >> S1_ATTR_SHIFT) & 7;

	(void)level;
	attributes->access = VD_READ | (entry & S1_READ_ONLY ? 0 : VD_WRITE) |
			     (s1_executes(entry) ? VD_EXECUTE : 0);
	/* What VD_MMU_ARM64_MAIR has no use for is 0, Device-nGnRnE. */
	attributes->type = attr == 0   ? VD_MEMORY_NORMAL
			   : attr == 2 ? VD_MEMORY_WRITE_COMBINING
				       : VD_MEMORY_UNCACHED;
	attributes->accessed = entry & DESC_AF;
	attributes->dirty = !(entry & S1_READ_ONLY);
	attributes->device = entry & DESC_SOFT_DEVICE;
	attributes->user = entry & S1_USER;
	attributes->global = !(entry & S1_NOT_GLOBAL);
}

static inline void s2_attributes(uint64_t entry, unsigned level,
				 struct vd_mmu_attributes *attributes)
{
	unsigned memattr = s2_memattr(entry);

	(void)level;
	attributes->access = (entry & S2_READ ? VD_READ : 0) | (entry & S2_WRITE ? VD_WRITE : 0) |
			     (entry & S2_XN ? 0 : VD_EXECUTE);
	attributes->type = memattr < 4		     ? VD_MEMORY_UNCACHED
			   : memattr == S2_NORMAL_NC ? VD_MEMORY_WRITE_COMBINING
						     : VD_MEMORY_NORMAL;
	attributes->accessed = entry & DESC_AF;
	attributes->dirty = entry & S2_WRITE;
	attributes->device = entry & DESC_SOFT_DEVICE;
	attributes->user = false;
	attributes->global = false;
}

static inline bool s1_allows(uint64_t entry, unsigned access, unsigned level)
{
	(void)level;
	return (!(access & VD_WRITE) || !(entry & S1_READ_ONLY)) &&
	       (!(access & VD_EXECUTE) || s1_executes(entry));
}

static inline bool s2_allows(uint64_t entry, unsigned access, unsigned level)
{
	uint64_t need = (access & VD_READ ? S2_READ : 0) | (access & VD_WRITE ? S2_WRITE : 0);

	(void)level;
	return (entry & need) == need && (!(access & VD_EXECUTE) || !(entry & S2_XN));
}

static inline uint64_t arm64_used(uint64_t entry, unsigned access, unsigned level)
{
	(void)access, (void)level;
	return entry | DESC_AF;
}

static inline uint64_t arm64_aged(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~DESC_AF;
}

static inline uint64_t s1_write_protected(uint64_t entry, unsigned level)
{
	(void)level;
	return entry | S1_READ_ONLY;
}

static inline uint64_t s2_write_protected(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & ~S2_WRITE;
}

static inline bool arm64_is_contiguous(uint64_t entry, unsigned level)
{
	(void)level;
	return entry & DESC_CONTIGUOUS;
}

static inline uint64_t arm64_contiguous_entry(uint64_t entry, uint64_t address, unsigned level,
					      bool on)
{
	(void)address, (void)level;
	return on ? entry | DESC_CONTIGUOUS : entry & ~DESC_CONTIGUOUS;
}

/* What depends on the granule, as the functions of a format. */
#define ARM64_GRANULE(stage, granule)                                                              \
	static inline enum vd_mmu_entry_kind stage##_kind_##granule(uint64_t entry,                \
								    unsigned level)                \
	{                                                                                          \
		return stage##_kind(entry, level, granule);                                        \
	}                                                                                          \
	static inline uint64_t stage##_address_##granule(uint64_t entry, unsigned level)           \
	{                                                                                          \
		return arm64_address(entry, level, granule);                                       \
	}

ARM64_GRANULE(s1, 12)
ARM64_GRANULE(s1, 14)
ARM64_GRANULE(s1, 16)
ARM64_GRANULE(s2, 12)
ARM64_GRANULE(s2, 14)
ARM64_GRANULE(s2, 16)

#define ARM64_SHAPE(label, stage, stage_flags, granule, input, count, c0, c1)                      \
	.name = label,                                                                             \
	.flags = VD_MMU_FORMAT_ACCESSED | VD_MMU_FORMAT_BREAK_BEFORE_MAKE | (stage_flags),         \
	.levels = count, .block_level = granule == 12 ? 2 : 1, .input_bits = input,                \
	.output_bits = DESC_ADDRESS_BITS,                                                          \
	.shift = {granule, 2 * granule - 3, count > 2 ? 3 * granule - 6 : 0,                       \
		  count > 3 ? 4 * granule - 9 : 0},                                                \
	.bits = {granule - 3, count == 2 ? input - (2 * granule - 3) : granule - 3,                \
		 count < 3    ? 0                                                                  \
		 : count == 3 ? input - (3 * granule - 6)                                          \
			      : granule - 3,                                                       \
		 count < 4 ? 0 : input - (4 * granule - 9)},                                       \
	.contiguous = {c0, c1}, .kind = stage##_kind_##granule, .can = stage##_can,                \
	.table_entry = arm64_table_entry, .leaf_entry = stage##_leaf_entry,                        \
	.address = stage##_address_##granule, .attributes = stage##_attributes,                    \
	.allows = stage##_allows, .used = arm64_used, .aged = arm64_aged,                          \
	.write_protected = stage##_write_protected, .cleaned = stage##_write_protected,            \
	.is_contiguous = arm64_is_contiguous, .contiguous_entry = arm64_contiguous_entry

VD_MMU_FORMAT_DEFINE(vd_mmu_format_arm64_s1_4k, ARM64_SHAPE("arm64-s1-4k", s1,
							    VD_MMU_FORMAT_STAGE1, 12, 48, 4, 4, 4));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_arm64_s1_16k, ARM64_SHAPE("arm64-s1-16k", s1,
							     VD_MMU_FORMAT_STAGE1, 14, 48, 4, 7,
							     5));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_arm64_s1_64k, ARM64_SHAPE("arm64-s1-64k", s1,
							     VD_MMU_FORMAT_STAGE1, 16, 48, 3, 5,
							     5));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_arm64_s2_4k,
		     ARM64_SHAPE("arm64-s2-4k", s2, 0, 12, 40, 3, 4, 4));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_arm64_s2_16k,
		     ARM64_SHAPE("arm64-s2-16k", s2, 0, 14, 40, 2, 7, 5));
VD_MMU_FORMAT_DEFINE(vd_mmu_format_arm64_s2_64k,
		     ARM64_SHAPE("arm64-s2-64k", s2, 0, 16, 40, 2, 5, 5));

/* ---- shapes made at run time ---------------------------------------------------------------- */

static int arm64_walk(const struct vd_mmu_top *top, uint64_t gpa, unsigned access,
		      struct vd_mmu_leaf *leaf)
{
	return vd_mmu_format_walk(top->format, top, gpa, access, leaf);
}

static const struct vd_mmu_format *arm64_common(enum vd_mmu_arm64_stage stage, unsigned granule)
{
	if (stage != VD_MMU_ARM64_STAGE1 && stage != VD_MMU_ARM64_STAGE2)
		return NULL;
	switch (granule) {
	case 12:
		return stage == VD_MMU_ARM64_STAGE1 ? &vd_mmu_format_arm64_s1_4k
						    : &vd_mmu_format_arm64_s2_4k;
	case 14:
		return stage == VD_MMU_ARM64_STAGE1 ? &vd_mmu_format_arm64_s1_16k
						    : &vd_mmu_format_arm64_s2_16k;
	case 16:
		return stage == VD_MMU_ARM64_STAGE1 ? &vd_mmu_format_arm64_s1_64k
						    : &vd_mmu_format_arm64_s2_64k;
	default:
		return NULL;
	}
}

/*
 * The fewest levels whose root, up to 16 tables of it in stage 2, reaches all inputs; but no fewer
 * than the largest block needs if the input range has room for one. Stage 2 with 4 KiB cannot
 * start at the last level (SL0).
 */
static unsigned arm64_levels(enum vd_mmu_arm64_stage stage, unsigned granule, unsigned input_bits)
{
	unsigned block = arm64_block_level(granule);
	unsigned wider = stage == VD_MMU_ARM64_STAGE2 ? CONCATENATED_BITS : 0;
	unsigned least = wider && granule == 12 ? 2 : 1;
	unsigned levels = 1;

	while (levels < least || arm64_shift(granule, levels) + wider < input_bits ||
	       (levels <= block && arm64_shift(granule, levels) < input_bits))
		levels++;
	return levels;
}

int vd_mmu_format_arm64(struct vd_mmu_format *format, enum vd_mmu_arm64_stage stage,
			unsigned granule_shift, unsigned input_bits)
{
	const struct vd_mmu_format *common = arm64_common(stage, granule_shift);
	unsigned levels;

	if (!common || input_bits < INPUT_BITS_MIN || input_bits > INPUT_BITS_MAX)
		return -EINVAL;
	levels = arm64_levels(stage, granule_shift, input_bits);
	*format = *common;
	format->levels = levels;
	if (format->block_level >= levels)
		format->block_level = levels - 1;
	format->input_bits = input_bits;
	for (unsigned level = 0; level < VD_MMU_LEVELS_MAX; level++) {
		unsigned shift = arm64_shift(granule_shift, level);
		unsigned top = level == levels - 1 ? input_bits - shift : granule_shift - 3;

		format->shift[level] = level < levels ? (unsigned char)shift : 0;
		format->bits[level] = level < levels ? (unsigned char)top : 0;
		/* A marked group lies inside the input range. */
		if (level > format->block_level || format->contiguous[level] > format->bits[level])
			format->contiguous[level] = 0;
	}
	format->walk = arm64_walk;
	return 0;
}

uint64_t vd_mmu_format_arm64_control(const struct vd_mmu_format *format)
{
	unsigned granule = format->shift[0];
	uint64_t tg0 = granule == 12 ? 0 : granule == 16 ? 1 : 2;
	uint64_t control = (64 - format->input_bits) | UINT64_C(1) << 8 | UINT64_C(1) << 10 |
			   UINT64_C(3) << 12 | tg0 << 14;

	if (!(format->flags & VD_MMU_FORMAT_STAGE1))
		control |= (uint64_t)(format->levels - (granule == 12 ? 2 : 1)) << 6;
	return control;
}
