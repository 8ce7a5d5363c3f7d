/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a page-table format is to the algorithms of this floor: a shape, and functions that encode
 * and decode one 64-bit entry. The algorithms know no bit of any format, a format knows no table.
 *
 * Levels are numbered as in the RISC-V manual: 0 maps single granules, levels - 1 is the root.
 * Every function gets the level, since in most formats the same bits mean different things at
 * different levels; a test format shifts all bits by level so that a mixed-up one is noticed.
 */
#ifndef MMU_FORMAT_H
#define MMU_FORMAT_H

#include <viaduct/mmu.h>

#define VD_MMU_LEVELS_MAX VD_PGTABLE_LEVELS
#define VD_MMU_ALWAYS_INLINE static inline __attribute__((always_inline))

typedef _Atomic uint64_t vd_mmu_entry;

enum vd_mmu_entry_kind {
	VD_MMU_ABSENT,
	VD_MMU_TABLE,
	VD_MMU_LEAF,
	VD_MMU_MALFORMED, /* valid, but a walker faults on it */
};

/* What a walk needs of a page table; constant while that lives. */
struct vd_mmu_top {
	const struct vd_mmu_format *format; /* for the walk of a shape that was made at run time */
	vd_mmu_entry *entries;
	uintptr_t window_base;
	unsigned page_shift; /* that pfns count in */
};

/*
 * What a format has, as bits of vd_mmu_format.flags.
 *
 * ACCESSED, DIRTY: leaves have such a bit; without a dirty bit, writable counts as dirty
 * BREAK_BEFORE_MAKE: a valid entry becomes another valid one (other address, size or type) only by
 *	way of absent and a flush
 * STAGE1: attributes user and global mean something
 */
#define VD_MMU_FORMAT_ACCESSED 1u
#define VD_MMU_FORMAT_DIRTY 2u
#define VD_MMU_FORMAT_BREAK_BEFORE_MAKE 4u
#define VD_MMU_FORMAT_STAGE1 8u

/*
 * @shift, @bits: which input bits index the table of a level
 * @block_level: largest level at which leaves are made
 * @input_bits, @output_bits: width of the addresses translated, and of those in entries; the
 *	latter are sign-extended from it, as memory outside the host's window lies at negative
 *	distances (see vd_host_pointer())
 * @contiguous: by level: log2 of how many neighbouring leaves, aligned to that many, may be marked
 *	as one translation (arm64 contiguous bit, RISC-V Svnapot); 0: none
 * @kind: never VD_MMU_TABLE at level 0
 * @can: whether a leaf of that level can say exactly this: what it cannot is -EOPNOTSUPP to the
 *	caller. Attributes that a stage has no use for (user, global) do not matter
 * @table_entry, @leaf_entry: encode; @address is a multiple of the size that the level maps; the
 *	attributes are such that @can holds. No bit of a leaf depends on both (@fill relies on it)
 * @address: of the table or of the block, not sign-extended; of a contiguous leaf, an address
 *	inside what the group maps
 * @used: the same leaf with accessed set, and dirty if @access has VD_WRITE
 * @aged: the same leaf with accessed clear
 * @write_protected: the same leaf without write permission and no longer dirty
 * @cleaned: the same leaf no longer dirty: without a dirty bit, @write_protected
 * @is_contiguous: whether the leaf is marked; NULL if no level has such
 * @contiguous_entry: the leaf for @address (its own, not the group's), marked or not; NULL as well
 * @fill: @count leaves for consecutive blocks from @address on, none of which was there (plain
 *	release stores are enough), marked as whole groups if @contiguous: leaf_entry() and
 *	contiguous_entry() compiled into a loop for this format
 * @walk: vd_mmu_format_walk() compiled for this format
 */
struct vd_mmu_format {
	const char *name;
	unsigned flags;
	unsigned levels;
	unsigned block_level;
	unsigned input_bits;
	unsigned output_bits;
	unsigned char shift[VD_MMU_LEVELS_MAX];
	unsigned char bits[VD_MMU_LEVELS_MAX];
	unsigned char contiguous[VD_MMU_LEVELS_MAX];
	enum vd_mmu_entry_kind (*kind)(uint64_t entry, unsigned level);
	bool (*can)(const struct vd_mmu_attributes *attributes, unsigned level);
	uint64_t (*table_entry)(uint64_t address, unsigned level);
	uint64_t (*leaf_entry)(uint64_t address, const struct vd_mmu_attributes *attributes,
			       unsigned level);
	uint64_t (*address)(uint64_t entry, unsigned level);
	void (*attributes)(uint64_t entry, unsigned level, struct vd_mmu_attributes *attributes);
	bool (*allows)(uint64_t entry, unsigned access, unsigned level);
	uint64_t (*used)(uint64_t entry, unsigned access, unsigned level);
	uint64_t (*aged)(uint64_t entry, unsigned level);
	uint64_t (*write_protected)(uint64_t entry, unsigned level);
	uint64_t (*cleaned)(uint64_t entry, unsigned level);
	bool (*is_contiguous)(uint64_t entry, unsigned level);
	uint64_t (*contiguous_entry)(uint64_t entry, uint64_t address, unsigned level, bool on);
	void (*fill)(vd_mmu_entry *entries, unsigned count, uint64_t address,
		     const struct vd_mmu_attributes *attributes, unsigned level, bool contiguous);
	int (*walk)(const struct vd_mmu_top *top, uint64_t gpa, unsigned access,
		    struct vd_mmu_leaf *leaf);
};

VD_MMU_ALWAYS_INLINE size_t vd_mmu_format_entries(const struct vd_mmu_format *format,
						  unsigned level)
{
	return (size_t)1 << format->bits[level];
}

VD_MMU_ALWAYS_INLINE unsigned vd_mmu_format_index(const struct vd_mmu_format *format,
						  unsigned level, uint64_t gpa)
{
	return (unsigned)(gpa >> format->shift[level]) & ((1u << format->bits[level]) - 1);
}

/* Bytes that one entry of a level maps. */
VD_MMU_ALWAYS_INLINE uint64_t vd_mmu_format_size(const struct vd_mmu_format *format, unsigned level)
{
	return (uint64_t)1 << format->shift[level];
}

/* Bytes of the translation that a leaf belongs to: more than its own if it is contiguous. */
VD_MMU_ALWAYS_INLINE uint64_t vd_mmu_format_span(const struct vd_mmu_format *format, uint64_t entry,
						 unsigned level)
{
	uint64_t size = vd_mmu_format_size(format, level);

	if (!format->contiguous[level] || !format->is_contiguous(entry, level))
		return size;
	return size << format->contiguous[level];
}

/*
 * Tables are addressed as leaves are: by their distance from the window's base. One rule then
 * finds both, and a port whose window starts at 0 has physical addresses in all entries.
 */
VD_MMU_ALWAYS_INLINE uint64_t vd_mmu_format_distance(const struct vd_mmu_format *format,
						     uintptr_t window_base, const void *table)
{
	return ((uintptr_t)table - window_base) & (((uint64_t)1 << format->output_bits) - 1);
}

VD_MMU_ALWAYS_INLINE vd_mmu_entry *vd_mmu_format_table(const struct vd_mmu_format *format,
						       uintptr_t window_base, uint64_t entry,
						       unsigned level)
{
	unsigned unused = 64 - format->output_bits;
	int64_t distance = (int64_t)(format->address(entry, level) << unused) >> unused;

	return (vd_mmu_entry *)(window_base + (uintptr_t)distance);
}

/* A leaf as the interface describes it; @gpa lies in it. */
VD_MMU_ALWAYS_INLINE void vd_mmu_format_read(const struct vd_mmu_format *format,
					     const struct vd_mmu_top *top, uint64_t entry,
					     unsigned level, uint64_t gpa, struct vd_mmu_leaf *leaf)
{
	uint64_t size = vd_mmu_format_span(format, entry, level);
	uint64_t address = (format->address(entry, level) & ~(size - 1)) + (gpa & (size - 1));
	unsigned unused = 64 - format->output_bits;
	int64_t distance = (int64_t)(address << unused) >> unused;
	struct vd_mmu_attributes attributes;

	format->attributes(entry, level, &attributes);
	/* A narrow format cuts the distance; a pfn has 56 bits of address in every one. */
	leaf->pfn.value = ((uint64_t)distance & ((UINT64_C(1) << 56) - 1)) >> top->page_shift;
	leaf->size = size;
	leaf->access = attributes.access;
	leaf->type = attributes.type;
	leaf->accessed = attributes.accessed;
	leaf->dirty = attributes.dirty;
	leaf->device = attributes.device;
	leaf->user = attributes.user;
	leaf->global = attributes.global;
}

/* What @fill is made of; always inlined, like the walk below. */
VD_MMU_ALWAYS_INLINE void vd_mmu_format_fill(const struct vd_mmu_format *format,
					     vd_mmu_entry *entries, unsigned count,
					     uint64_t address,
					     const struct vd_mmu_attributes *attributes,
					     unsigned level, bool contiguous)
{
	/*
	 * An address and the attributes have bits of their own in an entry. So what all leaves have
	 * in common is put together once, and the loop adds the address alone.
	 */
	const struct vd_mmu_attributes plain = {0};
	const uint64_t same = format->leaf_entry(0, attributes, level) ^
			      format->leaf_entry(0, &plain, level);

	for (unsigned i = 0; i < count; i++) {
		uint64_t entry = format->leaf_entry(address, &plain, level) ^ same;

		if (contiguous && format->contiguous_entry)
			entry = format->contiguous_entry(entry, address, level, true);
		atomic_store_explicit(&entries[i], entry, memory_order_release);
		address += vd_mmu_format_size(format, level);
	}
}

/*
 * The walk of a hardware walker. Always inlined, so that a format's own instance has its
 * functions and shifts folded in; with a @format not known at compile time it works as well.
 * In a read section. Return: 0, -ENOENT, -EACCES.
 */
VD_MMU_ALWAYS_INLINE int vd_mmu_format_walk(const struct vd_mmu_format *format,
					    const struct vd_mmu_top *top, uint64_t gpa,
					    unsigned access, struct vd_mmu_leaf *leaf)
{
	vd_mmu_entry *table = top->entries;
	unsigned level = format->levels - 1;

	if (gpa >> format->input_bits)
		return -ENOENT;
	for (;;) {
		vd_mmu_entry *slot = &table[vd_mmu_format_index(format, level, gpa)];
		/* Pairs with the release in vd_mmu_table_link(): the table below is filled. */
		uint64_t entry = atomic_load_explicit(slot, memory_order_acquire);
		enum vd_mmu_entry_kind kind = format->kind(entry, level);
		uint64_t used;

		if (kind == VD_MMU_TABLE) {
			table = vd_mmu_format_table(format, top->window_base, entry, level--);
			continue;
		}
		if (kind != VD_MMU_LEAF)
			return -ENOENT;
		if (!format->allows(entry, access, level))
			return -EACCES;
		used = format->used(entry, access, level);
		/* Lost against a zap, a protection or another walker: look at what stands now. */
		if (used != entry && !atomic_compare_exchange_strong_explicit(
					     slot, &entry, used, memory_order_acq_rel,
					     memory_order_relaxed))
			continue;
		vd_mmu_format_read(format, top, used, level, gpa, leaf);
		return 0;
	}
}

/*
 * Defines format @symbol from the initializers of its shape. The walk and the fill get a copy of
 * their own: a public symbol of a shared library may be interposed, so the compiler must not fold
 * what it holds.
 */
#define VD_MMU_FORMAT_DEFINE(symbol, ...)                                                          \
	static int symbol##_walk(const struct vd_mmu_top *top, uint64_t gpa, unsigned access,      \
				 struct vd_mmu_leaf *leaf)                                         \
	{                                                                                          \
		static const struct vd_mmu_format shape = {__VA_ARGS__};                           \
                                                                                                   \
		return vd_mmu_format_walk(&shape, top, gpa, access, leaf);                         \
	}                                                                                          \
	static void symbol##_fill(vd_mmu_entry *entries, unsigned count, uint64_t address,         \
				  const struct vd_mmu_attributes *attributes, unsigned level,      \
				  bool contiguous)                                                 \
	{                                                                                          \
		static const struct vd_mmu_format shape = {__VA_ARGS__};                           \
                                                                                                   \
		vd_mmu_format_fill(&shape, entries, count, address, attributes, level,             \
				   contiguous);                                                    \
	}                                                                                          \
	const struct vd_mmu_format symbol = {__VA_ARGS__, .fill = symbol##_fill,                   \
					     .walk = symbol##_walk}

#endif
