/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#define KIB UINT64_C(1024)
#define K4 (4 * KIB)
#define K16 (16 * KIB)
#define K64 (64 * KIB)

static unsigned plan(const struct vd_pci_direct_facts *facts, struct vd_pci_bar_part *parts)
{
	return vd_pci_direct_plan(facts, parts);
}

static void expect(const struct vd_pci_bar_part *part, uint64_t offset, uint64_t size,
		   enum vd_pci_why why)
{
	assert_int_equal(part->offset, offset);
	assert_int_equal(part->size, size);
	assert_int_equal(part->why, why);
	assert_int_equal(part->reason[0] == 0, why == VD_PCI_DIRECT);
}

static void test_each_case_has_its_reason(void **state)
{
	struct vd_pci_direct_facts facts = {.size = K64, .page = K4};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];

	(void)state;
	assert_int_equal(plan(&facts, parts), 1);
	expect(&parts[0], 0, K64, VD_PCI_WHY_EMULATED);
	facts.mappable = true;
	assert_int_equal(plan(&facts, parts), 1);
	expect(&parts[0], 0, K64, VD_PCI_DIRECT);
	facts.off = true;
	assert_int_equal(plan(&facts, parts), 1);
	expect(&parts[0], 0, K64, VD_PCI_WHY_OFF);
	facts.off = false;

	/* The page with the table is hidden whole, what is beside it is not. */
	facts.hidden[0] = (struct vd_region_area){0x2010, 0x20};
	assert_int_equal(plan(&facts, parts), 3);
	expect(&parts[0], 0, 8 * KIB, VD_PCI_DIRECT);
	expect(&parts[1], 8 * KIB, 4 * KIB, VD_PCI_WHY_MSIX);
	expect(&parts[2], 12 * KIB, 52 * KIB, VD_PCI_DIRECT);
	/* The same BAR on larger pages. */
	facts.page = K16;
	assert_int_equal(plan(&facts, parts), 2);
	expect(&parts[0], 0, K16, VD_PCI_WHY_MSIX);
	expect(&parts[1], K16, 48 * KIB, VD_PCI_DIRECT);
	facts.page = K64;
	assert_int_equal(plan(&facts, parts), 1);
	expect(&parts[0], 0, K64, VD_PCI_WHY_MSIX);
	facts.isolated = true;
	assert_int_equal(plan(&facts, parts), 1);
	expect(&parts[0], 0, K64, VD_PCI_DIRECT);
	facts.size = 0;
	assert_int_equal(plan(&facts, parts), 0);
}

static void test_edges_of_areas_are_trapped(void **state)
{
	struct vd_region_area area = {12 * KIB, 120 * KIB};
	struct vd_pci_direct_facts facts = {
		.size = 256 * KIB, .page = K64, .mappable = true, .area_count = 1, .areas = &area,
	};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];

	(void)state;
	assert_int_equal(plan(&facts, parts), 5);
	expect(&parts[0], 0, 12 * KIB, VD_PCI_WHY_EMULATED);
	expect(&parts[1], 12 * KIB, 52 * KIB, VD_PCI_WHY_EDGE);
	expect(&parts[2], 64 * KIB, 64 * KIB, VD_PCI_DIRECT);
	expect(&parts[3], 128 * KIB, 4 * KIB, VD_PCI_WHY_EDGE);
	expect(&parts[4], 132 * KIB, 124 * KIB, VD_PCI_WHY_EMULATED);
}

static void test_lies_stay_inside_the_bar(void **state)
{
	struct vd_region_area areas[VD_REGION_AREAS_MAX] = {
		{0, UINT64_MAX}, {UINT64_MAX, 1}, {UINT64_MAX - 1, UINT64_MAX}, {K4, 0},
	};
	struct vd_pci_neighbour odd[] = {
		{.name = "end", .address = UINT64_MAX - 10, .size = UINT64_MAX},
		{.name = "empty", .address = 0x10, .size = 0},
		{.address = UINT64_MAX, .size = 1, .hidden = {{UINT64_MAX, UINT64_MAX}, {1, 0}}},
	};
	struct vd_pci_direct_facts facts = {
		.size = K64, .page = K4, .mappable = true, .area_count = 99, .areas = areas,
		.neighbours = odd, .neighbour_count = 3,
		.hidden = {{UINT64_MAX, 4}, {K64, UINT64_MAX}},
		.claimed = {UINT64_MAX, UINT64_MAX},
	};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];

	(void)state;
	assert_int_equal(plan(&facts, parts), 1);
	expect(&parts[0], 0, K64, VD_PCI_DIRECT);
	/* At the very end of the address space, and past it. */
	facts.address = UINT64_MAX - K64 + 1;
	facts.neighbour_count = 0;
	assert_int_equal(plan(&facts, parts), 1);
	expect(&parts[0], 0, K64, VD_PCI_DIRECT);
	facts.address++;
	assert_int_equal(plan(&facts, parts), 1);
	expect(&parts[0], 0, K64, VD_PCI_WHY_MEMORY);
}

/* Strangers all over: one part that says so, and a bounded number of them. */
static void test_too_many_parts_end_in_one_that_is_trapped(void **state)
{
	struct vd_pci_neighbour many[64];
	struct vd_pci_direct_facts facts = {.address = K64, .size = 1024 * KIB, .page = K4,
					    .mappable = true, .neighbours = many,
					    .neighbour_count = 64};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
	uint64_t end = 0;

	(void)state;
	memset(many, 0, sizeof(many));
	for (unsigned i = 0; i < 64; i++)
		many[i] = (struct vd_pci_neighbour){.name = "one", .address = K64 + i * 2 * K4,
						    .size = 16};
	assert_int_equal(plan(&facts, parts), VD_PCI_PARTS_MAX);
	for (unsigned i = 0; i < VD_PCI_PARTS_MAX; i++) {
		assert_int_equal(parts[i].offset, end);
		end += parts[i].size;
	}
	assert_int_equal(end, facts.size);
	assert_int_equal(parts[0].why, VD_PCI_WHY_NEIGHBOUR);
	assert_int_not_equal(parts[VD_PCI_PARTS_MAX - 1].why, VD_PCI_DIRECT);
}

/* ---- BARs smaller than a page ---- */

struct small_case {
	uint64_t address, size, page;
	bool same_group, whole, platform, neighbour_trapped;
	bool has_neighbour, claimed, grouped, unpadded, table;
	const char *text; /* of the one part there is */
};

/* Another function's BAR, of the same size, right behind. */
static const struct small_case small_cases[] = {
	{0x1000, 256, K4, .text = "256 bytes, trapped: nothing keeps the rest of its page free"},
	{0x1000, 256, K4, .unpadded = true,
	 .text = "256 bytes, trapped: its memory is not padded to a page"},
	{0x1000, 256, K4, .claimed = true, .text = "256 bytes, direct"},
	{0x1100, 256, K4, .claimed = true, .text = "256 bytes, direct"},
	{0x1000, 256, K4, .has_neighbour = true,
	 .text = "256 bytes, trapped: shares its page with 00:03.0 BAR 0"},
	/* A claim does not help against who is there. */
	{0x1000, 256, K4, .has_neighbour = true, .claimed = true,
	 .text = "256 bytes, trapped: shares its page with 00:03.0 BAR 0"},
	{0x1000, 256, K4, .has_neighbour = true, .same_group = true, .grouped = true,
	 .platform = true,
	 .text = "256 bytes, trapped: shares its page with 00:03.0 BAR 0, of a group that others "
		 "use too"},
	{0x1000, 256, K4, .has_neighbour = true, .same_group = true, .grouped = true, .whole = true,
	 .text = "256 bytes, trapped: shares its page with 00:03.0 BAR 0, and the platform lets no "
		 "group share one"},
	{0x1000, 256, K4, .has_neighbour = true, .same_group = true, .grouped = true, .whole = true,
	 .platform = true, .neighbour_trapped = true,
	 .text = "256 bytes, trapped: shares its page with 00:03.0 BAR 0, which is trapped"},
	{0x1000, 256, K4, .has_neighbour = true, .same_group = true, .grouped = true, .whole = true,
	 .platform = true, .text = "256 bytes, direct"},
	{0x1000, 256, K4, .has_neighbour = true, .same_group = true, .whole = true,
	 .platform = true,
	 .text = "256 bytes, trapped: nothing keeps the rest of its page free"},
	{0x1000, 256, K4, .has_neighbour = true, .same_group = true, .grouped = true, .whole = true,
	 .platform = true, .table = true,
	 .text = "256 bytes, trapped: shares its page with the MSI-X table of 00:03.0 BAR 0"},
	/* 4 KiB: a page of its own here, part of one there. */
	{0x1000, K4, K4, .has_neighbour = true, .text = "4 KiB, direct"},
	{0x1000, K4, K16, .has_neighbour = true,
	 .text = "4 KiB, trapped: shares its page with 00:03.0 BAR 0"},
	{0x3000, K4, K16, .has_neighbour = true, .claimed = true, .text = "4 KiB, direct"},
	{0x3000, K4, K64, .has_neighbour = true, .claimed = true,
	 .text = "4 KiB, trapped: shares its page with 00:03.0 BAR 0"},
	{0xf000, K4, K64, .has_neighbour = true, .claimed = true, .text = "4 KiB, direct"},
	{0x0000, K4, K64, .has_neighbour = true, .same_group = true, .grouped = true, .whole = true,
	 .platform = true, .text = "4 KiB, direct"},
	{0x0000, K4, K64, .text = "4 KiB, trapped: nothing keeps the rest of its page free"},
};

static void test_less_than_a_page(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(small_cases) / sizeof(*small_cases); i++) {
		const struct small_case *c = &small_cases[i];
		struct vd_pci_neighbour next = {
			.name = "00:03.0 BAR 0", .address = c->address + c->size, .size = c->size,
			.same_group = c->same_group, .trapped = c->neighbour_trapped,
		};
		uint64_t start = c->address & ~(c->page - 1);
		struct vd_pci_direct_facts facts = {
			.address = c->address, .size = c->size, .page = c->page, .mappable = true,
			.neighbours = &next, .neighbour_count = c->has_neighbour,
			.group_whole = c->whole, .platform = c->platform, .unpadded = c->unpadded,
		};
		struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
		char text[VD_PCI_PART_TEXT_BYTES];

		/* Before and behind it: of 0x1100 a claim that begins at the page. */
		if (c->claimed)
			facts.claimed = (struct vd_region_area){start, c->page};
		if (c->grouped)
			facts.group = (struct vd_region_area){start, c->page};
		if (c->table)
			next.hidden[0] = (struct vd_region_area){next.address + 0x100, 16};
		assert_int_equal(plan(&facts, parts), 1);
		assert_string_equal(vd_pci_part_text(parts, text, sizeof(text)), c->text);
	}
}

static void test_every_byte_of_the_page_must_be_accounted_for(void **state)
{
	struct vd_pci_direct_facts facts = {.address = 0x1200, .size = 0x200, .page = K4,
					    .mappable = true};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];

	(void)state;
	facts.claimed = (struct vd_region_area){0x1000, K4};
	plan(&facts, parts);
	expect(&parts[0], 0, 0x200, VD_PCI_DIRECT);
	facts.claimed = (struct vd_region_area){0x1001, K4 - 1};
	plan(&facts, parts);
	expect(&parts[0], 0, 0x200, VD_PCI_WHY_REST);
	facts.claimed = (struct vd_region_area){0x1000, K4 - 1};
	plan(&facts, parts);
	expect(&parts[0], 0, 0x200, VD_PCI_WHY_REST);
	facts.claimed = (struct vd_region_area){0x1400, 0xc00};
	plan(&facts, parts);
	expect(&parts[0], 0, 0x200, VD_PCI_WHY_REST);
	facts.group = (struct vd_region_area){0x1000, 0x200};
	facts.group_whole = facts.platform = true;
	plan(&facts, parts);
	expect(&parts[0], 0, 0x200, VD_PCI_DIRECT);
	facts.claimed = (struct vd_region_area){0x1401, 0xbff};
	plan(&facts, parts);
	expect(&parts[0], 0, 0x200, VD_PCI_WHY_REST);
}

/* A BAR that is larger than a page and begins within one: ends differ from the middle. */
static void test_ends_are_judged_apart(void **state)
{
	struct vd_pci_neighbour near[] = {
		{.name = "00:01.0 BAR 0", .address = 0, .size = 0x800},
		{.name = "00:02.0 BAR 1", .address = 0x5800, .size = 0x800},
	};
	struct vd_pci_direct_facts facts = {
		.address = 0x800, .size = 0x5000, .page = K4, .mappable = true,
		.neighbours = near, .neighbour_count = 2,
	};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];

	(void)state;
	assert_int_equal(plan(&facts, parts), 3);
	expect(&parts[0], 0, 0x800, VD_PCI_WHY_NEIGHBOUR);
	assert_string_equal(parts[0].reason, "shares its page with 00:01.0 BAR 0");
	expect(&parts[1], 0x800, 0x4000, VD_PCI_DIRECT);
	expect(&parts[2], 0x4800, 0x800, VD_PCI_WHY_NEIGHBOUR);
	assert_string_equal(parts[2].reason, "shares its page with 00:02.0 BAR 1");
}

/* ---- against a plain model, byte by byte ---- */

#define SPACE 0x40000u /* addresses of the model */
#define UNIT 64u       /* nothing random begins or ends within one: bytes of it are alike */
#define CELLS (SPACE / UNIT)

struct cell {
	bool bar, area, hidden, stranger, friendly, claimed, group;
};

struct model {
	struct cell cells[CELLS];
	struct vd_pci_direct_facts facts;
	struct vd_region_area areas[VD_REGION_AREAS_MAX];
	struct vd_pci_neighbour neighbours[4];
};

static struct vd_region_area somewhere(uint32_t most)
{
	uint32_t size = (1 + below(below(2) ? 16 : most / UNIT)) * UNIT;

	return (struct vd_region_area){below((SPACE - size) / UNIT + 1) * UNIT, size};
}

/* The neighbourhood of the BAR is where things happen. */
static struct vd_region_area near_the_bar(const struct model *m)
{
	struct vd_region_area at = somewhere(0x4000);
	uint64_t start = m->facts.address & ~(m->facts.page - 1);

	if (below(4)) {
		at.size = (1 + below((uint32_t)m->facts.page / UNIT)) * UNIT;
		at.offset = start + below((uint32_t)m->facts.page / UNIT) * UNIT;
	}
	if (at.offset + at.size > SPACE)
		at.size = SPACE - at.offset;
	return at;
}

static void random_neighbours(struct model *m)
{
	m->facts.neighbours = m->neighbours;
	m->facts.neighbour_count = below(3) * below(3);
	for (unsigned i = 0; i < m->facts.neighbour_count; i++) {
		struct vd_region_area at = near_the_bar(m);

		m->neighbours[i] = (struct vd_pci_neighbour){
			.name = "n", .address = at.offset, .size = at.size,
			.same_group = below(4) != 0, .trapped = !below(8)};
		if (!below(4))
			m->neighbours[i].hidden[below(2)] =
				(struct vd_region_area){at.offset, UNIT};
	}
}

static struct vd_region_area whole_pages(const struct model *m)
{
	uint64_t mask = m->facts.page - 1, start = m->facts.address & ~mask;
	uint64_t end = (m->facts.address + m->facts.size + mask) & ~mask;

	return (struct vd_region_area){start, (end < SPACE ? end : SPACE) - start};
}

static void random_facts(struct model *m)
{
	struct vd_region_area bar;

	memset(m, 0, sizeof(*m));
	m->facts.page = K4 << 2 * below(3);
	bar.size = UINT64_C(64) << below(12);
	bar.offset = below(SPACE / (uint32_t)bar.size) * bar.size;
	if (!below(4))
		bar = somewhere(0x20000);
	m->facts.address = bar.offset;
	m->facts.size = bar.size;
	m->facts.mappable = below(8) != 0;
	m->facts.areas = m->areas;
	m->facts.area_count = below(2) * below(VD_REGION_AREAS_MAX + 1);
	for (unsigned i = 0; i < m->facts.area_count; i++) {
		uint64_t offset = below((uint32_t)bar.size / UNIT) * UNIT;

		if (below(2))
			offset &= ~(m->facts.page - 1);
		m->areas[i].offset = offset;
		m->areas[i].size = (1 + below((uint32_t)(bar.size - offset) / UNIT)) * UNIT;
	}
	for (unsigned i = 0; i < VD_PCI_HIDDEN_MAX; i++)
		if (!below(4))
			m->facts.hidden[i] = (struct vd_region_area){
				below((uint32_t)bar.size / UNIT) * UNIT, UNIT};
	m->facts.isolated = !below(4);
	random_neighbours(m);
	if (below(2))
		m->facts.claimed = near_the_bar(m);
	if (below(2))
		m->facts.group = near_the_bar(m);
	if (below(2))
		*(below(2) ? &m->facts.claimed : &m->facts.group) = whole_pages(m);
	m->facts.group_whole = below(4) != 0;
	m->facts.platform = below(4) != 0;
	m->facts.off = !below(16);
}

#define EACH_CELL(m, cell, at, length)                                                             \
	for (struct cell *cell = &(m)->cells[(at) / UNIT],                                         \
			 *last_ = cell + (length) / UNIT; cell < last_; cell++)

/* Who is what, said byte by byte. */
static void paint(struct model *m)
{
	const struct vd_pci_direct_facts *f = &m->facts;

	EACH_CELL (m, cell, f->address, f->size) {
		cell->bar = true;
		cell->area = f->mappable && !f->area_count;
	}
	for (unsigned i = 0; i < f->area_count && f->mappable; i++)
		EACH_CELL (m, cell, f->address + f->areas[i].offset, f->areas[i].size)
			cell->area = true;
	for (unsigned i = 0; i < VD_PCI_HIDDEN_MAX; i++)
		EACH_CELL (m, cell, f->address + f->hidden[i].offset, f->hidden[i].size)
			cell->hidden = true;
	for (unsigned n = 0; n < f->neighbour_count; n++) {
		const struct vd_pci_neighbour *of = &f->neighbours[n];

		EACH_CELL (m, cell, of->address, of->size) {
			if (of->same_group && !of->trapped)
				cell->friendly = true;
			else
				cell->stranger = true;
		}
		for (unsigned i = 0; i < VD_PCI_HIDDEN_MAX; i++)
			EACH_CELL (m, cell, of->hidden[i].offset, of->hidden[i].size)
				cell->hidden = true;
	}
	EACH_CELL (m, cell, f->claimed.offset, f->claimed.size)
		cell->claimed = true;
	EACH_CELL (m, cell, f->group.offset, f->group.size)
		cell->group = true;
}

/* Whether a byte may be seen by the guest of this user. */
static bool is_fit(const struct model *m, const struct cell *cell)
{
	bool together = m->facts.group_whole && m->facts.platform;

	if ((cell->hidden && !m->facts.isolated) || cell->stranger ||
	    (cell->friendly && !together))
		return false;
	if (cell->bar)
		return cell->area;
	return cell->friendly || cell->claimed || (cell->group && together);
}

static bool page_is_fit(const struct model *m, uint64_t address)
{
	uint64_t start = address & ~(m->facts.page - 1);

	for (uint64_t at = start; at < start + m->facts.page; at += UNIT)
		if (!is_fit(m, &m->cells[at / UNIT]))
			return false;
	return !m->facts.off;
}

/* Two areas that meet within a page are not joined: the plan may say less, never more. */
static bool joins_areas(const struct model *m, uint64_t address)
{
	uint64_t start = address & ~(m->facts.page - 1), end = start + m->facts.page;
	unsigned met = 0;

	for (unsigned i = 0; i < m->facts.area_count; i++) {
		uint64_t base = m->facts.address + m->areas[i].offset;

		met += base < end && base + m->areas[i].size > start;
	}
	return met > 1;
}

static void check(const struct model *m, const struct vd_pci_bar_part *parts, unsigned count,
		  unsigned *direct)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(parts[i].offset, end);
		assert_true(parts[i].size != 0);
		assert_true(!i || parts[i].why != parts[i - 1].why ||
			    parts[i].why == VD_PCI_WHY_NEIGHBOUR ||
			    parts[i].why == VD_PCI_WHY_MSIX);
		assert_int_equal(parts[i].reason[0] == 0, parts[i].why == VD_PCI_DIRECT);
		for (uint64_t at = end; at < end + parts[i].size; at += UNIT) {
			uint64_t address = m->facts.address + at;
			bool fit = page_is_fit(m, address);

			if (parts[i].why == VD_PCI_DIRECT)
				assert_true(fit);
			else
				assert_true(!fit || joins_areas(m, address));
		}
		*direct += parts[i].why == VD_PCI_DIRECT;
		end += parts[i].size;
	}
	assert_int_equal(end, m->facts.size);
}

static void test_random_facts_follow_the_rule(void **state)
{
	static struct model m;
	unsigned direct = 0, shared = 0;

	(void)state;
	test_start(0x5eed0001);
	for (unsigned round = 0; round < 3000; round++) {
		struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
		unsigned count, before = direct;

		random_facts(&m);
		paint(&m);
		count = plan(&m.facts, parts);
		check(&m, parts, count, &direct);
		shared += direct > before && m.facts.size < m.facts.page;
	}
	assert_true(direct > 300 && shared > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_case_has_its_reason),
		cmocka_unit_test(test_edges_of_areas_are_trapped),
		cmocka_unit_test(test_lies_stay_inside_the_bar),
		cmocka_unit_test(test_too_many_parts_end_in_one_that_is_trapped),
		cmocka_unit_test(test_less_than_a_page),
		cmocka_unit_test(test_every_byte_of_the_page_must_be_accounted_for),
		cmocka_unit_test(test_ends_are_judged_apart),
		cmocka_unit_test_teardown(test_random_facts_follow_the_rule, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
