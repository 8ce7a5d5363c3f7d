/* SPDX-License-Identifier: BSD-2-Clause */
/* Remote and local maps that come and go under copies and pins, while somebody asks what is dirty. */
#include <pthread.h>

#include "remote.h"

#define WORKERS 3u
#define ROUNDS 1500u
#define PAGES 8u /* a worker's: even ones are local, odd ones remote */

struct stress {
	struct dma_fixture f;
	_Atomic unsigned finished;
	unsigned char client[WORKERS * PAGES]; /* a byte a page is enough of a client's memory */
};

struct worker {
	struct stress *stress;
	unsigned number;
	pthread_t thread;
	uint64_t random, done;
	bool stored[PAGES]; /* since the last report that said so; its own, read when it is over */
};

static int client_read(void *context, vd_iova iova, void *buffer, size_t length)
{
	struct stress *s = context;

	memset(buffer, vd_guest_load8(&s->client[iova.value / PAGE]), length);
	sched_yield();
	return 0;
}

static int client_write(void *context, vd_iova iova, const void *buffer, size_t length)
{
	struct stress *s = context;

	(void)length;
	vd_guest_store8(&s->client[iova.value / PAGE], *(const unsigned char *)buffer);
	sched_yield();
	return 0;
}

static const struct vd_dma_remote_ops client_ops = {client_read, client_write};

static int map_page(struct stress *s, uint64_t page)
{
	if (page % 2)
		return vd_dma_map_remote(s->f.space, (vd_iova){page * PAGE}, PAGE,
					 VD_READ | VD_WRITE, &client_ops, s);
	return dma_map(&s->f, page * PAGE, PAGE, page * PAGE, VD_READ | VD_WRITE);
}

/* Whether all of it was stored. */
static bool store(struct worker *w, uint64_t iova, uint64_t length, bool pins)
{
	static const unsigned char bytes[PAGES * 64] = {1};
	struct vd_dma_range range = {{iova}, length};
	struct vd_dma_segment segments[PAGES];
	struct vd_dma_pin pin;
	unsigned count = PAGES;

	if (!pins)
		return vd_dma_write(w->stress->f.space, (vd_iova){iova}, bytes, length) == 0;
	if (vd_dma_pin(w->stress->f.space, &range, 1, VD_READ | VD_WRITE, NULL, &pin, segments,
		       &count))
		return false;
	for (unsigned i = 0; i < count; i++)
		memset(segments[i].base, 2, segments[i].length);
	sched_yield();
	return vd_dma_unpin(&pin) == 0;
}

static void *run_stores(void *context)
{
	struct worker *w = context;
	struct vd_dma_space *space = w->stress->f.space;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t page = test_random(&w->random) % (PAGES - 1);
		uint64_t iova = (w->number * PAGES + page + 1) * PAGE - 32;
		unsigned char byte;
		void *pointer;
		uint64_t run;

		if (store(w, iova, 64, i % 2)) {
			w->stored[page] = w->stored[page + 1] = true;
			w->done++;
		}
		vd_dma_read(space, (vd_iova){iova}, &byte, 1);
		vd_dma_guard_enter(space);
		if (vd_dma_translate(space, (vd_iova){iova}, VD_WRITE, &pointer, &run) == 0)
			vd_guest_store8(pointer, 3);
		vd_dma_guard_leave(space);
	}
	atomic_fetch_add(&w->stress->finished, 1);
	return NULL;
}

/* Takes a page away, with or without its dirty bit, and gives it back. */
static void disturb(struct stress *s, uint64_t *random, uint8_t seen[WORKERS * PAGES / 8])
{
	uint64_t page = test_random(random) % (WORKERS * PAGES), bytes;
	uint8_t bits[WORKERS * PAGES / 8], bit;
	vd_iova iova = {page * PAGE};

	if (test_random(random) % 2) {
		assert_int_equal(vd_dma_unmap_dirty(s->f.space, iova, PAGE, PAGE, &bit, 1, &bytes),
				 0);
		seen[page / 8] |= (uint8_t)(bit << page % 8);
	} else {
		assert_int_equal(vd_dma_unmap(s->f.space, iova, PAGE, &bytes), 0);
	}
	assert_int_equal(bytes, PAGE);
	if (page % 2 == 0)
		assert_int_equal(vd_host_object_move(s->f.base.ram, page * PAGE, PAGE, true), 0);
	assert_int_equal(map_page(s, page), 0);
	assert_int_equal(vd_dma_dirty_report(s->f.space, (vd_iova){0}, WORKERS * PAGES * PAGE, PAGE,
					     bits, sizeof(bits)), 0);
	for (unsigned i = 0; i < sizeof(bits); i++)
		seen[i] |= bits[i];
	for (unsigned i = 0; i < 10; i++)
		sched_yield();
}

/* Everything that was stored to was reported at some time, and nothing waits for ever. */
static void test_remote_dirty_unmap(void **state)
{
	struct stress *s = calloc(1, sizeof(*s));
	struct worker workers[WORKERS];
	uint8_t seen[WORKERS * PAGES / 8] = {0};
	uint64_t random = 7;

	(void)state;
	assert_non_null(s);
	dma_open(&s->f);
	for (uint64_t page = 0; page < WORKERS * PAGES; page++)
		assert_int_equal(map_page(s, page), 0);
	assert_int_equal(vd_dma_dirty_start(s->f.space, NULL, 0, PAGE), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){.stress = s, .number = i, .random = i + 1};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, run_stores, &workers[i]),
				 0);
	}
	while (atomic_load(&s->finished) < WORKERS)
		disturb(s, &random, seen);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	disturb(s, &random, seen);
	for (unsigned i = 0; i < WORKERS; i++) {
		assert_true(workers[i].done > 0);
		for (unsigned k = 0; k < PAGES; k++) {
			unsigned page = i * PAGES + k;

			assert_true(!workers[i].stored[k] || seen[page / 8] >> page % 8 & 1);
		}
	}
	assert_int_equal(stats_of(s->f.space).pinned_bytes, 0);
	assert_int_equal(stats_of(s->f.space).bounced_bytes, 0);
	dma_close_fixture(&s->f);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_remote_dirty_unmap)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
