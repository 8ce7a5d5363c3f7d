/* SPDX-License-Identifier: BSD-2-Clause */
/* Encodings of RV64GC by format (unprivileged manual, "Base Instruction Formats", and "C"). */
#ifndef VD_TESTS_VCPU_INSN_ENCODE_H
#define VD_TESTS_VCPU_INSN_ENCODE_H

#include <stdint.h>

enum insn_opcode {
	INSN_LOAD = 0x03,
	INSN_LOAD_FP = 0x07,
	INSN_MISC_MEM = 0x0f,
	INSN_OP_IMM = 0x13,
	INSN_AUIPC = 0x17,
	INSN_OP_IMM_32 = 0x1b,
	INSN_STORE = 0x23,
	INSN_STORE_FP = 0x27,
	INSN_AMO = 0x2f,
	INSN_OP = 0x33,
	INSN_LUI = 0x37,
	INSN_OP_32 = 0x3b,
	INSN_MADD = 0x43,
	INSN_OP_FP = 0x53,
	INSN_BRANCH = 0x63,
	INSN_JALR = 0x67,
	INSN_JAL = 0x6f,
	INSN_SYSTEM = 0x73,
};

#define INSN_ECALL 0x00000073u

/* Bits high..low of a value, moved to bit @to. */
static inline uint32_t insn_bits(int64_t value, unsigned int high, unsigned int low,
				 unsigned int to)
{
	return (uint32_t)((uint64_t)value >> low & ((UINT64_C(1) << (high - low + 1)) - 1)) << to;
}

static inline uint32_t insn_r(unsigned int opcode, unsigned int funct3, unsigned int funct7,
			      unsigned int rd, unsigned int rs1, unsigned int rs2)
{
	return funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode;
}

static inline uint32_t insn_i(unsigned int opcode, unsigned int funct3, unsigned int rd,
			      unsigned int rs1, int64_t imm)
{
	return insn_bits(imm, 11, 0, 20) | rs1 << 15 | funct3 << 12 | rd << 7 | opcode;
}

static inline uint32_t insn_s(unsigned int opcode, unsigned int funct3, unsigned int rs1,
			      unsigned int rs2, int64_t imm)
{
	return insn_bits(imm, 11, 5, 25) | rs2 << 20 | rs1 << 15 | funct3 << 12 |
	       insn_bits(imm, 4, 0, 7) | opcode;
}

static inline uint32_t insn_b(unsigned int funct3, unsigned int rs1, unsigned int rs2, int64_t imm)
{
	return insn_bits(imm, 12, 12, 31) | insn_bits(imm, 10, 5, 25) | rs2 << 20 | rs1 << 15 |
	       funct3 << 12 | insn_bits(imm, 4, 1, 8) | insn_bits(imm, 11, 11, 7) | INSN_BRANCH;
}

static inline uint32_t insn_u(unsigned int opcode, unsigned int rd, int64_t imm)
{
	return insn_bits(imm, 31, 12, 12) | rd << 7 | opcode;
}

static inline uint32_t insn_j(unsigned int rd, int64_t imm)
{
	return insn_bits(imm, 20, 20, 31) | insn_bits(imm, 10, 1, 21) | insn_bits(imm, 11, 11, 20) |
	       insn_bits(imm, 19, 12, 12) | rd << 7 | INSN_JAL;
}

static inline uint32_t insn_r4(unsigned int opcode, unsigned int rm, unsigned int fmt,
			       unsigned int rd, unsigned int rs1, unsigned int rs2,
			       unsigned int rs3)
{
	return rs3 << 27 | fmt << 25 | rs2 << 20 | rs1 << 15 | rm << 12 | rd << 7 | opcode;
}

/* Compressed formats. A primed register is x8 to x15, given as 0 to 7. */

static inline uint16_t insn_ci(unsigned int op, unsigned int funct3, unsigned int rd, int64_t imm)
{
	return (uint16_t)(funct3 << 13 | insn_bits(imm, 5, 5, 12) | rd << 7 |
			  insn_bits(imm, 4, 0, 2) | op);
}

static inline uint16_t insn_cr(unsigned int funct4, unsigned int rd, unsigned int rs2)
{
	return (uint16_t)(funct4 << 12 | rd << 7 | rs2 << 2 | 2);
}

/* C.SRLI, C.SRAI, C.ANDI by funct2 0 to 2. */
static inline uint16_t insn_cb_alu(unsigned int funct2, unsigned int rd, int64_t imm)
{
	return (uint16_t)(4u << 13 | insn_bits(imm, 5, 5, 12) | funct2 << 10 | rd << 7 |
			  insn_bits(imm, 4, 0, 2) | 1);
}

/* C.SUB, C.XOR, C.OR, C.AND by funct2; with @word C.SUBW, C.ADDW. */
static inline uint16_t insn_ca(unsigned int word, unsigned int funct2, unsigned int rd,
			       unsigned int rs2)
{
	return (uint16_t)(4u << 13 | word << 12 | 3u << 10 | rd << 7 | funct2 << 5 | rs2 << 2 | 1);
}

/* Loads and stores of eight bytes, and of four. */
static inline uint16_t insn_c_mem8(unsigned int funct3, unsigned int reg, unsigned int base,
				   int64_t imm)
{
	return (uint16_t)(funct3 << 13 | insn_bits(imm, 5, 3, 10) | base << 7 |
			  insn_bits(imm, 7, 6, 5) | reg << 2);
}

static inline uint16_t insn_c_mem4(unsigned int funct3, unsigned int reg, unsigned int base,
				   int64_t imm)
{
	return (uint16_t)(funct3 << 13 | insn_bits(imm, 5, 3, 10) | base << 7 |
			  insn_bits(imm, 2, 2, 6) | insn_bits(imm, 6, 6, 5) | reg << 2);
}

static inline uint16_t insn_c_load8_sp(unsigned int funct3, unsigned int rd, int64_t imm)
{
	return (uint16_t)(funct3 << 13 | insn_bits(imm, 5, 5, 12) | rd << 7 |
			  insn_bits(imm, 4, 3, 5) | insn_bits(imm, 8, 6, 2) | 2);
}

static inline uint16_t insn_c_load4_sp(unsigned int rd, int64_t imm)
{
	return (uint16_t)(2u << 13 | insn_bits(imm, 5, 5, 12) | rd << 7 | insn_bits(imm, 4, 2, 4) |
			  insn_bits(imm, 7, 6, 2) | 2);
}

static inline uint16_t insn_c_store8_sp(unsigned int funct3, unsigned int rs2, int64_t imm)
{
	return (uint16_t)(funct3 << 13 | insn_bits(imm, 5, 3, 10) | insn_bits(imm, 8, 6, 7) |
			  rs2 << 2 | 2);
}

static inline uint16_t insn_c_store4_sp(unsigned int rs2, int64_t imm)
{
	return (uint16_t)(6u << 13 | insn_bits(imm, 5, 2, 9) | insn_bits(imm, 7, 6, 7) | rs2 << 2 |
			  2);
}

static inline uint16_t insn_c_addi4spn(unsigned int rd, int64_t imm)
{
	return (uint16_t)(insn_bits(imm, 5, 4, 11) | insn_bits(imm, 9, 6, 7) |
			  insn_bits(imm, 2, 2, 6) | insn_bits(imm, 3, 3, 5) | rd << 2);
}

static inline uint16_t insn_c_addi16sp(int64_t imm)
{
	return (uint16_t)(3u << 13 | insn_bits(imm, 9, 9, 12) | 2u << 7 | insn_bits(imm, 4, 4, 6) |
			  insn_bits(imm, 6, 6, 5) | insn_bits(imm, 8, 7, 3) |
			  insn_bits(imm, 5, 5, 2) | 1);
}

static inline uint16_t insn_c_j(int64_t imm)
{
	return (uint16_t)(5u << 13 | insn_bits(imm, 11, 11, 12) | insn_bits(imm, 4, 4, 11) |
			  insn_bits(imm, 9, 8, 9) | insn_bits(imm, 10, 10, 8) |
			  insn_bits(imm, 6, 6, 7) | insn_bits(imm, 7, 7, 6) |
			  insn_bits(imm, 3, 1, 3) | insn_bits(imm, 5, 5, 2) | 1);
}

/* C.BEQZ (funct3 6) and C.BNEZ (7). */
static inline uint16_t insn_c_branch(unsigned int funct3, unsigned int rs1, int64_t imm)
{
	return (uint16_t)(funct3 << 13 | insn_bits(imm, 8, 8, 12) | insn_bits(imm, 4, 3, 10) |
			  rs1 << 7 | insn_bits(imm, 7, 6, 5) | insn_bits(imm, 2, 1, 3) |
			  insn_bits(imm, 5, 5, 2) | 1);
}

#endif
