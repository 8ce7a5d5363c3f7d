/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Jumps and branches. Every loop passes a backward branch, a jump or the end of a page: those are
 * the poll points. The decoder chose the form: inside the page forwards, inside the page backwards,
 * or out of it.
 */
#include "vcpu/riscv/op.h"

/* A branch's rs2 is in rd. imm: distance in halfwords inside the page, in bytes out of it. */
#define RS2 (h->x[op->rd])

#define BRANCH(name, condition)                                                                    \
	OP(name, if (condition) OP_GO(op + op->imm); OP_NEXT();)                                   \
	OP(name##_back, if (condition) {                                                           \
		if (op_must_poll(h, count)) {                                                      \
			h->pc = op_pc(h, op + op->imm);                                            \
			OP_LEAVE();                                                                \
		}                                                                                  \
		OP_GO(op + op->imm);                                                               \
	} OP_NEXT();)                                                                              \
	OP(name##_out, if (condition) {                                                            \
		h->pc = op_pc(h, op) + (uint64_t)(int64_t)op->imm;                                 \
		OP_TAIL(vd_op_goto);                                                               \
	} OP_NEXT();)

BRANCH(beq, RS1 == RS2)
BRANCH(bne, RS1 != RS2)
BRANCH(blt, (int64_t)RS1 < (int64_t)RS2)
BRANCH(bge, (int64_t)RS1 >= (int64_t)RS2)
BRANCH(bltu, RS1 < RS2)
BRANCH(bgeu, RS1 >= RS2)

OP(jal, RD = op_pc(h, op) + LENGTH;
	if (op_must_poll(h, count)) {
		h->pc = op_pc(h, op + op->imm);
		OP_LEAVE();
	}
	OP_GO(op + op->imm);)

OP(jal_out, uint64_t pc = op_pc(h, op);
	RD = pc + LENGTH;
	h->pc = pc + (uint64_t)(int64_t)op->imm;
	OP_TAIL(vd_op_goto);)

OP(jalr, uint64_t target = (RS1 + (uint64_t)(int64_t)op->imm) & ~1ull;
	RD = op_pc(h, op) + LENGTH;
	h->pc = target;
	OP_TAIL(vd_op_goto);)

/* To h->pc. Counts the instruction that jumped. */
vd_op_result vd_op_goto(OP_ARGS)
{
	uint64_t pc = h->pc;

	(void)op, (void)table, (void)count;
	if (op_must_poll(h, count))
		OP_LEAVE();
	if ((pc & PAGE_MASK) == h->page_tag)
		OP_GO(h->page_ops + ((pc & ~PAGE_MASK) >> 1));
	struct code_tlb_entry *e = &h->code[(pc >> PAGE_SHIFT) % CODE_TLB_ENTRIES];
	if (likely(e->tag == (pc & PAGE_MASK))) {
		h->page_va = h->page_tag = e->tag;
		h->page_ops = (struct op *)e->page;
		OP_GO(h->page_ops + ((pc & ~PAGE_MASK) >> 1));
	}
	/* The slow lookup may go outside or fault: the run loop does it. */
	OP_LEAVE();
}
