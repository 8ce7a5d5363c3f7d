/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest page tables as the tests know them: entries are made and walked here from the manuals'
 * bits, with nothing of the library's.
 */
#ifndef VIADUCT_TESTS_MMU_SHADOW_GUEST_H
#define VIADUCT_TESTS_MMU_SHADOW_GUEST_H

#include <viaduct/shadow.h>

#include "mmu/guest_format.h"

enum { GUEST_A = 1, GUEST_D = 2 }; /* of guest_leaf() */

/* @leaf_levels: levels that can have leaves; @format: for shape and name only */
struct guest_kind {
	const struct vd_guest_format *format;
	bool riscv;
	unsigned leaf_levels;
};

extern const struct guest_kind guest_kinds[];
extern const unsigned guest_kind_count;

uint64_t guest_table(const struct guest_kind *kind, uint64_t address, unsigned level);
/* @access: VD_READ, VD_WRITE, VD_EXECUTE, VD_SHADOW_USER; @bits: GUEST_A, GUEST_D */
uint64_t guest_leaf(const struct guest_kind *kind, uint64_t address, unsigned access,
		    unsigned bits, unsigned level);

struct guest_found {
	int result; /* 0, or the error of vd_shadow_fault() */
	uint64_t gpa, size;
	unsigned levels; /* entries read, from the root down */
	unsigned top;	 /* level of the first */
	uint64_t entry_gpa[5], before[5], after[5];
	bool dirty;
};

/* The guest's processor does one access. @read: NULL where no table can be. */
void guest_walk_plain(const struct guest_kind *kind, uint64_t root, uint64_t gva, unsigned access,
		      int (*read)(void *context, uint64_t gpa, unsigned bytes, uint64_t *value),
		      void *context, struct guest_found *found);

#endif
