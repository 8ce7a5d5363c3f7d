/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One guest in VS-mode behind G-stage translation, without a first stage: entered, left, given an
 * access fault.
 *
 * The RISC-V Instruction Set Manual, Volume II, "Hypervisor Extension": hstatus, hedeleg, hgatp,
 * htval, "Trap Entry" and "Trap Return"; "Sstc" for stimecmp.
 */
#include "riscv.h"

#define SSTATUS_SPIE (1u << 5)
#define SSTATUS_SIE (1u << 1)
#define SSTATUS_SPP (1u << 8)
#define HSTATUS_SPV (1u << 7)
#define SIE_STIE (1u << 5)

/*
 * What the guest takes itself: misaligned, illegal, breakpoint, user calls, its own page faults.
 * Access faults are not among them: what the bus refuses is an abort like any other.
 */
#define GUEST_EXCEPTIONS (1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 6 | 1u << 8 | 1u << 12 |  \
			  1u << 13 | 1u << 15)

enum {
	CAUSE_FETCH_ACCESS = 1,
	CAUSE_LOAD_ACCESS = 5,
	CAUSE_STORE_ACCESS = 7,
	CAUSE_VS_CALL = 10,
	CAUSE_FETCH_GUEST = 20,
	CAUSE_LOAD_GUEST = 21,
	CAUSE_STORE_GUEST = 23,
};

extern char guest_return[];

static struct {
	uint64_t registers[32];
	uint64_t pc, cause, value, status;
	bool has_handler;
} guest;

/* ---- G-stage --------------------------------------------------------------------------------- */

bool port_has_mode(unsigned mode)
{
	uint64_t before = read_csr(CSR_HGATP), now;

	write_csr(CSR_HGATP, (uint64_t)mode << 60);
	now = read_csr(CSR_HGATP);
	write_csr(CSR_HGATP, before);
	return now >> 60 == mode;
}

void port_stage2(const struct port_format *format, void *root)
{
	write_csr(CSR_HGATP, (uint64_t)port_mode(format) << 60 | (uint64_t)1 << 44 |
			     (uint64_t)root >> 12);
	port_flush(NULL, 0, 0);
}

void port_flush(void *context, uint64_t start, uint64_t length)
{
	(void)context;
	(void)start;
	(void)length;
	/* hfence.gvma, hfence.vvma */
	__asm__ volatile(".insn r 0x73, 0, 0x31, x0, x0, x0\n\t"
			 ".insn r 0x73, 0, 0x11, x0, x0, x0" : : : "memory");
}

/* ---- runs ------------------------------------------------------------------------------------ */

void port_start(const struct port_call *call)
{
	for (unsigned i = 0; i < 32; i++)
		guest.registers[i] = 0;
	for (unsigned i = 0; i < 3; i++)
		guest.registers[10 + i] = call->argument[i];
	guest.registers[1] = (uint64_t)guest_return;
	guest.registers[2] = call->stack;
	guest.has_handler = call->handler != UINT64_MAX;
	guest.pc = call->pc;
	guest.status = SSTATUS_SPP;
	write_csr(CSR_VSTVEC, guest.has_handler ? call->handler : 0);
	write_csr(CSR_VSSTATUS, 0);
	write_csr(CSR_VSIE, 0);
	write_csr(CSR_VSATP, 0);
	write_csr(CSR_HEDELEG, GUEST_EXCEPTIONS);
	write_csr(CSR_HIDELEG, 0);
	write_csr(CSR_HVIP, 0);
	write_csr(CSR_HIE, 0);
	write_csr(CSR_HENVCFG, 0);
	write_csr(CSR_HCOUNTEREN, 7);
}

static void decode(struct port_exit *exit)
{
	uint64_t page = read_csr(CSR_HTVAL) << 2 | (guest.value & 3), cause = guest.cause;

	exit->syndrome = cause;
	/*
	 * With a first stage of its own, as if that mapped the vector one to one: if not, the run
	 * may end one abort sooner.
	 */
	exit->handler = guest.has_handler ? read_csr(CSR_VSTVEC) & ~UINT64_C(3) : UINT64_MAX;
	exit->abort = (struct vd_internal_abort){
		.address = {cause >= CAUSE_FETCH_GUEST ? page : guest.value},
		.virtual = {guest.value},
		.pc = guest.pc,
	};
	switch (cause) {
	case CAUSE_VS_CALL:
		exit->kind = guest.registers[17] ? PORT_STRAYED : PORT_RETURNED;
		exit->value = guest.registers[10];
		return;
	case CAUSE_FETCH_ACCESS:
	case CAUSE_FETCH_GUEST:
		exit->abort.access = VD_EXECUTE;
		break;
	case CAUSE_LOAD_ACCESS:
	case CAUSE_LOAD_GUEST:
		exit->abort.access = VD_READ;
		break;
	case CAUSE_STORE_ACCESS:
	case CAUSE_STORE_GUEST:
		exit->abort.access = VD_WRITE;
		break;
	default:
		exit->kind = PORT_STRAYED;
		return;
	}
	exit->kind = PORT_ABORTED;
}

void port_enter(uint64_t deadline, struct port_exit *exit)
{
	*exit = (struct port_exit){.kind = PORT_TICKED};
	write_csr(CSR_STIMECMP, deadline / 100 + 1);
	/* Enabled for all that is below HS-mode, whatever sstatus.SIE says. */
	write_csr(CSR_SIE, SIE_STIE);
	write_csr(CSR_HSTATUS, UINT64_C(2) << 32 | HSTATUS_SPV);
	write_csr(CSR_SSTATUS, guest.status);
	write_csr(CSR_SEPC, guest.pc);
	port_switch(guest.registers);
	write_csr(CSR_SIE, 0);
	write_csr(CSR_STIMECMP, UINT64_MAX);
	guest.pc = read_csr(CSR_SEPC);
	guest.cause = read_csr(CSR_SCAUSE);
	guest.value = read_csr(CSR_STVAL);
	guest.status = read_csr(CSR_SSTATUS) & SSTATUS_SPP;
	if (!(guest.cause >> 63))
		decode(exit);
}

/* An access fault: no guest can mask an exception. */
void port_inject(const struct port_exit *exit)
{
	uint64_t status = read_csr(CSR_VSSTATUS);
	uint64_t cause = exit->abort.access == VD_EXECUTE ? CAUSE_FETCH_ACCESS
			 : exit->abort.access == VD_WRITE ? CAUSE_STORE_ACCESS
							  : CAUSE_LOAD_ACCESS;

	write_csr(CSR_VSCAUSE, cause);
	write_csr(CSR_VSTVAL, guest.value);
	write_csr(CSR_VSEPC, guest.pc);
	status &= ~(uint64_t)(SSTATUS_SPP | SSTATUS_SPIE);
	status |= guest.status | (status & SSTATUS_SIE ? SSTATUS_SPIE : 0);
	write_csr(CSR_VSSTATUS, status & ~(uint64_t)SSTATUS_SIE);
	guest.pc = exit->handler;
	guest.status = SSTATUS_SPP;
}
