/* SPDX-License-Identifier: BSD-2-Clause */
#include "mmu/table.h"

/* Small roots (the four entries of PAE) may not be aligned to their own size alone. */
#define ALIGN_MIN 64u

static size_t table_bytes(unsigned level, size_t count)
{
	size_t children = level ? count : 0;

	return sizeof(struct vd_mmu_table) + children * sizeof(struct vd_mmu_table *);
}

struct vd_mmu_table *vd_mmu_table_create(const struct vd_env *env,
					 const struct vd_mmu_format *format, unsigned level)
{
	size_t count = vd_mmu_format_entries(format, level);
	size_t bytes = count * sizeof(vd_mmu_entry);
	struct vd_mmu_table *table;

	/* No two in a cache line: threads that fault in neighbouring tables write the counts. */
	table = vd_env_allocate(env, "mmu.table", table_bytes(level, count), ALIGN_MIN);
	if (!table)
		return NULL;
	/* Aligned to its size, which is what the formats ask of roots larger than a page. */
	table->entries = vd_env_allocate(env, "mmu.table-page", bytes,
					 bytes < ALIGN_MIN ? ALIGN_MIN : bytes);
	if (!table->entries) {
		env->release(env, table, table_bytes(level, count));
		return NULL;
	}
	table->env = env;
	table->level = level;
	table->count = (uint32_t)count;
	return table;
}

void vd_mmu_table_destroy(struct vd_mmu_table *table)
{
	const struct vd_env *env = table->env;
	bool parent = vd_mmu_table_used(table) != vd_mmu_table_leaves(table);

	for (unsigned i = 0; parent && i < table->count; i++) {
		struct vd_mmu_table *child = vd_mmu_table_child(table, i);

		if (child)
			vd_mmu_table_destroy(child);
	}
	env->release(env, table->entries, table->count * sizeof(vd_mmu_entry));
	env->release(env, table, table_bytes(table->level, table->count));
}

int vd_mmu_spares_fill(struct vd_mmu_spares *spares, const struct vd_env *env,
		       const struct vd_mmu_format *format, const size_t need[VD_MMU_LEVELS_MAX])
{
	for (unsigned level = 0; level < format->levels; level++) {
		while (spares->count[level] < need[level]) {
			struct vd_mmu_table *table = vd_mmu_table_create(env, format, level);

			if (!table)
				return -ENOMEM;
			table->next = spares->first[level];
			spares->first[level] = table;
			spares->count[level]++;
		}
	}
	return 0;
}

bool vd_mmu_spares_suffice(const struct vd_mmu_spares *spares,
			   const size_t need[VD_MMU_LEVELS_MAX])
{
	for (unsigned level = 0; level < VD_MMU_LEVELS_MAX; level++) {
		if (spares->count[level] < need[level])
			return false;
	}
	return true;
}

struct vd_mmu_table *vd_mmu_spares_take(struct vd_mmu_spares *spares, unsigned level)
{
	struct vd_mmu_table *table = spares->first[level];

	if (table) {
		spares->first[level] = table->next;
		spares->count[level]--;
	}
	return table;
}

void vd_mmu_spares_drop(struct vd_mmu_spares *spares)
{
	for (unsigned level = 0; level < VD_MMU_LEVELS_MAX; level++) {
		struct vd_mmu_table *table;

		while ((table = vd_mmu_spares_take(spares, level)))
			vd_mmu_table_destroy(table);
	}
}

void vd_mmu_table_link(struct vd_mmu_table *table, unsigned index, struct vd_mmu_table *child,
		       uint64_t entry)
{
	/* Pairs with the acquire in vd_mmu_table_child(). */
	atomic_store_explicit(&table->children[index], child, memory_order_release);
	vd_mmu_table_recount(table, VD_MMU_COUNT_TABLE);
	/* Pairs with the acquire in vd_mmu_format_walk(). */
	atomic_store_explicit(&table->entries[index], entry, memory_order_release);
}

void vd_mmu_table_unlink(struct vd_mmu_table *table, unsigned index,
			 struct vd_mmu_detached *detached)
{
	struct vd_mmu_table *child = vd_mmu_table_child(table, index);

	atomic_store_explicit(&table->entries[index], 0, memory_order_release);
	atomic_store_explicit(&table->children[index], NULL, memory_order_relaxed);
	vd_mmu_table_recount(table, -VD_MMU_COUNT_TABLE);
	child->next = detached->first;
	detached->first = child;
}

static void table_left(struct vd_deferred *item)
{
	/* @deferred is the first member. */
	vd_mmu_table_destroy((struct vd_mmu_table *)item);
}

void vd_mmu_detached_retire(struct vd_mmu_detached *detached)
{
	struct vd_mmu_table *table;

	while ((table = detached->first)) {
		detached->first = table->next;
		table->env->defer(table->env, &table->deferred, table_left);
	}
}
