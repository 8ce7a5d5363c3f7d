/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads and stores. Fast: one soft TLB probe whose tag also holds the alignment check, then the
 * guest's memory itself. Slow: everything else, in a function of its own so that the fast one saves
 * no registers.
 */
#include "vcpu/riscv/op.h"

/* A store's source register is in rd. */
#define ADDRESS (h->x[op->rs1] + (uint64_t)(int64_t)op->imm)
#define HOST(e, va) ((void *)(uintptr_t)((va) + (e)->addend))

static inline bool hit(const struct data_tlb_entry *e, uint64_t va, unsigned size)
{
	return likely(e->tag == (va & (PAGE_MASK | (size - 1))));
}

/*
 * After a slow path: an exception, or the next instruction. Whoever flushed this hart while it was
 * outside may also have changed code, so what is decoded is looked up again.
 */
static bool stay(struct vd_hart *h, const struct op *op, unsigned length, enum cause cause,
		 uint64_t flushes)
{
	if (unlikely(cause != CAUSE_NONE)) {
		vd_trap_take(h, op_pc(h, op), cause, h->fault_va);
		return false;
	}
	if (unlikely(flushes != h->flushes_seen)) {
		h->pc = op_pc(h, op) + length;
		return false;
	}
	return true;
}

#define SLOW_LOAD(name, length, bits, convert, target)                                             \
	static __attribute__((noinline)) vd_op_result slow_##name##_##length(OP_ARGS)              \
	{                                                                                          \
		uint64_t va = ADDRESS, value = 0, flushes = h->flushes_seen;                       \
		enum cause cause;                                                                  \
		(void)table;                                                                       \
		h->count = count;                                                                  \
		cause = vd_load_slow(h, va, bits / 8, &value);                                     \
		if (cause == CAUSE_NONE)                                                           \
			target = (uint64_t)convert value;                                          \
		if (!stay(h, op, length, cause, flushes))                                          \
			OP_LEAVE();                                                                \
		OP_GO(op + length / 2);                                                            \
	}

#define LOAD_FORM(name, length, bits, convert, target, guard)                                      \
	vd_op_result vd_op_##name##_##length(OP_ARGS)                                              \
	{                                                                                          \
		uint64_t va = ADDRESS;                                                             \
		struct data_tlb_entry *e = &h->data->read[(va >> PAGE_SHIFT) % DATA_TLB_ENTRIES];  \
		guard                                                                              \
		if (!hit(e, va, bits / 8))                                                         \
			OP_TAIL(slow_##name##_##length);                                           \
		target = (uint64_t)convert vd_guest_load##bits(HOST(e, va));                       \
		OP_GO(op + length / 2);                                                            \
	}

#define LOAD(name, bits, convert, target, guard)                                                   \
	SLOW_LOAD(name, 4, bits, convert, target)                                                  \
	SLOW_LOAD(name, 2, bits, convert, target)                                                  \
	LOAD_FORM(name, 4, bits, convert, target, guard)                                           \
	LOAD_FORM(name, 2, bits, convert, target, guard)

LOAD(lb, 8, (int64_t)(int8_t), RD, )
LOAD(lh, 16, (int64_t)(int16_t), RD, )
LOAD(lw, 32, (int64_t)(int32_t), RD, )
LOAD(ld, 64, , RD, )
LOAD(lbu, 8, (uint8_t), RD, )
LOAD(lhu, 16, (uint16_t), RD, )
LOAD(lwu, 32, (uint32_t), RD, )

#define SLOW_STORE(name, length, bits, value)                                                      \
	static __attribute__((noinline)) vd_op_result slow_##name##_##length(OP_ARGS)              \
	{                                                                                          \
		uint64_t va = ADDRESS, flushes = h->flushes_seen;                                  \
		enum cause cause;                                                                  \
		(void)table;                                                                       \
		h->count = count;                                                                  \
		cause = vd_store_slow(h, va, bits / 8, (uint##bits##_t)(value));                   \
		if (!stay(h, op, length, cause, flushes))                                          \
			OP_LEAVE();                                                                \
		OP_GO(op + length / 2);                                                            \
	}

#define STORE_FORM(name, length, bits, value, guard)                                               \
	vd_op_result vd_op_##name##_##length(OP_ARGS)                                              \
	{                                                                                          \
		uint64_t va = ADDRESS;                                                             \
		struct data_tlb_entry *e = &h->data->write[(va >> PAGE_SHIFT) % DATA_TLB_ENTRIES]; \
		guard                                                                              \
		if (!hit(e, va, bits / 8))                                                         \
			OP_TAIL(slow_##name##_##length);                                           \
		vd_guest_store##bits(HOST(e, va), (uint##bits##_t)(value));                        \
		OP_GO(op + length / 2);                                                            \
	}

#define STORE(name, bits, value, guard)                                                            \
	SLOW_STORE(name, 4, bits, value)                                                           \
	SLOW_STORE(name, 2, bits, value)                                                           \
	STORE_FORM(name, 4, bits, value, guard)                                                    \
	STORE_FORM(name, 2, bits, value, guard)

STORE(sb, 8, RD, )
STORE(sh, 16, RD, )
STORE(sw, 32, RD, )
STORE(sd, 64, RD, )

/*
 * Floating point: a single is boxed in ones (unprivileged manual, "NaN boxing of narrower values").
 */
#define NEED_FLOAT                                                                                 \
	if (unlikely(!h->fp_on))                                                                   \
		OP_TAIL(vd_op_illegal_4);
#define FRD (h->f[op->rd])
LOAD(flw, 32, 0xffffffff00000000ull |, FRD, NEED_FLOAT)
LOAD(fld, 64, , FRD, NEED_FLOAT)
STORE(fsw, 32, FRD, NEED_FLOAT)
STORE(fsd, 64, FRD, NEED_FLOAT)
