/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random operations on a page table against a plain array of pages, for every format. After each,
 * pages looked up at random must say what the array says, and a TLB filled by walks and emptied by
 * flushes must hold nothing that the table does not grant. Allocations fail now and then.
 *
 * Pages of the array are granules, or, in a second run, blocks of level 1: then those of level 2
 * come and go.
 */
#include "../base/test_env.h"

#include <stdlib.h>

#include "formats.h"
#include "mmu/pgtable.h"

#define TLB_ENTRIES 64u

struct model_page {
	uint64_t output;
	struct vd_mmu_attributes attributes; /* accessed, dirty: at least */
	bool mapped;
};

struct tlb_entry {
	uint64_t input, output;
	unsigned access;
	bool valid;
};

struct model {
	struct test_env test;
	const struct vd_mmu_format *format;
	struct vd_pgtable *table;
	uint64_t base, unit; /* of input addresses; bytes of one page of the array */
	uint64_t count;
	struct model_page *pages;
	struct tlb_entry tlb[TLB_ENTRIES];
	uint64_t flushes;
};

static uint64_t below(uint64_t n)
{
	return test_random(test_state()) % n;
}

static void model_flush(void *context, uint64_t start, uint64_t length)
{
	struct model *m = context;

	m->flushes++;
	for (unsigned i = 0; i < TLB_ENTRIES; i++) {
		if (m->tlb[i].input - start < length)
			m->tlb[i].valid = false;
	}
}

/* ---- comparison ----------------------------------------------------------------------------- */

/* The leaf at an input address without noting a use. Its entry, or 0. */
static uint64_t look(struct model *m, uint64_t input, struct vd_mmu_leaf *leaf)
{
	struct vd_mmu_place place = vd_mmu_place_find(m->table, input);

	if (place.entry) {
		assert_int_equal(m->format->kind(place.entry, place.table->level), VD_MMU_LEAF);
		vd_mmu_format_read(m->format, &m->table->top, place.entry, place.table->level,
				   input, leaf);
		/* What a group has, any of its leaves may say. */
		if (vd_mmu_is_marked(m->table, place.entry, place.table->level)) {
			leaf->accessed = vd_pgtable_test_young(m->table, input, 1);
			leaf->dirty = true;
		}
	}
	return place.entry;
}

static uint64_t output_of(const struct model *m, const struct vd_mmu_leaf *leaf)
{
	return leaf->pfn.value << m->table->top.page_shift;
}

static void compare_page(struct model *m, uint64_t page)
{
	const struct model_page *expected = &m->pages[page];
	uint64_t inside = below(m->unit >> m->format->shift[0]) << m->format->shift[0];
	struct vd_mmu_leaf leaf = {.size = 0};
	uint64_t input = m->base + page * m->unit + inside;

	if (!look(m, input, &leaf)) {
		if (expected->mapped)
			fail_msg("%s: page %llu is not mapped", m->format->name,
				 (unsigned long long)page);
		return;
	}
	if (!expected->mapped)
		fail_msg("%s: page %llu is mapped", m->format->name, (unsigned long long)page);
	assert_int_equal(output_of(m, &leaf), expected->output + inside);
	assert_int_equal(leaf.access, expected->attributes.access);
	assert_int_equal(leaf.type, expected->attributes.type);
	assert_int_equal(leaf.device, expected->attributes.device);
	/* Else another leaf of the page may have been used. */
	if (leaf.size < m->unit)
		return;
	assert_true(leaf.accessed || !expected->attributes.accessed);
	assert_true(leaf.dirty || !expected->attributes.dirty);
}

static void compare_tlb(struct model *m)
{
	for (unsigned i = 0; i < TLB_ENTRIES; i++) {
		const struct tlb_entry *entry = &m->tlb[i];
		struct vd_mmu_leaf leaf = {.size = 0};

		if (!entry->valid)
			continue;
		if (!look(m, entry->input, &leaf) || output_of(m, &leaf) != entry->output ||
		    entry->access & ~leaf.access || !leaf.accessed ||
		    (entry->access & VD_WRITE && !leaf.dirty))
			fail_msg("%s: the TLB holds what the table does not grant",
				 m->format->name);
	}
}

static int see(void *context, uint64_t input, const struct vd_mmu_leaf *leaf)
{
	struct model *m = context;

	/* Whole leaves only, and groups once. */
	assert_int_equal(input & (leaf->size - 1), 0);
	for (uint64_t at = input; at < input + leaf->size; at += m->unit) {
		const struct model_page *page = &m->pages[(at - m->base) / m->unit];

		assert_true((at - m->base) / m->unit < m->count && page->mapped);
		assert_int_equal(page->output + (at & (m->unit - 1)),
				 output_of(m, leaf) + (at - input));
	}
	return 0;
}

static void compare_all(struct model *m)
{
	struct vd_pgtable_stats stats;
	uint64_t mapped = 0, device = 0;

	assert_int_equal(vd_pgtable_each(m->table, see, m), 0);
	for (uint64_t page = 0; page < m->count; page++) {
		mapped += m->pages[page].mapped;
		device += m->pages[page].mapped && m->pages[page].attributes.device;
		compare_page(m, page);
	}
	vd_pgtable_stats(m->table, &stats);
	assert_int_equal(stats.mapped_bytes, mapped * m->unit);
	assert_int_equal(stats.device_pages, device * (m->unit >> m->format->shift[0]));
	assert_int_equal(stats.flushes, m->flushes);
}

/* ---- operations on both --------------------------------------------------------------------- */

struct range {
	uint64_t first, count; /* pages */
	uint64_t start, length;
};

static struct range random_range(struct model *m)
{
	uint64_t first = below(m->count), most = below(4) ? 24 : m->count;
	struct range r;

	if (!below(4))
		first &= ~(uint64_t)(below(2) ? 15 : 255);
	r = (struct range){.first = first, .count = 1 + below(most)};
	if (r.count > m->count - first)
		r.count = m->count - first;
	r.start = m->base + first * m->unit;
	r.length = r.count * m->unit;
	return r;
}

/* What a function that changes whole leaves changes. */
static void widen(struct model *m, struct range *r)
{
	uint64_t last = r->first + r->count - 1;
	struct vd_mmu_leaf leaf = {.size = 0};

	if (look(m, m->base + r->first * m->unit, &leaf) && leaf.size > m->unit)
		r->first &= ~(leaf.size / m->unit - 1);
	if (look(m, m->base + last * m->unit, &leaf) && leaf.size > m->unit)
		last |= leaf.size / m->unit - 1;
	r->count = last - r->first + 1;
}

static struct vd_mmu_attributes random_attributes(struct model *m)
{
	struct vd_mmu_attributes attributes;

	do {
		uint64_t r = test_random(test_state());

		attributes = (struct vd_mmu_attributes){
			.access = r & 7,
			.type = r & 0x300 ? VD_MEMORY_NORMAL : (enum vd_memory_type)(r >> 4 & 1),
			.device = !(r & 0xc00),
			.user = r & 0x2000,
		};
	} while (!m->format->can(&attributes, 0));
	return attributes;
}

static void op_map(struct model *m)
{
	struct vd_mmu_attributes attributes = random_attributes(m);
	struct range r = random_range(m);
	uint64_t output = (m->unit << 12) + r.first * m->unit;
	struct vd_pgtable_reserve *reserve = NULL;
	int expected = 0, rc;

	/* Mostly congruent. */
	output += below(4) ? 0 : below(64) * m->unit;
	output += below(8) ? 0 : below(4) << m->format->shift[0];
	if (!below(4) &&
	    vd_pgtable_reserve(m->table, r.start, r.length, (unsigned)below(3), &reserve))
		return;
	for (uint64_t i = 0; i < r.count && !expected; i++)
		expected = m->pages[r.first + i].mapped ? -EEXIST : 0;
	rc = vd_pgtable_map(m->table, r.start, r.length, output, &attributes, reserve);
	vd_pgtable_reserve_drop(m->table, reserve);
	if (rc == -ENOMEM && test_env_failed(&m->test))
		return;
	assert_int_equal(rc, expected);
	for (uint64_t i = 0; i < r.count && !rc; i++)
		m->pages[r.first + i] = (struct model_page){output + i * m->unit, attributes, true};
}

static void op_unmap(struct model *m)
{
	struct range r = random_range(m);
	uint64_t expected = 0, unmapped = 0;
	int rc = vd_pgtable_unmap(m->table, r.start, r.length, &unmapped);

	if (rc == -ENOMEM && test_env_failed(&m->test))
		return;
	assert_int_equal(rc, 0);
	for (uint64_t i = r.first; i < r.first + r.count; i++) {
		expected += m->pages[i].mapped ? m->unit : 0;
		m->pages[i].mapped = false;
	}
	assert_int_equal(unmapped, expected);
}

static void op_protect(struct model *m)
{
	struct range r = random_range(m);
	unsigned access = random_attributes(m).access;
	int expected = 0, rc;

	for (uint64_t i = 0; i < r.count && !expected; i++) {
		struct model_page page = m->pages[r.first + i];

		page.attributes.access = access;
		expected = !page.mapped ? -ENOENT
			   : m->format->can(&page.attributes, 0) ? 0 : -EOPNOTSUPP;
	}
	rc = vd_pgtable_protect(m->table, r.start, r.length, access);
	if (rc == -ENOMEM && test_env_failed(&m->test))
		return;
	assert_int_equal(rc, expected);
	for (uint64_t i = 0; i < r.count && !rc; i++) {
		m->pages[r.first + i].attributes.access = access;
		if (!(m->format->flags & VD_MMU_FORMAT_DIRTY))
			m->pages[r.first + i].attributes.dirty &= !!(access & VD_WRITE);
	}
}

static void op_split(struct model *m)
{
	struct range r = random_range(m);
	unsigned level = (unsigned)below(m->format->block_level + 1);
	uint64_t size = vd_mmu_format_size(m->format, level);
	struct vd_mmu_leaf leaf = {.size = 0};
	int rc = vd_pgtable_split(m->table, r.start, r.length, level);

	if (rc == -ENOMEM && test_env_failed(&m->test))
		return;
	assert_int_equal(rc, 0);
	for (uint64_t i = r.start; i < r.start + r.length; i += m->unit)
		assert_true(!look(m, i, &leaf) || leaf.size <= size);
}

static void op_merge(struct model *m)
{
	struct range r = random_range(m);

	if (below(2))
		r = (struct range){0, m->count, m->base, m->count * m->unit};
	assert_int_equal(vd_pgtable_merge(m->table, r.start, r.length, (unsigned)below(4)), 0);
}

static void op_write_protect(struct model *m)
{
	struct range r = random_range(m);

	vd_pgtable_write_protect(m->table, r.start, r.length);
	widen(m, &r);
	for (uint64_t i = r.first; i < r.first + r.count; i++) {
		m->pages[i].attributes.access &= ~VD_WRITE;
		m->pages[i].attributes.dirty = false;
	}
}

struct taken {
	struct model *m;
	bool *dirty; /* by page */
};

static void note_dirty(void *context, uint64_t start, uint64_t length)
{
	struct taken *taken = context;
	const struct model *m = taken->m;

	for (uint64_t i = 0; i < m->count; i++) {
		uint64_t input = m->base + i * m->unit;

		if (input < start + length && start < input + m->unit)
			taken->dirty[i] = true;
	}
}

/* Nothing that was stored to is left out; what was not is told of as part of something larger. */
static void op_take_dirty(struct model *m)
{
	struct range r = random_range(m), wide = r;
	struct taken taken = {m, calloc(m->count, sizeof(bool))};
	bool has_bit = m->format->flags & VD_MMU_FORMAT_DIRTY, protect = below(2);

	assert_non_null(taken.dirty);
	vd_pgtable_take_dirty(m->table, r.start, r.length, protect, note_dirty, &taken);
	widen(m, &wide);
	for (uint64_t i = r.first; i < r.first + r.count; i++)
		assert_true(taken.dirty[i] ||
			    !(m->pages[i].mapped && m->pages[i].attributes.dirty));
	for (uint64_t i = wide.first; i < wide.first + wide.count; i++) {
		m->pages[i].attributes.dirty = false;
		if (protect || !has_bit)
			m->pages[i].attributes.access &= ~VD_WRITE;
	}
	for (uint64_t i = 0; i < m->count; i++)
		if (taken.dirty[i])
			assert_true(m->pages[i].mapped && i >= wide.first &&
				    i < wide.first + wide.count);
	free(taken.dirty);
}

static void op_zap(struct model *m)
{
	struct range r = random_range(m), wide = r;

	widen(m, &wide);
	vd_pgtable_zap(m->table, r.start, r.length);
	for (uint64_t i = wide.first; i < wide.first + wide.count; i++)
		m->pages[i].mapped = false;
}

static void op_young(struct model *m)
{
	struct range r = random_range(m);
	bool clear = below(2), young, must = false;

	for (uint64_t i = r.first; i < r.first + r.count; i++)
		must |= m->pages[i].mapped && m->pages[i].attributes.accessed;
	young = (clear ? vd_pgtable_clear_young : vd_pgtable_test_young)(m->table, r.start,
									 r.length);
	assert_true(young || !must);
	if (!clear || !(m->format->flags & VD_MMU_FORMAT_ACCESSED))
		return;
	assert_false(vd_pgtable_test_young(m->table, r.start, r.length));
	widen(m, &r);
	for (uint64_t i = r.first; i < r.first + r.count; i++)
		m->pages[i].attributes.accessed = false;
}

static void op_walk(struct model *m)
{
	static const unsigned accesses[] = {VD_READ, VD_WRITE, VD_EXECUTE};
	uint64_t page = below(m->count), inside = below(m->unit);
	struct model_page *expected = &m->pages[page];
	unsigned access = accesses[below(3)];
	uint64_t input = m->base + page * m->unit + inside;
	struct vd_mmu_leaf leaf;
	int rc = vd_pgtable_walk(m->table, input, access, &leaf);

	if (rc) {
		assert_int_equal(rc, expected->mapped ? -EACCES : -ENOENT);
		assert_false(expected->mapped && expected->attributes.access & access);
		return;
	}
	assert_true(expected->mapped && expected->attributes.access & access);
	expected->attributes.accessed = true;
	expected->attributes.dirty |= access == VD_WRITE;
	m->tlb[page % TLB_ENTRIES] =
		(struct tlb_entry){input, output_of(m, &leaf), access, true};
}

/* ---- runs ----------------------------------------------------------------------------------- */

static void (*const operations[])(struct model *m) = {
	op_map,	  op_map,   op_map,	      op_map,	op_unmap, op_unmap, op_protect,
	op_split, op_merge, op_write_protect, op_young, op_walk,  op_walk,  op_walk,
	op_take_dirty, op_zap,
};

static unsigned operations_wanted(void)
{
#ifdef __SANITIZE_ADDRESS__
	return test_operations(2500, 1000000); /* each takes ten times as long */
#else
	return test_operations(10000, 1000000);
#endif
}

static void model_open(struct model *m, const struct vd_mmu_format *format, unsigned level)
{
	struct vd_pgtable_config config = {.format = format, .page_shift = format->shift[0],
					   .flush = model_flush, .flush_context = m};

	*m = (struct model){.format = format, .unit = vd_mmu_format_size(format, level)};
	test_env_init(&m->test);
	config.env = &m->test.env;
	assert_int_equal(vd_pgtable_create(&config, &m->table, NULL), 0);
	/* Three blocks of the next level and a piece, across a boundary of the one after that. */
	m->count = 3 * vd_mmu_format_entries(format, level) + 99;
	m->base = level + 2 < format->levels
			  ? vd_mmu_format_size(format, level + 2) -
				    vd_mmu_format_size(format, level + 1)
			  : 0;
	m->pages = calloc(m->count, sizeof(m->pages[0]));
	assert_non_null(m->pages);
}

static void model_close(struct model *m)
{
	vd_pgtable_destroy(m->table);
	vd_env_hosted_drain();
	assert_int_equal(m->test.blocks, 0);
	free(m->pages);
}

static void run(const struct vd_mmu_format *format, unsigned level, unsigned wanted)
{
	static struct model m;

	test_start(17 + level);
	model_open(&m, format, level);
	for (unsigned n = 0; n < wanted; n++) {
		if (below(64) == 0)
			test_env_fail(&m.test, 1 + (long)below(8), -ENOMEM);
		operations[below(sizeof(operations) / sizeof(operations[0]))](&m);
		test_env_fail(&m.test, 0, 0);
		for (unsigned i = 0; i < 8; i++)
			compare_page(&m, below(m.count));
		compare_tlb(&m);
		if (n % 256 == 0)
			compare_all(&m);
	}
	compare_all(&m);
	model_close(&m);
}

static void tables_of_granules_follow_the_model(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++)
		run(test_formats[i], 0, operations_wanted());
}

/* A tenth: where pages do not agree, each of these is a table of granules. */
static void tables_of_blocks_follow_the_model(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		if (test_formats[i]->block_level >= 2)
			run(test_formats[i], 1, operations_wanted() / 10);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(tables_of_granules_follow_the_model, test_seed_print),
		cmocka_unit_test_teardown(tables_of_blocks_follow_the_model, test_seed_print),
	};

	return cmocka_run_group_tests_name("mmu pgtable model", tests, NULL, NULL);
}
