/* SPDX-License-Identifier: BSD-2-Clause */
/* Generators: F, D, and the CSRs fflags, frm and fcsr. */
#include "insn_encode.h"
#include "insn_program.h"

enum { CSR_FFLAGS = 1, CSR_FRM = 2, CSR_FCSR = 3 };

static unsigned int pick_rounding(struct insn_program *program)
{
	unsigned int rm = insn_pick(program, 8);

	return rm < 5 ? rm : 7;
}

static void emit_constant_f(struct insn_program *program, unsigned int is_double, unsigned int rd,
			    uint64_t value)
{
	unsigned int reg = insn_pick_base(program);

	insn_emit_constant(program, reg, value);
	insn_emit(program, insn_r(INSN_OP_FP, 0, 0x78 | is_double, rd, reg, 0));
}

/* Random results drift to NaN and infinity: half of the operations get fresh operands. */
static void emit_operands(struct insn_program *program, unsigned int is_double, unsigned int rs1,
			  unsigned int rs2)
{
	const struct ref_format *fmt = is_double ? &ref_double : &ref_single;
	uint64_t value = ref_random_operand(&program->random, fmt);

	if (insn_pick(program, 2))
		return;
	emit_constant_f(program, is_double, rs1, value);
	emit_constant_f(program, is_double, rs2, ref_random_near(&program->random, fmt, value));
}

static void emit_op(struct insn_program *program, unsigned int funct7, unsigned int rm,
		    unsigned int rd, unsigned int rs2)
{
	insn_emit(program, insn_r(INSN_OP_FP, rm, funct7, rd, insn_pick_rs(program), rs2));
}

static void emit_binary(struct insn_program *program, unsigned int funct7, unsigned int rm,
			unsigned int rd)
{
	unsigned int rs1 = insn_pick(program, 32), rs2 = insn_pick(program, 32);

	emit_operands(program, funct7 & 1, rs1, rs2);
	insn_emit(program, insn_r(INSN_OP_FP, rm, funct7, rd, rs1, rs2));
}

/* frm never stays reserved: with it, dynamic rounding is an illegal instruction. */
static void emit_csr(struct insn_program *program)
{
	unsigned int rd = insn_pick_rd(program), rs1 = insn_pick_rs(program);
	unsigned int funct3 = 1 + insn_pick(program, 3) + 4 * insn_pick(program, 2);
	unsigned int masked = insn_pick_base(program);

	switch (insn_pick(program, 4)) {
	case 0:
		insn_emit(program, insn_i(INSN_SYSTEM, funct3, rd, rs1, CSR_FFLAGS));
		break;
	case 1:
		insn_emit(program, insn_i(INSN_SYSTEM, funct3, rd, rs1, CSR_FRM));
		break;
	case 2:
		insn_emit(program, insn_i(INSN_SYSTEM, funct3, rd, rs1, CSR_FCSR));
		break;
	default: /* frm 0 or 4 by a register, upper bits ignored */
		insn_emit(program, insn_i(INSN_OP_IMM, 7, masked, rs1, ~INT64_C(0x60)));
		insn_emit(program, insn_i(INSN_SYSTEM, 1, rd, masked, CSR_FCSR));
		return;
	}
	insn_emit(program, insn_i(INSN_SYSTEM, 5, 0, insn_pick(program, 5), CSR_FRM));
}

/* rs1 holds a value of the given format for conversions from it. */
static void emit_convert(struct insn_program *program, unsigned int is_double, unsigned int rs1)
{
	unsigned int rm = pick_rounding(program), integer = insn_pick(program, 4);

	switch (insn_pick(program, 3)) {
	case 0: /* to the other format */
		insn_emit(program, insn_r(INSN_OP_FP, rm, 0x21 - is_double, insn_pick(program, 32),
					  rs1, is_double));
		break;
	case 1:
		insn_emit(program, insn_r(INSN_OP_FP, rm, 0x60 | is_double, insn_pick_rd(program),
					  rs1, integer));
		break;
	default:
		emit_op(program, 0x68 | is_double, rm, insn_pick(program, 32), integer);
		break;
	}
}

static void emit_move(struct insn_program *program, unsigned int is_double)
{
	switch (insn_pick(program, 3)) {
	case 0:
		emit_op(program, 0x70 | is_double, 0, insn_pick_rd(program), 0);
		break;
	case 1:
		emit_op(program, 0x70 | is_double, 1, insn_pick_rd(program), 0);
		break;
	default:
		emit_op(program, 0x78 | is_double, 0, insn_pick(program, 32), 0);
		break;
	}
}

void insn_emit_float(struct insn_program *program)
{
	unsigned int is_double = insn_pick(program, 2), rm = pick_rounding(program);
	unsigned int rd = insn_pick(program, 32), rs1 = insn_pick(program, 32);
	unsigned int rs2 = insn_pick(program, 32), rs3 = insn_pick(program, 32);

	switch (insn_pick(program, 14)) {
	case 0:
		emit_csr(program);
		break;
	case 1:
	case 2:
		emit_operands(program, is_double, rs1, rs2);
		emit_convert(program, is_double, rs1);
		break;
	case 3:
		emit_move(program, is_double);
		break;
	case 4: /* sign injection */
		emit_binary(program, 0x10 | is_double, insn_pick(program, 3), rd);
		break;
	case 5: /* min, max */
		emit_binary(program, 0x14 | is_double, insn_pick(program, 2), rd);
		break;
	case 6: /* comparisons */
		emit_binary(program, 0x50 | is_double, insn_pick(program, 3),
			    insn_pick_rd(program));
		break;
	case 7: /* sqrt */
		emit_operands(program, is_double, rs1, rs2);
		insn_emit(program, insn_r(INSN_OP_FP, rm, 0x2c | is_double, rd, rs1, 0));
		break;
	case 8:
	case 9:
		emit_operands(program, is_double, rs1, rs2);
		emit_operands(program, is_double, rs3, rs3);
		insn_emit(program, insn_r4(INSN_MADD + 4 * insn_pick(program, 4), rm, is_double, rd,
					   rs1, rs2, rs3));
		break;
	default: /* add, sub, mul, div */
		emit_binary(program, insn_pick(program, 4) << 2 | is_double, rm, rd);
		break;
	}
}
