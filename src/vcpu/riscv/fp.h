/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Floating point of the RISC-V hart (F and D extensions), on bit patterns.
 *
 * All functions are pure: operands and result are bit patterns, exceptions are OR-ed into *fflags,
 * which holds fcsr's sticky flags on entry. Passing the true old flags matters for speed only: once
 * NX is set it need not be found again, and the host's own arithmetic gives the result.
 *
 * @rm is the resolved rounding mode, 0 to 4; decoding it (and refusing 5 to 7) is the caller's
 * task, see fp_exec.h. The calling thread must be in the C default environment (round to nearest
 * even, no flush to zero), and stays in it; the host's exception flags are neither used nor kept.
 */
#ifndef VD_VCPU_RISCV_FP_H
#define VD_VCPU_RISCV_FP_H

#include <stdbool.h>
#include <stdint.h>

/** enum vd_fp_flag - fcsr.fflags */
enum vd_fp_flag {
	VD_FP_NX = 1u << 0, /* inexact */
	VD_FP_UF = 1u << 1, /* underflow: tiny after rounding, and inexact */
	VD_FP_OF = 1u << 2, /* overflow */
	VD_FP_DZ = 1u << 3, /* division of a finite number by zero */
	VD_FP_NV = 1u << 4, /* invalid operation */
};

/** enum vd_fp_round - fcsr.frm and the rm field */
enum vd_fp_round {
	VD_FP_RNE = 0, /* to nearest, ties to even */
	VD_FP_RTZ = 1, /* towards zero */
	VD_FP_RDN = 2, /* down */
	VD_FP_RUP = 3, /* up */
	VD_FP_RMM = 4, /* to nearest, ties away from zero */
	VD_FP_DYN = 7, /* in an instruction: as fcsr.frm says */
};

#define VD_FP_NAN_S 0x7fc00000u
#define VD_FP_NAN_D UINT64_C(0x7ff8000000000000)
#define VD_FP_SIGN_S 0x80000000u
#define VD_FP_SIGN_D UINT64_C(0x8000000000000000)

/**
 * vd_fp_box() - a single as an FP register holds it
 * @value: bit pattern
 *
 * Return: @value below 32 ones ("NaN Boxing of Narrower Values").
 */
static inline uint64_t vd_fp_box(uint32_t value)
{
	return UINT64_C(0xffffffff00000000) | value;
}

/**
 * vd_fp_unbox() - the single in an FP register
 * @reg: the register
 *
 * Return: its low half, or the canonical NaN if it was not boxed.
 */
static inline uint32_t vd_fp_unbox(uint64_t reg)
{
	return reg >> 32 == UINT32_MAX ? (uint32_t)reg : VD_FP_NAN_S;
}

uint32_t vd_fp_add_s(uint32_t a, uint32_t b, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_add_d(uint64_t a, uint64_t b, unsigned int rm, unsigned int *fflags);
uint32_t vd_fp_sub_s(uint32_t a, uint32_t b, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_sub_d(uint64_t a, uint64_t b, unsigned int rm, unsigned int *fflags);
uint32_t vd_fp_mul_s(uint32_t a, uint32_t b, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_mul_d(uint64_t a, uint64_t b, unsigned int rm, unsigned int *fflags);
uint32_t vd_fp_div_s(uint32_t a, uint32_t b, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_div_d(uint64_t a, uint64_t b, unsigned int rm, unsigned int *fflags);
uint32_t vd_fp_sqrt_s(uint32_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_sqrt_d(uint64_t a, unsigned int rm, unsigned int *fflags);

/* a * b + c with one rounding; the caller flips signs for FMSUB, FNMSUB and FNMADD. */
uint32_t vd_fp_fma_s(uint32_t a, uint32_t b, uint32_t c, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_fma_d(uint64_t a, uint64_t b, uint64_t c, unsigned int rm, unsigned int *fflags);

uint32_t vd_fp_min_s(uint32_t a, uint32_t b, unsigned int *fflags);
uint64_t vd_fp_min_d(uint64_t a, uint64_t b, unsigned int *fflags);
uint32_t vd_fp_max_s(uint32_t a, uint32_t b, unsigned int *fflags);
uint64_t vd_fp_max_d(uint64_t a, uint64_t b, unsigned int *fflags);

bool vd_fp_eq_s(uint32_t a, uint32_t b, unsigned int *fflags);
bool vd_fp_eq_d(uint64_t a, uint64_t b, unsigned int *fflags);
bool vd_fp_lt_s(uint32_t a, uint32_t b, unsigned int *fflags);
bool vd_fp_lt_d(uint64_t a, uint64_t b, unsigned int *fflags);
bool vd_fp_le_s(uint32_t a, uint32_t b, unsigned int *fflags);
bool vd_fp_le_d(uint64_t a, uint64_t b, unsigned int *fflags);

unsigned int vd_fp_classify_s(uint32_t a);
unsigned int vd_fp_classify_d(uint64_t a);

uint32_t vd_fp_d_to_s(uint64_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_s_to_d(uint32_t a, unsigned int *fflags);

/*
 * Integers, by the operand field of FCVT: w and wu are 32 bits wide, l and lu 64. Results saturate
 * with NV (a NaN gives the largest value) and are sign-extended to 64 bits, wu included.
 */
uint64_t vd_fp_s_to_w(uint32_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_s_to_wu(uint32_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_s_to_l(uint32_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_s_to_lu(uint32_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_d_to_w(uint64_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_d_to_wu(uint64_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_d_to_l(uint64_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_d_to_lu(uint64_t a, unsigned int rm, unsigned int *fflags);
uint32_t vd_fp_w_to_s(uint64_t a, unsigned int rm, unsigned int *fflags);
uint32_t vd_fp_wu_to_s(uint64_t a, unsigned int rm, unsigned int *fflags);
uint32_t vd_fp_l_to_s(uint64_t a, unsigned int rm, unsigned int *fflags);
uint32_t vd_fp_lu_to_s(uint64_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_w_to_d(uint64_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_wu_to_d(uint64_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_l_to_d(uint64_t a, unsigned int rm, unsigned int *fflags);
uint64_t vd_fp_lu_to_d(uint64_t a, unsigned int rm, unsigned int *fflags);

#endif
