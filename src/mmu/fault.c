/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Invariant 2, step by step: begin (seq), look the page up (may sleep), take table pages, then
 * under the lock: retry if an invalidation came between, else install. No reference outlives it.
 */
#include "mmu/state.h"

/* What shall be installed: the address that @gpa has, and the largest level that holds alike. */
struct fault_target {
	uint64_t gpa;
	uint64_t address;
	unsigned level;
	unsigned wanted; /* the access that faulted */
	bool dirty_log;
	struct vd_mmu_attributes attributes;
};

/* A page that is still watched after so many calls to its watchers is one that they keep. */
#define TELLS 8u

enum fault_outcome { FAULT_INSTALLED = 1, FAULT_WIDENED, FAULT_SPURIOUS, FAULT_SHORT };

struct fault_visitor {
	struct vd_mmu_visitor visitor;
	struct vd_mmu *mmu;
	const struct fault_target *target;
	struct vd_mmu_spares *spares;
};

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

static int fault_resolve(struct vd_mmu *mmu, uint64_t gpa, unsigned access,
			 struct fault_target *target)
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
	while (target->level && !block_fits(mmu, &page, gpa, target->address, target->level))
		target->level--;
	return 0;
}

/* Address of the target's block of a level, as the format can hold it. */
static uint64_t target_block(const struct vd_mmu *mmu, const struct fault_target *target,
			     unsigned level)
{
	uint64_t reach = ((uint64_t)1 << mmu->pt.format->output_bits) - 1;

	return target->address & reach & ~(vd_mmu_format_size(mmu->pt.format, level) - 1);
}

static uint64_t target_entry(const struct vd_mmu *mmu, const struct fault_target *target,
			     const struct vd_mmu_attributes *attributes, unsigned level)
{
	return mmu->pt.format->leaf_entry(target_block(mmu, target, level), attributes, level);
}

static int install_table(struct vd_mmu *mmu, struct fault_visitor *fault,
			 const struct vd_mmu_place *place)
{
	unsigned below = place->table->level - 1;
	struct vd_mmu_table *child = vd_mmu_spares_take(fault->spares, below);

	if (!child)
		return FAULT_SHORT;
	vd_mmu_table_link(place->table, place->index, child,
			  mmu->pt.format->table_entry(vd_mmu_table_address(&mmu->pt, child),
						      place->table->level));
	vd_mmu_count(&mmu->pt.counters.table_pages, 1);
	return 0;
}

static int install_leaf(struct vd_mmu *mmu, const struct fault_target *target,
			const struct vd_mmu_place *place)
{
	uint64_t entry = target_entry(mmu, target, &target->attributes, place->table->level);

	vd_mmu_leaf_set(&mmu->pt, place, entry, target->attributes.device);
	return FAULT_INSTALLED;
}

/* Whether the leaf, as it stands, is the target's page with nothing but permissions missing. */
static bool leaf_matches(const struct vd_mmu *mmu, const struct fault_target *target,
			 const struct vd_mmu_place *place, struct vd_mmu_attributes *old)
{
	const struct vd_mmu_format *format = mmu->pt.format;
	unsigned level = place->table->level;

	/* A marked leaf changes only once its group is broken. */
	if (format->kind(place->entry, level) != VD_MMU_LEAF ||
	    vd_mmu_is_marked(&mmu->pt, place->entry, level) ||
	    format->address(place->entry, level) != target_block(mmu, target, level))
		return false;
	format->attributes(place->entry, level, old);
	return old->type == target->attributes.type && old->device == target->attributes.device;
}

/*
 * A leaf stands in the way. If it maps the same page, it already allows the access, or the missing
 * permissions are added, for which nobody need flush. Else it goes: zap, flush, and only
 * then map. Return: a fault_outcome, or 0 when the entry is absent now.
 */
static int fault_at_leaf(struct vd_mmu *mmu, const struct fault_target *target,
			 const struct vd_mmu_place *place)
{
	unsigned level = place->table->level;
	vd_mmu_entry *slot = &place->table->entries[place->index];
	struct vd_mmu_place now = *place;
	struct vd_mmu_attributes old, wide;

	while (leaf_matches(mmu, target, &now, &old)) {
		if (!(target->wanted & ~old.access))
			return FAULT_SPURIOUS;
		if (level > target->level || old.access & ~target->attributes.access)
			break;
		wide = target->attributes;
		wide.dirty |= old.dirty;
		/* Lost against a walker that set accessed or dirty: look again. */
		if (atomic_compare_exchange_strong_explicit(
			    slot, &now.entry, target_entry(mmu, target, &wide, level),
			    memory_order_acq_rel, memory_order_relaxed))
			return FAULT_WIDENED;
	}
	if (vd_mmu_is_marked(&mmu->pt, place->entry, level))
		vd_mmu_group_break(&mmu->pt, place);
	vd_mmu_leaf_clear(&mmu->pt, place);
	vd_mmu_flush(&mmu->pt, place->gpa, vd_mmu_format_size(mmu->pt.format, level));
	return 0;
}

/* A table of ours to which no entry leads (any more) was cut off by somebody else: tie it again. */
static void repair_table(struct vd_mmu *mmu, const struct vd_mmu_place *place)
{
	const struct vd_mmu_table *child = vd_mmu_table_child(place->table, place->index);
	uint64_t entry = mmu->pt.format->table_entry(vd_mmu_table_address(&mmu->pt, child),
						     place->table->level);

	if (place->entry == entry)
		return;
	vd_mmu_flush(&mmu->pt, place->gpa, vd_mmu_place_size(&mmu->pt, place));
	atomic_store_explicit(&place->table->entries[place->index], entry, memory_order_release);
}

static int fault_visit(struct vd_pgtable *pt, struct vd_mmu_visitor *visitor,
		       const struct vd_mmu_place *place, enum vd_mmu_moment moment)
{
	struct fault_visitor *fault = (struct fault_visitor *)visitor;
	struct vd_mmu *mmu = fault->mmu;
	int ret = 0;

	(void)pt;
	if (moment == VD_MMU_BEFORE_TABLE) {
		repair_table(mmu, place);
		return 0;
	}
	if (moment == VD_MMU_AT_LEAF)
		ret = fault_at_leaf(mmu, fault->target, place);
	if (ret)
		return ret;
	/* Where a table of smaller leaves already stands, the walk is below the target's level. */
	if (place->table->level > fault->target->level)
		return install_table(mmu, fault, place);
	return install_leaf(mmu, fault->target, place);
}

static int fault_install(struct vd_mmu *mmu, const struct fault_target *target,
			 struct vd_mmu_spares *spares)
{
	struct fault_visitor fault = {
		.visitor = {.first = target->gpa,
			    .last = target->gpa,
			    .when = VD_MMU_AT_ABSENT | VD_MMU_AT_LEAF | VD_MMU_BEFORE_TABLE,
			    .visit = fault_visit},
		.mmu = mmu,
		.target = target,
		.spares = spares,
	};

	return vd_mmu_visit(&mmu->pt, &fault.visitor);
}

static void fault_count(struct vd_mmu *mmu, const struct fault_target *target, int outcome)
{
	struct vd_mmu_fault_counters *faults = &mmu->faults;

	if (outcome == FAULT_SPURIOUS)
		vd_mmu_count(&faults->spurious, 1);
	else if (outcome == FAULT_WIDENED)
		vd_mmu_count(&faults->protection, 1);
	else if (target->attributes.device)
		vd_mmu_count(&faults->device, 1);
	else
		vd_mmu_count(&faults->ram, 1);
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

/*
 * One attempt. Return: a fault_outcome; -EAGAIN an invalidation of [*@start, *@start + *@length)
 * came between; else the error of the access.
 */
static int fault_try(struct vd_mmu *mmu, uint64_t gpa, unsigned access,
		     struct vd_mmu_spares *spares, struct fault_target *target, uint64_t *start,
		     uint64_t *length)
{
	uint64_t seq = vd_notifier_begin(mmu->notifier);
	size_t need[VD_MMU_LEVELS_MAX] = {0};
	unsigned end;
	int ret;

	*start = gpa & ~(vd_mmu_format_size(mmu->pt.format, 0) - 1);
	*length = vd_mmu_format_size(mmu->pt.format, 0);
	ret = fault_resolve(mmu, gpa, access, target);
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

	vd_pgtable_lock(&mmu->pt);
	if (mmu_is_dead(mmu))
		ret = -ESHUTDOWN;
	else if (vd_notifier_retry(mmu->notifier, seq, *start, *length))
		ret = -EAGAIN;
	else
		ret = fault_install(mmu, target, spares);
	vd_pgtable_unlock(&mmu->pt);
	return ret;
}

int vd_mmu_fault(struct vd_mmu *mmu, vd_gpa gpa, unsigned access)
{
	struct vd_mmu_spares spares = {0};
	struct fault_target target;
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
			vd_mmu_count(&mmu->faults.retries, 1);
			vd_notifier_wait(mmu->notifier, start, length);
		}
		if (ret == -EUCLEAN && told++ < TELLS) {
			vd_mem_watch_tell(mmu->mem, gpa, 1);
			ret = -EAGAIN;
		}
		/* FAULT_SHORT: tables went away between the look at the path and the lock. */
	} while (ret == -EAGAIN || ret == FAULT_SHORT);
	vd_mmu_spares_drop(&spares);
	if (ret < 0)
		return ret;
	fault_count(mmu, &target, ret);
	vd_trace(mmu->env, VD_TRACE_FAULT, gpa.value, access,
		 vd_mmu_format_size(mmu->pt.format, target.level));
	return 0;
}
