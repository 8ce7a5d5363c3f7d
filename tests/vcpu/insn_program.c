/* SPDX-License-Identifier: BSD-2-Clause */
#include "insn_program.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "insn_encode.h"

static const struct {
	unsigned int kind;
	unsigned int weight;
	void (*emit)(struct insn_program *program);
} items_of[] = {
	{ INSN_INTEGER, 5, insn_emit_integer },
	{ INSN_MEMORY, 4, insn_emit_memory },
	{ INSN_ATOMIC, 1, insn_emit_atomic },
	{ INSN_FLOAT, 5, insn_emit_float },
	{ INSN_COMPRESSED, 4, insn_emit_compressed },
};

#define KINDS_OF_ITEMS (sizeof(items_of) / sizeof(items_of[0]))

static void put(struct insn_program *program, size_t at, uint32_t insn, size_t bytes)
{
	assert(at + bytes <= INSN_CODE_BYTES);
	for (size_t i = 0; i < bytes; i++)
		program->code[at + i] = (uint8_t)(insn >> (8 * i));
}

void insn_emit(struct insn_program *program, uint32_t insn)
{
	put(program, program->code_bytes, insn, 4);
	program->code_bytes += 4;
}

void insn_emit16(struct insn_program *program, uint16_t insn)
{
	put(program, program->code_bytes, insn, 2);
	program->code_bytes += 2;
}

unsigned int insn_pick(struct insn_program *program, unsigned int below)
{
	return (unsigned int)((ref_random_next(&program->random) >> 32) % below);
}

unsigned int insn_pick_rd(struct insn_program *program)
{
	return insn_pick(program, INSN_REG_DIGEST_INPUT);
}

unsigned int insn_pick_base(struct insn_program *program)
{
	return 1 + insn_pick(program, INSN_REG_DIGEST_INPUT - 1);
}

unsigned int insn_pick_rs(struct insn_program *program)
{
	return insn_pick(program, 32);
}

int64_t insn_pick_imm(struct insn_program *program, unsigned int bits)
{
	uint64_t value = ref_random_next(&program->random);

	return (int64_t)(value << (64 - bits)) >> (64 - bits);
}

uint64_t insn_pick_value(struct insn_program *program)
{
	uint64_t value = ref_random_next(&program->random);

	switch (insn_pick(program, 8)) {
	case 0:
		return (uint64_t)insn_pick_imm(program, 8);
	case 1: /* powers of two and their neighbours */
		return (UINT64_C(1) << value % 64) + (uint64_t)insn_pick_imm(program, 2);
	case 2:
		return (uint64_t)(int32_t)value;
	case 3:
		return (uint32_t)value;
	case 4:
		return ref_random_operand(&program->random, &ref_double);
	case 5:
		return UINT64_C(0xffffffff00000000) |
		       ref_random_operand(&program->random, &ref_single);
	case 6:
		return value >> value % 64;
	default:
		return value;
	}
}

void insn_emit_constant(struct insn_program *program, unsigned int rd, uint64_t value)
{
	int64_t low = (int64_t)(value << 52) >> 52;
	uint64_t high = value - (uint64_t)low;

	if (rd == 0)
		return;
	if (high + 0x80000000u <= UINT32_MAX) {
		insn_emit(program, insn_u(INSN_LUI, rd, (int64_t)high));
		insn_emit(program, insn_i(INSN_OP_IMM_32, 0, rd, rd, low));
		if ((uint64_t)(int32_t)value == value)
			return;
		program->code_bytes -= 8;
	}
	insn_emit_constant(program, rd, (uint64_t)((int64_t)high >> 12));
	insn_emit(program, insn_i(INSN_OP_IMM, 1, rd, rd, 12));
	insn_emit(program, insn_i(INSN_OP_IMM, 0, rd, rd, low));
}

/* Whether a 32-bit instruction writes an FP register. */
static bool writes_float(uint32_t insn)
{
	unsigned int funct5 = insn >> 27;

	switch (insn & 0x7f) {
	case INSN_LOAD_FP:
	case INSN_MADD:
	case INSN_MADD + 4:
	case INSN_MADD + 8:
	case INSN_MADD + 12:
		return true;
	case INSN_OP_FP:
		return funct5 != 0x14 && funct5 != 0x18 && funct5 != 0x1c;
	default:
		return false;
	}
}

/*
 * Mix what the last instruction gave into the digest. For stores, branches and compressed
 * instructions the bits taken for rd mean something else; then any register is as good.
 */
static void emit_digest(struct insn_program *program, unsigned int kinds)
{
	const unsigned int digest = INSN_REG_DIGEST, input = INSN_REG_DIGEST_INPUT;
	const uint8_t *last = &program->code[program->code_bytes - 4];
	uint32_t insn = last[0] | last[1] << 8 | last[2] << 16 | (uint32_t)last[3] << 24;
	unsigned int rd = insn >> 7 & 31;

	if (kinds & INSN_FLOAT && insn_pick(program, 4) == 0)
		insn_emit(program, insn_i(INSN_SYSTEM, 1, input, 0, 1)); /* fsflags input, zero */
	else if (writes_float(insn))
		insn_emit(program, insn_r(INSN_OP_FP, 0, 0x71, input, rd, 0)); /* fmv.x.d */
	else
		insn_emit(program, insn_i(INSN_OP_IMM, 0, input, rd, 0));
	insn_emit(program, insn_r(INSN_OP, 0, 0, input, input, digest));
	insn_emit(program, insn_i(INSN_OP_IMM, 1, digest, digest, 7));
	insn_emit(program, insn_r(INSN_OP, 4, 0, digest, digest, input));
}

static void emit_simple(struct insn_program *program, unsigned int kinds)
{
	unsigned int total = 0, choice;
	size_t i;

	for (i = 0; i < KINDS_OF_ITEMS; i++)
		total += kinds & items_of[i].kind ? items_of[i].weight : 0;
	choice = insn_pick(program, total);
	for (i = 0; i < KINDS_OF_ITEMS; i++) {
		if (!(kinds & items_of[i].kind))
			continue;
		if (choice < items_of[i].weight)
			break;
		choice -= items_of[i].weight;
	}
	items_of[i].emit(program);
	emit_digest(program, kinds);
}

static void emit_body(struct insn_program *program, unsigned int kinds)
{
	unsigned int items = insn_pick(program, 4);

	for (unsigned int i = 0; i < items; i++)
		emit_simple(program, kinds);
}

/* A jump or branch over a body that is sometimes skipped; all forms, compressed if allowed. */
static void emit_forward(struct insn_program *program, unsigned int kinds)
{
	static const unsigned int conditions[] = { 0, 1, 4, 5, 6, 7 };
	unsigned int form = insn_pick(program, kinds & INSN_COMPRESSED ? 7 : 4);
	unsigned int rs1 = insn_pick_rs(program), rs2 = insn_pick_rs(program);
	unsigned int link = insn_pick_rd(program), base = insn_pick_base(program);
	unsigned int odd = insn_pick(program, 2);
	size_t at, start = program->code_bytes;
	int64_t distance;

	if (form == 2 || form == 6) {
		insn_emit(program, insn_u(INSN_AUIPC, base, 0));
		if (form == 6) /* c.jr has no offset */
			insn_emit(program, 0);
	}
	at = program->code_bytes;
	if (form < 4)
		insn_emit(program, 0);
	else
		insn_emit16(program, 0);
	emit_body(program, kinds);
	distance = (int64_t)(program->code_bytes - at);
	switch (form) {
	case 0:
	case 3:
		put(program, at, insn_b(conditions[insn_pick(program, 6)], rs1, rs2, distance), 4);
		break;
	case 1:
		put(program, at, insn_j(link, distance), 4);
		break;
	case 2: /* jalr ignores the lowest bit of the sum */
		distance = (int64_t)(program->code_bytes - start);
		put(program, at, insn_i(INSN_JALR, 0, link, base, distance | odd), 4);
		break;
	case 4:
		put(program, at, insn_c_j(distance), 2);
		break;
	case 5: /* reaches 254 bytes; c.j reaches 2 KiB */
		put(program, at, distance < 256 ? insn_c_branch(6 + odd, rs1 & 7, distance) :
						  insn_c_j(distance), 2);
		break;
	default: /* c.jr or c.jalr */
		distance = (int64_t)(program->code_bytes - start);
		put(program, at - 4, insn_i(INSN_OP_IMM, 0, base, base, distance), 4);
		put(program, at, insn_cr(8 + odd, base, 0), 2);
		break;
	}
}

/* Bodies run several times, so that they are met again in whatever caches decoded code. */
static void emit_loop(struct insn_program *program, unsigned int kinds)
{
	size_t start;

	insn_emit(program, insn_i(INSN_OP_IMM, 0, INSN_REG_COUNTER, 0, 1 + insn_pick(program, 20)));
	start = program->code_bytes;
	emit_body(program, kinds);
	emit_forward(program, kinds);
	emit_body(program, kinds);
	insn_emit(program, insn_i(INSN_OP_IMM, 0, INSN_REG_COUNTER, INSN_REG_COUNTER, -1));
	insn_emit(program, insn_b(1, INSN_REG_COUNTER, 0,
				  (int64_t)start - (int64_t)program->code_bytes));
}

static void emit_prologue(struct insn_program *program)
{
	const uint32_t data = INSN_BASE + INSN_DATA_OFFSET;
	const uint32_t middle = data + offsetof(struct insn_data, scratch) + INSN_SCRATCH_BYTES / 2;
	unsigned int base = INSN_REG_SCRATCH;

	insn_emit_constant(program, base, data);
	for (unsigned int i = 0; i < 32; i++)
		insn_emit(program, insn_i(INSN_LOAD_FP, 3, i, base,
					  (int64_t)(offsetof(struct insn_data, f) + 8 * i)));
	for (unsigned int i = 1; i < base; i++)
		insn_emit(program, insn_i(INSN_LOAD, 3, i, base, 8 * i));
	insn_emit_constant(program, base, middle);
}

static void emit_epilogue(struct insn_program *program)
{
	const uint32_t data = INSN_BASE + INSN_DATA_OFFSET;
	unsigned int base = INSN_REG_SCRATCH;

	insn_emit_constant(program, base, data);
	for (unsigned int i = 1; i < 32; i++)
		insn_emit(program, insn_s(INSN_STORE, 3, base, i, 8 * i));
	for (unsigned int i = 0; i < 32; i++)
		insn_emit(program, insn_s(INSN_STORE_FP, 3, base, i,
					  (int64_t)(offsetof(struct insn_data, f) + 8 * i)));
	insn_emit(program, insn_i(INSN_SYSTEM, 2, 5, 0, 3)); /* csrr t0, fcsr */
	insn_emit(program, insn_s(INSN_STORE, 3, base, 5, offsetof(struct insn_data, fcsr)));

	insn_emit_constant(program, 10, 1);
	insn_emit_constant(program, 11, data);
	insn_emit_constant(program, 12, sizeof(struct insn_data));
	insn_emit_constant(program, 17, INSN_SYS_WRITE);
	insn_emit(program, INSN_ECALL);
	insn_emit_constant(program, 10, 0);
	insn_emit_constant(program, 17, INSN_SYS_EXIT);
	insn_emit(program, INSN_ECALL);
}

void insn_program_generate(struct insn_program *program, uint64_t seed, unsigned int kinds,
			   unsigned int items)
{
	struct insn_data *data = &program->data;

	memset(program, 0, sizeof(*program));
	program->random.state = seed;
	for (unsigned int i = 0; i < 32; i++) {
		data->x[i] = insn_pick_value(program);
		data->f[i] = insn_pick_value(program);
	}
	for (size_t i = 0; i < sizeof(data->scratch); i += 8) {
		uint64_t value = insn_pick_value(program);

		memcpy(&data->scratch[i], &value, 8);
	}
	emit_prologue(program);
	program->last_item = program->code_bytes;
	for (unsigned int i = 0; i < items; i++) {
		unsigned int choice = insn_pick(program, 12);

		program->last_item = program->code_bytes;
		if (choice == 0 && kinds & INSN_CONTROL)
			emit_loop(program, kinds);
		else if (choice <= 2 && kinds & INSN_CONTROL)
			emit_forward(program, kinds);
		else
			emit_simple(program, kinds);
	}
	emit_epilogue(program);
}
