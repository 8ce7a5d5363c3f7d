/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine of one hart and RAM, for a few instructions at a time: no kernel, no interrupts, user
 * mode with guest physical addresses. Any system call ends the program.
 */
#ifndef CLI_BENCH_MACHINE_H
#define CLI_BENCH_MACHINE_H

#include <viaduct/vcpu.h>

#define BENCH_RAM 0x80000000ull
#define BENCH_RAM_SIZE (4ull << 20)
#define BENCH_DATA (BENCH_RAM + (2ull << 20)) /* programs may use what is behind it */

struct bench_machine {
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	struct vd_hart_group *group;
	struct vd_mmu *mmu;
	struct vd_hart *hart;
};

/* On failure nothing is left behind. */
int bench_machine_create(struct bench_machine *machine, struct vd_error *error);
void bench_machine_destroy(struct bench_machine *machine);
/* bench_machine_load() - the program that runs from now on */
int bench_machine_load(struct bench_machine *machine, const uint32_t *code, size_t bytes,
		       struct vd_error *error);
/*
 * bench_machine_run() - from the start of the program to its system call
 * @a0, @a1: what it finds in these registers; the others are 0
 */
void bench_machine_run(struct bench_machine *machine, uint64_t a0, uint64_t a1);

/* Instructions of the programs, by their names in the manual. */
enum { X0 = 0, RA = 1, T0 = 5, T1, T2, S0, S1, A0, A1, A2, A3, A4, A5, A6, A7 };

#define BENCH_R(funct7, funct3, rd, rs1, rs2)                                                      \
	((uint32_t)(funct7) << 25 | (rs2) << 20 | (rs1) << 15 | (funct3) << 12 | (rd) << 7 | 0x33)
#define BENCH_I(opcode, funct3, rd, rs1, imm)                                                      \
	(((uint32_t)(imm) & 0xfff) << 20 | (rs1) << 15 | (funct3) << 12 | (rd) << 7 | (opcode))
#define BENCH_J(imm)                                                                               \
	(((uint32_t)(imm) & 0x100000) << 11 | ((uint32_t)(imm) & 0x7fe) << 20 |                    \
	 ((uint32_t)(imm) & 0x800) << 9 | ((uint32_t)(imm) & 0xff000))

#define ADD(rd, rs1, rs2) BENCH_R(0, 0, rd, rs1, rs2)
#define SUB(rd, rs1, rs2) BENCH_R(32, 0, rd, rs1, rs2)
#define SLTU(rd, rs1, rs2) BENCH_R(0, 3, rd, rs1, rs2)
#define XOR(rd, rs1, rs2) BENCH_R(0, 4, rd, rs1, rs2)
#define OR(rd, rs1, rs2) BENCH_R(0, 6, rd, rs1, rs2)
#define AND(rd, rs1, rs2) BENCH_R(0, 7, rd, rs1, rs2)
#define MUL(rd, rs1, rs2) BENCH_R(1, 0, rd, rs1, rs2)
#define ADDI(rd, rs1, imm) BENCH_I(0x13, 0, rd, rs1, imm)
#define SLLI(rd, rs1, shift) BENCH_I(0x13, 1, rd, rs1, shift)
#define SRLI(rd, rs1, shift) BENCH_I(0x13, 5, rd, rs1, shift)
#define ADDIW(rd, rs1, imm) BENCH_I(0x1b, 0, rd, rs1, imm)
#define LW(rd, imm, rs1) BENCH_I(0x03, 2, rd, rs1, imm)
#define LD(rd, imm, rs1) BENCH_I(0x03, 3, rd, rs1, imm)
#define SD(rs2, imm, rs1)                                                                          \
	(((uint32_t)(imm) & 0xfe0) << 20 | (rs2) << 20 | (rs1) << 15 | 3 << 12 |                   \
	 ((uint32_t)(imm) & 0x1f) << 7 | 0x23)
#define LUI(rd, imm) ((uint32_t)(imm) << 12 | (rd) << 7 | 0x37)
#define BNE(rs1, rs2, imm)                                                                         \
	(((uint32_t)(imm) & 0x1000) << 19 | ((uint32_t)(imm) & 0x7e0) << 20 | (rs2) << 20 |        \
	 (rs1) << 15 | 1 << 12 | ((uint32_t)(imm) & 0x1e) << 7 | ((uint32_t)(imm) & 0x800) >> 4 |  \
	 0x63)
#define BNEZ(rs1, imm) BNE(rs1, X0, imm)
#define JAL(rd, imm) (BENCH_J(imm) | (rd) << 7 | 0x6f)
#define RET BENCH_I(0x67, 0, X0, RA, 0)
#define ECALL 0x73u

#endif
