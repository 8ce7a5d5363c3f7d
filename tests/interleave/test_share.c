/* SPDX-License-Identifier: BSD-2-Clause */
/* The lock of page tables (src/mmu/share.h), step by step: exclusion, and no wake-up lost. */
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "mmu/share.h"

struct shared {
	const struct vd_env *env;
	struct vd_mmu_share *share;
	_Atomic uint32_t alone;
};

static void *set_up(const struct vd_env *env)
{
	struct shared *s = env->allocate(env, sizeof(*s), 64);

	s->env = env;
	s->share = env->allocate(env, sizeof(*s->share), _Alignof(struct vd_mmu_share));
	s->share->parallel = true;
	return s;
}

static void sharer(void *context)
{
	struct shared *s = context;
	struct vd_mmu_stripe *stripe = vd_mmu_share_enter(s->share, s->env);

	interleave_check(!atomic_load(&s->alone), "somebody else is alone");
	vd_mmu_share_leave(s->share, s->env, stripe);
}

static void loner(void *context)
{
	struct shared *s = context;

	vd_mmu_share_lock(s->share, s->env);
	interleave_check(!atomic_exchange(&s->alone, 1), "two are alone");
	atomic_store(&s->alone, 0);
	vd_mmu_share_unlock(s->share, s->env);
}

static void finish(void *context)
{
	struct shared *s = context;

	interleave_check(!atomic_load(&s->share->alone), "it is still held");
	interleave_check(!atomic_load(&s->share->stripes[0].inside), "somebody is still inside");
}

#define CASE(symbol, label, ...)                                                                   \
	static const struct interleave_case symbol = {                                             \
		.name = label, .set_up = set_up, .run = {__VA_ARGS__},                             \
		.names = {"first", "second", "third"}, .finish = finish}

CASE(one_each, "one shares, one alone", sharer, loner);
CASE(two_alone, "two alone", loner, loner);
CASE(two_share, "two share, one alone", sharer, sharer, loner);
CASE(crowd, "one shares, two alone", sharer, loner, loner);

static void one_of_each(void **state)
{
	(void)state;
	run_all(&one_each);
	run_all(&two_alone);
}

static void three_at_once(void **state)
{
	(void)state;
	run_most(&two_share, 2);
	run_most(&crowd, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_of_each),
		cmocka_unit_test(three_at_once),
	};

	return cmocka_run_group_tests_name("interleave share", tests, NULL, NULL);
}
