/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef VD_TESTS_VCPU_INSN_HART_H
#define VD_TESTS_VCPU_INSN_HART_H

#include <viaduct/vcpu.h>

#include "insn_paging.h"
#include "insn_program.h"

#define INSN_HARTS_MAX 4

/*
 * Harts, and memory for programs. They run in user mode: in mode bare with nothing around them,
 * else under page tables and a few instructions of supervisor code.
 */
struct insn_machine;

/* Return: the machine, or NULL with a message printed. */
struct insn_machine *insn_machine_create(const struct insn_setting *setting, unsigned int harts);
void insn_machine_destroy(struct insn_machine *machine);

struct vd_mem *insn_machine_memory(struct insn_machine *machine);
/* A hart ends its vd_hart_run() with VD_HART_EXIT_HALT at the system call INSN_SYS_EXIT. */
struct vd_hart *insn_machine_hart(struct insn_machine *machine, unsigned int index);

/*
 * Run a program on the first hart and collect the data it writes.
 * Return: 0; -EIO if it did not end as a program does: an exception, an unknown system call, a
 * soft TLB that differed from the tables (VD_HART_CHECK_TLB), wrong accessed or dirty bits.
 */
int insn_machine_run(struct insn_machine *machine, const struct insn_program *program,
		     struct insn_data *result);

#endif
