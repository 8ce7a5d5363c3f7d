/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random maps, unmaps, translations, copies, pins and changes of the memory, against a model that
 * knows for each page of the device's view which page of which object it is.
 */
#include "fixture.h"

#define SEEDS 6u
#define STEPS 4000u
#define FIELD 192u /* pages of IOVA space */
#define PINS 8u
#define UNMAPPED (-1)

struct model {
	struct dma_fixture f;
	uint64_t random;
	int page[FIELD];       /* in @ram, or + RAM_PAGES in @other; or UNMAPPED */
	unsigned access[FIELD];
	bool first[FIELD];     /* a map begins here */
	unsigned char content[2 * RAM_PAGES]; /* first byte of each page */
	struct holder pins[PINS];
	uint64_t faults;
};

static uint64_t below(struct model *m, uint64_t limit)
{
	return test_random(&m->random) % limit;
}

static struct vd_host_object *object_of(struct model *m, int page)
{
	return page < (int)RAM_PAGES ? m->f.base.ram : m->f.base.other;
}

static uint64_t offset_of(int page)
{
	return (uint64_t)page % RAM_PAGES * PAGE;
}

static unsigned char *memory_of(struct model *m, int page)
{
	return object_byte(&m->f.base, object_of(m, page), offset_of(page));
}

/* Whether all of a range of pages may be accessed so. */
static bool allowed(const struct model *m, uint64_t at, uint64_t pages, unsigned access)
{
	for (uint64_t i = at; i < at + pages; i++)
		if (i >= FIELD || m->page[i] == UNMAPPED || (m->access[i] & access) != access)
			return false;
	return true;
}

static void step_map(struct model *m)
{
	uint64_t at = below(m, FIELD), pages = 1 + below(m, 24), page = below(m, 2 * RAM_PAGES);
	unsigned access = 1 + (unsigned)below(m, 3);
	bool fits = page % RAM_PAGES + pages <= RAM_PAGES, overlaps = false;
	int expected, r;

	if (at + pages > FIELD)
		pages = FIELD - at;
	fits = page % RAM_PAGES + pages <= RAM_PAGES;
	for (uint64_t i = at; i < at + pages; i++)
		overlaps |= m->page[i] != UNMAPPED;
	expected = !fits ? -ERANGE : overlaps ? -EEXIST : 0;
	test_env_fail(&m->f.base.test, below(m, 8) ? 0 : 1 + (long)below(m, 3), -ENOMEM);
	r = vd_dma_map(m->f.space, (vd_iova){at * PAGE}, pages * PAGE, object_of(m, (int)page),
		       offset_of((int)page), access);
	if (r == -ENOMEM && test_env_failed(&m->f.base.test))
		return;
	assert_int_equal(r, expected);
	for (uint64_t i = 0; i < pages && !r; i++) {
		m->page[at + i] = (int)(page + i);
		m->access[at + i] = access;
		m->first[at + i] = i == 0;
	}
}

static bool splits(const struct model *m, uint64_t at)
{
	return at < FIELD && at > 0 && m->page[at] != UNMAPPED && !m->first[at];
}

static void step_unmap(struct model *m)
{
	uint64_t at = below(m, FIELD), pages = 1 + below(m, 40), bytes = 0, unmapped;
	int expected, r;

	if (below(m, 2)) /* from map to map, mostly */
		while (at && splits(m, at))
			at--;
	if (below(m, 2))
		while (at + pages < FIELD && splits(m, at + pages))
			pages++;
	expected = splits(m, at) || splits(m, at + pages) ? -EINVAL : 0;
	r = vd_dma_unmap(m->f.space, (vd_iova){at * PAGE}, pages * PAGE, &unmapped);
	assert_int_equal(r, expected);
	for (uint64_t i = at; i < at + pages && i < FIELD && !r; i++) {
		bytes += m->page[i] != UNMAPPED ? PAGE : 0;
		m->page[i] = UNMAPPED;
		m->first[i] = false;
	}
	assert_int_equal(unmapped, bytes);
	for (unsigned i = 0; i < PINS && !r; i++)
		assert_false(m->pins[i].holds &&
			     vd_ranges_overlap(m->pins[i].range.iova.value, m->pins[i].range.length,
					       at * PAGE, pages * PAGE));
}

static void step_translate(struct model *m)
{
	uint64_t at = below(m, FIELD + 8), offset = below(m, PAGE), run;
	unsigned access = 1 + (unsigned)below(m, 3);
	void *pointer;
	int r;

	vd_dma_guard_enter(m->f.space);
	r = vd_dma_translate(m->f.space, (vd_iova){at * PAGE + offset}, access, &pointer, &run);
	vd_dma_guard_leave(m->f.space);
	if (!allowed(m, at, 1, access)) {
		assert_int_equal(r, -EFAULT);
		m->faults++;
		return;
	}
	assert_int_equal(r, 0);
	assert_ptr_equal(pointer, memory_of(m, m->page[at]) + offset);
	assert_true(run >= PAGE - offset);
	/* all of the run is as contiguous as it says */
	for (uint64_t i = 1; i < (run + offset + PAGE - 1) / PAGE; i++) {
		assert_true(allowed(m, at + i, 1, access) && !m->first[at + i]);
		assert_ptr_equal((char *)pointer - offset + i * PAGE,
				 memory_of(m, m->page[at + i]));
	}
}

/* The first byte of each page of a range, by one copy of all of it. */
static void step_copy(struct model *m)
{
	static unsigned char buffer[8 * 4096];
	uint64_t at = below(m, FIELD + 4), pages = 1 + below(m, 8);
	bool write = below(m, 2);
	int r;

	for (uint64_t i = 0; i < pages && write; i++)
		buffer[i * PAGE] = (unsigned char)below(m, 256);
	r = write ? vd_dma_write(m->f.space, (vd_iova){at * PAGE}, buffer, pages * PAGE)
		  : vd_dma_read(m->f.space, (vd_iova){at * PAGE}, buffer, pages * PAGE);
	if (!allowed(m, at, pages, write ? VD_WRITE : VD_READ)) {
		assert_int_equal(r, -EFAULT);
		m->faults++;
		return;
	}
	assert_int_equal(r, 0);
	/* a page that is mapped twice keeps what was written last */
	for (uint64_t i = 0; i < pages && write; i++)
		m->content[m->page[at + i]] = buffer[i * PAGE];
	for (uint64_t i = 0; i < pages && !write; i++)
		assert_int_equal(buffer[i * PAGE], m->content[m->page[at + i]]);
}

static void step_pin(struct model *m)
{
	struct holder *holder = &m->pins[below(m, PINS)];
	uint64_t at = below(m, FIELD), pages = 1 + below(m, 6);
	unsigned access = 1 + (unsigned)below(m, 3);
	int r;

	holder_let_go(holder);
	r = holder_pin(holder, m->f.space, at * PAGE, pages * PAGE, access);
	/* one segment is enough only where the pages are neighbours; what comes first counts */
	for (uint64_t i = 0; i < pages; i++) {
		if (!allowed(m, at + i, 1, access)) {
			assert_int_equal(r, -EFAULT);
			m->faults++;
			return;
		}
		if (memory_of(m, m->page[at + i]) != memory_of(m, m->page[at]) + i * PAGE) {
			assert_int_equal(r, -ENOSPC);
			return;
		}
	}
	assert_int_equal(r, 0);
	assert_ptr_equal(holder->segment.base, memory_of(m, m->page[at]));
	assert_int_equal(holder->segment.length, pages * PAGE);
}

/* Pages move, or are discarded: who has them pinned is asked first. */
static void step_change(struct model *m)
{
	int page = (int)below(m, 2 * RAM_PAGES);
	uint64_t pages = 1 + below(m, 4), left = RAM_PAGES - (uint64_t)page % RAM_PAGES;
	bool discard = below(m, 2);

	if (pages > left)
		pages = left;
	test_env_fail(&m->f.base.test, 0, 0);
	if (discard)
		assert_int_equal(vd_host_object_discard(object_of(m, page), offset_of(page),
							pages * PAGE, true), 0);
	else
		assert_int_equal(vd_host_object_move(object_of(m, page), offset_of(page),
						     pages * PAGE, true), 0);
	if (discard)
		memset(m->content + page, 0, pages);
	for (unsigned i = 0; i < PINS; i++) {
		uint64_t at = m->pins[i].range.iova.value / PAGE;

		for (uint64_t k = 0; m->pins[i].holds && k < m->pins[i].range.length / PAGE; k++)
			assert_false(m->page[at + k] >= page &&
				     m->page[at + k] < page + (int)pages);
	}
}

static void check_all(struct model *m)
{
	struct vd_dma_stats stats = stats_of(m->f.space);
	uint64_t maps = 0, pinned = 0;

	for (uint64_t i = 0; i < FIELD; i++)
		maps += m->first[i];
	for (unsigned i = 0; i < PINS; i++)
		pinned += m->pins[i].holds ? m->pins[i].range.length : 0;
	assert_int_equal(stats.maps, maps);
	assert_int_equal(stats.pinned_bytes, pinned);
	assert_int_equal(stats.faults, m->faults);
	for (int i = 0; i < (int)(2 * RAM_PAGES); i++)
		assert_int_equal(*memory_of(m, i), m->content[i]);
}

static void run_history(struct model *m)
{
	static void (*const steps[])(struct model *m) = {
		step_map, step_map, step_map, step_unmap, step_translate, step_copy, step_copy,
		step_pin, step_pin, step_change,
	};

	for (unsigned i = 0; i < STEPS; i++) {
		steps[below(m, sizeof(steps) / sizeof(steps[0]))](m);
		test_env_fail(&m->f.base.test, 0, 0);
		if (i % 200 == 0)
			check_all(m);
	}
	check_all(m);
}

static void test_against_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct model *m = calloc(1, sizeof(*m));

		assert_non_null(m);
		*test_seed() = seed;
		m->random = seed;
		for (unsigned i = 0; i < FIELD; i++)
			m->page[i] = UNMAPPED;
		dma_open(&m->f);
		run_history(m);
		for (unsigned i = 0; i < PINS; i++)
			holder_let_go(&m->pins[i]);
		dma_close_fixture(&m->f);
		free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_against_model, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
