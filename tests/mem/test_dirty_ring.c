/* SPDX-License-Identifier: BSD-2-Clause */
/* The dirty ring, by hand and against a plain model, and with threads that store meanwhile. */
#include "fixture.h"

#include <pthread.h>

#define PAGES 96u /* more than the ring holds */
#define OPERATIONS 10000u

static _Atomic unsigned told; /* any thread that stores may be told */

static void tell(void *context)
{
	(void)context;
	told++;
}

static void open_ring(struct fixture *f, uint32_t entries, uint32_t soft)
{
	struct vd_mem_dirty_ring_config config = {.entries = entries, .soft = soft, .full = tell};

	told = 0;
	fixture_open(f);
	assert_int_equal(vd_mem_dirty_ring_create(f->mem, &config), 0);
}

static void mark(struct fixture *f, uint64_t base, uint64_t page, uint64_t count)
{
	vd_mem_mark_dirty(f->mem, (vd_gpa){base + page * PAGE}, count * PAGE);
}

static void refusals_are_distinct(void **state)
{
	struct vd_mem_dirty_ring_config config = {.entries = 64};
	struct vd_mem_dirty_page page;
	struct fixture f;
	size_t count;

	(void)state;
	fixture_open(&f);
	assert_int_equal(vd_mem_dirty_ring_state(f.mem, NULL), -ENODATA);
	assert_int_equal(vd_mem_dirty_ring_fetch(f.mem, &page, 1, &count), -ENODATA);
	assert_int_equal(vd_mem_dirty_ring_destroy(f.mem), -ENODATA);
	for (uint32_t entries = 0; entries < 64; entries++) {
		config.entries = entries;
		assert_int_equal(vd_mem_dirty_ring_create(f.mem, &config), -EINVAL);
	}
	config.entries = 65;
	assert_int_equal(vd_mem_dirty_ring_create(f.mem, &config), -EINVAL);
	config = (struct vd_mem_dirty_ring_config){.entries = 64, .soft = 64};
	assert_int_equal(vd_mem_dirty_ring_create(f.mem, &config), -EINVAL);
	config.soft = 63;
	test_env_fail(&f.test, 1, -ENOMEM);
	assert_int_equal(vd_mem_dirty_ring_create(f.mem, &config), -ENOMEM);
	assert_int_equal(vd_mem_dirty_ring_create(f.mem, &config), 0);
	assert_int_equal(vd_mem_dirty_ring_create(f.mem, &config), -EALREADY);
	assert_int_equal(vd_mem_dirty_ring_state(f.mem, NULL), 0);
	assert_int_equal(vd_mem_dirty_ring_destroy(f.mem), 0);
	assert_int_equal(vd_mem_dirty_ring_create(f.mem, &config), 0);
	fixture_close(&f);
}

/* In the order of the stores, once each until fetched; what is fetched is write-protected again. */
static void pages_come_in_order(void **state)
{
	struct vd_mem_dirty_page pages[8];
	struct fixture f;
	struct ear ear;
	uint32_t a, b;
	size_t count;
	char byte = 1;

	(void)state;
	open_ring(&f, 64, 0);
	a = add_ram(&f, 16 * PAGE, 0, 16 * PAGE);
	b = add_ram(&f, 64 * PAGE, 32 * PAGE, 16 * PAGE);
	assert_int_equal(vd_mem_dirty_start(f.mem, a), 0);
	assert_int_equal(vd_mem_dirty_start(f.mem, b), 0);
	ear_open(&ear, &f);
	mark(&f, 64 * PAGE, 5, 1);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){18 * PAGE}, &byte, 1), 0);
	mark(&f, 16 * PAGE, 3, 1);
	mark(&f, 64 * PAGE, 5, 1);
	assert_int_equal(vd_mem_dirty_ring_fetch(f.mem, pages, 8, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(pages[0].slot_id, b);
	assert_int_equal(pages[0].page, 5);
	assert_int_equal(pages[1].slot_id, a);
	assert_int_equal(pages[1].page, 2);
	assert_int_equal(pages[2].page, 3);
	assert_int_equal(ear.start_count, 2); /* neighbours in one */
	assert_int_equal(ear.starts[0].start, 69 * PAGE);
	assert_int_equal(ear.starts[1].start, 18 * PAGE);
	assert_int_equal(ear.starts[1].length, 2 * PAGE);
	assert_int_equal(ear.starts[1].reason, VD_INVALIDATE_WRITE_PROTECT);
	assert_int_equal(vd_mem_dirty_ring_fetch(f.mem, pages, 8, &count), 0);
	assert_int_equal(count, 0);
	mark(&f, 64 * PAGE, 5, 1);
	assert_int_equal(vd_mem_dirty_ring_fetch(f.mem, pages, 8, &count), 0);
	assert_int_equal(count, 1);
	ear_close(&ear, &f);
	fixture_close(&f);
}

/* Full: told once, the state says so, and what found no room is in the bitmap. */
static void a_full_ring_loses_nothing(void **state)
{
	struct vd_mem_dirty_page pages[128];
	uint8_t bitmap[16];
	struct fixture f;
	uint32_t id, used;
	size_t count;

	(void)state;
	open_ring(&f, 64, 60);
	id = add_ram(&f, 0, 0, 128 * PAGE);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	mark(&f, 0, 0, 59);
	assert_int_equal(vd_mem_dirty_ring_state(f.mem, &used), 0);
	assert_int_equal(used, 59);
	assert_int_equal(told, 0);
	mark(&f, 0, 59, 2);
	assert_int_equal(told, 1);
	assert_int_equal(vd_mem_dirty_ring_state(f.mem, &used), -ENOBUFS);
	mark(&f, 0, 61, 9);
	assert_int_equal(told, 1);
	assert_int_equal(vd_mem_dirty_ring_fetch(f.mem, pages, 128, &count), -ENOBUFS);
	assert_int_equal(count, 64);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(pages[i].page, i);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, bitmap, sizeof(bitmap)), 0);
	assert_int_equal(bitmap[8], 0x3f);
	assert_int_equal(vd_mem_dirty_ring_fetch(f.mem, pages, 128, &count), 0);
	assert_int_equal(count, 0);
	/* What a bitmap's fetch has reported is not reported again. */
	mark(&f, 0, 7, 2);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, bitmap, sizeof(bitmap)), 0);
	mark(&f, 0, 8, 1);
	assert_int_equal(vd_mem_dirty_ring_fetch(f.mem, pages, 128, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(pages[0].page, 8);
	/* Nor pages of a log that ended, or of a slot that is gone. */
	mark(&f, 0, 9, 1);
	assert_int_equal(vd_mem_dirty_stop(f.mem, id), 0);
	assert_int_equal(vd_mem_dirty_ring_fetch(f.mem, pages, 128, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	mark(&f, 0, 9, 1);
	assert_int_equal(vd_mem_remove_slot(f.mem, id), 0);
	assert_int_equal(vd_mem_dirty_ring_fetch(f.mem, pages, 128, &count), 0);
	assert_int_equal(count, 0);
	fixture_close(&f);
}

/* A list of pages, each once: what the ring must say; @lost are those that only bitmaps have. */
static void the_ring_follows_the_model(void **state)
{
	static struct vd_mem_dirty_page queue[OPERATIONS * 4], pages[PAGES];
	size_t first = 0, end = 0, used = 0; /* used counts stale entries too */
	bool dirty[PAGES] = {false}, lost = false;
	unsigned losses = 0;
	uint8_t bitmap[PAGES / 8];
	struct fixture f;
	uint32_t id;

	(void)state;
	test_start(3);
	open_ring(&f, 64, 0);
	id = add_ram(&f, 0, 0, PAGES * PAGE);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	for (unsigned n = 0; n < OPERATIONS; n++) {
		uint64_t r = test_random(test_state()), page = (r >> 8) % PAGES;
		size_t count, room = (r >> 32) % PAGES + 1;
		int rc;

		if (r % 64 < 61) {
			mark(&f, 0, page, 1);
			if (dirty[page])
				continue;
			dirty[page] = true;
			if (used == 64) {
				lost = true;
				losses++;
				continue;
			}
			queue[end++].page = page;
			used++;
			continue;
		}
		if (r % 64 == 61) {
			assert_int_equal(vd_mem_dirty_fetch(f.mem, id, bitmap, sizeof(bitmap)), 0);
			for (unsigned i = 0; i < PAGES; i++) {
				assert_int_equal(bitmap[i / 8] >> i % 8 & 1, dirty[i]);
				dirty[i] = false;
			}
			continue;
		}
		rc = vd_mem_dirty_ring_fetch(f.mem, pages, room, &count);
		assert_int_equal(rc, lost ? -ENOBUFS : 0);
		lost = false;
		for (size_t i = 0; i < count; i++) {
			while (!dirty[queue[first].page])
				first++, used--;
			assert_int_equal(pages[i].slot_id, id);
			assert_int_equal(pages[i].page, queue[first].page);
			dirty[queue[first++].page] = false;
			used--;
		}
		for (; count < room && first < end; first++, used--)
			assert_false(dirty[queue[first].page]);
	}
	assert_true(losses);
	fixture_close(&f);
}

#define THREADS 2u
#define STORES 4000u

struct storer {
	struct fixture *f;
	uint64_t seed;
};

static void *store(void *context)
{
	struct storer *storer = context;

	for (uint64_t i = 1; i <= STORES; i++) {
		uint64_t page = test_random(&storer->seed) % PAGES;
		vd_gpa gpa = {page * PAGE + storer->seed % 2 * 8};

		assert_int_equal(vd_mem_write(storer->f->mem, gpa, &i, 8), 0);
	}
	return NULL;
}

/* What is copied by the ring, and by bitmaps when it was full, is the memory in the end. */
static void copies_by_the_ring_are_the_memory(void **state)
{
	static unsigned char copy[PAGES][16], now[16];
	struct vd_mem_dirty_page pages[PAGES];
	struct storer storers[THREADS];
	pthread_t threads[THREADS];
	uint8_t bitmap[PAGES / 8];
	struct fixture f;
	uint32_t id;

	(void)state;
	open_ring(&f, 64, 0);
	id = add_ram(&f, 0, 0, PAGES * PAGE);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		storers[i] = (struct storer){&f, i};
		assert_int_equal(pthread_create(&threads[i], NULL, store, &storers[i]), 0);
	}
	for (unsigned round = 0; round < 200; round++) {
		size_t count;
		int rc;

		if (round == 199)
			for (unsigned i = 0; i < THREADS; i++)
				pthread_join(threads[i], NULL);
		rc = vd_mem_dirty_ring_fetch(f.mem, pages, PAGES, &count);
		for (size_t i = 0; i < count; i++)
			assert_int_equal(vd_mem_read(f.mem, (vd_gpa){pages[i].page * PAGE},
						     copy[pages[i].page], 16), 0);
		if (rc == 0 && round < 199)
			continue;
		assert_int_equal(vd_mem_dirty_fetch(f.mem, id, bitmap, sizeof(bitmap)), 0);
		for (unsigned i = 0; i < PAGES; i++) {
			if (bitmap[i / 8] >> i % 8 & 1)
				assert_int_equal(vd_mem_read(f.mem, (vd_gpa){i * PAGE}, copy[i],
							     16), 0);
		}
	}
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(vd_mem_read(f.mem, (vd_gpa){i * PAGE}, now, 16), 0);
		assert_memory_equal(now, copy[i], 16);
	}
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refusals_are_distinct),
		cmocka_unit_test(pages_come_in_order),
		cmocka_unit_test(a_full_ring_loses_nothing),
		cmocka_unit_test_teardown(the_ring_follows_the_model, test_seed_print),
		cmocka_unit_test(copies_by_the_ring_are_the_memory),
	};

	return cmocka_run_group_tests_name("mem dirty ring", tests, NULL, NULL);
}
