/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Going on behind an access that somebody's mapping did not allow. Opcodes and their lengths: Intel
 * SDM volume 2, chapter 2 and appendix A. Only loads and stores are known; anything else that
 * touches memory (a call, a push, a gather) is none of ours.
 */
#include <stdint.h>
#include <ucontext.h>

#include "host/skip.h"

#if defined(__x86_64__)

enum { MAP_ONE = 0, MAP_0F = 1, MAP_0F38 = 2, MAP_0F3A = 3 };

struct instruction {
	const uint8_t *start, *at;
	unsigned rex, map, opcode, modrm;
	bool word; /* prefix 66: 16 bits */
	bool repeat, vector;
};

static bool is_prefix(uint8_t byte)
{
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: /* segments */
	case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
		return true;
	default:
		return false;
	}
}

static void read_prefixes(struct instruction *in)
{
	for (; is_prefix(*in->at); in->at++) {
		in->word |= *in->at == 0x66;
		in->repeat |= *in->at == 0xf2 || *in->at == 0xf3;
	}
	if ((*in->at & 0xf0) == 0x40)
		in->rex = *in->at++;
}

/* VEX and EVEX name the map in their second byte. */
static bool read_opcode(struct instruction *in)
{
	uint8_t first = *in->at++;

	if (first == 0xc5) {
		in->vector = true;
		in->map = MAP_0F;
		in->at++;
	} else if (first == 0xc4 || first == 0x62) {
		in->vector = true;
		in->map = *in->at & (first == 0xc4 ? 31 : 7);
		in->at += first == 0xc4 ? 2 : 3;
	} else if (first != 0x0f) {
		in->opcode = first;
		return true;
	} else if (*in->at == 0x38 || *in->at == 0x3a) {
		in->map = *in->at++ == 0x38 ? MAP_0F38 : MAP_0F3A;
	} else {
		in->map = MAP_0F;
	}
	in->opcode = *in->at++;
	return in->map >= MAP_0F && in->map <= MAP_0F3A;
}

static bool is_string(unsigned opcode)
{
	return (opcode >= 0xa4 && opcode <= 0xa7) || (opcode >= 0xaa && opcode <= 0xaf);
}

/* Opcodes of one byte that have a ModRM byte and may load or store. */
static bool one_has_modrm(const struct instruction *in)
{
	unsigned op = in->opcode, group = in->modrm >> 3 & 7;

	if (op < 0x40)
		return (op & 7) < 4;
	if (op == 0xff)
		return group < 2; /* inc, dec; no call, jump or push */
	return op == 0x63 || op == 0x69 || op == 0x6b || (op >= 0x80 && op <= 0x8b) ||
	       op == 0xc0 || op == 0xc1 || op == 0xc6 || op == 0xc7 ||
	       (op >= 0xd0 && op <= 0xd3) || op == 0xf6 || op == 0xf7 || op == 0xfe;
}

static bool zero_has_modrm(unsigned op)
{
	return (op >= 0x10 && op <= 0x17) || (op >= 0x28 && op <= 0x2f) ||
	       (op >= 0x40 && op <= 0x7f && op != 0x77) || (op >= 0x90 && op <= 0x9f) ||
	       op == 0xa3 || op == 0xa4 || op == 0xa5 || (op >= 0xab && op <= 0xad) ||
	       op == 0xaf || op == 0xb0 || op == 0xb1 || op == 0xb3 ||
	       (op >= 0xb6 && op <= 0xc7) || op >= 0xd0;
}

static unsigned immediate_bytes(const struct instruction *in)
{
	unsigned op = in->opcode, wide = in->word ? 2 : 4, group = in->modrm >> 3 & 7;

	if (in->map == MAP_0F3A)
		return 1;
	if (in->map == MAP_0F)
		return (op >= 0x70 && op <= 0x73) || op == 0xa4 || op == 0xac || op == 0xba ||
		       op == 0xc2 || (op >= 0xc4 && op <= 0xc6);
	if (in->map != MAP_ONE)
		return 0;
	switch (op) {
	case 0x69: case 0x81: case 0xc7:
		return wide;
	case 0x6b: case 0x80: case 0x82: case 0x83: case 0xc0: case 0xc1: case 0xc6:
		return 1;
	case 0xf6:
		return group < 2;
	case 0xf7:
		return group < 2 ? wide : 0;
	default:
		return 0;
	}
}

/* Behind ModRM, SIB and displacement. Return: false if the operand is no memory. */
static bool read_operand(struct instruction *in)
{
	unsigned mod, rm, base = 0;

	in->modrm = *in->at++;
	mod = in->modrm >> 6;
	rm = in->modrm & 7;
	if (mod == 3)
		return false;
	if (rm == 4)
		base = *in->at++ & 7;
	if (mod == 1)
		in->at += 1;
	else if (mod == 2 || rm == 5 || (rm == 4 && base == 5))
		in->at += 4;
	return true;
}

/* The general register that the instruction loads, or -1. */
static int loaded_register(const struct instruction *in, unsigned *bits)
{
	unsigned op = in->opcode, wide = in->rex & 8 ? 64 : in->word ? 16 : 32;
	bool loads = false;

	*bits = wide;
	if (in->vector)
		return -1;
	if (in->map == MAP_ONE) {
		loads = op == 0x8a || op == 0x8b || op == 0x63 || op == 0x86 || op == 0x87;
		if (op == 0x8a || op == 0x86)
			*bits = 8;
	} else if (in->map == MAP_0F) {
		loads = op == 0xb6 || op == 0xb7 || op == 0xbe || op == 0xbf || op == 0xc0 ||
			op == 0xc1;
		if (op == 0xc0)
			*bits = 8;
	} else if (in->map == MAP_0F38) {
		loads = op == 0xf0;
	}
	return loads ? (int)((in->modrm >> 3 & 7) | (in->rex & 4) << 1) : -1;
}

static greg_t *general_register(ucontext_t *context, unsigned number)
{
	static const int names[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				      REG_RSI, REG_RDI, REG_R8,	 REG_R9,  REG_R10, REG_R11,
				      REG_R12, REG_R13, REG_R14, REG_R15};

	return &context->uc_mcontext.gregs[names[number]];
}

static void zero_loaded(ucontext_t *context, const struct instruction *in)
{
	unsigned bits, op = in->opcode;
	int number = loaded_register(in, &bits);
	uint64_t mask = bits == 8 ? 0xff : bits == 16 ? 0xffff : UINT64_MAX;

	if (number >= 4 && number < 8 && bits == 8 && !in->rex) { /* ah, ch, dh, bh */
		number -= 4;
		mask = 0xff00;
	}
	if (number >= 0)
		*general_register(context, (unsigned)number) &= (greg_t)~mask;
	if (in->map == MAP_0F && !in->vector && context->uc_mcontext.fpregs &&
	    (op == 0x10 || op == 0x12 || op == 0x16 || op == 0x28 || op == 0x6e || op == 0x6f ||
	     op == 0x7e)) {
		struct _libc_xmmreg *xmm = &context->uc_mcontext.fpregs->_xmm[(in->modrm >> 3 & 7) |
									     (in->rex & 4) << 1];

		*xmm = (struct _libc_xmmreg){{0}};
	}
}

static bool is_compare_and_swap(const struct instruction *in)
{
	return in->map == MAP_0F && !in->vector &&
	       (in->opcode == 0xb0 || in->opcode == 0xb1 || in->opcode == 0xc7);
}

static bool decode(struct instruction *in)
{
	read_prefixes(in);
	if (!read_opcode(in))
		return false;
	if (in->map == MAP_ONE && is_string(in->opcode))
		return true;
	if (in->map == MAP_0F && !zero_has_modrm(in->opcode))
		return false;
	if (!read_operand(in))
		return false;
	if (in->map == MAP_ONE && !one_has_modrm(in))
		return false;
	in->at += immediate_bytes(in);
	return true;
}

bool skip_access(void *handler_context)
{
	ucontext_t *context = handler_context;
	greg_t *gregs = context->uc_mcontext.gregs;
	struct instruction in = {.start = (const uint8_t *)gregs[REG_RIP]};

	in.at = in.start;
	if (!decode(&in))
		return false;
	if (in.map == MAP_ONE && is_string(in.opcode)) {
		if (in.repeat)
			gregs[REG_RCX] = 0; /* the rest is skipped with it */
		if (in.opcode == 0xac || in.opcode == 0xad)
			gregs[REG_RAX] = 0;
	} else {
		zero_loaded(context, &in);
	}
	if (is_compare_and_swap(&in))
		gregs[REG_EFL] |= 0x40; /* ZF */
	gregs[REG_RIP] = (greg_t)in.at;
	return true;
}

#else

bool skip_access(void *context)
{
	(void)context;
	return false;
}

#endif
