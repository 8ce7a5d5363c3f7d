/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices at work while the memory under them changes. Worth most under ThreadSanitizer; the
 * contents are checked everywhere.
 */
#include <pthread.h>

#include "fixture.h"

#define WORKERS 3u
#define WORKER_PAGES 8u

struct worker {
	struct stress *stress;
	unsigned number;
	uint64_t random;
	uint64_t done, refused;
	pthread_t thread;
};

struct stress {
	struct dma_fixture f;
	struct worker workers[WORKERS];
	unsigned rounds;
	_Atomic unsigned finished;
	uint32_t slot_id; /* of the slot that comes and goes */
};

static void run_workers(struct stress *s, unsigned rounds, void *(*fn)(void *worker),
			void (*disturb)(struct stress *s, uint64_t *random))
{
	uint64_t random = 99;

	s->rounds = rounds;
	atomic_store(&s->finished, 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		struct worker *w = &s->workers[i];

		*w = (struct worker){.stress = s, .number = i, .random = i + 1};
		assert_int_equal(pthread_create(&w->thread, NULL, fn, w), 0);
	}
	while (atomic_load(&s->finished) < WORKERS)
		disturb(s, &random);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(s->workers[i].thread, NULL);
}

/* ---- pins of a guest's memory, whose pages move and whose slots go -------------------------- */

static uint64_t worker_base(const struct worker *w)
{
	return GUEST_RAM + w->number * WORKER_PAGES * PAGE;
}

/* As a device does it: pin, let others in, transfer, unpin. */
static void transfer(struct worker *w, uint64_t iova, uint64_t length, unsigned char value,
		     bool write)
{
	struct vd_dma_segment segments[WORKER_PAGES];
	struct vd_dma_range range = {{iova}, length};
	unsigned count = WORKER_PAGES;
	struct vd_dma_pin pin;
	uint64_t seen = 0;

	assert_int_equal(vd_dma_pin(w->stress->f.space, &range, 1, write ? VD_WRITE : VD_READ, NULL,
				    &pin, segments, &count), 0);
	for (unsigned i = 0; i < count; i++) {
		unsigned char *bytes = segments[i].base;

		if (write)
			memset(bytes, value, segments[i].length);
		sched_yield();
		for (uint64_t k = 0; k < segments[i].length; k += 64)
			assert_int_equal(bytes[k], value);
		seen += segments[i].length;
	}
	assert_int_equal(seen, length);
	vd_dma_unpin(&pin);
}

static void *run_transfers(void *context)
{
	struct worker *w = context;

	for (unsigned i = 0; i < w->stress->rounds; i++) {
		uint64_t first = test_random(&w->random) % WORKER_PAGES;
		uint64_t pages = 1 + test_random(&w->random) % (WORKER_PAGES - first);
		uint64_t iova = worker_base(w) + first * PAGE;
		unsigned char value = (unsigned char)(i | 1), byte;

		transfer(w, iova, pages * PAGE, value, true);
		transfer(w, iova, pages * PAGE, value, false);
		assert_int_equal(vd_dma_read(w->stress->f.space,
					     (vd_iova){iova + pages * PAGE - 1}, &byte, 1), 0);
		assert_int_equal(byte, value);
	}
	atomic_fetch_add(&w->stress->finished, 1);
	return NULL;
}

static void move_pages(struct stress *s, uint64_t *random)
{
	uint64_t page = test_random(random) % (WORKERS * WORKER_PAGES);

	assert_int_equal(vd_host_object_move(s->f.base.ram, page * PAGE, PAGE, true), 0);
	if (page == 0) /* what nobody uses goes and comes back empty */
		assert_int_equal(vd_host_object_discard(s->f.base.ram, 64 * PAGE, PAGE, true), 0);
}

static void test_pages_move_under_pins(void **state)
{
	struct stress *s = calloc(1, sizeof(*s));

	(void)state;
	assert_non_null(s);
	dma_open_guest(&s->f);
	run_workers(s, 600, run_transfers, move_pages);
	assert_int_equal(stats_of(s->f.space).pinned_bytes, 0);
	assert_int_equal(stats_of(s->f.space).pins, WORKERS * 600 * 2);
	assert_int_equal(stats_of(s->f.space).faults, 0);
	dma_close_fixture(&s->f);
	free(s);
}

/* ---- a slot that is taken away and given back ----------------------------------------------- */

#define VOLATILE_SLOT UINT64_C(0x10000000)

struct asked_owner {
	struct vd_dma_owner owner;
	_Atomic unsigned asked;
};

static void count_request(struct vd_dma_owner *owner, vd_iova start, uint64_t length)
{
	(void)start;
	(void)length;
	atomic_fetch_add(&((struct asked_owner *)owner)->asked, 1);
}

/*
 * Holds a page for a while. The owner lives on the stack: it may go when no request runs any more.
 */
static bool hold_for_a_while(struct vd_dma_space *space, uint64_t iova, unsigned char value)
{
	struct asked_owner owner = {.owner.unpin_request = count_request};
	struct vd_dma_range range = {{iova}, PAGE};
	struct vd_dma_segment segment;
	struct vd_dma_pin pin;
	unsigned one = 1;

	if (vd_dma_pin(space, &range, 1, VD_READ, &owner.owner, &pin, &segment, &one))
		return false;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(*(unsigned char *)segment.base, value);
		sched_yield();
	}
	vd_dma_unpin(&pin);
	vd_dma_owner_drain(space, &owner.owner);
	return true;
}

static void *run_on_volatile_slot(void *context)
{
	struct worker *w = context;
	uint64_t iova = VOLATILE_SLOT + w->number * PAGE;
	struct vd_dma_space *space = w->stress->f.space;

	for (unsigned i = 0; i < w->stress->rounds; i++) {
		unsigned char value = (unsigned char)(w->number + 1), byte = 0;

		w->done += hold_for_a_while(space, iova, value);
		if (vd_dma_read(space, (vd_iova){iova}, &byte, 1) == 0)
			assert_int_equal(byte, value);
		else
			w->refused++;
	}
	atomic_fetch_add(&w->stress->finished, 1);
	return NULL;
}

static void swap_slot(struct stress *s, uint64_t *random)
{
	(void)random;
	s->slot_id = add_ram(&s->f.base, VOLATILE_SLOT, 0, WORKERS * PAGE);
	for (unsigned i = 0; i < 20; i++)
		sched_yield();
	assert_int_equal(vd_mem_remove_slot(s->f.base.mem, s->slot_id), 0);
	sched_yield();
}

static void test_slot_goes_under_pins(void **state)
{
	struct stress *s = calloc(1, sizeof(*s));

	(void)state;
	assert_non_null(s);
	dma_open(&s->f);
	assert_int_equal(vd_dma_follow(s->f.space, s->f.base.mem, NULL), 0);
	for (unsigned i = 0; i < WORKERS; i++)
		*object_byte(&s->f.base, s->f.base.ram, i * PAGE) = (unsigned char)(i + 1);
	run_workers(s, 3000, run_on_volatile_slot, swap_slot);
	dma_close_fixture(&s->f);
	free(s);
}

/* ---- maps that come and go beside others ---------------------------------------------------- */

#define STABLE_MAPS 512u

/* Map i is always page i of the object, whose first word says so; even ones stay. */
static uint64_t map_iova(uint64_t i)
{
	return i * 2 * PAGE;
}

static void expect_page(struct worker *w, uint64_t i)
{
	struct vd_dma_space *space = w->stress->f.space;
	bool stays = i % 2 == 0;
	void *pointer;
	uint64_t run;
	int r;

	vd_dma_guard_enter(space);
	r = vd_dma_translate(space, (vd_iova){map_iova(i)}, VD_READ, &pointer, &run);
	if (!r)
		assert_int_equal(vd_guest_load32(pointer), (uint32_t)(i % RAM_PAGES) + 1);
	vd_dma_guard_leave(space);
	if (stays && r == -EAGAIN)
		vd_dma_wait(space, (vd_iova){map_iova(i)}, 4);
	else if (stays)
		assert_int_equal(r, 0);
	else if (r)
		assert_int_equal(r, r == -EAGAIN ? -EAGAIN : -EFAULT);
	w->done += r == 0;
}

static void *run_translations(void *context)
{
	struct worker *w = context;

	for (unsigned i = 0; i < w->stress->rounds; i++)
		expect_page(w, test_random(&w->random) % STABLE_MAPS);
	atomic_fetch_add(&w->stress->finished, 1);
	return NULL;
}

static int map_one(struct stress *s, uint64_t i)
{
	return dma_map(&s->f, map_iova(i), PAGE, i % RAM_PAGES * PAGE, VD_READ);
}

static int unmap_some(struct stress *s, uint64_t i, uint64_t pages)
{
	return vd_dma_unmap(s->f.space, (vd_iova){map_iova(i)}, pages * PAGE, NULL);
}

static void change_maps(struct stress *s, uint64_t *random)
{
	for (unsigned n = 0; n < 64; n++) {
		uint64_t i = test_random(random) % STABLE_MAPS | 1;

		if (map_one(s, i) == -EEXIST && n % 8 == 0)
			assert_int_equal(unmap_some(s, i, 1), 0);
	}
	/* beyond, so that leaves split and go */
	for (uint64_t i = STABLE_MAPS; i < STABLE_MAPS + 40; i++)
		assert_int_equal(map_one(s, i), 0);
	assert_int_equal(unmap_some(s, STABLE_MAPS, 80), 0);
	assert_int_equal(vd_host_object_move(s->f.base.ram, test_random(random) % RAM_PAGES * PAGE,
					     PAGE, true), 0);
}

static void test_translations_beside_changes(void **state)
{
	struct stress *s = calloc(1, sizeof(*s));

	(void)state;
	assert_non_null(s);
	dma_open(&s->f);
	for (uint32_t i = 0; i < RAM_PAGES; i++)
		vd_guest_store32(object_byte(&s->f.base, s->f.base.ram, i * PAGE), i + 1);
	for (uint64_t i = 0; i < STABLE_MAPS; i += 2)
		assert_int_equal(map_one(s, i), 0);
	run_workers(s, 30000, run_translations, change_maps);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_true(s->workers[i].done >= 30000 / 4);
	dma_close_fixture(&s->f);
	free(s);
}

/* ---- guards that last a while ---------------------------------------------------------------- */

struct guarded {
	struct dma_fixture f;
	_Atomic int step; /* 1: in the guard, go on; 2: left */
	uint32_t expected;
	unsigned access;
};

/* Looks at a page for as long as the other thread could need to take it away. */
static void *run_guard(void *context)
{
	struct guarded *g = context;
	void *pointer;
	uint64_t run;

	vd_dma_guard_enter(g->f.space);
	assert_int_equal(vd_dma_translate(g->f.space, (vd_iova){0}, g->access, &pointer, &run), 0);
	atomic_store(&g->step, 1);
	for (unsigned i = 0; i < 3000; i++) {
		assert_int_equal(vd_guest_load32(pointer), g->expected);
		sched_yield();
	}
	atomic_store(&g->step, 2);
	vd_dma_guard_leave(g->f.space);
	return NULL;
}

static pthread_t enter_guard(struct guarded *g, struct vd_host_object *object, unsigned access)
{
	pthread_t thread;

	g->access = access;
	g->expected = 0x1234567;
	vd_guest_store32(object_byte(&g->f.base, object, 0), g->expected);
	atomic_store(&g->step, 0);
	assert_int_equal(pthread_create(&thread, NULL, run_guard, g), 0);
	while (atomic_load(&g->step) < 1)
		sched_yield();
	return thread;
}

static void test_changes_wait_for_guards(void **state)
{
	struct guarded *g = calloc(1, sizeof(*g));
	pthread_t thread;

	(void)state;
	assert_non_null(g);
	dma_open(&g->f);
	assert_int_equal(dma_map(&g->f, 0, PAGE, 0, VD_READ), 0);
	thread = enter_guard(g, g->f.base.ram, VD_READ);
	assert_int_equal(vd_host_object_discard(g->f.base.ram, 0, PAGE, true), 0);
	assert_int_equal(atomic_load(&g->step), 2);
	pthread_join(thread, NULL);
	assert_int_equal(vd_guest_load32(object_byte(&g->f.base, g->f.base.ram, 0)), 0);
	dma_close_fixture(&g->f);
	free(g);
}

/* The map has the last reference: where unmap did not wait, there would be nothing to look at. */
static void test_unmap_waits_for_guards(void **state)
{
	struct guarded *g = calloc(1, sizeof(*g));
	struct vd_host_object *object;
	pthread_t thread;

	(void)state;
	assert_non_null(g);
	dma_open(&g->f);
	assert_int_equal(vd_host_ram_create(g->f.base.host, "last", PAGE, 0, &object, NULL), 0);
	assert_int_equal(vd_dma_map(g->f.space, (vd_iova){0}, PAGE, object, 0, VD_READ), 0);
	thread = enter_guard(g, object, VD_READ);
	vd_host_object_put(object);
	assert_int_equal(vd_dma_unmap(g->f.space, (vd_iova){0}, PAGE, NULL), 0);
	assert_int_equal(atomic_load(&g->step), 2);
	pthread_join(thread, NULL);
	dma_close_fixture(&g->f);
	free(g);
}

/*
 * I/O page tables know of a store before it is made: a report that tells of it waits. Else the mark
 * comes after it, and a report tells of it then.
 */
static void test_reports_wait_for_guards(void **state)
{
	struct guarded *g = calloc(1, sizeof(*g));
	bool assigned = dma_mode() == VD_DMA_ASSIGNED;
	pthread_t thread;
	uint8_t bits;

	(void)state;
	assert_non_null(g);
	dma_open(&g->f);
	assert_int_equal(dma_map(&g->f, 0, PAGE, 0, VD_WRITE | VD_READ), 0);
	assert_int_equal(vd_dma_dirty_start(g->f.space, NULL, 0, PAGE), 0);
	thread = enter_guard(g, g->f.base.ram, VD_WRITE);
	assert_int_equal(vd_dma_dirty_report(g->f.space, (vd_iova){0}, PAGE, PAGE, &bits, 1), 0);
	assert_int_equal(bits, assigned);
	assert_true(!assigned || atomic_load(&g->step) == 2);
	pthread_join(thread, NULL);
	dma_close_fixture(&g->f);
	free(g);
}

/* ---- device memory beside changes ------------------------------------------------------------ */

static void *run_peer_writes(void *context)
{
	struct worker *w = context;

	for (uint32_t i = 0; i < w->stress->rounds; i++)
		assert_int_equal(vd_dma_write(w->stress->f.space,
					      (vd_iova){(w->number + 1) * PAGE - 2}, &i, 4), 0);
	atomic_fetch_add(&w->stress->finished, 1);
	return NULL;
}

static void move_elsewhere(struct stress *s, uint64_t *random)
{
	assert_int_equal(vd_host_object_move(s->f.base.ram, (64 + test_random(random) % 64) * PAGE,
					     PAGE, true), 0);
}

/* Device memory that changes does not answer; what changes elsewhere is nothing to it. */
static void test_device_memory_answers(void **state)
{
	struct stress *s = calloc(1, sizeof(*s));
	struct vd_host_object *bar;

	(void)state;
	assert_non_null(s);
	dma_open(&s->f);
	bar = make_device_memory(&s->f.base);
	assert_int_equal(vd_dma_map(s->f.space, (vd_iova){0}, 4 * PAGE, bar, 0, VD_WRITE), 0);
	run_workers(s, 20000, run_peer_writes, move_elsewhere);
	vd_host_object_put(bar);
	dma_close_fixture(&s->f);
	free(s);
}

/* ---- unmap against pins --------------------------------------------------------------------- */

static void *run_pins_on_maps(void *context)
{
	struct worker *w = context;

	struct vd_dma_space *space = w->stress->f.space;

	for (unsigned i = 0; i < w->stress->rounds; i++) {
		struct vd_dma_range ranges[2] = {{{test_random(&w->random) % 8 * PAGE}, 64},
						 {{test_random(&w->random) % 8 * PAGE + 64}, 64}};
		struct vd_dma_segment segments[2];
		struct vd_dma_pin pin;
		unsigned count = 2;

		if (vd_dma_pin(space, ranges, 2, VD_READ, NULL, &pin, segments, &count)) {
			w->refused++;
			continue;
		}
		sched_yield();
		for (unsigned k = 0; k < count; k++)
			assert_int_equal(*(unsigned char *)segments[k].base, 0x5a);
		vd_dma_unpin(&pin);
		w->done++;
	}
	atomic_fetch_add(&w->stress->finished, 1);
	return NULL;
}

/* What is unmapped is discarded at once: who still had it pinned would see zeroes. */
static void unmap_and_discard(struct stress *s, uint64_t *random)
{
	uint64_t at = test_random(random) % 8;
	uint64_t page = at * PAGE;

	assert_int_equal(vd_dma_unmap(s->f.space, (vd_iova){page}, PAGE, NULL), 0);
	assert_int_equal(vd_host_object_discard(s->f.base.ram, page, PAGE, true), 0);
	memset(object_byte(&s->f.base, s->f.base.ram, page), 0x5a, PAGE);
	assert_int_equal(dma_map(&s->f, page, PAGE, page, VD_READ), 0);
	for (unsigned i = 0; i < 20; i++)
		sched_yield();
}

static void test_unmap_under_pins(void **state)
{
	struct stress *s = calloc(1, sizeof(*s));
	uint64_t done = 0;

	(void)state;
	assert_non_null(s);
	dma_open(&s->f);
	for (uint64_t i = 0; i < 8; i++) {
		memset(object_byte(&s->f.base, s->f.base.ram, i * PAGE), 0x5a, PAGE);
		assert_int_equal(dma_map(&s->f, i * PAGE, PAGE, i * PAGE, VD_READ), 0);
	}
	run_workers(s, 4000, run_pins_on_maps, unmap_and_discard);
	for (unsigned i = 0; i < WORKERS; i++)
		done += s->workers[i].done;
	assert_true(done > 0);
	dma_close_fixture(&s->f);
	free(s);
}

/* ---- dirty reports beside stores ------------------------------------------------------------- */

#define TRACKED 64u /* pages, as many as bits of a report */

static unsigned char copied[TRACKED * PAGE];

/* Through a guard of its own, or a copy. */
static void store_word(struct worker *w, uint64_t iova, uint32_t value)
{
	struct vd_dma_space *space = w->stress->f.space;
	void *pointer;
	uint64_t run;
	int r;

	if (value & 1) {
		assert_int_equal(vd_dma_write(space, (vd_iova){iova}, &value, sizeof(value)), 0);
		return;
	}
	do {
		vd_dma_guard_enter(space);
		r = vd_dma_translate(space, (vd_iova){iova}, VD_WRITE, &pointer, &run);
		if (!r) {
			sched_yield(); /* so that a report comes between the walk and the store */
			vd_guest_store32(pointer, value);
			/* With I/O page tables the walk has. */
			if (dma_mode() == VD_DMA_MEDIATED)
				vd_dma_mark_dirty(space, (vd_iova){iova}, sizeof(value));
		}
		vd_dma_guard_leave(space);
		if (r)
			vd_dma_wait(space, (vd_iova){iova}, sizeof(value));
	} while (r == -EAGAIN);
	assert_int_equal(r, 0);
}

static void *run_stores(void *context)
{
	struct worker *w = context;

	for (uint32_t i = 0; i < w->stress->rounds; i++) {
		uint64_t iova = test_random(&w->random) % (TRACKED * PAGE) & ~UINT64_C(3);

		store_word(w, iova, (uint32_t)test_random(&w->random));
	}
	atomic_fetch_add(&w->stress->finished, 1);
	return NULL;
}

/* As who copies a guest: what is said to be dirty is read after that. */
static void copy_dirty(struct stress *s, uint64_t *random)
{
	uint64_t bits, page = test_random(random) % TRACKED;

	assert_int_equal(vd_dma_dirty_report(s->f.space, (vd_iova){0}, TRACKED * PAGE, PAGE, &bits,
					     sizeof(bits)), 0);
	for (unsigned i = 0; i < TRACKED; i++)
		if (bits >> i & 1)
			vd_guest_copy(copied + i * PAGE,
				      object_byte(&s->f.base, s->f.base.ram, i * PAGE), PAGE);
	if (page % 4 == 0)
		assert_int_equal(vd_host_object_move(s->f.base.ram, page * PAGE, PAGE, true), 0);
}

/* No store is left out, whenever it comes. */
static void test_reports_miss_nothing(void **state)
{
	struct stress *s = calloc(1, sizeof(*s));
	uint64_t random = 4;

	(void)state;
	assert_non_null(s);
	dma_open(&s->f);
	assert_int_equal(dma_map(&s->f, 0, TRACKED * PAGE, 0, VD_READ | VD_WRITE), 0);
	assert_int_equal(vd_dma_dirty_start(s->f.space, NULL, 0, PAGE), 0);
	run_workers(s, 6000, run_stores, copy_dirty);
	copy_dirty(s, &random);
	for (uint64_t i = 0; i < TRACKED; i++)
		assert_memory_equal(copied + i * PAGE,
				    object_byte(&s->f.base, s->f.base.ram, i * PAGE), PAGE);
	dma_close_fixture(&s->f);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_move_under_pins),
		cmocka_unit_test(test_slot_goes_under_pins),
		cmocka_unit_test(test_translations_beside_changes),
		cmocka_unit_test(test_changes_wait_for_guards),
		cmocka_unit_test(test_unmap_waits_for_guards),
		cmocka_unit_test(test_reports_wait_for_guards),
		cmocka_unit_test(test_device_memory_answers),
		cmocka_unit_test(test_unmap_under_pins),
		cmocka_unit_test(test_reports_miss_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
