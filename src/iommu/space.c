/* SPDX-License-Identifier: BSD-2-Clause */
/* Making a DMA address space, and its end. */
#include "iommu/space.h"

#define PIN_LIMIT_MS 10000u
#define BOUNCE_LIMIT (UINT64_C(64) << 20)

static int check_config(const struct vd_dma_config *config, struct vd_error *error)
{
	unsigned host_shift = vd_host_page_shift(config->host);

	if (config->page_shift && (config->page_shift < host_shift || config->page_shift > 30))
		return vd_error_set(error, -EINVAL,
				    "DMA page shift %u: the host's pages need %u to 30",
				    config->page_shift, host_shift);
	if (config->mode != VD_DMA_MEDIATED && config->mode != VD_DMA_ASSIGNED)
		return vd_error_set(error, -EINVAL, "%d is no mode of a DMA address space",
				    (int)config->mode);
	if (config->pin_limit_ms > UINT32_MAX)
		return vd_error_set(error, -EINVAL, "pin limit of %llu ms is absurd",
				    (unsigned long long)config->pin_limit_ms);
	return 0;
}

static void space_free(struct vd_dma_space *space)
{
	const struct vd_env *env = space->env;

	vd_pgtable_destroy(space->table);
	iotlb_fini(&space->iotlb);
	env->lock_destroy(env, &space->tracking);
	env->lock_destroy(env, &space->lock);
	env->release(env, space, sizeof(*space));
}

int vd_dma_space_create(const struct vd_dma_config *config, struct vd_dma_space **out,
			struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_dma_space *space;
	int r = check_config(config, error);

	if (r)
		return r;
	space = vd_env_allocate(env, "iommu.create", sizeof(*space), _Alignof(struct vd_dma_space));
	if (!space)
		return vd_error_set(error, -ENOMEM, "no memory for a DMA address space");
	space->env = env;
	space->host = config->host;
	space->window_base = vd_host_window_base(config->host);
	space->ours = vd_host_ours(config->host);
	space->host_page_shift = vd_host_page_shift(config->host);
	space->page_shift = config->page_shift ? config->page_shift : space->host_page_shift;
	space->pin_limit_ns =
		(config->pin_limit_ms ? config->pin_limit_ms : PIN_LIMIT_MS) * UINT64_C(1000000);
	space->bounce_limit = config->bounce_limit ? config->bounce_limit : BOUNCE_LIMIT;
	atomic_init(&space->references, 1);
	space->maps.env = env;
	space->chain = vd_host_notifier(config->host);
	space->listener.ops = &dma_listener_ops;
	iotlb_init(&space->iotlb, env);
	env->lock_init(env, &space->lock);
	env->lock_init(env, &space->tracking);
	if (config->mode == VD_DMA_ASSIGNED)
		r = dma_assigned_create(space, error);
	if (!r && vd_notifier_register(space->chain, &space->listener))
		r = vd_error_set(error, -ESHUTDOWN, "the host's memory has been released");
	if (r) {
		space_free(space);
		return r;
	}
	*out = space;
	return 0;
}

struct vd_dma_space *vd_dma_space_get(struct vd_dma_space *space)
{
	atomic_fetch_add_explicit(&space->references, 1, memory_order_relaxed);
	return space;
}

void vd_dma_space_put(struct vd_dma_space *space)
{
	/* acq_rel: the last one sees what all others did before they let go */
	if (atomic_fetch_sub_explicit(&space->references, 1, memory_order_acq_rel) != 1)
		return;
	dma_dirty_end(space);
	space_free(space);
}

int vd_dma_follow(struct vd_dma_space *space, struct vd_mem *mem, struct vd_error *error)
{
	int r;

	if (vd_mem_host(mem) != space->host)
		return vd_error_set(error, -EXDEV, "the guest's memory belongs to another host");
	if (space->mem || space->maps.count)
		return vd_error_set(error, -EBUSY, "this DMA address space is in use already");
	vd_notifier_unregister(space->chain, &space->listener);
	space->mem = mem;
	space->chain = vd_mem_notifier(mem);
	r = vd_notifier_register(space->chain, &space->listener);
	if (!r)
		return 0;
	space->mem = NULL;
	space->chain = vd_host_notifier(space->host);
	if (vd_notifier_register(space->chain, &space->listener)) {
		atomic_store_explicit(&space->closed, true, memory_order_release);
		space->released = true;
	}
	return vd_error_set(error, r, "the guest's memory has been released");
}

/* ---- the end -------------------------------------------------------------------------------- */

void dma_forget(struct vd_dma_space *space)
{
	if (space->table)
		dma_assigned_zap(space, 0, UINT64_MAX);
	else
		iotlb_flush_all(&space->iotlb);
}

/* Nothing is reachable any more, and nothing is held. Return: -EBUSY if it is, past the limit. */
static int close_space(struct vd_dma_space *space, struct dma_map **list, bool *listens)
{
	struct dma_change all = {.last = UINT64_MAX, .blockable = true};
	int r;

	dma_lock(space);
	/* Release pairs with the acquire in dma_resolve(). */
	atomic_store_explicit(&space->closed, true, memory_order_release);
	dma_forget(space);
	dma_discards_wait(space, 0, UINT64_MAX);
	r = dma_pins_drain(space, &all);
	if (!r)
		r = dma_remote_wait(space, 0, UINT64_MAX);
	if (!r) {
		*list = dma_take_range(space, 0, UINT64_MAX);
		while (space->chain_sleepers)
			dma_sleep(space, 0);
	}
	*listens = !space->released;
	dma_unlock(space);
	return r;
}

void vd_dma_space_destroy(struct vd_dma_space *space)
{
	struct dma_map *list = NULL;
	bool listens;

	if (!space)
		return;
	if (close_space(space, &list, &listens)) {
		/* A device may write there any time: space and memory stay as they are. */
		if (space->env->log)
			space->env->log(space->env, VD_LOG_ERROR,
					"DMA: a device does not let go; its memory is lost");
		return;
	}
	if (listens)
		vd_notifier_unregister(space->chain, &space->listener);
	/* Sections that began before may still ask the chain, which may go after this. */
	space->env->synchronize(space->env);
	dma_lock(space);
	space->released = true;
	dma_unlock(space);
	dma_free_maps(space, list);
	vd_dma_space_put(space);
}

static int count_memory(void *context, const struct vd_slot *slot)
{
	uint64_t *count = context;

	*count += slot->config.kind != VD_SLOT_TRAP;
	return 0;
}

void vd_dma_stats(const struct vd_dma_space *space, struct vd_dma_stats *stats)
{
	struct vd_dma_space *locked = (struct vd_dma_space *)space;

	*stats = (struct vd_dma_stats){
		.faults = atomic_load_explicit(&space->faults, memory_order_relaxed),
		.io_faults = atomic_load_explicit(&space->io_faults, memory_order_relaxed),
		.discarded = atomic_load_explicit(&space->discarded, memory_order_relaxed),
		.remote_calls = atomic_load_explicit(&space->remote_calls, memory_order_relaxed),
		.remote_errors = atomic_load_explicit(&space->remote_errors, memory_order_relaxed),
	};
	for (unsigned i = 0; i < DMA_COUNTERS; i++) {
		const struct dma_counter *c = &space->counters[i];
		uint64_t direct = atomic_load_explicit(&c->direct, memory_order_relaxed);

		stats->translations +=
			direct + atomic_load_explicit(&c->translations, memory_order_relaxed);
		stats->iotlb_hits += direct + atomic_load_explicit(&c->hits, memory_order_relaxed);
		stats->iotlb_misses += atomic_load_explicit(&c->misses, memory_order_relaxed);
	}
	if (space->table) {
		struct vd_pgtable_stats table;

		vd_pgtable_stats(space->table, &table);
		stats->iotlb_invalidations = table.flushes;
		stats->io_mapped_bytes = table.mapped_bytes;
	}
	dma_lock(locked);
	stats->pins = space->pin_count;
	stats->pinned_bytes = space->pinned_bytes;
	stats->bounced_bytes = space->bounced_bytes;
	stats->maps = space->maps.count;
	if (space->mem && !space->released)
		vd_mem_each(space->mem, count_memory, &stats->maps);
	dma_unlock(locked);
}
