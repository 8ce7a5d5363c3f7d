/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The parts of the guest that need to be one known instruction, and its trap vectors. All at EL1
 * with its MMU off.
 */
	.section .text.guest, "ax"
	.global guest_return, guest_load, guest_load_pc, guest_store, guest_store_pc, guest_jump
	.global guest_load_user, guest_load_user_pc, guest_load_user32, guest_load_user32_pc
	.global guest_loop, guest_beg, guest_load_mapped, guest_load_mapped_pc
	.global guest_vector, guest_vector_back, guest_vector_again, guest_vector_loop

guest_return:
	hvc	#0

guest_load:
	msr	daifset, #15
guest_load_pc:
	ldr	x0, [x0]
	ret

guest_store:
	msr	daifset, #15
	mov	x1, #0x55
guest_store_pc:
	str	x1, [x0]
	mov	x0, #0
	ret

/* From EL0, 64-bit and 32-bit; SPSR_EL1 has the mode, and masks all that can be. */
guest_load_user:
	adr	x1, guest_load_user_pc
	mov	x2, #0x3c0
	b	1f
guest_load_user32:
	adr	x1, guest_load_user32_pc
	mov	x2, #0x1d0
1:	msr	elr_el1, x1
	msr	spsr_el1, x2
	eret
guest_load_user_pc:
	ldr	x0, [x0]
	b	.
guest_load_user32_pc:
	.inst	0xe5900000	/* ldr r0, [r0] */
	.inst	0xeafffffe	/* b . */

/* 39 bits, 4 KiB granule, TTBR0 only; all of it Normal write-back. */
guest_load_mapped:
	msr	daifset, #15
	mov	x2, #0xff
	msr	mair_el1, x2
	ldr	x2, =(2 << 32 | 1 << 23 | 3 << 12 | 1 << 10 | 1 << 8 | 25)
	msr	tcr_el1, x2
	msr	ttbr0_el1, x1
	dsb	ish
	tlbi	vmalle1
	dsb	ish
	isb
	mrs	x2, sctlr_el1
	orr	x2, x2, #1
	msr	sctlr_el1, x2
	isb
guest_load_mapped_pc:
	ldr	x0, [x0]
	ret
	.ltorg

guest_jump:
	msr	daifset, #15
	br	x0

guest_loop:
	msr	daifset, #15
	b	.

/* PSCI_VERSION of the secure firmware. */
guest_beg:
	mov	w0, #0x84000000
	smc	#0
	ret

	.macro	vectors name, handler
	.balign	2048
\name:
	.rept	4		/* current EL with SP_EL0 */
	.balign	128
	b	.
	.endr
	.balign	128
	b	\handler	/* current EL, synchronous */
	.rept	3
	.balign	128
	b	.
	.endr
	.rept	2		/* EL0, 64-bit and 32-bit: synchronous, and the rest */
	.balign	128
	b	\handler
	.rept	3
	.balign	128
	b	.
	.endr
	.endr
	.endm

	vectors	guest_vector, take
	vectors	guest_vector_back, go_back
	vectors	guest_vector_again, touch_again
	vectors	guest_vector_loop, guest_loop

take:
	adrp	x1, guest_record
	add	x1, x1, :lo12:guest_record
	ldr	x2, [x1]
	add	x2, x2, #1
	mrs	x3, esr_el1
	stp	x2, x3, [x1]
	mrs	x2, far_el1
	mrs	x3, elr_el1
	stp	x2, x3, [x1, #16]
	mov	x0, #21
	orr	x0, x0, #(1 << 63)
	hvc	#0

go_back:
	eret

touch_again:
	mrs	x1, far_el1
	ldr	x0, [x1, #8]
	b	.
