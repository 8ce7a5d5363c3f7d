/* SPDX-License-Identifier: BSD-2-Clause */
/* Creation and destruction, roots, and what people and tests look at. */
#include "mmu/shadow.h"

#define PAGES_DEFAULT 1024u
#define PAGES_MAX (1u << 20)
#define BUCKETS_A_PAGE 16u

static int config_check(const struct vd_shadow_config *config, struct vd_error *error)
{
	if (!config->env || !config->mem || !config->format)
		return vd_error_set(error, -EINVAL, "a shadow needs an environment, a guest space "
				    "and a format");
	if (!(config->format->flags & VD_MMU_FORMAT_STAGE1) ||
	    config->format->shift[0] != VD_GUEST_PAGE_SHIFT)
		return vd_error_set(error, -EINVAL, "%s is no first-stage format of 4 KiB pages",
				    config->format->name);
	if (config->pages && (config->pages < VD_SHADOW_PAGES_MIN || config->pages > PAGES_MAX))
		return vd_error_set(error, -EINVAL, "a shadow can have %u to %u pages",
				    VD_SHADOW_PAGES_MIN, PAGES_MAX);
	return 0;
}

static size_t numbered_bytes(const struct vd_shadow *shadow)
{
	return shadow->budget * sizeof(shadow->numbered[0]);
}

static size_t free_bytes(const struct vd_shadow *shadow)
{
	return shadow->budget * sizeof(shadow->free_numbers[0]);
}

static size_t hash_bytes(const struct vd_shadow *shadow)
{
	return ((size_t)shadow->mask + 1) * sizeof(shadow->hash[0]);
}

static size_t rmap_bytes(const struct vd_shadow *shadow)
{
	return ((size_t)shadow->mask + 1) * sizeof(shadow->rmap[0]);
}

static void free_arrays(struct vd_shadow *shadow)
{
	const struct vd_env *env = shadow->env;

	env->release(env, shadow->numbered, numbered_bytes(shadow));
	env->release(env, shadow->free_numbers, free_bytes(shadow));
	env->release(env, shadow->hash, hash_bytes(shadow));
	env->release(env, shadow->rmap, rmap_bytes(shadow));
	env->release(env, shadow->young, SHADOW_YOUNG * sizeof(shadow->young[0]));
	env->release(env, shadow, sizeof(*shadow));
}

static int create_arrays(struct vd_shadow *shadow)
{
	const struct vd_env *env = shadow->env;

	shadow->mask = 1;
	while (shadow->mask < shadow->budget * BUCKETS_A_PAGE - 1)
		shadow->mask = shadow->mask << 1 | 1;
	shadow->numbered = vd_env_allocate(env, "shadow.numbers", numbered_bytes(shadow), 8);
	shadow->free_numbers = vd_env_allocate(env, "shadow.free", free_bytes(shadow), 8);
	shadow->hash = vd_env_allocate(env, "shadow.hash", hash_bytes(shadow), 64);
	shadow->rmap = vd_env_allocate(env, "shadow.rmap", rmap_bytes(shadow), 64);
	shadow->young = vd_env_allocate(env, "shadow.young",
					SHADOW_YOUNG * sizeof(shadow->young[0]), 64);
	if (!shadow->numbered || !shadow->free_numbers || !shadow->hash || !shadow->rmap ||
	    !shadow->young)
		return -ENOMEM;
	for (uint32_t i = 0; i < shadow->budget; i++)
		shadow->free_numbers[shadow->free_count++] = shadow->budget - 1 - i;
	for (size_t i = 0; i <= shadow->mask; i++)
		shadow->rmap[i] = SHADOW_NONE;
	return 0;
}

static void shadow_init(struct vd_shadow *shadow, const struct vd_shadow_config *config)
{
	shadow->env = config->env;
	shadow->mem = config->mem;
	shadow->notifier = vd_mem_notifier(config->mem);
	shadow->format = config->format;
	shadow->flush = config->flush;
	shadow->flush_context = config->flush_context;
	shadow->budget = config->pages ? config->pages : PAGES_DEFAULT;
	shadow->top = (struct vd_mmu_top){
		.window_base = vd_host_window_base(vd_mem_host(config->mem)),
		.page_shift = vd_host_page_shift(vd_mem_host(config->mem)),
	};
	for (unsigned level = 0; level < config->format->levels; level++) {
		if (config->format->bits[level] > shadow->id_shift)
			shadow->id_shift = config->format->bits[level];
	}
	shadow->listener.ops = &shadow_listener_ops;
	shadow->watch.ops = &shadow_watch_ops;
}

int vd_shadow_create(const struct vd_shadow_config *config, struct vd_shadow **result,
		     struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_shadow *shadow;
	int ret = config_check(config, error);

	if (ret)
		return ret;
	shadow = vd_env_allocate(env, "shadow.create", sizeof(*shadow),
				 _Alignof(struct vd_shadow));
	if (!shadow)
		return vd_error_set(error, -ENOMEM, "no memory for a shadow");
	shadow_init(shadow, config);
	ret = create_arrays(shadow);
	if (ret) {
		free_arrays(shadow);
		return vd_error_set(error, ret, "no memory for a shadow of %u pages",
				    config->pages);
	}
	env->lock_init(env, &shadow->lock);
	ret = vd_mem_watch_add(shadow->mem, &shadow->watch);
	if (!ret) {
		ret = vd_notifier_register(shadow->notifier, &shadow->listener);
		if (ret)
			vd_mem_watch_remove(&shadow->watch);
	}
	if (ret) {
		env->lock_destroy(env, &shadow->lock);
		free_arrays(shadow);
		return vd_error_set(error, ret, "the guest space takes no shadow now");
	}
	*result = shadow;
	return 0;
}

void vd_shadow_destroy(struct vd_shadow *shadow)
{
	struct shadow_page *page;

	if (!shadow)
		return;
	vd_notifier_unregister(shadow->notifier, &shadow->listener);
	shadow->env->lock(shadow->env, &shadow->lock);
	while (shadow->oldest)
		shadow_page_drop(shadow, shadow->oldest);
	shadow_flush(shadow);
	shadow_unlock(shadow);
	vd_mem_watch_remove(&shadow->watch);
	while ((page = shadow->spares.first)) {
		shadow->spares.first = page->next;
		shadow_page_free(shadow, page);
	}
	shadow->env->lock_destroy(shadow->env, &shadow->lock);
	free_arrays(shadow);
}

/* ---- roots ---------------------------------------------------------------------------------- */

/* Each level of the shadow that mirrors one of the guest's stands right above the next one. */
static bool format_fits(const struct vd_shadow *shadow, const struct vd_guest_format *format)
{
	unsigned bits = format->input_bits;

	if (!format->levels)
		return true;
	if (bits > shadow->format->input_bits || shadow_guest_level(shadow, format, 0) != 0)
		return false;
	for (unsigned level = 1; level < shadow->format->levels; level++) {
		int above = shadow_guest_level(shadow, format, level);
		int below = shadow_guest_level(shadow, format, level - 1);

		if (above > 0 && below != above - 1)
			return false;
		if (above < 0 && below >= 0 && below != (int)format->levels - 1)
			return false;
	}
	return true;
}

static struct shadow_role root_role(const struct vd_shadow *shadow,
				    const struct vd_guest_format *format, uint64_t table)
{
	unsigned level = shadow->format->levels - 1;
	struct shadow_role role = {.format = format, .level = (uint8_t)level,
				   .access = VD_GUEST_ACCESS_ALL};
	int guest_level = shadow_guest_level(shadow, format, level);

	if (!format->levels) {
		role.direct = true;
		return role;
	}
	role.base = table & format->address_mask;
	role.above = guest_level < 0;
	role.guest_level = guest_level < 0 ? 0 : (uint8_t)guest_level;
	return role;
}

int vd_shadow_root_get(struct vd_shadow *shadow, const struct vd_guest_format *format,
		       vd_gpa table, struct vd_shadow_root **root)
{
	const struct shadow_role role = root_role(shadow, format, table.value);
	struct shadow_page *page;
	int ret = 0;

	if (!format_fits(shadow, format))
		return -EINVAL;
	do {
		if (shadow_spares_fill(shadow))
			return -ENOMEM;
		shadow->env->lock(shadow->env, &shadow->lock);
		page = shadow_page_find(shadow, &role);
		if (shadow_is_dead(shadow))
			ret = -ESHUTDOWN;
		else if (!page && (ret = shadow_make_room(shadow, shadow->format->levels + 1)) == 0)
			page = shadow_page_make(shadow, &role);
		if (!ret && page) {
			page->uses++;
			shadow_page_touch(shadow, page);
		}
		shadow_unlock(shadow);
	} while (!ret && !page);
	if (!ret)
		*root = (struct vd_shadow_root *)page;
	return ret;
}

void vd_shadow_root_put(struct vd_shadow *shadow, struct vd_shadow_root *root)
{
	struct shadow_page *page = &root->page;

	shadow->env->lock(shadow->env, &shadow->lock);
	if (!--page->uses && page->stale)
		shadow_page_detach(shadow, page);
	shadow_unlock(shadow);
}

void *vd_shadow_root_entries(const struct vd_shadow_root *root)
{
	return root->page.entries;
}

/* ---- looking -------------------------------------------------------------------------------- */

int vd_shadow_each(struct vd_shadow *shadow,
		   int (*fn)(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf),
		   void *context)
{
	int ret = 0;

	shadow->env->lock(shadow->env, &shadow->lock);
	for (struct shadow_page *page = shadow->oldest; page && !ret; page = page->newer) {
		for (unsigned i = 0; page->leaves && i < 1u << shadow->id_shift && !ret; i++) {
			uint64_t entry = shadow_load(page, i);
			struct vd_mmu_leaf leaf;

			if (!entry || shadow_is_table(shadow, page, entry))
				continue;
			vd_mmu_format_read(shadow->format, &shadow->top, entry, page->role.level,
					   0, &leaf);
			ret = fn(context, (vd_gpa){page->nodes[i].key}, &leaf);
		}
	}
	shadow_unlock(shadow);
	return ret;
}

static uint64_t counter(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

void vd_shadow_stats(const struct vd_shadow *shadow, struct vd_shadow_stats *stats)
{
	const struct shadow_counters *counters = &shadow->counters;

	*stats = (struct vd_shadow_stats){
		.faults = counter(&counters->faults),
		.faults_spurious = counter(&counters->faults_spurious),
		.guest_faults = counter(&counters->guest_faults),
		.retries = counter(&counters->retries),
		.pages = counter(&counters->pages),
		.pages_made = counter(&counters->pages_made),
		.leaves = counter(&counters->leaves),
		.prefills = counter(&counters->prefills),
		.writes = counter(&counters->writes),
		.zaps = counter(&counters->zaps),
		.flushes = counter(&counters->flushes),
		.floods = counter(&counters->floods),
		.foreign_writes = counter(&counters->foreign_writes),
		.recycled = counter(&counters->recycled),
	};
}
