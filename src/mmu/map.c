/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mapping: prepare, then commit. Under one hold of the lock the range is looked through, the tables
 * it lacks are counted, and if there are as many spares it is filled in, which cannot fail.
 * Otherwise the lock is dropped for the allocation, and all of it is looked at again.
 *
 * The two go their own way down, not the visitor's: they handle runs of entries, and only at the
 * ends of the range single ones.
 */
#include "mmu/pgtable.h"

/*
 * @first, @last: input addresses, inclusive
 * @distance: from an input address to its output address, modulo 2^64
 * @largest: level of the largest leaves
 * @leaves, @tables: made so far
 */
struct map {
	struct vd_pgtable *pt;
	const struct vd_mmu_attributes *attributes;
	uint64_t first, last, distance;
	unsigned largest;
	struct vd_mmu_spares *spares;
	size_t need[VD_MMU_LEVELS_MAX];
	uint64_t leaves[VD_MMU_LEVELS_MAX], tables;
};

/* Also those below 0, as memory before the window's base has; see vd_mmu_format_distance(). */
static bool output_fits(const struct vd_mmu_format *format, uint64_t output, uint64_t length)
{
	uint64_t high = output >> format->output_bits;

	return (high == 0 || high == UINT64_MAX >> format->output_bits) &&
	       (output + (length - 1)) >> format->output_bits == high;
}

void vd_mmu_need_tables(const struct vd_mmu_format *format, uint64_t first, uint64_t last,
			unsigned level, unsigned largest, size_t need[VD_MMU_LEVELS_MAX])
{
	for (unsigned below = 0; below < level; below++) {
		unsigned shift = format->shift[below + 1];
		uint64_t count = (last >> shift) - (first >> shift) + 1;

		/* What a table would cover as a whole is a block. */
		if (below < largest) {
			uint64_t low = (first + (((uint64_t)1 << shift) - 1)) >> shift;
			uint64_t high = (last + 1) >> shift;

			count -= high > low ? high - low : 0;
		}
		need[below] += (size_t)count;
	}
}

/* ---- one table's share of the range --------------------------------------------------------- */

struct piece {
	unsigned from, to; /* entries, both inclusive */
	bool whole_from, whole_to; /* whether these two lie in the range as a whole */
};

static struct piece piece_of(const struct map *m, const struct vd_mmu_table *table, uint64_t base)
{
	unsigned shift = m->pt->format->shift[table->level];
	uint64_t reach = ((uint64_t)table->count << shift) - 1;
	uint64_t first = m->first > base ? m->first - base : 0;
	uint64_t last = m->last - base < reach ? m->last - base : reach;
	uint64_t inside = ((uint64_t)1 << shift) - 1;

	return (struct piece){
		.from = (unsigned)(first >> shift),
		.to = (unsigned)(last >> shift),
		.whole_from = !(first & inside) && (last >> shift > first >> shift ||
						    (last & inside) == inside),
		.whole_to = (last & inside) == inside &&
			    (last >> shift > first >> shift || !(first & inside)),
	};
}

static bool piece_is_whole(const struct piece *piece, unsigned index)
{
	if (index == piece->from)
		return piece->whole_from;
	return index < piece->to || piece->whole_to;
}

static void need_below(struct map *m, unsigned level, uint64_t gpa)
{
	uint64_t end = gpa + (vd_mmu_format_size(m->pt->format, level) - 1);

	vd_mmu_need_tables(m->pt->format, m->first > gpa ? m->first : gpa,
			   m->last < end ? m->last : end, level, m->largest, m->need);
}

/* Return: 0 and what it takes in @m->need; -EEXIST. */
static int prepare(struct map *m, const struct vd_mmu_table *table, uint64_t base)
{
	struct piece piece = piece_of(m, table, base);
	unsigned shift = m->pt->format->shift[table->level];
	int ret = 0;

	for (unsigned i = piece.from; i <= piece.to && !ret; i++) {
		const struct vd_mmu_table *child = vd_mmu_table_child(table, i);
		uint64_t gpa = base + ((uint64_t)i << shift);

		if (child)
			ret = prepare(m, child, gpa);
		else if (atomic_load_explicit(&table->entries[i], memory_order_relaxed))
			ret = -EEXIST;
		else if (table->level > m->largest || !piece_is_whole(&piece, i))
			need_below(m, table->level, gpa);
	}
	return ret;
}

/* Leaves for a run of entries, marked where whole groups agree with what they map. */
static void commit_run(const struct vd_mmu_format *format,
		       const struct vd_mmu_attributes *attributes, struct vd_mmu_table *table,
		       unsigned from, unsigned count, uint64_t gpa, uint64_t distance)
{
	unsigned level = table->level, group = 1u << format->contiguous[level];
	uint64_t size = vd_mmu_format_size(format, level), n = count;

	if (distance & (size * group - 1))
		group = 1;
	while (count) {
		unsigned ahead = -from & (group - 1);
		unsigned run = ahead ? ahead : count & ~(group - 1);

		if (run > count || !run)
			run = count;
		format->fill(&table->entries[from], run,
			     (gpa + distance) & (((uint64_t)1 << format->output_bits) - 1),
			     attributes, level, group > 1 && !ahead && run >= group);
		from += run;
		count -= run;
		gpa += run * size;
	}
	vd_mmu_table_recount(table, n * (attributes->device ? VD_MMU_COUNT_DEVICE
							    : VD_MMU_COUNT_LEAF));
}

static void commit(struct map *m, struct vd_mmu_table *table, uint64_t base);

static void commit_below(struct map *m, struct vd_mmu_table *table, unsigned index, uint64_t gpa)
{
	struct vd_mmu_table *child = vd_mmu_table_child(table, index);

	if (child) {
		commit(m, child, gpa);
		return;
	}
	child = vd_mmu_spares_take(m->spares, table->level - 1);
	/* Filled before it can be found. */
	commit(m, child, gpa);
	vd_mmu_table_link(table, index, child,
			  m->pt->format->table_entry(vd_mmu_table_address(m->pt, child),
						     table->level));
	m->tables++;
}

/* Where a run of leaves that starts at entry @i ends; @i itself if none does. */
static unsigned run_end(const struct map *m, const struct vd_mmu_table *table,
			const struct piece *piece, unsigned i)
{
	if (table->level > m->largest || !piece_is_whole(piece, i))
		return i;
	if (vd_mmu_table_used(table) == vd_mmu_table_leaves(table))
		return piece->to + piece->whole_to; /* no tables below it */
	while (i <= piece->to && piece_is_whole(piece, i) && !vd_mmu_table_child(table, i))
		i++;
	return i;
}

static void commit(struct map *m, struct vd_mmu_table *table, uint64_t base)
{
	struct piece piece = piece_of(m, table, base);
	unsigned shift = m->pt->format->shift[table->level];

	for (unsigned i = piece.from; i <= piece.to;) {
		unsigned run = run_end(m, table, &piece, i);
		uint64_t gpa = base + ((uint64_t)i << shift);

		if (run > i) {
			commit_run(m->pt->format, m->attributes, table, i, run - i, gpa,
				   m->distance);
			m->leaves[table->level] += run - i;
		} else {
			commit_below(m, table, run++, gpa);
		}
		i = run;
	}
}

/* ---- the operation -------------------------------------------------------------------------- */

/* Counted alone. */
static void count_leaves(struct vd_pgtable *pt, unsigned level, uint64_t n, bool device)
{
	vd_mmu_count(&vd_mmu_counters(pt)->leaves[level], n);
	if (device)
		vd_mmu_count(&vd_mmu_counters(pt)->device_bytes, n << pt->format->shift[level]);
}

/* The table of granules that @first lies in, mostly the same as last time. NULL: none yet. */
static inline struct vd_mmu_table *recent_table(struct vd_pgtable *pt, uint64_t first)
{
	struct vd_mmu_table *table = pt->recent;
	uint64_t base = first >> pt->format->shift[1];

	if (table && pt->recent_base == base)
		return table;
	table = vd_mmu_place_find(pt, first).table;
	if (table->level)
		return NULL;
	pt->recent = table;
	pt->recent_base = base;
	return table;
}

/*
 * The short way for granules of one table that stands. Return: 0; -EEXIST; 1 it is not such a case.
 */
static int map_quickly(struct vd_pgtable *pt, uint64_t first, uint64_t last, uint64_t distance,
		       const struct vd_mmu_attributes *attributes)
{
	const struct vd_mmu_format *format = pt->format;
	unsigned from = vd_mmu_format_index(format, 0, first);
	unsigned count = (unsigned)((last - first) >> format->shift[0]) + 1;
	struct vd_mmu_table *table = recent_table(pt, first);

	if (!table)
		return 1;
	for (unsigned i = 0; i < count; i++) {
		if (atomic_load_explicit(&table->entries[from + i], memory_order_relaxed))
			return -EEXIST;
	}
	commit_run(format, attributes, table, from, count, first, distance);
	count_leaves(pt, 0, count, attributes->device);
	return 0;
}

/* The same for a single one, whose entry is made already. */
static int map_one(struct vd_pgtable *pt, uint64_t input, uint64_t entry, bool device)
{
	struct vd_mmu_table *table = recent_table(pt, input);
	vd_mmu_entry *slot;

	if (!table)
		return 1;
	slot = &table->entries[vd_mmu_format_index(pt->format, 0, input)];
	if (atomic_load_explicit(slot, memory_order_relaxed))
		return -EEXIST;
	/* Pairs with the acquire in vd_mmu_format_walk(). */
	atomic_store_explicit(slot, entry, memory_order_release);
	vd_mmu_table_recount(table, device ? VD_MMU_COUNT_DEVICE : VD_MMU_COUNT_LEAF);
	count_leaves(pt, 0, 1, device);
	return 0;
}

static int map_locked(struct map *m, bool *enough)
{
	struct vd_mmu_table *table = m->pt->root;
	uint64_t base = 0;
	int ret;

	/* Down to the table that holds the whole range. */
	for (;;) {
		unsigned shift = m->pt->format->shift[table->level];
		struct vd_mmu_table *child;
		unsigned index = vd_mmu_format_index(m->pt->format, table->level, m->first);

		if (m->first >> shift != m->last >> shift)
			break;
		child = vd_mmu_table_child(table, index);
		if (!child)
			break;
		base += (uint64_t)index << shift;
		table = child;
	}
	*enough = true;
	ret = prepare(m, table, base);
	if (ret)
		return ret;
	*enough = vd_mmu_spares_suffice(m->spares, m->need);
	if (!*enough)
		return 0;
	commit(m, table, base);
	for (unsigned level = 0; level <= m->largest; level++) {
		if (m->leaves[level])
			count_leaves(m->pt, level, m->leaves[level], m->attributes->device);
	}
	if (m->tables)
		vd_mmu_count(&vd_mmu_counters(m->pt)->table_pages, m->tables);
	return 0;
}

/* The largest leaves that the addresses and the attributes allow. Return: 0, -EOPNOTSUPP. */
static int map_largest(const struct vd_mmu_format *format, uint64_t length, uint64_t distance,
		       const struct vd_mmu_attributes *attributes, unsigned *largest)
{
	if (!format->can(attributes, 0))
		return -EOPNOTSUPP;
	*largest = 0;
	while (*largest < format->block_level) {
		uint64_t size = vd_mmu_format_size(format, *largest + 1);

		if (length < size || distance & (size - 1) ||
		    !format->can(attributes, *largest + 1))
			break;
		++*largest;
	}
	return 0;
}

static int map_check(const struct vd_pgtable *pt, uint64_t start, uint64_t length, uint64_t output,
		     uint64_t *last)
{
	int ret = vd_mmu_range_check(pt, start, length, last);

	if (ret)
		return ret;
	if (output & (vd_mmu_format_size(pt->format, 0) - 1))
		return -EINVAL;
	return output_fits(pt->format, output, length) ? 0 : -EOVERFLOW;
}

static int map_prepared(struct map *m, struct vd_mmu_spares *spares)
{
	bool enough = false;
	int ret;

	m->spares = spares;
	for (;;) {
		vd_pgtable_lock(m->pt);
		ret = map_locked(m, &enough);
		vd_pgtable_unlock(m->pt);
		if (enough)
			return ret;
		ret = vd_mmu_spares_fill(spares, m->pt->env, m->pt->format, m->need);
		if (ret)
			return ret;
		for (unsigned level = 0; level < VD_MMU_LEVELS_MAX; level++)
			m->need[level] = 0;
	}
}

/*
 * The shortest way, for programs that map page by page: a single granule, if nothing speaks against
 * it and its table stands. Return: as map_quickly(), 1 for all that has to be looked at closely.
 */
static inline int map_single(struct vd_pgtable *pt, uint64_t input, uint64_t length,
			     uint64_t output, const struct vd_mmu_attributes *attributes)
{
	const struct vd_mmu_format *format = pt->format;
	uint64_t granule = vd_mmu_format_size(format, 0), entry;
	int ret;

	if (length != granule || (input | output) & (granule - 1) ||
	    input >> format->input_bits || output >> format->output_bits ||
	    !format->can(attributes, 0))
		return 1;
	entry = format->leaf_entry(output, attributes, 0);
	vd_pgtable_lock(pt);
	ret = map_one(pt, input, entry, attributes->device);
	vd_pgtable_unlock(pt);
	return ret;
}

static __attribute__((noinline)) int map_any(struct vd_pgtable *table, uint64_t start,
					     uint64_t length, uint64_t output,
					     const struct vd_mmu_attributes *attributes,
					     struct vd_pgtable_reserve *reserve)
{
	struct vd_mmu_spares spares = {0};
	struct map m = {.pt = table, .attributes = attributes, .first = start,
			.distance = output - start};
	int ret = map_check(table, start, length, output, &m.last);

	if (!ret)
		ret = map_largest(table->format, length, m.distance, attributes, &m.largest);
	if (ret)
		return ret;
	if (start >> table->format->shift[1] == m.last >> table->format->shift[1] && !m.largest) {
		vd_pgtable_lock(table);
		ret = map_quickly(table, start, m.last, m.distance, attributes);
		vd_pgtable_unlock(table);
		if (ret <= 0)
			return ret;
	}
	if (reserve)
		return map_prepared(&m, &reserve->spares);
	ret = map_prepared(&m, &spares);
	vd_mmu_spares_drop(&spares);
	return ret;
}

int vd_pgtable_map(struct vd_pgtable *table, uint64_t start, uint64_t length, uint64_t output,
		   const struct vd_mmu_attributes *attributes, struct vd_pgtable_reserve *reserve)
{
	int ret = map_single(table, start, length, output, attributes);

	return ret <= 0 ? ret : map_any(table, start, length, output, attributes, reserve);
}

/* ---- reserves ------------------------------------------------------------------------------- */

int vd_pgtable_reserve(struct vd_pgtable *table, uint64_t start, uint64_t length,
		       unsigned largest_level, struct vd_pgtable_reserve **out)
{
	const struct vd_mmu_format *format = table->format;
	size_t need[VD_MMU_LEVELS_MAX] = {0};
	struct vd_pgtable_reserve *reserve;
	uint64_t last;
	int ret = vd_mmu_range_check(table, start, length, &last);

	if (ret)
		return ret;
	if (largest_level > format->block_level)
		largest_level = format->block_level;
	vd_mmu_need_tables(format, start, last, format->levels - 1, largest_level, need);
	reserve = vd_env_allocate(table->env, "mmu.reserve", sizeof(*reserve),
				  _Alignof(struct vd_pgtable_reserve));
	if (!reserve)
		return -ENOMEM;
	ret = vd_mmu_spares_fill(&reserve->spares, table->env, format, need);
	if (ret) {
		vd_pgtable_reserve_drop(table, reserve);
		return ret;
	}
	*out = reserve;
	return 0;
}

size_t vd_pgtable_reserve_pages(const struct vd_pgtable_reserve *reserve)
{
	size_t pages = 0;

	for (unsigned level = 0; level < VD_MMU_LEVELS_MAX; level++)
		pages += reserve->spares.count[level];
	return pages;
}

void vd_pgtable_reserve_drop(struct vd_pgtable *table, struct vd_pgtable_reserve *reserve)
{
	if (!reserve)
		return;
	vd_mmu_spares_drop(&reserve->spares);
	table->env->release(table->env, reserve, sizeof(*reserve));
}
