/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside of the RISC-V port. The RISC-V Instruction Set Manual, Volume II: "Control and Status
 * Registers (CSRs)", tables of addresses.
 */
#ifndef VIADUCT_PORT_RISCV_H
#define VIADUCT_PORT_RISCV_H

#define CSR_MENVCFG 0x30a
#define CSR_HSTATUS 0x600
#define CSR_HEDELEG 0x602
#define CSR_HIDELEG 0x603
#define CSR_HIE 0x604
#define CSR_HCOUNTEREN 0x606
#define CSR_HENVCFG 0x60a
#define CSR_HTVAL 0x643
#define CSR_HVIP 0x645
#define CSR_HGATP 0x680
#define CSR_VSSTATUS 0x200
#define CSR_VSIE 0x204
#define CSR_VSTVEC 0x205
#define CSR_VSEPC 0x241
#define CSR_VSCAUSE 0x242
#define CSR_VSTVAL 0x243
#define CSR_VSATP 0x280
#define CSR_STIMECMP 0x14d
#define CSR_SSTATUS 0x100
#define CSR_SIE 0x104
#define CSR_SEPC 0x141
#define CSR_SCAUSE 0x142
#define CSR_STVAL 0x143
#define CSR_TIME 0xc01

#ifndef __ASSEMBLER__
#include "port.h"

#define read_csr(number)                                                                           \
	({                                                                                         \
		uint64_t csr_;                                                                     \
                                                                                                   \
		__asm__ volatile("csrr %0, %1" : "=r"(csr_) : "i"(number) : "memory");             \
		csr_;                                                                              \
	})
#define write_csr(number, value)                                                                   \
	__asm__ volatile("csrw %0, %1" : : "i"(number), "r"((uint64_t)(value)) : "memory")

/* start.S */
void port_switch(uint64_t registers[32]);
_Noreturn void port_fatal(uint64_t cause, uint64_t pc, uint64_t value);
extern const char *port_device_tree;
/* guest.c: whether hgatp takes the mode */
bool port_has_mode(unsigned mode);
unsigned port_mode(const struct port_format *format);
#endif

#endif
