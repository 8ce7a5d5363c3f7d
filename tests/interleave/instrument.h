/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Put before everything else when a floor is compiled for the controlled scheduler: each atomic
 * operation becomes a point at which another thread may go on. All threads are coroutines of one
 * thread of the host, so what follows the point is done by plain accesses: memory is sequentially
 * consistent here, and the orders asked for make no difference.
 */
#ifndef VIADUCT_TESTS_INTERLEAVE_INSTRUMENT_H
#define VIADUCT_TESTS_INTERLEAVE_INSTRUMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum interleave_kind {
	INTERLEAVE_BEGIN, /* of a thread */
	INTERLEAVE_LOAD,
	INTERLEAVE_STORE,
	INTERLEAVE_UPDATE,
	INTERLEAVE_LOCK,
	INTERLEAVE_SHARE,	/* a lock, with others who share it */
	INTERLEAVE_WAIT,	/* is the word still as it was seen? */
	INTERLEAVE_WOKEN,	/* if it was: goes on when woken */
	INTERLEAVE_WAKE,
	INTERLEAVE_ENTER,	/* a read section */
	INTERLEAVE_SYNCHRONIZE, /* which sections are there now? */
	INTERLEAVE_SYNCHRONIZED, /* goes on when they have been left */
	INTERLEAVE_DEFER,
	INTERLEAVE_AWAIT,	/* goes on when a condition on a word holds */
};

/* Called before the operation, which is done when this returns. */
void interleave_point(enum interleave_kind kind, const volatile void *object, const char *what,
		      const char *file, int line);
/* Whether the operation just let through shall be spoilt: a planted bug. */
bool interleave_spoilt(const volatile void *object, enum interleave_kind kind);
/* Which of the threads this is; only the address counts. */
const void *interleave_thread(void);

#define INTERLEAVE_POINT(kind, p, what)                                                            \
	interleave_point(INTERLEAVE_##kind, (const volatile void *)(p), what, __FILE__, __LINE__)
#define INTERLEAVE_VALUE(p) __typeof__((void)0, *(p))

#undef atomic_init
#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_exchange
#undef atomic_exchange_explicit
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak
#undef atomic_compare_exchange_weak_explicit
#undef atomic_fetch_add
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and
#undef atomic_fetch_and_explicit
#undef atomic_fetch_xor
#undef atomic_fetch_xor_explicit

#define atomic_init(p, v) ((void)(*(p) = (v)))

#define atomic_load_explicit(p, order)                                                             \
	__extension__({                                                                            \
		INTERLEAVE_POINT(LOAD, p, #p);                                                     \
		(void)(order);                                                                     \
		INTERLEAVE_VALUE(p) interleave_got = *(p);                                         \
		if (interleave_spoilt(p, INTERLEAVE_LOAD))                                         \
			interleave_got = (INTERLEAVE_VALUE(p))0;                                   \
		interleave_got;                                                                    \
	})
#define atomic_store_explicit(p, v, order)                                                         \
	__extension__({                                                                            \
		INTERLEAVE_VALUE(p) interleave_new = (v);                                          \
		INTERLEAVE_POINT(STORE, p, #p);                                                    \
		(void)(order);                                                                     \
		if (!interleave_spoilt(p, INTERLEAVE_STORE))                                       \
			*(p) = interleave_new;                                                     \
	})
#define INTERLEAVE_MODIFY(p, expression)                                                           \
	__extension__({                                                                            \
		INTERLEAVE_POINT(UPDATE, p, #p);                                                   \
		INTERLEAVE_VALUE(p) interleave_old = *(p);                                         \
		if (!interleave_spoilt(p, INTERLEAVE_UPDATE))                                      \
			*(p) = (INTERLEAVE_VALUE(p))(expression);                                  \
		interleave_old;                                                                    \
	})
#define atomic_exchange_explicit(p, v, order) INTERLEAVE_MODIFY(p, v)
#define atomic_fetch_add_explicit(p, v, order) INTERLEAVE_MODIFY(p, interleave_old + (v))
#define atomic_fetch_sub_explicit(p, v, order) INTERLEAVE_MODIFY(p, interleave_old - (v))
#define atomic_fetch_or_explicit(p, v, order) INTERLEAVE_MODIFY(p, interleave_old | (v))
#define atomic_fetch_and_explicit(p, v, order) INTERLEAVE_MODIFY(p, interleave_old & (v))
#define atomic_fetch_xor_explicit(p, v, order) INTERLEAVE_MODIFY(p, interleave_old ^ (v))
#define atomic_compare_exchange_strong_explicit(p, expected, v, yes, no)                           \
	__extension__({                                                                            \
		__typeof__(expected) interleave_expected = (expected);                             \
		INTERLEAVE_VALUE(p) interleave_new = (v);                                          \
		INTERLEAVE_POINT(UPDATE, p, #p);                                                   \
		INTERLEAVE_VALUE(p) interleave_now = *(p);                                         \
		bool interleave_same = interleave_now == *interleave_expected ||                   \
				       interleave_spoilt(p, INTERLEAVE_UPDATE);                    \
		if (interleave_same)                                                               \
			*(p) = interleave_new;                                                     \
		else                                                                               \
			*interleave_expected = interleave_now;                                     \
		interleave_same;                                                                   \
	})
#define atomic_compare_exchange_weak_explicit(p, expected, v, yes, no)                             \
	atomic_compare_exchange_strong_explicit(p, expected, v, yes, no)

#define atomic_load(p) atomic_load_explicit(p, memory_order_seq_cst)
#define atomic_store(p, v) atomic_store_explicit(p, v, memory_order_seq_cst)
#define atomic_exchange(p, v) atomic_exchange_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_add(p, v) atomic_fetch_add_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_sub(p, v) atomic_fetch_sub_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_or(p, v) atomic_fetch_or_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_and(p, v) atomic_fetch_and_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_xor(p, v) atomic_fetch_xor_explicit(p, v, memory_order_seq_cst)
#define atomic_compare_exchange_strong(p, e, v)                                                    \
	atomic_compare_exchange_strong_explicit(p, e, v, memory_order_seq_cst, memory_order_seq_cst)
#define atomic_compare_exchange_weak(p, e, v) atomic_compare_exchange_strong(p, e, v)

#ifdef INTERLEAVE_FLOOR
/* Kept apart by thread when one takes over from another. */
#define _Thread_local __attribute__((section("interleave_tls")))
#define tls_model(model)

/*
 * notifier.c knows threads by the address of a thread-local variable, which is the same for all
 * coroutines: its function is renamed where it is defined, and ours is called.
 */
#define this_thread(arguments) INTERLEAVE_THREAD_##arguments
#define INTERLEAVE_THREAD_void interleave_not_called(void)
#define INTERLEAVE_THREAD_ interleave_thread()
#endif

#endif
