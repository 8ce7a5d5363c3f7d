/* SPDX-License-Identifier: BSD-2-Clause */
/* Planted bugs: calls from one file to another that the linker leads through here (--wrap). */
#include "fixture.h"

bool __real_vd_notifier_retry(const struct vd_notifier *notifier, uint64_t seq, uint64_t start,
			      uint64_t length);
bool __wrap_vd_notifier_retry(const struct vd_notifier *notifier, uint64_t seq, uint64_t start,
			      uint64_t length);
void __real_vd_mem_mark_dirty(struct vd_mem *mem, vd_gpa gpa, uint64_t length);
void __wrap_vd_mem_mark_dirty(struct vd_mem *mem, vd_gpa gpa, uint64_t length);

bool __wrap_vd_notifier_retry(const struct vd_notifier *notifier, uint64_t seq, uint64_t start,
			      uint64_t length)
{
	return !plants.no_retry && __real_vd_notifier_retry(notifier, seq, start, length);
}

void __wrap_vd_mem_mark_dirty(struct vd_mem *mem, vd_gpa gpa, uint64_t length)
{
	if (!plants.no_dirty_mark)
		__real_vd_mem_mark_dirty(mem, gpa, length);
}
