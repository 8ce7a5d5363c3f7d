/* SPDX-License-Identifier: BSD-2-Clause */
/* Range arithmetic at the edges of 64 bits, against wider arithmetic. */
#include "test_env.h"

static const uint64_t edges[] = {0, 1, 2, 0xfff, 0x1000, INT64_MAX, (uint64_t)INT64_MAX + 1,
				 UINT64_MAX - 1, UINT64_MAX};
#define EDGES (sizeof(edges) / sizeof(edges[0]))

static void end_of_a_range(void **state)
{
	uint64_t end;

	(void)state;
	for (size_t i = 0; i < EDGES; i++)
		for (size_t j = 0; j < EDGES; j++) {
			unsigned __int128 sum = (unsigned __int128)edges[i] + edges[j];
			/* 2^64 is a good end: the range's last byte is the last there is */
			bool good = edges[j] && sum <= (unsigned __int128)UINT64_MAX + 1;

			assert_int_equal(vd_range_end(edges[i], edges[j], &end), good);
			if (good)
				assert_int_equal(end, (uint64_t)sum);
		}
}

static void overlap(void **state)
{
	uint64_t seed = 2;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		uint64_t a = test_random(&seed) % 64, an = 1 + test_random(&seed) % 16;
		uint64_t b = test_random(&seed) % 64, bn = 1 + test_random(&seed) % 16;
		uint64_t shift = i & 1 ? UINT64_MAX - 80 : 0;

		assert_int_equal(vd_ranges_overlap(a + shift, an, b + shift, bn),
				 a < b + bn && b < a + an);
	}
}

static void pages(void **state)
{
	(void)state;
	assert_int_equal(vd_gpa_gfn((vd_gpa){0x12345678}, 12).value, 0x12345);
	assert_int_equal(vd_gfn_gpa((vd_gfn){0x12345}, 12).value, 0x12345000);
	assert_true(vd_pfn_is_bad(VD_PFN_BAD));
	assert_false(vd_pfn_is_bad((vd_pfn){0}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(end_of_a_range),
		cmocka_unit_test(overlap),
		cmocka_unit_test(pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
