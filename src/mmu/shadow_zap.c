/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What takes away by guest physical address: zap, write protection, ageing, and the listener. Each
 * flushes before the lock is dropped, and also if it found nothing but a flush was owed (B7).
 */
#include "mmu/shadow.h"

struct range {
	uint64_t first, last;
};

static struct range range_of(vd_gpa start, uint64_t length)
{
	/* A range that wraps ends at the end. */
	return (struct range){start.value, length - 1 > UINT64_MAX - start.value
						   ? UINT64_MAX
						   : start.value + (length - 1)};
}

static bool zap_visit(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
		      void *context)
{
	(void)context;
	shadow_clear(shadow, page, index);
	return false;
}

static void zap_locked(struct vd_shadow *shadow, struct range range)
{
	shadow_rmap_each(shadow, range.first, range.last, zap_visit, NULL);
	if (shadow->owed)
		shadow_flush(shadow);
}

void vd_shadow_zap(struct vd_shadow *shadow, vd_gpa start, uint64_t length)
{
	uint64_t zaps;

	if (!length)
		return;
	shadow->env->lock(shadow->env, &shadow->lock);
	zaps = atomic_load_explicit(&shadow->counters.zaps, memory_order_relaxed);
	zap_locked(shadow, range_of(start, length));
	zaps = atomic_load_explicit(&shadow->counters.zaps, memory_order_relaxed) - zaps;
	shadow_unlock(shadow);
	vd_trace(shadow->env, VD_TRACE_ZAP, start.value, length, zaps);
}

static bool protect_visit(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
			  void *context)
{
	(void)context;
	if (shadow_rewrite(page, index, shadow->format->write_protected))
		shadow->owed = true;
	return false;
}

void vd_shadow_write_protect(struct vd_shadow *shadow, vd_gpa start, uint64_t length)
{
	struct range range = range_of(start, length);

	if (!length)
		return;
	shadow->env->lock(shadow->env, &shadow->lock);
	shadow_rmap_each(shadow, range.first, range.last, protect_visit, NULL);
	if (shadow->owed)
		shadow_flush(shadow);
	shadow_unlock(shadow);
}

/* ---- ageing --------------------------------------------------------------------------------- */

struct age {
	bool clear, young;
};

static bool age_visit(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
		      void *context)
{
	struct age *age = context;
	struct vd_mmu_attributes attributes;

	shadow->format->attributes(shadow_load(page, index), page->role.level, &attributes);
	if (!attributes.accessed)
		return false;
	age->young = true;
	if (age->clear && shadow_rewrite(page, index, shadow->format->aged))
		shadow->owed = true;
	return !age->clear;
}

/* Pages whose leaves went while they counted as used. */
static void age_remembered(struct vd_shadow *shadow, struct range range, struct age *age)
{
	uint64_t low = range.first >> VD_GUEST_PAGE_SHIFT, high = range.last >> VD_GUEST_PAGE_SHIFT;

	for (uint64_t i = 0; i < SHADOW_YOUNG && i <= high - low; i++) {
		/* All slots of the table, or those the range falls into. */
		uint64_t *slot = &shadow->young[(low + i) % SHADOW_YOUNG];

		if (!*slot || *slot - 1 < low || *slot - 1 > high)
			continue;
		age->young = true;
		if (age->clear)
			*slot = 0;
	}
}

static bool young(struct vd_shadow *shadow, vd_gpa start, uint64_t length, bool clear)
{
	struct range range = range_of(start, length);
	struct age age = {.clear = clear};

	if (!length)
		return false;
	shadow->env->lock(shadow->env, &shadow->lock);
	shadow_rmap_each(shadow, range.first, range.last, age_visit, &age);
	age_remembered(shadow, range, &age);
	if (clear && shadow->owed)
		shadow_flush(shadow);
	shadow_unlock(shadow);
	return age.young;
}

bool vd_shadow_clear_young(struct vd_shadow *shadow, vd_gpa start, uint64_t length)
{
	return young(shadow, start, length, true);
}

bool vd_shadow_test_young(struct vd_shadow *shadow, vd_gpa start, uint64_t length)
{
	return young(shadow, start, length, false);
}

/* ---- the listener --------------------------------------------------------------------------- */

static struct vd_shadow *shadow_of(struct vd_listener *listener)
{
	/* @listener is the first member. */
	return (struct vd_shadow *)listener;
}

/* Whether shadow pages of tables in the range may stay: they were made from the content. */
static bool content_stays(enum vd_invalidate_reason reason)
{
	return reason == VD_INVALIDATE_MOVE || reason == VD_INVALIDATE_PROTECT ||
	       reason == VD_INVALIDATE_WRITE_PROTECT;
}

static void unshadow_range(struct vd_shadow *shadow, struct range range)
{
	struct shadow_page *page = shadow->oldest;

	while (page) {
		uint64_t base = page->role.base & ~((UINT64_C(1) << VD_GUEST_PAGE_SHIFT) - 1);
		struct shadow_page *next = page->newer;

		if (!page->role.direct && !page->role.above && base <= range.last &&
		    base + ((UINT64_C(1) << VD_GUEST_PAGE_SHIFT) - 1) >= range.first)
			shadow_page_drop(shadow, page);
		page = next;
	}
}

/* Never -EAGAIN: the lock is held for no longer than a zap or a flush takes. */
static int shadow_invalidate_start(struct vd_listener *listener,
				   const struct vd_invalidation *event)
{
	struct vd_shadow *shadow = shadow_of(listener);
	vd_gpa start = {event->start};

	if (event->reason == VD_INVALIDATE_WRITE_PROTECT) {
		vd_shadow_write_protect(shadow, start, event->length);
		return 0;
	}
	if (!content_stays(event->reason)) {
		shadow->env->lock(shadow->env, &shadow->lock);
		unshadow_range(shadow, range_of(start, event->length));
		shadow_unlock(shadow);
	}
	vd_shadow_zap(shadow, start, event->length);
	return 0;
}

/*
 * Somebody else than a hart stores to tables of the guest, or has: what was made from them is
 * dropped, and they are watched no more, until they are used again.
 */
static void shadow_foreign_store(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct vd_shadow *shadow =
		(void *)((char *)watch - offsetof(struct vd_shadow, watch));
	struct range range = range_of(gpa, length);
	uint64_t page = UINT64_C(1) << VD_GUEST_PAGE_SHIFT;

	shadow->env->lock(shadow->env, &shadow->lock);
	for (uint64_t at = range.first & ~(page - 1); at <= range.last; at += page) {
		if (shadow_is_shadowed(shadow, at))
			shadow_count(&shadow->counters.foreign_writes);
		shadow_unshadow(shadow, at, true);
		vd_mem_watch_clear(&shadow->watch, (vd_gpa){at}, 1);
	}
	shadow_unlock(shadow);
}

const struct vd_mem_watch_ops shadow_watch_ops = {.store = shadow_foreign_store};

static bool shadow_clear_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	return vd_shadow_clear_young(shadow_of(listener), (vd_gpa){range->start}, range->length);
}

static bool shadow_test_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	return vd_shadow_test_young(shadow_of(listener), (vd_gpa){range->start}, range->length);
}

static void shadow_release(struct vd_listener *listener)
{
	struct vd_shadow *shadow = shadow_of(listener);

	shadow->env->lock(shadow->env, &shadow->lock);
	/* Pairs with the acquire in shadow_is_dead(). */
	atomic_store_explicit(&shadow->dead, true, memory_order_release);
	zap_locked(shadow, (struct range){0, UINT64_MAX});
	shadow_unlock(shadow);
}

const struct vd_listener_ops shadow_listener_ops = {
	.invalidate_start = shadow_invalidate_start,
	.clear_young = shadow_clear_young,
	.test_young = shadow_test_young,
	.release = shadow_release,
};
