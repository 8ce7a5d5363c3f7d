/* SPDX-License-Identifier: BSD-2-Clause */
/* The A extension between harts: counters that all of them change at once must lose nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "insn_encode.h"
#include "insn_hart.h"

#define HARTS 2
#define ROUNDS 50000

/* Guest memory that the harts share; side by side, so that they race. */
struct shared {
	uint64_t added;	       /* amoadd.d */
	uint32_t added_word;   /* amoadd.w, beside a word that must not change */
	uint32_t untouched;
	uint64_t reserved;     /* lr.d, sc.d */
	uint32_t reserved_word;
	uint32_t lock;	       /* amoswap.w */
	uint64_t locked;       /* ordinary accesses under the lock */
	uint64_t largest;      /* amomaxu.d */
	uint64_t ready;	       /* harts that have arrived */
};

#define SHARED_GPA (INSN_BASE + INSN_DATA_OFFSET)
#define UNTOUCHED 0x55aa55aau

enum { X_SHARED = 10, X_ROUNDS = 11, X_ONE = 12, X_ADDRESS = 13, X_VALUE = 14, X_FAILED = 15 };

static void emit_address(struct insn_program *program, size_t offset)
{
	insn_emit(program, insn_i(INSN_OP_IMM, 0, X_ADDRESS, X_SHARED, (int64_t)offset));
}

static void emit_amo(struct insn_program *program, unsigned int funct5, unsigned int aq_rl,
		     unsigned int width, unsigned int rd, unsigned int rs2)
{
	insn_emit(program, insn_r(INSN_AMO, width, funct5 << 2 | aq_rl, rd, X_ADDRESS, rs2));
}

static void emit_increment_reserved(struct insn_program *program, unsigned int width)
{
	emit_amo(program, 2, 0, width, X_VALUE, 0);
	insn_emit(program, insn_i(INSN_OP_IMM, 0, X_VALUE, X_VALUE, 1));
	emit_amo(program, 3, 0, width, X_FAILED, X_VALUE);
	insn_emit(program, insn_b(1, X_FAILED, 0, -12));
}

static void emit_increment_locked(struct insn_program *program)
{
	const int64_t locked = offsetof(struct shared, locked);

	emit_address(program, offsetof(struct shared, lock));
	emit_amo(program, 1, 2, 2, X_VALUE, X_ONE); /* amoswap.w.aq */
	insn_emit(program, insn_b(1, X_VALUE, 0, -4));
	insn_emit(program, insn_i(INSN_LOAD, 3, X_VALUE, X_SHARED, locked));
	insn_emit(program, insn_i(INSN_OP_IMM, 0, X_VALUE, X_VALUE, 1));
	insn_emit(program, insn_s(INSN_STORE, 3, X_SHARED, X_VALUE, locked));
	emit_amo(program, 1, 1, 2, 0, 0); /* amoswap.w.rl */
}

/* All harts start together. */
static void emit_barrier(struct insn_program *program)
{
	emit_address(program, offsetof(struct shared, ready));
	emit_amo(program, 0, 0, 3, 0, X_ONE);
	insn_emit_constant(program, X_FAILED, HARTS);
	insn_emit(program, insn_i(INSN_LOAD, 3, X_VALUE, X_ADDRESS, 0));
	insn_emit(program, insn_b(1, X_VALUE, X_FAILED, -4));
}

/* What every hart runs: x10 points to struct shared, x11 counts down. */
static void build(struct insn_program *program)
{
	size_t loop;

	memset(program, 0, sizeof(*program));
	insn_emit_constant(program, X_ONE, 1);
	emit_barrier(program);
	loop = program->code_bytes;
	emit_address(program, offsetof(struct shared, added));
	emit_amo(program, 0, 0, 3, 0, X_ONE);
	emit_address(program, offsetof(struct shared, added_word));
	emit_amo(program, 0, 3, 2, 0, X_ONE);
	emit_address(program, offsetof(struct shared, reserved));
	emit_increment_reserved(program, 3);
	emit_address(program, offsetof(struct shared, reserved_word));
	emit_increment_reserved(program, 2);
	emit_increment_locked(program);
	emit_address(program, offsetof(struct shared, largest));
	emit_amo(program, 28, 0, 3, 0, X_ROUNDS);
	insn_emit(program, insn_i(INSN_OP_IMM, 0, X_ROUNDS, X_ROUNDS, -1));
	insn_emit(program, insn_b(1, X_ROUNDS, 0, (int64_t)loop - (int64_t)program->code_bytes));
	insn_emit_constant(program, 17, INSN_SYS_EXIT);
	insn_emit(program, INSN_ECALL);
}

static void *run(void *argument)
{
	struct vd_hart *hart = argument;

	return vd_hart_run(hart) == VD_HART_EXIT_HALT ? hart : NULL;
}

static void test_harts_lose_nothing(void **state)
{
	static const struct insn_setting bare = { INSN_BARE, false, false };
	static struct insn_program program;
	struct insn_machine *machine = insn_machine_create(&bare, HARTS);
	struct shared shared = { .untouched = UNTOUCHED };
	pthread_t threads[HARTS];

	(void)state;
	assert_non_null(machine);
	build(&program);
	memcpy(&program.data, &shared, sizeof(shared));
	assert_int_equal(vd_mem_write(insn_machine_memory(machine), (vd_gpa){ INSN_BASE },
				      program.image, INSN_IMAGE_BYTES), 0);
	for (unsigned int i = 0; i < HARTS; i++) {
		struct vd_hart *hart = insn_machine_hart(machine, i);

		vd_hart_reset(hart, (vd_gva){ INSN_BASE });
		vd_hart_set_user(hart);
		vd_hart_set_x(hart, X_SHARED, SHARED_GPA);
		vd_hart_set_x(hart, X_ROUNDS, ROUNDS + i);
		assert_int_equal(pthread_create(&threads[i], NULL, run, hart), 0);
	}
	for (unsigned int i = 0; i < HARTS; i++) {
		void *ended;

		assert_int_equal(pthread_join(threads[i], &ended), 0);
		assert_non_null(ended);
	}
	assert_int_equal(vd_mem_read(insn_machine_memory(machine), (vd_gpa){ SHARED_GPA }, &shared,
				     sizeof(shared)), 0);
	assert_int_equal(shared.added, HARTS * ROUNDS + HARTS * (HARTS - 1) / 2);
	assert_int_equal(shared.added_word, shared.added);
	assert_int_equal(shared.untouched, UNTOUCHED);
	assert_int_equal(shared.reserved, shared.added);
	assert_int_equal(shared.reserved_word, shared.added);
	assert_int_equal(shared.lock, 0);
	assert_int_equal(shared.locked, shared.added);
	assert_int_equal(shared.largest, ROUNDS + HARTS - 1);
	insn_machine_destroy(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_harts_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
