/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Operations of decoded code, and how one hands over to the next.
 *
 * A code page has one struct op for each halfword of the guest's page, so a branch inside the page
 * is an addition. Each operation exists twice, for instructions of 4 and of 2 bytes: the distance
 * to the next one is a constant, and the processor need not wait for a load to know it. In
 * optimised builds operations jump to each other (tail calls: hart, op, count and table stay in
 * registers); under sanitizers and without optimisation they return to a loop.
 */
#ifndef VCPU_RISCV_OP_H
#define VCPU_RISCV_OP_H

#include "vcpu/riscv/hart.h"

typedef const struct op *vd_op_result;
#define OP_ARGS                                                                                    \
	struct vd_hart *restrict h, const struct op *restrict op, uint64_t count,                  \
		const struct op_entry *restrict table

struct op_entry {
	vd_op_result (*run)(struct vd_hart *restrict, const struct op *restrict, uint64_t,
			    const struct op_entry *restrict);
};

/* Instructions that exist in both lengths; the decoder adds 1 to the code for the 2-byte form. */
#define OPS_BY_LENGTH(X)                                                                           \
	X(lui) X(auipc) X(jal) X(jal_out) X(jalr)                                                  \
	X(beq) X(bne) X(blt) X(bge) X(bltu) X(bgeu)                                                \
	X(beq_back) X(bne_back) X(blt_back) X(bge_back) X(bltu_back) X(bgeu_back)                  \
	X(beq_out) X(bne_out) X(blt_out) X(bge_out) X(bltu_out) X(bgeu_out)                        \
	X(lb) X(lh) X(lw) X(ld) X(lbu) X(lhu) X(lwu) X(sb) X(sh) X(sw) X(sd)                       \
	X(addi) X(slti) X(sltiu) X(xori) X(ori) X(andi) X(slli) X(srli) X(srai)                    \
	X(addiw) X(slliw) X(srliw) X(sraiw)                                                        \
	X(add) X(sub) X(sll) X(slt) X(sltu) X(xor) X(srl) X(sra) X(or) X(and)                      \
	X(addw) X(subw) X(sllw) X(srlw) X(sraw)                                                    \
	X(mul) X(mulh) X(mulhsu) X(mulhu) X(div) X(divu) X(rem) X(remu)                            \
	X(mulw) X(divw) X(divuw) X(remw) X(remuw)                                                  \
	X(flw) X(fld) X(fsw) X(fsd) X(float) X(lr) X(sc) X(amo)                                    \
	X(fence) X(fence_i) X(csr) X(ecall) X(ebreak) X(sret) X(mret) X(wfi) X(sfence_vma)         \
	X(illegal)

/* Not instructions: decode on first use; the end of a page; an instruction across two pages. */
#define OPS_OTHER(X) X(decode) X(page_end) X(straddle)

enum {
#define OP_CODE(name) OP_##name,
	OPS_OTHER(OP_CODE)
#undef OP_CODE
#define OP_CODE(name) OP_##name##_4, OP_##name##_2,
	OPS_BY_LENGTH(OP_CODE)
#undef OP_CODE
	OP_COUNT
};

#define OP_DECLARE(name)                                                                           \
	vd_op_result vd_op_##name##_4(OP_ARGS);                                                    \
	vd_op_result vd_op_##name##_2(OP_ARGS);
OPS_BY_LENGTH(OP_DECLARE)
#undef OP_DECLARE
vd_op_result vd_op_decode(OP_ARGS);
vd_op_result vd_op_page_end(OP_ARGS);
vd_op_result vd_op_straddle(OP_ARGS);

extern const struct op_entry vd_op_table[OP_COUNT];

#if VD_HART_LOOP
/* The loop counts one instruction for each operation that ran. */
#define OP_GO(next) return (next)
#define OP_GO_UNCOUNTED(next)                                                                      \
	do {                                                                                       \
		h->count--;                                                                        \
		return (next);                                                                     \
	} while (0)
#define OP_LEAVE() return NULL
#define OP_LEAVE_UNCOUNTED()                                                                       \
	do {                                                                                       \
		h->count--;                                                                        \
		return NULL;                                                                       \
	} while (0)
#define OP_TAIL(function) return (function)(h, op, count, table)
#else
#if defined(__clang__)
#define OP_MUSTTAIL __attribute__((musttail))
#else
#define OP_MUSTTAIL
#endif
#define OP_GO(next)                                                                                \
	do {                                                                                       \
		const struct op *next_ = (next);                                                   \
		OP_MUSTTAIL return table[next_->code].run(h, next_, count + 1, table);             \
	} while (0)
#define OP_GO_UNCOUNTED(next)                                                                      \
	do {                                                                                       \
		const struct op *next_ = (next);                                                   \
		OP_MUSTTAIL return table[next_->code].run(h, next_, count, table);                 \
	} while (0)
#define OP_LEAVE()                                                                                 \
	do {                                                                                       \
		h->count = count + 1;                                                              \
		return NULL;                                                                       \
	} while (0)
#define OP_LEAVE_UNCOUNTED()                                                                       \
	do {                                                                                       \
		h->count = count;                                                                  \
		return NULL;                                                                       \
	} while (0)
#define OP_TAIL(function) OP_MUSTTAIL return (function)(h, op, count, table)
#endif

/* Both forms of an operation; LENGTH (bytes) is a constant inside the body. */
#define OP(name, ...)                                                                              \
	vd_op_result vd_op_##name##_4(OP_ARGS)                                                     \
	{                                                                                          \
		(void)h, (void)table, (void)count;                                                 \
		enum { LENGTH = 4 };                                                               \
		__VA_ARGS__                                                                        \
	}                                                                                          \
	vd_op_result vd_op_##name##_2(OP_ARGS)                                                     \
	{                                                                                          \
		(void)h, (void)table, (void)count;                                                 \
		enum { LENGTH = 2 };                                                               \
		__VA_ARGS__                                                                        \
	}

#define OP_NEXT() OP_GO(op + LENGTH / 2)
#define RS1 (h->x[op->rs1])
#define RD (h->x[op->rd])

static inline uint64_t op_pc(const struct vd_hart *h, const struct op *op)
{
	return h->page_va + (uint64_t)(op - h->page_ops) * 2;
}

/* Whether someone wants this hart, or its slice is over. The stores of 0 to limit are releases. */
static inline bool op_must_poll(struct vd_hart *h, uint64_t count)
{
	return unlikely(count >= atomic_load_explicit(&h->limit, memory_order_relaxed));
}

/* Operations too long for the fast path; each ends in OP_GO or OP_LEAVE. */
vd_op_result vd_op_goto(OP_ARGS); /* to h->pc, set by the caller */

/* decode.c */
struct op vd_decode(uint32_t insn, uint64_t page_offset, bool alone);
uint32_t vd_expand_compressed(uint16_t insn);

#endif
