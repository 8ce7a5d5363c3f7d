/* SPDX-License-Identifier: BSD-2-Clause */
/* Creation and destruction. */
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
	mmu->root = vd_mmu_table_create(env, config->format, config->format->levels - 1);
	if (!mmu->root) {
		env->release(env, mmu, sizeof(*mmu));
		return vd_error_set(error, -ENOMEM, "no memory for the root table of %s",
				    config->format->name);
	}
	mmu->env = env;
	mmu->mem = config->mem;
	mmu->notifier = vd_mem_notifier(config->mem);
	mmu->format = config->format;
	mmu->flush = config->flush;
	mmu->flush_context = config->flush_context;
	mmu->top = (struct vd_mmu_top){
		.format = config->format,
		.entries = mmu->root->entries,
		.window_base = vd_host_window_base(vd_mem_host(config->mem)),
		.page_shift = vd_host_page_shift(vd_mem_host(config->mem)),
	};
	mmu->listener.ops = &vd_mmu_listener_ops;
	env->lock_init(env, &mmu->lock);
	vd_mmu_count(&mmu->counters.table_pages, 1);
	ret = vd_notifier_register(mmu->notifier, &mmu->listener);
	if (ret) {
		env->lock_destroy(env, &mmu->lock);
		vd_mmu_table_destroy(mmu->root);
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
	env->lock_destroy(env, &mmu->lock);
	vd_mmu_table_destroy(mmu->root);
	env->release(env, mmu, sizeof(*mmu));
}

void *vd_mmu_root(const struct vd_mmu *mmu, size_t *bytes)
{
	*bytes = mmu->root->count * sizeof(vd_mmu_entry);
	return mmu->root->entries;
}
