/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls from one file to another that the linker leads through here (--wrap): bugs that can be
 * planted; and the lock of the page table, whose many steps test_share.c goes through by themselves
 * and which is one step here, as the scheduler's own locks are.
 */
#include "fixture.h"

#include "mmu/share.h"

bool __real_vd_notifier_retry(const struct vd_notifier *notifier, uint64_t seq, uint64_t start,
			      uint64_t length);
bool __wrap_vd_notifier_retry(const struct vd_notifier *notifier, uint64_t seq, uint64_t start,
			      uint64_t length);
void __real_vd_mem_mark_dirty(struct vd_mem *mem, vd_gpa gpa, uint64_t length);
void __wrap_vd_mem_mark_dirty(struct vd_mem *mem, vd_gpa gpa, uint64_t length);

bool __wrap_vd_notifier_retry(const struct vd_notifier *notifier, uint64_t seq, uint64_t start,
			      uint64_t length)
{
	return !plants.no_retry && __real_vd_notifier_retry(notifier, seq, start, length);
}

void __wrap_vd_mem_mark_dirty(struct vd_mem *mem, vd_gpa gpa, uint64_t length)
{
	if (!plants.no_dirty_mark)
		__real_vd_mem_mark_dirty(mem, gpa, length);
}

struct vd_mmu_stripe *__wrap_vd_mmu_share_enter(struct vd_mmu_share *share,
						const struct vd_env *env);
void __wrap_vd_mmu_share_leave(struct vd_mmu_share *share, const struct vd_env *env,
			       struct vd_mmu_stripe *stripe);
void __wrap_vd_mmu_share_lock(struct vd_mmu_share *share, const struct vd_env *env);
void __wrap_vd_mmu_share_unlock(struct vd_mmu_share *share, const struct vd_env *env);

/* In the room of @alone and what follows: no lock of the environment needs more than a word. */
static struct vd_lock *lock_of(struct vd_mmu_share *share)
{
	return (struct vd_lock *)(void *)&share->alone;
}

struct vd_mmu_stripe *__wrap_vd_mmu_share_enter(struct vd_mmu_share *share,
						const struct vd_env *env)
{
	(void)env;
	interleave_share(lock_of(share));
	return &share->stripes[0];
}

void __wrap_vd_mmu_share_leave(struct vd_mmu_share *share, const struct vd_env *env,
			       struct vd_mmu_stripe *stripe)
{
	(void)env, (void)stripe;
	interleave_unshare(lock_of(share));
}

void __wrap_vd_mmu_share_lock(struct vd_mmu_share *share, const struct vd_env *env)
{
	env->lock(env, lock_of(share));
}

void __wrap_vd_mmu_share_unlock(struct vd_mmu_share *share, const struct vd_env *env)
{
	env->unlock(env, lock_of(share));
}
