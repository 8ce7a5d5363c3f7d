/* SPDX-License-Identifier: BSD-2-Clause */
/* The fuzzer's entry over a fixed set of inputs: noise, of which little or much is a lie. */
#include "../../base/corpus.h"

#include "fuzz_client.h"

static void run(unsigned inputs, unsigned honest)
{
	static uint8_t data[512];

	for (unsigned i = 0; i < inputs; i++) {
		size_t size = test_random(test_state()) % sizeof(data);

		for (size_t k = 0; k < size; k++) {
			uint64_t random = test_random(test_state());

			/* 31 leaves a reply as it is, and has the guest poll. */
			data[k] = random >> 32 & honest ? 31 : (uint8_t)random;
		}
		LLVMFuzzerTestOneInput(data, size);
	}
	fuzz_client_end();
}

static void test_noise(void **state)
{
	(void)state;
	test_start(0x5eed0090);
	LLVMFuzzerTestOneInput(NULL, 0);
	run(30, 0);
}

static void test_rare_lies(void **state)
{
	(void)state;
	test_start(0x5eed0091);
	run(25, 3);
	run(25, 15);
}

static void test_kept_corpus(void **state)
{
	(void)state;
	corpus_run("client", LLVMFuzzerTestOneInput);
	fuzz_client_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_noise, test_seed_print),
		cmocka_unit_test(test_kept_corpus),
		cmocka_unit_test_teardown(test_rare_lies, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
