/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 3, the secondary MMU
 *
 * Page tables for a walker. A struct vd_pgtable is a table by itself: its owner maps and unmaps. A
 * struct vd_mmu is one that mirrors a guest space: filled by faults, emptied by the space's
 * notifier. A format (one file each) knows bits; the walker and the algorithms know none.
 *
 * Locks: one lock a table orders installs against zaps. Faults share it, and install by
 * compare-and-swap: they disturb each other only where they meet. All else takes it alone
 * (src/mmu/share.h has the argument). Walks take no lock: they run in a read
 * section of the environment, or on a thread that the flush callback waits for, and table pages
 * are freed after both. Nothing allocates or sleeps under the lock.
 */
#ifndef VIADUCT_MMU_H
#define VIADUCT_MMU_H

#include <viaduct/format.h>
#include <viaduct/mem.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_mmu;
struct vd_pgtable;
struct vd_pgtable_reserve;

/**
 * struct vd_mmu_attributes - what a leaf says beside the address
 * @access: VD_READ | VD_WRITE | VD_EXECUTE
 * @type: memory type
 * @accessed, @dirty: see struct vd_mmu_leaf
 * @device: a software bit: the slot it came from is a device's, whatever the memory type
 * @user, @global: of stage-1 formats: user mode may use it; it is the same in all address spaces.
 *	Second-stage formats ignore both
 */
struct vd_mmu_attributes {
	unsigned access;
	enum vd_memory_type type;
	bool accessed, dirty, device;
	bool user, global;
};

/**
 * struct vd_mmu_leaf - one translation as found in the table
 * @pfn: of the address asked for, not of the block's start; counts pages of the space, or of the
 *	page shift of the table
 * @size: bytes of the block: a size of the format, 4 KiB, 2 MiB, 1 GiB for most; of a contiguous
 *	group, that of the group
 * @access: VD_READ | VD_WRITE | VD_EXECUTE; device slots are never executable
 * @type: memory type of the host mapping
 * @accessed: used since the entry was made or last aged
 * @dirty: stored to since the entry was made or last write-protected
 * @device: comes from a device slot: nothing behind it is counted, marked or dirty-logged
 * @user, @global: as in struct vd_mmu_attributes; false in second-stage formats
 */
struct vd_mmu_leaf {
	vd_pfn pfn;
	uint64_t size;
	unsigned access;
	enum vd_memory_type type;
	bool accessed, dirty, device;
	bool user, global;
};

/* ---- page tables ---------------------------------------------------------------------------- */

/** VD_PGTABLE_LEVELS - levels that a format can have: 0 maps granules, the last is the root */
#define VD_PGTABLE_LEVELS 5u

/**
 * struct vd_pgtable_config
 * @env: memory, lock and reclamation; outlives the table
 * @format: of the table
 * @window_base: host pointer of output address 0, a multiple of the granule. Tables are addressed
 *	by their distance from it, as leaves are. 0 in a port whose pointers are physical addresses
 * @page_shift: what the pfns of leaves count in
 * @flush: make sure no TLB filled from the table holds the range any more; called with the lock
 *	held (B7), so it must neither call back into the table nor allocate. The range is whole
 *	blocks. NULL if nothing caches
 * @flush_context: passed to @flush
 */
struct vd_pgtable_config {
	const struct vd_env *env;
	const struct vd_mmu_format *format;
	uintptr_t window_base;
	unsigned page_shift;
	void (*flush)(void *context, uint64_t start, uint64_t length);
	void *flush_context;
};

/**
 * vd_pgtable_create() - an empty page table
 *
 * All operations may be called on several threads at once. They take the lock of the table and
 * flush what they owe before it is dropped; what they allocate is taken before. Ranges are bytes of
 * input addresses, multiples of the granule where an operation is exact.
 * Return: 0; -EINVAL no environment or format, a misaligned window, a page shift beyond the format;
 *	-ENOMEM. On failure nothing is left behind.
 */
int vd_pgtable_create(const struct vd_pgtable_config *config, struct vd_pgtable **table,
		      struct vd_error *error);
/**
 * vd_pgtable_destroy() - unmap and flush everything, free the tables
 *
 * No walk or operation runs or comes any more; reserves have been dropped. NULL is nothing.
 */
void vd_pgtable_destroy(struct vd_pgtable *table);
/**
 * vd_pgtable_root() - the root table, aligned to its size or to 64 bytes
 * @bytes: its size
 *
 * Return: its address as a host pointer, good until vd_pgtable_destroy().
 */
void *vd_pgtable_root(const struct vd_pgtable *table, size_t *bytes);

/**
 * vd_pgtable_reserve() - take now all table memory that a later map of the range can need
 * @start, @length: of the map
 * @largest_level: of the blocks it will use: addresses of the map agree modulo their size. 0 if it
 *	may come to granules only
 * @reserve: set on success
 *
 * A map inside the range, with this reserve and such addresses, allocates nothing and cannot fail
 * for want of memory. A reserve serves one operation at a time.
 * Return: 0; -EINVAL misaligned or empty; -EOVERFLOW wraps or beyond the format's input; -ENOMEM,
 *	nothing is then kept.
 */
int vd_pgtable_reserve(struct vd_pgtable *table, uint64_t start, uint64_t length,
		       unsigned largest_level, struct vd_pgtable_reserve **reserve);
/** vd_pgtable_reserve_pages() - tables left in it now */
size_t vd_pgtable_reserve_pages(const struct vd_pgtable_reserve *reserve);
/** vd_pgtable_reserve_drop() - give back what is left. NULL is nothing */
void vd_pgtable_reserve_drop(struct vd_pgtable *table, struct vd_pgtable_reserve *reserve);

/**
 * vd_pgtable_map() - map a range in which nothing is mapped
 * @output: output address of @start: a distance from the window's base, which may be below 0
 * @attributes: of all its leaves
 * @reserve: where tables are taken from; what it lacks is added to it first. NULL: taken inside
 *
 * Uses the largest blocks that both addresses and the attributes allow, and contiguous groups
 * where the format has them. Walkers may see a part before all is done. Nothing is flushed:
 * nothing was there.
 * Return: 0; -EINVAL misaligned or empty; -EOVERFLOW an address wraps or is beyond the format's
 *	input or output bits; -EOPNOTSUPP attributes that the format lacks; -EEXIST something is
 *	mapped in the range; -ENOMEM. On error nothing has changed.
 */
int vd_pgtable_map(struct vd_pgtable *table, uint64_t start, uint64_t length, uint64_t output,
		   const struct vd_mmu_attributes *attributes, struct vd_pgtable_reserve *reserve);

/**
 * vd_pgtable_unmap() - unmap exactly a range, of which any part may be unmapped already
 * @unmapped: set to the bytes that were mapped; may be NULL
 *
 * Blocks that stick out are split, groups broken, first. A table that the range covers goes as a
 * whole and is freed when its readers have left; its leaves are not looked at.
 * Return: 0; -EINVAL misaligned or empty; -EOVERFLOW; -ENOMEM for a split, nothing has changed.
 */
int vd_pgtable_unmap(struct vd_pgtable *table, uint64_t start, uint64_t length,
		     uint64_t *unmapped);

/**
 * vd_pgtable_zap() - drop every leaf that meets a range, blocks and groups as a whole
 *
 * Allocates nothing and cannot fail. Length 0 is nothing; a range that wraps ends at the last
 * address.
 */
void vd_pgtable_zap(struct vd_pgtable *table, uint64_t start, uint64_t length);

/**
 * vd_pgtable_protect() - all leaves of exactly a range allow @access from now on
 * @access: VD_READ | VD_WRITE | VD_EXECUTE, more or less than before
 *
 * Splits as vd_pgtable_unmap() does. Accessed and dirty stay as they were; where the format has no
 * dirty bit, dirty goes with the right to write.
 * Return: 0; -EINVAL misaligned or empty; -EOVERFLOW; -ENOENT a part is not mapped; -EOPNOTSUPP the
 *	format cannot say this; -ENOMEM. On error nothing has changed.
 */
int vd_pgtable_protect(struct vd_pgtable *table, uint64_t start, uint64_t length, unsigned access);

/**
 * vd_pgtable_split() - no leaf that meets a range is larger than a level's from now on
 *
 * Accessed and dirty go to every part; groups of that level are broken.
 * Return: 0; -EINVAL misaligned, empty, or no blocks of that level; -EOVERFLOW; -ENOMEM, nothing
 *	has changed.
 */
int vd_pgtable_split(struct vd_pgtable *table, uint64_t start, uint64_t length, unsigned level);
/**
 * vd_pgtable_merge() - make blocks and contiguous groups of leaves in a range that say the same
 * @largest_level: of the blocks that are made
 *
 * Leaves that lie side by side in both address spaces, inside the range, and differ at most in
 * accessed and dirty: the block has what any of them had. Each is absent for a moment.
 * Return: 0, also if there was nothing to merge; -EINVAL misaligned or empty; -EOVERFLOW.
 */
int vd_pgtable_merge(struct vd_pgtable *table, uint64_t start, uint64_t length,
		     unsigned largest_level);

/**
 * vd_pgtable_write_protect() - take write permission and dirty from every leaf that meets a range
 *
 * Blocks and groups are changed as a whole and stay what they are. Length 0 is nothing; a range
 * that wraps ends at the last address, here and below.
 */
void vd_pgtable_write_protect(struct vd_pgtable *table, uint64_t start, uint64_t length);
/**
 * vd_pgtable_take_dirty() - read and clear the dirty bits of all leaves that meet a range
 * @protect: take the right to write with them, as vd_pgtable_write_protect() does
 * @fn: told of each leaf, or group, that was dirty, with the lock held: it must not call back into
 *	the table or sleep
 *
 * No bit that a walker sets meanwhile is lost: it is told of now, or found by the next call. What
 * walks that found the bit set have led to may still be on its way: whoever reads the memory waits
 * for their read sections first. Formats without a dirty bit tell of every leaf that can be
 * written, which then cannot be any more. Flushes what has changed.
 */
void vd_pgtable_take_dirty(struct vd_pgtable *table, uint64_t start, uint64_t length, bool protect,
			   void (*fn)(void *context, uint64_t start, uint64_t length),
			   void *context);
/**
 * vd_pgtable_clear_young() - forget that leaves that meet a range were used; flushes those
 * Return: whether one had been used. Formats without accessed bits say so of every leaf.
 */
bool vd_pgtable_clear_young(struct vd_pgtable *table, uint64_t start, uint64_t length);
/** vd_pgtable_test_young() - whether a leaf that meets a range was used since last cleared */
bool vd_pgtable_test_young(struct vd_pgtable *table, uint64_t start, uint64_t length);

/**
 * vd_pgtable_walk() - what a hardware walker would find; notes in the leaf that it was used
 * @access: VD_READ, VD_WRITE, VD_EXECUTE, or several
 *
 * Lock-free, in a read section of its own. As vd_mmu_walk().
 * Return: 0; -ENOENT nothing there, or a malformed entry; -EACCES.
 */
int vd_pgtable_walk(struct vd_pgtable *table, uint64_t input, unsigned access,
		    struct vd_mmu_leaf *leaf);
/** vd_pgtable_walk_guarded() - without a read section, as vd_mmu_walk_guarded() */
int vd_pgtable_walk_guarded(struct vd_pgtable *table, uint64_t input, unsigned access,
			    struct vd_mmu_leaf *leaf);
/**
 * vd_pgtable_each() - calls @fn for every leaf by address, once for a group, under the lock
 *
 * @fn must not call back into the table, allocate or sleep.
 * Return: 0, or the first non-zero value @fn returned, which ends it.
 */
int vd_pgtable_each(struct vd_pgtable *table,
		    int (*fn)(void *context, uint64_t input, const struct vd_mmu_leaf *leaf),
		    void *context);
/** vd_pgtable_each_in() - the same for the leaves that meet a range; the lock is held as long */
int vd_pgtable_each_in(struct vd_pgtable *table, uint64_t start, uint64_t length,
		       int (*fn)(void *context, uint64_t input, const struct vd_mmu_leaf *leaf),
		       void *context);

/**
 * struct vd_pgtable_stats
 * @zaps: leaves taken out since creation
 * @flushes: calls of the flush callback, or that would have been, since creation
 * @table_pages: tables now, the root among them
 * @mapped_bytes: now
 * @device_pages: granules mapped now with the attribute device
 * @leaves: entries by level, now; the leaves of a group count one by one
 */
struct vd_pgtable_stats {
	uint64_t zaps, flushes;
	uint64_t table_pages, mapped_bytes, device_pages;
	uint64_t leaves[VD_PGTABLE_LEVELS];
};

/** vd_pgtable_stats() - counters, each by itself exact, read one after the other */
void vd_pgtable_stats(const struct vd_pgtable *table, struct vd_pgtable_stats *stats);

/* ---- the mirror of a guest space ------------------------------------------------------------ */

/**
 * struct vd_mmu_config
 * @env: memory, lock and reclamation; outlives the MMU
 * @mem: the guest space mirrored; its page is at least the format's granule. Outlives the MMU
 * @format: of the tables
 * @flush: make sure no TLB filled from these tables holds the range any more; called with the
 *	lock held (B7), so it must neither call back into the MMU nor allocate. It may wait for
 *	harts to acknowledge, as long as a hart that waits for this lock counts as outside. The
 *	range is whole blocks. NULL if nothing caches
 * @flush_context: passed to @flush
 */
struct vd_mmu_config {
	const struct vd_env *env;
	struct vd_mem *mem;
	const struct vd_mmu_format *format;
	void (*flush)(void *context, vd_gpa start, uint64_t length);
	void *flush_context;
};

/**
 * struct vd_mmu_stats - since creation, or as it is now
 * @faults_ram, @faults_device: a leaf was installed where none was of use
 * @faults_protection: the leaf was there and got a permission (first store under a dirty log, or
 *	to a private page)
 * @faults_spurious: another hart had already done it
 * @retries: attempts that raced with an invalidation
 * @zaps: leaves zapped
 * @flushes: calls of the flush callback, or that would have been
 * @table_pages: tables now, the root among them
 * @mapped_bytes, @mapped_4k, @mapped_2m, @mapped_1g: now, bytes and leaves
 * @device_pages: mapped now from device slots, in granules of the format
 *
 * Faults that end in an error are not counted.
 */
struct vd_mmu_stats {
	uint64_t faults_ram, faults_device, faults_spurious, faults_protection;
	uint64_t retries;
	uint64_t zaps;
	uint64_t flushes;
	uint64_t table_pages;
	uint64_t mapped_bytes, mapped_4k, mapped_2m, mapped_1g, device_pages;
};

/**
 * vd_mmu_create() - an empty table that listens on the guest space's chain
 * Return: 0; -EINVAL no environment, space or format, or pages smaller than the format's granule;
 *	-ENOMEM; -ESHUTDOWN the space was released. On failure nothing is left behind.
 */
int vd_mmu_create(const struct vd_mmu_config *config, struct vd_mmu **mmu, struct vd_error *error);

/**
 * vd_mmu_destroy() - stop listening, zap and flush everything, free the tables
 *
 * No walk or fault runs or comes any more. @mmu may be NULL. Not from within a listener.
 */
void vd_mmu_destroy(struct vd_mmu *mmu);

/**
 * vd_mmu_walk() - what a hardware walker would find; sets accessed, and dirty if @access has
 * VD_WRITE, in the entry (compare-and-swap), as a walker that updates them (Svadu) does
 *
 * Lock-free, never sleeps, never installs. Safe while the caller may hold host pointers. What is
 * found is good until the flush callback asks for it back: a TLB is filled by a thread which that
 * callback waits for.
 * Return: 0; -ENOENT nothing there, or a malformed entry; -EACCES an entry that does not allow
 *	@access.
 */
int vd_mmu_walk(struct vd_mmu *mmu, vd_gpa gpa, unsigned access, struct vd_mmu_leaf *leaf);

/**
 * vd_mmu_walk_guarded() - the same without a read section, which costs several times the walk
 *
 * For a thread that the flush callback waits for, as it does for a hart that is inside: tables
 * are freed only after that flush, so they stand until this thread has answered it.
 * Return: as vd_mmu_walk().
 */
int vd_mmu_walk_guarded(struct vd_mmu *mmu, vd_gpa gpa, unsigned access, struct vd_mmu_leaf *leaf);

/**
 * vd_mmu_fault() - make the translation for one access, from the guest's slots
 *
 * May sleep: the caller holds no host pointer and no lock. Maps the largest block that gpa, pfn,
 * slot and host run allow, 4 KiB under dirty logging, and no larger than the tables that already
 * stand there. Under dirty logging the first store is marked (vd_mem_mark_dirty()) before the
 * leaf becomes writable. Waits out invalidations of the range and starts again.
 * In a leaf that allows the access it sets accessed, and dirty for a store: a walker that does not
 * do so itself (no Svadu, VTCR_EL2.HA clear) faults until they are.
 * The watchers of a page (vd_mem_watch_add()) are called before a store to it is let through, and
 * a page that they keep is mapped for reading only.
 * Return: 0 (walk again); -ENOENT no slot; -EREMOTE a trap slot: emulate; -EUCLEAN a watcher keeps
 *	the page: emulate the store, with vd_mem_write(); -EACCES store to read-only, or execution
 *	of device memory; -EFAULT the host has nothing there; -ENOMEM; -ESHUTDOWN the memory was
 *	released.
 */
int vd_mmu_fault(struct vd_mmu *mmu, vd_gpa gpa, unsigned access);

/**
 * vd_mmu_zap() - drop every leaf that meets a range (blocks go as a whole) and flush before return
 *
 * A range of length 0 is empty, one that wraps ends at the last address. Costs what is mapped, not
 * what is covered. Takes the lock.
 */
void vd_mmu_zap(struct vd_mmu *mmu, vd_gpa start, uint64_t length);

/**
 * vd_mmu_write_protect() - take write permission and dirty from every leaf that meets a range;
 * flush before return
 *
 * Blocks stay blocks: the first store to one replaces it by what then fits. Takes the lock.
 */
void vd_mmu_write_protect(struct vd_mmu *mmu, vd_gpa start, uint64_t length);

/**
 * vd_mmu_merge() - make blocks again where the guest space allows them and tables of smaller leaves
 * stand: after vd_mem_dirty_stop(), for one
 *
 * May sleep. Each block is absent for a moment; it is accessed and dirty if one of the leaves was.
 * Tables that the range does not hold as a whole stay. Costs a lookup for each table.
 * Return: how many blocks were made.
 */
uint64_t vd_mmu_merge(struct vd_mmu *mmu, vd_gpa start, uint64_t length);

/**
 * vd_mmu_clear_young() - forget that the leaves of a range were used; flushes, so that the next use
 * through a TLB is seen again
 * Return: whether one had been used.
 */
bool vd_mmu_clear_young(struct vd_mmu *mmu, vd_gpa start, uint64_t length);

/** vd_mmu_test_young() - whether a leaf of the range was used since it was made or last cleared */
bool vd_mmu_test_young(struct vd_mmu *mmu, vd_gpa start, uint64_t length);

/**
 * vd_mmu_each() - calls @fn for every leaf by address, under the lock
 *
 * @fn must not call back into the MMU, allocate or sleep.
 * Return: 0, or the first non-zero value @fn returned, which ends it.
 */
int vd_mmu_each(struct vd_mmu *mmu,
		int (*fn)(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf),
		void *context);
/**
 * vd_mmu_each_in() - the same for the leaves that meet a range: a large table is looked at piece by
 * piece, so that no fault waits for long. A leaf that reaches over an end is met from both sides
 */
int vd_mmu_each_in(struct vd_mmu *mmu, vd_gpa start, uint64_t length,
		   int (*fn)(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf),
		   void *context);

/** vd_mmu_stats() - counters, each by itself exact, read one after the other */
void vd_mmu_stats(const struct vd_mmu *mmu, struct vd_mmu_stats *stats);

/**
 * vd_mmu_root() - the root table: for a real walker, or a test that corrupts a leaf
 * @bytes: its size
 *
 * Tables hold addresses as leaves do: distances from vd_host_window_base(), in the format's width.
 * Return: its host address, good until vd_mmu_destroy().
 */
void *vd_mmu_root(const struct vd_mmu *mmu, size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
