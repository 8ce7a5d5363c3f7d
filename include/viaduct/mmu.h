/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 3, the secondary MMU
 *
 * Page tables for a walker: filled by faults, emptied by the notifier of the guest space they mirror.
 * A format (one file each) knows bits; the walker and the algorithms know none.
 *
 * Locks: one lock a vd_mmu orders installs against zaps. Walks take no lock: they run in a read section of the
 * environment, and table pages are freed after it. Nothing allocates or sleeps under the lock.
 */
#ifndef VIADUCT_MMU_H
#define VIADUCT_MMU_H

#include <viaduct/mem.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_mmu;
struct vd_mmu_format;

/** vd_mmu_format_sv39x4, _sv48x4, _sv57x4 - second-stage tables of the RISC-V hypervisor extension (Privileged manual, "Two-stage address translation"), with Svpbmt */
extern const struct vd_mmu_format vd_mmu_format_sv39x4;
extern const struct vd_mmu_format vd_mmu_format_sv48x4;
extern const struct vd_mmu_format vd_mmu_format_sv57x4;

/**
 * struct vd_mmu_config
 * @flush: make sure no TLB filled from these tables holds the range any more; called with the lock
 *	held (B7), so it must neither take it nor allocate. NULL if nothing caches
 */
struct vd_mmu_config {
	const struct vd_env *env;
	struct vd_mem *mem;
	const struct vd_mmu_format *format;
	void (*flush)(void *context, vd_gpa start, uint64_t length);
	void *flush_context;
};

/** struct vd_mmu_leaf - one translation as found in the table */
struct vd_mmu_leaf {
	vd_pfn pfn;	    /* of the address asked for, not of the block's start */
	uint64_t size;	    /* of the block: 4 KiB, 2 MiB, 1 GiB */
	unsigned access;    /* VD_READ | VD_WRITE | VD_EXECUTE */
	enum vd_memory_type type;
	bool accessed, dirty;
};

struct vd_mmu_stats {
	uint64_t faults_ram, faults_device, faults_spurious, faults_protection;
	uint64_t retries;	/* raced with an invalidation */
	uint64_t zaps;		/* leaves zapped */
	uint64_t flushes;
	uint64_t table_pages;
	uint64_t mapped_bytes, mapped_4k, mapped_2m, mapped_1g, device_pages;
};

int vd_mmu_create(const struct vd_mmu_config *config, struct vd_mmu **mmu, struct vd_error *error);
void vd_mmu_destroy(struct vd_mmu *mmu);

/**
 * vd_mmu_walk() - what a hardware walker would find; sets accessed, and dirty if @access has VD_WRITE,
 * in the entry (compare-and-swap), as a walker that updates them does
 *
 * Lock-free, never sleeps, never installs. Safe while the caller may hold host pointers.
 * Return: 0; -ENOENT nothing there; -EACCES an entry that does not allow @access.
 */
int vd_mmu_walk(struct vd_mmu *mmu, vd_gpa gpa, unsigned access, struct vd_mmu_leaf *leaf);

/**
 * vd_mmu_fault() - make the translation for one access, from the guest's slots
 *
 * May sleep: the caller holds no host pointer and no lock. Maps the largest block that gpa, pfn, slot and
 * host run allow (4 KiB under dirty logging).
 * Return: 0 (walk again); -ENOENT no slot; -EREMOTE a trap slot: emulate; -EACCES store to read-only; -EFAULT
 *	the host has nothing there; -ENOMEM; -ESHUTDOWN the memory was released.
 */
int vd_mmu_fault(struct vd_mmu *mmu, vd_gpa gpa, unsigned access);

/** vd_mmu_zap() - drop the leaves of a range and flush before return */
void vd_mmu_zap(struct vd_mmu *mmu, vd_gpa start, uint64_t length);
bool vd_mmu_clear_young(struct vd_mmu *mmu, vd_gpa start, uint64_t length);
bool vd_mmu_test_young(struct vd_mmu *mmu, vd_gpa start, uint64_t length);

/** vd_mmu_each() - calls @fn for every leaf by address, under the lock; stops when it returns non-zero */
int vd_mmu_each(struct vd_mmu *mmu,
		int (*fn)(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf),
		void *context);
void vd_mmu_stats(const struct vd_mmu *mmu, struct vd_mmu_stats *stats);
/** vd_mmu_root() - host address of the root table and its bytes: for a real walker, or a test that corrupts a leaf */
void *vd_mmu_root(const struct vd_mmu *mmu, size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
