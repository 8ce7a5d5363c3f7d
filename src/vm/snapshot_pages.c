/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest RAM as of one moment, while the guest goes on. All of it is watched from the moment on, and
 * each page is saved before its first store: by whoever wants to store, by whoever changes the host
 * memory behind it (discards it, moves it), or by the copying thread, which goes through all of it.
 * Whoever claims a page first saves it; the others wait for the copy, not for the disk.
 *
 * A page is read through the object, without the retry protocol of a lookup: as long as it is not
 * saved its memory stays, since a change of it has to pass our listener first.
 */
#include <string.h>
#include <unistd.h>

#include "vm/snapshot.h"

/* Pages that are copied at once. */
#define RUN_PAGES 64u

/*
 * How long a change of memory is held up: a third of what the detector of changes to foreign memory
 * waits before it gives all of it up (vd_foreign_config.limit_ms).
 */
#define PATIENCE_NS UINT64_C(20000000000)

enum page_state { PAGE_UNSAVED, PAGE_CLAIMED, PAGE_EMPTY, PAGE_STORED };

/*
 * @states: enum page_state of each page
 * @sums: of those that are stored; written by who claimed the page, read when all have ended
 * @done: pages that are neither unsaved nor claimed
 * @failed: the first -errno of a write
 * @word, @sleepers: to wait for pages that are claimed
 */
struct snapshot_pages {
	struct vd_mem_watch watch;
	struct vd_listener listener;
	struct vd_vm *vm;
	const struct vd_env *env;
	int fd;
	uintptr_t window;
	uint64_t count;
	_Atomic uint8_t *states;
	uint32_t *sums;
	_Atomic uint64_t done, stored;
	_Atomic int failed;
	_Atomic uint32_t word, sleepers;
	_Atomic bool armed; /* the moment has come */
};

/* The RAM that lies at a guest address, and where RAM lies: see ram_address(). */
static uint64_t ram_offset(uint64_t gpa)
{
	return gpa >= RAM_HIGH ? RAM_LOW_MAX + (gpa - RAM_HIGH) : gpa - VD_BOARD_RAM;
}

static vd_gpa page_gpa(uint64_t page)
{
	return (vd_gpa){ram_address(page * SNAPSHOT_PAGE)};
}

/* ---- saving --------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, SNAPSHOT_PAGE - 1);
}

static void wait_for_page(struct snapshot_pages *p, uint64_t page)
{
	for (;;) {
		uint32_t seen = atomic_load(&p->word);

		if (atomic_load(&p->states[page]) != PAGE_CLAIMED)
			return;
		/* seq_cst: pairs with settle(), which changes the word before it looks for us */
		atomic_fetch_add(&p->sleepers, 1);
		p->env->wait(p->env, &p->word, seen);
		atomic_fetch_sub(&p->sleepers, 1);
	}
}

/* The pages may change from here on. */
static void settle(struct snapshot_pages *p, uint64_t first, uint64_t count,
		   const bool stored[RUN_PAGES])
{
	vd_mem_watch_clear(&p->watch, page_gpa(first), count * SNAPSHOT_PAGE);
	for (uint64_t i = 0; i < count; i++)
		atomic_store(&p->states[first + i], stored[i] ? PAGE_STORED : PAGE_EMPTY);
	atomic_fetch_add(&p->word, 1);
	if (atomic_load(&p->sleepers))
		p->env->wake(p->env, &p->word);
	atomic_fetch_add_explicit(&p->done, count, memory_order_relaxed);
}

static int copy_out(struct snapshot_pages *p, uint64_t first, uint64_t count, uint8_t *buffer)
{
	uint64_t offset = first * SNAPSHOT_PAGE, length = count * SNAPSHOT_PAGE;
	struct vd_host_guard guard = {.hits = 0};
	int rc = 0;

	/* Other code may have unmapped private memory, of which we hear afterwards. */
	vd_host_guard_enter(&guard);
	p->env->read_enter(p->env);
	while (length && !rc) {
		struct vd_host_page page;
		uint64_t run;

		rc = vd_host_object_lookup(p->vm->ram, offset, VD_READ, &page);
		if (rc)
			break;
		run = page.run < length ? page.run : length;
		vd_guest_copy(buffer, vd_host_pointer(p->window, page.pfn, 12), run);
		buffer += run;
		offset += run;
		length -= run;
	}
	p->env->read_leave(p->env);
	vd_host_guard_leave(&guard);
	return rc || !atomic_load_explicit(&guard.hits, memory_order_relaxed) ? rc : -EFAULT;
}

static void note_failure(struct snapshot_pages *p, int rc)
{
	int none = 0;

	if (rc)
		atomic_compare_exchange_strong(&p->failed, &none, rc);
}

/* What is stored of a run, with as few calls as may be. */
static void write_out(struct snapshot_pages *p, uint64_t first, uint64_t count,
		      const bool stored[RUN_PAGES], const uint8_t *buffer)
{
	for (uint64_t i = 0, end; i < count; i = end + 1) {
		for (end = i; end < count && stored[end]; end++)
			p->sums[first + end] = snapshot_checksum(buffer + end * SNAPSHOT_PAGE,
								 SNAPSHOT_PAGE);
		if (end == i)
			continue;
		atomic_fetch_add_explicit(&p->stored, end - i, memory_order_relaxed);
		note_failure(p, vd_env_inject(p->env, "snapshot.write"));
		note_failure(p, snapshot_write_at(p->fd, buffer + i * SNAPSHOT_PAGE,
						  (end - i) * SNAPSHOT_PAGE,
						  SNAPSHOT_PAGE + (first + i) * SNAPSHOT_PAGE));
	}
}

static bool claim(struct snapshot_pages *p, uint64_t page)
{
	uint8_t unsaved = PAGE_UNSAVED;

	return atomic_load_explicit(&p->states[page], memory_order_relaxed) == PAGE_UNSAVED &&
	       atomic_compare_exchange_strong(&p->states[page], &unsaved, PAGE_CLAIMED);
}

/*
 * Claims at most @room pages from @first on, up to the first that somebody else has, and saves
 * them. Return: how many.
 */
static uint64_t save_run(struct snapshot_pages *p, uint64_t first, uint64_t end, uint8_t *buffer,
			 uint64_t room)
{
	uint64_t low = RAM_LOW_MAX / SNAPSHOT_PAGE, count = 0;
	bool stored[RUN_PAGES];

	if (first < low && end > low)
		end = low; /* a run has guest addresses in a row */
	while (count < room && first + count < end && claim(p, first + count))
		count++;
	if (!count)
		return 0;
	note_failure(p, vd_env_inject(p->env, "snapshot.claim"));
	note_failure(p, copy_out(p, first, count, buffer));
	for (uint64_t i = 0; i < count; i++)
		stored[i] = !is_zero(buffer + i * SNAPSHOT_PAGE);
	settle(p, first, count, stored);
	write_out(p, first, count, stored, buffer);
	return count;
}

/*
 * Pages without memory behind them. That was looked at before they are claimed, and holds if the
 * claim succeeds: a store or a change of the memory would have claimed them first.
 */
static void save_holes(struct snapshot_pages *p, uint64_t first, uint64_t end)
{
	static const bool stored[RUN_PAGES];

	/* Who stores waits until it is watched no more: it is never found watched and settled. */
	for (; first < end; first++)
		if (claim(p, first))
			settle(p, first, 1, stored);
}

/* Where memory begins at or behind @page, and where it ends; at @end if there is none. */
static uint64_t find_memory(struct snapshot_pages *p, uint64_t page, uint64_t end, uint64_t *stop)
{
	uint64_t offset = page * SNAPSHOT_PAGE, at, run, start;
	int fd = vd_host_object_fd_range(p->vm->ram, offset, &at, &run);
	off_t data, hole;

	*stop = end;
	if (fd < 0)
		return page;
	if (run < (end - page) * SNAPSHOT_PAGE)
		*stop = page + run / SNAPSHOT_PAGE;
	data = lseek(fd, (off_t)at, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? *stop : page;
	if ((uint64_t)data - at >= run)
		return *stop;
	start = page + ((uint64_t)data - at) / SNAPSHOT_PAGE;
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole > data && page + ((uint64_t)hole - at + SNAPSHOT_PAGE - 1) / SNAPSHOT_PAGE < *stop)
		*stop = page + ((uint64_t)hole - at + SNAPSHOT_PAGE - 1) / SNAPSHOT_PAGE;
	return start < *stop ? start : *stop;
}

/* All of a range that is not yet saved. Return: 0, or what @progress returned. */
static int save_range(struct snapshot_pages *p, uint64_t page, uint64_t end, uint8_t *buffer,
		      int (*progress)(void *context, uint64_t done, uint64_t total), void *context)
{
	int rc = 0;

	while (page < end && !rc && !atomic_load(&p->failed)) {
		uint64_t stop, start = find_memory(p, page, end, &stop);

		save_holes(p, page, start);
		for (page = start; page < stop && !rc && !atomic_load(&p->failed);) {
			uint64_t saved = save_run(p, page, stop, buffer, RUN_PAGES);

			page += saved ? saved : 1;
			rc = progress(context, atomic_load(&p->done) * SNAPSHOT_PAGE,
				      p->count * SNAPSHOT_PAGE);
		}
	}
	return rc;
}

/* ---- those who are held up ------------------------------------------------------------------ */

static void store(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct snapshot_pages *p = (struct snapshot_pages *)watch;
	uint64_t page = ram_offset(gpa.value) / SNAPSHOT_PAGE;
	uint64_t last = ram_offset(gpa.value + (length - 1)) / SNAPSHOT_PAGE;
	uint8_t buffer[SNAPSHOT_PAGE];

	for (; page <= last; page++) {
		save_run(p, page, page + 1, buffer, 1);
		wait_for_page(p, page);
	}
}

static const struct vd_mem_watch_ops watch_ops = {store};

static bool saved(const struct snapshot_pages *p, uint64_t page, uint64_t end)
{
	for (; page < end; page++)
		if (atomic_load(&p->states[page]) <= PAGE_CLAIMED)
			return false;
	return true;
}

struct patience {
	const struct vd_env *env;
	uint64_t until;
};

static int has_patience(void *context, uint64_t done, uint64_t total)
{
	const struct patience *patience = context;

	(void)done, (void)total;
	return patience->env->clock_ns(patience->env) < patience->until ? 0 : -ETIMEDOUT;
}

/*
 * Memory is about to change without a store: it goes, or comes to lie elsewhere. A range of the
 * guest's RAM lies in one slot.
 */
static int invalidate_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct snapshot_pages *p = (struct snapshot_pages *)((char *)listener -
				offsetof(struct snapshot_pages, listener));
	struct patience patience = {p->env, p->env->clock_ns(p->env) + PATIENCE_NS};
	uint64_t page, end;
	uint8_t *buffer;

	if (event->reason == VD_INVALIDATE_WRITE_PROTECT ||
	    event->reason == VD_INVALIDATE_PROTECT || event->reason == VD_INVALIDATE_RESET ||
	    !atomic_load(&p->armed) || atomic_load(&p->failed))
		return 0;
	page = ram_offset(event->start) / SNAPSHOT_PAGE;
	end = ram_offset(event->start + (event->length - 1)) / SNAPSHOT_PAGE + 1;
	if (event->start < VD_BOARD_RAM || end > p->count || page >= end || saved(p, page, end))
		return 0;
	if (!event->blockable)
		return -EAGAIN;
	buffer = vd_env_allocate(p->env, "snapshot.event", RUN_PAGES * SNAPSHOT_PAGE, 64);
	if (!buffer) {
		/* The snapshot is lost, not the change. */
		note_failure(p, -ENOMEM);
		return 0;
	}
	/* Here as well, and it is the snapshot that is lost if it takes too long. */
	note_failure(p, save_range(p, page, end, buffer, has_patience, &patience));
	for (; page < end; page++)
		wait_for_page(p, page);
	p->env->release(p->env, buffer, RUN_PAGES * SNAPSHOT_PAGE);
	return 0;
}

static const struct vd_listener_ops listener_ops = {.invalidate_start = invalidate_start};

/* ---- from beginning to end ------------------------------------------------------------------ */

int snapshot_pages_create(struct vd_vm *vm, int fd, struct snapshot_pages **result,
			  struct vd_error *error)
{
	const struct vd_env *env = vm->env;
	struct snapshot_pages *p = vd_env_allocate(env, "snapshot.pages", sizeof(*p), 64);
	int rc = p ? 0 : -ENOMEM;

	if (rc)
		return vd_error_set(error, rc, "out of memory for a snapshot");
	p->vm = vm;
	p->env = env;
	p->fd = fd;
	p->window = vd_host_window_base(vm->host);
	p->count = vm->config.memory / SNAPSHOT_PAGE;
	p->watch.ops = &watch_ops;
	p->listener.ops = &listener_ops;
	p->states = vd_env_allocate(env, "snapshot.states", p->count, 64);
	p->sums = vd_env_allocate(env, "snapshot.sums", p->count * sizeof(*p->sums), 64);
	if (!p->states || !p->sums)
		rc = -ENOMEM;
	if (!rc)
		rc = vd_mem_watch_add(vm->mem, &p->watch);
	if (!rc)
		rc = vd_notifier_register(vd_mem_notifier(vm->mem), &p->listener);
	if (rc) {
		snapshot_pages_destroy(p);
		return vd_error_set(error, rc, "no memory, or too many watchers, for a snapshot");
	}
	*result = p;
	return 0;
}

void snapshot_pages_arm(struct snapshot_pages *p)
{
	uint64_t memory = p->count * SNAPSHOT_PAGE;
	uint64_t low = memory < RAM_LOW_MAX ? memory : RAM_LOW_MAX;

	/* First: a page that a change saves before it is watched would be watched to the end. */
	vd_mem_watch_set(&p->watch, (vd_gpa){VD_BOARD_RAM}, low);
	vd_mem_watch_set(&p->watch, (vd_gpa){RAM_HIGH}, memory - low);
	/*
	 * Changes of memory that were let pass belong to before, and are waited for; those that
	 * begin from here on find their pages unsaved.
	 */
	atomic_store(&p->armed, true);
	vd_notifier_wait(vd_mem_notifier(p->vm->mem), 0, UINT64_MAX);
	vd_mem_write_protect(p->vm->mem, (vd_gpa){VD_BOARD_RAM}, low);
	vd_mem_write_protect(p->vm->mem, (vd_gpa){RAM_HIGH}, memory - low);
}

int snapshot_pages_copy(struct snapshot_pages *p,
			int (*progress)(void *context, uint64_t done, uint64_t total),
			void *context)
{
	size_t bytes = RUN_PAGES * SNAPSHOT_PAGE;
	uint8_t *buffer = vd_env_allocate(p->env, "snapshot.copy", bytes, 64);
	int rc;

	if (!buffer)
		return -ENOMEM;
	rc = save_range(p, 0, p->count, buffer, progress, context);
	p->env->release(p->env, buffer, bytes);
	return rc ? rc : atomic_load(&p->failed);
}

int snapshot_pages_disarm(struct snapshot_pages *p)
{
	/* Both wait for calls that go on: what those have saved is in the file then. */
	vd_mem_watch_remove(&p->watch);
	vd_notifier_unregister(vd_mem_notifier(p->vm->mem), &p->listener);
	return atomic_load(&p->failed);
}

uint64_t snapshot_pages_stored(const struct snapshot_pages *p)
{
	return atomic_load(&p->stored) * SNAPSHOT_PAGE;
}

void snapshot_pages_index(struct snapshot_pages *p, struct vd_stream *stream)
{
	for (uint64_t page = 0; page < p->count; page += 8) {
		uint8_t byte = 0;

		for (unsigned i = 0; i < 8 && page + i < p->count; i++)
			byte |= (uint8_t)((p->states[page + i] == PAGE_STORED) << i);
		vd_stream_put(stream, &byte, 1);
	}
	for (uint64_t page = 0; page < p->count; page++) {
		const uint32_t sum = p->sums[page];
		const uint8_t bytes[4] = {(uint8_t)sum, (uint8_t)(sum >> 8), (uint8_t)(sum >> 16),
					  (uint8_t)(sum >> 24)};

		if (p->states[page] == PAGE_STORED)
			vd_stream_put(stream, bytes, sizeof(bytes));
	}
}

void snapshot_pages_destroy(struct snapshot_pages *p)
{
	if (!p)
		return;
	snapshot_pages_disarm(p);
	p->env->release(p->env, (void *)p->states, p->count);
	p->env->release(p->env, p->sums, p->count * sizeof(*p->sums));
	p->env->release(p->env, p, sizeof(*p));
}
