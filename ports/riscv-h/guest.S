/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The parts of the guest that need to be one known instruction, and its trap vectors. All in
 * VS-mode without a first stage.
 */
	.section .text.guest, "ax"
	.option	norvc
	.global guest_return, guest_load, guest_load_pc, guest_store, guest_store_pc, guest_jump
	.global guest_load_user, guest_load_user_pc
	.global guest_loop, guest_beg, guest_load_mapped, guest_load_mapped_pc
	.global guest_vector, guest_vector_back, guest_vector_again, guest_vector_loop

	.macro	mask_all
	csrci	sstatus, 2
	csrw	sie, zero
	.endm

guest_return:
	li	a7, 0
	ecall

guest_load:
	mask_all
guest_load_pc:
	ld	a0, 0(a0)
	ret

guest_store:
	mask_all
	li	a1, 0x55
guest_store_pc:
	sd	a1, 0(a0)
	li	a0, 0
	ret

/* From VU-mode. */
guest_load_user:
	mask_all
	la	a1, guest_load_user_pc
	csrw	sepc, a1
	li	a1, 1 << 8
	csrc	sstatus, a1
	sret
	.balign	4
guest_load_user_pc:
	ld	a0, 0(a0)
1:	j	1b

/* Sv39 */
guest_load_mapped:
	mask_all
	srli	a1, a1, 12
	li	a2, 8 << 60
	or	a1, a1, a2
	csrw	satp, a1
	sfence.vma
guest_load_mapped_pc:
	ld	a0, 0(a0)
	ret

guest_jump:
	mask_all
	jr	a0

	.balign	4
guest_vector_loop:
guest_loop:
	mask_all
1:	j	1b

/* SBI: which version? */
guest_beg:
	li	a7, 0x10
	li	a6, 0
	ecall
	ret

	.balign	4
guest_vector:
	la	a1, guest_record
	ld	a2, 0(a1)
	addi	a2, a2, 1
	sd	a2, 0(a1)
	csrr	a2, scause
	sd	a2, 8(a1)
	csrr	a2, stval
	sd	a2, 16(a1)
	csrr	a2, sepc
	sd	a2, 24(a1)
	li	a0, (1 << 63) | 21
	li	a7, 0
	ecall

	.balign	4
guest_vector_back:
	sret

	.balign	4
guest_vector_again:
	csrr	a1, stval
	ld	a0, 8(a1)
1:	j	1b
