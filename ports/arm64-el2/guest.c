/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One guest at EL1 behind stage 2, with its own MMU off: entered, left, given an abort.
 *
 * Arm Architecture Reference Manual for A-profile architecture: HCR_EL2, VTCR_EL2, VTTBR_EL2,
 * ESR_EL2, HPFAR_EL2 in "AArch64 System register descriptions"; "Exception entry" for what an
 * injected exception looks like; "The Generic Timer" for CNTHP.
 */
#include "arm64.h"

/*
 * HCR_EL2: stage 2 on (VM); physical interrupts and SErrors to EL2, where the guest's PSTATE does
 * not mask them (FMO, IMO, AMO); its data cacheable while its own MMU is off (DC); SMC trapped
 * (TSC); 64-bit (RW).
 */
#define HCR (UINT64_C(1) << 31 | 1 << 19 | 1 << 5 | 1 << 4 | 1 << 3 | 1)
#define HCR_DC (1u << 12) /* and with that off for good */
#define SPSR_EL1H_MASKED UINT64_C(0x3c5) /* EL1h, D A I F */

#define EC_HVC 0x16u
#define EC_INSTRUCTION_ABORT 0x20u /* from a lower level; plus 1: from the same */
#define EC_DATA_ABORT 0x24u
#define ISS_WNR (1u << 6)
#define ISS_S1PTW (1u << 7)
#define ISS_CM (1u << 8)
#define FSC_PERMISSION 0x0cu	  /* 0x0c to 0x0f, by level */
#define FSC_EXTERNAL_ABORT 0x10u  /* synchronous, not on a walk */

#define TIMER_PPI 26u

extern char guest_return[];

static struct {
	uint64_t registers[31];
	uint64_t esr, far, elr, spsr;
	bool has_handler;
} guest;

/* ---- the timer: EL2's own, whose interrupt no guest can mask --------------------------------- */

static volatile uint32_t *gic(uint64_t base, unsigned offset)
{
	return (volatile uint32_t *)(base + offset);
}

void port_timer_open(void)
{
	*gic(GICD, 0) = 1;			/* GICD_CTLR */
	*gic(GICD, 0x100) = 1u << TIMER_PPI;	/* GICD_ISENABLER0 */
	*gic(GICC, 4) = 0xff;			/* GICC_PMR */
	*gic(GICC, 0) = 1;			/* GICC_CTLR */
	write_sysreg(cnthp_ctl_el2, UINT64_C(0));
	/* The guest has the counter, and none of the physical timer. */
	write_sysreg(cnthctl_el2, UINT64_C(1));
}

static void timer_set(uint64_t deadline)
{
	uint64_t now = port_clock_ns(), hz = read_sysreg(cntfrq_el0);
	uint64_t left = deadline > now ? deadline - now : 0;

	write_sysreg(cnthp_cval_el2, read_sysreg(cntpct_el0) +
		     left / 1000000000 * hz + left % 1000000000 * hz / 1000000000 + 1);
	write_sysreg(cnthp_ctl_el2, UINT64_C(1));
	__asm__ volatile("isb");
}

static void timer_stop(bool fired)
{
	write_sysreg(cnthp_ctl_el2, UINT64_C(0));
	__asm__ volatile("isb");
	if (fired) {
		uint32_t interrupt = *gic(GICC, 0xc); /* GICC_IAR */

		if ((interrupt & 0x3ff) < 1020)
			*gic(GICC, 0x10) = interrupt; /* GICC_EOIR */
	}
}

/* ---- stage 2 --------------------------------------------------------------------------------- */

void port_stage2(const struct port_format *format, void *root)
{
	uint64_t range = read_sysreg(id_aa64mmfr0_el1) & 0xf;

	if (range > 5)
		range = 5; /* 48 bits: 52 need another format */
	write_sysreg(vtcr_el2, UINT64_C(1) << 31 | range << 16 |
		     vd_mmu_format_arm64_control(format->format));
	write_sysreg(vttbr_el2, UINT64_C(1) << 48 | (uint64_t)root);
	write_sysreg(hcr_el2, HCR | HCR_DC);
	port_flush(NULL, 0, 0);
}

void port_flush(void *context, uint64_t start, uint64_t length)
{
	(void)context;
	(void)start;
	(void)length;
	__asm__ volatile("dsb ish\n\ttlbi vmalls12e1is\n\tdsb ish\n\tisb" : : : "memory");
}

/* ---- runs ------------------------------------------------------------------------------------ */

void port_start(const struct port_call *call)
{
	for (unsigned i = 0; i < 31; i++)
		guest.registers[i] = 0;
	for (unsigned i = 0; i < 3; i++)
		guest.registers[i] = call->argument[i];
	guest.registers[30] = (uint64_t)guest_return;
	guest.has_handler = call->handler != UINT64_MAX;
	guest.elr = call->pc;
	guest.spsr = SPSR_EL1H_MASKED;
	write_sysreg(hcr_el2, call->own_tables ? HCR : HCR | HCR_DC);
	write_sysreg(sp_el1, call->stack);
	write_sysreg(vbar_el1, guest.has_handler ? call->handler : 0);
	write_sysreg(sctlr_el1, UINT64_C(0x30d00800)); /* RES1; MMU, caches and checks off */
	write_sysreg(cpacr_el1, UINT64_C(3) << 20);
}

/* Where the guest takes a synchronous exception now: Arm ARM, "Exception vectors". */
static uint64_t vector_now(void)
{
	uint64_t mode = guest.spsr & 0x1f;
	uint64_t offset = mode & 0x10 ? 0x600 : mode == 5 ? 0x200 : mode == 4 ? 0 : 0x400;

	return guest.has_handler ? read_sysreg(vbar_el1) + offset : UINT64_MAX;
}

/* What the guest's first stage makes of an address; UINT64_MAX if nothing. */
static uint64_t first_stage(uint64_t address)
{
	uint64_t par;

	__asm__ volatile("at s1e1r, %0\n\tisb" : : "r"(address) : "memory");
	par = read_sysreg(par_el1);
	return par & 1 ? UINT64_MAX : (par & UINT64_C(0x0000fffffffff000)) | (address & 0xfff);
}

/*
 * HPFAR_EL2 holds the page, but for permission faults that did not happen on a walk of the guest's:
 * then the first stage is asked once more.
 */
static uint64_t fault_address(void)
{
	if ((guest.esr & 0x3c) == FSC_PERMISSION && !(guest.esr & ISS_S1PTW))
		return first_stage(guest.far);
	return (read_sysreg(hpfar_el2) & UINT64_C(0xfffffffff0)) << 8 | (guest.far & 0xfff);
}

static void decode(struct port_exit *exit)
{
	unsigned ec = (unsigned)(guest.esr >> 26) & 0x3f;

	exit->syndrome = guest.esr;
	exit->handler = guest.has_handler ? first_stage(vector_now()) : UINT64_MAX;
	exit->kind = PORT_STRAYED;
	if (ec == EC_HVC && !(guest.esr & 0xffff)) {
		exit->kind = PORT_RETURNED;
		exit->value = guest.registers[0];
	} else if (ec == EC_INSTRUCTION_ABORT || ec == EC_DATA_ABORT) {
		exit->kind = PORT_ABORTED;
		exit->abort = (struct vd_internal_abort){
			.address = {fault_address()},
			.virtual = {guest.far},
			.pc = guest.elr,
			.access = ec == EC_INSTRUCTION_ABORT ? VD_EXECUTE
				  : guest.esr & ISS_WNR && !(guest.esr & ISS_CM) ? VD_WRITE
										 : VD_READ,
		};
	}
}

void port_enter(uint64_t deadline, struct port_exit *exit)
{
	unsigned why;

	*exit = (struct port_exit){.kind = PORT_TICKED};
	timer_set(deadline);
	write_sysreg(elr_el2, guest.elr);
	write_sysreg(spsr_el2, guest.spsr);
	why = port_switch(guest.registers);
	guest.elr = read_sysreg(elr_el2);
	guest.spsr = read_sysreg(spsr_el2);
	guest.esr = read_sysreg(esr_el2);
	guest.far = read_sysreg(far_el2);
	timer_stop(why == 1);
	if (why == 0) {
		decode(exit);
	} else if (why == 2) {
		exit->kind = PORT_STRAYED;
		exit->syndrome = guest.esr;
	}
}

/*
 * A synchronous external abort, which PSTATE.A does not mask. The syndrome is what the processor
 * would have written had the bus refused the access.
 */
void port_inject(const struct port_exit *exit)
{
	uint64_t handler = vector_now();
	bool fetch = exit->abort.access == VD_EXECUTE, same = (guest.spsr & 0xf) != 0;
	uint64_t ec = (fetch ? EC_INSTRUCTION_ABORT : EC_DATA_ABORT) + same;

	write_sysreg(esr_el1, ec << 26 | (guest.esr & (1 << 25)) |
		     (fetch ? 0 : guest.esr & (ISS_WNR | ISS_CM)) | FSC_EXTERNAL_ABORT);
	write_sysreg(far_el1, guest.far);
	write_sysreg(elr_el1, guest.elr);
	write_sysreg(spsr_el1, guest.spsr);
	guest.elr = handler;
	guest.spsr = SPSR_EL1H_MASKED;
}
