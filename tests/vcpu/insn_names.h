/* SPDX-License-Identifier: BSD-2-Clause */
/* Instructions by the names that an assembler gives them, for programs written down in tests. */
#ifndef VD_TESTS_VCPU_INSN_NAMES_H
#define VD_TESTS_VCPU_INSN_NAMES_H

#include "insn_encode.h"

#define ADDI(rd, rs, imm) insn_i(INSN_OP_IMM, 0, rd, rs, imm)
#define SLLI(rd, rs, by) insn_i(INSN_OP_IMM, 1, rd, rs, by)
#define ANDI(rd, rs, imm) insn_i(INSN_OP_IMM, 7, rd, rs, imm)
#define ADD(rd, rs1, rs2) insn_r(INSN_OP, 0, 0, rd, rs1, rs2)
#define LUI(rd, imm) insn_u(INSN_LUI, rd, imm)
#define LB(rd, rs, imm) insn_i(INSN_LOAD, 0, rd, rs, imm)
#define LH(rd, rs, imm) insn_i(INSN_LOAD, 1, rd, rs, imm)
#define LW(rd, rs, imm) insn_i(INSN_LOAD, 2, rd, rs, imm)
#define LD(rd, rs, imm) insn_i(INSN_LOAD, 3, rd, rs, imm)
#define LBU(rd, rs, imm) insn_i(INSN_LOAD, 4, rd, rs, imm)
#define LHU(rd, rs, imm) insn_i(INSN_LOAD, 5, rd, rs, imm)
#define LWU(rd, rs, imm) insn_i(INSN_LOAD, 6, rd, rs, imm)
#define SB(rs2, rs1, imm) insn_s(INSN_STORE, 0, rs1, rs2, imm)
#define SH(rs2, rs1, imm) insn_s(INSN_STORE, 1, rs1, rs2, imm)
#define SW(rs2, rs1, imm) insn_s(INSN_STORE, 2, rs1, rs2, imm)
#define SD(rs2, rs1, imm) insn_s(INSN_STORE, 3, rs1, rs2, imm)
#define BEQ(rs1, rs2, by) insn_b(0, rs1, rs2, by)
#define BNE(rs1, rs2, by) insn_b(1, rs1, rs2, by)
#define BLTU(rs1, rs2, by) insn_b(6, rs1, rs2, by)
#define JAL(rd, by) insn_j(rd, by)
#define JALR(rd, rs, imm) insn_i(INSN_JALR, 0, rd, rs, imm)
#define CSRRW(rd, csr, rs) insn_i(INSN_SYSTEM, 1, rd, rs, csr)
#define CSRRS(rd, csr, rs) insn_i(INSN_SYSTEM, 2, rd, rs, csr)
#define CSRRC(rd, csr, rs) insn_i(INSN_SYSTEM, 3, rd, rs, csr)
#define CSRW(csr, rs) CSRRW(0, csr, rs)
#define CSRR(rd, csr) CSRRS(rd, csr, 0)
#define CSRS(csr, rs) CSRRS(0, csr, rs)
#define CSRC(csr, rs) CSRRC(0, csr, rs)
#define AMOADD_D(rd, rs1, rs2) insn_r(INSN_AMO, 3, 0, rd, rs1, rs2)
#define SFENCE_VMA(rs1) insn_r(INSN_SYSTEM, 0, 9, 0, rs1, 0)
#define FENCE_I 0x0000100fu
#define WFI 0x10500073u
#define SRET 0x10200073u
#define ECALL INSN_ECALL
#define NOP ADDI(0, 0, 0)

#endif
