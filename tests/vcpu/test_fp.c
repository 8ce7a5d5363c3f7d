/* SPDX-License-Identifier: BSD-2-Clause */
/* Vectors checked by hand against the manual, and the host's arithmetic against the integer one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fp_reference.h"
#include "vcpu/riscv/fp.h"
#include "vcpu/riscv/fp_soft.h"

#define SEED UINT64_C(0xf9057)
#define CASES 200000

#define ONE_S 0x3f800000u
#define INF_S 0x7f800000u
#define MAX_S 0x7f7fffffu
#define MIN_S 0x00800000u /* least normal */
#define SNAN_S 0x7f800001u
#define QNAN_S 0x7fc12345u
#define ONE_D UINT64_C(0x3ff0000000000000)
#define INF_D UINT64_C(0x7ff0000000000000)
#define MAX_D UINT64_C(0x7fefffffffffffff)
#define SNAN_D UINT64_C(0x7ff0000000000001)

/* Evaluates a call that takes &flags; checks value and flags. */
#define CHECK(call, value, raised)                                                                \
	do {                                                                                      \
		unsigned int flags = 0;                                                           \
		uint64_t got = (call);                                                            \
                                                                                                  \
		assert_int_equal(got, (value));                                                   \
		assert_int_equal(flags, (raised));                                                \
	} while (0)

static void test_rounding_modes(void **state)
{
	/* 1 + 2^-24 is a tie between 1 and its successor. */
	static const uint32_t positive[] = { ONE_S, ONE_S, ONE_S, ONE_S + 1, ONE_S + 1 };
	static const uint32_t negative[] = { ONE_S, ONE_S, ONE_S + 1, ONE_S, ONE_S + 1 };

	(void)state;
	for (unsigned int rm = 0; rm < 5; rm++) {
		CHECK(vd_fp_add_s(ONE_S, 0x33800000, rm, &flags), positive[rm], VD_FP_NX);
		CHECK(vd_fp_sub_s(ONE_S | VD_FP_SIGN_S, 0x33800000, rm, &flags),
		      negative[rm] | VD_FP_SIGN_S, VD_FP_NX);
	}
}

static void test_overflow(void **state)
{
	static const uint32_t positive[] = { INF_S, MAX_S, MAX_S, INF_S, INF_S };

	(void)state;
	for (unsigned int rm = 0; rm < 5; rm++)
		CHECK(vd_fp_add_s(MAX_S, MAX_S, rm, &flags), positive[rm], VD_FP_OF | VD_FP_NX);
	CHECK(vd_fp_mul_d(MAX_D, MAX_D | VD_FP_SIGN_D, VD_FP_RUP, &flags), MAX_D | VD_FP_SIGN_D,
	      VD_FP_OF | VD_FP_NX);
}

static void test_signs_of_zero(void **state)
{
	(void)state;
	CHECK(vd_fp_sub_s(ONE_S, ONE_S, VD_FP_RNE, &flags), 0, 0);
	CHECK(vd_fp_sub_s(ONE_S, ONE_S, VD_FP_RDN, &flags), VD_FP_SIGN_S, 0);
	CHECK(vd_fp_add_d(VD_FP_SIGN_D, VD_FP_SIGN_D, VD_FP_RNE, &flags), VD_FP_SIGN_D, 0);
	CHECK(vd_fp_mul_d(VD_FP_SIGN_D, ONE_D, VD_FP_RNE, &flags), VD_FP_SIGN_D, 0);
	CHECK(vd_fp_sqrt_d(VD_FP_SIGN_D, VD_FP_RNE, &flags), VD_FP_SIGN_D, 0);
}

static void test_invalid(void **state)
{
	(void)state;
	CHECK(vd_fp_sub_s(INF_S, INF_S, VD_FP_RNE, &flags), VD_FP_NAN_S, VD_FP_NV);
	CHECK(vd_fp_mul_s(INF_S, 0, VD_FP_RNE, &flags), VD_FP_NAN_S, VD_FP_NV);
	CHECK(vd_fp_div_s(0, 0, VD_FP_RNE, &flags), VD_FP_NAN_S, VD_FP_NV);
	CHECK(vd_fp_div_d(INF_D, INF_D, VD_FP_RNE, &flags), VD_FP_NAN_D, VD_FP_NV);
	CHECK(vd_fp_sqrt_d(ONE_D | VD_FP_SIGN_D, VD_FP_RNE, &flags), VD_FP_NAN_D, VD_FP_NV);
	CHECK(vd_fp_add_s(SNAN_S, ONE_S, VD_FP_RNE, &flags), VD_FP_NAN_S, VD_FP_NV);
	CHECK(vd_fp_add_s(QNAN_S, ONE_S, VD_FP_RNE, &flags), VD_FP_NAN_S, 0);
	CHECK(vd_fp_fma_s(INF_S, 0, QNAN_S, VD_FP_RNE, &flags), VD_FP_NAN_S, VD_FP_NV);
	CHECK(vd_fp_fma_s(ONE_S, 0, QNAN_S, VD_FP_RNE, &flags), VD_FP_NAN_S, 0);
	CHECK(vd_fp_fma_s(INF_S, ONE_S, INF_S | VD_FP_SIGN_S, VD_FP_RNE, &flags), VD_FP_NAN_S,
	      VD_FP_NV);
}

static void test_division_by_zero(void **state)
{
	(void)state;
	CHECK(vd_fp_div_s(ONE_S, VD_FP_SIGN_S, VD_FP_RNE, &flags), INF_S | VD_FP_SIGN_S, VD_FP_DZ);
	CHECK(vd_fp_div_d(INF_D, 0, VD_FP_RNE, &flags), INF_D, 0);
}

static void test_tininess_is_after_rounding(void **state)
{
	(void)state;
	/* (1 - 2^-24) * 2^-126 rounds up to the least normal number, but as a subnormal. */
	CHECK(vd_fp_mul_s(0x3f7fffff, MIN_S, VD_FP_RNE, &flags), MIN_S, VD_FP_NX | VD_FP_UF);
	/* (1 - 2^-24)^2 (1 + 2^-23) * 2^-126 < 2^-126 does so at full precision too: not tiny. */
	CHECK(vd_fp_mul_s(0x3f7ffffe, 0x00800001, VD_FP_RNE, &flags), MIN_S, VD_FP_NX);
	/* Exact subnormals raise nothing. */
	CHECK(vd_fp_mul_s(0x3f000000, MIN_S, VD_FP_RNE, &flags), MIN_S / 2, 0);
	CHECK(vd_fp_mul_s(0x3f000000, 1, VD_FP_RNE, &flags), 0, VD_FP_NX | VD_FP_UF);
	CHECK(vd_fp_mul_s(0x3f000000, 1, VD_FP_RMM, &flags), 1, VD_FP_NX | VD_FP_UF);
}

static void test_fma_rounds_once(void **state)
{
	(void)state;
	/* (1 + 2^-23)(1 - 2^-23) - 1 = -2^-46; a rounded product would give 0. */
	CHECK(vd_fp_fma_s(0x3f800001, 0x3f7ffffe, ONE_S | VD_FP_SIGN_S, VD_FP_RNE, &flags),
	      0xa8800000u, 0);
}

static void test_min_max(void **state)
{
	(void)state;
	CHECK(vd_fp_min_s(0, VD_FP_SIGN_S, &flags), VD_FP_SIGN_S, 0);
	CHECK(vd_fp_max_s(VD_FP_SIGN_S, 0, &flags), 0, 0);
	CHECK(vd_fp_min_s(QNAN_S, ONE_S, &flags), ONE_S, 0);
	CHECK(vd_fp_max_d(ONE_D, SNAN_D, &flags), ONE_D, VD_FP_NV);
	CHECK(vd_fp_max_s(QNAN_S, QNAN_S, &flags), VD_FP_NAN_S, 0);
	CHECK(vd_fp_min_s(ONE_S | VD_FP_SIGN_S, ONE_S, &flags), ONE_S | VD_FP_SIGN_S, 0);
	CHECK(vd_fp_min_s(0xc0000000u, 0xbf800000u, &flags), 0xc0000000u, 0);
	CHECK(vd_fp_max_d(INF_D, ONE_D, &flags), INF_D, 0);
}

static void test_comparisons(void **state)
{
	(void)state;
	CHECK(vd_fp_eq_s(0, VD_FP_SIGN_S, &flags), 1, 0);
	CHECK(vd_fp_eq_s(QNAN_S, QNAN_S, &flags), 0, 0);
	CHECK(vd_fp_eq_d(SNAN_D, ONE_D, &flags), 0, VD_FP_NV);
	CHECK(vd_fp_lt_s(QNAN_S, ONE_S, &flags), 0, VD_FP_NV);
	CHECK(vd_fp_le_d(ONE_D, ONE_D, &flags), 1, 0);
	CHECK(vd_fp_lt_d(VD_FP_SIGN_D, 0, &flags), 0, 0);
	CHECK(vd_fp_lt_d(INF_D | VD_FP_SIGN_D, INF_D, &flags), 1, 0);
}

static void test_classify(void **state)
{
	static const uint32_t one_each[] = {
		INF_S | VD_FP_SIGN_S, ONE_S | VD_FP_SIGN_S, 1 | VD_FP_SIGN_S, VD_FP_SIGN_S, 0,
		1, ONE_S, INF_S, SNAN_S, QNAN_S,
	};

	(void)state;
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(vd_fp_classify_s(one_each[i]), 1u << i);
	assert_int_equal(vd_fp_classify_d(UINT64_C(0x000fffffffffffff)), 1u << 5);
	assert_int_equal(vd_fp_classify_d(UINT64_C(0x0010000000000000)), 1u << 6);
}

static void test_to_integer(void **state)
{
	const uint64_t minus_one = UINT64_MAX;

	(void)state;
	CHECK(vd_fp_s_to_w(QNAN_S | VD_FP_SIGN_S, VD_FP_RNE, &flags), 0x7fffffff, VD_FP_NV);
	CHECK(vd_fp_s_to_wu(INF_S, VD_FP_RNE, &flags), minus_one, VD_FP_NV);
	CHECK(vd_fp_s_to_wu(0xbf800000u, VD_FP_RNE, &flags), 0, VD_FP_NV);
	CHECK(vd_fp_s_to_wu(0xbf000000u, VD_FP_RTZ, &flags), 0, VD_FP_NX);
	CHECK(vd_fp_d_to_wu(UINT64_C(0x41efffffffe00000), VD_FP_RNE, &flags), minus_one, 0);
	CHECK(vd_fp_d_to_w(UINT64_C(0xc1e0000000000000), VD_FP_RNE, &flags),
	      (uint64_t)INT32_MIN, 0);
	CHECK(vd_fp_d_to_w(UINT64_C(0xc1e0000000200000), VD_FP_RNE, &flags),
	      (uint64_t)INT32_MIN, VD_FP_NV);
	CHECK(vd_fp_d_to_l(UINT64_C(0xc3e0000000000000), VD_FP_RNE, &flags),
	      (uint64_t)INT64_MIN, 0);
	CHECK(vd_fp_d_to_l(UINT64_C(0x43e0000000000000), VD_FP_RNE, &flags),
	      (uint64_t)INT64_MAX, VD_FP_NV);
	CHECK(vd_fp_d_to_lu(UINT64_C(0x43e0000000000000), VD_FP_RNE, &flags), UINT64_C(1) << 63, 0);
	/* 2.5 in each mode */
	CHECK(vd_fp_d_to_l(UINT64_C(0x4004000000000000), VD_FP_RNE, &flags), 2, VD_FP_NX);
	CHECK(vd_fp_d_to_l(UINT64_C(0x4004000000000000), VD_FP_RTZ, &flags), 2, VD_FP_NX);
	CHECK(vd_fp_d_to_l(UINT64_C(0x4004000000000000), VD_FP_RDN, &flags), 2, VD_FP_NX);
	CHECK(vd_fp_d_to_l(UINT64_C(0x4004000000000000), VD_FP_RUP, &flags), 3, VD_FP_NX);
	CHECK(vd_fp_d_to_l(UINT64_C(0x4004000000000000), VD_FP_RMM, &flags), 3, VD_FP_NX);
}

static void test_from_integer(void **state)
{
	(void)state;
	CHECK(vd_fp_w_to_s(UINT64_C(0x12345678ffffffff), VD_FP_RNE, &flags), 0xbf800000u, 0);
	CHECK(vd_fp_wu_to_s(UINT64_MAX, VD_FP_RNE, &flags), 0x4f800000u, VD_FP_NX);
	CHECK(vd_fp_lu_to_d(UINT64_MAX, VD_FP_RTZ, &flags), UINT64_C(0x43efffffffffffff), VD_FP_NX);
	CHECK(vd_fp_l_to_d(0, VD_FP_RDN, &flags), 0, 0);
}

static void test_between_formats(void **state)
{
	(void)state;
	CHECK(vd_fp_d_to_s(ONE_D + 1, VD_FP_RUP, &flags), ONE_S + 1, VD_FP_NX);
	CHECK(vd_fp_d_to_s(MAX_D, VD_FP_RNE, &flags), INF_S, VD_FP_OF | VD_FP_NX);
	CHECK(vd_fp_d_to_s(SNAN_D, VD_FP_RNE, &flags), VD_FP_NAN_S, VD_FP_NV);
	CHECK(vd_fp_s_to_d(1, &flags), UINT64_C(0x36a0000000000000), 0);
	CHECK(vd_fp_s_to_d(QNAN_S, &flags), VD_FP_NAN_D, 0);
}

static void test_boxing(void **state)
{
	(void)state;
	assert_int_equal(vd_fp_box(ONE_S), UINT64_C(0xffffffff3f800000));
	assert_int_equal(vd_fp_unbox(UINT64_C(0xffffffff3f800000)), ONE_S);
	assert_int_equal(vd_fp_unbox(UINT64_C(0xfffffffe3f800000)), VD_FP_NAN_S);
	assert_int_equal(vd_fp_unbox(ONE_S), VD_FP_NAN_S);
}

struct operation {
	const char *name;
	uint32_t (*single)(uint32_t a, uint32_t b, unsigned int rm, unsigned int *fflags);
	uint64_t (*wide)(uint64_t a, uint64_t b, unsigned int rm, unsigned int *fflags);
	enum ref_operation reference;
};

/* Flags found by the host's path are those the caller had, plus what the integers find. */
static void check_host(const char *name, const struct ref_format *fmt, uint64_t got,
		       unsigned int flags, struct ref_result want, const uint64_t operands[3])
{
	if (got == want.bits && flags == (want.flags | VD_FP_NX))
		return;
	fail_msg("seed %#llx: %s width %u: %#llx %#llx %#llx gives %#llx flags %#x, not %#llx "
		 "flags %#x",
		 (unsigned long long)SEED, name, fmt->width, (unsigned long long)operands[0],
		 (unsigned long long)operands[1], (unsigned long long)operands[2],
		 (unsigned long long)got, flags, (unsigned long long)want.bits, want.flags);
}

static void test_host_agrees(void **state)
{
	static const struct operation operations[] = {
		{ "add", vd_fp_add_s, vd_fp_add_d, REF_ADD },
		{ "sub", vd_fp_sub_s, vd_fp_sub_d, REF_SUB },
		{ "mul", vd_fp_mul_s, vd_fp_mul_d, REF_MUL },
		{ "div", vd_fp_div_s, vd_fp_div_d, REF_DIV },
	};
	struct ref_random random = { SEED };

	(void)state;
	for (int i = 0; i < CASES; i++) {
		const struct operation *op = &operations[i / 2 % 4];
		const struct ref_format *fmt = i % 2 ? &ref_double : &ref_single;
		uint64_t a = ref_random_operand(&random, fmt);
		uint64_t b = ref_random_near(&random, fmt, a);
		uint64_t operands[3] = { a, b, 0 };
		unsigned int flags = VD_FP_NX;
		uint64_t got = fmt->width == 32 ?
				       op->single((uint32_t)a, (uint32_t)b, VD_FP_RNE, &flags) :
				       op->wide(a, b, VD_FP_RNE, &flags);

		check_host(op->name, fmt, got, flags,
			   ref_compute(fmt, op->reference, a, b, 0, VD_FP_RNE), operands);
	}
}

static void test_host_agrees_on_fma_and_sqrt(void **state)
{
	struct ref_random random = { SEED };

	(void)state;
	for (int i = 0; i < CASES / 2; i++) {
		const struct ref_format *fmt = i % 2 ? &ref_double : &ref_single;
		uint64_t a = ref_random_operand(&random, fmt);
		uint64_t b = ref_random_operand(&random, fmt);
		uint64_t c = ref_random_near(&random, fmt, i % 4 < 2 ? b : a);
		uint64_t operands[3] = { a, b, c };
		unsigned int flags = VD_FP_NX;
		uint64_t got = fmt->width == 32 ?
				       vd_fp_fma_s((uint32_t)a, (uint32_t)b, (uint32_t)c, VD_FP_RNE,
						   &flags) :
				       vd_fp_fma_d(a, b, c, VD_FP_RNE, &flags);

		check_host("fma", fmt, got, flags, ref_compute(fmt, REF_FMA, a, b, c, VD_FP_RNE),
			   operands);
		flags = VD_FP_NX;
		got = fmt->width == 32 ? vd_fp_sqrt_s((uint32_t)a, VD_FP_RNE, &flags) :
					 vd_fp_sqrt_d(a, VD_FP_RNE, &flags);
		check_host("sqrt", fmt, got, flags, ref_compute(fmt, REF_SQRT, a, 0, 0, VD_FP_RNE),
			   operands);
	}
}

/* The host computes in its own mode: with NX set, the others must still not use it. */
static void test_other_modes_with_inexact_set(void **state)
{
	struct ref_random random = { SEED };

	(void)state;
	for (int i = 0; i < CASES / 4; i++) {
		unsigned int rm = 1 + (unsigned int)i % 4;
		uint64_t a = ref_random_operand(&random, &ref_double);
		uint64_t b = ref_random_near(&random, &ref_double, a);
		uint64_t operands[3] = { a, b, rm };
		unsigned int flags = VD_FP_NX;
		uint64_t got = vd_fp_add_d(a, b, rm, &flags);

		check_host("add", &ref_double, got, flags,
			   ref_compute(&ref_double, REF_ADD, a, b, 0, rm), operands);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rounding_modes),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_signs_of_zero),
		cmocka_unit_test(test_invalid),
		cmocka_unit_test(test_division_by_zero),
		cmocka_unit_test(test_tininess_is_after_rounding),
		cmocka_unit_test(test_fma_rounds_once),
		cmocka_unit_test(test_min_max),
		cmocka_unit_test(test_comparisons),
		cmocka_unit_test(test_classify),
		cmocka_unit_test(test_to_integer),
		cmocka_unit_test(test_from_integer),
		cmocka_unit_test(test_between_formats),
		cmocka_unit_test(test_boxing),
		cmocka_unit_test(test_host_agrees),
		cmocka_unit_test(test_host_agrees_on_fma_and_sqrt),
		cmocka_unit_test(test_other_modes_with_inexact_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
