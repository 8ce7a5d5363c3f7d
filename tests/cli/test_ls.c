/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `viaduct ls` of the host's own devices, in a tree that the test makes.
 *
 * usage: test_ls VIADUCT
 */
#include "program.h"

#include <json-c/json.h>

#include "../pci/sysfs_tree.h"

enum { FAILED = 1, USAGE = 2 };

static struct tree tree;

static int create(void **state)
{
	(void)state;
	tree_create(&tree);
	tree_device(&tree, "0000:00:03.0", 0x1af4, 0x1041, 0x020000);
	tree_device(&tree, "0000:00:05.0", 0x1af4, 0x1042, 0x010000);
	tree_resource(&tree, "0000:00:03.0", 0, 0xfe000000, 256, 0x40200);
	tree_resource(&tree, "0000:00:05.0", 0, 0xfe010000, 0x4000, 0x40200);
	tree_resource(&tree, "0000:00:05.0", 2, 0xfe000800, 256, 0x40200);
	tree_msix(&tree, "0000:00:05.0", 4, 0x2000, 0x3000);
	tree_group(&tree, "0000:00:03.0", 4);
	tree_group(&tree, "0000:00:05.0", 4);
	tree_driver(&tree, "0000:00:05.0", "vfio-pci");
	return 0;
}

static int destroy(void **state)
{
	(void)state;
	tree_remove(&tree);
	return 0;
}

static void all_of_them(void **state)
{
	(void)state;
	EXPECT(0, "BAR 2: 256 bytes, trapped: shares its page with 00:03.0 BAR 0", "ls", "--sysfs",
	       tree.root);
	EXPECT(0, "[1af4:1041], group 4, no driver", "ls", "--sysfs", tree.root);
	EXPECT(0, "from 0x2000: 8 KiB, trapped: the page holds the MSI-X table", "ls", "--sysfs",
	       tree.root);
	EXPECT(0, "BAR 0: 16 KiB, trapped: the page holds the MSI-X table", "ls", "--sysfs",
	       tree.root, "--page-size", "16K");
	EXPECT(0, "BAR 0: 16 KiB, direct", "ls", "--sysfs", tree.root, "--isolated");
}

static void one_of_them(void **state)
{
	(void)state;
	EXPECT(0, "capability 11 at 0x040: MSI-X: 4 vectors", "ls", "00:05.0", "--sysfs",
	       tree.root);
	EXPECT(0, "IOMMU group 4, with 00:03.0 (no driver); can be one user's as a whole", "ls",
	       "0000:00:05.0", "--sysfs", tree.root);
	EXPECT(FAILED, "there is no such PCI device", "ls", "00:06.0", "--sysfs", tree.root);
}

static void as_json(void **state)
{
	static struct program program;
	struct json_object *o, *devices, *bars, *parts, *reason;

	(void)state;
	program_start(&program, (const char *const[]){"ls", "--json", "00:05.0", "--sysfs",
						      tree.root, NULL});
	program_finish(&program);
	assert_int_equal(program.code, 0);
	o = json_tokener_parse(program.out);
	assert_non_null(o);
	assert_true(json_object_object_get_ex(o, "devices", &devices));
	assert_int_equal(json_object_array_length(devices), 1);
	assert_true(json_object_object_get_ex(json_object_array_get_idx(devices, 0), "bars",
					      &bars));
	assert_int_equal(json_object_array_length(bars), 2);
	assert_true(json_object_object_get_ex(json_object_array_get_idx(bars, 1), "parts",
					      &parts));
	assert_true(json_object_object_get_ex(json_object_array_get_idx(parts, 0), "reason",
					      &reason));
	assert_non_null(strstr(json_object_get_string(reason), "shares its page with 00:03.0 BAR"));
	json_object_put(o);
}

/* Wherever the tests run: with PCI, without, in a container. */
static void the_machine_itself(void **state)
{
	(void)state;
	EXPECT(0, "", "ls");
	EXPECT(0, "\"devices\"", "ls", "--json");
	EXPECT(FAILED, "/nowhere", "ls", "--sysfs", "/nowhere");
}

static void bad_command_lines(void **state)
{
	(void)state;
	EXPECT(0, "usage: viaduct ls", "ls", "--help");
	EXPECT(USAGE, "no page size", "ls", "--page-size", "5K");
	EXPECT(USAGE, "no page size", "ls", "--page-size", "2K");
	EXPECT(USAGE, "unknown option", "ls", "--pages");
	EXPECT(USAGE, "one device at a time", "ls", "00:01.0", "00:02.0");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_them),
		cmocka_unit_test(one_of_them),
		cmocka_unit_test(as_json),
		cmocka_unit_test(the_machine_itself),
		cmocka_unit_test(bad_command_lines),
	};

	if (argc != 2)
		return 2;
	program_set_path(argv[1]);
	return cmocka_run_group_tests(tests, create, destroy);
}
