/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

static void refuse(struct vd_pci_host_config config, int code)
{
	struct vd_error error = {0};
	struct vd_pci_host *host = NULL;

	assert_int_equal(vd_pci_host_create(&config, &host, &error), code);
	assert_int_equal(error.code, code);
	assert_true(strlen(error.text) > 10);
	assert_null(host);
}

static void test_bad_bridges_are_refused(void **state)
{
	struct vd_pci_host_config good, bad;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	vd_pci_host_destroy(rig.pci);
	good = rig_config(&rig, true);
	bad = good;
	bad.buses = 0;
	refuse(bad, -EINVAL);
	bad.buses = 257;
	refuse(bad, -EINVAL);
	bad = good;
	bad.ecam.value += 0x1000;
	refuse(bad, -EINVAL);
	bad = good;
	bad.msi = NULL;
	refuse(bad, -EINVAL);
	bad = good;
	bad.low.value += 0x100;
	refuse(bad, -EINVAL);
	bad = good;
	bad.low_size = UINT64_C(1) << 32;
	refuse(bad, -EINVAL);
	bad = good;
	bad.high.value = LOW + 0x1000;
	refuse(bad, -EINVAL);
	bad = good;
	bad.high_size = 0 - HIGH;
	refuse(bad, -EINVAL);
	bad = good;
	bad.high_size = UINT64_C(1) << 60;
	refuse(bad, -EOVERFLOW);
	bad = good;
	bad.low_size = RAM - LOW + 0x1000; /* over RAM */
	refuse(bad, -EEXIST);
	bad = good;
	bad.ecam.value = RAM;
	refuse(bad, -EEXIST);
	assert_int_equal(vd_mem_slot_count(rig.mem), 1);
	assert_int_equal(vd_pci_host_create(&good, &rig.pci, NULL), 0);
	check_windows(&rig);
	rig_close(&rig);
}

static void test_an_empty_bus_is_all_ones(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	check_windows(&rig);
	for (unsigned slot = 0; slot < VD_PCI_SLOTS; slot++) {
		assert_int_equal(config_read(&rig, slot, PCI_VENDOR_ID, 4), 0xffffffff);
		config_write(&rig, slot, PCI_COMMAND, 2, 0xffff);
	}
	assert_int_equal(guest_read(&rig, LOW, 4), 0xffffffff);
	assert_int_equal(guest_read(&rig, HIGH + HIGH_SIZE - 8, 8), UINT64_MAX);
	guest_write(&rig, LOW + 0x1234, 2, 0);
	rig_close(&rig);
}

static void test_nobody_else_gets_into_the_windows(void **state)
{
	struct vd_slot_config slot = {.base = {LOW + PAGE}, .size = PAGE, .kind = VD_SLOT_RAM};
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	slot.object = rig.ram;
	assert_int_equal(vd_mem_add_slot(rig.mem, &slot, NULL, NULL), -EEXIST);
	rig_close(&rig);
}

static void test_plugging_places_and_leaves_off(void **state)
{
	struct vd_error error = {0};
	struct toy toy, second;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	toy_create(&rig, &toy);
	toy_create(&rig, &second);
	assert_int_equal(vd_pci_host_plug(rig.pci, toy.device, 32, &error), -EINVAL);
	assert_int_equal(vd_pci_host_plug(rig.pci, toy.device, 7, &error), 0);
	assert_int_equal(vd_pci_host_plug(rig.pci, second.device, 7, &error), -EBUSY);
	assert_true(strlen(error.text) > 10);
	assert_int_equal(vd_pci_host_plug(rig.pci, second.device, 8, &error), 0);
	assert_int_equal(config_read(&rig, 7, PCI_VENDOR_ID, 4), 0x42421af4);
	assert_int_equal(config_read(&rig, 7, PCI_COMMAND, 2), 0);
	for (unsigned slot = 7; slot <= 8; slot++) {
		for (unsigned i = 0; i < TOY_BARS; i++) {
			uint64_t base = bar_address(&rig, slot, toy_bars[i]);

			assert_int_equal(base % toy_sizes[i], 0);
			assert_int_equal(base % PAGE, 0);
			assert_true(i == 2 ? base >= HIGH : base >= LOW && base < LOW + LOW_SIZE);
		}
	}
	check_windows(&rig);
	assert_int_equal(vd_pci_host_unplug(rig.pci, 7), 0);
	assert_int_equal(vd_pci_host_unplug(rig.pci, 7), -ENOENT);
	assert_int_equal(vd_pci_host_unplug(rig.pci, 77), -ENOENT);
	assert_int_equal(config_read(&rig, 7, PCI_VENDOR_ID, 4), 0xffffffff);
	vd_device_put(toy.device);
	assert_int_equal(toy.releases, 1);
	vd_device_put(second.device);
	assert_int_equal(second.releases, 0);
	rig_close(&rig);
	assert_int_equal(second.releases, 1);
}

static void test_unplugging_takes_the_bars_along(void **state)
{
	struct toy toy;
	struct rig rig;
	uint64_t base;

	(void)state;
	rig_open(&rig, true);
	toy_create(&rig, &toy);
	assert_int_equal(vd_pci_host_plug(rig.pci, toy.device, 1, NULL), 0);
	vd_device_put(toy.device);
	config_write(&rig, 1, PCI_COMMAND, 2, 6);
	base = bar_address(&rig, 1, 2);
	assert_int_equal(slot_at(&rig, base).kind, VD_SLOT_DEVICE);
	assert_true(vd_pci_host_direct_pages(rig.pci) != 0);
	assert_int_equal(vd_pci_host_unplug(rig.pci, 1), 0);
	assert_int_equal(toy.releases, 1);
	assert_false(toy.bus_master);
	assert_int_equal(slot_at(&rig, base).kind, VD_SLOT_TRAP);
	assert_int_equal(guest_read(&rig, base, 8), UINT64_MAX);
	assert_int_equal(vd_pci_host_direct_pages(rig.pci), 0);
	check_windows(&rig);
	rig_close(&rig);
}

static void test_reset_is_power_on_with_bars_placed(void **state)
{
	struct vd_pci_host_stats stats;
	uint64_t home;
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	toy_create(&rig, &toy);
	assert_int_equal(vd_pci_host_plug(rig.pci, toy.device, 1, NULL), 0);
	home = bar_address(&rig, 1, 0);
	config_write(&rig, 1, PCI_BASE_ADDRESS_0, 4, home + 0x100000);
	config_write(&rig, 1, PCI_COMMAND, 2, 6);
	config_write(&rig, 1, TOY_MSIX_CAPABILITY + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	vd_pci_host_stats(rig.pci, &stats);
	assert_int_equal(stats.placed, TOY_BARS);
	assert_int_equal(stats.removed, 0);
	vd_pci_host_reset(rig.pci);
	assert_int_equal(toy.resets, 1);
	assert_int_equal(config_read(&rig, 1, PCI_COMMAND, 2), 0);
	assert_int_equal(bar_address(&rig, 1, 0), home);
	assert_int_equal(config_read(&rig, 1, TOY_MSIX_CAPABILITY + PCI_MSIX_FLAGS, 2),
			 TOY_VECTORS - 1);
	assert_int_equal(vd_pci_host_direct_pages(rig.pci), 0);
	vd_pci_host_stats(rig.pci, &stats);
	assert_int_equal(stats.removed, TOY_BARS);
	check_windows(&rig);
	vd_device_put(toy.device);
	rig_close(&rig);
}

struct seen {
	unsigned parts, direct, placed, stop_at;
	uint64_t bytes;
};

static int see_area(void *context, const struct vd_pci_area_info *area)
{
	struct seen *seen = context;

	assert_int_equal(area->slot, 1);
	assert_true(area->direct == !area->reason);
	assert_true(area->placed == !area->absent);
	assert_true(area->placed == (area->gpa.value != 0));
	seen->parts++;
	seen->direct += area->direct;
	seen->placed += area->placed;
	seen->bytes += area->size;
	return seen->parts == seen->stop_at ? 42 : 0;
}

static void test_areas_can_be_listed(void **state)
{
	struct seen off = {0}, on = {0}, stopped = {.stop_at = 2}, trapped = {0};
	struct toy toy;
	struct rig rig;

	(void)state;
	for (unsigned direct = 0; direct < 2; direct++) {
		rig_open(&rig, direct);
		toy_create(&rig, &toy);
		assert_int_equal(vd_pci_host_plug(rig.pci, toy.device, 1, NULL), 0);
		vd_device_put(toy.device);
		assert_int_equal(vd_pci_host_each_area(rig.pci, see_area, direct ? &off : &trapped),
				 0);
		set_memory(&rig, 1, true);
		check_windows(&rig);
		if (direct) {
			assert_int_equal(vd_pci_host_each_area(rig.pci, see_area, &on), 0);
			assert_int_equal(vd_pci_host_each_area(rig.pci, see_area, &stopped), 42);
		} else {
			assert_int_equal(vd_pci_host_direct_pages(rig.pci), 0);
		}
		rig_close(&rig);
	}
	assert_int_equal(off.bytes, 0x10000 + 0x100 + 0x200000 + 0x1000);
	assert_int_equal(off.direct, 3);
	assert_int_equal(off.placed, 0);
	assert_int_equal(on.parts, off.parts);
	assert_int_equal(on.placed, on.parts);
	assert_int_equal(trapped.direct, 0);
	assert_int_equal(stopped.parts, 2);
}

/* Each step that can fail fails once: nothing is left behind, and the next try works. */
static void test_plugging_may_fail_anywhere(void **state)
{
	struct vd_error error;
	struct toy toy;
	struct rig rig;
	long step;

	(void)state;
	rig_open(&rig, true);
	toy_create(&rig, &toy);
	for (step = 1; step < 1000; step++) {
		long blocks = rig.test.blocks;
		int rc;

		test_env_fail(&rig.test, step, -ENOMEM);
		rc = vd_pci_host_plug(rig.pci, toy.device, 3, &error);
		if (!test_env_failed(&rig.test)) {
			assert_int_equal(rc, 0);
			break;
		}
		assert_int_equal(rc, -ENOMEM);
		assert_int_equal(rig.test.blocks, blocks);
		test_env_fail(&rig.test, 0, 0);
		assert_int_equal(config_read(&rig, 3, 0, 4), 0xffffffff);
		check_windows(&rig);
	}
	assert_true(step > 1 && step < 1000);
	test_env_fail(&rig.test, 0, 0);
	vd_device_put(toy.device);
	rig_close(&rig);
}

static void test_a_bridge_may_fail_anywhere(void **state)
{
	struct vd_pci_host_config config;
	struct rig rig;
	long step;
	int rc = -1;

	(void)state;
	rig_open(&rig, true);
	vd_pci_host_destroy(rig.pci);
	config = rig_config(&rig, true);
	for (step = 1; step < 1000; step++) {
		test_env_fail(&rig.test, step, -ENOMEM);
		rc = vd_pci_host_create(&config, &rig.pci, NULL);
		if (!test_env_failed(&rig.test))
			break;
		assert_int_equal(rc, -ENOMEM);
		assert_int_equal(vd_mem_slot_count(rig.mem), 1);
	}
	assert_int_equal(rc, 0);
	assert_true(step > 1);
	/* And its end does not fail at all. */
	for (step = 1; step < 20; step++) {
		test_env_fail(&rig.test, step, -ENOMEM);
		vd_pci_host_destroy(rig.pci);
		assert_int_equal(vd_mem_slot_count(rig.mem), 1);
		test_env_fail(&rig.test, 0, 0);
		assert_int_equal(vd_pci_host_create(&config, &rig.pci, NULL), 0);
	}
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_bridges_are_refused),
		cmocka_unit_test(test_an_empty_bus_is_all_ones),
		cmocka_unit_test(test_nobody_else_gets_into_the_windows),
		cmocka_unit_test(test_plugging_places_and_leaves_off),
		cmocka_unit_test(test_unplugging_takes_the_bars_along),
		cmocka_unit_test(test_reset_is_power_on_with_bars_placed),
		cmocka_unit_test(test_areas_can_be_listed),
		cmocka_unit_test(test_plugging_may_fail_anywhere),
		cmocka_unit_test(test_a_bridge_may_fail_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
