/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Invariant 2, step by step: begin (seq), look the page up (may sleep), take table pages, then
 * inside the lock, shared: retry if an invalidation came between, else install (install.c). No
 * reference outlives it.
 */
#include "mmu/state.h"

/* A page that is still watched after so many calls to its watchers is one that they keep. */
#define TELLS 8u

static uint64_t page_address(const struct vd_mmu *mmu, const struct vd_mem_page *page, uint64_t gpa)
{
	uint64_t offset = gpa & (((uint64_t)1 << mmu->pt.top.page_shift) - 1);

	return (page->host.pfn.value << mmu->pt.top.page_shift) + offset;
}

/*
 * Whether the block of a level around @gpa is one piece: gpa and address agree modulo its size,
 * it lies inside the slot, and what the host has from its start on is alike to its end. The
 * slot's bounds and the first run only save the second lookup. What changes between the lookups
 * ends in a retry.
 */
static bool block_fits(struct vd_mmu *mmu, const struct vd_mem_page *page, uint64_t gpa,
		       uint64_t address, unsigned level)
{
	uint64_t size = vd_mmu_format_size(mmu->pt.format, level);
	uint64_t start = gpa & ~(size - 1);
	struct vd_mem_page head;

	if ((gpa ^ address) & (size - 1))
		return false;
	if (start < page->slot_base || page->slot_size < size ||
	    start - page->slot_base > page->slot_size - size)
		return false;
	if (page->host.run < size - (gpa - start))
		return false;
	/* For reading: only the page that faulted may break copy-on-write. */
	return !vd_mem_gpa_to_pfn(mmu->mem, (vd_gpa){start}, VD_READ, &head) &&
	       head.host.run >= size;
}

/* Invariant 5. A lookup for writing that succeeded is the host's and the slot's permission. */
static unsigned target_access(const struct vd_mem_page *page, unsigned access)
{
	unsigned allowed = VD_READ;

	if (access & VD_WRITE || page->writable)
		allowed |= VD_WRITE;
	if (page->kind == VD_SLOT_RAM)
		allowed |= VD_EXECUTE;
	return allowed;
}

int vd_mmu_resolve(struct vd_mmu *mmu, uint64_t gpa, unsigned access,
		   struct vd_mmu_target *target)
{
	struct vd_mem_page page;
	int ret = vd_mem_gpa_to_pfn(mmu->mem, (vd_gpa){gpa}, access, &page);

	if (ret)
		return ret;
	if (vd_pfn_is_bad(page.host.pfn))
		return -EFAULT;
	if (page.watched && access & VD_WRITE)
		return -EUCLEAN;
	target->wanted = access;
	target->gpa = gpa;
	target->address = page_address(mmu, &page, gpa);
	target->dirty_log = page.dirty_log;
	target->attributes = (struct vd_mmu_attributes){
		.access = target_access(&page, access),
		.type = page.host.type,
		.accessed = true,
		.dirty = access & VD_WRITE,
		.device = page.kind == VD_SLOT_DEVICE,
	};
	if ((target->attributes.access & access) != access)
		return -EACCES;
	target->level = page.dirty_log ? 0 : mmu->pt.format->block_level;
	while (target->level &&
	       (!mmu->pt.format->can(&target->attributes, target->level) ||
		!block_fits(mmu, &page, gpa, target->address, target->level)))
		target->level--;
	return mmu->pt.format->can(&target->attributes, target->level) ? 0 : -EOPNOTSUPP;
}

static void fault_count(struct vd_mmu *mmu, const struct vd_mmu_target *target, int outcome)
{
	struct vd_mmu_stripe *stripe = vd_mmu_stripe(&mmu->pt.share);

	vd_mmu_count_shared(outcome == VD_MMU_SPURIOUS		? &stripe->faults_spurious
			    : outcome == VD_MMU_WIDENED		? &stripe->faults_protection
			    : target->attributes.device		? &stripe->faults_device
								: &stripe->faults_ram,
			    1);
}

unsigned vd_mmu_path_end(const struct vd_mmu *mmu, uint64_t gpa)
{
	const struct vd_mmu_format *format = mmu->pt.format;
	vd_mmu_entry *table = mmu->pt.top.entries;
	unsigned level = format->levels - 1;
	uint64_t entry;

	mmu->env->read_enter(mmu->env);
	for (;; level--) {
		unsigned index = vd_mmu_format_index(format, level, gpa);

		/* Pairs with the release in vd_mmu_table_link(), as in vd_mmu_format_walk(). */
		entry = atomic_load_explicit(&table[index], memory_order_acquire);
		if (format->kind(entry, level) != VD_MMU_TABLE)
			break;
		table = vd_mmu_format_table(format, mmu->pt.top.window_base, entry, level);
	}
	mmu->env->read_leave(mmu->env);
	return level;
}

static bool mmu_is_dead(const struct vd_mmu *mmu)
{
	/* Pairs with the release in the release callback of zap.c. */
	return atomic_load_explicit(&mmu->dead, memory_order_acquire);
}

int vd_mmu_overtaken(struct vd_mmu *mmu, uint64_t seq, uint64_t start, uint64_t length)
{
	if (mmu_is_dead(mmu))
		return -ESHUTDOWN;
	return vd_notifier_retry(mmu->notifier, seq, start, length) ? -EAGAIN : 0;
}

/*
 * One attempt. Return: an outcome; -EAGAIN an invalidation of [*@start, *@start + *@length)
 * came between; else the error of the access.
 */
static int fault_try(struct vd_mmu *mmu, uint64_t gpa, unsigned access,
		     struct vd_mmu_spares *spares, struct vd_mmu_target *target, uint64_t *start,
		     uint64_t *length)
{
	uint64_t seq = vd_notifier_begin(mmu->notifier);
	size_t need[VD_MMU_LEVELS_MAX] = {0};
	struct vd_mmu_stripe *stripe;
	unsigned end;
	int ret;

	*start = gpa & ~(vd_mmu_format_size(mmu->pt.format, 0) - 1);
	*length = vd_mmu_format_size(mmu->pt.format, 0);
	ret = vd_mmu_resolve(mmu, gpa, access, target);
	/* What is not there while the slot is being moved or its memory changed may come back. */
	if (ret && vd_notifier_retry(mmu->notifier, seq, *start, *length))
		return -EAGAIN;
	if (ret)
		return mmu_is_dead(mmu) ? -ESHUTDOWN : ret;
	*length = vd_mmu_format_size(mmu->pt.format, target->level);
	*start = gpa & ~(*length - 1);
	/*
	 * Before the entry can be written through. A log that is fetched from now on write-protects
	 * this range afterwards, so this attempt is then repeated and marks again.
	 */
	if (target->dirty_log && access & VD_WRITE)
		vd_mem_mark_dirty(mmu->mem, (vd_gpa){gpa}, 1);
	end = vd_mmu_path_end(mmu, gpa);
	for (unsigned level = target->level; level < end; level++)
		need[level] = 1;
	if (end > target->level && vd_mmu_spares_fill(spares, mmu->env, mmu->pt.format, need))
		return -ENOMEM;

	stripe = vd_mmu_share_enter(&mmu->pt.share, mmu->env);
	ret = vd_mmu_overtaken(mmu, seq, *start, *length);
	if (!ret)
		ret = vd_mmu_install_shared(mmu, target, spares, stripe);
	vd_mmu_share_leave(&mmu->pt.share, mmu->env, stripe);
	if (ret != VD_MMU_ALONE)
		return ret;
	vd_pgtable_lock(&mmu->pt);
	ret = vd_mmu_overtaken(mmu, seq, *start, *length);
	if (!ret)
		ret = vd_mmu_install_alone(mmu, target, spares);
	vd_pgtable_unlock(&mmu->pt);
	return ret;
}

int vd_mmu_fault(struct vd_mmu *mmu, vd_gpa gpa, unsigned access)
{
	struct vd_mmu_spares spares = {0};
	struct vd_mmu_target target;
	uint64_t start, length;
	unsigned told = 0;
	int ret;

	if (gpa.value >> mmu->pt.format->input_bits)
		return -ENOENT;
	do {
		if (mmu_is_dead(mmu)) {
			ret = -ESHUTDOWN;
			break;
		}
		ret = fault_try(mmu, gpa.value, access, &spares, &target, &start, &length);
		if (ret == -EAGAIN) {
			vd_mmu_count_shared(&vd_mmu_stripe(&mmu->pt.share)->retries, 1);
			vd_notifier_wait(mmu->notifier, start, length);
		}
		if (ret == -EUCLEAN && told++ < TELLS) {
			vd_mem_watch_tell(mmu->mem, gpa, 1);
			ret = -EAGAIN;
		}
		/* VD_MMU_SHORT: tables went away between the look at the path and the lock. */
	} while (ret == -EAGAIN || ret == VD_MMU_SHORT);
	vd_mmu_spares_drop(&spares);
	if (ret < 0)
		return ret;
	fault_count(mmu, &target, ret);
	vd_trace(mmu->env, VD_TRACE_FAULT, gpa.value, access,
		 vd_mmu_format_size(mmu->pt.format, target.level));
	return 0;
}
