/* SPDX-License-Identifier: BSD-2-Clause */
/* Creation and destruction of the mirror of a guest space, and its table's operations. */
#include "mmu/state.h"

static int config_check(const struct vd_mmu_config *config, struct vd_error *error)
{
	unsigned page_shift;

	if (!config->env || !config->mem || !config->format)
		return vd_error_set(error, -EINVAL,
				    "an MMU needs an environment, a guest space and a format");
	page_shift = vd_mem_page_shift(config->mem);
	if (page_shift < config->format->shift[0])
		return vd_error_set(error, -EINVAL,
				    "pages of 2^%u bytes are smaller than the 2^%u of %s",
				    page_shift, (unsigned)config->format->shift[0],
				    config->format->name);
	return 0;
}

/* What the table's owner was promised, in the types of a guest space. */
static void mmu_flush(void *context, uint64_t start, uint64_t length)
{
	struct vd_mmu *mmu = context;

	mmu->flush(mmu->flush_context, (vd_gpa){start}, length);
}

static int mmu_table(struct vd_mmu *mmu, const struct vd_mmu_config *config, struct vd_error *error)
{
	struct vd_host *host = vd_mem_host(config->mem);
	struct vd_pgtable_config table = {
		.env = config->env,
		.format = config->format,
		.window_base = vd_host_window_base(host),
		.page_shift = vd_host_page_shift(host),
		.flush = config->flush ? mmu_flush : NULL,
		.flush_context = mmu,
	};

	return vd_pgtable_init(&mmu->pt, &table, error);
}

int vd_mmu_create(const struct vd_mmu_config *config, struct vd_mmu **out, struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_mmu *mmu;
	int ret = config_check(config, error);

	if (ret)
		return ret;
	mmu = vd_env_allocate(env, "mmu.create", sizeof(*mmu), _Alignof(struct vd_mmu));
	if (!mmu)
		return vd_error_set(error, -ENOMEM, "no memory for an MMU");
	mmu->env = env;
	mmu->mem = config->mem;
	mmu->notifier = vd_mem_notifier(config->mem);
	mmu->flush = config->flush;
	mmu->flush_context = config->flush_context;
	mmu->listener.ops = &vd_mmu_listener_ops;
	ret = mmu_table(mmu, config, error);
	if (ret) {
		env->release(env, mmu, sizeof(*mmu));
		return ret;
	}
	mmu->pt.share.parallel = true;
	ret = vd_notifier_register(mmu->notifier, &mmu->listener);
	if (ret) {
		vd_pgtable_fini(&mmu->pt);
		env->release(env, mmu, sizeof(*mmu));
		return vd_error_set(error, ret, "the guest space takes no listener any more");
	}
	*out = mmu;
	return 0;
}

void vd_mmu_destroy(struct vd_mmu *mmu)
{
	const struct vd_env *env;

	if (!mmu)
		return;
	env = mmu->env;
	vd_notifier_unregister(mmu->notifier, &mmu->listener);
	vd_mmu_zap(mmu, (vd_gpa){0}, UINT64_MAX);
	vd_pgtable_fini(&mmu->pt);
	env->release(env, mmu, sizeof(*mmu));
}

void *vd_mmu_root(const struct vd_mmu *mmu, size_t *bytes)
{
	return vd_pgtable_root(&mmu->pt, bytes);
}

int vd_mmu_walk(struct vd_mmu *mmu, vd_gpa gpa, unsigned access, struct vd_mmu_leaf *leaf)
{
	return vd_pgtable_walk(&mmu->pt, gpa.value, access, leaf);
}

int vd_mmu_walk_guarded(struct vd_mmu *mmu, vd_gpa gpa, unsigned access, struct vd_mmu_leaf *leaf)
{
	return mmu->pt.format->walk(&mmu->pt.top, gpa.value, access, leaf);
}

void vd_mmu_zap(struct vd_mmu *mmu, vd_gpa start, uint64_t length)
{
	uint64_t zaps;

	if (!length)
		return;
	zaps = vd_mmu_zap_range(&mmu->pt, start.value, length);
	vd_trace(mmu->env, VD_TRACE_ZAP, start.value, length, zaps);
}

void vd_mmu_write_protect(struct vd_mmu *mmu, vd_gpa start, uint64_t length)
{
	vd_pgtable_write_protect(&mmu->pt, start.value, length);
}

bool vd_mmu_clear_young(struct vd_mmu *mmu, vd_gpa start, uint64_t length)
{
	return vd_pgtable_clear_young(&mmu->pt, start.value, length);
}

bool vd_mmu_test_young(struct vd_mmu *mmu, vd_gpa start, uint64_t length)
{
	return vd_pgtable_test_young(&mmu->pt, start.value, length);
}

struct each {
	int (*fn)(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf);
	void *context;
};

static int each_leaf(void *context, uint64_t input, const struct vd_mmu_leaf *leaf)
{
	struct each *each = context;

	return each->fn(each->context, (vd_gpa){input}, leaf);
}

int vd_mmu_each(struct vd_mmu *mmu,
		int (*fn)(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf),
		void *context)
{
	struct each each = {fn, context};

	return vd_pgtable_each(&mmu->pt, each_leaf, &each);
}

int vd_mmu_each_in(struct vd_mmu *mmu, vd_gpa start, uint64_t length,
		   int (*fn)(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf),
		   void *context)
{
	struct each each = {fn, context};

	return vd_pgtable_each_in(&mmu->pt, start.value, length, each_leaf, &each);
}

static uint64_t counter(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

void vd_mmu_stats(const struct vd_mmu *mmu, struct vd_mmu_stats *stats)
{
	struct vd_pgtable_stats table;

	vd_pgtable_stats(&mmu->pt, &table);
	*stats = (struct vd_mmu_stats){
		.zaps = table.zaps,
		.flushes = table.flushes,
		.table_pages = table.table_pages,
		.mapped_bytes = table.mapped_bytes,
		.mapped_4k = table.leaves[0],
		.mapped_2m = table.leaves[1],
		.mapped_1g = table.leaves[2],
		.device_pages = table.device_pages,
	};
	for (unsigned i = 0; i < VD_MMU_STRIPES; i++) {
		const struct vd_mmu_stripe *stripe = &mmu->pt.share.stripes[i];

		stats->faults_ram += counter(&stripe->faults_ram);
		stats->faults_device += counter(&stripe->faults_device);
		stats->faults_spurious += counter(&stripe->faults_spurious);
		stats->faults_protection += counter(&stripe->faults_protection);
		stats->retries += counter(&stripe->retries);
	}
}
