/* SPDX-License-Identifier: BSD-2-Clause */
/* The device tree, read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/machine.h"

#define ROOM (64u << 10)

static struct device_tree_facts plain_facts(void)
{
	struct device_tree_facts facts = {.memory = 128 * MIB, .cpus = 1, .append = "console=ttyS0"};

	memset(facts.seed, 0x5a, sizeof(facts.seed));
	return facts;
}

static void *build(const struct device_tree_facts *facts)
{
	void *fdt = malloc(ROOM);
	int size = vd_device_tree_build(facts, fdt, ROOM);

	assert_true(size > 0);
	assert_int_equal(size, fdt_totalsize(fdt));
	assert_int_equal(fdt_check_full(fdt, (size_t)size), 0);
	return fdt;
}

static int node(const void *fdt, const char *path)
{
	int offset = fdt_path_offset(fdt, path);

	if (offset < 0)
		fail_msg("no node %s", path);
	return offset;
}

static const void *property(const void *fdt, const char *path, const char *name, int length)
{
	int found;
	const void *value = fdt_getprop(fdt, node(fdt, path), name, &found);

	if (!value || found != length)
		fail_msg("%s of %s: %d bytes, not %d", name, path, found, length);
	return value;
}

static uint32_t cell(const void *fdt, const char *path, const char *name)
{
	return fdt32_ld(property(fdt, path, name, 4));
}

static uint64_t wide(const void *fdt, const char *path, const char *name, unsigned int index,
		     unsigned int count)
{
	const fdt64_t *cells = property(fdt, path, name, (int)(8 * count));

	return fdt64_ld(&cells[index]);
}

static void expect_text(const void *fdt, const char *path, const char *name, const char *text)
{
	const char *value = property(fdt, path, name, (int)strlen(text) + 1);

	assert_string_equal(value, text);
}

static void the_board_is_described(void **state)
{
	const struct device_tree_facts facts = plain_facts();
	void *fdt = build(&facts);
	const char *imsic = "/soc/interrupt-controller@28000000", *pci = "/soc/pci@30000000";
	const fdt32_t *ranges;

	(void)state;
	expect_text(fdt, "/chosen", "bootargs", "console=ttyS0");
	expect_text(fdt, "/chosen", "stdout-path", "/soc/serial@10000000");
	assert_memory_equal(property(fdt, "/chosen", "rng-seed", 64), facts.seed, 64);
	assert_null(fdt_getprop(fdt, node(fdt, "/chosen"), "linux,initrd-start", NULL));
	assert_int_equal(wide(fdt, "/memory@80000000", "reg", 0, 2), VD_BOARD_RAM);
	assert_int_equal(wide(fdt, "/memory@80000000", "reg", 1, 2), 128 * MIB);
	expect_text(fdt, "/memory@80000000", "device_type", "memory");
	assert_int_equal(cell(fdt, "/cpus", "timebase-frequency"), VD_BOARD_TIMEBASE);
	expect_text(fdt, imsic, "compatible", "riscv,imsics");
	assert_int_equal(wide(fdt, imsic, "reg", 0, 2), VD_BOARD_IMSIC);
	assert_int_equal(wide(fdt, imsic, "reg", 1, 2), 4096);
	assert_int_equal(cell(fdt, imsic, "riscv,num-ids"), 255);
	property(fdt, imsic, "msi-controller", 0);
	expect_text(fdt, "/soc/serial@10000000", "compatible", "ns16550a");
	assert_int_equal(wide(fdt, "/soc/serial@10000000", "reg", 0, 2), VD_BOARD_UART);
	expect_text(fdt, pci, "compatible", "pci-host-ecam-generic");
	assert_int_equal(wide(fdt, pci, "reg", 0, 2), VD_BOARD_ECAM);
	assert_int_equal(wide(fdt, pci, "reg", 1, 2), MIB);
	assert_int_equal(cell(fdt, pci, "msi-parent"), cell(fdt, imsic, "phandle"));
	property(fdt, pci, "dma-coherent", 0);
	ranges = property(fdt, pci, "ranges", 2 * 7 * 4);
	assert_int_equal(fdt32_ld(&ranges[2]), VD_BOARD_PCI_LOW);
	assert_int_equal(fdt32_ld(&ranges[4]), VD_BOARD_PCI_LOW);
	assert_int_equal(fdt32_ld(&ranges[6]), GIB);
	assert_int_equal(fdt32_ld(&ranges[7]) >> 24, 0x43); /* 64 bits, prefetchable */
	assert_int_equal(fdt32_ld(&ranges[8]), VD_BOARD_PCI_HIGH >> 32);
	assert_int_equal(fdt32_ld(&ranges[12]), VD_BOARD_PCI_HIGH_SIZE >> 32);
	free(fdt);
}

static bool has_extension(const void *fdt, const char *path, const char *extension)
{
	return fdt_stringlist_search(fdt, node(fdt, path), "riscv,isa-extensions", extension) >= 0;
}

/* Each hart has a node, an interrupt controller of its own, and an entry in the IMSIC's list. */
static void every_hart_is_described(void **state)
{
	(void)state;
	for (unsigned int cpus = 1; cpus <= VD_BOARD_HARTS_MAX; cpus++) {
		struct device_tree_facts facts = plain_facts();
		const char *imsic = "/soc/interrupt-controller@28000000";
		const fdt32_t *list;
		char path[64];
		void *fdt;

		facts.cpus = cpus;
		facts.svadu = cpus % 2;
		fdt = build(&facts);
		list = property(fdt, imsic, "interrupts-extended", (int)(8 * cpus));
		assert_int_equal(wide(fdt, imsic, "reg", 1, 2), 4096 * cpus);
		for (unsigned int i = 0; i < cpus; i++) {
			const char *isa;

			snprintf(path, sizeof(path), "/cpus/cpu@%x", i);
			assert_int_equal(cell(fdt, path, "reg"), i);
			expect_text(fdt, path, "mmu-type", "riscv,sv57");
			isa = fdt_getprop(fdt, node(fdt, path), "riscv,isa", NULL);
			assert_memory_equal(isa, "rv64ima", 7);
			/* Both ways of saying it agree: Linux prefers the list. */
			assert_int_equal(!!strstr(isa, "svadu"), facts.svadu);
			assert_int_equal(has_extension(fdt, path, "svadu"), facts.svadu);
			assert_true(has_extension(fdt, path, "sstc"));
			assert_true(has_extension(fdt, path, "ssaia"));
			strcat(path, "/interrupt-controller");
			assert_int_equal(cell(fdt, path, "phandle"), fdt32_ld(&list[2 * i]));
			assert_int_equal(fdt32_ld(&list[2 * i + 1]), 9);
		}
		snprintf(path, sizeof(path), "/cpus/cpu@%x", cpus);
		assert_true(fdt_path_offset(fdt, path) < 0);
		free(fdt);
	}
}

static void memory_above_the_first_gib_lies_above_4_gib(void **state)
{
	struct device_tree_facts facts = plain_facts();
	void *fdt;

	(void)state;
	facts.memory = GIB;
	fdt = build(&facts);
	assert_int_equal(wide(fdt, "/memory@80000000", "reg", 1, 2), GIB);
	free(fdt);
	facts.memory = 3 * GIB + 2 * MIB;
	facts.initrd_start = 0x81000000;
	facts.initrd_end = 0x81234567;
	fdt = build(&facts);
	assert_int_equal(wide(fdt, "/memory@80000000", "reg", 1, 4), GIB);
	assert_int_equal(wide(fdt, "/memory@80000000", "reg", 2, 4), 4 * GIB);
	assert_int_equal(wide(fdt, "/memory@80000000", "reg", 3, 4), 2 * GIB + 2 * MIB);
	assert_int_equal(wide(fdt, "/chosen", "linux,initrd-start", 0, 1), 0x81000000);
	assert_int_equal(wide(fdt, "/chosen", "linux,initrd-end", 0, 1), 0x81234567);
	free(fdt);
}

/* The room is what it is: each size below the one needed is refused, and not exceeded. */
static void too_little_room_is_refused(void **state)
{
	const struct device_tree_facts facts = plain_facts();
	void *whole = build(&facts);
	int needed = (int)fdt_totalsize(whole);

	(void)state;
	for (int room = 0; room < needed; room += room < 64 ? 1 : 61) {
		void *fdt = malloc(room ? (size_t)room : 1); /* what lies behind it is watched */

		assert_int_equal(vd_device_tree_build(&facts, fdt, (size_t)room), -ENOSPC);
		free(fdt);
	}
	free(whole);
}

static void long_command_lines_fit_or_are_refused(void **state)
{
	struct device_tree_facts facts = plain_facts();
	char *text = calloc(1, 2 * ROOM);
	char *fdt = malloc(ROOM);
	void *whole;

	(void)state;
	memset(text, 'x', 60000);
	facts.append = text;
	whole = build(&facts);
	assert_int_equal(strlen(fdt_getprop(whole, node(whole, "/chosen"), "bootargs", NULL)),
			 60000);
	free(whole);
	memset(text, 'x', ROOM);
	assert_int_equal(vd_device_tree_build(&facts, fdt, ROOM), -ENOSPC);
	facts.append = NULL;
	whole = build(&facts);
	expect_text(whole, "/chosen", "bootargs", "");
	free(whole);
	free(fdt);
	free(text);
}

static void more_harts_than_there_can_be_are_refused(void **state)
{
	static const unsigned int lies[] = {0, VD_BOARD_HARTS_MAX + 1, 1000, UINT32_MAX};
	struct device_tree_facts facts = plain_facts();
	void *fdt = malloc(ROOM);

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		facts.cpus = lies[i];
		assert_int_equal(vd_device_tree_build(&facts, fdt, ROOM), -EINVAL);
	}
	free(fdt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_board_is_described),
		cmocka_unit_test(every_hart_is_described),
		cmocka_unit_test(memory_above_the_first_gib_lies_above_4_gib),
		cmocka_unit_test(too_little_room_is_refused),
		cmocka_unit_test(long_command_lines_fit_or_are_refused),
		cmocka_unit_test(more_harts_than_there_can_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
