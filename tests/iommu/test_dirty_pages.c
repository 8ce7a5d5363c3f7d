/* SPDX-License-Identifier: BSD-2-Clause */
/* The set of pages against a plain one, also where it gets no memory. */
#include "../base/test_env.h"

#include <stdlib.h>
#include <string.h>

#include "iommu/dirty_pages.h"

#define AREAS 6u
#define AREA_PAGES 256u
#define SEEDS 4u
#define STEPS 3000u

struct model {
	struct test_env test;
	struct dirty_pages *pages;
	unsigned shift;
	uint64_t random;
	uint64_t base[AREAS]; /* first page; ascending, apart from each other */
	bool set[AREAS][AREA_PAGES];
	bool seen[AREAS][AREA_PAGES];
	bool may_fail; /* then it may say more than was marked */
	uint64_t first, last, before; /* of the take that goes on */
	bool any;
};

static uint64_t below(struct model *m, uint64_t limit)
{
	return test_random(&m->random) % limit;
}

static uint64_t page_size(const struct model *m)
{
	return UINT64_C(1) << m->shift;
}

/* Over the borders of branches: of a leaf, of nodes of each level, and both ends of it all. */
static void model_open(struct model *m, unsigned shift, uint64_t seed)
{
	const uint64_t all = UINT64_MAX >> shift;
	const uint64_t borders[] = {1u << 15, 1u << 24, UINT64_C(1) << 33, all / 2 + 1};

	memset(m, 0, sizeof(*m));
	test_env_init(&m->test);
	*test_seed() = m->random = seed;
	m->shift = shift;
	for (unsigned i = 0; i < 4; i++)
		m->base[i + 1] = borders[i] - AREA_PAGES / 2;
	m->base[5] = all - AREA_PAGES + 1;
	m->pages = dirty_pages_create(&m->test.env, shift);
	assert_non_null(m->pages);
}

static void model_close(struct model *m)
{
	dirty_pages_free(m->pages);
	assert_int_equal(m->test.blocks, 0);
}

static bool *find(struct model *m, bool set[AREAS][AREA_PAGES], uint64_t page)
{
	for (unsigned i = 0; i < AREAS; i++)
		if (page - m->base[i] < AREA_PAGES)
			return &set[i][page - m->base[i]];
	return NULL;
}

static void step_mark(struct model *m)
{
	unsigned area = (unsigned)below(m, AREAS);
	uint64_t at = below(m, AREA_PAGES), count = 1 + below(m, below(m, 4) ? 4 : AREA_PAGES - at);
	uint64_t start = (m->base[area] + at) << m->shift, length;

	if (count > AREA_PAGES - at)
		count = AREA_PAGES - at;
	for (uint64_t i = 0; i < count; i++)
		m->set[area][at + i] = true;
	/* a few bytes less at both ends meet the same pages */
	length = (count << m->shift) - 1;
	if (length > 8) {
		start += below(m, 4);
		length -= 4 + below(m, 4);
	}
	if (m->may_fail && !below(m, 3))
		test_env_fail(&m->test, 1 + (long)below(m, 3), -ENOMEM);
	dirty_pages_mark(m->pages, start, length);
	test_env_fail(&m->test, 0, 0);
}

static void told(void *context, uint64_t first, uint64_t last)
{
	struct model *m = context;

	assert_true(first <= last && first >= m->first && last <= m->last);
	/* runs are as long as can be */
	assert_true(!m->any || first > m->before + 1);
	m->before = last;
	m->any = true;
	for (unsigned area = 0; area < AREAS; area++) {
		for (unsigned i = 0; i < AREA_PAGES; i++) {
			uint64_t page = m->base[area] + i;
			uint64_t end = (page << m->shift) + (page_size(m) - 1);

			if (page << m->shift <= last && end >= first)
				m->seen[area][i] = true;
		}
	}
	for (uint64_t page = first >> m->shift; !m->may_fail; page++) {
		assert_non_null(find(m, m->set, page));
		if (page == last >> m->shift)
			break;
	}
}

static void take(struct model *m, uint64_t first, uint64_t last)
{
	memset(m->seen, 0, sizeof(m->seen));
	m->first = first;
	m->last = last;
	m->any = false;
	dirty_pages_take(m->pages, first, last, told, m);
	for (unsigned area = 0; area < AREAS; area++) {
		for (unsigned i = 0; i < AREA_PAGES; i++) {
			uint64_t start = (m->base[area] + i) << m->shift;
			uint64_t end = start + (page_size(m) - 1);
			bool met = start <= last && end >= first;

			if (m->may_fail)
				assert_true(m->seen[area][i] || !(met && m->set[area][i]));
			else
				assert_int_equal(m->seen[area][i], met && m->set[area][i]);
			if (start >= first && end <= last)
				m->set[area][i] = false;
		}
	}
}

static void step_take(struct model *m)
{
	unsigned from = (unsigned)below(m, AREAS), to = from + (unsigned)below(m, AREAS - from);
	uint64_t a = (m->base[from] + below(m, AREA_PAGES)) << m->shift;
	uint64_t b = (m->base[to] + below(m, AREA_PAGES)) << m->shift;

	if (a > b) {
		uint64_t c = a;

		a = b;
		b = c;
	}
	/* whole pages, or parts of them */
	b += page_size(m) - 1;
	if (!below(m, 3))
		a += below(m, page_size(m));
	if (!below(m, 3))
		b -= below(m, page_size(m));
	if (a > b)
		a = b;
	if (m->may_fail && !below(m, 3))
		test_env_fail(&m->test, 1 + (long)below(m, 3), -ENOMEM);
	take(m, a, b);
	test_env_fail(&m->test, 0, 0);
}

static void run_history(unsigned shift, uint64_t seed, bool may_fail)
{
	struct model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	model_open(m, shift, seed);
	m->may_fail = may_fail;
	for (unsigned i = 0; i < STEPS; i++) {
		if (below(m, 3))
			step_mark(m);
		else
			step_take(m);
	}
	/* what was said too much goes with a report, once there is memory again */
	take(m, 0, UINT64_MAX);
	m->may_fail = false;
	take(m, 0, UINT64_MAX);
	for (unsigned i = 0; i < 50; i++)
		step_mark(m);
	take(m, 0, UINT64_MAX);
	model_close(m);
	free(m);
}

static void test_against_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		run_history(12, seed, false);
		run_history(13, seed, false);
		run_history(21, seed, false);
	}
}

static void test_without_memory(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		run_history(12, seed, true);
		run_history(16, seed, true);
	}
}

static void test_create_fails(void **state)
{
	struct test_env test;

	(void)state;
	test_env_init(&test);
	test_env_fail(&test, 1, -ENOMEM);
	assert_null(dirty_pages_create(&test.env, 12));
	dirty_pages_free(NULL);
}

struct sum {
	uint64_t runs, bytes, last;
};

static void add(void *context, uint64_t first, uint64_t last)
{
	struct sum *sum = context;

	sum->runs++;
	sum->bytes += last - first + 1;
	sum->last = last;
}

/* Any page size, down to two pages in all. */
static void test_page_sizes(void **state)
{
	(void)state;
	for (unsigned shift = 12; shift < 64; shift++) {
		struct sum sum = {0};
		struct dirty_pages *pages = dirty_pages_create(vd_env_hosted(), shift);

		assert_non_null(pages);
		dirty_pages_mark(pages, 0, 0);
		dirty_pages_take(pages, 0, UINT64_MAX, add, &sum);
		assert_int_equal(sum.runs, 0);
		dirty_pages_mark(pages, 1, 1);
		dirty_pages_mark(pages, UINT64_MAX, 1);
		dirty_pages_take(pages, 0, UINT64_MAX, add, &sum);
		assert_int_equal(sum.runs, shift == 63 ? 1 : 2);
		assert_int_equal(sum.bytes, (UINT64_C(1) << shift) * 2);
		assert_int_equal(sum.last, UINT64_MAX);
		dirty_pages_free(pages);
	}
}

/* Whatever range a device claims to have stored to costs a bounded amount of memory and time. */
static void test_limit(void **state)
{
	struct sum sum = {0};
	struct dirty_pages *pages;
	struct test_env test;

	(void)state;
	test_env_init(&test);
	pages = dirty_pages_create(&test.env, 12);
	dirty_pages_mark(pages, 0, UINT64_MAX);
	dirty_pages_mark(pages, 4096, UINT64_MAX); /* wraps: to the end */
	assert_in_range(test.bytes, 32 << 20, 65 << 20);
	dirty_pages_take(pages, 0, UINT64_MAX, add, &sum);
	assert_int_equal(sum.runs, 1);
	assert_int_equal(sum.bytes, 0); /* 2^64 */
	sum.runs = 0;
	dirty_pages_take(pages, 0, UINT64_MAX, add, &sum);
	assert_int_equal(sum.runs, 0);
	dirty_pages_free(pages);
	assert_int_equal(test.blocks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_against_model, test_seed_print),
		cmocka_unit_test_teardown(test_without_memory, test_seed_print),
		cmocka_unit_test(test_create_fails),
		cmocka_unit_test(test_page_sizes),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
