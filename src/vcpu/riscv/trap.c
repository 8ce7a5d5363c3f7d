/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions, interrupts and returns from them (privileged manual, "Trap entry and return").
 * Without M mode everything is delegated to S, and environment calls from S go to the machine
 * around the hart.
 */
#include "vcpu/riscv/hart.h"

#define INTERRUPT (1ull << 63)

static uint64_t vector(uint64_t tvec, uint64_t cause)
{
	uint64_t base = tvec & ~3ull;

	return (tvec & 3) == 1 && (cause & INTERRUPT) ? base + 4 * (cause & ~INTERRUPT) : base;
}

static void to_supervisor(struct vd_hart *h, uint64_t pc, uint64_t cause, uint64_t tval)
{
	h->sepc = pc;
	h->scause = cause;
	h->stval = tval;
	h->sstatus &= ~(STATUS_SPP | STATUS_SPIE);
	if (h->privilege != PRIV_U)
		h->sstatus |= STATUS_SPP;
	if (h->sstatus & STATUS_SIE)
		h->sstatus |= STATUS_SPIE;
	h->sstatus &= ~STATUS_SIE;
	h->privilege = PRIV_S;
	h->pc = vector(h->stvec, cause);
}

static void to_machine(struct vd_hart *h, uint64_t pc, uint64_t cause, uint64_t tval)
{
	h->mepc = pc;
	h->mcause = cause;
	h->mtval = tval;
	h->sstatus &= ~(STATUS_MPP | STATUS_MPIE);
	h->sstatus |= (uint64_t)h->privilege << 11;
	if (h->sstatus & STATUS_MIE)
		h->sstatus |= STATUS_MPIE;
	h->sstatus &= ~STATUS_MIE;
	h->privilege = PRIV_M;
	h->pc = vector(h->mtvec, cause);
}

void vd_trap_take(struct vd_hart *h, uint64_t pc, uint64_t cause, uint64_t tval)
{
	uint64_t delegated = cause & INTERRUPT ? h->mideleg : h->medeleg;

	if (cause & INTERRUPT)
		h->stats.interrupts++;
	else
		h->stats.exceptions++;
	if (hart_machine(h) &&
	    (h->privilege == PRIV_M || !(delegated >> (cause & 63) & 1)))
		to_machine(h, pc, cause, tval);
	else
		to_supervisor(h, pc, cause, tval);
	vd_tlb_update_context(h);
}

/* sip as software reads it: timer and external come from their sources. */
uint64_t vd_hart_sip(struct vd_hart *h)
{
	uint64_t sip = h->sip_software;

	if (h->stimecmp != UINT64_MAX && vd_hart_time(h) >= h->stimecmp)
		sip |= 1u << IRQ_STIMER;
	if (vd_imsic_signals(h))
		sip |= 1u << IRQ_SEXT;
	return sip;
}

/*
 * The major interrupt that sie lets through with the highest priority, or 0 (AIA, "Default priority
 * order").
 */
unsigned vd_trap_top(struct vd_hart *h)
{
	uint64_t ready = vd_hart_sip(h) & h->sie;

	if (hart_machine(h)) /* the others are M mode's */
		ready &= h->mideleg;
	if (ready >> IRQ_SEXT & 1)
		return IRQ_SEXT;
	if (ready >> IRQ_SSOFT & 1)
		return IRQ_SSOFT;
	if (ready >> IRQ_STIMER & 1)
		return IRQ_STIMER;
	return 0;
}

/*
 * Interrupts that are not delegated go to M mode, those of S too ("Machine Interrupt Registers").
 */
static bool machine_interrupt(struct vd_hart *h)
{
	static const uint8_t by_priority[] = {IRQ_MSOFT, IRQ_SEXT, IRQ_SSOFT, IRQ_STIMER};
	uint64_t ready = (h->mip_software | vd_hart_sip(h)) & (h->mie | h->sie) & ~h->mideleg;

	if (!ready || (h->privilege == PRIV_M && !(h->sstatus & STATUS_MIE)))
		return false;
	for (unsigned i = 0; i < sizeof(by_priority); i++) {
		if (ready >> by_priority[i] & 1) {
			vd_trap_take(h, h->pc, INTERRUPT | by_priority[i], 0);
			return true;
		}
	}
	return false;
}

bool vd_trap_interrupt(struct vd_hart *h)
{
	unsigned irq;

	if (hart_machine(h) && machine_interrupt(h))
		return true;
	if (h->privilege == PRIV_M ||
	    (h->privilege == PRIV_S && !(h->sstatus & STATUS_SIE)))
		return false;
	irq = vd_trap_top(h);
	if (!irq)
		return false;
	vd_trap_take(h, h->pc, INTERRUPT | irq, 0);
	return true;
}

bool vd_trap_pending(struct vd_hart *h)
{
	return (vd_hart_sip(h) & h->sie) || (hart_machine(h) && (h->mip_software & h->mie));
}

void vd_trap_sret(struct vd_hart *h)
{
	h->privilege = h->sstatus & STATUS_SPP ? PRIV_S : PRIV_U;
	h->sstatus &= ~(STATUS_SIE | STATUS_SPP | STATUS_MPRV);
	if (h->sstatus & STATUS_SPIE)
		h->sstatus |= STATUS_SIE;
	h->sstatus |= STATUS_SPIE;
	h->pc = h->sepc;
	vd_tlb_update_context(h);
}

void vd_trap_mret(struct vd_hart *h)
{
	h->privilege = (enum privilege)((h->sstatus & STATUS_MPP) >> 11);
	if (h->privilege != PRIV_M)
		h->sstatus &= ~STATUS_MPRV;
	h->sstatus &= ~(STATUS_MIE | STATUS_MPP);
	if (h->sstatus & STATUS_MPIE)
		h->sstatus |= STATUS_MIE;
	h->sstatus |= STATUS_MPIE;
	h->pc = h->mepc;
	vd_tlb_update_context(h);
}

bool vd_trap_ecall(struct vd_hart *h, uint64_t pc)
{
	static const enum cause causes[4] = {CAUSE_ECALL_U, CAUSE_ECALL_S, 0, CAUSE_ECALL_M};
	int rc;

	if (hart_machine(h) || (h->privilege == PRIV_U && !h->user_only)) {
		vd_trap_take(h, pc, causes[h->privilege], 0);
		return false;
	}
	vd_hart_go_outside(h);
	h->pc = pc;
	vd_hart_publish_stats(h);
	rc = h->config.ops->ecall(h->config.context, h);
	vd_hart_go_inside(h);
	if (rc) {
		h->exit = VD_HART_EXIT_HALT;
		h->leave = true;
	}
	return true;
}
