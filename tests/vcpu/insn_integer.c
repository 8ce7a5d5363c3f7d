/* SPDX-License-Identifier: BSD-2-Clause */
/* Generators: RV64I and M arithmetic, loads and stores, A. */
#include "insn_encode.h"
#include "insn_program.h"

static void emit_register_register(struct insn_program *program)
{
	static const struct {
		unsigned int opcode, funct3, funct7;
	} forms[] = {
		{ INSN_OP, 0, 0 },    { INSN_OP, 0, 0x20 },    { INSN_OP, 1, 0 },
		{ INSN_OP, 2, 0 },    { INSN_OP, 3, 0 },       { INSN_OP, 4, 0 },
		{ INSN_OP, 5, 0 },    { INSN_OP, 5, 0x20 },    { INSN_OP, 6, 0 },
		{ INSN_OP, 7, 0 },    { INSN_OP_32, 0, 0 },    { INSN_OP_32, 0, 0x20 },
		{ INSN_OP_32, 1, 0 }, { INSN_OP_32, 5, 0 },    { INSN_OP_32, 5, 0x20 },
		/* M */
		{ INSN_OP, 0, 1 },    { INSN_OP, 1, 1 },       { INSN_OP, 2, 1 },
		{ INSN_OP, 3, 1 },    { INSN_OP, 4, 1 },       { INSN_OP, 5, 1 },
		{ INSN_OP, 6, 1 },    { INSN_OP, 7, 1 },       { INSN_OP_32, 0, 1 },
		{ INSN_OP_32, 4, 1 }, { INSN_OP_32, 5, 1 },    { INSN_OP_32, 6, 1 },
		{ INSN_OP_32, 7, 1 },
	};
	unsigned int form = insn_pick(program, sizeof(forms) / sizeof(forms[0]));
	unsigned int rs1 = insn_pick_rs(program);
	unsigned int rs2 = insn_pick_rs(program);

	insn_emit(program, insn_r(forms[form].opcode, forms[form].funct3, forms[form].funct7,
				  insn_pick_rd(program), rs1, rs2));
}

static void emit_register_immediate(struct insn_program *program)
{
	static const unsigned int funct3[] = { 0, 2, 3, 4, 6, 7 };
	unsigned int rd = insn_pick_rd(program), rs1 = insn_pick_rs(program);
	unsigned int right = insn_pick(program, 2), arithmetic = insn_pick(program, 2) & right;
	unsigned int shift = insn_pick(program, 64) | arithmetic << 10;
	int64_t imm = insn_pick_imm(program, 12);

	switch (insn_pick(program, 5)) {
	case 0:
		insn_emit(program, insn_i(INSN_OP_IMM, right ? 5 : 1, rd, rs1, shift));
		break;
	case 1:
		insn_emit(program, insn_i(INSN_OP_IMM_32, right ? 5 : 1, rd, rs1, shift & ~32u));
		break;
	case 2:
		insn_emit(program, insn_i(INSN_OP_IMM_32, 0, rd, rs1, imm));
		break;
	default:
		insn_emit(program,
			  insn_i(INSN_OP_IMM, funct3[insn_pick(program, 6)], rd, rs1, imm));
		break;
	}
}

void insn_emit_integer(struct insn_program *program)
{
	unsigned int rd = insn_pick_rd(program);

	switch (insn_pick(program, 10)) {
	case 0:
		insn_emit_constant(program, rd, insn_pick_value(program));
		break;
	case 1:
		insn_emit(program, insn_u(insn_pick(program, 2) ? INSN_LUI : INSN_AUIPC, rd,
					  insn_pick_imm(program, 32)));
		break;
	case 2:
	case 3:
	case 4:
		emit_register_immediate(program);
		break;
	default:
		emit_register_register(program);
		break;
	}
}

/* Any alignment; all of an access within scratch. */
void insn_emit_memory(struct insn_program *program)
{
	unsigned int base = INSN_REG_SCRATCH;
	int64_t offset = insn_pick_imm(program, 12);
	unsigned int what = insn_pick(program, 16);
	unsigned int rs2 = insn_pick_rs(program);

	if (offset > 2040)
		offset -= 8;
	if (insn_pick(program, 2))
		offset &= ~INT64_C(7);
	if (insn_pick(program, 3) == 0) {
		/* Through another register, with the offset split in two. */
		int64_t part = insn_pick_imm(program, 11);

		if (offset - part >= -2048 && offset - part < 2048) {
			base = insn_pick_base(program);
			insn_emit(program,
				  insn_i(INSN_OP_IMM, 0, base, INSN_REG_SCRATCH, offset - part));
			offset = part;
		}
	}
	switch (what) {
	case 0:
	case 1:
	case 2:
	case 3:
		insn_emit(program, insn_s(INSN_STORE, what, base, rs2, offset));
		break;
	case 4:
	case 5:
		insn_emit(program, insn_s(INSN_STORE_FP, what - 2, base, rs2, offset));
		break;
	case 6:
	case 7:
		insn_emit(program, insn_i(INSN_LOAD_FP, what - 4, rs2, base, offset));
		break;
	case 8: /* fence rw, rw */
		insn_emit(program, insn_i(INSN_MISC_MEM, 0, 0, 0, 0x33));
		break;
	default: /* lb, lh, lw, ld, lbu, lhu, lwu */
		insn_emit(program,
			  insn_i(INSN_LOAD, what - 9, insn_pick_rd(program), base, offset));
		break;
	}
}

/* Four different registers of those that may be written. */
static void pick_distinct(struct insn_program *program, unsigned int reg[4])
{
	for (unsigned int i = 0; i < 4; i++) {
		unsigned int j;

		do {
			reg[i] = insn_pick_base(program);
			for (j = 0; j < i && reg[j] != reg[i]; j++)
				;
		} while (j < i);
	}
}

/* A store-conditional may fail for no reason, so it is tried until it does not. */
static void emit_reserved(struct insn_program *program, unsigned int width, unsigned int aq_rl)
{
	unsigned int reg[4];
	int64_t offset;

	pick_distinct(program, reg);
	offset = (int64_t)insn_pick(program, INSN_SCRATCH_BYTES / 8) * 8 - 2048;
	insn_emit(program, insn_i(INSN_OP_IMM, 0, reg[0], INSN_REG_SCRATCH, offset));
	insn_emit(program, insn_r(INSN_AMO, width, 2u << 2 | aq_rl, reg[1], reg[0], 0));
	insn_emit(program,
		  insn_r(INSN_OP, insn_pick(program, 2) ? 4 : 0, 0, reg[2], reg[1], reg[1]));
	insn_emit(program, insn_i(INSN_OP_IMM, 0, reg[2], reg[2], insn_pick_imm(program, 12)));
	insn_emit(program, insn_r(INSN_AMO, width, 3u << 2 | aq_rl, reg[3], reg[0], reg[2]));
	insn_emit(program, insn_b(1, reg[3], 0, -16));
	/* The reservation is used up: this one fails, and stores nothing. */
	if (insn_pick(program, 2))
		insn_emit(program,
			  insn_r(INSN_AMO, width, 3u << 2 | aq_rl, reg[3], reg[0], reg[1]));
}

void insn_emit_atomic(struct insn_program *program)
{
	/* amoadd, amoswap, amoxor, amoor, amoand, amomin, amomax, amominu, amomaxu */
	static const unsigned int funct5[] = { 0, 1, 4, 8, 12, 16, 20, 24, 28 };
	unsigned int width = 2 + insn_pick(program, 2);
	unsigned int aq_rl = insn_pick(program, 4);
	unsigned int base = insn_pick_base(program);
	unsigned int count = INSN_SCRATCH_BYTES >> width;
	int64_t offset = (int64_t)(insn_pick(program, count) << width) - 2048;
	unsigned int rs2 = insn_pick_rs(program), op = insn_pick(program, 9);

	if (insn_pick(program, 4) == 0) {
		emit_reserved(program, width, aq_rl);
		return;
	}
	insn_emit(program, insn_i(INSN_OP_IMM, 0, base, INSN_REG_SCRATCH, offset));
	insn_emit(program, insn_r(INSN_AMO, width, funct5[op] << 2 | aq_rl, insn_pick_rd(program),
				  base, rs2));
}
