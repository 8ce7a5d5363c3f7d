/* SPDX-License-Identifier: BSD-2-Clause */
#include "mem/space.h"

/* Out of the way of the main slot, which needs none of its registers. */
static __attribute__((noinline)) const struct vd_slot *
find_other(const struct vd_mem_snapshot *snapshot, vd_gpa gpa, struct vd_mem_hint *hint)
{
	const struct vd_mem_entry *entry;
	uint32_t rank;

	if (hint && hint->generation == snapshot->generation) {
		entry = &snapshot->entries[hint->index];
		if (gpa.value >= snapshot->starts[hint->index] && gpa.value <= entry->last)
			return &entry->slot->shown;
	}
	rank = vd_snapshot_rank(snapshot, gpa.value);
	if (!rank)
		return NULL;
	entry = &snapshot->entries[rank - 1];
	if (gpa.value > entry->last)
		return NULL;
	if (hint)
		*hint = (struct vd_mem_hint){ snapshot->generation, rank - 1 };
	return &entry->slot->shown;
}

const struct vd_slot *vd_mem_find(const struct vd_mem *mem, vd_gpa gpa, struct vd_mem_hint *hint)
{
	const struct vd_mem_snapshot *snapshot = vd_mem_current(mem);

	if (__builtin_expect(gpa.value - snapshot->main_base < snapshot->main_size, 1))
		return &snapshot->main->shown;
	return find_other(snapshot, gpa, hint);
}

int vd_mem_each(const struct vd_mem *mem, int (*fn)(void *context, const struct vd_slot *slot),
		void *context)
{
	const struct vd_env *env = mem->env;
	const struct vd_mem_snapshot *snapshot;
	uint32_t i;
	int r = 0;

	env->read_enter(env);
	snapshot = vd_mem_current(mem);
	for (i = 0; i < snapshot->count && !r; i++)
		if (!snapshot->entries[i].slot->shown.config.is_private)
			r = fn(context, &snapshot->entries[i].slot->shown);
	env->read_leave(env);
	return r;
}

static size_t count_slots(const struct vd_mem *mem, bool private)
{
	const struct vd_env *env = mem->env;
	const struct vd_mem_snapshot *snapshot;
	size_t count;

	env->read_enter(env);
	snapshot = vd_mem_current(mem);
	count = private ? snapshot->private_count : snapshot->count - snapshot->private_count;
	env->read_leave(env);
	return count;
}

size_t vd_mem_slot_count(const struct vd_mem *mem)
{
	return count_slots(mem, false);
}

size_t vd_mem_private_count(const struct vd_mem *mem)
{
	return count_slots(mem, true);
}
