/* SPDX-License-Identifier: BSD-2-Clause */
#include "mmu/share.h"

enum { NOBODY, HELD, AWAITED };

/* Looks at a word before a sleep: sections are shorter than going to sleep and back. */
#ifndef VD_MMU_LOOKS
#define VD_MMU_LOOKS 200
#endif

/* What the thread is in. One at a time: no section calls into another table. */
static const struct vd_mmu_share **inside(void)
{
	static _Thread_local const struct vd_mmu_share *share;

	return &share;
}

struct vd_mmu_stripe *vd_mmu_stripe(struct vd_mmu_share *share)
{
	/* Threads differ by the place of their stacks, which lie a few MiB apart. */
	uint32_t hash = (uint32_t)((uintptr_t)inside() >> 12) * 0x9e3779b1u;

	return &share->stripes[(hash >> 24) % VD_MMU_STRIPES];
}

bool vd_mmu_share_is_inside(const struct vd_mmu_share *share)
{
	return *inside() == share;
}

/* ---- shared --------------------------------------------------------------------------------- */

static void wait_while_alone(struct vd_mmu_share *share, const struct vd_env *env)
{
	uint32_t seen;

	for (unsigned i = 0; i < VD_MMU_LOOKS; i++) {
		if (atomic_load_explicit(&share->alone, memory_order_relaxed) == NOBODY)
			return;
	}
	seen = HELD;
	if (atomic_compare_exchange_strong_explicit(&share->alone, &seen, AWAITED,
						    memory_order_relaxed, memory_order_relaxed) ||
	    seen == AWAITED)
		env->wait(env, &share->alone, AWAITED);
}

static void stripe_leave(struct vd_mmu_share *share, const struct vd_env *env,
			 struct vd_mmu_stripe *stripe)
{
	atomic_fetch_sub_explicit(&stripe->inside, 1, memory_order_seq_cst);
	if (__builtin_expect(atomic_load_explicit(&share->alone, memory_order_seq_cst) == NOBODY,
			     1))
		return;
	atomic_fetch_add_explicit(&share->left, 1, memory_order_seq_cst);
	env->wake(env, &share->left);
}

struct vd_mmu_stripe *vd_mmu_share_enter(struct vd_mmu_share *share, const struct vd_env *env)
{
	struct vd_mmu_stripe *stripe = vd_mmu_stripe(share);

	for (;;) {
		atomic_fetch_add_explicit(&stripe->inside, 1, memory_order_seq_cst);
		if (__builtin_expect(
			    atomic_load_explicit(&share->alone, memory_order_seq_cst) == NOBODY,
			    1))
			break;
		stripe_leave(share, env, stripe);
		wait_while_alone(share, env);
	}
	*inside() = share;
	return stripe;
}

void vd_mmu_share_leave(struct vd_mmu_share *share, const struct vd_env *env,
			struct vd_mmu_stripe *stripe)
{
	*inside() = NULL;
	stripe_leave(share, env, stripe);
}

/* ---- alone ---------------------------------------------------------------------------------- */

static void drain(struct vd_mmu_share *share, const struct vd_env *env,
		  struct vd_mmu_stripe *stripe)
{
	for (unsigned i = 0; i < VD_MMU_LOOKS; i++) {
		if (!atomic_load_explicit(&stripe->inside, memory_order_seq_cst))
			return;
	}
	for (;;) {
		uint32_t seen = atomic_load_explicit(&share->left, memory_order_seq_cst);

		if (!atomic_load_explicit(&stripe->inside, memory_order_seq_cst))
			return;
		env->wait(env, &share->left, seen);
	}
}

/* Out of the way: without anybody else it takes one step and no registers to save. */
static __attribute__((noinline)) void lock_slowly(struct vd_mmu_share *share,
						  const struct vd_env *env, uint32_t seen)
{
	if (seen != NOBODY) {
		while (atomic_exchange_explicit(&share->alone, AWAITED, memory_order_seq_cst) !=
		       NOBODY)
			env->wait(env, &share->alone, AWAITED);
	}
	for (unsigned i = 0; share->parallel && i < VD_MMU_STRIPES; i++) {
		if (atomic_load_explicit(&share->stripes[i].inside, memory_order_seq_cst))
			drain(share, env, &share->stripes[i]);
	}
	*inside() = share;
}

void vd_mmu_share_lock(struct vd_mmu_share *share, const struct vd_env *env)
{
	uint32_t seen = NOBODY;

	if (!atomic_compare_exchange_strong_explicit(&share->alone, &seen, HELD,
						     memory_order_seq_cst, memory_order_relaxed) ||
	    share->parallel)
		lock_slowly(share, env, seen);
	else
		*inside() = share;
}

void vd_mmu_share_unlock(struct vd_mmu_share *share, const struct vd_env *env)
{
	*inside() = NULL;
	if (atomic_exchange_explicit(&share->alone, NOBODY, memory_order_seq_cst) == AWAITED)
		env->wake(env, &share->alone);
}
