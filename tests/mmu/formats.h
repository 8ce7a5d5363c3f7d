/* SPDX-License-Identifier: BSD-2-Clause */
/* Every format there is: what a suite that does not care about bits runs over. */
#ifndef VIADUCT_TESTS_MMU_FORMATS_H
#define VIADUCT_TESTS_MMU_FORMATS_H

#include <stdlib.h>

#include "fake_format.h"

static const struct vd_mmu_format *const test_formats[] = {
	&vd_mmu_format_sv39,
	&vd_mmu_format_sv48,
	&vd_mmu_format_sv57,
	&vd_mmu_format_sv39x4,
	&vd_mmu_format_sv48x4,
	&vd_mmu_format_sv57x4,
	&vd_mmu_format_x86_64,
	&vd_mmu_format_x86_64_la57,
	&vd_mmu_format_npt,
	&vd_mmu_format_npt_la57,
	&vd_mmu_format_pae,
	&vd_mmu_format_ept,
	&vd_mmu_format_arm64_s1_4k,
	&vd_mmu_format_arm64_s1_16k,
	&vd_mmu_format_arm64_s1_64k,
	&vd_mmu_format_arm64_s2_4k,
	&vd_mmu_format_arm64_s2_16k,
	&vd_mmu_format_arm64_s2_64k,
	&fake_format,
	&fake_format_groups,
};

#define TEST_FORMATS (sizeof(test_formats) / sizeof(test_formats[0]))

/* Random operations of a suite, over all its formats: more of them in the nightly run. */
static inline unsigned test_operations(unsigned usual, unsigned nightly)
{
	const char *set = getenv("VIADUCT_NIGHTLY");

	return set && *set == '1' ? nightly : usual;
}

#endif
