/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Floating point: the host's arithmetic where it is provably the same, integers elsewhere.
 *
 * Reading and clearing the host's exception flags around each operation would cost more than the
 * operation. It is not needed: between zeros and normal numbers, rounding to nearest even, with a
 * result that is a normal number above the least one, the only flag an operation can raise is NX.
 * So once NX is set (it is sticky, and nearly every program sets it early) the host's result is the
 * whole answer. Every other case goes to fp_soft.c, which is also the only truth for flags.
 */
#include "vcpu/riscv/fp.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "vcpu/riscv/fp_soft.h"

static const struct vd_fp_int vd_fp_w = { .width = 32, .is_signed = true };
static const struct vd_fp_int vd_fp_wu = { .width = 32, .is_signed = false };
static const struct vd_fp_int vd_fp_l = { .width = 64, .is_signed = true };
static const struct vd_fp_int vd_fp_lu = { .width = 64, .is_signed = false };

/* Excess precision (x87) rounds twice: such hosts use integers only. */
static bool vd_fp_only_inexact(unsigned int rm, unsigned int fflags)
{
	return FLT_EVAL_METHOD == 0 && rm == VD_FP_RNE && (fflags & VD_FP_NX);
}

static float vd_fp_host_s(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static double vd_fp_host_d(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static uint32_t vd_fp_bits_s(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static uint64_t vd_fp_bits_d(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

/* Above the least normal number, which may be the rounded form of something tiny. */
static bool vd_fp_is_normal_s(uint32_t bits)
{
	uint32_t magnitude = bits & ~VD_FP_SIGN_S;

	return magnitude > 0x00800000u && magnitude < 0x7f800000u;
}

static bool vd_fp_is_normal_d(uint64_t bits)
{
	uint64_t magnitude = bits & ~VD_FP_SIGN_D;

	return magnitude > UINT64_C(0x0010000000000000) && magnitude < UINT64_C(0x7ff0000000000000);
}

static bool vd_fp_is_plain_s(uint32_t bits)
{
	return vd_fp_is_normal_s(bits) || (bits & ~VD_FP_SIGN_S) == 0;
}

static bool vd_fp_is_plain_d(uint64_t bits)
{
	return vd_fp_is_normal_d(bits) || (bits & ~VD_FP_SIGN_D) == 0;
}

uint32_t vd_fp_add_s(uint32_t a, uint32_t b, unsigned int rm, unsigned int *fflags)
{
	if (vd_fp_only_inexact(rm, *fflags) && vd_fp_is_plain_s(a) && vd_fp_is_plain_s(b)) {
		uint32_t sum = vd_fp_bits_s(vd_fp_host_s(a) + vd_fp_host_s(b));

		if (vd_fp_is_normal_s(sum))
			return sum;
	}
	return (uint32_t)vd_fp_soft_add(&vd_fp_single, a, b, rm, fflags);
}

uint64_t vd_fp_add_d(uint64_t a, uint64_t b, unsigned int rm, unsigned int *fflags)
{
	if (vd_fp_only_inexact(rm, *fflags) && vd_fp_is_plain_d(a) && vd_fp_is_plain_d(b)) {
		uint64_t sum = vd_fp_bits_d(vd_fp_host_d(a) + vd_fp_host_d(b));

		if (vd_fp_is_normal_d(sum))
			return sum;
	}
	return vd_fp_soft_add(&vd_fp_double, a, b, rm, fflags);
}

/* A NaN's sign is never seen, so a subtraction is the addition of the negated operand. */

uint32_t vd_fp_sub_s(uint32_t a, uint32_t b, unsigned int rm, unsigned int *fflags)
{
	return vd_fp_add_s(a, b ^ VD_FP_SIGN_S, rm, fflags);
}

uint64_t vd_fp_sub_d(uint64_t a, uint64_t b, unsigned int rm, unsigned int *fflags)
{
	return vd_fp_add_d(a, b ^ VD_FP_SIGN_D, rm, fflags);
}

uint32_t vd_fp_mul_s(uint32_t a, uint32_t b, unsigned int rm, unsigned int *fflags)
{
	if (vd_fp_only_inexact(rm, *fflags) && vd_fp_is_plain_s(a) && vd_fp_is_plain_s(b)) {
		uint32_t product = vd_fp_bits_s(vd_fp_host_s(a) * vd_fp_host_s(b));

		if (vd_fp_is_normal_s(product))
			return product;
	}
	return (uint32_t)vd_fp_soft_mul(&vd_fp_single, a, b, rm, fflags);
}

uint64_t vd_fp_mul_d(uint64_t a, uint64_t b, unsigned int rm, unsigned int *fflags)
{
	if (vd_fp_only_inexact(rm, *fflags) && vd_fp_is_plain_d(a) && vd_fp_is_plain_d(b)) {
		uint64_t product = vd_fp_bits_d(vd_fp_host_d(a) * vd_fp_host_d(b));

		if (vd_fp_is_normal_d(product))
			return product;
	}
	return vd_fp_soft_mul(&vd_fp_double, a, b, rm, fflags);
}

uint32_t vd_fp_div_s(uint32_t a, uint32_t b, unsigned int rm, unsigned int *fflags)
{
	if (vd_fp_only_inexact(rm, *fflags) && vd_fp_is_plain_s(a) && vd_fp_is_normal_s(b)) {
		uint32_t quotient = vd_fp_bits_s(vd_fp_host_s(a) / vd_fp_host_s(b));

		if (vd_fp_is_normal_s(quotient))
			return quotient;
	}
	return (uint32_t)vd_fp_soft_div(&vd_fp_single, a, b, rm, fflags);
}

uint64_t vd_fp_div_d(uint64_t a, uint64_t b, unsigned int rm, unsigned int *fflags)
{
	if (vd_fp_only_inexact(rm, *fflags) && vd_fp_is_plain_d(a) && vd_fp_is_normal_d(b)) {
		uint64_t quotient = vd_fp_bits_d(vd_fp_host_d(a) / vd_fp_host_d(b));

		if (vd_fp_is_normal_d(quotient))
			return quotient;
	}
	return vd_fp_soft_div(&vd_fp_double, a, b, rm, fflags);
}

uint32_t vd_fp_sqrt_s(uint32_t a, unsigned int rm, unsigned int *fflags)
{
	if (vd_fp_only_inexact(rm, *fflags) && vd_fp_is_normal_s(a) && !(a & VD_FP_SIGN_S))
		return vd_fp_bits_s(sqrtf(vd_fp_host_s(a)));
	return (uint32_t)vd_fp_soft_sqrt(&vd_fp_single, a, rm, fflags);
}

uint64_t vd_fp_sqrt_d(uint64_t a, unsigned int rm, unsigned int *fflags)
{
	if (vd_fp_only_inexact(rm, *fflags) && vd_fp_is_normal_d(a) && !(a & VD_FP_SIGN_D))
		return vd_fp_bits_d(sqrt(vd_fp_host_d(a)));
	return vd_fp_soft_sqrt(&vd_fp_double, a, rm, fflags);
}

uint32_t vd_fp_fma_s(uint32_t a, uint32_t b, uint32_t c, unsigned int rm, unsigned int *fflags)
{
	if (vd_fp_only_inexact(rm, *fflags) && vd_fp_is_plain_s(a) && vd_fp_is_plain_s(b) &&
	    vd_fp_is_plain_s(c)) {
		uint32_t sum =
			vd_fp_bits_s(fmaf(vd_fp_host_s(a), vd_fp_host_s(b), vd_fp_host_s(c)));

		if (vd_fp_is_normal_s(sum))
			return sum;
	}
	return (uint32_t)vd_fp_soft_fma(&vd_fp_single, a, b, c, rm, fflags);
}

uint64_t vd_fp_fma_d(uint64_t a, uint64_t b, uint64_t c, unsigned int rm, unsigned int *fflags)
{
	if (vd_fp_only_inexact(rm, *fflags) && vd_fp_is_plain_d(a) && vd_fp_is_plain_d(b) &&
	    vd_fp_is_plain_d(c)) {
		uint64_t sum = vd_fp_bits_d(fma(vd_fp_host_d(a), vd_fp_host_d(b), vd_fp_host_d(c)));

		if (vd_fp_is_normal_d(sum))
			return sum;
	}
	return vd_fp_soft_fma(&vd_fp_double, a, b, c, rm, fflags);
}

/* The rest is as fast in integers. */

#define VD_FP_FORWARD(suffix, bits, fmt)                                                          \
	bits vd_fp_min_##suffix(bits a, bits b, unsigned int *fflags)                             \
	{                                                                                         \
		return (bits)vd_fp_soft_min(fmt, a, b, fflags);                                   \
	}                                                                                         \
	bits vd_fp_max_##suffix(bits a, bits b, unsigned int *fflags)                             \
	{                                                                                         \
		return (bits)vd_fp_soft_max(fmt, a, b, fflags);                                   \
	}                                                                                         \
	bool vd_fp_eq_##suffix(bits a, bits b, unsigned int *fflags)                              \
	{                                                                                         \
		return vd_fp_soft_eq(fmt, a, b, fflags);                                          \
	}                                                                                         \
	bool vd_fp_lt_##suffix(bits a, bits b, unsigned int *fflags)                              \
	{                                                                                         \
		return vd_fp_soft_lt(fmt, a, b, fflags);                                          \
	}                                                                                         \
	bool vd_fp_le_##suffix(bits a, bits b, unsigned int *fflags)                              \
	{                                                                                         \
		return vd_fp_soft_le(fmt, a, b, fflags);                                          \
	}                                                                                         \
	unsigned int vd_fp_classify_##suffix(bits a)                                              \
	{                                                                                         \
		return vd_fp_soft_classify(fmt, a);                                               \
	}

VD_FP_FORWARD(s, uint32_t, &vd_fp_single)
VD_FP_FORWARD(d, uint64_t, &vd_fp_double)

uint32_t vd_fp_d_to_s(uint64_t a, unsigned int rm, unsigned int *fflags)
{
	return (uint32_t)vd_fp_soft_convert(&vd_fp_single, &vd_fp_double, a, rm, fflags);
}

uint64_t vd_fp_s_to_d(uint32_t a, unsigned int *fflags)
{
	return vd_fp_soft_convert(&vd_fp_double, &vd_fp_single, a, VD_FP_RNE, fflags);
}

#define VD_FP_INTEGER(type, suffix, bits, fmt)                                                    \
	uint64_t vd_fp_##suffix##_to_##type(bits a, unsigned int rm, unsigned int *fflags)        \
	{                                                                                         \
		return vd_fp_soft_to_int(fmt, a, vd_fp_##type, rm, fflags);                       \
	}                                                                                         \
	bits vd_fp_##type##_to_##suffix(uint64_t a, unsigned int rm, unsigned int *fflags)        \
	{                                                                                         \
		return (bits)vd_fp_soft_from_int(fmt, a, vd_fp_##type, rm, fflags);               \
	}

VD_FP_INTEGER(w, s, uint32_t, &vd_fp_single)
VD_FP_INTEGER(wu, s, uint32_t, &vd_fp_single)
VD_FP_INTEGER(l, s, uint32_t, &vd_fp_single)
VD_FP_INTEGER(lu, s, uint32_t, &vd_fp_single)
VD_FP_INTEGER(w, d, uint64_t, &vd_fp_double)
VD_FP_INTEGER(wu, d, uint64_t, &vd_fp_double)
VD_FP_INTEGER(l, d, uint64_t, &vd_fp_double)
VD_FP_INTEGER(lu, d, uint64_t, &vd_fp_double)
