/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All that a guest can see of a hart, in and out. What is taken in may come from a file that
 * somebody made up: a value that the hart could not have come to is refused.
 */
#include "vcpu/riscv/hart.h"

#include <string.h>

#define S_STATUS (STATUS_SIE | STATUS_SPIE | STATUS_SPP | STATUS_FS | STATUS_SUM | STATUS_MXR)
#define M_STATUS                                                                                   \
	(STATUS_MIE | STATUS_MPIE | STATUS_MPP | STATUS_MPRV | STATUS_TVM | STATUS_TW | STATUS_TSR)
#define S_INTERRUPTS (1u << IRQ_SSOFT | 1u << IRQ_STIMER | 1u << IRQ_SEXT)

void vd_hart_save(const struct vd_hart *h, struct vd_hart_state *state)
{
	*state = (struct vd_hart_state){
		.pc = h->pc, .instructions = h->count, .fcsr = h->fcsr, .privilege = h->privilege,
		.waiting = h->waiting, .sstatus = h->sstatus, .sie = h->sie,
		.sip = h->sip_software, .stvec = h->stvec, .sscratch = h->sscratch,
		.sepc = h->sepc, .scause = h->scause, .stval = h->stval, .satp = h->satp,
		.senvcfg = h->senvcfg, .scounteren = h->scounteren, .stimecmp = h->stimecmp,
		.siselect = h->siselect, .imsic_delivery = h->imsic.delivery,
		.imsic_threshold = h->imsic.threshold, .medeleg = h->medeleg,
		.mideleg = h->mideleg, .mie = h->mie, .mip = h->mip_software, .mtvec = h->mtvec,
		.mscratch = h->mscratch, .mepc = h->mepc, .mcause = h->mcause, .mtval = h->mtval,
		.mcounteren = h->mcounteren, .menvcfg = h->menvcfg,
		.mcountinhibit = h->mcountinhibit,
	};
	memcpy(state->x, h->x, sizeof(state->x));
	memcpy(state->f, h->f, sizeof(state->f));
	memcpy(state->pmpcfg, h->pmpcfg, sizeof(state->pmpcfg));
	memcpy(state->pmpaddr, h->pmpaddr, sizeof(state->pmpaddr));
	memcpy(state->count_base, h->count_base, sizeof(state->count_base));
	for (unsigned i = 0; i < 4; i++) {
		state->imsic_pending[i] = atomic_load(&h->imsic.pending[i]);
		state->imsic_enabled[i] = h->imsic.enabled[i];
	}
	/* An interrupt between harts that this one has not looked at yet. */
	if (atomic_load(&h->requests) & REQUEST_SOFTWARE)
		state->sip |= 1u << IRQ_SSOFT;
}

static bool satp_possible(uint64_t satp)
{
	uint64_t mode = satp >> 60;

	return !satp || (mode >= 8 && mode <= 10 && !(satp << 4 >> 48));
}

static bool supervisor_possible(const struct vd_hart *h, const struct vd_hart_state *state)
{
	uint64_t status = S_STATUS | (hart_machine(h) ? M_STATUS : 0);
	uint64_t sip = hart_machine(h) ? S_INTERRUPTS : 1u << IRQ_SSOFT;

	return !(state->sstatus & ~status) && (state->sstatus & STATUS_MPP) != 2ull << 11 &&
	       !(state->sie & ~(uint64_t)S_INTERRUPTS) && !(state->sip & ~sip) &&
	       !(state->stvec & 2) && !(state->sepc & 1) && satp_possible(state->satp) &&
	       state->senvcfg <= 1 && state->scounteren <= 7 && state->siselect <= 0xfff;
}

static bool imsic_possible(const struct vd_hart_state *state)
{
	return state->imsic_delivery <= 1 && state->imsic_threshold <= 255 &&
	       !(state->imsic_pending[0] & 1) && !(state->imsic_enabled[0] & 1);
}

static bool machine_possible(const struct vd_hart_state *state)
{
	return !(state->medeleg & ~0xb3ffull) && !(state->mideleg & ~0x222ull) &&
	       !(state->mie & ~0x888ull) && !(state->mip & ~(1ull << IRQ_MSOFT)) &&
	       !(state->mtvec & 2) && !(state->mepc & 1) && state->mcounteren <= 7 &&
	       state->menvcfg <= 1 && !(state->mcountinhibit & ~5ull);
}

static bool possible(const struct vd_hart *h, const struct vd_hart_state *state)
{
	return !state->x[0] && !(state->pc & 1) && state->fcsr <= 255 && state->waiting <= 1 &&
	       (state->privilege <= PRIV_S || (hart_machine(h) && state->privilege == PRIV_M)) &&
	       supervisor_possible(h, state) && imsic_possible(state) && machine_possible(state);
}

static void take_machine(struct vd_hart *h, const struct vd_hart_state *state)
{
	h->medeleg = state->medeleg;
	h->mideleg = state->mideleg;
	h->mie = state->mie;
	h->mip_software = state->mip;
	h->mtvec = state->mtvec;
	h->mscratch = state->mscratch;
	h->mepc = state->mepc;
	h->mcause = state->mcause;
	h->mtval = state->mtval;
	h->mcounteren = state->mcounteren;
	h->menvcfg = state->menvcfg;
	h->mcountinhibit = state->mcountinhibit;
	memcpy(h->pmpcfg, state->pmpcfg, sizeof(h->pmpcfg));
	memcpy(h->pmpaddr, state->pmpaddr, sizeof(h->pmpaddr));
}

static void take_supervisor(struct vd_hart *h, const struct vd_hart_state *state)
{
	h->privilege = (enum privilege)state->privilege;
	h->sstatus = state->sstatus;
	h->sie = state->sie;
	h->sip_software = state->sip;
	h->stvec = state->stvec;
	h->sscratch = state->sscratch;
	h->sepc = state->sepc;
	h->scause = state->scause;
	h->stval = state->stval;
	h->satp = state->satp;
	h->senvcfg = state->senvcfg;
	h->scounteren = state->scounteren;
	h->stimecmp = state->stimecmp;
	h->siselect = state->siselect;
}

int vd_hart_load(struct vd_hart *h, const struct vd_hart_state *state)
{
	if (!possible(h, state))
		return -EINVAL;
	/* Registers that no state holds, TLBs and decoded code are as after a reset. */
	vd_hart_reset(h, (vd_gva){state->pc});
	memcpy(h->x, state->x, sizeof(state->x));
	memcpy(h->f, state->f, sizeof(state->f));
	h->fcsr = (uint32_t)state->fcsr;
	h->waiting = state->waiting;
	h->count = state->instructions;
	memcpy(h->count_base, state->count_base, sizeof(h->count_base));
	take_supervisor(h, state);
	take_machine(h, state);
	h->imsic.delivery = state->imsic_delivery;
	h->imsic.threshold = state->imsic_threshold;
	for (unsigned i = 0; i < 4; i++) {
		atomic_store(&h->imsic.pending[i], state->imsic_pending[i]);
		h->imsic.enabled[i] = state->imsic_enabled[i];
	}
	atomic_fetch_and(&h->requests, ~REQUEST_SOFTWARE);
	vd_tlb_update_context(h);
	vd_hart_publish_stats(h);
	return 0;
}
