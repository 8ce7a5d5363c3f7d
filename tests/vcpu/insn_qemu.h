/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef VD_TESTS_VCPU_INSN_QEMU_H
#define VD_TESTS_VCPU_INSN_QEMU_H

#include "insn_program.h"

/* Whether qemu-riscv64 is in the PATH. */
int insn_qemu_available(void);

/*
 * Run a program under qemu-riscv64 and collect the data it writes.
 * Return: 0, or -errno; -EIO if it did not end as a program does.
 */
int insn_qemu_run(const struct insn_program *program, struct insn_data *result);

#endif
