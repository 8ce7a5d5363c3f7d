/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RV64GC decoder: 32-bit encodings (unprivileged manual, "RV32/64G instruction set listings") to
 * operations.
 */
#include "vcpu/riscv/op.h"

static uint32_t bits(uint32_t insn, unsigned low, unsigned count)
{
	return (insn >> low) & ((1u << count) - 1);
}

static int32_t imm_i(uint32_t insn)
{
	return (int32_t)insn >> 20;
}

static int32_t imm_s(uint32_t insn)
{
	return ((int32_t)(insn & 0xfe000000) >> 20) | (int32_t)bits(insn, 7, 5);
}

static int32_t imm_b(uint32_t insn)
{
	return ((int32_t)(insn & 0x80000000) >> 19) | (int32_t)(bits(insn, 7, 1) << 11) |
	       (int32_t)(bits(insn, 25, 6) << 5) | (int32_t)(bits(insn, 8, 4) << 1);
}

static int32_t imm_j(uint32_t insn)
{
	return ((int32_t)(insn & 0x80000000) >> 11) | (int32_t)(insn & 0xff000) |
	       (int32_t)(bits(insn, 20, 1) << 11) | (int32_t)(bits(insn, 21, 10) << 1);
}

static struct op make(unsigned code, unsigned rd, unsigned rs1, int32_t imm)
{
	return (struct op){(uint16_t)code, (uint8_t)rd, (uint8_t)rs1, imm};
}

static struct op illegal(uint32_t insn)
{
	return make(OP_illegal_4, 32, 0, (int32_t)insn);
}

/* Destination register: x0 is written to the bin behind the registers. */
static unsigned destination(uint32_t insn)
{
	unsigned rd = bits(insn, 7, 5);

	return rd ? rd : 32;
}

static struct op decode_load(uint32_t insn)
{
	static const uint16_t codes[8] = {OP_lb_4, OP_lh_4, OP_lw_4, OP_ld_4,
					  OP_lbu_4, OP_lhu_4, OP_lwu_4, 0};
	uint16_t code = codes[bits(insn, 12, 3)];

	return code ? make(code, destination(insn), bits(insn, 15, 5), imm_i(insn)) : illegal(insn);
}

static struct op decode_store(uint32_t insn)
{
	static const uint16_t codes[8] = {OP_sb_4, OP_sh_4, OP_sw_4, OP_sd_4};
	uint16_t code = codes[bits(insn, 12, 3)];

	return code ? make(code, bits(insn, 20, 5), bits(insn, 15, 5), imm_s(insn)) : illegal(insn);
}

static struct op decode_float_memory(uint32_t insn, bool store)
{
	unsigned width = bits(insn, 12, 3), rs1 = bits(insn, 15, 5);

	if (width != 2 && width != 3)
		return illegal(insn);
	if (store)
		return make(width == 2 ? OP_fsw_4 : OP_fsd_4, bits(insn, 20, 5), rs1, imm_s(insn));
	return make(width == 2 ? OP_flw_4 : OP_fld_4, bits(insn, 7, 5), rs1, imm_i(insn));
}

static struct op decode_immediate(uint32_t insn)
{
	static const uint16_t codes[8] = {OP_addi_4, OP_slli_4, OP_slti_4, OP_sltiu_4,
					  OP_xori_4, OP_srli_4, OP_ori_4, OP_andi_4};
	unsigned funct3 = bits(insn, 12, 3), code = codes[funct3], high = bits(insn, 26, 6);
	int32_t imm = imm_i(insn);

	if (funct3 == 1 || funct3 == 5) {
		if (high != 0 && !(funct3 == 5 && high == 0x10))
			return illegal(insn);
		if (high)
			code = OP_srai_4;
		imm &= 63;
	}
	return make(code, destination(insn), bits(insn, 15, 5), imm);
}

static struct op decode_immediate_word(uint32_t insn)
{
	unsigned funct3 = bits(insn, 12, 3), high = bits(insn, 25, 7), code;
	int32_t imm = imm_i(insn);

	if (funct3 == 0)
		code = OP_addiw_4;
	else if (funct3 == 1 && high == 0)
		code = OP_slliw_4;
	else if (funct3 == 5 && high == 0)
		code = OP_srliw_4;
	else if (funct3 == 5 && high == 0x20)
		code = OP_sraiw_4;
	else
		return illegal(insn);
	if (funct3)
		imm &= 31;
	return make(code, destination(insn), bits(insn, 15, 5), imm);
}

static struct op decode_register(uint32_t insn, bool word)
{
	static const uint16_t base[8] = {OP_add_4, OP_sll_4, OP_slt_4, OP_sltu_4,
					 OP_xor_4, OP_srl_4, OP_or_4, OP_and_4};
	static const uint16_t alternate[8] = {OP_sub_4, 0, 0, 0, 0, OP_sra_4, 0, 0};
	static const uint16_t multiply[8] = {OP_mul_4, OP_mulh_4, OP_mulhsu_4, OP_mulhu_4,
					     OP_div_4, OP_divu_4, OP_rem_4, OP_remu_4};
	static const uint16_t word_base[8] = {OP_addw_4, OP_sllw_4, 0, 0, 0, OP_srlw_4, 0, 0};
	static const uint16_t word_alternate[8] = {OP_subw_4, 0, 0, 0, 0, OP_sraw_4, 0, 0};
	static const uint16_t word_multiply[8] = {OP_mulw_4, 0, 0, 0,
						  OP_divw_4, OP_divuw_4, OP_remw_4, OP_remuw_4};
	unsigned funct3 = bits(insn, 12, 3), code = 0;

	switch (bits(insn, 25, 7)) {
	case 0x00:
		code = (word ? word_base : base)[funct3];
		break;
	case 0x20:
		code = (word ? word_alternate : alternate)[funct3];
		break;
	case 0x01:
		code = (word ? word_multiply : multiply)[funct3];
		break;
	}
	if (!code)
		return illegal(insn);
	return make(code, destination(insn), bits(insn, 15, 5), (int32_t)bits(insn, 20, 5));
}

/* @page_offset: where in its page the branch stands; @alone: it has no page around it */
static struct op decode_branch(uint32_t insn, uint64_t page_offset, bool alone)
{
	static const uint16_t forward[8] = {OP_beq_4, OP_bne_4, 0, 0,
					    OP_blt_4, OP_bge_4, OP_bltu_4, OP_bgeu_4};
	unsigned code = forward[bits(insn, 12, 3)];
	int32_t imm = imm_b(insn);
	uint64_t target = page_offset + (uint64_t)(int64_t)imm;

	if (!code)
		return illegal(insn);
	if (alone || target >= PAGE_SIZE) {
		code += OP_beq_out_4 - OP_beq_4;
	} else {
		if (imm <= 0)
			code += OP_beq_back_4 - OP_beq_4;
		imm /= 2;
	}
	return make(code, bits(insn, 20, 5), bits(insn, 15, 5), imm);
}

static struct op decode_jal(uint32_t insn, uint64_t page_offset, bool alone)
{
	int32_t imm = imm_j(insn);
	uint64_t target = page_offset + (uint64_t)(int64_t)imm;

	if (alone || target >= PAGE_SIZE)
		return make(OP_jal_out_4, destination(insn), 0, imm);
	return make(OP_jal_4, destination(insn), 0, imm / 2);
}

static struct op decode_atomic(uint32_t insn)
{
	unsigned width = bits(insn, 12, 3), operation = insn >> 27;

	if (width != 2 && width != 3)
		return illegal(insn);
	switch (operation) {
	case 2:
		if (bits(insn, 20, 5))
			return illegal(insn);
		return make(OP_lr_4, destination(insn), bits(insn, 15, 5), (int32_t)insn);
	case 3:
		return make(OP_sc_4, destination(insn), bits(insn, 15, 5), (int32_t)insn);
	case 0: case 1: case 4: case 8: case 12: case 16: case 20: case 24: case 28:
		return make(OP_amo_4, destination(insn), bits(insn, 15, 5), (int32_t)insn);
	default:
		return illegal(insn);
	}
}

static struct op decode_system(uint32_t insn)
{
	unsigned code = OP_illegal_4;

	if (bits(insn, 12, 3) == 4)
		return illegal(insn);
	if (bits(insn, 12, 3))
		return make(OP_csr_4, destination(insn), bits(insn, 15, 5), (int32_t)insn);
	if (insn == 0x00000073)
		code = OP_ecall_4;
	else if (insn == 0x00100073)
		code = OP_ebreak_4;
	else if (insn == 0x10200073)
		code = OP_sret_4;
	else if (insn == 0x30200073)
		code = OP_mret_4;
	else if (insn == 0x10500073)
		code = OP_wfi_4;
	else if ((insn & 0xfe007fff) == 0x12000073)
		return make(OP_sfence_vma_4, bits(insn, 20, 5), bits(insn, 15, 5), (int32_t)insn);
	return make(code, 32, 0, (int32_t)insn);
}

/*
 * Fields pred and succ: input 8, output 4, reads 2, writes 1. On x86-64 only loads overtake stores
 * that came before them, and fence.tso allows that.
 */
static struct op decode_fence(uint32_t insn)
{
	bool barrier = true;

#if defined(__x86_64__)
	barrier = (bits(insn, 24, 4) & 5) && (bits(insn, 20, 4) & 10) && insn >> 20 != 0x833;
#endif
	return make(OP_fence_4, 32, 0, barrier);
}

static struct op decode_32(uint32_t insn, uint64_t page_offset, bool alone)
{
	unsigned rd = destination(insn), rs1 = bits(insn, 15, 5);

	switch (insn & 0x7f) {
	case 0x03:
		return decode_load(insn);
	case 0x07:
		return decode_float_memory(insn, false);
	case 0x0f:
		if (bits(insn, 12, 3) > 1)
			return illegal(insn);
		return bits(insn, 12, 3) ? make(OP_fence_i_4, 32, 0, 0) : decode_fence(insn);
	case 0x13:
		return decode_immediate(insn);
	case 0x17:
		return make(OP_auipc_4, rd, 0, (int32_t)(insn & 0xfffff000));
	case 0x1b:
		return decode_immediate_word(insn);
	case 0x23:
		return decode_store(insn);
	case 0x27:
		return decode_float_memory(insn, true);
	case 0x2f:
		return decode_atomic(insn);
	case 0x33:
		return decode_register(insn, false);
	case 0x37:
		return make(OP_lui_4, rd, 0, (int32_t)(insn & 0xfffff000));
	case 0x3b:
		return decode_register(insn, true);
	case 0x43: case 0x47: case 0x4b: case 0x4f: case 0x53:
		return make(OP_float_4, 32, 0, (int32_t)insn);
	case 0x63:
		return decode_branch(insn, page_offset, alone);
	case 0x67:
		if (bits(insn, 12, 3))
			return illegal(insn);
		return make(OP_jalr_4, rd, rs1, imm_i(insn));
	case 0x6f:
		return decode_jal(insn, page_offset, alone);
	case 0x73:
		return decode_system(insn);
	default:
		return illegal(insn);
	}
}

struct op vd_decode(uint32_t insn, uint64_t page_offset, bool alone)
{
	struct op op;
	uint32_t expanded;

	if ((insn & 3) == 3)
		return decode_32(insn, page_offset, alone);
	insn &= 0xffff;
	expanded = vd_expand_compressed((uint16_t)insn);
	op = expanded ? decode_32(expanded, page_offset, alone) : illegal(insn);
	op.code++;
	return op;
}
