/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a shadow is made of, and the operations its files share.
 *
 * A shadow page mirrors a table of the guest, or a part of one where the guest's tables are larger
 * (32-bit guests); or it breaks up a block of the guest's (direct); or it stands above the guest's
 * root where the shadow has more levels (above). Pages are found by what they mirror, whoever
 * leads to them, so that two address spaces that share a table share its shadow.
 *
 * Pages have numbers, and so have entries: (number << id_shift | index) in 32 bits. Lists go by
 * them; each entry has one node, which serves a leaf in the reverse map, and an entry that leads to
 * a page in the list of that page's parents.
 */
#ifndef MMU_SHADOW_H
#define MMU_SHADOW_H

#include <viaduct/shadow.h>

#include "mmu/guest_format.h"

#define SHADOW_NONE UINT32_MAX
#define SHADOW_YOUNG 4096u	/* pages remembered as used after their leaves went */
#define SHADOW_TELLS 8u		/* see TELLS in fault.c */
#define SHADOW_FLOOD 4u		/* stores in a row, unused in between, that end shadowing */

/*
 * @base: guest physical address of the table; of the block's part (direct); of the root (above)
 * @level: of the shadow table
 * @guest_level: of the guest's table; of the guest's leaf (direct)
 * @quadrant: which part of the guest's table
 * @access: what the levels above allow; of a direct page, the block's leaf included
 */
struct shadow_role {
	const struct vd_guest_format *format;
	uint64_t base;
	uint16_t quadrant;
	uint8_t level, guest_level;
	uint8_t access;
	bool direct, above;
};

/*
 * @key: gpa of the leaf; number of the page that the entry leads to
 * @next, @prev: entries; SHADOW_NONE ends
 */
struct shadow_node {
	uint64_t key;
	uint32_t next, prev;
};

/*
 * One allocation: the entries, aligned to their size, this behind them, and a node for each.
 *
 * @free_env, @free_bytes: for when the shadow may be gone
 * @serial: never used twice
 * @parents: entries that lead here
 * @uses: of the root that this is
 * @writes: emulated stores since it was used
 * @written: entry that the last one changed
 * @hash: next in the bucket
 * @older, @newer: the list by last use
 * @next: of spare or detached pages
 * @children: links below, and @leaves; both say what is not absent
 * @stale: a root in use that mirrors nothing any more, and stands in no list
 */
struct shadow_page {
	struct vd_deferred deferred;
	const struct vd_env *free_env;
	size_t free_bytes;
	vd_mmu_entry *entries;
	struct shadow_role role;
	uint64_t serial;
	struct shadow_page *hash, *older, *newer, *next;
	uint32_t number, parents, written;
	uint32_t uses, writes;
	uint32_t leaves, children;
	bool stale;
	struct shadow_node nodes[];
};

/* What vd_shadow_root_get() hands out is the top page. */
struct vd_shadow_root {
	struct shadow_page page;
};

struct shadow_counters {
	_Atomic uint64_t faults, faults_spurious, guest_faults, retries, pages, pages_made, leaves;
	_Atomic uint64_t prefills, writes, zaps, flushes, floods, foreign_writes, recycled;
};

struct shadow_list {
	struct shadow_page *first;
};

/*
 * @lock: everything but the counters, and accessed and dirty bits of entries
 * @dead: written under @lock
 * @owed: a TLB may hold what was zapped without a flush, or a walker be in a detached page
 * @spare_count: may be read without the lock
 * @numbered: pages by number; @free_numbers[0 .. free_count - 1] are free
 * @hash: pages by gfn of their base; @rmap: leaves by level and block; both of @mask + 1 buckets
 * @level_leaves: leaves a level
 * @oldest, @newest: pages by last use
 * @young: gfn + 1 of pages whose used leaves went, by the low bits of the gfn
 * @detached: out of everything, wait for a flush and for walkers; @flushed: since the last came
 */
struct vd_shadow {
	struct vd_listener listener;
	struct vd_mem_watch watch;
	const struct vd_env *env;
	struct vd_mem *mem;
	struct vd_notifier *notifier;
	const struct vd_mmu_format *format;
	struct vd_mmu_top top;
	void (*flush)(void *context, vd_gpa start, uint64_t length);
	void *flush_context;
	struct vd_lock lock;
	_Atomic bool dead;
	bool owed, flushed;
	uint32_t detached_count;
	unsigned budget;
	unsigned id_shift;
	struct shadow_list spares, detached;
	_Atomic uint32_t spare_count;
	struct shadow_page **numbered;
	uint32_t *free_numbers;
	uint32_t free_count;
	struct shadow_page **hash;
	uint32_t *rmap;
	uint32_t mask;
	uint64_t level_leaves[VD_MMU_LEVELS_MAX];
	struct shadow_page *oldest, *newest;
	uint64_t serial;
	uint64_t *young;
	struct shadow_counters counters;
};

static inline void shadow_count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline void shadow_uncount(_Atomic uint64_t *counter)
{
	atomic_fetch_sub_explicit(counter, 1, memory_order_relaxed);
}

static inline size_t shadow_entries_bytes(const struct vd_shadow *shadow)
{
	return sizeof(vd_mmu_entry) << shadow->id_shift;
}

/* All pages have room for as many entries as the largest level has. */
static inline struct shadow_page *shadow_page_of(const struct vd_shadow *shadow,
						 vd_mmu_entry *entries)
{
	return (struct shadow_page *)(void *)((char *)entries + shadow_entries_bytes(shadow));
}

static inline struct shadow_page *shadow_id_page(const struct vd_shadow *shadow, uint32_t id)
{
	return shadow->numbered[id >> shadow->id_shift];
}

static inline unsigned shadow_id_index(const struct vd_shadow *shadow, uint32_t id)
{
	return id & ((1u << shadow->id_shift) - 1);
}

static inline uint32_t shadow_id(const struct vd_shadow *shadow, const struct shadow_page *page,
				 unsigned index)
{
	return page->number << shadow->id_shift | index;
}

static inline struct shadow_node *shadow_id_node(const struct vd_shadow *shadow, uint32_t id)
{
	return &shadow_id_page(shadow, id)->nodes[shadow_id_index(shadow, id)];
}

/* log2 of what all entries of a level map together. */
static inline unsigned shadow_cover(const struct vd_mmu_format *format, unsigned level)
{
	return format->shift[level] + format->bits[level];
}

static inline uint64_t shadow_load(const struct shadow_page *page, unsigned index)
{
	/* Relaxed: all but accessed and dirty changes under the lock that is held. */
	return atomic_load_explicit(&page->entries[index], memory_order_relaxed);
}

static inline bool shadow_is_table(const struct vd_shadow *shadow, const struct shadow_page *page,
				   uint64_t entry)
{
	return shadow->format->kind(entry, page->role.level) == VD_MMU_TABLE;
}

static inline bool shadow_is_dead(const struct vd_shadow *shadow)
{
	/* Pairs with the release in the release callback of shadow_zap.c. */
	return atomic_load_explicit(&shadow->dead, memory_order_acquire);
}

/* Level of the guest's tables that entries of a shadow level mirror; -1: above them all. */
static inline int shadow_guest_level(const struct vd_shadow *shadow,
				     const struct vd_guest_format *format, unsigned level)
{
	for (unsigned g = 0; g < format->levels; g++) {
		if (format->shift[g] >= shadow->format->shift[level])
			return (int)g;
	}
	return -1;
}

/* Whether the shadow can tell it from others: not all formats can, of a guest without paging. */
static inline bool shadow_reaches(const struct vd_shadow *shadow,
				  const struct vd_guest_format *format, uint64_t gva)
{
	return vd_guest_canonical(format, gva) &&
	       (format->levels || gva >> shadow->format->input_bits == 0);
}

/* ---- shadow_page.c -------------------------------------------------------------------------- */

/* No lock held: as many spare pages as the way to one address can need. Return: 0, -ENOMEM. */
int shadow_spares_fill(struct vd_shadow *shadow);
bool shadow_same_role(const struct shadow_role *a, const struct shadow_role *b);
/* Under the lock: the page for @role, or NULL. */
struct shadow_page *shadow_page_find(struct vd_shadow *shadow, const struct shadow_role *role);
/* Under the lock, with room made: a new page for @role; NULL: no spare is left. */
struct shadow_page *shadow_page_make(struct vd_shadow *shadow, const struct shadow_role *role);
/* Under the lock: whether a table of the guest in the page of @gpa is shadowed. */
bool shadow_is_shadowed(const struct vd_shadow *shadow, uint64_t gpa);
/* The same for any page of a range. */
bool shadow_any_shadowed(const struct vd_shadow *shadow, uint64_t start, uint64_t length);
/* Under the lock: pages that mirror a table in the page of @gpa, one after the other. */
struct shadow_page *shadow_mirrors(const struct vd_shadow *shadow, uint64_t gpa,
				   const struct shadow_page *after);
/* Under the lock: it is the newest now. */
void shadow_page_touch(struct vd_shadow *shadow, struct shadow_page *page);
/* Under the lock: entry @index of @page leads to @child. */
void shadow_link(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
		 struct shadow_page *child);
/* Under the lock: whatever entry @index is, it is absent now. The flush is owed. */
void shadow_clear(struct vd_shadow *shadow, struct shadow_page *page, unsigned index);
/* Under the lock: all entries. */
void shadow_page_empty(struct vd_shadow *shadow, struct shadow_page *page);
/* Under the lock: nothing leads to it, and it is detached; a root in use is stale instead. */
void shadow_page_drop(struct vd_shadow *shadow, struct shadow_page *page);
/* Under the lock: tables in the page of @gpa are shadowed no more; @roots: in use too. */
void shadow_unshadow(struct vd_shadow *shadow, uint64_t gpa, bool roots);
/* Under the lock: a stale root that is used no longer. */
void shadow_page_detach(struct vd_shadow *shadow, struct shadow_page *page);
/* Under the lock: room for @count pages in the budget. Return: 0, -ENOSPC. */
int shadow_make_room(struct vd_shadow *shadow, unsigned count);
/* Drops the lock, which every path does by this: pages are given back after the flush. */
void shadow_unlock(struct vd_shadow *shadow);
void shadow_page_free(struct vd_shadow *shadow, struct shadow_page *page);

/* ---- shadow_rmap.c -------------------------------------------------------------------------- */

/* Under the lock: put a leaf for @gpa where nothing is. */
void shadow_leaf_set(struct vd_shadow *shadow, struct shadow_page *page, unsigned index,
		     uint64_t gpa, uint64_t entry);
/* Under the lock: take it out. Only for shadow_clear(). */
void shadow_leaf_clear(struct vd_shadow *shadow, struct shadow_page *page, unsigned index);
/* Under the lock: no TLB holds anything that has been zapped. */
void shadow_flush(struct vd_shadow *shadow);
/*
 * Under the lock: @visit for every leaf that meets [first, last]; it may clear that leaf, and no
 * other. Ends when it returns true. Return: whether one did.
 */
bool shadow_rmap_each(struct vd_shadow *shadow, uint64_t first, uint64_t last,
		      bool (*visit)(struct vd_shadow *shadow, struct shadow_page *page,
				    unsigned index, void *context),
		      void *context);
/*
 * Under the lock: change a leaf by @change, whatever walkers set meanwhile. Return: whether it
 * changed.
 */
bool shadow_rewrite(struct shadow_page *page, unsigned index,
		    uint64_t (*change)(uint64_t entry, unsigned level));
/* Under the lock: the page of @gpa gets shadowed: nothing maps it writable; flushed if need be. */
void shadow_protect_table(struct vd_shadow *shadow, uint64_t gpa);

/* ---- shadow_walk.c -------------------------------------------------------------------------- */

/* One level of the way through the guest's tables. */
struct guest_step {
	uint64_t table;	   /* gpa of the table */
	uint64_t entry_gpa; /* of the entry */
	uint64_t value;	   /* as read */
	void *host;	   /* good under the lock once the retry check of @seq has passed */
	unsigned access;   /* what the levels above allow */
};

/*
 * @leaf_level: of the leaf, or of the entry that ended the walk
 * @access: of all levels; @gpa: where @gva leads
 * @update: some entry must get accessed or dirty
 */
struct guest_walk {
	struct guest_step steps[VD_MMU_LEVELS_MAX];
	unsigned leaf_level;
	struct vd_guest_entry leaf;
	unsigned access;
	uint64_t gpa, guest_size;
	uint64_t seq;
	bool accessed;
};

/*
 * No lock held. Return: 0; -ENXIO, -EBADMSG, -EADDRNOTAVAIL; -ENOENT without paging, an address
 * that the shadow's format cannot tell from others; -EAGAIN a table of the guest is being
 * invalidated: @walk->gpa is the address to wait for.
 */
int shadow_guest_walk(struct vd_shadow *shadow, const struct vd_guest_format *format,
		      uint64_t root, uint64_t gva, struct guest_walk *walk);
/* An entry of the guest's, 4 or 8 bytes. */
uint64_t shadow_guest_load(const struct vd_guest_format *format, const void *host);

/* ---- shadow_fault.c ------------------------------------------------------------------------- */

/*
 * What entry @index of @page shall hold by the guest's entry there: the role of the page it leads
 * to in @role, if it leads to one. @dirty: D counts as set. Return: VD_MMU_TABLE, VD_MMU_LEAF (a
 * leaf of this level, at @role->base, allowing @role->access; a direct page will do as well), or
 * VD_MMU_ABSENT.
 */
enum vd_mmu_entry_kind shadow_wanted(struct vd_shadow *shadow, const struct shadow_page *page,
				     unsigned index, const struct vd_guest_entry *entry, bool dirty,
				     struct shadow_role *role);
/* What a page from a slot may be used for: invariant 5, the slot's and host's part. */
unsigned shadow_slot_access(const struct vd_mem_page *page, unsigned access);

/* ---- shadow_zap.c --------------------------------------------------------------------------- */

extern const struct vd_listener_ops shadow_listener_ops;
extern const struct vd_mem_watch_ops shadow_watch_ops;

#endif
