/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the F and D extensions must give, found the slow way: every finite value is an integer of
 * 4352 bits counting units of 2^-2176, so that sums, products and fused products of doubles are
 * exact, and a result is rounded by looking at its bits. Shares no code with the interpreter.
 */
#ifndef VD_TESTS_VCPU_FP_REFERENCE_H
#define VD_TESTS_VCPU_FP_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

struct ref_format {
	unsigned int width;
	unsigned int precision;
	int emin;
};

extern const struct ref_format ref_single;
extern const struct ref_format ref_double;

enum ref_operation {
	REF_ADD,
	REF_SUB,
	REF_MUL,
	REF_DIV,
	REF_SQRT,
	REF_FMA,
};

struct ref_result {
	uint64_t bits;
	unsigned int flags;
};

struct ref_result ref_compute(const struct ref_format *fmt, enum ref_operation op, uint64_t a,
			      uint64_t b, uint64_t c, unsigned int rm);
struct ref_result ref_convert(const struct ref_format *to, const struct ref_format *from,
			      uint64_t a, unsigned int rm);
struct ref_result ref_to_int(const struct ref_format *fmt, uint64_t a, unsigned int width,
			     bool is_signed, unsigned int rm);
struct ref_result ref_from_int(const struct ref_format *fmt, uint64_t a, unsigned int width,
			       bool is_signed, unsigned int rm);

/* Random operands with a taste for trouble: specials, subnormals, ties, close exponents. */
struct ref_random {
	uint64_t state;
};

uint64_t ref_random_next(struct ref_random *random);
uint64_t ref_random_operand(struct ref_random *random, const struct ref_format *fmt);
/* Often of nearly the same magnitude as near, so that sums cancel. */
uint64_t ref_random_near(struct ref_random *random, const struct ref_format *fmt, uint64_t near);

#endif
