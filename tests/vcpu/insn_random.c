/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random programs on our hart and under QEMU's user mode: all they leave must be equal.
 *
 * A difference is narrowed down to an item of the program. With arguments SEED
 * KINDS (enum insn_kind) SETTING (index below) only that program is run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "insn_hart.h"
#include "insn_qemu.h"

#define FIRST_SEED UINT64_C(0x1570)
#define ITEMS 800
#define SKIPPED 77 /* the exit status by which meson counts a test as skipped */

static const struct insn_setting settings[] = {
	{ INSN_BARE, false, false },
	{ INSN_SV39, false, false },
	{ INSN_SV48, true, false },
	{ INSN_SV57, false, true },
	{ INSN_SV39, true, true },
};

#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

static struct insn_machine *machine;
static struct insn_program program;
static struct insn_data ours, theirs;

static void generate(uint64_t seed, unsigned int kinds, unsigned int items)
{
	insn_program_generate(&program, seed, kinds, items);
}

/* Whether the first items of a program do the same on both. */
static bool agrees(uint64_t seed, unsigned int kinds, unsigned int items)
{
	generate(seed, kinds, items);
	memset(&ours, 0, sizeof(ours));
	memset(&theirs, 0, sizeof(theirs));
	if (insn_qemu_run(&program, &theirs))
		fail_msg("seed %#llx, kinds %#x: QEMU did not run it", (unsigned long long)seed,
			 kinds);
	return insn_machine_run(machine, &program, &ours) == 0 &&
	       memcmp(&ours, &theirs, sizeof(ours)) == 0;
}

static void print_difference(void)
{
	const uint64_t *our = (const uint64_t *)&ours, *their = (const uint64_t *)&theirs;

	for (size_t i = 0; i < sizeof(ours) / sizeof(*our); i++) {
		if (our[i] == their[i])
			continue;
		if (i < 32)
			fprintf(stderr, "  x%zu", i);
		else if (i < 64)
			fprintf(stderr, "  f%zu", i - 32);
		else if (i == 64)
			fprintf(stderr, "  fcsr");
		else
			fprintf(stderr, "  scratch+%#zx",
				i * sizeof(*our) - offsetof(struct insn_data, scratch));
		fprintf(stderr, " ours %#llx QEMU's %#llx\n", (unsigned long long)our[i],
			(unsigned long long)their[i]);
	}
}

static void explain(uint64_t seed, unsigned int kinds)
{
	unsigned int same = 0, different = ITEMS;
	size_t end;

	while (different - same > 1) {
		unsigned int middle = (same + different) / 2;

		if (agrees(seed, kinds, middle))
			same = middle;
		else
			different = middle;
	}
	generate(seed, kinds, same);
	end = program.code_bytes;
	agrees(seed, kinds, different);
	fprintf(stderr, "seed %#llx kinds %#x, item %u of %d at %#zx:", (unsigned long long)seed,
		kinds, different, ITEMS, INSN_BASE + program.last_item);
	/* Both end with the same epilogue, so the item is as long as the program grew. */
	end = program.last_item + (program.code_bytes - end);
	for (size_t i = program.last_item; i < end; i += 2)
		fprintf(stderr, " %02x%02x", program.code[i + 1], program.code[i]);
	fprintf(stderr, "\n");
	print_difference();
}

static void check(unsigned int kinds, unsigned int programs)
{
#ifdef __SANITIZE_ADDRESS__
	programs = (programs + 3) / 4; /* all of them without sanitizers */
#endif
	for (unsigned int i = 0; i < programs; i++) {
		uint64_t seed = FIRST_SEED + i;

		if (agrees(seed, kinds, ITEMS))
			continue;
		explain(seed, kinds);
		fail_msg("seed %#llx differs", (unsigned long long)seed);
	}
}

static void test_integer(void **state)
{
	(void)state;
	check(INSN_INTEGER, 15);
}

static void test_control_flow(void **state)
{
	(void)state;
	check(INSN_INTEGER | INSN_CONTROL, 15);
}

static void test_memory(void **state)
{
	(void)state;
	check(INSN_INTEGER | INSN_MEMORY | INSN_ATOMIC, 15);
}

static void test_float(void **state)
{
	(void)state;
	check(INSN_FLOAT, 30);
}

static void test_compressed(void **state)
{
	(void)state;
	check(INSN_COMPRESSED | INSN_INTEGER | INSN_CONTROL, 15);
}

static void test_everything(void **state)
{
	(void)state;
	check(INSN_ALL, 60);
}

/* Page tables of the guest's own change nothing. */
static void test_paging(void **state)
{
	(void)state;
	check(INSN_ALL, 12);
}

static int set_up(void **state)
{
	machine = insn_machine_create(*state, 1);
	return machine ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	insn_machine_destroy(machine);
	return 0;
}

static int run_one(uint64_t seed, unsigned int kinds, unsigned int setting)
{
	void *state = (void *)&settings[setting];
	bool same;

	if (set_up(&state))
		return 1;
	same = agrees(seed, kinds, ITEMS);
	if (!same)
		explain(seed, kinds);
	tear_down(NULL);
	return !same;
}

int main(int argc, char **argv)
{
#define IN(test, setting)                                                                          \
	{ #test " in " #setting, test, set_up, tear_down, (void *)&settings[setting] }
	enum { BARE, SV39, SV48_SUPERPAGE, SV57_SVADU, SV39_SUPERPAGE_SVADU };
	const struct CMUnitTest tests[] = {
		IN(test_integer, BARE),
		IN(test_control_flow, BARE),
		IN(test_memory, BARE),
		IN(test_float, BARE),
		IN(test_compressed, BARE),
		IN(test_everything, BARE),
		IN(test_paging, SV39),
		IN(test_paging, SV48_SUPERPAGE),
		IN(test_paging, SV57_SVADU),
		IN(test_paging, SV39_SUPERPAGE_SVADU),
	};
#undef IN

	if (!insn_qemu_available()) {
		print_message("skipped: qemu-riscv64 is not installed (Debian: qemu-user)\n");
		return SKIPPED;
	}
	if (argc == 4)
		return run_one(strtoull(argv[1], NULL, 0), (unsigned int)strtoul(argv[2], NULL, 0),
			       (unsigned int)strtoul(argv[3], NULL, 0) % SETTINGS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
