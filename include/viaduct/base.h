/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 0, base
 *
 * Address types that do not mix, errors, and the environment through which every other floor
 * gets memory, locks, deferred free, a clock and fault injection. Freestanding: nothing here
 * needs a libc. Hosted programs use vd_env_hosted(); a bare-metal port fills in its own struct.
 */
#ifndef VIADUCT_BASE_H
#define VIADUCT_BASE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * One type an address space: mixing them does not compile. Each holds a byte address, except
 * gfn and pfn, which count pages of the page shift of the space they belong to.
 */
typedef struct { uint64_t value; } vd_gva;            /* guest virtual */
typedef struct { uint64_t value; } vd_gpa;            /* guest physical */
typedef struct { uint64_t value; } vd_gfn;            /* guest physical page */
typedef struct { uint64_t value; } vd_hva;            /* host virtual */
typedef struct { uint64_t value; } vd_pfn;            /* host page, see host.h for what it counts */
typedef struct { uint64_t value; } vd_iova;           /* as a device's DMA sees memory */
typedef struct { uint64_t value; } vd_client_address; /* in the address space of a client process */
typedef struct { uint64_t value; } vd_region_offset;  /* within a region of a VFIO device */

/** VD_PFN_BAD - a pfn that no page can have (0 is a page). */
#define VD_PFN_BAD ((vd_pfn){UINT64_MAX})

static inline bool vd_pfn_is_bad(vd_pfn pfn)
{
	return pfn.value == UINT64_MAX;
}

static inline vd_gfn vd_gpa_gfn(vd_gpa gpa, unsigned page_shift)
{
	return (vd_gfn){gpa.value >> page_shift};
}

static inline vd_gpa vd_gfn_gpa(vd_gfn gfn, unsigned page_shift)
{
	return (vd_gpa){gfn.value << page_shift};
}

/* What an access does, or what a mapping allows. */
#define VD_READ 1u
#define VD_WRITE 2u
#define VD_EXECUTE 4u

/**
 * struct vd_error - why a set-up function failed, in words a user can act on
 * @code: the negative errno that was returned, 0 if nothing failed
 * @text: what was wrong, where, and what to do; NUL-terminated, no newline
 */
struct vd_error {
	int code;
	char text[252];
};

/**
 * vd_error_set() - fill an error and return its code
 * @error: may be NULL; then only the code is returned
 * @code: negative errno
 * @format: printf subset: %s %d %u %x %c %%, with l, ll and z, a width and a leading 0. What does
 *	not fit into the text is cut off
 *
 * Return: @code.
 */
int vd_error_set(struct vd_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

enum vd_log_level { VD_LOG_ERROR, VD_LOG_WARNING, VD_LOG_INFO, VD_LOG_DEBUG };

/**
 * enum vd_trace_event - what an environment may want to be told of, as bits; arguments in brackets
 */
enum vd_trace_event {
	VD_TRACE_FAULT = 1, /* second-stage fault handled (gpa, access, bytes mapped) */
	VD_TRACE_ZAP = 2,   /* leaves dropped (gpa, length, leaves) */
	VD_TRACE_PIN = 4,   /* pages pinned for DMA (iova, length, access) */
	VD_TRACE_MMIO = 8,  /* trapped access (gpa, length, value) */
	VD_TRACE_DMA = 16,  /* copy by a device (iova, length, access) */
};

/** struct vd_lock - room for the environment's mutex */
struct vd_lock {
	_Alignas(16) unsigned char room[64];
};

/** struct vd_deferred - embedded in what is freed after readers have left */
struct vd_deferred {
	void *room[4];
};

/**
 * struct vd_env - what the libraries need from the world around them
 *
 * Every object keeps the pointer it was created with; the struct must outlive them all.
 * All callbacks are required except @inject and @log. None may call back into the library.
 *
 * @context: the port's own
 * @allocate: zeroed memory of @size bytes aligned to @align (a power of two), or NULL
 * @release: gives back what @allocate gave; @p may be NULL
 * @log: one line, no newline; NULL for silence
 * @clock_ns: monotonic time
 * @inject: fault injection: asked before each step named @site that can fail; 0 to go on, else the
 *	negative errno with which the step shall fail. NULL for none
 * @lock_init, @lock_destroy, @lock, @unlock: a sleeping mutex
 * @wait: sleep while *@word == @seen (may return early); pairs with @wake
 * @wake: wake all who wait on @word
 * @read_enter, @read_leave: a read section (nests, never sleeps): what was found in it stays
 *	valid until it is left
 * @synchronize: wait until every read section that began before the call has been left. Never
 *	called inside one, nor with a lock held that a reader takes
 * @defer: call @fn(@item) after such a wait, later, on any thread
 * @trace_events: bits of enum vd_trace_event for which @trace is called; 0 for none
 * @trace: told of an event; any thread, locks may be held: it must be short and not call back
 */
struct vd_env {
	void *context;
	void *(*allocate)(const struct vd_env *env, size_t size, size_t align);
	void (*release)(const struct vd_env *env, void *p, size_t size);
	void (*log)(const struct vd_env *env, enum vd_log_level level, const char *text);
	uint64_t (*clock_ns)(const struct vd_env *env);
	int (*inject)(const struct vd_env *env, const char *site);
	void (*lock_init)(const struct vd_env *env, struct vd_lock *lock);
	void (*lock_destroy)(const struct vd_env *env, struct vd_lock *lock);
	void (*lock)(const struct vd_env *env, struct vd_lock *lock);
	void (*unlock)(const struct vd_env *env, struct vd_lock *lock);
	void (*wait)(const struct vd_env *env, _Atomic uint32_t *word, uint32_t seen);
	void (*wake)(const struct vd_env *env, _Atomic uint32_t *word);
	void (*read_enter)(const struct vd_env *env);
	void (*read_leave)(const struct vd_env *env);
	void (*synchronize)(const struct vd_env *env);
	void (*defer)(const struct vd_env *env, struct vd_deferred *item,
		      void (*fn)(struct vd_deferred *item));
	unsigned trace_events;
	void (*trace)(const struct vd_env *env, enum vd_trace_event event, uint64_t a, uint64_t b,
		      uint64_t c);
};

/**
 * vd_env_hosted() - the environment of an ordinary process
 *
 * malloc, pthread mutexes, futexes, CLOCK_MONOTONIC and liburcu (bulletproof flavour: threads
 * need not register). It logs nothing and injects nothing: copy the struct to change that.
 *
 * Return: a constant; never NULL.
 */
const struct vd_env *vd_env_hosted(void);

/**
 * vd_env_hosted_drain() - wait until everything deferred so far has run
 *
 * For tests that count what is still allocated, and before a plug-in that holds a deferred
 * function is unloaded. Sleeps; not inside a read section, not from a deferred function.
 */
void vd_env_hosted_drain(void);

/**
 * vd_env_inject() - ask the fault injection about one step
 * Return: 0, or the negative errno the step shall fail with.
 */
static inline int vd_env_inject(const struct vd_env *env, const char *site)
{
	return env->inject ? env->inject(env, site) : 0;
}

/**
 * vd_env_allocate() - zeroed memory, subject to fault injection
 * Return: the memory, or NULL. Give it back with env->release(env, p, size).
 */
static inline void *vd_env_allocate(const struct vd_env *env, const char *site, size_t size,
				    size_t align)
{
	return vd_env_inject(env, site) ? NULL : env->allocate(env, size, align);
}

/** vd_trace() - tell the environment of an event it asked for */
static inline void vd_trace(const struct vd_env *env, enum vd_trace_event event, uint64_t a,
			    uint64_t b, uint64_t c)
{
	if (__builtin_expect((env->trace_events & event) != 0, 0))
		env->trace(env, event, a, b, c);
}

/** vd_range_end() - true and *@end = @start + @length if that does not wrap; length 0 is false */
static inline bool vd_range_end(uint64_t start, uint64_t length, uint64_t *end)
{
	return length != 0 && (!__builtin_add_overflow(start, length, end) || *end == 0);
}

/**
 * vd_assert() - an invariant of the library itself
 *
 * Never for what a guest, a client, a device or a caller's argument may get wrong: those are
 * errors. Freestanding, so it traps instead of printing.
 */
#define vd_assert(condition)                                                                       \
	do {                                                                                       \
		if (__builtin_expect(!(condition), 0))                                             \
			__builtin_trap();                                                          \
	} while (0)

/** vd_ranges_overlap() - whether [a, a + an) and [b, b + bn) meet; neither may wrap or be empty */
static inline bool vd_ranges_overlap(uint64_t a, uint64_t an, uint64_t b, uint64_t bn)
{
	return a < b ? b - a < an : a - b < bn;
}

#ifdef __cplusplus
}
#endif
#endif
