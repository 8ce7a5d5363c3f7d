/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A processor of Unicorn that walks our tables: a few hand-assembled instructions, at a virtual
 * address, load, store or jump through another one. A new processor for each access: what it knows
 * comes from the tables alone.
 */
#ifndef VIADUCT_TESTS_MMU_UNICORN_CPU_H
#define VIADUCT_TESTS_MMU_UNICORN_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <viaduct/mmu.h>

enum cpu_architecture { CPU_X86_64, CPU_X86_LA57, CPU_X86_PAE, CPU_RISCV, CPU_ARM64 };

/*
 * @memory, @bytes: host memory that is at @physical; the processor has it at @alias as well
 * @root: physical address of the root table
 * @control: what satp or TCR_EL1 hold beside the root
 * @kernel_code, @user_code: virtual addresses of the programs, for supervisor and user mode
 * @physical_code: where the kernel's are, for what runs before translation is on
 */
struct cpu_config {
	enum cpu_architecture architecture;
	void *memory;
	size_t bytes;
	uint64_t physical, alias;
	uint64_t root;
	uint64_t control;
	uint64_t kernel_code, user_code, physical_code;
};

/* The programs, in @code: at most CPU_CODE_BYTES. */
#define CPU_CODE_BYTES 256u
void cpu_write_programs(enum cpu_architecture architecture, uint8_t *code);

/* A program that puts @value (at most 0x7ff) into the register that cpu_access() returns. */
#define CPU_TARGET_BYTES 8u
void cpu_write_target(enum cpu_architecture architecture, uint8_t *code, unsigned value);

enum cpu_result { CPU_OK, CPU_PAGE_FAULT };

/*
 * @access: VD_READ: what is at @address comes back in @value; VD_WRITE: @value goes there (32 bits
 * in PAE); VD_EXECUTE: the target there is run.
 */
enum cpu_result cpu_access(const struct cpu_config *config, bool user, unsigned access,
			   uint64_t address, uint64_t *value);

/* Unicorn before 2.1 checks what x86 tables say, but then takes the virtual address for physical. */
bool cpu_maps_to_itself(enum cpu_architecture architecture);
/* Unicorn before 2.1 has no x86 processor with NX. */
bool cpu_has_no_execute(enum cpu_architecture architecture);

#endif
