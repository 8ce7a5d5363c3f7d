/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Integer computation: RV64I and M (unprivileged manual, chapters "RV64I" and "M"). rs2 is in imm.
 */
#include "vcpu/riscv/op.h"

#define RS2 (h->x[op->imm])
#define IMM ((int64_t)op->imm)
#define WORD(value) ((uint64_t)(int64_t)(int32_t)(value))

#define COMPUTE(name, expression)                                                                  \
	OP(name, RD = (uint64_t)(expression); OP_NEXT();)

COMPUTE(lui, IMM)
COMPUTE(auipc, op_pc(h, op) + (uint64_t)IMM)

COMPUTE(addi, RS1 + (uint64_t)IMM)
COMPUTE(slti, (int64_t)RS1 < IMM)
COMPUTE(sltiu, RS1 < (uint64_t)IMM)
COMPUTE(xori, RS1 ^ (uint64_t)IMM)
COMPUTE(ori, RS1 | (uint64_t)IMM)
COMPUTE(andi, RS1 & (uint64_t)IMM)
COMPUTE(slli, RS1 << (IMM & 63))
COMPUTE(srli, RS1 >> (IMM & 63))
COMPUTE(srai, (int64_t)RS1 >> (IMM & 63))
COMPUTE(addiw, WORD(RS1 + (uint64_t)IMM))
COMPUTE(slliw, WORD((uint32_t)RS1 << (IMM & 31)))
COMPUTE(srliw, WORD((uint32_t)RS1 >> (IMM & 31)))
COMPUTE(sraiw, (int64_t)((int32_t)RS1 >> (IMM & 31)))

COMPUTE(add, RS1 + RS2)
COMPUTE(sub, RS1 - RS2)
COMPUTE(sll, RS1 << (RS2 & 63))
COMPUTE(slt, (int64_t)RS1 < (int64_t)RS2)
COMPUTE(sltu, RS1 < RS2)
COMPUTE(xor, RS1 ^ RS2)
COMPUTE(srl, RS1 >> (RS2 & 63))
COMPUTE(sra, (int64_t)RS1 >> (RS2 & 63))
COMPUTE(or, RS1 | RS2)
COMPUTE(and, RS1 & RS2)
COMPUTE(addw, WORD(RS1 + RS2))
COMPUTE(subw, WORD(RS1 - RS2))
COMPUTE(sllw, WORD((uint32_t)RS1 << (RS2 & 31)))
COMPUTE(srlw, WORD((uint32_t)RS1 >> (RS2 & 31)))
COMPUTE(sraw, (int64_t)((int32_t)RS1 >> (RS2 & 31)))

/* Division never traps: by zero gives all ones or the dividend, overflow the dividend or zero. */
static uint64_t divide(int64_t a, int64_t b)
{
	if (b == 0)
		return UINT64_MAX;
	return a == INT64_MIN && b == -1 ? (uint64_t)a : (uint64_t)(a / b);
}

static uint64_t remainder_of(int64_t a, int64_t b)
{
	if (b == 0)
		return (uint64_t)a;
	return b == -1 ? 0 : (uint64_t)(a % b);
}

static uint64_t divide_word(int32_t a, int32_t b)
{
	if (b == 0)
		return UINT64_MAX;
	return a == INT32_MIN && b == -1 ? WORD(a) : WORD(a / b);
}

static uint64_t remainder_word(int32_t a, int32_t b)
{
	if (b == 0)
		return WORD(a);
	return b == -1 ? 0 : WORD(a % b);
}

COMPUTE(mul, RS1 * RS2)
COMPUTE(mulh, (uint64_t)(((__int128)(int64_t)RS1 * (int64_t)RS2) >> 64))
COMPUTE(mulhsu, (uint64_t)(((__int128)(int64_t)RS1 * (__int128)RS2) >> 64))
COMPUTE(mulhu, (uint64_t)(((unsigned __int128)RS1 * RS2) >> 64))
COMPUTE(div, divide((int64_t)RS1, (int64_t)RS2))
COMPUTE(divu, RS2 ? RS1 / RS2 : UINT64_MAX)
COMPUTE(rem, remainder_of((int64_t)RS1, (int64_t)RS2))
COMPUTE(remu, RS2 ? RS1 % RS2 : RS1)
COMPUTE(mulw, WORD((uint32_t)RS1 * (uint32_t)RS2))
COMPUTE(divw, divide_word((int32_t)RS1, (int32_t)RS2))
COMPUTE(divuw, (uint32_t)RS2 ? WORD((uint32_t)RS1 / (uint32_t)RS2) : UINT64_MAX)
COMPUTE(remw, remainder_word((int32_t)RS1, (int32_t)RS2))
COMPUTE(remuw, (uint32_t)RS2 ? WORD((uint32_t)RS1 % (uint32_t)RS2) : WORD(RS1))
