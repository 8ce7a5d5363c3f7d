/* SPDX-License-Identifier: BSD-2-Clause */
/* Page state and spare frames against plain arrays. */
#include <string.h>

#include "host/object.h"

#include "../base/test_env.h"

#define PAGES 1300u /* three chunks, the last one partly used */

static struct test_env test;
static struct vd_host host;

static struct vd_host_object *bare_object(uint64_t spares)
{
	static struct vd_host_object object;

	test_env_init(&test);
	host.env = &test.env;
	memset(&object, 0, sizeof(object));
	object.host = &host;
	object.pages = PAGES;
	object.frames = PAGES + spares;
	return &object;
}

static void untouched_pages_have_no_state(void **state)
{
	struct vd_host_object *object = bare_object(0);

	(void)state;
	assert_int_equal(pages_get(object, 700).frame, 700);
	assert_false(pages_get(object, 700).read_only);
	assert_int_equal(pages_run(object, 5, PAGES - 5), PAGES - 5);
	assert_int_equal(test.blocks, 0);
	/* and state takes room only where it is */
	assert_int_equal(pages_prepare(object, 600, 1), 0);
	assert_int_equal(test.blocks, 2);
	assert_int_equal(pages_prepare(object, 511, 2), 0);
	assert_int_equal(test.blocks, 3);
	assert_int_equal(pages_run(object, 5, PAGES - 5), PAGES - 5);
	pages_free(object);
	assert_int_equal(test.blocks, 0);
}

/* A moved page at the end of a chunk is not part of the plain chunk that follows. */
static void runs_cross_chunks_only_in_order(void **state)
{
	struct vd_host_object *object = bare_object(0);

	(void)state;
	assert_int_equal(pages_prepare(object, CHUNK_PAGES - 1, 1), 0);
	assert_int_equal(pages_run(object, CHUNK_PAGES - 1, 100), 100);
	pages_set_frame(object, CHUNK_PAGES - 1, 700);
	assert_int_equal(pages_run(object, CHUNK_PAGES - 1, 100), 1);
	pages_set_frame(object, CHUNK_PAGES - 1, CHUNK_PAGES - 1);
	pages_set_read_only(object, CHUNK_PAGES - 1, 1, true);
	assert_int_equal(pages_run(object, CHUNK_PAGES - 1, 100), 1);
	assert_int_equal(pages_run(object, CHUNK_PAGES, 100), 100);
	pages_free(object);
}

static void preparing_may_fail_anywhere(void **state)
{
	struct vd_host_object *object = bare_object(0);

	(void)state;
	for (long step = 1; step <= 4; step++) {
		test_env_fail(&test, step, -ENOMEM);
		assert_int_equal(pages_prepare(object, 0, PAGES), -ENOMEM);
		assert_int_equal(pages_run(object, 0, PAGES), PAGES);
		pages_free(object);
		assert_int_equal(test.blocks, 0);
		atomic_store(&object->table, NULL);
	}
	test_env_fail(&test, 0, 0);
	assert_int_equal(pages_prepare(object, 0, PAGES), 0);
	pages_free(object);
}

static void check_runs(const struct vd_host_object *object, const uint32_t *frame,
		       const bool *read_only, uint64_t page)
{
	uint64_t limit = 1 + test_random(test_state()) % (PAGES - page), n = 1;

	while (n < limit && frame[page + n] == frame[page] + n &&
	       read_only[page + n] == read_only[page])
		n++;
	assert_int_equal(pages_get(object, page).frame, frame[page]);
	assert_int_equal(pages_get(object, page).read_only, read_only[page]);
	assert_int_equal(pages_run(object, page, limit), n);
	/* may end earlier, but only at the end of a chunk, and never later */
	assert_in_range(pages_run_near(object, page, limit), 1, n);
	if (pages_run_near(object, page, limit) < n)
		assert_int_equal((page + pages_run_near(object, page, limit)) % CHUNK_PAGES, 0);
}

/* A page with state costs its own GiB the large runs, no other. */
static void far_state_does_not_shorten_a_run(void **state)
{
	uint64_t pages = UINT64_C(3) * GROUP_CHUNKS * CHUNK_PAGES, group = pages / 3;
	struct vd_host_object *object = bare_object(0);

	(void)state;
	object->pages = pages;
	assert_int_equal(pages_run_near(object, 0, group), group);
	assert_int_equal(pages_prepare(object, 100, 1), 0);
	pages_set_frame(object, 100, 7);
	assert_int_equal(pages_run_near(object, 0, group), 100);
	assert_int_equal(pages_run_near(object, 100, group), 1);
	assert_int_equal(pages_run_near(object, 101, group), CHUNK_PAGES - 101);
	assert_int_equal(pages_run_near(object, CHUNK_PAGES, group), 16 * CHUNK_PAGES);
	assert_int_equal(pages_run_near(object, group, group), group);
	assert_int_equal(pages_run_near(object, group - CHUNK_PAGES, 2 * group + CHUNK_PAGES),
			 2 * group + CHUNK_PAGES);
	pages_free(object);
	assert_int_equal(test.blocks, 0);
}

static void state_agrees_with_arrays(void **state)
{
	static uint32_t frame[PAGES];
	static bool read_only[PAGES];
	struct vd_host_object *object = bare_object(0);

	(void)state;
	test_start(11);
	for (uint32_t i = 0; i < PAGES; i++)
		frame[i] = i;
	for (int step = 0; step < 3000; step++) {
		uint64_t random = test_random(test_state());
		uint64_t page = random % PAGES, count = 1 + (random >> 16) % 40;
		bool protect = random >> 32 & 1;

		if (count > PAGES - page)
			count = PAGES - page;
		assert_int_equal(pages_prepare(object, page, count), 0);
		if (random >> 33 & 1) {
			pages_set_read_only(object, page, count, protect);
			for (uint64_t i = 0; i < count; i++)
				read_only[page + i] = protect;
		} else {
			frame[page] = (uint32_t)(random >> 34 & 1 ? page : random >> 40);
			pages_set_frame(object, page, frame[page]);
		}
		for (int i = 0; i < 10; i++)
			check_runs(object, frame, read_only, test_random(test_state()) % PAGES);
	}
	pages_free(object);
	assert_int_equal(test.blocks, 0);
}

static void written_bits_agree_with_an_array(void **state)
{
	static bool written[PAGES];
	struct vd_host_object *object = bare_object(0);

	(void)state;
	test_start(12);
	object->written = test.env.allocate(&test.env, (PAGES + 63) / 64 * 8, 8);
	for (int step = 0; step < 20000; step++) {
		uint64_t random = test_random(test_state());
		uint64_t page = random % PAGES, limit, n = 1;
		uint64_t count = 1 + (random >> 16) % 100;

		if (count > PAGES - page)
			count = PAGES - page;
		for (uint64_t i = 0; i < count; i++) {
			if (random >> 40 & 1)
				pages_mark_written(object, page + i);
			written[page + i] = random >> 40 & 1;
		}
		if (!(random >> 40 & 1))
			pages_clear_written(object, page, count);
		page = (random >> 41) % PAGES;
		limit = 1 + test_random(test_state()) % (PAGES - page);
		while (n < limit && written[page + n] == written[page])
			n++;
		assert_int_equal(pages_written(object, page), written[page]);
		assert_int_equal(pages_written_run(object, page, limit), n);
	}
	pages_free(object);
	assert_int_equal(test.blocks, 0);
}

static void spares_are_handed_out_once(void **state)
{
	enum { SPARES = 100 };
	static bool taken[PAGES + SPARES];
	struct vd_host_object *object = bare_object(SPARES);
	uint64_t frame, previous = UINT64_MAX;

	(void)state;
	test_env_fail(&test, 1, -ENOMEM);
	assert_int_equal(spares_prepare(object), -ENOMEM);
	test_env_fail(&test, 0, 0);
	assert_int_equal(spares_prepare(object), 0);
	assert_int_equal(spares_prepare(object), 0);
	for (int i = 0; i < SPARES; i++) {
		frame = spares_take(object);
		assert_in_range(frame, PAGES, PAGES + SPARES - 1);
		assert_false(taken[frame]);
		taken[frame] = true;
		/* together, as long as there is room */
		assert_true(previous == UINT64_MAX || frame == previous + 1);
		previous = frame;
	}
	assert_int_equal(spares_take(object), UINT64_MAX);
	spares_give(object, 5); /* the old frame of page 5 */
	assert_int_equal(spares_take(object), 5);
	assert_int_equal(spares_take(object), UINT64_MAX);
	pages_free(object);
	assert_int_equal(test.blocks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(untouched_pages_have_no_state),
		cmocka_unit_test(runs_cross_chunks_only_in_order),
		cmocka_unit_test(preparing_may_fail_anywhere),
		cmocka_unit_test(far_state_does_not_shorten_a_run),
		cmocka_unit_test_teardown(state_agrees_with_arrays, test_seed_print),
		cmocka_unit_test_teardown(written_bits_agree_with_an_array, test_seed_print),
		cmocka_unit_test(spares_are_handed_out_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
