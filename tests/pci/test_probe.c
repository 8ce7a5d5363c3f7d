/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

/* A device whose configuration space and regions are whatever the test says. */
struct stranger {
	uint8_t config[256];
	struct vd_region regions[VD_REGION_COUNT];
	struct vd_device *device;
	bool broken, read_only;
};

static int stranger_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	struct stranger *stranger = context;

	if (stranger->broken)
		return -EIO;
	if (region == VD_REGION_CONFIG)
		memcpy(data, stranger->config + offset, length);
	else
		memset(data, 0x77, length);
	return 0;
}

static int stranger_write(void *context, unsigned region, uint64_t offset, const void *data,
			  size_t length)
{
	struct stranger *stranger = context;

	if (stranger->read_only)
		return -EIO;
	if (region == VD_REGION_CONFIG)
		memcpy(stranger->config + offset, data, length);
	return 0;
}

static const struct vd_device_ops stranger_ops = {.read = stranger_read, .write = stranger_write};

#define USABLE (VD_REGION_READ | VD_REGION_WRITE)
#define MSIX_AT 0x40u

/* Something that can be plugged: BAR 0 of 64 KiB, MSI-X with 2 vectors in it. */
static struct stranger sound(void)
{
	struct stranger s = {.regions = {
		[VD_REGION_BAR0] = {.name = "BAR 0", .size = 0x10000,
				    .flags = USABLE | VD_REGION_MMAP, .area_count = 1,
				    .areas = {{0, 0x8000}}},
		[VD_REGION_CONFIG] = {.name = "config", .size = 256, .flags = USABLE},
	}};

	vd_pci_put32(s.config + PCI_VENDOR_ID, 0x12345678);
	vd_pci_put16(s.config + PCI_STATUS, PCI_STATUS_CAP_LIST);
	s.config[PCI_CAPABILITY_LIST] = MSIX_AT;
	s.config[MSIX_AT] = PCI_CAP_ID_MSIX;
	vd_pci_put16(s.config + MSIX_AT + PCI_MSIX_FLAGS, 1);
	vd_pci_put32(s.config + MSIX_AT + PCI_MSIX_TABLE, 0x2000);
	vd_pci_put32(s.config + MSIX_AT + PCI_MSIX_PBA, 0x3000);
	return s;
}

static int plug(struct rig *rig, struct stranger *s)
{
	const unsigned irqs[VD_IRQ_COUNT] = {[VD_IRQ_MSIX] = 2};
	struct vd_device_config config = {
		.env = &rig->test.env, .host = rig->host, .name = "stranger",
		.ops = &stranger_ops, .context = s, .regions = s->regions, .irqs = irqs,
	};
	struct vd_error error = {0};
	int rc;

	if (vd_device_create(&config, &s->device, &error))
		fail_msg("%s", error.text);
	rc = vd_pci_host_plug(rig->pci, s->device, 1, &error);
	vd_device_put(s->device);
	assert_int_equal(error.code, rc);
	if (rc)
		assert_true(strlen(error.text) > 10);
	return rc;
}

/* Plugging must come out as @code, and leave no trace either way. */
static void expect(struct rig *rig, struct stranger s, int code)
{
	long blocks = rig->test.blocks;

	assert_int_equal(plug(rig, &s), code);
	check_windows(rig);
	if (!code) {
		set_memory(rig, 1, true);
		check_windows(rig);
		assert_int_equal(vd_pci_host_unplug(rig->pci, 1), 0);
		check_windows(rig);
	}
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_true(rig->test.blocks <= blocks + 1); /* mem's table of ids may have grown */
}

static void test_what_makes_no_sense_is_refused(void **state)
{
	struct stranger s;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	expect(&rig, sound(), 0);
	s = sound();
	s.regions[VD_REGION_CONFIG].size = 0;
	expect(&rig, s, -EINVAL);
	s = sound();
	vd_pci_put32(s.config, 0xffffffff);
	expect(&rig, s, -EINVAL);
	s = sound();
	s.config[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	expect(&rig, s, -EINVAL);
	s = sound();
	s.broken = true;
	expect(&rig, s, -EIO);
	s = sound();
	s.read_only = true;
	expect(&rig, s, -EIO);
	rig_close(&rig);
}

static void test_bars_that_cannot_be(void **state)
{
	struct stranger s;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	s = sound();
	s.regions[VD_REGION_BAR1] = (struct vd_region){.name = "odd", .size = 0x180,
						       .flags = USABLE};
	expect(&rig, s, -EINVAL);
	s.regions[VD_REGION_BAR1].size = 8;
	expect(&rig, s, -EINVAL);
	s.regions[VD_REGION_BAR1].size = UINT64_C(1) << 32;
	expect(&rig, s, -EINVAL);
	s.regions[VD_REGION_BAR1].size = UINT64_C(1) << 31; /* larger than the window */
	expect(&rig, s, -ENOSPC);
	s.config[PCI_BASE_ADDRESS_1] = PCI_BASE_ADDRESS_MEM_TYPE_64;
	s.regions[VD_REGION_BAR1].size = UINT64_C(1) << 50;
	expect(&rig, s, -ENOSPC);
	s.regions[VD_REGION_BAR1].size = UINT64_C(1) << 36;
	expect(&rig, s, 0);
	s.regions[VD_REGION_BAR2] = s.regions[VD_REGION_BAR1];
	expect(&rig, s, -EINVAL);
	s = sound();
	s.regions[VD_REGION_BAR5] = (struct vd_region){.name = "end", .size = 0x1000,
						       .flags = USABLE};
	s.config[PCI_BASE_ADDRESS_5] = PCI_BASE_ADDRESS_MEM_TYPE_64;
	expect(&rig, s, -EINVAL);
	/* I/O ports cannot be reached, and do no harm. */
	s = sound();
	s.regions[VD_REGION_BAR3] = (struct vd_region){.name = "ports", .size = 8, .flags = USABLE};
	s.config[PCI_BASE_ADDRESS_3] = PCI_BASE_ADDRESS_SPACE_IO;
	expect(&rig, s, 0);
	rig_close(&rig);
}

static void test_capabilities_that_cannot_be(void **state)
{
	struct stranger s;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	s = sound();
	vd_pci_put32(s.config + MSIX_AT + PCI_MSIX_TABLE, 0xfff0);
	expect(&rig, s, -EINVAL);
	vd_pci_put32(s.config + MSIX_AT + PCI_MSIX_TABLE, 0xfffffff8);
	expect(&rig, s, -EINVAL);
	vd_pci_put32(s.config + MSIX_AT + PCI_MSIX_TABLE, 0x2001); /* BAR 1 does not exist */
	expect(&rig, s, -EINVAL);
	vd_pci_put32(s.config + MSIX_AT + PCI_MSIX_TABLE, 0x2007);
	expect(&rig, s, -EINVAL);
	s = sound();
	vd_pci_put32(s.config + MSIX_AT + PCI_MSIX_PBA, 0x2010); /* over the table */
	expect(&rig, s, -EINVAL);
	vd_pci_put32(s.config + MSIX_AT + PCI_MSIX_PBA, 0x10000);
	expect(&rig, s, -EINVAL);
	s = sound();
	vd_pci_put16(s.config + MSIX_AT + PCI_MSIX_FLAGS, 0xffff); /* 2048 vectors over the PBA */
	expect(&rig, s, -EINVAL);
	/* A list that runs in a circle, and one that meets MSI-X twice. */
	s = sound();
	s.config[MSIX_AT + PCI_CAP_LIST_NEXT] = 0x60;
	s.config[0x60] = PCI_CAP_ID_VNDR;
	s.config[0x60 + PCI_CAP_LIST_NEXT] = 0x60;
	expect(&rig, s, 0);
	s.config[0x60 + PCI_CAP_LIST_NEXT] = MSIX_AT;
	expect(&rig, s, -EINVAL);
	/* Capabilities that hang over the end. */
	s = sound();
	s.config[PCI_CAPABILITY_LIST] = 0xfc;
	s.config[0xfc] = PCI_CAP_ID_MSIX;
	expect(&rig, s, -EINVAL);
	s.config[0xfc] = PCI_CAP_ID_EXP;
	expect(&rig, s, 0);
	s.config[0xfc] = PCI_CAP_ID_PM;
	expect(&rig, s, 0);
	rig_close(&rig);
}

static int find_direct(void *context, const struct vd_pci_area_info *area)
{
	uint64_t *bytes = context;

	if (area->direct)
		*bytes += area->size;
	if (area->direct)
		assert_false(vd_ranges_overlap(area->offset, area->size, 0x2000, 0x2000));
	return 0;
}

/* The device says that the page with its MSI-X table can be mapped: it is not (E6). */
static void test_the_msix_table_is_never_mapped(void **state)
{
	struct stranger s = sound();
	uint64_t bytes = 0;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	assert_int_equal(plug(&rig, &s), 0);
	vd_pci_host_each_area(rig.pci, find_direct, &bytes);
	assert_int_equal(bytes, 0x8000 - 0x2000);
	set_memory(&rig, 1, true);
	assert_int_equal(slot_at(&rig, bar_address(&rig, 1, 0) + 0x2000).kind, VD_SLOT_TRAP);
	assert_int_equal(slot_at(&rig, bar_address(&rig, 1, 0) + 0x3000).kind, VD_SLOT_TRAP);
	/* What is beside the table in its page is reached by the slow path. */
	guest_write(&rig, bar_address(&rig, 1, 0) + 0x2100, 4, 0x12345678);
	assert_int_equal(guest_read(&rig, bar_address(&rig, 1, 0) + 0x2100, 4), 0x12345678);
	assert_int_equal(guest_read(&rig, bar_address(&rig, 1, 0) + 0x9000, 4), 0x77777777);
	rig_close(&rig);
}

static int find_misaligned(void *context, const struct vd_pci_area_info *area)
{
	*(unsigned *)context += area->reason && strstr(area->reason, "does not start") != NULL;
	return 0;
}

/* On larger guest pages a BAR's memory may begin in the middle of one: it is trapped, and works. */
static void test_misaligned_memory_is_trapped(void **state)
{
	unsigned misaligned = 0;
	struct stranger s = sound();
	struct rig rig;

	(void)state;
	rig_open_pages(&rig, true, 16);
	s.regions[VD_REGION_BAR0] = (struct vd_region){.name = "BAR 0", .size = 0x1000,
						       .flags = USABLE | VD_REGION_MMAP};
	s.regions[VD_REGION_BAR1] = (struct vd_region){.name = "BAR 1", .size = 0x10000,
						       .flags = USABLE | VD_REGION_MMAP};
	s.config[PCI_STATUS] = 0;
	assert_int_equal(plug(&rig, &s), 0);
	vd_pci_host_each_area(rig.pci, find_misaligned, &misaligned);
	assert_int_equal(misaligned, 1);
	set_memory(&rig, 1, true);
	check_windows(&rig);
	guest_write(&rig, bar_address(&rig, 1, 1) + 0x8000, 4, 0x12345678);
	assert_int_equal(guest_read(&rig, bar_address(&rig, 1, 1) + 0x8000, 4), 0x12345678);
	rig_close(&rig);
}

/* A device that stops answering reads as all ones and decodes nothing. */
static void test_a_device_may_die(void **state)
{
	struct stranger s = sound();
	struct rig rig;
	uint64_t base;

	(void)state;
	rig_open(&rig, true);
	assert_int_equal(plug(&rig, &s), 0);
	set_memory(&rig, 1, true);
	base = bar_address(&rig, 1, 0);
	assert_int_equal(slot_at(&rig, base).kind, VD_SLOT_DEVICE);
	s.broken = true;
	assert_int_equal(guest_read(&rig, base + 0x9000, 8), UINT64_MAX);
	assert_int_equal(config_read(&rig, 1, 0, 4), 0xffffffff);
	config_write(&rig, 1, PCI_COMMAND, 2, 6);
	assert_int_equal(slot_at(&rig, base).kind, VD_SLOT_TRAP);
	assert_int_equal(vd_pci_host_direct_pages(rig.pci), 0);
	check_windows(&rig);
	vd_pci_host_reset(rig.pci);
	rig_close(&rig);
}

static void test_random_headers(void **state)
{
	unsigned plugged = 0;
	struct rig rig;

	(void)state;
	test_start(0x5eed0030);
	rig_open(&rig, true);
	for (unsigned round = 0; round < 1500; round++) {
		struct stranger s = sound();
		int rc;

		for (unsigned i = below(12); i; i--)
			s.config[below(4) ? PCI_HEADER_TYPE + below(0x60) : below(256)] =
				(uint8_t)test_random(test_state());
		for (unsigned i = 0; i < 6; i++)
			if (!below(4))
				s.regions[i] = (struct vd_region){
					.name = "random", .size = UINT64_C(1) << below(40),
					.flags = USABLE};
		rc = plug(&rig, &s);
		assert_true(rc == 0 || rc == -EINVAL || rc == -ENOSPC);
		if (!rc) {
			plugged++;
			set_memory(&rig, 1, true);
			check_windows(&rig);
			assert_int_equal(vd_pci_host_unplug(rig.pci, 1), 0);
		}
		check_windows(&rig);
	}
	assert_true(plugged > 100);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_makes_no_sense_is_refused),
		cmocka_unit_test(test_bars_that_cannot_be),
		cmocka_unit_test(test_capabilities_that_cannot_be),
		cmocka_unit_test(test_the_msix_table_is_never_mapped),
		cmocka_unit_test(test_misaligned_memory_is_trapped),
		cmocka_unit_test(test_a_device_may_die),
		cmocka_unit_test_teardown(test_random_headers, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
