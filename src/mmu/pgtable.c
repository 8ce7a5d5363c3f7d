/* SPDX-License-Identifier: BSD-2-Clause */
/* A page table by itself: creation, destruction, walks and what is counted. */
#include "mmu/pgtable.h"

static int config_check(const struct vd_pgtable_config *config, struct vd_error *error)
{
	const struct vd_mmu_format *format = config->format;
	uint64_t granule;

	if (!config->env || !format)
		return vd_error_set(error, -EINVAL,
				    "a page table needs an environment and a format");
	granule = vd_mmu_format_size(format, 0);
	if (config->window_base & (granule - 1))
		return vd_error_set(error, -EINVAL,
				    "the window does not start at a multiple of %llu KiB, the "
				    "granule of %s",
				    (unsigned long long)granule >> 10, format->name);
	if (config->page_shift >= format->input_bits)
		return vd_error_set(error, -EINVAL, "pages of 2^%u bytes are beyond %s",
				    config->page_shift, format->name);
	return 0;
}

int vd_pgtable_init(struct vd_pgtable *pt, const struct vd_pgtable_config *config,
		    struct vd_error *error)
{
	const struct vd_env *env = config->env;
	int ret = config_check(config, error);

	if (ret)
		return ret;
	pt->root = vd_mmu_table_create(env, config->format, config->format->levels - 1);
	if (!pt->root)
		return vd_error_set(error, -ENOMEM, "no memory for the root table of %s",
				    config->format->name);
	pt->env = env;
	pt->format = config->format;
	pt->flush = config->flush;
	pt->flush_context = config->flush_context;
	pt->top = (struct vd_mmu_top){
		.format = config->format,
		.entries = pt->root->entries,
		.window_base = config->window_base,
		.page_shift = config->page_shift,
	};
	vd_mmu_count(&vd_mmu_counters(pt)->table_pages, 1);
	return 0;
}

void vd_pgtable_fini(struct vd_pgtable *pt)
{
	vd_mmu_table_destroy(pt->root);
}

int vd_pgtable_create(const struct vd_pgtable_config *config, struct vd_pgtable **table,
		      struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_pgtable *pt;
	int ret = config_check(config, error);

	if (ret)
		return ret;
	pt = vd_env_allocate(env, "mmu.pgtable", sizeof(*pt), _Alignof(struct vd_pgtable));
	if (!pt)
		return vd_error_set(error, -ENOMEM, "no memory for a page table");
	ret = vd_pgtable_init(pt, config, error);
	if (ret) {
		env->release(env, pt, sizeof(*pt));
		return ret;
	}
	*table = pt;
	return 0;
}

void vd_pgtable_destroy(struct vd_pgtable *table)
{
	const struct vd_env *env;

	if (!table)
		return;
	env = table->env;
	vd_mmu_zap_range(table, 0, UINT64_MAX);
	vd_pgtable_fini(table);
	env->release(env, table, sizeof(*table));
}

void *vd_pgtable_root(const struct vd_pgtable *table, size_t *bytes)
{
	*bytes = table->root->count * sizeof(vd_mmu_entry);
	return table->root->entries;
}

int vd_pgtable_walk(struct vd_pgtable *table, uint64_t input, unsigned access,
		    struct vd_mmu_leaf *leaf)
{
	const struct vd_env *env = table->env;
	int ret;

	env->read_enter(env);
	ret = table->format->walk(&table->top, input, access, leaf);
	env->read_leave(env);
	return ret;
}

int vd_pgtable_walk_guarded(struct vd_pgtable *table, uint64_t input, unsigned access,
			    struct vd_mmu_leaf *leaf)
{
	return table->format->walk(&table->top, input, access, leaf);
}

static uint64_t counter(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

void vd_pgtable_stats(const struct vd_pgtable *table, struct vd_pgtable_stats *stats)
{
	uint64_t device_bytes = 0;

	*stats = (struct vd_pgtable_stats){
		.zaps = counter(&table->zaps),
		.flushes = counter(&table->flushes),
	};
	for (unsigned i = 0; i < VD_MMU_STRIPES; i++) {
		const struct vd_mmu_stripe *stripe = &table->share.stripes[i];

		stats->table_pages += counter(&stripe->table_pages);
		device_bytes += counter(&stripe->device_bytes);
		for (unsigned level = 0; level < table->format->levels; level++)
			stats->leaves[level] += counter(&stripe->leaves[level]);
	}
	stats->device_pages = device_bytes >> table->format->shift[0];
	for (unsigned level = 0; level < table->format->levels; level++)
		stats->mapped_bytes += stats->leaves[level] << table->format->shift[level];
}

struct each {
	struct vd_mmu_visitor visitor;
	int (*fn)(void *context, uint64_t input, const struct vd_mmu_leaf *leaf);
	void *context;
};

/* Groups are reported once, as the one translation they are. */
static int each_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		      const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct each *each = (struct each *)visitor;
	unsigned level = place->table->level, count;
	struct vd_mmu_place first = *place;
	struct vd_mmu_leaf leaf, other;

	(void)moment;
	if (pt->format->kind(place->entry, level) != VD_MMU_LEAF)
		return 0;
	vd_mmu_format_read(pt->format, &pt->top, place->entry, level, place->gpa, &leaf);
	if (!vd_mmu_is_marked(pt, place->entry, level))
		return each->fn(each->context, place->gpa, &leaf);
	first = vd_mmu_group_first(pt, place, &count);
	if (first.index != place->index)
		return 0;
	for (unsigned i = 1; i < count; i++) {
		uint64_t entry = atomic_load_explicit(&place->table->entries[place->index + i],
						      memory_order_relaxed);

		vd_mmu_format_read(pt->format, &pt->top, entry, level, place->gpa, &other);
		leaf.accessed |= other.accessed;
		leaf.dirty |= other.dirty;
	}
	return each->fn(each->context, place->gpa, &leaf);
}

int vd_pgtable_each_in(struct vd_pgtable *table, uint64_t start, uint64_t length,
		       int (*fn)(void *context, uint64_t input, const struct vd_mmu_leaf *leaf),
		       void *context)
{
	struct each each = {
		.visitor = {.first = start,
			    .last = length - 1 > UINT64_MAX - start ? UINT64_MAX
								    : start + (length - 1),
			    .when = VD_MMU_AT_LEAF, .visit = each_visit},
		.fn = fn,
		.context = context,
	};
	int ret;

	if (!length)
		return 0;
	vd_pgtable_lock(table);
	ret = vd_mmu_visit(table, &each.visitor);
	vd_pgtable_unlock(table);
	return ret;
}

int vd_pgtable_each(struct vd_pgtable *table,
		    int (*fn)(void *context, uint64_t input, const struct vd_mmu_leaf *leaf),
		    void *context)
{
	return vd_pgtable_each_in(table, 0, UINT64_MAX, fn, context);
}
