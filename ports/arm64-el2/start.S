/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * EL2: the first instruction, the vectors, and the way into EL1 and back.
 */
	.section .text.start, "ax"
	.global _start
_start:
	msr	daifset, #15
	adrp	x0, port_stack
	add	x0, x0, :lo12:port_stack
	mov	sp, x0
	adrp	x0, vectors
	add	x0, x0, :lo12:vectors
	msr	vbar_el2, x0
	adrp	x0, port_thread
	add	x0, x0, :lo12:port_thread
	msr	tpidr_el0, x0
	mrs	x0, cptr_el2		/* no trap of floating point */
	bic	x0, x0, #(1 << 10)
	msr	cptr_el2, x0
	/* zero .bss, word by word: alignment is checked while the MMU is off */
	adrp	x0, port_bss
	add	x0, x0, :lo12:port_bss
	adrp	x1, port_bss_end
	add	x1, x1, :lo12:port_bss_end
1:	cmp	x0, x1
	b.hs	2f
	str	xzr, [x0], #8
	b	1b
2:	bl	port_mmu
	isb
	bl	port_main
3:	wfi
	b	3b

	.macro	vector to
	.balign	128
	b	\to
	.endm

	.balign	2048
vectors:
	.rept	4		/* from EL2 with SP_EL0 */
	vector	fatal
	.endr
	.rept	4		/* from EL2 */
	vector	fatal
	.endr
	vector	from_guest	/* synchronous, from EL1 */
	vector	from_guest_irq
	vector	from_guest_irq
	vector	from_guest_error
	vector	from_guest	/* the same, from 32-bit code below EL1 */
	vector	from_guest_irq
	vector	from_guest_irq
	vector	from_guest_error

	.balign	128
fatal:
	mrs	x0, esr_el2
	mrs	x1, elr_el2
	mrs	x2, far_el2
	adrp	x3, port_stack
	add	x3, x3, :lo12:port_stack
	mov	sp, x3
	b	port_fatal

/*
 * unsigned port_switch(uint64_t registers[31]): runs the guest until the next exit. Returns 0 for a
 * synchronous one, 1 for an interrupt, 2 for an SError. TPIDR_EL0 is the guest's meanwhile.
 */
	.global port_switch
port_switch:
	stp	x29, x30, [sp, #-112]!
	stp	x19, x20, [sp, #16]
	stp	x21, x22, [sp, #32]
	stp	x23, x24, [sp, #48]
	stp	x25, x26, [sp, #64]
	stp	x27, x28, [sp, #80]
	str	x0, [sp, #96]
	ldp	x2, x3, [x0, #16]
	ldp	x4, x5, [x0, #32]
	ldp	x6, x7, [x0, #48]
	ldp	x8, x9, [x0, #64]
	ldp	x10, x11, [x0, #80]
	ldp	x12, x13, [x0, #96]
	ldp	x14, x15, [x0, #112]
	ldp	x16, x17, [x0, #128]
	ldp	x18, x19, [x0, #144]
	ldp	x20, x21, [x0, #160]
	ldp	x22, x23, [x0, #176]
	ldp	x24, x25, [x0, #192]
	ldp	x26, x27, [x0, #208]
	ldp	x28, x29, [x0, #224]
	ldr	x30, [x0, #240]
	ldp	x0, x1, [x0]
	eret

from_guest_error:
	stp	x0, x1, [sp, #-16]!
	mov	x1, #2
	b	leave_guest
from_guest_irq:
	stp	x0, x1, [sp, #-16]!
	mov	x1, #1
	b	leave_guest
from_guest:
	stp	x0, x1, [sp, #-16]!
	mov	x1, #0
leave_guest:
	ldr	x0, [sp, #112]		/* registers: above what was just pushed */
	stp	x2, x3, [x0, #16]
	stp	x4, x5, [x0, #32]
	stp	x6, x7, [x0, #48]
	stp	x8, x9, [x0, #64]
	stp	x10, x11, [x0, #80]
	stp	x12, x13, [x0, #96]
	stp	x14, x15, [x0, #112]
	stp	x16, x17, [x0, #128]
	stp	x18, x19, [x0, #144]
	stp	x20, x21, [x0, #160]
	stp	x22, x23, [x0, #176]
	stp	x24, x25, [x0, #192]
	stp	x26, x27, [x0, #208]
	stp	x28, x29, [x0, #224]
	str	x30, [x0, #240]
	mov	x4, x1
	ldp	x2, x3, [sp], #16
	stp	x2, x3, [x0]
	adrp	x0, port_thread
	add	x0, x0, :lo12:port_thread
	msr	tpidr_el0, x0
	mov	x0, x4
	ldp	x19, x20, [sp, #16]
	ldp	x21, x22, [sp, #32]
	ldp	x23, x24, [sp, #48]
	ldp	x25, x26, [sp, #64]
	ldp	x27, x28, [sp, #80]
	ldp	x29, x30, [sp], #112
	ret
