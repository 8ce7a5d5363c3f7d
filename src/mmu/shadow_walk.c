/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two walks: through the shadow's tables, as hardware does, without a lock; and through the guest's
 * own, which lie in guest RAM and may change at any moment.
 */
#include "mmu/shadow.h"

static unsigned leaf_allows(const struct vd_mmu_attributes *attributes)
{
	return attributes->access | (attributes->user ? VD_SHADOW_USER : 0);
}

static uint64_t leaf_guest_size(const struct shadow_page *page)
{
	const struct vd_guest_format *format = page->role.format;

	return UINT64_C(1) << (format->levels ? format->shift[page->role.guest_level]
					      : VD_GUEST_PAGE_SHIFT);
}

int vd_shadow_walk_guarded(struct vd_shadow *shadow, const struct vd_shadow_root *root, vd_gva gva,
			   unsigned access, struct vd_shadow_leaf *leaf)
{
	const struct vd_mmu_format *format = shadow->format;
	const struct vd_guest_format *guest = root->page.role.format;
	unsigned level = root->page.role.level;
	vd_mmu_entry *table = root->page.entries;

	/* What the entries allow counts here: a store that they do not is not done through them. */
	access &= ~VD_SHADOW_NO_WP;
	if (!shadow_reaches(shadow, guest, gva.value))
		return -ENOENT;
	for (;;) {
		vd_mmu_entry *slot = &table[vd_mmu_format_index(format, level, gva.value)];
		/* Pairs with the releases in shadow_link() and shadow_leaf_set(). */
		uint64_t entry = atomic_load_explicit(slot, memory_order_acquire), used;
		enum vd_mmu_entry_kind kind = format->kind(entry, level);
		struct vd_mmu_attributes attributes;

		if (kind == VD_MMU_TABLE) {
			table = vd_mmu_format_table(format, shadow->top.window_base, entry, level);
			level--;
			continue;
		}
		if (kind != VD_MMU_LEAF)
			return -ENOENT;
		format->attributes(entry, level, &attributes);
		if (!vd_guest_permits(guest, leaf_allows(&attributes), access))
			return -EACCES;
		used = format->used(entry, access, level);
		if (used != entry && !atomic_compare_exchange_strong_explicit(
					     slot, &entry, used, memory_order_acq_rel,
					     memory_order_relaxed))
			continue;
		vd_mmu_format_read(format, &shadow->top, used, level, gva.value, &leaf->leaf);
		leaf->guest_size = leaf_guest_size(shadow_page_of(shadow, table));
		return 0;
	}
}

int vd_shadow_walk(struct vd_shadow *shadow, const struct vd_shadow_root *root, vd_gva gva,
		   unsigned access, struct vd_shadow_leaf *leaf)
{
	int ret;

	shadow->env->read_enter(shadow->env);
	ret = vd_shadow_walk_guarded(shadow, root, gva, access, leaf);
	shadow->env->read_leave(shadow->env);
	return ret;
}

/* ---- the guest's tables --------------------------------------------------------------------- */

uint64_t shadow_guest_load(const struct vd_guest_format *format, const void *host)
{
	return format->entry_bytes == 4 ? vd_guest_load32(host) : vd_guest_load64(host);
}

/* In a read section, which the chain of the space waits for before memory changes (mem.h). */
static int step_read(struct vd_shadow *shadow, const struct vd_guest_format *format,
		     struct guest_step *step, uint64_t seq)
{
	struct vd_mem_page page;
	uint64_t gpa = step->entry_gpa;
	int ret = vd_mem_gpa_to_pfn(shadow->mem, (vd_gpa){gpa}, VD_READ, &page);

	if (vd_notifier_retry(shadow->notifier, seq, gpa, format->entry_bytes))
		return -EAGAIN;
	if (ret || page.kind != VD_SLOT_RAM || vd_pfn_is_bad(page.host.pfn))
		return -EADDRNOTAVAIL;
	step->host = (char *)vd_host_pointer(shadow->top.window_base, page.host.pfn,
					     shadow->top.page_shift) +
		     (gpa & ((UINT64_C(1) << shadow->top.page_shift) - 1));
	step->value = shadow_guest_load(format, step->host);
	return 0;
}

static int walk_levels(struct vd_shadow *shadow, const struct vd_guest_format *format,
		       uint64_t table, uint64_t gva, struct guest_walk *walk)
{
	walk->access = VD_GUEST_ACCESS_ALL;
	walk->accessed = true;
	for (unsigned level = format->levels - 1;; level--) {
		struct guest_step *step = &walk->steps[level];
		int ret;

		step->table = table;
		step->entry_gpa = table + (uint64_t)format->entry_bytes *
						  vd_guest_index(format, level, gva);
		step->access = walk->access;
		walk->gpa = step->entry_gpa;
		walk->leaf_level = level;
		ret = step_read(shadow, format, step, walk->seq);
		if (ret)
			return ret;
		walk->leaf = format->decode(step->value, level);
		if (walk->leaf.kind == VD_MMU_ABSENT)
			return -ENXIO;
		if (walk->leaf.kind == VD_MMU_MALFORMED)
			return -EBADMSG;
		walk->access &= walk->leaf.access;
		walk->accessed &= walk->leaf.accessed;
		table = walk->leaf.address;
		if (walk->leaf.kind == VD_MMU_LEAF)
			break;
	}
	walk->guest_size = UINT64_C(1) << format->shift[walk->leaf_level];
	walk->gpa = walk->leaf.address + (gva & (walk->guest_size - 1));
	return 0;
}

int shadow_guest_walk(struct vd_shadow *shadow, const struct vd_guest_format *format,
		      uint64_t root, uint64_t gva, struct guest_walk *walk)
{
	int ret;

	walk->gpa = gva;
	if (!shadow_reaches(shadow, format, gva))
		return format->levels ? -ENXIO : -ENOENT;
	walk->seq = vd_notifier_begin(shadow->notifier);
	if (!format->levels) {
		walk->leaf = (struct vd_guest_entry){VD_MMU_LEAF, 0, VD_GUEST_ACCESS_ALL, true,
						     true};
		walk->access = VD_GUEST_ACCESS_ALL;
		walk->accessed = true;
		walk->leaf_level = 0;
		walk->guest_size = UINT64_C(1) << VD_GUEST_PAGE_SHIFT;
		return 0;
	}
	shadow->env->read_enter(shadow->env);
	ret = walk_levels(shadow, format, root, gva, walk);
	shadow->env->read_leave(shadow->env);
	return ret;
}

int vd_shadow_translate(struct vd_shadow *shadow, const struct vd_shadow_root *root, vd_gva gva,
			struct vd_shadow_access *what)
{
	const struct shadow_role *role = &root->page.role;
	struct guest_walk walk;
	int ret = shadow_guest_walk(shadow, role->format, role->base, gva.value, &walk);

	*what = (struct vd_shadow_access){
		.gpa = {walk.gpa}, .guest_size = ret ? 0 : walk.guest_size,
		.access = ret ? 0 : walk.access, .accessed = !ret && walk.accessed,
		.dirty = !ret && walk.leaf.dirty,
	};
	return ret;
}
