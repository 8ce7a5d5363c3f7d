/* SPDX-License-Identifier: BSD-2-Clause */
/* What a vd_mmu is made of: a page table, and what it mirrors. */
#ifndef MMU_STATE_H
#define MMU_STATE_H

#include "mmu/pgtable.h"

struct vd_mmu_fault_counters {
	_Atomic uint64_t ram, device, spurious, protection, retries;
};

/*
 * @pt: its lock orders installs against zaps
 * @dead: the memory was released; written under that lock
 */
struct vd_mmu {
	struct vd_listener listener;
	struct vd_pgtable pt;
	const struct vd_env *env;
	struct vd_mem *mem;
	struct vd_notifier *notifier;
	void (*flush)(void *context, vd_gpa start, uint64_t length);
	void *flush_context;
	_Atomic bool dead;
	struct vd_mmu_fault_counters faults;
};

/* Level at which the way to @gpa ends now (in a leaf or in nothing). No lock. */
unsigned vd_mmu_path_end(const struct vd_mmu *mmu, uint64_t gpa);

/* ---- mirror.c: what the guest space's events do to it --------------------------------------- */

extern const struct vd_listener_ops vd_mmu_listener_ops;

#endif
