/* SPDX-License-Identifier: BSD-2-Clause */
/* Pseudo-operations, SYSTEM instructions, fences and floating-point computation. */
#include "vcpu/riscv/fp_exec.h"
#include "vcpu/riscv/op.h"

/* The run loop goes on at the next instruction, after it looked at interrupts and requests. */
#define LEAVE_TO_NEXT()                                                                            \
	do {                                                                                       \
		h->pc = op_pc(h, op) + LENGTH;                                                     \
		OP_LEAVE();                                                                        \
	} while (0)

vd_op_result vd_op_decode(OP_ARGS)
{
	uint64_t offset = (uint64_t)(op - h->page_ops) * 2;
	uint32_t insn = vd_code_instruction(h, op);
	struct op *slot = h->page_ops + offset / 2;

	(void)count, (void)table;
	if ((insn & 3) == 3 && offset == PAGE_SIZE - 2)
		*slot = (struct op){.code = OP_straddle};
	else
		*slot = vd_decode(insn, offset, false);
	OP_GO_UNCOUNTED(slot);
}

vd_op_result vd_op_page_end(OP_ARGS)
{
	h->pc = op_pc(h, op);
#if VD_HART_LOOP
	h->count--;
#else
	count--;
#endif
	OP_TAIL(vd_op_goto);
}

vd_op_result vd_op_straddle(OP_ARGS)
{
	const struct op *next;

	(void)table;
	h->count = count;
	next = vd_code_straddle(h, op);
	if (!next)
		OP_LEAVE_UNCOUNTED();
	OP_GO_UNCOUNTED(next);
}

static vd_op_result illegal(OP_ARGS)
{
	(void)count, (void)table;
	vd_trap_take(h, op_pc(h, op), CAUSE_ILLEGAL, vd_code_instruction(h, op));
	OP_LEAVE();
}

OP(illegal, OP_TAIL(illegal);)
OP(ebreak, vd_trap_take(h, op_pc(h, op), CAUSE_BREAKPOINT, op_pc(h, op)); OP_LEAVE();)

/* Lazy: decoded pages are compared with memory when they are next entered. */
OP(fence_i, vd_code_fence(h); LEAVE_TO_NEXT();)

OP(wfi, if (h->privilege == PRIV_U ||
	    (h->privilege == PRIV_S && hart_machine(h) && (h->sstatus & STATUS_TW)))
		OP_TAIL(illegal);
	h->waiting = true;
	LEAVE_TO_NEXT();)

/*
 * Supervisor virtual-memory instructions: rs1 is the address, or x0 for all. ASIDs are not
 * implemented.
 */
OP(sfence_vma, if (h->privilege == PRIV_U ||
		   (h->privilege == PRIV_S && (h->sstatus & STATUS_TVM)))
		OP_TAIL(illegal);
	h->stats.sfences++;
	if (op->rs1)
		vd_tlb_flush_page(h, RS1);
	else
		vd_tlb_flush_all(h);
	LEAVE_TO_NEXT();)

OP(sret, if (h->privilege == PRIV_U ||
	     (h->privilege == PRIV_S && (h->sstatus & STATUS_TSR)))
		OP_TAIL(illegal);
	vd_trap_sret(h);
	OP_LEAVE();)

OP(mret, if (h->privilege != PRIV_M)
		OP_TAIL(illegal);
	vd_trap_mret(h);
	OP_LEAVE();)

OP(ecall, h->count = count;
	if (vd_trap_ecall(h, op_pc(h, op)))
		LEAVE_TO_NEXT();
	OP_LEAVE();)

/* rd, rs1 (or a 5-bit immediate) and the CSR number come from the instruction itself. */
OP(csr, uint32_t insn = (uint32_t)op->imm;
	unsigned funct3 = (insn >> 12) & 7;
	uint64_t operand = funct3 & 4 ? op->rs1 : RS1;
	uint64_t old = 0;
	bool writes = (funct3 & 3) == 1 || op->rs1 != 0;
	h->count = count;
	enum csr_result result = vd_csr_access(h, insn >> 20, writes, funct3 & 3, operand, &old);
	if (unlikely(result == CSR_ILLEGAL))
		OP_TAIL(illegal);
	RD = old;
	if (result == CSR_LEAVE)
		LEAVE_TO_NEXT();
	OP_NEXT();)

OP(float, if (!h->fp_on || vd_fp_execute(h->x, h->f, &h->fcsr, (uint32_t)op->imm))
		OP_TAIL(illegal);
	OP_NEXT();)
