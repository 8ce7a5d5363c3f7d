/* SPDX-License-Identifier: BSD-2-Clause */
/* What a vd_mmu is made of: a page table, and what it mirrors. */
#ifndef MMU_STATE_H
#define MMU_STATE_H

#include "mmu/pgtable.h"

/*
 * @pt: its lock orders installs against zaps
 * @dead: the memory was released; written alone
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
};

/* Level at which the way to @gpa ends now (in a leaf or in nothing). No lock. */
unsigned vd_mmu_path_end(const struct vd_mmu *mmu, uint64_t gpa);

/* ---- install.c ------------------------------------------------------------------------------ */

/* What shall be installed: the address that @gpa has, and the largest level that holds alike. */
struct vd_mmu_target {
	uint64_t gpa;
	uint64_t address;
	unsigned level;
	unsigned wanted; /* the access that faulted */
	bool dirty_log;
	struct vd_mmu_attributes attributes;
};

/*
 * What came of it: a leaf was installed; permissions were added to it; somebody had done it; there
 * are too few spares; it takes the lock alone.
 */
enum vd_mmu_outcome {
	VD_MMU_INSTALLED = 1,
	VD_MMU_WIDENED,
	VD_MMU_SPURIOUS,
	VD_MMU_SHORT,
	VD_MMU_ALONE,
};

/* fault.c: asks the space, follows vd_notifier_begin(). Return: 0, or the error of the access. */
int vd_mmu_resolve(struct vd_mmu *mmu, uint64_t gpa, unsigned access,
		   struct vd_mmu_target *target);
/* Inside the section that installs: 0; -ESHUTDOWN; -EAGAIN an invalidation came between. */
int vd_mmu_overtaken(struct vd_mmu *mmu, uint64_t seq, uint64_t start, uint64_t length);

/* In a shared section; @stripe is what entering it gave. Return: an outcome. */
int vd_mmu_install_shared(struct vd_mmu *mmu, const struct vd_mmu_target *target,
			  struct vd_mmu_spares *spares, struct vd_mmu_stripe *stripe);
/* Alone. Return: an outcome, never VD_MMU_ALONE. */
int vd_mmu_install_alone(struct vd_mmu *mmu, const struct vd_mmu_target *target,
			 struct vd_mmu_spares *spares);

/* ---- mirror.c: what the guest space's events do to it --------------------------------------- */

extern const struct vd_listener_ops vd_mmu_listener_ops;

#endif
