/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random RV64GC user programs with a known end: straight pieces, forward branches, counted loops.
 *
 * A program loads all registers from its data, runs, stores them back, writes data (registers, fcsr
 * and scratch memory) to descriptor 1 and exits with 0: two system calls in Linux' numbering. It
 * depends on nothing but its image, so that every implementation must leave the same data.
 */
#ifndef VD_TESTS_VCPU_INSN_PROGRAM_H
#define VD_TESTS_VCPU_INSN_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "fp_reference.h"

#define INSN_BASE 0x100000u /* of the image, and the entry point */
#define INSN_CODE_BYTES 0x20000u
#define INSN_DATA_OFFSET INSN_CODE_BYTES
#define INSN_IMAGE_BYTES (INSN_CODE_BYTES + sizeof(struct insn_data))

#define INSN_SYS_WRITE 64
#define INSN_SYS_EXIT 93

/*
 * x31 points to the middle of scratch, x30 counts loops, x29 is a digest of results that later ones
 * overwrite, x28 is for making it: the items of a program write none of them.
 */
#define INSN_REG_DIGEST_INPUT 28
#define INSN_REG_DIGEST 29
#define INSN_REG_COUNTER 30
#define INSN_REG_SCRATCH 31
#define INSN_SCRATCH_BYTES 0x1000u

struct insn_data {
	uint64_t x[32];
	uint64_t f[32];
	uint64_t fcsr;
	uint64_t pad[63];
	uint8_t scratch[INSN_SCRATCH_BYTES];
};

struct insn_program {
	struct ref_random random;
	size_t code_bytes;
	size_t last_item; /* where the code of the last item begins */
	union {
		uint8_t image[INSN_IMAGE_BYTES];
		struct {
			uint8_t code[INSN_CODE_BYTES];
			struct insn_data data;
		};
	};
};

/* Bits of what a program may contain. */
enum insn_kind {
	INSN_INTEGER = 1,
	INSN_MEMORY = 2,
	INSN_ATOMIC = 4,
	INSN_FLOAT = 8,
	INSN_COMPRESSED = 16,
	INSN_CONTROL = 32,
	INSN_ALL = 63,
};

/* The program of a seed with fewer items is a prefix of that with more. */
void insn_program_generate(struct insn_program *program, uint64_t seed, unsigned int kinds,
			   unsigned int items);

/* For the parts of the generator. */
void insn_emit(struct insn_program *program, uint32_t insn);
void insn_emit16(struct insn_program *program, uint16_t insn);
unsigned int insn_pick(struct insn_program *program, unsigned int below);
/* A register an item may write: x0 included, or not; and any register. */
unsigned int insn_pick_rd(struct insn_program *program);
unsigned int insn_pick_base(struct insn_program *program);
unsigned int insn_pick_rs(struct insn_program *program);
int64_t insn_pick_imm(struct insn_program *program, unsigned int bits);
uint64_t insn_pick_value(struct insn_program *program);
void insn_emit_constant(struct insn_program *program, unsigned int rd, uint64_t value);

void insn_emit_integer(struct insn_program *program);
void insn_emit_memory(struct insn_program *program);
void insn_emit_atomic(struct insn_program *program);
void insn_emit_float(struct insn_program *program);
void insn_emit_compressed(struct insn_program *program);

#endif
