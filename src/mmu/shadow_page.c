/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Life of a shadow page: spare, taken with no lock held -> made for a role, linked from parents,
 * used -> dropped, because the guest uses its table otherwise or the budget is spent: nothing
 * leads to it, it leads nowhere -> detached until a flush -> given back after readers have left.
 */
#include "mmu/shadow.h"

#define DETACHED_MAX 64u /* pages that may wait for a flush that somebody needs anyway */

static size_t page_bytes(const struct vd_shadow *shadow)
{
	return shadow_entries_bytes(shadow) + sizeof(struct shadow_page) +
	       (sizeof(struct shadow_node) << shadow->id_shift);
}

static struct shadow_page *page_allocate(struct vd_shadow *shadow)
{
	vd_mmu_entry *entries = vd_env_allocate(shadow->env, "shadow.page", page_bytes(shadow),
						shadow_entries_bytes(shadow));
	struct shadow_page *page;

	if (!entries)
		return NULL;
	page = shadow_page_of(shadow, entries);
	page->entries = entries;
	page->parents = page->written = SHADOW_NONE;
	return page;
}

void shadow_page_free(struct vd_shadow *shadow, struct shadow_page *page)
{
	shadow->env->release(shadow->env, page->entries, page_bytes(shadow));
}

static void spare_add(struct vd_shadow *shadow, struct shadow_page *page)
{
	page->next = shadow->spares.first;
	shadow->spares.first = page;
	atomic_fetch_add_explicit(&shadow->spare_count, 1, memory_order_relaxed);
}

int shadow_spares_fill(struct vd_shadow *shadow)
{
	/* Relaxed: a count that is out of date ends in another attempt. */
	while (atomic_load_explicit(&shadow->spare_count, memory_order_relaxed) <
	       shadow->format->levels) {
		struct shadow_page *page = page_allocate(shadow);

		if (!page)
			return -ENOMEM;
		shadow->env->lock(shadow->env, &shadow->lock);
		spare_add(shadow, page);
		shadow_unlock(shadow);
	}
	return 0;
}

/* ---- found by what they mirror -------------------------------------------------------------- */

static struct shadow_page **hash_bucket(const struct vd_shadow *shadow, uint64_t gpa)
{
	uint64_t key = gpa >> VD_GUEST_PAGE_SHIFT;

	return &shadow->hash[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & shadow->mask];
}

bool shadow_same_role(const struct shadow_role *a, const struct shadow_role *b)
{
	return a->base == b->base && a->format == b->format && a->quadrant == b->quadrant &&
	       a->level == b->level && a->guest_level == b->guest_level && a->access == b->access &&
	       a->direct == b->direct && a->above == b->above;
}

struct shadow_page *shadow_page_find(struct vd_shadow *shadow, const struct shadow_role *role)
{
	struct shadow_page *page = *hash_bucket(shadow, role->base);

	while (page && !shadow_same_role(&page->role, role))
		page = page->hash;
	return page;
}

struct shadow_page *shadow_mirrors(const struct vd_shadow *shadow, uint64_t gpa,
				   const struct shadow_page *after)
{
	uint64_t gfn = gpa >> VD_GUEST_PAGE_SHIFT;
	struct shadow_page *page = after ? after->hash : *hash_bucket(shadow, gpa);

	while (page && (page->role.base >> VD_GUEST_PAGE_SHIFT != gfn || page->role.direct ||
			page->role.above))
		page = page->hash;
	return page;
}

bool shadow_is_shadowed(const struct vd_shadow *shadow, uint64_t gpa)
{
	return shadow_mirrors(shadow, gpa, NULL) != NULL;
}

bool shadow_any_shadowed(const struct vd_shadow *shadow, uint64_t start, uint64_t length)
{
	uint64_t count = length >> VD_GUEST_PAGE_SHIFT;

	if (count <= shadow->budget - shadow->free_count) {
		for (uint64_t i = 0; i < count; i++) {
			if (shadow_is_shadowed(shadow, start + (i << VD_GUEST_PAGE_SHIFT)))
				return true;
		}
		return false;
	}
	for (const struct shadow_page *page = shadow->oldest; page; page = page->newer) {
		if (!page->role.direct && !page->role.above && page->role.base - start < length)
			return true;
	}
	return false;
}

/* ---- the list by last use ------------------------------------------------------------------- */

static void use_remove(struct vd_shadow *shadow, struct shadow_page *page)
{
	*(page->older ? &page->older->newer : &shadow->oldest) = page->newer;
	*(page->newer ? &page->newer->older : &shadow->newest) = page->older;
}

static void use_add(struct vd_shadow *shadow, struct shadow_page *page)
{
	page->older = shadow->newest;
	page->newer = NULL;
	*(page->older ? &page->older->newer : &shadow->oldest) = page;
	shadow->newest = page;
}

void shadow_page_touch(struct vd_shadow *shadow, struct shadow_page *page)
{
	if (shadow->newest == page)
		return;
	use_remove(shadow, page);
	use_add(shadow, page);
}

/* ---- made and linked ------------------------------------------------------------------------ */

struct shadow_page *shadow_page_make(struct vd_shadow *shadow, const struct shadow_role *role)
{
	struct shadow_page *page = shadow->spares.first, **bucket;

	if (!page)
		return NULL;
	vd_assert(shadow->free_count);
	if (!role->direct && !role->above && !shadow_is_shadowed(shadow, role->base))
		shadow_protect_table(shadow, role->base);
	if (!role->direct && !role->above)
		vd_mem_watch_set(&shadow->watch, (vd_gpa){role->base}, 1);
	shadow->spares.first = page->next;
	atomic_fetch_sub_explicit(&shadow->spare_count, 1, memory_order_relaxed);
	page->number = shadow->free_numbers[--shadow->free_count];
	shadow->numbered[page->number] = page;
	page->role = *role;
	page->serial = ++shadow->serial;
	bucket = hash_bucket(shadow, role->base);
	page->hash = *bucket;
	*bucket = page;
	use_add(shadow, page);
	shadow_count(&shadow->counters.pages);
	shadow_count(&shadow->counters.pages_made);
	return page;
}

void shadow_link(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
		 struct shadow_page *child)
{
	uint32_t id = shadow_id(shadow, page, index);
	uint64_t distance = vd_mmu_format_distance(shadow->format, shadow->top.window_base,
						   child->entries);

	page->nodes[index] = (struct shadow_node){child->number, child->parents, SHADOW_NONE};
	if (child->parents != SHADOW_NONE)
		shadow_id_node(shadow, child->parents)->prev = id;
	child->parents = id;
	page->children++;
	/* Pairs with the acquire in the walk: the page below is as it was made. */
	atomic_store_explicit(&page->entries[index],
			      shadow->format->table_entry(distance, page->role.level),
			      memory_order_release);
}

static void unlink_child(struct vd_shadow *shadow, struct shadow_page *page, unsigned index)
{
	struct shadow_node *node = &page->nodes[index];
	struct shadow_page *child = shadow->numbered[node->key];

	atomic_store_explicit(&page->entries[index], 0, memory_order_release);
	if (node->prev == SHADOW_NONE)
		child->parents = node->next;
	else
		shadow_id_node(shadow, node->prev)->next = node->next;
	if (node->next != SHADOW_NONE)
		shadow_id_node(shadow, node->next)->prev = node->prev;
	page->children--;
	shadow->owed = true;
}

void shadow_clear(struct vd_shadow *shadow, struct shadow_page *page, unsigned index)
{
	uint64_t entry = shadow_load(page, index);

	if (!entry)
		return;
	if (shadow_is_table(shadow, page, entry))
		unlink_child(shadow, page, index);
	else
		shadow_leaf_clear(shadow, page, index);
}

void shadow_page_empty(struct vd_shadow *shadow, struct shadow_page *page)
{
	for (unsigned i = 0; (page->leaves || page->children) && i < 1u << shadow->id_shift; i++)
		shadow_clear(shadow, page, i);
}

/* ---- dropped -------------------------------------------------------------------------------- */

void shadow_page_detach(struct vd_shadow *shadow, struct shadow_page *page)
{
	page->next = shadow->detached.first;
	shadow->detached.first = page;
	shadow->detached_count++;
	shadow->owed = true;
	shadow->flushed = false;
}

void shadow_page_drop(struct vd_shadow *shadow, struct shadow_page *page)
{
	struct shadow_page **link = hash_bucket(shadow, page->role.base);

	shadow_page_empty(shadow, page);
	while (page->parents != SHADOW_NONE)
		unlink_child(shadow, shadow_id_page(shadow, page->parents),
			     shadow_id_index(shadow, page->parents));
	while (*link != page)
		link = &(*link)->hash;
	*link = page->hash;
	use_remove(shadow, page);
	shadow->numbered[page->number] = NULL;
	shadow->free_numbers[shadow->free_count++] = page->number;
	if (!page->role.direct && !page->role.above && !shadow_is_shadowed(shadow, page->role.base))
		vd_mem_watch_clear(&shadow->watch, (vd_gpa){page->role.base}, 1);
	shadow_uncount(&shadow->counters.pages);
	page->stale = page->uses;
	if (!page->uses)
		shadow_page_detach(shadow, page);
}

void shadow_unshadow(struct vd_shadow *shadow, uint64_t gpa, bool roots)
{
	struct shadow_page *page = shadow_mirrors(shadow, gpa, NULL);

	while (page) {
		struct shadow_page *next = shadow_mirrors(shadow, gpa, page);

		if (roots || !page->uses)
			shadow_page_drop(shadow, page);
		page = next;
	}
}

int shadow_make_room(struct vd_shadow *shadow, unsigned count)
{
	struct shadow_page *page = shadow->oldest;

	if (shadow->free_count >= count)
		return 0;
	/* Some more than that: each round costs a flush. */
	while (page && shadow->free_count < count + shadow->budget / 16) {
		struct shadow_page *next = page->newer;

		if (!page->uses) {
			shadow_page_drop(shadow, page);
			shadow_count(&shadow->counters.recycled);
		}
		page = next;
	}
	return shadow->free_count >= count ? 0 : -ENOSPC;
}

static void page_left(struct vd_deferred *item)
{
	/* @deferred is the first member. */
	struct shadow_page *page = (struct shadow_page *)item;

	page->free_env->release(page->free_env, page->entries, page->free_bytes);
}

/*
 * Pages that nobody can walk to any more wait for the next flush: until then a walker that the
 * flush callback waits for may be in them.
 */
void shadow_unlock(struct vd_shadow *shadow)
{
	struct shadow_page *page = NULL, *next;

	if (shadow->detached_count > DETACHED_MAX && !shadow->flushed)
		shadow_flush(shadow);
	if (shadow->flushed) {
		page = shadow->detached.first;
		shadow->detached.first = NULL;
		shadow->detached_count = 0;
		shadow->flushed = false;
	}
	shadow->env->unlock(shadow->env, &shadow->lock);
	for (; page; page = next) {
		next = page->next;
		page->free_env = shadow->env;
		page->free_bytes = page_bytes(shadow);
		shadow->env->defer(shadow->env, &page->deferred, page_left);
	}
}
