/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Watched pages: one byte a page of a RAM slot, one bit in it a watcher, so that eight pages are
 * asked about, set and cleared at once.
 *
 * Why no store is missed: who stores looks at the bits in a read section, or by a lookup under the
 * retry protocol. Who sets them runs an event that takes leave to store from the mirrors, and then
 * waits for read sections: vd_mem_write_protect(). So a store either was let through before the
 * bits, and is over when that returns, or sees them.
 */
#include "mem/space.h"

#define PAGES_PER_WORD 8u
#define ONE_A_PAGE UINT64_C(0x0101010101010101)
/* A page's answer holds for no more than the rest of so many pages, aligned: 2 MiB of 4 KiB. */
#define PAGES_ALIKE 512u

struct vd_mem_watched {
	struct vd_deferred deferred;
	const struct vd_env *env;
	size_t bytes;
	uint64_t pages;
	unsigned page_shift;
	_Atomic uint64_t marked; /* pages that anybody watches */
	_Atomic uint64_t words[];
};

struct vd_mem_watched *vd_watched_create(const struct vd_env *env, uint64_t pages,
					 unsigned page_shift)
{
	uint64_t words = (pages + PAGES_PER_WORD - 1) / PAGES_PER_WORD;
	size_t bytes = sizeof(struct vd_mem_watched) + (size_t)words * sizeof(uint64_t);
	struct vd_mem_watched *watched =
		vd_env_allocate(env, "mem.watch", bytes, _Alignof(struct vd_mem_watched));

	if (!watched)
		return NULL;
	watched->env = env;
	watched->bytes = bytes;
	watched->pages = pages;
	watched->page_shift = page_shift;
	return watched;
}

void vd_watched_free(const struct vd_env *env, struct vd_mem_watched *watched)
{
	if (watched)
		env->release(env, watched, watched->bytes);
}

static void free_deferred(struct vd_deferred *item)
{
	struct vd_mem_watched *watched = (struct vd_mem_watched *)item;

	vd_watched_free(watched->env, watched);
}

/* Acquire pairs with the release where it is set: its bytes are all zero by then. */
static struct vd_mem_watched *watched_of(const struct vd_slot *slot)
{
	return atomic_load_explicit(&slot->watched, memory_order_acquire);
}

/* Acquire pairs with the releases of vd_mem_watch_set() and _clear(). */
static uint64_t word_at(const struct vd_mem_watched *watched, uint64_t page)
{
	return atomic_load_explicit(&watched->words[page / PAGES_PER_WORD], memory_order_acquire);
}

static unsigned byte_at(const struct vd_mem_watched *watched, uint64_t page)
{
	return word_at(watched, page) >> page % PAGES_PER_WORD * 8 & 0xff;
}

static unsigned pages_in(uint64_t word)
{
	word |= word >> 4;
	word |= word >> 2;
	word |= word >> 1;
	return (unsigned)__builtin_popcountll(word & ONE_A_PAGE);
}

/*
 * The first page from @page on, before @end, that is watched by one of @watchers (or, if not
 * @wanted, by none of them); @end if there is none.
 */
static uint64_t find_page(const struct vd_mem_watched *watched, uint64_t page, uint64_t end,
			  unsigned watchers, bool wanted)
{
	uint64_t all = watchers * ONE_A_PAGE;

	while (page < end) {
		if (!(page % PAGES_PER_WORD) && end - page >= PAGES_PER_WORD) {
			unsigned hits = pages_in(word_at(watched, page) & all);

			if (hits == (wanted ? 0 : PAGES_PER_WORD)) {
				page += PAGES_PER_WORD;
				continue;
			}
		}
		if (!(byte_at(watched, page) & watchers) != wanted)
			return page;
		page++;
	}
	return end;
}

void vd_watch_page(const struct vd_slot *slot, uint64_t gpa, struct vd_mem_page *page,
		   uint64_t *left)
{
	struct vd_mem_watched *watched = watched_of(slot);
	uint64_t first, alike, end;

	if (!watched || !atomic_load_explicit(&watched->marked, memory_order_relaxed))
		return;
	first = (gpa - slot->config.base.value) >> watched->page_shift;
	alike = PAGES_ALIKE - (gpa >> watched->page_shift) % PAGES_ALIKE;
	end = watched->pages - first < alike ? watched->pages : first + alike;
	page->watched = byte_at(watched, first) != 0;
	if (page->watched)
		page->writable = false;
	end = find_page(watched, first, end, 0xff, !page->watched);
	end = (end << watched->page_shift) - (gpa - slot->config.base.value);
	if (end < *left)
		*left = end;
}

/* ---- ranges --------------------------------------------------------------------------------- */

/* Watched bytes of a range: those of one slot that are next to each other. */
struct hit {
	uint64_t start, length;
};

/* The first bytes of [@gpa, @last] that one of @watchers watches. */
static bool find_hit(struct vd_mem *mem, uint64_t gpa, uint64_t last, unsigned watchers,
		     struct hit *hit)
{
	const struct vd_env *env = mem->env;
	const struct vd_mem_snapshot *snapshot;
	bool found = false;
	uint32_t i;

	env->read_enter(env);
	snapshot = vd_mem_current(mem);
	for (i = vd_snapshot_first(snapshot, gpa);
	     !found && i < snapshot->count && snapshot->starts[i] <= last; i++) {
		uint64_t base = snapshot->starts[i], start = base > gpa ? base : gpa;
		uint64_t stop = snapshot->entries[i].last < last ? snapshot->entries[i].last : last;
		struct vd_mem_watched *watched = watched_of(&snapshot->entries[i].slot->shown);
		uint64_t page, end;

		if (!watched)
			continue;
		end = ((stop - base) >> watched->page_shift) + 1;
		page = find_page(watched, (start - base) >> watched->page_shift, end, watchers,
				 true);
		if (page == end)
			continue;
		end = find_page(watched, page, end, watchers, false);
		if (base + (page << watched->page_shift) > start)
			start = base + (page << watched->page_shift);
		if (base + ((end << watched->page_shift) - 1) < stop)
			stop = base + ((end << watched->page_shift) - 1);
		*hit = (struct hit){start, stop - start + 1};
		found = true;
	}
	env->read_leave(env);
	return found;
}

static uint64_t range_last(uint64_t gpa, uint64_t length)
{
	uint64_t last = gpa + (length - 1);

	return last < gpa ? UINT64_MAX : last;
}

bool vd_mem_watched(struct vd_mem *mem, vd_gpa gpa, uint64_t length)
{
	struct hit hit;

	/* Acquire pairs with the release in vd_mem_watch_add(). */
	if (__builtin_expect(!atomic_load_explicit(&mem->watching, memory_order_acquire), 1))
		return false;
	return length && find_hit(mem, gpa.value, range_last(gpa.value, length), 0xff, &hit);
}

bool vd_mem_watched_else(const struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct hit hit;

	return length && find_hit(watch->mem, gpa.value, range_last(gpa.value, length),
				  0xff & ~(1u << watch->number), &hit);
}

/* ---- telling -------------------------------------------------------------------------------- */

/* A watcher that stays until watch_leave(); NULL if there is none of that number. */
static struct vd_mem_watch *watch_enter(struct vd_mem *mem, unsigned number)
{
	struct vd_mem_watch *watch;

	mem->env->lock(mem->env, &mem->watch_lock);
	watch = mem->watches[number];
	if (watch && watch->leaving)
		watch = NULL;
	if (watch)
		watch->calls++;
	mem->env->unlock(mem->env, &mem->watch_lock);
	return watch;
}

static void watch_leave(struct vd_mem *mem, struct vd_mem_watch *watch)
{
	bool last;

	mem->env->lock(mem->env, &mem->watch_lock);
	last = !--watch->calls;
	atomic_fetch_add_explicit(&mem->watch_word, last, memory_order_relaxed);
	mem->env->unlock(mem->env, &mem->watch_lock);
	if (last)
		mem->env->wake(mem->env, &mem->watch_word);
}

static void tell_one(struct vd_mem *mem, unsigned number, uint64_t gpa, uint64_t last)
{
	struct vd_mem_watch *watch;
	struct hit hit;

	while (find_hit(mem, gpa, last, 1u << number, &hit)) {
		watch = watch_enter(mem, number);
		if (!watch)
			return;
		watch->ops->store(watch, (vd_gpa){hit.start}, hit.length);
		watch_leave(mem, watch);
		gpa = hit.start + hit.length;
		if (hit.start + (hit.length - 1) >= last)
			return;
	}
}

uint64_t vd_mem_watch_tell(struct vd_mem *mem, vd_gpa gpa, uint64_t length)
{
	/* Acquire pairs with the release in change_range(): what it counts is found below. */
	uint64_t sets = atomic_load_explicit(&mem->watch_sets, memory_order_acquire);
	unsigned i;

	/* Acquire as in vd_mem_watched(). */
	if (!length || !atomic_load_explicit(&mem->watching, memory_order_acquire))
		return sets + 1;
	for (i = 0; i < VD_MEM_WATCHERS_MAX; i++)
		tell_one(mem, i, gpa.value, range_last(gpa.value, length));
	return sets + 1;
}

bool vd_mem_watch_told(const struct vd_mem *mem, uint64_t told)
{
	/* Acquire as in vd_mem_watch_tell(). */
	return told == atomic_load_explicit(&mem->watch_sets, memory_order_acquire) + 1;
}

void vd_mem_watch_tell_else(const struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	unsigned i;

	for (i = 0; length && i < VD_MEM_WATCHERS_MAX; i++) {
		if (i != watch->number)
			tell_one(watch->mem, i, gpa.value, range_last(gpa.value, length));
	}
}

/* ---- setting and clearing ------------------------------------------------------------------- */

/* Return: whether any of them has changed. */
static bool change_pages(struct vd_mem_watched *watched, uint64_t page, uint64_t last,
			 unsigned number, bool set)
{
	bool changed = false;

	while (page <= last) {
		uint64_t at = page % PAGES_PER_WORD, count = PAGES_PER_WORD - at;
		_Atomic uint64_t *word = &watched->words[page / PAGES_PER_WORD];
		uint64_t bits, old, new;

		if (last - page < count)
			count = last - page + 1;
		bits = ONE_A_PAGE << number;
		if (count < PAGES_PER_WORD)
			bits &= ((UINT64_C(1) << count * 8) - 1) << at * 8;
		/* Releases pair with word_at(). */
		old = set ? atomic_fetch_or_explicit(word, bits, memory_order_acq_rel)
			  : atomic_fetch_and_explicit(word, ~bits, memory_order_acq_rel);
		new = set ? old | bits : old & ~bits;
		changed |= new != old;
		if (pages_in(new) != pages_in(old))
			atomic_fetch_add_explicit(&watched->marked,
						  (uint64_t)pages_in(new) - pages_in(old),
						  memory_order_relaxed);
		page += count;
	}
	return changed;
}

static void change_range(struct vd_mem_watch *watch, uint64_t gpa, uint64_t last, bool set)
{
	struct vd_mem *mem = watch->mem;
	const struct vd_env *env = mem->env;
	const struct vd_mem_snapshot *snapshot;
	bool changed = false;
	uint32_t i;

	env->read_enter(env);
	snapshot = vd_mem_current(mem);
	for (i = vd_snapshot_first(snapshot, gpa);
	     i < snapshot->count && snapshot->starts[i] <= last; i++) {
		uint64_t base = snapshot->starts[i], start = base > gpa ? base : gpa;
		uint64_t stop = snapshot->entries[i].last < last ? snapshot->entries[i].last : last;
		struct vd_mem_watched *watched = watched_of(&snapshot->entries[i].slot->shown);

		if (watched)
			changed |= change_pages(watched, (start - base) >> watched->page_shift,
						(stop - base) >> watched->page_shift,
						watch->number, set);
	}
	env->read_leave(env);
	/*
	 * After the bits: who sees them and not yet this is in a read section for which the
	 * vd_mem_write_protect() waits that follows. Release pairs with vd_mem_watch_tell().
	 */
	if (set && changed)
		atomic_fetch_add_explicit(&mem->watch_sets, 1, memory_order_release);
}

void vd_mem_watch_set(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	if (length)
		change_range(watch, gpa.value, range_last(gpa.value, length), true);
}

void vd_mem_watch_clear(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	if (length)
		change_range(watch, gpa.value, range_last(gpa.value, length), false);
}

void vd_mem_write_protect(struct vd_mem *mem, vd_gpa gpa, uint64_t length)
{
	struct vd_invalidation event = {
		.start = gpa.value,
		.length = length,
		.blockable = true,
		.reason = VD_INVALIDATE_WRITE_PROTECT,
	};

	if (!length)
		return;
	vd_mem_run_start(mem, &event);
	vd_notifier_end(&mem->notifier, &event);
	/* Copies that looked at the bits before they were set. */
	mem->env->synchronize(mem->env);
}

/* ---- watchers ------------------------------------------------------------------------------- */

/* Under the update lock: every RAM slot of the set gets its bytes, or none does. */
static int create_all(struct vd_mem *mem)
{
	const struct vd_mem_snapshot *snapshot = vd_mem_current(mem);
	struct vd_mem_watched *watched;
	struct vd_slot *slot;
	uint32_t i;

	for (i = 0; i < snapshot->count; i++) {
		slot = &snapshot->entries[i].slot->shown;
		if (slot->config.kind != VD_SLOT_RAM || watched_of(slot))
			continue;
		watched = vd_watched_create(mem->env, slot->config.size >> mem->page_shift,
					    mem->page_shift);
		if (!watched)
			return -ENOMEM;
		atomic_store_explicit(&slot->watched, watched, memory_order_release);
	}
	return 0;
}

/* Under the update lock. */
static void free_all(struct vd_mem *mem)
{
	const struct vd_mem_snapshot *snapshot = vd_mem_current(mem);
	struct vd_mem_watched *watched;
	uint32_t i;

	for (i = 0; i < snapshot->count; i++) {
		watched = atomic_exchange_explicit(&snapshot->entries[i].slot->shown.watched, NULL,
						   memory_order_acq_rel);
		if (watched)
			mem->env->defer(mem->env, &watched->deferred, free_deferred);
	}
}

int vd_mem_watch_add(struct vd_mem *mem, struct vd_mem_watch *watch)
{
	const struct vd_env *env = mem->env;
	unsigned number = 0;
	int r = 0;

	if (!watch->ops || !watch->ops->store)
		return -EINVAL;
	env->lock(env, &mem->update_lock);
	while (number < VD_MEM_WATCHERS_MAX && mem->watches[number])
		number++;
	if (number == VD_MEM_WATCHERS_MAX)
		r = -ENOSPC;
	else
		r = create_all(mem);
	if (!r) {
		watch->mem = mem;
		watch->number = number;
		watch->calls = 0;
		watch->leaving = false;
		env->lock(env, &mem->watch_lock);
		mem->watches[number] = watch;
		env->unlock(env, &mem->watch_lock);
		/* Release pairs with the acquire in vd_mem_watched(). */
		atomic_fetch_add_explicit(&mem->watching, 1, memory_order_release);
	} else if (!atomic_load_explicit(&mem->watching, memory_order_relaxed)) {
		free_all(mem);
	}
	env->unlock(env, &mem->update_lock);
	return r;
}

void vd_mem_watch_remove(struct vd_mem_watch *watch)
{
	struct vd_mem *mem = watch->mem;
	const struct vd_env *env;
	uint32_t seen;

	if (!mem)
		return;
	env = mem->env;
	/* First, so that nobody finds a page for which no watcher is there to be told. */
	change_range(watch, 0, UINT64_MAX, false);
	env->lock(env, &mem->watch_lock);
	watch->leaving = true;
	while (watch->calls) {
		seen = atomic_load_explicit(&mem->watch_word, memory_order_relaxed);
		env->unlock(env, &mem->watch_lock);
		env->wait(env, &mem->watch_word, seen);
		env->lock(env, &mem->watch_lock);
	}
	env->unlock(env, &mem->watch_lock);
	env->lock(env, &mem->update_lock);
	/* What the last call may have set. */
	change_range(watch, 0, UINT64_MAX, false);
	env->lock(env, &mem->watch_lock);
	mem->watches[watch->number] = NULL;
	env->unlock(env, &mem->watch_lock);
	if (atomic_fetch_sub_explicit(&mem->watching, 1, memory_order_acq_rel) == 1)
		free_all(mem);
	watch->mem = NULL;
	env->unlock(env, &mem->update_lock);
}
