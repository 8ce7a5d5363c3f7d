/* SPDX-License-Identifier: BSD-2-Clause */
/* The fuzz target's inputs that every check runs. */
#include "../../base/corpus.h"

#include <stdlib.h>

#include "fuzz_server.h"

static void random_corpus(void **state)
{
	uint8_t input[2000];

	(void)state;
	for (unsigned seed = 1; seed <= 250; seed++) {
		size_t size = 50 + seed * 7 % 1950;
		uint64_t random = seed;

		test_start(seed);
		for (size_t i = 0; i < size; i++)
			input[i] = (uint8_t)test_random(&random);
		LLVMFuzzerTestOneInput(input, size);
	}
	fuzz_server_end();
}

static void nothing_at_all(void **state)
{
	(void)state;
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	LLVMFuzzerTestOneInput((const uint8_t *)"\xff", 1);
	fuzz_server_end();
}

/* All that searches have found to reach something. */
static void kept_corpus(void **state)
{
	(void)state;
	corpus_run("server", LLVMFuzzerTestOneInput);
	fuzz_server_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_at_all),
		cmocka_unit_test(kept_corpus),
		cmocka_unit_test_teardown(random_corpus, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
