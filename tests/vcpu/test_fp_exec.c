/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vcpu/riscv/fp.h"
#include "vcpu/riscv/fp_exec.h"

#define ONE_S 0x3f800000u
#define TWO_S 0x40000000u
#define THREE_S 0x40400000u
#define ONE_D UINT64_C(0x3ff0000000000000)
#define TWO_D UINT64_C(0x4000000000000000)
#define THREE_D UINT64_C(0x4008000000000000)

struct registers {
	uint64_t x[33];
	uint64_t f[32];
	uint32_t fcsr;
};

/* f1 to f3 hold 1, 2, 3 as singles, f5 to f7 as doubles; x1 is -1. */
static struct registers fresh(void)
{
	struct registers regs = { .x = { 0, UINT64_MAX } };

	regs.f[1] = vd_fp_box(ONE_S);
	regs.f[2] = vd_fp_box(TWO_S);
	regs.f[3] = vd_fp_box(THREE_S);
	regs.f[5] = ONE_D;
	regs.f[6] = TWO_D;
	regs.f[7] = THREE_D;
	return regs;
}

static int execute(struct registers *regs, uint32_t insn)
{
	return vd_fp_execute(regs->x, regs->f, &regs->fcsr, insn);
}

static uint32_t op_fp(unsigned int funct7, unsigned int rs2, unsigned int rs1, unsigned int funct3,
		      unsigned int rd)
{
	return funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x53;
}

static uint32_t fused(unsigned int opcode, unsigned int rs3, unsigned int fmt, unsigned int rs2,
		      unsigned int rs1, unsigned int rd)
{
	return rs3 << 27 | fmt << 25 | rs2 << 20 | rs1 << 15 | rd << 7 | opcode;
}

/* Encodings by the assembler (GNU as 2.40), so that the fields above are not their own proof. */
static void test_assembled_encodings(void **state)
{
	struct registers regs = fresh();

	(void)state;
	assert_int_equal(execute(&regs, 0x00208553), 0); /* fadd.s fa0, ft1, ft2, rne */
	assert_int_equal(regs.f[10], vd_fp_box(THREE_S));
	assert_int_equal(execute(&regs, 0x0a53f5d3), 0); /* fsub.d fa1, ft7, ft5 */
	assert_int_equal(regs.f[11], TWO_D);
	assert_int_equal(execute(&regs, 0x5a03f553), 0); /* fsqrt.d fa0, ft7 */
	assert_int_equal(regs.f[10], UINT64_C(0x3ffbb67ae8584caa));
	assert_int_equal(execute(&regs, 0x40139553), 0); /* fcvt.s.d fa0, ft7, rtz */
	assert_int_equal(regs.f[10], vd_fp_box(THREE_S));
	assert_int_equal(execute(&regs, 0x1820f54f), 0); /* fnmadd.s fa0, ft1, ft2, ft3 */
	assert_int_equal(regs.f[10], vd_fp_box(0xc0a00000));
	assert_int_equal(execute(&regs, 0xc031b553), 0); /* fcvt.lu.s a0, ft3, rup */
	assert_int_equal(regs.x[10], 3);
	assert_int_equal(execute(&regs, 0xe2039553), 0); /* fclass.d a0, ft7 */
	assert_int_equal(regs.x[10], 1 << 6);
}

static void test_fused_signs(void **state)
{
	static const struct {
		unsigned int opcode;
		uint64_t result;
	} cases[] = {
		{ 0x43, UINT64_C(0x401c000000000000) }, /* FMADD 2 * 3 + 1 = 7 */
		{ 0x47, UINT64_C(0x4014000000000000) }, /* FMSUB 5 */
		{ 0x4b, UINT64_C(0xc014000000000000) }, /* FNMSUB -5 */
		{ 0x4f, UINT64_C(0xc01c000000000000) }, /* FNMADD -7 */
	};
	struct registers regs = fresh();
	unsigned int ignored = 0;

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(execute(&regs, fused(cases[i].opcode, 5, 1, 6, 7, 4)), 0);
		assert_int_equal(regs.f[4], cases[i].result);
		assert_int_equal(execute(&regs, fused(cases[i].opcode, 1, 0, 2, 3, 4)), 0);
		assert_int_equal(regs.f[4],
				 vd_fp_box(vd_fp_d_to_s(cases[i].result, VD_FP_RNE, &ignored)));
	}
}

static void test_flags_and_dynamic_rounding(void **state)
{
	struct registers regs = fresh();

	(void)state;
	regs.fcsr = VD_FP_RUP << 5 | VD_FP_DZ;
	assert_int_equal(execute(&regs, op_fp(0x0c, 3, 1, VD_FP_DYN, 4)), 0);
	assert_int_equal(regs.f[4], vd_fp_box(0x3eaaaaab));
	assert_int_equal(regs.fcsr, VD_FP_RUP << 5 | VD_FP_DZ | VD_FP_NX);
	assert_int_equal(execute(&regs, op_fp(0x0c, 3, 1, VD_FP_RDN, 4)), 0);
	assert_int_equal(regs.f[4], vd_fp_box(0x3eaaaaaa));
}

static void test_reserved_rounding(void **state)
{
	struct registers regs = fresh();

	(void)state;
	for (unsigned int rm = 5; rm <= 6; rm++) {
		struct registers before = regs;

		assert_int_equal(execute(&regs, op_fp(0x00, 1, 1, rm, 4)), -EILSEQ);
		assert_int_equal(execute(&regs, fused(0x43, 1, 0, 1, 1, 4) | rm << 12), -EILSEQ);
		/* Widening is exact, yet reserved values stay reserved. */
		assert_int_equal(execute(&regs, op_fp(0x21, 0, 1, rm, 4)), -EILSEQ);
		assert_memory_equal(&regs, &before, sizeof(regs));
	}
	for (uint32_t frm = 5; frm <= 7; frm++) {
		regs.fcsr = frm << 5;
		assert_int_equal(execute(&regs, op_fp(0x00, 1, 1, VD_FP_DYN, 4)), -EILSEQ);
		assert_int_equal(execute(&regs, op_fp(0x00, 1, 1, VD_FP_RNE, 4)), 0);
		/* Sign injection has no rounding mode. */
		assert_int_equal(execute(&regs, op_fp(0x10, 1, 1, 0, 4)), 0);
	}
}

static void test_unboxed_single_is_nan(void **state)
{
	struct registers regs = fresh();

	(void)state;
	assert_int_equal(execute(&regs, op_fp(0x00, 5, 1, 0, 4)), 0);
	assert_int_equal(regs.f[4], vd_fp_box(VD_FP_NAN_S));
	assert_int_equal(regs.fcsr, 0);
	assert_int_equal(execute(&regs, op_fp(0x10, 5, 5, 0, 4)), 0); /* FSGNJ.S */
	assert_int_equal(regs.f[4], vd_fp_box(VD_FP_NAN_S));
	assert_int_equal(execute(&regs, op_fp(0x70, 0, 5, 1, 4)), 0); /* FCLASS.S */
	assert_int_equal(regs.x[4], 1 << 9);
	regs.f[5] = UINT64_C(0x1234567880000001);
	assert_int_equal(execute(&regs, op_fp(0x70, 0, 5, 0, 4)), 0); /* FMV.X.W */
	assert_int_equal(regs.x[4], UINT64_C(0xffffffff80000001));
}

static void test_sign_injection(void **state)
{
	struct registers regs = fresh();

	(void)state;
	regs.f[6] = TWO_D | VD_FP_SIGN_D;
	assert_int_equal(execute(&regs, op_fp(0x11, 6, 7, 0, 4)), 0);
	assert_int_equal(regs.f[4], THREE_D | VD_FP_SIGN_D);
	assert_int_equal(execute(&regs, op_fp(0x11, 6, 7, 1, 4)), 0);
	assert_int_equal(regs.f[4], THREE_D);
	assert_int_equal(execute(&regs, op_fp(0x11, 6, 6, 2, 4)), 0);
	assert_int_equal(regs.f[4], TWO_D);
	assert_int_equal(execute(&regs, op_fp(0x11, 6, 6, 3, 4)), -EILSEQ);
}

static void test_integer_results(void **state)
{
	struct registers regs = fresh();

	(void)state;
	assert_int_equal(execute(&regs, op_fp(0x51, 6, 5, 1, 4)), 0); /* FLT.D */
	assert_int_equal(regs.x[4], 1);
	assert_int_equal(execute(&regs, op_fp(0x51, 6, 5, 2, 4)), 0); /* FEQ.D */
	assert_int_equal(regs.x[4], 0);
	assert_int_equal(execute(&regs, op_fp(0x61, 2, 7, 0, 4)), 0); /* FCVT.L.D */
	assert_int_equal(regs.x[4], 3);
	assert_int_equal(execute(&regs, op_fp(0x69, 1, 1, 0, 4)), 0); /* FCVT.D.WU */
	assert_int_equal(regs.f[4], UINT64_C(0x41efffffffe00000));
	assert_int_equal(execute(&regs, op_fp(0x79, 0, 1, 0, 4)), 0); /* FMV.D.X */
	assert_int_equal(regs.f[4], UINT64_MAX);
}

static void test_x0_stays_zero(void **state)
{
	struct registers regs = fresh();

	(void)state;
	assert_int_equal(execute(&regs, op_fp(0x61, 2, 7, 0, 0)), 0);
	assert_int_equal(regs.x[0], 0);
	/* f0 is a register like any other. */
	assert_int_equal(execute(&regs, op_fp(0x01, 5, 5, 0, 0)), 0);
	assert_int_equal(regs.f[0], TWO_D);
}

/* Exactly the encodings of F and D are accepted: count them over all funct7, rs2 and funct3. */
static void test_legal_encodings(void **state)
{
	/*
	 * A format: add, sub, mul and div, each 32 rs2 * 6 modes; sqrt 6; sign injection 3 * 32;
	 * min and max 2 * 32; compare 3 * 32; one conversion of format 6; conversions to and from
	 * four integers 4 * 6 each; move both ways and classify 3.
	 */
	const unsigned int want = 2 * (4 * 32 * 6 + 6 + 96 + 64 + 96 + 6 + 24 + 24 + 3);
	unsigned int legal = 0;

	(void)state;
	for (uint32_t code = 0; code < 1u << 15; code++) {
		struct registers regs = fresh();
		struct registers before = regs;
		uint32_t insn = op_fp(code >> 8, code >> 3 & 31, 1, code & 7, 4);
		int ret = execute(&regs, insn);

		if (ret == 0) {
			legal++;
		} else {
			assert_int_equal(ret, -EILSEQ);
			assert_memory_equal(&regs, &before, sizeof(regs));
		}
	}
	assert_int_equal(legal, want);
}

static void test_foreign_opcodes(void **state)
{
	struct registers regs = fresh();

	(void)state;
	assert_int_equal(execute(&regs, 0x00000013), -EILSEQ); /* addi */
	assert_int_equal(execute(&regs, 0x00208553 & ~1u), -EILSEQ); /* compressed */
	assert_int_equal(execute(&regs, fused(0x43, 1, 2, 1, 1, 4)), -EILSEQ); /* half */
	assert_int_equal(execute(&regs, fused(0x43, 1, 3, 1, 1, 4)), -EILSEQ); /* quad */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_assembled_encodings),
		cmocka_unit_test(test_fused_signs),
		cmocka_unit_test(test_flags_and_dynamic_rounding),
		cmocka_unit_test(test_reserved_rounding),
		cmocka_unit_test(test_unboxed_single_is_nan),
		cmocka_unit_test(test_sign_injection),
		cmocka_unit_test(test_integer_results),
		cmocka_unit_test(test_x0_stays_zero),
		cmocka_unit_test(test_legal_encodings),
		cmocka_unit_test(test_foreign_opcodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
