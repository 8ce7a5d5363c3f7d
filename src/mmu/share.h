/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lock of a page table: many who install (shared), or one who takes away (alone). And the
 * counters that those who share it raise.
 *
 * Whoever shares it counts himself in one of several words, a cache line each, chosen by his
 * thread, and then looks whether somebody holds it alone, a word that is only read: no line goes
 * back and forth between cores that fault. Whoever wants it alone says so, and waits until all
 * counts are zero.
 *
 * The order of memory, once for all of src/mmu:
 *
 *  - Enter: count up, then read @alone. Lock: set @alone, then read the counts. All four are
 *    seq_cst, so of two who meet at least one sees the other; the one who shares gives way.
 *  - What was done in a shared section comes before what is done alone after it: leaving counts
 *    down (release), the lock reads the count (acquire). What was done alone comes before sections
 *    entered after it: unlocking clears @alone (release), entering reads that (acquire).
 *  - So a section alone sees every entry, every table and every count that shared sections made,
 *    though they made them with relaxed additions, and a zap misses no leaf. And a shared section
 *    that begins after an invalidation's zap was done sees that invalidation on the chain, because
 *    it was announced there before the zap: its retry check, made inside the section, holds for as
 *    long as the section does (invariants 2 to 4 of the design).
 *  - Between those who share: an entry changes from 0 by compare-and-swap, so there is one winner.
 *    What the entry leads to was made before it (release), whoever reads it gets to see that
 *    (acquire): threads that install, and walkers, which hold nothing.
 *  - A walker's compare-and-swap of accessed and dirty goes with anybody's: whoever changes a
 *    present entry does so by compare-and-swap or exchange, and takes over what he then finds.
 *
 * Sleeping: a reader that leaves counts down, then looks at @alone; one who holds it alone sets
 * @alone, then reads @left, then the count, then sleeps while @left is as it was: either he sees
 * the count at zero, or the reader sees @alone and raises @left. Waiting for @alone itself is the
 * usual mutex of three states.
 */
#ifndef MMU_SHARE_H
#define MMU_SHARE_H

#include <viaduct/mmu.h>

/* One in tests that try every interleaving. A power of two. */
#ifndef VD_MMU_STRIPES
#define VD_MMU_STRIPES 16u
#endif

/* Those who share count for themselves; exact is the sum only. Relaxed: they order nothing. */
struct vd_mmu_stripe {
	_Alignas(128) _Atomic uint32_t inside;
	_Atomic uint64_t leaves[VD_PGTABLE_LEVELS];
	_Atomic uint64_t table_pages, device_bytes;
	_Atomic uint64_t faults_ram, faults_device, faults_spurious, faults_protection, retries;
};

/*
 * @alone: 0 nobody, 1 held, 2 held and waited for
 * @left: raised when somebody leaves who may be waited for
 * @parallel: whether anybody ever enters: else there are no counts to look at
 */
struct vd_mmu_share {
	struct vd_mmu_stripe stripes[VD_MMU_STRIPES];
	_Alignas(64) _Atomic uint32_t alone;
	_Atomic uint32_t left;
	bool parallel;
};

/* The calling thread's, for counting outside of any section as well. */
struct vd_mmu_stripe *vd_mmu_stripe(struct vd_mmu_share *share);

/* Begins a shared section; may sleep before it does. */
struct vd_mmu_stripe *vd_mmu_share_enter(struct vd_mmu_share *share, const struct vd_env *env);
void vd_mmu_share_leave(struct vd_mmu_share *share, const struct vd_env *env,
			struct vd_mmu_stripe *stripe);
void vd_mmu_share_lock(struct vd_mmu_share *share, const struct vd_env *env);
void vd_mmu_share_unlock(struct vd_mmu_share *share, const struct vd_env *env);

/* Whether the calling thread is in a section of it, shared or alone: for tests. */
bool vd_mmu_share_is_inside(const struct vd_mmu_share *share);

/* In a shared section, or in none. */
static inline void vd_mmu_count_shared(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* Alone: nobody else writes. */
static inline void vd_mmu_count(_Atomic uint64_t *counter, uint64_t n)
{
	uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + n, memory_order_relaxed);
}

static inline void vd_mmu_uncount(_Atomic uint64_t *counter, uint64_t n)
{
	vd_mmu_count(counter, -n);
}

#endif
