/* SPDX-License-Identifier: BSD-2-Clause */
#include "mem/snapshot.h"

/* Sets a size aside in the one block a snapshot is; returns where. */
static size_t set_aside(size_t *bytes, size_t count, size_t size)
{
	size_t at = (*bytes + 15) & ~(size_t)15;

	*bytes = at + count * size;
	return at;
}

static void index_slots(struct vd_mem_snapshot *s)
{
	for (uint32_t i = 0; i < VD_INDEX_SCAN; i++)
		s->starts[s->count + i] = UINT64_MAX;
	vd_index_build(&s->index, s->count);
}

struct vd_mem_snapshot *vd_snapshot_allocate(const struct vd_env *env, uint32_t capacity)
{
	size_t bytes = sizeof(struct vd_mem_snapshot);
	size_t starts = set_aside(&bytes, capacity + VD_INDEX_SCAN, sizeof(uint64_t));
	size_t entries = set_aside(&bytes, capacity, sizeof(struct vd_mem_entry));
	size_t table = set_aside(&bytes, VD_INDEX_ENTRIES(capacity), sizeof(uint32_t));
	size_t nodes = set_aside(&bytes, VD_INDEX_NODES(capacity), sizeof(struct vd_index_node));
	size_t mappings = set_aside(&bytes, capacity, sizeof(struct vd_mem_mapping));
	struct vd_mem_snapshot *s = vd_env_allocate(env, "mem.snapshot", bytes, 16);
	unsigned char *p = (unsigned char *)s;

	if (!s)
		return NULL;
	s->env = env;
	s->bytes = bytes;
	s->capacity = capacity;
	s->starts = (uint64_t *)(p + starts);
	s->entries = (struct vd_mem_entry *)(p + entries);
	s->mappings = (struct vd_mem_mapping *)(p + mappings);
	s->index = (struct vd_index){
		.addresses = s->starts,
		.table = (uint32_t *)(p + table),
		.table_room = VD_INDEX_ENTRIES(capacity),
		.nodes = (struct vd_index_node *)(p + nodes),
	};
	index_slots(s);
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

	s->private_count += slot->shown.config.is_private;
	s->starts[i] = slot->shown.config.base.value;
	s->entries[i] = (struct vd_mem_entry){ vd_slot_last(&slot->shown), slot };
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
 * Sets furthest of the subtree [low, high), whose root is its middle. Ends of other objects count
 * as well: that only makes a search look further, and only along the two borders of an object's
 * entries.
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

static void choose_main(struct vd_mem_snapshot *s)
{
	uint64_t total = 0, largest = 0;
	uint32_t i, at = 0;

	for (i = 0; i < s->count; i++) {
		uint64_t size = s->entries[i].last - s->starts[i] + 1;

		total += size;
		at = size > largest ? i : at;
		largest = size > largest ? size : largest;
	}
	if (largest <= total - largest)
		return;
	s->main_base = s->starts[at];
	s->main_size = largest;
	s->main = s->entries[at].slot;
}

void vd_snapshot_merge(struct vd_mem_snapshot *next, const struct vd_mem_snapshot *old,
		       struct vd_mem_slot *const *added, uint32_t added_count,
		       struct vd_mem_slot *const *mapped, uint32_t mapped_count)
{
	uint32_t i, j = 0;

	for (i = 0; i < old->count; i++) {
		struct vd_mem_slot *slot = old->entries[i].slot;

		if (slot->state == VD_SLOT_LEAVING)
			continue;
		while (j < added_count && added[j]->shown.config.base.value < old->starts[i])
			append_slot(next, added[j++]);
		append_slot(next, slot);
	}
	while (j < added_count)
		append_slot(next, added[j++]);
	index_slots(next);
	choose_main(next);
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

uint32_t vd_snapshot_first(const struct vd_mem_snapshot *snapshot, uint64_t gpa)
{
	uint32_t rank = vd_snapshot_rank(snapshot, gpa);

	return rank && snapshot->entries[rank - 1].last >= gpa ? rank - 1 : rank;
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
