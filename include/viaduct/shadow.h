/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 3, shadow paging
 *
 * Shadow tables translate guest virtual addresses straight to host pages, for a walker that knows
 * one stage only. They mirror two things: the guest's own tables, and the guest space. The first is
 * kept true by write protection: no shadow maps a page of the guest's tables writable; a store to
 * one is performed between vd_shadow_write_begin() and _end(), and the entries it changed are
 * mended at once. The second is kept true as in a vd_mmu, by the notifier and the retry protocol; a
 * reverse map finds the entries that came from a guest page, those of device slots as well.
 *
 * Shadow pages are always in step, there are none that the guest may write to and that are looked
 * through later ("unsync"). A reason against those: they are looked through at every flush of the
 * guest's, and Linux on RISC-V flushes one address at a time, 93 000 times in a boot, so each of
 * its single stores would cost the comparison of a page of entries. Where a guest does write many
 * entries of a table in a row, the table is no longer shadowed after a few, and stores to it are
 * ordinary ones until it is used again.
 *
 * Others that store to guest memory (vd_mem_write(), DMA) are noticed by the write watch of the
 * space: the page is then shadowed no longer. Not noticed is a copy that is under way at the moment
 * when a page becomes a table: to wait for those would cost each new table a grace period, and a
 * guest that lets a device write to the very table it starts to use gets what it asked for, within
 * its own memory.
 *
 * Locks: one lock a shadow orders faults, emulated stores and zaps: they all meet in the same
 * few tables, and what a lock of its own for each root would spare is waiting for a few hundred
 * nanoseconds. Walks take no lock: they run in a read section of the environment, or on a thread
 * that the flush callback waits for; pages are freed after both. Nothing allocates under the lock.
 *
 * Flushes: what the host or the slots take away is flushed before the lock is dropped. What the
 * guest takes away by a store to its own table is not: architectures let a translation live until
 * the guest flushes it, and that reaches the TLBs directly. The flush stays owed, and the next zap
 * or write protection does it even if it finds nothing (B7).
 */
#ifndef VIADUCT_SHADOW_H
#define VIADUCT_SHADOW_H

#include <viaduct/mmu.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_shadow;
struct vd_shadow_root;
struct vd_guest_format;

/**
 * vd_guest_format_bare - the guest's MMU is off: addresses are guest physical ones
 * vd_guest_format_sv39, _sv48, _sv57 - RISC-V privileged manual, "Sv39: Page-Based 39-bit
 *	Virtual-Memory System" and the two that follow it; neither Svnapot nor Svpbmt
 * vd_guest_format_x86_32 - Intel SDM volume 3, "32-Bit Paging", with PSE and PSE-36
 * vd_guest_format_x86_pae - "PAE Paging"; the four directory pointers are read as the processor
 *	does at a load of CR3 only in that stores to them are seen at once
 * vd_guest_format_x86_64, _x86_64_la57 - "4-Level Paging and 5-Level Paging", NXE on
 */
extern const struct vd_guest_format vd_guest_format_bare;
extern const struct vd_guest_format vd_guest_format_sv39;
extern const struct vd_guest_format vd_guest_format_sv48;
extern const struct vd_guest_format vd_guest_format_sv57;
extern const struct vd_guest_format vd_guest_format_x86_32;
extern const struct vd_guest_format vd_guest_format_x86_pae;
extern const struct vd_guest_format vd_guest_format_x86_64;
extern const struct vd_guest_format vd_guest_format_x86_64_la57;

/* What the guest's processor does, beside VD_READ, VD_WRITE and VD_EXECUTE of an access. */
#define VD_SHADOW_USER 8u	/* in user mode */
#define VD_SHADOW_SUM 16u	/* supervisor mode may touch user pages (SUM; SMAP off) */
#define VD_SHADOW_MXR 32u	/* executable pages are readable (RISC-V MXR) */
#define VD_SHADOW_UPDATE 64u	/* the processor sets accessed and dirty (Svadu; always x86) */
#define VD_SHADOW_NO_WP 128u	/* x86, CR0.WP clear: supervisor stores ignore write permission */
#define VD_SHADOW_USER_CODE 256u /* x86 with SMEP off: supervisor mode may execute user pages */

/** VD_SHADOW_PAGES_MIN - smallest budget of a shadow */
#define VD_SHADOW_PAGES_MIN 32u

/** VD_SHADOW_EMULATE - from vd_shadow_fault(): perform this store by vd_shadow_write_begin() */
#define VD_SHADOW_EMULATE 1

/**
 * struct vd_shadow_config
 * @env: memory, lock and reclamation; outlives the shadow
 * @mem: the guest space; outlives the shadow
 * @format: of the shadow tables: first-stage (VD_MMU_FORMAT_STAGE1). It must translate as many
 *	bits as the guest formats used, in entries of the guest's size or smaller
 * @flush: as in struct vd_mmu_config, but all a TLB holds is flushed, as a guest page may be mapped
 *	at any address: called with the lock held. NULL if nothing caches
 * @flush_context: passed to @flush as it is; the range is everything
 * @pages: budget of shadow pages, about 12 KiB each; 0 for 1024. At least VD_SHADOW_PAGES_MIN
 */
struct vd_shadow_config {
	const struct vd_env *env;
	struct vd_mem *mem;
	const struct vd_mmu_format *format;
	void (*flush)(void *context, vd_gpa start, uint64_t length);
	void *flush_context;
	unsigned pages;
};

/**
 * struct vd_shadow_leaf - a translation found by vd_shadow_walk()
 * @leaf: of the shadow table
 * @guest_size: bytes that the guest's own entry maps: what a flush of one of its addresses drops
 */
struct vd_shadow_leaf {
	struct vd_mmu_leaf leaf;
	uint64_t guest_size;
};

/**
 * struct vd_shadow_access - where the guest's own table leads
 * @gpa: guest physical address
 * @guest_size: bytes that the guest's entry maps
 * @access: VD_READ | VD_WRITE | VD_EXECUTE of all its levels, and VD_SHADOW_USER
 * @accessed, @dirty: of its leaf
 */
struct vd_shadow_access {
	vd_gpa gpa;
	uint64_t guest_size;
	unsigned access;
	bool accessed, dirty;
};

/**
 * struct vd_shadow_stats - since creation, or as it is now
 * @faults: translations made; @faults_spurious: another walker had already done it
 * @guest_faults: faults that are the guest's own
 * @retries: attempts that raced with an invalidation or a change of the guest's tables
 * @pages, @pages_made: shadow pages now, and ever
 * @leaves: now
 * @prefills: entries made when the guest wrote its own
 * @writes: emulated stores
 * @zaps: leaves dropped, whoever asked
 * @flushes: calls of the flush callback, or that would have been
 * @floods: pages no longer shadowed because the guest wrote to them again and again, misaligned, or
 *	something that is no table
 * @foreign_writes: the same because somebody else stored to them
 * @recycled: pages given up for the budget
 */
struct vd_shadow_stats {
	uint64_t faults, faults_spurious, guest_faults, retries;
	uint64_t pages, pages_made, leaves;
	uint64_t prefills, writes, zaps, flushes;
	uint64_t floods, foreign_writes, recycled;
};

/**
 * vd_shadow_create() - no roots, no pages; listens on the guest space's chain
 * Return: 0; -EINVAL no environment, space or format, a second-stage format or one whose granule
 *	is not 4 KiB, too small or too large a budget; -ENOSPC too many watchers of the space;
 *	-ENOMEM; -ESHUTDOWN the space was released. On failure nothing is left behind.
 */
int vd_shadow_create(const struct vd_shadow_config *config, struct vd_shadow **shadow,
		     struct vd_error *error);

/**
 * vd_shadow_destroy() - stop listening, zap and flush everything, free it
 *
 * No walk, fault, store or root is under way or in use. @shadow may be NULL. Not in a listener.
 */
void vd_shadow_destroy(struct vd_shadow *shadow);

/**
 * vd_shadow_root_get() - use the guest's table at @table as root
 * @table: what satp or CR3 says; ignored for vd_guest_format_bare
 *
 * Found again if it was used before and not recycled since. Takes the lock.
 * Return: 0; -EINVAL the tables of the shadow cannot hold the guest's addresses; -ENOSPC more roots
 *	are in use than the budget allows; -ENOMEM; -ESHUTDOWN.
 */
int vd_shadow_root_get(struct vd_shadow *shadow, const struct vd_guest_format *format,
		       vd_gpa table, struct vd_shadow_root **root);

/** vd_shadow_root_put() - use it no longer; kept for the next use while there is room */
void vd_shadow_root_put(struct vd_shadow *shadow, struct vd_shadow_root *root);

/**
 * vd_shadow_root_entries() - the root table, for a hardware walker
 *
 * Addresses in tables are distances from vd_host_window_base(), as in vd_mmu_root(). A walker does
 * not check that the guest's addresses are canonical where its own are wider.
 * Return: its host address, good while the root is in use.
 */
void *vd_shadow_root_entries(const struct vd_shadow_root *root);

/**
 * vd_shadow_walk() - what a hardware walker would find for one access
 * @access: VD_READ, VD_WRITE, VD_EXECUTE with VD_SHADOW_* bits
 *
 * Lock-free, in a read section of its own. Sets accessed and dirty of the shadow's entry. What is
 * found is good until the flush callback asks for it back.
 * Return: 0; -ENOENT nothing there; -EACCES it does not allow @access.
 */
int vd_shadow_walk(struct vd_shadow *shadow, const struct vd_shadow_root *root, vd_gva gva,
		   unsigned access, struct vd_shadow_leaf *leaf);

/** vd_shadow_walk_guarded() - the same for a thread that the flush callback waits for */
int vd_shadow_walk_guarded(struct vd_shadow *shadow, const struct vd_shadow_root *root, vd_gva gva,
			   unsigned access, struct vd_shadow_leaf *leaf);

/**
 * vd_shadow_translate() - walk the guest's own table, and change nothing
 *
 * Permissions are not looked at. Never sleeps: for a caller that may hold host pointers.
 * Return: 0; -ENXIO, -EBADMSG, -EADDRNOTAVAIL as vd_shadow_fault(); -ENOENT without paging, an
 *	address beyond the shadow's format; -EAGAIN a table of the guest is being invalidated.
 */
int vd_shadow_translate(struct vd_shadow *shadow, const struct vd_shadow_root *root, vd_gva gva,
			struct vd_shadow_access *what);

/**
 * vd_shadow_fault() - make the translation for one access
 * @access: as vd_shadow_walk()
 * @what: gets where the access goes, also with VD_SHADOW_EMULATE, -EREMOTE and every error of the
 *	second half below; may be NULL
 *
 * Walks the guest's table, sets accessed and dirty there if the processor does (VD_SHADOW_UPDATE),
 * shadows the tables on the way and installs the largest leaf that guest, slot and host allow.
 * Writable only if the guest's entry is dirty already or by this store. May sleep: the caller holds
 * no host pointer and no lock.
 * Return: 0: walk again. VD_SHADOW_EMULATE: a store to a page of the guest's tables.
 *	The guest's own fault: -ENXIO not present, or an address that is not canonical; -EPERM not
 *	permitted, or accessed or dirty are for the guest to set; -EBADMSG reserved bits.
 *	-EADDRNOTAVAIL: a table of the guest does not lie in its RAM.
 *	-ESTALE: the root's table was stored to by somebody else, or its memory changed: put the
 *	root and get it again.
 *	-ENOENT no slot, or, without paging, an address beyond the shadow's format; -EREMOTE a trap
 *	slot: emulate; -EACCES store to a read-only slot, or execution of device memory; -EFAULT the
 *	host has nothing there; -EOPNOTSUPP the shadow's format cannot say what the guest's entry
 *	says; -EUCLEAN a watcher of the space keeps the page; -ENOSPC; -ENOMEM; -ESHUTDOWN.
 */
int vd_shadow_fault(struct vd_shadow *shadow, const struct vd_shadow_root *root, vd_gva gva,
		    unsigned access, struct vd_shadow_access *what);

/** struct vd_shadow_write - a store under way; internal */
struct vd_shadow_write {
	vd_gpa gpa;
	uint64_t length;
	uint64_t seq;
	void *host;
};

/**
 * vd_shadow_write_begin() - before a store that vd_shadow_fault() gave back
 * @length: bytes, not 0, all in one page
 * @write: kept by the caller until the end
 *
 * Returns with the lock held: the caller performs the access at @write->host (a store, an atomic, a
 * compare-and-swap that may fail), and nothing else, then calls vd_shadow_write_end() on the same
 * thread. The dirty log is marked. Works for any RAM page. May sleep before; on failure the lock is
 * not held.
 * Return: 0; -EINVAL length; -ENOENT, -EREMOTE, -EACCES, -EFAULT as vd_mem_gpa_to_pfn();
 *	-EUCLEAN; -ESHUTDOWN.
 */
int vd_shadow_write_begin(struct vd_shadow *shadow, vd_gpa gpa, uint64_t length,
			  struct vd_shadow_write *write);

/**
 * vd_shadow_write_end() - mend what mirrors the entries, and drop the lock
 *
 * Entries that became usable are made here, not accessed, so that ageing sees whether they are
 * used.
 * Return: whether the page is still one whose stores must come this way.
 */
bool vd_shadow_write_end(struct vd_shadow *shadow, struct vd_shadow_write *write);

/**
 * vd_shadow_zap() - drop every leaf that maps a part of a guest physical range; flush before return
 *
 * A range of length 0 is empty, one that wraps ends at the last address. Costs what is mapped, or
 * what is covered if that is less. Takes the lock.
 */
void vd_shadow_zap(struct vd_shadow *shadow, vd_gpa start, uint64_t length);

/** vd_shadow_write_protect() - take write permission and dirty from those leaves; flush */
void vd_shadow_write_protect(struct vd_shadow *shadow, vd_gpa start, uint64_t length);

/**
 * vd_shadow_clear_young() - forget that the pages of a range were used; flushes
 *
 * Also tells of leaves that were used and have gone since, as far as they are remembered.
 * Return: whether one had been used.
 */
bool vd_shadow_clear_young(struct vd_shadow *shadow, vd_gpa start, uint64_t length);

/** vd_shadow_test_young() - whether a page of the range was used since it was last cleared */
bool vd_shadow_test_young(struct vd_shadow *shadow, vd_gpa start, uint64_t length);

/**
 * vd_shadow_each() - calls @fn for every leaf in no order, under the lock
 *
 * @fn must not call back into the shadow, allocate or sleep. A guest page may come several times.
 * Return: 0, or the first non-zero value @fn returned, which ends it.
 */
int vd_shadow_each(struct vd_shadow *shadow,
		   int (*fn)(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf),
		   void *context);

/** vd_shadow_stats() - counters, each by itself exact, read one after the other */
void vd_shadow_stats(const struct vd_shadow *shadow, struct vd_shadow_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
