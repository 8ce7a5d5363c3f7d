/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads as coroutines, each with thread-local variables of its own. */
#include "internal.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifdef UNDER_ASAN
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK_BYTES (256u << 10)
#define LOCALS_MAX 64u

extern char __start_interleave_tls[] __attribute__((weak));
extern char __stop_interleave_tls[] __attribute__((weak));

struct coroutine {
	ucontext_t first;
	bool made, begun;
	jmp_buf top;   /* where each run begins */
	jmp_buf where; /* it was left */
	char *stack;
	size_t stack_bytes;
	void *fake_stack; /* of the address sanitizer */
	char locals[LOCALS_MAX];
};

static struct coroutine coroutines[INTERLEAVE_THREADS + 1];
static void (*const *functions)(void *context);
static void *argument;

struct interleave_thread threads[INTERLEAVE_THREADS];
unsigned thread_count;
unsigned running = NOBODY;

/* None where nothing has such variables. */
static void locals_copy(char *to, const char *from)
{
	size_t bytes = (size_t)(__stop_interleave_tls - __start_interleave_tls);

	if (bytes)
		memcpy(to, from, bytes);
}

static void switched_to(unsigned thread)
{
#ifdef UNDER_ASAN
	__sanitizer_finish_switch_fiber(coroutines[thread].fake_stack, NULL, NULL);
#endif
	running = thread;
	locals_copy(__start_interleave_tls, coroutines[thread].locals);
}

static void body(int number)
{
	_setjmp(coroutines[number].top);
	switched_to((unsigned)number);
	functions[number](argument);
	threads[number].finished = true;
	explore_next();
	abort(); /* what has ended is never chosen */
}

static void sanitizer_leave(unsigned from, unsigned to)
{
#ifdef UNDER_ASAN
	__sanitizer_start_switch_fiber(&coroutines[from].fake_stack, coroutines[to].stack,
				       coroutines[to].stack_bytes);
#else
	(void)from, (void)to;
#endif
}

/* By longjmp(), which unlike swapcontext() needs no system call; body() is never left. */
void coroutines_switch(unsigned to)
{
	unsigned from = running;

	locals_copy(coroutines[from].locals, __start_interleave_tls);
	sanitizer_leave(from, to);
	if (!_setjmp(coroutines[from].where)) {
		if (coroutines[to].begun)
			_longjmp(coroutines[to].where, 1);
		coroutines[to].begun = true;
		if (coroutines[to].made)
			_longjmp(coroutines[to].top, 1);
		coroutines[to].made = true;
		setcontext(&coroutines[to].first);
	}
	switched_to(from);
}

static void coroutine_make(struct coroutine *c, int number)
{
	c->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->stack == MAP_FAILED)
		abort();
	c->stack_bytes = STACK_BYTES;
	getcontext(&c->first);
	c->first.uc_stack.ss_sp = c->stack;
	c->first.uc_stack.ss_size = STACK_BYTES;
	makecontext(&c->first, (void (*)(void))body, 1, number);
}

static void coroutine_reset(struct coroutine *c, unsigned number)
{
	if (!c->stack)
		coroutine_make(c, (int)number);
#ifdef UNDER_ASAN
	__asan_unpoison_memory_region(c->stack, STACK_BYTES);
#endif
	c->begun = false;
	memset(c->locals, 0, sizeof(c->locals));
}

void coroutines_reset(const struct interleave_case *test, void *context)
{
	if ((size_t)(__stop_interleave_tls - __start_interleave_tls) > LOCALS_MAX)
		abort();
	functions = test->run;
	argument = context;
	coroutines[NOBODY].begun = true;
#ifdef UNDER_ASAN
	if (!coroutines[NOBODY].stack) {
		pthread_attr_t attributes;
		void *bottom;

		pthread_getattr_np(pthread_self(), &attributes);
		pthread_attr_getstack(&attributes, &bottom, &coroutines[NOBODY].stack_bytes);
		coroutines[NOBODY].stack = bottom;
		pthread_attr_destroy(&attributes);
	}
#endif
	for (unsigned i = 0; i < thread_count; i++) {
		coroutine_reset(&coroutines[i], i);
		threads[i] = (struct interleave_thread){.pending = {.kind = INTERLEAVE_BEGIN}};
	}
}

const void *interleave_thread(void)
{
	return &threads[running == NOBODY ? 0 : running];
}
