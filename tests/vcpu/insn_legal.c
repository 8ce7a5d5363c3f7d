/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which encodings the decoder takes: all compressed ones, and random 32-bit ones, against the
 * listings of the manual. What floating point and CSRs accept is decided when they run
 * (test_fp_exec.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fp_reference.h"
#include "vcpu/riscv/op.h"

#define SEED UINT64_C(0x1e9a1)
#define CASES 1000000

/* An instruction is legal if, under the mask of its format, it equals one of a list. */
struct listing {
	uint32_t mask;
	unsigned int count;
	const uint32_t *match;
};

static const uint32_t by_opcode[] = {
	0x37, 0x17, 0x6f,		/* lui, auipc, jal */
	0x43, 0x47, 0x4b, 0x4f, 0x53,	/* floating point */
};
static const uint32_t by_funct3[] = {
	0x0003, 0x1003, 0x2003, 0x3003, 0x4003, 0x5003, 0x6003, /* loads */
	0x0023, 0x1023, 0x2023, 0x3023, 0x2007, 0x3007, 0x2027, 0x3027,
	0x0013, 0x2013, 0x3013, 0x4013, 0x6013, 0x7013, 0x001b,	/* immediates */
	0x0063, 0x1063, 0x4063, 0x5063, 0x6063, 0x7063, 0x0067,	/* branches, jalr */
	0x000f, 0x100f,						/* fences, any fields */
	0x1073, 0x2073, 0x3073, 0x5073, 0x6073, 0x7073,		/* CSRs */
};
static const uint32_t by_funct6[] = { 0x1013, 0x5013, 0x40005013 }; /* slli, srli, srai */
static const uint32_t by_funct7[] = {
	0x0000101b, 0x0000501b, 0x4000501b,
	0x00000033, 0x40000033, 0x00001033, 0x00002033, 0x00003033, 0x00004033, 0x00005033,
	0x40005033, 0x00006033, 0x00007033, 0x0000003b, 0x4000003b, 0x0000103b, 0x0000503b,
	0x4000503b,
	/* M */
	0x02000033, 0x02001033, 0x02002033, 0x02003033, 0x02004033, 0x02005033, 0x02006033,
	0x02007033, 0x0200003b, 0x0200403b, 0x0200503b, 0x0200603b, 0x0200703b,
};
static const uint32_t by_funct5[] = {
	/* sc, amoadd, amoswap, amoxor, amoor, amoand, amomin, amomax, amominu, amomaxu */
	0x1800202f, 0x0000202f, 0x0800202f, 0x2000202f, 0x4000202f, 0x6000202f, 0x8000202f,
	0xa000202f, 0xc000202f, 0xe000202f, 0x1800302f, 0x0000302f, 0x0800302f, 0x2000302f,
	0x4000302f, 0x6000302f, 0x8000302f, 0xa000302f, 0xc000302f, 0xe000302f,
};
static const uint32_t load_reserved[] = { 0x1000202f, 0x1000302f };
static const uint32_t sfence_vma[] = { 0x12000073 };
static const uint32_t whole[] = {
	0x00000073, 0x00100073, 0x10200073, 0x30200073, 0x10500073, /* ecall to wfi */
};

#define LISTING(mask, list) { mask, sizeof(list) / sizeof((list)[0]), list }
static const struct listing listings[] = {
	LISTING(0x0000007f, by_opcode),	    LISTING(0x0000707f, by_funct3),
	LISTING(0xfc00707f, by_funct6),	    LISTING(0xfe00707f, by_funct7),
	LISTING(0xf800707f, by_funct5),	    LISTING(0xf9f0707f, load_reserved),
	LISTING(0xfe007fff, sfence_vma),    LISTING(0xffffffff, whole),
};
#define LISTINGS (sizeof(listings) / sizeof(listings[0]))

static bool is_listed(uint32_t insn)
{
	for (size_t i = 0; i < LISTINGS; i++)
		for (unsigned int j = 0; j < listings[i].count; j++)
			if ((insn & listings[i].mask) == listings[i].match[j])
				return true;
	return false;
}

static bool decodes(uint32_t insn)
{
	struct op op = vd_decode(insn, 0, false);

	return op.code != OP_illegal_4 && op.code != OP_illegal_2;
}

/* "RVC Instruction Set Listings", the entries marked RES; hints are legal. */
static bool is_reserved_compressed(uint32_t insn)
{
	unsigned int rd = insn >> 7 & 31, low = insn >> 2 & 31, bit12 = insn >> 12 & 1;

	switch (insn >> 13 << 2 | (insn & 3)) {
	case 0 << 2 | 0: /* c.addi4spn: the immediate must not be 0; all zeros is always illegal */
		return (insn >> 5 & 0xff) == 0;
	case 4 << 2 | 0:
		return true;
	case 1 << 2 | 1: /* c.addiw */
		return rd == 0;
	case 3 << 2 | 1: /* c.lui, c.addi16sp */
		return low == 0 && bit12 == 0;
	case 4 << 2 | 1: /* beside c.subw and c.addw */
		return bit12 && (insn >> 10 & 3) == 3 && (insn >> 6 & 1);
	case 2 << 2 | 2: /* c.lwsp */
	case 3 << 2 | 2: /* c.ldsp */
		return rd == 0;
	case 4 << 2 | 2: /* c.jr */
		return !bit12 && low == 0 && rd == 0;
	default:
		return false;
	}
}

static void test_compressed(void **state)
{
	(void)state;
	for (uint32_t insn = 0; insn < 0x10000; insn++)
		if ((insn & 3) != 3 && decodes(insn) == is_reserved_compressed(insn))
			fail_msg("%#06x is %s", insn, decodes(insn) ? "accepted" : "refused");
}

static void test_random(void **state)
{
	struct ref_random random = { SEED };

	(void)state;
	for (int i = 0; i < CASES; i++) {
		uint32_t insn = (uint32_t)ref_random_next(&random) | 3;

		if (decodes(insn) != is_listed(insn))
			fail_msg("seed %#llx case %d: %#010x is %s", (unsigned long long)SEED, i,
				 insn, decodes(insn) ? "accepted" : "refused");
	}
}

/* Around every listed instruction: itself, and each bit of it flipped. */
static void test_neighbours(void **state)
{
	(void)state;
	for (size_t i = 0; i < LISTINGS; i++) {
		for (unsigned int j = 0; j < listings[i].count; j++) {
			uint32_t insn = listings[i].match[j];

			assert_true(decodes(insn));
			for (unsigned int bit = 2; bit < 32; bit++) {
				uint32_t other = insn ^ UINT32_C(1) << bit;

				if (decodes(other) != is_listed(other))
					fail_msg("%#010x is %s", other,
						 decodes(other) ? "accepted" : "refused");
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compressed),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_neighbours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
