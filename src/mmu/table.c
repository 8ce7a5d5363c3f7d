/* SPDX-License-Identifier: BSD-2-Clause */
#include "mmu/table.h"

static size_t table_bytes(unsigned level, size_t count)
{
	size_t children = level ? count : 0;

	return sizeof(struct vd_mmu_table) + children * sizeof(struct vd_mmu_table *);
}

struct vd_mmu_table *vd_mmu_table_create(const struct vd_env *env,
					 const struct vd_mmu_format *format, unsigned level)
{
	size_t count = vd_mmu_format_entries(format, level);
	struct vd_mmu_table *table;

	table = vd_env_allocate(env, "mmu.table", table_bytes(level, count),
				_Alignof(struct vd_mmu_table));
	if (!table)
		return NULL;
	/* Aligned to its size, which is what the formats ask of a 16 KiB root. */
	table->entries = vd_env_allocate(env, "mmu.table-page", count * sizeof(vd_mmu_entry),
					 count * sizeof(vd_mmu_entry));
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

	for (unsigned i = 0; table->level && i < table->count; i++) {
		if (table->children[i])
			vd_mmu_table_destroy(table->children[i]);
	}
	env->release(env, table->entries, table->count * sizeof(vd_mmu_entry));
	env->release(env, table, table_bytes(table->level, table->count));
}

int vd_mmu_spares_fill(struct vd_mmu_spares *spares, const struct vd_env *env,
		       const struct vd_mmu_format *format, unsigned low, unsigned high)
{
	for (unsigned level = low; level <= high; level++) {
		if (spares->level[level])
			continue;
		spares->level[level] = vd_mmu_table_create(env, format, level);
		if (!spares->level[level])
			return -ENOMEM;
	}
	return 0;
}

void vd_mmu_spares_drop(struct vd_mmu_spares *spares)
{
	for (unsigned level = 0; level < VD_MMU_LEVELS_MAX; level++) {
		if (spares->level[level])
			vd_mmu_table_destroy(spares->level[level]);
		spares->level[level] = NULL;
	}
}

void vd_mmu_table_link(struct vd_mmu_table *table, unsigned index, struct vd_mmu_table *child,
		       uint64_t entry)
{
	table->children[index] = child;
	table->used++;
	/* Pairs with the acquire in vd_mmu_format_walk(). */
	atomic_store_explicit(&table->entries[index], entry, memory_order_release);
}

void vd_mmu_table_unlink(struct vd_mmu_table *table, unsigned index,
			 struct vd_mmu_detached *detached)
{
	struct vd_mmu_table *child = table->children[index];

	atomic_store_explicit(&table->entries[index], 0, memory_order_release);
	table->children[index] = NULL;
	table->used--;
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
