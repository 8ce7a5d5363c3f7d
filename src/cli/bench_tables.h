/* SPDX-License-Identifier: BSD-2-Clause */
/* The parts of `viaduct bench mmu`. Return: 0; a negative errno with the reason in @error. */
#ifndef CLI_BENCH_TABLES_H
#define CLI_BENCH_TABLES_H

#include <viaduct/mmu.h>

#include "cli/bench.h"

/* Tables without a guest space, by format. */
int bench_pgtable(struct bench *bench, struct vd_error *error);
/* Faults by two threads in [@gpa, @gpa + @size), which is mapped by pages only. */
int bench_fault_parallel(struct bench *bench, struct vd_mmu *mmu, uint64_t gpa, uint64_t size,
			 struct vd_error *error);

#endif
