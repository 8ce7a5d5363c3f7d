/* SPDX-License-Identifier: BSD-2-Clause */
#include "brute.h"

#include <stdio.h>
#include <stdlib.h>

#include "fake_format.h"

static const struct {
	const struct vd_mmu_format *format;
	struct brute_shape shape;
} shapes[] = {
	{&vd_mmu_format_sv39, {BRUTE_RISCV_FIRST, 3, 12, 39}},
	{&vd_mmu_format_sv48, {BRUTE_RISCV_FIRST, 4, 12, 48}},
	{&vd_mmu_format_sv57, {BRUTE_RISCV_FIRST, 5, 12, 57}},
	{&vd_mmu_format_sv39x4, {BRUTE_RISCV_SECOND, 3, 12, 41}},
	{&vd_mmu_format_sv48x4, {BRUTE_RISCV_SECOND, 4, 12, 50}},
	{&vd_mmu_format_sv57x4, {BRUTE_RISCV_SECOND, 5, 12, 59}},
	{&vd_mmu_format_x86_64, {BRUTE_X86, 4, 12, 48}},
	{&vd_mmu_format_x86_64_la57, {BRUTE_X86, 5, 12, 57}},
	{&vd_mmu_format_npt, {BRUTE_X86_NESTED, 4, 12, 48}},
	{&vd_mmu_format_npt_la57, {BRUTE_X86_NESTED, 5, 12, 57}},
	{&vd_mmu_format_pae, {BRUTE_X86_PAE, 3, 12, 32}},
	{&vd_mmu_format_ept, {BRUTE_EPT, 4, 12, 48}},
	{&vd_mmu_format_arm64_s1_4k, {BRUTE_ARM64_STAGE1, 4, 12, 48}},
	{&vd_mmu_format_arm64_s1_16k, {BRUTE_ARM64_STAGE1, 4, 14, 48}},
	{&vd_mmu_format_arm64_s1_64k, {BRUTE_ARM64_STAGE1, 3, 16, 48}},
	{&vd_mmu_format_arm64_s2_4k, {BRUTE_ARM64_STAGE2, 3, 12, 40}},
	{&vd_mmu_format_arm64_s2_16k, {BRUTE_ARM64_STAGE2, 2, 14, 40}},
	{&vd_mmu_format_arm64_s2_64k, {BRUTE_ARM64_STAGE2, 2, 16, 40}},
	{&fake_format, {BRUTE_FAKE, 4, 12, 41}},
	{&fake_format_groups, {BRUTE_FAKE, 4, 12, 41}},
};

struct brute_shape brute_shape(const struct vd_mmu_format *format)
{
	for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		if (shapes[i].format == format)
			return shapes[i].shape;
	}
	fprintf(stderr, "brute: a format without a walker\n");
	abort();
}

unsigned brute_shift(const struct brute_shape *shape, unsigned level)
{
	static const unsigned fake[] = {12, 20, 29, 37};

	if (shape->architecture == BRUTE_FAKE)
		return fake[level];
	return shape->granule + (shape->granule - 3) * level;
}

/* Addresses in entries are signed distances, of as many bits as the architecture has. */
static uint64_t *table_at(const struct brute_shape *shape, uintptr_t window_base, uint64_t address)
{
	unsigned bits = 56;

	if (shape->architecture == BRUTE_X86 || shape->architecture == BRUTE_X86_NESTED ||
	    shape->architecture == BRUTE_X86_PAE || shape->architecture == BRUTE_EPT)
		bits = 52;
	if (shape->architecture == BRUTE_ARM64_STAGE1 || shape->architecture == BRUTE_ARM64_STAGE2)
		bits = 48;
	if (address >> (bits - 1) & 1)
		address |= UINT64_MAX << bits;
	return (uint64_t *)(window_base + (uintptr_t)address);
}

static struct brute_leaf walk(const struct brute_shape *shape, uint64_t *table,
			      uintptr_t window_base, uint64_t gpa)
{
	struct brute_leaf leaf = {.found = false};
	bool write = true, execute = true, user = true;
	uint64_t left = gpa;

	if (gpa >> shape->input_bits)
		return leaf;
	for (int i = (int)shape->levels - 1; i >= 0; i--) {
		uint64_t reach = UINT64_C(1) << brute_shift(shape, (unsigned)i);
		uint64_t *slot = &table[left / reach];

		leaf = brute_decode(shape, __atomic_load_n(slot, __ATOMIC_ACQUIRE), (unsigned)i);
		leaf.slot = slot;
		left %= reach;
		if (leaf.kind != BRUTE_TABLE)
			break;
		/* x86: every level must allow it. */
		write &= leaf.write;
		execute &= leaf.execute;
		user &= leaf.user;
		table = table_at(shape, window_base, leaf.address);
	}
	if (leaf.kind != BRUTE_LEAF)
		return leaf;
	leaf.write &= write;
	leaf.execute &= execute;
	leaf.user &= user;
	/* An entry of a NAPOT group gives the group's address, any other one its own. */
	if (leaf.contiguous && (shape->architecture == BRUTE_RISCV_FIRST ||
				shape->architecture == BRUTE_RISCV_SECOND))
		left = gpa % leaf.size;
	leaf.address += left;
	return leaf;
}

struct brute_leaf brute_walk(const struct vd_mmu_format *format, void *root, uintptr_t window_base,
			     uint64_t gpa)
{
	struct brute_shape shape = brute_shape(format);

	return walk(&shape, root, window_base, gpa);
}

/* "Translation using the ... granule": the level at which a walk of stage 1 starts. */
static unsigned stage1_start(unsigned granule, unsigned t0sz)
{
	switch (granule) {
	case 12:
		return t0sz <= 24 ? 0 : t0sz <= 33 ? 1 : 2;
	case 14:
		return t0sz <= 16 ? 0 : t0sz <= 27 ? 1 : t0sz <= 38 ? 2 : 3;
	default:
		return t0sz <= 21 ? 1 : t0sz <= 34 ? 2 : 3;
	}
}

/* VTCR_EL2.SL0. */
static unsigned stage2_start(unsigned granule, unsigned sl0)
{
	if (sl0 > 2)
		abort();
	return (granule == 12 ? 2 : 3) - sl0;
}

struct brute_leaf brute_walk_arm64(uint64_t control, bool stage1, void *root, uintptr_t window_base,
				   uint64_t gpa)
{
	static const unsigned granules[] = {12, 16, 14, 0};
	unsigned granule = granules[control >> 14 & 3];
	unsigned t0sz = control & 0x3f;
	unsigned start = stage1 ? stage1_start(granule, t0sz)
				: stage2_start(granule, control >> 6 & 3);
	struct brute_shape shape = {stage1 ? BRUTE_ARM64_STAGE1 : BRUTE_ARM64_STAGE2, 4 - start,
				    granule, 64 - t0sz};
	unsigned root_bits = shape.input_bits - brute_shift(&shape, shape.levels - 1);

	/* "Concatenated translation tables": at most 16 of them, and only in stage 2. */
	if (!granule || root_bits > granule - 3 + (stage1 ? 0 : 4))
		abort();
	return walk(&shape, root, window_base, gpa);
}

struct brute_leaf brute_entry(const struct vd_mmu_format *format, uint64_t entry, unsigned level)
{
	struct brute_shape shape = brute_shape(format);

	return brute_decode(&shape, entry, level);
}
