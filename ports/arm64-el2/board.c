/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QEMU's "virt" board, at EL2: memory map, serial port, clock, power, and the hypervisor's own
 * first-stage table, since exclusive loads and unaligned ones need Normal memory.
 */
#include "arm64.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define UART UINT64_C(0x09000000)
#define RTC UINT64_C(0x09010000)
#define RAM UINT64_C(0x40000000)
#define RAM_BYTES (3 * GIB - MIB) /* -m 3G */

extern char port_own[], port_own_end[];

void port_putc(char c)
{
	volatile uint32_t *uart = (volatile uint32_t *)UART; /* PL011: UARTDR, UARTFR */

	while (uart[6] & 1 << 5)
		;
	uart[0] = (unsigned char)c;
}

uint64_t port_clock_ns(void)
{
	uint64_t ticks = read_sysreg(cntpct_el0), hz = read_sysreg(cntfrq_el0);

	return ticks / hz * 1000000000 + ticks % hz * 1000000000 / hz;
}

/* PSCI SYSTEM_OFF by SMC, which QEMU answers on this board when it has an EL2. */
void port_off(void)
{
	register uint64_t function __asm__("x0") = 0x84000008;

	__asm__ volatile("smc #0" : "+r"(function) : : "memory");
	for (;;)
		__asm__ volatile("wfi");
}

void port_fatal(uint64_t esr, uint64_t elr, uint64_t far)
{
	port_print("\nnot ok - the hypervisor itself failed: ESR 0x%llx ELR 0x%llx FAR 0x%llx\n",
		   (unsigned long long)esr, (unsigned long long)elr, (unsigned long long)far);
	port_off();
}

const struct port_board *port_board(void)
{
	static struct vd_physical_range ranges[] = {
		{RAM, RAM_BYTES, VD_PAGE_RAM, VD_MEMORY_NORMAL, false},
		{RAM + RAM_BYTES, MIB, VD_PAGE_RESERVED, VD_MEMORY_NORMAL, false},
		{UART, 0x10000, VD_PAGE_DEVICE, VD_MEMORY_UNCACHED, false},
		{RTC, 0x10000, VD_PAGE_DEVICE, VD_MEMORY_UNCACHED, false},
		{GICD, 0x20000, VD_PAGE_DEVICE, VD_MEMORY_UNCACHED, true},
		{0, 0, VD_PAGE_RAM, VD_MEMORY_NORMAL, true},
	};
	static const struct port_board board = {
		.ranges = ranges,
		.count = sizeof(ranges) / sizeof(ranges[0]),
		.uart = UART,
		.rtc = RTC,
		.device_length = 0x10000,
		.own = RAM + 2 * MIB,
		.own_device = GICD,
		.large = 2 * GIB,
		.large_length = GIB,
		.ragged = UINT64_C(0x61ff0000),
		.ragged_length = UINT64_C(0x64030000) - UINT64_C(0x61ff0000),
		.reserved = RAM + RAM_BYTES,
		.hole = UINT64_C(0x0a200000),
	};

	ranges[5].start = (uint64_t)port_own;
	ranges[5].length = (uint64_t)(port_own_end - port_own);
	return &board;
}

/*
 * EL2 stage 1: 39 bits, 4 KiB granule, blocks of 1 GiB: devices below RAM, Normal from there on.
 * SCTLR_EL2, TCR_EL2, MAIR_EL2: Arm ARM, "AArch64 System register descriptions".
 */
void port_mmu(void)
{
	static _Alignas(4096) volatile uint64_t table[512];
	/* valid, AF, inner shareable, AP[1] */
	const uint64_t block = 1 | 1 << 10 | 3 << 8 | 1 << 6;

	table[0] = block | 1 << 2 | UINT64_C(1) << 54; /* Attr1, XN */
	for (uint64_t i = 1; i < 8; i++)
		table[i] = i * GIB | block;
	write_sysreg(mair_el2, UINT64_C(0x04ff));
	write_sysreg(tcr_el2, UINT64_C(1) << 31 | 1 << 23 | 2 << 16 | 3 << 12 | 1 << 10 | 1 << 8 |
		     25);
	write_sysreg(ttbr0_el2, (uint64_t)table);
	__asm__ volatile("dsb ish\n\ttlbi alle2\n\tdsb ish\n\tisb" : : : "memory");
	write_sysreg(sctlr_el2, UINT64_C(0x30c50830) | 1 << 12 | 1 << 2 | 1);
	__asm__ volatile("isb" : : : "memory");
	port_timer_open();
}
