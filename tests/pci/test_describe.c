/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

struct seen {
	unsigned count;
	struct vd_pci_capability_info infos[128];
};

static int note(void *context, const struct vd_pci_capability_info *info)
{
	struct seen *seen = context;

	if (seen->count < 128)
		seen->infos[seen->count] = *info;
	seen->count++;
	return 0;
}

static void test_a_function_is_told(void **state)
{
	static struct seen seen;
	uint8_t config[4096];
	struct vd_pci_msix_place msix;
	struct toy toy;
	struct rig rig;

	(void)state;
	memset(&seen, 0, sizeof(seen));
	rig_open(&rig, true);
	toy_create(&rig, &toy);
	assert_int_equal(vd_device_read(toy.device, VD_REGION_CONFIG, (vd_region_offset){0}, config,
					sizeof(config)), 0);
	assert_int_equal(vd_pci_each_capability(config, sizeof(config), note, &seen), 0);
	assert_true(seen.count >= 3);
	assert_string_equal(seen.infos[0].name, "power management");
	assert_int_equal(seen.infos[0].offset, TOY_POWER);
	assert_string_equal(seen.infos[0].text, "version 3, D0");
	assert_string_equal(seen.infos[1].name, "MSI-X");
	assert_non_null(strstr(seen.infos[1].text, "5 vectors, enable-"));
	assert_non_null(strstr(seen.infos[1].text, "table in BAR 0 at 0xc000"));
	vd_pci_find_msix(config, sizeof(config), &msix);
	assert_int_equal(msix.vectors, TOY_VECTORS);
	assert_int_equal(msix.table_bar, 0);
	assert_int_equal(msix.table.offset, TOY_MSIX);
	assert_int_equal(msix.table.size, TOY_VECTORS * 16);
	assert_int_equal(msix.pba.size, 8);
	/* Only the first bytes can be read: as far as they go. */
	seen.count = 0;
	assert_int_equal(vd_pci_each_capability(config, TOY_POWER + 4, note, &seen), 0);
	assert_int_equal(seen.count, 1);
	assert_string_equal(seen.infos[0].text, "");
	vd_pci_find_msix(config, TOY_MSIX_CAPABILITY + 8, &msix);
	assert_int_equal(msix.vectors, 0);
	vd_device_put(toy.device);
	rig_close(&rig);
}

static int stop(void *context, const struct vd_pci_capability_info *info)
{
	(void)info;
	return ++*(int *)context == 2 ? 7 : 0;
}

static void test_extended_ones_and_an_end(void **state)
{
	static struct seen seen;
	uint8_t config[4096] = {0};
	int calls = 0;

	(void)state;
	memset(&seen, 0, sizeof(seen));
	vd_pci_put32(config + 0x100, PCI_EXT_CAP_ID_DSN | 1 << 16 | 0x140 << 20);
	vd_pci_put32(config + 0x104, 0x89abcdef);
	vd_pci_put32(config + 0x108, 0x01234567);
	vd_pci_put32(config + 0x140, PCI_EXT_CAP_ID_SRIOV | 1 << 16 | 0x180u << 20);
	vd_pci_put16(config + 0x140 + PCI_SRIOV_NUM_VF, 3);
	vd_pci_put16(config + 0x140 + PCI_SRIOV_TOTAL_VF, 64);
	vd_pci_put32(config + 0x180, 0xabcd | 1 << 16);
	assert_int_equal(vd_pci_each_capability(config, sizeof(config), note, &seen), 0);
	assert_int_equal(seen.count, 3);
	assert_string_equal(seen.infos[0].text, "0123456789abcdef");
	assert_string_equal(seen.infos[1].text, "3 of 64 virtual functions");
	assert_null(seen.infos[2].name);
	assert_true(seen.infos[2].extended);
	assert_int_equal(vd_pci_each_capability(config, sizeof(config), stop, &calls), 7);
}

/* Loops, ends beyond the end, all ones: bounded, and nothing outside is read. */
static void test_random_bytes(void **state)
{
	static struct seen seen;

	(void)state;
	test_start(0x5eed0044);
	for (unsigned round = 0; round < 4000; round++) {
		size_t length = below(4) ? below(300) : below(4097);
		uint8_t *config = malloc(length ? length : 1);
		struct vd_pci_msix_place msix;

		for (size_t i = 0; i < length; i++)
			config[i] = (uint8_t)(below(3) ? test_random(test_state())
						       : 0x40 + below(8) * 4);
		if (length > 0x40) {
			config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
			config[PCI_CAPABILITY_LIST] = (uint8_t)(0x40 + below(0xc0));
		}
		seen.count = 0;
		assert_int_equal(vd_pci_each_capability(config, length, note, &seen), 0);
		assert_true(seen.count <= 48 + 480);
		vd_pci_find_msix(config, length, &msix);
		assert_true(msix.vectors <= VD_PCI_MSIX_MAX);
		free(config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_function_is_told),
		cmocka_unit_test(test_extended_ones_and_an_end),
		cmocka_unit_test_teardown(test_random_bytes, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
