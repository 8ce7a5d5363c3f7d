/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slot lookup under random queries, all of which hit. *Independent* queries overlap in the
 * processor; of *dependent* ones each waits for the answer before. The peer is the floor for a
 * plain sorted array: a branch-free search, nothing that could change, no protection.
 */
#include <stdio.h>
#include <stdlib.h>

#include <viaduct/mem.h>

#include "cli/bench.h"

#define PAGE 4096u
#define PAGES_MAX 16u
#define QUERIES 65536u

struct region {
	uint64_t last, id;
};

struct slots {
	struct vd_host *host;
	struct vd_host_object *object;
	struct vd_mem *mem;
	uint32_t count;
	uint64_t random;
	uint64_t starts[VD_MEM_SLOTS_MAX];
	struct region regions[VD_MEM_SLOTS_MAX];
	uint64_t queries[QUERIES];
};

static const struct region *array_find(const struct slots *s, uint64_t address)
{
	const uint64_t *base = s->starts;
	uint32_t n = s->count;

	while (n > 1) {
		uint32_t half = n / 2;
		bool above = base[half] <= address;

		/* As likely as not, so that compilers select instead of branching. */
		base = __builtin_expect_with_probability(above, 1, 0.5) ? base + half : base;
		n -= half;
	}
	if (address < *base || address > s->regions[base - s->starts].last)
		return NULL;
	return &s->regions[base - s->starts];
}

static void array_independent(void *context, uint64_t n)
{
	const struct slots *s = context;

	for (uint64_t i = 0; i < n; i++)
		bench_keep((uintptr_t)array_find(s, s->queries[i % QUERIES]));
}

static void array_dependent(void *context, uint64_t n)
{
	const struct slots *s = context;
	uint64_t zero = bench_opaque(0), before = 0;

	for (uint64_t i = 0; i < n; i++)
		before = array_find(s, s->queries[i % QUERIES] + (before & zero))->id;
	bench_keep(before);
}

static void independent(void *context, uint64_t n)
{
	const struct slots *s = context;
	const struct vd_env *env = vd_mem_env(s->mem);

	env->read_enter(env);
	for (uint64_t i = 0; i < n; i++)
		bench_keep((uintptr_t)vd_mem_find(s->mem, (vd_gpa){s->queries[i % QUERIES]}, NULL));
	env->read_leave(env);
}

static void dependent(void *context, uint64_t n)
{
	const struct slots *s = context;
	const struct vd_env *env = vd_mem_env(s->mem);
	uint64_t zero = bench_opaque(0), before = 0;

	env->read_enter(env);
	for (uint64_t i = 0; i < n; i++) {
		vd_gpa gpa = {s->queries[i % QUERIES] + (before & zero)};

		before = vd_mem_find(s->mem, gpa, NULL)->id;
	}
	env->read_leave(env);
	bench_keep(before);
}

/* Runs of queries for one slot, as a device or a driver makes them. */
static void hinted(void *context, uint64_t n)
{
	const struct slots *s = context;
	const struct vd_env *env = vd_mem_env(s->mem);
	struct vd_mem_hint hint = {0};

	env->read_enter(env);
	for (uint64_t i = 0; i < n; i++) {
		vd_gpa gpa = {s->queries[i / 64 % QUERIES]};

		bench_keep((uintptr_t)vd_mem_find(s->mem, gpa, &hint));
	}
	env->read_leave(env);
}

static int add_slots(struct slots *s, struct vd_error *error)
{
	struct vd_slot_config slot = {.kind = VD_SLOT_RAM, .object = s->object, .name = "bench"};
	struct vd_mem_update *update;
	uint64_t at = 0;
	int rc = vd_mem_begin(s->mem, &update);

	if (rc)
		return vd_error_set(error, rc, "out of memory for an update");
	for (uint32_t i = 0; i < s->count; i++) {
		at += bench_random(&s->random) % PAGES_MAX * PAGE;
		slot.base = (vd_gpa){at};
		slot.size = (1 + bench_random(&s->random) % PAGES_MAX) * PAGE;
		rc = vd_mem_add(update, &slot, NULL, error);
		if (rc) {
			vd_mem_abort(update);
			return rc;
		}
		s->starts[i] = at;
		at += slot.size;
		s->regions[i] = (struct region){at - 1, i};
	}
	vd_mem_commit(update);
	for (uint32_t i = 0; i < QUERIES; i++) {
		uint32_t k = (uint32_t)(bench_random(&s->random) % s->count);

		s->queries[i] = s->starts[k] + bench_random(&s->random) %
					       (s->regions[k].last - s->starts[k] + 1);
	}
	return 0;
}

static int measure(struct bench *bench, struct slots *s, uint32_t count, struct vd_error *error)
{
	struct vd_mem_config config = {.env = vd_env_hosted(), .host = s->host};
	struct bench_case c = {.context = s, .peer = "sorted array"};
	char name[40];
	int rc = vd_mem_create(&config, &s->mem, error);

	if (rc)
		return rc;
	s->count = count;
	rc = add_slots(s, error);
	if (!rc) {
		c.name = name;
		snprintf(name, sizeof(name), "lookup/%u independent", count);
		c.body = independent;
		c.peer_body = array_independent;
		bench_one(bench, &c);
		snprintf(name, sizeof(name), "lookup/%u dependent", count);
		c.body = dependent;
		c.peer_body = array_dependent;
		bench_one(bench, &c);
		snprintf(name, sizeof(name), "lookup/%u same slot", count);
		c.body = hinted;
		c.peer = NULL;
		bench_one(bench, &c);
	}
	vd_mem_destroy(s->mem);
	return rc;
}

int bench_slots(struct bench *bench, struct vd_error *error)
{
	static const uint32_t counts[] = {1, 16, 64, 512, 4096, VD_MEM_SLOTS_MAX};
	struct vd_host_config config = {.env = vd_env_hosted()};
	struct slots *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return vd_error_set(error, -ENOMEM, "out of memory");
	s->random = 0x9e3779b97f4a7c15u;
	rc = vd_host_create(&config, &s->host, error);
	if (!rc)
		rc = vd_host_ram_create(s->host, "bench", PAGES_MAX * PAGE, 0, &s->object, error);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]) && !rc; i++)
		rc = measure(bench, s, counts[i], error);
	vd_host_object_put(s->object);
	if (s->host)
		vd_host_destroy(s->host);
	free(s);
	return rc;
}
