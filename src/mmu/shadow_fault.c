/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A fault: (1) the guest's table is walked, without the lock; (2) accessed and dirty are set in it
 * by compare-and-swap; (3) the slots say what lies at the end; (4) under the lock, if no
 * invalidation came between, shadow pages are made top down, and each of the guest's entries is
 * read once more when its table is write-protected: what it says then is what the shadow holds,
 * until the guest stores to it through shadow_write.c.
 */
#include "mmu/shadow.h"

/* @address: what @walk.gpa is on the host; @level: largest that slot and host allow */
struct shadow_target {
	struct guest_walk walk;
	const struct vd_guest_format *format;
	uint64_t gva;
	unsigned access;
	bool dirty;
	uint64_t address;
	unsigned level, allowed;
	enum vd_memory_type type;
	bool device;
	uint64_t tell; /* with -EUCLEAN: where a store is to be told of */
};

enum { TARGET_SPURIOUS = 2, TARGET_INSTALLED, TARGET_SHORT };

unsigned shadow_slot_access(const struct vd_mem_page *page, unsigned access)
{
	unsigned allowed = VD_READ;

	if (access & VD_WRITE || page->writable)
		allowed |= VD_WRITE;
	if (page->kind == VD_SLOT_RAM)
		allowed |= VD_EXECUTE;
	return allowed;
}

/* ---- what an entry shall be ----------------------------------------------------------------- */

static uint16_t quadrant(const struct vd_mmu_format *format, unsigned level, unsigned table_bits,
			 unsigned index)
{
	unsigned cover = shadow_cover(format, level);

	return table_bits > cover ? index & ((1u << (table_bits - cover)) - 1) : 0;
}

static void wanted_above(struct vd_shadow *shadow, const struct shadow_page *page, unsigned index,
			 struct shadow_role *role)
{
	const struct vd_guest_format *guest = page->role.format;
	int below = shadow_guest_level(shadow, guest, role->level);

	role->base = page->role.base;
	if (below < 0) {
		role->above = true;
		return;
	}
	role->guest_level = (uint8_t)below;
	role->quadrant = quadrant(shadow->format, role->level, guest->input_bits, index);
}

enum vd_mmu_entry_kind shadow_wanted(struct vd_shadow *shadow, const struct shadow_page *page,
				     unsigned index, const struct vd_guest_entry *entry, bool dirty,
				     struct shadow_role *role)
{
	const struct vd_guest_format *guest = page->role.format;
	unsigned level = page->role.level, shift = shadow->format->shift[level], part;

	*role = (struct shadow_role){.format = guest, .access = page->role.access,
				     .level = (uint8_t)(level - 1)};
	if (page->role.above) {
		wanted_above(shadow, page, index, role);
		return VD_MMU_TABLE;
	}
	if (page->role.direct) {
		role->direct = true;
		role->guest_level = page->role.guest_level;
		role->base = page->role.base + ((uint64_t)index << shift);
		return VD_MMU_LEAF;
	}
	if ((entry->kind != VD_MMU_TABLE && entry->kind != VD_MMU_LEAF) || !entry->accessed)
		return VD_MMU_ABSENT;
	/* Which part of what the guest's entry maps. */
	part = index & ((1u << (guest->shift[page->role.guest_level] - shift)) - 1);
	role->access &= (uint8_t)entry->access;
	if (entry->kind == VD_MMU_TABLE) {
		role->base = entry->address;
		role->guest_level = (uint8_t)(page->role.guest_level - 1);
		role->quadrant = (uint16_t)part;
		return VD_MMU_TABLE;
	}
	if (!dirty)
		role->access &= (uint8_t)~VD_WRITE;
	role->direct = true;
	role->guest_level = page->role.guest_level;
	role->base = entry->address + ((uint64_t)part << shift);
	return VD_MMU_LEAF;
}

/* ---- accessed and dirty of the guest -------------------------------------------------------- */

static bool step_lacks(const struct shadow_target *target, unsigned level, uint64_t *used)
{
	const struct guest_step *step = &target->walk.steps[level];

	*used = target->format->used(step->value, target->access, level,
				     level == target->walk.leaf_level);
	return *used != step->value;
}

/* Under the lock, the retry check passed. The guest may store by other ways: compare and swap. */
static bool guest_swap(const struct vd_guest_format *format, struct guest_step *step, uint64_t used)
{
	uint32_t old32 = (uint32_t)step->value;
	uint64_t old = step->value;

	if (format->entry_bytes == 4
		    ? !__atomic_compare_exchange_n((uint32_t *)step->host, &old32, (uint32_t)used,
						   false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)
		    : !__atomic_compare_exchange_n((uint64_t *)step->host, &old, used, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return false;
	step->value = used;
	return true;
}

/* The table's page is stored to by the processor, so it must be one that may be. */
static int step_update(struct vd_shadow *shadow, struct shadow_target *target, unsigned level,
		       uint64_t used)
{
	struct guest_step *step = &target->walk.steps[level];
	uint64_t page_mask = (UINT64_C(1) << shadow->top.page_shift) - 1;
	uint64_t seq = vd_notifier_begin(shadow->notifier);
	struct vd_mem_page page;
	int ret;

	ret = vd_mem_gpa_to_pfn(shadow->mem, (vd_gpa){step->entry_gpa}, VD_READ | VD_WRITE, &page);
	if (ret || page.kind != VD_SLOT_RAM || vd_pfn_is_bad(page.host.pfn))
		return vd_notifier_retry(shadow->notifier, seq, step->entry_gpa, 1)
			       ? -EAGAIN
			       : -EADDRNOTAVAIL;
	if (page.watched && vd_mem_watched_else(&shadow->watch, (vd_gpa){step->entry_gpa}, 1)) {
		target->tell = step->entry_gpa;
		return -EUCLEAN;
	}
	if (page.dirty_log)
		vd_mem_mark_dirty(shadow->mem, (vd_gpa){step->entry_gpa},
				  target->format->entry_bytes);
	shadow->env->lock(shadow->env, &shadow->lock);
	if (shadow_is_dead(shadow)) {
		ret = -ESHUTDOWN;
	} else if (vd_notifier_retry(shadow->notifier, seq, step->entry_gpa, 1)) {
		ret = -EAGAIN;
	} else {
		step->host = (char *)vd_host_pointer(shadow->top.window_base, page.host.pfn,
						     shadow->top.page_shift) +
			     (step->entry_gpa & page_mask);
		ret = guest_swap(target->format, step, used) ? 0 : -EAGAIN;
	}
	shadow_unlock(shadow);
	return ret;
}

static int target_update(struct vd_shadow *shadow, struct shadow_target *target)
{
	struct guest_walk *walk = &target->walk;
	bool update = target->access & VD_SHADOW_UPDATE ||
		      target->format->flags & VD_GUEST_ALWAYS_UPDATE;
	uint64_t used;

	if (!update)
		return walk->accessed && (target->dirty || !(target->access & VD_WRITE)) ? 0
											  : -EPERM;
	for (unsigned level = target->format->levels; level-- > walk->leaf_level;) {
		if (step_lacks(target, level, &used)) {
			int ret = step_update(shadow, target, level, used);

			if (ret)
				return ret;
		}
	}
	walk->accessed = true;
	target->dirty |= !!(target->access & VD_WRITE);
	return 0;
}

/* ---- what lies at the end ------------------------------------------------------------------- */

/* As block_fits() in fault.c, for a block that the guest maps as a whole. */
static bool block_fits(struct vd_shadow *shadow, const struct vd_mem_page *page,
		       const struct shadow_target *target, unsigned level)
{
	uint64_t size = vd_mmu_format_size(shadow->format, level), gpa = target->walk.gpa;
	uint64_t start = gpa & ~(size - 1);
	struct vd_mem_page head;

	if (target->format->levels && size > target->walk.guest_size)
		return false;
	if ((gpa ^ target->address) & (size - 1) || start < page->slot_base ||
	    page->slot_size < size || start - page->slot_base > page->slot_size - size)
		return false;
	return page->host.run >= size - (gpa - start) &&
	       !vd_mem_gpa_to_pfn(shadow->mem, (vd_gpa){start}, VD_READ, &head) &&
	       head.host.run >= size;
}

static int target_resolve(struct vd_shadow *shadow, struct shadow_target *target)
{
	unsigned access = target->access & (VD_READ | VD_WRITE | VD_EXECUTE);
	uint64_t gpa = target->walk.gpa;
	struct vd_mem_page page;
	int ret = vd_mem_gpa_to_pfn(shadow->mem, (vd_gpa){gpa}, access, &page);

	if (ret)
		return ret;
	if (vd_pfn_is_bad(page.host.pfn))
		return -EFAULT;
	if (access & VD_WRITE && page.watched &&
	    vd_mem_watched_else(&shadow->watch, (vd_gpa){gpa}, 1)) {
		target->tell = gpa;
		return -EUCLEAN;
	}
	target->address = (page.host.pfn.value << shadow->top.page_shift) +
			  (gpa & ((UINT64_C(1) << shadow->top.page_shift) - 1));
	target->type = page.host.type;
	target->device = page.kind == VD_SLOT_DEVICE;
	target->allowed = shadow_slot_access(&page, access);
	if (access & ~target->allowed)
		return -EACCES;
	target->level = page.dirty_log ? 0 : shadow->format->block_level;
	while (target->level && !block_fits(shadow, &page, target, target->level))
		target->level--;
	/* As in fault.c: before the entry can be written through. */
	if (page.dirty_log && access & VD_WRITE)
		vd_mem_mark_dirty(shadow->mem, (vd_gpa){gpa}, 1);
	return 0;
}

/* ---- installing ----------------------------------------------------------------------------- */

static bool target_stale(struct vd_shadow *shadow, const struct shadow_target *target)
{
	const struct guest_walk *walk = &target->walk;
	uint64_t size = vd_mmu_format_size(shadow->format, target->level);

	for (unsigned level = target->format->levels; level-- > walk->leaf_level;) {
		if (vd_notifier_retry(shadow->notifier, walk->seq, walk->steps[level].entry_gpa,
				      target->format->entry_bytes))
			return true;
	}
	return vd_notifier_retry(shadow->notifier, walk->seq, walk->gpa & ~(size - 1), size);
}

/* What stands there has to go first: never another address or less permission in place. */
static void clear_and_flush(struct vd_shadow *shadow, struct shadow_page *page, unsigned index)
{
	if (!shadow_load(page, index))
		return;
	shadow_clear(shadow, page, index);
	shadow_flush(shadow);
}

/* Whether what stands there is the same but for permissions, and @new allows no less. */
static bool leaf_widens(const struct vd_shadow *shadow, unsigned level, uint64_t old, uint64_t new,
			struct vd_mmu_attributes *now, const struct vd_mmu_attributes *then)
{
	if (shadow->format->kind(old, level) != VD_MMU_LEAF ||
	    shadow->format->address(old, level) != shadow->format->address(new, level))
		return false;
	shadow->format->attributes(old, level, now);
	return now->user == then->user && now->type == then->type && now->device == then->device &&
	       !(now->access & ~then->access);
}

static int install_leaf(struct vd_shadow *shadow, const struct shadow_target *target,
			struct shadow_page *page, unsigned index, const struct shadow_role *role)
{
	unsigned wanted = target->access & (VD_READ | VD_WRITE | VD_EXECUTE);
	unsigned level = page->role.level;
	uint64_t reach = (UINT64_C(1) << shadow->format->output_bits) - 1;
	uint64_t address = (target->address - (target->walk.gpa - role->base)) & reach, old, new;
	struct vd_mmu_attributes now, then = {
		.access = role->access & target->allowed, .type = target->type, .accessed = true,
		.dirty = wanted & VD_WRITE, .device = target->device,
		.user = role->access & VD_SHADOW_USER,
	};

	/* In a device, a root may stand: no entry is ever read from it. */
	if (!level && then.access & VD_WRITE && !target->device &&
	    shadow_is_shadowed(shadow, role->base))
		then.access &= ~VD_WRITE;
	/* Also a supervisor store that ignores the permission (CR0.WP): no entry says that. */
	if (wanted & VD_WRITE && !(then.access & VD_WRITE))
		return VD_SHADOW_EMULATE;
	if (!shadow->format->can(&then, level))
		return -EOPNOTSUPP;
	new = shadow->format->leaf_entry(address, &then, level);
	old = shadow_load(page, index);
	if (!old || !leaf_widens(shadow, level, old, new, &now, &then)) {
		clear_and_flush(shadow, page, index);
		shadow_leaf_set(shadow, page, index, role->base, new);
		return TARGET_INSTALLED;
	}
	/* Not if it lacks accessed or dirty, which not all walkers set by themselves. */
	if (now.access == then.access && now.accessed && (now.dirty || !then.dirty))
		return TARGET_SPURIOUS;
	then.dirty |= now.dirty;
	new = shadow->format->leaf_entry(address, &then, level);
	/* Lost against a walker that set one of the two: look again. */
	return atomic_compare_exchange_strong_explicit(&page->entries[index], &old, new,
						       memory_order_acq_rel, memory_order_relaxed)
		       ? TARGET_INSTALLED
		       : -EAGAIN;
}

/* The page that entry @index leads to, made if it is not there. NULL: no spare was left. */
static struct shadow_page *install_child(struct vd_shadow *shadow, struct shadow_page *page,
					 unsigned index, const struct shadow_role *role)
{
	struct shadow_page *child = shadow_page_find(shadow, role);

	if (!child)
		child = shadow_page_make(shadow, role);
	if (!child)
		return NULL;
	clear_and_flush(shadow, page, index);
	shadow_link(shadow, page, index, child);
	return child;
}

/* The child that stands there, if it is the one wanted. */
static struct shadow_page *standing_child(struct vd_shadow *shadow, struct shadow_page *page,
					  unsigned index, const struct shadow_role *role)
{
	struct shadow_page *child;

	if (!shadow_is_table(shadow, page, shadow_load(page, index)))
		return NULL;
	child = shadow->numbered[page->nodes[index].key];
	return shadow_same_role(&child->role, role) ? child : NULL;
}

static bool leaf_fits_here(struct vd_shadow *shadow, const struct shadow_target *target,
			   const struct shadow_page *page, const struct shadow_role *role)
{
	unsigned level = page->role.level;

	if (level > target->level)
		return false;
	return !level || !(role->access & VD_WRITE) ||
	       !shadow_any_shadowed(shadow, role->base, vd_mmu_format_size(shadow->format, level));
}

static int install(struct vd_shadow *shadow, const struct shadow_target *target,
		   struct shadow_page *page)
{
	for (;;) {
		unsigned index = vd_mmu_format_index(shadow->format, page->role.level, target->gva);
		const struct guest_step *step = &target->walk.steps[page->role.guest_level];
		enum vd_mmu_entry_kind wanted;
		struct vd_guest_entry entry = {.kind = VD_MMU_ABSENT};
		struct shadow_page *child;
		struct shadow_role role;

		page->writes = 0;
		if (!page->role.above && !page->role.direct) {
			if (shadow_guest_load(target->format, step->host) != step->value)
				return -EAGAIN;
			entry = target->format->decode(step->value, page->role.guest_level);
		}
		wanted = shadow_wanted(shadow, page, index, &entry, target->dirty, &role);
		if (wanted == VD_MMU_ABSENT)
			return -EAGAIN;
		child = standing_child(shadow, page, index, &role);
		if (!child && wanted == VD_MMU_LEAF && leaf_fits_here(shadow, target, page, &role))
			return install_leaf(shadow, target, page, index, &role);
		if (!child)
			child = install_child(shadow, page, index, &role);
		if (!child)
			return TARGET_SHORT;
		page = child;
	}
}

/* Those above are newer than those below: a budget that is short takes the ends of ways first. */
static void touch_path(struct vd_shadow *shadow, const struct shadow_target *target,
		       struct shadow_page *page)
{
	struct shadow_page *path[VD_MMU_LEVELS_MAX];
	unsigned count = 0;

	for (;;) {
		unsigned index = vd_mmu_format_index(shadow->format, page->role.level, target->gva);

		path[count++] = page;
		if (!shadow_is_table(shadow, page, shadow_load(page, index)))
			break;
		page = shadow->numbered[page->nodes[index].key];
	}
	while (count--)
		shadow_page_touch(shadow, path[count]);
}

static int fault_try(struct vd_shadow *shadow, struct shadow_page *root,
		     struct shadow_target *target)
{
	const struct vd_guest_format *format = target->format;
	struct guest_walk *walk = &target->walk;
	int ret = shadow_guest_walk(shadow, format, root->role.base, target->gva, walk);

	if (ret)
		return ret;
	if (!vd_guest_permits(format, walk->access, target->access))
		return -EPERM;
	target->dirty = walk->leaf.dirty;
	ret = target_update(shadow, target);
	if (ret)
		return ret;
	ret = target_resolve(shadow, target);
	if (ret)
		return vd_notifier_retry(shadow->notifier, walk->seq, walk->gpa, 1) ? -EAGAIN : ret;
	if (shadow_spares_fill(shadow))
		return -ENOMEM;
	shadow->env->lock(shadow->env, &shadow->lock);
	if (shadow_is_dead(shadow))
		ret = -ESHUTDOWN;
	else if (root->stale)
		ret = -ESTALE;
	else if (target_stale(shadow, target))
		ret = -EAGAIN;
	else
		ret = shadow_make_room(shadow, shadow->format->levels);
	if (!ret) {
		ret = install(shadow, target, root);
		touch_path(shadow, target, root);
	}
	shadow_unlock(shadow);
	return ret;
}

static int fault_count(struct vd_shadow *shadow, int ret)
{
	if (ret == TARGET_INSTALLED)
		shadow_count(&shadow->counters.faults);
	else if (ret == TARGET_SPURIOUS)
		shadow_count(&shadow->counters.faults_spurious);
	else if (ret == -ENXIO || ret == -EPERM || ret == -EBADMSG)
		shadow_count(&shadow->counters.guest_faults);
	return ret == TARGET_INSTALLED || ret == TARGET_SPURIOUS ? 0 : ret;
}

int vd_shadow_fault(struct vd_shadow *shadow, const struct vd_shadow_root *handle, vd_gva gva,
		    unsigned access, struct vd_shadow_access *what)
{
	/* The handle is the page; only its user may not change it. */
	struct shadow_page *root = shadow_page_of(shadow, handle->page.entries);
	struct shadow_target target = {.format = root->role.format, .gva = gva.value,
				       .access = access};
	unsigned told = 0;
	uint64_t size;
	int ret;

	for (;;) {
		if (shadow_is_dead(shadow))
			return -ESHUTDOWN;
		ret = fault_try(shadow, root, &target);
		if (ret == -EUCLEAN && told++ < SHADOW_TELLS) {
			vd_mem_watch_tell_else(&shadow->watch, (vd_gpa){target.tell}, 1);
			continue;
		}
		if (ret != -EAGAIN && ret != TARGET_SHORT)
			break;
		shadow_count(&shadow->counters.retries);
		size = vd_mmu_format_size(shadow->format, target.level);
		vd_notifier_wait(shadow->notifier, target.walk.gpa & ~(size - 1), size);
	}
	if (what)
		*what = (struct vd_shadow_access){
			.gpa = {target.walk.gpa}, .guest_size = target.walk.guest_size,
			.access = target.walk.access, .accessed = target.walk.accessed,
			.dirty = target.dirty,
		};
	if (ret >= 0)
		vd_trace(shadow->env, VD_TRACE_FAULT, target.walk.gpa, access,
			 target.walk.guest_size);
	return fault_count(shadow, ret);
}
