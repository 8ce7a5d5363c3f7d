/* SPDX-License-Identifier: BSD-2-Clause */
/* Machines that boot tiny kernels: files with the header of a Linux Image and code of the test's own. */
#ifndef VD_TESTS_VM_RIG_H
#define VD_TESTS_VM_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <viaduct/vm.h>

#include "../vcpu/insn_names.h"

#define RIG_MIB (UINT64_C(1) << 20)
#define RIG_KERNEL (VD_BOARD_RAM + 2 * RIG_MIB)
#define RIG_ENTRY (RIG_KERNEL + 64)		/* the code, behind the header */
#define RIG_DATA (VD_BOARD_RAM + 32 * RIG_MIB)	/* free for programs, which find its address in x8 */
#define RIG_MEMORY (64 * RIG_MIB)

/* A file that is unlinked by rig_file_remove(). */
struct rig_file {
	char path[64];
};

void rig_file_create(struct rig_file *file, const void *bytes, size_t length);
void rig_file_remove(struct rig_file *file);

/*
 * A kernel of these instructions. They begin with x8 = RIG_DATA; x10 and x11 are what the machine
 * gives them.
 */
void rig_kernel_create(struct rig_file *file, const uint32_t *code, size_t count);
#define RIG_KERNEL_CREATE(file, ...)                                                               \
	do {                                                                                       \
		const uint32_t code_[] = {__VA_ARGS__};                                            \
		rig_kernel_create(file, code_, sizeof(code_) / 4);                                 \
	} while (0)

/* Fill @config with the defaults of these tests. */
void rig_config(struct vd_vm_config *config, const struct rig_file *kernel);
/* Create a machine or fail the test. */
struct vd_vm *rig_create(const struct rig_file *kernel, unsigned int cpus);

uint64_t rig_read64(struct vd_vm *vm, uint64_t gpa);
void rig_write64(struct vd_vm *vm, uint64_t gpa, uint64_t value);

/* The SBI's numbers (specification 2.0). */
#define SBI_BASE 0x10u
#define SBI_TIME 0x54494d45u
#define SBI_IPI 0x735049u
#define SBI_RFENCE 0x52464e43u
#define SBI_HSM 0x48534du
#define SBI_SRST 0x53525354u
#define SBI_DBCN 0x4442434eu

/* Load a number of 32 bits whose sign bit is clear: two instructions. */
#define LI(rd, value)                                                                              \
	LUI(rd, ((value) + 0x800u) & 0xfffff000u), ADDI(rd, rd, (int32_t)((value) << 20) >> 20)
#define POWER_OFF LI(17, SBI_SRST), ADDI(16, 0, 0), ADDI(10, 0, 0), ADDI(11, 0, 0), ECALL

#endif
