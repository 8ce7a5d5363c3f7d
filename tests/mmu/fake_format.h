/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A format that no hardware has: every entry is rotated by its level and carries it as a check,
 * tables have other sizes than RISC-V's (4 KiB, 1 MiB and 512 MiB leaves). Code that mixes up two
 * levels, or assumes nine bits or 2 MiB anywhere, fails with it. The second one also has groups of
 * 8 leaves of 4 KiB and of 4 leaves of 1 MiB, and wants break-before-make.
 */
#ifndef VIADUCT_TESTS_MMU_FAKE_FORMAT_H
#define VIADUCT_TESTS_MMU_FAKE_FORMAT_H

#include <viaduct/mmu.h>

extern const struct vd_mmu_format fake_format;
extern const struct vd_mmu_format fake_format_groups;

#endif
