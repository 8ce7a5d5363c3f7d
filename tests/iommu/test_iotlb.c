/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

#include "iommu/iotlb.h"

#define BLOCK (IOTLB_ENTRIES * IOTLB_PAGE)
#define SEEDS 4u
#define STEPS 20000u
#define PAGES 64u

static const unsigned both = VD_READ | VD_WRITE;

struct tlb {
	struct test_env test;
	struct iotlb iotlb;
};

static struct tlb *tlb_open(void)
{
	struct tlb *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	test_env_init(&t->test);
	iotlb_init(&t->iotlb, &t->test.env);
	return t;
}

static void tlb_close(struct tlb *t)
{
	iotlb_fini(&t->iotlb);
	vd_env_hosted_drain();
	assert_int_equal(t->test.blocks, 0);
	free(t);
}

static void fill(struct tlb *t, uint64_t iova, unsigned rights, uint64_t pointer, uint64_t run)
{
	struct iotlb_fill fill;

	if (!iotlb_begin(&t->iotlb, iova, &fill))
		iotlb_make(&t->iotlb, iova);
	iotlb_begin(&t->iotlb, iova, &fill);
	iotlb_fill(&fill, iova, rights, (void *)(uintptr_t)pointer, run);
}

static uint64_t find(struct tlb *t, uint64_t iova, unsigned access)
{
	void *pointer = NULL;
	uint64_t run;

	return iotlb_find(&t->iotlb, iova, access, &pointer, &run) ? (uintptr_t)pointer : 0;
}

static uint64_t run_of(struct tlb *t, uint64_t iova)
{
	void *pointer;
	uint64_t run = 0;

	iotlb_find(&t->iotlb, iova, VD_READ, &pointer, &run);
	return run;
}

static void test_entries(void **state)
{
	struct tlb *t = tlb_open();

	(void)state;
	assert_int_equal(find(t, 0, VD_READ), 0);
	fill(t, 0x5123, VD_READ, 0x7000123, 0xfff); /* no whole page */
	assert_int_equal(find(t, 0x5123, VD_READ), 0x7000123);
	fill(t, 0x5123, VD_READ, 0x8000123, 0xedd);
	assert_int_equal(find(t, 0x5000, VD_READ), 0x8000000);
	assert_int_equal(find(t, 0x5fff, VD_READ), 0x8000fff);
	assert_int_equal(run_of(t, 0x5ffe), 2);
	/* rights; neighbours; other blocks at the same index; nothing asked for */
	assert_int_equal(find(t, 0x5123, VD_WRITE), 0);
	assert_int_equal(find(t, 0x5123, both), 0);
	assert_int_equal(find(t, 0x5123, VD_READ | VD_EXECUTE), 0);
	assert_int_equal(find(t, 0x4fff, VD_READ), 0);
	assert_int_equal(find(t, 0x6000, VD_READ), 0);
	assert_int_equal(find(t, 0x6000, 0), 0);
	assert_int_equal(find(t, 0x5123 + BLOCK, VD_READ), 0);
	assert_int_equal(find(t, 0x5123 + 1025 * BLOCK, VD_READ), 0); /* the same place */
	fill(t, 0x5123, both, 0x8000123, 0xedd);
	assert_int_equal(find(t, 0x5123, both), 0x8000123);
	/* runs: half of them or more, and never too much */
	fill(t, 0x5123, both, 0x8000123, 0x6000 - 0x123);
	assert_int_equal(run_of(t, 0x5fff), 0x3001);
	fill(t, 0x5123, both, 0x8000123, UINT64_C(1) << 60);
	assert_int_equal(run_of(t, 0x5000), IOTLB_PAGE << 15);
	/* pointers that do not fit are left out */
	fill(t, 0x9000, both, UINT64_C(1) << 48, IOTLB_PAGE);
	assert_int_equal(find(t, 0x9000, VD_READ), 0);
	fill(t, 0x9000, both, (UINT64_C(1) << 48) - IOTLB_PAGE, IOTLB_PAGE);
	assert_int_equal(find(t, 0x9001, VD_READ), (UINT64_C(1) << 48) - IOTLB_PAGE + 1);
	tlb_close(t);
	/* the end of the address space, which shares its place with the beginning */
	t = tlb_open();
	fill(t, UINT64_MAX, both, 0x1fff, 1);
	assert_int_equal(find(t, UINT64_MAX, both), 0x1fff);
	assert_int_equal(run_of(t, UINT64_MAX), 1);
	tlb_close(t);
}

static void test_flushes(void **state)
{
	struct iotlb_fill before;
	struct tlb *t = tlb_open();

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		fill(t, i * BLOCK, both, 0x10000 + i * 0x1000, IOTLB_PAGE);
	iotlb_flush(&t->iotlb, 2 * BLOCK - 1, 2 * BLOCK);
	assert_int_equal(find(t, 0, both), 0x10000);
	assert_int_equal(find(t, BLOCK, both), 0);
	assert_int_equal(find(t, 2 * BLOCK, both), 0);
	assert_int_equal(find(t, 3 * BLOCK, both), 0x13000);
	/* who began before the flush fills in nothing that counts */
	assert_true(iotlb_begin(&t->iotlb, 0, &before));
	iotlb_flush_all(&t->iotlb);
	assert_int_equal(find(t, 0, both), 0);
	assert_int_equal(find(t, 3 * BLOCK, both), 0);
	iotlb_fill(&before, 0, both, (void *)0x10000, IOTLB_PAGE);
	assert_int_equal(find(t, 0, both), 0);
	assert_true(iotlb_begin(&t->iotlb, 0, &before));
	iotlb_flush(&t->iotlb, 0, UINT64_MAX);
	iotlb_fill(&before, 0, both, (void *)0x10000, IOTLB_PAGE);
	assert_int_equal(find(t, 0, both), 0);
	fill(t, 0, both, 0x20000, IOTLB_PAGE);
	assert_int_equal(find(t, 0, both), 0x20000);
	tlb_close(t);
}

/* All the way round, the generation of an entry comes again: it must be gone then. */
static void test_generations_come_again(void **state)
{
	struct tlb *t = tlb_open();

	(void)state;
	fill(t, 0, both, 0x10000, IOTLB_PAGE);
	for (uint64_t i = 0; i < UINT64_C(1) << IOTLB_GENERATION_BITS; i++) {
		if (i % 2)
			iotlb_flush_all(&t->iotlb);
		else
			iotlb_flush(&t->iotlb, 0, 0);
		if (i % 1024 == 0)
			assert_int_equal(find(t, 0, both), 0);
	}
	assert_int_equal(find(t, 0, both), 0);
	tlb_close(t);
}

/* Blocks that want the same place: the first stays for a while; where there is no memory, none. */
static void test_places(void **state)
{
	struct tlb *t = tlb_open();
	unsigned tries = 1;

	(void)state;
	test_env_fail(&t->test, 1, -ENOMEM);
	fill(t, 0, both, 0x10000, IOTLB_PAGE);
	assert_int_equal(find(t, 0, both), 0);
	test_env_fail(&t->test, 0, 0);
	fill(t, 0, both, 0x10000, IOTLB_PAGE);
	for (; !find(t, 1025 * BLOCK, both); tries++) {
		fill(t, 1025 * BLOCK, both, 0x20000, IOTLB_PAGE);
		assert_true(tries <= 64);
	}
	assert_true(tries > 16);
	assert_int_equal(find(t, 0, both), 0);
	tlb_close(t);
}

/* Against a model: far apart pages, near ones, and those that share places. */
static void run_history(uint64_t seed)
{
	struct tlb *t = tlb_open();
	uint64_t random = seed, filled[PAGES] = {0}, hits = 0;

	*test_seed() = seed;
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)(test_random(&random) % PAGES);
		unsigned k = (unsigned)(test_random(&random) % PAGES);
		uint64_t iova[2] = {(i / 4 * 341 * BLOCK) + i % 4 * IOTLB_PAGE,
				    (k / 4 * 341 * BLOCK) + k % 4 * IOTLB_PAGE};
		uint64_t found = find(t, iova[0], VD_READ);

		assert_true(!found || found == filled[i]);
		hits += found != 0;
		if (step % 3) {
			filled[i] = (test_random(&random) % 4096 + 1) * IOTLB_PAGE;
			fill(t, iova[0], VD_READ, filled[i], IOTLB_PAGE);
		} else if (step % 64 == 0) {
			iotlb_flush_all(&t->iotlb);
			memset(filled, 0, sizeof(filled));
		} else if (iova[0] <= iova[1]) {
			iotlb_flush(&t->iotlb, iova[0], iova[1]);
			for (unsigned n = i; n <= k; n++)
				filled[n] = 0;
		}
	}
	assert_true(hits > STEPS / 50);
	tlb_close(t);
}

static void test_against_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run_history(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_flushes),
		cmocka_unit_test(test_generations_come_again),
		cmocka_unit_test(test_places),
		cmocka_unit_test_teardown(test_against_model, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
