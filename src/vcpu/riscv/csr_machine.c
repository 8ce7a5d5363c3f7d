/* SPDX-License-Identifier: BSD-2-Clause */
/* The few machine-mode registers that riscv-tests need; only with VD_HART_MACHINE. */
#include "vcpu/riscv/hart.h"

#define MISA ((2ull << 62) | 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 12 | 1 << 18 | 1 << 20)
#define MSTATUS_WRITABLE                                                                           \
	(STATUS_SIE | STATUS_MIE | STATUS_SPIE | STATUS_MPIE | STATUS_SPP | STATUS_MPP |           \
	 STATUS_FS | STATUS_MPRV | STATUS_SUM | STATUS_MXR | STATUS_TVM | STATUS_TW | STATUS_TSR)

enum {
	MSTATUS = 0x300, MISA_CSR = 0x301, MEDELEG = 0x302, MIDELEG = 0x303, MIE = 0x304,
	MTVEC = 0x305, MCOUNTEREN = 0x306, MENVCFG = 0x30a, MCOUNTINHIBIT = 0x320,
	MSCRATCH = 0x340, MEPC = 0x341, MCAUSE = 0x342, MTVAL = 0x343, MIP = 0x344,
	PMPCFG0 = 0x3a0, PMPADDR0 = 0x3b0, TSELECT = 0x7a0, TDATA1 = 0x7a1, TDATA2 = 0x7a2,
	MCYCLE = 0xb00, MINSTRET = 0xb02,
	MVENDORID = 0xf11, MARCHID = 0xf12, MIMPID = 0xf13, MHARTID = 0xf14, MCONFIGPTR = 0xf15,
};

/* Registers that are plain storage under a mask. */
static uint64_t *storage(struct vd_hart *h, unsigned csr, uint64_t *mask)
{
	*mask = UINT64_MAX;
	switch (csr) {
	case MEDELEG: *mask = 0xb3ff; return &h->medeleg;
	case MIDELEG: *mask = 0x222; return &h->mideleg;
	case MTVEC: *mask = ~2ull; return &h->mtvec;
	case MCOUNTEREN: *mask = 7; return &h->mcounteren;
	case MENVCFG: *mask = 1; return &h->menvcfg;
	case MCOUNTINHIBIT: *mask = 5; return &h->mcountinhibit;
	case MSCRATCH: return &h->mscratch;
	case MEPC: *mask = ~1ull; return &h->mepc;
	case MCAUSE: return &h->mcause;
	case MTVAL: return &h->mtval;
	case PMPCFG0: case PMPCFG0 + 2: return &h->pmpcfg[(csr - PMPCFG0) / 2];
	default:
		if (csr >= PMPADDR0 && csr < PMPADDR0 + 16)
			return &h->pmpaddr[csr - PMPADDR0];
		return NULL;
	}
}

bool vd_csr_machine_read(struct vd_hart *h, unsigned csr, uint64_t *value)
{
	uint64_t mask, *p = storage(h, csr, &mask);

	*value = 0;
	if (p) {
		*value = *p;
		return true;
	}
	switch (csr) {
	case MSTATUS:
		*value = (h->sstatus & MSTATUS_WRITABLE) | STATUS_UXL | STATUS_SXL;
		if (*value & STATUS_FS)
			*value |= STATUS_FS | STATUS_SD;
		return true;
	case MISA_CSR: *value = MISA; return true;
	case MIE: *value = h->mie | h->sie; return true;
	case MIP: *value = h->mip_software | vd_hart_sip(h); return true;
	case MCYCLE: case MINSTRET: *value = h->count - h->count_base[csr >> 1 & 1]; return true;
	/* One trigger of type 0: "there is no trigger" (debug specification, tdata1). */
	case TSELECT: case TDATA1: case TDATA2: return true;
	case MHARTID: *value = h->config.id; return true;
	case MVENDORID: case MARCHID: case MIMPID: case MCONFIGPTR: return true;
	default:
		return false;
	}
}

static void write_mstatus(struct vd_hart *h, uint64_t value)
{
	if ((value & STATUS_MPP) == 2ull << 11) /* there is no mode 2 */
		value = (value & ~STATUS_MPP) | (h->sstatus & STATUS_MPP);
	h->sstatus = (h->sstatus & ~MSTATUS_WRITABLE) | (value & MSTATUS_WRITABLE);
	vd_tlb_flush_all(h);
	vd_tlb_update_context(h);
}

bool vd_csr_machine_write(struct vd_hart *h, unsigned csr, uint64_t value)
{
	uint64_t mask, *p = storage(h, csr, &mask);

	if (p) {
		*p = value & mask;
		return true;
	}
	switch (csr) {
	case MSTATUS:
		write_mstatus(h, value);
		return true;
	case MIE:
		h->mie = value & 0x888;
		h->sie = value & 0x222;
		return true;
	case MIP:
		h->mip_software = value & (1u << IRQ_MSOFT);
		h->sip_software = value & (1u << IRQ_SSOFT | 1u << IRQ_STIMER | 1u << IRQ_SEXT);
		return true;
	case MCYCLE: case MINSTRET: /* the next instruction reads the value written */
		h->count_base[csr >> 1 & 1] = h->count + 1 - value;
		return true;
	case MISA_CSR: case TSELECT: case TDATA1: case TDATA2:
		return true; /* may be written, without effect */
	default:
		return false;
	}
}
