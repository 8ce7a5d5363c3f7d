/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page tables by themselves, for several formats. Nothing that they map is ever touched. Table
 * memory comes from a reserve that was taken before, but where a case says otherwise.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <viaduct/mmu.h>

#include "cli/bench_tables.h"

#define SMALL 4096ull
#define LARGE (2ull << 20)
#define SPAN (1ull << 30)
#define INPUT (32 * SPAN)
#define MOST 16u /* spans in a row */

/*
 * What a program with many tables has: pages that are used again, from a list for each size. The
 * price of new ones is the kernel's.
 */
#define CLASSES 8u

struct pool {
	struct vd_env env;
	pthread_mutex_t mutex;
	struct block { struct block *next; } *free[CLASSES];
	size_t size[CLASSES];
};

/* The list for a size, NULL if there are too many sizes. */
static struct block **pool_list(struct pool *pool, size_t size)
{
	for (unsigned i = 0; i < CLASSES; i++) {
		if (!pool->size[i])
			pool->size[i] = size;
		if (pool->size[i] == size)
			return &pool->free[i];
	}
	return NULL;
}

static void *pool_allocate(const struct vd_env *env, size_t size, size_t align)
{
	struct pool *pool = (struct pool *)(uintptr_t)env;
	struct block **list, *block = NULL;

	pthread_mutex_lock(&pool->mutex);
	list = pool_list(pool, size);
	if (list && *list) {
		block = *list;
		*list = block->next;
	}
	pthread_mutex_unlock(&pool->mutex);
	if (block)
		return memset(block, 0, size);
	return vd_env_hosted()->allocate(env, size, align);
}

static void pool_release(const struct vd_env *env, void *p, size_t size)
{
	struct pool *pool = (struct pool *)(uintptr_t)env;
	struct block **list, *block = p;

	pthread_mutex_lock(&pool->mutex);
	list = pool_list(pool, size);
	if (list) {
		block->next = *list;
		*list = block;
	}
	pthread_mutex_unlock(&pool->mutex);
	if (!list)
		vd_env_hosted()->release(env, p, size);
}

static void pool_empty(struct pool *pool)
{
	for (unsigned i = 0; i < CLASSES; i++) {
		while (pool->free[i]) {
			struct block *block = pool->free[i];

			pool->free[i] = block->next;
			vd_env_hosted()->release(&pool->env, block, pool->size[i]);
		}
	}
}

struct table {
	struct vd_pgtable *pt;
	struct vd_pgtable_reserve *reserve;
	uint64_t span, mapped, failures;
};

static const struct vd_mmu_attributes leaf = {.access = VD_READ | VD_WRITE};

static void clear(void *context, uint64_t n)
{
	struct table *t = context;

	(void)n;
	t->failures += vd_pgtable_unmap(t->pt, INPUT, MOST * SPAN, NULL) != 0;
	vd_env_hosted_drain();
}

static void drop(struct table *t)
{
	vd_pgtable_reserve_drop(t->pt, t->reserve);
	t->reserve = NULL;
}

static void reserve(struct table *t, uint64_t spans, unsigned largest)
{
	clear(t, 1);
	drop(t);
	t->failures += vd_pgtable_reserve(t->pt, INPUT, spans * SPAN, largest, &t->reserve) != 0;
}

static void reserve_pages(void *context, uint64_t n)
{
	(void)n;
	reserve(context, 1, 0);
}

static void reserve_blocks(void *context, uint64_t n)
{
	reserve(context, n <= MOST ? n : 1, 1);
}

/* A page off, so that neither blocks nor groups fit. */
static void map_bulk(void *context, uint64_t n)
{
	struct table *t = context;

	t->failures += vd_pgtable_map(t->pt, INPUT, n * SMALL, SMALL, &leaf, t->reserve) != 0;
}

static void map_single(void *context, uint64_t n)
{
	struct table *t = context;

	for (uint64_t i = 0; i < n; i++)
		t->failures += vd_pgtable_map(t->pt, INPUT + i * SMALL, SMALL, (i + 1) * SMALL,
					      &leaf, t->reserve) != 0;
}

static void map_blocks(void *context, uint64_t n)
{
	struct table *t = context;

	for (uint64_t i = 0; i < n; i++)
		t->failures += vd_pgtable_map(t->pt, INPUT + i * SPAN, SPAN, LARGE, &leaf,
					      t->reserve) != 0;
}

static void fill(void *context, uint64_t n)
{
	struct table *t = context;

	(void)n;
	reserve(t, 1, 0);
	map_bulk(t, t->span / SMALL);
}

/* Several spans, as only one would be over before the clock is read. */
static void fill_spans(void *context, uint64_t n)
{
	struct table *t = context;

	reserve(t, n, 0);
	for (uint64_t i = 0; i < n; i++)
		t->failures += vd_pgtable_map(t->pt, INPUT + i * SPAN, t->span, SMALL, &leaf,
					      t->reserve) != 0;
}

static void fill_blocks(void *context, uint64_t n)
{
	(void)n;
	reserve(context, 1, 1);
	map_blocks(context, 1);
}

static void unmap(void *context, uint64_t n)
{
	struct table *t = context;

	for (uint64_t i = 0; i < n; i++)
		t->failures += vd_pgtable_unmap(t->pt, INPUT + i * SPAN, SPAN, NULL) != 0;
}

static void split(void *context, uint64_t n)
{
	struct table *t = context;

	for (uint64_t i = 0; i < n; i++)
		t->failures += vd_pgtable_split(t->pt, INPUT + i * LARGE, LARGE, 0) != 0;
}

static void walk(void *context, uint64_t n)
{
	struct table *t = context;
	uint64_t random = 0x9e3779b97f4a7c15u;
	struct vd_mmu_leaf found;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t input = INPUT + bench_random(&random) % t->span;

		t->failures += vd_pgtable_walk_guarded(t->pt, input, VD_READ, &found) != 0;
	}
}

/* So many pages, spread over the span, each in a table of its own as long as there are some. */
static void scatter(void *context, uint64_t n)
{
	struct table *t = context;
	uint64_t step = t->mapped < t->span / LARGE ? LARGE : t->span / t->mapped;

	clear(t, n);
	for (uint64_t i = 0; i < t->mapped; i++)
		t->failures += vd_pgtable_map(t->pt, INPUT + i * step, SMALL, i * SMALL, &leaf,
					      NULL) != 0;
}

static void measure(struct bench *bench, struct table *t, const char *format)
{
	uint64_t pages = t->span / SMALL;
	const struct bench_case cases[] = {
		{.name = "map-4k-bulk", .n = pages, .prepare = reserve_pages, .body = map_bulk},
		{.name = "map-4k-single", .n = pages, .prepare = reserve_pages,
		 .body = map_single},
		{.name = "unmap-1g", .n = 4, .wall = true, .prepare = fill_spans, .body = unmap},
		{.name = "map-2m", .n = MOST, .wall = true, .prepare = reserve_blocks,
		 .body = map_blocks},
		{.name = "split-2m", .n = bench->quick ? 16 : 512, .prepare = fill_blocks,
		 .body = split},
		{.name = "walk", .body = walk},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bench_case c = cases[i];
		char name[64];

		snprintf(name, sizeof(name), "%s/%s", c.name, format);
		c.name = name;
		c.context = t;
		if (c.body == walk)
			fill(t, 1);
		bench_one(bench, &c);
	}
}

/* Zapping costs what is mapped; and what tables cost that nobody had reserved. */
static void measure_more(struct bench *bench, struct table *t)
{
	static const uint64_t mapped[] = {0, 1, 64, 512, 4096};
	struct bench_case alloc = {.name = "map-4k-bulk, allocating", .n = t->span / SMALL,
				   .context = t, .prepare = clear, .body = map_bulk};

	drop(t);
	bench_one(bench, &alloc);
	for (size_t i = 0; i < sizeof(mapped) / sizeof(mapped[0]); i++) {
		struct bench_case c = {.n = 1, .wall = true, .context = t, .prepare = scatter,
				       .body = unmap};
		char name[64];

		snprintf(name, sizeof(name), "zap-1g/%llu", (unsigned long long)mapped[i]);
		c.name = name;
		t->mapped = mapped[i];
		bench_one(bench, &c);
	}
}

int bench_pgtable(struct bench *bench, struct vd_error *error)
{
	static const struct { const char *name; const struct vd_mmu_format *format; } formats[] = {
		{"sv48x4", &vd_mmu_format_sv48x4},
		{"sv39x4", &vd_mmu_format_sv39x4},
		{"sv57x4", &vd_mmu_format_sv57x4},
		{"sv48", &vd_mmu_format_sv48},
		{"x86-64", &vd_mmu_format_x86_64},
		{"x86-64-la57", &vd_mmu_format_x86_64_la57},
		{"npt", &vd_mmu_format_npt},
		{"ept", &vd_mmu_format_ept},
		{"arm64-s1-4k", &vd_mmu_format_arm64_s1_4k},
		{"arm64-s2-4k", &vd_mmu_format_arm64_s2_4k},
	};

	struct pool pool = {.env = *vd_env_hosted(), .mutex = PTHREAD_MUTEX_INITIALIZER};
	int rc = 0;

	pool.env.allocate = pool_allocate;
	pool.env.release = pool_release;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]) && !rc; i++) {
		struct vd_pgtable_config config = {.env = &pool.env, .page_shift = 12,
						   .format = formats[i].format};
		struct table t = {.span = bench->quick ? 8 * LARGE : SPAN};

		rc = vd_pgtable_create(&config, &t.pt, error);
		if (rc)
			break;
		measure(bench, &t, formats[i].name);
		if (i == 0)
			measure_more(bench, &t);
		drop(&t);
		vd_pgtable_destroy(t.pt);
		vd_env_hosted_drain();
		if (t.failures)
			rc = vd_error_set(error, -EIO, "%llu operations failed on %s",
					  (unsigned long long)t.failures, formats[i].name);
	}
	pool_empty(&pool);
	return rc;
}
