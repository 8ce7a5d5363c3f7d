/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Giving memory back, by guest address. Inside the gate, as an event about host memory is: no slot
 * can come, move or go between the look at it and the change, so nobody's memory goes but the
 * guest's own.
 */
#include "mem/space.h"

/* What is at a guest address, up to the end of its slot. */
struct stretch {
	struct vd_host_object *object;
	uint64_t offset, length;
};

/* The slot stays when the read section is left: the caller is inside the gate. */
static int find(struct vd_mem *mem, uint64_t gpa, uint64_t length, struct stretch *stretch)
{
	const struct vd_env *env = mem->env;
	const struct vd_slot *slot;
	int r = 0;

	env->read_enter(env);
	slot = vd_mem_find(mem, (vd_gpa){gpa}, NULL);
	if (!slot || slot->config.kind != VD_SLOT_RAM) {
		r = -EFAULT;
	} else if (slot->config.read_only || slot->config.is_private) {
		r = -EACCES;
	} else {
		uint64_t left = vd_slot_last(slot) - gpa + 1;

		stretch->object = slot->config.object;
		stretch->offset = slot->config.offset + (gpa - slot->config.base.value);
		stretch->length = length < left ? length : left;
	}
	env->read_leave(env);
	return r;
}

static int check_all(struct vd_mem *mem, uint64_t gpa, uint64_t length)
{
	struct stretch stretch;
	int r = 0;

	while (length && !r) {
		r = find(mem, gpa, length, &stretch);
		if (!r) {
			gpa += stretch.length;
			length -= stretch.length;
		}
	}
	return r;
}

static int discard_inside(struct vd_mem *mem, uint64_t gpa, uint64_t length, bool blockable,
			  uint64_t *discarded)
{
	int r = check_all(mem, gpa, length);

	while (length && !r) {
		struct stretch stretch;

		r = find(mem, gpa, length, &stretch);
		if (!r)
			r = vd_host_object_discard(stretch.object, stretch.offset, stretch.length,
						   blockable);
		if (r)
			break;
		/* After the change, so that whoever takes the mark finds the zeroes. */
		vd_mem_mark_dirty(mem, (vd_gpa){gpa}, stretch.length);
		*discarded += stretch.length;
		gpa += stretch.length;
		length -= stretch.length;
	}
	return r;
}

int vd_mem_discard(struct vd_mem *mem, vd_gpa gpa, uint64_t length, bool blockable,
		   uint64_t *discarded)
{
	uint64_t end;
	int r;

	*discarded = 0;
	if (!length || (gpa.value | length) & (((uint64_t)1 << mem->page_shift) - 1))
		return -EINVAL;
	if (!vd_range_end(gpa.value, length, &end))
		return -EOVERFLOW;
	/* As a store: before it, and after it to whoever goes on watching. */
	vd_mem_watch_tell(mem, gpa, length);
	r = vd_gate_enter_event(mem, blockable);
	if (r)
		return r;
	r = discard_inside(mem, gpa.value, length, blockable, discarded);
	vd_gate_leave_event(mem);
	vd_mem_watch_tell(mem, gpa, *discarded);
	return r;
}
