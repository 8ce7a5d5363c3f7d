/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DMA among 1 to 65 536 maps, at random addresses, all of which hit, while another thread maps and
 * unmaps. *Independent* translations overlap in the processor; of *dependent* ones each waits for
 * the answer before. A guard lasts for a burst of them. The peer is the floor for a plain sorted
 * array of maps: a branch-free search, no guard, nothing that could change.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <viaduct/iommu.h>

#include "cli/bench.h"

#define PAGE 4096ull
#define MEMORY (64ull << 20)
#define STRIDE (2 * PAGE) /* a hole behind each map, so that they stay apart */
#define MAPS_MAX 65536u
#define BURST 64u /* translations a guard */
#define MORE 256u /* maps that come and go */
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
	struct vd_host_object *imports[MORE];
	void *bare[MORE];
	uint64_t mapped; /* by map_more() and the like */
	pthread_t other;
	_Atomic bool stop;
};

/* @chain: 0, but the compiler does not know, where each query waits for the answer before. */
static inline void *translate_one(struct dma *d, uint64_t i, uint64_t chain)
{
	void *pointer = NULL;
	uint64_t run;

	d->failures += vd_dma_translate(d->space, (vd_iova){d->queries[i % QUERIES] + chain},
					VD_READ, &pointer, &run) != 0;
	return pointer;
}

static void translate(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n;) {
		vd_dma_guard_enter(d->space);
		for (uint64_t end = i + BURST; i < end && i < n; i++)
			bench_keep((uintptr_t)translate_one(d, i, 0));
		vd_dma_guard_leave(d->space);
	}
}

static void translate_dependent(void *context, uint64_t n)
{
	struct dma *d = context;
	uint64_t zero = bench_opaque(0), chain = 0;

	for (uint64_t i = 0; i < n;) {
		vd_dma_guard_enter(d->space);
		for (uint64_t end = i + BURST; i < end && i < n; i++)
			chain = (uintptr_t)translate_one(d, i, chain) & zero;
		vd_dma_guard_leave(d->space);
	}
	bench_keep(chain);
}

static void guard_and_translate(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++) {
		vd_dma_guard_enter(d->space);
		bench_keep((uintptr_t)translate_one(d, i, 0));
		vd_dma_guard_leave(d->space);
	}
}

static inline uint8_t *array_find(struct dma *d, uint64_t iova)
{
	const uint64_t *base = d->starts;

	for (uint32_t left = d->count; left > 1; left -= left / 2) {
		const uint64_t *half = base + left / 2;

		/* As likely as not, so that compilers select instead of branching. */
		base = __builtin_expect_with_probability(*half <= iova, 1, 0.5) ? half : base;
	}
	d->failures += iova - *base >= PAGE;
	return d->pointers[base - d->starts] + (iova - *base);
}

static void array_translate(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++)
		bench_keep((uintptr_t)array_find(d, d->queries[i % QUERIES]));
}

static void array_dependent(void *context, uint64_t n)
{
	struct dma *d = context;
	uint64_t zero = bench_opaque(0), chain = 0;

	for (uint64_t i = 0; i < n; i++)
		chain = (uintptr_t)array_find(d, d->queries[i % QUERIES] + chain) & zero;
	bench_keep(chain);
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

/* ---- maps that come and go ------------------------------------------------------------------ */

/* The place of one more map: @area 0 for what is measured, 1 for the other thread's. */
static vd_iova more_at(unsigned area, uint64_t i)
{
	return (vd_iova){((area + 1) * (MAPS_MAX + UINT64_C(65536)) + i) * STRIDE};
}

static int no_answer(void *context, vd_iova iova, void *buffer, size_t length)
{
	(void)context;
	(void)iova;
	(void)buffer;
	(void)length;
	return -EIO;
}

static const struct vd_dma_remote_ops nobody = {.read = no_answer};

static int map_one(struct dma *d, unsigned area, uint64_t i)
{
	return vd_dma_map_remote(d->space, more_at(area, i), PAGE, VD_READ, &nobody, NULL);
}

/* Without a descriptor: reached by messages. */
static void map_more(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++)
		d->failures += map_one(d, 0, i) != 0;
	d->mapped = n;
}

/* Of an object that is there already. */
static void map_object(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++)
		d->failures += vd_dma_map(d->space, more_at(0, i), PAGE, d->object, 0,
					  VD_READ) != 0;
	d->mapped = n;
}

/* With a descriptor, as a client gives one with each map, and the first access. */
static void map_fd(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++) {
		uint32_t word;
		int rc = vd_host_import(d->host, "import", vd_host_object_fd(d->object), i * PAGE,
					PAGE, VD_PAGE_RAM, VD_MEMORY_NORMAL, 0, &d->imports[i],
					NULL);

		if (!rc)
			rc = vd_dma_map(d->space, more_at(0, i), PAGE, d->imports[i], 0, VD_READ);
		if (!rc)
			rc = vd_dma_read(d->space, more_at(0, i), &word, sizeof(word));
		d->failures += rc != 0;
	}
	d->mapped = n;
}

/* The system call that is needed at least. */
static void bare_mmap(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++) {
		d->bare[i] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
				  vd_host_object_fd(d->object), (off_t)(i * PAGE));
		if (d->bare[i] == MAP_FAILED)
			d->failures++;
		else
			bench_keep(*(volatile uint32_t *)d->bare[i]);
	}
}

static void bare_munmap(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++) {
		if (d->bare[i])
			munmap(d->bare[i], PAGE);
		d->bare[i] = NULL;
	}
}

static void unmap_each(void *context, uint64_t n)
{
	struct dma *d = context;

	for (uint64_t i = 0; i < n; i++)
		d->failures += vd_dma_unmap(d->space, more_at(0, i), PAGE, NULL) != 0;
	d->mapped = 0;
}

static void unmap_more(void *context, uint64_t n)
{
	struct dma *d = context;

	(void)n;
	if (d->mapped && vd_dma_unmap(d->space, more_at(0, 0), d->mapped * STRIDE, NULL))
		d->failures++;
	d->mapped = 0;
	for (unsigned i = 0; i < MORE; i++) {
		vd_host_object_put(d->imports[i]);
		d->imports[i] = NULL;
	}
}

/* Maps without end, as fast as it can, and makes room once in a while. */
static void *run_other(void *context)
{
	struct dma *d = context;
	uint64_t failures = 0;

	while (!atomic_load_explicit(&d->stop, memory_order_relaxed)) {
		for (uint64_t i = 0; i < MORE; i++)
			failures += map_one(d, 1, i) != 0;
		failures += vd_dma_unmap(d->space, more_at(1, 0), MORE * STRIDE, NULL) != 0;
	}
	return failures ? d : NULL;
}

static int measure_beside(struct bench *bench, struct dma *d, const struct bench_case *c)
{
	void *failed;
	int rc;

	atomic_store(&d->stop, false);
	rc = pthread_create(&d->other, NULL, run_other, d);
	if (rc)
		return -rc;
	bench_one(bench, c);
	atomic_store(&d->stop, true);
	pthread_join(d->other, &failed);
	d->failures += failed != NULL;
	return 0;
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

/* The IOTLB of an assigned device in place of the maps' own memory of what was looked up. */
static int measure_assigned(struct bench *bench, struct dma *d)
{
	char name[40];
	const struct bench_case c = {.name = name, .context = d, .body = translate,
				     .peer = "sorted array", .peer_body = array_translate};

	snprintf(name, sizeof(name), "translate-assigned/%u", d->count);
	return measure_beside(bench, d, &c);
}

static int measure(struct bench *bench, struct dma *d)
{
	uint64_t more = bench->quick ? 4 : MORE;
	const struct bench_case cases[] = {
		{.name = "translate", .context = d, .body = translate, .peer = "sorted array",
		 .peer_body = array_translate},
		{.name = "translate-dependent", .context = d, .body = translate_dependent,
		 .peer = "sorted array", .peer_body = array_dependent},
		{.name = "guard and translate", .context = d, .body = guard_and_translate},
		{.name = "pin and unpin 4 KiB", .context = d, .body = pin},
		{.name = "read 4 KiB", .context = d, .body = copy, .peer = "memcpy",
		 .peer_body = plain_copy},
		{.name = "map", .n = more, .context = d, .prepare = unmap_more, .body = map_more},
		{.name = "map-object", .n = more, .context = d, .prepare = unmap_more,
		 .body = map_object},
		{.name = "map-fd", .n = more, .context = d, .prepare = unmap_more, .body = map_fd,
		 .peer = "mmap", .peer_prepare = bare_munmap, .peer_body = bare_mmap},
		{.name = "unmap", .n = more, .wall = true, .context = d, .prepare = map_more,
		 .body = unmap_each},
	};
	int rc = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && !rc; i++) {
		struct bench_case c = cases[i];
		char name[40];

		snprintf(name, sizeof(name), "%s/%u", c.name, d->count);
		c.name = name;
		unmap_more(d, more);
		if (i < 2)
			rc = measure_beside(bench, d, &c);
		else
			bench_one(bench, &c);
	}
	unmap_more(d, more);
	bare_munmap(d, more);
	return rc;
}

static int measure_with(struct bench *bench, struct dma *d, uint32_t count, enum vd_dma_mode mode,
			struct vd_error *error)
{
	struct vd_dma_config config = {.env = vd_env_hosted(), .host = d->host, .mode = mode};
	int rc = vd_dma_space_create(&config, &d->space, error);

	if (rc)
		return rc;
	d->count = count;
	rc = add_maps(d, error);
	if (!rc)
		rc = mode == VD_DMA_ASSIGNED ? measure_assigned(bench, d) : measure(bench, d);
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
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]) && !rc; i++) {
		rc = measure_with(bench, d, counts[i], VD_DMA_MEDIATED, error);
		if (!rc)
			rc = measure_with(bench, d, counts[i], VD_DMA_ASSIGNED, error);
	}
	vd_host_object_put(d->object);
	if (d->host)
		vd_host_destroy(d->host);
	free(d);
	return rc;
}
