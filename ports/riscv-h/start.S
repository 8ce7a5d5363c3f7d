/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * M-mode hands everything down and goes to HS-mode; then the way into VS-mode and back. Numbers of
 * registers stand in riscv.h: assemblers differ in which names they know.
 */
#include "riscv.h"

	.section .text.start, "ax"
	.global _start
_start:
	la	sp, port_stack
	la	tp, port_thread
	la	t0, m_fatal
	csrw	mtvec, t0
	/* all memory to the lower modes */
	li	t0, -1
	csrw	pmpaddr0, t0
	li	t0, 0x1f
	csrw	pmpcfg0, t0
	/* all traps but M-mode's own, guest page faults and VS-mode's calls among them */
	li	t0, 0xf0b5ff
	csrw	medeleg, t0
	li	t0, 0x222
	csrw	mideleg, t0
	li	t0, -1
	csrw	mcounteren, t0
	/* STCE: the timer below; PBMTE: memory types in tables */
	li	t0, 3 << 62
	csrw	CSR_MENVCFG, t0
	la	t0, port_bss
	la	t1, port_bss_end
1:	bgeu	t0, t1, 2f
	sd	zero, 0(t0)
	addi	t0, t0, 8
	j	1b
2:	la	t0, port_device_tree
	sd	a1, 0(t0)
	li	t0, 3 << 11		/* MPP, MPV */
	csrc	mstatus, t0
	li	t0, 1 << 11
	csrs	mstatus, t0
	la	t0, 3f
	csrw	mepc, t0
	mret
3:	la	t0, trap
	csrw	stvec, t0
	csrw	sscratch, zero
	call	port_main
4:	wfi
	j	4b

	.balign	4
m_fatal:
	la	sp, port_stack
	csrr	a0, mcause
	csrr	a1, mepc
	csrr	a2, mtval
	j	port_fatal

/*
 * void port_switch(uint64_t registers[32]): runs the guest until the next exit. sscratch holds
 * @registers meanwhile, and 0 while the hypervisor itself runs.
 */
	.global port_switch
port_switch:
	addi	sp, sp, -128
	sd	ra, 0(sp)
	sd	gp, 8(sp)
	sd	s0, 16(sp)
	sd	s1, 24(sp)
	sd	s2, 32(sp)
	sd	s3, 40(sp)
	sd	s4, 48(sp)
	sd	s5, 56(sp)
	sd	s6, 64(sp)
	sd	s7, 72(sp)
	sd	s8, 80(sp)
	sd	s9, 88(sp)
	sd	s10, 96(sp)
	sd	s11, 104(sp)
	sd	sp, 0(a0)		/* x0 needs no room */
	csrw	sscratch, a0
	.irp	n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	ld	x\n, (8 * \n)(a0)
	.endr
	ld	a0, (8 * 10)(a0)
	sret

	.balign	4
trap:
	csrrw	a0, sscratch, a0
	beqz	a0, fatal
	.irp	n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	sd	x\n, (8 * \n)(a0)
	.endr
	csrrw	t0, sscratch, zero
	sd	t0, (8 * 10)(a0)
	ld	sp, 0(a0)
	la	tp, port_thread
	ld	ra, 0(sp)
	ld	gp, 8(sp)
	ld	s0, 16(sp)
	ld	s1, 24(sp)
	ld	s2, 32(sp)
	ld	s3, 40(sp)
	ld	s4, 48(sp)
	ld	s5, 56(sp)
	ld	s6, 64(sp)
	ld	s7, 72(sp)
	ld	s8, 80(sp)
	ld	s9, 88(sp)
	ld	s10, 96(sp)
	ld	s11, 104(sp)
	addi	sp, sp, 128
	ret

fatal:
	la	sp, port_stack
	csrr	a0, scause
	csrr	a1, sepc
	csrr	a2, stval
	j	port_fatal
