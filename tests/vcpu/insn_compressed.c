/* SPDX-License-Identifier: BSD-2-Clause */
/* Generators: C, but for its jumps and branches. */
#include "insn_encode.h"
#include "insn_program.h"

#define SP 2

/* Point a register into scratch, at least @range bytes before its end. */
static void emit_base(struct insn_program *program, unsigned int reg, unsigned int range)
{
	int64_t offset = (int64_t)insn_pick(program, INSN_SCRATCH_BYTES - range) - 2048;

	if (insn_pick(program, 2))
		offset &= ~INT64_C(7);
	insn_emit(program, insn_i(INSN_OP_IMM, 0, reg, INSN_REG_SCRATCH, offset));
}

static void emit_memory(struct insn_program *program)
{
	/* c.fld, c.lw, c.ld, c.fsd, c.sw, c.sd */
	static const unsigned int funct3[] = { 1, 2, 3, 5, 6, 7 };
	unsigned int form = funct3[insn_pick(program, 6)];
	unsigned int base = insn_pick(program, 8), reg = insn_pick(program, 8);

	emit_base(program, 8 + base, 256);
	if (form == 2 || form == 6)
		insn_emit16(program, insn_c_mem4(form, reg, base, 4 * insn_pick(program, 32)));
	else
		insn_emit16(program, insn_c_mem8(form, reg, base, 8 * insn_pick(program, 32)));
}

static void emit_stack_memory(struct insn_program *program)
{
	unsigned int rd = insn_pick_base(program), any = insn_pick(program, 32);
	int64_t offset8 = 8 * insn_pick(program, 64), offset4 = 4 * insn_pick(program, 64);

	emit_base(program, SP, 512);
	switch (insn_pick(program, 6)) {
	case 0:
		insn_emit16(program, insn_c_load8_sp(1, any, offset8)); /* c.fldsp */
		break;
	case 1:
		insn_emit16(program, insn_c_load4_sp(rd, offset4));
		break;
	case 2:
		insn_emit16(program, insn_c_load8_sp(3, rd, offset8)); /* c.ldsp */
		break;
	case 3:
		insn_emit16(program, insn_c_store8_sp(5, any, offset8)); /* c.fsdsp */
		break;
	case 4:
		insn_emit16(program, insn_c_store4_sp(any, offset4));
		break;
	default:
		insn_emit16(program, insn_c_store8_sp(7, any, offset8)); /* c.sdsp */
		break;
	}
}

/* Immediates that must not be zero get a one. */
static int64_t pick_nonzero(struct insn_program *program)
{
	int64_t imm = insn_pick_imm(program, 6);

	return imm ? imm : 1;
}

static void emit_full_register(struct insn_program *program)
{
	unsigned int rd = insn_pick_base(program), rs2 = 1 + insn_pick(program, 31);
	int64_t imm = insn_pick_imm(program, 6);

	switch (insn_pick(program, 7)) {
	case 0:
		insn_emit16(program, insn_ci(1, 0, rd, pick_nonzero(program))); /* c.addi */
		break;
	case 1:
		insn_emit16(program, insn_ci(1, 1, rd, imm)); /* c.addiw */
		break;
	case 2:
		insn_emit16(program, insn_ci(1, 2, rd, imm)); /* c.li */
		break;
	case 3:
		if (rd == SP)
			insn_emit16(program, insn_c_addi16sp(16 * pick_nonzero(program)));
		else
			insn_emit16(program, insn_ci(1, 3, rd, pick_nonzero(program))); /* c.lui */
		break;
	case 4:
		insn_emit16(program, insn_ci(2, 0, rd, 1 + insn_pick(program, 63))); /* c.slli */
		break;
	case 5:
		insn_emit16(program, insn_cr(8, rd, rs2)); /* c.mv */
		break;
	default:
		insn_emit16(program, insn_cr(9, rd, rs2)); /* c.add */
		break;
	}
}

static void emit_short_register(struct insn_program *program)
{
	unsigned int rd = insn_pick(program, 8), rs2 = insn_pick(program, 8);
	unsigned int funct2 = insn_pick(program, 4);

	switch (insn_pick(program, 5)) {
	case 0: /* c.srli, c.srai */
		insn_emit16(program, insn_cb_alu(funct2 & 1, rd, 1 + insn_pick(program, 63)));
		break;
	case 1:
		insn_emit16(program, insn_cb_alu(2, rd, insn_pick_imm(program, 6))); /* c.andi */
		break;
	case 2: /* c.sub, c.xor, c.or, c.and */
		insn_emit16(program, insn_ca(0, funct2, rd, rs2));
		break;
	case 3: /* c.subw, c.addw */
		insn_emit16(program, insn_ca(1, funct2 & 1, rd, rs2));
		break;
	default:
		insn_emit16(program, insn_c_addi4spn(rd, 4 * (1 + insn_pick(program, 255))));
		break;
	}
}

void insn_emit_compressed(struct insn_program *program)
{
	switch (insn_pick(program, 8)) {
	case 0:
		emit_memory(program);
		break;
	case 1:
		emit_stack_memory(program);
		break;
	case 2: /* c.nop */
		insn_emit16(program, 1);
		break;
	case 3:
	case 4:
		emit_short_register(program);
		break;
	default:
		emit_full_register(program);
		break;
	}
}
