/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One suite for every format: what it encodes is read back by it and by a walker written from the
 * manual (brute.c), which shares nothing with it.
 */
#include "../base/test_env.h"

#include <string.h>

#include "mmu/format.h"

#include "brute.h"
#include "formats.h"

#define ATTRIBUTES (8u * 3 * 32)

/* The n-th of all attributes there are. */
static struct vd_mmu_attributes attributes_of(unsigned n)
{
	return (struct vd_mmu_attributes){
		.access = n & 7,
		.accessed = n & 8,
		.dirty = n & 16,
		.device = n & 32,
		.user = n & 64,
		.global = n & 128,
		.type = (enum vd_memory_type)(n >> 8),
	};
}

/* What a leaf says that was made with @asked: what the format does not have reads as the header says. */
static struct vd_mmu_attributes expected(const struct vd_mmu_format *f,
					 struct vd_mmu_attributes asked)
{
	if (!(f->flags & VD_MMU_FORMAT_STAGE1))
		asked.user = asked.global = false;
	if (!(f->flags & VD_MMU_FORMAT_DIRTY))
		asked.dirty = asked.access & VD_WRITE;
	return asked;
}

static struct vd_mmu_attributes brute_attributes(const struct brute_leaf *leaf)
{
	static const enum vd_memory_type types[] = {VD_MEMORY_NORMAL, VD_MEMORY_WRITE_COMBINING,
						    VD_MEMORY_UNCACHED};

	return (struct vd_mmu_attributes){
		.access = (leaf->read ? VD_READ : 0) | (leaf->write ? VD_WRITE : 0) |
			  (leaf->execute ? VD_EXECUTE : 0),
		.type = types[leaf->type],
		.accessed = leaf->accessed,
		.dirty = leaf->dirty,
		.device = leaf->device,
		.user = leaf->user,
		.global = leaf->global,
	};
}

static void same(const struct vd_mmu_format *f, unsigned level, uint64_t entry,
		 const struct vd_mmu_attributes *a, const struct vd_mmu_attributes *b)
{
	if (a->access != b->access || a->type != b->type || a->accessed != b->accessed ||
	    a->dirty != b->dirty || a->device != b->device || a->user != b->user ||
	    a->global != b->global)
		fail_msg("%s level %u entry 0x%llx: access %u/%u type %u/%u a %d/%d d %d/%d "
			 "device %d/%d user %d/%d global %d/%d",
			 f->name, level, (unsigned long long)entry, a->access, b->access, a->type,
			 b->type, a->accessed, b->accessed, a->dirty, b->dirty, a->device,
			 b->device, a->user, b->user, a->global, b->global);
}

/* The entry is a leaf of @address that says @want, to the format and to the manual. */
static void says(const struct vd_mmu_format *f, unsigned level, uint64_t entry, uint64_t address,
		 struct vd_mmu_attributes want)
{
	struct brute_leaf leaf = brute_entry(f, entry, level);
	struct vd_mmu_attributes got;

	want = expected(f, want);
	if (f->kind(entry, level) != VD_MMU_LEAF || leaf.kind != BRUTE_LEAF)
		fail_msg("%s level %u entry 0x%llx: no leaf", f->name, level,
			 (unsigned long long)entry);
	f->attributes(entry, level, &got);
	same(f, level, entry, &got, &want);
	got = brute_attributes(&leaf);
	same(f, level, entry, &got, &want);
	assert_int_equal(leaf.address, address);
	assert_int_equal(f->address(entry, level), address);
	assert_int_equal(leaf.size, vd_mmu_format_size(f, level));
	for (unsigned access = 0; access < 8; access++)
		assert_int_equal(f->allows(entry, access, level), !(access & ~want.access));
}

static uint64_t random_address(const struct vd_mmu_format *f, unsigned level, uint64_t *seed)
{
	uint64_t reach = (UINT64_C(1) << f->output_bits) - 1;

	return test_random(seed) & reach & ~(vd_mmu_format_size(f, level) - 1);
}

/* ---- shapes --------------------------------------------------------------------------------- */

static void shapes_are_whole(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *f = test_formats[i];
		struct brute_shape shape = brute_shape(f);
		unsigned top = f->levels - 1;

		assert_int_equal(f->levels, shape.levels);
		assert_int_equal(f->input_bits, shape.input_bits);
		assert_true(f->levels <= VD_MMU_LEVELS_MAX);
		assert_true(f->block_level < f->levels);
		assert_int_equal(f->shift[top] + f->bits[top], f->input_bits);
		for (unsigned level = 0; level < f->levels; level++) {
			assert_int_equal(f->shift[level], brute_shift(&shape, level));
			if (level < top)
				assert_int_equal(f->shift[level] + f->bits[level],
						 f->shift[level + 1]);
			assert_true(f->contiguous[level] <= f->bits[level]);
			if (f->contiguous[level])
				assert_true(level <= f->block_level && f->is_contiguous &&
					    f->contiguous_entry);
		}
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(f->name, test_formats[j]->name);
	}
}

/* ---- one leaf ------------------------------------------------------------------------------- */

static void check_changes(const struct vd_mmu_format *f, unsigned level, uint64_t entry,
			  uint64_t address, struct vd_mmu_attributes in)
{
	struct vd_mmu_attributes now = in;

	now.accessed = true;
	says(f, level, f->used(entry, VD_READ, level), address, now);
	says(f, level, f->used(entry, VD_EXECUTE, level), address, now);
	now.dirty = true;
	says(f, level, f->used(entry, VD_WRITE, level), address, now);
	now = in;
	now.accessed = false;
	says(f, level, f->aged(entry, level), address, now);
	now = in;
	now.dirty = false;
	if (f->flags & VD_MMU_FORMAT_DIRTY)
		says(f, level, f->cleaned(entry, level), address, now);
	else
		assert_int_equal(f->cleaned(entry, level), f->write_protected(entry, level));
	now.access &= ~VD_WRITE;
	/* Of write-only nothing is left, which no leaf can be made to say. */
	if (now.access)
		says(f, level, f->write_protected(entry, level), address, now);
}

static void check_mark(const struct vd_mmu_format *f, unsigned level, uint64_t entry,
		       uint64_t address)
{
	uint64_t marked, span;
	struct brute_leaf leaf;

	if (f->is_contiguous)
		assert_false(f->is_contiguous(entry, level));
	if (!f->contiguous[level])
		return;
	marked = f->contiguous_entry(entry, address, level, true);
	span = vd_mmu_format_span(f, marked, level);
	assert_int_equal(span, vd_mmu_format_size(f, level) << f->contiguous[level]);
	leaf = brute_entry(f, marked, level);
	assert_int_equal(leaf.kind, BRUTE_LEAF);
	assert_true(leaf.contiguous);
	assert_int_equal(leaf.size, span);
	assert_int_equal(leaf.address & ~(span - 1), address & ~(span - 1));
	assert_int_equal(f->address(marked, level) & ~(span - 1), address & ~(span - 1));
	assert_int_equal(f->kind(marked, level), VD_MMU_LEAF);
	assert_true(f->is_contiguous(marked, level));
	assert_true(f->is_contiguous(f->used(marked, VD_WRITE, level), level));
	assert_true(f->is_contiguous(f->aged(marked, level), level));
	assert_true(f->is_contiguous(f->write_protected(marked, level), level));
	assert_true(f->is_contiguous(f->cleaned(marked, level), level));
	assert_int_equal(f->contiguous_entry(marked, address, level, true), marked);
	assert_int_equal(f->contiguous_entry(marked, address, level, false), entry);
}

static void leaves_say_what_was_asked(void **state)
{
	uint64_t seed = *test_seed() = 21;

	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *f = test_formats[i];

		for (unsigned n = 0; n < ATTRIBUTES * (f->block_level + 1); n++) {
			struct vd_mmu_attributes in = attributes_of(n % ATTRIBUTES);
			unsigned level = n / ATTRIBUTES;
			uint64_t address = random_address(f, level, &seed);
			uint64_t entry;

			assert_int_equal(f->can(&in, level), brute_can(f, &in));
			if (!f->can(&in, level))
				continue;
			entry = f->leaf_entry(address, &in, level);
			says(f, level, entry, address, in);
			check_changes(f, level, entry, address, in);
			check_mark(f, level, entry, address);
		}
	}
}

/* Two leaves that differ in anything asked are different entries, at one level. */
static void nothing_is_lost(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *f = test_formats[i];
		static uint64_t entries[ATTRIBUTES];
		unsigned distinct = 0, asked = 1 << (f->flags & VD_MMU_FORMAT_STAGE1 ? 2 : 0);

		for (unsigned n = 0; n < ATTRIBUTES; n++) {
			struct vd_mmu_attributes in = attributes_of(n);
			bool known = false;

			if (!f->can(&in, 0))
				continue;
			entries[distinct] = f->leaf_entry(0, &in, 0);
			for (unsigned j = 0; j < distinct && !known; j++)
				known = entries[j] == entries[distinct];
			distinct += !known;
		}
		asked *= f->flags & VD_MMU_FORMAT_DIRTY ? 4 : 2;
		assert_int_equal(distinct % asked, 0);
		/* Access, type and device: 48, less what cannot be. */
		assert_true(distinct / asked >= 16);
	}
}

static void fill_is_leaf_by_leaf(void **state)
{
	static vd_mmu_entry entries[64];
	uint64_t seed = *test_seed() = 22;

	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *f = test_formats[i];

		for (unsigned level = 0; level <= f->block_level; level++) {
			struct vd_mmu_attributes in = {.access = VD_READ | VD_WRITE,
						       .device = level, .accessed = true};
			uint64_t size = vd_mmu_format_size(f, level);
			uint64_t address = random_address(f, level, &seed) & ~(64 * size);
			unsigned count = 1 + (unsigned)test_random(&seed) % 62;

			memset(entries, 0, sizeof(entries));
			f->fill(entries + 1, count, address, &in, level, false);
			assert_int_equal(entries[0], 0);
			assert_int_equal(entries[count + 1], 0);
			for (unsigned n = 0; n < count; n++)
				assert_int_equal(entries[n + 1],
						 f->leaf_entry(address + n * size, &in, level));
		}
	}
}

/* ---- tables --------------------------------------------------------------------------------- */

/* An entry made for a table leads to it, on either side of the window. */
static void table_entries_lead_back(void **state)
{
	static uint64_t table[512] __attribute__((aligned(65536)));
	uintptr_t bases[] = {0, 4096, (uintptr_t)table - 65536, (uintptr_t)table + 65536,
			     (uintptr_t)1 << 46};

	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *f = test_formats[i];

		for (unsigned n = 0; n < sizeof(bases) / sizeof(bases[0]); n++) {
			uintptr_t base = bases[n] & ~((UINT64_C(1) << f->shift[0]) - 1);
			uint64_t distance = vd_mmu_format_distance(f, base, table);

			for (unsigned level = 1; level < f->levels; level++) {
				uint64_t entry = f->table_entry(distance, level);
				struct brute_leaf leaf = brute_entry(f, entry, level);

				assert_int_equal(f->kind(entry, level), VD_MMU_TABLE);
				assert_ptr_equal(vd_mmu_format_table(f, base, entry, level), table);
				assert_int_equal(leaf.kind, BRUTE_TABLE);
				assert_int_equal(leaf.address, distance);
				if (brute_shape(f).architecture != BRUTE_X86_PAE)
					assert_true(leaf.read && leaf.write && leaf.execute);
			}
		}
	}
}

/* ---- anything ------------------------------------------------------------------------------- */

/* Few bits, most bits, or a leaf with some bits turned over. */
static uint64_t random_entry(const struct vd_mmu_format *f, unsigned level, uint64_t *seed)
{
	uint64_t r = test_random(seed);
	struct vd_mmu_attributes in = attributes_of((unsigned)(r >> 8) % ATTRIBUTES);
	uint64_t mask = test_random(seed) & test_random(seed) & test_random(seed) &
			test_random(seed);

	switch (r & 3) {
	case 0:
		return test_random(seed);
	case 1:
		return mask & test_random(seed);
	case 2:
		return level ? f->table_entry(random_address(f, 0, seed), level) ^
				       (mask & test_random(seed))
			     : mask;
	default:
		if (level > f->block_level || !f->can(&in, level))
			return mask;
		return f->leaf_entry(random_address(f, level, seed), &in, level) ^
		       (r & 4 ? mask & test_random(seed) : 0);
	}
}

static void check_entry(const struct vd_mmu_format *f, unsigned level, uint64_t entry)
{
	static const enum vd_mmu_entry_kind kinds[] = {
		[BRUTE_ABSENT] = VD_MMU_ABSENT,
		[BRUTE_TABLE] = VD_MMU_TABLE,
		[BRUTE_LEAF] = VD_MMU_LEAF,
		[BRUTE_MALFORMED] = VD_MMU_MALFORMED,
	};
	struct brute_leaf leaf = brute_entry(f, entry, level);
	struct vd_mmu_attributes a, b;
	uint64_t span;

	if (f->kind(entry, level) != kinds[leaf.kind])
		fail_msg("%s level %u entry 0x%llx: kind %d, the manual's %d", f->name, level,
			 (unsigned long long)entry, f->kind(entry, level), kinds[leaf.kind]);
	if (leaf.kind == BRUTE_TABLE)
		assert_int_equal(f->address(entry, level), leaf.address);
	if (leaf.kind != BRUTE_LEAF)
		return;
	f->attributes(entry, level, &a);
	b = brute_attributes(&leaf);
	same(f, level, entry, &a, &b);
	for (unsigned access = 0; access < 8; access++)
		assert_int_equal(f->allows(entry, access, level), !(access & ~b.access));
	span = vd_mmu_format_span(f, entry, level);
	if (f->contiguous[level])
		assert_int_equal(span, leaf.size);
	assert_int_equal(f->address(entry, level) & ~(span - 1), leaf.address & ~(span - 1));
}

static void any_entry_is_read_as_the_manual_says(void **state)
{
	uint64_t seed = *test_seed() = 23;
	unsigned seen[4] = {0};

	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		const struct vd_mmu_format *f = test_formats[i];

		for (unsigned n = test_operations(10000, 1000000); n--;) {
			unsigned level = n % f->levels;
			uint64_t entry = random_entry(f, level, &seed);

			check_entry(f, level, entry);
			seen[f->kind(entry, level)]++;
		}
	}
	for (unsigned kind = 0; kind < 4; kind++)
		assert_true(seen[kind] > 10000);
}

/* ---- walks ---------------------------------------------------------------------------------- */

#define TABLES 24u

/* Tables put together at random from what the format encodes. */
struct forest {
	const struct vd_mmu_format *f;
	void *tables[TABLES];
	uintptr_t base;
	unsigned used;
	uint64_t seed;
	uint64_t gpas[256]; /* that something was put at */
	unsigned gpa_count;
};

static uint64_t below(struct forest *t, uint64_t n)
{
	return test_random(&t->seed) % n;
}

static size_t table_size(const struct vd_mmu_format *f, unsigned level)
{
	return vd_mmu_format_entries(f, level) * sizeof(uint64_t);
}

static void *table_new(struct forest *t, unsigned level)
{
	size_t bytes = table_size(t->f, level);
	size_t align = bytes < 4096 ? 4096 : bytes;
	void *table = aligned_alloc(align, align);

	assert_non_null(table);
	memset(table, 0, align);
	return t->tables[t->used++] = table;
}

static void leaf_new(struct forest *t, vd_mmu_entry *slot, uint64_t gpa, unsigned level)
{
	struct vd_mmu_attributes in = attributes_of((unsigned)below(t, ATTRIBUTES));
	unsigned group = t->f->contiguous[level];
	uint64_t size = vd_mmu_format_size(t->f, level);
	uint64_t address, entry;

	if (!t->f->can(&in, level))
		return;
	if (!group || below(t, 2)) {
		entry = t->f->leaf_entry(random_address(t->f, level, &t->seed), &in, level);
		atomic_store(slot, entry);
		return;
	}
	address = random_address(t->f, level, &t->seed) & ~((size << group) - 1);
	slot -= vd_mmu_format_index(t->f, level, gpa) & ((1u << group) - 1);
	for (unsigned i = 0; i < 1u << group; i++) {
		/* What is a table stays one: the group is then not whole, which no walk needs. */
		if (t->f->kind(atomic_load(&slot[i]), level) == VD_MMU_TABLE)
			return;
	}
	for (unsigned i = 0; i < 1u << group; i++) {
		entry = t->f->leaf_entry(address + i * size, &in, level);
		atomic_store(&slot[i], t->f->contiguous_entry(entry, address + i * size, level,
							      true));
	}
}

/* Goes down to a random level, through tables that are there or are made, and leaves a leaf. */
static void put_one(struct forest *t)
{
	uint64_t gpa = test_random(&t->seed) & ((UINT64_C(1) << t->f->input_bits) - 1);
	unsigned to = (unsigned)below(t, t->f->block_level + 1);
	vd_mmu_entry *table = t->tables[0];

	/* Near another one, mostly: else every one needs tables of its own. */
	if (t->gpa_count && below(t, 8))
		gpa = t->gpas[below(t, t->gpa_count)] ^
		      (below(t, 64) << t->f->shift[below(t, t->f->levels)]);
	gpa &= (UINT64_C(1) << t->f->input_bits) - 1;
	for (unsigned level = t->f->levels - 1;; level--) {
		vd_mmu_entry *slot = &table[vd_mmu_format_index(t->f, level, gpa)];
		enum vd_mmu_entry_kind kind = t->f->kind(atomic_load(slot), level);

		if (kind != VD_MMU_TABLE && level <= to) {
			leaf_new(t, slot, gpa, level);
			t->gpas[t->gpa_count++ % 256] = gpa;
			t->gpa_count = t->gpa_count > 256 ? 256 : t->gpa_count;
			return;
		}
		if (!level || kind == VD_MMU_LEAF || (kind != VD_MMU_TABLE && t->used == TABLES))
			return;
		if (kind != VD_MMU_TABLE)
			atomic_store(slot, t->f->table_entry(
						   vd_mmu_format_distance(t->f, t->base,
									  table_new(t, level - 1)),
						   level));
		table = vd_mmu_format_table(t->f, t->base, atomic_load(slot), level);
	}
}

static void check_leaf(const struct vd_mmu_format *f, const struct vd_mmu_leaf *leaf,
		       const struct brute_leaf *raw, uint64_t gpa, unsigned access)
{
	struct vd_mmu_attributes got = {.access = leaf->access, .type = leaf->type,
					.accessed = leaf->accessed, .dirty = leaf->dirty,
					.device = leaf->device, .user = leaf->user,
					.global = leaf->global};
	struct vd_mmu_attributes want = brute_attributes(raw);
	unsigned unused = 64 - f->output_bits;
	int64_t address = (int64_t)(raw->address << unused) >> unused;

	same(f, 99, gpa, &got, &want);
	assert_int_equal(leaf->size, raw->size);
	assert_int_equal(leaf->pfn.value, ((uint64_t)address & ((UINT64_C(1) << 56) - 1)) >> 12);
	assert_true(leaf->accessed);
	if (access & VD_WRITE)
		assert_true(leaf->dirty);
}

/* Return: 0 nothing was found, 1 a leaf, 2 one of a group. */
static unsigned check_walk(struct forest *t)
{
	const struct vd_mmu_format *f = t->f;
	struct vd_mmu_top top = {.format = f, .entries = t->tables[0], .window_base = t->base,
				 .page_shift = 12};
	uint64_t gpa = t->gpa_count ? t->gpas[below(t, t->gpa_count)] : 0;
	unsigned access = 1u << below(t, 3);
	struct vd_mmu_attributes unchanged, now;
	struct brute_leaf before, after;
	struct vd_mmu_leaf leaf;
	int rc;

	gpa ^= below(t, 2) ? below(t, 1 << 16) : below(t, 1 << 16) << below(t, 45);
	before = brute_walk(f, t->tables[0], t->base, gpa);
	assert_false(before.malformed);
	unchanged = brute_attributes(&before);
	rc = f->walk(&top, gpa, access, &leaf);
	assert_int_equal(rc, !before.found		? -ENOENT
			     : access & ~unchanged.access ? -EACCES
							: 0);
	assert_int_equal(vd_mmu_format_walk(f, &top, gpa, access, &leaf), rc);
	after = brute_walk(f, t->tables[0], t->base, gpa);
	if (!rc) {
		check_leaf(f, &leaf, &after, gpa, access);
		unchanged.accessed = true;
		unchanged.dirty |= access == VD_WRITE;
	}
	now = brute_attributes(&after);
	same(f, 99, gpa, &now, &unchanged);
	assert_int_equal(after.kind, before.kind);
	assert_int_equal(after.address, before.address);
	assert_int_equal(after.size, before.size);
	return before.found + before.contiguous;
}

static void walks_find_what_the_manual_finds(void **state)
{
	uint64_t seed = *test_seed() = 24;

	(void)state;
	for (unsigned i = 0; i < TEST_FORMATS; i++) {
		unsigned rounds = test_operations(4, 400), seen[3] = {0};

		for (unsigned round = 0; round < rounds; round++) {
			struct forest t = {.f = test_formats[i], .seed = seed += i + 1};

			table_new(&t, t.f->levels - 1);
			t.base = ((uintptr_t)t.tables[0] & ~(uintptr_t)0xffff) +
				 (round % 2 ? 0 : (uintptr_t)1 << 40);
			for (unsigned n = 0; n < 2500; n++) {
				if (n % 8 == 0)
					put_one(&t);
				seen[check_walk(&t)]++;
			}
			for (unsigned n = 0; n < t.used; n++)
				free(t.tables[n]);
		}
		assert_true(seen[0] > 500 && seen[1] > 200);
		assert_true(seen[2] > 100 || !test_formats[i]->contiguous[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shapes_are_whole),
		cmocka_unit_test_teardown(leaves_say_what_was_asked, test_seed_print),
		cmocka_unit_test(nothing_is_lost),
		cmocka_unit_test_teardown(fill_is_leaf_by_leaf, test_seed_print),
		cmocka_unit_test(table_entries_lead_back),
		cmocka_unit_test_teardown(any_entry_is_read_as_the_manual_says, test_seed_print),
		cmocka_unit_test_teardown(walks_find_what_the_manual_finds, test_seed_print),
	};

	return cmocka_run_group_tests_name("mmu formats", tests, NULL, NULL);
}
