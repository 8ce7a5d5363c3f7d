/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest stores to its own tables. The store is done with the lock held, so a fault reads each
 * entry either before or after it, and a shadow entry is never made from one that has changed
 * since. What was made from the old one goes; what the new one says is made at once, not accessed,
 * if that needs no more than a leaf.
 */
#include "mmu/shadow.h"

#define PREFILLS_MAX 2u /* shadow pages that get the same new entry */

struct prefill {
	uint64_t serial, value, entry_gpa;
	uint32_t number;
	unsigned index;
	void *host;
	struct shadow_role role;
};

struct mend {
	const struct vd_shadow_write *write;
	struct prefill prefills[PREFILLS_MAX];
	unsigned prefill_count;
	bool unshadow;
};

int vd_shadow_write_begin(struct vd_shadow *shadow, vd_gpa gpa, uint64_t length,
			  struct vd_shadow_write *write)
{
	uint64_t page_mask = (UINT64_C(1) << VD_GUEST_PAGE_SHIFT) - 1;
	uint64_t frame_mask = (UINT64_C(1) << shadow->top.page_shift) - 1;
	struct vd_mem_page page;
	unsigned told = 0;
	int ret;

	if (!length || length > page_mask + 1 - (gpa.value & page_mask))
		return -EINVAL;
	for (;;) {
		write->seq = vd_notifier_begin(shadow->notifier);
		ret = vd_mem_gpa_to_pfn(shadow->mem, gpa, VD_READ | VD_WRITE, &page);
		if (!ret && (page.kind != VD_SLOT_RAM || vd_pfn_is_bad(page.host.pfn)))
			ret = -EFAULT;
		if (!ret && page.watched && vd_mem_watched_else(&shadow->watch, gpa, length)) {
			if (told++ == SHADOW_TELLS)
				return -EUCLEAN;
			vd_mem_watch_tell_else(&shadow->watch, gpa, length);
			continue;
		}
		if (!ret && page.dirty_log)
			vd_mem_mark_dirty(shadow->mem, gpa, length);
		shadow->env->lock(shadow->env, &shadow->lock);
		if (shadow_is_dead(shadow))
			ret = -ESHUTDOWN;
		else if (vd_notifier_retry(shadow->notifier, write->seq, gpa.value, length))
			ret = -EAGAIN;
		if (!ret)
			break;
		shadow_unlock(shadow);
		if (ret != -EAGAIN)
			return ret;
		shadow_count(&shadow->counters.retries);
		vd_notifier_wait(shadow->notifier, gpa.value, length);
	}
	write->gpa = gpa;
	write->length = length;
	write->host = (char *)vd_host_pointer(shadow->top.window_base, page.host.pfn,
					      shadow->top.page_shift) +
		      (gpa.value & frame_mask);
	return 0;
}

/* ---- under the lock ------------------------------------------------------------------------- */

/* Whether what stands at @index may stay by what the guest's entry wants now. */
static bool still_right(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
			uint64_t standing, enum vd_mmu_entry_kind wanted,
			const struct shadow_role *role)
{
	struct vd_mmu_attributes attributes;

	if (wanted == VD_MMU_ABSENT)
		return false;
	if (shadow_is_table(shadow, page, standing))
		return shadow_same_role(&shadow->numbered[page->nodes[index].key]->role, role);
	if (wanted != VD_MMU_LEAF || page->nodes[index].key != role->base)
		return false;
	shadow->format->attributes(standing, page->role.level, &attributes);
	return !(attributes.access & ~role->access) &&
	       attributes.user == !!(role->access & VD_SHADOW_USER);
}

static void note_prefill(struct mend *mend, const struct shadow_page *page, unsigned index,
			 const struct prefill *prefill)
{
	if (mend->prefill_count == PREFILLS_MAX || page->role.level)
		return;
	mend->prefills[mend->prefill_count] = *prefill;
	mend->prefills[mend->prefill_count].serial = page->serial;
	mend->prefills[mend->prefill_count].number = page->number;
	mend->prefills[mend->prefill_count].index = index;
	mend->prefill_count++;
}

/* Entry @guest_index of the guest's table has been stored to. */
static void mend_entry(struct vd_shadow *shadow, struct mend *mend, struct shadow_page *page,
		       uint64_t guest_index)
{
	const struct vd_guest_format *guest = page->role.format;
	unsigned level = page->role.level, bits = shadow->format->bits[level];
	unsigned parts = guest->shift[page->role.guest_level] - shadow->format->shift[level];
	struct prefill prefill = {
		.entry_gpa = page->role.base + guest_index * guest->entry_bytes,
	};
	struct vd_guest_entry entry;

	prefill.host = (char *)mend->write->host +
		       (int64_t)(prefill.entry_gpa - mend->write->gpa.value);
	prefill.value = shadow_guest_load(guest, prefill.host);
	entry = guest->decode(prefill.value, page->role.guest_level);
	if (entry.kind == VD_MMU_MALFORMED)
		mend->unshadow = true; /* more likely data than a table */
	for (uint64_t part = guest_index << parts; part < (guest_index + 1) << parts; part++) {
		unsigned index = (unsigned)part & ((1u << bits) - 1);
		enum vd_mmu_entry_kind wanted;
		uint64_t standing;

		if (part >> bits != page->role.quadrant)
			continue;
		standing = shadow_load(page, index);
		wanted = shadow_wanted(shadow, page, index, &entry, entry.dirty, &prefill.role);
		if (standing && !still_right(shadow, page, index, standing, wanted, &prefill.role))
			shadow_clear(shadow, page, index);
		if (wanted == VD_MMU_LEAF && !shadow_load(page, index))
			note_prefill(mend, page, index, &prefill);
		page->written = index;
	}
}

static bool last_was_used(struct vd_shadow *shadow, const struct shadow_page *page)
{
	struct vd_mmu_attributes attributes;
	uint64_t entry;

	if (page->role.level || page->written == SHADOW_NONE)
		return false;
	entry = shadow_load(page, page->written);
	if (!entry)
		return false;
	shadow->format->attributes(entry, 0, &attributes);
	return attributes.accessed;
}

/* Stores in a row, with neither a fault nor a walk through what they made in between. */
static bool is_flooded(struct vd_shadow *shadow, struct shadow_page *page,
		       const struct vd_shadow_write *write)
{
	unsigned bytes = page->role.format->entry_bytes;

	if (last_was_used(shadow, page))
		page->writes = 0;
	/* PAE guests store entries of 8 bytes in halves. */
	if (write->length < 4 || write->gpa.value & (bytes < write->length ? bytes - 1
								    : write->length - 1))
		return true;
	return ++page->writes > SHADOW_FLOOD;
}

static void mend_page(struct vd_shadow *shadow, struct mend *mend, struct shadow_page *page)
{
	const struct vd_guest_format *guest = page->role.format;
	uint64_t bytes = (uint64_t)guest->entry_bytes << guest->bits[page->role.guest_level];
	uint64_t start = mend->write->gpa.value, end = start + mend->write->length;
	uint64_t low = page->role.base, high = low + bytes;

	if (end <= low || start >= high)
		return;
	if (is_flooded(shadow, page, mend->write))
		mend->unshadow = true;
	start = start > low ? start - low : 0;
	end = end < high ? end - low : bytes;
	for (uint64_t i = start / guest->entry_bytes; i * guest->entry_bytes < end; i++)
		mend_entry(shadow, mend, page, i);
}

/* ---- after it ------------------------------------------------------------------------------- */

/* Follows the retry protocol, with the seq from before the store. Not worth a second attempt. */
static void prefill(struct vd_shadow *shadow, const struct vd_shadow_write *write,
		    const struct prefill *prefill)
{
	const struct vd_mmu_format *format = shadow->format;
	uint64_t gpa = prefill->role.base, reach = (UINT64_C(1) << format->output_bits) - 1;
	uint64_t frame_mask = (UINT64_C(1) << shadow->top.page_shift) - 1;
	struct vd_mmu_attributes attributes = {.user = prefill->role.access & VD_SHADOW_USER};
	struct shadow_page *page;
	struct vd_mem_page found;

	if (vd_mem_gpa_to_pfn(shadow->mem, (vd_gpa){gpa}, VD_READ, &found) ||
	    found.kind != VD_SLOT_RAM || vd_pfn_is_bad(found.host.pfn))
		return;
	attributes.access = prefill->role.access & shadow_slot_access(&found, VD_READ);
	attributes.type = found.host.type;
	shadow->env->lock(shadow->env, &shadow->lock);
	page = shadow->numbered[prefill->number];
	if (!shadow_is_dead(shadow) && page && page->serial == prefill->serial &&
	    !vd_notifier_retry(shadow->notifier, write->seq, gpa, vd_mmu_format_size(format, 0)) &&
	    !vd_notifier_retry(shadow->notifier, write->seq, prefill->entry_gpa, 8) &&
	    shadow_guest_load(page->role.format, prefill->host) == prefill->value &&
	    !shadow_load(page, prefill->index)) {
		if (shadow_is_shadowed(shadow, gpa))
			attributes.access &= ~VD_WRITE;
		if (format->can(&attributes, 0)) {
			uint64_t address = (found.host.pfn.value << shadow->top.page_shift) +
					   (gpa & frame_mask);

			shadow_leaf_set(shadow, page, prefill->index, gpa,
					format->leaf_entry(address & reach, &attributes, 0));
			shadow_count(&shadow->counters.prefills);
		}
	}
	shadow_unlock(shadow);
}

bool vd_shadow_write_end(struct vd_shadow *shadow, struct vd_shadow_write *write)
{
	struct mend mend = {.write = write};
	struct shadow_page *page = shadow_mirrors(shadow, write->gpa.value, NULL);
	bool shadowed = page;

	shadow_count(&shadow->counters.writes);
	for (; page; page = shadow_mirrors(shadow, write->gpa.value, page))
		mend_page(shadow, &mend, page);
	if (shadowed && mend.unshadow) {
		shadow_unshadow(shadow, write->gpa.value, false);
		shadow_count(&shadow->counters.floods);
		shadowed = shadow_is_shadowed(shadow, write->gpa.value);
	}
	shadow_unlock(shadow);
	for (unsigned i = 0; i < mend.prefill_count; i++)
		prefill(shadow, write, &mend.prefills[i]);
	return shadowed;
}
