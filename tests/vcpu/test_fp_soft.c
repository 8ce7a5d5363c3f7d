/* SPDX-License-Identifier: BSD-2-Clause */
/* The integer arithmetic against the reference model, in both formats and all five modes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fp_reference.h"
#include "vcpu/riscv/fp.h"
#include "vcpu/riscv/fp_soft.h"

#define SEED UINT64_C(0x5eed0f10a7)
#define CASES 20000

struct pair {
	const struct vd_fp_format *fmt;
	const struct ref_format *ref;
};

static const struct pair formats[] = {
	{ &vd_fp_single, &ref_single },
	{ &vd_fp_double, &ref_double },
};

static struct ref_result compute(const struct vd_fp_format *fmt, enum ref_operation op, uint64_t a,
				 uint64_t b, uint64_t c, unsigned int rm)
{
	unsigned int sign = fmt->width - 1;
	struct ref_result result = { 0, 0 };

	switch (op) {
	case REF_ADD:
		result.bits = vd_fp_soft_add(fmt, a, b, rm, &result.flags);
		break;
	case REF_SUB:
		result.bits = vd_fp_soft_add(fmt, a, b ^ UINT64_C(1) << sign, rm, &result.flags);
		break;
	case REF_MUL:
		result.bits = vd_fp_soft_mul(fmt, a, b, rm, &result.flags);
		break;
	case REF_DIV:
		result.bits = vd_fp_soft_div(fmt, a, b, rm, &result.flags);
		break;
	case REF_SQRT:
		result.bits = vd_fp_soft_sqrt(fmt, a, rm, &result.flags);
		break;
	case REF_FMA:
		result.bits = vd_fp_soft_fma(fmt, a, b, c, rm, &result.flags);
		break;
	}
	return result;
}

static void check_operation(enum ref_operation op)
{
	struct ref_random random = { SEED + op };

	for (int i = 0; i < 2 * CASES; i++) {
		const struct pair *pair = &formats[i % 2];
		uint64_t a = ref_random_operand(&random, pair->ref);
		uint64_t b = ref_random_near(&random, pair->ref, a);
		uint64_t c = ref_random_near(&random, pair->ref, b);

		if (op == REF_FMA && i % 4 < 2) {
			/* An addend beside the product, so that most of it cancels. */
			unsigned int ignored = 0;
			uint64_t product = vd_fp_soft_mul(pair->fmt, a, b, VD_FP_RNE, &ignored);

			c = ref_random_near(&random, pair->ref, product);
		}
		for (unsigned int rm = VD_FP_RNE; rm <= VD_FP_RMM; rm++) {
			struct ref_result want = ref_compute(pair->ref, op, a, b, c, rm);
			struct ref_result got = compute(pair->fmt, op, a, b, c, rm);

			if (got.bits != want.bits || got.flags != want.flags)
				fail_msg("seed %#llx case %d: op %d width %u rm %u: %#llx %#llx "
					 "%#llx gives %#llx flags %#x, not %#llx flags %#x",
					 (unsigned long long)SEED, i, op, pair->fmt->width, rm,
					 (unsigned long long)a, (unsigned long long)b,
					 (unsigned long long)c, (unsigned long long)got.bits,
					 got.flags, (unsigned long long)want.bits, want.flags);
		}
	}
}

static void test_add(void **state)
{
	(void)state;
	check_operation(REF_ADD);
}

static void test_sub(void **state)
{
	(void)state;
	check_operation(REF_SUB);
}

static void test_mul(void **state)
{
	(void)state;
	check_operation(REF_MUL);
}

static void test_div(void **state)
{
	(void)state;
	check_operation(REF_DIV);
}

static void test_sqrt(void **state)
{
	(void)state;
	check_operation(REF_SQRT);
}

static void test_fma(void **state)
{
	(void)state;
	check_operation(REF_FMA);
}

static void test_convert(void **state)
{
	struct ref_random random = { SEED };

	(void)state;
	for (int i = 0; i < 4 * CASES; i++) {
		const struct pair *from = &formats[i & 1];
		const struct pair *to = &formats[i >> 1 & 1];
		unsigned int rm = (unsigned int)(i % 5);
		uint64_t a = ref_random_operand(&random, from->ref);
		struct ref_result want, got = { 0, 0 };

		if (from->fmt->width == 64 && i % 3 == 0) {
			/* Around the range of singles, and around ties between them. */
			uint64_t biased = 1023 - 155 + ref_random_next(&random) % 290;

			a = (a & ~(UINT64_C(0x7ff) << 52)) | biased << 52;
			if (i % 2)
				a &= ~((UINT64_C(1) << 28) - 1);
		}
		want = ref_convert(to->ref, from->ref, a, rm);
		got.bits = vd_fp_soft_convert(to->fmt, from->fmt, a, rm, &got.flags);
		if (got.bits != want.bits || got.flags != want.flags)
			fail_msg("seed %#llx case %d: rm %u: %#llx gives %#llx flags %#x, not "
				 "%#llx flags %#x", (unsigned long long)SEED, i, rm,
				 (unsigned long long)a, (unsigned long long)got.bits, got.flags,
				 (unsigned long long)want.bits, want.flags);
	}
}

static const struct vd_fp_int integers[] = {
	{ 32, true }, { 32, false }, { 64, true }, { 64, false },
};

static void test_to_int(void **state)
{
	struct ref_random random = { SEED };

	(void)state;
	for (int i = 0; i < 4 * CASES; i++) {
		const struct pair *pair = &formats[i & 1];
		uint64_t a = ref_random_operand(&random, pair->ref);

		for (unsigned int j = 0; j < 20; j++) {
			struct vd_fp_int to = integers[j & 3];
			unsigned int rm = j / 4;
			struct ref_result got = { 0, 0 };
			struct ref_result want =
				ref_to_int(pair->ref, a, to.width, to.is_signed, rm);

			got.bits = vd_fp_soft_to_int(pair->fmt, a, to, rm, &got.flags);
			if (got.bits != want.bits || got.flags != want.flags)
				fail_msg("seed %#llx case %d: width %u to %u rm %u: %#llx gives "
					 "%#llx flags %#x, not %#llx flags %#x",
					 (unsigned long long)SEED, i, pair->fmt->width, to.width,
					 rm, (unsigned long long)a, (unsigned long long)got.bits,
					 got.flags, (unsigned long long)want.bits, want.flags);
		}
	}
}

static void test_from_int(void **state)
{
	struct ref_random random = { SEED };

	(void)state;
	for (int i = 0; i < 4 * CASES; i++) {
		const struct pair *pair = &formats[i & 1];
		uint64_t a = ref_random_next(&random);

		a >>= ref_random_next(&random) % 64;
		if (i % 3 == 0)
			a <<= ref_random_next(&random) % 64;
		if (i % 7 == 0)
			a = -a;
		for (unsigned int j = 0; j < 20; j++) {
			struct vd_fp_int from = integers[j & 3];
			unsigned int rm = j / 4;
			struct ref_result got = { 0, 0 };
			struct ref_result want =
				ref_from_int(pair->ref, a, from.width, from.is_signed, rm);

			got.bits = vd_fp_soft_from_int(pair->fmt, a, from, rm, &got.flags);
			if (got.bits != want.bits || got.flags != want.flags)
				fail_msg("seed %#llx case %d: width %u from %u rm %u: %#llx gives "
					 "%#llx flags %#x, not %#llx flags %#x",
					 (unsigned long long)SEED, i, pair->fmt->width, from.width,
					 rm, (unsigned long long)a, (unsigned long long)got.bits,
					 got.flags, (unsigned long long)want.bits, want.flags);
		}
	}
}

/* Flags are added to, never cleared. */
static void test_flags_accumulate(void **state)
{
	unsigned int flags = VD_FP_OF;

	(void)state;
	vd_fp_soft_div(&vd_fp_single, 0x3f800000, 0x40400000, VD_FP_RNE, &flags);
	assert_int_equal(flags, VD_FP_OF | VD_FP_NX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add),	   cmocka_unit_test(test_sub),
		cmocka_unit_test(test_mul),	   cmocka_unit_test(test_div),
		cmocka_unit_test(test_sqrt),	   cmocka_unit_test(test_fma),
		cmocka_unit_test(test_convert),	   cmocka_unit_test(test_to_int),
		cmocka_unit_test(test_from_int),   cmocka_unit_test(test_flags_accumulate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
