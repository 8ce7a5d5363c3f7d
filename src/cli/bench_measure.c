/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/bench.h"

/* Many and short, not few and long: what disturbs some of them does not move the median. */
#define REPETITIONS 41u
#define REPETITIONS_QUICK 5u
#define TARGET_NS 2000000u
#define TARGET_NS_QUICK 20000u

struct side {
	bench_body prepare, body;
	void *context;
	clockid_t clock;
	double samples[REPETITIONS];
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t time_once(const struct side *side, uint64_t n)
{
	uint64_t start;

	if (side->prepare)
		side->prepare(side->context, n);
	start = clock_ns(side->clock);
	side->body(side->context, n);
	return clock_ns(side->clock) - start;
}

/* Also warms up: the last turns are as long as a repetition. */
static uint64_t calibrate(const struct side *side, uint64_t target)
{
	uint64_t n = 16, taken;

	for (;;) {
		taken = time_once(side, n);
		if (taken >= target / 2 || n >= UINT64_C(1) << 40)
			break;
		n *= 2;
	}
	time_once(side, n);
	return n;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static struct bench_time summary(struct side *side, unsigned repetitions)
{
	qsort(side->samples, repetitions, sizeof(side->samples[0]), compare);
	return (struct bench_time){
		.median = side->samples[repetitions / 2],
		.least = side->samples[0],
		.p90 = side->samples[repetitions * 9 / 10],
	};
}

void bench_measure(const struct bench *bench, const struct bench_case *c,
		   struct bench_result *result)
{
	/* Asking for the thread's own time takes a tenth of a microsecond or more. */
	clockid_t clock = c->wall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID;
	struct side ours = {c->prepare, c->body, c->context, clock, {0}};
	struct side peer = {c->peer_prepare, c->peer_body, c->context, clock, {0}};
	unsigned repetitions = bench->quick ? REPETITIONS_QUICK : REPETITIONS;
	uint64_t n = c->n;

	if (n)
		time_once(&ours, n);
	else
		n = calibrate(&ours, bench->quick ? TARGET_NS_QUICK : TARGET_NS);
	if (c->peer)
		time_once(&peer, n);
	for (unsigned i = 0; i < repetitions; i++) {
		ours.samples[i] = (double)time_once(&ours, n) / (double)n;
		if (c->peer)
			peer.samples[i] = (double)time_once(&peer, n) / (double)n;
	}
	*result = (struct bench_result){.n = n, .repetitions = repetitions};
	result->ours = summary(&ours, repetitions);
	if (c->peer)
		result->peer = summary(&peer, repetitions);
}

static void print_json(const struct bench *bench, const struct bench_case *c,
		       const struct bench_result *r, const struct bench_extra *extras)
{
	printf("{\"bench\": \"%s\", \"case\": \"%s\", \"n\": %llu, \"repetitions\": %u, "
	       "\"median_ns\": %.4g, \"min_ns\": %.4g, \"p90_ns\": %.4g", bench->name, c->name,
	       (unsigned long long)r->n, r->repetitions, r->ours.median, r->ours.least,
	       r->ours.p90);
	if (c->peer)
		printf(", \"peer\": \"%s\", \"peer_median_ns\": %.4g, \"peer_min_ns\": %.4g, "
		       "\"ratio\": %.4g", c->peer, r->peer.median, r->peer.least,
		       r->ours.median / r->peer.median);
	for (; extras && extras->key; extras++)
		printf(", \"%s\": %.6g", extras->key, extras->value);
	puts("}");
}

static void print_row(struct bench *bench, const struct bench_case *c,
		      const struct bench_result *r, const struct bench_extra *extras)
{
	if (!bench->headed)
		printf("%-9s%-26s%10s%10s%10s  %10s%7s  %s\n", "bench", "case", "median ns", "min",
		       "p90", "peer ns", "ratio", "peer");
	bench->headed = true;
	printf("%-9s%-26s%10.4g%10.4g%10.4g", bench->name, c->name, r->ours.median, r->ours.least,
	       r->ours.p90);
	if (c->peer)
		printf("  %10.4g%7.2f  %s", r->peer.median, r->ours.median / r->peer.median,
		       c->peer);
	for (; extras && extras->key; extras++)
		printf("  %s %.4g", extras->key, extras->value);
	putchar('\n');
}

void bench_print(struct bench *bench, const struct bench_case *c,
		 const struct bench_result *result, const struct bench_extra *extras)
{
	if (bench->json)
		print_json(bench, c, result, extras);
	else
		print_row(bench, c, result, extras);
	fflush(stdout);
}

void bench_one(struct bench *bench, const struct bench_case *c)
{
	struct bench_result result;

	bench_measure(bench, c, &result);
	bench_print(bench, c, &result, NULL);
}
