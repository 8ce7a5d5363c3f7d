/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Second-stage tables: nanoseconds a page. RAM is mapped twice, once a page off its natural place,
 * so that only 4 KiB leaves fit, and once so that 2 MiB leaves do. No page of it is ever touched.
 */
#include <viaduct/mmu.h>

#include "cli/bench.h"
#include "cli/bench_tables.h"

#define SMALL 4096ull
#define LARGE (2ull << 20)
#define SPAN_SMALL (64ull << 20)
#define SPAN_LARGE (1ull << 30)
#define GPA_SMALL SPAN_LARGE
#define GPA_LARGE (2 * SPAN_LARGE)

/* One of the two mappings: where, and in steps of what. */
struct span {
	struct tables *tables;
	uint64_t gpa, size, step;
};

struct tables {
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	struct vd_mmu *mmu;
	struct span small, large;
	uint64_t failures;
};

static void zap(void *context, uint64_t n)
{
	struct span *span = context;

	(void)n;
	vd_mmu_zap(span->tables->mmu, (vd_gpa){span->gpa}, span->size);
}

static void fault(void *context, uint64_t n)
{
	struct span *span = context;

	for (uint64_t i = 0; i < n; i++)
		span->tables->failures += vd_mmu_fault(span->tables->mmu,
						       (vd_gpa){span->gpa + i * span->step},
						       VD_READ) != 0;
}

static void fault_again(void *context, uint64_t n)
{
	zap(context, n);
	fault(context, n);
}

static void walk(void *context, uint64_t n)
{
	struct span *span = context;
	uint64_t random = 0x9e3779b97f4a7c15u;
	struct vd_mmu_leaf leaf;

	for (uint64_t i = 0; i < n; i++) {
		vd_gpa gpa = {span->gpa + bench_random(&random) % span->size};

		span->tables->failures += vd_mmu_walk(span->tables->mmu, gpa, VD_READ, &leaf) != 0;
	}
}

static void walk_guarded(void *context, uint64_t n)
{
	struct span *span = context;
	uint64_t random = 0x9e3779b97f4a7c15u;
	struct vd_mmu_leaf leaf;

	for (uint64_t i = 0; i < n; i++) {
		vd_gpa gpa = {span->gpa + bench_random(&random) % span->size};

		span->tables->failures += vd_mmu_walk_guarded(span->tables->mmu, gpa, VD_READ,
							      &leaf) != 0;
	}
}

static void no_flush(void *context, vd_gpa start, uint64_t length)
{
	(void)context, (void)start, (void)length;
}

static int create(struct tables *t, struct vd_error *error)
{
	struct vd_host_config host = {.env = vd_env_hosted()};
	struct vd_mem_config mem = {.env = vd_env_hosted()};
	struct vd_mmu_config mmu = {.env = vd_env_hosted(), .format = &vd_mmu_format_sv48x4,
				    .flush = no_flush};
	struct vd_slot_config slot = {.base = {GPA_SMALL}, .size = SPAN_SMALL, .offset = SMALL,
				      .kind = VD_SLOT_RAM, .name = "4 KiB leaves"};
	int rc = vd_host_create(&host, &t->host, error);

	if (!rc)
		rc = vd_host_ram_create(t->host, "bench", SPAN_LARGE, 0, &t->ram, error);
	mem.host = t->host;
	if (!rc)
		rc = vd_mem_create(&mem, &t->mem, error);
	slot.object = t->ram;
	if (!rc)
		rc = vd_mem_add_slot(t->mem, &slot, NULL, error);
	slot.base = (vd_gpa){GPA_LARGE};
	slot.size = SPAN_LARGE / 2; /* all of it would be one leaf of 1 GiB */
	slot.offset = 0;
	slot.name = "2 MiB leaves";
	if (!rc)
		rc = vd_mem_add_slot(t->mem, &slot, NULL, error);
	mmu.mem = t->mem;
	return rc ? rc : vd_mmu_create(&mmu, &t->mmu, error);
}

static int measure(struct bench *bench, struct tables *t, struct vd_error *error)
{
	const uint64_t small = bench->quick ? 512 : SPAN_SMALL / SMALL;
	const struct bench_case cases[] = {
		{.name = "fault 4 KiB", .n = small, .context = &t->small, .prepare = zap,
		 .body = fault},
		{.name = "zap 4 KiB", .n = small, .wall = true, .context = &t->small,
		 .prepare = fault_again, .body = zap},
		{.name = "fault 2 MiB", .n = t->large.size / LARGE, .wall = true,
		 .context = &t->large, .prepare = zap, .body = fault},
		{.name = "zap 2 MiB", .n = t->large.size / LARGE, .wall = true,
		 .context = &t->large, .prepare = fault_again, .body = zap},
		{.name = "walk 4 KiB random", .context = &t->small, .body = walk},
		{.name = "walk 4 KiB guarded", .context = &t->small, .body = walk_guarded},
		{.name = "walk 2 MiB guarded", .context = &t->large, .body = walk_guarded},
	};
	struct vd_mmu_stats stats;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (cases[i].body == walk || cases[i].body == walk_guarded) {
			struct span *span = cases[i].context;

			fault_again(span, span->size / span->step);
		}
		bench_one(bench, &cases[i]);
	}
	vd_mmu_stats(t->mmu, &stats);
	if (t->failures || stats.mapped_4k != SPAN_SMALL / SMALL ||
	    stats.mapped_2m != t->large.size / LARGE)
		return vd_error_set(error, -EIO, "%llu failures, %llu small and %llu large leaves",
				    (unsigned long long)t->failures,
				    (unsigned long long)stats.mapped_4k,
				    (unsigned long long)stats.mapped_2m);
	return 0;
}

int bench_mmu(struct bench *bench, struct vd_error *error)
{
	struct tables t = {.host = NULL};
	int rc = create(&t, error);

	t.small = (struct span){&t, GPA_SMALL, SPAN_SMALL, SMALL};
	t.large = (struct span){&t, GPA_LARGE, SPAN_LARGE / 2, LARGE};
	if (!rc)
		rc = measure(bench, &t, error);
	if (!rc)
		rc = bench_fault_parallel(bench, t.mmu, GPA_SMALL, SPAN_SMALL, error);
	vd_mmu_destroy(t.mmu);
	vd_mem_destroy(t.mem);
	vd_host_object_put(t.ram);
	if (t.host)
		vd_host_destroy(t.host);
	return rc ? rc : bench_pgtable(bench, error);
}
