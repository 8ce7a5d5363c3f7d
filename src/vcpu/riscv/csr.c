/* SPDX-License-Identifier: BSD-2-Clause */
/* Control and status registers of S and U mode (privileged manual, "CSR listing"; AIA; Sstc). */
#include "vcpu/riscv/hart.h"

#define SSTATUS_WRITABLE                                                                           \
	(STATUS_SIE | STATUS_SPIE | STATUS_SPP | STATUS_FS | STATUS_SUM | STATUS_MXR)
#define SIE_WRITABLE (1u << IRQ_SSOFT | 1u << IRQ_STIMER | 1u << IRQ_SEXT)

enum {
	FFLAGS = 0x001, FRM = 0x002, FCSR = 0x003,
	SSTATUS = 0x100, SIE = 0x104, STVEC = 0x105, SCOUNTEREN = 0x106, SENVCFG = 0x10a,
	SSCRATCH = 0x140, SEPC = 0x141, SCAUSE = 0x142, STVAL = 0x143, SIP = 0x144,
	STIMECMP = 0x14d, SISELECT = 0x150, SIREG = 0x151, STOPEI = 0x15c, SATP = 0x180,
	STOPI = 0xdb0, CYCLE = 0xc00, TIME = 0xc01, INSTRET = 0xc02,
};

static uint64_t read_sstatus(const struct vd_hart *h)
{
	uint64_t value = (h->sstatus & SSTATUS_WRITABLE) | STATUS_UXL;

	/* Any use of floating point counts as dirty: allowed, and spares tracking it. */
	if (value & STATUS_FS)
		value |= STATUS_FS | STATUS_SD;
	return value;
}

static enum csr_result write_sstatus(struct vd_hart *h, uint64_t value)
{
	uint64_t old = h->sstatus;

	h->sstatus = (old & ~SSTATUS_WRITABLE) | (value & SSTATUS_WRITABLE);
	if ((old ^ h->sstatus) & STATUS_MXR)
		vd_tlb_flush_all(h);
	if ((old ^ h->sstatus) & (STATUS_SUM | STATUS_FS))
		vd_tlb_update_context(h);
	/* Interrupts that waited for SIE are taken by the run loop. */
	return (h->sstatus & ~old & STATUS_SIE) && vd_trap_pending(h) ? CSR_LEAVE : CSR_OK;
}

/* Modes are Bare, Sv39, Sv48, Sv57; anything else leaves satp as it was. No ASIDs. */
static enum csr_result write_satp(struct vd_hart *h, uint64_t value)
{
	unsigned mode = (unsigned)(value >> 60);

	if (mode != 0 && (mode < 8 || mode > 10))
		return CSR_OK;
	value &= 0xf000000000000000ull | ((1ull << 44) - 1);
	if (mode == 0)
		value = 0;
	h->satp = value;
	vd_tlb_flush_all(h);
	return CSR_LEAVE;
}

/* Not all counters may be read below: scounteren (and mcounteren) say. */
static bool counter_allowed(const struct vd_hart *h, unsigned bit)
{
	if (hart_machine(h) && h->privilege != PRIV_M && !(h->mcounteren >> bit & 1))
		return false;
	return h->privilege != PRIV_U || h->user_only || (h->scounteren >> bit & 1);
}

static bool read_float(struct vd_hart *h, unsigned csr, uint64_t *value)
{
	if (!h->fp_on)
		return false;
	*value = csr == FFLAGS ? h->fcsr & 31 : csr == FRM ? h->fcsr >> 5 & 7 : h->fcsr & 255;
	return true;
}

static bool read_supervisor(struct vd_hart *h, unsigned csr, uint64_t *value)
{
	unsigned top;

	switch (csr) {
	case SSTATUS: *value = read_sstatus(h); return true;
	case SIE: *value = h->sie & SIE_WRITABLE; return true;
	case STVEC: *value = h->stvec; return true;
	case SCOUNTEREN: *value = h->scounteren; return true;
	case SENVCFG: *value = h->senvcfg; return true;
	case SSCRATCH: *value = h->sscratch; return true;
	case SEPC: *value = h->sepc; return true;
	case SCAUSE: *value = h->scause; return true;
	case STVAL: *value = h->stval; return true;
	case SIP: *value = vd_hart_sip(h); return true;
	case STIMECMP: *value = h->stimecmp; return true;
	case SISELECT: *value = h->siselect; return true;
	case SIREG: return vd_imsic_read(h, h->siselect, value);
	case STOPEI: *value = vd_imsic_top(h); return true;
	case STOPI:
		top = vd_trap_top(h);
		*value = top ? (uint64_t)top << 16 | 1 : 0;
		return true;
	case SATP:
		*value = h->satp;
		return !(h->privilege == PRIV_S && (h->sstatus & STATUS_TVM));
	default:
		return false;
	}
}

static bool csr_read(struct vd_hart *h, unsigned csr, uint64_t *value)
{
	switch (csr) {
	case FFLAGS: case FRM: case FCSR:
		return read_float(h, csr, value);
	case CYCLE: case INSTRET:
		*value = h->count - h->count_base[csr >> 1 & 1];
		return counter_allowed(h, csr & 31);
	case TIME:
		*value = vd_hart_time(h);
		return counter_allowed(h, 1);
	default:
		return csr >> 8 == 3 || csr >> 8 == 0xf || csr >> 8 == 0xb || csr >> 8 == 7
			? hart_machine(h) && vd_csr_machine_read(h, csr, value)
			: read_supervisor(h, csr, value);
	}
}

static enum csr_result write_float(struct vd_hart *h, unsigned csr, uint64_t value)
{
	if (csr == FFLAGS)
		h->fcsr = (h->fcsr & ~31u) | (value & 31);
	else if (csr == FRM)
		h->fcsr = (h->fcsr & 31) | (uint32_t)(value & 7) << 5;
	else
		h->fcsr = value & 255;
	return CSR_OK;
}

/* @old: what the same instruction has read; a claim takes the interrupt that it returns */
static enum csr_result csr_write(struct vd_hart *h, unsigned csr, uint64_t old, uint64_t value)
{
	switch (csr) {
	case FFLAGS: case FRM: case FCSR: return write_float(h, csr, value);
	case SSTATUS: return write_sstatus(h, value);
	case SIE: h->sie = value & SIE_WRITABLE; return CSR_LEAVE;
	case STVEC: h->stvec = value & ~2ull; return CSR_OK;
	case SCOUNTEREN: h->scounteren = value & 7; return CSR_OK;
	case SENVCFG: h->senvcfg = value & 1; return CSR_OK;
	case SSCRATCH: h->sscratch = value; return CSR_OK;
	case SEPC: h->sepc = value & ~1ull; return CSR_OK;
	case SCAUSE: h->scause = value; return CSR_OK;
	case STVAL: h->stval = value; return CSR_OK;
	case SIP:
		/* The others, which M mode may have set in mip, are read-only here. */
		h->sip_software &= ~(1ull << IRQ_SSOFT);
		h->sip_software |= value & (1u << IRQ_SSOFT);
		return CSR_LEAVE;
	case STIMECMP: h->stimecmp = value; return CSR_LEAVE;
	case SISELECT: h->siselect = value & 0xfff; return CSR_OK;
	case SIREG: return vd_imsic_write(h, h->siselect, old, value) ? CSR_LEAVE : CSR_ILLEGAL;
	case STOPEI:
		vd_imsic_claim(h, old & 0x7ff);
		return CSR_LEAVE;
	case SATP: return write_satp(h, value);
	default:
		return hart_machine(h) && vd_csr_machine_write(h, csr, value) ? CSR_LEAVE
									      : CSR_ILLEGAL;
	}
}

/* @operation: 1 write, 2 set, 3 clear */
enum csr_result vd_csr_access(struct vd_hart *h, unsigned csr, bool writes, unsigned operation,
			      uint64_t operand, uint64_t *old)
{
	uint64_t value;

	if ((csr >> 8 & 3) > (unsigned)h->privilege || (writes && csr >> 10 == 3))
		return CSR_ILLEGAL;
	if (!csr_read(h, csr, old))
		return CSR_ILLEGAL;
	if (!writes)
		return CSR_OK;
	value = operation == 1 ? operand : operation == 2 ? *old | operand : *old & ~operand;
	/*
	 * Set and clear act on the software-writable part of sip and sstatus, not on what was
	 * merged into the value.
	 */
	return csr_write(h, csr, *old, value);
}
