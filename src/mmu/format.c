/* SPDX-License-Identifier: BSD-2-Clause */
/* Formats made at run time from others. */
#include "mmu/format.h"

size_t vd_mmu_format_bytes(void)
{
	return sizeof(struct vd_mmu_format);
}

void vd_mmu_format_unmarked(struct vd_mmu_format *format, const struct vd_mmu_format *from)
{
	*format = *from;
	for (unsigned level = 0; level < VD_MMU_LEVELS_MAX; level++)
		format->contiguous[level] = 0;
}
