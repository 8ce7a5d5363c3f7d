/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * C extension: each 16-bit instruction as the 32-bit one it stands for (unprivileged manual, "C",
 * RV64 tables).
 */
#include "vcpu/riscv/op.h"

static uint32_t field(uint32_t c, unsigned from, unsigned count, unsigned to)
{
	return ((c >> from) & ((1u << count) - 1)) << to;
}

static int32_t sign_extend(uint32_t value, unsigned width)
{
	return (int32_t)(value << (32 - width)) >> (32 - width);
}

static uint32_t i_type(int32_t imm, unsigned rs1, unsigned funct3, unsigned rd, unsigned opcode)
{
	return (uint32_t)imm << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode;
}

static uint32_t s_type(uint32_t imm, unsigned rs2, unsigned rs1, unsigned funct3, unsigned opcode)
{
	return (imm >> 5) << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | (imm & 31) << 7 | opcode;
}

static uint32_t r_type(unsigned funct7, unsigned rs2, unsigned rs1, unsigned funct3, unsigned rd,
		       unsigned opcode)
{
	return funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode;
}

static uint32_t branch(int32_t imm, unsigned rs1, unsigned funct3)
{
	uint32_t i = (uint32_t)imm;

	return field(i, 12, 1, 31) | field(i, 5, 6, 25) | rs1 << 15 | funct3 << 12 |
	       field(i, 1, 4, 8) | field(i, 11, 1, 7) | 0x63;
}

static uint32_t jump(int32_t imm, unsigned rd)
{
	uint32_t i = (uint32_t)imm;

	return field(i, 20, 1, 31) | field(i, 1, 10, 21) | field(i, 11, 1, 20) |
	       field(i, 12, 8, 12) | rd << 7 | 0x6f;
}

static uint32_t offset_d(uint32_t c) /* CL/CS form, doubles */
{
	return field(c, 10, 3, 3) | field(c, 5, 2, 6);
}

static uint32_t offset_w(uint32_t c)
{
	return field(c, 10, 3, 3) | field(c, 6, 1, 2) | field(c, 5, 1, 6);
}

static uint32_t quadrant_0(uint32_t c)
{
	unsigned rd = 8 + field(c, 2, 3, 0), rs1 = 8 + field(c, 7, 3, 0);
	uint32_t wide = field(c, 11, 2, 4) | field(c, 7, 4, 6) | field(c, 6, 1, 2) |
			field(c, 5, 1, 3);

	switch (c >> 13) {
	case 0:
		return wide ? i_type((int32_t)wide, 2, 0, rd, 0x13) : 0;
	case 1:
		return i_type((int32_t)offset_d(c), rs1, 3, rd, 0x07);
	case 2:
		return i_type((int32_t)offset_w(c), rs1, 2, rd, 0x03);
	case 3:
		return i_type((int32_t)offset_d(c), rs1, 3, rd, 0x03);
	case 5:
		return s_type(offset_d(c), rd, rs1, 3, 0x27);
	case 6:
		return s_type(offset_w(c), rd, rs1, 2, 0x23);
	case 7:
		return s_type(offset_d(c), rd, rs1, 3, 0x23);
	default:
		return 0;
	}
}

static uint32_t arithmetic(uint32_t c, int32_t imm)
{
	static const struct { uint8_t funct7, funct3, opcode; } forms[8] = {
		{0x20, 0, 0x33}, {0, 4, 0x33}, {0, 6, 0x33}, {0, 7, 0x33},
		{0x20, 0, 0x3b}, {0, 0, 0x3b}, {0, 0, 0}, {0, 0, 0},
	};
	unsigned rd = 8 + field(c, 7, 3, 0), rs2 = 8 + field(c, 2, 3, 0);
	unsigned form = field(c, 12, 1, 2) | field(c, 5, 2, 0);

	switch (field(c, 10, 2, 0)) {
	case 0:
		return i_type(imm & 63, rd, 5, rd, 0x13);
	case 1:
		return i_type((imm & 63) | 0x400, rd, 5, rd, 0x13);
	case 2:
		return i_type(imm, rd, 7, rd, 0x13);
	default:
		if (!forms[form].opcode)
			return 0;
		return r_type(forms[form].funct7, rs2, rd, forms[form].funct3, rd,
			      forms[form].opcode);
	}
}

static uint32_t quadrant_1(uint32_t c)
{
	unsigned rd = field(c, 7, 5, 0);
	int32_t imm = sign_extend(field(c, 12, 1, 5) | field(c, 2, 5, 0), 6);
	int32_t sixteen = sign_extend(field(c, 12, 1, 9) | field(c, 6, 1, 4) | field(c, 5, 1, 6) |
				      field(c, 3, 2, 7) | field(c, 2, 1, 5), 10);
	int32_t far = sign_extend(field(c, 12, 1, 11) | field(c, 11, 1, 4) | field(c, 9, 2, 8) |
				  field(c, 8, 1, 10) | field(c, 7, 1, 6) | field(c, 6, 1, 7) |
				  field(c, 3, 3, 1) | field(c, 2, 1, 5), 12);
	int32_t near = sign_extend(field(c, 12, 1, 8) | field(c, 10, 2, 3) | field(c, 5, 2, 6) |
				   field(c, 3, 2, 1) | field(c, 2, 1, 5), 9);

	switch (c >> 13) {
	case 0:
		return i_type(imm, rd, 0, rd, 0x13);
	case 1:
		return rd ? i_type(imm, rd, 0, rd, 0x1b) : 0;
	case 2:
		return i_type(imm, 0, 0, rd, 0x13);
	case 3:
		if (rd == 2)
			return sixteen ? i_type(sixteen, 2, 0, 2, 0x13) : 0;
		return imm ? (uint32_t)imm << 12 | rd << 7 | 0x37 : 0;
	case 4:
		return arithmetic(c, imm);
	case 5:
		return jump(far, 0);
	default:
		return branch(near, 8 + field(c, 7, 3, 0), (c >> 13) & 1);
	}
}

static uint32_t quadrant_2(uint32_t c)
{
	unsigned rd = field(c, 7, 5, 0), rs2 = field(c, 2, 5, 0);
	int32_t shift = (int32_t)(field(c, 12, 1, 5) | field(c, 2, 5, 0));
	int32_t load_d = (int32_t)(field(c, 12, 1, 5) | field(c, 5, 2, 3) | field(c, 2, 3, 6));
	int32_t load_w = (int32_t)(field(c, 12, 1, 5) | field(c, 4, 3, 2) | field(c, 2, 2, 6));
	uint32_t store_d = field(c, 10, 3, 3) | field(c, 7, 3, 6);
	uint32_t store_w = field(c, 9, 4, 2) | field(c, 7, 2, 6);

	switch (c >> 13) {
	case 0:
		return i_type(shift, rd, 1, rd, 0x13);
	case 1:
		return i_type(load_d, 2, 3, rd, 0x07);
	case 2:
		return rd ? i_type(load_w, 2, 2, rd, 0x03) : 0;
	case 3:
		return rd ? i_type(load_d, 2, 3, rd, 0x03) : 0;
	case 4:
		if (rs2) /* c.mv, c.add */
			return r_type(0, rs2, c & 0x1000 ? rd : 0, 0, rd, 0x33);
		if (rd) /* c.jr, c.jalr */
			return i_type(0, rd, 0, c & 0x1000 ? 1 : 0, 0x67);
		return c & 0x1000 ? 0x00100073 : 0;
	case 5:
		return s_type(store_d, rs2, 2, 3, 0x27);
	case 6:
		return s_type(store_w, rs2, 2, 2, 0x23);
	default:
		return s_type(store_d, rs2, 2, 3, 0x23);
	}
}

/* Return: the 32-bit instruction, or 0 (itself illegal) if there is none. */
uint32_t vd_expand_compressed(uint16_t insn)
{
	switch (insn & 3) {
	case 0:
		return quadrant_0(insn);
	case 1:
		return quadrant_1(insn);
	case 2:
		return quadrant_2(insn);
	default:
		return 0;
	}
}
