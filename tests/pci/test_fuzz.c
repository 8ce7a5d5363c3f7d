/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fuzzer's entry over a fixed set of inputs: noise, and noise behind a start that switches
 * everything on.
 */
#include "../base/corpus.h"
#include "rig.h"

#include "fuzz_config.h"

static const uint8_t switched_on[] = {
	0x40, PCI_COMMAND, 6, 0, /* device 0: memory and bus master */
	0x48, PCI_COMMAND, 6, 0, /* device 1 */
	0x40, TOY_MSIX_CAPABILITY + PCI_MSIX_FLAGS, 0x00, 0x80, /* MSI-X on */
	0x48, TOY_MSIX_CAPABILITY + PCI_MSIX_FLAGS, 0x00, 0xc0,
};

static void run(unsigned inputs, bool on)
{
	static uint8_t data[2048];

	for (unsigned i = 0; i < inputs; i++) {
		size_t start = on ? sizeof(switched_on) : 0, size = start + below(1500);

		memcpy(data, switched_on, start);
		for (size_t k = start; k < size; k++)
			data[k] = (uint8_t)(below(3) ? test_random(test_state()) : below(8));
		LLVMFuzzerTestOneInput(data, size);
	}
}

static void test_noise(void **state)
{
	(void)state;
	test_start(0x5eed0050);
	LLVMFuzzerTestOneInput(NULL, 0);
	run(60, false);
}

static void test_noise_with_everything_on(void **state)
{
	(void)state;
	test_start(0x5eed0051);
	run(60, true);
}

static void test_kept_corpus(void **state)
{
	(void)state;
	corpus_run("config", LLVMFuzzerTestOneInput);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_corpus),
		cmocka_unit_test_teardown(test_noise, test_seed_print),
		cmocka_unit_test_teardown(test_noise_with_everything_on, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
