/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Leaves, and the reverse map: from a guest physical page to all entries that map it. Leaves of
 * each size are found by the block they map. Device slots are in it like any other (A5).
 */
#include "mmu/shadow.h"

static uint32_t *rmap_bucket(const struct vd_shadow *shadow, unsigned level, uint64_t gpa)
{
	uint64_t key = (gpa >> shadow->format->shift[level]) + ((uint64_t)level << 58);

	return &shadow->rmap[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & shadow->mask];
}

static void rmap_add(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
		     uint64_t gpa)
{
	uint32_t *bucket = rmap_bucket(shadow, page->role.level, gpa);
	uint32_t id = shadow_id(shadow, page, index);

	page->nodes[index] = (struct shadow_node){gpa, *bucket, SHADOW_NONE};
	if (*bucket != SHADOW_NONE)
		shadow_id_node(shadow, *bucket)->prev = id;
	*bucket = id;
}

static void rmap_remove(struct vd_shadow *shadow, struct shadow_page *page, unsigned index)
{
	struct shadow_node *node = &page->nodes[index];

	if (node->prev == SHADOW_NONE)
		*rmap_bucket(shadow, page->role.level, node->key) = node->next;
	else
		shadow_id_node(shadow, node->prev)->next = node->next;
	if (node->next != SHADOW_NONE)
		shadow_id_node(shadow, node->next)->prev = node->prev;
}

void shadow_leaf_set(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
		     uint64_t gpa, uint64_t entry)
{
	rmap_add(shadow, page, index, gpa);
	page->leaves++;
	shadow->level_leaves[page->role.level]++;
	shadow_count(&shadow->counters.leaves);
	/* Pairs with the acquire in the walk. */
	atomic_store_explicit(&page->entries[index], entry, memory_order_release);
}

void shadow_leaf_clear(struct vd_shadow *shadow, struct shadow_page *page, unsigned index)
{
	uint64_t entry = atomic_exchange_explicit(&page->entries[index], 0, memory_order_acq_rel);
	uint64_t gfn = page->nodes[index].key >> VD_GUEST_PAGE_SHIFT;
	struct vd_mmu_attributes attributes;

	rmap_remove(shadow, page, index);
	page->leaves--;
	shadow->level_leaves[page->role.level]--;
	shadow->owed = true;
	shadow_uncount(&shadow->counters.leaves);
	shadow_count(&shadow->counters.zaps);
	/*
	 * Accessed moves on (A10). Dirty has: the log was marked before the entry became writable,
	 * the guest's own bit was set, and the store itself has marked the host's page.
	 */
	shadow->format->attributes(entry, page->role.level, &attributes);
	if (attributes.accessed)
		shadow->young[gfn % SHADOW_YOUNG] = gfn + 1;
}

void shadow_flush(struct vd_shadow *shadow)
{
	shadow->owed = false;
	shadow_count(&shadow->counters.flushes);
	if (shadow->flush)
		shadow->flush(shadow->flush_context, (vd_gpa){0}, UINT64_MAX);
	shadow->flushed = shadow->detached.first != NULL;
}

struct rmap_search {
	uint64_t first, last;
	bool (*visit)(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
		      void *context);
	void *context;
};

static bool bucket_each(struct vd_shadow *shadow, const struct rmap_search *search, unsigned level,
			uint64_t block)
{
	uint64_t gpa = block << shadow->format->shift[level];
	uint32_t id = *rmap_bucket(shadow, level, gpa);

	while (id != SHADOW_NONE) {
		struct shadow_page *page = shadow_id_page(shadow, id);
		unsigned index = shadow_id_index(shadow, id);
		const struct shadow_node *node = &page->nodes[index];

		id = node->next;
		if (page->role.level == level && node->key == gpa &&
		    search->visit(shadow, page, index, search->context))
			return true;
	}
	return false;
}

/* Leaves of one level, page by page: for ranges that are larger than all that is mapped. */
static bool page_each(struct vd_shadow *shadow, const struct rmap_search *search,
		      struct shadow_page *page)
{
	uint64_t size = vd_mmu_format_size(shadow->format, page->role.level);

	for (unsigned i = 0; page->leaves && i < 1u << shadow->id_shift; i++) {
		uint64_t entry = shadow_load(page, i), gpa = page->nodes[i].key;

		if (!entry || shadow_is_table(shadow, page, entry) ||
		    gpa > search->last || gpa + (size - 1) < search->first)
			continue;
		if (search->visit(shadow, page, i, search->context))
			return true;
	}
	return false;
}

bool shadow_rmap_each(struct vd_shadow *shadow, uint64_t first, uint64_t last,
		      bool (*visit)(struct vd_shadow *shadow, struct shadow_page *page,
				    unsigned index, void *context),
		      void *context)
{
	const struct rmap_search search = {first, last, visit, context};

	for (unsigned level = 0; level < shadow->format->levels; level++) {
		uint64_t low = first >> shadow->format->shift[level];
		uint64_t high = last >> shadow->format->shift[level];

		if (!shadow->level_leaves[level])
			continue;
		if (high - low <= shadow->level_leaves[level]) {
			for (uint64_t block = low; block <= high; block++) {
				if (bucket_each(shadow, &search, level, block))
					return true;
			}
			continue;
		}
		for (struct shadow_page *page = shadow->oldest; page; page = page->newer) {
			if (page->role.level == level && page_each(shadow, &search, page))
				return true;
		}
	}
	return false;
}

bool shadow_rewrite(struct shadow_page *page, unsigned index,
		    uint64_t (*change)(uint64_t entry, unsigned level))
{
	uint64_t old = shadow_load(page, index), new;

	do {
		new = change(old, page->role.level);
		if (new == old)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&page->entries[index], &old, new,
							memory_order_acq_rel,
							memory_order_relaxed));
	return true;
}

static bool protect_visit(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
			  void *context)
{
	struct vd_mmu_attributes attributes;

	(void)context;
	shadow->format->attributes(shadow_load(page, index), page->role.level, &attributes);
	if (!(attributes.access & VD_WRITE))
		return false;
	shadow->owed = true;
	/* A block goes: the pages around stay writable, in smaller pieces. */
	if (page->role.level)
		shadow_clear(shadow, page, index);
	else
		shadow_rewrite(page, index, shadow->format->write_protected);
	return false;
}

void shadow_protect_table(struct vd_shadow *shadow, uint64_t gpa)
{
	uint64_t page = (UINT64_C(1) << VD_GUEST_PAGE_SHIFT) - 1;

	shadow_rmap_each(shadow, gpa & ~page, gpa | page, protect_visit, NULL);
	/* Also for what was zapped before without a flush: it may have been writable. */
	if (shadow->owed)
		shadow_flush(shadow);
}
