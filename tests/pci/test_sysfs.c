/* SPDX-License-Identifier: BSD-2-Clause */
/* The host's own devices, in trees that the test makes: good ones, odd ones, hostile ones. */
#include "rig.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sysfs_tree.h"

struct desk {
	struct test_env test;
	struct tree tree;
	struct vd_pci_sysfs *sysfs;
};

static void open_desk(struct desk *desk)
{
	memset(desk, 0, sizeof(*desk));
	test_env_init(&desk->test);
	tree_create(&desk->tree);
}

static void read_tree(struct desk *desk)
{
	struct vd_error error = {0};

	vd_pci_sysfs_close(desk->sysfs);
	desk->sysfs = NULL;
	if (vd_pci_sysfs_open(&desk->test.env, desk->tree.root, &desk->sysfs, &error))
		fail_msg("%s", error.text);
}

static void close_desk(struct desk *desk)
{
	vd_pci_sysfs_close(desk->sysfs);
	tree_remove(&desk->tree);
	assert_int_equal(desk->test.blocks, 0);
}

static const struct vd_pci_sysfs_view view_4k = {.page = 4096}, view_64k = {.page = 65536};

/* The text of a resource that is one part. */
static const char *text_of(struct desk *desk, const char *name, unsigned resource,
			   const struct vd_pci_sysfs_view *view)
{
	static char text[VD_PCI_PART_TEXT_BYTES];
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
	int index = vd_pci_sysfs_find(desk->sysfs, name);

	assert_true(index >= 0);
	assert_int_equal(vd_pci_sysfs_plan(desk->sysfs, (unsigned)index, resource, view, parts), 1);
	return vd_pci_part_text(parts, text, sizeof(text));
}

static void test_what_files_say(void **state)
{
	const struct vd_pci_sysfs_device *device;
	struct desk desk;

	(void)state;
	open_desk(&desk);
	tree_device(&desk.tree, "0000:00:04.0", 0x1af4, 0x1041, 0x020000);
	tree_device(&desk.tree, "0000:00:02.0", 0x1b36, 0x0010, 0x010802);
	tree_device(&desk.tree, "10000:e1:1f.7", 0x8086, 0x1234, 0x060400);
	tree_resource(&desk.tree, "0000:00:02.0", 0, 0xfe000000, 0x4000, 0x140204);
	tree_resource(&desk.tree, "0000:00:02.0", 3, 0xc000, 32, 0x40101);
	tree_group(&desk.tree, "0000:00:02.0", 7);
	tree_driver(&desk.tree, "0000:00:02.0", "nvme");
	read_tree(&desk);
	assert_int_equal(vd_pci_sysfs_count(desk.sysfs), 3);
	device = vd_pci_sysfs_device(desk.sysfs, 0);
	assert_string_equal(device->name, "00:02.0");
	assert_int_equal(device->identity.vendor, 0x1b36);
	assert_int_equal(device->identity.class_code, 0x010802);
	assert_int_equal(device->resources[0].address, 0xfe000000);
	assert_int_equal(device->resources[0].size, 0x4000);
	assert_int_equal(device->resources[0].flags, VD_PCI_RESOURCE_64);
	assert_int_equal(device->resources[3].flags, VD_PCI_RESOURCE_IO);
	assert_int_equal(device->group, 7);
	assert_string_equal(device->driver, "nvme");
	assert_string_equal(vd_pci_sysfs_device(desk.sysfs, 1)->name, "00:04.0");
	assert_string_equal(vd_pci_sysfs_device(desk.sysfs, 2)->name, "10000:e1:1f.7");
	assert_null(vd_pci_sysfs_device(desk.sysfs, 3));
	assert_int_equal(vd_pci_sysfs_find(desk.sysfs, "00:04.0"), 1);
	assert_int_equal(vd_pci_sysfs_find(desk.sysfs, "0000:00:04.0"), 1);
	assert_int_equal(vd_pci_sysfs_find(desk.sysfs, "/sys/bus/pci/devices/0000:00:04.0"), 1);
	assert_int_equal(vd_pci_sysfs_find(desk.sysfs, "00:05.0"), -ENOENT);
	assert_int_equal(vd_pci_sysfs_find(desk.sysfs, "disk.sock"), -EINVAL);
	assert_int_equal(vd_pci_sysfs_find(desk.sysfs, "00:20.0"), -EINVAL);
	assert_string_equal(text_of(&desk, "00:02.0", 0, &view_4k), "16 KiB, direct");
	assert_string_equal(text_of(&desk, "00:02.0", 3, &view_4k),
			    "32 bytes, trapped: I/O ports are no memory");
	close_desk(&desk);
}

static void test_small_bars_say_who_is_near(void **state)
{
	struct desk desk;

	(void)state;
	open_desk(&desk);
	tree_device(&desk.tree, "0000:00:03.0", 0x1af4, 0x1041, 0x020000);
	tree_device(&desk.tree, "0000:00:05.0", 0x1af4, 0x1042, 0x010000);
	tree_resource(&desk.tree, "0000:00:03.0", 0, 0xfe000000, 256, 0x40200);
	tree_resource(&desk.tree, "0000:00:05.0", 2, 0xfe000800, 256, 0x40200);
	tree_resource(&desk.tree, "0000:00:05.0", 4, 0xfe002000, 256, 0x40200);
	tree_resource(&desk.tree, "0000:00:05.0", 5, 0xfe003000, 4096, 0x40200);
	tree_resource(&desk.tree, "0000:00:05.0", VD_PCI_RESOURCE_ROM, 0xfe010000, 4096, 0x46200);
	read_tree(&desk);
	assert_string_equal(text_of(&desk, "00:05.0", 2, &view_4k),
			    "256 bytes, trapped: shares its page with 00:03.0 BAR 0");
	assert_string_equal(text_of(&desk, "00:05.0", 4, &view_4k),
			    "256 bytes, trapped: nothing keeps the rest of its page free");
	assert_string_equal(text_of(&desk, "00:05.0", 5, &view_4k), "4 KiB, direct");
	assert_string_equal(text_of(&desk, "00:05.0", 5, &view_64k),
			    "4 KiB, trapped: shares its page with 00:03.0 BAR 0");
	/* Who is bound to vfio-pci has the rest of a page that it begins. */
	tree_driver(&desk.tree, "0000:00:05.0", "vfio-pci");
	read_tree(&desk);
	assert_string_equal(text_of(&desk, "00:05.0", 4, &view_4k), "256 bytes, direct");
	assert_string_equal(text_of(&desk, "00:05.0", 2, &view_4k),
			    "256 bytes, trapped: shares its page with 00:03.0 BAR 0");
	close_desk(&desk);
}

/* Three functions of a USB controller in one page of 64 KiB, as on the machines of E5. */
static void test_a_group_in_one_page(void **state)
{
	static const char *const names[] = {"0001:00:01.0", "0001:00:01.1", "0001:00:01.2"};
	struct vd_pci_sysfs_view shared = {.page = 65536, .platform = true};
	struct desk desk;

	(void)state;
	open_desk(&desk);
	for (unsigned i = 0; i < 3; i++) {
		tree_device(&desk.tree, names[i], 0x1033, 0x0035, 0x0c0310);
		tree_resource(&desk.tree, names[i], 0, 0x80000000 + i * 4096, 4096, 0x40200);
		tree_group(&desk.tree, names[i], 4);
		tree_driver(&desk.tree, names[i], "vfio-pci");
	}
	read_tree(&desk);
	assert_true(vd_pci_sysfs_group_whole(desk.sysfs, 0));
	assert_string_equal(text_of(&desk, "0001:00:01.0", 0, &view_64k),
			    "4 KiB, trapped: shares its page with 0001:00:01.1 BAR 0, and the "
			    "platform lets no group share one");
	assert_string_equal(text_of(&desk, "0001:00:01.0", 0, &shared), "4 KiB, direct");
	assert_string_equal(text_of(&desk, "0001:00:01.2", 0, &shared), "4 KiB, direct");
	assert_string_equal(text_of(&desk, "0001:00:01.2", 0, &view_4k), "4 KiB, direct");
	/* One of them is somebody else's. */
	tree_driver(&desk.tree, names[2], "ohci-pci");
	read_tree(&desk);
	assert_false(vd_pci_sysfs_group_whole(desk.sysfs, 0));
	assert_string_equal(text_of(&desk, "0001:00:01.0", 0, &shared),
			    "4 KiB, trapped: shares its page with 0001:00:01.1 BAR 0, of a group "
			    "that others use too");
	close_desk(&desk);
}

static void test_a_group_has_members_that_are_no_pci_devices(void **state)
{
	struct desk desk;

	(void)state;
	open_desk(&desk);
	tree_device(&desk.tree, "0000:00:03.0", 0x1af4, 0x1041, 0x020000);
	tree_group(&desk.tree, "0000:00:03.0", 4);
	read_tree(&desk);
	assert_true(vd_pci_sysfs_group_whole(desk.sysfs, 0));
	tree_stranger(&desk.tree, 4, "fe000000.dma");
	read_tree(&desk);
	assert_false(vd_pci_sysfs_group_whole(desk.sysfs, 0));
	assert_false(vd_pci_sysfs_group_whole(desk.sysfs, 1));
	close_desk(&desk);
}

static void test_tables_are_hidden_at_each_page_size(void **state)
{
	struct vd_pci_sysfs_view isolated = {.page = 65536, .isolated = true};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
	struct desk desk;

	(void)state;
	open_desk(&desk);
	tree_device(&desk.tree, "0000:00:03.0", 0x1af4, 0x1041, 0x020000);
	tree_resource(&desk.tree, "0000:00:03.0", 0, 0xfe000000, 0x20000, 0x40200);
	tree_resource(&desk.tree, "0000:00:03.0", 1, 0xfe020000, 0x4000, 0x40200);
	tree_resource(&desk.tree, "0000:00:03.0", 2, 0xfe024000, 0x1000, 0x40200);
	tree_msix(&desk.tree, "0000:00:03.0", 4, 0x2000 | 0, 0x1000 | 1);
	read_tree(&desk);
	assert_int_equal(vd_pci_sysfs_plan(desk.sysfs, 0, 0, &view_4k, parts), 3);
	assert_int_equal(parts[1].offset, 0x2000);
	assert_int_equal(parts[1].size, 0x1000);
	assert_int_equal(parts[1].why, VD_PCI_WHY_MSIX);
	assert_int_equal(vd_pci_sysfs_plan(desk.sysfs, 0, 0, &view_64k, parts), 2);
	assert_int_equal(parts[0].size, 0x10000);
	assert_int_equal(parts[0].why, VD_PCI_WHY_MSIX);
	assert_int_equal(vd_pci_sysfs_plan(desk.sysfs, 0, 0, &isolated, parts), 1);
	assert_int_equal(parts[0].why, VD_PCI_DIRECT);
	/* BAR 2 lies in a page of 64 KiB with the pending bits of BAR 1, in none of 4 KiB. */
	assert_string_equal(text_of(&desk, "00:03.0", 2, &view_4k), "4 KiB, direct");
	assert_string_equal(text_of(&desk, "00:03.0", 2, &view_64k),
			    "4 KiB, trapped: shares its page with the MSI-X table of 00:03.0 BAR "
			    "1");
	close_desk(&desk);
}

static void test_nothing_is_there(void **state)
{
	struct vd_error error = {0};
	char path[160];
	struct desk desk;

	(void)state;
	open_desk(&desk);
	read_tree(&desk);
	assert_int_equal(vd_pci_sysfs_count(desk.sysfs), 0);
	snprintf(path, sizeof(path), "%s/bus/pci/devices", desk.tree.root);
	assert_int_equal(rmdir(path), 0);
	read_tree(&desk);
	assert_int_equal(vd_pci_sysfs_count(desk.sysfs), 0);
	snprintf(path, sizeof(path), "%s/nowhere", desk.tree.root);
	vd_pci_sysfs_close(desk.sysfs);
	desk.sysfs = NULL;
	assert_int_equal(vd_pci_sysfs_open(&desk.test.env, path, &desk.sysfs, &error), -ENOENT);
	assert_non_null(strstr(error.text, "nowhere"));
	close_desk(&desk);
}

static void test_odd_trees(void **state)
{
	const struct vd_pci_sysfs_device *device;
	struct desk desk;

	(void)state;
	open_desk(&desk);
	tree_device(&desk.tree, "0000:00:03.0", 0x1af4, 0x1041, 0x020000);
	/* Names that are no addresses, a device without an identity, a loop. */
	tree_device(&desk.tree, "0000:00:03.8", 1, 1, 1);
	tree_device(&desk.tree, "0000:00:20.0", 1, 1, 1);
	tree_device(&desk.tree, "123456789:00:00.0", 1, 1, 1);
	tree_device(&desk.tree, "0000:00:03.0x", 1, 1, 1);
	tree_device(&desk.tree, "something", 1, 1, 1);
	tree_device(&desk.tree, "0000:00:06.0", 1, 1, 1);
	tree_file(&desk.tree, "0000:00:06.0", "vendor", "-1\n", 3);
	tree_device(&desk.tree, "0000:00:07.0", 1, 1, 1);
	tree_file(&desk.tree, "0000:00:07.0", "class", "0x1234567\n", 10);
	tree_link(&desk.tree, "0000:00:08.0", "0000:00:08.0");
	/* Not a file but a pipe: nobody waits for it. */
	tree_pipe(&desk.tree, "0000:00:03.0", "resource");
	tree_group_link(&desk.tree, "0000:00:03.0", "../../../kernel/iommu_groups/99999999999");
	tree_driver(&desk.tree, "0000:00:03.0", "a-name-much-longer-than-any-driver-has");
	read_tree(&desk);
	assert_int_equal(vd_pci_sysfs_count(desk.sysfs), 1);
	assert_int_equal(vd_pci_sysfs_left_out(desk.sysfs), 8);
	device = vd_pci_sysfs_device(desk.sysfs, 0);
	assert_int_equal(device->group, -1);
	assert_string_equal(device->driver, "");
	for (unsigned i = 0; i < VD_PCI_RESOURCES; i++)
		assert_int_equal(device->resources[i].size, 0);
	close_desk(&desk);
}

static void test_odd_resources(void **state)
{
	static const char text[] =
		"0x00000000fe000000 0x00000000fdffffff 0x0000000000040200\n" /* ends too early */
		"0x0000000000000000 0xffffffffffffffff 0x0000000000040200\n" /* everything */
		"0x0000000000000000 0x0000000000000fff 0x0000000020040200\n" /* not assigned */
		"not a number\n"
		"0xfe000000 0xfe000fff\n"
		"0xfffffffffffff000 0xffffffffffffffff 0x0000000000040200 more\n"
		"0x1fffffffffffffffff 0x1ffffffffffffffffff 0x200\n"
		"0xfffffffffffff000 0xffffffffffffffff 0x0000000000040200\n";
	struct desk desk;

	(void)state;
	open_desk(&desk);
	tree_device(&desk.tree, "0000:00:03.0", 0x1af4, 0x1041, 0x020000);
	tree_file(&desk.tree, "0000:00:03.0", "resource", text, sizeof(text) - 1);
	read_tree(&desk);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(vd_pci_sysfs_device(desk.sysfs, 0)->resources[i].size, 0);
	assert_string_equal(text_of(&desk, "00:03.0", 2, &view_4k),
			    "4 KiB, trapped: the host gave it no address");
	for (unsigned i = 3; i < 7; i++)
		assert_int_equal(vd_pci_sysfs_device(desk.sysfs, 0)->resources[i].size, 0);
	/* The very end of the address space. */
	assert_string_equal(text_of(&desk, "00:03.0", 7, &view_4k), "4 KiB, direct");
	assert_string_equal(text_of(&desk, "00:03.0", 7, &view_64k),
			    "4 KiB, trapped: nothing keeps the rest of its page free");
	close_desk(&desk);
}

/* More neighbours than are kept: the rest is nobody's friend. */
static void test_a_crowded_page(void **state)
{
	struct vd_pci_sysfs_view shared = {.page = 65536, .platform = true};
	struct desk desk;
	char name[32];

	(void)state;
	open_desk(&desk);
	for (unsigned i = 0; i < 80; i++) {
		snprintf(name, sizeof(name), "0000:%02x:%02x.0", i / 32, i % 32);
		tree_device(&desk.tree, name, 1, 2, 0xff0000);
		tree_resource(&desk.tree, name, 0, 0xfe000000 + i * 256, 256, 0x40200);
		tree_driver(&desk.tree, name, "vfio-pci");
		if (i < 70)
			tree_group(&desk.tree, name, 3);
	}
	read_tree(&desk);
	assert_non_null(strstr(text_of(&desk, "00:00.0", 0, &shared), "trapped: shares its page"));
	close_desk(&desk);
}

static void test_random_files(void **state)
{
	static const char *const files[] = {"vendor", "class", "resource", "config"};
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
	struct desk desk;

	(void)state;
	test_start(0x5eed0045);
	open_desk(&desk);
	tree_device(&desk.tree, "0000:00:03.0", 0x1af4, 0x1041, 0x020000);
	tree_device(&desk.tree, "0000:00:04.0", 0x1af4, 0x1041, 0x020000);
	tree_resource(&desk.tree, "0000:00:04.0", 0, 0xfe000000, 256, 0x40200);
	for (unsigned round = 0; round < 400; round++) {
		char text[2048];
		size_t length = below(sizeof(text));

		for (size_t i = 0; i < length; i++)
			text[i] = below(2) ? "0123456789abcdefx \n"[below(19)]
					   : (char)test_random(test_state());
		tree_file(&desk.tree, "0000:00:03.0", files[below(4)], text, length);
		if (!below(4))
			tree_file(&desk.tree, "0000:00:03.0", "vendor", "0x1af4\n", 7);
		if (!below(4))
			tree_file(&desk.tree, "0000:00:03.0", "class", "0x20000\n", 8);
		read_tree(&desk);
		for (unsigned n = 0; n < vd_pci_sysfs_count(desk.sysfs); n++)
			for (unsigned i = 0; i < VD_PCI_RESOURCES; i++)
				(void)vd_pci_sysfs_plan(desk.sysfs, n, i, &view_64k, parts);
	}
	close_desk(&desk);
}

static void test_without_memory(void **state)
{
	struct vd_error error = {0};
	struct desk desk;
	int rc = -ENOMEM;

	(void)state;
	open_desk(&desk);
	tree_device(&desk.tree, "0000:00:03.0", 0x1af4, 0x1041, 0x020000);
	tree_device(&desk.tree, "0000:00:04.0", 0x1af4, 0x1041, 0x020000);
	for (long step = 1; rc; step++) {
		assert_int_equal(rc, -ENOMEM);
		test_env_fail(&desk.test, step, -ENOMEM);
		rc = vd_pci_sysfs_open(&desk.test.env, desk.tree.root, &desk.sysfs, &error);
		test_env_fail(&desk.test, 0, 0);
		if (rc)
			assert_int_equal(desk.test.blocks, 0);
		assert_true(step < 10);
	}
	assert_int_equal(vd_pci_sysfs_count(desk.sysfs), 2);
	close_desk(&desk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_files_say),
		cmocka_unit_test(test_small_bars_say_who_is_near),
		cmocka_unit_test(test_a_group_in_one_page),
		cmocka_unit_test(test_a_group_has_members_that_are_no_pci_devices),
		cmocka_unit_test(test_tables_are_hidden_at_each_page_size),
		cmocka_unit_test(test_nothing_is_there),
		cmocka_unit_test(test_odd_trees),
		cmocka_unit_test(test_odd_resources),
		cmocka_unit_test(test_a_crowded_page),
		cmocka_unit_test_teardown(test_random_files, test_seed_print),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
