/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Walkers that share no code with src/mmu: they read the raw tables as the RISC-V Privileged
 * manual ("Virtual Address Translation Process", with the changes of "Guest Physical Address
 * Translation") and fake_format.h describe them, and change nothing.
 */
#ifndef VIADUCT_TESTS_MMU_BRUTE_H
#define VIADUCT_TESTS_MMU_BRUTE_H

#include <stdbool.h>
#include <stdint.h>

#include <viaduct/mmu.h>

/*
 * @found: false if the walk ends in a page fault for any access
 * @malformed: it ended at a valid but reserved encoding
 * @address: distance from the window's base, of the input address
 * @slot: where the leaf, or the entry that is in its place, stands
 */
struct brute_leaf {
	bool found, malformed;
	uint64_t address;
	uint64_t size;
	bool read, write, execute, accessed, dirty;
	unsigned type; /* 0 normal, 1 write-combining, 2 uncached */
	uint64_t *slot;
};

struct brute_leaf brute_walk(const struct vd_mmu_format *format, void *root, uintptr_t window_base,
			     uint64_t gpa);

#endif
