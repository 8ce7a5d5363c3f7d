/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Internal VMs: identity maps of physical ranges, what is refused, memory taken up front, and a
 * model of the map under random changes.
 */
#include "internal_rig.h"

#include "mmu/format.h"

/* ---- making one ------------------------------------------------------------------------------ */

static void test_what_makes_one(void **state)
{
	struct vd_host_config hosted_config = {.env = vd_env_hosted()};
	struct vd_internal_config config = {.env = vd_env_hosted(), .format = &vd_mmu_format_sv39x4};
	struct vd_internal *vm = NULL;
	struct internal_rig rig;
	struct vd_host *hosted;

	(void)state;
	internal_open(&rig, &vd_mmu_format_sv39x4, 12);
	assert_true(vd_mem_is_internal(vd_internal_mem(rig.vm)));
	assert_int_equal(internal_stats(&rig).table_pages, 1);
	assert_int_equal(vd_host_create(&hosted_config, &hosted, NULL), 0);
	config.host = hosted;
	assert_int_equal(vd_internal_create(&config, &vm, NULL), -EINVAL);
	config.host = NULL;
	assert_int_equal(vd_internal_create(&config, &vm, NULL), -EINVAL);
	config.host = rig.host;
	config.address_bits = 42; /* Sv39x4 has 41 */
	assert_int_equal(vd_internal_create(&config, &vm, NULL), -EINVAL);
	config.address_bits = 0;
	config.format = NULL;
	assert_int_equal(vd_internal_create(&config, &vm, NULL), -EINVAL);
	assert_null(vm);
	vd_internal_destroy(NULL);
	vd_host_destroy(hosted);
	internal_close(&rig);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

struct blocks {
	const struct vd_mmu_format *format;
	unsigned page_shift;
	uint64_t start, length;
	uint64_t leaves[3]; /* by level, lowest first */
};

/* Groups count entry by entry, so these are the fewest entries that can map the range. */
static void test_largest_blocks(void **state)
{
	static const struct blocks cases[] = {
		{&vd_mmu_format_arm64_s2_4k, 12, RAM + GIB, GIB, {0, 0, 1}},
		{&vd_mmu_format_arm64_s2_4k, 12, RAM + GIB - 4 * KIB, GIB + 8 * KIB, {2, 0, 1}},
		{&vd_mmu_format_arm64_s2_4k, 12, RAM + GIB - 2 * MIB, GIB, {0, 512, 0}},
		{&vd_mmu_format_arm64_s2_4k, 12, RAM + GIB + 4 * KIB, 4 * MIB, {512, 1, 0}},
		{&vd_mmu_format_arm64_s2_16k, 14, RAM + GIB, GIB, {0, 32, 0}},
		{&vd_mmu_format_arm64_s2_16k, 14, RAM + GIB - 16 * KIB, 64 * MIB, {2048, 1, 0}},
		{&vd_mmu_format_arm64_s2_64k, 16, RAM + GIB, GIB, {0, 2, 0}},
		{&vd_mmu_format_arm64_s2_64k, 16, RAM + GIB + 64 * KIB, GIB, {8192, 1, 0}},
		{&vd_mmu_format_sv39x4, 12, RAM + GIB, 2 * GIB + 2 * MIB, {0, 1, 2}},
		{&vd_mmu_format_sv48x4, 12, RAM + GIB, 4 * KIB, {1, 0, 0}},
		{&vd_mmu_format_sv57x4, 12, RAM + GIB, 6 * MIB, {0, 3, 0}},
		{&vd_mmu_format_ept, 12, RAM + GIB, GIB + 4 * KIB, {1, 0, 1}},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct blocks *c = &cases[i];
		struct vd_pgtable_stats stats;
		struct vd_mmu_leaf leaf;
		struct internal_rig rig;

		internal_open(&rig, c->format, c->page_shift);
		assert_int_equal(internal_map(&rig, c->start, c->length, RW, false), 0);
		vd_pgtable_stats(vd_internal_table(rig.vm), &stats);
		for (unsigned level = 0; level < 3; level++)
			assert_int_equal(stats.leaves[level], c->leaves[level]);
		assert_int_equal(stats.mapped_bytes, c->length);
		assert_int_equal(internal_walk(&rig, c->start, VD_WRITE, &leaf), 0);
		assert_int_equal(leaf.pfn.value, c->start >> c->page_shift);
		assert_int_equal(internal_walk(&rig, c->start + c->length - 8, VD_WRITE, &leaf), 0);
		assert_int_equal(leaf.pfn.value, (c->start + c->length - 8) >> c->page_shift);
		assert_int_equal(internal_walk(&rig, c->start - 8, VD_READ, &leaf), -ENOENT);
		assert_int_equal(internal_walk(&rig, c->start + c->length, VD_READ, &leaf),
				 -ENOENT);
		internal_close(&rig);
	}
}

/* Before anything walks, which would note it itself. */
static int used_from_the_start(void *context, uint64_t input, const struct vd_mmu_leaf *leaf)
{
	unsigned *count = context;

	(void)input;
	++*count;
	return !leaf->accessed || leaf->dirty != !!(leaf->access & VD_WRITE);
}

static void test_attributes(void **state)
{
	struct vd_mmu_leaf leaf;
	struct internal_rig rig;
	unsigned count = 0;

	(void)state;
	internal_open(&rig, &vd_mmu_format_arm64_s2_4k, 12);
	assert_int_equal(internal_map(&rig, RAM, MIB, VD_READ | VD_EXECUTE, false), 0);
	assert_int_equal(internal_map(&rig, RAM + MIB, MIB, RW, false), 0);
	assert_int_equal(internal_map(&rig, UART, 4 * KIB, RW, true), 0);
	assert_int_equal(internal_map(&rig, UART + 64 * KIB, 4 * KIB, VD_READ, true), 0);
	assert_int_equal(internal_map(&rig, RESERVED, MIB, VD_READ, false), 0);
	assert_int_equal(vd_pgtable_each(vd_internal_table(rig.vm), used_from_the_start, &count),
			 0);
	assert_true(count >= 5);
	assert_int_equal(internal_walk(&rig, RAM, VD_EXECUTE, &leaf), 0);
	assert_int_equal(leaf.access, VD_READ | VD_EXECUTE);
	assert_int_equal(leaf.type, VD_MEMORY_NORMAL);
	assert_false(leaf.device);
	assert_true(leaf.accessed);
	assert_int_equal(internal_walk(&rig, RAM, VD_WRITE, &leaf), -EACCES);
	assert_int_equal(internal_walk(&rig, RAM + MIB, VD_EXECUTE, &leaf), -EACCES);
	assert_int_equal(internal_walk(&rig, RAM + MIB, VD_WRITE, &leaf), 0);
	assert_int_equal(internal_walk(&rig, UART, VD_WRITE, &leaf), 0);
	assert_int_equal(leaf.type, VD_MEMORY_UNCACHED);
	assert_true(leaf.device);
	assert_int_equal(internal_walk(&rig, UART + 64 * KIB, VD_READ, &leaf), 0);
	assert_int_equal(leaf.type, VD_MEMORY_WRITE_COMBINING);
	assert_int_equal(internal_walk(&rig, UART + 64 * KIB, VD_WRITE, &leaf), -EACCES);
	assert_int_equal(internal_walk(&rig, RESERVED, VD_READ, &leaf), 0);
	internal_close(&rig);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void test_each_refusal_has_its_error(void **state)
{
	static const struct {
		uint64_t start, length;
		unsigned access;
		bool device;
		int error;
	} cases[] = {
		{RAM, 0, RW, false, -EINVAL},
		{RAM + 8, 4 * KIB, RW, false, -EINVAL},
		{RAM, 4 * KIB + 8, RW, false, -EINVAL},
		{RAM, 4 * KIB, 0, false, -EINVAL},
		{RAM, 4 * KIB, 8 | VD_READ, false, -EINVAL},
		{RAM, 4 * KIB, VD_WRITE, false, -EINVAL}, /* RISC-V has no such leaf */
		{0 - 4 * KIB, 8 * KIB, RW, false, -EOVERFLOW},
		{FAR_RAM, MIB, RW, false, -EOVERFLOW},
		{OWN, 4 * KIB, RW, false, -EPERM},
		{OWN - 4 * KIB, 8 * KIB, RW, false, -EPERM},
		{OWN + OWN_BYTES - 4 * KIB, 4 * KIB, RW, false, -EPERM},
		{RAM - 4 * KIB, 8 * KIB, RW, false, -ENXIO},
		{UINT64_C(0x1000), 4 * KIB, RW, false, -ENXIO},
		{RESERVED - 4 * KIB, 8 * KIB, RW, false, -EXDEV},
		{UART + 60 * KIB, 8 * KIB, RW, true, -EXDEV},
		{UART, 4 * KIB, RW, false, -EMEDIUMTYPE},
		{RAM, 4 * KIB, RW, true, -ENODEV},
		{UART, 4 * KIB, RW | VD_EXECUTE, true, -EACCES},
		{RAM + 32 * MIB + 12 * KIB, 8 * KIB, VD_READ, false, -EEXIST},
		{RAM + 32 * MIB, 16 * KIB, RW, false, -EEXIST},
	};
	struct vd_internal_stats before, after;
	struct internal_rig rig;

	(void)state;
	internal_open(&rig, &vd_mmu_format_sv39x4, 12);
	assert_int_equal(internal_map(&rig, RAM + 32 * MIB, 16 * KIB, RW, false), 0);
	before = internal_stats(&rig);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* alone, and behind two that are good: all or none */
		struct vd_internal_range ranges[] = {
			{RAM + GIB, GIB, RW, false, "good"},
			{UART + 8 * KIB, 4 * KIB, VD_READ, true, NULL},
			{cases[i].start, cases[i].length, cases[i].access, cases[i].device, NULL},
		};
		long blocks = rig.test.blocks;

		assert_int_equal(internal_map(&rig, cases[i].start, cases[i].length,
					      cases[i].access, cases[i].device), cases[i].error);
		assert_int_equal(vd_internal_map(rig.vm, ranges, 3, NULL), cases[i].error);
		after = internal_stats(&rig);
		assert_memory_equal(&before, &after, sizeof(before));
		vd_env_hosted_drain();
		vd_env_hosted_drain();
		/* room for ids and ranges may have grown; a slot, an object or a table may not stay */
		assert_true(rig.test.blocks <= blocks + 1);
	}
	assert_int_equal(vd_internal_map(rig.vm, NULL, 0, NULL), -EINVAL);
	internal_close(&rig);
}

/* Two of one call that overlap each other. */
static void test_ranges_of_one_call_do_not_overlap(void **state)
{
	struct vd_internal_range ranges[] = {
		{RAM, 2 * MIB, RW, false, NULL},
		{RAM + MIB, 2 * MIB, RW, false, NULL},
	};
	struct internal_rig rig;

	(void)state;
	internal_open(&rig, &vd_mmu_format_arm64_s2_4k, 12);
	assert_int_equal(vd_internal_map(rig.vm, ranges, 2, NULL), -EEXIST);
	assert_int_equal(internal_stats(&rig).ranges, 0);
	ranges[1].start += MIB;
	assert_int_equal(vd_internal_map(rig.vm, ranges, 2, NULL), 0);
	assert_int_equal(internal_stats(&rig).mapped_bytes, 4 * MIB);
	internal_close(&rig);
}

static void test_beyond_the_ipa_size(void **state)
{
	struct internal_rig rig;

	(void)state;
	internal_open(&rig, &vd_mmu_format_arm64_s2_4k, 12);
	vd_internal_destroy(rig.vm);
	assert_int_equal(internal_try(&rig, 32), 0);
	assert_int_equal(internal_map(&rig, 4 * GIB, 4 * KIB, RW, false), -EOVERFLOW);
	assert_int_equal(internal_map(&rig, 4 * GIB - 4 * KIB, 8 * KIB, RW, false), -EOVERFLOW);
	assert_int_equal(internal_map(&rig, 4 * GIB - 4 * KIB, 4 * KIB, RW, false), 0);
	internal_close(&rig);
}

/* A format that cannot say the second address: the first range, entered already, goes again. */
static void test_an_output_address_too_large(void **state)
{
	struct vd_internal_range ranges[] = {
		{RAM, 2 * MIB, RW, false, "near"},
		{FAR_RAM, 2 * MIB, RW, false, "far"},
	};
	struct vd_mmu_format narrow;
	struct internal_rig rig;

	(void)state;
	assert_int_equal(vd_mmu_format_bytes(), sizeof(narrow));
	assert_int_equal(vd_mmu_format_arm64(&narrow, VD_MMU_ARM64_STAGE2, 12, 44), 0);
	narrow.output_bits = 40;
	internal_open(&rig, &narrow, 12);
	assert_int_equal(vd_internal_map(rig.vm, ranges, 2, NULL), -EOVERFLOW);
	assert_int_equal(internal_stats(&rig).mapped_bytes, 0);
	assert_int_equal(internal_stats(&rig).ranges, 0);
	assert_int_equal(internal_stats(&rig).table_pages, 1);
	assert_int_equal(vd_internal_map(rig.vm, ranges, 1, NULL), 0);
	internal_close(&rig);
}

/* ---- memory up front ------------------------------------------------------------------------- */

static struct internal_rig *watched;

/* Nothing is allocated once an entry stands: the first one is written when all memory is there. */
static void *watched_allocate(const struct vd_env *env, size_t size, size_t align)
{
	if (watched && watched->vm)
		assert_int_equal(internal_stats(watched).mapped_bytes, 0);
	return test_env_allocate(env, size, align);
}

static void test_memory_is_taken_up_front(void **state)
{
	struct vd_internal_range ranges[] = {
		{RAM + GIB - 4 * KIB, GIB + 8 * KIB, RW, false, "ragged"},
		{RAM + 3 * GIB, GIB, RW, false, "block"},
		{UART, 64 * KIB, RW, true, "uart"},
	};
	struct vd_internal_stats stats;
	struct internal_rig rig;

	(void)state;
	internal_open(&rig, &vd_mmu_format_arm64_s2_4k, 12);
	watched = &rig;
	rig.test.env.allocate = watched_allocate;
	assert_int_equal(vd_internal_map(rig.vm, ranges, 3, NULL), 0);
	watched = NULL;
	stats = internal_stats(&rig);
	/* two tables on either side of the block, and two for the serial port */
	assert_int_equal(stats.table_pages, 1 + 4 + 2);
	assert_int_equal(stats.reserved - stats.returned, stats.table_pages - 1);
	assert_true(stats.reserved >= 6 && stats.reserved <= 12);
	/* the same way down once more: reserved, found there, given back */
	assert_int_equal(internal_map(&rig, RAM + 2 * GIB + 8 * KIB, 4 * KIB, RW, false), 0);
	assert_int_equal(internal_stats(&rig).table_pages, 7);
	assert_true(internal_stats(&rig).returned >= stats.returned + 2);
	internal_close(&rig);
}

static void test_every_allocation_may_fail(void **state)
{
	struct vd_internal_range ranges[] = {
		{RAM, 3 * MIB, VD_READ | VD_EXECUTE, false, "text"},
		{RAM + GIB - 4 * KIB, GIB, RW, false, "data"},
		{UART, 4 * KIB, RW, true, "uart"},
	};
	struct internal_rig rig;
	long step, failures = 0;
	int r;

	(void)state;
	internal_open(&rig, &vd_mmu_format_sv48x4, 12);
	for (step = 1;; step++) {
		test_env_fail(&rig.test, step, -ENOMEM);
		r = vd_internal_map(rig.vm, ranges, 3, NULL);
		if (!test_env_failed(&rig.test))
			break;
		failures++;
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(internal_stats(&rig).ranges, 0);
		assert_int_equal(internal_stats(&rig).mapped_bytes, 0);
		assert_int_equal(internal_stats(&rig).table_pages, 1);
		assert_int_equal(internal_stats(&rig).reserved, 0);
	}
	assert_int_equal(r, 0);
	assert_true(failures > 15);
	for (step = 1;; step++) {
		test_env_fail(&rig.test, step, -ENOMEM);
		r = vd_internal_unmap(rig.vm, RAM + GIB - 4 * KIB);
		if (!test_env_failed(&rig.test))
			break;
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(internal_stats(&rig).ranges, 3);
		assert_int_equal(internal_stats(&rig).mapped_bytes, GIB + 3 * MIB + 4 * KIB);
	}
	assert_int_equal(r, 0);
	test_env_fail(&rig.test, 0, 0);
	vd_internal_destroy(rig.vm);
	for (step = 1;; step++) {
		rig.vm = NULL;
		test_env_fail(&rig.test, step, -ENOMEM);
		r = internal_try(&rig, 0);
		if (!test_env_failed(&rig.test))
			break;
		assert_int_equal(r, -ENOMEM);
		assert_null(rig.vm);
	}
	assert_int_equal(r, 0);
	internal_close(&rig);
}

/* ---- taking back ----------------------------------------------------------------------------- */

static void test_unmap(void **state)
{
	struct vd_mmu_leaf leaf;
	struct internal_rig rig;

	(void)state;
	internal_open(&rig, &vd_mmu_format_arm64_s2_16k, 14);
	assert_int_equal(internal_map(&rig, RAM, 32 * MIB, RW, false), 0);
	assert_int_equal(internal_map(&rig, RAM + 32 * MIB, 16 * KIB, RW, false), 0);
	assert_int_equal(internal_map(&rig, RAM + 32 * MIB + 16 * KIB, 16 * KIB, RW, false), 0);
	assert_int_equal(rig.flush_count, 0);
	assert_int_equal(vd_internal_unmap(rig.vm, RAM + 16 * KIB), -ENOENT);
	assert_int_equal(vd_internal_unmap(rig.vm, RAM + 32 * MIB), 0);
	assert_int_equal(rig.flush_count, 1);
	assert_true(rig.flushes[0].start <= RAM + 32 * MIB);
	assert_true(rig.flushes[0].start + rig.flushes[0].length >= RAM + 32 * MIB + 16 * KIB);
	assert_int_equal(vd_internal_unmap(rig.vm, RAM + 32 * MIB), -ENOENT);
	assert_int_equal(internal_walk(&rig, RAM + 32 * MIB, VD_READ, &leaf), -ENOENT);
	assert_int_equal(internal_walk(&rig, RAM + 32 * MIB + 16 * KIB, VD_READ, &leaf), 0);
	assert_int_equal(internal_walk(&rig, RAM + 32 * MIB - 8, VD_READ, &leaf), 0);
	assert_int_equal(internal_stats(&rig).ranges, 2);
	assert_int_equal(internal_stats(&rig).mapped_bytes, 32 * MIB + 16 * KIB);
	assert_int_equal(internal_map(&rig, RAM + 32 * MIB, 16 * KIB, VD_READ, false), 0);
	assert_int_equal(internal_walk(&rig, RAM + 32 * MIB, VD_WRITE, &leaf), -EACCES);
	internal_close(&rig);
}

/* ---- private slots --------------------------------------------------------------------------- */

static int never(void *context, const struct vd_slot *slot)
{
	(void)context;
	(void)slot;
	return 1;
}

static void test_ranges_are_private_slots(void **state)
{
	struct vd_mem_page page;
	struct internal_rig rig;
	struct vd_mem *mem;

	(void)state;
	internal_open(&rig, &vd_mmu_format_sv39x4, 12);
	mem = vd_internal_mem(rig.vm);
	for (uint64_t i = 0; i < VD_MEM_PRIVATE_SLOTS_MAX; i++)
		assert_int_equal(internal_map(&rig, RAM + i * 8 * KIB, 4 * KIB, RW, false), 0);
	assert_int_equal(internal_map(&rig, RAM + GIB, 4 * KIB, RW, false), -ENOSPC);
	assert_int_equal(vd_mem_private_count(mem), VD_MEM_PRIVATE_SLOTS_MAX);
	assert_int_equal(vd_mem_slot_count(mem), 0);
	assert_int_equal(vd_mem_each(mem, never, NULL), 0);
	assert_int_equal(vd_mem_gpa_to_pfn(mem, (vd_gpa){RAM + 8 * KIB}, VD_WRITE, &page), 0);
	assert_int_equal(page.host.pfn.value, (RAM + 8 * KIB) >> 12);
	assert_true(page.slot_id & VD_MEM_PRIVATE_ID);
	assert_int_equal(vd_mem_remove_slot(mem, page.slot_id), -ENOENT);
	internal_close(&rig);
}

/* ---- a model --------------------------------------------------------------------------------- */

#define MODEL_PAGES 48u

/* What each page gives: 0, or the access. @first: where the range it belongs to begins. */
struct model {
	unsigned access[MODEL_PAGES];
	unsigned first[MODEL_PAGES];
};

static void model_compare(struct internal_rig *rig, const struct model *model, unsigned shift)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < MODEL_PAGES; i++) {
		uint64_t at = RAM + ((uint64_t)i << shift);
		struct vd_mmu_leaf leaf;
		int r = internal_walk(rig, at, VD_READ, &leaf);

		assert_int_equal(r, model->access[i] ? 0 : -ENOENT);
		if (r)
			continue;
		bytes += UINT64_C(1) << shift;
		assert_int_equal(leaf.access, model->access[i]);
		assert_int_equal(leaf.pfn.value, at >> shift);
	}
	assert_int_equal(internal_stats(rig).mapped_bytes, bytes);
}

static void model_map(struct internal_rig *rig, struct model *model, unsigned shift)
{
	static const unsigned accesses[] = {VD_READ, RW, VD_READ | VD_EXECUTE, RW | VD_EXECUTE};
	unsigned first = test_random(test_state()) % MODEL_PAGES;
	unsigned count = 1 + test_random(test_state()) % (MODEL_PAGES - first);
	unsigned access = accesses[test_random(test_state()) % 4];
	int expected = 0;

	for (unsigned i = first; i < first + count; i++)
		if (model->access[i])
			expected = -EEXIST;
	assert_int_equal(internal_map(rig, RAM + ((uint64_t)first << shift),
				      (uint64_t)count << shift, access, false), expected);
	for (unsigned i = first; i < first + count && !expected; i++) {
		model->access[i] = access;
		model->first[i] = first;
	}
}

static void model_unmap(struct internal_rig *rig, struct model *model, unsigned shift)
{
	unsigned page = test_random(test_state()) % MODEL_PAGES;
	bool there = model->access[page] && model->first[page] == page;

	assert_int_equal(vd_internal_unmap(rig->vm, RAM + ((uint64_t)page << shift)),
			 there ? 0 : -ENOENT);
	for (unsigned i = page; i < MODEL_PAGES && there; i++)
		if (model->access[i] && model->first[i] == page)
			model->access[i] = 0;
}

static void test_model(void **state)
{
	static const struct { const struct vd_mmu_format *format; unsigned shift; } formats[] = {
		{&vd_mmu_format_arm64_s2_4k, 12},
		{&vd_mmu_format_arm64_s2_16k, 14},
		{&vd_mmu_format_arm64_s2_64k, 16},
		{&vd_mmu_format_sv48x4, 12},
		{&vd_mmu_format_ept, 12},
	};

	(void)state;
	test_start(0xc1c2);
	for (unsigned f = 0; f < sizeof(formats) / sizeof(formats[0]); f++) {
		struct model model = {{0}, {0}};
		struct internal_rig rig;

		internal_open(&rig, formats[f].format, formats[f].shift);
		for (unsigned round = 0; round < 150; round++) {
			if (test_random(test_state()) % 2)
				model_map(&rig, &model, formats[f].shift);
			else
				model_unmap(&rig, &model, formats[f].shift);
			model_compare(&rig, &model, formats[f].shift);
		}
		internal_close(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_makes_one),
		cmocka_unit_test(test_largest_blocks),
		cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_each_refusal_has_its_error),
		cmocka_unit_test(test_ranges_of_one_call_do_not_overlap),
		cmocka_unit_test(test_beyond_the_ipa_size),
		cmocka_unit_test(test_an_output_address_too_large),
		cmocka_unit_test(test_memory_is_taken_up_front),
		cmocka_unit_test(test_every_allocation_may_fail),
		cmocka_unit_test(test_unmap),
		cmocka_unit_test(test_ranges_are_private_slots),
		cmocka_unit_test_teardown(test_model, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
