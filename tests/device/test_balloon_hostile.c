/* SPDX-License-Identifier: BSD-2-Clause */
/* The fuzz target over a fixed corpus. */
#include "../base/corpus.h"
#include "balloon_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void test_random_corpus(void **state)
{
	static uint8_t input[4000];

	(void)state;
	for (uint64_t seed = 1; seed <= 500; seed++) {
		size_t size = 50 + seed * 37 % 3950;

		test_start(seed);
		for (size_t i = 0; i < size; i++)
			input[i] = (uint8_t)test_random(test_state());
		LLVMFuzzerTestOneInput(input, size);
	}
}

static void test_kept_corpus(void **state)
{
	(void)state;
	corpus_run("balloon", LLVMFuzzerTestOneInput);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_corpus),
		cmocka_unit_test_teardown(test_random_corpus, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
