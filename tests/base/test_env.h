/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An environment for tests: the hosted one, which counts what is allocated and can fail the n-th
 * step. Plus a small random generator whose seed a failing test prints.
 */
#ifndef VIADUCT_TEST_ENV_H
#define VIADUCT_TEST_ENV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <viaduct/base.h>

struct test_env {
	struct vd_env env; /* first: callbacks get back from it */
	_Atomic long blocks; /* allocated now */
	_Atomic long bytes;
	_Atomic long steps; /* that could fail, since test_env_fail() */
	_Atomic long fail_at; /* 0: none */
	_Atomic int fail_with;
	const char *_Atomic failed_site;
};

static inline struct test_env *test_env_of(const struct vd_env *env)
{
	return (struct test_env *)(uintptr_t)env;
}

static inline void *test_env_allocate(const struct vd_env *env, size_t size, size_t align)
{
	void *p = vd_env_hosted()->allocate(env, size, align);

	if (p) {
		atomic_fetch_add(&test_env_of(env)->blocks, 1);
		atomic_fetch_add(&test_env_of(env)->bytes, (long)size);
	}
	return p;
}

static inline void test_env_release(const struct vd_env *env, void *p, size_t size)
{
	if (p) {
		atomic_fetch_sub(&test_env_of(env)->blocks, 1);
		atomic_fetch_sub(&test_env_of(env)->bytes, (long)size);
	}
	vd_env_hosted()->release(env, p, size);
}

static inline int test_env_inject(const struct vd_env *env, const char *site)
{
	struct test_env *test = test_env_of(env);

	if (atomic_fetch_add(&test->steps, 1) + 1 != atomic_load(&test->fail_at))
		return 0;
	atomic_store(&test->failed_site, site);
	return atomic_load(&test->fail_with);
}

static inline void test_env_init(struct test_env *test)
{
	*test = (struct test_env){.env = *vd_env_hosted()};
	test->env.allocate = test_env_allocate;
	test->env.release = test_env_release;
	test->env.inject = test_env_inject;
}

/* Fails the @step-th step from now on (counted from 1) with @error; 0 fails none. */
static inline void test_env_fail(struct test_env *test, long step, int error)
{
	atomic_store(&test->fail_with, error);
	atomic_store(&test->failed_site, NULL);
	atomic_store(&test->steps, 0);
	atomic_store(&test->fail_at, step);
}

/* Whether the step that should fail was reached. */
static inline bool test_env_failed(struct test_env *test)
{
	return atomic_load(&test->failed_site) != NULL;
}

/*
 * The seed in use: a random test sets it, by test_start() for instance, and has test_seed_print()
 * as its tear-down, so that the last line of a failure names the seed that failed.
 */
static inline uint64_t *test_seed(void)
{
	static uint64_t seed;

	return &seed;
}

/* A generator's state for test_random(), set by test_start(). */
static inline uint64_t *test_state(void)
{
	static uint64_t state;

	return &state;
}

static inline void test_start(uint64_t seed)
{
	*test_seed() = seed;
	*test_state() = seed;
}

static inline int test_seed_print(void **state)
{
	(void)state;
	print_message("[   SEED   ] %llu\n", (unsigned long long)*test_seed());
	return 0;
}

/* splitmix64 */
static inline uint64_t test_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

#endif
