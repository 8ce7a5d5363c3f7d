/* SPDX-License-Identifier: BSD-2-Clause */
/* Decoding and execution of FP instructions between registers ("RV32/64G Listings"). */
#include "vcpu/riscv/fp_exec.h"

#include <errno.h>
#include <stdbool.h>

#include "vcpu/riscv/fp.h"

/* Bits 6:2 of the encoding. */
enum vd_fp_opcode {
	VD_FP_MADD = 0x10,
	VD_FP_MSUB = 0x11,
	VD_FP_NMSUB = 0x12,
	VD_FP_NMADD = 0x13,
	VD_FP_OP = 0x14,
};

/* Bits 31:27 of OP-FP. */
enum vd_fp_funct5 {
	VD_FP_ADD = 0x00,
	VD_FP_SUB = 0x01,
	VD_FP_MUL = 0x02,
	VD_FP_DIV = 0x03,
	VD_FP_SGNJ = 0x04,
	VD_FP_MINMAX = 0x05,
	VD_FP_CVT_FORMAT = 0x08,
	VD_FP_SQRT = 0x0b,
	VD_FP_COMPARE = 0x14,
	VD_FP_CVT_TO_INT = 0x18,
	VD_FP_CVT_FROM_INT = 0x1a,
	VD_FP_MV_TO_INT = 0x1c, /* and FCLASS */
	VD_FP_MV_FROM_INT = 0x1e,
};

/* One instruction on its way: operands read, results written only if it proves legal. */
struct vd_fp_step {
	uint64_t *x;
	uint64_t *f;
	unsigned int rd, rs1, rs2, rs3;
	unsigned int funct3;
	unsigned int funct5;
	bool is_double;
	unsigned int rm;
	unsigned int flags;
};

static int vd_fp_write_x(struct vd_fp_step *step, uint64_t value)
{
	if (step->rd)
		step->x[step->rd] = value;
	return 0;
}

static int vd_fp_write_s(struct vd_fp_step *step, uint32_t value)
{
	step->f[step->rd] = vd_fp_box(value);
	return 0;
}

static int vd_fp_write_d(struct vd_fp_step *step, uint64_t value)
{
	step->f[step->rd] = value;
	return 0;
}

static uint64_t vd_fp_sign_extend(uint32_t value)
{
	return (uint64_t)(int32_t)value;
}

/* Instructions that cannot be inexact but have an rm field obey its reserved values too. */
static int vd_fp_resolve_rounding(struct vd_fp_step *step, uint32_t fcsr)
{
	step->rm = step->funct3 == VD_FP_DYN ? fcsr >> 5 & 7 : step->funct3;
	return step->rm <= VD_FP_RMM ? 0 : -EILSEQ;
}

/* The negations are of the exact product and of c, hence of operands, not of the rounded result. */
static int vd_fp_fused(struct vd_fp_step *step, unsigned int opcode)
{
	bool negate_product = opcode == VD_FP_NMSUB || opcode == VD_FP_NMADD;
	bool negate_addend = opcode == VD_FP_MSUB || opcode == VD_FP_NMADD;
	uint64_t a = step->f[step->rs1], b = step->f[step->rs2], c = step->f[step->rs3];
	uint32_t single;

	if (step->is_double) {
		a ^= negate_product ? VD_FP_SIGN_D : 0;
		c ^= negate_addend ? VD_FP_SIGN_D : 0;
		return vd_fp_write_d(step, vd_fp_fma_d(a, b, c, step->rm, &step->flags));
	}
	single = vd_fp_fma_s(vd_fp_unbox(a) ^ (negate_product ? VD_FP_SIGN_S : 0), vd_fp_unbox(b),
			     vd_fp_unbox(c) ^ (negate_addend ? VD_FP_SIGN_S : 0), step->rm,
			     &step->flags);
	return vd_fp_write_s(step, single);
}

static int vd_fp_arithmetic_s(struct vd_fp_step *step)
{
	uint32_t a = vd_fp_unbox(step->f[step->rs1]);
	uint32_t b = vd_fp_unbox(step->f[step->rs2]);

	switch (step->funct5) {
	case VD_FP_ADD:
		return vd_fp_write_s(step, vd_fp_add_s(a, b, step->rm, &step->flags));
	case VD_FP_SUB:
		return vd_fp_write_s(step, vd_fp_sub_s(a, b, step->rm, &step->flags));
	case VD_FP_MUL:
		return vd_fp_write_s(step, vd_fp_mul_s(a, b, step->rm, &step->flags));
	case VD_FP_DIV:
		return vd_fp_write_s(step, vd_fp_div_s(a, b, step->rm, &step->flags));
	default:
		if (step->rs2)
			return -EILSEQ;
		return vd_fp_write_s(step, vd_fp_sqrt_s(a, step->rm, &step->flags));
	}
}

static int vd_fp_arithmetic_d(struct vd_fp_step *step)
{
	uint64_t a = step->f[step->rs1];
	uint64_t b = step->f[step->rs2];

	switch (step->funct5) {
	case VD_FP_ADD:
		return vd_fp_write_d(step, vd_fp_add_d(a, b, step->rm, &step->flags));
	case VD_FP_SUB:
		return vd_fp_write_d(step, vd_fp_sub_d(a, b, step->rm, &step->flags));
	case VD_FP_MUL:
		return vd_fp_write_d(step, vd_fp_mul_d(a, b, step->rm, &step->flags));
	case VD_FP_DIV:
		return vd_fp_write_d(step, vd_fp_div_d(a, b, step->rm, &step->flags));
	default:
		if (step->rs2)
			return -EILSEQ;
		return vd_fp_write_d(step, vd_fp_sqrt_d(a, step->rm, &step->flags));
	}
}

/* FSGNJ, FSGNJN, FSGNJX: the sign comes from b, not b, or a xor b. */
static int vd_fp_inject_sign(struct vd_fp_step *step)
{
	uint64_t sign = step->is_double ? VD_FP_SIGN_D : VD_FP_SIGN_S;
	uint64_t a = step->f[step->rs1], b = step->f[step->rs2];

	if (step->funct3 > 2)
		return -EILSEQ;
	if (!step->is_double) {
		a = vd_fp_unbox(a);
		b = vd_fp_unbox(b);
	}
	if (step->funct3 == 1)
		b = ~b;
	else if (step->funct3 == 2)
		b ^= a;
	a = (a & ~sign) | (b & sign);
	return step->is_double ? vd_fp_write_d(step, a) : vd_fp_write_s(step, (uint32_t)a);
}

static int vd_fp_min_max(struct vd_fp_step *step)
{
	uint64_t a = step->f[step->rs1], b = step->f[step->rs2];
	uint32_t as = vd_fp_unbox(a), bs = vd_fp_unbox(b);

	if (step->funct3 > 1)
		return -EILSEQ;
	if (step->is_double)
		return vd_fp_write_d(step, step->funct3 ? vd_fp_max_d(a, b, &step->flags) :
							  vd_fp_min_d(a, b, &step->flags));
	return vd_fp_write_s(step, step->funct3 ? vd_fp_max_s(as, bs, &step->flags) :
						  vd_fp_min_s(as, bs, &step->flags));
}

static int vd_fp_compare(struct vd_fp_step *step)
{
	uint64_t a = step->f[step->rs1], b = step->f[step->rs2];
	uint32_t as = vd_fp_unbox(a), bs = vd_fp_unbox(b);
	bool is_double = step->is_double;

	switch (step->funct3) {
	case 0:
		return vd_fp_write_x(step, is_double ? vd_fp_le_d(a, b, &step->flags) :
						       vd_fp_le_s(as, bs, &step->flags));
	case 1:
		return vd_fp_write_x(step, is_double ? vd_fp_lt_d(a, b, &step->flags) :
						       vd_fp_lt_s(as, bs, &step->flags));
	case 2:
		return vd_fp_write_x(step, is_double ? vd_fp_eq_d(a, b, &step->flags) :
						       vd_fp_eq_s(as, bs, &step->flags));
	default:
		return -EILSEQ;
	}
}

/* FCVT.S.D and FCVT.D.S: rs2 names the source format. */
static int vd_fp_convert_format(struct vd_fp_step *step)
{
	uint64_t a = step->f[step->rs1];

	if (step->is_double && step->rs2 == 0)
		return vd_fp_write_d(step, vd_fp_s_to_d(vd_fp_unbox(a), &step->flags));
	if (!step->is_double && step->rs2 == 1)
		return vd_fp_write_s(step, vd_fp_d_to_s(a, step->rm, &step->flags));
	return -EILSEQ;
}

static int vd_fp_convert_to_int(struct vd_fp_step *step)
{
	static uint64_t (*const from_s[])(uint32_t, unsigned int, unsigned int *) = {
		vd_fp_s_to_w, vd_fp_s_to_wu, vd_fp_s_to_l, vd_fp_s_to_lu,
	};
	static uint64_t (*const from_d[])(uint64_t, unsigned int, unsigned int *) = {
		vd_fp_d_to_w, vd_fp_d_to_wu, vd_fp_d_to_l, vd_fp_d_to_lu,
	};
	uint64_t a = step->f[step->rs1];

	if (step->rs2 > 3)
		return -EILSEQ;
	if (step->is_double)
		return vd_fp_write_x(step, from_d[step->rs2](a, step->rm, &step->flags));
	return vd_fp_write_x(step, from_s[step->rs2](vd_fp_unbox(a), step->rm, &step->flags));
}

static int vd_fp_convert_from_int(struct vd_fp_step *step)
{
	static uint32_t (*const to_s[])(uint64_t, unsigned int, unsigned int *) = {
		vd_fp_w_to_s, vd_fp_wu_to_s, vd_fp_l_to_s, vd_fp_lu_to_s,
	};
	static uint64_t (*const to_d[])(uint64_t, unsigned int, unsigned int *) = {
		vd_fp_w_to_d, vd_fp_wu_to_d, vd_fp_l_to_d, vd_fp_lu_to_d,
	};
	uint64_t a = step->x[step->rs1];

	if (step->rs2 > 3)
		return -EILSEQ;
	if (step->is_double)
		return vd_fp_write_d(step, to_d[step->rs2](a, step->rm, &step->flags));
	return vd_fp_write_s(step, to_s[step->rs2](a, step->rm, &step->flags));
}

/* FMV.X moves bits as they are, boxed or not; FCLASS looks at the unboxed value. */
static int vd_fp_move_to_int(struct vd_fp_step *step)
{
	uint64_t a = step->f[step->rs1];

	if (step->rs2)
		return -EILSEQ;
	if (step->funct3 == 0)
		return vd_fp_write_x(step, step->is_double ? a : vd_fp_sign_extend((uint32_t)a));
	if (step->funct3 == 1)
		return vd_fp_write_x(step, step->is_double ? vd_fp_classify_d(a) :
							     vd_fp_classify_s(vd_fp_unbox(a)));
	return -EILSEQ;
}

static int vd_fp_move_from_int(struct vd_fp_step *step)
{
	uint64_t a = step->x[step->rs1];

	if (step->rs2 || step->funct3)
		return -EILSEQ;
	return step->is_double ? vd_fp_write_d(step, a) : vd_fp_write_s(step, (uint32_t)a);
}

static int vd_fp_operate(struct vd_fp_step *step, uint32_t fcsr)
{
	switch (step->funct5) {
	case VD_FP_SGNJ:
		return vd_fp_inject_sign(step);
	case VD_FP_MINMAX:
		return vd_fp_min_max(step);
	case VD_FP_COMPARE:
		return vd_fp_compare(step);
	case VD_FP_MV_TO_INT:
		return vd_fp_move_to_int(step);
	case VD_FP_MV_FROM_INT:
		return vd_fp_move_from_int(step);
	default:
		break;
	}
	if (vd_fp_resolve_rounding(step, fcsr))
		return -EILSEQ;
	switch (step->funct5) {
	case VD_FP_ADD:
	case VD_FP_SUB:
	case VD_FP_MUL:
	case VD_FP_DIV:
	case VD_FP_SQRT:
		return step->is_double ? vd_fp_arithmetic_d(step) : vd_fp_arithmetic_s(step);
	case VD_FP_CVT_FORMAT:
		return vd_fp_convert_format(step);
	case VD_FP_CVT_TO_INT:
		return vd_fp_convert_to_int(step);
	case VD_FP_CVT_FROM_INT:
		return vd_fp_convert_from_int(step);
	default:
		return -EILSEQ;
	}
}

int vd_fp_execute(uint64_t *x, uint64_t *f, uint32_t *fcsr, uint32_t insn)
{
	unsigned int opcode = insn >> 2 & 31;
	struct vd_fp_step step = {
		.x = x,
		.f = f,
		.rd = insn >> 7 & 31,
		.rs1 = insn >> 15 & 31,
		.rs2 = insn >> 20 & 31,
		.rs3 = insn >> 27,
		.funct3 = insn >> 12 & 7,
		.funct5 = insn >> 27,
		.is_double = insn >> 25 & 1,
		.flags = *fcsr & 31,
	};
	int ret;

	/* Formats 2 and 3 are half and quad precision. */
	if ((insn & 3) != 3 || insn >> 26 & 1)
		return -EILSEQ;
	switch (opcode) {
	case VD_FP_OP:
		ret = vd_fp_operate(&step, *fcsr);
		break;
	case VD_FP_MADD:
	case VD_FP_MSUB:
	case VD_FP_NMSUB:
	case VD_FP_NMADD:
		ret = vd_fp_resolve_rounding(&step, *fcsr);
		if (!ret)
			ret = vd_fp_fused(&step, opcode);
		break;
	default:
		return -EILSEQ;
	}
	if (!ret)
		*fcsr |= step.flags;
	return ret;
}
