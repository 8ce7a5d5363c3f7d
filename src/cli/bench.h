/* SPDX-License-Identifier: BSD-2-Clause */
/* Measuring and printing, shared by the files of `viaduct bench`. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <viaduct/base.h>

/* How this run measures and prints, and what it is at. */
struct bench {
	bool json;
	bool quick; /* too short to mean anything: for tests of the output */
	const char *name;
	bool headed; /* the table has its heading */
};

/*
 * Carries out @n operations. What the operations compute has to go through bench_keep(), or the
 * compiler leaves them out.
 */
typedef void (*bench_body)(void *context, uint64_t n);

/*
 * struct bench_case - one line of output
 * @n: operations a repetition; 0 for as many as take about two milliseconds
 * @wall: measured by the wall clock: what waits, or takes some microseconds only. Else by the
 *	processor time of the thread, which other processes disturb less
 * @prepare: before each repetition, not measured; NULL for nothing
 * @peer: what it is compared with, in the same run, repetition by repetition; NULL for nothing
 */
struct bench_case {
	const char *name;
	uint64_t n;
	bool wall;
	void *context;
	bench_body prepare, body;
	const char *peer;
	bench_body peer_prepare, peer_body;
};

/* Nanoseconds an operation. */
struct bench_time {
	double median, least, p90;
};

struct bench_result {
	uint64_t n;
	unsigned repetitions;
	struct bench_time ours, peer;
};

/* A further figure of a line, printed as it is named. */
struct bench_extra {
	const char *key;
	double value;
};

/* bench_measure() - warm up, then repeat: ours, the peer, ours, the peer ... */
void bench_measure(const struct bench *bench, const struct bench_case *c,
		   struct bench_result *result);
/* bench_print() - one line; @extras ends with a NULL key, or is NULL */
void bench_print(struct bench *bench, const struct bench_case *c,
		 const struct bench_result *result, const struct bench_extra *extras);
/* bench_one() - both */
void bench_one(struct bench *bench, const struct bench_case *c);

/* A value that the compiler must take for used. */
static inline void bench_keep(uint64_t value)
{
	__asm__ volatile("" : : "r"(value) : "memory");
}

/* A value that the compiler does not know. */
static inline uint64_t bench_opaque(uint64_t value)
{
	__asm__ volatile("" : "+r"(value));
	return value;
}

/* The same sequence on every run (xorshift64). */
static inline uint64_t bench_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* The benchmarks. Return: 0; a negative errno with the reason in @error. */
int bench_slots(struct bench *bench, struct vd_error *error);
int bench_hart(struct bench *bench, struct vd_error *error);
int bench_mmio(struct bench *bench, struct vd_error *error);
int bench_mmu(struct bench *bench, struct vd_error *error);
int bench_notifier(struct bench *bench, struct vd_error *error);
int bench_dma(struct bench *bench, struct vd_error *error);
int bench_nvme(struct bench *bench, struct vd_error *error);

#endif
