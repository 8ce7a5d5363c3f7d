/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include <viaduct/vm.h>

#include "cli/cli.h"

int command_riscv_test(int argc, char **argv)
{
	int failures = 0;

	if (argc < 2 || !strcmp(argv[1], "--help")) {
		FILE *out = argc < 2 ? stderr : stdout;

		fputs("usage: viaduct riscv-test FILE...\n\n"
		      "Runs unmodified riscv-tests programs (M mode, tohost), prints one line for\n"
		      "each, and exits with 0 if all passed.\n", out);
		return argc < 2 ? EXIT_USAGE : EXIT_OK;
	}
	for (int i = 1; i < argc; i++) {
		struct vd_error error = {0};
		uint64_t failed = 0;
		int rc = vd_vm_riscv_test(vd_env_hosted(), argv[i], 0, &failed, &error);

		if (rc)
			complain(0, "%s", error.text);
		printf("%s %s", rc || failed ? "FAIL" : "PASS", argv[i]);
		if (failed)
			printf(" (test %llu)", (unsigned long long)failed);
		putchar('\n');
		failures += rc || failed;
	}
	return failures ? EXIT_FAILED : EXIT_OK;
}
