/* SPDX-License-Identifier: BSD-2-Clause */
/* What people and tests look at: counters, and the leaves one by one. */
#include "mmu/state.h"

static uint64_t counter(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

void vd_mmu_stats(const struct vd_mmu *mmu, struct vd_mmu_stats *stats)
{
	const struct vd_mmu_counters *counters = &mmu->counters;
	uint64_t mapped = 0;

	for (unsigned level = 0; level < mmu->format->levels; level++)
		mapped += counter(&counters->leaves[level]) << mmu->format->shift[level];
	*stats = (struct vd_mmu_stats){
		.faults_ram = counter(&counters->faults_ram),
		.faults_device = counter(&counters->faults_device),
		.faults_spurious = counter(&counters->faults_spurious),
		.faults_protection = counter(&counters->faults_protection),
		.retries = counter(&counters->retries),
		.zaps = counter(&counters->zaps),
		.flushes = counter(&counters->flushes),
		.table_pages = counter(&counters->table_pages),
		.mapped_bytes = mapped,
		.mapped_4k = counter(&counters->leaves[0]),
		.mapped_2m = counter(&counters->leaves[1]),
		.mapped_1g = counter(&counters->leaves[2]),
		.device_pages = counter(&counters->device_bytes) >> mmu->format->shift[0],
	};
}

struct each {
	struct vd_mmu_visitor visitor;
	int (*fn)(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf);
	void *context;
};

static int each_visit(struct vd_mmu *mmu, struct vd_mmu_visitor *visitor,
		      const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct each *each = (struct each *)visitor;
	unsigned level = place->table->level;
	struct vd_mmu_leaf leaf;

	(void)moment;
	if (mmu->format->kind(place->entry, level) != VD_MMU_LEAF)
		return 0;
	vd_mmu_format_read(mmu->format, &mmu->top, place->entry, level, place->gpa, &leaf);
	return each->fn(each->context, (vd_gpa){place->gpa}, &leaf);
}

int vd_mmu_each(struct vd_mmu *mmu,
		int (*fn)(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf),
		void *context)
{
	struct each each = {
		.visitor = {.last = UINT64_MAX, .when = VD_MMU_AT_LEAF, .visit = each_visit},
		.fn = fn,
		.context = context,
	};
	int ret;

	mmu->env->lock(mmu->env, &mmu->lock);
	ret = vd_mmu_visit(mmu, &each.visitor);
	mmu->env->unlock(mmu->env, &mmu->lock);
	return ret;
}
