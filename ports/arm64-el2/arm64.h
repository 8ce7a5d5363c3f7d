/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the arm64 port. */
#ifndef VIADUCT_PORT_ARM64_H
#define VIADUCT_PORT_ARM64_H

#include "port.h"

#define read_sysreg(name)                                                                          \
	({                                                                                         \
		uint64_t value_;                                                                   \
                                                                                                   \
		__asm__ volatile("mrs %0, " #name : "=r"(value_));                                 \
		value_;                                                                            \
	})
#define write_sysreg(name, value)                                                                  \
	do {                                                                                       \
		uint64_t written_ = (value);                                                       \
                                                                                                   \
		__asm__ volatile("msr " #name ", %0" : : "r"(written_) : "memory");                \
	} while (0)

#define GICD UINT64_C(0x08000000)
#define GICC UINT64_C(0x08010000)

/* start.S */
unsigned port_switch(uint64_t registers[31]);
_Noreturn void port_fatal(uint64_t esr, uint64_t elr, uint64_t far);
/* board.c; called with the MMU off, and leaves it on */
void port_mmu(void);
/* guest.c */
void port_timer_open(void);

#endif
