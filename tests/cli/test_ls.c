/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `viaduct ls` of the host's own devices, in a tree that the test makes, and of one that it serves.
 *
 * usage: test_ls VIADUCT
 */
#include "program.h"

#include <json-c/json.h>

#include <pthread.h>
#include <unistd.h>

#include <viaduct/device.h>
#include <viaduct/vfio_user.h>

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

/* ---- a served device ---- */

static void *run_server(void *server)
{
	vd_user_server_run(server);
	return NULL;
}

static void served(void **state)
{
	static struct program program;
	struct vd_host_config host_config = {.env = vd_env_hosted()};
	struct vd_user_server_config server_config = {.env = vd_env_hosted()};
	struct vd_dma_config dma_config = {.env = vd_env_hosted()};
	struct vd_display_config display = {.env = vd_env_hosted()};
	struct vd_user_export_config export = {.fd = -1};
	struct vd_user_server *server;
	struct vd_user_export *added;
	struct json_object *o, *devices, *value;
	struct vd_host *host;
	pthread_t thread;
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/tmp/viaduct-ls.%d", (int)getpid());
	assert_int_equal(vd_host_create(&host_config, &host, NULL), 0);
	server_config.host = dma_config.host = display.host = host;
	assert_int_equal(vd_user_server_create(&server_config, &server, NULL), 0);
	assert_int_equal(vd_dma_space_create(&dma_config, &export.space, NULL), 0);
	assert_int_equal(vd_display_create(&display, &export.device, NULL), 0);
	export.path = path;
	assert_int_equal(vd_user_server_add(server, &export, &added, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_server, server), 0);
	EXPECT(0, "[1234:1111] (rev 02)", "ls", path);
	EXPECT(0, "server: vfio-user 0.1", "ls", path);
	EXPECT(0, "MiB, direct", "ls", path);
	EXPECT(0, "trapped: registers that the device emulates", "ls", path);
	EXPECT(FAILED, "no vfio-user server at /tmp/nobody/here", "ls", "/tmp/nobody/here");
	program_start(&program, (const char *const[]){"ls", "--json", path, NULL});
	program_finish(&program);
	assert_int_equal(program.code, 0);
	o = json_tokener_parse(program.out);
	assert_true(json_object_object_get_ex(o, "devices", &devices));
	assert_true(json_object_object_get_ex(json_object_array_get_idx(devices, 0), "vendor",
					      &value));
	assert_int_equal(json_object_get_int(value), 0x1234);
	json_object_put(o);
	vd_user_server_stop(server);
	pthread_join(thread, NULL);
	vd_user_server_destroy(server);
	vd_device_put(export.device);
	vd_dma_space_destroy(export.space);
	vd_host_destroy(host);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_them),
		cmocka_unit_test(one_of_them),
		cmocka_unit_test(as_json),
		cmocka_unit_test(served),
		cmocka_unit_test(the_machine_itself),
		cmocka_unit_test(bad_command_lines),
	};

	if (argc != 2)
		return 2;
	program_set_path(argv[1]);
	return cmocka_run_group_tests(tests, create, destroy);
}
