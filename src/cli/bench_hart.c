/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tight integer loops on one hart: nanoseconds an instruction, and so millions of instructions a
 * second. Programs find the number of turns in a0.
 */
#include "cli/bench.h"
#include "cli/bench_machine.h"

/* One long chain: every instruction waits for the one before. */
static const uint32_t add_branch[] = {
	ADDI(T0, T0, 1),
	ADD(T1, T1, T0),
	ADDI(A0, A0, -1),
	BNEZ(A0, -12),
	ECALL,
};

/* As compilers mix them: a hash of a counter, with some parallelism. */
static const uint32_t mixed[] = {
	ADDI(T0, T0, 1),
	SLLI(T1, T0, 13),
	XOR(T1, T1, T0),
	SRLI(T2, T1, 7),
	XOR(T1, T1, T2),
	MUL(T2, T1, T0),
	ADD(S0, S0, T2),
	SUB(S1, S0, T1),
	AND(A2, S1, S0),
	OR(A3, A2, T1),
	SLTU(A4, A3, S0),
	ADDIW(A5, A3, 31),
	ADD(A6, A4, A5),
	ADDI(A0, A0, -1),
	BNEZ(A0, -14 * 4),
	ECALL,
};

/* Two loads, a sum and a store a turn, through 16 pages. */
static const uint32_t memory[] = {
	LUI(A2, BENCH_DATA >> 12),
	SLLI(A2, A2, 32), /* lui extends the sign: RAM begins at 2 GiB */
	SRLI(A2, A2, 32),
	LUI(A5, 16),
	ADDI(A5, A5, -8), /* offsets 0 to 64 KiB - 8 */
	ADD(A4, A2, A3),
	LD(T0, 0, A4),
	LD(T1, 8, A4),
	ADD(T0, T0, T1),
	SD(T0, 0, A4),
	ADDI(A3, A3, 24),
	AND(A3, A3, A5),
	ADDI(A0, A0, -1),
	BNEZ(A0, -8 * 4),
	ECALL,
};

static const uint32_t calls[] = {
	JAL(RA, 16),
	ADDI(A0, A0, -1),
	BNEZ(A0, -8),
	ECALL,
	ADDI(T0, T0, 1), /* the function */
	RET,
};

static const struct program {
	const char *name;
	const uint32_t *code;
	size_t bytes, per_turn;
} programs[] = {
	{"add and branch", add_branch, sizeof(add_branch), 4},
	{"mixed arithmetic", mixed, sizeof(mixed), 15},
	{"loads and stores", memory, sizeof(memory), 9},
	{"calls", calls, sizeof(calls), 5},
};

struct hart_run {
	struct bench_machine machine;
	const struct program *program;
};

static void turns(void *context, uint64_t n)
{
	struct hart_run *run = context;

	bench_machine_run(&run->machine, n / run->program->per_turn + 1, 0);
}

/* The instructions counted by hand above are those the hart says it carried out. */
static int check_count(struct hart_run *run, struct vd_error *error)
{
	struct vd_hart_stats before, after;
	uint64_t expected = 1000 * run->program->per_turn, done;

	vd_hart_stats(run->machine.hart, &before);
	bench_machine_run(&run->machine, 1000, 0);
	vd_hart_stats(run->machine.hart, &after);
	done = after.instructions - before.instructions;
	if (done < expected || done > expected + 8)
		return vd_error_set(error, -EIO, "%s: %llu instructions instead of %llu",
				    run->program->name, (unsigned long long)done,
				    (unsigned long long)expected);
	return 0;
}

int bench_hart(struct bench *bench, struct vd_error *error)
{
	struct hart_run run;
	int rc = bench_machine_create(&run.machine, error);

	if (rc)
		return rc;
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]) && !rc; i++) {
		struct bench_case c = {.name = programs[i].name, .context = &run, .body = turns,
				       .n = bench->quick ? 100000 : 5000000};
		struct bench_result result;
		struct bench_extra extras[2] = {{"mips", 0}};

		run.program = &programs[i];
		rc = bench_machine_load(&run.machine, programs[i].code, programs[i].bytes, error);
		if (!rc)
			rc = check_count(&run, error);
		if (rc)
			break;
		bench_measure(bench, &c, &result);
		extras[0].value = 1e3 / result.ours.median;
		bench_print(bench, &c, &result, extras);
	}
	bench_machine_destroy(&run.machine);
	return rc;
}
