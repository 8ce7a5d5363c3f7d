/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * IEEE 754 arithmetic in integers, with RISC-V's choices (unprivileged manual, "F" and "D"):
 * canonical NaNs, tininess detected after rounding, fcsr's flag bits and rounding modes.
 *
 * Values are bit patterns of the given format in the low bits of a uint64_t. Every function is pure
 * apart from setting bits in *fflags; none of them touches the host's floating-point state.
 */
#ifndef VD_VCPU_RISCV_FP_SOFT_H
#define VD_VCPU_RISCV_FP_SOFT_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct vd_fp_format - a binary interchange format
 * @width: bits of the encoding
 * @precision: bits of the significand, hidden bit included
 * @emax: largest exponent; the smallest normal one is 1 - @emax
 * @nan: the canonical quiet NaN
 */
struct vd_fp_format {
	unsigned int width;
	unsigned int precision;
	int emax;
	uint64_t nan;
};

extern const struct vd_fp_format vd_fp_single;
extern const struct vd_fp_format vd_fp_double;

/**
 * struct vd_fp_int - an integer type a value is converted to or from
 * @width: 32 or 64 bits
 * @is_signed: two's complement, else unsigned
 */
struct vd_fp_int {
	unsigned int width;
	bool is_signed;
};

uint64_t vd_fp_soft_add(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, unsigned int rm,
			unsigned int *fflags);
uint64_t vd_fp_soft_mul(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, unsigned int rm,
			unsigned int *fflags);
uint64_t vd_fp_soft_div(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, unsigned int rm,
			unsigned int *fflags);
uint64_t vd_fp_soft_sqrt(const struct vd_fp_format *fmt, uint64_t a, unsigned int rm,
			 unsigned int *fflags);

/* a * b + c, rounded once. */
uint64_t vd_fp_soft_fma(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, uint64_t c,
			unsigned int rm, unsigned int *fflags);

/* The smaller (or larger) number; a NaN loses against a number, -0 is below +0. */
uint64_t vd_fp_soft_min(const struct vd_fp_format *fmt, uint64_t a, uint64_t b,
			unsigned int *fflags);
uint64_t vd_fp_soft_max(const struct vd_fp_format *fmt, uint64_t a, uint64_t b,
			unsigned int *fflags);

/* Comparisons: eq is quiet, lt and le raise NV for every NaN. */
bool vd_fp_soft_eq(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, unsigned int *fflags);
bool vd_fp_soft_lt(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, unsigned int *fflags);
bool vd_fp_soft_le(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, unsigned int *fflags);

/* The ten-bit mask of FCLASS (table "Format of result of FCLASS instruction"). */
unsigned int vd_fp_soft_classify(const struct vd_fp_format *fmt, uint64_t a);

/* From one format to another. */
uint64_t vd_fp_soft_convert(const struct vd_fp_format *to, const struct vd_fp_format *from,
			    uint64_t a, unsigned int rm, unsigned int *fflags);

/* To an integer, saturating with NV; a 32-bit result is sign-extended even if it is unsigned. */
uint64_t vd_fp_soft_to_int(const struct vd_fp_format *fmt, uint64_t a, struct vd_fp_int to,
			   unsigned int rm, unsigned int *fflags);

/* From the integer in the low bits of a. */
uint64_t vd_fp_soft_from_int(const struct vd_fp_format *fmt, uint64_t a, struct vd_fp_int from,
			     unsigned int rm, unsigned int *fflags);

#endif
