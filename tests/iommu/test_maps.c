/* SPDX-License-Identifier: BSD-2-Clause */
/* The map database against a sorted array. */
#include <stdlib.h>
#include <string.h>

#include "../base/test_env.h"
#include "iommu/maps.h"

#define PAGE UINT64_C(4096)
#define MODEL_MAX 3000u
#define SEEDS 12u
#define STEPS 12000u
/* Small, so that maps collide; half of it at the very end of the address space. */
#define FIELD_PAGES 16384u

struct model {
	struct dma_map *map[MODEL_MAX];
	unsigned count;
};

struct state {
	struct test_env test;
	struct dma_maps maps;
	struct model model;
	uint64_t random;
};

static uint64_t place(uint64_t page)
{
	return page < FIELD_PAGES / 2 ? page * PAGE : UINT64_MAX - (FIELD_PAGES - page) * PAGE + 1;
}

/* The first map of the model that ends at or after an address. */
static unsigned model_next(const struct model *model, uint64_t iova)
{
	unsigned low = 0, high = model->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (model->map[middle]->last < iova)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void model_insert(struct model *model, struct dma_map *map)
{
	unsigned at = model_next(model, map->start);

	memmove(model->map + at + 1, model->map + at, (model->count - at) * sizeof(map));
	model->map[at] = map;
	model->count++;
}

static struct dma_map *model_take(struct model *model, unsigned at)
{
	struct dma_map *map = model->map[at];

	model->count--;
	memmove(model->map + at, model->map + at + 1, (model->count - at) * sizeof(map));
	return map;
}

static void compare(struct state *s, uint64_t iova)
{
	unsigned at = model_next(&s->model, iova);
	struct dma_map *next = at < s->model.count ? s->model.map[at] : NULL;

	assert_ptr_equal(dma_maps_next(&s->maps, iova), next);
	assert_ptr_equal(dma_maps_find(&s->maps, iova),
			 next && next->start <= iova ? next : NULL);
}

static void free_map(struct state *s, struct dma_map *map)
{
	s->test.env.release(&s->test.env, map, sizeof(*map));
}

static void step_insert(struct state *s)
{
	uint64_t page = test_random(&s->random) % FIELD_PAGES;
	uint64_t pages = test_random(&s->random) % 8 ? 1 + test_random(&s->random) % 4
						     : 1 + test_random(&s->random) % 64;
	uint64_t end = page < FIELD_PAGES / 2 ? FIELD_PAGES / 2 : FIELD_PAGES;
	struct dma_map *map, *next;
	int r;

	if (pages > end - page)
		pages = end - page;
	map = s->test.env.allocate(&s->test.env, sizeof(*map), _Alignof(struct dma_map));
	map->start = place(page);
	map->last = map->start + (pages * PAGE - 1);
	next = dma_maps_next(&s->maps, map->start);
	if (s->model.count == MODEL_MAX || (next && next->start <= map->last)) {
		free_map(s, map);
		return;
	}
	r = dma_maps_insert(&s->maps, map);
	if (!r) {
		model_insert(&s->model, map);
	} else {
		assert_int_equal(r, -ENOMEM);
		assert_true(test_env_failed(&s->test));
		free_map(s, map);
	}
	compare(s, place(page));
	compare(s, place(page) + pages * PAGE - 1);
}

static void step_remove(struct state *s)
{
	struct dma_map *map;

	if (!s->model.count)
		return;
	map = model_take(&s->model, (unsigned)(test_random(&s->random) % s->model.count));
	dma_maps_remove(&s->maps, map);
	compare(s, map->start);
	compare(s, map->last);
	free_map(s, map); /* there are no readers */
}

/* Neighbours go together, so that whole leaves become empty. */
static void step_remove_many(struct state *s)
{
	unsigned first, n = 1 + (unsigned)(test_random(&s->random) % 200);

	if (!s->model.count)
		return;
	first = (unsigned)(test_random(&s->random) % s->model.count);
	while (n-- && first < s->model.count) {
		struct dma_map *map = model_take(&s->model, first);

		dma_maps_remove(&s->maps, map);
		free_map(s, map);
	}
}

static void compare_all(struct state *s)
{
	uint64_t at = 0;

	assert_int_equal(s->maps.count, s->model.count);
	for (unsigned i = 0; i < s->model.count; i++) {
		struct dma_map *map = dma_maps_next(&s->maps, at);

		assert_ptr_equal(map, s->model.map[i]);
		at = map->last + 1;
	}
	if (at || !s->model.count)
		assert_null(dma_maps_next(&s->maps, at));
}

static void empty(struct state *s)
{
	while (s->model.count)
		step_remove(s);
	assert_null(dma_maps_next(&s->maps, 0));
	vd_env_hosted_drain();
	assert_int_equal(s->test.blocks, 0);
}

static void test_against_array(void **unused)
{
	(void)unused;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct state *s = calloc(1, sizeof(*s));

		assert_non_null(s);
		*test_seed() = seed;
		s->random = seed;
		test_env_init(&s->test);
		s->maps.env = &s->test.env;
		for (unsigned i = 0; i < STEPS; i++) {
			/* it grows for a while, then shrinks for a while */
			bool grow = test_random(&s->random) % 10 < (i / 3000 % 2 ? 3u : 8u);

			/* some steps run out of memory, at one place or another */
			test_env_fail(&s->test, i % 7 ? 0 : 1 + (long)(i % 5), -ENOMEM);
			if (grow)
				step_insert(s);
			else if (i % 500 == 0)
				step_remove_many(s);
			else
				step_remove(s);
			compare(s, place(test_random(&s->random) % FIELD_PAGES) + i % PAGE);
			if (i % 1000 == 0)
				compare_all(s);
		}
		compare_all(s);
		empty(s);
		free(s);
	}
}

/*
 * Maps in ascending order, as a VFIO client sends them, then every second one away, then across the
 * gaps.
 */
static void test_order(void **unused)
{
	enum { COUNT = 65536 };
	struct dma_map **map = calloc(COUNT, sizeof(*map));
	struct test_env test;
	struct dma_maps maps;

	(void)unused;
	assert_non_null(map);
	test_env_init(&test);
	maps = (struct dma_maps){.env = &test.env};
	for (unsigned i = 0; i < COUNT; i++) {
		map[i] = test.env.allocate(&test.env, sizeof(*map[i]), _Alignof(struct dma_map));
		map[i]->start = i * PAGE;
		map[i]->last = map[i]->start + PAGE - 1;
		assert_int_equal(dma_maps_insert(&maps, map[i]), 0);
	}
	for (unsigned i = 0; i < COUNT; i++)
		assert_ptr_equal(dma_maps_find(&maps, i * PAGE + i % PAGE), map[i]);
	/* all but each 64th: most leaves vanish, and the gaps reach across what divided them */
	for (unsigned i = 0; i < COUNT; i++)
		if (i % 64)
			dma_maps_remove(&maps, map[i]);
	/* 1024 leaves with a map each, and less than that to find them */
	vd_env_hosted_drain();
	assert_in_range(test.blocks - COUNT, 1024, 1024 + 128);
	for (unsigned i = 0; i < COUNT; i += 64) {
		map[i + 1]->start = (i + 1) * PAGE;
		map[i + 1]->last = (i + 64) * PAGE - 1;
		assert_int_equal(dma_maps_insert(&maps, map[i + 1]), 0);
	}
	for (unsigned i = 0; i < COUNT; i++)
		assert_ptr_equal(dma_maps_find(&maps, i * PAGE), map[i % 64 ? i / 64 * 64 + 1 : i]);
	for (unsigned i = 0; i < COUNT; i++) {
		if (i % 64 <= 1)
			dma_maps_remove(&maps, map[i]);
		test.env.release(&test.env, map[i], sizeof(*map[i]));
	}
	free(map);
	assert_int_equal(maps.count, 0);
	vd_env_hosted_drain();
	assert_int_equal(test.blocks, 0);
}

/* The whole address space, and its last byte. */
static void test_ends(void **unused)
{
	struct dma_map all = {.start = 0, .last = UINT64_MAX};
	struct dma_map last = {.start = UINT64_MAX - PAGE + 1, .last = UINT64_MAX};
	struct test_env test;
	struct dma_maps maps;

	(void)unused;
	test_env_init(&test);
	maps = (struct dma_maps){.env = &test.env};
	assert_null(dma_maps_find(&maps, 0));
	assert_int_equal(dma_maps_insert(&maps, &all), 0);
	assert_ptr_equal(dma_maps_find(&maps, 0), &all);
	assert_ptr_equal(dma_maps_find(&maps, UINT64_MAX), &all);
	dma_maps_remove(&maps, &all);
	assert_int_equal(dma_maps_insert(&maps, &last), 0);
	assert_ptr_equal(dma_maps_find(&maps, UINT64_MAX), &last);
	assert_null(dma_maps_find(&maps, last.start - 1));
	assert_ptr_equal(dma_maps_next(&maps, 0), &last);
	dma_maps_remove(&maps, &last);
	vd_env_hosted_drain();
	assert_int_equal(test.blocks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_against_array, test_seed_print),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
