/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef VD_VCPU_RISCV_FP_EXEC_H
#define VD_VCPU_RISCV_FP_EXEC_H

#include <stdint.h>

/**
 * vd_fp_execute() - one instruction of the major opcodes OP-FP, MADD, MSUB, NMSUB and NMADD
 * @x: integer registers; x[0] is 0 and stays so
 * @f: FP registers, singles boxed
 * @fcsr: frm in bits 7:5 is read, flags are OR-ed into bits 4:0
 * @insn: 32-bit encoding
 *
 * Whether the FP unit is on (mstatus.FS), and marking it dirty, is the caller's business. The
 * thread must be in the C default floating-point environment, see fp.h.
 *
 * Return: 0, or -EILSEQ for an encoding outside F and D, a reserved rounding mode in the
 * instruction, or a dynamic one while frm is reserved; then nothing has changed.
 */
int vd_fp_execute(uint64_t *x, uint64_t *f, uint32_t *fcsr, uint32_t insn);

#endif
