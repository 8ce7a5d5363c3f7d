/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DMA among 1 to 65 535 maps, at random addresses, all of which hit. The peer is the floor for a
 * plain sorted array of maps: a branch-free search, no guard, nothing that could change.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <viaduct/iommu.h>

#include "cli/bench.h"

#define PAGE 4096ull
#define MEMORY (64ull << 20)
#define STRIDE (2 * PAGE) /* a hole behind each map, so that they stay apart */
#define MAPS_MAX 65535u
#define QUERIES 16384u

struct dma {
	struct vd_host *host;
	struct vd_host_object *object;
	struct vd_dma_space *space;
	uint32_t count;
	uint64_t random;
	uint64_t failures;
	uint64_t starts[MAPS_MAX];
	uint8_t *pointers[MAPS_MAX];
	uint64_t queries[QUERIES];
};

static void translate(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++) {
		void *pointer = NULL;
		uint64_t run;

		vd_dma_guard_enter(d->space);
		d->failures += vd_dma_translate(d->space, (vd_iova){d->queries[i % QUERIES]},
						VD_READ, &pointer, &run) != 0;
		vd_dma_guard_leave(d->space);
		bench_keep((uintptr_t)pointer);
	}
}

static void array_translate(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++) {
		const uint64_t *base = d->starts;
		uint64_t iova = d->queries[i % QUERIES];

		for (uint32_t left = d->count; left > 1; left -= left / 2) {
			const uint64_t *half = base + left / 2;

			/* As likely as not, so that compilers select instead of branching. */
			base = __builtin_expect_with_probability(*half <= iova, 1, 0.5) ? half :
											  base;
		}
		d->failures += iova - *base >= PAGE;
		bench_keep((uintptr_t)(d->pointers[base - d->starts] + (iova - *base)));
	}
}

static void pin(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++) {
		struct vd_dma_range range = {{d->queries[i % QUERIES] & ~(PAGE - 1)}, PAGE};
		struct vd_dma_segment segment;
		struct vd_dma_pin held;
		unsigned segments = 1;

		if (vd_dma_pin(d->space, &range, 1, VD_READ, NULL, &held, &segment, &segments))
			d->failures++;
		else
			vd_dma_unpin(&held);
	}
}

static void copy(void *context, uint64_t n)
{
	struct dma *d = context;
	uint8_t buffer[PAGE];

	for (uint64_t i = 0; i < n; i++) {
		vd_iova iova = {d->queries[i % QUERIES] & ~(PAGE - 1)};

		d->failures += vd_dma_read(d->space, iova, buffer, PAGE) != 0;
		bench_keep((uintptr_t)buffer);
	}
}

static void plain_copy(void *context, uint64_t n)
{
	struct dma *d = context;
	uint8_t buffer[PAGE];

	for (uint64_t i = 0; i < n; i++) {
		memcpy(buffer, d->pointers[d->queries[i % QUERIES] / STRIDE], PAGE);
		bench_keep((uintptr_t)buffer);
	}
}

static void map_more(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++)
		d->failures += vd_dma_map(d->space, (vd_iova){(MAPS_MAX + 1 + i) * STRIDE}, PAGE,
					  d->object, 0, VD_READ) != 0;
}

static void unmap_each(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++)
		d->failures += vd_dma_unmap(d->space, (vd_iova){(MAPS_MAX + 1 + i) * STRIDE}, PAGE,
					    NULL) != 0;
}

static void unmap_more(void *context, uint64_t n)
{
	struct dma *d = context;

	d->failures += vd_dma_unmap(d->space, (vd_iova){(MAPS_MAX + 1) * STRIDE}, n * STRIDE,
				    NULL) != 0;
}

static int add_maps(struct dma *d, struct vd_error *error)
{
	for (uint32_t i = 0; i < d->count; i++) {
		uint64_t offset = bench_random(&d->random) % (MEMORY / PAGE) * PAGE;
		struct vd_host_page page;
		int rc = vd_dma_map(d->space, (vd_iova){i * STRIDE}, PAGE, d->object, offset,
				    VD_READ | VD_WRITE);

		if (!rc)
			rc = vd_host_object_lookup(d->object, offset, VD_READ, &page);
		if (rc)
			return vd_error_set(error, rc, "cannot map %u of %u", i, d->count);
		d->starts[i] = i * STRIDE;
		d->pointers[i] = vd_host_pointer(vd_host_window_base(d->host), page.pfn,
						 vd_host_page_shift(d->host));
	}
	for (uint32_t i = 0; i < QUERIES; i++)
		d->queries[i] = bench_random(&d->random) % d->count * STRIDE +
				bench_random(&d->random) % (PAGE - 8);
	return 0;
}

static void measure(struct bench *bench, struct dma *d)
{
	/* Leaves room below the limit of maps. */
	uint64_t more = bench->quick ? 4 : 256;
	const struct bench_case cases[] = {
		{.name = "translate", .context = d, .body = translate, .peer = "sorted array",
		 .peer_body = array_translate},
		{.name = "pin and unpin 4 KiB", .context = d, .body = pin},
		{.name = "read 4 KiB", .context = d, .body = copy, .peer = "memcpy",
		 .peer_body = plain_copy},
		{.name = "map", .n = more, .wall = true, .context = d, .prepare = unmap_more,
		 .body = map_more},
		{.name = "unmap", .n = more, .wall = true, .context = d, .prepare = map_more,
		 .body = unmap_each},
	};
	/* A full space takes no more; its own maps are enough to look up. */
	size_t count = sizeof(cases) / sizeof(cases[0]) - (d->count == MAPS_MAX ? 2 : 0);

	for (size_t i = 0; i < count; i++) {
		struct bench_case c = cases[i];
		char name[40];

		snprintf(name, sizeof(name), "%s/%u", c.name, d->count);
		c.name = name;
		if (c.body == unmap_each)
			unmap_more(d, more);
		bench_one(bench, &c);
	}
}

static int measure_with(struct bench *bench, struct dma *d, uint32_t count, struct vd_error *error)
{
	struct vd_dma_config config = {.env = vd_env_hosted(), .host = d->host};
	int rc = vd_dma_space_create(&config, &d->space, error);

	if (rc)
		return rc;
	d->count = count;
	rc = add_maps(d, error);
	if (!rc)
		measure(bench, d);
	if (!rc && d->failures)
		rc = vd_error_set(error, -EIO, "%llu operations failed",
				  (unsigned long long)d->failures);
	vd_dma_space_destroy(d->space);
	return rc;
}

int bench_dma(struct bench *bench, struct vd_error *error)
{
	static const uint32_t counts[] = {1, 16, 256, 4096, MAPS_MAX};
	struct vd_host_config config = {.env = vd_env_hosted()};
	struct dma *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return vd_error_set(error, -ENOMEM, "out of memory");
	d->random = 0x9e3779b97f4a7c15u;
	rc = vd_host_create(&config, &d->host, error);
	if (!rc)
		rc = vd_host_ram_create(d->host, "bench", MEMORY, 0, &d->object, error);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]) && !rc; i++)
		rc = measure_with(bench, d, counts[i], error);
	vd_host_object_put(d->object);
	if (d->host)
		vd_host_destroy(d->host);
	free(d);
	return rc;
}
