/* SPDX-License-Identifier: BSD-2-Clause */
/* QEMU's "virt" board, in HS-mode: memory map, serial port, clock, power. */
#include "riscv.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define TEST UINT64_C(0x00100000)
#define RTC UINT64_C(0x00101000)
#define CLINT UINT64_C(0x02000000)
#define UART UINT64_C(0x10000000)
#define RAM UINT64_C(0x80000000)
#define RAM_BYTES (3 * GIB - MIB) /* -m 3G */

#define TICK_NS 100 /* the board's timebase is 10 MHz */

extern char port_own[], port_own_end[];

const char *port_device_tree;

void port_putc(char c)
{
	volatile uint8_t *uart = (volatile uint8_t *)UART; /* 16550: THR, LSR */

	while (!(uart[5] & 0x20))
		;
	uart[0] = (uint8_t)c;
}

uint64_t port_clock_ns(void)
{
	return read_csr(CSR_TIME) * TICK_NS;
}

void port_off(void)
{
	*(volatile uint32_t *)TEST = 0x5555;
	for (;;)
		__asm__ volatile("wfi");
}

void port_fatal(uint64_t cause, uint64_t pc, uint64_t value)
{
	port_print("\nnot ok - the hypervisor itself failed: cause 0x%llx pc 0x%llx value 0x%llx\n",
		   (unsigned long long)cause, (unsigned long long)pc, (unsigned long long)value);
	port_off();
}

const struct port_board *port_board(void)
{
	static struct vd_physical_range ranges[] = {
		{RAM, RAM_BYTES, VD_PAGE_RAM, VD_MEMORY_NORMAL, false},
		{RAM + RAM_BYTES, MIB, VD_PAGE_RESERVED, VD_MEMORY_NORMAL, false},
		{UART, 0x1000, VD_PAGE_DEVICE, VD_MEMORY_UNCACHED, false},
		{RTC, 0x1000, VD_PAGE_DEVICE, VD_MEMORY_UNCACHED, false},
		{CLINT, 0x10000, VD_PAGE_DEVICE, VD_MEMORY_UNCACHED, true},
		{0, 0, VD_PAGE_RAM, VD_MEMORY_NORMAL, true},
	};
	static const struct port_board board = {
		.ranges = ranges,
		.count = sizeof(ranges) / sizeof(ranges[0]),
		.uart = UART,
		.rtc = RTC,
		.device_length = 0x1000,
		.own = RAM,
		.own_device = CLINT,
		.large = 3 * GIB,
		.large_length = GIB,
		.ragged = UINT64_C(0xa1ff0000),
		.ragged_length = UINT64_C(0xa4030000) - UINT64_C(0xa1ff0000),
		.reserved = RAM + RAM_BYTES,
		.hole = UINT64_C(0x08000000),
	};

	ranges[5].start = (uint64_t)port_own;
	ranges[5].length = (uint64_t)(port_own_end - port_own);
	return &board;
}
