/* SPDX-License-Identifier: BSD-2-Clause */
/* The dirty log: one bit a page of a RAM slot, set by whoever stores, taken by a fetch. */
#include "mem/space.h"

static struct vd_mem_dirty *dirty_create(struct vd_mem *mem, uint64_t pages, uint32_t slot_id)
{
	const struct vd_env *env = mem->env;
	size_t bytes = sizeof(struct vd_mem_dirty) + (size_t)((pages + 63) / 64) * sizeof(uint64_t);
	struct vd_mem_dirty *dirty =
		vd_env_allocate(env, "mem.dirty", bytes, _Alignof(struct vd_mem_dirty));

	if (!dirty)
		return NULL;
	dirty->env = env;
	dirty->mem = mem;
	dirty->bytes = bytes;
	dirty->pages = pages;
	dirty->page_shift = mem->page_shift;
	dirty->slot_id = slot_id;
	return dirty;
}

void vd_dirty_free(const struct vd_env *env, struct vd_mem_dirty *dirty)
{
	if (dirty)
		env->release(env, dirty, dirty->bytes);
}

static void free_deferred(struct vd_deferred *item)
{
	struct vd_mem_dirty *dirty = (struct vd_mem_dirty *)item;

	vd_dirty_free(dirty->env, dirty);
}

void vd_dirty_mark(struct vd_mem_dirty *dirty, uint64_t offset, uint64_t length)
{
	uint64_t page = offset >> dirty->page_shift;
	uint64_t last = (offset + (length - 1)) >> dirty->page_shift;
	/* Acquire pairs with the release in vd_mem_dirty_ring_create(). In a read section. */
	struct vd_dirty_ring *ring = atomic_load_explicit(&dirty->mem->ring, memory_order_acquire);
	uint64_t old;

	while (page <= last) {
		uint64_t first_bit = page & 63;
		uint64_t left = last - page + 1;
		uint64_t count = left < 64 - first_bit ? left : 64 - first_bit;
		uint64_t mask = (count == 64 ? ~(uint64_t)0 : ((uint64_t)1 << count) - 1)
				<< first_bit;

		/*
		 * Even if the bits are set: the store before must not be overtaken by a fetch that
		 * clears them. Release pairs with the acquire of that fetch.
		 */
		old = atomic_fetch_or_explicit(&dirty->words[page / 64], mask,
					       memory_order_acq_rel);
		if (ring && mask & ~old)
			vd_dirty_ring_add(ring, dirty->slot_id, page & ~UINT64_C(63), mask & ~old);
		page += count;
	}
}

void vd_mem_mark_dirty(struct vd_mem *mem, vd_gpa gpa, uint64_t length)
{
	const struct vd_env *env = mem->env;
	const struct vd_mem_snapshot *snapshot;
	uint64_t last = gpa.value + (length - 1);
	uint32_t i;

	if (!length)
		return;
	if (last < gpa.value)
		last = UINT64_MAX;
	env->read_enter(env);
	snapshot = vd_mem_current(mem);
	for (i = vd_snapshot_first(snapshot, gpa.value);
	     i < snapshot->count && snapshot->starts[i] <= last; i++) {
		uint64_t start = snapshot->starts[i] > gpa.value ? snapshot->starts[i] : gpa.value;
		uint64_t stop = snapshot->entries[i].last < last ? snapshot->entries[i].last : last;
		/* Acquire pairs with the release in vd_mem_dirty_start(). */
		struct vd_mem_dirty *dirty = atomic_load_explicit(
			&snapshot->entries[i].slot->shown.dirty, memory_order_acquire);

		if (dirty)
			vd_dirty_mark(dirty, start - snapshot->starts[i], stop - start + 1);
	}
	env->read_leave(env);
}

/* Runs an event that makes every mirror forget that pages of the slot may be stored to. */
void vd_dirty_protect(struct vd_mem *mem, const struct vd_slot *slot, uint64_t first_page,
		      uint64_t pages)
{
	struct vd_invalidation event = {
		.start = slot->config.base.value + (first_page << mem->page_shift),
		.length = pages << mem->page_shift,
		.blockable = true,
		.reason = VD_INVALIDATE_WRITE_PROTECT,
	};

	vd_mem_run_start(mem, &event);
	vd_notifier_end(&mem->notifier, &event);
}

static int start_locked(struct vd_mem *mem, struct vd_mem_slot *slot)
{
	uint64_t pages;
	struct vd_mem_dirty *dirty;

	if (!slot)
		return -ENOENT;
	if (slot->shown.config.kind != VD_SLOT_RAM)
		return -EINVAL;
	if (atomic_load_explicit(&slot->shown.dirty, memory_order_relaxed))
		return -EALREADY;
	pages = slot->shown.config.size >> mem->page_shift;
	dirty = dirty_create(mem, pages, slot->shown.id);
	if (!dirty)
		return -ENOMEM;
	atomic_store_explicit(&slot->shown.dirty, dirty, memory_order_release);
	vd_dirty_protect(mem, &slot->shown, 0, pages);
	/*
	 * Copies that began before the log was there store without a mark: they belong to before.
	 */
	mem->env->synchronize(mem->env);
	return 0;
}

int vd_mem_dirty_start(struct vd_mem *mem, uint32_t slot_id)
{
	int r;

	mem->env->lock(mem->env, &mem->update_lock);
	r = start_locked(mem, vd_mem_slot_by_id(mem, slot_id));
	mem->env->unlock(mem->env, &mem->update_lock);
	return r;
}

int vd_mem_dirty_stop(struct vd_mem *mem, uint32_t slot_id)
{
	struct vd_mem_dirty *dirty = NULL;
	struct vd_mem_slot *slot;
	int r = -ENOENT;

	mem->env->lock(mem->env, &mem->update_lock);
	slot = vd_mem_slot_by_id(mem, slot_id);
	if (slot) {
		dirty = atomic_exchange_explicit(&slot->shown.dirty, NULL, memory_order_acq_rel);
		r = dirty ? 0 : -ENODATA;
	}
	mem->env->unlock(mem->env, &mem->update_lock);
	if (dirty)
		mem->env->defer(mem->env, &dirty->deferred, free_deferred);
	return r;
}

/* Moves the bits out; [*first, *end) are the pages between the first and the last that were set. */
static void take_bits(struct vd_mem_dirty *dirty, uint8_t *bitmap, uint64_t *first, uint64_t *end)
{
	uint64_t bytes = (dirty->pages + 7) / 8, byte, page;

	*first = *end = 0;
	for (page = 0; page < dirty->pages; page += 64) {
		/*
		 * Acquire pairs with the release in vd_dirty_mark(). Most words are zero: look
		 * first.
		 */
		_Atomic uint64_t *at = &dirty->words[page / 64];
		uint64_t word = atomic_load_explicit(at, memory_order_relaxed);

		if (word)
			word = atomic_exchange_explicit(at, 0, memory_order_acq_rel);
		for (byte = page / 8; byte < bytes && byte < page / 8 + 8; byte++)
			bitmap[byte] = (uint8_t)(word >> (byte * 8 - page));
		if (!word)
			continue;
		if (!*end)
			*first = page + (unsigned)__builtin_ctzll(word);
		*end = page + 64 - (unsigned)__builtin_clzll(word);
	}
}

static int fetch_locked(struct vd_mem *mem, struct vd_mem_slot *slot, uint8_t *bitmap, size_t bytes)
{
	struct vd_mem_dirty *dirty;
	uint64_t first, end;

	if (!slot)
		return -ENOENT;
	dirty = atomic_load_explicit(&slot->shown.dirty, memory_order_relaxed);
	if (!dirty)
		return -ENODATA;
	if (bytes < (dirty->pages + 7) / 8)
		return -ENOSPC;
	take_bits(dirty, bitmap, &first, &end);
	/*
	 * After the bits were taken: a page marked from here on is marked again, or is protected
	 * now and faults at its next store. The other way round a store could go unseen.
	 */
	if (end)
		vd_dirty_protect(mem, &slot->shown, first, end - first);
	return 0;
}

int vd_mem_dirty_fetch(struct vd_mem *mem, uint32_t slot_id, uint8_t *bitmap, size_t bytes)
{
	int r;

	mem->env->lock(mem->env, &mem->update_lock);
	r = fetch_locked(mem, vd_mem_slot_by_id(mem, slot_id), bitmap, bytes);
	mem->env->unlock(mem->env, &mem->update_lock);
	return r;
}
