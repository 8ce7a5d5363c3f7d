/* SPDX-License-Identifier: BSD-2-Clause */
#include "mem/snapshot.h"

struct vd_mem_snapshot *vd_snapshot_allocate(const struct vd_env *env, uint32_t capacity)
{
	size_t n = capacity ? capacity : 1;
	size_t bytes = sizeof(struct vd_mem_snapshot) + 63;
	struct vd_mem_snapshot *s;
	unsigned char *p;

	bytes &= ~(size_t)63;
	size_t starts = bytes;
	bytes += n * sizeof(uint64_t);
	size_t lasts = bytes;
	bytes += n * sizeof(uint64_t);
	size_t slots = bytes;
	bytes += n * sizeof(struct vd_mem_slot *);
	size_t mappings = bytes;
	bytes += n * sizeof(struct vd_mem_mapping);
	s = vd_env_allocate(env, "mem.snapshot", bytes, 64);
	if (!s)
		return NULL;
	p = (unsigned char *)s;
	s->env = env;
	s->bytes = bytes;
	s->capacity = capacity;
	s->starts = (uint64_t *)(p + starts);
	s->lasts = (uint64_t *)(p + lasts);
	s->slots = (struct vd_mem_slot **)(p + slots);
	s->mappings = (struct vd_mem_mapping *)(p + mappings);
	return s;
}

void vd_snapshot_free(struct vd_mem_snapshot *snapshot)
{
	if (snapshot)
		snapshot->env->release(snapshot->env, snapshot, snapshot->bytes);
}

static void free_deferred(struct vd_deferred *item)
{
	vd_snapshot_free((struct vd_mem_snapshot *)item);
}

void vd_snapshot_retire(struct vd_mem_snapshot *snapshot)
{
	_Static_assert(offsetof(struct vd_mem_snapshot, deferred) == 0, "the cast above");
	snapshot->env->defer(snapshot->env, &snapshot->deferred, free_deferred);
}

int vd_mapping_compare(const struct vd_slot *a, const struct vd_slot *b)
{
	const struct vd_slot_config *p = &a->config, *q = &b->config;

	if (p->object != q->object)
		return (uintptr_t)p->object < (uintptr_t)q->object ? -1 : 1;
	if (p->offset != q->offset)
		return p->offset < q->offset ? -1 : 1;
	if (p->base.value != q->base.value)
		return p->base.value < q->base.value ? -1 : 1;
	return 0;
}

static void append_slot(struct vd_mem_snapshot *s, struct vd_mem_slot *slot)
{
	uint32_t i = s->count++;

	s->starts[i] = slot->shown.config.base.value;
	s->lasts[i] = vd_slot_last(&slot->shown);
	s->slots[i] = slot;
}

static void append_mapping(struct vd_mem_snapshot *s, const struct vd_mem_slot *slot)
{
	const struct vd_slot_config *config = &slot->shown.config;

	s->mappings[s->mapping_count++] = (struct vd_mem_mapping){
		.object = config->object,
		.offset = config->offset,
		.end = config->offset + config->size,
		.slot = slot,
	};
}

/*
 * Sets furthest of the subtree [low, high), whose root is its middle. Ends of other objects count as
 * well: that only makes a search look further, and only along the two borders of an object's entries.
 */
static uint64_t set_furthest(struct vd_mem_mapping *m, uint32_t low, uint32_t high)
{
	uint32_t middle = low + (high - low) / 2;
	uint64_t furthest, side;

	if (low == high)
		return 0;
	furthest = m[middle].end;
	side = set_furthest(m, low, middle);
	if (side > furthest)
		furthest = side;
	side = set_furthest(m, middle + 1, high);
	if (side > furthest)
		furthest = side;
	m[middle].furthest = furthest;
	return furthest;
}

void vd_snapshot_merge(struct vd_mem_snapshot *next, const struct vd_mem_snapshot *old,
		       struct vd_mem_slot *const *added, uint32_t added_count,
		       struct vd_mem_slot *const *mapped, uint32_t mapped_count)
{
	uint32_t i, j = 0;

	for (i = 0; i < old->count; i++) {
		struct vd_mem_slot *slot = old->slots[i];

		if (slot->state == VD_SLOT_LEAVING)
			continue;
		while (j < added_count && added[j]->shown.config.base.value < old->starts[i])
			append_slot(next, added[j++]);
		append_slot(next, slot);
	}
	while (j < added_count)
		append_slot(next, added[j++]);
	for (i = 0, j = 0; i < old->mapping_count; i++) {
		const struct vd_mem_slot *slot = old->mappings[i].slot;

		if (slot->state == VD_SLOT_LEAVING)
			continue;
		while (j < mapped_count && vd_mapping_compare(&mapped[j]->shown, &slot->shown) < 0)
			append_mapping(next, mapped[j++]);
		append_mapping(next, slot);
	}
	while (j < mapped_count)
		append_mapping(next, mapped[j++]);
	set_furthest(next->mappings, 0, next->mapping_count);
}

uint32_t vd_snapshot_rank(const struct vd_mem_snapshot *snapshot, uint64_t gpa)
{
	const uint64_t *base = snapshot->starts;
	uint32_t n = snapshot->count;

	if (!n)
		return 0;
	while (n > 1) {
		uint32_t half = n / 2;

		base += base[half - 1] <= gpa ? half : 0;
		n -= half;
	}
	return (uint32_t)(base - snapshot->starts) + (*base <= gpa);
}

uint32_t vd_snapshot_first(const struct vd_mem_snapshot *snapshot, uint64_t gpa)
{
	uint32_t rank = vd_snapshot_rank(snapshot, gpa);

	return rank && snapshot->lasts[rank - 1] >= gpa ? rank - 1 : rank;
}

struct mapping_query {
	const struct vd_host_object *object;
	uint64_t start, end;
	int (*fn)(void *context, const struct vd_mem_slot *slot);
	void *context;
};

static int visit(const struct vd_mem_mapping *m, uint32_t low, uint32_t high,
		 const struct mapping_query *query)
{
	uint32_t middle = low + (high - low) / 2;
	const struct vd_mem_mapping *root = &m[middle];
	int r;

	if (low == high)
		return 0;
	if (root->object != query->object)
		return (uintptr_t)root->object < (uintptr_t)query->object
			       ? visit(m, middle + 1, high, query)
			       : visit(m, low, middle, query);
	if (root->furthest <= query->start)
		return 0;
	r = visit(m, low, middle, query);
	if (r)
		return r;
	if (root->offset >= query->end)
		return 0;
	if (root->end > query->start) {
		r = query->fn(query->context, root->slot);
		if (r)
			return r;
	}
	return visit(m, middle + 1, high, query);
}

int vd_snapshot_each_mapping(const struct vd_mem_snapshot *snapshot,
			     const struct vd_host_object *object, uint64_t start, uint64_t end,
			     int (*fn)(void *context, const struct vd_mem_slot *slot),
			     void *context)
{
	struct mapping_query query = { object, start, end, fn, context };

	return visit(snapshot->mappings, 0, snapshot->mapping_count, &query);
}
