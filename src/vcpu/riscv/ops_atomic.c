/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A extension by host atomics on the guest's memory (unprivileged manual, "A"). All are
 * sequentially consistent: more than aq/rl ask for, never less. LR remembers the value it saw; SC
 * is a compare-and-swap against it.
 */
#include "vcpu/riscv/op.h"

/* imm: the instruction itself. */
#define INSN ((uint32_t)op->imm)
#define RS2 (h->x[(INSN >> 20) & 31])

/* A host pointer for an atomic access, or an exception taken. */
static void *atomic_pointer(struct vd_hart *h, const struct op *op, uint64_t va, unsigned size,
			    unsigned access)
{
	struct data_tlb_entry *e = access & VD_WRITE
		? &h->data->write[(va >> PAGE_SHIFT) % DATA_TLB_ENTRIES]
		: &h->data->read[(va >> PAGE_SHIFT) % DATA_TLB_ENTRIES];
	struct translation t;
	enum cause cause;

	if (likely(e->tag == (va & (PAGE_MASK | (size - 1)))))
		return (void *)(uintptr_t)(va + e->addend);
	if (va & (size - 1)) {
		cause = access & VD_WRITE ? CAUSE_STORE_MISALIGNED : CAUSE_LOAD_MISALIGNED;
	} else {
		cause = vd_translate(h, va, access, &t);
		if (cause == CAUSE_NONE && h->config.shadow && t.emulate)
			t.host = vd_emulate_begin(h, va, t.gpa, size);
		if (cause == CAUSE_NONE && t.host)
			return t.host;
		if (cause == CAUSE_NONE) /* atomics on trapped areas are not supported: PMA */
			cause = access & VD_WRITE ? CAUSE_STORE_ACCESS : CAUSE_LOAD_ACCESS;
	}
	vd_trap_take(h, op_pc(h, op), cause, va);
	return NULL;
}

/*
 * As after any access that may have gone outside: a flush met there may have been about the code
 * that follows.
 */
#define ATOMIC_NEXT(flushes)                                                                       \
	do {                                                                                       \
		if (unlikely(h->emulating))                                                        \
			vd_emulate_end(h);                                                         \
		if (unlikely((flushes) != h->flushes_seen)) {                                      \
			h->pc = op_pc(h, op) + LENGTH;                                             \
			OP_LEAVE();                                                                \
		}                                                                                  \
		OP_NEXT();                                                                         \
	} while (0)

#define AMO_ON(bits, signed_type)                                                                  \
	static uint##bits##_t amo##bits(uint##bits##_t *p, unsigned operation, uint##bits##_t b)   \
	{                                                                                          \
		uint##bits##_t old, new;                                                           \
		switch (operation) {                                                               \
		case 0:                                                                            \
			return __atomic_fetch_add(p, b, __ATOMIC_SEQ_CST);                         \
		case 1:                                                                            \
			return __atomic_exchange_n(p, b, __ATOMIC_SEQ_CST);                        \
		case 4:                                                                            \
			return __atomic_fetch_xor(p, b, __ATOMIC_SEQ_CST);                         \
		case 8:                                                                            \
			return __atomic_fetch_or(p, b, __ATOMIC_SEQ_CST);                          \
		case 12:                                                                           \
			return __atomic_fetch_and(p, b, __ATOMIC_SEQ_CST);                         \
		default:                                                                           \
			break;                                                                     \
		}                                                                                  \
		old = __atomic_load_n(p, __ATOMIC_RELAXED);                                        \
		do {                                                                               \
			bool less = operation & 8 ? old < b : (signed_type)old < (signed_type)b;   \
			new = less == !(operation & 4) ? old : b;                                  \
		} while (!__atomic_compare_exchange_n(p, &old, new, false, __ATOMIC_SEQ_CST,       \
						      __ATOMIC_RELAXED));                          \
		return old;                                                                        \
	}
AMO_ON(32, int32_t)
AMO_ON(64, int64_t)

/* funct5 16 amomin, 20 amomax, 24 amominu, 28 amomaxu: bit 2 says max, bit 3 unsigned */
OP(amo, uint64_t va = RS1;
	uint64_t flushes = h->flushes_seen;
	bool wide = INSN & (1u << 12);
	h->count = count;
	void *p = atomic_pointer(h, op, va, wide ? 8 : 4, VD_READ | VD_WRITE);
	if (!p)
		OP_LEAVE();
	uint64_t b = RS2;
	RD = wide ? amo64(p, INSN >> 27, b)
		  : (uint64_t)(int64_t)(int32_t)amo32(p, INSN >> 27, (uint32_t)b);
	ATOMIC_NEXT(flushes);)

OP(lr, uint64_t va = RS1;
	uint64_t flushes = h->flushes_seen;
	bool wide = INSN & (1u << 12);
	h->count = count;
	void *p = atomic_pointer(h, op, va, wide ? 8 : 4, VD_READ);
	if (!p)
		OP_LEAVE();
	h->reservation = va;
	h->reservation_value = wide
		? __atomic_load_n((uint64_t *)p, __ATOMIC_SEQ_CST)
		: (uint64_t)(int64_t)(int32_t)__atomic_load_n((uint32_t *)p, __ATOMIC_SEQ_CST);
	RD = h->reservation_value;
	ATOMIC_NEXT(flushes);)

OP(sc, uint64_t va = RS1;
	uint64_t flushes = h->flushes_seen;
	bool wide = INSN & (1u << 12);
	bool done = false;
	h->count = count;
	void *p = atomic_pointer(h, op, va, wide ? 8 : 4, VD_READ | VD_WRITE);
	if (!p)
		OP_LEAVE();
	if (h->reservation == va) {
		uint64_t seen = h->reservation_value;
		uint32_t seen32 = (uint32_t)seen;
		done = wide ? __atomic_compare_exchange_n((uint64_t *)p, &seen, RS2, false,
							  __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)
			    : __atomic_compare_exchange_n((uint32_t *)p, &seen32, (uint32_t)RS2,
							  false, __ATOMIC_SEQ_CST,
							  __ATOMIC_RELAXED);
	}
	h->reservation = UINT64_MAX;
	RD = !done;
	ATOMIC_NEXT(flushes);)

/*
 * No stand-alone fence, which TSan does not know: read-modify-writes of one word stand in one
 * order, and by release and acquire each sees what came before the earlier ones. On x86-64 a locked
 * instruction orders every access, whatever its word, so there each hart has one of its own.
 */
static void barrier(struct vd_hart *h)
{
#if defined(__x86_64__)
	atomic_fetch_add(&h->fences, 1);
#else
	atomic_fetch_add(&h->config.group->fences, 1);
#endif
}

/* imm: whether the host's accesses are not ordered enough by themselves */
OP(fence, if (op->imm)
		barrier(h);
	OP_NEXT();)
