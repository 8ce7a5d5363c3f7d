/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ageing from end to end (B3): the host's chain asks about (object, offset), the answer comes from
 * the tables of every guest range that maps it, and a page that is used through a TLB alone is never
 * called old, as clearing flushes what would hide the next use.
 */
#include <pthread.h>

#include "fixture.h"

#define TLB_PAGES 64u

/* A hart as far as ageing sees it: it uses memory through its TLB and walks on a miss. */
struct hart {
	pthread_mutex_t lock; /* comes after the mmu's */
	bool cached[TLB_PAGES];
	unsigned walks, flushes;
};

static struct fixture f;
static struct hart hart;

static void hart_flush(void *context, vd_gpa start, uint64_t length)
{
	(void)context;
	pthread_mutex_lock(&hart.lock);
	for (uint64_t i = 0; i < TLB_PAGES; i++)
		if (vd_ranges_overlap(i * PAGE, PAGE, start.value, length))
			hart.cached[i] = false;
	hart.flushes++;
	pthread_mutex_unlock(&hart.lock);
}

static bool hart_hit_or_walk(uint64_t page)
{
	struct vd_mmu_leaf leaf;

	pthread_mutex_lock(&hart.lock);
	if (!hart.cached[page]) {
		hart.cached[page] = !walk(&f, page * PAGE, VD_READ, &leaf);
		hart.walks++;
	}
	page = hart.cached[page];
	pthread_mutex_unlock(&hart.lock);
	return page;
}

static void hart_use(uint64_t page)
{
	while (!hart_hit_or_walk(page))
		assert_int_equal(fault(&f, page * PAGE, VD_READ), 0);
}

static int set_up(void **state)
{
	struct vd_mmu_config config = {.env = &f.checked.env, .format = &vd_mmu_format_sv48x4,
				       .flush = hart_flush};

	(void)state;
	fixture_open_space(&f);
	config.env = &f.test.env; /* its lock is followed by the hart's */
	config.mem = f.mem;
	hart = (struct hart){.lock = PTHREAD_MUTEX_INITIALIZER};
	/* object offset 64 pages is gpa 0, so that the two cannot be mixed up; and once more at 1 GiB */
	fixture_slot(&f, 0, TLB_PAGES * PAGE, f.spares, 64 * PAGE, false);
	fixture_slot(&f, GIB, TLB_PAGES * PAGE, f.spares, 64 * PAGE, false);
	return vd_mmu_create(&config, &f.mmu, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	fixture_close(&f);
	return 0;
}

static struct vd_invalidation of_pages(uint64_t page, uint64_t count)
{
	return (struct vd_invalidation){.object = f.spares, .start = (64 + page) * PAGE,
					.length = count * PAGE, .blockable = true};
}

static bool clear(uint64_t page, uint64_t count)
{
	struct vd_invalidation range = of_pages(page, count);

	return vd_notifier_clear_young(vd_host_notifier(f.host), &range);
}

static bool test(uint64_t page, uint64_t count)
{
	struct vd_invalidation range = of_pages(page, count);

	return vd_notifier_test_young(vd_host_notifier(f.host), &range);
}

/* Single pages: a protected page in the middle keeps large leaves away. */
static void split(void)
{
	for (uint64_t i = 0; i < TLB_PAGES; i += 2)
		assert_int_equal(vd_host_object_protect(f.spares, (64 + i) * PAGE, PAGE, false,
							true), 0);
}

static void a_page_not_used_since_the_last_scan_is_old(void **state)
{
	(void)state;
	split();
	assert_false(test(0, TLB_PAGES));
	hart_use(5);
	hart_use(9);
	assert_true(test(5, 1));
	assert_true(test(0, TLB_PAGES)); /* changes nothing */
	assert_true(clear(5, 1));
	assert_false(test(5, 1));
	assert_false(clear(5, 1));
	assert_true(test(9, 1));
	assert_true(clear(0, TLB_PAGES));
	assert_false(clear(0, TLB_PAGES));
}

static void a_use_through_the_tlb_is_seen_again(void **state)
{
	unsigned walks;

	(void)state;
	split();
	hart_use(5);
	walks = hart.walks;
	for (unsigned i = 0; i < 10; i++)
		hart_use(5);
	assert_int_equal(hart.walks, walks); /* the TLB serves them: no bit is set by that */
	for (unsigned i = 0; i < 10; i++) {
		assert_true(clear(5, 1));
		hart_use(5);
		assert_true(test(5, 1));
	}
	assert_int_equal(hart.walks, walks + 10);
	/* looking alone costs the hart nothing */
	for (unsigned i = 0; i < 10; i++)
		assert_true(test(5, 1));
	hart_use(5);
	assert_int_equal(hart.walks, walks + 10);
}

/* The same memory twice: used at either address, it is young. */
static void every_range_that_maps_it_counts(void **state)
{
	struct vd_mmu_leaf leaf;

	(void)state;
	split();
	assert_int_equal(fault(&f, GIB + 3 * PAGE, VD_READ), 0);
	assert_int_equal(walk(&f, GIB + 3 * PAGE, VD_READ, &leaf), 0);
	assert_true(test(3, 1));
	hart_use(3);
	assert_true(clear(3, 1));
	assert_false(test(3, 1));
	assert_int_equal(walk(&f, GIB + 3 * PAGE, VD_READ, &leaf), 0);
	assert_true(clear(3, 1));
	hart_use(3);
	assert_true(clear(3, 1));
	assert_false(clear(3, 1));
}

static _Atomic uint64_t uses;
static _Atomic bool stop;

static void *use_all_the_time(void *context)
{
	(void)context;
	while (!atomic_load(&stop)) {
		hart_use(7);
		atomic_fetch_add(&uses, 1);
	}
	return NULL;
}

/* Between two scans it was used at least once: then it is young, whatever the TLB held. */
static void a_page_in_use_is_never_old(void **state)
{
	pthread_t thread;
	uint64_t seen;

	(void)state;
	split();
	atomic_store(&stop, false);
	hart_use(7);
	assert_int_equal(pthread_create(&thread, NULL, use_all_the_time, NULL), 0);
	for (unsigned i = 0; i < 2000; i++) {
		seen = atomic_load(&uses);
		/* one use may have begun before the scan, the second began after it */
		while (atomic_load(&uses) < seen + 2)
			sched_yield();
		assert_true(clear(7, 1));
		if (i % 50 == 0) /* and the page may go away meanwhile */
			assert_int_equal(vd_host_object_move(f.spares, 71 * PAGE, PAGE, true), 0);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define AGEING_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		AGEING_TEST(a_page_not_used_since_the_last_scan_is_old),
		AGEING_TEST(a_use_through_the_tlb_is_seen_again),
		AGEING_TEST(every_range_that_maps_it_counts),
		AGEING_TEST(a_page_in_use_is_never_old),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
