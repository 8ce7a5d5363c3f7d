/* SPDX-License-Identifier: BSD-2-Clause */
/* E3: plain clients see pages, those that ask see offsets within them. */
#include "rig.h"

static struct vd_device *create(struct rig *rig, struct toy *toy, struct vd_group *group, bool pad)
{
	struct vd_pci_function_config config;
	struct vd_error error = {0};

	memset(toy, 0, sizeof(*toy));
	config = toy_config(rig, toy);
	config.bars[1].area_count = 1;
	config.bars[1].areas[0] = (struct vd_region_area){0, 256};
	config.bars[4] = (struct vd_pci_bar){0};
	config.bars[5] = (struct vd_pci_bar){.size = 512, .area_count = 1, .areas = {{0, 512}}};
	config.group = group;
	config.pad = pad;
	if (vd_pci_function_create(&config, &toy->device, &error))
		fail_msg("%s", error.text);
	return toy->device;
}

static void test_whole_pages(void **state)
{
	struct vd_pci_announcement a;
	struct vd_device *device;
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	device = create(&rig, &toy, NULL, true);
	vd_pci_announce(device, 0, 4096, false, &a);
	assert_true(a.fd >= 0);
	assert_int_equal(a.area_count, 1);
	assert_int_equal(a.areas[0].offset, TOY_DIRECT);
	assert_int_equal(a.areas[0].size, TOY_DIRECT_SIZE);
	assert_string_equal(a.reason, "registers that the device emulates");
	/* The same device to a client of larger pages. */
	vd_pci_announce(device, 0, 65536, false, &a);
	assert_int_equal(a.fd, -1);
	assert_int_equal(a.area_count, 0);
	vd_pci_announce(device, 2, 4096, false, &a);
	assert_int_equal(a.areas[0].size, toy_sizes[2]);
	assert_string_equal(a.reason, "");
	vd_pci_announce(device, 3, 4096, false, &a);
	assert_int_equal(a.fd, -1);
	vd_pci_announce(device, VD_REGION_CONFIG, 4096, false, &a);
	assert_int_equal(a.fd, -1);
	vd_pci_announce(device, 99, 4096, false, &a);
	assert_int_equal(a.fd, -1);
	vd_device_put(device);
	rig_close(&rig);
}

/* As QEMU expects it: the true size, at a page that is nobody else's. */
static void test_padded(void **state)
{
	struct vd_pci_announcement a, b;
	struct vd_device *device;
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	device = create(&rig, &toy, NULL, true);
	vd_pci_announce(device, 1, 4096, false, &a);
	vd_pci_announce(device, 5, 4096, false, &b);
	assert_true(a.fd >= 0 && b.fd >= 0);
	assert_int_equal(a.areas[0].size, 256);
	assert_int_equal(b.areas[0].size, 512);
	assert_int_equal(a.offset & 4095, 0);
	assert_int_equal(b.offset & 4095, 0);
	assert_int_not_equal(a.offset, b.offset);
	assert_string_equal(a.reason, "");
	vd_device_put(device);
	rig_close(&rig);
}

static void test_packed(void **state)
{
	struct vd_pci_announcement a, b;
	struct vd_device *device;
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	device = create(&rig, &toy, NULL, false);
	for (unsigned i = 1; i <= 5; i += 4) {
		vd_pci_announce(device, i, 4096, false, &a);
		assert_int_equal(a.fd, -1);
		assert_int_equal(a.offset, 0);
		assert_non_null(strstr(a.reason, "shares its page with toy BAR"));
	}
	vd_pci_announce(device, 1, 4096, true, &a);
	vd_pci_announce(device, 5, 4096, true, &b);
	assert_true(a.fd >= 0 && a.fd == b.fd);
	assert_int_equal(a.offset, 0);
	assert_int_equal(b.offset, 512);
	assert_int_equal(b.areas[0].size, 512);
	vd_device_put(device);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_pages),
		cmocka_unit_test(test_padded),
		cmocka_unit_test(test_packed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
