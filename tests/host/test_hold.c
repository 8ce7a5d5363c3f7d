/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory that may change unannounced is locked while it is held, and nothing else is. */
#include <pthread.h>

#include "host/object.h"

#include "../base/test_env.h"
#include "../base/locked.h"

#define PAGE UINT64_C(4096)
#define PAGES 64u

static struct test_env test;
static struct vd_host *host;
static char *memory; /* PAGES, and one behind them that is not mapped */
static struct vd_host_object *object;

static int set_up(void **state)
{
	struct vd_host_config config = {.env = &test.env, .window_size = UINT64_C(1) << 30};

	(void)state;
	test_env_init(&test);
	memory = mmap(NULL, (PAGES + 1) * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || munmap(memory + PAGES * PAGE, PAGE) ||
	    vd_host_create(&config, &host, NULL) ||
	    vd_host_private(host, "private", memory, PAGES * PAGE, 0, &object, NULL))
		return -1;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	vd_host_object_put(object);
	vd_host_destroy(host);
	munmap(memory, PAGES * PAGE);
	vd_env_hosted_drain();
	return test.blocks || (locking_works() && locked_bytes()) ? -1 : 0;
}

static int hold(struct vd_host_object *which, uint64_t page, uint64_t count)
{
	return vd_host_object_hold(which, page * PAGE, count * PAGE, NULL);
}

static void unhold(struct vd_host_object *which, uint64_t page, uint64_t count)
{
	vd_host_object_unhold(which, page * PAGE, count * PAGE);
}

static void held_memory_stays(void **state)
{
	(void)state;
	memory[0] = 4;
	memory[PAGE] = 5;
	assert_int_equal(hold(object, 1, 2), 0);
	assert_locked(2 * PAGE);
	assert_int_equal(vd_host_object_discard(object, PAGE, PAGE, true), -EBUSY);
	assert_int_equal(vd_host_object_discard(object, 0, 4 * PAGE, true), -EBUSY);
	assert_int_equal(memory[0], 4); /* not even what is not held */
	assert_int_equal(vd_host_object_protect(object, 2 * PAGE, PAGE, false, true), -EBUSY);
	assert_int_equal(vd_host_object_protect(object, 2 * PAGE, PAGE, true, true), 0);
	assert_int_equal(vd_host_object_move(object, PAGE, PAGE, true), -EOPNOTSUPP);
	if (locking_works()) /* nobody else can either */
		assert_int_equal(madvise(memory + PAGE, PAGE, MADV_DONTNEED), -1);
	assert_int_equal(memory[PAGE], 5);
	assert_int_equal(vd_host_object_discard(object, 0, PAGE, true), 0);
	assert_int_equal(vd_host_object_discard(object, 3 * PAGE, PAGE, true), 0);
	assert_int_equal(vd_host_object_protect(object, 3 * PAGE, PAGE, false, true), 0);
	unhold(object, 1, 2);
	assert_locked(0);
	assert_int_equal(vd_host_object_discard(object, PAGE, PAGE, true), 0);
	assert_int_equal(memory[PAGE], 0);
}

static void announced_and_shared_memory_is_never_locked(void **state)
{
	struct vd_host_object *others[2];

	(void)state;
	assert_int_equal(vd_host_private(host, "announced", memory, PAGES * PAGE,
					 VD_HOST_ANNOUNCED, &others[0], NULL), 0);
	assert_int_equal(vd_host_ram_create(host, "ram", PAGES * PAGE, VD_HOST_SPARES, &others[1],
					    NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(hold(others[i], 0, PAGES), 0);
		assert_locked(0);
		assert_int_equal(vd_host_object_discard(others[i], 0, PAGE, true), 0);
		assert_int_equal(vd_host_object_protect(others[i], 0, PAGE, false, true), 0);
		unhold(others[i], 0, PAGES);
		vd_host_object_put(others[i]);
	}
}

static void refuses_bad_ranges(void **state)
{
	struct vd_error error;

	(void)state;
	assert_int_equal(vd_host_object_hold(object, 0, 0, &error), -EINVAL);
	assert_int_equal(vd_host_object_hold(object, 0, 1, &error), -EINVAL);
	assert_int_equal(vd_host_object_hold(object, 1, PAGE, &error), -EINVAL);
	assert_int_equal(hold(object, PAGES, 1), -ERANGE);
	assert_int_equal(hold(object, 1, PAGES), -ERANGE);
	assert_int_equal(vd_host_object_hold(object, PAGE, -PAGE, &error), -ERANGE);
	assert_non_null(strstr(error.text, "private"));
	assert_locked(0);
}

/* A hole: what lies before it is not left locked. */
static void a_hole_fails_as_a_whole(void **state)
{
	struct vd_host_object *holed;
	struct vd_error error;

	(void)state;
	assert_int_equal(vd_host_private(host, "holed", memory, (PAGES + 1) * PAGE, 0, &holed,
					 NULL), 0);
	assert_int_equal(hold(holed, 4, 1), 0);
	if (locking_works()) {
		assert_int_equal(vd_host_object_hold(holed, 0, (PAGES + 1) * PAGE, &error),
				 -ENOMEM);
		assert_non_null(strstr(error.text, "RLIMIT_MEMLOCK"));
	}
	assert_locked(PAGE); /* the other hold is untouched */
	unhold(holed, 4, 1);
	vd_host_object_put(holed);
}

/* Random pieces of two objects over the same memory, against a counter a page. */
static void counts_as_a_model_does(void **state)
{
	enum { HELD = 24 };
	struct vd_host_object *objects[2] = {object, NULL};
	struct { uint64_t page, count; unsigned object; } held[HELD] = {{0}};
	unsigned model[PAGES] = {0};

	(void)state;
	assert_int_equal(vd_host_private(host, "same", memory, PAGES * PAGE, 0, &objects[1], NULL),
			 0);
	test_start(11);
	for (int i = 0; i < 3000; i++) {
		uint64_t random = test_random(test_state()), n = random % HELD;
		uint64_t at = random >> 8 & 63, locked = 0;

		if (held[n].count) {
			unhold(objects[held[n].object], held[n].page, held[n].count);
			for (uint64_t j = 0; j < held[n].count; j++)
				model[held[n].page + j]--;
			held[n].count = 0;
		} else {
			held[n].page = at;
			held[n].count = 1 + (random >> 16) % (PAGES - at);
			held[n].object = random >> 32 & 1;
			assert_int_equal(hold(objects[held[n].object], at, held[n].count), 0);
			for (uint64_t j = 0; j < held[n].count; j++)
				model[at + j]++;
		}
		for (uint64_t j = 0; j < PAGES; j++) {
			locked += model[j] != 0;
			assert_int_equal(holds_any(object, j * PAGE, PAGE), model[j] != 0);
		}
		if (i % 16 == 0)
			assert_locked((long)(locked * PAGE));
	}
	for (unsigned n = 0; n < HELD; n++)
		if (held[n].count)
			unhold(objects[held[n].object], held[n].page, held[n].count);
	assert_int_equal(host->holds.used, 0);
	assert_int_equal(host->holds.ranges, 0);
	vd_host_object_put(objects[1]);
}

/* Between two held pages there is one to be locked on either side: each may fail. */
static void fails_cleanly_at_each_step(void **state)
{
	long step = 1;

	(void)state;
	for (uint64_t i = 0; i < 7; i++) /* the next one needs more room */
		assert_int_equal(hold(object, 2 * i + 1, 1), 0);
	for (;; step++) {
		test_env_fail(&test, step, -ENOMEM);
		if (hold(object, 0, 5) == 0)
			break;
		assert_true(test_env_failed(&test));
		assert_locked(7 * PAGE);
		assert_false(holds_any(object, 0, PAGE));
		assert_int_equal(host->holds.ranges, 7);
	}
	assert_int_equal(step, 4); /* pages 0, 2 and 4 */
	unhold(object, 0, 5);
	test_env_fail(&test, 0, 0);
	assert_int_equal(hold(object, 20, 1), 0);
	test_env_fail(&test, 1, -ENOMEM); /* the room for edges */
	assert_int_equal(hold(object, 22, 1), -ENOMEM);
	assert_string_equal(test.failed_site, "host.hold_edges");
	test_env_fail(&test, 0, 0);
	unhold(object, 20, 1);
	for (uint64_t i = 0; i < 7; i++)
		unhold(object, 2 * i + 1, 1);
}

/* Slots may outlive the host: their memory is free at once, and their unhold is nothing. */
static void the_end_of_the_host_undoes_all(void **state)
{
	struct vd_host_config config = {.env = &test.env, .window_size = UINT64_C(1) << 30};
	struct vd_host_object *own;
	struct vd_host *other;

	(void)state;
	assert_int_equal(vd_host_create(&config, &other, NULL), 0);
	assert_int_equal(vd_host_private(other, "own", memory, PAGES * PAGE, 0, &own, NULL), 0);
	assert_int_equal(hold(own, 3, 4), 0);
	assert_int_equal(hold(own, 9, 4), 0);
	assert_locked(8 * PAGE);
	vd_host_destroy(other);
	assert_locked(0);
	assert_int_equal(hold(own, 0, 1), 0); /* nothing reaches it */
	assert_locked(0);
	unhold(own, 3, 4);
	unhold(own, 9, 4);
	unhold(own, 0, 1);
	vd_host_object_put(own);
}

static int hold_within_the_limit(void)
{
	struct vd_error error = {.text = ""};

	if (vd_host_object_hold(object, 0, 9 * PAGE, &error) != -ENOMEM || locked_bytes())
		return 1;
	if (!strstr(error.text, "RLIMIT_MEMLOCK is 32 KiB"))
		return 2;
	if (hold(object, 0, 8) || locked_bytes() != 8 * (long)PAGE)
		return 3;
	if (hold(object, 4, 8) != -ENOMEM || locked_bytes() != 8 * (long)PAGE)
		return 4;
	if (hold(object, 2, 4)) /* locked already */
		return 5;
	unhold(object, 2, 4);
	unhold(object, 0, 8);
	return 0;
}

static int hold_without_any(void)
{
	return hold(object, 0, 1) == -EPERM && !locked_bytes() ? 0 : 1;
}

static void obeys_the_limit(void **state)
{
	(void)state;
	with_lock_limit(8 * PAGE, hold_within_the_limit);
	with_lock_limit(0, hold_without_any);
}

static void *hold_and_unhold(void *context)
{
	uint64_t seed = (uint64_t)(uintptr_t)context;

	for (int i = 0; i < 1500; i++) {
		uint64_t page = test_random(&seed) % 60;

		assert_int_equal(hold(object, page, 4), 0);
		assert_true(holds_any(object, (page + 3) * PAGE, PAGE));
		assert_int_equal(vd_host_object_discard(object, page * PAGE, PAGE, true), -EBUSY);
		unhold(object, page, 4);
	}
	return NULL;
}

static void threads_do_not_undo_each_other(void **state)
{
	pthread_t threads[3];

	(void)state;
	for (uintptr_t i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, hold_and_unhold, (void *)i);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(host->holds.used, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define HOLD_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		HOLD_TEST(held_memory_stays),
		HOLD_TEST(announced_and_shared_memory_is_never_locked),
		HOLD_TEST(refuses_bad_ranges),
		HOLD_TEST(a_hole_fails_as_a_whole),
		HOLD_TEST(counts_as_a_model_does),
		HOLD_TEST(fails_cleanly_at_each_step),
		HOLD_TEST(the_end_of_the_host_undoes_all),
		HOLD_TEST(obeys_the_limit),
		HOLD_TEST(threads_do_not_undo_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
