/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Walkers that share no code with src/mmu: they read the raw tables as the manuals describe them
 * (the sections are named in the files of src/mmu, and fake_format.h is the manual of the fake
 * formats), and change nothing. brute.c goes through tables, brute_entry.c decodes one entry.
 */
#ifndef VIADUCT_TESTS_MMU_BRUTE_H
#define VIADUCT_TESTS_MMU_BRUTE_H

#include <stdbool.h>
#include <stdint.h>

#include <viaduct/mmu.h>

enum brute_kind { BRUTE_ABSENT, BRUTE_TABLE, BRUTE_LEAF, BRUTE_MALFORMED };

/*
 * @found: false if the walk ends in a page fault for any access
 * @malformed: it ended at a valid but reserved encoding
 * @kind: of the entry it ended at; the two above as one
 * @address: distance from the window's base, of the input address
 * @size: of the translation, all of a contiguous group
 * @contiguous: marked as part of one
 * @type: 0 normal, 1 write-combining, 2 uncached
 * @slot: where the leaf, or the entry that is in its place, stands
 */
struct brute_leaf {
	bool found, malformed;
	enum brute_kind kind;
	uint64_t address;
	uint64_t size;
	bool read, write, execute, accessed, dirty;
	bool user, global, device, contiguous;
	unsigned type;
	uint64_t *slot;
};

struct brute_leaf brute_walk(const struct vd_mmu_format *format, void *root, uintptr_t window_base,
			     uint64_t gpa);

/* The same for an arm64 shape, as the fields of VTCR_EL2 or (@stage1) of TCR_EL1 describe it. */
struct brute_leaf brute_walk_arm64(uint64_t control, bool stage1, void *root, uintptr_t window_base,
				   uint64_t gpa);

/*
 * One entry by itself: its kind; of a leaf all that it says, @address being that of the block, or
 * of the table.
 */
struct brute_leaf brute_entry(const struct vd_mmu_format *format, uint64_t entry, unsigned level);

/* Whether the architecture has a leaf that says this. */
bool brute_can(const struct vd_mmu_format *format, const struct vd_mmu_attributes *attributes);

/* ---- between brute.c and brute_entry.c ------------------------------------------------------ */

enum brute_architecture {
	BRUTE_RISCV_FIRST,
	BRUTE_RISCV_SECOND,
	BRUTE_X86,
	BRUTE_X86_NESTED,
	BRUTE_X86_PAE,
	BRUTE_EPT,
	BRUTE_ARM64_STAGE1,
	BRUTE_ARM64_STAGE2,
	BRUTE_FAKE,
};

/* @granule: log2 of the smallest leaf; tables of all but the fake formats are as large as it. */
struct brute_shape {
	enum brute_architecture architecture;
	unsigned levels;
	unsigned granule;
	unsigned input_bits;
};

struct brute_shape brute_shape(const struct vd_mmu_format *format);
unsigned brute_shift(const struct brute_shape *shape, unsigned level);
struct brute_leaf brute_decode(const struct brute_shape *shape, uint64_t entry, unsigned level);

#endif
